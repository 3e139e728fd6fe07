"""Names of models and rows as people write them: `shop`, `shop.Article`, a class, an instance."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from django.apps import apps
from django.db import models

from loom_cache import tables
from loom_cache.exceptions import LoomCacheError

Model = type[models.Model]


class UnknownName(LoomCacheError, LookupError):
    """No model, app or row key of that name."""


def models_named(label: str) -> list[Model]:
    """The models of `app_label` or `app_label.Model`, case-insensitively.

    Raises UnknownName, which names the nearest right one.
    """
    app_label, _, name = label.strip().partition(".")
    by_app = {config.label.lower(): config for config in apps.get_app_configs()}
    if not name and app_label.lower() in by_app:
        return list(by_app[app_label.lower()].get_models(include_auto_created=True))
    by_label = {
        model._meta.label_lower: model for model in apps.get_models(include_auto_created=True)
    }
    if name and label.strip().lower() in by_label:
        return [by_label[label.strip().lower()]]
    right = {model._meta.label_lower: model._meta.label for model in by_label.values()}
    right |= {lower: config.label for lower, config in by_app.items()}
    near = get_close_matches(label.lower(), right, n=1, cutoff=0)
    hint = f" Did you mean {right[near[0]]!r}?" if near else ""
    raise UnknownName(f"There is no model or app {label!r}.{hint}")


def models_of(targets: Iterable[Model | str] | Model | str) -> list[Model]:
    """Model classes, from classes and labels, or from a single one."""
    found: list[Model] = []
    given: list[Any] = [targets] if isinstance(targets, str | type) else list(targets)
    for target in given:
        if not isinstance(target, str) and not (
            isinstance(target, type) and issubclass(target, models.Model)
        ):
            raise UnknownName(
                f"{target!r} is no model; name a class, or a label such as 'shop.Article'."
            )
        found += models_named(target) if isinstance(target, str) else [target]
    return found


def row_of(model: Model, pk: Any) -> tables.Row | None:
    """`pk` as the row of `model` that it names; None if rows of that type are not told apart.

    Raises UnknownName for a value that is no primary key of the model.
    """
    key = model._meta.pk
    row = tables.as_row(key, pk)
    if row is None and _told_apart(key):
        raise UnknownName(
            f"{pk!r} is no primary key of {model._meta.label}: "
            f"{key.name} is a {type(key).__name__}."
        )
    return row


def _told_apart(key: Any) -> bool:
    while isinstance(key, models.ForeignKey):
        key = key.target_field
    return isinstance(key, models.IntegerField | models.UUIDField)
