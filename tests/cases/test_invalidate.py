"""invalidate() and ainvalidate(): for writes that Django cannot see."""

from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, transaction
from django.test import override_settings

from loom_cache import CachedRepository, LoomCacheError, ainvalidate, invalidate, metrics
from testproject.news.models import Article, Author
from tests.cases.conftest import Ask, outcomes, statements
from tests.library.models import Cafe, Country, Day, Firm, Place, Reader, Seat, Shop
from tests.services.redis import RedisServer

pytestmark = pytest.mark.django_db(transaction=True)

Invalidate = Callable[..., None]


class Articles(CachedRepository[Article]):
    model = Article


class Authors(CachedRepository[Author]):
    model = Author


articles, authors = Articles(), Authors()


@pytest.fixture
def author() -> Author:
    return Author.objects.create(name="Ada")


@pytest.fixture
def article(author: Author) -> Article:
    return Article.objects.create(author=author, slug="one", title="One")


def _waiting(target: Any, *pks: Any) -> None:
    async_to_sync(ainvalidate)(target, *pks)


@pytest.fixture(params=[invalidate, _waiting], ids=["invalidate", "ainvalidate"])
def told(request: pytest.FixtureRequest) -> Invalidate:
    """invalidate(), and ainvalidate() awaited."""
    given: Invalidate = request.param
    return given


def unseen(statement: str, *params: Any) -> None:
    """Run it on the driver's own cursor, of which the cache is not told."""
    with connection.cursor() as cursor:
        cursor.cursor.execute(statement, params)


def rename(article: Article) -> None:
    unseen("UPDATE news_article SET title = 'New' WHERE id = %s", article.pk)


def title(ask: Ask, article: Article) -> str:
    found: str = ask(articles, "get", pk=article.pk).title
    return found


def test_what_django_cannot_see_is_not_noticed(ask: Ask, article: Article) -> None:
    title(ask, article)
    rename(article)
    assert title(ask, article) == "One"


TARGETS: dict[str, Callable[[Article], tuple[Any, ...]]] = {
    "class": lambda article: (Article,),
    "class and key": lambda article: (Article, article.pk),
    "class and keys": lambda article: (Article, 999, article.pk),
    "class and key as text": lambda article: (Article, str(article.pk)),
    "instance": lambda article: (article,),
    "app": lambda article: ("news",),
    "label": lambda article: ("news.Article",),
    "label in lower case": lambda article: ("news.article",),
    "label and key": lambda article: ("news.Article", article.pk),
}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_what_is_named_is_read_anew(
    target: Callable[[Article], tuple[Any, ...]], told: Invalidate, ask: Ask, article: Article
) -> None:
    title(ask, article)
    titles = articles.values_list("title", flat=True)
    ask(titles, "list")
    rename(article)
    told(*target(article))
    assert title(ask, article) == "New"
    assert ask(titles, "list") == ["New"]


def test_a_primary_key_leaves_other_rows_warm(
    told: Invalidate, ask: Ask, author: Author, article: Article
) -> None:
    other = Article.objects.create(author=author, slug="two", title="Two")
    title(ask, other)
    told(Article, article.pk)
    with statements(0):
        title(ask, other)


def test_a_model_leaves_answers_about_others_warm(
    told: Invalidate, ask: Ask, article: Article
) -> None:
    ask(authors, "list")
    told(Article)
    told("library")
    with statements(0):
        ask(authors, "list")


def test_an_answer_over_a_join_is_read_anew(told: Invalidate, ask: Ask, article: Article) -> None:
    joined = articles.select_related("author")
    ask(joined, "get", pk=article.pk)
    unseen("UPDATE news_author SET name = 'Eda'")
    told(Author, article.author_id)
    assert ask(joined, "get", pk=article.pk).author.name == "Eda"


# Rows of every kind. ------------------------------------------------------------------------------


class Places(CachedRepository[Place]):
    model = Place


class Shops(CachedRepository[Shop]):
    model = Shop


class Firms(CachedRepository[Firm]):
    model = Firm


class Seats(CachedRepository[Seat]):
    model = Seat


def test_a_child_s_row_is_its_parent_s_too(told: Invalidate, ask: Ask) -> None:
    shop = Shop.objects.create(name="Loom")
    ask(places := Places(), "get", pk=shop.pk)
    unseen("UPDATE library_place SET name = 'New'")
    told(Shop, shop.pk)
    assert ask(places, "get", pk=shop.pk).name == "New"


def test_a_parent_s_row_is_its_child_s_too(told: Invalidate, ask: Ask) -> None:
    shop = Shop.objects.create(name="Loom")
    ask(shops := Shops(), "get", pk=shop.pk)
    unseen("UPDATE library_place SET name = 'New'")
    told(Place, shop.pk)
    assert ask(shops, "get", pk=shop.pk).name == "New"


def test_a_row_of_two_parents_is_that_of_the_second_whatever_its_key(
    told: Invalidate, ask: Ask
) -> None:
    cafe = Cafe.objects.create(id=7, number=8, name="Weft", owner="Ida")
    ask(firms := Firms(), "get", pk=8)
    unseen("UPDATE library_firm SET owner = 'Uma'")
    told(cafe)
    assert ask(firms, "get", pk=8).owner == "Uma"


ROWS: dict[str, tuple[Any, dict[str, Any], Any, str]] = {
    "uuid": (Reader, {"id": UUID(int=7), "name": "Eve"}, UUID(int=7), "name"),
    "uuid as text": (Reader, {"id": UUID(int=7), "name": "Eve"}, str(UUID(int=7)), "name"),
    "text": (Country, {"code": "SE", "name": "Sweden"}, "SE", "name"),
    "date": (Day, {"date": date(2026, 1, 1), "visitors": 7}, date(2026, 1, 1), "visitors"),
    "date as text": (Day, {"date": date(2026, 1, 1), "visitors": 7}, "2026-01-01", "visitors"),
}


