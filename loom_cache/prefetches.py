"""Which tables prefetch_related reaches, found from the models alone (nothing is run)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from django.apps import apps
from django.core.exceptions import EmptyResultSet, FieldDoesNotExist
from django.db import models
from django.db.models import Prefetch, QuerySet
from django.db.models.manager import BaseManager

from loom_cache import sql, tables


def tables_of(queryset: QuerySet[Any]) -> set[str]:
    """The tables that the QuerySet's prefetches read, as far as can be told: a generic relation
    or a property shows only what it reads when it runs."""
    names: set[str] = set()
    for lookup in lookups_of(queryset):
        through = lookup.prefetch_through if isinstance(lookup, Prefetch) else str(lookup)
        for model in _models_along(queryset.model, through.split("__")):
            names.update(_tables_of_model(model))
        if isinstance(lookup, Prefetch) and lookup.queryset is not None:
            names |= tables_of(lookup.queryset) | compiled(lookup.queryset).names
    return names


def lookups_of(queryset: Any) -> tuple[Any, ...]:
    """What it prefetches: strings and Prefetch objects."""
    found: tuple[Any, ...] = queryset._prefetch_related_lookups
    return found


def asking_managers(
    model: type[models.Model], lookups: Iterable[Any]
) -> Iterator[BaseManager[Any]]:
    """Managers with a get_queryset() of their own that these prefetches go through: what it gives
    may depend on who asks."""
    for lookup in lookups:
        through = lookup.prefetch_through if isinstance(lookup, Prefetch) else str(lookup)
        given = lookup.queryset if isinstance(lookup, Prefetch) else None
        parts = through.split("__")
        yield from _managers_along(model, tuple(parts if given is None else parts[:-1]))
        if isinstance(given, QuerySet):
            yield from asking_managers(given.model, lookups_of(given))


@lru_cache(maxsize=4096)
def _managers_along(
    model: type[models.Model], parts: tuple[str, ...]
) -> tuple[BaseManager[Any], ...]:
    along = list(_models_along(model, parts))
    if None in along:  # it may lead anywhere
        along = list(apps.get_models())
    managers = (
        manager
        for each in along
        if each is not None
        for manager in (each._default_manager, each._base_manager)
    )
    return tuple(filter(asks, managers))


def asks(manager: BaseManager[Any]) -> bool:
    """Whether the manager makes its QuerySets by code of its own, which may look who is there."""
    kind: Any = type(manager)
    return kind.get_queryset is not BaseManager.get_queryset


def compiled(queryset: QuerySet[Any]) -> sql.Statement:
    """The SELECT that a QuerySet stands for, read as SQL."""
    compiler = queryset.query.clone().get_compiler(using=queryset.db)
    try:
        text, _ = compiler.as_sql()
    except EmptyResultSet:
        return sql.read("")
    return sql.read(text, vendor=compiler.connection.vendor)


def _models_along(
    model: type[models.Model], parts: Iterable[str]
) -> Iterator[type[models.Model] | None]:
    """Each model on the way, the tables between included; None where it cannot be told."""
    for part in parts:
        relation = _relation(model, part)
        if relation is None:
            yield None
            return
        through = getattr(relation, "through", None) or getattr(
            getattr(relation, "remote_field", None), "through", None
        )
        if through is not None:
            yield through
        model = relation.related_model
        yield model


def _relation(model: type[models.Model], name: str) -> Any:
    for reverse in model._meta.related_objects:
        if reverse.get_accessor_name() == name:
            return reverse
    try:
        relation = model._meta.get_field(name)
    except FieldDoesNotExist:
        return None
    return relation if isinstance(relation.related_model, type) else None


def _tables_of_model(model: type[models.Model] | None) -> Iterator[str]:
    if model is not None:
        yield tables.name_of(model)
        for parent in model._meta.all_parents:
            yield tables.name_of(parent)
