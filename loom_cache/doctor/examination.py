"""The order of the questions: is it there, what is it, is it set up well, what lies in it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Final

from loom_cache import config
from loom_cache.backends import Facts
from loom_cache.config import CacheConfig
from loom_cache.doctor.contents import of_contents
from loom_cache.doctor.findings import Finding, error, warning, well
from loom_cache.doctor.server import of_clocks, of_server
from loom_cache.exceptions import StoreUnavailable
from loom_cache.gateway import CacheGateway
from loom_cache.generations import GenerationalDependencyResolver
from loom_cache.inspection import resolver_in_force
from loom_cache.tags import OF_NOTHING

PINGS: Final = 20
ROOM: Final = 10
"""TIMEOUT should be so many round trips: the server has others to serve."""


def examine() -> list[Finding]:
    """Everything that there is to say, in whole sentences. LoomCacheError for wrong settings."""
    resolver = resolver_in_force()
    settings = config.current_or_default()
    return [*_of_settings(settings), *_of_stores(resolver, settings), *_of_process(resolver)]


def _of_settings(settings: CacheConfig) -> Iterator[Finding]:
    if not settings.enabled:
        yield warning(
            "settings",
            "ENABLED is False: every read goes to the database, and writes still invalidate.",
            "Remove it from LOOM_CACHE to cache again.",
        )


def _of_stores(
    resolver: GenerationalDependencyResolver, settings: CacheConfig
) -> Iterator[Finding]:
    data = CacheGateway(alias=settings.aiocache_alias)
    counting = CacheGateway(alias=settings.effective_counter_alias)
    together = data.shares_server_with(counting)
    stores = [("entries and counters", counting)]
    if not together:
        stores = [("entries", data), ("counters", counting)]
    clock: float | None = None
    answered = True
    for what, gateway in stores:
        try:
            before = time.time()
            facts = gateway.facts_sync()
            yield from _of_facts(facts, before, settings)
            clock = facts.clock
            yield from _answers(what, gateway, settings)
        except StoreUnavailable as failure:
            answered = False
            yield _silent(what, failure)
    yield _aliases(data, counting, together=together)
    if not counting.native_counters:
        yield _foreign(counting)
    if answered:
        yield from of_contents(resolver, time.time() if clock is None else clock)


def _answers(what: str, gateway: CacheGateway, settings: CacheConfig) -> Iterator[Finding]:
    """By what a read does: the first request, which connects, is not counted."""
    key = gateway.full_key(OF_NOTHING)
    gateway.fetch_sync([key])
    taken = []
    for _ in range(PINGS):
        began = time.perf_counter()
        gateway.fetch_sync([key])
        taken.append(time.perf_counter() - began)
    middle, worst = statistics.median(taken), max(taken)
    said = (
        f"The store of {what} (alias {gateway.alias!r}) answers in {_milliseconds(middle)}, the "
        f"median of {PINGS}; the slowest took {_milliseconds(worst)}."
    )
    yield well("connection", said)
    yield of_timeout(middle, settings.timeout)


def of_timeout(middle: float, timeout: float) -> Finding:
    """`middle`: how long an answer takes. Seconds."""
    if middle * ROOM <= timeout:
        return well("timeout", f"TIMEOUT ({timeout:g} s) leaves room for many round trips.")
    return warning(
        "timeout",
        f"TIMEOUT is {timeout:g} s, less than {ROOM} round trips of {_milliseconds(middle)}: "
        f"under load reads will give up and go to the database.",
        f"Set TIMEOUT to {max(0.25, round(middle * ROOM * 2, 2)):g} or more, or move the store "
        f"nearer.",
    )


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def _silent(what: str, failure: StoreUnavailable) -> Finding:
    return error(
        "connection",
        f"The store of {what} does not answer: reads go to the database and invalidations are "
        f"queued. {failure}",
        "Start the server, or correct LOCATION (or AIOCACHE_CONFIG); a firewall, a password or "
        "TLS may be in the way.",
    )


def _of_facts(facts: Facts, before: float, settings: CacheConfig) -> Iterator[Finding]:
    after = time.time()
    yield well("store", f"The store is {_named(facts)}.")
    yield from of_server(facts, strict=bool(settings.strict))
    if facts.clock is not None:
        yield from of_clocks(facts.clock, (before + after) / 2, after - before)


def _named(facts: Facts) -> str:
    if facts.kind == "memory":
        return facts.place
    place = f" at {facts.place}" if facts.place else ""
    return f"{facts.kind}{'' if facts.version is None else f' {facts.version}'}{place}"


def _aliases(data: CacheGateway, counting: CacheGateway, *, together: bool) -> Finding:
    names = f"Entries are in the alias {data.alias!r}, counters in {counting.alias!r}"
    if together:
        return well("aliases", f"{names}, on one server: a hit is one round trip.")
    return warning(
        "aliases",
        f"{names}, on two servers: a hit is two round trips, one after the other.",
        "Put both on one server, unless counters need one that evicts nothing.",
    )


def _foreign(gateway: CacheGateway) -> Finding:
    return warning(
        "counters",
        f"The store of the alias {gateway.alias!r} has no atomic counters and no scripts: every "
        f"answer depends on whole tables, and a bump writes a new seed.",
        "Use Redis for the counters (COUNTER_ALIAS).",
    )


def _of_process(resolver: GenerationalDependencyResolver) -> Iterator[Finding]:
    breaker = resolver.breaker
    if breaker.closed and not breaker.has_lost:
        yield well("process", "This process uses the store, and no invalidation is queued in it.")
    else:
        yield error(
            "process",
            f"This process has given the store up for now; {breaker.queued:,} invalidations are "
            f"queued in it, and other processes may be stale until they land.",
            "It tries again once a second; see why the store does not answer.",
        )
