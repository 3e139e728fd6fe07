"""Generations: one counter per tag, read together with the entries that depend on them.

The layout of a counter is in counters.py. An absent counter never means zero: it is seeded before
anything is loaded under it. A bump changes only counters that exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter
from typing import NamedTuple

from loom_cache import config, counters, tables
from loom_cache import tags as tags_of
from loom_cache.backends import Enrolled, Lease, Roll, Snapshot, Step, enrolled
from loom_cache.backends.failures import Refused
from loom_cache.combinations import Catalogue, Combination, Known, parse
from loom_cache.exceptions import StoreUnavailable
from loom_cache.gateway import CacheGateway
from loom_cache.resilience import Breaker
from loom_cache.tags import OF_NOTHING

Generations = Mapping[str, int]
Wanted = Mapping[str, frozenset[Combination]]
"""Combinations by table."""


class Leaving(NamedTuple):
    """A writer that goes out of strict tables."""

    writer: str
    tables: frozenset[str]


MOST_COMBINATIONS = 32
"""Of one table; answers that ask for others depend on the whole of it."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What a bump gave."""

    incarnation: str
    """Of the server that holds the counters."""
    generations: Mapping[str, int | None]
    """By tag; None for one that is not there."""


@dataclass(slots=True)
class View:
    """What one look into the store gave."""

    incarnation: str | None
    """Of the server that holds the counters; another one makes every older entry a miss. None
    if two looks were answered by two of them."""
    entries: list[bytes | None] = field(default_factory=list)
    generations: dict[str, int] = field(default_factory=dict)
    """Absent counters are left out."""
    asked: float = 0.0
    """When, by this process's perf_counter."""

    def add(self, later: View) -> None:
        """Take in a later look; of two servers' answers neither may be trusted for storing."""
        if later.incarnation != self.incarnation:
            self.incarnation = None
        self.generations.update(later.generations)


