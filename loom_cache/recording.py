"""What ran on behalf of a load: its statements, across await and threads (R6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from loom_cache import sql

_recorders: ContextVar[Recorder | None] = ContextVar("loom_cache.recorder", default=None)


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement that ran on behalf of a load."""

    statement: sql.Statement
    params: tuple[object, ...] | None
    """None where they are not a sequence."""
    vendor: str
    triggered: frozenset[str]
    """Tables that it reads by values, which their triggers may change."""


@dataclass(slots=True)
class Recorder:
    """What ran on behalf of one load: its statements, and the identifiers that these named."""

    names: set[str] = field(default_factory=set)
    sources: set[str] = field(default_factory=set)
    """Those that stand where a table's name does."""
    asked: list[Asked] = field(default_factory=list)
    tags: set[str] = field(default_factory=set)
    """What cached reads inside the load depend on: they run no statement."""
    ended_caching: bool = False
    volatile: str | None = None
    private: bool = False
    """It saw a transaction's own view of the data, which nobody else may be given."""
    by_alias: dict[str, set[str]] = field(default_factory=dict)
    """The names again, by the database that was asked."""

    def note(self, names: Iterable[str], alias: str) -> None:
        self.by_alias.setdefault(alias, set()).update(names)


@contextmanager
def recorded() -> Iterator[Recorder]:
    """Note what the statements of this block touch, across await and threads."""
    outer = _recorders.get()
    recorder = Recorder()
    token = _recorders.set(recorder)
    try:
        yield recorder
    finally:
        _recorders.reset(token)
        if outer is not None:
            outer.names |= recorder.names
            outer.sources |= recorder.sources
            outer.asked += recorder.asked
            outer.tags |= recorder.tags
            outer.ended_caching = outer.ended_caching or recorder.ended_caching
            outer.volatile = outer.volatile or recorder.volatile
            outer.private = outer.private or recorder.private
            for alias, names in recorder.by_alias.items():
                outer.note(names, alias)


def recorder() -> Recorder | None:
    """That of the load this code runs in, if it runs in one."""
    return _recorders.get()
