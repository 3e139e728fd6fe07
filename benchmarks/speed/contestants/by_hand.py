"""Cache-aside as it is written by hand, with Django's own cache."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries import HOUR, Uncached
from benchmarks.speed.contestants.base import Contestant
from benchmarks.speed.misses import misses
from benchmarks.speed.operation import Operations
from benchmarks.speed.reads import Reads


class DjangosCache(Uncached):
    title = "Django's cache"
    remark = (
        "`cache.aget()`, else load and `cache.aset()`: the instance, pickled, in Django's own "
        "Redis cache."
    )

    def settings(self, redis: str) -> dict[str, Any]:
        backend = "django.core.cache.backends.redis.RedisCache"
        return {"CACHES": {"default": {"BACKEND": backend, "LOCATION": redis, "TIMEOUT": HOUR}}}


class _Articles:
    def get(self, *, pk: int) -> Any:
        from django.core.cache import cache

        from testproject.news.models import Article

        found = cache.get(f"article:{pk}")
        if found is None:
            found = Article.objects.get(pk=pk)
            cache.set(f"article:{pk}", found)
        return found

    async def aget(self, *, pk: int) -> Any:
        from django.core.cache import cache

        from testproject.news.models import Article

        found = await cache.aget(f"article:{pk}")
        if found is None:
            found = await Article.objects.aget(pk=pk)
            await cache.aset(f"article:{pk}", found)
        return found


class ByHand(Contestant):
    library = DjangosCache()
    titles = {"async": "Django's cache by hand, async", "sync": "Django's cache by hand"}

    def forget(self, pk: int) -> None:
        from django.core.cache import cache

        cache.delete(f"article:{pk}")

    def operations(self, hot: int) -> Operations:
        reads = Reads(_Articles(), hot)
        rows = {key: one for key, one in reads.operations().items() if key[0] == "row"}
        return {**rows, **misses(reads, hot, self.forget, ("async", "sync"))}
