"""What is wrong with a LOOM_CACHE setting. Each problem is documented in docs/checks.md.

Nothing here connects to anything. What is said never contains the value of LOCATION, nor anything
an exception says about it, since there may be a password in it.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, get_type_hints
from urllib.parse import parse_qs, urlsplit

import msgspec
from django.utils.module_loading import import_string

from loom_cache.config import (
    MEMORY_TTL_CAP,
    SETTING,
    CacheConfig,
    Problem,
    is_broken_up,
    is_memory_location,
)
from loom_cache.counters import COUNTER_TTL, MAX_TTL
from loom_cache.exceptions import ConfigurationError

REDIS_SCHEMES = ("redis", "rediss", "unix")
TTLS = ("DEFAULT_TTL", "DEFAULT_LIST_TTL", "MISSING_TTL")
SIZES = ("MAX_SIZE", "MAX_ROWS", "MAX_VALUE_BYTES")
TIMEOUTS = ("TIMEOUT", "WRITE_TIMEOUT")

MEANINGS = {
    "LOCATION": "an address such as 'redis://127.0.0.1:6379/0'",
    "AIOCACHE_CONFIG": "a dictionary of aliases, each a dictionary of options",
    "AIOCACHE_ALIAS": "the name of an alias",
    "COUNTER_ALIAS": "the name of an alias, or None",
    "NAMESPACE": "a string",
    "TTL": "a dictionary such as {'shop.article': 600, 'shop.article_list': 60}",
    "TTL_JITTER": "a number from 0 up to, but not including, 1",
    "STRICT": "True, False, or a list of model labels such as 'shop.article'",
    "IGNORE": "a list of model labels such as 'shop.article'",
    "NEAR": "left out: this version does not offer it",
    "ENABLED": "True or False",
    "REQUIRE_DEPENDS_ON": "True or False",
    "ASK_BEFORE_WRITES": "True or False",
    **dict.fromkeys(TTLS + TIMEOUTS, "a number of seconds greater than 0"),
    **dict.fromkeys(SIZES, "a whole number greater than 0"),
}


def find(raw: object) -> list[Problem]:
    """Every problem that keeps `raw` from being used; those of single keys come first, alone."""
    if not isinstance(raw, Mapping):
        return [
            Problem(
                "loom_cache.E001",
                f"{SETTING} is a {type(raw).__name__}, and should be a dictionary.",
                f"Write {SETTING} = {{'LOCATION': 'redis://127.0.0.1:6379/0'}} in the settings.",
            )
        ]
    found = [*_of_keys(raw), *_of_types(raw)]
    if found:
        return found
    config = msgspec.convert(raw, CacheConfig)
    return [problem for look in _LOOKS for problem in look(config)]


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names what was probably meant."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else ""


def _of_keys(raw: Mapping[Any, Any]) -> Iterator[Problem]:
    known = list(MEANINGS)
    for key in raw:
        if key not in known:
            guess = nearest(str(key).upper(), known)
            yield Problem(
                "loom_cache.E002",
                f"{SETTING} has an unknown key {key!r}.",
                guess or f"The keys are {', '.join(sorted(known))}.",
            )


def _of_types(raw: Mapping[str, Any]) -> Iterator[Problem]:
    for name, kind in get_type_hints(CacheConfig).items():
        key = name.upper()
        if key not in raw:
            continue
        fault = _fault(raw[key], kind)
        if fault:
            place = f"{SETTING}[{key!r}]"
            yield Problem(
                "loom_cache.E003",
                f"{place} cannot be read: {fault}.",
                f"It should be {MEANINGS[key]}.",
            )


def _fault(value: object, kind: Any) -> str:
    """What msgspec has against the value, in Python's words; empty if nothing."""
    if kind == dict[str, float] and isinstance(value, Mapping):
        faults = ((label, _fault(seconds, float)) for label, seconds in value.items())
        return next((f"{label!r}: {fault}" for label, fault in faults if fault), "")
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text = str(error).partition(" - at ")[0].replace("`", "").replace("null", "None")
        return text[0].lower() + text[1:]
    return ""


