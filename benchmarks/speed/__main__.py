"""See the package's docstring."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from pathlib import Path

from benchmarks.conversation import Conversation
from benchmarks.servers import Servers
from benchmarks.speed.budgets import failed
from benchmarks.speed.contestants import CONTESTANTS
from benchmarks.speed.page import document
from benchmarks.speed.results import Results
from benchmarks.speed.running import Extent, Running
from benchmarks.speed.table import tables
from benchmarks.speed.worker import PREPARE
from tests.services.postgres import NAME, PostgresServer
from tests.services.redis import RedisServer

ROUNDS = 15
COUNTED = ("django", "loom", "memory", "strict")
"""Whose round trips and statements have limits."""
MOST_ROUNDS = 100
"""With more there are too few rows for reads of what was never cached."""
GROWTH = (10**3, 10**4, 10**5, 10**6)


def run(servers: Servers, extent: Extent) -> Results:
    with _worker(servers, PREPARE, NAME, 0, extent):
        pass
    servers.copy(map(_database_of, extent.contestants))
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(_worker(servers, name, _database_of(name), number, extent))
            for number, name in enumerate(extent.contestants)
        }
        return Running(workers, extent).results()


def _worker(
    servers: Servers, name: str, database: str, number: int, extent: Extent
) -> Conversation:
    arguments = [name, f"--database={database}", f"--hot={extent.hot}"]
    return Conversation(name, "benchmarks.speed.worker", arguments, servers.environment(number))


def _database_of(name: str) -> str:
    return f"of-{name}"


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.speed")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument(
        "--largest", type=int, default=10**5, choices=GROWTH, help="entries; default: %(default)s"
    )
    parser.add_argument("--quick", action="store_true", help="counts; times say nothing then")
    parser.add_argument("--only", default="", metavar="TEXT", help="measures with it in the title")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there as well")
    given = parser.parse_args()
    if not 1 <= given.rounds <= MOST_ROUNDS:
        parser.error(f"--rounds must be between 1 and {MOST_ROUNDS}.")
    return given


def _extent(given: Namespace) -> Extent:
    if given.quick:
        return Extent(
            rounds=1, thrift=20, hot=100, entries=(), only=given.only, contestants=COUNTED
        )
    entries = [entries for entries in GROWTH if entries <= given.largest]
    return Extent(rounds=given.rounds, entries=entries, only=given.only)


def main() -> None:
    given = _arguments()
    extent = _extent(given)
    with PostgresServer().start() as postgres, RedisServer().start(tcp=True) as redis:
        servers = Servers(postgres, redis)
        results = run(servers, extent)
        versions = servers.versions(one.library.package for one in CONTESTANTS.values())
    sys.stdout.write(tables(results) + "\n")
    if given.write is not None:
        given.write.write_text(document(results, extent, versions))
    sys.exit("\n".join(failed(results)) or None)


if __name__ == "__main__":
    main()
