"""One deadline for all requests that are made for one reader or writer."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from loom_cache.deadlines import Allowance, limited
from loom_cache.exceptions import StoreUnavailable
from tests.clock import Clock, clock

__all__ = ["clock"]


def test_without_an_allowance_a_request_has_its_own_limit(clock: Clock) -> None:
    assert limited(3.0) == 3.0


def test_a_request_has_what_the_earlier_ones_left(clock: Clock) -> None:
    allowance = Allowance(1.0)
    with allowance:
        assert limited(3.0) == 1.0
        clock.now += 0.25
        assert limited(3.0) == 0.75
        assert limited(0.5) == 0.5
    with allowance:
        assert limited(3.0) == 0.75


def test_time_between_requests_is_not_the_stores(clock: Clock) -> None:
    """A load from the database may take longer than the cache ever may."""
    allowance = Allowance(1.0)
    with allowance:
        clock.now += 0.25
    clock.now += 60
    with allowance:
        assert limited(3.0) == 0.75
    assert limited(3.0) == 3.0


def test_when_it_is_used_up_nothing_is_asked(clock: Clock) -> None:
    allowance = Allowance(1.0)
    with allowance:
        clock.now += 1.0
    with allowance, pytest.raises(StoreUnavailable, match="all the time"):
        limited(3.0)


def test_a_request_that_fails_has_used_its_time(clock: Clock) -> None:
    allowance = Allowance(1.0)
    with suppress(StoreUnavailable), allowance:
        clock.now += 0.75
        raise StoreUnavailable("It is down.")
    assert allowance.left == 0.25


def test_tasks_have_allowances_of_their_own(clock: Clock) -> None:
    async def asked(seconds: float, others: Callable[[], Any]) -> float:
        with Allowance(seconds):
            await others()
            return limited(3.0)

    async def both() -> list[float]:
        barrier = asyncio.Barrier(2)
        return list(await asyncio.gather(asked(1.0, barrier.wait), asked(2.0, barrier.wait)))

    assert asyncio.run(both()) == [1.0, 2.0]
