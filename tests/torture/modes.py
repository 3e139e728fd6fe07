"""The modes: what fails in each, and what is promised all the same."""

from __future__ import annotations

from dataclasses import dataclass

from tests.torture import faults
from tests.torture.faults import Fault

LONG = 300.0
SHORT = 3.0


@dataclass(frozen=True, kw_only=True)
class Mode:
    title: str
    meaning: str
    fault: Fault | None = None
    every: tuple[float, float] = (0.05, 0.2)
    """Seconds between the end of a fault and the next."""
    kill_at_commit: float = 0.0
    ttl: float = LONG
    """Seconds that everything is kept. It is short where the promise is no better than it."""
    follower: bool = False
    """Whether a second Redis follows the first."""
    for_all: bool = True
    """Whether it says something about other libraries, too."""
    writers_die: bool = False
    """What a writer has committed and not made known is wrong until the TTL: a row may be, when the
    faults end."""
    store_fails: bool = False
    """A writer that cannot reach the store goes on, and its invalidations wait."""


MODES: dict[str, Mode] = {
    "calm": Mode(title="calm", meaning="Nothing fails."),
    "kills": Mode(
        title="writers killed",
        meaning="Writers are killed (SIGKILL) at random moments, and replaced.",
        fault=faults.kill_a_writer,
        every=(0.1, 0.3),
        ttl=SHORT,
        writers_die=True,
    ),
    "kills-at-commit": Mode(
        title="killed after COMMIT",
        meaning="Writers kill themselves exactly between a COMMIT and whatever follows it.",
        kill_at_commit=0.05,
        ttl=SHORT,
        writers_die=True,
    ),
    "flush": Mode(
        title="keys lost",
        meaning="Redis is flushed, or loses some of the counters, or some of all keys.",
        fault=faults.forget,
        every=(0.2, 0.5),
    ),
    "restart": Mode(
        title="Redis restarted",
        meaning="Redis is killed and comes back with an older snapshot.",
        fault=faults.restart,
        store_fails=True,
    ),
    "failover": Mode(
        title="failover",
        meaning=(
            "A replica that lags behind is promoted and takes Redis' place; the old one follows "
            "it, and is the next to be promoted."
        ),
        fault=faults.fail_over,
        follower=True,
        for_all=False,
        store_fails=True,
    ),
    "suspended": Mode(
        title="Redis suspended",
        meaning="Redis hangs (SIGSTOP) for 0.1 to 2.5 s; a writer waits for it for 2 s.",
        fault=faults.suspend,
        every=(0.3, 0.8),
        for_all=False,
        store_fails=True,
    ),
    "cut": Mode(
        title="connections cut",
        meaning="Connections to Redis are reset, at times after its answers were held back or "
        "while new ones are refused.",
        fault=faults.cut,
        every=(0.3, 0.9),
        for_all=False,
        store_fails=True,
    ),
}
