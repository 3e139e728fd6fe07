"""Values and rows as bytes: what comes back is what went in, or nothing does."""

from __future__ import annotations

import enum
import ipaddress
import math
import sys
import uuid
import zoneinfo
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import msgspec
import pytest
from django.contrib.contenttypes.models import ContentType
from django.contrib.postgres.aggregates import ArrayAgg
from django.db import connection
from django.db.models import Count, F, Max, Model, Prefetch, QuerySet, Value
from django.db.models.base import ModelState
from django.db.models.functions import TruncMonth
from django.test import override_settings
from django.test.utils import CaptureQueriesContext, isolate_apps
from django.utils.safestring import mark_safe
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.multirange import Multirange, TimestamptzMultirange
from psycopg.types.range import Int4Range, Range

from loom_cache.codec import (
    CorruptEntry,
    custom_prefetches,
    decode_rows,
    decode_value,
    encode_rows,
    encode_value,
)
from loom_cache.codec.fetching import MODES
from loom_cache.codec.layout import Entry, GroupHeader, ValuesHeader
from loom_cache.exceptions import UnsupportedValue
from tests.fieldapp import models as m
from tests.fieldapp.install import field_app, library  # noqa: F401
from tests.fieldapp.same import assert_same, check, through

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("field_app")]


PARIS = zoneinfo.ZoneInfo("Europe/Paris")
MOMENT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


# Values


EXACT: list[Any] = [
    None,
    True,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
    2**64,
    -(2**63) - 1,
    10**30,
    10**5000,
    1.0,
    -0.0,
    math.inf,
    math.nan,
    "",
    "ä\x00\n",
    "\ud800",
    b"",
    b"\xff",
    bytearray(b"a"),
    memoryview(b"abc"),
    Decimal("1.10"),
    Decimal("-0"),
    Decimal("1E+30"),
    Decimal("NaN"),
    Decimal("Infinity"),
    uuid.UUID(int=5),
    date.min,
    date.max,
    datetime.min,  # noqa: DTZ901
    datetime.max,  # noqa: DTZ901
    datetime.min.replace(tzinfo=UTC),
    datetime.max.replace(tzinfo=UTC),
    MOMENT,
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=PARIS),
    datetime(2026, 10, 25, 2, 30, fold=0, tzinfo=PARIS),
    datetime(2026, 1, 1, fold=1),  # noqa: DTZ001
    datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(0), "GMT")),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=1, microseconds=5), "odd")),
    time(1, 2, 3, 4),
    time(1, fold=1),
    time(1, tzinfo=UTC),
    time(1, tzinfo=timezone(timedelta(0), "GMT")),
    time(1, tzinfo=PARIS),
    timedelta.min,
    timedelta.max,
    timedelta(microseconds=-1),
    [],
    [1, [2, {"a": None}]],
    [(1,), {2}],
    (1, [2]),
    (),
    {},
    {"b": 1, "a": [1.5, {"c": b"x"}]},
    {1: "a", (1, 2): {"b"}},
    {1, 2},
    frozenset(("a",)),
    range(1, 9, 2),
    slice(1, None, "a"),
    ipaddress.ip_address("1.2.3.4"),
    ipaddress.ip_address("::1"),
    ipaddress.ip_network("10.0.0.0/8"),
    ipaddress.ip_network("fe80::/16"),
    ipaddress.ip_interface("10.0.0.1/8"),
    ipaddress.ip_interface("fe80::1/16"),
    Range(1, 5),
    Range(Decimal(1), None, "(]"),
    Range(date.min, date.max),
    Range(empty=True),
    Int4Range(1, 2, "[]"),
    Multirange([]),
    Multirange([Range(1, 2), Range(5, None)]),
    TimestamptzMultirange([Range(MOMENT, MOMENT + timedelta(1))]),
    OrderedDict(b=1, a=OrderedDict()),
    PARIS,
    zoneinfo.ZoneInfo("UTC"),
    UTC,
    timezone(timedelta(hours=-3), "odd"),
    memoryview(b"abc").cast("c"),
    memoryview(b"abc").cast("b"),
]


