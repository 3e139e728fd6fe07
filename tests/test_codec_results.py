"""Results of @cached_query as bytes: what comes back is what the annotation says."""

from __future__ import annotations

import dataclasses
import enum
import math
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypedDict, TypeVar

import msgspec
import pytest
from django.db.models import QuerySet
from django.utils.safestring import mark_safe

from loom_cache.codec import (
    CorruptEntry,
    TypedCodec,
    typed_codec,
)
from loom_cache.exceptions import UnsupportedValue
from tests.fieldapp import models as m
from tests.fieldapp.install import field_app, library  # noqa: F401
from tests.fieldapp.same import assert_same

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("field_app")]


PARIS = zoneinfo.ZoneInfo("Europe/Paris")
MOMENT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


class Strict:
    """Something the cache knows nothing of."""


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
