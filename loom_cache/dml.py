"""What an INSERT, UPDATE or DELETE says of the rows that it writes, read from its text (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loom_cache.clauses import UNKNOWN, Clauses, Equality, Operand, Parameter

Layout = Literal["rows", "repeated", "arrays"]


@dataclass(frozen=True, slots=True)
class Inserted:
    """The columns that an INSERT names and where their values are.

    `rows`: as spelled out in `values`; `repeated`: every row is one placeholder a column, as many
    rows as there are parameters for; `arrays`: each parameter is a list of one column's values.
    """

    columns: tuple[str, ...]
    layout: Layout
    values: tuple[tuple[Operand, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Changed:
    """What an UPDATE or DELETE of one table asks for and, for an UPDATE, assigns."""

    where: tuple[Equality, ...]
    exact: bool
    """The condition demands nothing else."""
    assigned: tuple[tuple[str, Operand], ...] | None = None
    """Columns and their new values; None for a DELETE."""
    qualified: bool = False
    """The table's schema is named: it may be another table than the models' of this name."""


def read_insert(clauses: Clauses) -> Inserted | None:
    """The values of `INSERT INTO table (columns) VALUES ...`, or of Django's form of it that hands
    over arrays; None where they cannot be told."""
    into = clauses.find(("INTO",), 0)
    start = clauses.name(into + 1)[1] if into is not None else len(clauses)
    if clauses.at(start) != ("mark", "("):
        return None
    columns = _columns(clauses, start)
    tail = clauses.find(("VALUES", "SELECT"), start)
    if not columns or tail is None or clauses.before[tail]:
        return None
    end = clauses.find(("ON", "RETURNING"), tail) or len(clauses)
    if clauses.words[tail] == "SELECT":
        return _arrays(clauses, columns, tail, end)
    return _rows(clauses, columns, tail + 1, end)


def _columns(clauses: Clauses, start: int) -> tuple[str, ...]:
    end = clauses.closes(start)
    names = [clauses.name(piece[0]) for piece in clauses.split(",", start + 1, end)]
    return tuple(parts[0] if len(parts) == 1 else "" for parts, _ in names)


def _arrays(clauses: Clauses, columns: tuple[str, ...], start: int, end: int) -> Inserted | None:
    words = [token.text for token in clauses.tokens[start : start + 5]]
    if words != ["SELECT", "*", "FROM", "UNNEST", "("] or clauses.closes(start + 4) != end - 1:
        return None
    arrays = list(clauses.split(",", start + 5, end - 1))
    if len(arrays) != len(columns) or not all(_is_an_array(clauses, *one) for one in arrays):
        return None
    return Inserted(columns, "arrays")


def _is_an_array(clauses: Clauses, start: int, end: int) -> bool:
    """`%s` or `(%s)`, with a cast to the column's type or without: no function of it."""
    closed = clauses.closes(start) if clauses.at(start) == ("mark", "(") else start
    first = clauses.unwrapped(start, closed + 1)
    value = clauses.operand(*first)
    after = clauses.tokens[closed + 1 : end]
    return isinstance(value, Parameter) and (
        not after or [token.text for token in after[:2]] == [":", ":"]
    )


def _rows(clauses: Clauses, columns: tuple[str, ...], start: int, end: int) -> Inserted | None:
    if all(token.text in ("(", ")", ",", "%s") for token in clauses.tokens[start:end]):
        return Inserted(columns, "repeated")
    rows = []
    for piece in clauses.split(",", start, end):
        inner = clauses.unwrapped(*piece)
        values = tuple(clauses.operand(*one) for one in clauses.split(",", *inner))
        if (inner == piece and len(columns) > 1) or len(values) != len(columns):
            return None
        rows.append(values)
    return Inserted(columns, "rows", tuple(rows))


def read_change(verb: str, target: str, at: int, clauses: Clauses) -> Changed | None:
    """An UPDATE (SET stands at `at`) or DELETE of `target` alone; None if it is not understood."""
    where = clauses.find(("WHERE",), at)
    if where is None or clauses.find(("FROM", "USING", "JOIN"), at, where) is not None:
        return None
    assigned = None
    if verb == "UPDATE":
        assigned = _assigned(clauses, at + 1, where)
        if assigned is None:
            return None
    end = clauses.find(("RETURNING",), where) or len(clauses)
    found, complete = clauses.equalities(where + 1, end)
    own = tuple(one for one in found if one.table in (None, target))
    if not own:
        return None
    qualified = clauses.at(at - 2).text == "."
    return Changed(own, complete and len(own) == len(found), assigned, qualified)


def _assigned(clauses: Clauses, start: int, end: int) -> tuple[tuple[str, Operand], ...] | None:
    """None if a tuple of columns or a part of one is assigned, or more is not understood."""
    found: list[tuple[str, Operand]] = []
    for piece in clauses.split(",", start, end):
        parts, at = clauses.name(piece[0])
        if len(parts) != 1 or clauses.at(at).text != "=":  # `a.b`: a part of column a
            return None
        found.append((parts[-1], clauses.operand(at + 1, piece[1])))
    return tuple(found)


def given(operand: Operand, parameters: tuple[object, ...] | list[object]) -> object:
    """The value that an operand stands for; UNKNOWN where the text does not show it."""
    if not isinstance(operand, Parameter):
        return operand
    return parameters[operand.position] if operand.position < len(parameters) else UNKNOWN


def rows_given(
    inserted: Inserted, parameters: tuple[object, ...] | list[object], placeholders: int
) -> list[tuple[object, ...]] | None:
    """The values of each row that an INSERT adds, in the order of its columns; None where they
    cannot be told."""
    width = len(inserted.columns)
    if inserted.layout == "arrays":
        return _zipped(parameters) if len(parameters) == width else None
    if inserted.layout == "repeated":
        if len(parameters) % width:
            return None
        return [tuple(parameters[at : at + width]) for at in range(0, len(parameters), width)]
    if len(parameters) != placeholders:  # the text was shortened: positions say nothing
        return None
    return [tuple(given(one, parameters) for one in row) for row in inserted.values]


def _zipped(columns: tuple[object, ...] | list[object]) -> list[tuple[object, ...]] | None:
    lists = [column for column in columns if isinstance(column, list)]
    if len(lists) != len(columns) or len(set(map(len, lists))) != 1:
        return None
    return list(zip(*lists, strict=True))
