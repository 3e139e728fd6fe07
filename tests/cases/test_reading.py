"""Reading (cases 1, 2, 6-8, 37, 39): what is answered from the cache, what never is, and that
nothing found in the store can do harm."""

import asyncio
import pickle
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec
import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.exceptions import SynchronousOnlyOperation
from django.db import OperationalError, connection, transaction
from django.db.models import Count, Exists, Max, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.db.models.functions import Now, Random
from django.http import Http404
from django.shortcuts import (
    aget_list_or_404,
    aget_object_or_404,
    get_list_or_404,
    get_object_or_404,
)
from django.test import override_settings
from django.utils import timezone

from loom_cache import CachedRepository, CacheGateway, bypass, drivers, hints, metrics
from loom_cache.codec.shapes import shape_of
from testproject.news.models import Article, Author, Comment, Tag
from tests.cases import stored
from tests.cases.conftest import Ask, outcomes, statements
from tests.fieldapp.same import assert_same
from tests.library.models import Shelf
from tests.thinning import every

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 20.0
"""Seconds after which a test that would hang forever fails."""


class PlainArticles(CachedRepository[Article]):
    model = Article


class PlainAuthors(CachedRepository[Author]):
    model = Author


class PlainShelves(CachedRepository[Shelf]):
    model = Shelf


class Sessions(CachedRepository[Session]):
    model = Session


articles = PlainArticles()
authors = PlainAuthors()
shelves = PlainShelves()


@pytest.fixture(autouse=True)
def process_without_memories() -> None:
    """What questions of a kind depend on is known to nobody yet."""
    hints.forget()


@pytest.fixture
def author() -> Author:
    return Author.objects.create(name="Ada")


@pytest.fixture
def article(author: Author) -> Article:
    return Article.objects.create(author=author, slug="one", title="One")


@pytest.fixture
def another(author: Author) -> Article:
    return Article.objects.create(author=author, slug="two", title="Two")


@contextmanager
def settings_with(**more: Any) -> Iterator[None]:
    """LOOM_CACHE with these keys, too."""
    with override_settings(LOOM_CACHE={**settings.LOOM_CACHE, **more}):
        yield


@contextmanager
def never_stored(reason: str) -> Iterator[None]:
    """Nothing that is read in the block is kept, and each read says why."""
    with metrics.recording() as events:
        yield
    reads = [event for event in events if isinstance(event, metrics.Read)]
    assert reads
    for read in reads:
        assert read.outcome != "hit"
        assert reason in (read.reason or ""), read
    assert stored.entries() == {}


def test_the_second_identical_read_runs_no_sql(ask: Ask, article: Article) -> None:
    with statements(1), outcomes("miss"):
        first = ask(articles, "get", pk=article.pk)
    with statements(0), outcomes("hit"):
        second = ask(articles, "get", pk=article.pk)
    assert first == second == article


# Which questions are one (case 2).


@pytest.mark.parametrize("spelling", ["pk", "pk__exact", "id", "id__exact"])
def test_a_primary_key_is_one_question_however_it_is_spelled(
    ask: Ask, article: Article, spelling: str
) -> None:
    ask(articles.filter(pk=article.pk), "get")
    with statements(0), outcomes("hit", "hit", "hit"):
        assert ask(articles.filter(**{spelling: article.pk}), "get") == article
        assert ask(articles, "get", **{spelling: str(article.pk)}) == article
        assert ask(articles, "get_or_none", **{spelling: article.pk}) == article


def test_in_bulk_finds_the_rows_that_get_has_stored(
    ask: Ask, article: Article, another: Article
) -> None:
    ask(articles, "get", pk=article.pk)
    ask(articles, "get", pk=another.pk)
    with statements(0), outcomes("hit"):
        found = ask(articles, "in_bulk", [article.pk, another.pk])
    assert found == {article.pk: article, another.pk: another}


def test_get_finds_the_rows_that_in_bulk_has_stored(
    ask: Ask, article: Article, another: Article
) -> None:
    ask(articles, "in_bulk", [article.pk, another.pk])
    with statements(0), outcomes("hit", "hit"):
        assert ask(articles, "get", pk=article.pk) == article
        assert ask(articles, "get", pk=another.pk) == another


def test_in_bulk_loads_only_what_is_missing(ask: Ask, article: Article, another: Article) -> None:
    ask(articles, "get", pk=article.pk)
    stored.run_unseen("UPDATE news_article SET title = 'Unseen'")
    with statements(1), outcomes("miss"):
        found = ask(articles, "in_bulk", [article.pk, another.pk])
    assert [row.title for row in found.values()] == ["One", "Unseen"]


def test_in_bulk_does_not_hide_from_get_that_a_join_repeats_the_row(
    ask: Ask, article: Article
) -> None:
    for text in ("a", "b"):
        Comment.objects.create(article=article, text=text)
    query = articles.filter(comments__approved=True)
    assert set(ask(query, "in_bulk", [article.pk])) == {article.pk}
    with pytest.raises(Article.MultipleObjectsReturned):
        ask(query, "get", pk=article.pk)