@pytest.mark.parametrize("value", EXACT, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_exactly(value: Any) -> None:
    assert_same([value], [decode_value(encode_value(value))])


@pytest.mark.parametrize("value", EXACT, ids=lambda value: type(value).__name__)
def test_a_value_in_a_row_comes_back_exactly(value: Any) -> None:
    """Alone, with None, with the value of another type, and as an attribute of an instance."""
    for column in ([value], [value, None], [None, value, value], [value, "another"]):
        check(column)
        check([(1, item) for item in column])
        check([{"a": item, "b": 1} for item in column])
    author = m.Author(pk=1)
    author._state.adding = False
    author.extra = value  # type: ignore[attr-defined]
    check([author])


@pytest.mark.skipif(find_spec("psycopg2") is None, reason="psycopg 2 is not installed")
def test_the_ranges_of_psycopg_2_come_back_exactly() -> None:
    extras = import_module("psycopg2.extras")
    for value in (
        extras.NumericRange(1, 5),
        extras.NumericRange(Decimal("1.5"), None, "(]"),
        extras.DateRange(date.min, date.max),
        extras.DateTimeRange(empty=True),
        extras.DateTimeTZRange(MOMENT, None),
    ):
        check([value, None, [value]])


def test_a_range_of_a_driver_that_is_not_in_use_is_a_miss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2._range", None)
    with pytest.raises(CorruptEntry, match="not in use"):
        decode_value(msgspec.msgpack.encode([1, "v", ["R", "NumericRange", 1, 5, "[)"]]))


@pytest.mark.parametrize("letter", ["r", "q", "R"])
def test_nothing_but_a_range_is_made_of_the_name_of_one(letter: str) -> None:
    with pytest.raises(CorruptEntry, match="a range has an unknown form"):
        decode_value(msgspec.msgpack.encode([1, "v", [letter, "import_module", "os"]]))


ZONES = [None, UTC, timezone(timedelta(0), "GMT"), zoneinfo.ZoneInfo("UTC"), PARIS]

native = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=5),
    st.binary(max_size=5),
)
hashable = st.one_of(
    native,
    st.decimals(allow_nan=False),
    st.uuids(),
    st.dates(),
    st.timedeltas(),
    st.times(timezones=st.sampled_from([None, UTC])),
    st.datetimes(timezones=st.sampled_from(ZONES)),
    st.ip_addresses(),
)
anything = st.recursive(
    hashable,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.dictionaries(hashable, inner, max_size=3),
        st.sets(hashable, max_size=3),
    ),
    max_leaves=10,
)


@given(anything)
def test_any_value_comes_back_exactly(value: Any) -> None:
    assert_same([value], [decode_value(encode_value(value))])


@given(st.lists(st.tuples(hashable, st.none() | st.integers(), anything), max_size=5))
def test_any_rows_come_back_exactly(rows: list[tuple[Any, ...]]) -> None:
    check(rows)
    check([dict(zip("abc", row, strict=True)) for row in rows])
    check([row[2] for row in rows])


@given(st.lists(st.datetimes(timezones=st.sampled_from(ZONES)), max_size=4))
def test_moments_keep_their_zone_next_to_others(column: list[datetime]) -> None:
    check(column)


class Colour(enum.Enum):
    RED = "red"


class Strict:
    """Something the cache knows nothing of."""


REFUSED = [
    Colour.RED,
    m.Everything.Size.SMALL,
    mark_safe("a"),
    Strict(),
    type("Number", (int,), {})(1),
    m.Author,
    (n for n in (1, 2)),
    datetime(2026, 1, 1, tzinfo=type("Zone", (zoneinfo.ZoneInfo,), {})("UTC")),
    memoryview(b"abcd").cast("i"),
    1j,
]


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_what_could_not_come_back_the_same_is_refused_by_name(value: Any) -> None:
    kind = type(value.tzinfo if isinstance(value, datetime) else value)
    for nested in (value, [value], {"a": (value,)}):
        with pytest.raises(
            UnsupportedValue, match=f"The answer.* {kind.__module__}.*{kind.__name__}"
        ):
            encode_value(nested)
    with pytest.raises(UnsupportedValue, match=r'The column "b"'):
        encode_rows([{"a": 1, "b": value}])


