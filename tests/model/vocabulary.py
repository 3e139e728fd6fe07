"""The names that texts may use, whoever reads or writes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from functools import lru_cache
from types import CodeType
from typing import Any
from uuid import UUID

from django.contrib.contenttypes.models import ContentType
from django.db.models import (
    Case,
    Count,
    Exists,
    F,
    Max,
    OuterRef,
    Prefetch,
    Q,
    Subquery,
    Sum,
    Value,
    When,
)

from tests.model.app.models import MODELS, OpenShop, Post


class Level(IntEnum):
    """A number by another name."""

    ONE = 1
    TWO = 2


VOCABULARY: dict[str, Any] = {
    "UTC": UTC,
    "EAST": timezone(timedelta(hours=2)),
    "ContentType": ContentType,
    "Level": Level,
    "Link": Post.topics.through,
    **{model.__name__: model for model in (*MODELS, OpenShop)},
    **{
        each.__name__: each
        for each in (
            *(Case, Count, Exists, F, Max, OuterRef, Prefetch, Q, Subquery, Sum, Value, When),
            *(date, datetime, Decimal, UUID),
        )
    },
}


@lru_cache(maxsize=50_000)
def _compiled(text: str) -> CodeType:
    return compile(text, text, "eval")


def value_of(text: str, words: dict[str, Any]) -> Any:
    """What the text says, in the vocabulary and these words."""
    return eval(_compiled(text), {**VOCABULARY, **words})
