"""Real entries, each with the plan that reads it: of every kind of question and of field."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from django.db.models import Count, F, Max, Prefetch
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

from loom_cache import CachedRepository, cached_query, entries, register_type
from loom_cache.bulk import plan_of
from loom_cache.calls import CallPlan
from loom_cache.codec import encode_rows
from loom_cache.drivers import drive
from loom_cache.entries import Entry
from loom_cache.generations import View
from loom_cache.pages import PagePlan
from loom_cache.plans import RowsPlan, ValuePlan
from loom_cache.steps import Plan
from tests.cases import stored
from tests.fieldapp import models as m
from tests.fieldapp.own import Money, Spot


class Authors(CachedRepository[m.Author]):
    model = m.Author


class Books(CachedRepository[m.Book]):
    model = m.Book


class Notes(CachedRepository[m.Note]):
    model = m.Note


class Cities(CachedRepository[m.City]):
    model = m.City


class Countries(CachedRepository[m.Country]):
    model = m.Country


class Restaurants(CachedRepository[m.Restaurant]):
    model = m.Restaurant


class Everything(CachedRepository[m.Everything]):
    model = m.Everything


class Nullable(CachedRepository[m.Nullable]):
    model = m.Nullable


class Sales(CachedRepository[m.Sale]):
    model = m.Sale


class Places(CachedRepository[m.Place2D]):
    model = m.Place2D


class Remembering(CachedRepository[m.Remembering]):
    model = m.Remembering


class Tracked(CachedRepository[m.Tracked]):
    model = m.Tracked


class Summary(msgspec.Struct):
    name: str
    books: list[int]
    when: datetime | None = None
    prices: dict[str, Decimal] = {}


class Methods(CachedRepository[m.Author]):
    model = m.Author

    @cached_query
    def numbers(self) -> list[int]:
        return [author.pk for author in m.Author.objects.all()]

    @cached_query
    def summary(self) -> Summary:
        names = [author.name for author in m.Author.objects.all()]
        return Summary(names[0], [1, 2], datetime(2026, 1, 1, tzinfo=UTC), {"a": Decimal("1.5")})

    @cached_query
    def first(self) -> m.Author | None:
        return m.Author.objects.select_related("mentor").first()

    @cached_query
    def everybody(self) -> list[m.Author]:
        return list(m.Author.objects.prefetch_related("books"))

    @cached_query
    def spent(self) -> tuple[Money, ...]:
        m.Author.objects.count()
        return (Money(Decimal("1.10"), "EUR"), Money(Decimal(2), "CHF"))

    @cached_query
    def named(self) -> dict[str, set[int]]:
        return {author.name: {author.pk} for author in m.Author.objects.all()}


def rows(query: Any, operation: str = "list") -> RowsPlan:
    return RowsPlan(query._query(), operation)


def value(query: Any, operation: str, *args: Any, **kwargs: Any) -> ValuePlan:
    return ValuePlan(query._query(), operation, args, kwargs)


def call(name: str) -> CallPlan:
    method: Any = getattr(Methods, name)
    return CallPlan(method.cached_call, Methods(), (), {})


def fill() -> None:
    """Rows of every model that is asked for, besides those of the fixture `library`."""
    swiss = m.Country.objects.create(code="ch", name="Switzerland", motto="x")
    m.City.objects.create(country=swiss, twin=swiss)
    m.Restaurant.objects.create(name="Inn", stars=2)
    for number in range(2):
        m.Everything.objects.create(
            title=f"t{number}", data={"a": [1, {"b": None}]}, raw=b"\x00\xff", span=timedelta(1)
        )
        m.Nullable.objects.create(decoded={"a": 1} if number else None, day=date(2026, 1, 1))
    m.Sale.objects.create(price=Money(Decimal("1.10"), "EUR"))
    near = m.Place2D.objects.create(name="a", spot=Spot(Decimal(1), Decimal(2)))
    m.Place2D.objects.create(name="b", near=near)
    m.Remembering.objects.create(name="r")
    m.Tracked.objects.create(name="t")
    register_type(Money, encode=Money.as_data, decode=Money.of_data)


def plans() -> Iterator[tuple[str, Callable[[], Plan]]]:
    authors, books = Authors().all(), Books().all()
    named = m.Book.objects.filter(title__startswith="b")
    chains: dict[str, Any] = {
        "authors": authors,
        "related": books.select_related("author__mentor", "editor"),
        "one to one": authors.select_related("passport"),
        "prefetched": authors.prefetch_related("books__tags", "friends", "students"),
        "tagged": books.prefetch_related("tags", "notes"),
        "custom": authors.prefetch_related(Prefetch("books", named)),
        "to_attr": authors.prefetch_related(Prefetch("books", named, to_attr="named")),
        "generic": Notes().prefetch_related("target"),
        "by code": Cities().select_related("country").prefetch_related("twin"),
        "cities": Countries().prefetch_related("city_set"),
        "inherited": Restaurants().all(),
        "deferred": books.only("title").select_related(None),
        "annotated": authors.annotate(n=Count("books"), twice=F("pk") * 2),
        "everything": Everything().all(),
        "nullable": Nullable().all(),
        "own": Sales().all(),
        "text form": Places().select_related("near"),
        "remembering": Remembering().all(),
        "tracked": Tracked().all(),
        "nothing": authors.filter(name="nobody"),
        "values": books.values("title", "author__name"),
        "tuples": books.values_list("title", "pk"),
        "named tuples": books.values_list("title", "pk", named=True),
        "scalars": Everything().values_list("code", flat=True),
        "documents": Everything().values("data", "raw", "moment", "span"),
        "union": authors.union(m.Author.objects.filter(name="pupil")),
    }
    for name, query in chains.items():
        yield name, partial(rows, query)
    yield "first", lambda: rows(authors.order_by("pk"), "first")
    yield "none", lambda: rows(authors.filter(name="nobody"), "get_or_none")
    yield "count", lambda: value(authors, "count")
    yield "exists", lambda: value(authors, "exists")
    yield "aggregate", lambda: value(Everything(), "aggregate", x=Max("moment"), y=Max("money"))
    yield "page", lambda: PagePlan(authors.order_by("pk"), 1, 2)
    yield "in_bulk", lambda: plan_of(authors, list(m.Author.objects.values_list("pk", flat=True)))
    yield "in_bulk by title", lambda: plan_of(books, None)
    for name in ("numbers", "summary", "first", "everybody", "spent", "named"):
        yield f"method {name}", partial(call, name)


@dataclass
class Case:
    """One part of a plan, with the entry it has."""

    name: str
    plan: Plan
    at: int
    data: bytes
    entry: Entry
    answer: Any

    def view(self, data: bytes) -> View:
        """As if `data` lay in the store, and every counter were as the genuine entry has it."""
        found: list[bytes | None] = [None] * len(self.plan.parts)
        found[self.at] = data
        return View(self.entry.incarnation, found, dict(self.entry.generations))


VALUES: list[Any] = [
    *(UUID(int=1), Decimal("1.5"), date(2026, 1, 1), timedelta(1), range(3), slice(1, None)),
    *(datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Paris")), time(1, fold=1), UTC),
    *({1, "a"}, frozenset([None]), (1, (2,)), {1: 2}, OrderedDict(a=[UUID(int=2)])),
    *(
        b"x",
        bytearray(b"x"),
        memoryview(b"x"),
        2**70,
        "\ud800",
        Range(1, 2),
        Multirange([Range(1)]),
    ),
    *(ip_address("1.2.3.4"), ip_network("::/8"), ip_interface("1.2.3.4/8"), ZoneInfo("UTC")),
]
"""One of every type that is stored with its name, as `values_list(flat=True)` may give them."""


def of_every_type(scalars: Case) -> Case:
    entry = scalars.entry
    data = entries.write(entry.incarnation, entry.generations, encode_rows(VALUES))
    forged = entries.read(data)
    assert forged is not None
    return replace(scalars, name="every type", data=data, entry=forged)


def cases() -> list[Case]:
    """Everything asked once, and what then lay in the store."""
    found = []
    for name, make in plans():
        for _ in range(3):  # the first time may only find out what an answer depends on
            plan = make()
            values = drive(plan, instead="")
        lying = stored.entries()
        for at, part in enumerate(plan.parts):
            data = next(data for key, data in lying.items() if key.endswith(part.key))
            entry = entries.read(data)
            assert entry is not None
            found.append(Case(name, plan, at, data, entry, values[at]))
    return [*found, *(of_every_type(one) for one in found if one.name == "scalars")]