def test_an_attribute_that_is_refused_is_named_with_its_model() -> None:
    m.Strange.objects.create(thing=m.Thing("a"))
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Strange\.thing is of type.*Thing"):
        encode_rows(list(m.Strange.objects.all()))


def test_nesting_has_a_limit() -> None:
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    endless: list[Any] = []
    endless.append(endless)
    for value in (deep, endless, {"a": deep}):
        with pytest.raises(UnsupportedValue, match="nested more than"):
            encode_value(value)


# Fields


def test_every_type_of_field_comes_back_exactly() -> None:
    m.Everything.objects.create(
        big=2**63 - 1,
        number=-0.0,
        money="12.30",
        body="ä" * 1000,
        data={"a": [1, 2.5, None, {"b": True}]},
        encoded={"a": MOMENT, "b": Decimal("1.10"), "c": uuid.UUID(int=1)},
        decoded={"b": [1.10, {}], "a": None},
        raw=b"\x00\xff",
        file="a/b.txt",
        moment=MOMENT,
        span=timedelta(days=-1, microseconds=1),
        size=m.Everything.Size.LARGE,
        rank=m.Everything.Rank.HIGH,
    )
    m.Everything.objects.create(data=[1], money=0)
    exact = check(m.Everything.objects.all())[0].decoded
    assert exact == {"b": [Decimal("1.1"), {}], "a": None}
    assert (type(exact), type(exact["b"][1])) == (OrderedDict, OrderedDict)
    for row in m.Everything.objects.all():
        check([row])
    check(m.Everything.objects.values())
    check(m.Everything.objects.values_list())
    for field in m.Everything._meta.fields:
        check(m.Everything.objects.values_list(field.attname, flat=True))
        check(m.Everything.objects.annotate(again=F(field.attname)))


def test_every_type_of_field_comes_back_without_a_value() -> None:
    m.Nullable.objects.create()
    check(m.Nullable.objects.all())
    m.Nullable.objects.create(boolean=False, integer=0, data="", raw=b"", code=uuid.uuid4())
    m.Nullable.objects.create(
        money="1.5", moment=MOMENT, day=MOMENT, hour=time(1), span=timedelta(1)
    )
    check(m.Nullable.objects.all())
    check(m.Nullable.objects.values_list())


def test_a_column_that_is_never_null_may_still_give_none() -> None:
    spot = m.Landmark.objects.create(spot="1 2").spot
    m.Visit.objects.create(landmark_id=spot)
    (hit,) = check(m.Visit.objects.all())
    assert hit.remark is None
    m.Visit.objects.create(landmark_id=spot, remark="a")
    check(m.Visit.objects.all())


def test_one_decoder_serves_rows_with_and_without_values() -> None:
    """Nullable columns have one spec, so that decoders stay few."""
    from loom_cache.codec.decoding import _reader

    for fields in ({}, {"title": "a"}, {"integer": 1}, {"code": uuid.uuid4(), "moment": MOMENT}):
        m.Nullable.objects.create(**fields)
    _reader.cache_clear()
    for row in m.Nullable.objects.all():
        check([row])
    assert _reader.cache_info().currsize == 1


def test_fields_that_convert_what_the_database_gives() -> None:
    m.Custom.objects.create(shout="hello", pair=("a", "b"))
    (hit,) = check(m.Custom.objects.all())
    assert (hit.shout, hit.pair) == ("HELLO", ("a", "b"))


