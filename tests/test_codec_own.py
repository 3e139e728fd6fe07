"""Types of the project's own: registered, or in the text form of their field, or refused."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.db.models import F, Model
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.range import Range

from loom_cache import keys, register_type
from loom_cache.codec import (
    CorruptEntry,
    decode_rows,
    decode_value,
    encode_rows,
    encode_value,
    typed_codec,
)
from loom_cache.codec.layout import Entry, GroupHeader, ValuesHeader
from loom_cache.codec.own import registration_of, unregister_type
from loom_cache.codec.values import pack
from loom_cache.exceptions import ConfigurationError, UnsupportedValue
from tests.fieldapp import models as m
from tests.fieldapp.install import field_app  # noqa: F401
from tests.fieldapp.own import Bonus, Colour, Money, Spot, SpotField
from tests.fieldapp.same import assert_same, check

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("field_app")]

ROOT = Path(__file__).parent.parent

PRICE = Money(Decimal("1.10"), "EUR")


class Basket:
    """Its lines hold values of another type of the project's own."""

    def __init__(self, lines: list[Money]) -> None:
        self.lines = lines

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Basket) and self.lines == other.lines

    def __repr__(self) -> str:
        return f"Basket({self.lines})"


class Bag:
    """Cannot be compared, and gives its own dictionary away."""

    def __init__(self, **things: Any) -> None:
        self.things = things


class Vector:
    """Compares item by item, as those of numpy."""

    def __init__(self, *items: float) -> None:
        self.items = items

    def __eq__(self, other: object) -> list[bool]:  # type: ignore[override]
        assert isinstance(other, Vector)
        return [mine == theirs for mine, theirs in zip(self.items, other.items, strict=True)]


class Plain(Bag):
    """For registrations that are wrong."""


@pytest.fixture(autouse=True)
def nothing_stays_registered() -> Iterator[None]:
    yield
    for kind in (Money, Bonus, Colour, Spot, Basket, Bag, Vector, Plain):
        if registration_of(kind) is not None:
            unregister_type(kind)


def register_money() -> None:
    register_type(Money, encode=Money.as_data, decode=Money.of_data)


def register_all() -> None:
    register_money()
    register_type(Bonus, encode=Money.as_data, decode=lambda data: Bonus(*data))
    register_type(Colour, encode=lambda colour: colour.value, decode=Colour)
    register_type(Basket, encode=lambda basket: basket.lines, decode=Basket)
    register_type(Vector, encode=lambda vector: vector.items, decode=lambda items: Vector(*items))


# Registered types


def test_a_registered_type_comes_back_wherever_it_stands() -> None:
    """Alone, in containers, next to None and other types, within another one, as an attribute."""
    register_all()
    for value in (PRICE, Bonus(Decimal(2), "EUR"), Colour.RED, Basket([PRICE]), Basket([])):
        for whole in (value, [value], {"a": (value, None)}, {1: {"b": [value]}}):
            assert_same([whole], [decode_value(encode_value(whole))])
        for column in ([value], [value, None], [None, value, 1], [value, "a", [value]]):
            check(column)
            check([(1, item) for item in column])
            check([{"a": item, "b": 1} for item in column])
        row = m.Tag.from_db("default", ["name"], ["a"])
        row.extra = value  # type: ignore[attr-defined]
        check([row])


def test_a_registered_type_comes_back_in_rows_of_every_kind() -> None:
    register_all()
    m.Sale.objects.create(price="1.10 EUR", bonus="2 USD", colour="b")
    m.Sale.objects.create(price="0.00 EUR")
    sales = m.Sale.objects.order_by("pk")
    hit = check(sales)
    assert (hit[0].price, hit[0].colour) == (PRICE, Colour.BLUE)
    for rows in (
        sales.only("price"),
        sales.defer("price"),
        sales.values(),
        sales.values_list(),
        sales.values_list("price", flat=True),
        sales.values_list("price", "bonus", named=True),
        sales.annotate(same=F("price"), other=F("colour")),
    ):
        check(rows)


