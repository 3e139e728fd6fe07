"""What of the tests is left to the long run, and why: nothing that is promised goes unshown.

Most tests can be run with each store and asking both ways. What a store does and what a driver does
are two things that do not depend on each other, so a pair of each shows both: memory with
synchronous reads, Redis with asynchronous ones. On PostgreSQL, where there is Redis alone, a test
is run one way or the other. LOOM_TEST_ALL=1 (`make test-long`) runs every combination.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

EVERYTHING = os.environ.get("LOOM_TEST_ALL") == "1"
POSTGRESQL = os.environ.get("LOOM_TEST_DB") == "postgresql"
BOTH_WAYS = "both_ways"
"""Marks tests of connections, transactions and turns, which the two ways use differently."""
ONE_WAY = "one_way"
"""Marks tests of writes, of which there are many: each is shown once, on the two databases with
different stores."""
OWN_SERVERS = "own_servers"
"""Marks tests that start the database they need: another run would be the same."""

_DIAGONAL = {("memory", "sync"), ("redis", "async")}
_WAYS = ("ask", "answers")


def every(step: int) -> int:
    """The step through a long list of alike cases: 1 if there is time."""
    return 1 if EVERYTHING else step


def deselect(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out of `items` what this run leaves out; pytest reports how many they are."""
    if EVERYTHING:
        return
    groups: dict[Any, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(_question(item), []).append(item)
    kept = {id(item) for question, group in groups.items() for item in _kept(question, group)}
    left_out = [item for item in items if id(item) not in kept]
    items[:] = [item for item in items if id(item) in kept]
    if left_out:
        config.hook.pytest_deselected(items=left_out)


def _question(item: pytest.Item) -> Any:
    """The same for tests that differ in nothing but the store and the way of asking."""
    callspec: Any = getattr(item, "callspec", None)
    way = None if callspec is None or "store" not in callspec.params else _way(item)
    words = callspec.id.split("-") if way is not None else []
    if way is None or not {*way}.issubset(words):  # such tests come with one way each
        return item.nodeid
    for word in way:
        words.remove(word)
    return (item.nodeid.partition("[")[0], *words)


def _kept(question: Any, group: Sequence[pytest.Item]) -> Iterable[pytest.Item]:
    first = group[0]
    if POSTGRESQL and first.get_closest_marker(OWN_SERVERS):
        return []
    if isinstance(question, str):
        return group
    ways = {way: item for item in group if (way := _way(item)) is not None}
    assert len(ways) == len(group), f"{first.nodeid} has the name of another test."
    pairs = [ways[way] for way in sorted(ways) if way in _DIAGONAL]
    if len({store for store, _ in ways}) == 1:  # Redis alone
        pairs = [ways[way] for way in sorted(ways)]
        if first.get_closest_marker(BOTH_WAYS):
            return pairs
    elif first.get_closest_marker(ONE_WAY) is None or len(pairs) < 2:
        return pairs or group
    return [pairs[(zlib.crc32(repr(question).encode()) + POSTGRESQL) % len(pairs)]]


def _way(item: pytest.Item) -> tuple[str, str] | None:
    params = item.callspec.params  # type: ignore[attr-defined]  # of parametrised ones
    asked = next((params[way] for way in _WAYS if way in params), None)
    return None if asked is None else (params["store"], asked)
