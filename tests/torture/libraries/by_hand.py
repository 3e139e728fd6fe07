"""Cache-aside as it is written by hand: look up, else load and keep; delete in post_save."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.torture.libraries.base import Library, Question
from tests.torture.rows import group_of


class ByHand(Library):
    title = "by hand"
    remark = (
        "`cache.get()`, else load and `cache.set()`; `cache.delete_many()` in `post_save` and "
        "after every `update()`, on Django's own Redis cache."
    )

    def settings(self, redis: str, ttl: float) -> dict[str, Any]:
        backend = "django.core.cache.backends.redis.RedisCache"
        return {"CACHES": {"default": {"BACKEND": backend, "LOCATION": redis, "TIMEOUT": int(ttl)}}}

    def questions(self) -> dict[str, Question]:
        return {
            name: Question(question.scope, _kept(name, question))
            for name, question in super().questions().items()
            if name in ("get", "list", "sum")
        }

    def connect(self) -> None:
        from django.db.models.signals import post_save

        from tests.torture.models import Row

        post_save.connect(_forget_row, sender=Row)

    def update(self, pks: Sequence[int], **where_and_what: Any) -> int:
        number = super().update(pks, **where_and_what)
        for pk in pks:
            _forget(pk)
        return number


def _kept(name: str, question: Question) -> Callable[[Sequence[int]], Any]:
    from django.core.cache import cache

    def ask(pks: Sequence[int]) -> Any:

        key = f"{name}:{pks[0] if question.scope == 'row' else group_of(pks[0])}"
        answer = cache.get(key)
        if answer is None:
            answer = question.ask(pks)
            cache.set(key, answer)
        return answer

    return ask


def _forget_row(instance: Any, **_kwargs: object) -> None:
    _forget(instance.pk)


def _forget(pk: int) -> None:
    from django.core.cache import cache

    cache.delete_many([f"get:{pk}", f"list:{group_of(pk)}", f"sum:{group_of(pk)}"])