@given(st.decimals(allow_nan=False), st.text(st.characters(), max_size=5))
def test_any_value_of_a_registered_type_comes_back(amount: Decimal, currency: str) -> None:
    """Also with what MessagePack cannot carry: lone surrogates."""
    register_money()
    value = Money(amount, currency)
    assert_same([value], [decode_value(encode_value(value))])
    check([value, None])


def test_a_value_is_stored_as_plain_data() -> None:
    register_money()
    fingerprint = registration_of(Money).fingerprint  # type: ignore[union-attr]
    stored = msgspec.msgpack.decode(encode_value(PRICE))
    assert stored == [1, "v", [fingerprint, ["t", [["c", "1.10"], "EUR"]]]]


def test_a_type_that_compares_item_by_item_is_judged_by_what_it_is_made_of() -> None:
    register_all()
    assert decode_value(encode_value(Vector(1.5, 2.5))).items == (1.5, 2.5)


def test_a_type_that_cannot_be_compared_is_judged_by_what_it_is_made_of() -> None:
    register_type(Bag, encode=vars, decode=lambda state: Bag(**state["things"]))
    assert decode_value(encode_value(Bag(a=[1]))).things == {"a": [1]}


def test_equal_sets_are_stored_alike() -> None:
    """Their order, which differs with their history, says nothing."""
    register_type(Bag, encode=lambda bag: bag.things["a"], decode=lambda items: Bag(a=items))
    forwards, backwards = {0} | {8} | {16}, {16} | {8} | {0}  # which collide in a table of eight
    assert list(forwards) != list(backwards)
    assert encode_value(forwards) == encode_value(backwards)
    assert keys.canonical(Bag(a=forwards)) == keys.canonical(Bag(a=backwards))
    assert decode_value(encode_value(Bag(a=frozenset("abc")))).things == {"a": frozenset("abc")}


def test_decode_cannot_change_the_value_that_is_being_stored() -> None:
    """It is tried out on a copy, although encode gives a part of the value."""
    register_type(Bag, encode=lambda bag: bag.things, decode=lambda things: Bag(a=things.pop("a")))
    bag = Bag(a=[1])
    data = encode_value(bag)
    assert bag.things == {"a": [1]}
    first, second = decode_value(data), decode_value(data)
    first.things["a"].append(2)
    assert second.things == {"a": [1]}


def test_a_registration_is_for_exactly_one_type() -> None:
    register_money()
    with pytest.raises(UnsupportedValue, match=r"own\.Bonus.*register_type"):
        encode_value(Bonus(Decimal(1), "EUR"))


def test_the_example_in_the_documentation_works() -> None:
    section = (ROOT / "docs" / "reading.md").read_text().split("## Types of your own")[1]
    example: dict[str, Any] = {"__name__": __name__}
    exec(section.split("```python")[1].split("```")[0], example)
    money = example["Money"](Decimal("1.10"), "EUR")
    try:
        check([money, None])
        assert decode_value(encode_value({"a": money})) == {"a": money}
    finally:
        unregister_type(example["Money"])


# Registrations that change


def written_now(*values: Any) -> list[bytes]:
    return [encode_value(list(values)), encode_rows([(value,) for value in values])]


def assert_missed(entries: list[bytes]) -> None:
    whole, rows = entries
    with pytest.raises(CorruptEntry):
        decode_value(whole)
    with pytest.raises(CorruptEntry):
        decode_rows(rows)


def test_what_was_stored_before_a_type_is_no_longer_registered_is_a_miss() -> None:
    register_money()
    entries = written_now(PRICE)
    unregister_type(Money)
    assert_missed(entries)
    with pytest.raises(UnsupportedValue):
        encode_value(PRICE)


