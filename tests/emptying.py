"""How tables are emptied after a test that commits: those that have rows, and no others.

Django's own way truncates every table and makes content types and permissions anew, for each test.
On PostgreSQL that takes longer than most tests do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from unittest.mock import patch

from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import TransactionTestCase

KEPT = (Permission._meta.db_table, ContentType._meta.db_table)
"""What is in them belongs to no test: migrating made it."""
_Rows = dict[str, set[tuple[Any, ...]]]
_as_made: dict[tuple[str, str], _Rows] = {}
"""By database: what was in these tables at first."""
_original: Any = TransactionTestCase
_flush = _original._fixture_teardown


@contextmanager
def emptying_what_is_filled() -> Iterator[None]:
    """Inside, tests that commit are followed by this in place of a flush."""
    _remember(connections.all())
    with patch.object(TransactionTestCase, "_fixture_teardown", _teardown):
        yield


def _remember(databases: Iterable[BaseDatabaseWrapper]) -> None:
    _as_made.update((_place(one), _kept_in(one)) for one in databases)


def _teardown(case: Any) -> None:
    usual = case.available_apps is None and not (case.serialized_rollback or case.reset_sequences)
    if usual and all(map(_empty, _databases(case))):
        return
    _flush(case)
    _remember(_databases(case))


def _databases(case: Any) -> list[BaseDatabaseWrapper]:
    return [connections[name] for name in case._databases_names(include_mirrors=False)]


def _empty(connection: BaseDatabaseWrapper) -> bool:
    """Whether the database could be emptied, and is now as a flush would leave it."""
    if connection.vendor not in ("postgresql", "sqlite"):
        return False
    try:
        made, now = _as_made[_place(connection)], _kept_in(connection)
        if any(made[table] - now[table] for table in KEPT):
            return False
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SET LOCAL session_replication_role = replica")  # no triggers
            for table in _filled(connection):
                cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")
            for table in KEPT:
                for row in now[table] - made[table]:
                    cursor.execute(f"DELETE FROM {table} WHERE id = %s", [row[0]])
    except DatabaseError:
        return False  # a constraint of a test's own, say
    return True


def _place(connection: BaseDatabaseWrapper) -> tuple[str, str]:
    return connection.alias, str(connection.settings_dict["NAME"])


def _filled(connection: BaseDatabaseWrapper) -> list[str]:
    tables = set(connection.introspection.django_table_names(only_existing=True)) - {*KEPT}
    quoted = connection.ops.quote_name
    asked = [f"SELECT '{one}' WHERE EXISTS (SELECT 1 FROM {quoted(one)})" for one in sorted(tables)]
    return [name for (name,) in _asked(connection, " UNION ALL ".join(asked))]


def _kept_in(connection: BaseDatabaseWrapper) -> _Rows:
    there = set(connection.introspection.table_names()).intersection(KEPT)
    found: _Rows = {table: set() for table in KEPT}
    for table in there:
        found[table].update(_asked(connection, f"SELECT id, {table}.* FROM {table}"))
    return found


def _asked(connection: BaseDatabaseWrapper, sql: str) -> list[Any]:
    """Past the watch over what is written and read."""
    connection.ensure_connection()
    with closing(connection.connection.cursor()) as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())
