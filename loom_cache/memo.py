"""What questions of plain values came to when they were asked before: the same words cost little
the next time. Whatever depends on who asks, or when, is worked out anew at every read."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

V = TypeVar("V")

MOST: Final = 10_000
"""Kept in each memo; the oldest go first."""
LONGEST: Final = 200
"""Characters of a text that is worth keeping."""

_PLAIN: Final = frozenset((int, str, bool, type(None), UUID)).issuperset
"""Not float: 0.0 and -0.0 are equal, and two questions."""


class Memo(Generic[V]):
    """Bounded, for one process."""

    def __init__(self) -> None:
        self._known: dict[Hashable, V] = {}
        self.get = self._known.get
        _memos.append(self)

    def keep(self, key: Hashable, value: V) -> None:
        self._known[key] = value
        while len(self._known) > MOST:
            with suppress(RuntimeError):  # another thread was quicker
                self._known.pop(next(iter(self._known)), None)

    def clear(self) -> None:
        self._known.clear()


_memos: list[Memo[Any]] = []


def forget() -> None:
    """Know as little as a process that has just been started."""
    for one in _memos:
        one.clear()


def words(
    origin: Hashable, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Hashable, ...] | None:
    """What tells a step from others after the same `origin`; None if one of its arguments is more
    than a plain value. (Types count: 1 and True are equal, and two questions.)"""
    values = (*args, *kwargs.values())
    types = tuple(map(type, values))
    if not _PLAIN(types):
        return None
    if str in types and any(type(one) is str and len(one) > LONGEST for one in values):
        return None
    return (origin, method, len(args), *kwargs, *values, types)
