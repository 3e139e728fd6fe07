"""Models in whose making somebody has a hand: `__init__`, from_db(), signals, descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django.db.models import Model

from loom_cache.codec.fetching import from_db_of
from loom_cache.codec.sameness import same
from loom_cache.codec.shapes import Shape, raw_file_name
from loom_cache.exceptions import UnsupportedValue

_DJANGOS: Final = ("_state", "_prefetched_objects_cache")


def made_by_itself(
    shape: Shape, fetch_mode: int, attnames: Sequence[str], member: Model, row: Sequence[Any]
) -> set[str]:
    """The further attributes that an instance gives itself when it is made from the same row.

    UnsupportedValue if one made from the values of `member` differs from it in its fields.
    """
    from_db = from_db_of(shape.model, fetch_mode)
    twin = _make(from_db, shape, member._state.db, list(attnames), row)
    _check_fields(shape, attnames, member, twin)
    ordinary = {*attnames, *_DJANGOS}
    partners = {(id(member), id(twin)): None, (id(member._state), id(twin._state)): None}
    made = set()
    for name in twin.__dict__.keys() - ordinary:
        try:
            if same(member.__dict__[name], twin.__dict__[name], dict(partners)):
                made.add(name)
        except Exception as error:  # of somebody else's __eq__ or __reduce__
            raise UnsupportedValue(
                f"{shape.model._meta.label}.{name} cannot be compared with that of an instance "
                f"made from the same row ({type(error).__name__}); read it without the cache."
            ) from error
    return made


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
    return same(mine, other)


_MISSING: Final = object()
