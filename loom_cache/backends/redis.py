"""Redis, by redis-py's connections: what is asked in one turn of a loop goes out in one write.

There are no retries, and a deadline covers everything a request does, connecting included.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import redis
import redis.asyncio
from aiocache.base import BaseCache, _ensure_key
from redis.connection import parse_url
from redis.exceptions import RedisError, ResponseError

from loom_cache import counters
from loom_cache.backends import Pair, Snapshot
from loom_cache.exceptions import StoreUnavailable

T = TypeVar("T")
Argument = str | bytes | int
Command = tuple[Argument, ...]
DOWN = (RedisError, OSError, TimeoutError, EOFError)

MAX_CONNECTIONS = 32
"""Connections per event loop, and as many for everything synchronous in a process."""

# KEYS: counters. ARGV: EPOCH_MS, COUNTER_TTL. Lua's numbers are doubles: milliseconds times 2^22
# are exact in them, but tostring() is not.
SEED = """
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000) - ARGV[1]
local fresh = string.format('%.0f', ms * 4194304)
local values = {}
for i, key in ipairs(KEYS) do
  local value = redis.pcall('GET', key)
  if type(value) == 'string' and #value < 20 and string.match(value, '^-?%d+$') then
    redis.call('EXPIRE', key, ARGV[2])
  else
    value = fresh
    redis.call('SET', key, value, 'EX', ARGV[2])
  end
  values[i] = value
end
return values
"""

# KEYS: counters. ARGV: BUMP, COUNTER_TTL. A counter that cannot be increased (the server is full,
# the value is not an integer) is deleted, which is as good and always allowed.
BUMP = """
local existed = 0
for _, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 1 then
    existed = existed + 1
    local value = redis.pcall('INCRBY', key, ARGV[1])
    if type(value) == 'table' and value.err then
      redis.call('DEL', key)
    else
      redis.call('EXPIRE', key, ARGV[2])
    end
  end
