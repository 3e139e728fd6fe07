"""What users, tenants and tables are called never lets one of them reach another's keys."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from django.test import override_settings
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loom_cache import CachedRepository, config, keys, tags
from loom_cache.combinations import Combination, combination
from loom_cache.exceptions import ConfigurationError
from loom_cache.plans import RowsPlan
from testproject.news.models import Article

HOSTILE = [
    "",
    "a:b",
    "a}",
    "{a}",
    "}:g:{news_article}",
    "loom",
    "loom:e",
    "ns-ada",
    "~" + "0" * 32,
    "a\nb",
    "a\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    "a\x00b",
    "\ud800",
    "ä\u0301",
    "None",
    "list",
    ":list",
    "x" * 10_000,
    "x" * 9_999 + "y",
]
text = st.sampled_from(HOSTILE) | st.text(max_size=80) | st.text("a:}{~\n\x00 -.", max_size=70)
"""Hypothesis' text() has lone surrogates, too."""
pairs = st.tuples(text, text)
PLAIN = re.compile(r"[!-~]+")
"""Printable ASCII without spaces: what every part of a key is made of."""

value = st.none() | st.booleans() | st.integers() | st.uuids() | text
combinations = st.builds(
    combination,
    st.lists(st.sampled_from(["a", "b", "author_id"]), min_size=1, max_size=3, unique=True),
    st.none() | st.lists(st.sampled_from(["c", "d"]), unique=True),
    st.sampled_from(["rows", "later", "all"]),
)


def slot(key: str) -> str:
    """What Redis Cluster hashes: the text between the first brace and the next that closes."""
    _, opened, rest = key.partition("{")
    inside, closed, _ = rest.partition("}")
    return inside if opened and closed and inside else key


def of_everything(table: str, row: Any, asked: Combination, values: tuple[Any, ...]) -> list[str]:
    return [
        tags.of_table(table),
        tags.of_list(table),
        tags.of_rows(table),
        tags.of_row(table, row),
        tags.of_combinations(table),
        tags.of_combination(table, asked),
        tags.of_values(table, asked, values),
        tags.list_of_combinations(table),
        tags.changes_of_combinations(table),
    ]


@given(text, st.integers() | st.uuids() | text, combinations, st.lists(value, min_size=1))
def test_the_tags_of_a_table_are_plain_short_in_one_slot_and_all_different(
    table: str, row: Any, asked: Combination, values: list[Any]
) -> None:
    # Integers of primary keys are those of a database.
    if isinstance(row, int):
        row %= 2**63
    found = of_everything(table, row, asked, tuple(values))
    assert len(set(found)) == len(found)
    assert {slot(f"loom:{one}") for one in found} == {keys.safe(table)}
    assert all(PLAIN.fullmatch(one) and len(one) < 300 for one in found)
    assert all(tags.is_tag(one) for one in found if one.startswith("g:"))
    assert {tags.widened(one) for one in found[:7]} == {(found[0], found[1])}


@given(pairs, pairs)
def test_rows_of_two_tables_or_two_keys_never_share_a_tag(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    """But for texts that some columns take for equal: those are merged on purpose."""
    same = one[0] == other[0] and tags._merged(one[1]) == tags._merged(other[1])
    assert (tags.of_row(*one) == tags.of_row(*other)) == same


def as_compared(values: tuple[Any, ...]) -> tuple[Any, ...]:
    merged = (tags._merged(one) if isinstance(one, str) else one for one in values)
    return tuple((type(one), one) for one in merged)


@example([1], [True])
@example([1], ["1"])
@example([2**63], ["x"])
@example(["a", "b"], ["ab"])
@example(["a", ""], ["", "a"])
@example([UUID(int=1)], [UUID(int=1).bytes.decode()])
@given(st.lists(value, min_size=1, max_size=3), st.lists(value, min_size=1, max_size=3))
def test_two_lists_of_values_never_share_a_tag(one: list[Any], other: list[Any]) -> None:
    asked = combination(["a", "b", "c"], None, "all")
    mine, theirs = (tags.of_values("t", asked, tuple(values)) for values in (one, other))
    assert (mine == theirs) == (as_compared(tuple(one)) == as_compared(tuple(other)))


@given(combinations, combinations)
def test_two_combinations_never_share_a_tag(one: Combination, other: Combination) -> None:
    assert (tags.of_combination("t", one) == tags.of_combination("t", other)) == (one == other)


# Tenants.


class Articles(CachedRepository[Article]):
    model = Article


current: Any = None


def tenant() -> Any:
    return current


def key_of(name: Any) -> str:
    with patch(f"{__name__}.current", name):
        return Articles().key("0" * 32)


@pytest.fixture(scope="module", autouse=True)
def named_by_tenant() -> Any:
    with override_settings(LOOM_CACHE={"NAMESPACE": f"{__name__}.tenant"}):
        yield


@given(text, text)
def test_tenants_share_no_entries_and_reach_no_counter(one: str, other: str) -> None:
    mine, theirs = key_of(one), key_of(other)
    assert (mine == theirs) == (one == other)
    for key in (mine, theirs):
        assert PLAIN.fullmatch(key)
        assert "{" not in key
        assert re.fullmatch(r"ns-~?[A-Za-z0-9_.-]{1,64}:e:news\.article:0{32}", key)


class Named(str):
    """A text of a type of its own."""

    __slots__ = ()


def test_nobody_is_not_a_tenant_called_none() -> None:
    assert key_of(None) != key_of("None")
    assert key_of(7) != key_of("7")
    assert key_of(Named("ada")) == key_of("ada")


# The static namespace.


@pytest.mark.parametrize(
    "name",
    ["a b", "a\nb", "a\x00b", "a\x7f", "a:b", "a}", "{a}", "a{", "\ud800", "a\u200b", "", "\t"],
)
def test_a_namespace_is_one_word_that_begins_no_other(name: str) -> None:
    """No key of one site begins with the whole prefix of another, and no brace moves its slot."""
    with pytest.raises(ConfigurationError, match="NAMESPACE"):
        config.parse({"NAMESPACE": name})


@given(st.text(min_size=1, max_size=40))
@settings(max_examples=50)
def test_an_accepted_namespace_never_is_the_beginning_of_another(name: str) -> None:
    try:
        parsed = config.parse({"NAMESPACE": name})
    except ConfigurationError:
        return
    space = parsed.static_namespace
    assert ":" not in space
    assert slot(f"{space}:{tags.of_table('news_article')}") == "news_article"


# Questions.


@pytest.mark.django_db
@pytest.mark.parametrize(
    "ask", [lambda q, x: q.filter(title=x), lambda q, x: q.filter(title__in=[x])]
)
def test_no_two_texts_ask_the_same_question(ask: Callable[[Any, str], Any]) -> None:
    found = {name: RowsPlan(ask(Articles().all(), name), "list").parts[0].key for name in HOSTILE}
    assert len(set(found.values())) == len(HOSTILE)
    assert all(PLAIN.fullmatch(key) for key in found.values())
