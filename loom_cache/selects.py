"""How a SELECT uses each table that it reads, from its text alone (pure).

A table is understood where it stands in the statement's own FROM, by plain joins, and nowhere
else; of any other nothing is said, and an answer depends on the whole of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loom_cache.clauses import Clauses, Equality

_JOINS = ("INNER", "LEFT", "JOIN")
_NO_ALIAS = frozenset("RIGHT FULL CROSS NATURAL USING OUTER LATERAL TABLESAMPLE ONLY".split())
_AFTER_FROM = ("WHERE", "GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR")
_COMBINES = frozenset("UNION INTERSECT EXCEPT WITH".split())
_KEYWORDS = frozenset(
    "FROM INNER LEFT OUTER JOIN ON AS WHERE AND OR NOT IN IS NULL TRUE FALSE LIKE ESCAPE BETWEEN "
    "CASE WHEN THEN ELSE END EXISTS SELECT ORDER BY ASC DESC NULLS FIRST LAST LIMIT OFFSET GROUP "
    "HAVING".split()
)
_OF_ONE_VALUE = frozenset(
    "ABS AVG CAST CEILING COALESCE CONCAT COUNT EXTRACT FLOOR GREATEST LEAST LEFT LENGTH LOWER "
    "LTRIM MAX MIN NULLIF REPLACE REVERSE RIGHT ROUND RTRIM SUBSTRING SUBSTR SUM TRIM UPPER "
    "VARCHAR NUMERIC DECIMAL DATE_TRUNC STRPOS INSTR MD5 DJANGO_DATETIME_EXTRACT "
    "DJANGO_DATE_EXTRACT DJANGO_DATETIME_TRUNC DJANGO_DATE_TRUNC DJANGO_FORMAT_DTDELTA".split()
)
"""Functions that give one value for one row; others may give several, or none."""
_SYSTEM_COLUMNS = frozenset("ctid xmin xmax cmin cmax tableoid".split())
_NOT_PLAIN = frozenset("DISTINCT GROUP HAVING OVER".split())
"""Words of statements whose rows say more than what stands in one row of each table."""


@dataclass(frozen=True, slots=True)
class Tie:
    """`this.column = other.column`, the whole of a join's condition."""

    column: str
    other: str
    """The other table."""
    other_column: str
    outer: bool
    """Of LEFT JOIN."""


@dataclass(frozen=True, slots=True)
class Use:
    """One table in FROM, under one alias."""

    table: str
    demands: tuple[Equality, ...]
    """What WHERE demands of its columns."""
    outer: bool
    """It stands behind a LEFT JOIN: where it has no row, its columns are NULL."""
    joined: Tie | None
    """How it is joined to those before it; None for the first, and where it is not that simple."""
    branches: tuple[Tie, ...]
    """How those after it are joined to it."""
    quiet: bool
    """Nothing else is asked of it: its columns are shown, or order rows that are all shown."""
    shown: frozenset[str]
    """Its columns that stand by themselves in the list of what is selected."""


@dataclass(frozen=True, slots=True)
class Select:
    """A SELECT that was understood."""

    uses: tuple[Use, ...]
    plain: bool
    """A row of the answer is made of one row of each table."""
    skips: bool
    """Rows before those of the answer decide which these are (OFFSET)."""
    deciding: frozenset[str] | None
    """Names outside the list of what is selected, columns among them: they decide which rows are
    in the answer, and in which order. None: any column may."""
    read: frozenset[str] | None
    """Every name in the statement; None: any column may be read."""
    bare: frozenset[str]
    """Names without a qualifier outside the list of what is selected."""


@dataclass(frozen=True, slots=True)
class _Source:
    table: str
    alias: str
    outer: bool
    on: tuple[int, int] | None
    """Where its join condition stands."""


def read_select(clauses: Clauses) -> Select | None:
    """None if the statement is no SELECT from tables joined in the plain way."""
    if clauses.words[0] != "SELECT" or _COMBINES & set(clauses.words):
        return None
    start = clauses.find(("FROM",), 0)
    if start is None:
        return None
    end = clauses.find(_AFTER_FROM, start) or len(clauses)
    sources = _sources(clauses, start + 1, end)
    if sources is None or len({source.alias for source in sources}) < len(sources):
        return None
    reading = _Reading(clauses, sources, start, end)
    whole_rows = any(reading.is_read_whole(source) for source in sources)
    return Select(
        uses=tuple(map(reading.use, sources)),
        plain=not _NOT_PLAIN & set(clauses.words),
        skips="OFFSET" in clauses.words,
        deciding=None if whole_rows else _names(clauses, reading.begins, len(clauses)),
        read=None if whole_rows else _names(clauses, 0, len(clauses)),
        bare=frozenset(_bare(clauses, start)),
    )