end
return existed
"""


class _Refused(StoreUnavailable):
    """The server answered, with an error."""


class Reply(NamedTuple):
    """What one connection answered: a value or a ResponseError for each command."""

    incarnation: str
    values: list[Any]


class Operation(NamedTuple, Generic[T]):
    """Commands that go out together, and what their answers mean."""

    commands: Sequence[Command]
    read: Callable[[Reply], T]


def _first(reply: Reply) -> Any:
    return _checked(reply)[0]


def _checked(reply: Reply) -> list[Any]:
    for value in reply.values:
        if isinstance(value, ResponseError):
            raise _Refused(f"The Redis server refused a command: {value}") from value
    return reply.values


def _fetch(keys: Sequence[str]) -> Operation[Snapshot[bytes | None]]:
    return Operation(
        [("MGET", *keys)], lambda reply: Snapshot(reply.incarnation, _checked(reply)[0])
    )


def _store(pairs: Sequence[Pair]) -> Operation[list[Any]]:
    return Operation(
        [("SET", key, value, "PX", _milliseconds(ttl)) for key, value, ttl in pairs], _checked
    )


def _seed(keys: Sequence[str]) -> Operation[Snapshot[int]]:
    return Operation(
        [("EVAL", SEED, len(keys), *keys, counters.EPOCH_MS, counters.COUNTER_TTL)],
        lambda reply: Snapshot(reply.incarnation, [int(value) for value in _checked(reply)[0]]),
    )


def _bump(keys: Sequence[str]) -> Operation[int]:
    return Operation(
        [("EVAL", BUMP, len(keys), *keys, counters.BUMP, counters.COUNTER_TTL)], _first
    )


def _remove(keys: Sequence[str]) -> Operation[int]:
    return Operation([("UNLINK", *keys)], _first)


def _scan(cursor: bytes, pattern: str) -> Operation[tuple[bytes, list[bytes]]]:
    return Operation([("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)], _first)


def _add_to(key: str, delta: int) -> Operation[int]:
    def read(reply: Reply) -> int:
        if isinstance(reply.values[0], ResponseError) and "integer" in str(reply.values[0]):
            raise TypeError(f"The value at {key!r} is not an integer.")
        return int(_first(reply))

    return Operation([("INCRBY", key, delta)], read)


def _milliseconds(ttl: float) -> int:
    return max(1, int(ttl * 1000))


def _pattern(prefix: str) -> str:
    """A glob that matches the keys beginning with `prefix`, whatever is in it."""
    return "".join("\\" + letter if letter in "\\*?[]^" else letter for letter in prefix) + "*"


def _pack(commands: Sequence[Command]) -> bytes:
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for argument in command:
            data = argument if isinstance(argument, bytes) else str(argument).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def _run_id(answer: Any) -> str | None:
    if not isinstance(answer, bytes | str):
        return None
    text = answer.decode() if isinstance(answer, bytes) else answer
    lines = (line.partition(":") for line in text.splitlines())
    return next((value for name, _, value in lines if name == "run_id" and value), None)


WHO: Sequence[Command] = [("INFO", "server")]


def _who_else(key: str) -> Sequence[Command]:
    """For servers that forbid INFO: a random name that whoever comes first leaves in the store."""
    return [("SET", key, secrets.token_hex(20), "NX"), ("GET", key)]


def _left_name(answers: Sequence[Any]) -> str:
    """The name found; where not even that is allowed a new one, so that nothing is ever a hit."""
    name = answers[-1]
    return name.decode() if isinstance(name, bytes) else secrets.token_hex(20)


class _Asked:
    """A request on its way in an event loop."""

    __slots__ = ("commands", "deadline", "future")

    def __init__(
        self, commands: Sequence[Command], deadline: float, future: asyncio.Future[Reply]
    ) -> None:
        self.commands = commands
        self.deadline = deadline
        self.future = future


class _AsyncLink:
    """One connection of an event loop, and the life of the server behind it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection = server.async_connection()
        self._incarnation = ""

    async def exchange(self, batch: Sequence[_Asked]) -> None:
        """Send every request of the batch in one write and give each its answer."""
        await self._ready()
        await self._send([command for asked in batch for command in asked.commands])
        for asked in batch:
            values = [await self._read() for _ in asked.commands]
            if not asked.future.done():
                asked.future.set_result(Reply(self._incarnation, values))

    async def drop(self) -> None:
        """Close the socket without waiting for the other side."""
        with suppress(*DOWN):
            await self._connection.disconnect(nowait=True)

    async def _ready(self) -> None:
        connection = self._connection
        if connection.is_connected:
            if not await connection.can_read():
                return
            await self.drop()  # closed by the server, or out of step
        await connection.connect()
        answers = await self._ask(WHO)
        self._incarnation = _run_id(answers[0]) or _left_name(
            await self._ask(_who_else(self._server.name_key))
        )

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        await self._send(commands)
        return [await self._read() for _ in commands]

    async def _send(self, commands: Sequence[Command]) -> None:
        await self._connection.send_packed_command([_pack(commands)], check_health=False)

    async def _read(self) -> Any:
        try:
            return await self._connection.read_response()
        except ResponseError as error:
            return error