def _of_numbers(config: CacheConfig) -> Iterator[Problem]:
    for key in SIZES:
        if getattr(config, key.lower()) < 1:
            yield _out_of_range(key)
    for key in TIMEOUTS:
        if not 0 < getattr(config, key.lower()) < math.inf:
            yield _out_of_range(key)
    if not 0 <= config.ttl_jitter < 1:
        yield _out_of_range("TTL_JITTER")


def _out_of_range(key: str) -> Problem:
    return Problem(
        "loom_cache.E004",
        f"{SETTING}[{key!r}] is out of range.",
        f"It should be {MEANINGS[key]}.",
    )


def _of_ttls(config: CacheConfig) -> Iterator[Problem]:
    for key in TTLS:
        yield from _of_ttl(f"[{key!r}]", getattr(config, key.lower()))
    for label, seconds in config.ttl.items():
        yield from _of_ttl(f"['TTL'][{label!r}]", seconds)


def _of_ttl(place: str, seconds: float) -> Iterator[Problem]:
    if not seconds > 0:
        yield Problem(
            "loom_cache.E004",
            f"{SETTING}{place} is {seconds:g}, and should be a number of seconds greater than 0.",
            "There is always a time to live. To cache nothing, set ENABLED to False.",
        )
    elif seconds > MAX_TTL:
        yield Problem(
            "loom_cache.E005",
            f"{SETTING}{place} is {seconds:g} seconds, longer than the {MAX_TTL:g} that are safe.",
            f"Generation counters are forgotten after {COUNTER_TTL:g} idle seconds; entries must "
            "be gone long before, within a third of that.",
        )


def _of_location(config: CacheConfig) -> Iterator[Problem]:
    location = config.location
    if location is None:
        return
    if config.aiocache_config is not None:
        yield Problem(
            "loom_cache.E006",
            f"{SETTING} has both LOCATION and AIOCACHE_CONFIG.",
            "LOCATION builds the aliases by itself. Remove one of the two.",
        )
    scheme, separator, _ = location.partition("://")
    if not separator:
        yield _bad_location("has no scheme")
    elif is_memory_location(location):
        yield from _of_memory(location)
    elif scheme not in REDIS_SCHEMES:
        shown = f" {scheme!r}" if scheme.isalpha() and len(scheme) < 20 else ""
        yield _bad_location(f"has an unknown scheme{shown}")
    elif not _is_readable(location):
        yield _bad_location("cannot be read as an address of Redis")


def _bad_location(fault: str, hint: str = "") -> Problem:
    return Problem(
        "loom_cache.E007",
        f"{SETTING}['LOCATION'] {fault}.",
        hint
        or "Write redis://[user:password@]host[:port][/database], rediss://..., "
        "unix://[user:password@]/path/to/socket[?db=database] or memory://[?ttl_cap=seconds], "
        "with special characters of a password percent-encoded.",
    )


def _of_memory(location: str) -> Iterator[Problem]:
    parts = urlsplit(location)
    query = parse_qs(parts.query)
    if parts.netloc or parts.path.strip("/") or set(query) - {"ttl_cap"}:
        yield _bad_location("names a place or an option that memory:// does not have")
        return
    try:
        cap = float(query.get("ttl_cap", [str(MEMORY_TTL_CAP)])[0])
    except ValueError:
        cap = 0
    if not 0 < cap <= MAX_TTL:
        yield _bad_location(f"has a ttl_cap that is not a number of seconds up to {MAX_TTL:g}")


def _is_readable(location: str) -> bool:
    try:
        parts = urlsplit(location)
        _ = parts.port
    except ValueError:
        return False
    if is_broken_up(location):
        return False
    if parts.scheme == "unix":
        return bool(parts.path)
    database = parts.path.strip("/")
    return bool(parts.hostname) and (not database or database.isdecimal())


