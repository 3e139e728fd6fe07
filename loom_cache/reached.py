"""The rows that the instances of an answer are, and those that hang on them (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import ForeignKey, Model
from django.db.models.signals import post_init, pre_init

from loom_cache import tables
from loom_cache.tables import Row

MAX_ROWS = 100
"""Rows of one table that an answer depends on one by one; beyond it on the table."""


@dataclass(slots=True)
class Reached:
    """Rows by table."""

    rows: dict[str, set[Row]] = field(default_factory=dict)
    untold: set[str] = field(default_factory=set)
    """Tables with rows that cannot be named, are too many, or are missing where one is named."""
    opaque: bool = False
    """A model makes its instances by code of its own, which may drop or add some."""

    def of(self, table: str) -> set[Row] | None:
        """The rows of the table; None if they cannot be told."""
        if self.opaque or table in self.untold:
            return None
        return self.rows.get(table, set())

    def add(self, table: str, row: Row | None) -> None:
        rows = self.rows.setdefault(table, set())
        if row is None or len(rows) >= MAX_ROWS:
            self.untold.add(table)
        else:
            rows.add(row)


def from_instances(roots: Iterable[object]) -> Reached:
    """What can be reached from the instances by what is attached to them."""
    found, seen = Reached(), set[int]()
    todo = [root for root in roots if _is_instance(root)]
    while todo:
        instance: Any = todo.pop()
        if id(instance) in seen:
            continue
        seen.add(id(instance))
        kind: type[Model] = type(instance)
        found.opaque = found.opaque or _is_opaque(kind)
        for table, attname, key in _identities(kind):
            found.add(table, tables.as_row(key, instance.__dict__.get(attname)))
        _note_missing(instance, found)
        todo += _attached(instance)
    return found


def _is_instance(value: object) -> bool:
    return issubclass(type(value), Model)


def _attached(instance: Any) -> Iterator[Model]:
    yield from filter(_is_instance, instance._state.fields_cache.values())
    for name, value in instance.__dict__.items():
        if name == "_prefetched_objects_cache":
            for queryset in value.values():
                yield from filter(_is_instance, getattr(queryset, "_result_cache", None) or ())
        elif type(value) is list:
            yield from filter(_is_instance, value)
        elif name != "_state" and _is_instance(value):
            yield value


def _note_missing(instance: Any, found: Reached) -> None:
    """A row that is named and not there may come to be."""
    kind: type[Model] = type(instance)
    for name, value in instance._state.fields_cache.items():
        if value is None:
            for attname, table in _pointers(kind, name):
                if instance.__dict__.get(attname) is not None:
                    found.untold.add(table)


@lru_cache(maxsize=4096)
def _pointers(model: type[Model], name: str) -> tuple[tuple[str, str], ...]:
    try:
        pointer = model._meta.get_field(name)
    except FieldDoesNotExist:
        return ()
    if not isinstance(pointer, ForeignKey):
        return ()
    return ((pointer.attname, tables.name_of(pointer.remote_field.model)),)


@lru_cache(maxsize=4096)
def _identities(model: type[Model]) -> tuple[tuple[str, str, Any], ...]:
    """Table, attribute and key of each row that an instance is: one in each parent's, too."""
    kinds = (model, *model._meta.all_parents)
    concrete = {kind._meta.concrete_model for kind in kinds if not kind._meta.abstract}
    return tuple(
        (tables.name_of(kind), kind._meta.pk.attname, kind._meta.pk)
        for kind in concrete
        if kind is not None
    )


def _is_opaque(model: type[Model]) -> bool:
    made: Any = model
    own = made.from_db.__func__ is not Model.from_db.__func__  # type: ignore[attr-defined]
    listened = pre_init.has_listeners(model) or post_init.has_listeners(model)
    return own or model.__init__ is not Model.__init__ or listened
