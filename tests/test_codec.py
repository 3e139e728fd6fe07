"""Rows, values and results as bytes: what comes back is what went in, or nothing does."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import ipaddress
import math
import uuid
import zoneinfo
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypedDict, TypeVar

import msgspec
import pytest
from django.contrib.contenttypes.models import ContentType
from django.contrib.postgres.aggregates import ArrayAgg
from django.db import connection
from django.db.models import Count, F, Max, Model, Prefetch, Q, QuerySet, Value
from django.db.models.functions import TruncMonth
from django.db.models.signals import post_init
from django.test import override_settings
from django.test.utils import CaptureQueriesContext, isolate_apps
from django.utils.safestring import mark_safe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.range import Int4Range, Range

from loom_cache.codec import (
    CorruptEntry,
    TypedCodec,
    decode_rows,
    decode_value,
    encode_rows,
    encode_value,
    typed_codec,
)
from loom_cache.codec.fetching import MODES
from loom_cache.exceptions import LoomCacheError, UnsupportedValue
from tests.fieldapp import models as m
from tests.fieldapp.install import field_app  # noqa: F401
from tests.fieldapp.same import assert_same

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("field_app")]


@pytest.fixture(autouse=True)
def content_types() -> None:
    """Django remembers those of tests that were rolled back."""
    ContentType.objects.clear_cache()


PARIS = zoneinfo.ZoneInfo("Europe/Paris")
MOMENT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


def through(rows: Sequence[Any]) -> list[Any]:
    """The rows after they were stored and read."""
    with CaptureQueriesContext(connection) as queries:
        read = decode_rows(encode_rows(rows))
    assert not queries.captured_queries
    return read


def check(rows: Any) -> list[Any]:
    """A hit is the same as the miss; gives the hit."""
    miss = list(rows)
    hit = through(miss)
    assert_same(miss, hit)
    return hit


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
        raw=b"\x00\xff",
        file="a/b.txt",
        moment=MOMENT,
        span=timedelta(days=-1, microseconds=1),
        size=m.Everything.Size.LARGE,
    )
    m.Everything.objects.create(data=[1], money=0)
    check(m.Everything.objects.all())
    for row in m.Everything.objects.all():
        check([row])
    check(m.Everything.objects.values())
    check(m.Everything.objects.values_list())


def test_every_type_of_field_comes_back_without_a_value() -> None:
    m.Nullable.objects.create()
    check(m.Nullable.objects.all())
    m.Nullable.objects.create(boolean=False, integer=0, data="", raw=b"", code=uuid.uuid4())
    m.Nullable.objects.create(
        money="1.5", moment=MOMENT, day=MOMENT, hour=time(1), span=timedelta(1)
    )
    check(m.Nullable.objects.all())
    check(m.Nullable.objects.values_list())


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

    with connection.schema_editor() as editor:
        editor.create_model(Postgres)
    Postgres.objects.create(numbers=[], nested=[])
    later = MOMENT + timedelta(1)
    Postgres.objects.create(
        numbers=[1, None, 3],
        nested=[["a", "b"], ["c", "d"]],
        moments=[MOMENT],
        integers=(1, None),
        decimals=Range(Decimal("1.5"), Decimal("2.5"), "[]"),
        days=Range(empty=True),
        period=Range(MOMENT, later),
    )
    check(Postgres.objects.all())
    check(Postgres.objects.values())
    check(Postgres.objects.aggregate(all=ArrayAgg("period")).values())


# Rows of every kind


@pytest.fixture
def library() -> dict[str, Any]:
    """Authors, books, tags, notes."""
    teacher = m.Author.objects.create(name="teacher")
    pupil = m.Author.objects.create(name="pupil", mentor=teacher)
    pupil.friends.add(teacher)
    m.Passport.objects.create(owner=teacher)
    tags = [m.Tag.objects.create(name=name) for name in ("one", "two")]
    for number in range(4):
        author = pupil if number else teacher
        book = m.Book.objects.create(title=f"b{number}", author=author, editor=teacher)
        book.tags.set(tags[: number % 3])
        m.Note.objects.create(text="n", target=book)
    return {"teacher": teacher, "pupil": pupil}


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
    prefetches = {"books": books, "books__tags": tags}
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
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.author\.books.*to_attr"):
        encode_rows(rows)


def test_a_default_manager_that_prefetches_with_a_queryset_of_its_own_is_refused() -> None:
    m.Page.objects.create(leaflet=m.Leaflet.objects.create(), number=2)
    with pytest.raises(UnsupportedValue, match=r"leaflet\.pages"):
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


# Models that have a hand in how they are made


def test_what_an_instance_gives_itself_is_not_stored() -> None:
    m.Remembering.objects.create(name="a")
    m.Tracked.objects.create(name="a")
    m.Copying.objects.create(name="a")
    (remembering,) = check(m.Remembering.objects.all())
    assert remembering.loaded == {"id": remembering.pk, "name": "a", "size": 0}
    check(m.Remembering.objects.only("name"))
    check(m.Remembering.objects.annotate(n=Value(1)))
    (tracked,) = through(list(m.Tracked.objects.all()))
    assert tracked.tracker.saved["name"] == "a"
    assert tracked.tracker.owner is tracked
    (copying,) = through(list(m.Copying.objects.all()))
    assert copying.original.name == "a"
    for row in (tracked, copying):
        assert b"tracker" not in encode_rows([row])
        assert b"original" not in encode_rows([row])


def test_what_differs_from_what_an_instance_gives_itself_is_stored() -> None:
    m.Remembering.objects.create(name="a")
    row = m.Remembering.objects.get()
    row.loaded = {"other": 1}
    (hit,) = through([row, m.Remembering.objects.get()])[:1]
    assert hit.loaded == {"other": 1}
    m.Tracked.objects.create(name="a")
    tracked = m.Tracked.objects.get()
    tracked.tracker.saved["name"] = "b"
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Tracked\.tracker"):
        encode_rows([tracked])


def test_a_model_that_changes_what_it_is_given_is_refused() -> None:
    m.Shouting.objects.create(name="a")
    with pytest.raises(
        UnsupportedValue, match=r"fieldapp\.Shouting.*changes what it is given.*name"
    ):
        encode_rows(list(m.Shouting.objects.all()))
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO fieldapp_refusing (name) VALUES ('secret:a')")
    assert m.Refusing.objects.get().name == "a"
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Refusing cannot be made.*KeyError"):
        encode_rows(list(m.Refusing.objects.all()))


@pytest.fixture
def receivers() -> Iterator[Callable[[Any], None]]:
    """Connects a receiver of post_init for Listened."""
    connected: list[Any] = []

    def connect(receiver: Any) -> None:
        connected.append(receiver)
        post_init.connect(receiver, sender=m.Listened)

    yield connect
    for receiver in connected:
        post_init.disconnect(receiver, sender=m.Listened)


def test_receivers_of_post_init_are_heard(receivers: Callable[[Any], None]) -> None:
    m.Listened.objects.create(name="a")

    def remember(sender: Any, instance: Any, **rest: Any) -> None:
        instance.before = instance.name

    receivers(remember)
    rows = list(m.Listened.objects.all())
    data = encode_rows(rows)
    assert_same(rows, decode_rows(data))
    assert b"before" not in data


def test_receivers_that_change_fields_are_noticed(receivers: Callable[[Any], None]) -> None:
    m.Listened.objects.create(name="a")

    def shout(sender: Any, instance: Any, **rest: Any) -> None:
        instance.name += "!"

    receivers(shout)
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Listened.*changes what it is given"):
        encode_rows(list(m.Listened.objects.all()))


def test_a_model_that_fails_when_it_is_made_is_a_miss(receivers: Callable[[Any], None]) -> None:
    m.Listened.objects.create(name="a")
    data = encode_rows(list(m.Listened.objects.all()))

    def fail(sender: Any, instance: Any, **rest: Any) -> None:
        raise ZeroDivisionError

    receivers(fail)
    with pytest.raises(CorruptEntry, match=r"fieldapp\.listened.*ZeroDivisionError"):
        decode_rows(data)


@pytest.mark.usefixtures("library")
def test_plain_models_are_made_once_and_by_django(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoding a plain model makes no instance; reading it makes one."""
    rows = list(m.Book.objects.all())
    made: list[Any] = []
    original = Model.__init__

    def note(self: Model, *args: Any) -> None:
        made.append(type(self))
        original(self, *args)

    monkeypatch.setattr(Model, "__init__", note)
    data = encode_rows(rows)
    assert not made
    decode_rows(data)
    assert made == [m.Book] * 4


