"""Lets the contestants take turns."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.conversation import Conversation
from benchmarks.speed import measures
from benchmarks.speed.contestants import CONTESTANTS
from benchmarks.speed.measures import Entrant, Measure
from benchmarks.speed.results import Counted, Function, Memory, Results, Stampede, Timed

READERS = 1_000
"""At once, in a stampede."""
STAMPEDES = 3


@dataclass(frozen=True)
class Extent:
    """How long it takes."""

    rounds: int
    thrift: int = 1
    """Of so many calls only one is made."""
    hot: int = 1_000
    """Rows that are read again and again."""
    entries: Sequence[int] = (10**3, 10**4, 10**5)
    only: str = ""
    """Measures with this in their titles."""
    contestants: Collection[str] = tuple(CONTESTANTS)


class Running:
    def __init__(self, workers: Mapping[str, Conversation], extent: Extent) -> None:
        self._workers = workers
        self._extent = extent

    def results(self) -> Results:
        found = Results()
        for measure in self._chosen(measures.MEASURES):
            found.timed[measure.title] = self._timed(measure)
        if self._wants("stampede"):
            found.stampedes = self._stampedes()
        if self._extent.thrift == 1:
            found.profiles = {
                one.title: self._profile(one) for one in self._chosen(measures.PROFILED)
            }
        if self._wants("memory"):
            found.memory = {one: self._memory(one) for one in self._present(measures.KEPT)}
        # Last: from here on there are more rows than the others have.
        growing = [measures.among(entries) for entries in self._extent.entries]
        for measure in self._chosen(growing):
            found.timed[measure.title] = self._timed(measure)
        return found

    def _chosen(self, all_of: Sequence[Measure]) -> Iterator[Measure]:
        for measure in all_of:
            taking_part = replace(measure, entrants=self._present(measure.entrants))
            if self._wants(measure.title):
                yield taking_part

    def _present(self, entrants: Sequence[Entrant]) -> tuple[Entrant, ...]:
        return tuple(one for one in entrants if one[0] in self._workers)

    def _wants(self, title: str) -> bool:
        if self._extent.only not in title:
            return False
        sys.stderr.write(f"{title}\n")
        return True

    def _timed(self, measure: Measure) -> Timed:
        timed = Timed(measure)
        for entrant in measure.entrants:
            what = measure.operation_of(entrant)
            self._ask(entrant, "warm", what=what)
            timed.counted[entrant] = Counted(**self._ask(entrant, "count", what=what))
            timed.rounds[entrant] = []
            if measure.at_once > 1:  # let the connections be made
                self._ask(entrant, "time", what=what, calls=1, at_once=measure.at_once)
        for turn in range(min(self._extent.rounds, measure.most_rounds or self._extent.rounds)):
            for entrant in _rotated(measure.entrants, turn):
                timed.rounds[entrant].append(self._turn(measure, entrant))
        return timed

    def _turn(self, measure: Measure, entrant: Entrant) -> list[float]:
        calls = max(1, measure.calls // self._extent.thrift)
        what = measure.operation_of(entrant)
        taken: list[float] = self._ask(
            entrant, "time", what=what, calls=calls, at_once=measure.at_once
        )
        return taken

    def _stampedes(self) -> dict[Entrant, list[Stampede]]:
        found: dict[Entrant, list[Stampede]] = {
            one: [] for one in self._present(measures.STAMPEDES)
        }
        for turn in range(min(STAMPEDES, self._extent.rounds)):
            for one in _rotated(list(found), turn):
                found[one].append(Stampede(**self._ask(one, "stampede", readers=READERS)))
        return found

    def _profile(self, measure: Measure) -> list[Function]:
        what, calls = measure.operation, 10 * measure.calls
        self._ask(measures.LOOM, "warm", what=what)
        found = self._ask(measures.LOOM, "profile", what=what, calls=calls)
        return [Function(**one) for one in found]

    def _memory(self, entrant: Entrant) -> Memory:
        return Memory(**self._ask(entrant, "memory", what="row", number=self._extent.hot))

    def _ask(self, entrant: Entrant, do: str, **arguments: Any) -> Any:
        name, way = entrant
        asked = {"do": do, "way": way, **arguments}
        return json.loads(self._workers[name].ask(json.dumps(asked))[0])


def _rotated(entrants: Sequence[Entrant], by: int) -> list[Entrant]:
    """Who begins changes, and so does who comes after whom."""
    order = list(entrants) if by % 2 == 0 else list(reversed(entrants))
    at = by % len(order)
    return order[at:] + order[:at]
