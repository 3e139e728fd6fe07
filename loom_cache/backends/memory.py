"""A bounded store in this process's memory, shared by all its event loops and threads."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, ClassVar
from weakref import WeakSet, WeakValueDictionary

from loom_cache import counters
from loom_cache.backends import Enrolled, Facts, Lease, Moved, Pair, Roll, Snapshot, enrolled
from loom_cache.backends.native import NativeCache

NEVER = float("inf")
COUNTERS_PER_ENTRY = 8
"""An entry that lists rows has a counter for each of them; most have two or three."""
Value = Any
"""Bytes or a counter; through aiocache itself anything but None."""
Area = OrderedDict[str, tuple[Value, float]]


class MemoryStore:
    """A keyspace: at most `max_size` entries, and COUNTERS_PER_ENTRY times as many counters; the
    least recently used go first.

    The two are bounded apart so that many entries cannot push out the counters that make them
    valid. Time to live is judged when a key is read, by the monotonic clock: there are no timers.
    """

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self.reset()
        _stores.add(self)
        _survive_forks()

    def reset(self) -> None:
        """Forget everything, as a server that has been restarted."""
        self.incarnation = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._entries: Area = OrderedDict()
        self._counters: Area = OrderedDict()
        self._writers: dict[str, dict[str, float]] = {}
        """Open writers of strict tables: by the set's key and by name, when their time is over."""

    def __len__(self) -> int:
        return len(self._entries) + len(self._counters)

    def get_many(self, keys: Iterable[str]) -> list[Value | None]:
        now = time.monotonic()
        with self._lock:
            return [self._get(key, now) for key in keys]

    def set(self, key: str, value: Value, ttl: float | None) -> None:
        with self._lock:
            self._put(key, value, _deadline(ttl))

    def set_many(self, pairs: Iterable[Pair]) -> None:
        with self._lock:
            for key, value, ttl in pairs:
                self._put(key, value, _deadline(ttl))

    def add(self, key: str, value: Value, ttl: float | None) -> bool:
        """Set `key` unless it exists; whether it was set."""
        with self._lock:
            if self._get(key, time.monotonic()) is not None:
                return False
            self._put(key, value, _deadline(ttl))
            return True

    def increment(self, key: str, delta: int) -> int:
        """Add to the integer at `key`, which starts at 0. TypeError if it is not an integer."""
        with self._lock:
            value = self._get(key, time.monotonic())
            number = 0 if value is None else _number(value)
            if number is None:
                raise TypeError(f"The value at {key!r} is not an integer.")
            expires = NEVER if value is None else self._area(key)[key][1]
            self._put(key, number + delta, expires)
            return number + delta

    def expire(self, key: str, ttl: float | None) -> bool:
        with self._lock:
            value = self._get(key, time.monotonic())
            if value is not None:
                self._put(key, value, _deadline(ttl))
            return value is not None

    def seed_many(self, keys: Iterable[str], leases: Iterable[Lease] = ()) -> list[int]:
        """The counters at `keys` and those of `leases`; those that are missing, or are not
        integers, start anew."""
        with self._lock:
            return [*map(self._seed, keys), *(self._take(one) or 0 for one in leases)]

    def take(self, leases: Iterable[Lease]) -> None:
        """As Store.take_sync."""
        with self._lock:
            for one in leases:
                self._take(one)

    def writers_of(self, keys: Iterable[str]) -> list[list[tuple[str, float]]]:
        now = time.monotonic()
        with self._lock:
            found = (self._writers.get(key, {}) for key in keys)
            return [[(name, ends - now) for name, ends in one.items()] for one in found]

    def bump_many(self, keys: Iterable[str]) -> int:
        """Add BUMP to the counters that exist; how many did."""
        return self.bump_and_read(keys, ()).existed

    def bump_and_read(
        self, keys: Iterable[str], reads: Iterable[str], leases: Iterable[Lease] = ()
    ) -> Moved:
        """The same; then the steps, and the counters at `reads` as they are then."""
        now, expires = time.monotonic(), _deadline(counters.COUNTER_TTL)
        existed = 0
        with self._lock:
            for one in leases:
                existed += self._take(one) is not None
            for key in keys:
                value = self._get(key, now)
                if value is None:
                    continue
                existed += 1
                number = _number(value)
                if number is None:
                    self._drop(key)
                else:
                    inside = number & counters.OPEN_MASK  # it ends with the last of their leases
                    ends = self._area(key)[key][1] if inside else expires
                    self._put(key, number + counters.BUMP, ends)
            counted = [_number(self._get(key, now)) for key in reads]
            return Moved(existed, counted, self.incarnation)

    def enroll(self, roll: Roll, names: Iterable[str], most: int) -> Enrolled:
        """As Store.enroll."""
        now, expires = time.monotonic(), _deadline(counters.COUNTER_TTL)
        with self._lock:
            life, version = (_number(self._get(key, now)) for key in (roll.life, roll.changes))
            found = enrolled(_encoded(self._get(roll.at, now)), version)
            current = life is not None and found.life == life
            listed = dict.fromkeys(found.names if current else ())
            before = len(listed)
            for name in names:
                if len(listed) < most:
                    listed[name] = None
            if life is None or not current:
                life = _after(life)
            if version is None or not current or len(listed) > before:
                version = _after(version)
            self._put(roll.life, life, expires)
            self._put(roll.changes, version, expires)
            self._put(roll.at, b"\n".join([b"%d" % life, *map(str.encode, listed)]), expires)
            return Enrolled(life, version, list(listed), self.incarnation)

    def remove_many(self, keys: Iterable[str]) -> int:
        now = time.monotonic()
        with self._lock:
            removed = 0
            for key in keys:
                removed += self._get(key, now) is not None
                self._drop(key)
            return removed

    def keys(self, prefix: str) -> list[str]:
        now = time.monotonic()
        with self._lock:
            return [
                key
                for area in (self._entries, self._counters)
                for key, (_, expires) in area.items()
                if expires > now and key.startswith(prefix)
            ]

    def _area(self, key: str) -> Area:
        return self._counters if key in self._counters else self._entries

    def _get(self, key: str, now: float) -> Value | None:
        area = self._area(key)
        found = area.get(key)
        if found is None:
            return None
        if found[1] <= now:
            del area[key]
            return None
        area.move_to_end(key)
        return found[0]

    def _put(self, key: str, value: Value, expires: float) -> None:
        area, other = self._counters, self._entries
        if type(value) is not int:
            area, other = other, area
        other.pop(key, None)
        area[key] = (value, expires)
        area.move_to_end(key)
        most = self.max_size * COUNTERS_PER_ENTRY if area is self._counters else self.max_size
        if len(area) > most:
            area.popitem(last=False)

    def _drop(self, key: str) -> None:
        self._area(key).pop(key, None)

    def _seed(self, key: str) -> int:
        number = _number(self._get(key, time.monotonic()))
        if number is None or number < 0:
            number = _fresh_seed()
        self._put(key, number, _deadline(counters.COUNTER_TTL))
        return number

    def _take(self, lease: Lease) -> int | None:
        """One step of a strict table; the counter then, if there is one."""
        now = time.monotonic()
        before = self._writers.get(lease.writers, {})
        inside = {name: ends for name, ends in before.items() if ends > now}
        moved = len(inside) < len(before) or lease.step in ("close", "bump")
        if lease.step == "open":
            inside[lease.writer] = now + lease.seconds
        elif lease.step == "close":
            inside.pop(lease.writer, None)
        self._writers[lease.writers] = inside
        if not inside:
            del self._writers[lease.writers]
        number = _number(self._get(lease.counter, now))
        if number is not None and number >= 0:
            number = (number & ~counters.OPEN_MASK) + (counters.BUMP if moved else 0)
        elif lease.step in ("open", "seed"):
            number = _fresh_seed()
        else:
            self._drop(lease.counter)
            return None
        number += min(len(inside), counters.OPEN_MASK)
        ends = max(inside.values(), default=_deadline(counters.COUNTER_TTL))
        self._put(lease.counter, number, ends)
        return number