def _sources(clauses: Clauses, start: int, end: int) -> list[_Source] | None:
    found: list[_Source] = []
    at, outer = start, False
    while True:
        source, at = _source(clauses, at, end, outer=outer, first=not found)
        if source is None:
            return None
        found.append(source)
        if at == end:
            return found
        words = []
        while clauses.words[at] in ("INNER", "LEFT", "OUTER", "JOIN"):
            words.append(clauses.words[at])
            at += 1
        if words not in (["JOIN"], ["INNER", "JOIN"], ["LEFT", "JOIN"], ["LEFT", "OUTER", "JOIN"]):
            return None
        outer = words[0] == "LEFT"


def _source(
    clauses: Clauses, at: int, end: int, *, outer: bool, first: bool
) -> tuple[_Source | None, int]:
    """`table [AS] [alias]`, then, unless it is the first, `ON (condition)`."""
    parts, at = clauses.name(at)
    if not parts or at > end:
        return None, at
    alias = parts[-1]
    if clauses.at(at) == ("word", "AS"):
        at += 1
    if at < end and clauses.words[at] not in (*_JOINS, "ON"):
        if clauses.words[at] in _NO_ALIAS:
            return None, at
        named, at = clauses.name(at)
        if len(named) != 1:
            return None, at
        alias = named[0]
    if first:
        return _Source(parts[-1], alias, outer, None), at
    if at >= end or clauses.words[at] != "ON" or clauses.at(at + 1) != ("mark", "("):
        return None, at
    close = clauses.closes(at + 1)
    return _Source(parts[-1], alias, outer, (at + 1, close + 1)), close + 1


class _Reading:
    """One SELECT whose FROM is known to stand from `start` to `end`."""

    def __init__(self, clauses: Clauses, sources: Sequence[_Source], start: int, end: int) -> None:
        self._clauses, self._sources, self._start = clauses, sources, start
        self._by_alias = {source.alias: source for source in sources}
        self._where, _ = clauses.equalities(*_where(clauses, end))
        self._ties = {s.alias: tie for s in sources if s.on and (tie := self._tie_of(s))}
        self.names_results = self._names_results(end)
        """Whether it orders (or, on some databases, filters) by what is selected: by its place in
        the list or by a name that was given to it."""
        self._multiplies = _calls_unknown(clauses, 0, start)
        """Whether a function in the list of what is selected may give several rows, or none."""
        self.begins = 0 if self.names_results or self._multiplies else start
        """Where the part of the text begins that decides which rows are in the answer."""
        self._elsewhere = list(self._conditions(end))

    def is_read_whole(self, source: _Source) -> bool:
        """Whether something stands for all columns of a row, or for one that no model has: the
        table's name (PostgreSQL) or a column of the system's."""
        clauses, alias = self._clauses, source.alias
        named = [
            at
            for at, token in enumerate(clauses.tokens)
            if token.kind in ("word", "quoted") and token.text.lower() == alias
        ]
        return (
            not _SYSTEM_COLUMNS.isdisjoint(token.text.lower() for token in clauses.tokens)
            or sum(_is_bare(clauses, at) for at in named) > 1
        )

    def use(self, source: _Source) -> Use:
        alias = source.alias
        return Use(
            table=source.table,
            demands=tuple(one for one in self._where if self._means(one.table, source)),
            outer=source.outer,
            joined=self._tie(source, self._ties.get(alias)),
            branches=tuple(
                Tie(there, self._by_alias[joined].table, here, self._by_alias[joined].outer)
                for joined, (here, parent, there) in self._ties.items()
                if parent == alias
            ),
            quiet=not any(_refers(self._clauses, alias, *part) for part in self._elsewhere)
            and (source.on is None or alias in self._ties)
            and not self.is_read_whole(source),
            shown=frozenset(_shown(self._clauses, alias, self._start)),
        )

    def _means(self, qualifier: str | None, source: _Source) -> bool:
        if qualifier is None:
            return len(self._sources) == 1
        return qualifier == source.alias

    def _tie(self, source: _Source, tie: tuple[str, str, str] | None) -> Tie | None:
        if tie is None:
            return None
        here, parent, there = tie
        return Tie(here, self._by_alias[parent].table, there, source.outer)

    def _tie_of(self, source: _Source) -> tuple[str, str, str] | None:
        """Own column, the other alias and its column."""
        assert source.on is not None
        pair = _pair(self._clauses, *source.on)
        own = [column for alias, column in pair if alias == source.alias]
        others = [(a, c) for a, c in pair if a != source.alias and a in self._by_alias]
        return (own[0], *others[0]) if len(own) == len(others) == 1 else None

    def _conditions(self, end: int) -> Iterator[tuple[int, int]]:
        """Parts of the text where a column that is named has a say in what is answered."""
        for source in self._sources:
            if source.on is not None and source.alias not in self._ties:
                yield source.on
        clauses = self._clauses
        order = clauses.find(("ORDER",), end) if end < len(clauses) else None
        limited = {"LIMIT", "OFFSET", "FETCH"} & set(clauses.words[end:])
        yield end, len(clauses) if limited or order is None else order
        if (limited and self.names_results) or self._multiplies:
            yield 0, self._start

    def _names_results(self, end: int) -> bool:
        clauses = self._clauses
        order = clauses.find(("ORDER",), end) if end < len(clauses) else None
        if order is not None:
            for start, _ in clauses.split(",", order + 2, len(clauses)):
                if clauses.at(start).kind == "number":
                    return True
        known = {name for source in self._sources for name in (source.table, source.alias)}
        return any(
            clauses.at(at + 1).text != "(" and clauses.tokens[at].text.lower() not in known
            for at in range(self._start, len(clauses))
            if _is_bare(clauses, at) and clauses.words[at] not in _KEYWORDS
        )


