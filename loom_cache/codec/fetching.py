"""Fetch modes, which Django has since 6.1: how an instance loads what it was made without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from django.db import models
from django.db.models import Model
from django.utils.inspect import func_accepts_kwargs, func_supports_parameter

FETCH_ONE: Final = 0
MODES: Final[tuple[Any, ...]] = tuple(
    getattr(models, name)
    for name in ("FETCH_ONE", "FETCH_PEERS", "FETCH_RAISE")
    if hasattr(models, name)
)


def mode_number(state: Mapping[str, Any]) -> int | None:
    """Which of MODES an instance's state has; None for one of somebody else's making."""
    mode = state.get("fetch_mode")
    if mode is None:
        return FETCH_ONE
    return next((number for number, known in enumerate(MODES) if known is mode), None)


def from_db_of(model: type[Model], number: int) -> Callable[..., Any]:
    """`model.from_db` with the fetch mode bound, called as Django's own queries call it."""
    from_db: Callable[..., Any] = model.from_db
    if not MODES and number == FETCH_ONE:
        return from_db
    mode = MODES[number]
    if func_supports_parameter(from_db, "fetch_mode") or func_accepts_kwargs(from_db):
        return partial(from_db, fetch_mode=mode)
    return from_db
