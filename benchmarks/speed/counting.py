"""What operations cost, counted by the servers: requests to Redis, statements to the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import redis


class Counts(NamedTuple):
    """Of one operation, on average."""

    round_trips: float
    statements: float


class Statements:
    """How many have run on any connection of this process, in whichever thread."""

    def __init__(self) -> None:
        from django.db import connections
        from django.db.backends.signals import connection_created

        self.number = 0
        connection_created.connect(self._watch)
        for connection in connections.all(initialized_only=True):
            self._watch(connection)

    def _watch(self, connection: Any, **_kwargs: object) -> None:
        if self._count not in connection.execute_wrappers:
            connection.execute_wrappers.append(self._count)

    def _count(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        self.number += 1
        return execute(*arguments)


class Requests:
    """What a Redis server is asked, by everybody but this object."""

    END = "benchmark-ends"

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._watching = redis.Redis.from_url(url)
        self._client.ping()  # what a connection begins with is not to be counted

    def during(self, do: Callable[[], object]) -> int:
        """Commands sent together are one request: there are no more than the server was told of,
        nor than it has read from its sockets. (It reads a long request in several pieces.)"""
        with self._watching.monitor() as monitor:  # type: ignore[no-untyped-call]  # redis-py's
            before = self._reads()
            do()
            reads = self._reads() - before - 1
            self._client.echo(self.END)
            commands = 0
            for seen in iter(monitor.next_command, None):
                if self.END in seen["command"]:
                    break
                commands += seen["client_type"] != "lua" and not seen["command"].startswith("INFO")
        return min(commands, reads)

    def _reads(self) -> int:
        stats: dict[str, Any] = self._client.info("stats")
        return int(stats["total_reads_processed"])


def count(
    do: Callable[[], object], times: int, requests: Requests, statements: Statements
) -> Counts:
    """What each of so many operations, which `do` does, costs on average."""
    before = statements.number
    asked = requests.during(do)
    return Counts(asked / times, (statements.number - before) / times)
