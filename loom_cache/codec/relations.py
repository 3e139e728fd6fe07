"""What may be attached to the instances of a model, and under which names."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from django.db.models import Field, Model
from django.db.models.manager import ManagerDescriptor

from loom_cache.exceptions import UnsupportedValue


@dataclass(frozen=True, slots=True)
class Prefetchable:
    """A relation that `prefetch_related` fills."""

    accessor: str
    """The attribute that holds its manager."""
    model: type[Model]
    needs: frozenset[str]
    """The fields that the manager looks at; one that is not loaded would be asked for."""


@lru_cache(maxsize=4096)
def prefetchable(model: type[Model], cache_name: str) -> Prefetchable:
    """The relation whose manager uses that key of `_prefetched_objects_cache`."""
    found = {one.accessor: one for name, one in _managers(model) if name == cache_name}
    if len(found) != 1:
        raise UnsupportedValue(
            f"{model._meta.label} has objects prefetched under {cache_name!r}, which "
            f"{'several relations use' if found else 'no relation of Django uses'}; prefetch "
            f"them with Prefetch(..., to_attr=...)."
        )
    return found.popitem()[1]


def accessor_of(model: type[Model], cache_name: str) -> str:
    return prefetchable(model, cache_name).accessor


def _managers(model: type[Model]) -> Iterator[tuple[str, Prefetchable]]:
    options = model._meta
    keys = options.pk_fields
    for field in options.many_to_many:
        source = _through(field, field.m2m_field_name())
        yield field.name, _prefetchable(field.name, field, [*keys, *source])
    for generic in options.private_fields:
        if generic.one_to_many:
            yield generic.attname, _prefetchable(generic.name, generic, keys)
    relations: Iterable[Any] = options.related_objects
    for relation in relations:
        accessor = relation.get_accessor_name()
        if accessor is None or relation.one_to_one:
            continue
        if relation.many_to_many:
            name = relation.field.related_query_name()
            targets = _through(relation.field, relation.field.m2m_reverse_field_name())
        else:
            name, targets = relation.cache_name, relation.field.foreign_related_fields
        yield name, _prefetchable(accessor, relation, [*keys, *targets])


def _through(field: Any, name: str) -> tuple[Field[Any, Any], ...]:
    """What the table between refers to on this side."""
    targets: tuple[Field[Any, Any], ...] = field.remote_field.through._meta.get_field(
        name
    ).foreign_related_fields
    return targets


def _prefetchable(accessor: str, relation: Any, needs: list[Any]) -> Prefetchable:
    return Prefetchable(
        accessor, _concrete(relation.related_model), frozenset(field.attname for field in needs)
    )


def _concrete(related: Any) -> type[Model]:
    """As Django, which takes instances of a proxy for those of its model. Model: anything."""
    known = isinstance(related, type) and issubclass(related, Model)
    found: type[Model] = related._meta.concrete_model if known else Model
    return found


@lru_cache(maxsize=4096)
def related_model(model: type[Model], cache_name: str) -> type[Model]:
    """What Django keeps under that name in `_state.fields_cache` is an instance of; Model where
    that may be anything."""
    for field in model._meta.get_fields(include_hidden=True):
        if field.is_relation and getattr(field, "cache_name", None) == cache_name:
            return _concrete(field.related_model)
    return Model


@lru_cache(maxsize=4096)
def may_hold(model: type[Model], name: str) -> bool:
    """Whether an instance may have a further attribute of that name, such as an annotation. One
    that hides a method or a property of its class, or belongs to Django, would change what the
    instance does."""
    if name.startswith("__") or name in _DJANGOS_OWN:
        return False
    hidden = inspect.getattr_static(model, name, None)
    return not (
        callable(hidden) or isinstance(hidden, _HOOKS) or hasattr(type(hidden), "__set__")
    ) and name not in {field.attname for field in model._meta.concrete_fields}


_DJANGOS_OWN: Final = frozenset(("_state", "_prefetched_objects_cache", "_meta"))
_HOOKS: Final = (classmethod, staticmethod, ManagerDescriptor)
