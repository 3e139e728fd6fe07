"""Answers about the rows whose column equals a value: they are fresh after every write that brings
a row in or takes one out, whatever the column's type, and however the value is spelled."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import cycle
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.db.models import F, Q, Sum, Value
from django.db.models.lookups import Exact
from django.utils.functional import SimpleLazyObject, lazystr
from django.utils.safestring import mark_safe

from loom_cache import CachedRepository
from tests.cases.questions import Answers, Question, Questions, answers, assert_fresh_after_each
from tests.museum import models as m
from tests.museum.install import ADA, BEN, museum, museum_app

__all__ = ["answers", "museum", "museum_app"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("museum")]

POSTGRESQL = connection.vendor == "postgresql"
MOVED, KEPT, NEW = 7_000_001, 7_000_002, 7_000_003
CODE = UUID("00000000-0000-4000-8000-00000000ABCD")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Items(CachedRepository[m.Item]):
    model = m.Item


items = Items()


@dataclass(frozen=True)
class Column:
    """A column, a value that is asked for, another one, and how the first can be asked for."""

    name: str
    value: Any
    other: Any
    spellings: tuple[Any, ...] = ()
    """Values, or conditions."""
    conditions: tuple[Mapping[str, Any], ...] = ()


def _ada() -> Any:
    return m.Artist(pk=ADA, code="ada")


COLUMNS: dict[str, Column] = {
    "boolean": Column("flag", True, False, (True, 1, "True")),
    "boolean, false": Column("flag", False, True, (False, 0, "f")),
    "integer": Column(
        "number",
        1,
        2,
        (1, "1", True, Decimal(1), m.Rank.FIRST, Value(1)),
        ({"number__exact": 1}, {"number__in": [1]}),
    ),
    "big integer": Column("big", -(2**62), 2**62, (-(2**62), str(-(2**62)))),
    "decimal": Column(
        "price", Decimal("1.50"), Decimal("1.51"), (Decimal("1.5"), Decimal("1.50"), 1.5, "1.50")
    ),
    "float": Column("ratio", 0.5, 0.25, (0.5, "0.5", Decimal("0.5"))),
    "float that is zero": Column("ratio", -0.0, 1.0, (0.0, -0.0, 0)),
    "text": Column(
        "name", "Ada", "ada", ("Ada", lazystr("Ada"), mark_safe("Ada")), ({"name__exact": "Ada"},)
    ),
    "text that is empty": Column("name", "", " ", ("",)),
    "text of odd letters": Column("name", 'a:"b"=c,%s\n\\é', "a", ('a:"b"=c,%s\n\\é',)),
    "text in two forms of unicode": Column("name", "\u00e9", "e\u0301", ("\u00e9", "e\u0301")),
    "long text": Column("text", "x" * 5000, "x" * 4999, ("x" * 5000,)),
    "text in any case": Column("any_case", "Ada", "Ben", ("Ada", "ADA", "ada")),
    "UUID": Column(
        "code", CODE, UUID(int=1), (CODE, str(CODE), str(CODE).upper(), CODE.hex, CODE.int)
    ),
    "date": Column(
        "day", date(2026, 3, 1), date(2026, 3, 2), (date(2026, 3, 1), "2026-03-01", NOON)
    ),
    "moment": Column(
        "moment",
        NOON,
        NOON + timedelta(microseconds=1),
        (NOON, NOON.astimezone(timezone(timedelta(hours=5))), "2026-03-01T13:00:00+01:00"),
    ),
    "time": Column("hour", time(12, 30), time(12, 31), (time(12, 30), "12:30", "12:30:00.000")),
    "duration": Column("span", timedelta(hours=1), timedelta(hours=2), (timedelta(minutes=60),)),
    "bytes": Column("raw", b"a\x00b", b"a", (b"a\x00b", bytearray(b"a\x00b"))),
    "address": Column("address", "2001:db8::1", "127.0.0.1", ("2001:db8::1", "2001:0DB8:0::0001")),
    "document": Column(
        "data", {"a": 1, "b": None}, {"a": 2}, ({"a": 1, "b": None}, {"b": None, "a": 1})
    ),
    "document that is a number": Column("data", 1, True, (1, 1.0, True)),
    "text of choices": Column("grade", "g", "p", (m.Grade.GOOD, "g")),
    "number of choices": Column("rank", 1, 2, (m.Rank.FIRST, 1, "1")),
    "a field of its own": Column("cents", 1.5, 2.5, (1.5, "1.5", Decimal("1.5"))),
    "null": Column("maybe", None, 3, (None,), ({"maybe__isnull": True}, {"maybe__exact": None})),
    "not null": Column("maybe", 3, None, (3,), ({"maybe__isnull": False}, {"maybe__in": [3, 4]})),
    "foreign key": Column(
        "artist_id",
        ADA,
        BEN,
        (ADA, str(ADA)),
        (
            {"artist": _ada()},
            {"artist": SimpleLazyObject(_ada)},
            {"artist__exact": ADA},
            {"artist__pk": ADA},
            {"artist__id__exact": ADA},
            {"artist__in": [_ada()]},
            {"artist__code": "ada"},
        ),
    ),
    "foreign key that is null": Column(
        "artist_id", None, BEN, (None,), ({"artist": None}, {"artist__isnull": True})
    ),
    "foreign key to another column": Column(
        "portrayed_id",
        "ada",
        "ben",
        ("ada", lazystr("ada")),
        (
            {"portrayed": _ada()},
            {"portrayed__code": "ada"},
            {"portrayed__pk": ADA},
            {"portrayed__in": [_ada()]},
        ),
    ),
}
if POSTGRESQL:
    COLUMNS["not a number"] = Column("ratio", float("nan"), 1.0, (float("nan"),))


def questions_of(column: Column) -> Questions:
    """Each spelling with another kind of answer."""
    kinds = cycle(KINDS)
    asked = [{column.name: value} for value in column.spellings]
    asked += [dict(condition) for condition in column.conditions]
    found = {f"{condition}": next(kinds)(condition) for condition in asked}
    found["rows of others"] = Question(items, lambda q: _keys(q.exclude(**asked[0])))
    found["one of two"] = Question(items, lambda q: _keys(q.filter(Q(**asked[0]) | Q(number=77))))
    found["none of others"] = Question(items, lambda q: q.filter(~Q(**asked[0])), "count")
    if column.name != "ratio":  # of a number that is none, no two are equal
        found["rows"] = Question(items, lambda q: q.filter(**asked[0]))
    return found


def _keys(query: Any) -> Any:
    return query.values_list("pk", flat=True)


KINDS: list[Callable[[Mapping[str, Any]], Question]] = [
    lambda condition: Question(items, lambda q: _keys(q.filter(**condition))),
    lambda condition: Question(items, lambda q: q.filter(**condition), "count"),
    lambda condition: Question(items, lambda q: q.filter(**condition).only("pk"), "first"),
    lambda condition: Question(items, lambda q: q.filter(**condition), "exists"),
    lambda condition: Question(items, lambda q: _keys(q.filter(Q(**condition)))[:2]),
]


@dataclass(frozen=True)
class Moves:
    """Writes that bring rows in, or take them out, one after the other."""

    column: Column

    def row(self, value: Any, pk: int = MOVED) -> Any:
        return m.Item(pk=pk, **{self.column.name: value})

    def set(self, value: Any, **how: Any) -> None:
        row = m.Item.objects.get(pk=MOVED)
        setattr(row, self.column.name, value)
        row.save(**how)

    def update(self, value: Any, **condition: Any) -> int:
        return int(m.Item.objects.filter(**condition).update(**{self.column.name: value}))

    def by_sql(self, value: Any) -> None:
        field: Any = m.Item._meta.get_field(self.column.name)
        with connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE museum_item SET {field.column} = %s WHERE id = %s",
                [field.get_db_prep_save(value, connection), MOVED],
            )

    def by_an_instance_that_is_behind(self) -> None:
        """What it holds is what the row held before somebody else changed it."""
        behind = m.Item.objects.get(pk=MOVED)
        assert self.update(self.column.other, pk=MOVED) == 1
        behind.save()
        self.update(self.column.other, pk=MOVED)

    def upsert(self) -> None:
        new = [self.row(self.column.value), self.row(self.column.value, NEW)]
        fields = [m.Item._meta.get_field(self.column.name).name]
        m.Item.objects.bulk_create(
            new, update_conflicts=True, unique_fields=["pk"], update_fields=fields
        )

    def steps(self) -> list[Callable[[], object]]:
        value, other, name = self.column.value, self.column.other, self.column.name
        return [
            lambda: self.set(value),
            lambda: self.set(other, update_fields=[m.Item._meta.get_field(name).name]),
            lambda: self.update(value, pk=MOVED),
            self.by_an_instance_that_is_behind,
            lambda: self.update(value, pk__in=[MOVED, KEPT]),
            lambda: m.Item.objects.bulk_update(
                [self.row(other)], [m.Item._meta.get_field(name).name]
            ),
            lambda: self.row(value).save(),
            lambda: self.by_sql(other),
            lambda: self.row(value, NEW).save(force_insert=True),
            lambda: m.Item.objects.get(pk=NEW).delete(),
            lambda: m.Item.objects.bulk_create([self.row(value, NEW)]),
            lambda: m.Item.objects.filter(pk=NEW).delete(),
            self.upsert,
            lambda: self.update(other, **{name: value}),
        ]


WAYS = [("memory", "async"), ("redis", "sync")]


def pairs() -> list[Any]:
    """Each column with one store and one way of asking: in a run on PostgreSQL with the other ones
    than in a run on SQLite."""
    return [
        pytest.param(column, *WAYS[(at + POSTGRESQL) % 2], id=name)
        for at, (name, column) in enumerate(COLUMNS.items())
    ]


@pytest.mark.parametrize(("column", "store", "answers"), pairs(), indirect=["store", "answers"])
def test_an_answer_about_equal_values_is_fresh_after_rows_came_and_went(
    column: Column, answers: Answers
) -> None:
    moves, questions = Moves(column), questions_of(column)
    m.Item.objects.bulk_create([moves.row(column.other, pk) for pk in (MOVED, KEPT)])
    assert_fresh_after_each(moves.steps(), questions, answers)


# Two columns. ------------------------------------------------------------------------------------

OF_TWO: Questions = {
    "both": Question(items, lambda q: q.filter(number=1, flag=True)),
    "the other way round": Question(items, lambda q: q.filter(flag=True, number=1), "count"),
    "one after the other": Question(items, lambda q: q.filter(number=1).filter(flag=True)),
    "in a Q": Question(items, lambda q: q.filter(Q(number=1) & Q(flag=True)), "exists"),
    "of a Q and a value": Question(items, lambda q: q.filter(Q(number=1), flag=True)[:1]),
    "of one of a list": Question(items, lambda q: q.filter(number__in=[1, 5], flag=True)),
    "with one that is more": Question(items, lambda q: q.filter(number=1, flag=True, big__gt=0)),
    "with a part of a text": Question(
        items, lambda q: q.filter(number=1, flag=True, name__contains="x"), "count"
    ),
    "contradicting": Question(items, lambda q: q.filter(number=1).filter(number=2), "count"),
    "one twice": Question(items, lambda q: q.filter(Q(number=1), number=1, flag=True)),
    "with a column": Question(items, lambda q: q.filter(number=F("rank"), flag=True)),
    "by a lookup": Question(items, lambda q: q.filter(Exact(F("number"), 1), flag=True)),
    "none of both": Question(items, lambda q: q.exclude(number=1, flag=True)),
    "sums": Question(
        items, lambda q: q.filter(number=1, flag=True), "aggregate", kwargs={"s": Sum("big")}
    ),
    "of another table, too": Question(
        items, lambda q: q.filter(number=1, flag=True, artist__name="Ada")
    ),
    "of a row": Question(items, lambda q: q.filter(pk=MOVED, number=1, flag=True), "get_or_none"),
    "the newest": Question(items, lambda q: q.filter(number=1, flag=True).order_by("-pk"), "first"),
}


def _of_number(number: int) -> Question:
    return Question(items, lambda q: q.filter(number=number))


def _moving(**changes: Any) -> list[Callable[[], object]]:
    """The same change by each of two ways to write."""

    def save() -> None:
        row = m.Item.objects.get(pk=MOVED)
        for name, value in changes.items():
            setattr(row, name, value)
        row.save(update_fields=list(changes))

    return [save, lambda: m.Item.objects.filter(pk=KEPT).update(**changes)]


def test_an_answer_about_two_equal_values_is_fresh_after_either_changed(answers: Answers) -> None:
    m.Item.objects.bulk_create(m.Item(pk=pk, name="x", big=1) for pk in (MOVED, KEPT))
    steps = [
        *_moving(number=1),
        *_moving(flag=True),
        *_moving(rank=1, artist=m.Artist(pk=ADA)),
        *_moving(big=-1),
        *_moving(flag=False, number=5),
        *_moving(flag=True),
        *_moving(name="y", number=1),
        *_moving(number=2),
    ]
    assert_fresh_after_each(steps, OF_TWO, answers)


@pytest.mark.parametrize(
    ("store", "answers"), [("memory", "async"), ("redis", "sync")], indirect=True
)
def test_an_answer_about_equal_values_is_fresh_after_a_transaction_that_moved_a_row_twice(
    answers: Answers,
) -> None:
    """Whoever looks only at where the row was before and is afterwards misses the one in between,
    which a savepoint may have brought back."""
    m.Item.objects.bulk_create(m.Item(pk=pk, number=pk - MOVED) for pk in (MOVED, KEPT))
    questions = {f"{number}": _of_number(number) for number in range(5)}

    def twice() -> None:
        row = m.Item.objects.get(pk=MOVED)
        with transaction.atomic():
            row.number = 2
            row.save()
            with suppress(ZeroDivisionError), transaction.atomic():
                row.number = 3
                row.save()
                raise ZeroDivisionError
            row.number = 4
            row.save()

    def back_and_forth() -> None:
        with transaction.atomic():
            m.Item.objects.filter(pk=MOVED).update(number=3)
            m.Item.objects.filter(number=3).update(number=2)
            m.Item.objects.filter(number=2).delete()
            m.Item.objects.create(pk=MOVED, number=1)

    assert_fresh_after_each([twice, back_and_forth], questions, answers)
