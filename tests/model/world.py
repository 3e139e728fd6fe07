"""Where a machine runs: the sessions, the store, the tables, and what is counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import connection, connections, transaction
from django.db.models import AutoField
from django.test import override_settings

from loom_cache import metrics
from tests.cases.interleaving import Elsewhere
from tests.model.app.models import MODELS, Post, Writer
from tests.model.sessions import Session

TWIN = "twin"
"""A second alias of the default database."""

TABLES = [model._meta.db_table for model in (*MODELS, Post.topics.through)]
NUMBERED = [
    model._meta.db_table
    for model in (*MODELS, Post.topics.through)
    if isinstance(model._meta.pk, AutoField)
]
"""Those whose keys the database gives."""
FIRST_KEY_GIVEN = 101
"""By the database, to rows whose key is not written."""

_numbers = count()


@dataclass
class Tally:
    """What happened, of all runs together."""

    runs: int = 0
    steps: int = 0
    checks: int = 0
    """Answers compared with the database's."""
    reads: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Of the cache: terminal and outcome."""
    writes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Template and "accepted" or "refused"."""

    def note(self, event: metrics.Event) -> None:
        if isinstance(event, metrics.Read):
            self.reads[event.operation, event.outcome] += 1

    def outcomes(self, outcome: metrics.Outcome) -> int:
        return sum(number for (_, found), number in self.reads.items() if found == outcome)

    def never_hit(self) -> list[str]:
        """Terminals that were asked, and never answered by the cache."""
        asked = {terminal for terminal, _ in self.reads}
        return sorted(one for one in asked if not self.reads[one, "hit"])

    def never_accepted(self) -> list[str]:
        """Templates of writes that were tried, and that the database refused each time."""
        tried = {template for template, _ in self.writes}
        return sorted(one for one in tried if not self.writes[one, "accepted"])

    def __str__(self) -> str:
        return (
            f"runs={self.runs} steps={self.steps} checks={self.checks} "
            f"reads={self.reads.total()} hits={self.outcomes('hit')} "
            f"misses={self.outcomes('miss')} bypasses={self.outcomes('bypass')} "
            f"writes={self.writes.total()}"
        )


class World:
    """Three sessions that write and one that only reads; all see one database and one store."""

    def __init__(self, there: Elsewhere, reader: Elsewhere, location: str) -> None:
        self.here = Session("here", thread=None)
        self.there = Session("there", thread=there)
        self.twin = Session("twin", alias=TWIN, thread=None)
        self.reader = Session("reader", thread=reader)
        self.writers = [self.here, self.there, self.twin]
        self.tally = Tally()
        self.vendor = connection.vendor
        self._location = location
        self._settings: Any = None
        for session in (*self.writers, self.reader):
            session.do(partial(_wait_for_no_lock, session.alias))

    def begin(self) -> None:
        """An empty database and an empty store; nothing learnt from earlier runs."""
        self.tally.runs += 1
        self._settings = override_settings(
            LOOM_CACHE={
                "LOCATION": self._location,
                "NAMESPACE": f"model{next(_numbers)}",
                "MISSING_TTL": 300,
                "TIMEOUT": 10,
                "WRITE_TIMEOUT": 10,
                "STRICT": os.environ.get("LOOM_MODEL_STRICT") == "1",
            }
        )
        self._settings.enable()
        _empty_tables()
        ContentType.objects.clear_cache()
        ContentType.objects.get_for_models(Post, Writer)

    def end(self) -> None:
        with ExitStack() as everything:
            everything.callback(self._settings.disable)
            for session in self.writers:
                everything.callback(session.close)

    def session(self, name: str) -> Session:
        return next(one for one in self.writers if one.name == name)

    def here_is_free(self) -> bool:
        """Whether this thread is in no transaction."""
        return not (self.here.depth or self.twin.depth)

    def rows(self) -> list[Any]:
        """Everything that is committed."""
        return self.reader.do(_every_row)


@contextmanager
def twin_alias() -> Iterator[None]:
    """The default database by another name."""
    same = {**connection.settings_dict, "TEST": {"MIRROR": "default"}}
    connections.settings[TWIN] = same
    yield
    connections[TWIN].close()
    del connections[TWIN], connections.settings[TWIN]


def _wait_for_no_lock(alias: str) -> None:
    """Whoever would wait for another session would wait for ever: that one does not run."""
    one = connections[alias]
    one.ensure_connection()
    if one.vendor == "postgresql":
        one.connection.execute("SET lock_timeout = '20ms'")


def _empty_tables() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        for table in reversed(TABLES):
            cursor.execute(f"DELETE FROM {table}")
        for table in NUMBERED:
            _number_from(cursor, table, FIRST_KEY_GIVEN)


def _number_from(cursor: Any, table: str, first: int) -> None:
    if connection.vendor == "postgresql":
        sequence = "pg_get_serial_sequence(%s, 'id')"
        cursor.execute(f"SELECT setval({sequence}, %s, false)", [table, first])
    else:
        cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
        cursor.execute("INSERT INTO sqlite_sequence VALUES (%s, %s)", [table, first - 1])


def _every_row() -> list[Any]:
    with connection.cursor() as cursor:
        found = []
        for table in TABLES:
            cursor.execute(f"SELECT * FROM {table} ORDER BY 1, 2")
            found.append(cursor.fetchall())
        return found
