"""Models in whose making somebody has a hand: `__init__`, from_db(), signals, descriptors."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.db.models import Model

from loom_cache.codec.fetching import from_db_of
from loom_cache.codec.shapes import Shape, raw_file_name
from loom_cache.exceptions import UnsupportedValue

_DJANGOS: Final = ("_state", "_prefetched_objects_cache")


def self_made(
    shape: Shape,
    fetch_mode: int,
    attnames: Sequence[str],
    members: Sequence[Model],
    values: Sequence[Sequence[Any]],
) -> frozenset[str]:
    """The further attributes that an instance of that model gives itself, the same every time.

    UnsupportedValue if an instance made from the values of another differs from it.
    """
    from_db = from_db_of(shape.model, fetch_mode)
    common: set[str] | None = None
    for member, row in zip(members, values, strict=True):
        twin = _make(from_db, shape, member._state.db, list(attnames), row)
        _check_fields(shape, attnames, member, twin)
        extras = [name for name in twin.__dict__ if name not in {*attnames, *_DJANGOS}]
        same = _same_attributes(extras, member, twin)
        common = same if common is None else common & same
    return frozenset(common or ())


def _make(
    from_db: Any, shape: Shape, database: str | None, attnames: list[str], row: Sequence[Any]
) -> Model:
    try:
        twin: Model = from_db(database, attnames, row)
    except Exception as error:
        raise UnsupportedValue(
            f"{shape.model._meta.label} cannot be made from the values of an instance of it "
            f"({type(error).__name__} in its from_db, __init__ or a receiver of post_init); "
            f"let from_db leave the values of the fields alone."
        ) from error
    return twin


def _check_fields(shape: Shape, attnames: Sequence[str], member: Model, twin: Model) -> None:
    wrong = [name for name in shape.attnames if not _same_field(name, member, twin)]
    more = twin.__dict__.keys() - member.__dict__.keys()
    cached = twin._state.fields_cache.keys() - member._state.fields_cache.keys()
    if wrong or more or cached or type(twin) is not type(member):
        name = next(iter((*wrong, *sorted(more), *sorted(cached))), "its class")
        raise UnsupportedValue(
            f"{shape.model._meta.label}: its __init__ or from_db changes what it is given "
            f"({name}), so that an instance made from its own values differs; "
            f"read it without the cache."
        )


def _same_field(name: str, member: Model, twin: Model) -> bool:
    """Also that both are without it. (Django wraps a file when it is first looked at.)"""
    mine, other = (raw_file_name(each.__dict__.get(name, _MISSING)) for each in (member, twin))
    return _same(mine, other, {})


_MISSING: Final = object()


def _same_attributes(extras: Sequence[str], member: Model, twin: Model) -> set[str]:
    seen = {(id(member), id(twin)): None}
    return {
        name for name in extras if _same(member.__dict__[name], twin.__dict__[name], dict(seen))
    }


def _same(mine: Any, other: Any, seen: dict[tuple[int, int], None]) -> bool:
    """Whether two values are of the same type and made of the same parts, cycles included."""
    if mine is other:
        return True
    kind = type(mine)
    if kind is not type(other):
        return False
    if (id(mine), id(other)) in seen:
        return True
    seen[id(mine), id(other)] = None
    if kind in (list, tuple):
        return len(mine) == len(other) and all(
            _same(left, right, seen) for left, right in zip(mine, other, strict=True)
        )
    if kind is dict:
        return _same_items(mine, other, seen)
    if kind is types.MethodType:
        return mine.__func__ is other.__func__ and _same(mine.__self__, other.__self__, seen)
    if kind.__eq__ is object.__eq__ and hasattr(mine, "__dict__"):
        return _same_items(vars(mine), vars(other), seen)
    return _equal(mine, other)


def _same_items(
    mine: Mapping[Any, Any], other: Mapping[Any, Any], seen: dict[tuple[int, int], None]
) -> bool:
    return list(mine) == list(other) and all(_same(mine[key], other[key], seen) for key in mine)


def _equal(mine: Any, other: Any) -> bool:
    if isinstance(mine, float):
        return mine == other or (mine != mine and other != other)
    return (mine == other) is True
