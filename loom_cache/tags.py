"""Tags: the names of what an answer depends on (pure).

For a table T: `T` changes when rows changed that cannot be named, `T:list` when any row was
inserted, changed or deleted, `T:id:<pk>` when that row was. The braces make the counters of one
table live in one slot of a Redis Cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from loom_cache import keys
from loom_cache.tables import Row

MAX_ROWS_NAMED = 1000
"""Rows of one table that one write names one by one; beyond it the whole table is named."""


OF_NOTHING = "g:{}"
"""No table's tag: carried by answers that depend on none, and moved by a flush of everything."""


def of_table(table: str) -> str:
    return f"g:{{{keys.safe(table)}}}"


def of_list(table: str) -> str:
    return f"g:{{{keys.safe(table)}}}:list"


def of_row(table: str, row: Row) -> str:
    return f"g:{{{keys.safe(table)}}}:id:{keys.safe(str(row))}"


def of_whole(tables: Iterable[str]) -> tuple[str, ...]:
    """What an answer depends on that may have read any row of `tables`."""
    return tuple(tag for table in sorted(tables) for tag in (of_table(table), of_list(table)))


def is_tag(name: str) -> bool:
    """Whether `name` has the form of a tag: an entry that was damaged may list anything."""
    return name.startswith("g:{") and "}" in name


def widened(tag: str) -> tuple[str, str]:
    """The tags of the whole table that `tag` belongs to: they move whenever it does."""
    table = tag[: tag.index("}") + 1]
    return table, f"{table}:list"


@dataclass(slots=True)
class Change:
    """What happened to one table: rows that are known, or rows that are not."""

    unknown: bool = False
    rows: set[Row] = field(default_factory=set)

    def add(self, other: Change) -> None:
        self.unknown = self.unknown or other.unknown
        self.rows |= other.rows
        if len(self.rows) > MAX_ROWS_NAMED:
            self.unknown = True
        if self.unknown:
            self.rows = set()

    def tags(self, table: str) -> Iterable[str]:
        """Every entry that touches the table carries its `T`: where that moves nothing else
        needs to."""
        if self.unknown:
            return (of_table(table),)
        return (of_list(table), *(of_row(table, row) for row in sorted(self.rows, key=str)))


Changes = dict[str, Change]


def merge(into: Changes, more: Mapping[str, Change]) -> None:
    for table, change in more.items():
        into.setdefault(table, Change()).add(change)


def of_changes(changes: Mapping[str, Change]) -> list[str]:
    """The tags to bump for `changes`."""
    return [tag for table in sorted(changes) for tag in changes[table].tags(table)]
