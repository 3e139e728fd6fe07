"""Tags: the names of what an answer depends on (pure).

For a table T: `T` changes when rows changed that cannot be named, `T:list` when any row was
inserted, changed or deleted, `T:id:<pk>` when that row was, `T:ids` when rows were whose keys are
unknown, `T:where:<combination>:<values>` when a row that has or had these values was. `T:where`
stands for all of a table's combinations, `T:where:<combination>` for all values of one. The
braces make the counters of one table live in one slot of a Redis Cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from loom_cache import keys
from loom_cache.combinations import MAX_VALUES, Catalogue, Combination, Edit, Value
from loom_cache.tables import Row

MAX_ROWS_NAMED = 1000
"""Rows of one table that one write names one by one; beyond it the whole table is named."""


OF_NOTHING = "g:{}"
"""No table's tag: carried by answers that depend on none, and moved by a flush of everything."""


def of_table(table: str) -> str:
    return f"g:{{{keys.safe(table)}}}"


def of_list(table: str) -> str:
    return f"{of_table(table)}:list"


def of_row(table: str, row: Row) -> str:
    return f"{of_table(table)}:id:{keys.safe(_merged(str(row)))}"


def of_rows(table: str) -> str:
    """Carried beside the tags of single rows: rows changed whose keys are unknown."""
    return f"{of_table(table)}:ids"


def of_combinations(table: str) -> str:
    """Carried by every answer that depends on values: while it is unchanged, the list of the
    combinations in use has lost none (see generations.py)."""
    return f"{of_table(table)}:where"


def of_combination(table: str, asked: Combination) -> str:
    """Rows of unknown values changed."""
    return f"{of_combinations(table)}:{keys.safe(asked.name)}"


def of_values(table: str, asked: Combination, values: tuple[Value, ...]) -> str:
    """A row that has, or had, these values changed."""
    return f"{of_combination(table, asked)}:{_spelled(values)}"


def _spelled(values: tuple[Value, ...]) -> str:
    if len(values) == 1 and type(values[0]) is int and abs(values[0]) < 2**63:
        return str(values[0])
    merged = (_merged(value) if isinstance(value, str) else value for value in values)
    return "~" + keys.digest(keys.canonical(tuple(merged)))


def _merged(text: str) -> str:
    """The same for texts that some columns take for equal, whatever their models say of them:
    those of the types citext and char(n), which inspectdb and older migrations leave."""
    return text.rstrip(" ").casefold()


def list_of_combinations(table: str) -> str:
    """The key, no tag, of the list of a table's combinations."""
    return f"w:{{{keys.safe(table)}}}"


def changes_of_combinations(table: str) -> str:
    """The key, no tag, of the counter that moves whenever that list does."""
    return f"{list_of_combinations(table)}:changes"


def writers_of(table: str) -> str:
    """The key, no tag, of the set of a strict table's open writers."""
    return f"s:{{{keys.safe(table)}}}"


def of_whole(tables: Iterable[str]) -> tuple[str, ...]:
    """What an answer depends on that may have read any row of `tables`."""
    return tuple(tag for table in sorted(tables) for tag in (of_table(table), of_list(table)))


_TAG: Final = re.compile(r"g:\{[A-Za-z0-9_.~-]{0,64}\}[A-Za-z0-9_.~:-]{0,200}")


def is_tag(name: str) -> bool:
    """Whether `name` has the form of a tag: an entry that was damaged may list anything."""
    return _TAG.fullmatch(name) is not None


def widened(tag: str) -> tuple[str, str]:
    """The tags of the whole table that `tag` belongs to: they move whenever it does."""
    table = tag[: tag.index("}") + 1]
    return table, f"{table}:list"


def is_general(tag: str) -> bool:
    """Whether it stands for no single row and for no values: for questions of one kind alike."""
    _, _, rest = tag.partition("}")
    return not rest.startswith(":id:") and rest.count(":") < 3


@dataclass(slots=True)
class Change:
    """What happened to one table: rows that are known, or rows that are not."""

    unknown: bool = False
    rows: set[Row] = field(default_factory=set)
    unnamed: bool = False
    """Rows changed whose keys are not known."""
    anywhere: bool = False
    """Of the values of these rows nothing is known."""
    edits: list[Edit] = field(default_factory=list)

    def add(self, other: Change) -> None:
        self.unknown = self.unknown or other.unknown
        self.unnamed = self.unnamed or other.unnamed
        self.anywhere = self.anywhere or other.anywhere
        self.rows |= other.rows
        self.edits += other.edits
        if max(len(self.rows), len(self.edits)) > MAX_ROWS_NAMED:
            self.unknown = True
        if self.unknown:
            self.rows, self.edits = set(), []

    @property
    def needs_combinations(self) -> bool:
        """Whether which tags move depends on the combinations in use."""
        return bool(self.edits) and not (self.unknown or self.anywhere)

    def tags(self, table: str) -> Iterator[str]:
        """Those that move whatever combinations are in use. Every entry that touches the table
        carries its `T`: where that moves nothing else needs to. `T:list` comes first: a reader
        that has found another tag moved must find it moved as well."""
        if self.unknown:
            yield of_table(table)
            return
        yield of_list(table)
        if self.unnamed:
            yield of_rows(table)
        if self.anywhere:
            yield of_combinations(table)
        for row in sorted(self.rows, key=str):
            yield of_row(table, row)

    def tags_of(self, table: str, combinations: Iterable[Combination]) -> Iterator[str]:
        """Those of the combinations in use."""
        if self.unknown or self.anywhere:
            return
        for asked in sorted(combinations, key=_name):
            found = self._values_for(asked)
            if found is None:
                yield of_combination(table, asked)
            else:
                yield from (of_values(table, asked, values) for values in found)

    def _values_for(self, asked: Combination) -> list[tuple[Value, ...]] | None:
        found: dict[tuple[Value, ...], None] = {}
        for edit in self.edits:
            values = edit.values_for(asked)
            if values is None:
                return None
            found |= dict.fromkeys(values)
        return list(found) if len(found) <= MAX_VALUES * 10 else None


def _name(asked: Combination) -> str:
    return asked.name


Changes = dict[str, Change]


def merge(into: Changes, more: Mapping[str, Change]) -> None:
    for table, change in more.items():
        into.setdefault(table, Change()).add(change)


def of_changes(changes: Mapping[str, Change], catalogue: Catalogue | None = None) -> list[str]:
    """The tags to bump for `changes`, with those of the combinations that are known."""
    found: list[str] = []
    for table in sorted(changes):
        found += changes[table].tags(table)
        if catalogue is not None:
            found += changes[table].tags_of(table, catalogue.of(table).combinations)
    return found
