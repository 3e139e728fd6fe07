"""Whether two values are the same in everything that can be told of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pickle import PicklingError
from typing import Any, Final
from uuid import UUID

from django.utils.functional import LazyObject

_ATOMS: Final = frozenset((bool, int, str, bytes, UUID, date, timedelta))
_SPELLED: Final = frozenset((float, Decimal, datetime, time))
"""Equal ones may differ: -0.0 and 0.0, two numbers of decimals, one moment in two zones."""

Seen = dict[tuple[int, int], Any]


def same(mine: Any, other: Any, seen: Seen | None = None) -> bool:
    """Whether two values are of the same type and made of the same parts, cycles included.

    `seen` are pairs that are taken for the same. May raise what somebody else's __eq__ or
    __reduce_ex__ raises.
    """
    seen = {} if seen is None else seen
    if mine is other:
        return True
    kind: Any = type(mine)
    if kind is not type(other):
        return False
    if kind in _ATOMS:
        return bool(mine == other)
    if kind in _SPELLED:
        return repr(mine) == repr(other)
    if (id(mine), id(other)) in seen:
        return True
    seen[id(mine), id(other)] = (mine, other)  # kept, so that no id is used again
    if kind in (list, tuple):
        return _same_items(mine, other, seen)
    if kind is dict:
        return _same_items(list(mine.items()), list(other.items()), seen)
    if kind in (set, frozenset):
        return {(type(item), item) for item in mine} == {(type(item), item) for item in other}
    return _same_state(mine, other, seen)


def _same_items(mine: Sequence[Any], other: Sequence[Any], seen: Seen) -> bool:
    return len(mine) == len(other) and all(
        same(left, right, seen) for left, right in zip(mine, other, strict=True)
    )


def _same_state(mine: Any, other: Any, seen: Seen) -> bool:
    """By what pickle would keep of them; what it refuses is only the same as itself."""
    if isinstance(mine, LazyObject):
        return False  # not worth loading it
    try:
        states = [_state_of(mine), _state_of(other)]
    except (TypeError, PicklingError):
        return False
    return same(states[0], states[1], seen)


def _state_of(value: Any) -> Any:
    parts = value.__reduce_ex__(4)
    return [list(part) if isinstance(part, Iterator) else part for part in parts]


def has_equality(kind: Any) -> bool:
    """Whether the type has a notion of being equal beyond being one object."""
    return kind.__eq__ is not object.__eq__