@pytest.mark.parametrize("terminal", ["list", "count", "exists", "first"])
def test_an_empty_list_of_keys_costs_no_sql(ask: Ask, terminal: str) -> None:
    with statements(0):
        assert not ask(articles.filter(pk__in=[]), terminal)
        assert not ask(articles.filter(pk__in=[]), terminal)


def test_in_bulk_of_nothing_costs_no_sql(ask: Ask) -> None:
    with statements(0):
        assert ask(articles, "in_bulk", []) == {}


@pytest.mark.parametrize("key", [None, "", "x", 1.5, True])
def test_in_bulk_answers_odd_keys_as_django_does(ask: Ask, article: Article, key: Any) -> None:
    try:
        expected: Any = Article.objects.in_bulk([key])
    except ValueError:
        with pytest.raises(ValueError, match="id"):
            ask(articles, "in_bulk", [key])
    else:
        assert ask(articles, "in_bulk", [key]) == expected


# Negative answers (case 7).


def _save(pk: int, author: Author) -> None:
    Article(pk=pk, author=author, slug="new", title="New").save()


def _bulk_create(pk: int, author: Author) -> None:
    Article.objects.bulk_create([Article(pk=pk, author=author, slug="new", title="New")])


def _insert(pk: int, author: Author) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO news_article (id, author_id, slug, title, body, published, created, views)"
            " VALUES (%s, %s, 'new', 'New', '', true, '2026-01-01', 0)",
            [pk, author.pk],
        )


NEW = 987_654
CREATIONS = pytest.mark.parametrize("create", [_save, _bulk_create, _insert])


@CREATIONS
def test_a_row_that_did_not_exist_is_found_once_it_was_created(
    ask: Ask, author: Author, create: Callable[[int, Author], None]
) -> None:
    for sql in (1, 0):
        with statements(sql), pytest.raises(Article.DoesNotExist, match="matching query"):
            ask(articles, "get", pk=NEW)
    create(NEW, author)
    assert ask(articles, "get", pk=NEW).title == "New"


@CREATIONS
def test_a_value_that_nobody_had_is_found_once_somebody_has_it(
    ask: Ask, author: Author, create: Callable[[int, Author], None]
) -> None:
    for sql in (1, 0):
        with statements(sql):
            assert ask(articles, "get_or_none", slug="new") is None
    create(NEW, author)
    assert ask(articles, "get_or_none", slug="new").pk == NEW


@CREATIONS
def test_a_key_that_in_bulk_missed_is_found_once_it_was_created(
    ask: Ask, author: Author, create: Callable[[int, Author], None]
) -> None:
    for sql in (1, 0):
        with statements(sql):
            assert ask(articles, "in_bulk", [NEW]) == {}
    create(NEW, author)
    assert list(ask(articles, "in_bulk", [NEW])) == [NEW]


@pytest.mark.parametrize(
    ("terminal", "before"), [("list", []), ("first", None), ("exists", False), ("count", 0)]
)
def test_an_empty_answer_ends_with_the_first_row(
    ask: Ask, author: Author, terminal: str, before: Any
) -> None:
    query = articles.filter(published=True)
    for sql in (1, 0):
        with statements(sql):
            assert ask(query, terminal) == before
    _save(NEW, author)
    assert ask(query, terminal) != before


def test_several_rows_where_one_was_asked_for_are_an_error_each_time(
    ask: Ask, article: Article, another: Article
) -> None:
    for _ in range(2):
        with pytest.raises(Article.MultipleObjectsReturned):
            ask(articles, "get", author=article.author)
    another.delete()
    assert ask(articles, "get", author=article.author) == article


# Whose rows an answer is made of (cases 20-22).


class Shown(NamedTuple):
    """A question whose answer shows something of another table, and a change of that."""

    name: str
    chain: Callable[[Any], Any]
    change: Callable[[], Any]


def _rename_author() -> None:
    Author.objects.filter(name="Ada").update(name="Ada L.")


def _comment() -> None:
    Comment.objects.create(article=Article.objects.get(slug="one"), text="new")


SHOWN = [
    Shown("select_related", lambda q: q.select_related("author"), _rename_author),
    Shown("filter", lambda q: q.filter(author__name="Ada"), _rename_author),
    Shown("exclude", lambda q: q.exclude(author__name="Ada"), _rename_author),
    Shown("order_by", lambda q: q.order_by("author__name"), _rename_author),
    Shown("values", lambda q: q.values("slug", "author__name"), _rename_author),
    Shown("annotate", lambda q: q.annotate(n=Count("comments")).values("slug", "n"), _comment),
    Shown("prefetch", lambda q: q.prefetch_related("comments"), _comment),
    Shown(
        "prefetch to an attribute",
        lambda q: q.prefetch_related(
            Prefetch("comments", Comment.objects.filter(text="new"), to_attr="new")
        ),
        _comment,
    ),
    Shown(
        "prefetch of a prefetch",
        lambda q: q.prefetch_related("author__articles__tags"),
        lambda: Article.objects.get(slug="two").tags.create(name="loom"),
    ),
    Shown(
        "in a QuerySet",
        lambda q: q.filter(author__in=Author.objects.filter(name="Ada")),
        _rename_author,
    ),
    Shown(
        "in a CachedQuery",
        lambda q: q.filter(author__in=authors.filter(name="Ada")),
        _rename_author,
    ),
    Shown(
        "Subquery",
        lambda q: q.annotate(
            text=Subquery(Comment.objects.filter(article=OuterRef("pk")).values("text")[:1])
        ),
        _comment,
    ),
    Shown(
        "Exists",
        lambda q: q.filter(Exists(Comment.objects.filter(article=OuterRef("pk")))),
        _comment,
    ),
    Shown(
        "union",
        lambda q: (
            q.values_list("title")
            .order_by()
            .union(Author.objects.order_by().values_list("name"))
            .order_by("title")
        ),
        _rename_author,
    ),
]


