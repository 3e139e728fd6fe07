"""Where readers and writers are born: a process that has everything loaded, and forks.

    python -m tests.torture.nursery

It ends when they have; or at once, with all of them, when its standard input is closed. A line
"kill N" kills writer N. Writers that were killed are replaced as long as the test runs.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from traceback import print_exc

import django
from django.core.management import call_command
from django.db import connection

from tests.torture import settings
from tests.torture.board import Board, Phase
from tests.torture.rows import PKS, group_of

TURN = 0.005  # seconds


class Nursery:
    def __init__(self, board: Board) -> None:
        self._board = board
        self._writers: dict[int, int] = {}
        """Numbers by process."""
        self._others: set[int] = set()
        self._orders = b""

    def run(self) -> None:
        from tests.torture.readers import compare_afresh, read
        from tests.torture.writers import write

        board = self._board
        for number in range(settings.TORTURE_READERS):
            self._others.add(_fork(lambda number=number: read(number, board)))  # type: ignore[misc]  # a default

        def born(number: int) -> None:
            self._writers[_fork(lambda: write(number, board))] = number
            board.alive = len(self._writers)

        for number in range(settings.TORTURE_WRITERS):
            born(number)
        self._others.add(_fork(lambda: compare_afresh(board)))
        while self._writers or self._others:
            self._obey()
            self._bury(born)

    def _obey(self) -> None:
        if not select.select([0], [], [], TURN)[0]:
            return
        said = os.read(0, 4096)
        if not said:
            for pid in (*self._writers, *self._others):
                os.kill(pid, signal.SIGKILL)
            sys.exit("The torture test has ended early.")
        *orders, self._orders = (self._orders + said).split(b"\n")
        for order in orders:
            number = int(order.removeprefix(b"kill "))
            for pid in [pid for pid, each in self._writers.items() if each == number]:
                os.kill(pid, signal.SIGKILL)  # it has not been waited for: it is still ours

    def _bury(self, born: Callable[[int], None]) -> None:
        while self._writers or self._others:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            number = self._writers.pop(pid, None)
            self._others.discard(pid)
            killed = number is not None and os.WIFSIGNALED(status)
            if killed:
                self._board.killed += 1
            elif status:
                self._board.failed += 1
            if number is not None and self._board.phase is Phase.RUN and killed:
                born(number)
            self._board.alive = len(self._writers)


def _fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001  the child has nobody above it
        print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def prepare() -> None:
    """Empty tables with all rows."""
    call_command("migrate", run_syncdb=True, verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE torture_row")
        for pk in PKS:
            cursor.execute("INSERT INTO torture_row VALUES (%s, %s, 0)", [pk, group_of(pk)])
    connection.close()


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.torture.settings"
    django.setup()
    pid = _fork(prepare)
    if os.waitpid(pid, 0)[1]:
        sys.exit("The database could not be prepared.")
    Nursery(Board(Path(settings.TORTURE_DIRECTORY, "board"))).run()


if __name__ == "__main__":
    main()