# Entries that cannot be read


def entries() -> list[bytes]:
    """One of every kind, small enough to be damaged everywhere."""
    author: Any = m.Author.from_db("default", ["id", "name", "mentor_id"], [1, "a", None])
    other = m.Author.from_db("default", ["id", "name"], [2, "b"])
    author.mentor = other
    author.books_of_mine = [m.Book.from_db("default", ["id"], [1])]
    author.first = author.books_of_mine[0]
    author._prefetched_objects_cache = {}
    queryset: Any = author.books.all()
    queryset._result_cache = [m.Book.from_db("default", ["id"], [1])]
    queryset._prefetch_done = True
    author._prefetched_objects_cache["books"] = queryset
    return [
        encode_rows([author]),
        encode_rows([other]),
        encode_rows([{"a": 1, "b": [MOMENT.astimezone(PARIS), Decimal(1)]}]),
        encode_rows([(1, {"a": 1}), (None, range(3))]),
        encode_rows([uuid.UUID(int=1), None]),
        encode_rows([]),
        encode_value({"a": Decimal(1), "b": {timedelta(1), PARIS.key}, "c": Range(1, 2)}),
    ]


def read(data: bytes) -> None:
    """Either a list, or CorruptEntry."""
    for reader in (decode_rows, decode_value, typed_codec(list[int]).decode):
        try:
            value = reader(data)
        except CorruptEntry:
            continue
        assert reader is decode_value or isinstance(value, list)


