"""What is measured, of whom, and in which order. Pure."""

from __future__ import annotations

from dataclasses import dataclass

Entrant = tuple[str, str]
"""A contestant, and the way it does it."""

ALONE: Entrant = ("django", "async")
ALONE_SYNC: Entrant = ("django", "sync")
LOOM: Entrant = ("loom", "async")
LOOM_SYNC: Entrant = ("loom", "sync")
STRICT: Entrant = ("strict", "sync")
MEMORY: Entrant = ("memory", "async")
MEMORY_SYNC: Entrant = ("memory", "sync")
CACHEOPS: Entrant = ("cacheops", "async")
CACHEOPS_SYNC: Entrant = ("cacheops", "sync")
CACHALOT: Entrant = ("cachalot", "async")
CACHALOT_SYNC: Entrant = ("cachalot", "sync")
BY_HAND: Entrant = ("by-hand", "async")
BY_HAND_SYNC: Entrant = ("by-hand", "sync")
TAGGED: Entrant = ("cashews", "tags")
NEAR: Entrant = ("cashews", "client side")
FLOOR: Entrant = ("floor", "async")
FLOOR_IN_PROCESS: Entrant = ("floor", "process")

_READERS = (
    *(ALONE, ALONE_SYNC, LOOM, LOOM_SYNC, MEMORY, MEMORY_SYNC),
    *(CACHEOPS, CACHEOPS_SYNC, CACHALOT, CACHALOT_SYNC),
)
_WRITERS = (ALONE_SYNC, LOOM_SYNC, STRICT, MEMORY_SYNC, CACHEOPS_SYNC, CACHALOT_SYNC)


@dataclass(frozen=True)
class Measure:
    """One operation of some contestants, beside the first of them."""

    title: str
    operation: str
    entrants: tuple[Entrant, ...]
    calls: int
    """Of each contestant in each round."""
    at_once: int = 1
    most_rounds: int | None = None
    other: tuple[tuple[Entrant, str], ...] = ()
    """Those whose operation has another name."""

    def operation_of(self, entrant: Entrant) -> str:
        return dict(self.other).get(entrant, self.operation)


def among(entries: int) -> Measure:
    return Measure(
        f"row by pk, hit among {entries:,} entries",
        f"row among {entries}",
        (FLOOR, LOOM),
        200,
        other=((FLOOR, "row"),),
    )


# Lists are asked for last: once they have been, a write has their answers to refresh as well.
ROW = Measure(
    "row by pk",
    "row",
    (*_READERS, BY_HAND, BY_HAND_SYNC, TAGGED, NEAR, FLOOR, FLOOR_IN_PROCESS),
    150,
)
ROWS_AT_ONCE = Measure(
    "row by pk, 50 at once",
    "row",
    (ALONE, LOOM, MEMORY, CACHEOPS, CACHALOT, BY_HAND, TAGGED, NEAR, FLOOR),
    4,
    at_once=50,
)
MISS = Measure(
    "row by pk, written since it was cached",
    "miss",
    (ALONE, ALONE_SYNC, LOOM, LOOM_SYNC, CACHEOPS_SYNC, CACHALOT_SYNC, BY_HAND, TAGGED),
    40,
)
FIRST_MISS = Measure(
    "row by pk, never cached before",
    "first miss",
    (ALONE, ALONE_SYNC, LOOM, LOOM_SYNC, CACHEOPS_SYNC, CACHALOT_SYNC, BY_HAND, TAGGED),
    40,
)
SAVE = Measure("save()", "save", _WRITERS, 40)
SAVE_WITHIN = Measure("save() in atomic", "save in atomic", _WRITERS, 40)
BULK_CREATE = Measure("bulk_create() of 1,000 rows", "bulk_create 1000", _WRITERS, 1, most_rounds=9)
BULK_CREATE_MORE = Measure(
    "bulk_create() of 10,000 rows",
    "bulk_create 10000",
    (ALONE_SYNC, LOOM_SYNC),
    1,
    most_rounds=3,
)
LIST = Measure("list of 20, filtered", "list", (*_READERS, FLOOR, FLOOR_IN_PROCESS), 60)
PAGE = Measure("page of 20 with its count", "page", _READERS, 40)
BULK = Measure("in_bulk() of 100", "bulk", _READERS, 20)
COUNT = Measure("count, filtered", "count", _READERS, 60)
SAVE_LISTED = Measure("save(), lists of the author's rows cached", "save", _WRITERS, 40)
THOUSAND = Measure(
    "in_bulk() of 1,000", "bulk of 1,000", (ALONE, LOOM, MEMORY, CACHEOPS, CACHALOT), 1
)

MEASURES = (
    *(ROW, ROWS_AT_ONCE, MISS, FIRST_MISS, SAVE, SAVE_WITHIN, BULK_CREATE, BULK_CREATE_MORE),
    *(LIST, PAGE, BULK, COUNT, SAVE_LISTED, THOUSAND),
)
STAMPEDES = (ALONE, LOOM, MEMORY, CACHEOPS, CACHALOT, BY_HAND, TAGGED)
PROFILED = (ROW, LIST, BULK)
KEPT = (LOOM, CACHEOPS_SYNC, CACHALOT_SYNC, BY_HAND, TAGGED)
"""Whose memory in Redis is measured."""
