"""Who is writing to strict tables from this process, and for how long the store believes it.

A transaction opens each strict table before its first write there; until it goes out nobody reads
what was stored of the table before, nor stores anything of it. A lease (Gray and Cheriton, 1989)
bounds that, for a process that was killed goes out of nothing. It is renewed in the background for
as long as the transaction lives.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from contextvars import Context
from functools import partial
from weakref import WeakSet

from loom_cache import tags
from loom_cache.exceptions import StoreUnavailable
from loom_cache.generations import GenerationalDependencyResolver, Leaving

logger = logging.getLogger("loom_cache")

LEASE = 30.0
"""Seconds."""
RENEWAL = 10.0
"""Seconds between two renewals."""


class Writer:
    """One transaction, or one statement outside of any, that writes to strict tables."""

    def __init__(self, resolver: GenerationalDependencyResolver) -> None:
        self.name = _new_name()
        self.tables: frozenset[str] = frozenset()
        self._resolver = resolver
        self._process = os.getpid()
        self._renewed = _now()
        self._is_over = False
        self._lock = threading.Lock()

    def open(self, names: Iterable[str]) -> None:
        """Come in where it has not: one round trip. Never raises: where the store cannot be told,
        what is read is as new as the last acknowledged write."""
        new = frozenset(names) - self.tables
        if new:
            self.tables |= new  # it may have come in, whatever is answered
            self._ask(new)
            _renewal.follow(self)

    def stay(self) -> None:
        """Come in again if the lease might not outlast what is done next: this process may have
        been suspended."""
        ages = [now - then for now, then in zip(_now(), self._renewed, strict=True)]
        if max(ages) > LEASE / 2:
            self.renew()

    def renew(self) -> None:
        with self._lock:  # or it would come in again after it has gone out
            if not self._is_over:
                self._ask(self.tables)

    def leave(self) -> Leaving | None:
        """What the store is to be told now that the transaction is over; nothing in a forked child,
        which has inherited the connection, but not what its parent does over it."""
        if self._process != os.getpid():
            return None
        with self._lock:
            self._is_over = True
        return Leaving(self.name, self.tables)

    def abandon(self) -> None:
        """It cannot be told whether the transaction is over, nor will it be: stay for one lease
        more, in which the database should have come to an end with it."""
        self.renew()
        with self._lock:
            self._is_over = True

    @property
    def is_over(self) -> bool:
        return self._is_over

    def _ask(self, names: frozenset[str]) -> None:
        breaker = self._resolver.breaker
        if breaker.has_lost:
            return
        now = _now()
        try:
            self._resolver.open_sync(self.name, names, LEASE)
            self._renewed = now
        except StoreUnavailable as error:
            if breaker.closed:
                logger.warning(
                    "The cache store was not told of a write to strict tables (%s): until it "
                    "answers, reads of them are as new as the last acknowledged write.",
                    ", ".join(sorted(names)),
                )
            breaker.lose(map(tags.of_table, names), error)


def _now() -> tuple[float, float]:
    """By two clocks: one may stand still while the machine sleeps, the other be put back."""
    return time.monotonic(), time.time()


def _new_name() -> str:
    """Says which process it is, for people, and since when by that machine's clock."""
    return f"{socket.gethostname()}:{os.getpid()}~{secrets.token_hex(6)}~{time.time():.3f}"


def described(name: str) -> tuple[str, float]:
    """The process that a writer belongs to, `host:pid`, and when it began, in Unix seconds."""
    process, _, rest = name.partition("~")
    return process, float(rest.partition("~")[2] or 0)


class _Renewal:
    """A thread that renews the leases of this process; it ends when there have been none."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._writers: WeakSet[Writer] = WeakSet()
        self._thread: threading.Thread | None = None

    def follow(self, writer: Writer) -> None:
        with self._lock:
            self._writers.add(writer)
            if self._thread is None or not self._thread.is_alive():
                target = partial(Context().run, self._run)  # no deadline of whoever starts it
                thread = threading.Thread(target=target, name="loom_cache-leases", daemon=True)
                with suppress(RuntimeError):  # at the end of a process; then Writer.stay() renews
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(RENEWAL)
            if not self._renew_all():
                return

    def _renew_all(self) -> bool:
        """Whether there was anybody. (Nothing here outlives the call: a writer that the thread held
        while it pauses would be renewed for ever, although its connection is gone.)"""
        with self._lock:
            writers = [writer for writer in self._writers if not writer.is_over]
            self._writers = WeakSet(writers)
            if not writers:
                self._thread = None
                return False
        for writer in writers:
            writer.renew()
        return True


_renewal = _Renewal()