def test_a_file_that_has_been_looked_at_already() -> None:
    m.Everything.objects.create(file="a.txt", money=0)
    m.Nullable.objects.create(file=None)
    for kind in (m.Everything, m.Nullable):
        fresh, seen = kind.objects.get(), kind.objects.get()
        assert seen.file.field  # Django puts a FieldFile in place of the name
        (hit,) = through([seen])
        assert_same([fresh], [hit])
        assert hit.file == fresh.file
        assert hit.file.instance is hit


def test_images_with_dimensions() -> None:
    m.Picture.objects.create(image="a.png", width=3, height=4, thumbnail="b.png")
    (hit,) = through(list(m.Picture.objects.all()))
    assert (hit.image.name, hit.width, hit.height, hit.thumbnail) == ("a.png", 3, 4, "b.png")


def test_columns_that_the_database_works_out() -> None:
    m.Rectangle.objects.create(width=2, height=3)
    (hit,) = check(m.Rectangle.objects.all())
    assert hit.area == 6


def test_primary_keys_of_several_columns_and_of_text_and_uuid() -> None:
    m.OrderLine.objects.create(order=1, position=2)
    m.Tag.objects.create(name="a b\n:")
    m.Passport.objects.create(owner=m.Author.objects.create(name="a"))
    (line,) = check(m.OrderLine.objects.all())
    assert line.pk == (1, 2)
    check(m.Tag.objects.all())
    check(m.Passport.objects.all())


def test_proxies_children_and_parents() -> None:
    m.Restaurant.objects.create(name="a", stars=2)
    for model in (m.Place, m.Restaurant, m.Eatery):
        (hit,) = check(model._default_manager.all())
        assert type(hit) is model
    (place,) = check(m.Place.objects.select_related("restaurant"))
    assert place.restaurant.stars == 2
    check(m.Restaurant.objects.select_related("place_ptr"))
    check(m.Restaurant.objects.only("stars"))
    check(m.Place.objects.select_related("restaurant").only("restaurant__stars"))


@pytest.mark.parametrize("use_tz", [True, False])
def test_moments_with_and_without_time_zones(use_tz: bool) -> None:
    with override_settings(USE_TZ=use_tz):
        m.Everything.objects.create(moment=MOMENT if use_tz else MOMENT.replace(tzinfo=None))
        check(m.Everything.objects.all())
        check(m.Everything.objects.datetimes("moment", "hour"))
        check(m.Everything.objects.annotate(month=TruncMonth("moment", tzinfo=PARIS)))


def test_the_fields_that_postgresql_alone_has() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("this database has no such fields")
    from tests.fieldapp.postgres import Postgres

    Postgres.objects.create(numbers=[], nested=[])
    later = MOMENT + timedelta(1)
    Postgres.objects.create(
        numbers=[1, None, 3],
        nested=[["a", "b"], ["c", "d"]],
        moments=[MOMENT],
        documents=[{"a": [1.5]}, "b", 1],
        spans=[Range(MOMENT, later), Range(MOMENT, None)],
        raws=[b"", b"\xff"],
        small_integers=(None, 5),
        integers=(1, None),
        decimals=Range(Decimal("1.5"), Decimal("2.5"), "[]"),
        days=Range(empty=True),
        period=Range(MOMENT, later),
        pairs={"a": "b", "c": None},
        vector="a 'fat' cat",
        query="fat",
    )
    check(Postgres.objects.all())
    check(Postgres.objects.values())
    for field in Postgres._meta.fields:
        check(Postgres.objects.values_list(field.attname, flat=True))
    check(Postgres.objects.aggregate(all=ArrayAgg("period")).values())


# Rows of every kind


