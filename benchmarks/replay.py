"""One library's run through the trace, in a process of its own:

    python -m benchmarks.replay LIBRARY --operations N --seed N --database NAME

(`prepare` in place of a library fills the database.) PostgreSQL is found through libpq's variables,
Redis through BENCH_REDIS. Each line of standard input says how many operations to carry out next;
what was answered, and at which cost, is printed as JSON, one operation a line.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks import trace
from benchmarks.configured import configure
from benchmarks.libraries import LIBRARIES, Uncached

if TYPE_CHECKING:
    from benchmarks.newsroom import Sources

PREPARE = "prepare"


@dataclass(frozen=True)
class Outcome:
    """What one operation cost, and for a read a digest of its answer."""

    statements: int
    seconds: float
    answer: str


class Replay:
    """Carries out operations for one library."""

    def __init__(self, library: Uncached, sources: Sources) -> None:
        from django.db import connection

        self._library = library
        self._sources = sources
        self._statements = 0
        connection.execute_wrappers.append(self._count)

    def run(self, operation: trace.Operation) -> Outcome:
        from benchmarks import newsroom

        if operation.is_write:
            write = newsroom.WRITES[operation.kind]
            return self._measured(lambda: write(self._library, *operation.arguments))
        read = newsroom.READS[operation.kind]
        return self._measured(lambda: read(self._sources, *operation.arguments))

    def _measured(self, do: Callable[[], Any]) -> Outcome:
        from benchmarks.newsroom import plain

        self._statements = 0
        started = perf_counter()
        answer = do()
        seconds = perf_counter() - started
        spelled = json.dumps(plain(answer), default=str).encode()
        return Outcome(self._statements, seconds, blake2b(spelled, digest_size=8).hexdigest())

    def _count(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        self._statements += 1
        return execute(*arguments)


def prepare(seed: int) -> None:
    """Make the tables and fill them."""
    from django.core.management import call_command

    from benchmarks import newsroom

    call_command("migrate", verbosity=0)
    newsroom.fill(trace.newspaper(seed))
    newsroom.analyse()


def replay(library: Uncached, operations: Sequence[trace.Operation]) -> None:
    """Carry out as many operations more as each line of standard input says."""
    running = Replay(library, library.sources())
    remaining = iter(operations)
    for line in sys.stdin:
        for operation in islice(remaining, int(line)):
            sys.stdout.write(json.dumps(asdict(running.run(operation))) + "\n")
        sys.stdout.flush()


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.replay")
    parser.add_argument("library", choices=[PREPARE, *LIBRARIES])
    parser.add_argument("--operations", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--database", required=True)
    return parser.parse_args()


def main() -> None:
    given = _arguments()
    library = LIBRARIES.get(given.library, Uncached())
    configure(library, given.database)
    if given.library == PREPARE:
        prepare(given.seed)
    else:
        replay(library, trace.operations(given.seed, given.operations))


if __name__ == "__main__":
    main()
