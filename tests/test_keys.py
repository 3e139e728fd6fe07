"""Canonical arguments: one spelling for each value, and never one for two."""

from __future__ import annotations

import ast
import copy
import dataclasses
import enum
import io
import ipaddress
import math
import re
import struct
import uuid
import zoneinfo
from collections import namedtuple
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import msgspec
import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.prefetch import GenericPrefetch
from django.db import models
from django.db.models import (
    Case,
    Count,
    Exists,
    F,
    FilteredRelation,
    Func,
    OuterRef,
    Prefetch,
    Q,
    Value,
    When,
)
from django.db.models.functions import Cast, Lower, Trunc, Upper
from django.db.models.lookups import Exact, GreaterThan
from django.utils.functional import SimpleLazyObject, lazystr
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy, override
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg.types.range import Int4Range, Range

from loom_cache.exceptions import UnsupportedValue
from loom_cache.keys import MAX_DEPTH, canonical, digest, freeze, safe
from tests.fieldapp.install import field_app  # noqa: F401
from tests.fieldapp.models import Country, OrderLine

PARIS = zoneinfo.ZoneInfo("Europe/Paris")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Status(models.TextChoices):
    DRAFT = "d", "draft"


class Level(enum.IntEnum):
    ONE = 1


class Card(msgspec.Struct):
    title: str
    price: Decimal


class Ticket(msgspec.Struct):
    title: str
    price: Decimal


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Pair(NamedTuple):
    x: int
    y: int


class FrozenMoment(datetime):
    """Like those of libraries that stop or move the clock."""


class FrozenDay(date):
    pass


class NamedZone(zoneinfo.ZoneInfo):
    pass


class Shout(Func):
    function = "UPPER"


class Whisper(Func):
    function = "LOWER"


# What is the same: of one type and one value, all the way down.