ROWS: list[Callable[[], Any]] = [
    lambda: m.Book.objects.all(),
    lambda: m.Book.objects.none(),
    lambda: m.Book.objects.values(),
    lambda: m.Book.objects.values("title", upper=F("author__name")),
    lambda: m.Book.objects.values_list("title", "author__mentor__name"),
    lambda: m.Book.objects.values_list("title", flat=True),
    lambda: m.Book.objects.values_list("editor", flat=True),
    lambda: m.Book.objects.values_list("title", "pk", named=True),
    lambda: m.Book.objects.values("author").annotate(n=Count("pk")).order_by("author"),
    lambda: m.Everything.objects.dates("day", "year"),
    lambda: m.Book.objects.values_list("tags__name", named=True),
    lambda: m.Book.objects.only("title"),
    lambda: m.Book.objects.defer("author"),
    lambda: m.Book.objects.annotate(n=Count("tags"), one=Value(1), nothing=Max("author__mentor")),
    lambda: m.Book.objects.extra(select={"x": "1"}),
    lambda: m.Book.objects.raw("SELECT id, title, 7 AS seven FROM fieldapp_book"),
    lambda: m.Book.objects.reverse().order_by("-title"),
    lambda: m.Book.objects.filter(title="b0").union(m.Book.objects.filter(title="b1")),
    # Related objects
    lambda: m.Book.objects.select_related("author", "editor"),
    lambda: m.Book.objects.select_related("author__mentor", "author__passport"),
    lambda: m.Book.objects.select_related("author").only("title", "author__name"),
    lambda: m.Author.objects.select_related("passport", "mentor"),
    lambda: m.Passport.objects.select_related("owner__mentor"),
    lambda: m.Book.objects.prefetch_related("author"),
    lambda: m.Book.objects.prefetch_related("author__mentor", "editor"),
    lambda: m.Author.objects.prefetch_related("passport"),
    lambda: m.Author.objects.prefetch_related("books"),
    lambda: m.Author.objects.prefetch_related("students__books__tags", "friends"),
    lambda: m.Book.objects.prefetch_related("tags", "notes"),
    lambda: m.Tag.objects.prefetch_related("tagged_books__author"),
    lambda: m.Book.objects.select_related("author").prefetch_related("author__books__author"),
    lambda: m.Note.objects.prefetch_related("target", "content_type"),
    lambda: m.Note.objects.prefetch_related("target__author"),
    lambda: m.Author.objects.prefetch_related(Prefetch("books", to_attr="all_books")),
    lambda: m.Author.objects.prefetch_related(
        Prefetch("books", m.Book.objects.filter(title="b1").prefetch_related("tags"), "chosen"),
        Prefetch("chosen__author", to_attr="writer"),
        Prefetch("mentor", to_attr="teacher"),
        Prefetch("mentor__books", to_attr="their_books"),
    ),
    lambda: m.Author.objects.get(name="teacher").books.all(),
    lambda: m.Author.objects.get(name="teacher").books.select_related("author"),
    lambda: m.Tag.objects.get(name="one").tagged_books.annotate(n=Max("pk")),
]


@pytest.mark.parametrize("make", ROWS)
@pytest.mark.usefixtures("library")
def test_a_hit_is_the_same_as_a_miss(make: Callable[[], Any]) -> None:
    check(make())


@pytest.mark.usefixtures("library")
def test_each_read_makes_its_own_objects() -> None:
    data = encode_rows(list(m.Book.objects.select_related("author").prefetch_related("tags")))
    first, second = decode_rows(data), decode_rows(data)
    assert_same(first, second)
    first[0].author.name = "changed"
    first[0].tags.all()._result_cache.clear()
    assert second[0].author.name == "teacher"
    assert decode_rows(data)[1].tags.all()[0] == second[1].tags.all()[0]


@pytest.mark.usefixtures("library")
def test_related_objects_are_one_or_several_as_django_made_them() -> None:
    """select_related makes an author for each row, prefetch_related one for all rows."""
    apart = through(list(m.Book.objects.select_related("author").filter(author__name="pupil")))
    shared = through(list(m.Book.objects.prefetch_related("author").filter(author__name="pupil")))
    assert len({id(book.author) for book in apart}) == 3
    assert len({id(book.author) for book in shared}) == 1


