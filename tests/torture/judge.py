"""Whether an answer is as new as it has to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from time import monotonic_ns
from typing import Any, NamedTuple, Self

from tests.torture.board import Board
from tests.torture.libraries.base import Answer

MOST_EXAMPLES = 5
NANO = 1e-9


@dataclass
class Verdict:
    """Of one reader's reads, or of many readers'. Times are seconds."""

    reads: int = 0
    hits: int = 0
    """Reads that ran no SQL."""
    stale: int = 0
    """Older than a write that was acknowledged, and whose invalidation was delivered."""
    queued: int = 0
    """Older than a write that was acknowledged while its invalidation waited for the store."""
    lateness: float = 0.0
    """How long, at the most, after the acknowledgement such a read began."""
    compared: int = 0
    """Reads before which the database itself was asked."""
    behind: int = 0
    """Of these, older than what the database had said."""
    errors: int = 0
    slowest: float = 0.0
    examples: list[str] = field(default_factory=list)

    def add(self, other: Verdict) -> None:
        for name, value in asdict(other).items():
            mine = getattr(self, name)
            greatest = name in ("lateness", "slowest")
            setattr(self, name, max(mine, value) if greatest else mine + value)
        del self.examples[MOST_EXAMPLES:]

    @classmethod
    def total(cls, found: Sequence[Mapping[str, Any]]) -> Self:
        verdict = cls()
        for one in found:
            verdict.add(cls(**one))
        return verdict


class Known(NamedTuple):
    """What could be known when a read began."""

    began: int
    acknowledged: list[int]
    delivered: list[int]


class Judge:
    """Of one task or thread."""

    def __init__(self, board: Board) -> None:
        self.verdict = Verdict()
        self._board = board

    def before(self, pks: Sequence[int]) -> Known:
        delivered = self._board.delivered(pks)
        return Known(monotonic_ns(), self._board.acknowledged(pks), delivered)

    def after(
        self,
        question: str,
        pks: Sequence[int],
        answer: Answer,
        known: Known,
        committed: Mapping[int, int] | None,
        *,
        hit: bool,
    ) -> None:
        verdict = self.verdict
        verdict.reads += 1
        verdict.hits += hit
        verdict.slowest = max(verdict.slowest, (monotonic_ns() - known.began) * NANO)
        if committed is not None:
            verdict.compared += 1
            verdict.behind += is_older(answer, [committed[pk] for pk in pks], pks)
        if not is_older(answer, known.acknowledged, pks):
            return
        lateness = (known.began - self._told(answer, known, pks)) * NANO
        verdict.lateness = max(verdict.lateness, lateness)
        if is_older(answer, known.delivered, pks):
            verdict.stale += 1
            how = "a hit" if hit else "a miss"
            self._note(f"{question} of {list(pks)} gave {answer}, {how}, not {known.delivered}")
        else:
            verdict.queued += 1

    def failed(self, question: str, error: Exception) -> None:
        self.verdict.errors += 1
        self._note(f"{question}: {type(error).__name__} {error}")

    def _note(self, example: str) -> None:
        if len(self.verdict.examples) < MOST_EXAMPLES:
            self.verdict.examples.append(example)

    def _told(self, answer: Answer, known: Known, pks: Sequence[int]) -> int:
        """When the first write that the answer lacks was acknowledged; of a sum it is not known
        which that is."""
        if isinstance(answer, int):
            return known.began
        told = [
            self._board.first_told(pk, answer.get(pk, 0), latest)
            for pk, latest in zip(pks, known.acknowledged, strict=True)
            if answer.get(pk, 0) < latest
        ]
        return min((time for time in told if time), default=known.began)


def is_older(answer: Answer, wanted: Sequence[int], pks: Sequence[int]) -> bool:
    """Whether the answer lacks any of the `wanted` versions."""
    if isinstance(answer, int):
        return answer < sum(wanted)
    return any(answer.get(pk, -1) < version for pk, version in zip(pks, wanted, strict=True))
