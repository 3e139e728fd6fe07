"""How a generation is laid out in one integer.

    milliseconds since 2026-01-01 UTC when it was seeded << 22 | bumps << 7 | open writers

Pure arithmetic. A bump is an atomic addition of BUMP; when the 15 bits of the bump field are full
it carries into the milliseconds, which only makes the number more unique.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

EPOCH_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z in Unix milliseconds
SEED_SHIFT = 22
BUMP_SHIFT = 7
BUMP = 1 << BUMP_SHIFT
BUMP_BITS = SEED_SHIFT - BUMP_SHIFT
BUMP_MASK = (1 << BUMP_BITS) - 1
OPEN_MASK = BUMP - 1
COUNTER_TTL = 7 * 24 * 3600  # seconds of idleness after which a counter is forgotten
MAX_TTL = COUNTER_TTL / 3  # seconds; an entry must be gone long before its counters are

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
LONGEST = 20
"""Digits: a number that has as many is none of 64 bits."""
_INTEGER = re.compile(rb"-?[0-9]{1,19}")


def seed(ms: int, bits: int = 0) -> int:
    """The first value of a counter seeded at `ms` (Unix milliseconds); `bits` fill the bump field.

    Stores without an atomic increment pass random bits: two seeds of one millisecond then differ.
    """
    return (ms - EPOCH_MS) << SEED_SHIFT | (bits & BUMP_MASK) << BUMP_SHIFT


def seeded_at(value: int) -> datetime:
    """When the counter was seeded, in UTC."""
    return _EPOCH + timedelta(milliseconds=value >> SEED_SHIFT)


def bumps(value: int) -> int:
    """How often the counter was bumped since it was seeded, modulo 32,768."""
    return value >> BUMP_SHIFT & BUMP_MASK


def open_writers(value: int) -> int:
    """How many strict writers are inside; 127 means 127 or more."""
    return value & OPEN_MASK


def parse(value: bytes | None) -> int | None:
    """The integer that a store holds for a counter; None for nothing, and for anything else."""
    if value is None or _INTEGER.fullmatch(value) is None:
        return None
    return int(value)