class GenerationalDependencyResolver:
    """Reads, seeds and bumps the generations of tags; each method has a `_sync` twin.

    Every method raises StoreUnavailable if the store does not answer in time, except `publish`,
    which queues what it could not deliver.
    """

    def __init__(
        self,
        *,
        data: CacheGateway,
        counters: CacheGateway,
        write_timeout: float,
        timeout: float = 0.25,
    ) -> None:
        self._data = data
        self._counters = counters
        self._together = data.shares_server_with(counters)
        self.timeout = timeout
        self.write_timeout = write_timeout
        """Seconds for all requests of one read, and of one writer."""
        self.breaker = Breaker(self._land, self._answer)
        self.catalogue = Catalogue()

    async def look(self, entries: Sequence[str], tags: Sequence[str]) -> View:
        """Entries and the counters of `tags`: one round trip where both live on one server (R1)."""
        names = [self._counters.full_key(tag) for tag in tags]
        wanted = [self._data.full_key(key) for key in entries]
        if self._together or not wanted:
            got = await self._counters.fetch([*wanted, *names])
            return _view(
                got.incarnation, got.values[: len(wanted)], tags, got.values[len(wanted) :]
            )
        stored = await self._data.fetch(wanted)
        got = await self._counters.fetch(names or [self._counters.full_key(OF_NOTHING)])
        return _view(got.incarnation, stored.values, tags, got.values[: len(tags)])

    def look_sync(self, entries: Sequence[str], tags: Sequence[str]) -> View:
        names = [self._counters.full_key(tag) for tag in tags]
        wanted = [self._data.full_key(key) for key in entries]
        if self._together or not wanted:
            got = self._counters.fetch_sync([*wanted, *names])
            return _view(
                got.incarnation, got.values[: len(wanted)], tags, got.values[len(wanted) :]
            )
        stored = self._data.fetch_sync(wanted)
        got = self._counters.fetch_sync(names or [self._counters.full_key(OF_NOTHING)])
        return _view(got.incarnation, stored.values, tags, got.values[: len(tags)])

    async def current(self, tags: Sequence[str]) -> View:
        """The generations of `tags`; absent ones are seeded and read back."""
        plain, strict = _apart(tags)
        got = await self._counters.seed(self._names(plain), self._leases("seed", strict))
        return View(got.incarnation, [], dict(zip([*plain, *strict], got.values, strict=True)))

    def current_sync(self, tags: Sequence[str]) -> View:
        plain, strict = _apart(tags)
        got = self._counters.seed_sync(self._names(plain), self._leases("seed", strict))
        return View(got.incarnation, [], dict(zip([*plain, *strict], got.values, strict=True)))

    async def keep(self, entries: Sequence[tuple[str, bytes, float]]) -> None:
        """Store entries: key, bytes, seconds to live. One round trip."""
        await self._data.store([(self._data.full_key(k), value, ttl) for k, value, ttl in entries])

    def keep_sync(self, entries: Sequence[tuple[str, bytes, float]]) -> None:
        self._data.store_sync([(self._data.full_key(k), value, ttl) for k, value, ttl in entries])

    async def enrol(self, wanted: Wanted, seen: View) -> dict[str, Known]:
        """See to it that combinations are in the lists of their tables, where writers find them.

        What is known of these tables then: a combination that is not in it must not be relied on.
        Costs nothing where the generations just seen are those of lists that hold them.
        """
        for table in self._unlisted(wanted, seen):
            names = [one.name for one in wanted[table]]
            found = await self._counters.enroll(self._roll(table), names, MOST_COMBINATIONS)
            self.catalogue.known[table] = _known(found)
        return {table: self.catalogue.of(table) for table in wanted}

    def enrol_sync(self, wanted: Wanted, seen: View) -> dict[str, Known]:
        for table in self._unlisted(wanted, seen):
            names = [one.name for one in wanted[table]]
            found = self._counters.enroll_sync(self._roll(table), names, MOST_COMBINATIONS)
            self.catalogue.known[table] = _known(found)
        return {table: self.catalogue.of(table) for table in wanted}

    def _unlisted(self, wanted: Wanted, seen: View) -> list[str]:
        return [
            table
            for table, combinations in wanted.items()
            if (known := self.catalogue.of(table)).life is None
            or known.incarnation != seen.incarnation
            or known.life != seen.generations.get(tags_of.of_combinations(table))
            or not combinations <= known.combinations
        ]

    def _roll(self, table: str) -> Roll:
        """Where the list of a table's combinations is."""
        return Roll(
            self._counters.full_key(tags_of.of_combinations(table)),
            self._counters.full_key(tags_of.list_of_combinations(table)),
            self._counters.full_key(tags_of.changes_of_combinations(table)),
        )

    async def learn(self, tables: Sequence[str]) -> list[str]:
        """Read which combinations of these tables are in use; those of the tables for which that
        cannot be told."""
        places = [place for table in tables for place in self._roll(table)]
        return self._learnt(tables, await self._counters.fetch(places))

    def learn_sync(self, tables: Sequence[str]) -> list[str]:
        places = [place for table in tables for place in self._roll(table)]
        return self._learnt(tables, self._counters.fetch_sync(places))

    def _learnt(self, tables: Sequence[str], got: Snapshot[bytes | None]) -> list[str]:
        unclear = []
        for at, table in enumerate(tables):
            life, listed, version = got.values[3 * at : 3 * at + 3]
            now, found = counters.parse(life), enrolled(listed, counters.parse(version))
            if now is not None and found.life not in (None, now):
                # A list is written in one step with the counter of its life: under one that has
                # moved since, nothing has been stored.
                found = Enrolled(now, found.version, [])
            found = found._replace(incarnation=got.incarnation)
            known = self.catalogue.known[table] = _known(found)
            if now is not None and known.life is None:
                unclear.append(table)
        return unclear

    async def bump(self, tags: Sequence[str]) -> int:
        """Move the counters of `tags` that exist, in one round trip; how many there were."""
        plain, strict = _apart(tags)
        moved = await self._counters.bump_and_read(
            self._names(plain),
            (),
            leases=self._leases("bump", strict),
            timeout=self.write_timeout,
        )
        return moved.existed

    def bump_sync(self, tags: Sequence[str]) -> int:
        plain, strict = _apart(tags)
        moved = self._counters.bump_and_read_sync(
            self._names(plain),
            (),
            leases=self._leases("bump", strict),
            timeout=self.write_timeout,
        )
        return moved.existed

    def open_sync(self, writer: str, names: Iterable[str], seconds: float) -> None:
        """Let a writer into strict tables, or stay there, for so many seconds: until it goes out
        nothing that is read of them is stored, nor what was stored before read."""
        steps = [self._lease("open", name, writer, seconds) for name in sorted(names)]
        self._counters.take_sync(steps, timeout=self.write_timeout)

    def writers_sync(self) -> dict[str, list[tuple[str, float]]]:
        """The open writers of each strict table, with the seconds that are left to them."""
        names = sorted(tables.strict())
        keys = self._names([tags_of.writers_of(name) for name in names])
        return dict(zip(names, self._counters.writers_sync(keys), strict=True)) if names else {}

    def _lease(self, step: Step, table: str, writer: str = "", seconds: float = 0.0) -> Lease:
        counter, writers = self._names([tags_of.of_table(table), tags_of.writers_of(table)])
        return Lease(step, counter, writers, writer, seconds)

    def _leases(self, step: Step, strict: Mapping[str, str]) -> list[Lease]:
        return [self._lease(step, table) for table in strict.values()]

    def known_sync(self) -> list[str]:
        """The tags whose counters exist. Walks through the store: not for reads or writes."""
        prefix = self._counters.full_key("")
        return [key.removeprefix(prefix) for key in self._counters.scan_sync(f"{prefix}g:{{")]

    def counters_sync(self, most: int) -> dict[str, int]:
        """Some of the counters that exist, by their tags. Not for reads or writes."""
        prefix = self._counters.full_key("")
        walk = self._counters.walk_sync(f"{prefix}g:{{")
        names = islice((key.removeprefix(prefix) for keys in walk for key in keys), most)
        tags = list(dict.fromkeys(names))
        return self.look_sync([], tags).generations if tags else {}

    def walk_sync(self) -> Iterator[str]:
        """The keys on the side of the entries; one may come twice. Not for reads or writes."""
        prefix = self._data.full_key("")
        for keys in self._data.walk_sync(prefix):
            yield from (key.removeprefix(prefix) for key in keys)

    async def publish(self, tags: Sequence[str], reads: Sequence[str] = ()) -> Counted | None:
        """Bump `tags` and read the counters of `reads` after it, in one round trip. What is not
        acknowledged is queued and retried (W6), `reads` being bumped as well; None is returned
        then. Never raises."""
        if self.breaker.has_lost:
            self.breaker.lose([*tags, *reads])
            return None
        plain, strict = _apart(tags)
        try:
            moved = await self._counters.bump_and_read(
                self._names(plain),
                self._names(reads),
                leases=self._leases("bump", strict),
                timeout=self.write_timeout,
            )
        except StoreUnavailable as error:
            self.breaker.lose([*tags, *reads], error)
            return None
        except asyncio.CancelledError:
            # Midway: it may not have been sent, and the write that it tells of has happened.
            self.publish_sync([*tags, *reads])
            raise
        return Counted(moved.incarnation, dict(zip(reads, moved.values, strict=True)))

    def publish_sync(
        self, tags: Sequence[str], reads: Sequence[str] = (), leaving: Leaving | None = None
    ) -> Counted | None:
        """The same; `leaving`: a writer goes out of strict tables, which bumps their `T`."""
        left = [] if leaving is None else sorted(leaving.tables)
        every = [*tags, *reads, *map(tags_of.of_table, left)]
        # Reads that failed are no reason not to try: an event loop that was blocked looks so, too.
        if self.breaker.has_lost:
            self.breaker.lose(every)
            return None
        plain, strict = _apart(tags)
        leases = self._leases("bump", {t: n for t, n in strict.items() if n not in left})
        if leaving is not None:
            leases += [self._lease("close", name, leaving.writer) for name in left]
        try:
            moved = self._counters.bump_and_read_sync(
                self._names(plain), self._names(reads), leases=leases, timeout=self.write_timeout
            )
        except StoreUnavailable as error:
            self.breaker.lose(every, error)
            return None
        except BaseException:  # interrupted midway (Ctrl-C, a worker's time limit): the same
            self.breaker.lose(every)
            raise
        return Counted(moved.incarnation, dict(zip(reads, moved.values, strict=True)))

    def _names(self, tags: Sequence[str]) -> list[str]:
        return [self._counters.full_key(tag) for tag in tags]

    def _land(self, tags: list[str]) -> None:
        if tags:
            self.bump_sync(tags)

    def _answer(self) -> None:
        """Ask what every read asks that finds nothing, each in the time that there is for it."""
        self.look_sync([], [OF_NOTHING])
        with suppress(Refused):  # a store that takes nothing new may be read all the same
            self.current_sync([OF_NOTHING])


