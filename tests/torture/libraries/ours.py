"""loom_cache, by its repositories."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from tests.torture.libraries.base import Answer, AsyncQuestion, Library, Question
from tests.torture.rows import group_of


class LoomCache(Library):
    title = "loom_cache"
    package = "loom-cache"
    apps = ("loom_cache",)
    remark = "Repositories, read by asynchronous and synchronous methods; default settings."

    is_ours = True

    def settings(self, redis: str, ttl: float) -> dict[str, Any]:
        strict = ["torture.Row"] if self.is_strict else []
        lives = {"DEFAULT_TTL": ttl, "DEFAULT_LIST_TTL": ttl}
        return {"LOOM_CACHE": {"LOCATION": redis, "STRICT": strict, **lives}}

    def rows(self) -> Any:
        return _rows()

    def questions(self) -> dict[str, Question]:
        rows = self.rows()
        method = Question("row", lambda pks: {pks[0]: rows.current(pks[0])})
        return {**super().questions(), "method": method}

    def async_questions(self) -> dict[str, AsyncQuestion]:
        from django.db.models import Sum

        rows = self.rows()

        async def get(pks: Sequence[int]) -> Answer:
            return {pks[0]: (await rows.aget(pk=pks[0])).version}

        async def in_bulk(pks: Sequence[int]) -> Answer:
            return {pk: row.version for pk, row in (await rows.ain_bulk(pks)).items()}

        async def listed(pks: Sequence[int]) -> Answer:
            return {row.pk: row.version async for row in rows.filter(group=group_of(pks[0]))}

        async def values(pks: Sequence[int]) -> Answer:
            found = rows.filter(group=group_of(pks[0])).values_list("pk", "version")
            return {pk: version async for pk, version in found}

        async def summed(pks: Sequence[int]) -> Answer:
            found = await rows.filter(group=group_of(pks[0])).aaggregate(s=Sum("version"))
            total: int = found["s"]
            return total

        async def method(pks: Sequence[int]) -> Answer:
            return {pks[0]: await rows.acurrent(pks[0])}

        return {
            "aget": AsyncQuestion("row", get),
            "ain_bulk": AsyncQuestion("some", in_bulk),
            "async for": AsyncQuestion("group", listed),
            "values": AsyncQuestion("group", values),
            "asum": AsyncQuestion("group", summed),
            "amethod": AsyncQuestion("row", method),
        }

    def has_delivered(self) -> bool:
        from loom_cache import generations

        resolver = generations.resolver()
        return resolver is not None and not resolver.breaker.has_lost

    def is_settled(self) -> bool:
        from loom_cache import generations

        resolver = generations.resolver()
        return resolver is not None and resolver.breaker.closed


class Strict(LoomCache):
    title = "loom_cache, strict"
    remark = (
        "The same, with the model in `STRICT`; written to less often, since each write refreshes "
        "all that was read of the table. While a killed writer's lease runs, 30 s, nothing is kept."
    )
    pause = 0.4
    is_strict = True


@cache
def _rows() -> Any:
    from loom_cache import CachedRepository, cached_query
    from tests.torture.models import Row

    class Rows(CachedRepository[Row]):
        model = Row

        @cached_query
        async def acurrent(self, pk: int) -> int:
            return (await Row._default_manager.aget(pk=pk)).version

        @cached_query
        def current(self, pk: int) -> int:
            return Row._default_manager.get(pk=pk).version

    return Rows()