CHANGED: list[Callable[[], None]] = [
    lambda: register_type(Money, encode=Money.as_data, decode=Money.of_data, version=2),
    lambda: register_type(Money, encode=Money.as_data, decode=lambda data: Money(*data)),
    lambda: register_type(
        Money, encode=lambda money: (money.amount, money.currency), decode=Money.of_data
    ),
    lambda: register_type(
        Money,
        encode=lambda money: (money.amount * 100, money.currency),
        decode=lambda data: Money(data[0] / 100, data[1]),
    ),
    lambda: register_type(
        Money,
        encode=lambda money: (money.amount * 1000, money.currency),
        decode=lambda data: Money(data[0] / 1000, data[1]),
    ),
    lambda: register_type(
        Money,
        encode=lambda money: [[part * 10 for part in (money.amount,)], money.currency],
        decode=lambda data: Money(next(part / 10 for part in data[0]), data[1]),
    ),
    lambda: register_type(
        Money,
        encode=lambda money: [[part * 5 for part in (money.amount,)], money.currency],
        decode=lambda data: Money(next(part / 5 for part in data[0]), data[1]),
    ),
]


@pytest.mark.parametrize("before", range(len(CHANGED)))
def test_what_was_stored_under_another_registration_is_a_miss(before: int) -> None:
    """Another version, function, or code of the same function: never a wrong value."""
    CHANGED[before]()
    entries = written_now(PRICE)
    assert decode_value(entries[0]) == [PRICE]
    for now in range(len(CHANGED)):
        unregister_type(Money)
        CHANGED[now]()
        if now != before:
            assert_missed(entries)


def test_two_types_with_the_same_functions_are_never_taken_for_each_other() -> None:
    kind: type[Bag] = Bag

    def decode(state: dict[str, Any]) -> Any:
        return kind(**state["things"])

    register_type(Bag, encode=vars, decode=decode)
    entries = written_now(Bag(a=1))
    unregister_type(Bag)
    kind = Plain
    register_type(Plain, encode=vars, decode=decode)
    assert_missed(entries)


def test_other_processes_read_what_this_one_wrote() -> None:
    """The fingerprint does not depend on the order of hashes or on addresses."""
    program = """
        from decimal import Decimal
        from loom_cache import register_type
        from loom_cache.codec import encode_value
        from tests.fieldapp.own import Money

        def encode(money):
            assert money.currency in {"EUR", "USD", "GBP", "CHF"}
            return [part for part in money.as_data()]

        register_type(Money, encode=encode, decode=lambda data: Money(*data))
        print(encode_value(Money(Decimal("1.10"), "EUR")).hex())
    """
    written = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert written[0]
    assert written[0] == written[1]


# Bad registrations


def test_a_type_may_be_registered_again_in_the_same_way() -> None:
    register_money()
    register_money()
    check([PRICE])


def test_a_type_cannot_be_registered_in_two_ways() -> None:
    register_money()
    with pytest.raises(ConfigurationError, match=r"own\.Money is registered already"):
        register_type(Money, encode=Money.as_data, decode=lambda data: Money(*data))
    with pytest.raises(ConfigurationError, match=r"own\.Money is registered already"):
        register_type(Money, encode=Money.as_data, decode=Money.of_data, version=2)
    check([PRICE])


def local_class() -> type:
    class Local:
        pass

    return Local


BAD: list[tuple[dict[str, Any], str]] = [
    ({"kind": "Money"}, "'Money' is not"),
    ({"kind": list[int]}, r"list\[int\] is not"),
    ({"kind": Decimal}, r"decimal\.Decimal is a type that the cache stores by itself"),
    ({"kind": int}, r"builtins\.int is a type that the cache stores by itself"),
    ({"kind": Range}, r"range\.Range is a type that the cache stores by itself"),
    ({"kind": m.Author}, r"models\.Author is a type that the cache stores by itself"),
    ({"kind": Model}, r"Model is a type that the cache stores by itself"),
    ({"kind": local_class()}, r"Local is defined inside a function"),
    ({"encode": None}, r"encode of .*own\.Money is a function .* None is not"),
    ({"decode": "amount"}, r"decode of .*own\.Money is a function .* 'amount' is not"),
    ({"version": "2"}, r"version of .*own\.Money is a whole number, which '2' is not"),
    ({"version": True}, r"version of .*own\.Money is a whole number, which True is not"),
]


