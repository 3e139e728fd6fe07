"""CacheConfig: the LOOM_CACHE setting, decoded, checked and frozen."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qs, urlsplit

import msgspec
from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from loom_cache.exceptions import ConfigurationError

SETTING = "LOOM_CACHE"
STATIC_NAMESPACE = "loom"
MEMORY_TTL_CAP = 5.0  # seconds; a write in another process is not seen by a store in memory

MEMORY_BACKEND = "loom_cache.backends.memory.MemoryCache"
REDIS_BACKEND = "loom_cache.backends.redis.RedisCache"
SERIALIZER = "loom_cache.serializer.MsgspecSerializer"
MEMORY_CLASSES = (
    MEMORY_BACKEND,
    "aiocache.SimpleMemoryCache",
    "aiocache.backends.memory.SimpleMemoryCache",
)
REDIS_CLASSES = (REDIS_BACKEND, "aiocache.RedisCache", "aiocache.backends.redis.RedisCache")

logger = logging.getLogger("loom_cache")


class NearConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="upper"
):
    """The in-process layer kept coherent by Redis."""

    max_size: int = 10_000
    max_bytes: int = 50_000_000
    max_age: float = 2.0


class CacheConfig(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename="upper",
    dict=True,
):
    """Every key of LOOM_CACHE by its lower-case name. Times are seconds."""

    location: str | None = None
    aiocache_config: dict[str, dict[str, Any]] | None = None
    aiocache_alias: str = "default"
    counter_alias: str | None = None
    namespace: str = STATIC_NAMESPACE
    default_ttl: float = 300
    default_list_ttl: float = 120
    missing_ttl: float = 10
    ttl: dict[str, float] = {}
    ttl_jitter: float = 0.1
    max_size: int = 10_000
    strict: bool | tuple[str, ...] = False
    ignore: tuple[str, ...] = ("sessions.session", "admin.logentry")
    max_rows: int = 10_000
    max_value_bytes: int = 1_000_000
    near: NearConfig | None = None
    timeout: float = 0.25
    write_timeout: float = 2.0
    enabled: bool = True
    require_depends_on: bool = False
    ask_before_writes: bool = True

    def __post_init__(self) -> None:
        """Labels of models are compared in lower case."""
        lowered = {label.lower(): seconds for label, seconds in self.ttl.items()}
        msgspec.structs.force_setattr(self, "ttl", lowered)
        msgspec.structs.force_setattr(self, "ignore", tuple(x.lower() for x in self.ignore))
        if not isinstance(self.strict, bool):
            msgspec.structs.force_setattr(self, "strict", tuple(x.lower() for x in self.strict))

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Where the cache is and what it is called; never the credentials in it."""
        return [("location", redacted(self.location)), ("namespace", self.namespace)]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"CacheConfig({shown})"

    @property
    def effective_counter_alias(self) -> str:
        """The alias that holds the generations."""
        if self.counter_alias is not None:
            return self.counter_alias
        return self.aiocache_alias if self.aiocache_config is not None else "counters"

    @cached_property
    def aliases(self) -> dict[str, dict[str, Any]]:
        """What is handed to aiocache, by alias."""
        if self.aiocache_config is not None:
            return self.aiocache_config
        place = self._memory() if is_memory_location(self.location) else self._redis()
        return {"default": {**place, "serializer": {"class": SERIALIZER}}, "counters": place}

    def _memory(self) -> dict[str, Any]:
        """One store for both aliases, and another one for every configuration."""
        return {"cache": MEMORY_BACKEND, "max_size": self.max_size, "store": secrets.token_hex(8)}

    def _redis(self) -> dict[str, Any]:
        return {
            "cache": REDIS_BACKEND,
            "url": self.location,
            "timeout": self.timeout,
            "write_timeout": self.write_timeout,
            "name_key": f"{self.static_namespace}:incarnation",
        }

    @cached_property
    def patience(self) -> float:
        """Seconds the cache may cost a read: TIMEOUT, or what the aliases say themselves."""
        used = (self.aiocache_alias, self.effective_counter_alias)
        given = [self.aliases.get(alias, {}).get("timeout") for alias in used]
        return max([float(seconds) for seconds in given if seconds is not None] or [self.timeout])

    @property
    def static_namespace(self) -> str:
        """The prefix of every key that does not depend on who asks."""
        return STATIC_NAMESPACE if "." in self.namespace else self.namespace

    @cached_property
    def namespace_callable(self) -> Callable[[], str] | None:
        """What NAMESPACE names when it is a dotted path; it is to be called at every read."""
        if "." not in self.namespace:
            return None
        return cast(Callable[[], str], import_string(self.namespace))

    @cached_property
    def ttl_cap(self) -> float | None:
        """The longest an entry is kept, in seconds, when the data alias is in memory."""
        if self.location is not None and is_memory_location(self.location):
            return float(
                parse_qs(urlsplit(self.location).query).get("ttl_cap", [MEMORY_TTL_CAP])[0]
            )
        return MEMORY_TTL_CAP if is_memory(self.aliases[self.aiocache_alias]) else None

    def ttl_for(self, label: str, *, many: bool) -> float:
        """Seconds that an answer about model `label` is kept, by TTL and the defaults."""
        if many:
            return self.ttl.get(f"{label.lower()}_list", self.default_list_ttl)
        return self.ttl.get(label.lower(), self.default_ttl)