def _deadline(ttl: float | None) -> float:
    return NEVER if ttl is None else time.monotonic() + ttl


def _number(value: Value | None) -> int | None:
    return value if type(value) is int else counters.parse(_encoded(value))


def _encoded(value: Value | None) -> bytes | None:
    """What a server would hold. Objects that aiocache put here as they are have no such form."""
    if type(value) is int:
        return b"%d" % value
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bytes) else None


class _Clock:
    """Seeds that strictly increase within the process, whatever the wall clock does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> int:
        with self._lock:
            self._last = max(time.time_ns() // 1_000_000, self._last + 1)
            return self._last


_clock = _Clock()
_stores: WeakSet[MemoryStore] = WeakSet()
_named: WeakValueDictionary[str, MemoryStore] = WeakValueDictionary()


def _after(value: int | None) -> int:
    return _fresh_seed() if value is None else value + counters.BUMP


def _fresh_seed() -> int:
    return counters.seed(_clock.next())


@cache
def _survive_forks() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    """In a forked child: a lock may have been held, and the parent's writes are not seen."""
    global _clock
    _clock = _Clock()
    for store in list(_stores):
        store.reset()


def _shared(name: str, max_size: int) -> MemoryStore:
    store = _named.get(name)
    if store is None:
        store = _named[name] = MemoryStore(max_size)
    return store


