"""Entries that somebody wrote on purpose make no code run, and nothing that was not asked for."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from loom_cache.codec import CorruptEntry, decode_rows, decode_value, decoding, encode_rows
from loom_cache.codec.layout import (
    ATTRIBUTE,
    ATTRIBUTE_LIST,
    GRAPH,
    PREFETCHED,
    RELATED,
    Entry,
    Graph,
    GroupHeader,
    Link,
    ValuesHeader,
)
from loom_cache.codec.shapes import shape_of
from loom_cache.exceptions import UnsupportedValue
from tests.fieldapp import models as m
from tests.fieldapp.install import field_app  # noqa: F401

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("field_app")]


def group(model: Any, attnames: list[str] | None, spec: str, **options: Any) -> bytes:
    """The header of a group of instances."""
    shape = shape_of(model)
    fields = {"database": "default", "fetch_mode": 0, "extras": [], "prefetching": False}
    header = GroupHeader(
        shape.label, shape.fingerprint, attnames=attnames, spec=spec, **{**fields, **options}
    )
    return msgspec.msgpack.encode(header)


def rows(*given: tuple[Any, ...]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(given))


def forged(*groups: tuple[bytes, msgspec.Raw], **graph: Any) -> bytes:
    (header, first), *more = groups
    parts: dict[str, Any] = {"roots": None, "links": [], "lists": [], "peers": [], **graph}
    return msgspec.msgpack.encode(Entry(1, GRAPH, header, first, Graph(more=more, **parts)))


AUTHORS = (["id", "name"], "is")
PREFETCHING = {"prefetching": True}


def of_value(packed: Any) -> bytes:
    return msgspec.msgpack.encode((1, "v", packed))


@pytest.mark.parametrize(
    "packed",
    [
        ["u", "0123456789abcdef"],
        ["w", True],
        ["4", 5],
        ["c", [0, [1], 0]],
        ["D", 1.5],
        ["i", [1, 2]],
        ["s", "text"],
        ["m", "2026-01-01", 0, "Europe.Paris"],
        ["m", "2026-01-01", 0, "a" * 1000],
        ["Z", "../zoneinfo/UTC"],
        ["Z", "a.b/c"],
        ["Z", "UTC\x00"],
    ],
    ids=repr,
)
def test_parts_of_other_types_than_are_stored_are_a_miss(packed: Any) -> None:
    with pytest.raises(CorruptEntry):
        decode_value(of_value(packed))


def test_decoding_imports_nothing() -> None:
    """Neither a driver, nor a package that is named like a time zone."""
    before = set(sys.modules)
    for packed in (
        ["R", "NumericRange", 1, 2, "[)"],
        ["r", "Int4Range", 1, 2, "[)"],
        ["m", "2026-01-01", 0, "os.path/join"],
    ):
        try:
            decode_value(of_value(packed))
        except CorruptEntry:
            continue
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "names", [["ﬁ", "fi"], ["ﬁ"], ["class"], ["a b"], ["_x"], ["a", "a"], ["x=__import__('os')"]]
)
def test_names_that_would_become_code_are_a_miss(names: list[str]) -> None:
    """A class of named tuples is made by evaluating a line that has the names in it."""
    header = msgspec.msgpack.encode(ValuesHeader(names, "i" * len(names)))
    data = Entry(1, "n", header, rows((1,) * len(names)))
    with pytest.raises(CorruptEntry):
        decode_rows(msgspec.msgpack.encode(data))


def test_rows_of_another_model_than_was_asked_for_are_not_even_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(decoding, "_reader", decoding._reader.__wrapped__)  # remembers from_db
    monkeypatch.setattr(m.Tracked, "from_db", lambda *args, **kwargs: made.append(args))
    alone = msgspec.msgpack.encode(Entry(1, "m", group(m.Tracked, None, "is"), rows((1, "a"))))
    tied = forged((group(m.Tracked, None, "is"), rows((1, "a"))))
    for data in (alone, tied):
        for model in (m.Author, None):
            with pytest.raises(CorruptEntry):
                decode_rows(data, model=model)
    assert made == []


def test_values_in_place_of_rows_are_a_miss() -> None:
    for values in ([{"id": 1}], [(1,)], [1]):
        with pytest.raises(CorruptEntry):
            decode_rows(encode_rows(values), model=m.Author)
    assert decode_rows(encode_rows([]), model=m.Author) == []


def test_a_relation_leads_to_its_own_model_alone() -> None:
    groups = (
        (group(m.Book, ["id"], "i"), rows((1,))),
        (group(User, ["id"], "i"), rows((1,))),
    )
    with pytest.raises(CorruptEntry, match=r"auth\.User, not fieldapp\.Author"):
        decode_rows(forged(*groups, links=[Link(0, RELATED, "author", None, None, [1])]))


def test_a_prefetched_list_holds_its_own_model_alone() -> None:
    groups = (
        (group(m.Author, ["id"], "i", **PREFETCHING), rows((1,))),
        (group(User, ["id"], "i"), rows((1,))),
    )
    link = Link(0, PREFETCHED, "books", None, None, [0])
    with pytest.raises(CorruptEntry, match=r"auth\.User, not fieldapp\.Book"):
        decode_rows(forged(*groups, links=[link], lists=[[1]]))


HIDDEN = ["save", "delete", "pk", "objects", "_meta", "_state", "__class__", "__dict__", "id"]
HIDDEN += ["DoesNotExist", "name", "mentor", "books", "_prefetched_objects_cache", "from_db"]


@pytest.mark.parametrize("name", HIDDEN)
def test_no_data_takes_the_place_of_what_an_instance_is_or_does(name: str) -> None:
    author = (group(m.Author, *AUTHORS), rows((1, "a")))
    extra = (group(m.Author, AUTHORS[0], "isj", extras=[name]), rows((1, "a", {})))
    links = [Link(0, kind, name, None, None, [0]) for kind in (ATTRIBUTE, ATTRIBUTE_LIST)]
    for data in (
        forged(extra),
        *(forged(author, links=[link], lists=[[0]]) for link in links),
    ):
        with pytest.raises(CorruptEntry):
            decode_rows(data)


def test_an_annotation_that_hides_a_method_is_not_stored() -> None:
    author = m.Author.from_db("default", ["id", "name"], [1, "a"])
    author.save = 5  # type: ignore[method-assign,assignment]
    with pytest.raises(UnsupportedValue, match=r"fieldapp\.Author\.save belongs to the class"):
        encode_rows([author])


def test_nothing_is_asked_from_the_database_while_an_entry_is_decoded() -> None:
    """Not for the key by which a manager would look, either."""
    nameless = (group(m.Author, ["name"], "s", **PREFETCHING), rows(("a",)))
    by_code = (group(m.Country, ["id"], "i", **PREFETCHING), rows((1,)))
    with CaptureQueriesContext(connection) as captured:
        for data in (
            forged(nameless, links=[Link(0, PREFETCHED, "books", None, None, [0])], lists=[[]]),
            forged(nameless, links=[Link(0, PREFETCHED, "friends", None, None, [0])], lists=[[]]),
            forged(by_code, links=[Link(0, PREFETCHED, "city_set", None, None, [0])], lists=[[]]),
        ):
            with pytest.raises(CorruptEntry):
                decode_rows(data)
    assert not captured.captured_queries


def test_a_manager_that_raises_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_queryset(self: Any) -> None:
        raise ZeroDivisionError

    manager = type(m.Book._default_manager)
    data = forged(
        (group(m.Author, ["id"], "i", **PREFETCHING), rows((1,))),
        links=[Link(0, PREFETCHED, "books", None, None, [0])],
        lists=[[]],
    )
    assert decode_rows(data)
    monkeypatch.setattr(manager, "get_queryset", get_queryset)
    with pytest.raises(CorruptEntry, match="ZeroDivisionError in the manager"):
        decode_rows(data)


def test_a_few_bytes_cost_no_queryset_each() -> None:
    """An instance is tied once under a name."""
    author = (group(m.Author, ["id"], "i", **PREFETCHING), rows((1,)))
    once = Link(0, PREFETCHED, "books", None, None, [0])
    again = Link(0, PREFETCHED, "books", None, [0] * 3, [0] * 3)
    for links in ([once, once], [again]):
        with pytest.raises(CorruptEntry, match="tied twice"):
            decode_rows(forged(author, links=links, lists=[[]]))
