"""Making changes known: their tags are bumped, those of every combination in use among them.

A process knows which combinations are in use by what it has read of the store's lists. The counters
of a table's list are read in the same round trip as the bump, after the COMMIT: as long as they are
those that are known, nobody has stored an answer of another combination that could miss the
write. If they are not, the list is read and the rest is bumped before the writer goes on.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass

from loom_cache import tags
from loom_cache.combinations import Catalogue
from loom_cache.deadlines import Allowance
from loom_cache.exceptions import StoreUnavailable
from loom_cache.generations import Counted, GenerationalDependencyResolver, Leaving
from loom_cache.tags import Change

ATTEMPTS = 3
"""To catch up with a list that changes meanwhile; then all of its combinations are bumped."""


@dataclass(slots=True)
class Publish:
    tags: list[str]
    reads: list[str]
    leaving: Leaving | None = None


@dataclass(slots=True)
class Learn:
    tables: list[str]


Steps = Generator[Publish | Learn, Counted | list[str] | None, list[str]]


def steps(
    changes: Mapping[str, Change],
    resolver: GenerationalDependencyResolver,
    leaving: Leaving | None = None,
) -> Steps:
    """What has to be done; returns the tags that were bumped."""
    left = frozenset[str]() if leaving is None else leaving.tables
    changes = {table: change for table, change in changes.items() if table not in left}
    # What is known now and not when the store answers: a reader in another thread of this process
    # may learn of a combination meanwhile, which the names leave out.
    catalogue = _snapshot(changes, resolver.catalogue)
    names = tags.of_changes(changes, catalogue)
    bumped = [*names, *map(tags.of_table, sorted(left))]
    doubtful = [table for table, change in changes.items() if change.needs_combinations]
    for _ in range(ATTEMPTS):
        reads = [name for table in doubtful for name in _counters(table)]
        seen = yield Publish(names, reads, leaving)
        leaving = None
        if not isinstance(seen, Counted):
            return bumped  # queued
        doubtful = [table for table in doubtful if not _is_known(table, seen, catalogue)]
        if not doubtful:
            return bumped
        learnt = yield Learn(doubtful)
        unclear = learnt if isinstance(learnt, list) else []
        catalogue = _snapshot(doubtful, resolver.catalogue)
        names = [tags.of_combinations(table) for table in unclear]
        doubtful = [table for table in doubtful if table not in unclear]
        for table in doubtful:
            names += changes[table].tags_of(table, catalogue.of(table).combinations)
        bumped += names
    names = [tags.of_combinations(table) for table in doubtful]
    yield Publish(names, [])
    return bumped + names


def _snapshot(names: Iterable[str], catalogue: Catalogue) -> Catalogue:
    return Catalogue({name: catalogue.of(name) for name in names})


def _is_known(table: str, seen: Counted, catalogue: Catalogue) -> bool:
    """Whether the list of combinations in force is the one that this process knows."""
    life, version = (seen.generations[name] for name in _counters(table))
    known = catalogue.of(table)
    now = (seen.incarnation, life, version)
    return life is None or now == (known.incarnation, known.life, known.version)


def _counters(table: str) -> tuple[str, str]:
    return tags.of_combinations(table), tags.changes_of_combinations(table)


def publish_sync(
    changes: Mapping[str, Change],
    resolver: GenerationalDependencyResolver,
    leaving: Leaving | None = None,
) -> list[str]:
    """Bump whatever depends on `changes`, and let a writer go out of strict tables; the tags. What
    the store does not acknowledge is queued, and so is what it has taken too long for. Never
    raises."""
    work = steps(changes, resolver, leaving)
    allowance = Allowance(resolver.write_timeout)
    reply: Counted | list[str] | None = None
    try:
        while True:
            request = work.send(reply)
            with allowance:
                if isinstance(request, Publish):
                    reply = resolver.publish_sync(request.tags, request.reads, request.leaving)
                else:
                    reply = _learn_sync(resolver, request.tables)
    except StopIteration as stop:
        bumped: list[str] = stop.value
        return bumped


async def publish(
    changes: Mapping[str, Change], resolver: GenerationalDependencyResolver
) -> list[str]:
    """publish_sync() without blocking the event loop."""
    work = steps(changes, resolver)
    allowance = Allowance(resolver.write_timeout)
    reply: Counted | list[str] | None = None
    try:
        while True:
            request = work.send(reply)
            with allowance:
                if isinstance(request, Publish):
                    reply = await resolver.publish(request.tags, request.reads)
                else:
                    reply = await _learn(resolver, request.tables)
    except StopIteration as stop:
        bumped: list[str] = stop.value
        return bumped


def _learn_sync(resolver: GenerationalDependencyResolver, tables: list[str]) -> list[str]:
    try:
        return resolver.learn_sync(tables)
    except StoreUnavailable:
        return tables  # the bump that follows is queued


async def _learn(resolver: GenerationalDependencyResolver, tables: list[str]) -> list[str]:
    try:
        return await resolver.learn(tables)
    except StoreUnavailable:
        return tables
