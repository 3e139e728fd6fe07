"""invalidate(): for what Django cannot see (another program wrote to the database)."""

from __future__ import annotations

from typing import Any

from django.db import connections, models, router
from django.utils.asyncio import async_unsafe

from loom_cache import labels, tables, writes
from loom_cache.exceptions import LoomCacheError
from loom_cache.labels import Model
from loom_cache.tags import Change, Changes, merge


@async_unsafe(
    "invalidate() would block the event loop until the store has answered: await ainvalidate()."
)
def invalidate(target: models.Model | Model | str, *pks: Any) -> None:
    """Make unreadable what is cached of a model class, an instance, "app" or "app.Model"; with
    primary keys, only of these rows and of lists. Inside atomic it takes effect on commit.

    Raises LoomCacheError if there is no such model or if a primary key is of the wrong type.
    """
    changes, model = changes_of(target, pks)
    if not writes.defer(model, changes):
        writes.bump(changes)


async def ainvalidate(target: models.Model | Model | str, *pks: Any) -> None:
    """invalidate() without blocking the event loop."""
    changes, model = changes_of(target, pks)
    if not writes.defer(model, changes):
        await writes.abump(changes)


def changes_of(target: Any, pks: tuple[Any, ...]) -> tuple[Changes, Model]:
    """What an invalidation of `target` changes, and the model whose database it belongs to."""
    if isinstance(target, models.Model):
        if pks:
            raise LoomCacheError(
                f"invalidate() was given an instance of {target._meta.label} and primary keys; "
                f"give the class with primary keys, or the instance alone."
            )
        if target.pk is None:
            raise LoomCacheError(
                f"The {target._meta.label} given to invalidate() was never saved: nothing cached "
                f"can depend on it."
            )
        target, pks = type(target), (target.pk,)
    found = _models(target)
    if not pks:
        return {tables.name_of(m): Change(unknown=True) for m in _with_parents(found)}, found[0]
    if len(found) > 1:
        raise LoomCacheError(
            f"invalidate({target!r}, ...) names an app with {len(found)} models; primary keys "
            f'need one model, such as "{found[0]._meta.label}".'
        )
    changes: Changes = {}
    for pk in pks:
        merge(changes, _changes_of_row(found[0], pk))
    return changes, found[0]


def _changes_of_row(model: Model, pk: Any) -> Changes:
    labels.row_of(model, pk)  # raises for what is no primary key of the model
    vendor = connections[router.db_for_write(model)].vendor
    known, one_row = tables.watched(), _tables_of_row(model)
    rows = {
        name: known[name].row(pk, vendor) if name in known and name in one_row else None
        for name in map(tables.name_of, _with_parents([model]))
    }
    return {
        name: Change(unknown=True) if row is None else Change(rows={row}, anywhere=True)
        for name, row in rows.items()
    }


def _tables_of_row(model: Model) -> set[str]:
    """The model's table, and those of its parents whose rows have the same primary key: of
    several parents only one shares it."""
    found = {tables.name_of(model)}
    key: Any = model._meta.pk
    while key.remote_field is not None and key.remote_field.parent_link:
        found.add(tables.name_of(key.remote_field.model))
        key = key.remote_field.model._meta.pk
    return found


def _models(target: Any) -> list[Model]:
    if isinstance(target, str):
        found = labels.models_named(target)
        if not found:
            raise LoomCacheError(
                f"The app {target!r} has no models; there is nothing to invalidate."
            )
        return found
    if isinstance(target, type) and issubclass(target, models.Model):
        return [target]
    raise LoomCacheError(
        f"invalidate() takes a model class, an instance, or a label such as 'shop.Article', not "
        f"{type(target).__name__}; of some rows give the class and their primary keys: "
        f"invalidate(Article, 7, 8)."
    )


def _with_parents(found: list[Model]) -> list[Model]:
    """A row of a multi-table child is one in each of its parents' tables, too."""
    return [one for model in found for one in (model, *model._meta.all_parents)]
