"""What all processes see at once: which writes have been acknowledged, and what is to be done.

Aligned words of eight bytes in a file that all of them map: each is written and read in one
instruction, and each is written by one process alone.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from time import monotonic_ns

from tests.torture.rows import PKS, ROWS

MOST = 16
"""Readers, and writers."""
VERSIONS = 1 << 16
"""Of each row, whose acknowledgement is remembered."""
WORD = 8


class Phase(IntEnum):
    """What everybody is about."""

    RUN = 0
    REST = 1
    """No more faults; writers end as soon as their invalidations have been delivered."""
    CHECK = 2
    """Readers, and a process made for it, compare what is cached with the database."""
    CHECK_AGAIN = 3


PHASE, PAUSED, ALIVE, KILLED, FAILED = range(5)
IDLE, WRITES, ERRORS = range(3)
_PER_WRITER = 8
_WRITERS = 8
_CHECKED = _WRITERS + MOST * _PER_WRITER
_HITS = _CHECKED + MOST + 1
_ACKNOWLEDGED = _HITS + MOST
_DELIVERED = _ACKNOWLEDGED + MOST * (ROWS + 1)
_TIMES = _DELIVERED + MOST * (ROWS + 1)
_SIZE = _TIMES + (ROWS + 1) * VERSIONS


class Board:
    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._words = memoryview(mmap.mmap(file.fileno(), _SIZE * WORD)).cast("q")

    @staticmethod
    def make(path: Path) -> Board:
        with path.open("wb") as file:
            file.truncate(_SIZE * WORD)
        return Board(path)

    # What the test wants, and how its processes are. ------------------------------------------

    @property
    def phase(self) -> Phase:
        return Phase(self._words[PHASE])

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._words[PHASE] = phase

    @property
    def paused(self) -> bool:
        """Whether writers are to rest."""
        return bool(self._words[PAUSED])

    @paused.setter
    def paused(self, paused: bool) -> None:
        self._words[PAUSED] = paused

    @property
    def alive(self) -> int:
        """How many writers there are."""
        return self._words[ALIVE]

    @alive.setter
    def alive(self, number: int) -> None:
        self._words[ALIVE] = number

    @property
    def killed(self) -> int:
        """How many writers were killed."""
        return self._words[KILLED]

    @killed.setter
    def killed(self, number: int) -> None:
        self._words[KILLED] = number

    @property
    def failed(self) -> int:
        """How many processes have ended otherwise than they should."""
        return self._words[FAILED]

    @failed.setter
    def failed(self, number: int) -> None:
        self._words[FAILED] = number

    def checked(self, process: int) -> int:
        """The last phase in which the process has compared what is cached with the database."""
        return self._words[_CHECKED + process]

    def note_checked(self, process: int, phase: Phase) -> None:
        self._words[_CHECKED + process] = phase

    # Writers. ---------------------------------------------------------------------------------

    def is_idle(self, writer: int) -> bool:
        return bool(self._words[_WRITERS + writer * _PER_WRITER + IDLE])

    def note_idle(self, writer: int, *, idle: bool) -> None:
        self._words[_WRITERS + writer * _PER_WRITER + IDLE] = idle

    def count(self, writer: int, what: int) -> None:
        self._words[_WRITERS + writer * _PER_WRITER + what] += 1

    def total(self, what: int) -> int:
        return sum(self._words[_WRITERS + writer * _PER_WRITER + what] for writer in range(MOST))

    def acknowledge(self, writer: int, pk: int, version: int) -> None:
        """The code that wrote `version` has been told that it is written."""
        self._words[_TIMES + pk * VERSIONS + version % VERSIONS] = monotonic_ns()
        self._words[_ACKNOWLEDGED + writer * (ROWS + 1) + pk] = version

    def deliver(self, writer: int) -> None:
        """The invalidations of all that the writer was told is written have been delivered."""
        for pk in PKS:
            at = writer * (ROWS + 1) + pk
            self._words[_DELIVERED + at] = self._words[_ACKNOWLEDGED + at]

    # Readers. ---------------------------------------------------------------------------------

    def note_hits(self, reader: int, number: int) -> None:
        self._words[_HITS + reader] = number

    @property
    def hits(self) -> int:
        """How many reads have been answered from the cache."""
        return sum(self._words[_HITS : _HITS + MOST])

    def acknowledged(self, pks: Sequence[int]) -> list[int]:
        """The latest version of each row that somebody was told is written."""
        return [self._latest(_ACKNOWLEDGED, pk) for pk in pks]

    def delivered(self, pks: Sequence[int]) -> list[int]:
        """Likewise, without the writes whose invalidations wait for the store."""
        return [self._latest(_DELIVERED, pk) for pk in pks]

    def _latest(self, start: int, pk: int) -> int:
        return max(self._words[start + writer * (ROWS + 1) + pk] for writer in range(MOST))

    def first_told(self, pk: int, after: int, until: int) -> int:
        """When the first of these versions was acknowledged, in nanoseconds; 0: not known."""
        times = (
            self._words[_TIMES + pk * VERSIONS + version % VERSIONS]
            for version in range(max(after + 1, until - VERSIONS + 1), until + 1)
        )
        return min((time for time in times if time), default=0)