@pytest.mark.usefixtures("library")
def test_rows_that_are_one_object_stay_one() -> None:
    first, second = m.Book.objects.order_by("pk")[:2]
    hit = through([second, first, second])
    assert_same([second, first, second], hit)
    assert hit[0] is hit[2]


@pytest.mark.usefixtures("library")
def test_a_row_read_back_works_like_any_other() -> None:
    (book,) = through(list(m.Book.objects.filter(title="b2").only("title").select_related(None)))
    assert book.author.name == "pupil"  # deferred: loaded when it is asked for
    book.title = "new"
    book.save()
    assert m.Book.objects.get(pk=book.pk).title == "new"
    author = through(list(m.Author.objects.filter(name="pupil").prefetch_related("books")))[0]
    with CaptureQueriesContext(connection) as queries:
        assert len(author.books.all()) == 3
    assert not queries.captured_queries
    assert author.books.filter(title="b3").count() == 1
    author.books.add(m.Book.objects.get(title="b0"))
    assert author.books.count() == 4


@pytest.mark.usefixtures("library")
def test_an_answer_may_mix_models() -> None:
    check([*m.Book.objects.all(), *m.Author.objects.all(), *m.Book.objects.only("pk")])


def test_rows_of_several_widths_and_names_come_back_too() -> None:
    check([{"a": 1}, {"b": 1}])
    check([{"a": 1}, {}])
    check([(1,), (1, 2), ()])
    check([{1: 2}])
    check([1, "a", None, (1,), {"a": 1}])
    check([[], []])


@pytest.mark.usefixtures("library")
def test_a_prefetch_with_a_queryset_of_its_own_is_given_back_with_it() -> None:
    tags = Prefetch("tags", m.Tag.objects.filter(name="one").order_by("-name"))
    books = Prefetch("books", m.Book.objects.filter(title__in=["b0", "b2"]).prefetch_related(tags))
    rows = list(m.Author.objects.order_by("pk").prefetch_related(books))
    prefetches = custom_prefetches(["mentor", Prefetch("friends"), books])
    assert prefetches == {"books": books, "books__tags": tags}
    data = encode_rows(rows, custom_prefetches=prefetches.keys())
    hit = decode_rows(data, prefetches=prefetches)
    assert_same(rows, hit)
    for miss, again in zip(rows, hit, strict=True):
        assert miss.books.filter(title="b3").count() == again.books.filter(title="b3").count() == 0
    hints = dict(books.queryset._hints)  # type: ignore[union-attr]
    decode_rows(data, prefetches=prefetches)
    assert books.queryset._hints == hints  # type: ignore[union-attr]
    with pytest.raises(CorruptEntry):
        decode_rows(data)


@pytest.mark.usefixtures("library")
def test_one_model_may_be_prefetched_with_and_without_a_queryset_of_its_own() -> None:
    tags = Prefetch("tags", m.Tag.objects.filter(name="one"))
    queryset = m.Book.objects.filter(title="b2")
    rows = list(queryset.prefetch_related("author__books__tags", tags))
    data = encode_rows(rows, custom_prefetches={"tags"})
    assert_same(rows, decode_rows(data, prefetches={"tags": tags}))
    hidden = Prefetch("author__books__tags", m.Tag.objects.filter(name="one"))
    with pytest.raises(UnsupportedValue, match=r"author__books__tags.*to_attr"):
        encode_rows(list(queryset.prefetch_related("tags", hidden)))
    needless = Prefetch("tags", m.Tag.objects.all())
    rows = list(queryset.prefetch_related(needless))
    assert_same(rows, decode_rows(encode_rows(rows)))


