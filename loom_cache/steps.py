"""What a read is made of: the parts of its answer, the plan that says how each is looked up, loaded
and stored, and what is asked of whoever carries it out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from loom_cache import tags
from loom_cache.combinations import Combination
from loom_cache.generations import View


@dataclass(slots=True)
class Part:
    """One stored answer of a plan. A plan has one, a page two, `in_bulk` one a row."""

    key: str
    required: tuple[str, ...]
    """Tags that an entry must list, or it was made by code that knew less (R3)."""
    ttl: float
    """Seconds."""
    missing_ttl: float
    """Seconds an answer that says "there is none" is kept."""


@dataclass(slots=True)
class Loaded:
    """One part's answer, fresh from the database."""

    value: Any
    body: bytes | None = None
    """How it is stored; None if it must not be, or cannot be."""
    tags: tuple[str, ...] = ()
    """What it turned out to depend on."""
    combinations: dict[str, frozenset[Combination]] = field(default_factory=dict)
    """Those among its tags, by table: writers must know of them before it is stored."""
    missing: bool = False
    refusal: str | None = None
    """Why it is not stored."""

    def widen(self, table: str) -> None:
        """Let it depend on the whole of a table."""
        whole = tags.of_whole([table])
        others = (name for name in self.tags if tags.widened(name) != whole)
        self.tags = tuple(dict.fromkeys((*others, *whole)))
        self.combinations.pop(table, None)


class Plan(Protocol):
    """What to look up, how to load it and how it is decoded; built without any I/O."""

    label: str
    operation: str
    parts: Sequence[Part]
    fresh: bool
    """Do not look up; load, and store."""

    def refusal(self) -> str | None:
        """Why this question is never cached, as far as is known."""

    def asked(self) -> Sequence[str]:
        """Tags whose counters are wanted in the first round trip: those every part requires,
        and those that such answers are known to depend on."""

    def prepared(self) -> bool:
        """Whether `asked` is known to name all that a load may touch."""

    def prepare(self) -> None:
        """Find that out (in the thread of the database connection)."""

    def learn(self, at: int, tags: Sequence[str]) -> None:
        """The entry of part `at` depends on these."""

    def load(self, missing: Sequence[int]) -> list[Loaded]: ...

    async def aload(self, missing: Sequence[int]) -> list[Loaded]: ...

    def decode(self, at: int, body: msgspec.Raw) -> Any:
        """The value of part `at`. Raises CorruptEntry."""

    def question(self, at: int) -> msgspec.Raw:
        """What part `at` asks, as it is stored beside the answer (see questions.py)."""


# What the generator asks its driver to do. ------------------------------------------------------


@dataclass(slots=True)
class Look:
    entries: Sequence[str]
    tags: Sequence[str]


@dataclass(slots=True)
class Seed:
    tags: Sequence[str]


@dataclass(slots=True)
class Enrol:
    """See to it that writers know of these combinations (see generations.py)."""

    wanted: Mapping[str, frozenset[Combination]]
    seen: View


@dataclass(slots=True)
class Prepare:
    plan: Plan


@dataclass(slots=True)
class Load:
    plan: Plan
    missing: Sequence[int]


@dataclass(slots=True)
class Keep:
    entries: Sequence[tuple[str, bytes, float]]


@dataclass(slots=True)
class Wait:
    flight: Flight


Request = Look | Seed | Enrol | Prepare | Load | Keep | Wait


@dataclass(slots=True)
class Flight:
    """A load under way, which others that saw the same generations may share (R7)."""

    incarnation: str | None
    generations: dict[str, int]
    loaded: list[Loaded] | None = None
    error: Exception | None = None
    over: bool = False
    landed: asyncio.Future[None] | None = None
    """Made by the first who waits."""

    def may_serve(self, view: View) -> bool:
        """Whether nothing has changed from when the load began until the reader looked."""
        seen = (view.incarnation, view.generations)
        return (self.incarnation, self.generations) == seen

    def land(self) -> None:
        self.over = True
        if self.landed is not None and not self.landed.done():
            self.landed.set_result(None)


Flights = MutableMapping[tuple[str, ...], Flight]
