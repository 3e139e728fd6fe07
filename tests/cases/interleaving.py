"""Orders of events made by hand: a second thread with connections of its own, and places where it
stops until the test lets it go on. Nothing here waits for a time to pass."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Self, TypeVar
from unittest.mock import patch

import pytest
from django.db import OperationalError, connections, models, transaction

from loom_cache import GenerationalDependencyResolver

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds after which a test that would hang forever fails."""


class Gate:
    """A place where a thread stops. Leaving the block opens it."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._opened = threading.Event()

    def stop_here(self) -> None:
        self._reached.set()
        if not self._opened.wait(PATIENCE):
            raise TimeoutError("Nobody opened the gate.")

    def wait_until_reached(self) -> None:
        if not self._reached.wait(PATIENCE):
            raise TimeoutError("Nobody came to the gate.")

    @property
    def reached(self) -> bool:
        return self._reached.is_set()

    def open(self) -> None:
        self._opened.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.open()


class Elsewhere:
    """Another thread, with database connections of its own."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._ident: int = self._executor.submit(threading.get_ident).result(PATIENCE)

    def do(self, work: Callable[[], T]) -> T:
        """Run `work` there and wait for what it returns or raises."""
        return self.begin(work).result(PATIENCE)

    def begin(self, work: Callable[[], T]) -> Future[T]:
        return self._executor.submit(work)

    def is_here(self) -> bool:
        """Whether the code that asks runs there."""
        return threading.get_ident() == self._ident

    def close(self) -> None:
        self.do(connections.close_all)
        self._executor.shutdown()


@pytest.fixture
def elsewhere(transactional_db: None) -> Iterator[Elsewhere]:
    other = Elsewhere()
    yield other
    other.close()


@pytest.fixture
def yonder(transactional_db: None) -> Iterator[Elsewhere]:
    """A third thread."""
    other = Elsewhere()
    yield other
    other.close()


@contextmanager
def committed_but_not_bumped(elsewhere: Elsewhere, write: Callable[[], object]) -> Iterator[None]:
    """During the block `write` has been committed by another thread, whose bump has not gone out
    (SQLite commits what a statement of its own returns only when it is fetched: hence atomic).

    Afterwards the bump has landed and the write is acknowledged.
    """
    publish = GenerationalDependencyResolver.publish_sync

    def publish_later(resolver: GenerationalDependencyResolver, *tags: Any) -> Any:
        if elsewhere.is_here():
            gate.stop_here()
        return publish(resolver, *tags)

    with (
        Gate() as gate,
        patch.object(GenerationalDependencyResolver, "publish_sync", publish_later),
    ):
        done = elsewhere.begin(transaction.atomic(lambda: write()))
        gate.wait_until_reached()
        yield
        gate.open()
        done.result(PATIENCE)


@contextmanager
def stopped_after(verb: str, gate: Gate, *, alias: str = "default") -> Iterator[None]:
    """The first statement of this thread that begins with `verb` stops at the gate once the
    database has answered it."""

    def wrapper(execute: Callable[..., Any], sql: Any, *rest: Any) -> Any:
        result = execute(sql, *rest)
        if str(sql).startswith(verb) and not gate.reached:
            gate.stop_here()
        return result

    with connections[alias].execute_wrapper(wrapper):
        yield


@contextmanager
def stopped_before(verb: str, gate: Gate, *, alias: str = "default") -> Iterator[None]:
    """The same, before the database is asked."""

    def wrapper(execute: Callable[..., Any], sql: Any, *rest: Any) -> Any:
        if str(sql).startswith(verb) and not gate.reached:
            gate.stop_here()
        return execute(sql, *rest)

    with connections[alias].execute_wrapper(wrapper):
        yield


@contextmanager
def write_that_lost_its_connection(
    elsewhere: Elsewhere, yonder: Elsewhere, write: Callable[[], object], row: models.Model
) -> Iterator[None]:
    """During the block what one thread wrote has raised, since its connection broke while it waited
    for the row, which the other has locked. The server (PostgreSQL) does not know that, and has
    done it afterwards."""

    @transaction.atomic
    def lock() -> None:
        list(type(row)._default_manager.select_for_update().filter(pk=row.pk))
        gate.stop_here()

    with Gate() as gate:
        locking = yonder.begin(lock)
        gate.wait_until_reached()
        place, pid = elsewhere.do(_socket_and_process)
        writing = elsewhere.begin(write)
        _wait_for(lambda: _waits_for_a_lock(pid))
        with place:
            place.shutdown(socket.SHUT_RDWR)
        with pytest.raises(OperationalError):
            writing.result(PATIENCE)
        yield
    locking.result(PATIENCE)
    _wait_for(lambda: _is_gone(pid))


def _socket_and_process() -> tuple[socket.socket, int]:
    connections["default"].ensure_connection()
    server = connections["default"].connection.pgconn
    return socket.socket(fileno=os.dup(server.socket)), server.backend_pid


def _waits_for_a_lock(pid: int) -> bool:
    return _found("wait_event_type = 'Lock' AND pid = %s", pid)


def _is_gone(pid: int) -> bool:
    """The server ends a process that cannot tell what it has done."""
    return not _found("pid = %s", pid)


def _found(condition: str, *params: int) -> bool:
    with connections["default"].cursor() as cursor:
        cursor.execute(f"SELECT pid FROM pg_stat_activity WHERE {condition}", params)
        return cursor.fetchone() is not None


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("It did not come to that.")
