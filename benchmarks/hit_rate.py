"""How often the database is spared, by loom_cache and by the libraries that do the same:

    python -m benchmarks.hit_rate [--operations N] [--seed N] [--write FILE]

Every library answers the same trace in a process of its own, on a database with the same rows and
an empty cache; the servers are started here. A read that runs no SQL is a hit. An answer that
differs from the one that Django alone gave at the same place of the trace is stale. It fails if
loom_cache has given a stale answer, or if another has as high a hit rate.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from pathlib import Path

import psycopg

from benchmarks import trace
from benchmarks.conversation import Conversation
from benchmarks.libraries import LIBRARIES, TRUTH
from benchmarks.replay import PREPARE, Outcome
from benchmarks.report import Comparison
from benchmarks.servers import Servers, machine
from tests.services.postgres import NAME, PostgresServer
from tests.services.redis import RedisServer

OPERATIONS = 30_000
FEWEST = 10
"""With fewer there is no write to measure."""
SEED = 1805
TURN = 250
"""So many operations one library carries out before the next one does."""

DOCUMENT = """\
# Hit rate

What part of the reads of a mixed workload each library answers without SQL, and how many of its
answers are stale. `make bench-hit-rate WRITE=docs/hit-rate.md` makes this page anew.

{table}

## What was measured

{operations:,} operations in one order, the same for all: {reads:,} reads, and {writes:,} writes of
single rows. There are {articles:,} articles by {authors} authors, with {comments:,} comments and
{tags} tags. Few of them get most of the reads and writes (Zipf's law, exponent {wanted}). Every
cache is empty at first, and nothing expires.

- A read is a **hit** if it ran no SQL, related rows included.
- An answer is **stale** if it differs from the one that Django alone gave at the same place. The
  databases were compared at the end, and held the same rows.
- **A perfect cache** keeps each question by itself, and misses what is asked for the first time or
  has another answer than the last time.
- Each library ran in a process of its own, synchronously, in autocommit mode, with a database of
  its own on the same PostgreSQL and the same Redis server, reached through Unix sockets. PostgreSQL
  did not wait for its disk. Rows about to be changed were loaded past the cache.
- Times are medians, relative to Django alone; the libraries took turns of {turn} operations. Times
  depend on the machine, the rest does not.

How each was set up:

{remarks}

Measured with {versions}, on {machine}.
"""


class Benchmark:
    """The servers that run, and what is to be replayed on them."""

    def __init__(self, servers: Servers, *, seed: int, operations: int) -> None:
        self._servers = servers
        self._seed = seed
        self._operations = operations

    def outcomes(self) -> dict[str, list[Outcome]]:
        """What each library answered. The libraries take turns, so that all are equally slowed
        down by whatever else the machine has to do meanwhile."""
        self._prepare()
        found: dict[str, list[Outcome]] = {name: [] for name in LIBRARIES}
        with ExitStack() as stack:
            runs = {name: stack.enter_context(self._replaying(name)) for name in LIBRARIES}
            for done in range(0, self._operations, TURN):
                _progress(done, self._operations)
                for name, run in runs.items():
                    found[name] += _outcomes(run, min(TURN, self._operations - done))
        _progress(self._operations, self._operations)
        return found

    def contents(self, library: str) -> dict[str, str]:
        """A digest of each table as the library's run has left it."""
        with self._servers.connected(_database_of(library)) as database:
            named = "SELECT tablename FROM pg_tables WHERE tablename LIKE 'news%' ORDER BY 1"
            return {
                table: _digest(database, table)
                for (table,) in database.execute(named.encode()).fetchall()
            }

    def _prepare(self) -> None:
        """Give every library the same database."""
        with self._run(PREPARE, NAME):
            pass
        self._servers.copy(map(_database_of, LIBRARIES))

    def _replaying(self, library: str) -> Conversation:
        return self._run(library, _database_of(library))

    def _run(self, what: str, database: str) -> Conversation:
        options = {"database": database, "seed": self._seed, "operations": self._operations}
        own = list(LIBRARIES).index(what) if what in LIBRARIES else 0
        return Conversation(
            what,
            "benchmarks.replay",
            [what, *(f"--{name}={value}" for name, value in options.items())],
            self._servers.environment(own),
        )


def _outcomes(run: Conversation, number: int) -> list[Outcome]:
    """Those of the next `number` operations."""
    return [Outcome(**json.loads(line)) for line in run.ask(str(number), answers=number)]


def _progress(done: int, of: int) -> None:
    if done == of or done % (10 * TURN) == 0:
        print(f"{done:,} of {of:,} operations", file=sys.stderr)


def _database_of(library: str) -> str:
    return f"of-{library}"


def _digest(database: psycopg.Connection, table: str) -> str:
    asked = f'SELECT md5(string_agg(t::text, chr(10) ORDER BY id)) FROM "{table}" AS t'
    (found,) = database.execute(asked.encode()).fetchall()
    return str(found[0])


def measure(benchmark: Benchmark) -> dict[str, list[Outcome]]:
    """What each library answered. All must have left the same rows, or answers mean nothing."""
    outcomes = benchmark.outcomes()
    for name, library in LIBRARIES.items():
        if benchmark.contents(name) != benchmark.contents(TRUTH):
            raise SystemExit(f"With {library.title} the writes left other rows than without it.")
    return outcomes


def document(comparison: Comparison, operations: list[trace.Operation], versions: str) -> str:
    """The page about it."""
    writes = sum(operation.is_write for operation in operations)
    remarks = [f"- {one.title}: {one.remark}" for one in LIBRARIES.values() if one.remark]
    return DOCUMENT.format(
        table=comparison.table(),
        operations=len(operations),
        reads=len(operations) - writes,
        writes=writes,
        articles=trace.ARTICLES,
        authors=trace.AUTHORS,
        comments=trace.COMMENTS,
        tags=trace.TAGS,
        wanted=trace.WANTED,
        turn=TURN,
        remarks="\n".join(remarks),
        versions=versions,
        machine=machine(),
    )


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.hit_rate")
    parser.add_argument("--operations", type=int, default=OPERATIONS, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there as well")
    given = parser.parse_args()
    if given.operations < FEWEST:
        parser.error(f"--operations must be at least {FEWEST}.")
    return given


def main() -> None:
    given = _arguments()
    operations = trace.operations(given.seed, given.operations)
    with PostgresServer().start() as postgres, RedisServer().start() as redis:
        servers = Servers(postgres, redis)
        benchmark = Benchmark(servers, seed=given.seed, operations=given.operations)
        comparison = Comparison(operations, measure(benchmark))
        versions = servers.versions(one.package for one in LIBRARIES.values())
    print(comparison.table())
    if given.write is not None:
        given.write.write_text(document(comparison, operations, versions))
    sys.exit("\n".join(comparison.shortfalls()) or None)


if __name__ == "__main__":
    main()