@pytest.mark.usefixtures("article", "another")
@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: shown.name)
def test_an_answer_that_shows_another_table_changes_with_it(ask: Ask, shown: Shown) -> None:
    query = shown.chain(articles)
    ask(query, "list")
    with statements(0):
        ask(query, "list")
    shown.change()
    assert_same(list(shown.chain(Article.objects)), ask(query, "list"))


@pytest.mark.parametrize("terminal", ["count", "exists", "first"])
def test_what_a_terminal_says_of_another_table_changes_with_it(
    ask: Ask, article: Article, terminal: str
) -> None:
    query = articles.filter(author__name="Ada")
    assert ask(query, terminal)
    _rename_author()
    assert not ask(query, terminal)


def test_an_aggregate_of_another_table_changes_with_it(ask: Ask, article: Article) -> None:
    assert ask(articles, "aggregate", n=Count("comments")) == {"n": 0}
    _comment()
    assert ask(articles, "aggregate", n=Count("comments")) == {"n": 1}


def test_the_latest_by_another_table_changes_with_it(
    ask: Ask, article: Article, another: Article
) -> None:
    another.author = Author.objects.create(name="Ben")
    another.save()
    assert ask(articles, "latest", "author__name") == another
    Author.objects.filter(name="Ben").update(name="A")
    assert ask(articles, "latest", "author__name") == article


@pytest.mark.parametrize(
    "chain",
    [
        lambda q: q.select_related("above"),
        lambda q: q.prefetch_related("above"),
        lambda q: q.values("name", "above__name"),
    ],
    ids=["select_related", "prefetch_related", "values"],
)
def test_a_row_shown_with_another_of_its_own_table_changes_with_that_one(
    ask: Ask, chain: Callable[[Any], Any]
) -> None:
    top = Shelf.objects.create(name="top")
    low = Shelf.objects.create(name="low", above=top)
    query = chain(shelves).filter(pk=low.pk)
    ask(query, "get")
    top.name = "upper"
    top.save()
    assert_same([chain(Shelf.objects).get(pk=low.pk)], [ask(query, "get")])


def test_a_row_that_was_related_to_none_shows_the_one_it_gets(ask: Ask) -> None:
    low = Shelf.objects.create(name="low")
    query = shelves.select_related("above").filter(pk=low.pk)
    assert ask(query, "get").above is None
    Shelf.objects.filter(pk=low.pk).update(above=Shelf.objects.create(name="top"))
    assert ask(query, "get").above.name == "top"


# What is never answered from the cache (case 6).


BY_ITSELF: dict[str, Callable[[Any], Any]] = {
    "order_by ?": lambda q: q.order_by("?"),
    "annotate Now": lambda q: q.annotate(now=Now()),
    "filter by Now": lambda q: q.filter(created__lt=Now()),
    "filter by Now in a Q": lambda q: q.filter(Q(created__lt=Now())),
    "annotate Random": lambda q: q.annotate(number=Random()),
    "a prefetch in random order": lambda q: q.prefetch_related(
        Prefetch("comments", Comment.objects.order_by("?"))
    ),
    "Now in a subquery": lambda q: q.filter(
        author__in=Author.objects.filter(articles__created__lt=Now())
    ),
}


@pytest.mark.usefixtures("article")
@pytest.mark.parametrize("terminal", ["list", "first"])
@pytest.mark.parametrize("chain", BY_ITSELF.values(), ids=BY_ITSELF)
def test_what_changes_by_itself_is_never_stored(
    ask: Ask, chain: Callable[[Any], Any], terminal: str
) -> None:
    with never_stored("() in the query"):
        for _ in range(2):
            assert ask(chain(articles), terminal)


@pytest.mark.usefixtures("article")
@pytest.mark.parametrize("terminal", ["count", "exists"])
def test_a_value_that_changes_by_itself_is_never_stored(ask: Ask, terminal: str) -> None:
    with never_stored("() in the query"):
        for _ in range(2):
            assert ask(articles.filter(created__lt=Now()), terminal)


def test_one_question_with_now_does_not_keep_its_like_out_of_the_cache(
    ask: Ask, article: Article
) -> None:
    ask(articles.filter(created__lt=Now()), "list")
    later = timezone.now()
    ask(articles.filter(created__lt=later), "list")
    with statements(0), outcomes("hit"):
        assert ask(articles.filter(created__lt=later), "list") == [article]


def test_select_for_update_is_djangos_own(store: str, article: Article) -> None:
    for _ in range(2):
        with outcomes(), statements(3), transaction.atomic():  # BEGIN, SELECT, COMMIT
            query = articles.filter(pk=article.pk).select_for_update()
            assert isinstance(query, QuerySet)
            assert list(query) == [article]
    assert stored.entries() == {}


