"""What an executed statement did to the rows of its table: their keys where they are known, and
the values that they had and have (W3).

Read from the statement alone, never from an instance: what an instance in memory says need not be
what the row held when it was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, time, timedelta
from decimal import Decimal

from loom_cache import sql, tables
from loom_cache.clauses import Equality, Operand, Unknown
from loom_cache.combinations import MAX_VALUES, Edit, Opaque, Value, Values
from loom_cache.dml import given, rows_given
from loom_cache.tables import Row, Table
from loom_cache.tags import MAX_ROWS_NAMED, Change

Parameters = Sequence[object]


def inserted(
    statement: sql.Statement, parameters: Parameters | None, target: str, vendor: str
) -> Change:
    """Of an INSERT. Without `parameters` nothing is known of the rows."""
    table = tables.watched()[target]
    spelled, rows = statement.inserted, None
    if spelled is not None and parameters is not None:
        rows = rows_given(spelled, list(parameters), statement.placeholders)
    if spelled is None or rows is None or len(rows) > MAX_ROWS_NAMED:
        return Change(edits=[Edit(named=False, after={})])
    return Change(
        edits=[
            Edit(named=False, after=known_values(table, spelled.columns, row, vendor))
            for row in rows
        ]
    )


def known_values(
    table: Table, columns: Iterable[str], row: Iterable[object], vendor: str
) -> Values:
    """What is known of one row from the values of these columns."""
    found = zip(columns, row, strict=True)
    return _known(table, dict(found), vendor)


def _known(table: Table, values: dict[str, object], vendor: str) -> Values:
    known: dict[str, frozenset[Value | Opaque]] = {}
    for column, given_value in values.items():
        value = table.value(column, given_value, vendor)
        if not isinstance(value, Unknown):
            known[column] = frozenset((value,))
        elif isinstance(given_value, _TOLD_FROM_THEMSELVES) and not _signals(given_value):
            known[column] = frozenset((Opaque(given_value),))
    return known


def _signals(value: object) -> bool:
    """Whether the value can be neither compared nor hashed."""
    return isinstance(value, Decimal) and value.is_snan()


_TOLD_FROM_THEMSELVES = (str, bytes, int, float, Decimal, date, time, timedelta)


def changed(
    statement: sql.Statement,
    parameters: Parameters,
    target: str,
    vendor: str,
    *,
    previous: Sequence[Values] | None = None,
) -> Change:
    """Of an UPDATE or DELETE of one table whose condition fixes columns by equality; `previous` is
    what its rows held, if that is known."""
    table, spelled = tables.watched()[target], statement.changed
    assert spelled is not None
    known = demanded(table, spelled.where, parameters, vendor)
    rows = _rows(table, spelled.where, parameters, vendor)
    if (rows is None and not known) or len(rows or ()) > MAX_ROWS_NAMED:
        return Change(unknown=True)
    named = rows is not None
    change = Change(rows=rows or set(), unnamed=not named)
    states = [known] if previous is None else [{**known, **one} for one in previous]
    if spelled.assigned is None:
        change.edits = [Edit(named=named, before=state) for state in states]
        return change
    new = dict(spelled.assigned)
    if not table.keeps_rows(new):
        return Change(unknown=True)
    assigned = _assigned(table, new, parameters, vendor)
    touched = table.touched_by(new)
    for state in states:
        kept = _kept(state, touched)
        edit = Edit(named=named, assigned=touched, before=state, after={**kept, **assigned})
        change.edits.append(edit)
    return change


def _kept(state: Values, touched: frozenset[str] | None) -> Values:
    """What is still known of a row after an UPDATE that touched these columns; nothing, where one
    of them is none of the models'."""
    if touched is None:
        return {}
    return {column: values for column, values in state.items() if column not in touched}


def _assigned(table: Table, new: dict[str, Operand], parameters: Parameters, vendor: str) -> Values:
    values = {column: given(operand, list(parameters)) for column, operand in new.items()}
    return _known(table, values, vendor)


def demanded(
    table: Table, where: Iterable[Equality], parameters: Parameters, vendor: str
) -> Values:
    """The values that a condition allows, of the columns that it fixes by equality."""
    found: dict[str, frozenset[Value | Opaque]] = {}
    for one in where:
        values = [
            table.value(one.column, given(operand, list(parameters)), vendor)
            for operand in one.operands
        ]
        plain = frozenset[Value | Opaque](
            value for value in values if not isinstance(value, Unknown)
        )
        told = not any(isinstance(value, Unknown) for value in values)
        if told and len(plain) <= MAX_VALUES:
            found[one.column] = found.get(one.column, plain) & plain
    return found


def _rows(
    table: Table, where: Iterable[Equality], parameters: Parameters, vendor: str
) -> set[Row] | None:
    """The rows that a condition names by primary key; None if it does not."""
    for one in where:
        if one.column == table.pk_column:
            rows = {table.row(given(operand, list(parameters)), vendor) for operand in one.operands}
            named = {row for row in rows if row is not None}
            if len(named) == len(rows):
                return named
    return None
