"""What the database knows of a table and the models do not.

Whether it changes rows by itself as they are written: where a trigger or a rule may give a column
another value than the statement does, what the statement says of values cannot be relied on. And
which columns there are: in a migration, to be sure, not those of the models.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

_QUESTIONS = {
    "postgresql": (
        "SELECT 1 FROM pg_catalog.pg_class c WHERE lower(c.relname) = %s AND (c.relhasrules OR"
        " EXISTS (SELECT 1 FROM pg_catalog.pg_trigger t"
        " WHERE t.tgrelid = c.oid AND NOT t.tgisinternal))"
        " LIMIT 1"
    ),
    "sqlite": (
        "SELECT 1 FROM (SELECT type, tbl_name FROM sqlite_master UNION ALL"
        " SELECT type, tbl_name FROM sqlite_temp_master)"
        " WHERE type = 'trigger' AND lower(tbl_name) = ? LIMIT 1"
    ),
}
VENDORS = frozenset(_QUESTIONS)
"""The databases that can be asked."""
_COLUMNS = {
    # Of several tables of that name, those that each of them has.
    "postgresql": (
        "SELECT lower(a.attname) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c"
        " ON a.attrelid = c.oid WHERE lower(c.relname) = %s AND c.relkind IN ('r', 'p', 'v', 'f')"
        " AND a.attnum > 0 AND NOT a.attisdropped GROUP BY 1 HAVING count(DISTINCT c.oid) ="
        " (SELECT count(*) FROM pg_catalog.pg_class c WHERE lower(c.relname) = %s"
        " AND c.relkind IN ('r', 'p', 'v', 'f'))"
    ),
    "sqlite": "SELECT lower(name) FROM pragma_table_xinfo(?)",
}
_known: dict[tuple[Any, ...], bool] = {}
_columns: dict[tuple[Any, ...], frozenset[str]] = {}


def forget() -> None:
    """Ask anew: DDL has run."""
    _known.clear()
    _columns.clear()


def has_triggers(connection: BaseDatabaseWrapper, table: str) -> bool:
    """Asked once per process and table, on the driver's own cursor: it is no query of the
    application's. True where it cannot be known."""
    key = _key(connection, table)
    found = _known.get(key)
    if found is None:
        found = _known[key] = _ask(connection, table)
    return found


def has_columns(connection: BaseDatabaseWrapper, table: str, columns: Iterable[str]) -> bool:
    """Whether the table has all of these (lower-case); asked as above. False where it cannot be
    known, for instance in a transaction that has failed."""
    key = _key(connection, table)
    found = _columns.get(key)
    if found is None:
        found = _ask_for_columns(connection, table)
        if found is None:
            return False
        _columns[key] = found
    return found.issuperset(columns)


def _key(connection: BaseDatabaseWrapper, table: str) -> tuple[Any, ...]:
    settings = connection.settings_dict
    return (connection.alias, settings["NAME"], settings["HOST"], settings["PORT"], table)


def _ask(connection: BaseDatabaseWrapper, table: str) -> bool:
    question = _QUESTIONS.get(connection.vendor)
    if question is None or connection.connection is None:
        return True
    cursor: Any = connection.connection.cursor()
    try:
        cursor.execute(question, [table])
        return cursor.fetchone() is not None
    finally:
        cursor.close()


def _ask_for_columns(connection: BaseDatabaseWrapper, table: str) -> frozenset[str] | None:
    question = _COLUMNS.get(connection.vendor)
    if question is None or connection.connection is None:
        return None
    wrapper: Any = connection
    cursor: Any = connection.connection.cursor()
    try:
        cursor.execute(question, [table] * (2 if connection.vendor == "postgresql" else 1))
        return frozenset(name for (name,) in cursor.fetchall())
    except wrapper.Database.Error:
        return None
    finally:
        cursor.close()
