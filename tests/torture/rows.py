"""Which rows there are (pure)."""

from __future__ import annotations

from collections.abc import Sequence

ROWS = 20
GROUPS = 4
PKS = range(1, ROWS + 1)


def group_of(pk: int) -> int:
    return pk % GROUPS


def members(group: int) -> Sequence[int]:
    return [pk for pk in PKS if group_of(pk) == group]