_NOT_IN_A_NAMESPACE = frozenset(" :{}")
"""A colon ends it: no namespace begins with another one. Braces name a slot of a Redis Cluster."""


def _of_namespace(config: CacheConfig) -> Iterator[Problem]:
    name = config.namespace
    if not name or not name.isprintable() or not _NOT_IN_A_NAMESPACE.isdisjoint(name):
        yield Problem(
            "loom_cache.E009",
            f"{SETTING}['NAMESPACE'] is {name!r}, and should be a word without spaces, colons or "
            f"braces.",
            "Leave it out to use 'loom'.",
        )
    elif "." in name and not _is_callable(name):
        yield Problem(
            "loom_cache.E009",
            f"{SETTING}['NAMESPACE'] is {name!r}, which is not the dotted path of a callable.",
            "Correct the path, or write a prefix without dots.",
        )


def _is_callable(path: str) -> bool:
    try:
        return callable(import_string(path))
    except (ImportError, ValueError):  # the latter: it begins with a dot
        return False


def _of_promises(config: CacheConfig) -> Iterator[Problem]:
    """What the settings already have words for, and this version does not do."""
    if config.near is not None:
        yield Problem(
            "loom_cache.E010",
            f"{SETTING}['NEAR'] is set, but this version of loom_cache does not offer it.",
            "Remove it.",
        )


def _of_aliases(config: CacheConfig) -> Iterator[Problem]:
    if list(_of_location(config)) or list(_of_numbers(config)):
        return  # the aliases are built from these
    aliases = config.aliases
    for key, name in (
        ("AIOCACHE_ALIAS", config.aiocache_alias),
        ("COUNTER_ALIAS", config.counter_alias),
    ):
        if name is not None and name not in aliases:
            yield Problem(
                "loom_cache.E008",
                f"{SETTING}[{key!r}] is {name!r}, and there is no such alias.",
                nearest(name, aliases)
                or f"The aliases are {', '.join(map(repr, aliases)) or 'none'}.",
            )
    serializing = {}
    for name, options in aliases.items():
        try:
            serializing[name] = _serializes(options)
        except ConfigurationError as error:
            if config.location is not None:
                yield _bad_location("has an option that cannot be used", _of_option(str(error)))
                return  # every alias has it
            yield Problem(
                "loom_cache.E011", f"The cache alias {name!r} cannot be used.", str(error)
            )
    yield from _of_serializers(config, serializing)


def _of_option(fault: str) -> str:
    """In words of somebody who wrote an address, and made no connection."""
    unknown = re.search(r"unexpected keyword argument ('\w+')", fault)
    if unknown is None:
        return fault
    return f"Remove {unknown[1]} from its query: redis-py's connections have no such option."


def _serializes(options: Mapping[str, Any]) -> bool:
    from loom_cache.gateway import CacheGateway  # which has to know CacheConfig

    return CacheGateway.try_alias(options)


def _of_serializers(config: CacheConfig, serializing: Mapping[str, bool]) -> Iterator[Problem]:
    data, counter = config.aiocache_alias, config.counter_alias
    if serializing.get(data) is False:
        yield Problem(
            "loom_cache.E012",
            f"The cache alias {data!r} holds entries, but does not have the MsgspecSerializer.",
            "Add 'serializer': {'class': 'loom_cache.MsgspecSerializer'} to its options.",
        )
    if counter is not None and counter != data and serializing.get(counter):
        yield Problem(
            "loom_cache.E013",
            f"The cache alias {counter!r} holds counters, but has the MsgspecSerializer.",
            "Counters are plain integers: remove the serializer from its options.",
        )


_LOOKS: tuple[Callable[[CacheConfig], Iterator[Problem]], ...] = (
    _of_numbers,
    _of_ttls,
    _of_location,
    _of_namespace,
    _of_promises,
    _of_aliases,
)