def test_every_cut_and_every_flipped_bit_is_a_miss_or_an_answer() -> None:
    for entry in entries():
        for length in range(len(entry)):
            with pytest.raises(CorruptEntry):
                decode_rows(entry[:length])
        for position in range(len(entry)):
            for bit in range(8):
                damaged = bytearray(entry)
                damaged[position] ^= 1 << bit
                read(bytes(damaged))


@given(st.binary(max_size=200))
def test_random_bytes_are_a_miss(data: bytes) -> None:
    read(data)


packed = st.recursive(
    native | st.sampled_from(["j", "l", "t", "d", "m", "h", "r", "g", "D", "v", "b", "u", "i"]),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)


@given(st.tuples(st.just(1), st.just("v"), packed))
def test_well_formed_nonsense_is_a_miss_or_a_value(entry: Any) -> None:
    with contextlib.suppress(OverflowError, UnicodeEncodeError):  # MessagePack cannot carry it
        read(msgspec.msgpack.encode(entry))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_nonsense_in_the_graph_is_a_miss_or_a_list(data: Any) -> None:
    version, kind, header, rows, graph = msgspec.msgpack.decode(entries()[0])
    numbers = st.lists(st.integers(-2, 4), max_size=4)
    links = st.tuples(
        st.integers(-1, 3),
        st.integers(-1, 4),
        st.sampled_from(["mentor", "books", "_state", "_prefetched_objects_cache", "save", "pk"]),
        st.none() | st.just("books"),
        st.none() | numbers,
        st.lists(st.none() | st.integers(-2, 4), max_size=4),
    )
    graph = [
        data.draw(st.none() | numbers),
        graph[1],
        data.draw(st.lists(links, max_size=3)),
        data.draw(st.lists(numbers, max_size=3)),
        data.draw(st.lists(st.tuples(numbers, numbers), max_size=2)),
    ]
    read(msgspec.msgpack.encode((version, kind, header, rows, graph)))


def changed(entry: bytes, **header: Any) -> bytes:
    """The entry with some fields of its header replaced."""
    from loom_cache.codec.layout import Entry, GroupHeader

    decoded = msgspec.msgpack.decode(entry, type=Entry)
    old = msgspec.msgpack.decode(decoded.header, type=GroupHeader)
    new = msgspec.structs.replace(old, **header)
    return msgspec.msgpack.encode(
        msgspec.structs.replace(decoded, header=msgspec.msgpack.encode(new))
    )


