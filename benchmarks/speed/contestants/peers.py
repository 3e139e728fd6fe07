"""The libraries that do the same."""

from __future__ import annotations

from benchmarks import libraries
from benchmarks.speed.contestants.base import Contestant


class Cacheops(Contestant):
    library = libraries.Cacheops()
    titles = {"async": "django-cacheops, async (in a thread)", "sync": "django-cacheops"}

    def forget(self, pk: int) -> None:
        from cacheops import invalidate_obj

        from testproject.news.models import Article

        invalidate_obj(self.library.load(Article, pk))


class Cachalot(Contestant):
    library = libraries.Cachalot()
    titles = {"async": "django-cachalot, async (in a thread)", "sync": "django-cachalot"}

    def forget(self, pk: int) -> None:
        from cachalot.api import invalidate

        invalidate("news.Article")