@pytest.mark.parametrize(("wrong", "message"), BAD)
def test_a_bad_registration_is_an_error_that_names_it(wrong: dict[str, Any], message: str) -> None:
    arguments = {"kind": Money, "encode": Money.as_data, "decode": Money.of_data, **wrong}
    kind = arguments.pop("kind")
    with pytest.raises(ConfigurationError, match=message):
        register_type(kind, **arguments)
    with pytest.raises(UnsupportedValue):
        encode_value(PRICE)


def fail(_value: object) -> Any:
    raise ZeroDivisionError("by zero")


UNDOING: list[tuple[Callable[[Any], Any], Callable[[Any], Any], str]] = [
    (fail, Money.of_data, "encode, .*own.Money, raised ZeroDivisionError: by zero"),
    (lambda money: money, Money.of_data, "gives a value of the same type"),
    (lambda money: range(3), Money.of_data, "gives a range; give its text, or its ends"),
    (lambda money: Bag(), Money.of_data, "What encode gave for .* is of type .*Bag"),
    (lambda money: [money], Money.of_data, "What encode gave for .* is nested more than"),
    (Money.as_data, fail, "does not undo encode .*ZeroDivisionError"),
    (Money.as_data, lambda data: data, "does not undo encode .*it gives a builtins.tuple"),
    (Money.as_data, lambda data: Bonus(*data), "does not undo encode .*it gives a .*Bonus"),
    (Money.as_data, lambda data: Money(data[0] + 1, data[1]), "does not undo .*another value"),
    (
        lambda money: (float(money.amount), money.currency),
        lambda data: Money(Decimal(data[0]), data[1]),
        "does not undo .*another value",
    ),
    (  # equal, but not made of the same
        Money.as_data,
        lambda data: Money(data[0].normalize(), data[1]),
        "does not undo .*another value",
    ),
]


@pytest.mark.parametrize(("encode", "decode", "message"), UNDOING)
def test_functions_that_do_not_give_a_value_back_keep_it_out_of_the_cache(
    encode: Callable[[Any], Any], decode: Callable[[Any], Any], message: str
) -> None:
    register_type(Money, encode=encode, decode=decode)
    m.Sale.objects.create(price="1.10 EUR")
    with pytest.raises(UnsupportedValue, match=message) as refused:
        encode_rows(list(m.Sale.objects.all()))
    assert "fieldapp.Sale.price" in str(refused.value)


def test_a_decode_that_fails_later_is_a_miss() -> None:
    failing: list[Exception] = []

    def decode(data: Any) -> Money:
        if failing:
            raise failing[0]
        return Money(*data)

    register_type(Money, encode=Money.as_data, decode=decode)
    entries = written_now(PRICE)
    for error in (ZeroDivisionError(), KeyError("a"), StopIteration(), ImportError()):
        failing[:] = [error]
        assert_missed(entries)


@pytest.mark.parametrize("endless", [range(10**18), ip_network("::/8"), ip_network("0.0.0.0/0")])
def test_no_decode_is_given_what_it_would_not_come_to_the_end_of(endless: Any) -> None:
    """Forged: billions of items to whoever writes `Kind(*parts)`, in a few bytes."""
    given: list[Any] = []

    def decode(data: Any) -> Money:
        given.append(data)
        return PRICE

    register_type(Money, encode=Money.as_data, decode=decode)
    registration = registration_of(Money)
    assert registration is not None
    with pytest.raises(ValueError, match="it is made of a"):
        registration.restore(0, pack(endless, "a value", 0, careful=False))
    assert given == []


def test_every_flipped_bit_of_a_registered_value_is_a_miss_or_an_answer() -> None:
    register_all()
    entry = encode_rows([(Basket([PRICE]), Colour.RED)])
    for position in range(len(entry)):
        for bit in range(8):
            damaged = bytearray(entry)
            damaged[position] ^= 1 << bit
            try:
                rows = decode_rows(bytes(damaged))
            except CorruptEntry:
                continue
            assert isinstance(rows, list)


# Annotations of @cached_query


class Offer(msgspec.Struct):
    price: Money
    colour: Colour | None = None


