"""Models in whose making somebody has a hand: `__init__`, from_db(), receivers."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.db.models import Model, Value
from django.db.models.signals import post_init

from loom_cache.codec import (
    CorruptEntry,
    decode_rows,
    encode_rows,
)
from loom_cache.codec.sameness import same
from loom_cache.exceptions import UnsupportedValue
from tests.fieldapp import models as m
from tests.fieldapp.install import field_app, library  # noqa: F401
from tests.fieldapp.same import assert_same, check, through

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("field_app")]


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
    given = {"id": row.pk, "name": "a", "size": 0}
    differently: list[dict[str, Any]] = [
        {**given, "size": False},
        {**given, "size": 0.0},
        {**given, "size": math.nan},
        {**given, "size": [0]},
        {**given, "size": {0}},
        {**given, "more": 1},
        dict(reversed(given.items())),
    ]
    for changed in differently:
        row.loaded = changed
        (hit,) = through([row])
        assert_same([changed], [hit.loaded])
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
    m.Exclaiming.objects.create(name="a")
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Exclaiming.*changes what it is given"):
        encode_rows(list(m.Exclaiming.objects.all()))
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO fieldapp_refusing (name) VALUES ('secret:a')")
    assert m.Refusing.objects.get().name == "a"
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Refusing cannot be made.*KeyError"):
        encode_rows(list(m.Refusing.objects.all()))


class Rank(enum.IntEnum):
    ONE = 1


EQUAL_ONLY: list[tuple[Any, Any]] = [
    (1, True),
    (1, 1.0),
    (0.0, -0.0),
    (Decimal("1.0"), Decimal("1.00")),
    ({1}, {True}),
    ({1: 2}, {1: 2.0}),
    (Rank.ONE, 1),
    (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC"))),
    (datetime(2026, 1, 1, fold=0, tzinfo=UTC), datetime(2026, 1, 1, fold=1, tzinfo=UTC)),
]


@pytest.mark.parametrize(("mine", "other"), EQUAL_ONLY)
def test_equal_is_not_the_same(mine: Any, other: Any) -> None:
    assert mine == other
    assert same(mine, mine)
    assert same([math.nan], [float("nan")])
    for one, two in ((mine, other), (other, mine), ([mine], [other]), ({1: mine}, {1: other})):
        assert not same(one, two)


def test_an_instance_that_lacks_what_it_would_give_itself_is_refused() -> None:
    m.Remembering.objects.create(name="a")
    row = m.Remembering.objects.get()
    del row.loaded
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Remembering.*\(loaded\)"):
        encode_rows([row])


def test_related_objects_that_an_instance_would_give_itself_are_noticed(
    receivers: Callable[[Any], None],
) -> None:
    m.Listened.objects.create(name="a")

    def relate(sender: Any, instance: Any, **rest: Any) -> None:
        instance._state.fields_cache["friend"] = None

    receivers(relate)
    (row,) = check(m.Listened.objects.all())
    row._state.fields_cache.clear()
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Listened.*\(friend\)"):
        encode_rows([row])


def test_an_instance_that_would_be_of_another_class_is_refused() -> None:
    m.Shifting.objects.create()
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Shifted.*\(its class\)"):
        encode_rows(list(m.Shifting.objects.all()))


def test_what_is_loaded_later_is_not_loaded_for_the_cache() -> None:
    m.Lazy.objects.create(name="a")
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Lazy\.later is.*LazyObject"):
        encode_rows(list(m.Lazy.objects.all()))


def test_what_cannot_be_compared_is_refused() -> None:
    m.Incomparable.objects.create(name="a")
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Incomparable\.grudge.*LookupError"):
        encode_rows(list(m.Incomparable.objects.all()))


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
        instance.before = instance.name * 20
        instance.nothing = float("nan")
        instance.several = [{instance.name: {1, 2}}]

    receivers(remember)
    rows = list(m.Listened.objects.all())
    data = encode_rows(rows)
    assert_same(rows, decode_rows(data))
    assert not any(name in data for name in (b"before", b"nothing", b"several"))


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
