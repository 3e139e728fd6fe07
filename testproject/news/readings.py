"""What a read cost: whether the cache answered, how long it took, and how much SQL it ran."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeVar

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from loom_cache import metrics

Result = TypeVar("Result")

# A context variable, and not a connection's query log: an async read runs its SQL in a thread,
# on a connection that the coroutine does not see.
_statements: ContextVar[list[str] | None] = ContextVar("statements", default=None)


@dataclass(frozen=True)
class Reading:
    """One question put to a repository."""

    question: str
    outcome: str  # "hit", "miss" or "bypass"; of several entries, the dearest
    reason: str | None  # why it was a bypass
    statements: int
    milliseconds: float


@dataclass
class Readings:
    """The reads of one page or one run, in their order."""

    rows: list[Reading] = field(default_factory=list)

    async def ask(self, question: str, answer: Awaitable[Result]) -> Result:
        """Await the answer, note what it cost, and return it."""
        result, reading = await observe(question, answer)
        self.rows.append(reading)
        return result

    @property
    def statements(self) -> int:
        return sum(row.statements for row in self.rows)

    @property
    def milliseconds(self) -> float:
        return sum(row.milliseconds for row in self.rows)


async def observe(question: str, answer: Awaitable[Result]) -> tuple[Result, Reading]:
    """Await the answer; return it with what it cost."""
    with counting_statements() as statements, metrics.recording() as events:
        started = perf_counter()
        result = await answer
        milliseconds = (perf_counter() - started) * 1000
    reads = [event for event in events if isinstance(event, metrics.Read)]
    dearest = max(reads, key=lambda read: ("hit", "miss", "bypass").index(read.outcome))
    return result, Reading(question, dearest.outcome, dearest.reason, len(statements), milliseconds)


@contextmanager
def counting_statements() -> Iterator[list[str]]:
    """Collect the SQL that this task executes, in whichever thread it does so."""
    statements: list[str] = []
    token = _statements.set(statements)
    try:
        yield statements
    finally:
        _statements.reset(token)


def count_statements_of_every_connection() -> None:
    """Have each connection, present and to come, report its statements."""
    connection_created.connect(_watch, dispatch_uid="news.readings")
    for connection in connections.all(initialized_only=True):
        _watch(connection=connection)


def _watch(*, connection: BaseDatabaseWrapper, **_: object) -> None:
    if _note not in connection.execute_wrappers:
        connection.execute_wrappers.append(_note)


def _note(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    statements = _statements.get()
    if statements is not None:
        statements.append(sql)
    return execute(sql, params, many, context)
