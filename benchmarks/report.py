"""From what each library answered to one table, and to what falls short in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks import trace
from benchmarks.libraries import LIBRARIES, OURS, TRUTH
from benchmarks.replay import Outcome

Operations = Sequence[trace.Operation]
Outcomes = Sequence[Outcome]


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    part: int
    whole: int

    def __str__(self) -> str:
        return f"{100 * self.part / self.whole:.1f} %" if self.whole else "-"


@dataclass(frozen=True)
class Figures:
    """What one library did with the trace."""

    title: str
    hits: Mapping[str, Share]
    """Of the reads of each kind, how many ran no SQL."""
    stale: Counter[str]
    """How many answers of each kind were not the database's."""
    statements_per_read: float
    statements_per_write: float
    read_seconds: float
    write_seconds: float

    @property
    def all_hits(self) -> Share:
        return total(self.hits)


class Comparison:
    """All libraries' figures, and those of a cache that misses only what has changed."""

    def __init__(self, operations: Operations, outcomes: Mapping[str, Outcomes]) -> None:
        truth = outcomes[TRUTH]
        self._truth = figures_of(LIBRARIES[TRUTH].title, operations, truth, truth)
        self._compared = {
            name: figures_of(LIBRARIES[name].title, operations, one, truth)
            for name, one in outcomes.items()
            if name != TRUTH
        }
        self._ideal = hits_of_a_perfect_cache(operations, truth)

    def shortfalls(self) -> list[str]:
        """Why loom_cache is not the best of them, or not right; nothing if it is both."""
        ours = self._compared[OURS]
        stale = ours.stale.total()
        found = [f"{ours.title} gave {stale} stale answers."] if stale else []
        return found + [
            f"{ours.title} answers {ours.all_hits} of the reads without SQL, "
            f"{one.title} {one.all_hits}."
            for one in self._compared.values()
            if one is not ours and one.all_hits.part >= ours.all_hits.part
        ]

    def table(self) -> str:
        """The figures as Markdown, one library a column."""
        stale = [kind for kind in trace.READS if any(one.stale[kind] for one in self._all())]
        columns = [
            [
                *("", "**hit rate**", *(f"- {kind}" for kind in trace.READS)),
                *("**stale answers**", *(f"- {kind}" for kind in stale)),
                "SQL per read",
                "SQL per write, beyond Django's",
                "time of a read, uncached = 1",
                "time of a write, uncached = 1",
            ],
            *(self._column(one, stale) for one in self._all()),
            ["a perfect cache", *_percentages(self._ideal), *["0"] * (1 + len(stale)), *[""] * 4],
        ]
        return aligned(list(zip(*columns, strict=True)))

    def _all(self) -> Iterable[Figures]:
        return self._compared.values()

    def _column(self, one: Figures, stale: Sequence[str]) -> list[str]:
        truth = self._truth
        numbers = [
            one.statements_per_read,
            one.statements_per_write - truth.statements_per_write,
            one.read_seconds / truth.read_seconds,
            one.write_seconds / truth.write_seconds,
        ]
        return [
            *(one.title, *_percentages(one.hits)),
            *(str(one.stale.total()), *(str(one.stale[kind]) for kind in stale)),
            *(f"{number:.2f}" for number in numbers),
        ]


def figures_of(title: str, operations: Operations, outcomes: Outcomes, truth: Outcomes) -> Figures:
    done = list(zip(operations, outcomes, truth, strict=True))
    reads = [one for operation, one, _ in done if not operation.is_write]
    writes = [one for operation, one, _ in done if operation.is_write]
    return Figures(
        title=title,
        hits=_shares(operations, [one.statements == 0 for one in outcomes]),
        stale=Counter(operation.kind for operation, one, true in done if one.answer != true.answer),
        statements_per_read=sum(one.statements for one in reads) / len(reads),
        statements_per_write=sum(one.statements for one in writes) / len(writes),
        read_seconds=median(one.seconds for one in reads),
        write_seconds=median(one.seconds for one in writes),
    )


def hits_of_a_perfect_cache(operations: Operations, truth: Outcomes) -> dict[str, Share]:
    """What was asked before, word for word, and had the same answer then."""
    last: dict[trace.Operation, str] = {}
    hits = []
    for operation, true in zip(operations, truth, strict=True):
        hits.append(last.get(operation) == true.answer)
        last[operation] = true.answer
    return _shares(operations, hits)


def total(shares: Mapping[str, Share]) -> Share:
    parts = [(one.part, one.whole) for one in shares.values()]
    return Share(*map(sum, zip(*parts, strict=True)))


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that is a table to the eye too; all columns but the first are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    head, *body = ([_padded(cell, widths[at], at) for at, cell in enumerate(row)] for row in rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *body))


def _padded(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column else cell.ljust(width)


def _percentages(shares: Mapping[str, Share]) -> list[str]:
    return [str(total(shares)), *map(str, shares.values())]


def _shares(operations: Operations, hits: Sequence[bool]) -> dict[str, Share]:
    """Of the reads of each kind, how many were hits."""
    found: dict[str, list[bool]] = {kind: [] for kind in trace.READS}
    for operation, hit in zip(operations, hits, strict=True):
        if not operation.is_write:
            found[operation.kind].append(hit)
    return {kind: Share(sum(some), len(some)) for kind, some in found.items()}
