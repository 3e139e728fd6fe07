"""Reads of what is not there, or is there no longer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.speed import rows
from benchmarks.speed.operation import Operation, Operations


def misses(reads: Any, hot: int, forget: Callable[[int], Any], ways: tuple[str, ...]) -> Operations:
    """`forget` makes what is cached of a row unreadable, as a write would."""
    made: dict[tuple[str, str], Operation] = {}
    each = (rows.ARTICLES - hot) // len(ways)
    for at, way in enumerate(ways):
        asynchronous = way != "sync"
        read = reads.arow if asynchronous else reads.row
        made["miss", way] = Operation(
            read, hot, asynchronous, before=lambda number: forget(1 + number)
        )
        made["first miss", way] = Operation(
            _shifted(read, hot + at * each), each, asynchronous, warm=_nothing
        )
    return made


def _shifted(read: Callable[[int], Any], by: int) -> Callable[[int], Any]:
    return lambda number: read(by + number)


def _nothing() -> None:
    pass
