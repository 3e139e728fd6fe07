"""What the cache did, told to whoever subscribed, and counted for this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["hit", "miss", "bypass"]


@dataclass(frozen=True, slots=True)
class Read:
    """One cached read. `seconds` is how long it took, the load included."""

    label: str
    operation: str
    outcome: Outcome
    reason: str | None
    """Why it bypassed the cache, or, after a miss, why the answer was not stored."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Bump:
    """Tags whose generation was moved after a write."""

    tags: tuple[str, ...]


Event = Read | Bump
Subscriber = Callable[[Event], object]

MOST_TOTALS = 10_000
"""Different ones; a reason may repeat what code of the project's own has said."""

_subscribers: list[Subscriber] = []
_totals: Counter[tuple[str, ...]] = Counter()
_recordings: ContextVar[tuple[list[Event], ...]] = ContextVar("loom_cache.recordings", default=())


def subscribe(subscriber: Subscriber) -> Callable[[], None]:
    """Call `subscriber(event)` for each event from now on; returns what ends it.

    It is called in the thread of the read or write, so it must be quick and must not raise.
    """
    _subscribers.append(subscriber)
    return lambda: _subscribers.remove(subscriber)


@contextmanager
def recording() -> Iterator[list[Event]]:
    """A list that fills with the events of this block, across await and threads."""
    events: list[Event] = []
    token = _recordings.set((*_recordings.get(), events))
    try:
        yield events
    finally:
        _recordings.reset(token)


def totals() -> dict[tuple[str, ...], int]:
    """Reads of this process by (label, outcome, reason or ""); the reason is "..." beyond
    MOST_TOTALS."""
    return dict(_totals)


def emit(event: Event) -> None:
    if isinstance(event, Read):
        counted = (event.label, event.outcome, event.reason or "")
        if len(_totals) >= MOST_TOTALS and counted not in _totals:
            counted = (event.label, event.outcome, "...")
        _totals[counted] += 1
    for events in _recordings.get():
        events.append(event)
    for subscriber in _subscribers:
        subscriber(event)
