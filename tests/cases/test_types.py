"""Types (case 4): whatever a column, an annotation or an aggregate holds, a hit is what a miss is,
in value and in type."""

from __future__ import annotations

import inspect
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.apps import apps
from django.contrib.postgres import aggregates as pg
from django.contrib.postgres import fields as pg_fields
from django.contrib.postgres import search as pg_search
from django.db import connection, models
from django.db.models import (
    Avg,
    Case,
    Count,
    ExpressionWrapper,
    F,
    Func,
    Max,
    Min,
    Q,
    StdDev,
    Sum,
    Value,
    Variance,
    When,
    Window,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import (
    Cast,
    Coalesce,
    CumeDist,
    ExtractYear,
    JSONObject,
    Lag,
    Length,
    Round,
    RowNumber,
    TruncDate,
    TruncDay,
    TruncHour,
)

from loom_cache import CachedRepository, metrics, register_type
from loom_cache.codec.own import unregister_type
from tests.cases.conftest import Ask, outcomes, statements
from tests.fieldapp import models as m
from tests.fieldapp.install import field_app  # noqa: F401
from tests.fieldapp.own import Colour, Money
from tests.fieldapp.same import assert_same

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("field_app")]

two_ways = pytest.mark.parametrize(
    ("store", "ask"), [("memory", "sync"), ("redis", "async")], indirect=True
)

PARIS = zoneinfo.ZoneInfo("Europe/Paris")
MOMENT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


class EverythingRepository(CachedRepository[m.Everything]):
    model = m.Everything


class SaleRepository(CachedRepository[m.Sale]):
    model = m.Sale


class PlaceRepository(CachedRepository[m.Place2D]):
    model = m.Place2D


everything, sales, places = EverythingRepository(), SaleRepository(), PlaceRepository()


@pytest.fixture
def rows(field_app: None, db: None) -> None:  # noqa: F811
    """Two full rows, and one of nothing but defaults."""
    for number in (1, 2):
        m.Everything.objects.create(
            big=2**62 + number,
            integer=number,
            number=1.5 * number,
            money=Decimal("1.10") * number,
            title="a|B",
            data={"a": number, "b": [None, 2.5]},
            encoded={"when": MOMENT},
            decoded={"b": 1.10, "a": {}},
            raw=bytes([number, 255]),
            code=uuid.UUID(int=number),
            day=MOMENT.date(),
            moment=MOMENT,
            hour=MOMENT.time(),
            span=timedelta(days=-number, microseconds=1),
        )
    m.Everything.objects.create(moment=MOMENT)


@pytest.fixture
def registered() -> Iterator[None]:
    register_type(Money, encode=Money.as_data, decode=Money.of_data)
    register_type(Colour, encode=lambda colour: colour.value, decode=Colour)
    yield
    unregister_type(Money)
    unregister_type(Colour)


def asked_twice(ask: Ask, query: Any, terminal: str = "list", *args: Any, **kwargs: Any) -> Any:
    """What the cache gives, which is what the database gave."""
    first = ask(query, terminal, *args, **kwargs)
    ask(query, terminal, *args, **kwargs)  # the first time may only find out what it depends on
    with outcomes("hit"), statements(0):
        hit = ask(query, terminal, *args, **kwargs)
    assert_same([first], [hit])
    return hit


# Columns


def field_classes(module: Any) -> set[type[Any]]:
    """Those whose values are in rows."""
    found = {one for one in vars(module).values() if inspect.isclass(one)}
    fields = {one for one in found if issubclass(one, models.Field)}
    without = {models.Field, models.ForeignObject, models.ManyToManyField, pg_fields.RangeField}
    return {one for one in fields - without if not one.system_check_removed_details}


def test_no_field_of_django_has_been_left_out() -> None:
    """The rows that are compared below, and in test_codec.py, have a column of every class."""
    known = field_classes(models)
    if connection.vendor == "postgresql":
        known |= field_classes(pg_fields)
        known |= {pg_search.SearchVectorField, pg_search.SearchQueryField}
    held = {
        type(field)
        for model in apps.get_app_config("fieldapp").get_models()
        for field in model._meta.fields
    }
    assert known - held == set()


@two_ways
@pytest.mark.usefixtures("rows")
def test_rows_of_every_type(ask: Ask) -> None:
    query = everything.order_by("pk")
    assert len(asked_twice(ask, query)) == 3
    asked_twice(ask, query.values())
    asked_twice(ask, query.values_list())
    asked_twice(ask, query.values_list(named=True))
    asked_twice(ask, query, "first")


