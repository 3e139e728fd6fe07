"""The queryset that Django leaves in an instance after prefetch_related()."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import EmptyResultSet, FullResultSet
from django.db.models import Model, Prefetch
from django.db.models.query import QuerySet


def custom_prefetches(
    lookups: Iterable[str | Prefetch[Any]], prefix: str = ""
) -> dict[str, Prefetch[Any]]:
    """The Prefetch objects, at any depth, with a queryset of their own and without to_attr, by
    the path that they fill: what `encode_rows` and `decode_rows` need to know of them."""
    found: dict[str, Prefetch[Any]] = {}
    for lookup in lookups:
        if isinstance(lookup, Prefetch) and lookup.queryset is not None:
            path = f"{prefix}__{lookup.prefetch_to}" if prefix else lookup.prefetch_to
            if lookup.to_attr is None:
                found[path] = lookup
            inner: Any = lookup.queryset
            found |= custom_prefetches(inner._prefetch_related_lookups, path)
    return found


def related_queryset(
    instance: Model, accessor: str, prefetch: Prefetch[Any] | None
) -> QuerySet[Any]:
    """What the manager's `.all()` builds upon: its own queryset, or that of the Prefetch."""
    manager = getattr(instance, accessor)
    if prefetch is None or prefetch.queryset is None:
        queryset: QuerySet[Any] = manager.get_queryset()
        return queryset
    custom: Any = prefetch.queryset._chain()  # type: ignore[attr-defined]
    custom._hints = dict(custom._hints)  # clones share theirs, and a filter adds to them
    filtered: QuerySet[Any] = manager._apply_rel_filters(custom)
    return filtered


def filled(queryset: Any, result: list[Any]) -> Any:
    """The queryset, as if it had been evaluated."""
    queryset._result_cache = result
    queryset._prefetch_done = True
    return queryset


def is_own_query(instance: Model, accessor: str, queryset: QuerySet[Any]) -> bool:
    """Whether a prefetched queryset is the one that the manager builds by itself."""
    twin = type(instance).__new__(type(instance))
    twin.__dict__.update(instance.__dict__)
    del twin.__dict__["_prefetched_objects_cache"]
    return _spelling(related_queryset(twin, accessor, None)) == _spelling(queryset)


def _spelling(queryset: Any) -> tuple[Any, ...]:
    lookups = [
        (type(lookup), getattr(lookup, "prefetch_to", lookup))
        for lookup in queryset._prefetch_related_lookups
    ]
    return type(queryset), queryset._iterable_class, lookups, _sql(queryset)


def _sql(queryset: Any) -> object:
    try:
        return queryset.query.sql_with_params()
    except (EmptyResultSet, FullResultSet) as nothing:
        return type(nothing)