@pytest.mark.parametrize(("model", "values", "pk", "column"), ROWS.values(), ids=ROWS)
def test_a_row_is_named_by_its_key_of_whatever_type(
    model: Any, values: dict[str, Any], pk: Any, column: str, told: Invalidate, ask: Ask
) -> None:
    repository = type("Rows", (CachedRepository,), {"model": model})()
    made = model.objects.create(**values)
    ask(repository, "get", pk=made.pk)
    unseen(f'UPDATE "{model._meta.db_table}" SET {column} = %s', "0")
    told(model, pk)
    found = ask(repository, "get", pk=made.pk)
    assert str(getattr(found, column)) == "0"


def test_a_row_of_two_columns_is_named_by_both(told: Invalidate, ask: Ask) -> None:
    cafe = Cafe.objects.create(id=7, number=8, name="Weft", owner="Ida")
    Seat.objects.create(cafe=cafe, number=1)
    ask(seats := Seats(), "get", pk=(7, 1))
    unseen("UPDATE library_seat SET taken = %s", True)
    told(Seat, (7, 1))
    assert ask(seats, "get", pk=(7, 1)).taken is True


# Transactions. ------------------------------------------------------------------------------------


def bumps(events: list[metrics.Event]) -> list[metrics.Bump]:
    return [event for event in events if isinstance(event, metrics.Bump)]


def test_inside_atomic_it_takes_effect_on_commit(
    told: Invalidate, ask: Ask, article: Article
) -> None:
    title(ask, article)
    with metrics.recording() as events:
        with transaction.atomic():
            rename(article)
            told(article)
            assert bumps(events) == []
        assert len(bumps(events)) == 1
    assert title(ask, article) == "New"


def test_what_is_rolled_back_makes_nothing_unreadable(
    told: Invalidate, ask: Ask, article: Article
) -> None:
    title(ask, article)
    with transaction.atomic():
        told(article)
        transaction.set_rollback(True)
    with statements(0):
        title(ask, article)


def test_a_savepoint_that_is_rolled_back_makes_nothing_unreadable(
    told: Invalidate, ask: Ask, article: Article
) -> None:
    title(ask, article)
    with transaction.atomic():
        with transaction.atomic():
            told(article)
            transaction.set_rollback(True)
        Author.objects.create(name="Ben")
    with statements(0):
        title(ask, article)


def test_it_is_refused_on_an_event_loop(article: Article) -> None:
    async def on_a_loop() -> None:
        invalidate(article)

    with pytest.raises(SynchronousOnlyOperation, match=r"await ainvalidate\(\)"):
        async_to_sync(on_a_loop)()


# What it costs, and what it never does. -----------------------------------------------------------


@pytest.mark.parametrize("store", ["redis"], indirect=True)
@pytest.mark.parametrize("number", [1, 100, 2500])
def test_any_number_of_rows_is_one_round_trip(
    number: int, store: str, told: Invalidate, redis_server: RedisServer
) -> None:
    told(Article, 1)
    with redis_server.counting() as calls:
        told(Article, *range(number))
    assert calls.get("eval") == 1


def test_it_runs_no_statement(told: Invalidate, store: str, article: Article) -> None:
    with statements(0):
        told(article)
        told("news")


def test_what_was_not_cached_may_be_named(told: Invalidate, ask: Ask) -> None:
    told(Article, 999)
    told(Session)
    assert ask(articles, "get_or_none", pk=999) is None


def test_it_works_while_reads_bypass_the_cache(
    told: Invalidate, ask: Ask, article: Article
) -> None:
    title(ask, article)
    rename(article)
    with override_settings(LOOM_CACHE={**settings.LOOM_CACHE, "ENABLED": False}):
        told(article)
    with outcomes("miss"):
        assert title(ask, article) == "New"


def test_it_is_no_error_while_the_settings_are_wrong(told: Invalidate, article: Article) -> None:
    with override_settings(LOOM_CACHE={"TIMEOUTS": 1}):
        told(article)


# Mistakes. ----------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[tuple[Any, ...], str]] = {
    "no such model": (("news.Artcle",), "'news.Artcle'.*Did you mean 'news.Article'"),
    "no such app": (("nwes",), "'nwes'.*Did you mean 'news'"),
    "an app without models": (("staticfiles",), "'staticfiles' has no models"),
    "no model at all": ((42,), "takes a model class, an instance, or a label.*not int"),
    "a class that is no model": ((dict,), "takes a model class, an instance, or a label"),
    "no primary key": ((Article, "x"), "'x' is no primary key of news.Article: id is a BigAuto"),
    "the second is no primary key": ((Article, 7, None), "None is no primary key"),
    "a list of keys": ((Article, [7, 8]), r"\[7, 8\] is no primary key"),
    "no UUID": ((Reader, "x"), "'x' is no primary key of library.Reader: id is a UUIDField"),
    "an app and a key": (("news", 7), "names an app.*primary keys need one model, such as"),
    "an instance and a key": ((Article(pk=7), 7), "an instance of news.Article and primary keys"),
    "an instance that was not saved": ((Article(),), "The news.Article given to .* never saved"),
}


@pytest.mark.parametrize(("given", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_and_nothing_is_bumped(
    given: tuple[Any, ...], message: str, told: Invalidate, store: str
) -> None:
    with metrics.recording() as events, pytest.raises(LoomCacheError, match=message):
        told(*given)
    assert bumps(events) == []