OTHERS: list[Callable[[], models.Model]] = [
    lambda: m.Nullable.objects.create(),
    lambda: m.Custom.objects.create(shout="hello", pair=("a", "b")),
    lambda: m.Picture.objects.create(image="a.png", width=3, height=4),
    lambda: m.Rectangle.objects.create(width=2, height=3),
    lambda: m.OrderLine.objects.create(order=1, position=2),
    lambda: m.Verse.objects.create(small=m.Small.objects.create()),
    lambda: m.Middling.objects.create(),
    lambda: m.Place2D.objects.create(spot="1.50 2"),
]


@two_ways
@pytest.mark.parametrize("make", OTHERS)
def test_rows_of_other_models(ask: Ask, make: Callable[[], models.Model]) -> None:
    row = make()
    repository = type("Rows", (CachedRepository,), {"model": type(row)})()
    assert asked_twice(ask, repository, "get", pk=row.pk) == row
    asked_twice(ask, repository.all())
    asked_twice(ask, repository.filter(pk=row.pk), "in_bulk")


# Annotations

Annotations = dict[str, Any]

ANNOTATIONS: dict[str, Callable[[], Annotations]] = {
    "cast": lambda: {
        "decimal": Cast("integer", models.DecimalField(max_digits=9, decimal_places=2)),
        "float": Cast("integer", models.FloatField()),
        "text": Cast("integer", models.CharField()),
        "large": Cast("integer", models.BigIntegerField()),
    },
    "windows": lambda: {
        "row": Window(RowNumber(), order_by="pk"),
        "before": Window(Lag("span"), order_by="pk"),
        "share": Window(CumeDist(), order_by="pk"),
    },
    "durations": lambda: {
        "sum": F("span") + F("span"),
        "later": ExpressionWrapper(F("moment") + F("span"), models.DateTimeField()),
        "since": ExpressionWrapper(F("moment") - Value(MOMENT), models.DurationField()),
    },
    "json": lambda: {
        "made": JSONObject(a="integer", b="title"),
        "part": F("data__a"),
        "list": F("data__b"),
        "missing": F("data__missing"),
    },
    "functions": lambda: {
        "own": Func(F("title"), function="LOWER", output_field=m.Pair()),
        "upper": Func(F("title"), function="LOWER", output_field=m.Upper()),
        "length": Length("title"),
        "round": Round("number"),
        "case": Case(When(integer=1, then=Value(Decimal("0.10"))), default=None),
        "nothing": Coalesce(F("integer"), None),
    },
    "moments": lambda: {
        "that_day": TruncDay("moment"),
        "paris": TruncHour("moment", tzinfo=PARIS),
        "date": TruncDate("moment"),
        "year": ExtractYear("day"),
    },
    "values": lambda: {
        "price": Value(Decimal("1.10")),
        "size_now": Value(m.Everything.Size.SMALL),
        "rank_now": Value(m.Everything.Rank.HIGH),
        "bytes": Value(b"a", output_field=models.BinaryField()),
        "uuid": Value(uuid.UUID(int=1), output_field=models.UUIDField()),
        "none": Value(None, output_field=models.IntegerField()),
        "condition": Q(integer__gt=1),
    },
}
POSTGRES_ANNOTATIONS: dict[str, Callable[[], Annotations]] = {
    "multiranges": lambda: {
        "numbers": RawSQL("'{[1,2),[5,9)}'::int4multirange", (), models.Field()),
        "none": RawSQL("'{}'::tstzmultirange", (), models.Field()),
        "moments": RawSQL("'{[2026-01-01,)}'::tstzmultirange", (), models.Field()),
    },
    "further types": lambda: {
        "record": RawSQL("row(1, 'a'::text)", (), models.Field()),
        "network": RawSQL("'10.0.0.0/8'::cidr", (), models.Field()),
        "interface": RawSQL("'10.0.0.1/8'::inet", (), models.Field()),
        "month": RawSQL("'1 month'::interval", (), models.Field()),
        "bits": RawSQL("B'101'", (), models.Field()),
        "hour_there": RawSQL("'10:00+02'::timetz", (), models.Field()),
        "xml": RawSQL("'<a/>'::xml", (), models.Field()),
        "dates": RawSQL("'[2026-01-01,)'::daterange", (), models.Field()),
    },
}


def check_annotations(ask: Ask, annotations: Annotations) -> None:
    query = everything.order_by("pk").annotate(**annotations)
    assert len(asked_twice(ask, query)) == 3
    asked_twice(ask, query.values(*annotations))
    asked_twice(ask, query.values_list(*annotations, named=True))
    for name in annotations:
        asked_twice(ask, query.values_list(name, flat=True))


