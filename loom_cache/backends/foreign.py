"""Any other aiocache backend, by its public methods, on one event loop of its own.

Such a backend may bind its connections to the loop that first used it, and has no synchronous side.
One background thread with one loop serves every caller; it starts with the first request.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from collections.abc import Coroutine, Hashable, Iterator, Sequence
from concurrent.futures import Future
from functools import cache
from typing import Any, ClassVar, TypeVar

from loom_cache import counters, deadlines
from loom_cache.backends import Enrolled, Facts, Lease, Moved, Pair, Roll, Snapshot
from loom_cache.backends.failures import down, too_slow, unavailable
from loom_cache.exceptions import StoreUnavailable

T = TypeVar("T")


class ForeignStore:
    """A store without atomic increments or scripts: a bump writes a fresh seed with random bits."""

    native_counters: ClassVar[bool] = False
    read_timeout: ClassVar[float] = 0.25
    bump_timeout: ClassVar[float] = 2.0

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    @property
    def server(self) -> Hashable:
        return ("foreign", id(self._backend))

    async def fetch(self, keys: Sequence[str]) -> Snapshot[bytes | None]:
        return await self._hop(self._fetch(keys))

    def fetch_sync(self, keys: Sequence[str]) -> Snapshot[bytes | None]:
        return self._wait(self._fetch(keys))

    async def store(self, pairs: Sequence[Pair]) -> None:
        await self._hop(self._store(pairs))

    def store_sync(self, pairs: Sequence[Pair]) -> None:
        self._wait(self._store(pairs))

    async def seed(self, keys: Sequence[str], leases: Sequence[Lease] = ()) -> Snapshot[int]:
        return await self._hop(self._seed([*keys, *(one.counter for one in leases)]))

    def seed_sync(self, keys: Sequence[str], leases: Sequence[Lease] = ()) -> Snapshot[int]:
        return self._wait(self._seed([*keys, *(one.counter for one in leases)]))

    async def bump(self, keys: Sequence[str], *, timeout: float | None = None) -> int:  # noqa: ASYNC109
        return await self._hop(self._bump(keys), timeout or self.bump_timeout)

    def bump_sync(self, keys: Sequence[str], *, timeout: float | None = None) -> int:
        return self._wait(self._bump(keys), timeout or self.bump_timeout)

    async def bump_and_read(
        self,
        keys: Sequence[str],
        reads: Sequence[str],
        *,
        leases: Sequence[Lease] = (),
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Moved:
        every = [*keys, *(one.counter for one in leases)]
        return Moved(await self.bump(every, timeout=timeout), [None] * len(reads))

    def bump_and_read_sync(
        self,
        keys: Sequence[str],
        reads: Sequence[str],
        *,
        leases: Sequence[Lease] = (),
        timeout: float | None = None,
    ) -> Moved:
        every = [*keys, *(one.counter for one in leases)]
        return Moved(self.bump_sync(every, timeout=timeout), [None] * len(reads))

    def take_sync(self, leases: Sequence[Lease], *, timeout: float | None = None) -> None:
        """A set of writers and a counter cannot be changed in one step (a check says so)."""
        raise StoreUnavailable(f"{type(self._backend).__name__} cannot keep writers apart.")

    def writers_sync(self, keys: Sequence[str]) -> list[list[tuple[str, float]]]:
        return [[] for _ in keys]

    async def enroll(self, roll: Roll, names: Sequence[str], most: int) -> Enrolled:
        return self.enroll_sync(roll, names, most)

    def enroll_sync(self, roll: Roll, names: Sequence[str], most: int) -> Enrolled:
        """Nothing here changes a list and a counter in one step: answers depend on whole tables."""
        return Enrolled(None, None, [])

    async def remove(self, keys: Sequence[str]) -> int:
        return await self._hop(self._remove(keys))

    def remove_sync(self, keys: Sequence[str]) -> int:
        return self._wait(self._remove(keys))

    async def scan(self, prefix: str) -> list[str]:
        return self.scan_sync(prefix)

    def scan_sync(self, prefix: str) -> list[str]:
        raise StoreUnavailable(
            f"{type(self._backend).__name__} cannot list its keys: aiocache offers no way to ask."
        )

    def walk_sync(self, prefix: str) -> Iterator[Sequence[str]]:
        yield self.scan_sync(prefix)

    def facts_sync(self, key: str) -> Facts:
        self.holds_sync(key)
        return Facts(kind=type(self._backend).__name__)

    async def add_to(self, key: str, delta: int) -> int:
        return int(await self._hop(self._backend.increment(key, delta, namespace="")))

    def add_to_sync(self, key: str, delta: int) -> int:
        return int(self._wait(self._backend.increment(key, delta, namespace="")))

    async def holds(self, key: str) -> bool:
        return bool(await self._hop(self._backend.exists(key, namespace="")))

    def holds_sync(self, key: str) -> bool:
        return bool(self._wait(self._backend.exists(key, namespace="")))

    async def clear_prefix(self, prefix: str) -> None:
        await self._hop(self._clear(prefix))

    def clear_prefix_sync(self, prefix: str) -> None:
        self._wait(self._clear(prefix))

    async def disconnect(self) -> None:
        await self._hop(self._backend.close())

    def disconnect_sync(self) -> None:
        self._wait(self._backend.close())

    async def _hop(self, work: Coroutine[Any, Any, T], most: float | None = None) -> T:
        future, seconds = self._begun(work, most)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise too_slow(self._place, seconds) from None
        except down() as error:
            raise unavailable(self._place, error) from None

    def _wait(self, work: Coroutine[Any, Any, T], most: float | None = None) -> T:
        future, seconds = self._begun(work, most)
        try:
            return future.result(seconds)
        except TimeoutError:
            future.cancel()
            raise too_slow(self._place, seconds) from None
        except down() as error:
            raise unavailable(self._place, error) from None

    def _begun(self, work: Coroutine[Any, Any, T], most: float | None) -> tuple[Future[T], float]:
        """What is under way, and how long it may be waited for."""
        try:
            seconds = deadlines.limited(most or self.read_timeout)
        except StoreUnavailable:
            work.close()
            raise
        return _submit(work), seconds

    @property
    def _place(self) -> str:
        return type(self._backend).__name__

    async def _fetch(self, keys: Sequence[str]) -> Snapshot[bytes | None]:
        found = await self._backend.multi_get(list(keys), loads_fn=_as_it_is, namespace="")
        return Snapshot("", [_bytes(value) for value in found])

    async def _store(self, pairs: Sequence[Pair]) -> None:
        for key, value, ttl in pairs:
            await self._put(key, value, ttl)

    async def _seed(self, keys: Sequence[str]) -> Snapshot[int]:
        for key in keys:
            await self._add(key)
        found = await self._fetch(keys)
        values = [counters.parse(value) for value in found.values]
        for key, value in zip(keys, values, strict=True):
            if value is None:
                await self._put(key, _fresh_seed(), counters.COUNTER_TTL)
        if None in values:
            found = await self._fetch(keys)
            values = [counters.parse(value) for value in found.values]
        return Snapshot(found.incarnation, [_present(value) for value in values])

    async def _bump(self, keys: Sequence[str]) -> int:
        found = (await self._fetch(keys)).values
        existing = [key for key, value in zip(keys, found, strict=True) if value is not None]
        for key in existing:
            await self._put(key, _fresh_seed(), counters.COUNTER_TTL)
        return len(existing)

    async def _remove(self, keys: Sequence[str]) -> int:
        return sum([int(await self._backend.delete(key, namespace="")) for key in keys])

    async def _clear(self, prefix: str) -> None:
        try:
            await self._backend.clear(namespace=prefix)
        except ValueError as error:  # memcached's: it could only flush the whole server
            raise unavailable(self._place, error) from None

    async def _add(self, key: str) -> None:
        try:
            await self._backend.add(
                key, _fresh_seed(), ttl=counters.COUNTER_TTL, dumps_fn=_as_it_is, namespace=""
            )
        except ValueError:  # aiocache's word for "exists already"
            return

    async def _put(self, key: str, value: bytes, ttl: float) -> None:
        if ttl <= 0:
            await self._backend.delete(key, namespace="")
            return
        seconds = max(1, int(ttl))  # memcached takes whole seconds only
        await self._backend.set(key, value, ttl=seconds, dumps_fn=_as_it_is, namespace="")


def _as_it_is(value: Any) -> Any:
    return value


def _bytes(value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return str(value).encode()


def _present(value: int | None) -> int:
    if value is None:
        raise StoreUnavailable("A counter disappeared while it was being seeded.")
    return value


def _fresh_seed() -> bytes:
    return b"%d" % counters.seed(time.time_ns() // 1_000_000, secrets.randbits(counters.BUMP_BITS))


@cache
def _loop(pid: int) -> asyncio.AbstractEventLoop:
    """The loop of the background thread of this process; a forked child gets its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="loom_cache-foreign", daemon=True).start()
    return loop


def _submit(work: Coroutine[Any, Any, T]) -> Future[T]:
    return asyncio.run_coroutine_threadsafe(work, _loop(os.getpid()))
