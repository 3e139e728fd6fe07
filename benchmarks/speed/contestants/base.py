"""What is asked of a contestant; as it stands, Django alone.

Imported before Django is configured, and where only one of the libraries, or none, is installed.
"""

from __future__ import annotations

from typing import Any, ClassVar

from benchmarks.libraries import Uncached
from benchmarks.speed.misses import misses
from benchmarks.speed.operation import Operations
from benchmarks.speed.reads import Reads
from benchmarks.speed.writes import Writes


class Contestant:
    library: Uncached = Uncached()
    titles: ClassVar[dict[str, str]] = {
        "async": "Django alone, async",
        "sync": "Django alone",
    }
    """What each of its ways is called in the table."""

    def reads(self, hot: int) -> Reads:
        return Reads(self.library.sources().articles, hot)

    def forget(self, pk: int) -> Any:
        """Make unreadable what is cached of an article; it may be a coroutine function."""

    def operations(self, hot: int) -> Operations:
        """`hot`: how many rows are read again and again."""
        from testproject.news.models import Article

        reads = self.reads(hot)
        writes = Writes(reads.row, lambda pk: self.library.load(Article, pk), hot)
        return {
            **reads.operations(),
            **misses(reads, hot, self.forget, ("async", "sync")),
            **writes.operations(),
        }
