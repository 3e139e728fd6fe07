"""What the benchmark makes of seconds and counts."""

import pytest

from benchmarks.speed import measures
from benchmarks.speed.budgets import failed, verdicts
from benchmarks.speed.measures import ALONE, FLOOR, LOOM, LOOM_SYNC, Measure
from benchmarks.speed.results import Counted, Results, Spread, Stampede, Timed


def timed(measure: Measure, round_trips: float = 1, seconds: float = 1e-3) -> Timed:
    entrants = (ALONE, LOOM, LOOM_SYNC, FLOOR)
    return Timed(
        measure,
        rounds={one: [[1e-3 if one == FLOOR else seconds]] for one in entrants},
        counted=dict.fromkeys(entrants, Counted(round_trips, 0)),
    )


def test_a_ratio_is_of_turns_of_the_same_round() -> None:
    """Whatever slows a whole round down is in none of them."""
    slowed = [1.0, 10.0, 3.0]
    rounds = {ALONE: [[slow * 2] for slow in slowed], LOOM: [[slow] for slow in slowed]}
    assert Timed(measures.ROW, rounds).ratio(LOOM) == Spread(0.5, 0.5, 0.5)


def test_seconds_of_calls_at_once_are_shared_among_them() -> None:
    measure = Measure("", "row", (LOOM,), 1, at_once=50)
    assert Timed(measure, {LOOM: [[5.0], [5.0]]}).seconds(LOOM).middle == pytest.approx(0.1)


def test_a_round_trip_too_many_fails() -> None:
    results = Results({measures.ROW.title: timed(measures.ROW, round_trips=2)})
    assert failed(results) == [
        "row by pk, async: 2, where the budget is 1 round trip.",
        "row by pk, sync: 2, where the budget is 1 round trip.",
    ]


def test_time_fails_nothing_and_is_told() -> None:
    results = Results({measures.ROW.title: timed(measures.ROW, seconds=1.0)})
    assert failed(results) == []
    assert [one.what for one in verdicts(results) if not one.is_met] == ["row by pk"]


def test_a_stampede_that_asks_the_database_twice_fails() -> None:
    results = Results(stampedes={LOOM: [Stampede(1, 0.1), Stampede(2, 0.1)]})
    assert len(failed(results)) == 1