def test_iterator_reads_the_database_each_time(store: str, article: Article) -> None:
    for _ in range(2):
        with outcomes(), statements(1):
            assert list(articles.filter(title="One").iterator(chunk_size=10)) == [article]


def test_aiterator_reads_the_database_each_time(store: str, article: Article) -> None:
    async def rows() -> list[Article]:
        return [row async for row in articles.filter(title="One").aiterator(chunk_size=10)]

    for _ in range(2):
        with outcomes(), statements(1):
            assert async_to_sync(rows)() == [article]


def test_raw_reads_the_database_each_time(store: str, article: Article) -> None:
    for _ in range(2):
        with outcomes(), statements(1):
            assert list(articles.raw("SELECT * FROM news_article")) == [article]


def test_explain_asks_the_database_each_time(ask: Ask) -> None:
    for _ in range(2):
        with outcomes(), statements(1):
            assert isinstance(ask(articles.filter(title="One"), "explain"), str)


def test_an_ignored_table_is_read_each_time(ask: Ask) -> None:
    Session.objects.create(session_key="a", session_data="", expire_date=timezone.now())
    with never_stored("ignored table"):
        for _ in range(2):
            with statements(1):
                assert ask(Sessions(), "get", pk="a").session_key == "a"


def test_an_answer_that_touches_an_ignored_table_is_read_each_time(
    ask: Ask, article: Article
) -> None:
    query = articles.filter(~Exists(Session.objects.filter(session_key=OuterRef("slug"))))
    with never_stored("ignored table"):
        for _ in range(2):
            assert ask(query, "list") == [article]


def test_a_table_ignored_by_the_settings_is_read_each_time(ask: Ask, article: Article) -> None:
    with settings_with(IGNORE=["news.author"]), never_stored("ignored table"):
        for _ in range(2):
            assert ask(articles.filter(author__name="Ada"), "list") == [article]


def test_another_database_than_writes_go_to_is_read_each_time(ask: Ask, article: Article) -> None:
    with override_settings(DATABASE_ROUTERS=[ReadsFromDefault()]), never_stored("replica"):
        for _ in range(2):
            assert ask(articles, "get", pk=article.pk) == article


class ReadsFromDefault:
    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "default"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "other"


def test_while_the_cache_is_disabled_every_read_goes_to_the_database(
    ask: Ask, article: Article
) -> None:
    with settings_with(ENABLED=False), never_stored("disabled"):
        for _ in range(2):
            with statements(1):
                assert ask(articles, "get", pk=article.pk) == article


def test_a_write_while_the_cache_is_disabled_is_seen_when_it_is_enabled_again(
    ask: Ask, article: Article
) -> None:
    ask(articles, "get", pk=article.pk)
    with settings_with(ENABLED=False):
        retitle(article)
    assert ask(articles, "get", pk=article.pk).title == "Changed"


def test_while_the_settings_are_wrong_every_read_goes_to_the_database(
    ask: Ask, article: Article
) -> None:
    with override_settings(LOOM_CACHE={"LOCATIONS": "memory://"}):
        for _ in range(2):
            with statements(1), outcomes("bypass"):
                assert ask(articles, "get", pk=article.pk) == article


def test_more_rows_than_max_rows_are_given_and_not_stored(
    ask: Ask, article: Article, another: Article
) -> None:
    with settings_with(MAX_ROWS=1):
        with never_stored("MAX_ROWS"):
            for _ in range(2):
                assert len(ask(articles, "list")) == 2
        ask(articles[:1], "list")
        assert len(stored.entries()) == 1


def test_more_keys_than_max_rows_are_given_and_not_stored(
    ask: Ask, article: Article, another: Article
) -> None:
    with settings_with(MAX_ROWS=1), never_stored("MAX_ROWS"):
        for _ in range(2):
            assert len(ask(articles, "in_bulk", [article.pk, another.pk])) == 2


def test_an_answer_larger_than_max_value_bytes_is_given_and_not_stored(
    ask: Ask, article: Article
) -> None:
    article.body = "long" * 1000
    article.save()
    with settings_with(MAX_VALUE_BYTES=2000):
        with never_stored("MAX_VALUE_BYTES"):
            for _ in range(2):
                assert ask(articles, "get", pk=article.pk).body == article.body
        ask(articles.defer("body"), "get", pk=article.pk)
        assert len(stored.entries()) == 1


def test_an_argument_without_canonical_form_is_read_each_time(ask: Ask, article: Article) -> None:
    class Odd:
        def resolve_expression(self, *args: Any, **kwargs: Any) -> Any:
            return Now()

    with never_stored(""):
        for _ in range(2):
            assert ask(articles.filter(created__lt=Odd()), "list") == [article]


# fresh() and bypass() (case 39).


def test_fresh_reads_the_database_and_refills_the_cache(ask: Ask, article: Article) -> None:
    ask(articles, "get", pk=article.pk)
    stored.run_unseen("UPDATE news_article SET title = 'Unseen'")
    assert ask(articles, "get", pk=article.pk).title == "One"
    with statements(1):
        assert ask(articles.fresh(), "get", pk=article.pk).title == "Unseen"
    with statements(0), outcomes("hit"):
        assert ask(articles, "get", pk=article.pk).title == "Unseen"


