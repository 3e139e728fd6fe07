"""One contestant, in a process of its own:

    python -m benchmarks.speed.worker CONTESTANT --database NAME --hot N

(`prepare` in place of a contestant fills the database.) Each line of standard input is what to do
next, as JSON; one line of JSON answers it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from itertools import count as numbers
from itertools import islice
from typing import Any

from benchmarks.configured import configure
from benchmarks.libraries import Uncached
from benchmarks.servers import REDIS
from benchmarks.speed.calling import Caller
from benchmarks.speed.contestants import CONTESTANTS

PREPARE = "prepare"
COUNTED = 10
"""So many times an operation is done to count what it costs."""


class Worker:
    """Does what it is asked to; every public method is a kind of request."""

    def __init__(self, name: str, hot: int, runner: asyncio.Runner) -> None:
        from benchmarks.speed.counting import Requests, Statements

        self._operations = CONTESTANTS[name].operations(hot)
        self._numbers = {key: numbers() for key in self._operations}
        self._caller = Caller(runner)
        self._statements = Statements()
        self._requests = Requests(os.environ[REDIS])

    def warm(self, what: str, way: str) -> None:
        """Let everything be there that the operation is to find."""
        operation = self._operations[what, way]
        if operation.warm is not None:
            operation.warm()
        else:
            self._caller.seconds(operation, [[number] for number in range(operation.different)])

    def time(self, what: str, way: str, calls: int, at_once: int = 1) -> list[float]:
        """Seconds of each call, or of so many calls at once."""
        turns = [self._next(what, way, at_once) for _ in range(calls)]
        gc.collect()
        return self._caller.seconds(self._operations[what, way], turns)

    def count(self, what: str, way: str) -> dict[str, float]:
        """Requests and statements of one call; the connections that it needs are there."""
        from benchmarks.speed.counting import count

        operation = self._operations[what, way]
        self._caller.seconds(operation, [self._next(what, way)])
        times = min(COUNTED, operation.different)
        chosen = self._next(what, way, times)
        for number in chosen:
            self._caller.prepare(operation, number)

        def do() -> None:
            for number in chosen:
                self._caller.call(operation, [number])

        return count(do, times, self._requests, self._statements)._asdict()

    def stampede(self, way: str, readers: int) -> dict[str, float]:
        """So many readers at once of one row that is not there."""
        before = self._statements.number
        turn = self._next("miss", way) * readers
        (seconds,) = self._caller.seconds(self._operations["miss", way], [turn])
        return {"seconds": seconds, "statements": self._statements.number - before}

    def memory(self, what: str, way: str, number: int) -> dict[str, float]:
        """Bytes and keys in Redis for each of so many answers, the only ones that there are."""
        import redis

        with redis.Redis.from_url(os.environ[REDIS]) as client:
            client.flushdb()  # this contestant's, on a server that the benchmark has started
            for one in range(number):
                self._caller.call(self._operations[what, way], [one])
            keys = list(client.scan_iter(count=1_000))
            used = sum(int(client.memory_usage(key, samples=0) or 0) for key in keys)
        return {"bytes": used / number, "keys": len(keys) / number}

    def profile(self, what: str, way: str, calls: int) -> list[dict[str, Any]]:
        """Where the time of a call goes, by function."""
        from benchmarks.speed.profile import profiled

        turns = [self._next(what, way) for _ in range(calls)]
        return profiled(lambda: self._caller.seconds(self._operations[what, way], turns), calls)

    def _next(self, what: str, way: str, number: int = 1) -> list[int]:
        """The numbers of the calls that come next."""
        different = self._operations[what, way].different
        return [one % different for one in islice(self._numbers[what, way], number)]


def prepare() -> None:
    """Make the tables and fill them."""
    from django.core.management import call_command

    from benchmarks.speed import rows

    call_command("migrate", verbosity=0)
    rows.fill()


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.speed.worker")
    parser.add_argument("contestant", choices=[PREPARE, *CONTESTANTS])
    parser.add_argument("--database", required=True)
    parser.add_argument("--hot", type=int, required=True)
    return parser.parse_args()


def main() -> None:
    given = _arguments()
    is_contestant = given.contestant in CONTESTANTS
    configure(
        CONTESTANTS[given.contestant].library if is_contestant else Uncached(), given.database
    )
    if not is_contestant:
        prepare()
        return
    with asyncio.Runner() as runner:
        worker = Worker(given.contestant, given.hot, runner)
        for line in sys.stdin:
            asked = json.loads(line)
            answer = getattr(worker, asked.pop("do"))(**asked)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
