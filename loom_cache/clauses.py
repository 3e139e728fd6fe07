"""The clauses of one SQL statement: where they begin, and what they say of columns (pure).

What is not understood is left out: a condition that is read as less than it demands names more
rows than it should, never fewer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from loom_cache.lexer import Token

_ENDS_NOTHING = Token("mark", "")
_MOST_DIGITS = 20
"""Of a number that is read; no column holds a longer one."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """The value that a placeholder stands for."""

    position: int
    """Among the statement's parameters."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that the text does not show: an expression, a default."""


UNKNOWN = Unknown()
Operand = Parameter | Unknown | int | bool | None
"""What stands for a value in the text: a placeholder, a number, TRUE, FALSE or NULL."""


@dataclass(frozen=True, slots=True)
class Equality:
    """`column = value`, `column IN (values)`, `column IS NULL`, or a column that is a condition."""

    table: str | None
    """The qualifier before the column, lower-case."""
    column: str
    operands: tuple[Operand, ...]


class Clauses:
    """The tokens of one statement, with the placeholders before each and the depth of each."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self.words = [token.text if token.kind == "word" else "" for token in tokens]
        given = (token.kind == "placeholder" and token.text != "%%" for token in tokens)
        self.before = [0, *accumulate(map(int, given))]
        steps = ({"(": 1, ")": -1}.get(t.text, 0) if t.kind == "mark" else 0 for t in tokens)
        self.depths = [0, *accumulate(steps)]
        """The depth before each token."""

    @property
    def placeholders(self) -> int:
        return self.before[-1]

    def __len__(self) -> int:
        return len(self.tokens)

    def at(self, position: int) -> Token:
        return self.tokens[position] if position < len(self.tokens) else _ENDS_NOTHING

    def find(self, words: Sequence[str], start: int, end: int | None = None) -> int | None:
        """The first of `words` at the depth of `start`."""
        end = len(self.tokens) if end is None else end
        depth = self.depths[start]
        for at in range(start, end):
            if self.depths[at] == depth and self.words[at] in words:
                return at
        return None

    def mentions(self, words: frozenset[str], start: int, end: int) -> bool:
        """Whether one of `words` stands between, at the depth of `start`."""
        return self.find(tuple(words), start, end) is not None

    def split(self, separator: str, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The pieces between separators (a word or a mark) at the depth of `start`."""
        depth, begin = self.depths[start], start
        for at in range(start, end):
            token = self.tokens[at]
            if self.depths[at] == depth and token in (("word", separator), ("mark", separator)):
                yield begin, at
                begin = at + 1
        yield begin, end

    def unwrapped(self, start: int, end: int) -> tuple[int, int]:
        """Without parentheses around the whole piece."""
        while (
            end - start > 2
            and self.tokens[start] == ("mark", "(")
            and self.closes(start) == end - 1
        ):
            start, end = start + 1, end - 1
        return start, end

    def closes(self, start: int) -> int:
        """Where the parenthesis that opens at `start` is closed."""
        depth = self.depths[start]
        at = start + 1
        while at < len(self.tokens) and self.depths[at + 1] > depth:
            at += 1
        return at

    def name(self, at: int) -> tuple[list[str], int]:
        """The dotted name at `at` (its parts, lower-case) and what follows it; no parts where
        there is none."""
        parts: list[str] = []
        while self.at(at).kind in ("word", "quoted"):
            parts.append(self.tokens[at].text.lower())
            if self.at(at + 1).text != ".":
                return parts, at + 1
            at += 2
        return [], at

    def operand(self, start: int, end: int) -> Operand:
        """The value that a piece of the text stands for."""
        start, end = self.unwrapped(start, end)
        if end - start != 1:
            return UNKNOWN
        token = self.tokens[start]
        if token.kind == "placeholder" and token.text in ("%s", "%b", "%t"):
            return Parameter(self.before[start])
        if token.kind == "number" and token.text.isdecimal() and len(token.text) <= _MOST_DIGITS:
            return int(token.text)
        named = {"NULL": None, "TRUE": True, "FALSE": False}
        return named[token.text] if token.kind == "word" and token.text in named else UNKNOWN

    def sources(self) -> Iterator[str]:
        """The names that stand where those of tables do, at any depth; those of WITH are left out,
        and what only looks like one may be among them."""
        defined = {
            name[0] for at in range(len(self)) if (name := self.name(at)[0]) and self._defines(at)
        }
        for at, word in enumerate(self.words):
            if word in _BEFORE_A_TABLE and self._names_tables(word, at):
                calls = word in ("FROM", "JOIN", "USING")  # or columns follow in parentheses
                yield from self._names_in_list(at + 1, defined, calls=calls)

    def _defines(self, at: int) -> bool:
        """`name AS (` or `name AS MATERIALIZED (`, as in WITH."""
        texts = [self.at(at + step).text for step in (1, 2, 3)]
        return texts[0] == "AS" and "(" in texts[1:] and self.at(at).kind != "mark"

    def _names_tables(self, word: str, at: int) -> bool:
        """FROM stands in functions, too: EXTRACT(YEAR FROM x); there is a query's before it."""
        if word != "FROM":
            return True
        before = [
            self.words[earlier] for earlier in range(at) if self.depths[earlier] == self.depths[at]
        ]
        return bool({"SELECT", "DELETE", "UPDATE"} & set(before)) and before[-1:] != ["DISTINCT"]

    def _names_in_list(self, at: int, defined: set[str], *, calls: bool) -> Iterator[str]:
        while True:
            while self.at(at).text in ("ONLY", "IF", "NOT", "EXISTS", "LATERAL"):
                at += 1
            parts, at = self.name(at)
            if not parts or (calls and self.at(at) == ("mark", "(")):
                return
            if parts[-1] not in defined:
                yield parts[-1]
            if self.at(at) == ("word", "AS"):
                at += 1
            if self.at(at).kind in ("word", "quoted") and self.at(at + 1).text == ",":
                at += 1  # its alias
            if self.at(at).text != ",":
                return
            at += 1

    # Conditions.

    def equalities(self, start: int, end: int) -> tuple[list[Equality], bool]:
        """What a condition demands of columns, and whether it demands nothing else."""
        if start >= end:
            return [], True
        start, end = self.unwrapped(start, end)
        if self.mentions(_NO_CONJUNCTION, start, end) or self._has_bars(start, end):
            return [], False
        pieces = list(self.split("AND", start, end))
        if len(pieces) == 1:
            found = self._equality(start, end)
            read = [found] if found else self._pairwise(start, end)
            return read, bool(read)
        equalities: list[Equality] = []
        complete = True
        for piece in pieces:
            inner, whole = self.equalities(*piece)
            equalities += inner
            complete = complete and whole
        return equalities, complete

    def _has_bars(self, start: int, end: int) -> bool:
        """`||` at this depth: OR in MySQL."""
        bar, depth = ("mark", "|"), self.depths[start]
        return any(
            self.depths[at] == depth and self.tokens[at] == self.tokens[at + 1] == bar
            for at in range(start, end - 1)
        )

    def _equality(self, start: int, end: int) -> Equality | None:
        negated = self.words[start] == "NOT"
        name, at = self.name(start + 1 if negated else start)
        if not name or len(name) > 3 or (negated and at != end):
            return None
        operands = (not negated,) if at == end else self._operands(at, end)
        if not operands or UNKNOWN in operands:
            return None
        return Equality(name[-2] if len(name) > 1 else None, name[-1], operands)

    def _pairwise(self, start: int, end: int) -> list[Equality]:
        """`(column, column) = (value, value)`, as a primary key of several columns is spelled."""
        sides = list(self.split("=", start, end))
        if len(sides) != 2 or any(self.at(side[0]) != ("mark", "(") for side in sides):
            return []
        names, values = (list(self.split(",", *self.unwrapped(*side))) for side in sides)
        if len(names) != len(values):
            return []
        found = [self._pair(name, value) for name, value in zip(names, values, strict=True)]
        return [one for one in found if one is not None]

    def _pair(self, name: tuple[int, int], value: tuple[int, int]) -> Equality | None:
        parts, at = self.name(name[0])
        operand = self.operand(*value)
        if not parts or at != name[1] or operand is None or operand == UNKNOWN:
            return None
        return Equality(parts[-2] if len(parts) > 1 else None, parts[-1], (operand,))

    def _operands(self, at: int, end: int) -> tuple[Operand, ...]:
        """The values after a column's name: `= value`, `IN (values)` or `IS NULL`."""
        rest = [token.text for token in self.tokens[at:end]]
        if rest == ["IS", "NULL"]:
            return (None,)
        if rest[0] == "=":
            value = self.operand(at + 1, end)
            return () if value is None else (value,)  # `= NULL` is never true
        if self.words[at] == "IN" and rest[1:2] == ["("] and self.closes(at + 1) == end - 1:
            values = [self.operand(*one) for one in self.split(",", at + 2, end - 1)]
            return tuple(values) if None not in values else ()
        return ()


_BEFORE_A_TABLE = frozenset("FROM JOIN INTO UPDATE TABLE TRUNCATE USING COPY VIEW".split())
_NO_CONJUNCTION = frozenset("OR XOR BETWEEN CASE SELECT UNION INTERSECT EXCEPT".split())
"""Words that make of a text something else than conditions that all hold."""
