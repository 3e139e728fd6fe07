"""Running the machine: how much, from which seed, and what is done about a failure."""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Collection

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Machine
from tests.model.world import World

STEPS_IN_A_RUN = 30
RUNS_OF_A_SEED = 9
"""After ten Hypothesis varies a little what it has already run, which finds less than new runs."""
PATIENCE = 180
"""Seconds after which a run that hangs says where."""


def run_steps(
    world: World, *, steps: int, first: int, only: Collection[str] = (), shrink: bool = True
) -> None:
    """At least so many steps, from the seed `first` and those after it; of a failure the smallest
    script that shows it."""
    number = first
    while world.tally.steps < steps:
        _run(world, number, only=only, shrink=shrink)
        number += 1


def _run(world: World, number: int, *, only: Collection[str], shrink: bool) -> None:
    errors = sys.__stderr__
    assert errors is not None

    @seed(number)
    def machine() -> Machine:
        # Anew for each run: pytest's own limit is one for the whole test.
        faulthandler.dump_traceback_later(PATIENCE, exit=True, file=errors)
        return Machine(world, only)

    run_state_machine_as_test(
        machine,  # type: ignore[arg-type]  # any callable that makes one will do
        settings=settings(
            max_examples=RUNS_OF_A_SEED,
            stateful_step_count=STEPS_IN_A_RUN,
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
            deadline=None,
            database=None,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
