"""What is remembered of questions: it never answers for another question, and never grows."""

from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from loom_cache import CachedRepository, hints, keys, memo
from loom_cache.query import CachedQuery, _steps_known
from loom_cache.terminals import plan_of
from testproject.news.models import Article, Author

PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from(["", "1", "a", "True", "None"]),
    st.sampled_from([UUID(int=0), UUID(int=1)]),
)
CALLS = st.tuples(
    st.sampled_from(["filter", "exclude"]),
    st.lists(PLAIN, max_size=2),
    st.dictionaries(st.sampled_from(["pk", "title", "a"]), PLAIN, max_size=2),
)


class Articles(CachedRepository[Article]):
    model = Article


class OthersArticles(CachedRepository[Article]):
    model = Article

    def __init__(self, reader: int) -> None:
        self.reader = reader


class Authors(CachedRepository[Author]):
    model = Author


@given(CALLS, CALLS)
def test_words_are_equal_where_the_spelling_is(one: Any, other: Any) -> None:
    spelled = [
        (method, keys.canonical(args), keys.canonical(kwargs))
        for method, args, kwargs in (one, other)
    ]
    words = [memo.words("origin", *call) for call in (one, other)]
    assert (words[0] == words[1]) == (spelled[0] == spelled[1])


@pytest.mark.parametrize("value", [1.0, [1], (1,), {"a": 1}, b"a", "a" * 300, object()])
def test_what_is_more_than_a_plain_value_has_no_words(value: Any) -> None:
    assert memo.words("origin", "filter", (value,), {}) is None
    assert memo.words("origin", "filter", (), {"a": value}) is None


def key_of(query: CachedQuery[Any], operation: str = "list") -> str:
    return plan_of(query, operation, (), {}).parts[0].key


def test_the_same_words_have_the_same_key_after_all_is_forgotten() -> None:
    def asked() -> CachedQuery[Any]:
        return Articles().filter(author_id=3).exclude(title="a").order_by("-created")[2:5]

    remembered = {key_of(asked()), key_of(asked())}
    hints.forget()
    assert {key_of(asked())} == remembered


def test_equal_values_of_other_types_are_other_questions() -> None:
    values = [1, True, "1"]
    found = {key_of(Articles().filter(title=value)) for value in values for _ in range(2)}
    assert len(found) == 3
    assert len({key_of(Articles().all()[:stop]) for stop in (1, 2, 1)}) == 2


def test_who_asks_and_when_is_not_remembered() -> None:
    asked = [key_of(OthersArticles(reader).filter(pk=1)) for reader in (1, 2, 1)]
    assert asked[0] == asked[2] != asked[1]
    here = key_of(Articles().filter(pk=1))
    with timezone.override("Asia/Tokyo"):
        assert key_of(Articles().filter(pk=1)) != here
    assert key_of(Articles().filter(pk=1)) == here


def test_the_same_words_to_another_repository_or_terminal_are_another_question() -> None:
    found = [
        key_of(Articles().filter(pk=1)),
        key_of(Authors().filter(pk=1)),
        key_of(Articles().filter(pk=1), "first"),
        key_of(Articles().exclude(pk=1)),
        key_of(Articles().filter(pk=1).filter(pk=1)),
    ]
    assert len(set(found)) == len(found)


def test_a_query_that_is_built_on_a_remembered_one_leaves_it_alone() -> None:
    first = Articles().filter(author_id=3)
    before = key_of(first)
    first.order_by("title")[:3].cache_for(5).using("default")
    assert key_of(Articles().filter(author_id=3)) == before == key_of(first)
    assert Articles().filter(author_id=3).seconds is None


def test_a_memo_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "MOST", 10)
    hints.forget()
    for number in range(100):
        Articles().filter(pk=number)
    assert len(_steps_known._known) <= 10