def _apart(tags: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Tags, and apart from them the own tags of strict tables, with the tables."""
    if not tables.strict():
        return list(tags), {}
    strict = {tags_of.of_table(name): name for name in tables.strict()}
    plain: list[str] = []
    found: dict[str, str] = {}
    for tag in tags:
        if tag in strict:
            found[tag] = strict[tag]
        else:
            plain.append(tag)
    return plain, found


def _known(found: Enrolled) -> Known:
    """Nothing, if one of the names is none that this release understands."""
    read = [parse(name) for name in found.names[: MOST_COMBINATIONS + 1]]
    if found.life is None or None in read or len(read) > MOST_COMBINATIONS:
        return Known()
    combinations = frozenset(one for one in read if one is not None)
    return Known(found.life, found.version, combinations, found.incarnation, perf_counter())


def _view(
    incarnation: str,
    entries: Sequence[bytes | None],
    tags: Sequence[str],
    values: Iterable[bytes | None],
) -> View:
    generations = {}
    for tag, value in zip(tags, values, strict=True):
        # Whatever is not a number is no counter of ours: it is seeded anew.
        if value is not None and value.isdigit() and len(value) < counters.LONGEST:
            generations[tag] = int(value)
    return View(incarnation, list(entries), generations)


def being_written(generations: Generations) -> bool:
    """Whether a writer of any of these tables is still at work (R2)."""
    return any(generation & counters.OPEN_MASK for generation in generations.values())


_current: tuple[config.CacheConfig, GenerationalDependencyResolver] | None = None


def resolver() -> GenerationalDependencyResolver | None:
    """The resolver of the settings in force; None while they are wrong."""
    global _current
    settings = config.current()
    if settings is None:
        return None
    if _current is None or _current[0] is not settings:
        if _current is not None:
            _current[1].breaker.stop()
        _current = (
            settings,
            GenerationalDependencyResolver(
                data=CacheGateway(alias=settings.aiocache_alias),
                counters=CacheGateway(alias=settings.effective_counter_alias),
                timeout=settings.patience,
                write_timeout=settings.write_timeout,
            ),
        )
    return _current[1]
