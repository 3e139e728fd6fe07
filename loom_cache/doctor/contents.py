"""What lies in the store: counters, open writers, entries. Looked at, never changed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from loom_cache import counters, entries, leases, rebuilding, tables
from loom_cache.codec import CorruptEntry
from loom_cache.doctor.findings import Finding, error, warning, well
from loom_cache.entries import Entry
from loom_cache.exceptions import StoreUnavailable
from loom_cache.generations import GenerationalDependencyResolver
from loom_cache.keys import label_of_entry

SAMPLE: Final = 500
"""Counters, and entries, that are looked at."""
LONG: Final = 60.0
"""Seconds in a transaction after which a strict writer is worth a warning."""
FUTURE: Final = 5.0
"""Seconds that a seed may be ahead of the clock, which was read before."""


def of_contents(resolver: GenerationalDependencyResolver, clock: float) -> Iterator[Finding]:
    """`clock`: that of the store, in Unix seconds."""
    try:
        yield from _seeds(resolver, clock)
        yield from _writers(resolver)
        yield from _entries(resolver)
    except StoreUnavailable as failure:
        yield well("contents", f"What lies in the store was not looked at. {failure}")


def _seeds(resolver: GenerationalDependencyResolver, clock: float) -> Iterator[Finding]:
    found = resolver.counters_sync(SAMPLE)
    ahead = {
        name: seconds
        for name, value in found.items()
        if (seconds := counters.seeded_at(value).timestamp() - clock) > FUTURE
    }
    if ahead:
        worst = max(ahead, key=lambda name: ahead[name])
        yield error(
            "seeds",
            f"{len(ahead):,} of {len(found):,} counters were seeded in the future, {worst} by "
            f"{ahead[worst]:,.0f} s: the clock that seeds them went back, and a seed that comes "
            f"twice would make an old answer readable.",
            "Mend that clock (NTP), then delete the keys of the namespace once.",
        )
    elif found:
        yield well("seeds", f"No counter was seeded in the future ({len(found):,} looked at).")
    else:
        yield well("seeds", "There are no counters: nothing is cached.")


class Inside(NamedTuple):
    """A strict writer that is inside a transaction."""

    table: str
    process: str
    """`host:pid`."""
    seconds: float
    """How long it has been there, by the clocks of its machine and of this one."""


def open_writers(resolver: GenerationalDependencyResolver) -> list[Inside]:
    """Those of all processes, the longest first."""
    now = time.time()
    found = [
        Inside(table, process, max(0.0, now - began))
        for table, writers in resolver.writers_sync().items()
        for process, began in (leases.described(name) for name, left in writers if left > 0)
    ]
    return sorted(found, key=lambda one: -one.seconds)


def _writers(resolver: GenerationalDependencyResolver) -> Iterator[Finding]:
    if not tables.strict():
        yield well("writers", "No model is strict.")
        return
    inside = open_writers(resolver)
    if not inside:
        yield well("writers", "No strict writer is inside a transaction.")
        return
    listed = ", ".join(f"{one.process} in {one.table} ({one.seconds:,.0f} s)" for one in inside[:5])
    more = f" and {len(inside) - 5:,} more" if len(inside) > 5 else ""
    said = (
        f"Strict writers are inside transactions: {listed}{more}. Until they are done nothing of "
        f"these tables is cached."
    )
    if inside[0].seconds > LONG:
        yield warning(
            "writers",
            said,
            "Write to strict models in short transactions. A process that was killed there counts "
            f"for {leases.LEASE:g} s at most.",
        )
    else:
        yield well("writers", said)


def _entries(resolver: GenerationalDependencyResolver) -> Iterator[Finding]:
    keys = list(dict.fromkeys(islice(filter(label_of_entry, resolver.walk_sync()), SAMPLE)))
    found = [data for data in resolver.look_sync(keys, []).entries if data] if keys else []
    strange = sum(map(_is_strange, found))
    if strange:
        yield warning(
            "entries",
            f"{strange:,} of {len(found):,} sampled entries cannot be read by this code: another "
            f"release stored them, or one whose models have other fields. They are misses.",
            "After a deploy they end with their TTL. If they stay, two projects share a "
            "namespace: give each its own NAMESPACE.",
        )
    elif found:
        yield well("entries", f"This code can read what is stored ({len(found):,} looked at).")


def _is_strange(data: bytes) -> bool:
    entry = entries.read(data)
    return entry is None or not _is_readable(entry)


def _is_readable(entry: Entry) -> bool:
    """As far as its question shows how it is read."""
    try:
        rebuilding.asked_again(entry.question).make().decode(0, entry.body)
    except CorruptEntry:
        return False
    except Exception:  # noqa: BLE001  the project's own code is asked, out of its context
        return True
    return True
