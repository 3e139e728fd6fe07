"""What loom_cache may cost, and whether it does. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.report import aligned
from benchmarks.speed import measures
from benchmarks.speed.measures import Entrant, Measure
from benchmarks.speed.results import Counted, Results

EVEN = 1.2
"""So much more may a hit cost among many entries than among few."""
NO_MORE_SQL = "no SQL beyond Django's"
ONE_SELECT = "one SELECT beyond it, for the values of before (decision 11)"
LOOKUP_AND_STORE = 2
LOOKUP_SEEDING_GUARD_AND_STORE = 4


_WRITES = (
    measures.SAVE,
    measures.SAVE_WITHIN,
    measures.BULK_CREATE,
    measures.BULK_CREATE_MORE,
    measures.SAVE_LISTED,
)


@dataclass(frozen=True)
class Verdict:
    what: str
    allowed: str
    found: str
    is_met: bool
    is_binding: bool
    """Counts are the same on every machine; times are not. The benchmark fails by these alone."""


def verdicts(results: Results) -> Iterator[Verdict]:
    """Of everything that was measured."""
    yield from _of_hits(results)
    yield from _of_misses(results)
    yield from _of_writes(results)
    yield from _of_stampedes(results)
    yield from _of_memory(results)
    yield from _of_growth(results)


def failed(results: Results) -> list[str]:
    """What is wrong on any machine."""
    return [
        f"{one.what}: {one.found}, where the budget is {one.allowed}."
        for one in verdicts(results)
        if one.is_binding and not one.is_met
    ]


def budgets(results: Results) -> str:
    """The verdicts as Markdown."""
    head = ["", "budget", "measured", ""]
    lines = [
        [one.what, one.allowed, one.found, "met" if one.is_met else "**not met**"]
        for one in verdicts(results)
    ]
    return aligned([head, *lines])


def _of_hits(results: Results) -> Iterator[Verdict]:
    row, floor, loom = measures.ROW, measures.FLOOR, measures.LOOM
    yield from _at_most(results, row, loom, 1.25, floor, "the MGET floor's time")
    yield from _requests(results, row, loom, 1)
    yield from _requests(results, row, measures.LOOM_SYNC, 1)
    at_once = measures.ROWS_AT_ONCE
    yield from _times_as_fast(results, at_once, loom, 3, floor, "MGET, each on its own")
    yield from _times_as_fast(results, at_once, loom, 20, measures.CACHEOPS, "django-cacheops")
    yield from _at_most(results, measures.LIST, loom, 1.3, floor, "the MGET floor's time")
    for measure in (measures.LIST, measures.PAGE, measures.BULK, measures.COUNT):
        yield from _requests(results, measure, loom, 1)
    yield from _requests(results, measures.THOUSAND, loom, 2)
    for measure in (measures.ROW, measures.LIST, measures.PAGE, measures.BULK, measures.COUNT):
        yield from _statements(results, measure, loom, 0)


def _of_misses(results: Results) -> Iterator[Verdict]:
    yield from _requests(results, measures.MISS, measures.LOOM, LOOKUP_AND_STORE)
    yield from _statements(results, measures.MISS, measures.LOOM, 1)
    first = measures.FIRST_MISS
    yield from _requests(results, first, measures.LOOM, LOOKUP_SEEDING_GUARD_AND_STORE)
    yield from _statements(results, first, measures.LOOM, 1)


def _of_writes(results: Results) -> Iterator[Verdict]:
    for measure in _WRITES:
        yield from _requests(results, measure, measures.LOOM_SYNC, 1)
        yield from _requests(results, measure, measures.STRICT, 2)
        alone = _counted(results, measure, measures.ALONE_SYNC)
        ours = _counted(results, measure, measures.LOOM_SYNC)
        if alone is not None and ours is not None:
            more = ours.statements - alone.statements
            asks_values = measure is measures.SAVE_LISTED
            what = f"{measure.title}, {_spelled(measures.LOOM_SYNC)}"
            yield Verdict(what, NO_MORE_SQL, f"{more:g}", more == 0, not asks_values)
            if asks_values:
                yield Verdict(what, ONE_SELECT, f"{more:g}", more <= 1, True)


def _of_stampedes(results: Results) -> Iterator[Verdict]:
    for entrant in (measures.LOOM, measures.MEMORY):
        if entrant in results.stampedes:
            most = max(one.statements for one in results.stampedes[entrant])
            what = f"1,000 misses of one row at once, {entrant[0]}"
            yield Verdict(what, "1 statement", f"{most:g}", most == 1, True)


def _of_memory(results: Results) -> Iterator[Verdict]:
    ours = results.memory.get(measures.LOOM)
    theirs = results.memory.get(measures.CACHEOPS_SYNC)
    if ours is not None and theirs is not None:
        yield Verdict(
            "memory in Redis of a cached row",
            f"below django-cacheops' {theirs.bytes:,.0f} bytes",
            f"{ours.bytes:,.0f} bytes",
            ours.bytes < theirs.bytes,
            False,
        )


def _of_growth(results: Results) -> Iterator[Verdict]:
    grown = {
        entries: timed.ratio(measures.LOOM).middle
        for entries in (10**3, 10**4, 10**5, 10**6)
        if (timed := results.timed.get(measures.among(entries).title)) is not None
    }
    if len(grown) > 1:
        fewest, most = min(grown), max(grown)
        found = grown[most] / grown[fewest]
        what = f"hit among {most:,} entries, to one among {fewest:,} (each to its floor)"
        yield Verdict(what, f"<= {EVEN:g} x", f"{found:.2f} x", found <= EVEN, False)


def _at_most(
    results: Results, measure: Measure, entrant: Entrant, limit: float, to: Entrant, named: str
) -> Iterator[Verdict]:
    timed = results.timed.get(measure.title)
    if timed is not None and {entrant, to} <= timed.rounds.keys():
        found = timed.ratio(entrant, to).middle
        allowed = f"<= {limit:g} x {named}"
        yield Verdict(measure.title, allowed, f"{found:.2f} x", found <= limit, False)


def _times_as_fast(
    results: Results, measure: Measure, entrant: Entrant, limit: float, than: Entrant, named: str
) -> Iterator[Verdict]:
    timed = results.timed.get(measure.title)
    if timed is not None and {entrant, than} <= timed.rounds.keys():
        found = timed.ratio(than, entrant).middle
        allowed = f">= {limit:g} x as many as {named}"
        yield Verdict(measure.title, allowed, f"{found:.1f} x", found >= limit, False)


def _requests(
    results: Results, measure: Measure, entrant: Entrant, limit: float
) -> Iterator[Verdict]:
    counted = _counted(results, measure, entrant)
    if counted is not None:
        yield Verdict(
            f"{measure.title}, {_spelled(entrant)}",
            f"{limit:g} round trip{'s' if limit > 1 else ''}",
            f"{counted.round_trips:g}",
            counted.round_trips <= limit,
            True,
        )


def _statements(
    results: Results, measure: Measure, entrant: Entrant, limit: float
) -> Iterator[Verdict]:
    counted = _counted(results, measure, entrant)
    if counted is not None:
        yield Verdict(
            f"{measure.title}, {_spelled(entrant)}",
            f"{limit:g} SQL statement{'' if limit == 1 else 's'}",
            f"{counted.statements:g}",
            counted.statements <= limit,
            True,
        )


def _counted(results: Results, measure: Measure, entrant: Entrant) -> Counted | None:
    timed = results.timed.get(measure.title)
    return None if timed is None else timed.counted.get(entrant)


def _spelled(entrant: Entrant) -> str:
    return "strict" if entrant[0] == "strict" else entrant[1]
