"""Connecting within a deadline.

Neither a name service nor a handshake of several answers keeps to one: what may wait longer is done
in a daemon thread, which nobody waits for beyond it.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from ipaddress import ip_address


def in_time(connect: Callable[[], object], seconds: float, undo: Callable[[], object]) -> None:
    """Connect; TimeoutError after so many seconds. What is connected later is undone."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            connect()
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            with suppress(InvalidStateError):
                done.set_exception(error)
            return
        try:
            done.set_result(None)
        except InvalidStateError:
            undo()

    if not _started(run):
        connect()
        return
    try:
        done.result(seconds)
    finally:
        done.cancel()


async def resolved(host: str | None, port: int) -> None:
    """Wait until the name service knows `host`; what it raises.

    asyncio asks it in threads for which a loop waits when it ends, however long that takes.
    """
    if host is None or _is_address(host):
        return
    loop = asyncio.get_running_loop()
    found: asyncio.Future[None] = loop.create_future()

    def tell(error: Exception | None) -> None:
        if not found.done():
            found.set_result(None) if error is None else found.set_exception(error)

    def run() -> None:
        error = None
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, OverflowError) as raised:
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, error)

    if _started(run):
        await found


def _started(run: Callable[[], None]) -> bool:
    """False where there can be no thread, as at the end of a process: then there is no deadline."""
    try:
        threading.Thread(target=run, name="loom_cache-connect", daemon=True).start()
    except RuntimeError:
        return False
    return True


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