class _AsyncClient:
    """What one event loop asks one server. Nothing is left running between requests."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._idle: list[_AsyncLink] = []
        self._busy: set[_AsyncLink] = set()
        self._waiting: list[_Asked] = []
        self._flush_is_due = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._end = self._until_the_loop_ends()

    async def start(self) -> None:
        await anext(self._end)

    async def ask(self, commands: Sequence[Command], seconds: float) -> Reply:
        """The answer of the connection that was used; StoreUnavailable after so many seconds."""
        deadline = self._loop.time() + seconds
        asked = _Asked(commands, deadline, self._loop.create_future())
        self._waiting.append(asked)
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)
        try:
            async with asyncio.timeout_at(deadline):
                return await asked.future
        except TimeoutError as error:
            raise _too_slow(self._server, seconds) from error

    def _flush(self) -> None:
        """Send what waits over a free connection; without one, the next to be freed takes it."""
        self._flush_is_due = False
        batch = [asked for asked in self._waiting if not asked.future.done()]
        if not batch or (not self._idle and len(self._busy) >= MAX_CONNECTIONS):
            return
        self._waiting = []
        link = self._idle.pop() if self._idle else _AsyncLink(self._server)
        self._busy.add(link)
        task = self._loop.create_task(self._serve(link, batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, link: _AsyncLink, batch: Sequence[_Asked]) -> None:
        try:
            async with asyncio.timeout_at(max(asked.deadline for asked in batch)):
                await link.exchange(batch)
        except DOWN as error:
            await link.drop()
            for asked in batch:
                if not asked.future.done():
                    asked.future.set_exception(_unreachable(self._server, error))
        except BaseException:
            await link.drop()
            for asked in batch:
                asked.future.cancel()
            raise
        else:
            self._idle.append(link)
        finally:
            self._busy.discard(link)
            self._flush()

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        """Suspended until the loop shuts its asynchronous generators down; then closes sockets."""
        try:
            yield
        finally:
            await self.close()

    async def close(self) -> None:
        self._server.forget(self._loop)
        for link in [*self._idle, *self._busy]:
            await link.drop()
        self._idle.clear()


class _SyncLink:
    """One connection used by one thread at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection = server.sync_connection()
        self._incarnation = ""

    def exchange(self, commands: Sequence[Command], deadline: float) -> Reply:
        self._ready(deadline)
        return Reply(self._incarnation, self._ask(commands, deadline))

    def drop(self) -> None:
        with suppress(*DOWN):
            self._connection.disconnect()

    def _ready(self, deadline: float) -> None:
        connection = self._connection
        if connection.is_connected:
            if not self._is_dirty():
                return
            self.drop()
        connection.socket_timeout = connection.socket_connect_timeout = _left(deadline)
        connection.connect()
        answers = self._ask(WHO, deadline)
        self._incarnation = _run_id(answers[0]) or _left_name(
            self._ask(_who_else(self._server.name_key), deadline)
        )

    def _is_dirty(self) -> bool:
        """Whether the server has closed the connection, or it is out of step."""
        try:
            return bool(self._connection.can_read(timeout=0))
        except DOWN:
            return True

    def _ask(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        self._connection.send_packed_command([_pack(commands)], check_health=False)
        return [self._read(deadline) for _ in commands]

    def _read(self, deadline: float) -> Any:
        if not self._connection.can_read(timeout=_left(deadline)):
            raise TimeoutError("no answer in time")
        try:
            return self._connection.read_response()
        except ResponseError as error:
            return error


class _SyncClient:
    """What the threads of this process ask one server, without any event loop."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._idle: list[_SyncLink] = []

    def ask(self, commands: Sequence[Command], seconds: float) -> Reply:
        deadline = time.monotonic() + seconds
        if not self._free.acquire(timeout=seconds):
            raise _too_slow(self._server, seconds)
        try:
            with self._link() as link:
                return link.exchange(commands, deadline)
        except DOWN as error:
            raise _unreachable(self._server, error) from error
        finally:
            self._free.release()

    @contextmanager
    def _link(self) -> Iterator[_SyncLink]:
        try:
            link = self._idle.pop()
        except IndexError:
            link = _SyncLink(self._server)
        try:
            yield link
        except BaseException:
            link.drop()
            raise
        self._idle.append(link)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().drop()


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())


def _too_slow(server: Server, timeout: float) -> StoreUnavailable:
    return StoreUnavailable(f"Redis at {server.address} did not answer within {timeout:g} s.")


def _unreachable(server: Server, error: BaseException) -> StoreUnavailable:
    return StoreUnavailable(
        f"Redis at {server.address} cannot be asked ({type(error).__name__}: {error})."
    )


class Server:
    """A Redis database, with one client per event loop and one for everything synchronous."""

    def __init__(self, options: Mapping[str, Any], name_key: str) -> None:
        self._options = {**options, "socket_timeout": None, "socket_connect_timeout": None}
        self.name_key = name_key
        self.reset()

    def reset(self) -> None:
        """Start without connections; those there are belong to somebody else (see _after_fork)."""
        self._lock = threading.Lock()
        self._loops: dict[asyncio.AbstractEventLoop, _AsyncClient] = {}
        self.sync = _SyncClient(self)

    @property
    def address(self) -> str:
        """Where the server is, without credentials."""
        options = self._options
        place = options.get("path") or f"{options.get('host')}:{options.get('port')}"
        return f"{place}, database {options.get('db', 0)}"

    def async_connection(self) -> Any:
        return _connection_class(redis.asyncio, self._options)(**_arguments(self._options))

    def sync_connection(self) -> Any:
        return _connection_class(redis, self._options)(**_arguments(self._options))

    async def ask(self, commands: Sequence[Command], seconds: float) -> Reply:
        loop = asyncio.get_running_loop()
        client = self._loops.get(loop)
        if client is None:
            client = self._join(loop)
            await client.start()
        return await client.ask(commands, seconds)

    def _join(self, loop: asyncio.AbstractEventLoop) -> _AsyncClient:
        with self._lock:
            for other in [other for other in self._loops if other.is_closed()]:
                del self._loops[other]
            client = self._loops[loop] = _AsyncClient(self, loop)
        return client

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._loops.pop(loop, None)

    async def close(self) -> None:
        client = self._loops.get(asyncio.get_running_loop())
        if client is not None:
            await client.close()


def _connection_class(library: Any, options: Mapping[str, Any]) -> Any:
    if "path" in options:
        return library.UnixDomainSocketConnection
    return library.SSLConnection if options.get("ssl") else library.Connection


def _arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "ssl"}


_servers: dict[Hashable, Server] = {}
_servers_lock = threading.Lock()
_inherited: list[Any] = []


def _server(options: Mapping[str, Any], name_key: str) -> Server:
    """The one Server for these options: two aliases on one database share its clients."""
    key = tuple(sorted((name, repr(value)) for name, value in options.items()))
    with _servers_lock:
        if key not in _servers:
            _servers[key] = Server(options, name_key)
        _survive_forks()
        return _servers[key]


@cache
def _survive_forks() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    """In a forked child: the sockets are the parent's, neither to be used nor to be shut down.

    They are kept, since collecting them would take them out of the selector shared with it.
    """
    global _servers_lock
    _servers_lock = threading.Lock()
    for server in _servers.values():
        _inherited.append((server._loops, server.sync))
        server.reset()


class RedisCache(BaseCache):  # type: ignore[misc]  # aiocache has no annotations
    """aiocache's Redis backend, with deadlines, one client per event loop, and a synchronous side.

    Takes `url` (redis://, rediss://, unix://), or aiocache's own `endpoint`, `port`, `db`,
    `password`, `ssl` and `connection_pool_kwargs` (passed to redis-py's connections). `timeout`
    and `write_timeout` are seconds; without them those of the settings hold.
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
        for ignored in ("pool_min_size", "pool_max_size", "create_connection_timeout"):
            options.pop(ignored, None)
        super().__init__(timeout=timeout, **options)
        self._write_timeout = write_timeout
        place = {"host": endpoint, "port": int(port), "db": int(db), "password": password}
        where = {**place, "ssl": ssl} if url is None else _from_url(url)
        self._server = _server({**where, **(connection_pool_kwargs or {})}, name_key)

    @property
    def server(self) -> Hashable:
        return ("redis", id(self._server))

    async def _do(self, operation: Operation[T], seconds: float | None = None) -> T:
        limit = seconds or self.timeout or self.read_timeout
        return operation.read(await self._server.ask(operation.commands, limit))

    def _do_sync(self, operation: Operation[T], seconds: float | None = None) -> T:
        limit = seconds or self.timeout or self.read_timeout
        return operation.read(self._server.sync.ask(operation.commands, limit))

    async def fetch(self, keys: Sequence[str]) -> Snapshot[bytes | None]:
        return await self._do(_fetch(keys))

    def fetch_sync(self, keys: Sequence[str]) -> Snapshot[bytes | None]:
        return self._do_sync(_fetch(keys))

    async def store(self, pairs: Sequence[Pair]) -> None:
        await self._do(_store(pairs))

    def store_sync(self, pairs: Sequence[Pair]) -> None:
        self._do_sync(_store(pairs))

    async def seed(self, keys: Sequence[str]) -> Snapshot[int]:
        return await self._do(_seed(keys))

    def seed_sync(self, keys: Sequence[str]) -> Snapshot[int]:
        return self._do_sync(_seed(keys))

    async def bump(self, keys: Sequence[str], *, timeout: float | None = None) -> int:  # noqa: ASYNC109
        seconds = timeout or self._write_timeout or self.bump_timeout
        try:
            return await self._do(_bump(keys), seconds)
        except _Refused:
            return await self._do(_remove(keys), seconds)

    def bump_sync(self, keys: Sequence[str], *, timeout: float | None = None) -> int:
        seconds = timeout or self._write_timeout or self.bump_timeout
        try:
            return self._do_sync(_bump(keys), seconds)
        except _Refused:
            return self._do_sync(_remove(keys), seconds)

    async def remove(self, keys: Sequence[str]) -> int:
        return await self._do(_remove(keys))

    def remove_sync(self, keys: Sequence[str]) -> int:
        return self._do_sync(_remove(keys))

    async def scan(self, prefix: str) -> list[str]:
        found: set[bytes] = set()
        cursor, pattern = b"0", _pattern(prefix)
        while True:
            cursor, keys = await self._do(_scan(cursor, pattern))
            found.update(keys)
            if cursor == b"0":
                return [key.decode() for key in found]

    def scan_sync(self, prefix: str) -> list[str]:
        found: set[bytes] = set()
        cursor, pattern = b"0", _pattern(prefix)
        while True:
            cursor, keys = self._do_sync(_scan(cursor, pattern))
            found.update(keys)
            if cursor == b"0":
                return [key.decode() for key in found]

    async def add_to(self, key: str, delta: int) -> int:
        return await self._do(_add_to(key, delta))

    def add_to_sync(self, key: str, delta: int) -> int:
        return self._do_sync(_add_to(key, delta))

    async def holds(self, key: str) -> bool:
        return bool(await self._do(Operation([("EXISTS", key)], _first)))

    def holds_sync(self, key: str) -> bool:
        return bool(self._do_sync(Operation([("EXISTS", key)], _first)))

    async def disconnect(self) -> None:
        await self._server.close()

    def disconnect_sync(self) -> None:
        self._server.sync.close()

    # aiocache's own protocol, for code that uses the alias directly.

    async def _get(self, key: str, encoding: str | None = "utf-8", _conn: Any = None) -> Any:
        return (await self._multi_get([key], encoding))[0]

    async def _gets(self, key: str, encoding: str | None = "utf-8", _conn: Any = None) -> Any:
        return await self._get(key, encoding)

    async def _multi_get(
        self, keys: Sequence[str], encoding: str | None = "utf-8", _conn: Any = None
    ) -> list[Any]:
        values = (await self.fetch(keys)).values if keys else []
        if encoding is None:
            return list(values)
        return [value if value is None else value.decode(encoding) for value in values]

    async def _set(
        self,
        key: str,
        value: Any,
        ttl: float | None = None,
        _cas_token: Any = None,
        _conn: Any = None,
    ) -> Any:
        if _cas_token is not None:
            raise NotImplementedError("loom_cache's Redis backend has no compare-and-set.")
        return await self._do(Operation([_set(key, value, ttl)], _first))

    async def _multi_set(
        self, pairs: Sequence[tuple[str, Any]], ttl: float | None = None, _conn: Any = None
    ) -> bool:
        if pairs:
            await self._do(Operation([_set(key, value, ttl) for key, value in pairs], _checked))
        return True

    async def _add(self, key: str, value: Any, ttl: float | None = None, _conn: Any = None) -> bool:
        if not await self._do(Operation([(*_set(key, value, ttl), "NX")], _first)):
            raise ValueError(f"Key {key} already exists, use .set to update the value")
        return True

    async def _exists(self, key: str, _conn: Any = None) -> bool:
        return await self.holds(key)

    async def _increment(self, key: str, delta: int, _conn: Any = None) -> int:
        return await self.add_to(key, delta)

    async def _expire(self, key: str, ttl: float, _conn: Any = None) -> bool:
        command: Command = ("PEXPIRE", key, _milliseconds(ttl)) if ttl else ("PERSIST", key)
        return bool(await self._do(Operation([command], _first)))

    async def _delete(self, key: str, _conn: Any = None) -> int:
        return await self.remove([key])

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        prefix = namespace or self.namespace
        if not prefix:
            raise ValueError("A Redis cache without a namespace is not cleared: others may use it.")
        keys = await self.scan(f"{prefix}:")
        if keys:
            await self.remove(keys)
        return True

    async def _close(self, *args: Any, _conn: Any = None, **kwargs: Any) -> None:
        await self.disconnect()

    def _build_key(self, key: Any, namespace: str | None = None) -> str:
        space = self.namespace if namespace is None else namespace
        return f"{space}:{_ensure_key(key)}" if space else str(_ensure_key(key))


def _set(key: str, value: Any, ttl: float | None) -> Command:
    data = value if isinstance(value, bytes | int) else str(value)
    return ("SET", key, data) if not ttl else ("SET", key, data, "PX", _milliseconds(ttl))


def _from_url(url: str) -> dict[str, Any]:
    options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    for pooling in ("max_connections", "timeout"):
        options.pop(pooling, None)
    kind = options.pop("connection_class", None)
    return {**options, "ssl": kind is redis.SSLConnection}
