"""Combinations of columns that answers fix by equality, and what an edit means for them (pure).

`filter(author=3, published=True)` depends on the rows whose author is 3 and that are published, and
not on the rest of the table. Which combinations are asked for is learnt from what is read; a
writer has to name the values that a row had before and has after for each of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Literal
from uuid import UUID

MAX_VALUES = 100
"""Values of one combination that one answer, or one edit, names one by one."""
MAX_DECIDING = 12
"""Columns beyond those of a combination that are told apart."""

Value = int | str | UUID | bool | None


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value that can be told from itself alone: others may be equal to it."""

    value: object


Values = Mapping[str, frozenset[Value | Opaque]]
"""What is known of some rows: for a column the values that they may have there. Of columns that
are not in it nothing is known."""

Kind = Literal["rows", "later", "all"]
_KINDS: Mapping[str, Kind] = {"rows": "rows", "later": "later", "all": "all"}
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Combination:
    """What some kind of answer asks of one table."""

    columns: tuple[str, ...]
    """Fixed by equality; sorted."""
    deciding: frozenset[str] | None
    """Others that have a say in the answer; None: any column may."""
    kind: Kind
    """How rows that were in the answer are found, if they are written:

    rows: by their own tags, for the answer has every row that took part in it.
    later: the same, but rows before its first decide which they are (a second page), and what
    these were matters.
    all: by what they were (a count, values).
    """

    @property
    def name(self) -> str:
        """By which processes and releases tell it from others; `parse` reads it."""
        others = "*" if self.deciding is None else ",".join(sorted(self.deciding))
        return f"{self.kind}:{','.join(self.columns)}:{others}"

    def concerns(self, assigned: frozenset[str]) -> bool:
        """Whether giving these columns new values may change which rows are in the answer."""
        if self.deciding is None or not assigned.isdisjoint(self.deciding):
            return True
        return not assigned.isdisjoint(self.columns)

    def values_of(self, known: Values) -> list[tuple[Value, ...]] | None:
        """What the rows may have in these columns; None if it is unknown, or too much."""
        options = [known.get(column, frozenset({Opaque(None)})) for column in self.columns]
        found = [[one for one in option if not isinstance(one, Opaque)] for option in options]
        if any(len(one) < len(option) for one, option in zip(found, options, strict=True)):
            return None
        return list(product(*found)) if prod(map(len, found)) <= MAX_VALUES else None


def combination(columns: Iterable[str], deciding: Iterable[str] | None, kind: Kind) -> Combination:
    fixed = tuple(sorted(columns))
    others = None if deciding is None else frozenset(deciding) - set(fixed)
    if others is not None and (len(others) > MAX_DECIDING or not all(map(is_plain, others))):
        others = None
    return Combination(fixed, others, kind)


def is_plain(column: str) -> bool:
    """Whether a column can be part of a combination's name."""
    return _PLAIN.fullmatch(column) is not None


def parse(name: str) -> Combination | None:
    """The combination of that name; None for what is none (another release's, or damaged)."""
    kind, _, rest = name.partition(":")
    columns, separator, others = rest.partition(":")
    names = columns.split(",")
    deciding = None if others == "*" else [one for one in others.split(",") if one]
    if kind not in _KINDS or not separator or not all(map(is_plain, names)):
        return None
    return combination(names, deciding, _KINDS[kind])


@dataclass(frozen=True, slots=True)
class Edit:
    """What one statement did to rows of one table."""

    named: bool
    """Their primary keys are known (and are named apart from this)."""
    assigned: frozenset[str] | None = None
    """The columns that an UPDATE assigned; None where rows came or went."""
    before: Values | None = None
    """What is known of them as they were; None: they were not there."""
    after: Values | None = None
    """What is known of them as they are; None: they are gone."""

    def values_for(self, asked: Combination) -> list[tuple[Value, ...]] | None:
        """The values of `asked` whose answers may have changed; None: those of any value."""
        found: list[tuple[Value, ...]] = []
        if self._leaves(asked):
            return found
        for state in self._states_for(asked):
            values = asked.values_of(state)
            if values is None:
                return None
            found += values
        return found

    def _leaves(self, asked: Combination) -> bool:
        """Whether one row was, and is, the same to such answers."""
        if self.before is None or self.after is None or asked.deciding is None:
            return False
        if asked.kind != "all" and not self.named:
            return False
        return all(
            len(was := self.before.get(column, ())) == 1 and was == self.after.get(column)
            for column in (*asked.columns, *asked.deciding)
        )

    def _states_for(self, asked: Combination) -> Iterator[Values]:
        moves = self.assigned is None or asked.concerns(self.assigned)
        if self.before is not None and self._is_found_by_values(asked, moves=moves):
            yield self.before
        if self.after is not None and moves:
            yield self.after

    def _is_found_by_values(self, asked: Combination, *, moves: bool) -> bool:
        """Whether an answer that the rows were in has to be found by what they were."""
        if asked.kind == "all":
            return moves
        return not self.named or (asked.kind == "later" and moves)


@dataclass(slots=True)
class Known:
    """What a process knows of the combinations of one table that are in use."""

    life: int | None = None
    """Of the table's list of combinations; None if there is none, or nothing is known."""
    version: int | None = None
    """Of the list in that life: it only grows."""
    combinations: frozenset[Combination] = frozenset()
    incarnation: str = ""
    """Of the server that holds the list: an older list may have come back with another one."""
    learnt: float = 0.0
    """When, by this process's perf_counter: what was asked before may be older than the list."""


@dataclass(slots=True)
class Catalogue:
    """What a process knows of the combinations in use, by table."""

    known: dict[str, Known] = field(default_factory=dict)

    def of(self, table: str) -> Known:
        return self.known.get(table) or Known()