def _calls_unknown(clauses: Clauses, start: int, end: int) -> bool:
    """Whether a function is called there that is not known to give one value."""
    return any(
        clauses.at(at + 1) == ("mark", "(")
        and clauses.tokens[at].kind in ("word", "quoted")
        and clauses.words[at] not in _KEYWORDS | _OF_ONE_VALUE
        for at in range(start, end)
    )


def _where(clauses: Clauses, start: int) -> tuple[int, int]:
    if start >= len(clauses) or clauses.words[start] != "WHERE":
        return start, start
    return start + 1, clauses.find(_AFTER_FROM, start + 1) or len(clauses)


def _pair(clauses: Clauses, start: int, end: int) -> list[tuple[str, str]]:
    """`(alias.column = alias.column)` and nothing else; an empty list for anything else."""
    start, end = clauses.unwrapped(start, end)
    left, at = clauses.name(start)
    if len(left) != 2 or clauses.at(at).text != "=":
        return []
    right, at = clauses.name(at + 1)
    if len(right) != 2 or at != end:
        return []
    return [(left[0], left[1]), (right[0], right[1])]


def _refers(clauses: Clauses, alias: str, start: int, end: int) -> bool:
    """Whether `alias.` stands in that part of the text."""
    return any(
        clauses.tokens[at].kind in ("word", "quoted")
        and clauses.tokens[at].text.lower() == alias
        and clauses.at(at + 1).text == "."
        for at in range(start, end)
    )


def _shown(clauses: Clauses, alias: str, end: int) -> Iterator[str]:
    for start, stop in clauses.split(",", 1, end):
        parts, at = clauses.name(start)
        if at == stop and len(parts) == 2 and parts[0] == alias:
            yield parts[1]


def _bare(clauses: Clauses, start: int) -> Iterator[str]:
    for at in range(start, len(clauses)):
        if _is_bare(clauses, at):
            yield clauses.tokens[at].text.lower()


def _is_bare(clauses: Clauses, at: int) -> bool:
    """Whether a name without a qualifier stands there, which is none itself."""
    around = (clauses.at(at - 1).text, clauses.at(at + 1).text)
    return clauses.tokens[at].kind in ("word", "quoted") and "." not in around


def _names(clauses: Clauses, start: int, end: int) -> frozenset[str] | None:
    tokens = clauses.tokens[start:end]
    for at in range(start, end):
        if clauses.tokens[at] == ("mark", "*") and clauses.at(at - 1).text != "(":
            return None  # `SELECT *`, and a product, which need not be told apart
    return frozenset(token.text.lower() for token in tokens if token.kind in ("word", "quoted"))
