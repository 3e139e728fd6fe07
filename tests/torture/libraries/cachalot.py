"""django-cachalot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.torture.libraries.base import Library


class Cachalot(Library):
    title = "django-cachalot"
    package = "django-cachalot"
    apps = ("cachalot",)
    remark = "Default settings, on Django's own Redis cache."

    def settings(self, redis: str, ttl: float) -> dict[str, Any]:
        backend = "django.core.cache.backends.redis.RedisCache"
        return {
            "CACHES": {"default": {"BACKEND": backend, "LOCATION": redis, "TIMEOUT": int(ttl)}},
            "CACHALOT_TIMEOUT": int(ttl),
        }

    def locked(self, pks: Sequence[int]) -> list[Any]:
        from cachalot.api import cachalot_disabled

        with cachalot_disabled():
            return super().locked(pks)