@pytest.mark.usefixtures("library")
def test_querysets_of_their_own_are_found_inside_others() -> None:
    tags = Prefetch("tags", m.Tag.objects.filter(name="one"))
    books = Prefetch("books", m.Book.objects.prefetch_related(tags), to_attr="all_books")
    rows = list(m.Author.objects.prefetch_related("mentor", books))
    prefetches = custom_prefetches([books])
    assert prefetches == {"all_books__tags": tags}
    data = encode_rows(rows, custom_prefetches=prefetches)
    assert_same(rows, decode_rows(data, prefetches=prefetches))


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    "queryset",
    [
        lambda: m.Book.objects.filter(title="b1"),
        lambda: m.Book.objects.order_by("-title"),
        lambda: m.Book.objects.select_related("author"),
        lambda: m.Book.objects.prefetch_related("tags"),
        lambda: m.Book.objects.only("title", "author"),
        lambda: m.Book.objects.none(),
    ],
)
def test_a_queryset_of_its_own_that_nobody_has_named_is_refused(
    queryset: Callable[[], QuerySet[Any]],
) -> None:
    """Else `author.books.filter()` would mean something else on a hit."""
    rows = list(m.Author.objects.prefetch_related(Prefetch("books", queryset())))
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Author\.books.*to_attr"):
        encode_rows(rows)


def test_a_default_manager_that_prefetches_with_a_queryset_of_its_own_is_refused() -> None:
    m.Page.objects.create(leaflet=m.Leaflet.objects.create(), number=2)
    with pytest.raises(UnsupportedValue, match=r"Leaflet\.pages"):
        encode_rows(list(m.Leaflet.objects.all()))
    check(m.Page.objects.select_related("leaflet"))


def test_instances_that_no_query_gave_are_refused() -> None:
    made = m.Author(pk=1, name="a")
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Author that was not read"):
        encode_rows([made])
    read = m.Author.from_db("default", ["id", "name", "mentor_id"], [1, "a", None])
    read._state.notes = 1  # type: ignore[attr-defined]
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Author that was not read"):
        encode_rows([read])
    with pytest.raises(UnsupportedValue, match="holds a str where"):
        encode_rows(["a", m.Author.from_db("default", ["id"], [1])])


def read_author(pk: int, **attributes: Any) -> Any:
    author = m.Author.from_db("default", ["id", "name", "mentor_id"], [pk, "a", None])
    vars(author).update(attributes)
    return author


def test_attributes_may_be_instances_and_lists_of_them() -> None:
    """As Prefetch(to_attr=...) leaves them, in some rows or in all."""
    friend, other = read_author(5), read_author(6)
    check([read_author(1, best=friend), read_author(2, best=None), read_author(3, best=friend)])
    check([read_author(1, all=[]), read_author(2, all=[friend, other]), read_author(3, all=None)])
    shared = [friend]
    hit = check([read_author(1, all=shared), read_author(2, all=shared)])
    assert hit[0].all is hit[1].all
    for odd in ("a", (friend,), [1], {"a": friend}):
        with pytest.raises(UnsupportedValue, match=r"fieldapp\.author\.best holds model instances"):
            encode_rows([read_author(1, best=friend), read_author(2, best=odd)])
    with pytest.raises(UnsupportedValue, match="holds a int where a model instance"):
        encode_rows([read_author(1, best=[friend, 1])])


def test_a_state_that_is_not_djangos_own_is_refused() -> None:
    class State(ModelState):
        pass

    author = read_author(1)
    author._state.__class__ = State
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Author has a state"):
        encode_rows([author])


@pytest.mark.parametrize(
    "odd", [[], (), m.Author.objects.all()], ids=lambda odd: type(odd).__name__
)
def test_what_was_prefetched_must_be_a_queryset_with_its_result(odd: Any) -> None:
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.author\.books was prefetched as"):
        encode_rows([read_author(1, _prefetched_objects_cache={"books": odd})])
    with pytest.raises(UnsupportedValue, match="prefetched under 'nothing', which no relation"):
        encode_rows([read_author(1, _prefetched_objects_cache={"nothing": odd})])


