"""Each planted mistake is found by the machine: it would notice if the product made it."""

from __future__ import annotations

import os

import pytest

from tests.model.faults import FAULTS, Fault
from tests.model.machine import Stale
from tests.model.running import run_steps
from tests.model.world import TWIN, World

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", TWIN])

MOST_STEPS = 3000


@pytest.mark.parametrize("world", ["memory"], indirect=True)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_machine_finds(fault: Fault, world: World) -> None:
    seed = int(os.environ.get("LOOM_MODEL_SEED", "1"))
    with fault.planted(), pytest.raises(Stale):
        run_steps(world, first=seed, steps=MOST_STEPS, only=fault.shown_by, shrink=False)
