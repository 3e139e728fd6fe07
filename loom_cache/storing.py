"""Keeping what has been loaded: under which generations, and whether at all (R4, R6)."""

from __future__ import annotations

import random
from collections.abc import Container, Generator, Mapping
from typing import Any

import msgspec

from loom_cache import config, entries, generations, tags
from loom_cache.combinations import Combination, Known
from loom_cache.exceptions import StoreUnavailable
from loom_cache.generations import View
from loom_cache.steps import Enrol, Keep, Loaded, Part, Plan, Request, Seed


def covers(view: View, tag: str, late: Container[str] = ()) -> bool:
    """Whether `view` would show that what the tag stands for has changed; those that are `late`
    show nothing themselves."""
    if tag in view.generations and tag not in late:
        return True
    return all(one in view.generations for one in tags.widened(tag))


def keep(
    plan: Plan, missing: list[int], loaded: list[Loaded], view: View
) -> Generator[Request, Any, None]:
    """Store what was loaded, under generations read before the load; those of tags that only the
    load has shown may be read after it if a guard says that nothing changed meanwhile (R6)."""
    for one in loaded:
        if len(one.tags) > entries.MAX_TAGS:
            one.body, one.refusal = None, "depends on more than can be asked for"
    kept = {at: one for at, one in zip(missing, loaded, strict=True) if one.body is not None}
    try:
        made_under = yield from _made_under(plan, kept, view)
        made = [
            (
                plan.parts[at].key,
                _entry_of(one, made_under, plan.question(at)),
                _ttl(plan.parts[at], one.missing),
            )
            for at, one in kept.items()
            if one.refusal is None
        ]
        if made:
            yield Keep(made)
    except StoreUnavailable:
        loaded[0].refusal = "unavailable"


def _entry_of(one: Loaded, made_under: View, question: msgspec.Raw) -> bytes:
    assert one.body is not None
    made_at = {tag: made_under.generations[tag] for tag in one.tags}
    return entries.write(str(made_under.incarnation), made_at, one.body, question)


def _made_under(
    plan: Plan, kept: Mapping[int, Loaded], view: View
) -> Generator[Request, Any, View]:
    """The generations to store under. Answers that may not be stored get a refusal."""
    listed, anew = yield from _enrol(kept, view)
    tags_of_all = {tag for one in kept.values() for tag in one.tags}
    beyond = {tag for tag in tags_of_all if tag not in view.generations}
    beyond |= {tag for tag, generation in listed.items() if view.generations.get(tag) != generation}
    beyond |= anew
    if not beyond:
        return view
    for at, one in kept.items():
        plan.learn(at, one.tags)
        if not all(covers(view, tag, anew) for tag in one.tags):
            one.refusal = "dependencies seen for the first time"
    guards = {guard for tag in beyond for guard in tags.widened(tag)} & view.generations.keys()
    later: View = yield Seed(sorted(beyond | guards))
    if later.incarnation != view.incarnation or generations.being_written(later.generations):
        moved = set(guards)
    else:
        now = later.generations
        moved = {guard for guard in guards if now[guard] != view.generations[guard]}
        moved |= {tag for tag in listed.keys() & now.keys() if now[tag] != listed[tag]}
    for one in kept.values():
        late = beyond.intersection(one.tags)
        if any(not moved.isdisjoint((tag, *tags.widened(tag))) for tag in late):
            one.refusal = one.refusal or "written to while it was loaded"
    generations_ = later.generations | view.generations | listed
    return View(view.incarnation, [], generations_)


def _enrol(
    kept: Mapping[int, Loaded], view: View
) -> Generator[Request, Any, tuple[dict[str, int], set[str]]]:
    """The generations of the lists that hold the combinations of these answers, by tag; and those
    that may have been without them when the load began: who wrote meanwhile did not know of them,
    and moved nothing but the table's own tags. An answer with a combination that is in no list
    depends on the whole table."""
    wanted: dict[str, frozenset[Combination]] = {}
    for one in kept.values():
        for table, combinations in one.combinations.items():
            wanted[table] = wanted.get(table, frozenset()) | combinations
    if not wanted:
        return {}, set()
    known: dict[str, Known] = yield Enrol(wanted, view)
    for one in kept.values():
        for table, combinations in list(one.combinations.items()):
            if not combinations <= known[table].combinations:
                one.widen(table)
    in_use = {table for one in kept.values() for table in one.combinations}
    listed = {
        tags.of_combinations(table): life
        for table in in_use
        if (life := known[table].life) is not None
    }
    anew = {tags.of_combinations(table) for table in in_use if known[table].learnt >= view.asked}
    return listed, anew


def _ttl(part: Part, missing: bool) -> float:
    """Seconds. Spread so that entries made together do not end together; never lengthened."""
    ttl = min(part.ttl, part.missing_ttl) if missing else part.ttl
    settings = config.current()
    if settings is None:
        return ttl
    ttl *= 1 - settings.ttl_jitter * random.random()
    return ttl if settings.ttl_cap is None else min(ttl, settings.ttl_cap)
