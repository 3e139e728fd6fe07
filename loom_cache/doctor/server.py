"""What the facts of a server mean for the cache. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from loom_cache.backends import Facts
from loom_cache.doctor.findings import Finding, error, warning, well

OLDEST: Final = (6,)
"""The first version of Redis that will do."""
NEARLY_FULL: Final = 0.9
MAX_SKEW: Final = 1.0
"""Seconds."""
MAX_LAG: Final = 10
"""Seconds."""


def of_server(facts: Facts, *, strict: bool) -> Iterator[Finding]:
    if facts.kind != "Redis":
        return
    yield from _version(facts)
    yield from _permissions(facts)
    yield from _cluster(facts)
    yield from _role(facts)
    yield from _memory(facts, strict=strict)
    yield from _persistence(facts)


def _version(facts: Facts) -> Iterator[Finding]:
    if facts.version is None:
        return
    parts = tuple(int(part) for part in facts.version.split(".") if part.isdecimal())
    if parts < OLDEST:
        yield error(
            "version",
            f"Redis {facts.version} is older than version {OLDEST[0]}, the first that will do.",
            "Upgrade the server.",
        )


def _permissions(facts: Facts) -> Iterator[Finding]:
    refused = facts.refused
    if "EVAL" in refused:
        yield error(
            "permission: EVAL",
            "This user may not run scripts: nothing can be stored, every read goes to the "
            "database, and an invalidation deletes its counters.",
            "Allow EVAL (ACL SETUSER ... +eval) on the keys that begin with the namespace.",
        )
    if "INFO" in refused:
        saves = facts.saves_snapshots or facts.appends_to_file
        judge, now = (error, "This server saves.") if saves else (warning, "")
        yield judge(
            "permission: INFO",
            "This user may not ask which life of the server this is: a name is kept in the store "
            f"instead, and comes back with a snapshot, and old answers with it. {now}".rstrip(),
            "Allow INFO (ACL SETUSER ... +info), or let the server save nothing.",
        )
    if "UNLINK" in refused:
        yield warning(
            "permission: UNLINK",
            "This user may not delete keys: an invalidation that the server refuses for want of "
            "memory or of scripts has no way left and is queued.",
            "Allow UNLINK (ACL SETUSER ... +unlink).",
        )
    missing = sorted({"EVAL", "INFO", "UNLINK"} & refused)
    if not missing:
        yield well("permission", "INFO, EVAL and UNLINK are permitted.")
    idle = sorted(refused - {"EVAL", "INFO", "UNLINK"})
    if idle:
        yield well(
            "permission",
            f"{', '.join(idle)} {'is' if len(idle) == 1 else 'are'} refused: no read or write "
            f"needs {'it' if len(idle) == 1 else 'them'}, only some lines of this report.",
        )


def _cluster(facts: Facts) -> Iterator[Finding]:
    if facts.clustered:
        yield error(
            "cluster",
            "The server is a node of a Redis Cluster, which this version does not support: keys "
            "of one request lie on several nodes.",
            "Use a server with cluster-enabled no.",
        )


def _role(facts: Facts) -> Iterator[Finding]:
    behind = "" if facts.lag is None else f", at most {facts.lag} s behind"
    if facts.role == "replica":
        yield error(
            "role",
            f"The server is a replica{behind}: it takes no writes, so that nothing is stored and "
            f"no invalidation arrives.",
            "Name the primary server in LOCATION.",
        )
    elif facts.replicas:
        number = f"{facts.replicas} replica{'' if facts.replicas == 1 else 's'}"
        message = (
            f"The server is the primary of {number}{behind}. One that takes over is another life "
            f"of the server: what was cached before is not read there."
        )
        if facts.lag is not None and facts.lag > MAX_LAG:
            yield warning("role", message, "See why the replica lags; the cache does not mind.")
        else:
            yield well("role", message)
    elif facts.role == "master":
        yield well("role", "The server is a primary without replicas.")


def _memory(facts: Facts, *, strict: bool) -> Iterator[Finding]:
    used = "" if facts.used_bytes is None else f"{_megabytes(facts.used_bytes)} in use"
    if facts.max_bytes == 0:
        yield well("memory", f"The server has no maxmemory ({used}): entries end by their TTL.")
    elif facts.max_bytes and facts.used_bytes is not None:
        yield from _limited(facts, facts.max_bytes, facts.used_bytes, used, strict=strict)
    if facts.evicted:
        yield well("evictions", f"{facts.evicted:,} keys were evicted since the server started.")


def _limited(facts: Facts, most: int, taken: int, used: str, *, strict: bool) -> Iterator[Finding]:
    place = f"{used} of {_megabytes(most)}, policy {facts.policy}"
    full = taken / most > NEARLY_FULL
    if facts.policy == "noeviction":
        if full:
            yield warning(
                "memory",
                f"The server is nearly full ({place}): soon it stores no more, and every read "
                f"goes to the database. Invalidations go through: they delete.",
                "Raise maxmemory, shorten the TTLs, or set maxmemory-policy allkeys-lru.",
            )
        else:
            yield well("memory", f"The server has room ({place}).")
    elif strict:
        yield warning(
            "memory",
            f"The server may evict counters ({place}), those of open writers of STRICT models "
            f"included.",
            "Give COUNTER_ALIAS a server with maxmemory-policy noeviction.",
        )
    else:
        yield well(
            "memory",
            f"The server evicts when it is full ({place}): counters may go too, which costs "
            f"misses and is never stale.",
        )


def _megabytes(number: int) -> str:
    return f"{number / 1_000_000:,.1f} MB"


def _persistence(facts: Facts) -> Iterator[Finding]:
    ways = [
        name
        for name, on in (
            ("snapshots", facts.saves_snapshots),
            ("an append-only file", facts.appends_to_file),
        )
        if on
    ]
    if ways:
        yield well(
            "persistence",
            f"The server saves ({' and '.join(ways)}). A restart brings back old counters, and is "
            f"another life of the server: what was cached before is not read. A cache needs no "
            f"saving; it costs disk.",
        )
    elif facts.saves_snapshots is False and facts.appends_to_file is False:
        yield well("persistence", "The server saves nothing to disk: a restart empties the cache.")


def of_clocks(server: float, here: float, within: float) -> Iterator[Finding]:
    """Unix seconds of the two clocks, read within so many seconds."""
    skew = server - here
    if abs(skew) <= MAX_SKEW + within:
        yield well("clock", f"The server's clock agrees with this one, within {MAX_SKEW:g} s.")
    else:
        which = "ahead of" if skew > 0 else "behind"
        yield warning(
            "clock",
            f"The server's clock is {abs(skew):,.1f} s {which} this one. Counters are seeded by "
            f"the server's alone, so that this does no harm while that one only goes forward.",
            "Let both machines keep time by NTP.",
        )
