"""`loom_cache verify`: are the answers in the cache those of the database?

An entry that a reader would be given now is asked again, past the cache. Where the answers differ,
somebody may just be writing: the entry counts as wrong only if it is still given to readers before
and after the database has said the same once more, and there was time meanwhile for an invalidation
that was on its way.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from asgiref.sync import async_to_sync
from django.core.exceptions import MultipleObjectsReturned, ObjectDoesNotExist
from django.db import Error as DatabaseError

from loom_cache import config, entries, labels, reading, rebuilding
from loom_cache import keys as keys_of
from loom_cache.codec import CorruptEntry
from loom_cache.comparing import Raises, Verdict, compared, difference
from loom_cache.entries import Entry
from loom_cache.generations import GenerationalDependencyResolver, View
from loom_cache.inspection import resolver_in_force
from loom_cache.permission import bypass
from loom_cache.rebuilding import Asked, CallAgain, NotVerifiable
from loom_cache.terminals import AnyPlan

BATCH: Final = 100
"""Entries fetched in one round trip."""
IN_CONTEXT: Final = "its question depends on who asks, or is asked otherwise by this release"


class _NotReadable(Exception):
    """No reader would be given the entry."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An entry that is wrong, and is given to readers."""

    key: str
    repository: str
    question: str
    cached: str
    database: str
    tags: tuple[str, ...]
    """What it depends on."""


@dataclass(slots=True)
class Report:
    right: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)
    changed: int = 0
    """Written to while it was looked at."""
    not_readable: int = 0
    """Expired, or invalidated: readers are not given it any more."""
    not_verifiable: Counter[str] = field(default_factory=Counter)
    """How many for which reason."""
    repaired: int | None = None
    """How many counters were bumped."""


@dataclass(slots=True)
class _Case:
    """An entry, and how its question is asked again."""

    key: str
    entry: Entry
    asked: Asked
    plan: AnyPlan
    cached: Any
    seen: Any = None
    """What the database said when it said something else."""
    seen_at: float = 0.0


def verify(
    targets: Sequence[str] = (), *, sample: int | None = None, repair: bool = False
) -> Report:
    """Look at the entries of these labels (all, if none is given), or at so many of them.

    Raises UnknownName for a label that does not exist, StoreUnavailable if the store does not
    answer.
    """
    resolver = resolver_in_force()
    report, suspects = Report(), list[_Case]()
    for keys in _batches(_chosen(resolver.walk_sync(), _wanted(targets), sample)):
        found = resolver.look_sync(keys, []).entries
        for key, data in zip(keys, found, strict=True):
            with _Counting(report):
                _look(resolver, report, suspects, key, data)
    if suspects:
        _wait_for_invalidations(suspects[-1].seen_at)
    for case in suspects:
        with _Counting(report):
            _look_again(resolver, report, case)
    if repair and report.mismatches:
        wrong = {tag for mismatch in report.mismatches for tag in mismatch.tags}
        report.repaired = resolver.bump_sync(sorted(wrong))
    return report


