"""From results to tables."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.report import aligned
from benchmarks.speed.budgets import budgets
from benchmarks.speed.contestants import CONTESTANTS
from benchmarks.speed.measures import Entrant
from benchmarks.speed.results import Results, Spread, Timed

HEAD = ["", "time, first = 1", "quartiles", "median", "quartiles", "round trips", "SQL"]


def tables(results: Results) -> str:
    """Everything, as Markdown."""
    parts = [
        times(results),
        stampedes(results) if results.stampedes else "",
        memory(results) if results.memory else "",
        budgets(results),
        *profiles(results),
    ]
    return "\n\n".join(part for part in parts if part)


def times(results: Results) -> str:
    lines = [line for timed in results.timed.values() for line in _of_measure(timed)]
    return aligned([HEAD, *lines])


def _of_measure(timed: Timed) -> Iterator[list[str]]:
    yield [f"**{timed.measure.title}**", *[""] * (len(HEAD) - 1)]
    for entrant in timed.measure.entrants:
        ratio, seconds, counted = (
            timed.ratio(entrant),
            timed.seconds(entrant),
            timed.counted[entrant],
        )
        yield [
            f"- {title(entrant)}",
            f"{_ratio(ratio.middle)}",
            f"{_ratio(ratio.low)} - {_ratio(ratio.high)}",
            *_absolute(seconds, timed.measure.at_once),
            f"{counted.round_trips:g}",
            f"{counted.statements:g}",
        ]


def stampedes(results: Results) -> str:
    head = ["1,000 misses of one row at once", "SQL statements", "time"]
    lines = [
        [
            title(entrant),
            f"{median(one.statements for one in some):,g}",
            f"{1e3 * median(one.seconds for one in some):,.0f} ms",
        ]
        for entrant, some in results.stampedes.items()
    ]
    return aligned([head, *lines])


def memory(results: Results) -> str:
    head = ["memory in Redis of a cached row", "bytes", "keys"]
    lines = [
        [title(entrant), f"{one.bytes:,.0f}", f"{one.keys:.1f}"]
        for entrant, one in results.memory.items()
    ]
    return aligned([head, *lines])


def profiles(results: Results) -> Iterator[str]:
    for measured, functions in results.profiles.items():
        head = [f"loom_cache, async: {measured}", "with what it calls", "own time", "calls"]
        lines = [
            [
                f"`{one.name}`",
                f"{100 * one.cumulative:.1f} %",
                f"{100 * one.own:.1f} %",
                f"{one.calls:.3g}",
            ]
            for one in functions
        ]
        yield aligned([head, *lines])


def title(entrant: Entrant) -> str:
    name, way = entrant
    return CONTESTANTS[name].titles[way]


def _ratio(number: float) -> str:
    return f"{number:.3f}" if number < 0.1 else f"{number:.2f}"


def _absolute(seconds: Spread, at_once: int) -> list[str]:
    if at_once > 1:
        low, middle, high = (1 / one for one in (seconds.high, seconds.middle, seconds.low))
        return [f"{middle:,.0f} /s", f"{low:,.0f} - {high:,.0f}"]
    low, middle, high = (1e6 * one for one in (seconds.low, seconds.middle, seconds.high))
    return [f"{middle:,.0f} us", f"{low:,.0f} - {high:,.0f}"]
