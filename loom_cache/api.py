"""The reading API: what a repository and every CachedQuery made from it have in common.

Names, arguments and errors are those of Django's QuerySet. A chain method returns a new query and
runs nothing; a terminal reads. Each asynchronous terminal has a synchronous twin without the `a`,
which loads in the caller's thread and connection and so sees its transaction.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from django.core.paginator import Page
from django.db.models import QuerySet

from loom_cache import terminals
from loom_cache.drivers import adrive, drive

if TYPE_CHECKING:
    from loom_cache.query import CachedQuery

Row = TypeVar("Row")


class ReadingAPI(Generic[Row]):
    """Chain methods and terminals over what `_query()` gives."""

    def _query(self) -> CachedQuery[Row]:
        raise NotImplementedError

    def _chain(self, method: str, *args: Any, **kwargs: Any) -> CachedQuery[Any]:
        return self._query().followed_by(method, args, kwargs)

    async def _aread(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        plan = terminals.plan_of(self._query(), operation, args, kwargs)
        return plan.finish(await adrive(plan))

    def _read(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        plan = terminals.plan_of(self._query(), operation, args, kwargs)
        instead = "iterate with `async for`, or await alist()"
        if operation != "list":
            instead = f"await a{operation}()"
        return plan.finish(drive(plan, instead=instead))

    # Chain methods. -----------------------------------------------------------------------------

    def all(self) -> CachedQuery[Row]:
        return self._query()

    def filter(self, *args: Any, **kwargs: Any) -> CachedQuery[Row]:
        return self._chain("filter", *args, **kwargs)

    def exclude(self, *args: Any, **kwargs: Any) -> CachedQuery[Row]:
        return self._chain("exclude", *args, **kwargs)

    def order_by(self, *fields: Any) -> CachedQuery[Row]:
        return self._chain("order_by", *fields)

    def reverse(self) -> CachedQuery[Row]:
        return self._chain("reverse")

    def distinct(self, *fields: str) -> CachedQuery[Row]:
        return self._chain("distinct", *fields)

    def annotate(self, *args: Any, **kwargs: Any) -> CachedQuery[Row]:
        return self._chain("annotate", *args, **kwargs)

    def alias(self, *args: Any, **kwargs: Any) -> CachedQuery[Row]:
        return self._chain("alias", *args, **kwargs)

    def values(self, *fields: Any, **expressions: Any) -> CachedQuery[dict[str, Any]]:
        return self._chain("values", *fields, **expressions)

    def values_list(
        self, *fields: Any, flat: bool = False, named: bool = False
    ) -> CachedQuery[Any]:
        return self._chain("values_list", *fields, flat=flat, named=named)

    def dates(self, field: str, kind: str, order: str = "ASC") -> CachedQuery[Any]:
        return self._chain("dates", field, kind, order)

    def datetimes(
        self, field: str, kind: str, order: str = "ASC", tzinfo: Any = None
    ) -> CachedQuery[Any]:
        return self._chain("datetimes", field, kind, order, tzinfo)

    def union(self, *others: Any, all: bool = False) -> CachedQuery[Row]:  # noqa: A002
        return self._chain("union", *others, all=all)

    def intersection(self, *others: Any) -> CachedQuery[Row]:
        return self._chain("intersection", *others)

    def difference(self, *others: Any) -> CachedQuery[Row]:
        return self._chain("difference", *others)

    def none(self) -> CachedQuery[Row]:
        return self._chain("none")

    def select_related(self, *fields: Any) -> CachedQuery[Row]:
        return self._chain("select_related", *fields)

    def prefetch_related(self, *lookups: Any) -> CachedQuery[Row]:
        return self._chain("prefetch_related", *lookups)

    def only(self, *fields: str) -> CachedQuery[Row]:
        return self._chain("only", *fields)

    def defer(self, *fields: str | None) -> CachedQuery[Row]:
        return self._chain("defer", *fields)

    def fetch_mode(self, mode: Any) -> CachedQuery[Row]:
        """How deferred fields are fetched (Django 6.1 and later)."""
        return self._chain("fetch_mode", mode)

    def using(self, alias: str | None) -> CachedQuery[Row]:
        return self._query().with_alias(alias)

    @overload
    def __getitem__(self, at: int) -> Row: ...

    @overload
    def __getitem__(self, at: slice) -> CachedQuery[Row]: ...

    def __getitem__(self, at: Any) -> Any:
        """A slice is a query; a number reads that row at once (synchronously), as in Django."""
        if isinstance(at, slice):
            return self._query().sliced(at)
        rows = list(self._query().sliced(slice(at, at + 1)))
        return rows[0]

    def fresh(self) -> CachedQuery[Row]:
        """Do not look up: read the database and refill the cache."""
        return self._query().refreshing()

    def cache_for(self, seconds: float) -> CachedQuery[Row]:
        """Keep the answer this many seconds (a positive number) at the most."""
        return self._query().kept_for(seconds)

    # Never cacheable: Django's own QuerySet takes over. -----------------------------------------

    def select_for_update(self, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        return self._query().queryset().select_for_update(*args, **kwargs)

    def raw(self, *args: Any, **kwargs: Any) -> Any:
        return self._query().queryset().raw(*args, **kwargs)

    def explain(self, *, format: str | None = None, **options: Any) -> str:  # noqa: A002
        return self._query().queryset().explain(format=format, **options)

    async def aexplain(
        self,
        *,
        format: str | None = None,  # noqa: A002
        **options: Any,
    ) -> str:
        return await self._query().queryset().aexplain(format=format, **options)

    def iterator(self, chunk_size: int | None = None) -> Iterator[Row]:
        return self._query().queryset().iterator(chunk_size=chunk_size)

    def aiterator(self, chunk_size: int = 2000) -> AsyncIterator[Row]:
        return self._query().queryset().aiterator(chunk_size=chunk_size)

    # Terminals. ---------------------------------------------------------------------------------

    async def aget(self, *args: Any, **kwargs: Any) -> Row:
        """The one row. Raises the model's DoesNotExist or MultipleObjectsReturned."""
        row: Row = await self._aread("get", *args, **kwargs)
        return row

    def get(self, *args: Any, **kwargs: Any) -> Row:
        row: Row = self._read("get", *args, **kwargs)
        return row

    async def aget_or_none(self, *args: Any, **kwargs: Any) -> Row | None:
        """The one row, or None. Raises the model's MultipleObjectsReturned."""
        row: Row | None = await self._aread("get_or_none", *args, **kwargs)
        return row

    def get_or_none(self, *args: Any, **kwargs: Any) -> Row | None:
        row: Row | None = self._read("get_or_none", *args, **kwargs)
        return row

    async def afirst(self) -> Row | None:
        row: Row | None = await self._aread("first")
        return row

    def first(self) -> Row | None:
        row: Row | None = self._read("first")
        return row

    async def alast(self) -> Row | None:
        row: Row | None = await self._aread("last")
        return row

    def last(self) -> Row | None:
        row: Row | None = self._read("last")
        return row

    async def alatest(self, *fields: Any) -> Row:
        row: Row = await self._aread("latest", *fields)
        return row

    def latest(self, *fields: Any) -> Row:
        row: Row = self._read("latest", *fields)
        return row

    async def aearliest(self, *fields: Any) -> Row:
        row: Row = await self._aread("earliest", *fields)
        return row

    def earliest(self, *fields: Any) -> Row:
        row: Row = self._read("earliest", *fields)
        return row

    async def ain_bulk(
        self, id_list: Iterable[Any] | None = None, *, field_name: str = "pk"
    ) -> dict[Any, Row]:
        """{pk: row} of those that exist; by primary key each row is an entry of its own, shared
        with `aget(pk=)`, and all are asked for in one round trip."""
        rows: dict[Any, Row] = await self._aread("in_bulk", id_list, field_name=field_name)
        return rows

    def in_bulk(
        self, id_list: Iterable[Any] | None = None, *, field_name: str = "pk"
    ) -> dict[Any, Row]:
        rows: dict[Any, Row] = self._read("in_bulk", id_list, field_name=field_name)
        return rows

    async def acount(self) -> int:
        number: int = await self._aread("count")
        return number

    def count(self) -> int:
        number: int = self._read("count")
        return number

    async def aexists(self) -> bool:
        found: bool = await self._aread("exists")
        return found

    def exists(self) -> bool:
        found: bool = self._read("exists")
        return found

    async def acontains(self, obj: Any) -> bool:
        found: bool = await self._aread("contains", obj)
        return found

    def contains(self, obj: Any) -> bool:
        found: bool = self._read("contains", obj)
        return found

    async def aaggregate(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        values: dict[str, Any] = await self._aread("aggregate", *args, **kwargs)
        return values

    def aggregate(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        values: dict[str, Any] = self._read("aggregate", *args, **kwargs)
        return values

    async def alist(self) -> list[Row]:
        rows: list[Row] = await self._aread("list")
        return rows

    async def apage(self, number: Any, *, size: int) -> Page[Row]:
        """Page `number` (from 1) of `size` rows: Django's Page. Its rows and the count are two
        entries, asked for together. Raises Paginator's EmptyPage and PageNotAnInteger."""
        page: Page[Row] = await self._aread("page", number, size)
        return page

    def page(self, number: Any, *, size: int) -> Page[Row]:
        page: Page[Row] = self._read("page", number, size)
        return page

    async def __aiter__(self) -> AsyncIterator[Row]:
        for row in await self._aread("list"):
            yield row

    def __iter__(self) -> Iterator[Row]:
        return iter(self._read("list"))


class _Writing:
    """Stands where a manager has a method that writes: reading is all there is here."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, reader: Any, owner: type[Any]) -> Any:
        asked = owner if reader is None else reader
        with suppress(AttributeError):  # a base class of the project's own may have one
            return getattr(super(ReadingAPI, asked), self._name)
        model = getattr(getattr(asked, "model", None), "__name__", "Model")
        raise AttributeError(
            f"{owner.__name__} only reads. Write through the model, as by {model}.objects."
            f"{self._name}(): what is cached of it is refreshed."
        )


_WRITES = "create get_or_create update_or_create bulk_create bulk_update update delete"
for _verb in _WRITES.split():
    for _name in (_verb, f"a{_verb}"):
        setattr(ReadingAPI, _name, _Writing(_name))