def test_fresh_holds_for_every_row_of_in_bulk(ask: Ask, article: Article) -> None:
    ask(articles, "in_bulk", [article.pk])
    stored.run_unseen("UPDATE news_article SET title = 'Unseen'")
    assert ask(articles.fresh(), "in_bulk", [article.pk])[article.pk].title == "Unseen"
    assert ask(articles, "in_bulk", [article.pk])[article.pk].title == "Unseen"


def test_fresh_holds_for_a_page_and_its_count(ask: Ask, article: Article) -> None:
    ask(articles.all(), "page", 1, size=10)
    stored.run_unseen("DELETE FROM news_article")
    page = ask(articles.fresh(), "page", 1, size=10)
    assert (list(page), page.paginator.count) == ([], 0)


def test_bypass_reads_the_database_and_stores_nothing(ask: Ask, article: Article) -> None:
    with bypass(), never_stored("bypass()"):
        for _ in range(2):
            with statements(1):
                assert ask(articles, "get", pk=article.pk) == article


def test_bypass_does_not_look_up(ask: Ask, article: Article) -> None:
    ask(articles, "get", pk=article.pk)
    stored.run_unseen("UPDATE news_article SET title = 'Unseen'")
    with bypass():
        assert ask(articles, "get", pk=article.pk).title == "Unseen"


def test_async_with_bypass_reads_the_database(store: str, article: Article) -> None:
    async def read() -> None:
        await articles.aget(pk=article.pk)
        async with bypass():
            await articles.aget(pk=article.pk)
        await articles.aget(pk=article.pk)

    with outcomes("miss", "bypass", "hit"):
        async_to_sync(read)()


def test_bypass_decorates_a_function(store: str, article: Article) -> None:
    @bypass()
    def read(pk: int) -> Article:
        """Reads."""
        return articles.get(pk=pk)

    with outcomes("miss", "bypass", "bypass", "hit"):
        articles.get(pk=article.pk)
        assert read(article.pk) == read(pk=article.pk) == article
        articles.get(pk=article.pk)
    assert (read.__name__, read.__doc__) == ("read", "Reads.")


def test_bypass_decorates_a_coroutine_function(store: str, article: Article) -> None:
    @bypass()
    async def read(pk: int) -> Article:
        return await articles.aget(pk=pk)

    async def both() -> None:
        await articles.aget(pk=article.pk)
        await asyncio.gather(read(article.pk), read(article.pk))
        await articles.aget(pk=article.pk)

    assert asyncio.iscoroutinefunction(read)
    with outcomes("miss", "bypass", "bypass", "hit"):
        async_to_sync(both)()


def test_bypass_ends_with_an_exception(ask: Ask, article: Article) -> None:
    ask(articles, "get", pk=article.pk)
    with pytest.raises(Article.DoesNotExist), bypass():
        ask(articles, "get", pk=NEW)
    with outcomes("hit"):
        ask(articles, "get", pk=article.pk)


def test_bypass_within_bypass_ends_alone(ask: Ask, article: Article) -> None:
    block = bypass()
    with outcomes("bypass", "bypass", "miss"):
        with block:
            with block:
                ask(articles, "get", pk=article.pk)
            ask(articles, "get", pk=article.pk)
        ask(articles, "get", pk=article.pk)


def test_bypass_holds_in_its_own_task_alone(store: str, article: Article) -> None:
    async def bypassing(entered: asyncio.Event, read: asyncio.Event) -> None:
        with bypass():
            entered.set()
            await read.wait()

    async def main() -> None:
        entered, read = asyncio.Event(), asyncio.Event()
        await articles.aget(pk=article.pk)
        task = asyncio.create_task(bypassing(entered, read))
        await entered.wait()
        await articles.aget(pk=article.pk)
        read.set()
        await task

    with outcomes("miss", "hit"):
        async_to_sync(main)()


def test_bypass_holds_in_its_own_thread_alone(store: str, article: Article) -> None:
    articles.get(pk=article.pk)
    found: list[str] = []

    def read() -> None:
        with metrics.recording() as events:
            articles.get(pk=article.pk)
        found.extend(event.outcome for event in events if isinstance(event, metrics.Read))

    with bypass():
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert found == ["hit"]


# Django's own errors, at the terminal at the latest.


class Wrong(NamedTuple):
    """A question that Django refuses."""

    name: str
    chain: Callable[[Any], Any]
    terminal: str = "list"
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}


