"""The torture test in short: a few seconds of each mode. `make torture` is the long form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.services.postgres import PostgresServer
from tests.torture.libraries import OURS
from tests.torture.modes import LONG, MODES
from tests.torture.promises import broken
from tests.torture.world import run

SECONDS = {"restart": 3.0, "failover": 3.0, "suspended": 2.0}
"""Others need less to have some faults."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer().start() as server:
        yield server


@pytest.mark.parametrize("name", MODES)
def test_what_is_promised_holds(name: str, postgres: PostgresServer) -> None:
    """No stale read and no error, whatever fails; and rows are right afterwards."""
    mode = MODES[name]
    mode = mode if mode.ttl == LONG else replace(mode, ttl=1.0)
    outcome = run(OURS, mode, SECONDS.get(name, 1.2), postgres=postgres, readers=2)
    assert broken(outcome) == []
