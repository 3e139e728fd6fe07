"""Entries that somebody with access to the store wrote: a miss each, at a bounded price."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from django.contrib.auth.models import User

from loom_cache import CachedRepository, config, entries, generations, hints, tags
from loom_cache.codec import encode_rows, encode_value
from loom_cache.generations import MOST_COMBINATIONS
from testproject.news.models import Article, Author
from tests.cases import stored
from tests.cases.conftest import STORES, outcomes

# One store is enough: what is in it is judged in the same way, wherever it lies.
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("store"),
    pytest.mark.parametrize("store", STORES[-1:], indirect=True),
]


class Articles(CachedRepository[Article]):
    model = Article


articles = Articles()


@pytest.fixture
def author() -> Author:
    return Author.objects.create(name="Ada")


@pytest.fixture
def article(author: Author) -> Article:
    return Article.objects.create(title="Old", author=author)


def lying(read: Callable[[], object]) -> tuple[str, entries.Entry]:
    """What `read` has stored."""
    for _ in range(2):
        read()
    ((key, data),) = stored.entries().items()
    entry = entries.read(data)
    assert entry is not None
    return key, entry


def forge(key: str, entry: entries.Entry, **changes: Any) -> None:
    """Put it back, changed."""
    made = {"generations": entry.generations, "body": bytes(entry.body), **changes}
    stored.put(key, entries.write(entry.incarnation, made["generations"], made["body"]))


OTHER_KINDS: list[tuple[str, Callable[[], Any], Callable[[], bytes]]] = [
    ("a user", lambda: articles.get_or_none(title="Old"), lambda: of_a_user()),
    ("a dict", lambda: articles.get_or_none(title="Old"), lambda: encode_rows([{"id": 1}])),
    ("a user among dicts", lambda: list(articles.values("title")), lambda: of_a_user()),
    ("tuples for dicts", lambda: list(articles.values("title")), lambda: encode_rows([(1,)])),
    ("a text for a number", lambda: articles.count(), lambda: encode_value("1")),
    ("a number for a flag", lambda: articles.exists(), lambda: encode_value(1)),
    ("lists as keys", lambda: articles.in_bulk(field_name="id"), lambda: keyed_by_lists()),
]


def of_a_user() -> bytes:
    return encode_rows([User.from_db("default", ["id"], [1])])


def keyed_by_lists() -> bytes:
    article = Article.objects.get()
    return b"\x92" + encode_rows([[1]]) + encode_rows([article])


@pytest.mark.usefixtures("article")
@pytest.mark.parametrize(("read", "body"), [one[1:] for one in OTHER_KINDS], ids=lambda one: "")
def test_an_answer_of_another_kind_than_was_asked_for_is_a_miss(
    read: Callable[[], Any], body: Callable[[], bytes]
) -> None:
    key, entry = lying(read)
    genuine = read()
    forge(key, entry, body=body())
    with outcomes("miss"):
        assert read() == genuine


@contextmanager
def memory(kilobytes: int) -> Iterator[None]:
    """The block does not make this process larger by more than that."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < kilobytes


def many(number: int, form: str) -> dict[str, int]:
    return {form.format(at): 1 for at in range(number)}


def test_an_entry_that_names_more_tags_than_any_is_a_miss_and_nothing_is_learnt_of_it(
    article: Article,
) -> None:
    """Else this process would ask for a million counters with every read from then on."""
    key, entry = lying(lambda: articles.get(pk=article.pk))
    names = entry.generations | many(entries.MAX_TAGS, "g:{{t{}}}")
    forge(key, entry, generations=names)
    with outcomes("miss"):
        articles.get(pk=article.pk)
    assert all(len(known) < 20 for known in hints.of_keys._tags.values())


def test_a_question_never_learns_more_tables_than_a_question_can_have() -> None:
    shape = hints.Shape()
    shape.learn(["g:{a}:list"])
    for part in range(5):
        shape.learn(many(hints.MOST_HINTS_OF_A_SHAPE, f"g:{{{{t{part}_{{}}}}}}"))
    assert shape.hints == ("g:{a}", "g:{a}:list")


def test_an_entry_of_a_hundred_megabytes_is_a_miss_before_it_is_looked_at(
    article: Article,
) -> None:
    _, entry = lying(lambda: articles.get(pk=article.pk))
    body = msgspec.msgpack.encode([1, "v", [0] * 1_000_000 * 100])
    data = entries.write(entry.incarnation, entry.generations, body)
    assert len(data) > 100_000_000
    with memory(1000), patch.object(entries, "_decode_entry") as decode:
        assert entries.read(data) is None
    decode.assert_not_called()


def test_a_body_larger_than_is_ever_stored_is_a_miss() -> None:
    largest = config.current_or_default().max_value_bytes
    fits, larger = (msgspec.msgpack.encode(b"x" * (largest - more)) for more in (5, 4))
    assert entries.read(entries.write("x", {"g:{}": 1}, fits)) is not None
    assert entries.read(entries.write("x", {"g:{}": 1}, larger)) is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x93\xa1x\xdf\xff\xff\xff\xff",
        b"\x93\xa1x\x80\xdd\xff\xff\xff\xff",
        b"\x93\xa1x\x80\xc6\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x93\xa1x\x80" + b"\x91" * 100_000,
        b"\x93\xa1x\x80" + b"\x81" * 100_000,
        b"\x91" * 1_000_000,
    ],
    ids=lambda data: data[:9].hex(),
)
def test_heads_that_promise_more_than_comes_cost_nothing(data: bytes) -> None:
    with memory(20_000):
        assert entries.read(data) is None


def test_an_answer_that_depends_on_too_much_is_given_and_not_stored(article: Article) -> None:
    with patch.object(entries, "MAX_TAGS", 1):
        for _ in range(2):
            with outcomes("miss"):
                assert articles.get(pk=article.pk) == article
    assert stored.entries() == {}


@pytest.mark.parametrize("names", [b"\xff\xfe", b"rows:a:b\n" * (MOST_COMBINATIONS + 1), b"\x00"])
def test_a_list_of_combinations_that_is_none_harms_neither_readers_nor_writers(
    author: Author, article: Article, names: bytes
) -> None:
    mine = articles.filter(author=author)
    for _ in range(2):
        assert mine.count() == 1
    resolver = generations.resolver()
    assert resolver is not None
    prefix = f"{config.current_or_default().static_namespace}:"
    table = Article._meta.db_table
    life = stored.counters()[prefix + tags.of_combinations(table)]
    stored.put(prefix + tags.list_of_combinations(table), life + b"\n" + names)
    resolver.catalogue.known.clear()
    Article.objects.create(title="New", slug="new", author=author)
    for _ in range(2):
        assert mine.count() == 2
