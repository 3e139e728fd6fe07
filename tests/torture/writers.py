"""A process that writes. It may be killed at any moment, and another takes its number.

Each write knows which version it has made, and puts it on the board once it has been told so.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from time import sleep

from django.db import connection, transaction

from tests.torture import last_moment, settings
from tests.torture.board import ERRORS, WRITES, Board, Phase
from tests.torture.direct import Direct
from tests.torture.libraries import LIBRARIES, Library
from tests.torture.readers import wait_until
from tests.torture.rows import PKS, group_of

Written = dict[int, int]
"""Versions by primary key: at least these have been written."""


class Writer:
    def __init__(self, number: int, library: Library, board: Board) -> None:
        self._number = number
        self._library = library
        self._board = board
        self._random = random.Random()
        shared = len(PKS) - settings.TORTURE_WRITERS
        self._shared = PKS[:shared]
        self._own = PKS[shared + number]
        """Nobody else writes it: so that it can be saved without a lock."""

    def run(self) -> None:
        self._library.connect()
        while self._board.phase is Phase.RUN:
            if self._board.paused:
                self._rest()
            else:
                self._write()
                sleep(self._random.uniform(0, self._library.pause))
        wait_until(self._library.has_delivered)
        self._board.deliver(self._number)
        connection.close()

    def _rest(self) -> None:
        while self._board.paused and self._board.phase is Phase.RUN:
            if self._library.has_delivered():
                self._board.deliver(self._number)
                self._board.note_idle(self._number, idle=True)
            sleep(0.001)
        self._board.note_idle(self._number, idle=False)

    def _write(self) -> None:
        write = self._random.choice(WAYS)
        try:
            written = write(self, self._random)
        except Exception as error:  # noqa: BLE001  whatever it is, it is counted
            self._board.count(self._number, ERRORS)
            with Path(settings.TORTURE_DIRECTORY, "write-errors").open("a") as file:
                file.write(
                    f"{write.__name__}: {type(error).__name__} {error}".split("\n")[0] + "\n"
                )
            return
        for pk, version in written.items():
            self._board.acknowledge(self._number, pk, version)
        if self._library.has_delivered():
            self._board.deliver(self._number)
        self._board.count(self._number, WRITES)

    # Ways to write. ---------------------------------------------------------------------------

    def save_own(self, chosen: random.Random) -> Written:
        """Outside a transaction."""
        from tests.torture.models import Row

        version = _version(self._own) + 1
        Row(pk=self._own, group=group_of(self._own), version=version).save()
        return {self._own: version}

    def save_locked(self, chosen: random.Random) -> Written:
        with transaction.atomic():
            (row,) = self._library.locked([chosen.choice(self._shared)])
            row.version += 1
            row.save()
        return {row.pk: row.version}

    def update_if_unchanged(self, chosen: random.Random) -> Written:
        """Outside a transaction."""
        pk = chosen.choice(self._shared)
        version = _version(pk)
        changed = self._library.update([pk], version=version)
        return {pk: version + 1} if changed else {}

    def update(self, chosen: random.Random) -> Written:
        """Outside a transaction; somebody else may have written meanwhile."""
        pk = chosen.choice(self._shared)
        version = _version(pk)
        self._library.update([pk])
        return {pk: version + 1}

    def update_in_transaction(self, chosen: random.Random) -> Written:
        pk = chosen.choice(self._shared)
        with transaction.atomic():
            self._library.update([pk])
            version = _version(pk)
        return {pk: version}

    def save_several(self, chosen: random.Random) -> Written:
        with transaction.atomic():
            rows = self._library.locked(self._several(chosen))
            for row in rows:
                row.version += 1
                row.save(update_fields=["version"])
        return {row.pk: row.version for row in rows}

    def update_several(self, chosen: random.Random) -> Written:
        pks = self._several(chosen)
        with transaction.atomic():
            rows = self._library.locked(pks)
            self._library.update(pks)
        return {row.pk: row.version + 1 for row in rows}

    def roll_back(self, chosen: random.Random) -> Written:
        with transaction.atomic():
            for row in self._library.locked(self._several(chosen)):
                row.version += 1000
                row.save()
            transaction.set_rollback(True)
        return {}

    def roll_back_a_part(self, chosen: random.Random) -> Written:
        kept, given_up = self._several(chosen)[:2]
        with transaction.atomic():
            rows = {row.pk: row for row in self._library.locked([kept, given_up])}
            self._library.update([kept])
            sid = transaction.savepoint()
            rows[given_up].version += 1000
            rows[given_up].save()
            transaction.savepoint_rollback(sid)
        return {kept: rows[kept].version + 1}

    def _several(self, chosen: random.Random) -> Sequence[int]:
        return sorted(chosen.sample(self._shared, chosen.randint(2, 4)))


WAYS: list[Callable[[Writer, random.Random], Written]] = [
    Writer.save_own,
    Writer.save_locked,
    Writer.update_if_unchanged,
    Writer.update,
    Writer.update_in_transaction,
    Writer.save_several,
    Writer.update_several,
    Writer.roll_back,
    Writer.roll_back_a_part,
]


def _version(pk: int) -> int:
    """As the database has it, in the transaction that is open."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT version FROM torture_row WHERE id = %s", [pk])
        (version,) = cursor.fetchone()
    return int(version)


def write(number: int, board: Board) -> None:
    """The database may still be at the last statement of the writer that was killed."""
    name = f"writer {number}"
    with Direct() as direct:
        wait_until(lambda: not direct.others(name))
    os.environ["PGAPPNAME"] = name
    last_moment.kill_there(settings.TORTURE_KILL_AT_COMMIT)
    Writer(number, LIBRARIES[settings.TORTURE_LIBRARY], board).run()
