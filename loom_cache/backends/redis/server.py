"""A Redis database as this process sees it: a client per event loop, one for all the rest."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import redis
import redis.asyncio
import redis.exceptions

from loom_cache.backends.failures import DOWN, too_slow, unavailable
from loom_cache.backends.redis.links import Asked, AsyncLink, SyncLink
from loom_cache.backends.redis.operations import Command, Reply

MAX_CONNECTIONS = 32
"""Connections per event loop, and as many for everything synchronous in a process."""
MAX_BATCH = 500
"""Requests in one write: the last has to wait until the first has been answered."""


class AsyncClient:
    """What one event loop asks one server. Nothing is left running between requests.

    The first request of a turn starts a task; by the time that runs, in the next turn, the others
    are there too, and all of them go out over one connection in one write.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        place: str,
        silence: str,
        link: Callable[[], AsyncLink],
        forget: Callable[[asyncio.AbstractEventLoop], None],
    ) -> None:
        self._loop = loop
        self._place = place
        self._silence = silence
        self._link = link
        self._forget = forget
        self._idle: list[AsyncLink] = []
        self._waiting: list[Asked] = []
        self._starting: asyncio.Task[None] | None = None
        self._batches: dict[asyncio.Task[Any], list[Asked]] = {}
        self._end = self._until_the_loop_ends()

    async def start(self) -> None:
        await anext(self._end)

    async def ask(self, commands: Sequence[Command], seconds: float) -> Reply:
        """The answers of the connection that was used; StoreUnavailable after so many seconds."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._expire, future, seconds)
        self._waiting.append(Asked(commands, future, timer))
        self._send_soon()
        return await future

    def _expire(self, future: asyncio.Future[Reply], seconds: float) -> None:
        """Give a request up, and its connection once nobody waits for it any more."""
        if not future.done():
            future.set_exception(too_slow(self._place, seconds, self._silence))
        for task, batch in self._batches.items():
            if all(asked.future.done() for asked in batch):
                task.cancel()

    def _send_soon(self) -> None:
        """Without a free connection, the next to be freed takes what waits."""
        starting = self._starting is not None and not self._starting.done()
        if self._waiting and not starting and len(self._batches) < MAX_CONNECTIONS:
            self._starting = self._loop.create_task(self._serve())

    async def _serve(self) -> None:
        task, self._starting = self._starting, None
        waiting = [asked for asked in self._waiting if not asked.future.done()]
        batch, self._waiting = waiting[:MAX_BATCH], waiting[MAX_BATCH:]
        if task is None or not batch:
            return
        self._batches[task] = batch
        self._send_soon()  # what is too much for one write
        link = self._idle.pop() if self._idle else self._link()
        try:
            await link.exchange(batch)
        except BaseException as error:
            await link.drop()
            self._fail(batch, error)
            # Cancelled: nobody waits any more, or the loop is ending. Neither is to be reported.
            if not isinstance(error, (*DOWN, asyncio.CancelledError)):
                raise
        else:
            self._idle.append(link)
        finally:
            del self._batches[task]
            for asked in batch:
                asked.timer.cancel()
            self._send_soon()

    def _fail(self, batch: Sequence[Asked], error: BaseException) -> None:
        for asked in batch:
            if not asked.future.done():
                asked.future.set_exception(unavailable(self._place, error))

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        """Suspended until the loop shuts its asynchronous generators down; then closes sockets."""
        try:
            yield
        finally:
            await self.close()

    async def close(self) -> None:
        self._forget(self._loop)
        for task in self._batches:
            task.cancel()
        while self._idle:
            await self._idle.pop().drop()

    async def abandon(self) -> None:
        """Close what a closed loop, whose generators nobody shut down, has left open."""
        while self._idle:
            await self._idle.pop().abandon()


class SyncClient:
    """What the threads of this process ask one server, without any event loop."""

    def __init__(self, place: str, silence: str, link: Callable[[], SyncLink]) -> None:
        self._place = place
        self._silence = silence
        self._new_link = link
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._idle: list[SyncLink] = []

    def ask(self, commands: Sequence[Command], seconds: float) -> Reply:
        """The answers of the connection that was used; StoreUnavailable after so many seconds."""
        deadline = time.monotonic() + seconds
        if not self._free.acquire(timeout=seconds):
            raise too_slow(self._place, seconds, self._silence)
        try:
            with self._link() as link:
                return link.exchange(commands, deadline)
        except (TimeoutError, redis.exceptions.TimeoutError):
            raise too_slow(self._place, seconds, self._silence) from None
        except DOWN as error:
            # Not chained: what the server said may repeat the credentials it was given.
            raise unavailable(self._place, error) from None
        finally:
            self._free.release()

    @contextmanager
    def _link(self) -> Iterator[SyncLink]:
        try:
            link = self._idle.pop()
        except IndexError:
            link = self._new_link()
        try:
            yield link
        except BaseException:
            link.drop()
            raise
        self._idle.append(link)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().drop()


class Server:
    """A database of a server. `options` are those of redis-py's connections, and `ssl`."""

    def __init__(self, options: Mapping[str, Any], name_key: str) -> None:
        self._options = {**options, "decode_responses": False}
        # Deadlines are kept by the clients: one for all that a request does.
        self._options.update(socket_timeout=None, socket_connect_timeout=None)
        self._name_key = name_key
        self._era = 0
        self.reset()
        self._sync_link()  # what redis-py's connections do not take is refused here, not at a read

    def reset(self) -> None:
        """Begin without connections."""
        self._lock = threading.Lock()
        self._clients: dict[asyncio.AbstractEventLoop, AsyncClient] = {}
        self.sync = SyncClient(self.place, self.silence, self._sync_link)

    def look_anew(self) -> None:
        """Let every connection be made again before it is used, and ask which life this is."""
        self._era += 1

    def leave(self) -> object:
        """What there is of connections, and begin anew."""
        left = (self._clients, self.sync)
        self.reset()
        return left

    @property
    def address(self) -> str:
        """Where the server is, without credentials."""
        options = self._options
        host = str(options.get("host")).rpartition("@")[2]  # somebody may have written a URL there
        place = options.get("path") or f"{host}:{options['port']}"
        return f"{place} (database {options.get('db', 0)})"

    @property
    def place(self) -> str:
        """The same as the subject of a sentence."""
        return f"Redis at {self.address}"

    @property
    def silence(self) -> str:
        """What it may mean if it never answers."""
        if not self._options.get("ssl"):
            return ""
        return " If it never does, its port may be one without TLS (redis:// in LOCATION)."

    async def ask(self, commands: Sequence[Command], seconds: float) -> Reply:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop) or await self._join(loop)
        return await client.ask(commands, seconds)

    async def _join(self, loop: asyncio.AbstractEventLoop) -> AsyncClient:
        """A client for `loop`; those of loops that are closed are cleared away."""
        with self._lock:
            closed = [other for other in self._clients if other.is_closed()]
            abandoned = [self._clients.pop(other) for other in closed]
            client = AsyncClient(loop, self.place, self.silence, self._async_link, self._forget)
            self._clients[loop] = client
        await client.start()
        for other in abandoned:
            await other.abandon()
        return client

    def _forget(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._clients.pop(loop, None)

    async def close(self) -> None:
        """Close the connections of the running loop."""
        client = self._clients.get(asyncio.get_running_loop())
        if client is not None:
            await client.close()

    def _async_link(self) -> AsyncLink:
        connection = _connection(redis.asyncio, self._options)
        return AsyncLink(connection, self._name_key, lambda: self._era)

    def _sync_link(self) -> SyncLink:
        return SyncLink(_connection(redis, self._options), self._name_key, lambda: self._era)


def _connection(library: Any, options: Mapping[str, Any]) -> Any:
    """A connection of redis or redis.asyncio, not connected yet."""
    arguments = {name: value for name, value in options.items() if name != "ssl"}
    if "path" in options:
        return library.UnixDomainSocketConnection(**arguments)
    return (library.SSLConnection if options.get("ssl") else library.Connection)(**arguments)


_servers: dict[Hashable, Server] = {}
_lock = threading.Lock()
_inherited: list[object] = []


def server_for(options: Mapping[str, Any], name_key: str) -> Server:
    """The one Server with these options: two aliases on one database share its connections."""
    key = tuple(sorted((name, repr(value)) for name, value in options.items()))
    with _lock:
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
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    _inherited.extend(each.leave() for each in _servers.values())