WRONG = [
    Wrong("filter by no field", lambda q: q.filter(nothing=1)),
    Wrong("filter by no lookup", lambda q: q.filter(title__nothing=1)),
    Wrong("filter by a wrong value", lambda q: q.filter(pk="x")),
    Wrong("filter by an unsaved instance", lambda q: q.filter(author=Author())),
    Wrong("filter by a wrong instance", lambda q: q.filter(author=Tag(pk=1))),
    Wrong("filter after a slice", lambda q: q.all()[:2].filter(pk=1)),
    Wrong("order_by no field", lambda q: q.order_by("nothing")),
    Wrong("values of no field", lambda q: q.values("nothing")),
    Wrong("values_list of two, flat", lambda q: q.values_list("pk", "title", flat=True)),
    Wrong("values_list flat and named", lambda q: q.values_list("pk", flat=True, named=True)),
    Wrong("annotate over a field", lambda q: q.annotate(title=Count("tags"))),
    Wrong("select_related of no relation", lambda q: q.select_related("title")),
    Wrong("prefetch_related of no relation", lambda q: q.prefetch_related("nothing")),
    Wrong("only of no field", lambda q: q.only("nothing")),
    Wrong("dates of no date", lambda q: q.dates("title", "year")),
    Wrong("dates of no kind", lambda q: q.dates("created", "century")),
    Wrong("reverse after a slice", lambda q: q.all()[:2].reverse()),
    Wrong("filter after a union", lambda q: q.union(Article.objects.all()).filter(pk=1)),
    Wrong("get with a wrong name", lambda q: q, "get", (), {"nothing": 1}),
    Wrong("get of a slice", lambda q: q.all()[:2], "get", (), {"pk": 1}),
    Wrong("first after a slice with a step", lambda q: q.all()[::2], "first"),
    Wrong("last of a slice", lambda q: q.all()[:2], "last"),
    Wrong("latest by nothing", lambda q: q, "latest"),
    Wrong("latest of none", lambda q: q.filter(title=""), "latest", ("created",)),
    Wrong("latest by no field", lambda q: q, "latest", ("nothing",)),
    Wrong("earliest of a slice", lambda q: q.all()[:2], "earliest", ("pk",)),
    Wrong(
        "in_bulk by a field that repeats", lambda q: q, "in_bulk", ([1],), {"field_name": "title"}
    ),
    Wrong("in_bulk of a slice", lambda q: q.all()[:2], "in_bulk", ([1],)),
    Wrong("contains an unsaved row", lambda q: q, "contains", (Article(),)),
    Wrong("contains a number", lambda q: q, "contains", (1,)),
    Wrong("contains of values", lambda q: q.values("pk"), "contains", (Article(pk=1),)),
    Wrong("aggregate of a number", lambda q: q, "aggregate", (), {"n": 1}),
    Wrong("aggregate without a name", lambda q: q, "aggregate", (Max("views") + 1,)),
    Wrong("aggregate of no field", lambda q: q, "aggregate", (Max("nothing"),)),
]


@pytest.mark.usefixtures("article")
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_what_django_refuses_is_refused_with_its_error_each_time(ask: Ask, wrong: Wrong) -> None:
    def put_to_django() -> Any:
        query = wrong.chain(Article.objects)
        if wrong.terminal == "list":
            return list(query)
        return getattr(query, wrong.terminal)(*wrong.args, **wrong.kwargs)

    with pytest.raises(Exception) as expected:  # noqa: PT011  Django says which
        put_to_django()
    for _ in range(2):
        with pytest.raises(expected.type) as found:
            ask(wrong.chain(articles), wrong.terminal, *wrong.args, **wrong.kwargs)
        assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("at", [-1, slice(-2, None), slice(None, -1)])
def test_a_negative_index_is_refused_as_in_django(store: str, at: Any) -> None:
    with pytest.raises(ValueError, match="Negative indexing"):
        Article.objects.all()[at]
    with pytest.raises(ValueError, match="Negative indexing"):
        articles.all()[at]


SYNCHRONOUS: dict[str, Callable[[Any], Any]] = {
    "get": lambda q: q.get(pk=1),
    "get_or_none": lambda q: q.get_or_none(pk=1),
    "first": lambda q: q.first(),
    "last": lambda q: q.last(),
    "latest": lambda q: q.latest("pk"),
    "earliest": lambda q: q.earliest("pk"),
    "in_bulk": lambda q: q.in_bulk([1]),
    "count": lambda q: q.count(),
    "exists": lambda q: q.exists(),
    "contains": lambda q: q.contains(Article(pk=1)),
    "aggregate": lambda q: q.aggregate(Max("views")),
    "page": lambda q: q.page(1, size=2),
    "list": list,
    "bool": bool,
    "index": lambda q: q[0],
    "in": lambda q: Article(pk=1) in q,
}


@pytest.mark.parametrize("terminal", SYNCHRONOUS)
def test_a_synchronous_terminal_is_refused_in_a_running_loop(store: str, terminal: str) -> None:
    async def read() -> None:
        with pytest.raises(SynchronousOnlyOperation, match="await"):
            SYNCHRONOUS[terminal](articles.filter(title="One"))

    async_to_sync(read)()


# Django's shortcuts, of which django-stubs say that they take managers and QuerySets alone.

of_articles: Any = articles


def test_get_object_or_404_takes_a_repository(store: str, article: Article) -> None:
    with outcomes("miss", "hit"):
        assert get_object_or_404(of_articles, slug="one") == article
        assert get_object_or_404(of_articles, slug="one") == article
    with pytest.raises(Http404, match="No Article matches"):
        get_object_or_404(of_articles, slug="nobody's")


def test_get_object_or_404_takes_a_query(store: str, article: Article) -> None:
    assert get_object_or_404(of_articles.filter(title="One"), slug="one") == article
    with pytest.raises(Http404, match="No Article matches"):
        get_object_or_404(of_articles.filter(title="Two"), slug="one")


