"""What this process remembers of the questions that it was asked: which tags their answers depend
on, so that a hit asks for the entry and for all of its counters at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from django.core.signals import setting_changed

from loom_cache import memo, tags
from loom_cache.steps import Part

MOST_HINTS_OF_A_SHAPE = 2_000
"""Tags that every such question asks for; no question reads nearly as many tables."""


@dataclass(slots=True)
class Shape:
    """What is known, in this process, of all questions that differ only in their values."""

    hints: tuple[str, ...] = ()
    """Tags that such answers depend on whatever their values are, and those of every table that
    they read: no other tag of a table moves without these."""
    analysed: bool = False
    refusal: str | None = None
    """Why such an answer is never cached."""

    def learn(self, names: Iterable[str]) -> None:
        found = {name for tag in names for name in tags.widened(tag)}
        found.update(filter(tags.is_general, names))
        if len(found.union(self.hints)) > MOST_HINTS_OF_A_SHAPE:
            return  # entries that were tampered with may name anything: each has its second look
        if not found <= set(self.hints):
            self.hints = tuple(sorted(found.union(self.hints)))


class Hints:
    """The tags that an entry turned out to depend on, by its key: asked for together with it. The
    oldest are forgotten, and learnt again at the price of a second look."""

    def __init__(self) -> None:
        self._tags: dict[str, tuple[str, ...]] = {}

    def of(self, key: str) -> tuple[str, ...]:
        return self._tags.get(key, ())

    def learn(self, key: str, names: Iterable[str]) -> None:
        self._tags.pop(key, None)
        self._tags[key] = tuple(names)
        while len(self._tags) > MOST_HINTS:
            self._tags.pop(next(iter(self._tags)), None)

    def forget(self) -> None:
        self._tags.clear()


MOST_HINTS = 10_000
of_keys = Hints()


@lru_cache(maxsize=4096)
def shape_of(identity: bytes) -> Shape:
    """The one Shape of this name; the least used are forgotten, and learnt again."""
    return Shape()


def forget(**_kwargs: object) -> None:
    """Know as little as a process that has just been started: a table may be ignored no longer, an
    app be installed."""
    memo.forget()  # shapes among it
    shape_of.cache_clear()
    of_keys.forget()


setting_changed.connect(forget, dispatch_uid="loom_cache.hints")


def learn(shape: Shape, part: Part, names: Iterable[str]) -> None:
    """An entry depends on these tags: its tables are noted for its shape, the rest for its key."""
    shape.learn(names)
    known = {*part.required, *shape.hints}
    of_keys.learn(part.key, [name for name in names if name not in known])
