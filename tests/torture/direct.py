"""The database, asked past Django and whatever sits on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import psycopg


class Direct:
    """A connection of its own, for one thread."""

    def __init__(self) -> None:
        self._connection = psycopg.connect(autocommit=True)  # found by libpq's variables

    def versions(self, pks: Sequence[int]) -> dict[int, int]:
        asked = "SELECT id, version FROM torture_row WHERE id = ANY(%s)"
        return dict(self._connection.execute(asked, [list(pks)]).fetchall())

    def others(self, application: str) -> int:
        """How many connections of that name there are besides this one."""
        asked = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s "
            "AND pid <> pg_backend_pid()"
        )
        (found,) = self._connection.execute(asked, [application]).fetchall()
        return int(found[0])

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
