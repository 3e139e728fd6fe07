"""What was measured, and what follows from it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Self

from benchmarks.speed.measures import Entrant, Measure


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles on its sides."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Self:
        if len(numbers) < 2:
            return cls(numbers[0], numbers[0], numbers[0])
        return cls(*quantiles(numbers, n=4, method="inclusive"))


@dataclass(frozen=True)
class Counted:
    """What one call costs, counted by the servers."""

    round_trips: float
    statements: float


@dataclass
class Timed:
    """One measure's seconds, by contestant and round."""

    measure: Measure
    rounds: dict[Entrant, list[list[float]]] = field(default_factory=dict)
    counted: dict[Entrant, Counted] = field(default_factory=dict)

    def seconds(self, entrant: Entrant) -> Spread:
        """Of one call of those at once, over all rounds."""
        each = [one for turn in self.rounds[entrant] for one in turn]
        return Spread.of([one / self.measure.at_once for one in each])

    def ratio(self, entrant: Entrant, to: Entrant | None = None) -> Spread:
        """To another one's time in the same round."""
        to = to or self.measure.entrants[0]
        pairs = zip(self.rounds[entrant], self.rounds[to], strict=True)
        return Spread.of([median(one) / median(other) for one, other in pairs])


@dataclass(frozen=True)
class Stampede:
    statements: float
    seconds: float


@dataclass(frozen=True)
class Memory:
    bytes: float
    keys: float


@dataclass(frozen=True)
class Function:
    """What one function has to do with the time of a call."""

    name: str
    calls: float
    own: float
    """The share of the time that is spent in it."""
    cumulative: float
    """With what it calls."""


@dataclass
class Results:
    timed: dict[str, Timed] = field(default_factory=dict)
    """By the title of the measure."""
    stampedes: dict[Entrant, list[Stampede]] = field(default_factory=dict)
    memory: dict[Entrant, Memory] = field(default_factory=dict)
    profiles: dict[str, list[Function]] = field(default_factory=dict)
    """By the title of the measure."""
