"""Carries operations out, on an event loop where they need one, and times them there."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from benchmarks.speed.operation import Operation

Turn = Sequence[int]
"""The numbers of the calls that are made at once."""


class Caller:
    """Uses one event loop for everything, as a server does."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner

    def prepare(self, operation: Operation, number: int) -> None:
        if operation.before is not None:
            begun = operation.before(number)
            if inspect.iscoroutine(begun):
                self._runner.run(begun)

    def call(self, operation: Operation, turn: Turn) -> None:
        """Without preparation."""
        self._seconds(operation, [turn])

    def seconds(self, operation: Operation, turns: Sequence[Turn]) -> list[float]:
        """Of each turn, everything in it being prepared before."""
        if operation.before is None:
            return self._seconds(operation, turns)
        taken = []
        for turn in turns:
            for number in dict.fromkeys(turn):
                self.prepare(operation, number)
            taken += self._seconds(operation, [turn])
        return taken

    def _seconds(self, operation: Operation, turns: Sequence[Turn]) -> list[float]:
        if operation.asynchronous:
            return self._runner.run(_aseconds(operation.do, turns))
        return [_seconds(operation.do, turn) for turn in turns]


def _seconds(do: Callable[[int], Any], turn: Turn) -> float:
    started = perf_counter()
    for number in turn:
        do(number)
    return perf_counter() - started


async def _aseconds(do: Callable[[int], Any], turns: Sequence[Turn]) -> list[float]:
    taken = []
    for turn in turns:
        started = perf_counter()
        if len(turn) == 1:
            await do(turn[0])
        else:
            await asyncio.gather(*map(do, turn))
        taken.append(perf_counter() - started)
    return taken
