"""One run: the servers, the processes, the faults, and what comes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from tests.services.postgres import PostgresServer
from tests.services.proxy import Proxy
from tests.services.redis import RedisServer
from tests.torture.board import ERRORS, MOST, WRITES, Board, Phase
from tests.torture.faults import Stage, address_of, follow, wait_for
from tests.torture.judge import Verdict
from tests.torture.modes import Mode

ROOT = Path(__file__).resolve().parent.parent.parent
READERS = 3
WRITERS = 3
PATIENCE = 60.0
"""Seconds for the processes to start, and to end."""
FEWEST = 20
"""Hits, and writes: with fewer a run says nothing."""
GRACE = 0.3
"""Seconds beyond the TTL."""
REDIS = {"repl_diskless_sync_delay": 0}


@dataclass(frozen=True)
class Outcome:
    """What one library did in one mode."""

    library: str
    mode: Mode
    verdict: Verdict
    writes: int
    write_errors: int
    faults: int
    wrong_at_rest: set[str]
    """Rows and sums that were answered wrongly when faults and writers had ended."""
    wrong_in_the_end: set[str]
    """Likewise, when the TTL was over as well."""
    failed: int
    """Processes that ended otherwise than they should."""
    examples: list[str]
    """Of answers that were stale, and of errors."""


def run(
    library: str,
    mode: Mode,
    seconds: float,
    *,
    postgres: PostgresServer,
    readers: int = READERS,
    writers: int = WRITERS,
) -> Outcome:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loom-")))
        board = Board.make(directory / "board")
        store = stack.enter_context(RedisServer().start(tcp=True, **REDIS))
        spare = None
        if mode.follower:
            spare = stack.enter_context(RedisServer().start(tcp=True, **REDIS))
        proxy = stack.enter_context(Proxy(address_of(store)))
        nursery = stack.enter_context(
            _nursery(
                {
                    **postgres.environment(),
                    "TORTURE_LIBRARY": library,
                    "TORTURE_REDIS": f"redis://127.0.0.1:{proxy.port}/0",
                    "TORTURE_TTL": str(mode.ttl),
                    "TORTURE_DIRECTORY": str(directory),
                    "TORTURE_READERS": str(readers),
                    "TORTURE_WRITERS": str(writers),
                    "TORTURE_KILL_AT_COMMIT": str(mode.kill_at_commit),
                }
            )
        )
        try:
            stage = Stage(board, proxy, store, spare, _killer(nursery), writers)
            stack.enter_context(stage.link)
            faults = _torment(stage, mode, seconds, nursery)
            _compare(board, mode, readers, nursery)
        finally:
            assert nursery.stdin is not None
            if board.phase is not Phase.CHECK_AGAIN:
                nursery.stdin.close()
        _wait_for(lambda: nursery.poll() is not None, nursery, board)
        return _outcome(library, mode, board, directory, readers, faults)


def _nursery(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.torture.nursery"],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
    )


def _killer(nursery: subprocess.Popen[bytes]) -> Callable[[int], None]:
    def kill(writer: int) -> None:
        assert nursery.stdin is not None
        nursery.stdin.write(b"kill %d\n" % writer)
        nursery.stdin.flush()

    return kill


def _torment(stage: Stage, mode: Mode, seconds: float, nursery: subprocess.Popen[bytes]) -> int:
    """Let the processes run, and the faults happen; how many there were besides killed writers."""
    board, done = stage.board, 0
    _wait_for(lambda: board.total(WRITES) > stage.writers, nursery, board)
    if stage.spare is not None:
        follow(stage.spare, stage.link)
    started = monotonic()
    while not _is_enough(board, mode, done, monotonic() - started, seconds):
        sleep(stage.random.uniform(*mode.every))
        if mode.fault is not None:
            mode.fault(stage)
            done += 1
    board.phase = Phase.REST
    _wait_for(lambda: board.alive == 0, nursery, board)
    return done


def _is_enough(board: Board, mode: Mode, done: int, since: float, seconds: float) -> bool:
    """On a machine that has other things to do it may take longer until the run says something."""
    if since < seconds or since > PATIENCE:
        return since > PATIENCE
    faults = board.killed if mode.writers_die else done
    enough = board.hits >= FEWEST and board.total(WRITES) >= FEWEST
    return enough and (faults > 0 or not (mode.fault or mode.kill_at_commit))


def _compare(board: Board, mode: Mode, readers: int, nursery: subprocess.Popen[bytes]) -> None:
    """Have what is cached compared with the database: at once, and when the TTL is over."""
    ended = monotonic()
    comparing = [*range(readers), MOST]
    for phase in (Phase.CHECK, Phase.CHECK_AGAIN):
        if phase is Phase.CHECK_AGAIN and mode.writers_die:
            sleep(max(0.0, ended + mode.ttl + GRACE - monotonic()))
        board.phase = phase
        _wait_for(
            lambda: all(board.checked(one) >= board.phase for one in comparing), nursery, board
        )


def _wait_for(holds: Callable[[], bool], nursery: subprocess.Popen[bytes], board: Board) -> None:
    wait_for(lambda: holds() or nursery.poll() is not None or board.failed > 0, PATIENCE)
    if not holds():
        raise RuntimeError("A process of the torture test has failed; it says why above.")


def _outcome(
    library: str,
    mode: Mode,
    board: Board,
    directory: Path,
    readers: int,
    faults: int,
) -> Outcome:
    said = [
        json.loads((directory / f"reader-{number}.json").read_text()) for number in range(readers)
    ]
    compared = [*said, json.loads((directory / "fresh.json").read_text())]
    at_rest, in_the_end = (
        {name for one in compared for name in one["wrong"][check]} for check in (0, 1)
    )
    verdict, errors = Verdict.total([one["verdict"] for one in said]), directory / "write-errors"
    return Outcome(
        library=library,
        mode=mode,
        verdict=verdict,
        writes=board.total(WRITES),
        write_errors=board.total(ERRORS),
        faults=board.killed if mode.writers_die else faults,
        wrong_at_rest=at_rest,
        wrong_in_the_end=in_the_end,
        failed=board.failed,
        examples=[*verdict.examples, *(errors.read_text().splitlines() if errors.exists() else [])],
    )
