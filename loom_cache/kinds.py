"""What the rows of a question are, so that a stored answer of another kind is none."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Model
from django.db.models.query import (
    BaseIterable,
    FlatValuesListIterable,
    ModelIterable,
    NamedValuesListIterable,
    ValuesIterable,
    ValuesListIterable,
)

from loom_cache.codec import CorruptEntry

if TYPE_CHECKING:
    from loom_cache.query import CachedQuery


@dataclass(frozen=True, slots=True)
class Kind:
    """What every row is an instance of."""

    model: type[Model] | None
    """None: of no model. Model: it cannot be told."""
    kind: type = object

    def check(self, rows: Collection[Any]) -> None:
        """CorruptEntry if one of them is something else."""
        for found in set(map(type, rows)):
            if not issubclass(found, self.kind):
                raise CorruptEntry(f"A stored answer holds a {found.__qualname__}.")


_VALUES = Kind(None)
_DICTS = Kind(None, dict)
_TUPLES = Kind(None, tuple)
_UNKNOWN = Kind(Model)


def of_rows(query: CachedQuery[Any]) -> Kind:
    """By the last method of the chain that decides it, else by the base queryset."""
    for method, _, kwargs in reversed(query.steps):
        if method == "values":
            return _DICTS
        if method == "values_list":
            return _VALUES if kwargs.get("flat") else _TUPLES
        if method in ("dates", "datetimes"):
            return _VALUES
    return _of_iterable(query.repository.iterable(), query.model)


def _of_iterable(kind: type[BaseIterable[Any]], model: type[Model]) -> Kind:
    if issubclass(kind, ModelIterable):
        return Kind(model)
    known: dict[type, Kind] = {
        ValuesIterable: _DICTS,
        ValuesListIterable: _TUPLES,
        NamedValuesListIterable: _TUPLES,
        FlatValuesListIterable: _VALUES,
    }
    return known.get(kind, _UNKNOWN)  # somebody's own may make anything
