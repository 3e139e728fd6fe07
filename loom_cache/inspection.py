"""The counters as a person wants to see them, and flushing them: what the commands show and do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from loom_cache import config, counters, generations, keys, labels, tables, tags
from loom_cache.exceptions import LoomCacheError
from loom_cache.generations import GenerationalDependencyResolver
from loom_cache.invalidation import changes_of
from loom_cache.labels import Model
from loom_cache.tags import Changes


@dataclass(frozen=True, slots=True)
class Counter:
    """One generation counter that exists in the store."""

    model: str
    """Labels of the models that share the table; the table's name if no model does."""
    tag: str
    """`list`, `id:7`, `where:author_id:3` (or `[counts]`), or `*` for the table's own."""
    generation: int
    bumps: int
    """Since it was seeded, modulo 32,768."""
    seeded: datetime
    open_writers: int


@dataclass(frozen=True, slots=True)
class Flushed:
    """What a flush bumped, or would bump."""

    models: tuple[str, ...]
    tags: tuple[str, ...]
    counters: int
    """How many of the tags' counters exist: nothing is cached under the others."""


class Listing(NamedTuple):
    """Counters, `limit` of them at the most, and how many there are."""

    shown: list[Counter]
    total: int


def counters_of(
    targets: Sequence[str], *, pk: str | None = None, limit: int | None = None
) -> Listing:
    """The counters of these labels' tables (all, if none is given), `limit` at the most.

    Raises UnknownName for a label or primary key that does not exist, StoreUnavailable if the
    store does not answer.
    """
    resolver = resolver_in_force()
    found = _tables_of(targets)
    if pk is not None:
        names = _tags_of_row(targets, pk)
    else:
        names = [name for name in resolver.known_sync() if found is None or _part(name) in found]
    listed = sorted(names, key=_in_order)[:limit]
    now = resolver.look_sync([], listed).generations if listed else {}
    columns = _columns(resolver, listed)
    shown = [_described(name, now[name], columns) for name in listed if name in now]
    return Listing(shown, len(names) if pk is None else len(shown))


def flush(
    targets: Sequence[str], *, pks: Sequence[str] = (), everything: bool = False, dry: bool = False
) -> Flushed:
    """Bump, so that nothing cached before of these labels (or rows of one model) can be read.

    Raises as counters_of; nothing is bumped then.
    """
    resolver = resolver_in_force()
    if pks and (everything or len(targets) != 1):
        raise LoomCacheError("Primary keys need exactly one label, such as shop.Article.")
    if everything:
        affected = labels.models_of(_every_app())
        names = [tags.OF_NOTHING, *(tags.of_table(table) for table in sorted(tables.watched()))]
    else:
        affected, changes = _changes(targets, pks)
        names = tags.of_changes(changes)
    counted = len(resolver.look_sync([], names).generations) if dry else resolver.bump_sync(names)
    shown = tuple(sorted({model._meta.label for model in affected}))
    return Flushed(shown, tuple(names), counted)


def is_local() -> bool:
    """Whether the store is this process's own memory: another process's cannot be seen."""
    settings = config.current()
    return settings is not None and config.is_memory(
        settings.aliases.get(settings.effective_counter_alias, {})
    )


def resolver_in_force() -> GenerationalDependencyResolver:
    resolver = generations.resolver()
    if resolver is None:
        raise LoomCacheError(
            "The LOOM_CACHE setting is wrong; `python manage.py check` says what to mend."
        )
    return resolver


def _every_app() -> Iterable[str]:
    from django.apps import apps

    return [config.label for config in apps.get_app_configs()]


def _changes(targets: Sequence[str], pks: Sequence[str]) -> tuple[list[Model], Changes]:
    found: Changes = {}
    affected: list[Model] = []
    for target in targets:
        changes, _ = changes_of(target, tuple(pks))
        tags.merge(found, changes)
        affected += labels.models_named(target)
    return affected, found


def _tables_of(targets: Sequence[str]) -> set[str] | None:
    """The tables of these labels, as they are spelled in tags; None for all."""
    if not targets:
        return None
    return {keys.safe(tables.name_of(model)) for model in labels.models_of(targets)}


def _tags_of_row(targets: Sequence[str], pk: str) -> list[str]:
    if len(targets) != 1 or len(labels.models_named(targets[0])) != 1:
        raise LoomCacheError("A primary key needs exactly one model, such as shop.Article.")
    model = labels.models_named(targets[0])[0]
    row = labels.row_of(model, pk)
    return [tags.of_row(tables.name_of(model), row)] if row is not None else []


def _part(tag: str) -> str:
    """The table in a tag, as it is spelled there."""
    return tag[tag.index("{") + 1 : tag.index("}")]


def _labels(part: str) -> str:
    known = tables.watched().values()
    found = [table.models for table in known if keys.safe(table.name) == part]
    names = [model._meta.label for model in found[0]] if found else [part or "(no table)"]
    return ", ".join(sorted(names))


def _in_order(tag: str) -> list[str]:
    """Numbers by their value: row 2 before row 10."""
    return [part.zfill(20) if part.isdecimal() else part for part in tag.split(":")]


def _columns(resolver: GenerationalDependencyResolver, names: Iterable[str]) -> dict[str, str]:
    """What combinations are called in tags, and which columns they fix."""
    parts = {_part(name) for name in names}
    found = [table for table in tables.watched() if keys.safe(table) in parts]
    resolver.learn_sync(found)
    known = (one for table in found for one in resolver.catalogue.of(table).combinations)
    return {keys.safe(one.name): ",".join(one.columns) + _KINDS[one.kind] for one in known}


_KINDS = {"rows": "", "later": "[later pages]", "all": "[counts]"}
"""Which answers are found by these columns: lists that name their rows are what is usual."""


def _described(tag: str, generation: int, columns: Mapping[str, str]) -> Counter:
    spelled = tag.partition("}")[2].lstrip(":") or "*"
    return Counter(
        model=_labels(_part(tag)),
        tag=":".join(columns.get(part) or _shortened(part) for part in spelled.split(":")),
        generation=generation,
        bumps=counters.bumps(generation),
        seeded=counters.seeded_at(generation),
        open_writers=counters.open_writers(generation),
    )


def _shortened(part: str) -> str:
    """A digest by its beginning."""
    return f"{part[:9]}..." if part.startswith("~") else part


def as_dict(counter: Counter) -> dict[str, Any]:
    """For JSON: times in ISO 8601."""
    return {
        "model": counter.model,
        "tag": counter.tag,
        "generation": counter.generation,
        "bumps": counter.bumps,
        "seeded": counter.seeded.isoformat(timespec="milliseconds"),
        "open_writers": counter.open_writers,
    }
