"""Entries that cannot be read are a miss, whatever was done to them."""

from __future__ import annotations

import contextlib
import uuid
import zoneinfo
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from django.apps import apps
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.range import Range

from loom_cache.codec import (
    CorruptEntry,
    decode_rows,
    decode_value,
    encode_rows,
    encode_value,
    typed_codec,
)
from loom_cache.codec.decoding import _reader
from loom_cache.codec.layout import (
    ATTRIBUTE,
    ATTRIBUTE_LIST,
    PREFETCHED,
    RELATED,
    Entry,
    GroupHeader,
    ValuesHeader,
)
from loom_cache.codec.rows import _remembered_reader
from loom_cache.codec.shapes import shape_of
from loom_cache.exceptions import LoomCacheError
from tests.fieldapp import models as m
from tests.fieldapp.install import field_app, library  # noqa: F401

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("field_app")]


PARIS = zoneinfo.ZoneInfo("Europe/Paris")
MOMENT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


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


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5)
)
packed = st.recursive(
    scalars | st.sampled_from(["j", "l", "t", "d", "m", "h", "r", "g", "D", "v", "b", "u", "i"]),
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


def test_a_model_that_is_another_one_now_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = encode_rows([m.Author.from_db("default", ["id", "name"], [2, "b"])])
    assert decode_rows(entry)
    monkeypatch.setitem(apps.all_models["fieldapp"], "author", m.Tag)
    with pytest.raises(CorruptEntry, match=r"fieldapp\.author is another one now"):
        decode_rows(entry)


@pytest.mark.parametrize(
    "link",
    [
        (0, ATTRIBUTE, "_state", None, [0], [0]),
        (0, ATTRIBUTE_LIST, "_state", None, [0], [0]),
        (0, PREFETCHED, "books", None, [0], [None]),
        (0, PREFETCHED, "books", "books", [0], [0]),
        (0, PREFETCHED, "save", None, [0], [0]),
        (0, PREFETCHED, "mentor", None, [0], [0]),
        (0, RELATED, "mentor", None, [0, 0], [0]),
        (0, RELATED, "mentor", None, [5], [0]),
        (0, RELATED, "mentor", None, [0], [99]),
        (0, RELATED, "mentor", None, [0], [-1]),
        (0, RELATED, "mentor", None, [-1], [0]),
        (9, RELATED, "mentor", None, [0], [0]),
        (0, 9, "mentor", None, [0], [0]),
    ],
    ids=repr,
)
def test_a_link_that_leads_nowhere_is_a_miss(link: tuple[Any, ...]) -> None:
    version, kind, header, rows, graph = msgspec.msgpack.decode(entries()[0])
    roots, more, _links, lists, peers = graph
    damaged = (version, kind, header, rows, (roots, more, [link], lists, peers))
    with pytest.raises(CorruptEntry):
        decode_rows(msgspec.msgpack.encode(damaged))


def test_rows_with_more_or_fewer_names_than_columns_are_a_miss() -> None:
    entry = msgspec.msgpack.decode(encode_rows([{"a": 1, "b": 2}]), type=Entry)
    for kind in "dn":
        for names in (["a"], ["a", "b", "c"]):
            header = msgspec.msgpack.encode(ValuesHeader(names, "ii"))
            damaged = msgspec.structs.replace(entry, kind=kind, header=header)
            with pytest.raises(CorruptEntry):
                decode_rows(msgspec.msgpack.encode(damaged))


def test_what_is_made_of_long_headers_is_not_remembered() -> None:
    """So that memory stays bounded, whatever is in the store."""
    author = m.Author.from_db("default", ["id", "name"], [2, "b"])
    vars(author).update({f"a_long_name_{number:050}": 1 for number in range(100)})
    instances = encode_rows([author])
    dicts = encode_rows([vars(author) | {"_state": 1}])
    before = (_reader.cache_info().currsize, _remembered_reader.cache_info().currsize)
    assert decode_rows(instances)
    assert decode_rows(dicts)
    assert (_reader.cache_info().currsize, _remembered_reader.cache_info().currsize) == before


def test_a_model_whose_fields_have_changed_is_a_miss() -> None:
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


def test_no_class_is_found_by_a_name_in_the_data() -> None:
    """The module of psycopg's ranges has more in it than ranges, such as `date`."""
    for packed in (["r", "date", 2026, 1, 1], ["r", "Range", None, None, None, None]):
        with pytest.raises(CorruptEntry):
            decode_value(msgspec.msgpack.encode((1, "v", packed)))


def test_nesting_that_is_never_written_is_not_read() -> None:
    packed: Any = 1
    for _ in range(100):
        packed = ["l", [packed]]
    with pytest.raises(CorruptEntry, match="nested too deeply"):
        decode_value(msgspec.msgpack.encode((1, "v", packed)))


def test_a_corrupt_entry_is_an_error_of_the_cache() -> None:
    assert issubclass(CorruptEntry, LoomCacheError)