def test_rows_that_stand_alone_are_stored_without_a_graph() -> None:
    entry = msgspec.msgpack.decode(encode_rows([read_author(1), read_author(2)]), type=Entry)
    header = msgspec.msgpack.decode(entry.header, type=GroupHeader)
    assert (entry.graph, header.attnames, header.extras) == (None, None, [])


class Pair(NamedTuple):
    left: int
    right: str


def test_tuples_of_a_class_that_django_did_not_make_are_refused() -> None:
    with pytest.raises(UnsupportedValue, match=r"The answer is of type .*\.Pair"):
        encode_rows([Pair(1, "a")])


@pytest.mark.usefixtures("library")
def test_rows_of_values_are_stored_by_column() -> None:
    books = m.Book.objects.order_by("pk")
    kinds = {
        "d": books.values("pk", "title"),
        "t": books.values_list("pk", "title"),
        "n": books.values_list("pk", "title", named=True),
        "s": books.values_list("title", flat=True),
    }
    for kind, rows in kinds.items():
        entry = msgspec.msgpack.decode(encode_rows(list(rows)), type=Entry)
        header = msgspec.msgpack.decode(entry.header, type=ValuesHeader)
        assert (entry.kind, header.spec) == (kind, "s" if kind == "s" else "is")


def test_json_is_stored_as_it_is() -> None:
    data = {"a": [1, {"b": None}], "c": "d"}
    assert msgspec.msgpack.decode(encode_value(data)) == [1, "v", ["j", data]]
    assert msgspec.msgpack.decode(encode_value([1])) == [1, "v", ["j", [1]]]
    entry = msgspec.msgpack.decode(encode_rows([(data, [1])]), type=Entry)
    assert msgspec.msgpack.decode(entry.header, type=ValuesHeader).spec == "jj"
    assert msgspec.msgpack.decode(entry.rows) == [[data, [1]]]


@isolate_apps("tests.fieldapp")
def test_a_model_that_the_registry_does_not_know_is_refused() -> None:
    class Author(Model):
        class Meta:
            app_label = "fieldapp"

    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Author is not the one"):
        encode_rows([Author.from_db("default", ["id"], [1])])


@pytest.mark.skipif(not MODES, reason="this Django has no fetch modes")
@pytest.mark.parametrize("mode", range(len(MODES)))
@pytest.mark.usefixtures("library")
def test_fetch_modes_and_peers_are_kept(mode: int) -> None:
    books: Any = m.Book.objects.order_by("pk")
    check(books.fetch_mode(MODES[mode]))
    check(books.fetch_mode(MODES[mode]).select_related("author").only("title", "author__name"))
    check(books.fetch_mode(MODES[mode]).prefetch_related("tags", "author__books"))
    check(m.Remembering.objects.fetch_mode(MODES[mode]))  # type: ignore[attr-defined]


@pytest.mark.skipif(not MODES, reason="this Django has no fetch modes")
@pytest.mark.usefixtures("library")
def test_peers_load_together_what_was_deferred() -> None:
    queryset: Any = m.Book.objects.only("pk")
    books = through(list(queryset.fetch_mode(MODES[1])))
    with CaptureQueriesContext(connection) as queries:
        assert sorted(book.title for book in books) == ["b0", "b1", "b2", "b3"]
    assert len(queries.captured_queries) == 1


def test_generic_relations_need_no_query_once_django_knows_the_content_types() -> None:
    ContentType.objects.clear_cache()
    author = m.Author.objects.create(name="a")
    m.Note.objects.create(text="n", target=m.Book.objects.create(title="a", author=author))
    check(m.Book.objects.prefetch_related("notes"))


def test_queries_are_told_apart_by_what_they_select() -> None:
    """The comparison of the tests itself sees what it must see."""
    m.Author.objects.create(name="a")
    full, partial = m.Author.objects.get(), m.Author.objects.only("name").get()
    with pytest.raises(AssertionError):
        assert_same([full], [partial])


def test_a_range_beyond_64_bits_comes_back_exactly() -> None:
    check([range(2**70, 2**71, 2**65), slice(2**70, None)])