@pytest.mark.parametrize(
    "header",
    [
        {"label": "fieldapp.nothing"},
        {"label": "os.path"},
        {"label": ""},
        {"label": "fieldapp.book"},
        {"fingerprint": b"12345678"},
        {"attnames": ["id", "id"]},
        {"attnames": ["name", "id"]},
        {"attnames": ["id", "save"]},
        {"attnames": ["id"]},
        {"extras": ["save"]},
        {"extras": ["_state"], "attnames": ["id"]},
        {"extras": ["name"], "attnames": ["id"]},
        {"fetch_mode": 9},
        {"spec": ""},
        {"spec": "ii"},
        {"spec": "i?"},
        {"spec": "i" * 100_000},
        {"database": 5},
        {"database": "nowhere"},
    ],
    ids=repr,
)
def test_a_header_that_does_not_fit_the_model_is_a_miss(header: dict[str, Any]) -> None:
    entry = encode_rows([m.Author.from_db("default", ["id", "name"], [2, "b"])])
    assert decode_rows(changed(entry))
    with pytest.raises(CorruptEntry):
        decode_rows(changed(entry, **header))


def test_a_model_whose_fields_have_changed_is_a_miss() -> None:
    from loom_cache.codec.decoding import _reader
    from loom_cache.codec.shapes import shape_of

    entry = encode_rows([m.Author.from_db("default", ["id", "name"], [2, "b"])])
    column, m.Author._meta.get_field("name").column = "name", "title"
    shape_of.cache_clear()
    _reader.cache_clear()
    try:
        with pytest.raises(CorruptEntry, match=r"fields of fieldapp\.author have changed"):
            decode_rows(entry)
    finally:
        m.Author._meta.get_field("name").column = column
        shape_of.cache_clear()


def test_entries_of_another_kind_or_version_are_a_miss() -> None:
    value, rows = encode_value(1), encode_rows([1])
    for reader, data in ((decode_rows, value), (decode_value, rows), (decode_rows, b"\x90")):
        with pytest.raises(CorruptEntry):
            reader(data)
    for data in (value, rows):
        assert data[1] == 1
        newer = data[:1] + b"\x02" + data[2:]
        for reader in (decode_rows, decode_value):
            with pytest.raises(CorruptEntry):
                reader(newer)


def test_deep_and_large_nonsense_costs_little() -> None:
    for data in (b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"\x81" * 10_000, b"\xc1"):
        read(data)
        read(b"\x93\x01\xa1v" + data)
    read(msgspec.msgpack.encode((1, "v", ["b", 10**15])))
    read(msgspec.msgpack.encode((1, "v", ["m", "2026-01-01", 0, "../../etc/passwd"])))
    read(msgspec.msgpack.encode((1, "v", ["m", "2026-01-01", 0, "America"])))


def test_a_corrupt_entry_is_an_error_of_the_cache() -> None:
    assert issubclass(CorruptEntry, LoomCacheError)


# Results of @cached_query


class Card(msgspec.Struct):
    title: str
    price: Decimal
    tags: list[str] = []


class Special(Card):
    note: str = ""


@dataclasses.dataclass
class Point:
    x: int
    when: datetime | None = None


class Movie(TypedDict):
    name: str
    year: int


class Pair(NamedTuple):
    left: int
    right: str


class Level(enum.IntEnum):
    LOW = 1


class Shape(enum.Enum):
    ROUND = "round"


class Node(msgspec.Struct):
    name: str
    children: list[Node] = []


RESULTS: list[tuple[Any, Any]] = [
    (int, 5),
    (str, "ä"),
    (float, 1.5),
    (float, math.inf),
    (bool, True),
    (bytes, b"a"),
    (None, None),
    (int | None, None),
    (int | str | None, "a"),
    (Decimal, Decimal("1.10")),
    (uuid.UUID, uuid.UUID(int=1)),
    (date, date(2026, 1, 1)),
    (datetime, MOMENT),
    (datetime, datetime(2026, 1, 1)),  # noqa: DTZ001
    (time, time(1)),
    (timedelta, timedelta(days=-1, microseconds=3)),
    (Shape, Shape.ROUND),
    (Level, Level.LOW),
    (Literal["a", "b"], "a"),
    (list[int], [1, 2]),
    (list[int], []),
    (tuple[int, ...], (1, 2)),
    (tuple[int, str], (1, "a")),
    (set[int], {1, 2}),
    (frozenset[str], frozenset(("a",))),
    (dict[str, list[int]], {"b": [1], "a": []}),
    (dict[int, Decimal], {1: Decimal(1)}),
    (dict[date, int], {date(2026, 1, 1): 1}),
    (Card, Card("a", Decimal(1), ["x"])),
    (list[Card], [Card("a", Decimal(1))]),
    (Card | None, None),
    (dict[str, Card | None], {"a": None, "b": Card("b", Decimal(2))}),
    (Point, Point(1, MOMENT)),
    (list[Movie], [{"name": "a", "year": 1}]),
    (list[Pair], [Pair(1, "a")]),
    (Node, Node("a", [Node("b")])),
]


