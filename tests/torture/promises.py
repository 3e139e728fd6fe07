"""What loom_cache promises in each mode, and what of it an outcome breaks."""

from __future__ import annotations

from collections.abc import Iterator

from tests.torture.libraries import LIBRARIES
from tests.torture.world import Outcome


def broken(outcome: Outcome) -> list[str]:
    """The promises that were broken, and why the run says nothing; as whole sentences."""
    return [f"{outcome.mode.title}: {sentence}" for sentence in _sentences(outcome)]


def _sentences(outcome: Outcome) -> Iterator[str]:
    yield from _why_it_says_nothing(outcome)
    yield from _of_reads(outcome)
    yield from _of_rows(outcome)
    for example in outcome.examples[:3]:
        yield f"For instance: {example}."


def _why_it_says_nothing(outcome: Outcome) -> Iterator[str]:
    mode, verdict = outcome.mode, outcome.verdict
    if not (verdict.hits and outcome.writes):
        yield "Nothing was read from the cache, or nothing was written."
    if (mode.fault or mode.kill_at_commit) and not outcome.faults:
        yield "No fault has happened."
    if outcome.failed:
        yield f"{outcome.failed} processes have failed."


def _of_reads(outcome: Outcome) -> Iterator[str]:
    mode, verdict = outcome.mode, outcome.verdict
    if verdict.stale:
        yield f"{verdict.stale} reads were older than a write whose invalidation was delivered."
    if verdict.queued and not mode.store_fails:
        yield f"{verdict.queued} reads were older than a write, although the store can be reached."
    if verdict.errors or outcome.write_errors:
        yield f"{verdict.errors} reads and {outcome.write_errors} writes have raised."
    if LIBRARIES[outcome.library].is_strict and verdict.behind and not mode.store_fails:
        yield f"{verdict.behind} reads were older than what the database had said before."


def _of_rows(outcome: Outcome) -> Iterator[str]:
    if outcome.wrong_at_rest and (
        LIBRARIES[outcome.library].is_strict or not outcome.mode.writers_die
    ):
        yield f"When all was over these were wrong: {_named(outcome.wrong_at_rest)}."
    if outcome.wrong_in_the_end:
        yield f"In the end these were wrong: {_named(outcome.wrong_in_the_end)}."


def _named(wrong: set[str]) -> str:
    return ", ".join(sorted(wrong))
