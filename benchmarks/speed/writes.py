"""Writes, the same for all: synchronous, as Django's are in whichever thread they run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from benchmarks.speed.operation import Operation, Operations
from benchmarks.speed.rows import ARTICLES, AUTHORS

if TYPE_CHECKING:
    from testproject.news.models import Article

BODY = "thread " * 42
WRITTEN = 100
"""Rows, again and again."""


class Writes:
    def __init__(self, read: Callable[[int], Any], load: Callable[[int], Any], hot: int) -> None:
        self._read = read
        self._load = load
        self._different = min(WRITTEN, hot)
        self._new: list[Article] = []

    def operations(self) -> Operations:
        plain = Operation(self._save, self._different, before=self._read)
        within = Operation(self._save_within, self._different, before=self._read)
        made = {
            (f"bulk_create {rows}", "sync"): Operation(self._create, 1, before=self._make(rows))
            for rows in (1_000, 10_000)
        }
        return {
            ("save", "sync"): plain,
            ("save in atomic", "sync"): within,
            **made,
        }

    @cached_property
    def _rows(self) -> list[Article]:
        return [self._load(1 + number) for number in range(self._different)]

    def _save(self, number: int) -> None:
        row = self._rows[number]
        row.views += 1
        row.save()

    def _save_within(self, number: int) -> None:
        from django.db import transaction

        with transaction.atomic():
            self._save(number)

    def _make(self, rows: int) -> Callable[[int], None]:
        def make(_number: int) -> None:
            from django.db import connection

            from testproject.news.models import Article

            with connection.cursor() as cursor:
                cursor.execute("DELETE FROM news_article WHERE id > %s", [ARTICLES])
            self._new = [
                Article(author_id=1 + n % AUTHORS, slug=f"new-{n}", title=f"New {n}", body=BODY)
                for n in range(rows)
            ]

        return make

    def _create(self, _number: int) -> None:
        from testproject.news.models import Article

        Article.objects.bulk_create(self._new)