@pytest.mark.parametrize(("annotation", "result"), RESULTS, ids=repr)
def test_a_result_comes_back_as_its_annotation_says(annotation: Any, result: Any) -> None:
    codec = typed_codec(annotation)
    assert_same([result], [codec.decode(codec.encode(result))])


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 3, 1, 12, tzinfo=PARIS),
        datetime(2026, 10, 25, 2, 30, fold=0, tzinfo=PARIS),
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=PARIS),
        datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    ],
)
def test_a_moment_in_a_result_is_the_same_moment_in_utc(moment: datetime) -> None:
    codec = typed_codec(Point)
    hit = codec.decode(codec.encode(Point(1, moment)))
    assert hit.when == moment.astimezone(UTC)
    assert hit.when.tzinfo is UTC


def test_subtypes_that_say_the_same_are_allowed() -> None:
    """`-> float` may give an int, `-> str` a member of TextChoices: what comes back is equal."""
    assert typed_codec(float).decode(typed_codec(float).encode(3)) == 3
    assert typed_codec(int).decode(typed_codec(int).encode(Level.LOW)) == 1
    size = m.Everything.Size.SMALL
    assert typed_codec(str).decode(typed_codec(str).encode(size)) == "s"


MISFITS: list[tuple[Any, Any]] = [
    (int, "a"),
    (int, None),
    (int, 1.5),
    (int, 2**70),
    (int, Strict()),
    (str, Decimal(1)),
    (str, uuid.UUID(int=1)),
    (str, MOMENT),
    (str, mark_safe("a")),
    (float, "1"),
    (list[int], (1, 2)),
    (list[int], {1}),
    (list[int], [1, "a"]),
    (list[str], [Decimal(1)]),
    (tuple[int, ...], [1]),
    (set[int], [1]),
    (dict[str, int], {1: 1}),
    (dict[str, int], [("a", 1)]),
    (Card, {"title": "a", "price": Decimal(1)}),
    (Card, Special("a", Decimal(1), note="lost")),
    (Card, None),
    (Card, Card(1, Decimal(1))),  # type: ignore[arg-type]
    (list[Card], [Special("a", Decimal(1))]),
    (Movie, {"name": "a", "year": 1, "more": 2}),
    (Pair, (1, "a")),
    (date, MOMENT),
    (Literal["a"], "b"),
]


@pytest.mark.parametrize(("annotation", "result"), MISFITS, ids=repr)
def test_a_result_that_its_annotation_does_not_describe_is_refused(
    annotation: Any, result: Any
) -> None:
    codec = typed_codec(annotation)
    name = getattr(annotation, "__name__", "")
    pattern = f"The result is of type .*{type(result).__name__}.* the return annotation .*{name}"
    with pytest.raises(UnsupportedValue, match=pattern):
        codec.encode(result)


Item = TypeVar("Item")


@dataclasses.dataclass
class Vague:
    what: Any


class Holder(msgspec.Struct):
    author: m.Author