class _Counting:
    """A `with` block that counts what cannot be verified."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, NotVerifiable):
            self._report.not_verifiable[str(error)] += 1
        elif isinstance(error, _NotReadable | CorruptEntry):
            self._report.not_readable += 1
        else:
            return False
        return True


# Which entries. -----------------------------------------------------------------------------------


def _wanted(targets: Sequence[str]) -> set[str] | None:
    return {model._meta.label_lower for model in labels.models_of(targets)} if targets else None


def _chosen(keys: Iterable[str], wanted: set[str] | None, sample: int | None) -> list[str]:
    """All entries among the keys, or so many of them, each as likely as any other."""
    chosen: list[str] = []
    number = 0
    known: set[str] = set()  # of those chosen: a walk may show a key twice
    for key in keys:
        label = keys_of.label_of_entry(key)
        if label is None or key in known or (wanted is not None and label not in wanted):
            continue
        number += 1
        if sample is None or len(chosen) < sample:
            chosen.append(key)
            known.add(key)
        elif (at := random.randrange(number)) < sample:
            known.discard(chosen[at])
            known.add(key)
            chosen[at] = key
    return chosen


def _batches(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[start : start + BATCH] for start in range(0, len(keys), BATCH))


# One entry. ---------------------------------------------------------------------------------------


def _look(
    resolver: GenerationalDependencyResolver,
    report: Report,
    suspects: list[_Case],
    key: str,
    data: bytes | None,
) -> None:
    case = _case(resolver, key, data)
    now = _asked_now(case.plan)
    match _compared(case, now):
        case Verdict.SAME:
            report.right += 1
        case Verdict.OTHER:
            case.seen, case.seen_at = now, time.monotonic()
            suspects.append(case)


def _look_again(resolver: GenerationalDependencyResolver, report: Report, case: _Case) -> None:
    if not _is_given(resolver, case):
        report.changed += 1
        return
    now = _asked_now(case.plan)
    # One that is right by now, or wrong in another way, is being written to.
    stays = _compared(case, now) is Verdict.OTHER and _agree(case.plan, case.seen, now)
    if stays and _is_given(resolver, case):
        report.mismatches.append(_mismatch(case, now))
    else:
        report.changed += 1


def _case(resolver: GenerationalDependencyResolver, key: str, data: bytes | None) -> _Case:
    entry = entries.read(data)
    if entry is None:
        raise _NotReadable
    view = resolver.look_sync([key], list(entry.generations))
    entry = entries.read(view.entries[0])
    if entry is None or not _is_current(entry, view):
        raise _NotReadable
    asked = rebuilding.asked_again(entry.question)
    plan = _plan(asked, key)
    if not reading.would_be_given(entry, plan.parts[0], view):
        raise _NotReadable
    return _Case(key, entry, asked, plan, plan.decode(0, entry.body))


def _is_current(entry: Entry, view: View) -> bool:
    now = view.generations
    return entry.incarnation == view.incarnation and entry.generations.items() <= now.items()


def _is_given(resolver: GenerationalDependencyResolver, case: _Case) -> bool:
    """Whether readers are still given the same entry."""
    view = resolver.look_sync([case.key], list(case.entry.generations))
    entry = entries.read(view.entries[0])
    return entry == case.entry and reading.would_be_given(entry, case.plan.parts[0], view)


def _plan(asked: Asked, key: str) -> AnyPlan:
    """The plan, if it asks for this very entry: then it is the same question."""
    try:
        plan = asked.make()
    except Exception as error:  # whatever the project's own code has to say to being asked here
        raise NotVerifiable(IN_CONTEXT) from error
    if [part.key for part in plan.parts] != [key]:
        raise NotVerifiable(IN_CONTEXT)
    return plan


def _asked_now(plan: AnyPlan) -> Any:
    """What the database says, as it would be given from the cache."""
    with bypass():
        try:
            loaded = async_to_sync(plan.aload)([0]) if _is_async(plan) else plan.load([0])
        except (ObjectDoesNotExist, MultipleObjectsReturned) as error:
            return Raises(type(error).__qualname__)
        except DatabaseError as error:
            raise NotVerifiable("the database refuses to answer it") from error
        except Exception as error:  # what a reader would be told is no mismatch
            raise NotVerifiable(f"asked again, it raises {type(error).__name__}") from error
    if loaded[0].body is None:
        raise NotVerifiable(f"its answer would not be stored now ({loaded[0].refusal})")
    return plan.decode(0, msgspec.Raw(loaded[0].body))


def _is_async(plan: AnyPlan) -> bool:
    return isinstance(plan, CallAgain) and plan.is_async


def _compared(case: _Case, now: Any) -> Verdict:
    verdict = compared(case.plan, case.cached, now)
    if verdict is Verdict.UNDECIDED:
        raise NotVerifiable("its order leaves more than one answer right")
    return verdict


def _agree(plan: AnyPlan, first: Any, second: Any) -> bool:
    return compared(plan, first, second) is not Verdict.OTHER


def _mismatch(case: _Case, now: Any) -> Mismatch:
    cached, database = difference(case.cached, now)
    return Mismatch(
        key=case.key,
        repository=case.asked.repository,
        question=case.asked.spelled,
        cached=cached,
        database=database,
        tags=tuple(case.entry.generations),
    )


def _wait_for_invalidations(since: float) -> None:
    """A write that was committed when it was seen is invalidated within WRITE_TIMEOUT."""
    seconds = config.current_or_default().write_timeout
    time.sleep(max(0.0, since + seconds - time.monotonic()))
