"""RedisCache: with its neighbours in this package, the only room that knows Redis."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, ClassVar, TypeVar

import redis
from redis.connection import parse_url
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from loom_cache import deadlines
from loom_cache.backends import Enrolled, Facts, Lease, Moved, Pair, Roll, Snapshot
from loom_cache.backends.failures import Broken, Refused, refused
from loom_cache.backends.native import NativeCache
from loom_cache.backends.redis import facts, operations
from loom_cache.backends.redis.links import left
from loom_cache.backends.redis.operations import Operation, Reply
from loom_cache.backends.redis.server import server_for

__all__ = ["RedisCache"]

T = TypeVar("T")


class RedisCache(NativeCache):
    """aiocache's Redis backend, with deadlines, one client per event loop, and a synchronous side.

    Takes `url` (redis://, rediss://, unix://), or aiocache's own `endpoint`, `port`, `db`,
    `password`, `ssl` and `connection_pool_kwargs` (passed to redis-py's connections). `timeout`
    and `write_timeout` are seconds; without them those of the settings hold. `name_key`: where
    the server's life is named if it forbids INFO.
    """

    NAME = "redis"
    native_counters: ClassVar[bool] = True
    read_timeout: ClassVar[float] = 0.25
    bump_timeout: ClassVar[float] = 2.0

    def __init__(
        self,
        *,
        url: str | None = None,
        endpoint: str = "127.0.0.1",
        port: int = 6379,
        db: int = 0,
        password: str | None = None,
        ssl: bool = False,
        connection_pool_kwargs: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        write_timeout: float | None = None,
        name_key: str = "loom:incarnation",
        **options: Any,
    ) -> None:
        for pooling in ("pool_min_size", "pool_max_size", "create_connection_timeout"):
            options.pop(pooling, None)
        super().__init__(timeout=timeout, **options)
        self._write_timeout = write_timeout
        if not _HOST.isdisjoint(endpoint):
            raise ValueError("`endpoint` is the name of a host; an address with more is a `url`.")
        place = {"host": endpoint, "port": int(port), "db": int(db), "password": password}
        where = {**place, "ssl": ssl} if url is None else _from_url(url)
        try:
            self._server = server_for({**where, **(connection_pool_kwargs or {})}, name_key)
        except RedisError as error:
            raise ValueError("redis-py refuses one of the options of its connections.") from error

    @property
    def server(self) -> Hashable:
        return ("redis", id(self._server))

    async def fetch(self, keys: Sequence[str]) -> Snapshot[bytes | None]:
        return await self._do(operations.fetch(keys))

    def fetch_sync(self, keys: Sequence[str]) -> Snapshot[bytes | None]:
        return self._do_sync(operations.fetch(keys))

    async def store(self, pairs: Sequence[Pair]) -> None:
        await self._do(operations.store(pairs))

    def store_sync(self, pairs: Sequence[Pair]) -> None:
        self._do_sync(operations.store(pairs))

    async def seed(self, keys: Sequence[str], leases: Sequence[Lease] = ()) -> Snapshot[int]:
        return await self._do(operations.seed(keys, leases))

    def seed_sync(self, keys: Sequence[str], leases: Sequence[Lease] = ()) -> Snapshot[int]:
        return self._do_sync(operations.seed(keys, leases))

    async def bump(self, keys: Sequence[str], *, timeout: float | None = None) -> int:  # noqa: ASYNC109
        seconds = timeout or self._write_timeout or self.bump_timeout
        try:
            return await self._do(operations.bump(keys), seconds)
        except Refused:  # no scripts for this user, or the like
            return await self._do(operations.remove(keys), seconds)

    def bump_sync(self, keys: Sequence[str], *, timeout: float | None = None) -> int:
        seconds = timeout or self._write_timeout or self.bump_timeout
        try:
            return self._do_sync(operations.bump(keys), seconds)
        except Refused:
            return self._do_sync(operations.remove(keys), seconds)

    async def bump_and_read(
        self,
        keys: Sequence[str],
        reads: Sequence[str],
        *,
        leases: Sequence[Lease] = (),
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Moved:
        seconds = timeout or self._write_timeout or self.bump_timeout
        try:
            return await self._insist(operations.bump_and_read(keys, reads, leases), seconds)
        except Refused:
            removing = operations.remove([*keys, *reads, *(one.counter for one in leases)])
            return Moved(await self._do(removing, seconds), [None] * len(reads))

    def bump_and_read_sync(
        self,
        keys: Sequence[str],
        reads: Sequence[str],
        *,
        leases: Sequence[Lease] = (),
        timeout: float | None = None,
    ) -> Moved:
        seconds = timeout or self._write_timeout or self.bump_timeout
        try:
            return self._insist_sync(operations.bump_and_read(keys, reads, leases), seconds)
        except Refused:
            removing = operations.remove([*keys, *reads, *(one.counter for one in leases)])
            return Moved(self._do_sync(removing, seconds), [None] * len(reads))

    def take_sync(self, leases: Sequence[Lease], *, timeout: float | None = None) -> None:
        seconds = timeout or self._write_timeout or self.bump_timeout
        self._insist_sync(operations.bump_and_read((), (), leases), seconds)

    def writers_sync(self, keys: Sequence[str]) -> list[list[tuple[str, float]]]:
        return self._do_sync(operations.writers(keys))

    async def enroll(self, roll: Roll, names: Sequence[str], most: int) -> Enrolled:
        return await self._do(operations.enroll(roll, names, most))

    def enroll_sync(self, roll: Roll, names: Sequence[str], most: int) -> Enrolled:
        return self._do_sync(operations.enroll(roll, names, most))

    async def remove(self, keys: Sequence[str]) -> int:
        return await self._do(operations.remove(keys))

    def remove_sync(self, keys: Sequence[str]) -> int:
        return self._do_sync(operations.remove(keys))

    async def scan(self, prefix: str) -> list[str]:
        found: set[bytes] = set()
        cursor, keys = await self._do(operations.scan(b"0", prefix))
        found.update(keys)
        while cursor != b"0":
            cursor, keys = await self._do(operations.scan(cursor, prefix))
            found.update(keys)
        return [key.decode() for key in found]

    def scan_sync(self, prefix: str) -> list[str]:
        return list({key for keys in self.walk_sync(prefix) for key in keys})

    def walk_sync(self, prefix: str) -> Iterator[Sequence[str]]:
        cursor, keys = self._do_sync(operations.scan(b"0", prefix))
        yield [key.decode() for key in keys]
        while cursor != b"0":
            cursor, keys = self._do_sync(operations.scan(cursor, prefix))
            yield [key.decode() for key in keys]

    def facts_sync(self, key: str) -> Facts:
        return self._do_sync(facts.facts(self._server.address, key))

    async def add_to(self, key: str, delta: int) -> int:
        return await self._do(operations.add_to(key, delta))

    def add_to_sync(self, key: str, delta: int) -> int:
        return self._do_sync(operations.add_to(key, delta))

    async def holds(self, key: str) -> bool:
        return await self._do(operations.holds(key))

    def holds_sync(self, key: str) -> bool:
        return self._do_sync(operations.holds(key))

    async def clear_prefix(self, prefix: str) -> None:
        for keys in _chunks(await self.scan(prefix)):
            await self.remove(keys)

    def clear_prefix_sync(self, prefix: str) -> None:
        for keys in _chunks(self.scan_sync(prefix)):
            self.remove_sync(keys)

    async def disconnect(self) -> None:
        await self._server.close()

    def disconnect_sync(self) -> None:
        self._server.sync.close()

    async def _do(self, operation: Operation[T], seconds: float | None = None) -> T:
        limit = deadlines.limited(seconds or self.timeout or self.read_timeout)
        return self._read(operation, await self._server.ask(operation.commands, limit))

    def _do_sync(self, operation: Operation[T], seconds: float | None = None) -> T:
        limit = deadlines.limited(seconds or self.timeout or self.read_timeout)
        return self._read(operation, self._server.sync.ask(operation.commands, limit))

    def _read(self, operation: Operation[T], reply: Reply) -> T:
        """Errors are not chained: what a server says may repeat what it was given."""
        try:
            return operation.read(reply)
        except ReadOnlyError as error:
            # It has become a replica, whose data is another's: no connection knew of that.
            self._server.look_anew()
            raise refused(self._server.place, error) from None
        except ResponseError as error:
            raise refused(self._server.place, error) from None

    async def _insist(self, operation: Operation[T], seconds: float) -> T:
        """What may be done twice: if the connection breaks, once more over another, in the same
        time. It was perhaps the last of a server that another one has replaced."""
        end = monotonic() + seconds
        try:
            return await self._do(operation, seconds)
        except Broken:
            return await self._do(operation, left(end))

    def _insist_sync(self, operation: Operation[T], seconds: float) -> T:
        end = monotonic() + seconds
        try:
            return self._do_sync(operation, seconds)
        except Broken:
            return self._do_sync(operation, left(end))

    # For code that uses the alias directly (see NativeCache).

    async def _get(self, key: str, encoding: str | None = "utf-8", _conn: Any = None) -> Any:
        value = (await self.fetch([key])).values[0]
        return value if value is None or encoding is None else value.decode(encoding)

    async def _set(
        self,
        key: str,
        value: Any,
        ttl: float | None = None,
        _cas_token: Any = None,
        _conn: Any = None,
    ) -> Any:
        self._refuse_compare_and_set(_cas_token)
        return await self._do(Operation([operations.put(key, value, ttl)], operations.first))

    async def _add(self, key: str, value: Any, ttl: float | None = None, _conn: Any = None) -> bool:
        if not await self._do(operations.add(key, value, ttl)):
            raise self._exists_already(key)
        return True

    async def _expire(self, key: str, ttl: float, _conn: Any = None) -> bool:
        return await self._do(operations.expire(key, ttl))


_HOST = frozenset("@/")
"""In no name of a host. Somebody's password might be told as a part of it."""


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """Few enough keys at a time that nobody else waits long for the server."""
    return (keys[start : start + 1000] for start in range(0, len(keys), 1000))


def _from_url(url: str) -> dict[str, Any]:
    """The options in a URL, by redis-py's own rules. ValueError if it cannot be read."""
    options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    for pooling in ("max_connections", "timeout"):
        options.pop(pooling, None)
    kind = options.pop("connection_class", None)
    if kind is redis.UnixDomainSocketConnection:
        return options
    return {"host": "localhost", "port": 6379, **options, "ssl": kind is redis.SSLConnection}
