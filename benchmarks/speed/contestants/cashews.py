"""cashews: asynchronous, of functions, without a notion of the ORM."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from benchmarks.libraries import Uncached
from benchmarks.servers import REDIS
from benchmarks.speed.contestants.base import Contestant
from benchmarks.speed.misses import misses
from benchmarks.speed.operation import Operations
from benchmarks.speed.reads import Reads


class _Library(Uncached):
    title = "cashews"
    package = "cashews"
    remark = (
        '`@cache(ttl="1h", key="article:{pk}")` on a coroutine function that gives the instance, '
        "with `tags`, and without them but with `client_side=True`."
    )


class _Articles:
    def __init__(self, get: Callable[..., Any]) -> None:
        self._get = get

    async def aget(self, *, pk: int) -> Any:
        return await self._get(pk=pk)


class Cashews(Contestant):
    library = _Library()
    titles = {"tags": "cashews with tags, async", "client side": "cashews, client side, async"}

    def operations(self, hot: int) -> Operations:
        from cashews import Cache

        tagged, near = Cache("tagged"), Cache("near")
        tagged.setup(os.environ[REDIS])
        near.setup(os.environ[REDIS], client_side=True, client_side_prefix="near:")
        with_tags = tagged(ttl="1h", key="article:{pk}", tags=["of:{pk}"])
        reads = Reads(_Articles(with_tags(_load)), hot)
        near_reads = Reads(_Articles(near(ttl="1h", key="near:{pk}")(_load)), hot)

        async def forget(pk: int) -> None:
            await tagged.delete_tags(f"of:{pk}")

        return {
            ("row", "tags"): reads.operations()["row", "async"],
            ("row", "client side"): near_reads.operations()["row", "async"],
            **misses(reads, hot, forget, ("tags",)),
        }


async def _load(pk: int) -> Any:
    from testproject.news.models import Article

    return await Article.objects.aget(pk=pk)
