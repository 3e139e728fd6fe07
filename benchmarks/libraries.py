"""The libraries that are compared, each set up as its own documentation recommends.

Imported before Django is configured, and where only one of them, or none, is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from django.db import models

    from benchmarks.newsroom import Sources

HOUR = 3600
"""How long answers are kept by each of them: longer than the benchmark takes."""


class Uncached:
    """Django alone: what it answers is the truth."""

    title: ClassVar[str] = "no cache"
    package: ClassVar[str | None] = None
    """Its distribution, as pip knows it."""
    apps: ClassVar[tuple[str, ...]] = ()
    remark: ClassVar[str] = ""

    def settings(self, redis: str) -> dict[str, Any]:
        """What its users write into their settings; `redis` is the server's address."""
        return {}

    def sources(self) -> Sources:
        from benchmarks.newsroom import Sources
        from testproject.news.models import Article, Comment, Tag

        return Sources(Article.objects, Comment.objects, Tag.objects)

    def load(self, model: type[models.Model], pk: int) -> Any:
        return model._default_manager.get(pk=pk)

    def update(self, rows: Any, **changes: Any) -> None:
        rows.update(**changes)


class LoomCache(Uncached):
    title = "loom_cache"
    package = "loom-cache"
    apps = ("loom_cache",)
    remark = (
        "Repositories, read by their synchronous methods; default settings but for longer lives."
    )

    def settings(self, redis: str) -> dict[str, Any]:
        return {
            "LOOM_CACHE": {"LOCATION": redis, "DEFAULT_TTL": HOUR, "DEFAULT_LIST_TTL": HOUR},
        }

    def sources(self) -> Sources:
        from benchmarks.newsroom import Sources
        from loom_cache import CachedRepository
        from testproject.news.models import Article, Comment, Tag

        class Articles(CachedRepository[Article]):
            model = Article

        class Comments(CachedRepository[Comment]):
            model = Comment

        class Tags(CachedRepository[Tag]):
            model = Tag

        return Sources(Articles(), Comments(), Tags())


class Cacheops(Uncached):
    title = "django-cacheops"
    package = "django-cacheops"
    apps = ("cacheops",)
    remark = (
        '`CACHEOPS = {"*.*": {"ops": "all", "timeout": 3600}}`. Its documentation names what it '
        "does not follow: `update()`, and changes of rows reached by `select_related`."
    )

    def settings(self, redis: str) -> dict[str, Any]:
        everything = {"*.*": {"ops": "all", "timeout": HOUR}}
        return {"CACHEOPS_REDIS": redis, "CACHEOPS": everything}

    def load(self, model: type[models.Model], pk: int) -> Any:
        manager: Any = model._default_manager
        return manager.nocache().get(pk=pk)


class CacheopsWithItsUpdate(Cacheops):
    title = "cacheops, own update"
    remark = "The same, with every `update()` written as `invalidated_update()`."

    def update(self, rows: Any, **changes: Any) -> None:
        rows.invalidated_update(**changes)


class Cachalot(Uncached):
    title = "django-cachalot"
    package = "django-cachalot"
    apps = ("cachalot",)
    remark = "Default settings, on Django's own Redis cache."

    def settings(self, redis: str) -> dict[str, Any]:
        backend = "django.core.cache.backends.redis.RedisCache"
        return {"CACHES": {"default": {"BACKEND": backend, "LOCATION": redis, "TIMEOUT": HOUR}}}

    def load(self, model: type[models.Model], pk: int) -> Any:
        from cachalot.api import cachalot_disabled

        with cachalot_disabled():
            return super().load(model, pk)


TRUTH = "uncached"
OURS = "loom"
LIBRARIES: dict[str, Uncached] = {
    TRUTH: Uncached(),
    OURS: LoomCache(),
    "cacheops": Cacheops(),
    "cacheops-update": CacheopsWithItsUpdate(),
    "cachalot": Cachalot(),
}
