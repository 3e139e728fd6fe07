"""Which plan answers which terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from loom_cache import bulk
from loom_cache.pages import PagePlan
from loom_cache.plans import RowsPlan, ValuePlan
from loom_cache.steps import Plan

if TYPE_CHECKING:
    from loom_cache.query import CachedQuery


class AnyPlan(Plan, Protocol):
    """A plan that knows what its terminal returns."""

    def finish(self, values: list[Any]) -> Any: ...


_VALUES = frozenset({"count", "exists", "contains", "aggregate"})
STORED = _VALUES | frozenset(
    ("get", "get_or_none", "first", "last", "latest", "earliest", "in_bulk", "list")
)
"""Those that entries answer; a page consists of two of them."""


def plan_of(
    query: CachedQuery[Any], operation: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AnyPlan:
    """The plan of one terminal. Runs nothing."""
    if operation in ("get", "get_or_none"):
        if args or kwargs:
            query = query.followed_by("filter", args, kwargs)
        return RowsPlan(query, operation)
    if operation == "page":
        return PagePlan(query, *args, **kwargs)
    if operation == "in_bulk":
        return bulk.plan_of(query, *args, **kwargs)
    kind = ValuePlan if operation in _VALUES else RowsPlan
    return kind(query, operation, args, kwargs)
