"""Several plans asked for together: a page and its count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from asgiref.sync import sync_to_async
from django.core.paginator import EmptyPage, Page, PageNotAnInteger, Paginator

from loom_cache.plans import QueryPlan, RowsPlan, ValuePlan
from loom_cache.steps import Loaded, Part

if TYPE_CHECKING:
    from loom_cache.query import CachedQuery


class Joint:
    """Several plans asked for together."""

    def __init__(self, members: Sequence[QueryPlan], operation: str) -> None:
        self.members = members
        self.operation = operation
        self.label = members[0].label
        self.fresh = members[0].fresh
        self.parts: Sequence[Part] = [plan.parts[0] for plan in members]

    def refusal(self) -> str | None:
        return next(filter(None, (plan.refusal() for plan in self.members)), None)

    def asked(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(tag for plan in self.members for tag in plan.asked()))

    def learn(self, at: int, names: Sequence[str]) -> None:
        self.members[at].learn(0, names)

    def prepared(self) -> bool:
        return all(plan.prepared() for plan in self.members)

    def prepare(self) -> None:
        for plan in self.members:
            plan.prepare()

    def load(self, missing: Sequence[int]) -> list[Loaded]:
        return [loaded for at in missing for loaded in self.members[at].load([0])]

    async def aload(self, missing: Sequence[int]) -> list[Loaded]:
        loaded: list[Loaded] = await sync_to_async(self.load, thread_sensitive=True)(missing)
        return loaded

    def decode(self, at: int, body: msgspec.Raw) -> Any:
        return self.members[at].decode(0, body)

    def question(self, at: int) -> msgspec.Raw:
        return self.members[at].question(0)


class PagePlan(Joint):
    """One page: its rows and the count."""

    def __init__(self, query: CachedQuery[Any], number: Any, size: Any) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"A page's size is a positive whole number, not {size!r}.")
        self._size = size
        self._number = _page_number(number)
        start = (self._number - 1) * size
        rows = RowsPlan(query.sliced(slice(start, start + size)), "list")
        super().__init__([rows, ValuePlan(query, "count")], "page")

    def finish(self, values: list[Any]) -> Any:
        rows, count = values
        paginator = Paginator(rows, self._size)
        paginator.__dict__["count"] = count  # a cached property: the rows are but one page
        return Page(rows, paginator.validate_number(self._number), paginator)


def _page_number(number: Any) -> int:
    """As Paginator.validate_number, which would first want to know the count."""
    try:
        if isinstance(number, float) and not number.is_integer():
            raise ValueError
        number = int(number)
    except (TypeError, ValueError):
        raise PageNotAnInteger(Paginator.default_error_messages["invalid_page"]) from None
    if number < 1:
        raise EmptyPage(Paginator.default_error_messages["min_page"])
    return int(number)


class Known:
    """An answer that needs neither cache nor database."""

    parts: Sequence[Part] = ()
    fresh = False

    def __init__(self, value: Any, label: str, operation: str) -> None:
        self._value, self.label, self.operation = value, label, operation

    def refusal(self) -> str | None:
        return None

    def asked(self) -> tuple[str, ...]:
        return ()

    def learn(self, at: int, names: Sequence[str]) -> None: ...

    def prepared(self) -> bool:
        return True

    def prepare(self) -> None: ...

    def load(self, missing: Sequence[int]) -> list[Loaded]:
        return []

    async def aload(self, missing: Sequence[int]) -> list[Loaded]:
        return []

    def decode(self, at: int, body: msgspec.Raw) -> Any:
        raise IndexError(at)

    def question(self, at: int) -> msgspec.Raw:
        raise IndexError(at)

    def finish(self, values: list[Any]) -> Any:
        return self._value
