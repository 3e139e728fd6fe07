"""What an answer depends on, worked out from the statements that its load ran and from the
instances that it gave.

A write to a row changes an answer only if the row took part in it before, or does after. For a
table whose columns a SELECT fixes by equality, a row that takes part after has those values; for a
table that is only joined by its primary key to rows that are themselves depended on, it took part
before. What took part before is named row by row where the answer consists of instances, else by
the values again. Of a table that is used in any other way, an answer depends on every row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from loom_cache import tables, tags
from loom_cache.combinations import Combination, Kind, Value, Values, combination, is_plain
from loom_cache.edits import demanded
from loom_cache.reached import Reached
from loom_cache.recording import Asked, Recorder
from loom_cache.selects import Select, Tie, Use
from loom_cache.tables import Row, Table


@dataclass(slots=True)
class OfTable:
    """How an answer depends on one table."""

    whole: bool = False
    rows: set[Row] = field(default_factory=set)
    by_row: bool = False
    """Rows are named by key, and nothing else covers them."""
    values: dict[Combination, set[tuple[Value, ...]]] = field(default_factory=dict)

    def tags(self, table: str) -> list[str]:
        if self.whole:
            return list(tags.of_whole([table]))
        found = [tags.of_table(table)]
        if self.values:
            found.append(tags.of_combinations(table))
        for asked, values in self.values.items():
            found.append(tags.of_combination(table, asked))
            found += [tags.of_values(table, asked, one) for one in values]
        if self.by_row:
            found.append(tags.of_rows(table))
        return found + [tags.of_row(table, row) for row in self.rows]


@dataclass(slots=True)
class Dependencies:
    tables: dict[str, OfTable] = field(default_factory=dict)

    def tags(self) -> list[str]:
        return [tag for name, one in sorted(self.tables.items()) for tag in one.tags(name)]

    def combinations(self) -> dict[str, frozenset[Combination]]:
        """Those that must be in the lists of their tables."""
        return {
            name: frozenset(one.values)
            for name, one in self.tables.items()
            if one.values and not one.whole
        }


def of_load(
    seen: Recorder,
    reached: Reached | None,
    *,
    complete: bool = True,
    given: Callable[[str, Row], bool] = lambda table, row: False,
) -> Dependencies:
    """What the answer depends on whose load ran what was `seen`.

    `reached` are the rows of its instances, None if it consists of something else; `complete`:
    every row that was read is among them. `given(table, row)`: that this row was there is known
    in another way.
    """
    found = Dependencies()
    for asked in seen.asked:
        for name in tables.touched(asked.statement.names, asked.statement.sources):
            one = found.tables.setdefault(name, OfTable())
            if not one.whole:
                _Reader(asked, reached, complete, given).read(name, one)
    for name in tables.touched(seen.names, seen.sources) - found.tables.keys():
        found.tables[name] = OfTable(whole=True)
    return found


class _Reader:
    """One statement, and how it uses one table after the other."""

    def __init__(
        self,
        asked: Asked,
        reached: Reached | None,
        complete: bool,
        given: Callable[[str, Row], bool],
    ) -> None:
        self._asked, self._reached, self._complete = asked, reached, complete
        self._given = given

    def read(self, name: str, into: OfTable) -> None:
        statement, select = self._asked.statement, self._asked.statement.select
        uses = [use for use in select.uses if use.table == name] if select is not None else []
        params = self._asked.params
        if (
            select is None
            or name not in tables.watched()
            or statement.mentions.count(name) != len(uses)
            or params is None
            or len(params) != statement.placeholders
        ):
            into.whole = True
            return
        for use in uses:
            self._read_use(select, use, params, into)

    def _read_use(
        self, select: Select, use: Use, params: tuple[object, ...], into: OfTable
    ) -> None:
        table = tables.watched()[use.table]
        known = demanded(table, use.demands, params, self._asked.vendor)
        if use.outer:  # NULL may mean that there is no such row
            known = {column: values for column, values in known.items() if None not in values}
        keyed = self._keys(table, known)
        if keyed is not None:
            into.by_row = True
            into.rows |= keyed
            into.whole = into.whole or not self._are_there(table, keyed)
            return
        rows = self._rows_of(select, use, table)
        if known and use.table not in self._asked.triggered:
            self._by_values(select, table, known, rows, into)
        elif rows is not None and self._is_led_to(use, table, select):
            into.by_row = True
            into.rows |= rows
        else:
            into.whole = True

    def _keys(self, table: Table, known: Values) -> set[Row] | None:
        """The rows that the statement asks for by primary key."""
        values = known.get(table.pk_column or "")
        if values is None:
            return None
        rows = {table.row(value, self._asked.vendor) for value in values}
        named = {row for row in rows if row is not None}
        return named if len(named) == len(rows) else None

    def _are_there(self, table: Table, keyed: set[Row]) -> bool:
        """Whether each of them was found: one that is missing may come to be."""
        reached = self._reached.of(table.name) if self._reached is not None else set()
        return all(row in (reached or ()) or self._given(table.name, row) for row in keyed)

    def _rows_of(self, select: Select, use: Use, table: Table) -> set[Row] | None:
        """Every row of the table that took part, if the answer's instances show them."""
        shown = self._reached is not None and select.plain and table.pk_column in use.shown
        return self._reached.of(table.name) if shown and self._reached is not None else None

    def _by_values(
        self, select: Select, table: Table, known: Values, rows: set[Row] | None, into: OfTable
    ) -> None:
        kind: Kind = "all"
        if rows is not None:
            kind = "later" if select.skips or not self._complete else "rows"
        fixed = {column: values for column, values in known.items() if is_plain(column)}
        names = select.read if rows is None else select.deciding
        deciding = None if names is None else names & table.columns.keys()
        asked = combination(fixed, deciding, kind)
        values = asked.values_of(fixed) if fixed else None
        if values is None:
            into.whole = True
            return
        into.values.setdefault(asked, set()).update(values)
        into.rows |= rows or set()

    def _is_led_to(self, use: Use, table: Table, select: Select) -> bool:
        """Whether it hangs on another table by its primary key alone, so that which of its rows
        take part is decided there."""
        if not use.quiet or not select.bare.isdisjoint(table.columns):
            return False
        if not all(_keeps(branch, table) for branch in use.branches):
            return False
        ties: Iterable[Tie] = (use.joined,) if use.joined is not None else use.branches
        return any(_leads_to(tie, table) for tie in ties if use.joined is tie or not tie.outer)


def _leads_to(tie: Tie, table: Table) -> bool:
    """Whether the other table's column holds this one's primary key, and never one that is not
    there."""
    other = tables.watched().get(tie.other)
    return (
        tie.column == table.pk_column
        and other is not None
        and other.refers_to(tie.other_column) == table.name
    )


def _keeps(branch: Tie, table: Table) -> bool:
    """Whether a join that hangs on this table leaves all of its rows in the answer, or decides
    about them by rows of the other table alone."""
    if branch.outer or branch.column == table.pk_column:
        return True
    sound = table.refers_to(branch.column) == branch.other
    return sound and table.never_null(branch.column)