def test_aget_object_or_404_takes_a_repository(store: str, article: Article) -> None:
    read = async_to_sync(aget_object_or_404)
    with outcomes("miss", "hit"):
        assert read(of_articles, slug="one") == article
        assert read(of_articles, slug="one") == article
    with pytest.raises(Http404, match="No Article matches"):
        read(of_articles, slug="nobody's")


def test_the_shortcuts_for_lists_take_a_repository(store: str, article: Article) -> None:
    with outcomes("miss", "hit"):
        assert get_list_or_404(of_articles, title="One") == [article]
        assert async_to_sync(aget_list_or_404)(of_articles, title="One") == [article]
    with pytest.raises(Http404):
        get_list_or_404(of_articles, title="Two")


# One load for all who ask at once (case 8).


@contextmanager
def held_until(*, waiting: int, error: Exception | None = None) -> Iterator[asyncio.Event]:
    """Loads stop before their statement until so many readers wait for another's load, and may
    then fail. The event that is given is set at that moment, in the readers' loop."""
    all_wait, number, event = threading.Event(), 0, asyncio.Event()

    async def landing(flight: Any) -> None:
        nonlocal number
        number += 1
        if number == waiting:
            all_wait.set()
            event.set()
        await original(flight)

    def hold(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        assert all_wait.wait(PATIENCE), "Nobody waits."
        if error is not None:
            raise error
        return execute(sql, params, many, context)

    original: Callable[[Any], Awaitable[None]] = drivers._landing
    with patch.object(drivers, "_landing", landing), connection.execute_wrapper(hold):
        yield event


def test_concurrent_misses_load_once(store: str, article: Article) -> None:
    async def main() -> list[Article]:
        return await asyncio.gather(*(articles.aget(pk=article.pk) for _ in range(10)))

    with outcomes(*["miss"] * 10), statements(1), held_until(waiting=9):
        found = async_to_sync(main)()
    assert found == [article] * 10
    assert len({id(each) for each in found}) == 10


def test_a_failing_load_reaches_everybody_who_waits_and_is_not_kept(
    store: str, article: Article
) -> None:
    async def main() -> list[Any]:
        reads = (articles.aget(pk=article.pk) for _ in range(5))
        return await asyncio.gather(*reads, return_exceptions=True)

    with held_until(waiting=4, error=OperationalError("gone")):
        assert [type(each) for each in async_to_sync(main)()] == [OperationalError] * 5
    assert articles.get(pk=article.pk) == article


def test_a_first_caller_who_is_cancelled_does_not_cancel_the_rest(
    store: str, article: Article
) -> None:
    async def main(all_wait: asyncio.Event) -> list[Any]:
        tasks = [asyncio.create_task(articles.aget(pk=article.pk)) for _ in range(5)]
        await all_wait.wait()
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    with held_until(waiting=4) as all_wait:
        first, *rest = async_to_sync(main)(all_wait)
    assert isinstance(first, asyncio.CancelledError)
    assert rest == [article] * 4


def test_a_waiting_caller_who_is_cancelled_does_not_cancel_the_rest(
    store: str, article: Article
) -> None:
    async def main(all_wait: asyncio.Event) -> list[Any]:
        tasks = [asyncio.create_task(articles.aget(pk=article.pk)) for _ in range(5)]
        await all_wait.wait()
        tasks[2].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    with statements(1), held_until(waiting=4) as all_wait:
        found = async_to_sync(main)(all_wait)
    assert isinstance(found.pop(2), asyncio.CancelledError)
    assert found == [article] * 4


# Whatever is found in the store (case 37).


@pytest.fixture
def key(ask: Ask, article: Article) -> str:
    """Where the answer to `get(pk=)` lies, which is in the cache now."""
    ask(articles, "get", pk=article.pk)
    (found,) = stored.entries()
    with outcomes("hit"):
        ask(articles, "get", pk=article.pk)
    return found


def test_a_truncated_entry_is_a_miss(ask: Ask, article: Article, key: str) -> None:
    whole = stored.entries()[key]
    for length in range(0, len(whole), every(5)):
        stored.put(key, whole[:length])
        with outcomes("miss"):
            assert ask(articles, "get", pk=article.pk) == article


def test_an_entry_with_a_wrong_byte_is_never_an_error(ask: Ask, article: Article, key: str) -> None:
    whole = stored.entries()[key]
    for at in range(0, len(whole), every(7)):
        for byte in (0x00, 0xC1, 0xFF, whole[at] ^ 0x01):
            stored.put(key, whole[:at] + bytes([byte]) + whole[at + 1 :])
            assert isinstance(ask(articles, "get", pk=article.pk), Article)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\xc0",
        msgspec.msgpack.encode({"a": 1}),
        msgspec.msgpack.encode(["", {}, None]),
        pickle.dumps({"a": 1}),
        b"\x93" * 2000,
    ],
)
def test_foreign_bytes_are_a_miss(ask: Ask, article: Article, key: str, data: bytes) -> None:
    stored.put(key, data)
    with outcomes("miss", "hit"):
        assert ask(articles, "get", pk=article.pk) == article
        assert ask(articles, "get", pk=article.pk) == article


