"""What rows held before a statement changes them, asked in the transaction that is about to.

An answer that does not name its rows (a count, a second page) has to be found by the values that a
row had. Only the database knows these, and only a row that is locked keeps them until the
statement: so they are asked in a transaction (a statement outside one is put into one for that), by
one narrow SELECT that takes the lock that the statement is about to take. Where they are too many
nothing is known of them; nor if the statement then changes another number of rows, since one has
come to be meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from loom_cache import sql, tables
from loom_cache.clauses import Equality
from loom_cache.combinations import Combination, Values
from loom_cache.dml import Changed, given
from loom_cache.edits import demanded, known_values
from loom_cache.tables import Table

MOST_ROWS = 1000


def columns_needed(
    statement: sql.Statement,
    parameters: Sequence[object],
    combinations: Iterable[Combination],
    vendor: str,
) -> list[str]:
    """Those of which it matters what they hold in the rows that an UPDATE or DELETE is about to
    change; none where nobody needs that, or where it cannot be asked for."""
    changed, target = statement.changed, statement.target
    if changed is None or target is None or changed.qualified or not changed.exact:
        return []
    if len(parameters) != statement.placeholders:
        return []
    table = tables.watched()[target]
    asked_of = {model._meta.db_table for model in table.models}
    if len(asked_of) > 1 or not {one.column for one in changed.where} <= table.columns.keys():
        return []
    return sorted(_needed(table, changed, parameters, combinations, vendor))


def values_before(
    connection: BaseDatabaseWrapper,
    statement: sql.Statement,
    parameters: Sequence[object],
    columns: Sequence[str],
) -> list[Values] | None:
    """For each row that the statement is about to change, these columns as they are. None if there
    are too many."""
    table, changed = tables.watched()[str(statement.target)], statement.changed
    assert changed is not None
    rows = _ask(connection, table, changed, parameters, columns)
    if rows is None:
        return None
    return [known_values(table, columns, row, connection.vendor) for row in rows]


def _needed(
    table: Table,
    changed: Changed,
    parameters: Sequence[object],
    combinations: Iterable[Combination],
    vendor: str,
) -> set[str]:
    """The columns that answers look at by value and that the condition does not fix."""
    assigned = None if changed.assigned is None else table.touched_by(dict(changed.assigned))
    fixed = demanded(table, changed.where, parameters, vendor).keys()
    needed: set[str] = set()
    for asked in combinations:
        concerned = assigned is None or asked.concerns(assigned)
        leaves_unsaid = not assigned or not assigned.issuperset(asked.columns)
        if concerned and (asked.kind != "rows" or (assigned is not None and leaves_unsaid)):
            needed.update(asked.columns)
            # Where none of these changes the answer is still right.
            needed.update(asked.deciding or ())
    return needed & table.columns.keys() if not needed <= fixed else set()


def _ask(
    connection: BaseDatabaseWrapper,
    table: Table,
    changed: Changed,
    parameters: Sequence[object],
    columns: Sequence[str],
) -> list[tuple[Any, ...]] | None:
    def quote(name: str) -> str:
        return connection.ops.quote_name(name).replace("%", "%%")

    names = {name: str(fields[0].column) for name, fields in table.columns.items()}
    conditions: list[str] = []
    values: list[Any] = []
    for one in changed.where:
        text, needed = _condition(one, quote(names[one.column]), parameters)
        conditions.append(text)
        values += needed
    selected = ", ".join(quote(names[column]) for column in columns)
    text = (
        f"SELECT {selected} FROM {quote(table.models[0]._meta.db_table)}"
        f" WHERE {' AND '.join(conditions)} LIMIT {MOST_ROWS + 1}"
    )
    if connection.vendor == "postgresql":
        text += " FOR UPDATE" if changed.assigned is None else " FOR NO KEY UPDATE"
    with connection.cursor() as cursor:
        cursor.execute(text, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows if len(rows) <= MOST_ROWS else None


def _condition(one: Equality, column: str, parameters: Sequence[object]) -> tuple[str, list[Any]]:
    values = [given(operand, list(parameters)) for operand in one.operands]
    if values == [None]:
        return f"{column} IS NULL", []
    if len(values) == 1 and isinstance(values[0], bool):
        return (column if values[0] else f"NOT {column}"), []
    return f"{column} IN ({', '.join(['%s'] * len(values))})", values
