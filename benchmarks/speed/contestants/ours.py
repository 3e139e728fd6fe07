"""loom_cache: in Redis, in this process's memory, and with a strict model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import libraries
from benchmarks.speed import rows
from benchmarks.speed.contestants.base import Contestant
from benchmarks.speed.operation import Operation, Operations
from benchmarks.speed.reads import PAGE, Reads

PATIENCE = 5.0
"""Seconds: a machine that is busy with something else is not to count as a store that is down."""
STRIDE = 7919
"""Coprime to any round number: rows far apart are read one after the other."""
CHUNK = 1_000


class _Reads(Reads):
    """With pages by the method for them."""

    def page(self, number: int) -> Any:
        page = self.published().page(1 + number, size=PAGE)
        return page.paginator.count, list(page)

    async def apage(self, number: int) -> Any:
        page = await self.published().apage(1 + number, size=PAGE)
        return page.paginator.count, list(page)


class _Library(libraries.LoomCache):
    remark = (
        "Repositories, read by their asynchronous and synchronous methods; default settings but "
        "for longer lives, and for a `TIMEOUT` that a busy machine does not exceed. In memory, "
        "`memory://`; STRICT, with the model in `STRICT`."
    )

    def settings(self, redis: str) -> dict[str, Any]:
        return {"LOOM_CACHE": {**super().settings(redis)["LOOM_CACHE"], "TIMEOUT": PATIENCE}}


class _Memory(_Library):
    def settings(self, redis: str) -> dict[str, Any]:
        location = f"memory://?ttl_cap={libraries.HOUR}"
        return {"LOOM_CACHE": {**super().settings(redis)["LOOM_CACHE"], "LOCATION": location}}


class _Strict(_Library):
    def settings(self, redis: str) -> dict[str, Any]:
        return {"LOOM_CACHE": {**super().settings(redis)["LOOM_CACHE"], "STRICT": ["news.Article"]}}


class Loom(Contestant):
    library = _Library()
    titles = {"async": "loom_cache, async", "sync": "loom_cache"}

    def reads(self, hot: int) -> Reads:
        return _Reads(self.library.sources().articles, hot)

    def forget(self, pk: int) -> None:
        from loom_cache import invalidate
        from testproject.news.models import Article

        invalidate(Article, pk)

    def operations(self, hot: int) -> Operations:
        reads = self.reads(hot)
        return {**super().operations(hot), **_among(reads)}


class InMemory(Loom):
    library = _Memory()
    titles = {"async": "loom_cache in memory, async", "sync": "loom_cache in memory"}


class Strict(Loom):
    library = _Strict()
    titles = {"async": "loom_cache, STRICT, async", "sync": "loom_cache, STRICT"}


def _among(reads: Reads) -> Operations:
    """A row's hit among so many entries, whichever row it is."""

    def one_of(entries: int) -> Callable[[int], Any]:
        return lambda number: reads.arow(number * STRIDE % entries)

    def fill(entries: int) -> Callable[[], None]:
        return lambda: _keep(reads.articles, entries)

    return {
        (f"row among {entries}", "async"): Operation(
            one_of(entries), entries, True, None, fill(entries)
        )
        for entries in (10**3, 10**4, 10**5, 10**6)
    }


def _keep(articles: Any, entries: int) -> None:
    """Cache so many rows, those that there are not yet included."""
    from testproject.news.models import Article

    there = Article.objects.filter(pk__lte=entries).count()
    if there < entries:
        rows.add(there + 1, entries)
    for start in range(1, entries + 1, CHUNK):
        articles.in_bulk(list(range(start, min(start + CHUNK, entries + 1))))
