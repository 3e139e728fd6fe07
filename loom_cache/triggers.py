"""Whether the database changes rows of a table by itself as they are written.

Where a trigger or a rule may give a column another value than the statement does, what the
statement says of values cannot be relied on.
"""

from __future__ import annotations

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
_known: dict[tuple[Any, ...], bool] = {}


def forget() -> None:
    """Ask anew: DDL has run."""
    _known.clear()


def has_any(connection: BaseDatabaseWrapper, table: str) -> bool:
    """Asked once per process and table, on the driver's own cursor: it is no query of the
    application's. True where it cannot be known."""
    settings = connection.settings_dict
    key = (connection.alias, settings["NAME"], settings["HOST"], settings["PORT"], table)
    found = _known.get(key)
    if found is None:
        found = _known[key] = _ask(connection, table)
    return found


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
