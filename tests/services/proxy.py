"""A TCP proxy in front of a server, for the faults of a network.

Plain Python in a thread of its own. Every method returns when what it asks for is in force.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

Address: TypeAlias = tuple[str, int] | Path
"""Where the server listens: host and port, or the path of its Unix socket."""

HOST = "127.0.0.1"
CHUNK = 65536
CLOSES_BY_RST = struct.pack("ii", 1, 0)  # SO_LINGER, no seconds


class Proxy:
    """Started by `start`; listens on a free port of 127.0.0.1, the same as long as it lives."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._port = 0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._requests = _Direction()
        self._replies = _Direction()

    @property
    def port(self) -> int:
        return self._port

    @property
    def address(self) -> tuple[str, int]:
        return HOST, self._port

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._links)

    @property
    def held(self) -> int:
        """How many messages are held back."""
        return self._requests.held + self._replies.held

    def start(self) -> Self:
        """Listen. Starting twice is harmless."""
        if self._thread is None:
            started = threading.Event()
            self._thread = threading.Thread(
                target=lambda: asyncio.run(self._serve(started)), name="proxy", daemon=True
            )
            self._thread.start()
            started.wait()
            self.accept()
        return self

    def stop(self) -> None:
        """Cut what is connected and listen no more. Stopping twice is harmless."""
        if self._thread is not None:
            self._do(self._end.set)
            self._thread.join()
            self._thread = None

    def cut(self) -> None:
        """Reset every connection, on both of its sides."""
        self._do(self._cut)

    def refuse(self) -> None:
        """Refuse new connections; those that there are stay."""
        self._do(self._refuse)

    def accept(self) -> None:
        """Take new connections again."""
        asyncio.run_coroutine_threadsafe(self._accept(), self._running()).result()

    def hang(self, *, requests: bool = True, replies: bool = True) -> None:
        """Hold back what comes from now on, in the named directions. New clients are accepted."""
        self._do(lambda: self._hold(requests=requests, replies=replies))

    def flow(self) -> None:
        """Pass on what was held back, and all that comes."""
        self._do(lambda: self._hold(requests=False, replies=False))

    def delay(self, seconds: float) -> None:
        """Pass on what comes from now on so much later, in each direction."""
        self._requests.delay = self._replies.delay = seconds

    def point_at(self, target: Address) -> None:
        """Forward to another server from now on; what is connected is cut."""
        self._target = target
        self.cut()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._thread is None or self._loop is None:
            raise RuntimeError("This proxy is not running.")
        return self._loop

    def _do(self, act: Callable[[], None]) -> None:
        """Let the proxy's thread do it, and wait until it has."""

        async def carry_out() -> None:
            act()

        asyncio.run_coroutine_threadsafe(carry_out(), self._running()).result()

    async def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._hold(requests=False, replies=False)
        started.set()
        await self._end.wait()
        self._refuse()
        self._cut()
        await asyncio.gather(*(link.task for link in self._links), return_exceptions=True)

    async def _accept(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, HOST, self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _cut(self) -> None:
        for link in self._links:
            link.cut()

    def _hold(self, *, requests: bool, replies: bool) -> None:
        self._requests.hold(requests)
        self._replies.hold(replies)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        link = _Link(task, reader, writer)
        self._links.add(link)
        try:
            await link.forward(self._target, self._requests, self._replies)
        finally:
            self._links.discard(link)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class _Direction:
    """From clients to the server, or back: when what has come may go on."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.held = 0
        self._flows = asyncio.Event()

    def hold(self, held: bool) -> None:
        if held:
            self._flows.clear()
        else:
            self._flows.set()

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the reader has come to its end."""
        coming: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)
        receiving = asyncio.ensure_future(self._receive(reader, coming))
        try:
            await self._send(coming, writer)
        finally:
            receiving.cancel()

    async def _receive(
        self, reader: asyncio.StreamReader, coming: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        data = b"-"
        while data:
            try:
                data = await reader.read(CHUNK)
            except OSError:
                data = b""
            await coming.put((asyncio.get_running_loop().time() + self.delay, data))

    async def _send(
        self, coming: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        while True:
            due, data = await coming.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            self.held += 1
            try:
                await self._flows.wait()
            finally:
                self.held -= 1
            if not data:
                return
            writer.write(data)
            await writer.drain()


class _Link:
    """A client and its connection to the server."""

    def __init__(
        self,
        task: asyncio.Task[object],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._client = reader, writer
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.task = task

    async def forward(self, target: Address, requests: _Direction, replies: _Direction) -> None:
        """Until one of the two closes, or it is cut; then both are closed."""
        by_rst = True
        try:
            self._server = await _connect(target)
            ways = [
                asyncio.ensure_future(requests.pass_on(self._client[0], self._server[1])),
                asyncio.ensure_future(replies.pass_on(self._server[0], self._client[1])),
            ]
            try:
                done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
            by_rst = any(way.exception() is not None for way in done)
        except (OSError, asyncio.CancelledError):
            pass  # no server there, or cut
        finally:
            self._close(by_rst=by_rst)

    def cut(self) -> None:
        self.task.cancel()
        self._close(by_rst=True)

    def _close(self, *, by_rst: bool) -> None:
        for side in (self._client, self._server):
            if side is None:
                continue
            if by_rst:
                _reset(side[1])
            else:
                side[1].close()


def _reset(writer: asyncio.StreamWriter) -> None:
    own: socket.socket = writer.get_extra_info("socket")
    with suppress(OSError):  # closed already, or a Unix socket
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSES_BY_RST)
    writer.transport.abort()


async def _connect(target: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(target, Path):
        return await asyncio.open_unix_connection(target)
    return await asyncio.open_connection(*target)