def identity(value: Any) -> Any:
    """A value that is hashable and equal exactly for the same type and value."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, tuple(map(identity, value))
    if kind is dict:
        return kind, tuple((identity(key), identity(item)) for key, item in value.items())
    if kind in (set, frozenset):
        return kind, frozenset(map(identity, value))
    if kind is float:
        return kind, value.hex()
    if kind in (datetime, time):
        return kind, value.replace(tzinfo=None).isoformat(), value.fold, str(value.tzinfo)
    return kind, repr(value)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.integers(2**63 - 2, 2**64 + 2),
    st.floats(allow_nan=False),
    st.sampled_from(["", "1", "1.0", "True", "None", "a", "ä", "a b", "a\nb", "a:b", "\x00"]),
    st.text(st.characters(), max_size=5),
    st.binary(max_size=3),
    st.decimals(allow_nan=False, places=1, min_value=-3, max_value=3),
    st.datetimes(timezones=st.sampled_from([None, UTC, PARIS, timezone(timedelta(hours=1))])),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
)
hashables = st.recursive(
    scalars,
    lambda inner: st.one_of(st.tuples(inner), st.tuples(inner, inner), st.frozensets(inner)),
    max_leaves=4,
)
values = st.recursive(
    hashables,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(hashables, inner, max_size=3),
        st.sets(hashables, max_size=3),
    ),
    max_leaves=8,
)


@given(values, values)
@example(1, True)
@example([1], (1,))
@example([], {})
@example([[], []], [[[]]])
@example({"a": 1, "b": 2}, {"b": 2, "a": 1})
@example("\ud800", "?")
@example(2**64, "2**64")
def test_two_values_share_a_spelling_exactly_when_they_are_the_same(left: Any, right: Any) -> None:
    assert (canonical(left) == canonical(right)) == (identity(left) == identity(right))


@given(st.lists(values, max_size=4), st.lists(values, max_size=4))
def test_spellings_that_are_joined_can_be_told_apart(left: list[Any], right: list[Any]) -> None:
    """No spelling is the beginning of another, so that a key may be a chain of them."""
    joined = [b"".join(map(canonical, parts)) for parts in (left, right)]
    assert (joined[0] == joined[1]) == (identity(left) == identity(right))


@given(values)
def test_a_copy_has_the_spelling_of_the_original(value: Any) -> None:
    assert canonical(freeze(value)) == canonical(value)


LOOK_ALIKES: list[Any] = [
    None,
    0,
    -0.0,
    0.0,
    False,
    1,
    True,
    1.0,
    "1",
    b"1",
    bytearray(b"1"),
    memoryview(b"1"),
    Decimal(1),
    Decimal("1.0"),
    Decimal("NaN"),
    Decimal("sNaN"),
    math.nan,
    math.inf,
    2**64,
    -(2**64),
    "",
    b"",
    "\ud800",
    "x" * 10_000,
    "x" * 10_001,
    [],
    (),
    {},
    set(),
    frozenset(),
    [1],
    (1,),
    {1},
    frozenset((1,)),
    {1: 1},
    {"1": 1},
    {"a": 1, "b": 2},
    {"b": 2, "a": 1},
    [[1], 2],
    [[1, 2]],
    [1, [2]],
    [(1, 2)],
    [("a", 1)],
    range(1),
    range(0, 2, 2),
    slice(0, 1),
    slice(None, 1),
    date(2026, 1, 1),
    datetime(2026, 1, 1),  # noqa: DTZ001
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(0), "GMT")),
    datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    datetime(2026, 10, 25, 2, 30, tzinfo=PARIS),
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=PARIS),
    "2026-01-01",
    FrozenDay(2026, 1, 1),
    FrozenMoment(2026, 1, 1),
    FrozenMoment(2026, 1, 1, tzinfo=UTC),
    FrozenMoment(2026, 1, 1, tzinfo=NamedZone("UTC")),
    time(0),
    time(0, tzinfo=UTC),
    timedelta(0),
    UTC,
    PARIS,
    "Europe/Paris",
    uuid.UUID(int=1),
    str(uuid.UUID(int=1)),
    ipaddress.ip_address("1.2.3.4"),
    ipaddress.ip_network("1.2.3.4"),
    ipaddress.ip_interface("1.2.3.4"),
    ipaddress.ip_address("::1"),
    ipaddress.ip_network("::1"),
    ipaddress.ip_interface("::1"),
    "1.2.3.4",
    Colour.RED,
    Colour.BLUE,
    "red",
    Status.DRAFT,
    "d",
    Level.ONE,
    mark_safe("1"),
    lazystr("1"),
    Card("a", Decimal(1)),
    Card("a", Decimal(2)),
    Ticket("a", Decimal(1)),
    Point(1, 2),
    Point(1, 3),
    Pair(1, 2),
    (1, 2),
    Range(1, 2),
    Range(1, 2, "[]"),
    Range(1, None),
    Range(empty=True),
    Int4Range(1, 2),
    User,
    Group,
    User(pk=1),
    User(pk=2),
    Group(pk=1),
    "auth.user",
    # Expressions
    Q(a=1),
    ~Q(a=1),
    Q(a=True),
    Q(a=1) | Q(b=2),
    Q(a=1) & Q(b=2),
    Q(a=1) ^ Q(b=2),
    ~(Q(a=1) | Q(b=2)),
    Q(Q(a=1), ~Q(b=2)),
    Q(("a", 1), ("b", 2), ("c", 3)),
    Q(a__in=[1, 2]),
    Q(a__in=(1, 2)),
    F("a"),
    OuterRef("a"),
    F("a") + 1,
    F("a") - 1,
    F("a") + True,
    F("a") + "1",
    1 + F("a"),
    F("a").bitand(1),
    F("a")[0:2],
    Value(1),
    Value(True),
    Value("1"),
    Value(1, output_field=models.TextField()),
    Value(1, output_field=models.CharField(max_length=1)),
    Value(1, output_field=models.CharField(max_length=2)),
    Count("a"),
    Count("a", distinct=True),
    Count("a", filter=Q(b=1)),
    models.Sum("a"),
    models.Sum("a", default=0),
    Case(When(a=1, then=Value(2)), default=Value(3)),
    Case(When(a=1, then=Value(2)), default=Value(4)),
    Case(When(a=1, then=Value(3)), default=Value(3)),
    Cast("a", models.IntegerField()),
    Cast("a", models.TextField()),
    Cast("a", models.DecimalField(max_digits=5, decimal_places=1)),
    Cast("a", models.DecimalField(max_digits=5, decimal_places=2)),
    F("a").asc(),
    F("a").desc(),
    F("a").desc(nulls_last=True),
    F("a").desc(nulls_first=True),
    Func(F("a")),
    Func(F("a"), function="LOWER"),
    Func(F("a"), function="LOWER", template="x"),
    Shout("a"),
    Whisper("a"),
    Lower("a"),
    Upper("a"),
    Trunc("a", "day"),
    Trunc("a", "day", tzinfo=PARIS),
    Exact(F("a"), 1),
    GreaterThan(F("a"), 1),
    User._meta.get_field("username"),
    User._meta.get_field("first_name"),
    User._meta.get_field("last_name"),
    models.CharField(max_length=150),
    Prefetch("a"),
    Prefetch("a", to_attr="b"),
    FilteredRelation("a"),
    FilteredRelation("b"),
    FilteredRelation("a", condition=Q(a__b=1)),
    FilteredRelation("a", condition=Q(a__b=2)),
    "a",
]


def test_no_two_look_alikes_share_a_spelling() -> None:
    spelled: dict[bytes, Any] = {}
    for value in LOOK_ALIKES:
        other = spelled.setdefault(canonical(value), value)
        assert other is value, f"{other!r} and {value!r}"


EXPRESSIONS: list[Callable[[], Any]] = [
    lambda: Q(a=1) | ~Q(b__in=[1, 2]),
    lambda: Count("a", filter=Q(b=1), distinct=True),
    lambda: Case(When(Q(a=1), then=F("b") + 1), default=Value(None)),
    lambda: F("a").desc(nulls_last=True),
    lambda: Cast(F("a"), models.DecimalField(max_digits=5, decimal_places=1)),
    lambda: Trunc("a", "day", tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
    lambda: models.Window(models.Sum("a"), partition_by=[F("b")], order_by="-c"),
    lambda: Prefetch("a__b", to_attr="c"),
    lambda: FilteredRelation("a", condition=Q(a__b=1) | ~Q(a__c__in=[1, 2])),
    lambda: Card("a", Decimal(1)),
]


@pytest.mark.parametrize("make", EXPRESSIONS)
def test_what_is_written_twice_has_one_spelling(make: Callable[[], Any]) -> None:
    first, second = make(), make()
    before = canonical(first)
    assert first == second  # which fills what an expression remembers of itself, as does this:
    getattr(first, "contains_aggregate", None)
    assert before == canonical(second) == canonical(first)


def test_an_expression_that_is_changed_after_it_was_made_changes_its_spelling() -> None:
    ordering = F("a").desc()
    before = canonical(ordering)
    ordering.reverse_ordering()
    assert canonical(ordering) != before
    function = Func(F("a"), function="LOWER")
    before = canonical(function)
    function.extra["function"] = "UPPER"
    assert canonical(function) != before


def test_a_field_is_not_spelled_by_when_it_was_imported() -> None:
    field = User._meta.get_field("email")
    later = copy.copy(field)
    later.creation_counter += 1
    assert canonical(later) == canonical(field)


def test_a_long_sum_has_a_spelling() -> None:
    total: Any = F("a")
    for number in range(MAX_DEPTH - 5):
        total = total + number
    assert canonical(total)


def test_an_instance_is_its_table_and_primary_key() -> None:
    assert canonical(User(pk=1, username="a")) == canonical(User(pk=1, username="b"))


def test_a_lazy_instance_is_the_instance() -> None:
    lazy = SimpleLazyObject(lambda: User(pk=1))
    assert canonical(lazy) == canonical(User(pk=1))


def test_a_lazy_text_is_spelled_in_the_language_of_the_moment() -> None:
    lazy = gettext_lazy("Yes")
    with override("en"):
        english = canonical(lazy)
    with override("de"):
        assert canonical(lazy) != english


def test_sets_have_one_spelling_in_any_order() -> None:
    numbers = [0, 2**61 - 1, 2 * (2**61 - 1)]  # of one hash, so that they stay as they came
    there, back = dict.fromkeys(numbers), dict.fromkeys(reversed(numbers))
    assert list(set(there)) != list(set(back))
    assert canonical(set(there)) == canonical(set(back))


class _Undescribed:
    pass


def _local_class() -> Any:
    class Local(Func):
        pass

    return Local("a")


def _zone_file() -> Any:
    """The smallest one: UTC, without transitions."""
    counts = struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    return io.BytesIO(b"TZif" + bytes(16) + counts + bytes(6) + b"UTC\0")


REFUSED: list[tuple[Any, str]] = [
    (_Undescribed(), "_Undescribed"),
    (object(), "builtins.object"),
    (print, "builtin_function_or_method"),
    (partial(print), "functools.partial"),
    (lambda: None, "builtins.function"),
    (_Undescribed, "builtins.type"),
    (namedtuple, "function"),
    (iter([1]), "list_iterator"),
    (User(), "unsaved auth.User"),
    (OrderLine(order=1), "unsaved fieldapp.OrderLine"),
    (User._default_manager.all(), "QuerySet.*pass the primary keys"),
    (User._default_manager.all().query, "Query.*pass the primary keys"),
    (User._default_manager, "UserManager.*pass the primary keys"),
    (ast.Name("a"), "ast.Name.*pass plain data"),
    (type("Items", (tuple,), {})(), "Items"),
    (Exists(User._default_manager.all()), "Exists"),
    (Q(a__in=User._default_manager.all()), "QuerySet"),
    (Prefetch("a", queryset=User._default_manager.all()), "Prefetch\\('a'\\)"),
    (GenericPrefetch("a", [User._default_manager.all()]), "QuerySet"),
    (type("Condition", (Q,), {})(a=1), "Condition"),
    (_local_class(), "Local is defined inside a function"),
    (zoneinfo.ZoneInfo.from_file(_zone_file()), "ZoneInfo without a key"),
    (type("Text", (str,), {})("a"), "Text"),
    (type("Number", (int,), {})(1), "Number"),
    (type("Items", (list,), {})(), "Items"),
]


@pytest.mark.parametrize(("value", "named"), REFUSED, ids=lambda part: str(type(part).__name__))
def test_what_has_no_spelling_is_refused_by_name(value: Any, named: str) -> None:
    for nested in (value, [value], {"a": (value,)}, Q(a=value)):
        with pytest.raises(UnsupportedValue, match=named):
            canonical(nested)


def test_nesting_has_a_limit() -> None:
    deep: list[Any] = []
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    assert canonical(deep)
    with pytest.raises(UnsupportedValue, match="nested more than"):
        canonical([[deep]])


def test_a_value_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for value in (endless, freeze(endless)):
        with pytest.raises(UnsupportedValue, match="nested more than"):
            canonical(value)


def test_frozen_instances_and_expressions_are_out_of_reach() -> None:
    user, ordering = User(pk=1), F("a").desc()
    frozen = freeze([user, ordering])
    before = canonical(frozen)
    user.pk = 2
    ordering.reverse_ordering()
    assert canonical(frozen) == before != canonical([user, ordering])


def test_a_frozen_filtered_relation_is_out_of_reach_of_the_queryset_it_is_given_to() -> None:
    names = ["a"]
    relation = FilteredRelation("groups", condition=Q(groups__name__in=names))
    frozen = freeze(relation)
    before = canonical(frozen)
    assert before == canonical(relation)
    names.append("b")
    User._default_manager.annotate(some=relation)
    assert canonical(frozen) == before != canonical(relation)


def test_frozen_containers_are_out_of_reach() -> None:
    inner = [1]
    given_value: Any = {"a": inner, "b": ({"c": inner},), "q": Q(a__in=inner)}
    frozen = freeze(given_value)
    spelled = canonical(frozen)
    inner.append(2)
    assert canonical(frozen) == spelled != canonical(given_value)


def test_frozen_iterators_are_lists() -> None:
    made: dict[str, Any] = {"generator": (n for n in (1, 2)), "map": map(str, (1, 2))}
    made["keys"] = {"a": 1}.keys()
    assert freeze(made) == {"generator": [1, 2], "map": ["1", "2"], "keys": ["a"]}


def test_what_can_be_changed_is_copied() -> None:
    buffer = bytearray(b"a")
    copied = freeze(buffer)
    buffer[0] = 0
    assert copied == b"a"
    assert type(copied) is bytearray


def test_freezing_keeps_what_it_does_not_copy() -> None:
    queryset = User._default_manager.all()
    pair = Pair(1, 2)
    assert freeze(queryset) is queryset
    assert freeze(pair) is pair


@pytest.mark.usefixtures("field_app")
def test_an_instance_is_also_what_other_tables_refer_to_it_by() -> None:
    """`filter(country=country)` compares City.country_id with Country.code."""
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Country\.name.*not loaded"):
        canonical(Country.from_db("default", ["id", "code"], [1, "ch"]))
    swiss, renamed = Country(pk=1, code="ch"), Country(pk=1, code="li")
    assert canonical(swiss) != canonical(renamed)
    assert canonical(Country(pk=1, code="ch", motto="x")) == canonical(swiss)
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Country\.code.*not loaded"):
        canonical(Country.from_db("default", ["id", "name"], [1, "x"]))


@given(st.text(), st.text())
def test_safe_parts_are_plain_and_never_shared(left: str, right: str) -> None:
    assert (safe(left) == safe(right)) == (left == right)
    assert safe("news_article-1.x") == "news_article-1.x"
    assert re.fullmatch(r"~?[A-Za-z0-9_.-]{1,64}", safe(left))


def test_no_text_can_pass_for_the_digest_of_another() -> None:
    forged = safe("a b")
    assert safe(forged) != forged


def test_a_digest_is_short_and_depends_on_every_byte() -> None:
    assert len(digest(b"")) == 32
    assert digest(b"a" * 10_000) != digest(b"a" * 9_999 + b"b")


def test_the_permission_of_another_application_is_another_argument() -> None:
    assert canonical(Permission(pk=1)) != canonical(Group(pk=1))