def redacted(location: str | None) -> str | None:
    """`location` without anything that may be a credential, however it is written."""
    if location is None:
        return None
    scheme, separator, _ = location.partition("://")
    if not separator or _SCHEME.fullmatch(scheme) is None:
        return "..."
    try:
        parts = urlsplit(location)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return f"{scheme}://..."
    if is_broken_up(location) or not (parts.hostname or parts.scheme in ("unix", "memory")):
        return f"{scheme}://..."
    return f"{scheme}://{parts.hostname or ''}{port}{parts.path}"


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}")


def is_broken_up(location: str) -> bool:
    """Whether a password with a `/`, `?` or `#` in it seems to have ended the address early: what
    is taken for the host, the port or the path is then a part of it."""
    parts = urlsplit(location)
    return any("@" in part for part in (parts.path, parts.query, parts.fragment))


def is_memory_location(location: str | None) -> bool:
    """Whether LOCATION, or its absence, means this process's memory."""
    return location is None or location.partition("://")[0] == "memory"


def is_memory(alias: Mapping[str, Any]) -> bool:
    """Whether an alias keeps what it is given in this process's memory."""
    return class_path(alias.get("cache", MEMORY_BACKEND)) in MEMORY_CLASSES


def class_path(backend: Any) -> str:
    """The dotted path of a class that is given as itself or by its path."""
    return backend if isinstance(backend, str) else f"{backend.__module__}.{backend.__qualname__}"


class Problem(NamedTuple):
    """Something wrong with the settings: whole sentences, and never a password."""

    id: str
    message: str
    hint: str


def parse(raw: Mapping[str, Any]) -> CacheConfig:
    """The configuration that `raw` describes. ConfigurationError names the first thing wrong."""
    from loom_cache.problems import find  # which has to know CacheConfig

    found = find(raw)
    if found:
        raise ConfigurationError(f"{found[0].message} {found[0].hint}")
    return msgspec.convert(raw, CacheConfig)


def problems() -> list[Problem]:
    """Why the LOOM_CACHE setting cannot be used."""
    from loom_cache.problems import find

    return find(_raw())


class _Unread:
    """The settings have not been looked at yet."""


_current: CacheConfig | _Unread | None = _Unread()


def current() -> CacheConfig | None:
    """The configuration in force; None while the settings are wrong, and reads then bypass."""
    return _read() if isinstance(_current, _Unread) else _current


def current_or_default() -> CacheConfig:
    """The configuration in force, or the defaults while the settings are wrong."""
    return current() or CacheConfig()


def _raw() -> Any:
    return getattr(settings, SETTING, {})


def _read() -> CacheConfig | None:
    """Decode the settings and register their aliases. No I/O, and nothing is raised."""
    global _current
    setting_changed.connect(_on_setting_changed, dispatch_uid="loom_cache.config")
    try:
        config = parse(_raw())
    except ConfigurationError as error:
        logger.error("Nothing is cached until the settings are mended. %s", error)
        _current = None
        return None
    from loom_cache.gateway import CacheGateway  # which has to know CacheConfig

    CacheGateway.apply_config(config)
    _current = config
    return config


def _on_setting_changed(*, setting: str, **kwargs: object) -> None:
    if setting == SETTING:
        _read()
