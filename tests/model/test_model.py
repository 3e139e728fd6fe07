"""Whatever is written, by whom and by which path, in whichever transactions: every answer that
was ever asked for is the database's."""

from __future__ import annotations

import os
import sys

import pytest

from tests.model.running import run_steps
from tests.model.world import TWIN, World

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", TWIN])


def test_no_answer_is_ever_stale(world: World) -> None:
    """LOOM_MODEL_STEPS says how many steps, LOOM_MODEL_SEED where to begin; LOOM_MODEL_STRICT=1
    makes every model strict."""
    steps = int(os.environ.get("LOOM_MODEL_STEPS", "120"))
    seed = int(os.environ.get("LOOM_MODEL_SEED", "1"))
    try:
        run_steps(world, first=seed, steps=steps)
    finally:
        sys.stdout.write(f"\n{world.tally}\n")
    assert world.tally.outcomes("hit") > world.tally.steps  # or nothing is shown
