"""django-cacheops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.torture.libraries.base import Library


class Cacheops(Library):
    title = "django-cacheops"
    package = "django-cacheops"
    apps = ("cacheops",)
    remark = (
        '`CACHEOPS = {"*.*": {"ops": "all"}}`; every `update()` is written as its '
        "`invalidated_update()`, since it does not follow the other."
    )

    def settings(self, redis: str, ttl: float) -> dict[str, Any]:
        everything = {"*.*": {"ops": "all", "timeout": int(ttl)}}
        return {"CACHEOPS_REDIS": redis, "CACHEOPS": everything}

    def locked(self, pks: Sequence[int]) -> list[Any]:
        from tests.torture.models import Row

        rows: Any = Row._default_manager
        return list(rows.nocache().select_for_update().filter(pk__in=pks).order_by("pk"))

    def update(self, pks: Sequence[int], **where_and_what: Any) -> int:
        from django.db.models import F

        from tests.torture.models import Row

        found: Any = Row._default_manager.filter(pk__in=pks, **where_and_what)
        number: int = found.invalidated_update(version=F("version") + 1)
        return number
