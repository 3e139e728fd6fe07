"""A read: look, judge, load, store (R1-R4, R6, R7).

Sans-I/O: `answer()` is one generator that decides everything and yields what it wants done; the
drivers in drivers.py carry it out.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from time import perf_counter
from typing import Any

import msgspec

from loom_cache import entries, generations, metrics, recording, storing, tags
from loom_cache.codec import CorruptEntry
from loom_cache.entries import Entry
from loom_cache.exceptions import StoreUnavailable
from loom_cache.generations import View
from loom_cache.permission import Standing
from loom_cache.steps import (
    Flight,
    Flights,
    Load,
    Loaded,
    Look,
    Part,
    Plan,
    Prepare,
    Request,
    Seed,
    Wait,
)

Steps = Generator[Request, Any, list[Any]]


def answer(plan: Plan, standing: Standing, flights: Flights) -> Steps:
    """The values of the plan's parts, from the store where it may be used, else loaded."""
    started = perf_counter()
    outcome: metrics.Outcome = "bypass"
    reason = standing.refusal
    try:
        if reason is not None:
            return _values((yield Load(plan, range(len(plan.parts)))))
        try:
            view = yield Look([] if plan.fresh else [part.key for part in plan.parts], plan.asked())
            view.asked = started
            found = {} if plan.fresh else (yield from _judge(plan, view))
        except StoreUnavailable:
            reason = "unavailable"
            return _values((yield Load(plan, range(len(plan.parts)))))
        missing = [at for at in range(len(plan.parts)) if at not in found]
        if not missing:
            outcome = "hit"
        else:
            outcome = "miss"
            loaded = yield from _fill(plan, missing, view, standing, flights)
            reason = next((one.refusal for one in loaded if one.refusal), None)
            if reason is None and generations.being_written(view.generations):
                reason = "open writer"
            found |= {at: one.value for at, one in zip(missing, loaded, strict=True)}
        return [found[at] for at in range(len(plan.parts))]
    finally:
        seconds = perf_counter() - started
        metrics.emit(metrics.Read(plan.label, plan.operation, outcome, reason, seconds))


def _values(loaded: Sequence[Loaded]) -> list[Any]:
    return [one.value for one in loaded]


def _judge(plan: Plan, view: View) -> Generator[Request, Any, dict[int, Any]]:
    """The parts whose entry is valid, decoded (R3). Counters that an entry names beyond those
    asked for cost a second look, once per kind of question."""
    stored = {
        at: entry
        for at, data in enumerate(view.entries)
        if (entry := entries.read(data)) is not None and _may_be_valid(entry, plan.parts[at], view)
    }
    listed = {tag for entry in stored.values() for tag in entry.generations}
    beyond = listed.difference(plan.asked())
    if beyond:
        view.add((yield Look([], sorted(beyond))))
        for at, entry in stored.items():
            plan.learn(at, list(entry.generations))
    found = {}
    for at, entry in stored.items():
        if view.incarnation is not None and entry.generations.items() <= view.generations.items():
            try:
                found[at] = plan.decode(at, entry.body)
            except CorruptEntry:
                continue
            _pass_on(entry.generations)
    return found


def _pass_on(names: Iterable[str]) -> None:
    """A cached read inside a load runs no statement: tell the load what it depends on (R6)."""
    recorder = recording.recorder()
    if recorder is not None:
        recorder.tags.update(*(tags.widened(name) for name in names))


def _may_be_valid(entry: Entry, part: Part, view: View) -> bool:
    made_under = entry.generations
    return (
        entry.incarnation == view.incarnation
        and all(tag in made_under for tag in part.required)
        and all(view.generations.get(tag, made) == made for tag, made in made_under.items())
    )


def would_be_given(entry: Entry, part: Part, view: View) -> bool:
    """Whether a reader would get it who saw `view`, in which are all its counters (R3)."""
    now = view.generations
    return _may_be_valid(entry, part, view) and entry.generations.items() <= now.items()


def _fill(
    plan: Plan, missing: list[int], view: View, standing: Standing, flights: Flights
) -> Generator[Request, Any, list[Loaded]]:
    """Load what is missing, under counters read before the load, and store it (R4)."""
    if not plan.prepared():
        yield Prepare(plan)
    absent = [tag for tag in plan.asked() if tag not in view.generations]
    try:
        if absent:
            view.add((yield Seed(absent)))
    except StoreUnavailable:
        view.incarnation = None
    may_store = view.incarnation is not None and not generations.being_written(view.generations)
    if not may_store or standing.alone:
        loaded: list[Loaded] = yield Load(plan, missing)
        if may_store:
            yield from storing.keep(plan, missing, loaded, view)
        return loaded
    return (yield from _share(plan, missing, view, flights))


def _share(
    plan: Plan, missing: list[int], view: View, flights: Flights
) -> Generator[Request, Any, list[Loaded]]:
    key = tuple(plan.parts[at].key for at in missing)
    # fresh() joins no load that may have begun before it was asked.
    while not plan.fresh and (flight := flights.get(key)) is not None and flight.may_serve(view):
        yield Wait(flight)
        if flight.error is not None:
            raise flight.error
        if flight.loaded is None:
            continue  # the leader was cancelled: the first who comes here takes over
        shared = _copies(plan, missing, flight.loaded, view)
        if shared is not None:
            return shared
        break  # its answer cannot be shared: this one is loaded alone
    flight = flights[key] = Flight(view.incarnation, dict(view.generations))
    try:
        loaded: list[Loaded] = yield Load(plan, missing)
        flight.loaded = loaded
        flight.land()
        yield from storing.keep(plan, missing, loaded, view)
        return loaded
    except Exception as error:
        flight.error = error
        raise
    finally:
        if flights.get(key) is flight:
            del flights[key]
        flight.land()


def _copies(
    plan: Plan, missing: list[int], loaded: list[Loaded], view: View
) -> list[Loaded] | None:
    """Answers of another reader's load as fresh objects; None if they cannot be had, or depend on
    more than is known to be unchanged."""
    copies = []
    for at, one in zip(missing, loaded, strict=True):
        if one.body is None or not all(storing.covers(view, tag) for tag in one.tags):
            return None
        try:
            copies.append(Loaded(plan.decode(at, msgspec.Raw(one.body))))
        except CorruptEntry:
            return None
        _pass_on(one.tags)
    return copies
