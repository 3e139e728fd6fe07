"""System checks of what is declared in repositories. Every id is documented in docs/checks.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.core.checks import CheckMessage
from django.db import connections

from loom_cache import labels
from loom_cache.calls import CachedCall
from loom_cache.counters import MAX_TTL
from loom_cache.exceptions import UnsupportedValue
from loom_cache.labels import UnknownName
from loom_cache.repository import CachedRepository, declared_repositories

Repository = type[CachedRepository[Any]]


def check_repositories(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Errors for declarations that cannot work, found before the first read."""
    return [message for repository in declared_repositories for message in _wrong_with(repository)]


def _wrong_with(repository: Repository) -> Iterator[CheckMessage]:
    name = repository.__qualname__
    yield from _unknown_models(f"{name}.depends_on", repository.depends_on, repository)
    for attribute in ("ttl", "list_ttl"):
        yield from _too_long(f"{name}.{attribute}", getattr(repository, attribute), repository)
    alias = repository.declared_alias
    if alias is not None and alias not in connections.settings:
        yield checks.Error(
            f"{name}.using is {alias!r}, which is no database alias.",
            hint=f"DATABASES has {', '.join(map(repr, connections.settings))}.",
            obj=repository,
            id="loom_cache.E023",
        )
    for call in _calls(repository):
        yield from _wrong_with_call(call, repository)


def _calls(repository: Repository) -> Iterator[CachedCall]:
    for attribute in vars(repository).values():
        call = getattr(attribute, "cached_call", None)
        if isinstance(call, CachedCall):
            yield call


def _wrong_with_call(call: CachedCall, repository: Repository) -> Iterator[CheckMessage]:
    yield from _unknown_models(f"depends_on of {call.name}", call.depends_on, repository)
    yield from _too_long(f"ttl of {call.name}", call.ttl, repository)
    try:
        assert call.codec is not None
    except UnsupportedValue as error:
        yield checks.Error(
            f"What {call.name} returns cannot be cached. {error}",
            hint="Annotate it with what a hit should decode to, such as list[int], a dataclass "
            "or a model.",
            obj=repository,
            id="loom_cache.E020",
        )


def _unknown_models(where: str, targets: Any, repository: Repository) -> Iterator[CheckMessage]:
    for target in [targets] if isinstance(targets, str | type) else targets:
        try:
            labels.models_of([target])
        except UnknownName as error:
            yield checks.Error(f"{where}: {error}", obj=repository, id="loom_cache.E021")


def _too_long(where: str, seconds: float | None, repository: Repository) -> Iterator[CheckMessage]:
    if seconds is not None and seconds > MAX_TTL:
        yield checks.Error(
            f"The {where} is {seconds:,} seconds, and nothing is kept so long.",
            hint=f"Use {MAX_TTL:,.0f} seconds at the most.",
            obj=repository,
            id="loom_cache.E022",
        )