def test_a_return_annotation_may_name_registered_types() -> None:
    register_money()
    for annotation, result in (
        (Money, PRICE),
        (Money | None, None),
        (Money | None, PRICE),
        (list[Money], [PRICE, PRICE]),
        (dict[str, Money], {"a": PRICE}),
        (Offer, Offer(PRICE, Colour.RED)),
    ):
        codec = typed_codec(annotation)
        hit = codec.decode(codec.encode(result))
        assert_same([result], [hit])


def test_a_return_annotation_may_name_a_type_that_cannot_be_compared() -> None:
    register_type(Bag, encode=vars, decode=lambda state: Bag(**state["things"]))
    codec = typed_codec(list[Bag])
    (hit,) = codec.decode(codec.encode([Bag(a=[1])]))
    assert hit.things == {"a": [1]}


def test_a_return_annotation_that_names_a_type_nobody_registered_is_refused() -> None:
    with pytest.raises(UnsupportedValue, match=r"Money is no plain data.*register_type"):
        typed_codec(list[Money])


def test_a_result_of_another_type_than_the_registered_one_is_refused() -> None:
    register_all()
    codec = typed_codec(list[Money])
    for result in ([Bonus(Decimal(1), "EUR")], [Bag()], [1], PRICE):
        with pytest.raises(UnsupportedValue, match="The result is of type"):
            codec.encode(result)


def test_a_registration_that_does_not_give_a_result_back_is_named() -> None:
    register_type(Money, encode=Money.as_data, decode=fail)
    with pytest.raises(UnsupportedValue, match=r"result.*own\.Money, does not undo encode"):
        typed_codec(Money).encode(PRICE)


def test_a_result_stored_under_another_registration_is_a_miss() -> None:
    CHANGED[0]()
    before = typed_codec(list[Money])
    data = before.encode([PRICE])
    unregister_type(Money)
    CHANGED[1]()
    after = typed_codec(list[Money])
    assert after.fingerprint != before.fingerprint
    for codec in (before, after):  # the first knows the annotation of old
        with pytest.raises(CorruptEntry):
            codec.decode(data)


# Arguments


def test_a_value_of_a_registered_type_can_be_an_argument() -> None:
    register_all()
    spelled = {
        keys.canonical(value)
        for value in (
            PRICE,
            Money(Decimal("1.1"), "EUR"),
            Money(Decimal("1.10"), "USD"),
            Bonus(Decimal("1.10"), "EUR"),
            PRICE.as_data(),
            Basket([PRICE]),
            [PRICE],
        )
    }
    assert len(spelled) == 7
    assert keys.canonical(Money(Decimal("1.10"), "EUR")) == keys.canonical(PRICE)


def test_a_value_that_would_not_come_back_is_no_argument() -> None:
    """Else two different ones might be one argument."""
    register_type(
        Money, encode=lambda money: money.currency, decode=lambda data: Money(Decimal(1), data)
    )
    with pytest.raises(UnsupportedValue, match=r"An argument.*own\.Money"):
        keys.canonical(PRICE)
    unregister_type(Money)
    with pytest.raises(UnsupportedValue, match=r"own\.Money has no canonical form"):
        keys.canonical(PRICE)


# The text form of a field


def spec_of(data: bytes) -> str:
    entry = msgspec.msgpack.decode(data, type=Entry)
    return msgspec.msgpack.decode(entry.header, type=GroupHeader).spec


def test_a_field_writes_what_the_cache_does_not_know() -> None:
    here = m.Place2D.objects.create(name="here", spot="1.50 2.0")
    m.Place2D.objects.create(name="there", spot=None, near=here)
    places = m.Place2D.objects.order_by("pk")
    hit = check(places)
    assert repr(hit[0].spot) == "Spot(x=Decimal('1.50'), y=Decimal('2.0'))"
    assert spec_of(encode_rows(list(places))) == "isWI"
    for rows in (
        places.filter(spot=None),
        places.exclude(spot=None),
        places.only("spot"),
        places.defer("spot"),
        places.select_related("near"),
        places.prefetch_related("near"),
        places.annotate(shout=F("name")),
    ):
        check(rows)


