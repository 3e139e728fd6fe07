"""Reads as the Django that everybody writes: the same for every library that can be read so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.speed import rows
from benchmarks.speed.operation import Operation, Operations

PAGE = 20
SOME = 100
MANY = 1_000


class Reads:
    """`articles`: Django's manager, or what a library offers in its place."""

    def __init__(self, articles: Any, hot: int) -> None:
        self.articles = articles
        self.hot = hot
        self._authors = max(1, hot // rows.OF_AN_AUTHOR)
        self._chunks = [
            list(range(1 + start, 1 + min(start + SOME, hot))) for start in range(0, hot, SOME)
        ]

    def operations(self) -> Operations:
        authors, pages, chunks = self._authors, min(20, self._authors), len(self._chunks)
        reads: dict[tuple[str, str], tuple[Callable[[int], Any], int]] = {
            ("row", "sync"): (self.row, self.hot),
            ("row", "async"): (self.arow, self.hot),
            ("list", "sync"): (self.listed, authors),
            ("list", "async"): (self.alisted, authors),
            ("page", "sync"): (self.page, pages),
            ("page", "async"): (self.apage, pages),
            ("bulk", "sync"): (self.bulk, chunks),
            ("bulk", "async"): (self.abulk, chunks),
            ("bulk of 1,000", "async"): (self.amany, 1),
            ("count", "sync"): (self.count, authors),
            ("count", "async"): (self.acount, authors),
        }
        return {
            (name, way): Operation(do, different, asynchronous=way == "async")
            for (name, way), (do, different) in reads.items()
        }

    def row(self, number: int) -> Any:
        return self.articles.get(pk=1 + number)

    async def arow(self, number: int) -> Any:
        return await self.articles.aget(pk=1 + number)

    def of_author(self, number: int) -> Any:
        return self.articles.filter(author_id=1 + number).order_by("-created")

    def listed(self, number: int) -> Any:
        return list(self.of_author(number))

    async def alisted(self, number: int) -> Any:
        return [article async for article in self.of_author(number)]

    def published(self) -> Any:
        return self.articles.filter(published=True).order_by("-created")

    def page(self, number: int) -> Any:
        from django.core.paginator import Paginator

        page = Paginator(self.published(), PAGE).page(1 + number)
        return page.paginator.count, list(page)

    async def apage(self, number: int) -> Any:
        from asgiref.sync import sync_to_async

        return await sync_to_async(self.page)(number)

    def bulk(self, number: int) -> Any:
        return self.articles.in_bulk(self._chunks[number])

    async def abulk(self, number: int) -> Any:
        return await self.articles.ain_bulk(self._chunks[number])

    async def amany(self, number: int) -> Any:
        return await self.articles.ain_bulk(list(range(1, 1 + MANY)))

    def count(self, number: int) -> Any:
        return self.of_author(number).count()

    async def acount(self, number: int) -> Any:
        return await self.of_author(number).acount()