class MemoryCache(NativeCache):
    """aiocache's memory backend, but bounded, and right under several loops and threads.

    `max_size`: entries kept, and counters kept. `store`: a name; caches of one name share a store.
    """

    NAME = "memory"
    native_counters: ClassVar[bool] = True

    def __init__(self, *, max_size: int = 10_000, store: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._store = MemoryStore(max_size) if store is None else _shared(store, max_size)

    @property
    def max_size(self) -> int:
        return self._store.max_size

    @property
    def server(self) -> Hashable:
        return ("memory", id(self._store))

    def fetch_sync(self, keys: Sequence[str]) -> Snapshot[bytes | None]:
        store = self._store
        return Snapshot(store.incarnation, [_encoded(value) for value in store.get_many(keys)])

    def store_sync(self, pairs: Sequence[Pair]) -> None:
        self._store.set_many(pairs)

    def seed_sync(self, keys: Sequence[str], leases: Sequence[Lease] = ()) -> Snapshot[int]:
        return Snapshot(self._store.incarnation, self._store.seed_many(keys, leases))

    def bump_sync(self, keys: Sequence[str], *, timeout: float | None = None) -> int:
        return self._store.bump_many(keys)

    def bump_and_read_sync(
        self,
        keys: Sequence[str],
        reads: Sequence[str],
        *,
        leases: Sequence[Lease] = (),
        timeout: float | None = None,
    ) -> Moved:
        return self._store.bump_and_read(keys, reads, leases)

    def take_sync(self, leases: Sequence[Lease], *, timeout: float | None = None) -> None:
        self._store.take(leases)

    def writers_sync(self, keys: Sequence[str]) -> list[list[tuple[str, float]]]:
        return self._store.writers_of(keys)

    def enroll_sync(self, roll: Roll, names: Sequence[str], most: int) -> Enrolled:
        return self._store.enroll(roll, names, most)

    def remove_sync(self, keys: Sequence[str]) -> int:
        return self._store.remove_many(keys)

    def scan_sync(self, prefix: str) -> list[str]:
        return self._store.keys(prefix)

    def walk_sync(self, prefix: str) -> Iterator[Sequence[str]]:
        yield self._store.keys(prefix)

    def facts_sync(self, key: str) -> Facts:
        return Facts(kind="memory", place="the memory of this process")

    def add_to_sync(self, key: str, delta: int) -> int:
        return self._store.increment(key, delta)

    def holds_sync(self, key: str) -> bool:
        return self._store.get_many([key])[0] is not None

    def clear_prefix_sync(self, prefix: str) -> None:
        self._store.remove_many(self._store.keys(prefix))

    def disconnect_sync(self) -> None:
        """Nothing to close."""

    async def fetch(self, keys: Sequence[str]) -> Snapshot[bytes | None]:
        return self.fetch_sync(keys)

    async def store(self, pairs: Sequence[Pair]) -> None:
        self.store_sync(pairs)

    async def seed(self, keys: Sequence[str], leases: Sequence[Lease] = ()) -> Snapshot[int]:
        return self.seed_sync(keys, leases)

    async def bump(self, keys: Sequence[str], *, timeout: float | None = None) -> int:  # noqa: ASYNC109
        return self.bump_sync(keys)

    async def bump_and_read(
        self,
        keys: Sequence[str],
        reads: Sequence[str],
        *,
        leases: Sequence[Lease] = (),
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Moved:
        return self.bump_and_read_sync(keys, reads, leases=leases)

    async def enroll(self, roll: Roll, names: Sequence[str], most: int) -> Enrolled:
        return self.enroll_sync(roll, names, most)

    async def remove(self, keys: Sequence[str]) -> int:
        return self.remove_sync(keys)

    async def scan(self, prefix: str) -> list[str]:
        return self.scan_sync(prefix)

    async def add_to(self, key: str, delta: int) -> int:
        return self.add_to_sync(key, delta)

    async def holds(self, key: str) -> bool:
        return self.holds_sync(key)

    async def clear_prefix(self, prefix: str) -> None:
        self.clear_prefix_sync(prefix)

    async def disconnect(self) -> None:
        """Nothing to close."""

    # For code that uses the alias directly (see NativeCache): values are kept as they are given.

    async def _get(self, key: str, encoding: str | None = None, _conn: Any = None) -> Any:
        return self._store.get_many([key])[0]

    async def _set(
        self,
        key: str,
        value: Any,
        ttl: float | None = None,
        _cas_token: Any = None,
        _conn: Any = None,
    ) -> Any:
        self._refuse_compare_and_set(_cas_token)
        self._store.set(key, value, ttl)
        return True

    async def _add(self, key: str, value: Any, ttl: float | None = None, _conn: Any = None) -> bool:
        if not self._store.add(key, value, ttl):
            raise self._exists_already(key)
        return True

    async def _expire(self, key: str, ttl: float, _conn: Any = None) -> bool:
        return self._store.expire(key, ttl or None)