UNDECODABLE: list[tuple[Any, str]] = [
    (Any, "Any"),
    (object, "Any, object"),
    (list, "does not name its items"),
    (dict, "does not name its items"),
    (tuple, "does not name its items"),
    (list[Any], "Any"),
    (dict[str, object], "object"),
    (dict[str, list[Any]], "Any"),
    (Vague, "Any"),
    (list[Vague], "Any"),
    (Strict, "Strict is no plain data"),
    (list[Item], "Any"),  # type: ignore[valid-type]
    (Holder, "Author is no plain data"),
    ("list[int]", "not resolved"),
    (list["Unknown"], "Unknown"),  # type: ignore[name-defined]  # noqa: F821
    (Callable[[], int], "is no plain data"),
    (Iterator[int], "is no plain data"),
    (Card | Special, "does not say"),
    (memoryview, "is no plain data"),
    (QuerySet[m.Author], "QuerySet is no plain data"),
    (dict[str, m.Author], r"list\[Model\]"),
    (tuple[m.Author, int], r"list\[Model\]"),
    (list[m.Author | None], r"list\[Model\]"),
    (list[list[m.Author]], r"list\[Model\]"),
    (m.Author | m.Book, r"list\[Model\]"),
]


@pytest.mark.parametrize(("annotation", "reason"), UNDECODABLE, ids=repr)
def test_an_annotation_that_decodes_to_nothing_exact_is_refused(
    annotation: Any, reason: str
) -> None:
    with pytest.raises(UnsupportedValue, match=f"The return annotation .*{reason}"):
        typed_codec(annotation)
    with pytest.raises(TypeError):
        typed_codec(annotation)


@pytest.mark.usefixtures("library")
def test_results_may_be_models() -> None:
    books = list(m.Book.objects.select_related("author").prefetch_related("tags"))
    results: list[tuple[Any, Any]] = [
        (m.Book, books[0]),
        (m.Book | None, books[0]),
        (m.Book | None, None),
        (list[m.Book], books),
        (list[m.Book], []),
        (tuple[m.Book, ...], tuple(books)),
        (list[m.Book] | None, None),
        (list[m.Book] | None, books),
    ]
    for annotation, result in results:
        codec = typed_codec(annotation)
        assert_same([result], [codec.decode(codec.encode(result))])


@pytest.mark.usefixtures("library")
def test_results_that_are_other_models_are_refused() -> None:
    book, author = m.Book.objects.all()[0], m.Author.objects.all()[0]
    misfits: list[tuple[Any, Any, str]] = [
        (m.Book, author, "type Author"),
        (m.Book, None, "type NoneType"),
        (m.Book, [book], "type list"),
        (list[m.Book], book, "type Book"),
        (list[m.Book], (book,), "type tuple"),
        (list[m.Book], [book, author], "holds a Author"),
        (list[m.Book], m.Book.objects.all(), "type QuerySet"),
        (tuple[m.Book, ...], [book], "type list"),
    ]
    for annotation, result, named in misfits:
        with pytest.raises(UnsupportedValue, match=f"{named}.*the return annotation .*Book"):
            typed_codec(annotation).encode(result)


@pytest.mark.usefixtures("library")
def test_results_are_read_only_by_the_annotation_that_wrote_them() -> None:
    codecs = [
        typed_codec(annotation)
        for annotation in (int, str, list[int], Card, Special, Node, Point, Movie, Pair, Shape)
    ]
    codecs += [typed_codec(annotation) for annotation in (m.Book, list[m.Book], m.Author)]
    assert len({codec.fingerprint for codec in codecs}) == len(codecs)
    data = typed_codec(int).encode(1)
    for codec in codecs[1:]:
        with pytest.raises(CorruptEntry):
            codec.decode(data)


def struct(**fields: Any) -> TypedCodec:
    """The codec of a Struct that always has the same name."""
    definition = [(name, *field) for name, field in fields.items()]
    return typed_codec(msgspec.defstruct("Same", definition, module="tests"))


def test_a_struct_whose_fields_have_changed_is_a_miss() -> None:
    before = struct(a=(int,))
    assert before.fingerprint == struct(a=(int,)).fingerprint
    for after in (struct(a=(int,), b=(int, 5)), struct(a=(str,)), struct(b=(int,))):
        assert after.fingerprint != before.fingerprint


def test_an_enum_whose_members_have_changed_is_a_miss() -> None:
    first = typed_codec(enum.Enum("Same", {"A": 1, "B": 2}, module="tests"))
    second = typed_codec(enum.Enum("Same", {"A": 2, "B": 1}, module="tests"))
    assert first.fingerprint != second.fingerprint


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
    assert Q() == Q()