def test_a_foreign_key_holds_what_the_field_referred_to_writes() -> None:
    landmark = m.Landmark.objects.create(spot=Spot(Decimal("1.50"), Decimal(2)))
    m.Visit.objects.create(landmark=landmark, remark="a")
    check(m.Landmark.objects.all())
    (hit,) = check(m.Visit.objects.all())
    assert hit.landmark_id == landmark.pk
    check(m.Visit.objects.select_related("landmark"))


def test_a_written_column_that_is_never_null_may_still_hold_none() -> None:
    landmark = m.Landmark.objects.create(spot="1 2")
    m.Visit.objects.create(landmark_id=landmark.spot, seen="3 4")
    m.Visit.objects.create(landmark_id=landmark.spot)
    hit = check(m.Visit.objects.order_by("pk"))
    assert [visit.seen for visit in hit] == [Spot(Decimal(3), Decimal(4)), None]


def test_each_read_of_a_written_value_makes_its_own() -> None:
    m.Place2D.objects.create(spot="1 2")
    data = encode_rows(list(m.Place2D.objects.all()))
    (first,), (second,) = decode_rows(data), decode_rows(data)
    first.spot.x = 5
    assert second.spot == Spot(Decimal(1), Decimal(2))


@pytest.mark.parametrize(
    "name", ["rounding", "unspeakable", "surrogate", "failing", "incomparable"]
)
def test_a_field_that_writes_another_value_is_not_trusted(name: str) -> None:
    m.Imprecise.objects.create(**{name: "1.50 2.0"})
    with pytest.raises(UnsupportedValue, match=rf"fieldapp\.Imprecise\.{name} is of type .*own"):
        encode_rows(list(m.Imprecise.objects.all()))


def test_a_field_without_a_text_form_is_refused() -> None:
    m.Sale.objects.create(price="1 EUR")
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Sale\.price is of type .*own\.Money"):
        encode_rows(list(m.Sale.objects.all()))


def test_rows_that_are_no_instances_have_no_field_to_write_them() -> None:
    m.Place2D.objects.create(spot="1 2")
    places = m.Place2D.objects.all()
    with pytest.raises(UnsupportedValue, match=r'column "spot" is of type .*Spot.*register_type'):
        encode_rows(list(places.values("spot")))
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Place2D\.again is of type .*Spot"):
        encode_rows(list(places.annotate(again=F("spot"))))


def test_a_registration_comes_before_the_text_form() -> None:
    """What was written before remains readable, and means the same."""
    m.Place2D.objects.create(spot="1.50 2.0")
    rows = list(m.Place2D.objects.all())
    before = encode_rows(rows)
    register_type(Spot, encode=lambda spot: (spot.x, spot.y), decode=lambda data: Spot(*data))
    assert spec_of(encode_rows(rows)) == "isXI"
    check(rows)
    assert_same(rows, decode_rows(before))
    check(m.Place2D.objects.values())


def test_a_field_that_cannot_read_what_it_wrote_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    m.Place2D.objects.create(spot="1 2")
    data = encode_rows(list(m.Place2D.objects.all()))
    decode_rows(data)
    monkeypatch.setattr(SpotField, "read", lambda field, text: fail(text))
    with pytest.raises(CorruptEntry, match="ZeroDivisionError in the to_python"):
        decode_rows(data)


def test_a_text_where_no_field_can_read_it_is_a_miss() -> None:
    values = msgspec.msgpack.encode(ValuesHeader(["a"], "w"))
    rows = msgspec.Raw(msgspec.msgpack.encode([["1 2"]]))
    with pytest.raises(CorruptEntry, match="no field's"):
        decode_rows(msgspec.msgpack.encode(Entry(1, "d", values, rows)))
    row = m.Tag.from_db("default", ["name"], ["a"])
    row.extra = "1 2"  # type: ignore[attr-defined]
    entry = msgspec.msgpack.decode(encode_rows([row]), type=Entry)
    header = msgspec.msgpack.decode(entry.header, type=GroupHeader)
    wrong = msgspec.structs.replace(header, spec="sw")
    damaged = msgspec.structs.replace(entry, header=msgspec.msgpack.encode(wrong))
    with pytest.raises(CorruptEntry, match="no field's"):
        decode_rows(msgspec.msgpack.encode(damaged))
