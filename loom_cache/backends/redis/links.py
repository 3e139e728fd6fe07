"""Connections: redis-py's, each knowing which life of the server is behind it."""

from __future__ import annotations

import asyncio
import time
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import ResponseError

from loom_cache.backends.failures import DOWN
from loom_cache.backends.redis import connecting
from loom_cache.backends.redis.operations import (
    WHO,
    Command,
    Reply,
    left_name,
    life,
    pack,
    who_else,
)

NAME_HOLDS = 60.0
"""Seconds."""
_WHO = pack(WHO)


class Asked:
    """A request on its way in an event loop."""

    __slots__ = ("count", "data", "future", "timer")

    def __init__(
        self,
        commands: Sequence[Command],
        future: asyncio.Future[Reply],
        timer: asyncio.TimerHandle,
    ) -> None:
        self.data = pack(commands)
        self.count = len(commands)
        self.future = future
        self.timer = timer


class _Named:
    """Knows which life of the server is behind it. It asks again now and then, in the same write as
    what is asked anyway: a server may get another history while a connection lasts."""

    _incarnation = ""
    _named_at = 0.0

    def _note_life(self, answers: Sequence[Any]) -> bool:
        """Whether the server says which life it is."""
        self._named_at = time.monotonic()
        name = life(answers)
        if name is not None:
            self._incarnation = name
        return name is not None


class AsyncLink(_Named):
    """One connection of one event loop."""

    def __init__(self, connection: Any, name_key: str, era: Callable[[], int]) -> None:
        self._connection = connection
        self._era_now = era
        self._era = 0
        # redis-py before version 8 has the same under another name.
        self._has_data = getattr(connection, "can_read", None) or connection.can_read_destructive
        self._name_key = name_key

    async def exchange(self, batch: Sequence[Asked]) -> None:
        """Send every request of the batch in one write, and give each its answer."""
        if not await self._is_ready():
            await self._connect()
        again = time.monotonic() - self._named_at > NAME_HOLDS
        await self._send(b"".join([_WHO if again else b"", *[asked.data for asked in batch]]))
        if again:
            self._note_life([await self._read() for _ in WHO])
        for asked in batch:
            values = [await self._read() for _ in range(asked.count)]
            if not asked.future.done():
                asked.future.set_result(Reply(self._incarnation, values))

    async def drop(self) -> None:
        """Close the socket without waiting for the other side."""
        writer = getattr(self._connection, "_writer", None)
        if writer is not None:
            writer.transport.abort()  # TLS would say goodbye, and wait until that is returned
        with suppress(*DOWN):
            await self._connection.disconnect(nowait=True)

    async def abandon(self) -> None:
        """Close the socket of a closed loop, which neither redis-py nor asyncio can do any more."""
        writer = getattr(self._connection, "_writer", None)
        place = writer and writer.get_extra_info("socket")
        with suppress(RuntimeError):  # "Event loop is closed"
            await self.drop()
        if isinstance(place, TransportSocket):
            place._sock.close()  # type: ignore[attr-defined]  # asyncio gives out no more of it

    async def _is_ready(self) -> bool:
        """Whether there is a connection, still open and in step."""
        if self._era != self._era_now():
            return False
        try:
            return self._connection.is_connected and not await self._has_data()
        except DOWN:
            return False

    async def _connect(self) -> None:
        await self.drop()
        self._era = self._era_now()
        connection = self._connection
        if (tls := getattr(connection, "ssl_context", None)) is not None:
            # It reads the system's authorities, which takes long enough to hold up a loop; and then
            # asyncio leaves a connection open that is given up as soon as it has been made.
            await asyncio.get_running_loop().run_in_executor(None, tls.get)
        await connecting.resolved(getattr(connection, "host", None), getattr(connection, "port", 0))
        await connection.connect()
        if not self._note_life(await self._ask(WHO)):
            self._incarnation = left_name(await self._ask(who_else(self._name_key)))

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        await self._send(pack(commands))
        return [await self._read() for _ in commands]

    async def _send(self, data: bytes) -> None:
        await self._connection.send_packed_command(data, check_health=False)

    async def _read(self) -> Any:
        try:
            return await self._connection.read_response()
        except ResponseError as error:
            return error


class SyncLink(_Named):
    """One connection, used by one thread at a time."""

    def __init__(self, connection: Any, name_key: str, era: Callable[[], int]) -> None:
        self._connection = connection
        self._era_now = era
        self._era = 0
        self._is_connected = False
        self._name_key = name_key

    def exchange(self, commands: Sequence[Command], deadline: float) -> Reply:
        """The answers to `commands`. `deadline` is in terms of the monotonic clock."""
        if not self._is_ready():
            self._connect(deadline)
        if time.monotonic() - self._named_at <= NAME_HOLDS:
            return Reply(self._incarnation, self._ask(commands, deadline))
        answers = self._ask([*WHO, *commands], deadline)
        self._note_life(answers[: len(WHO)])
        return Reply(self._incarnation, answers[len(WHO) :])

    def drop(self) -> None:
        self._is_connected = False
        with suppress(*DOWN):
            self._connection.disconnect()

    def _is_ready(self) -> bool:
        """Whether there is a connection, still open and in step."""
        if self._era != self._era_now():
            return False
        try:
            return self._is_connected and not self._connection.can_read(timeout=0)
        except DOWN:
            return False

    def _connect(self, deadline: float) -> None:
        self.drop()
        self._era = self._era_now()
        connection = self._connection
        connection.socket_timeout = connection.socket_connect_timeout = left(deadline)
        connecting.in_time(connection.connect, left(deadline), undo=self.drop)
        self._is_connected = True
        if not self._note_life(self._ask(WHO, deadline)):
            self._incarnation = left_name(self._ask(who_else(self._name_key), deadline))

    def _ask(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        self._limit(deadline)
        self._connection.send_packed_command([pack(commands)], check_health=False)
        return [self._read(deadline) for _ in commands]

    def _read(self, deadline: float) -> Any:
        if not self._connection.can_read(timeout=left(deadline)):
            raise TimeoutError
        self._limit(deadline)  # an answer may have begun, and stop in the middle
        try:
            return self._connection.read_response()
        except ResponseError as error:
            return error

    def _limit(self, deadline: float) -> None:
        """What the socket may wait for: redis-py sets it when it connects, and not again."""
        place = self._connection._sock
        if place is not None:
            place.settimeout(left(deadline))


def left(deadline: float) -> float:
    """Seconds until then; never 0, which to a socket means "do not wait at all"."""
    return max(0.001, deadline - time.monotonic())
