"""Whether the store may be asked, and what becomes of bumps that it did not acknowledge.

A circuit breaker (Nygard, Release It!): three failures in a row, or one lost bump, open it. While
it is open reads go to the database at once and bumps are queued; a background thread probes the
store, soon and then once a second, and closes the breaker when the queue has landed.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from functools import partial
from itertools import chain, repeat
from time import monotonic

from loom_cache.exceptions import StoreUnavailable

logger = logging.getLogger("loom_cache")

FAILURES_TO_OPEN = 3
PROBES = (0.05, 0.15, 0.4, 1.0)
"""Seconds before each probe; the last is repeated. The first come soon, for what was lost may be
one connection, and others are stale until the queue has landed."""
REFUSALS_END_AFTER = 10.0
"""Seconds without one, when something has been kept. A full store may take every second entry."""
MOST_QUEUED = 10_000
"""Tags; beyond it rows are given up for their whole tables, which are few."""


class Breaker:
    """The state of one store as this process sees it.

    `land(tags)` bumps them, and `answer()` asks whether reads would be answered; both raise
    StoreUnavailable otherwise.
    """

    def __init__(
        self, land: Callable[[list[str]], object], answer: Callable[[], object] = lambda: None
    ) -> None:
        self._land = land
        self._answer = answer
        self._reset()
        os.register_at_fork(after_in_child=self._reset)
        atexit.register(self._at_exit)

    def _reset(self) -> None:
        # A forked child starts anew: its parent keeps the queue and lands it.
        self.closed = True
        self._failures = 0
        self._refused_at: float | None = None
        self._lost: dict[str, object] = {}
        """Tags, each with a token of its latest loss."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def has_lost(self) -> bool:
        """Whether bumps wait in the queue."""
        return bool(self._lost)

    @property
    def queued(self) -> int:
        """How many bumps wait."""
        return len(self._lost)

    def succeeded(self) -> None:
        """Note an answer of the store."""
        self._failures = 0

    def failed(self, error: StoreUnavailable) -> None:
        """Note that a request was not answered."""
        self._failures += 1
        if self._failures >= FAILURES_TO_OPEN:
            self._open(error)

    def refused(self, error: StoreUnavailable) -> None:
        """Note that the store answered, and would not keep something. What it holds may be read."""
        known, self._refused_at = self._refused_at is not None, monotonic()
        if not known:
            logger.warning("%s Until then, what it has is read and nothing is added.", error)

    def kept(self) -> None:
        """Note that the store has kept something."""
        since = self._refused_at
        if since is not None and monotonic() - since > REFUSALS_END_AFTER:
            self._refused_at = None
            logger.warning("The cache store takes new entries again.")

    def lose(self, tags: Iterable[str], error: StoreUnavailable | None = None) -> None:
        """Queue bumps that were not acknowledged; they are retried until they land."""
        with self._lock:
            self._lost.update(dict.fromkeys(tags, object()))
            if len(self._lost) > MOST_QUEUED:
                whole = (tag.partition("}")[0] + "}" for tag in self._lost)
                self._lost = dict.fromkeys(whole, object())
        self._open(error)

    def stop(self) -> None:
        """End the probing: another store has taken this one's place."""
        self._stop.set()
        atexit.unregister(self._at_exit)

    def _open(self, error: StoreUnavailable | None) -> None:
        with self._lock:
            was_closed, self.closed = self.closed, False
            if self._thread is None or not self._thread.is_alive():
                self._start_probing()
        if was_closed:
            logger.warning(
                "%s Until it is back, reads go to the database and invalidations are queued.",
                error or "An invalidation of the cache was interrupted.",
            )

    def _start_probing(self) -> None:
        # In a context of its own: threads may inherit that of the read or write (Python 3.14 has an
        # option, which is on without a GIL), and with it the deadline that has just run out.
        target = partial(Context().run, self._probe)
        thread = threading.Thread(target=target, name="loom_cache-probe", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # at the end of a process: nobody would find out that it is back
            self.closed = not self._lost
        else:
            self._thread = thread

    def _probe(self) -> None:
        since = monotonic()
        soon = PROBES if self._lost else ()  # for reads alone there is no hurry
        for pause in chain(soon, repeat(PROBES[-1])):
            if self._stop.wait(pause):
                return
            if self._try_to_close():
                logger.warning(
                    "The cache store answers again after %.1f s; queued invalidations have landed.",
                    monotonic() - since,
                )
                return

    def _try_to_close(self) -> bool:
        with self._lock:
            lost = dict(self._lost)
        try:
            self._land(list(lost))
            self._landed(lost)
            self._answer()
        except StoreUnavailable:
            return False
        except Exception:  # nobody waits for this thread, and without it the cache stays off
            logger.exception("Asking the cache store whether it is back has failed unexpectedly.")
            return False
        with self._lock:
            self.closed = not self._lost
            self._failures = 0
            if self.closed:
                self._thread = None
            return self.closed

    def _landed(self, tags: Mapping[str, object]) -> None:
        with self._lock:
            for tag, token in tags.items():
                if self._lost.get(tag) is token:  # or it was lost once more meanwhile
                    del self._lost[tag]

    def _at_exit(self) -> None:
        self._stop.set()
        if not self._lost:
            return
        try:
            self._land(list(self._lost))
        except StoreUnavailable:
            logger.warning(
                "%d invalidations could not be delivered before this process ended: other "
                "processes may be stale until the entries' TTL.",
                len(self._lost),
            )