@pytest.mark.parametrize(
    "other",
    [
        lambda ask, pk: ask(articles.filter(pk=pk), "count"),
        lambda ask, pk: ask(articles.filter(pk=pk), "exists"),
        lambda ask, pk: ask(articles.filter(pk=pk), "aggregate", n=Max("views")),
        lambda ask, pk: ask(articles.filter(pk=pk).values("title"), "get"),
        lambda ask, pk: ask(articles, "in_bulk", ["one"], field_name="slug"),
        lambda ask, pk: ask(articles.all(), "list"),
        lambda ask, pk: ask(authors.all(), "list"),
    ],
)
def test_the_entry_of_another_kind_of_question_is_never_an_error(
    ask: Ask, article: Article, key: str, other: Callable[..., Any]
) -> None:
    other(ask, article.pk)
    found = stored.entries()
    for data in found.values():
        for place in found:
            stored.put(place, data)
            ask(articles, "get", pk=article.pk)
            other(ask, article.pk)


def test_the_entry_of_another_row_is_a_miss(
    ask: Ask, article: Article, another: Article, key: str
) -> None:
    ask(articles, "get", pk=another.pk)
    (others,) = stored.entries().keys() - {key}
    stored.put(key, stored.entries()[others])
    with outcomes("miss"):
        assert ask(articles, "get", pk=article.pk) == article


def test_an_entry_made_with_other_fields_is_a_miss(ask: Ask, article: Article, key: str) -> None:
    data = stored.entries()[key]
    fields = shape_of(Article).fingerprint
    assert fields in data
    stored.put(key, data.replace(fields, b"otherone"))
    with outcomes("miss"):
        assert ask(articles, "get", pk=article.pk) == article


def test_an_entry_of_another_layout_is_a_miss(ask: Ask, article: Article, key: str) -> None:
    incarnation, generations, body, _ = msgspec.msgpack.decode(stored.entries()[key])
    stored.put(key, msgspec.msgpack.encode([incarnation, generations, [body[0] + 1, *body[1:]]]))
    with outcomes("miss"):
        assert ask(articles, "get", pk=article.pk) == article


def test_an_entry_of_another_life_of_the_server_is_a_miss(
    ask: Ask, article: Article, key: str
) -> None:
    _, generations, body, _ = msgspec.msgpack.decode(stored.entries()[key])
    stored.put(key, msgspec.msgpack.encode(["another", generations, body]))
    with outcomes("miss"):
        assert ask(articles, "get", pk=article.pk) == article


def test_an_entry_that_names_less_than_the_answer_depends_on_is_a_miss(
    ask: Ask, article: Article, key: str
) -> None:
    incarnation, generations, body, _ = msgspec.msgpack.decode(stored.entries()[key])
    for tag in generations:
        fewer = {other: value for other, value in generations.items() if other != tag}
        stored.put(key, msgspec.msgpack.encode([incarnation, fewer, body]))
        with outcomes("miss"):
            assert ask(articles, "get", pk=article.pk) == article


@pytest.mark.parametrize("data", [b"\xa1\xff", b"\xc1", b"\x93" * 2000, b""])
def test_a_value_that_the_gateway_cannot_read_is_a_miss(store: str, data: bytes) -> None:
    gateway = CacheGateway()
    stored.put(gateway.full_key("odd"), data)
    assert gateway.get_value_sync("odd") is None
    assert async_to_sync(gateway.get_value)("odd") is None


def retitle(article: Article) -> None:
    Article.objects.filter(pk=article.pk).update(title="Changed")


def test_each_lost_counter_is_a_miss(ask: Ask, article: Article, key: str) -> None:
    _, generations, *_ = msgspec.msgpack.decode(stored.entries()[key])
    for tag in generations:
        (counter,) = (each for each in stored.counters() if each.endswith(f":{tag}"))
        stored.remove(counter)
        with outcomes("miss", "hit"):
            ask(articles, "get", pk=article.pk)
            ask(articles, "get", pk=article.pk)


def test_a_write_that_found_no_counters_is_seen(ask: Ask, article: Article, key: str) -> None:
    stored.remove(*stored.counters())
    retitle(article)
    assert ask(articles, "get", pk=article.pk).title == "Changed"


def test_a_counter_that_is_no_number_is_a_miss_until_it_is_one_again(
    ask: Ask, article: Article, key: str
) -> None:
    for counter in stored.counters():
        stored.put(counter, b"garbage")
    with outcomes("miss", "hit"):
        ask(articles, "get", pk=article.pk)
        ask(articles, "get", pk=article.pk)
    retitle(article)
    assert ask(articles, "get", pk=article.pk).title == "Changed"


def test_an_entry_put_back_after_a_write_is_not_served(
    ask: Ask, article: Article, key: str
) -> None:
    old = stored.entries()[key]
    retitle(article)
    stored.put(key, old)
    assert ask(articles, "get", pk=article.pk).title == "Changed"


def test_an_entry_put_back_after_every_counter_was_lost_is_not_served(
    ask: Ask, article: Article, key: str
) -> None:
    old = stored.entries()[key]
    stored.remove(*stored.counters())
    retitle(article)
    stored.put(key, old)
    for _ in range(2):
        assert ask(articles, "get", pk=article.pk).title == "Changed"