@two_ways
@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("name", ANNOTATIONS)
def test_annotations(ask: Ask, name: str) -> None:
    check_annotations(ask, ANNOTATIONS[name]())


@two_ways
@pytest.mark.skipif(connection.vendor != "postgresql", reason="of PostgreSQL alone")
@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("name", POSTGRES_ANNOTATIONS)
def test_annotations_of_postgresql(ask: Ask, name: str) -> None:
    check_annotations(ask, POSTGRES_ANNOTATIONS[name]())


# Aggregates


def aggregates() -> Annotations:
    return {
        "sum": Sum("money"),
        "average": Avg("money"),
        "time": Sum("span"),
        "mean_time": Avg("span"),
        "mean": Avg("integer"),
        "spread": StdDev("number"),
        "variance": Variance("integer"),
        "latest": Max("moment"),
        "earliest_day": Min("day"),
        "hour": Max("hour"),
        "code": Count("code", distinct=True),
        "huge": Max(Cast("big", models.DecimalField(max_digits=30, decimal_places=2))),
    }


def aggregates_of_postgresql() -> Annotations:
    return {
        "spans": pg.ArrayAgg("span", order_by="pk"),
        "raws": pg.ArrayAgg("raw", order_by="pk"),
        "codes": pg.ArrayAgg("code", order_by="pk"),
        "moments": pg.ArrayAgg("moment", order_by="pk"),
        "prices": pg.ArrayAgg("money", order_by="pk"),
        "addresses": pg.ArrayAgg("address", order_by="pk"),
        "documents": pg.JSONBAgg("data", order_by="pk"),
        "made": pg.JSONBAgg(JSONObject(a="money"), order_by="pk"),
        "titles": pg.StringAgg("title", delimiter=",", order_by="pk"),
        "all": pg.BoolAnd("boolean"),
        "bits": pg.BitOr("integer"),
        "correlation": pg.Corr("integer", "number"),
    }


@two_ways
@pytest.mark.parametrize("filled", [True, False])
def test_aggregates(ask: Ask, request: pytest.FixtureRequest, filled: bool) -> None:
    """Of some rows and of none."""
    if filled:
        request.getfixturevalue("rows")
    asked_twice(ask, everything.all(), "aggregate", **aggregates())
    asked_twice(ask, everything.order_by("title").values("title").annotate(**aggregates()))


@two_ways
@pytest.mark.skipif(connection.vendor != "postgresql", reason="of PostgreSQL alone")
@pytest.mark.parametrize("filled", [True, False])
def test_aggregates_of_postgresql(ask: Ask, request: pytest.FixtureRequest, filled: bool) -> None:
    if filled:
        request.getfixturevalue("rows")
    found = aggregates_of_postgresql()
    asked_twice(ask, everything.all(), "aggregate", **found)
    asked_twice(ask, everything.order_by("title").values("title").annotate(**found))


# Types of the project's own


@two_ways
@pytest.mark.usefixtures("registered")
def test_registered_types(ask: Ask) -> None:
    """In rows, in values, and as the argument of a filter."""
    sale = m.Sale.objects.create(price="1.10 EUR", colour="b")
    assert asked_twice(ask, sales.all())[0].colour is Colour.BLUE
    asked_twice(ask, sales.values())
    asked_twice(ask, sales.values_list("price", flat=True))
    found = asked_twice(ask, sales.filter(price=Money(Decimal("1.10"), "EUR")))
    assert found == [sale]
    assert ask(sales.filter(price=Money(Decimal("1.1"), "EUR")), "list") == []


@two_ways
def test_types_that_their_field_writes(ask: Ask) -> None:
    place = m.Place2D.objects.create(spot="1.50 2.0")
    assert asked_twice(ask, places, "get", pk=place.pk).spot.x == Decimal("1.50")


@two_ways
def test_unknown_types_are_read_from_the_database_and_the_reason_says_of_what_type(
    ask: Ask,
) -> None:
    m.Sale.objects.create(price="1.10 EUR")
    for query, name in ((sales.all(), "fieldapp.Sale.price"), (sales.values("price"), "price")):
        for _ in range(3):
            with metrics.recording() as events, statements(1):
                ask(query, "list")
        (read,) = (event for event in events if isinstance(event, metrics.Read))
        assert name in (read.reason or "")
        assert "tests.fieldapp.own.Money" in (read.reason or "")
