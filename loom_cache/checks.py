"""System checks of the settings. Every id is documented in docs/checks.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core import checks, mail
from django.core.checks import CheckMessage

from loom_cache import config
from loom_cache.config import SETTING, CacheConfig
from loom_cache.gateway import CacheGateway
from loom_cache.problems import nearest


def check_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Errors for settings that cannot be used: until they are mended, nothing is cached."""
    return [
        checks.Error(problem.message, hint=problem.hint, id=problem.id)
        for problem in config.problems()
    ]


def check_labels(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Errors for labels in TTL, IGNORE and STRICT that are those of no model, or contradict."""
    current = config.current()
    if current is None:
        return []
    return [
        *_unknown_in_ttl(current),
        *_unknown_in_ignore(current),
        *_unknown_in_strict(current),
    ]


def check_store_is_shared(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """A warning for a store that only one process can see, where there will be several."""
    current = config.current()
    testing = hasattr(mail, "outbox")  # Django's test runners turn DEBUG off
    if current is None or settings.DEBUG or testing:
        return []
    names = (current.aiocache_alias, current.effective_counter_alias)
    if not any(config.is_memory(current.aliases[name]) for name in names):
        return []
    return [
        checks.Warning(
            f"{SETTING} keeps its cache in the memory of each process, and DEBUG is off.",
            hint="Each process sees only its own writes at once, and those of others when entries "
            "expire. Set LOCATION to a Redis that all of them share.",
            id="loom_cache.W001",
        )
    ]


def check_strict_store(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """An error for STRICT where the store cannot keep its promise."""
    current = config.current()
    if current is None or not current.strict:
        return []
    alias = current.effective_counter_alias
    if CacheGateway(alias=alias).native_counters:
        return []
    return [
        checks.Error(
            f"{SETTING} has STRICT, and the cache alias {alias!r} cannot tell who is writing.",
            hint="That takes Redis, or the memory of one process. Without it what is read is as "
            "new as the last acknowledged write.",
            id="loom_cache.E015",
        )
    ]


def _unknown_in_ttl(current: CacheConfig) -> Iterator[CheckMessage]:
    labels = _labels()
    known = labels | {f"{label}_list" for label in labels}
    for label in current.ttl:
        if label not in known:
            yield _unknown("TTL", label, known)


def _unknown_in_ignore(current: CacheConfig) -> Iterator[CheckMessage]:
    """The default names models of Django that need not be installed."""
    labels = _labels()
    for label in current.ignore:
        if label not in labels and label not in CacheConfig().ignore:
            yield _unknown("IGNORE", label, labels)


def _unknown_in_strict(current: CacheConfig) -> Iterator[CheckMessage]:
    labels = _labels()
    for label in () if isinstance(current.strict, bool) else current.strict:
        if label not in labels:
            yield _unknown("STRICT", label, labels)
        elif label in current.ignore:
            yield checks.Error(
                f"{SETTING} names {label!r} in STRICT and in IGNORE.",
                hint="What is ignored is never cached. Remove it from one of the two.",
                id="loom_cache.E016",
            )


def _unknown(key: str, label: str, known: set[str]) -> CheckMessage:
    return checks.Error(
        f"{SETTING}[{key!r}] names {label!r}, and no model has that label.",
        hint=nearest(label, known) or "Labels are written 'app_label.Model'.",
        id="loom_cache.E014",
    )


def _labels() -> set[str]:
    return {model._meta.label_lower for model in apps.get_models(include_auto_created=True)}
