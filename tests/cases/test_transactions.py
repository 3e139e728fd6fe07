"""Transactions (cases 27-33): others see a write from its commit on and not before, the writer sees
its own at once, and what was rolled back leaves nothing."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import (
    DatabaseError,
    IntegrityError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.models.signals import post_save
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from loom_cache import CachedRepository, cached_query, invalidate, metrics
from testproject.news.models import Article, Author, Comment, Tag
from tests.cases.conftest import Ask, outcomes
from tests.cases.interleaving import (
    Elsewhere,
    Gate,
    committed_but_not_bumped,
    elsewhere,
    stopped_after,
    write_that_lost_its_connection,
    yonder,
)
from tests.library.models import Country, Letter

__all__ = ["elsewhere", "yonder"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_ways]


class PlainArticles(CachedRepository[Article]):
    model = Article

    @cached_query
    async def arenamed(self) -> int:
        return await Article.objects.filter(title="New").acount()


class PlainAuthors(CachedRepository[Author]):
    model = Author


class Countries(CachedRepository[Country]):
    model = Country


class Letters(CachedRepository[Letter]):
    model = Letter


articles = PlainArticles()
authors = PlainAuthors()
countries = Countries()
letters = Letters()


@pytest.fixture
def author() -> Author:
    return Author.objects.create(name="Ada")


@pytest.fixture
def article(author: Author) -> Article:
    return Article.objects.create(author=author, slug="one", title="Old")


@pytest.fixture
def another(author: Author) -> Article:
    return Article.objects.create(author=author, slug="two", title="Old")


@pytest.fixture
def postgresql() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has nothing of the kind")


@pytest.fixture
def sqlite() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("this is how SQLite commits")


def retitle(article: Article, title: str = "New") -> None:
    """As any code elsewhere would: with an instance of its own."""
    Article.objects.get(pk=article.pk)  # the connection is open
    Article(pk=article.pk, author_id=article.author_id, slug=article.slug, title=title).save(
        force_update=True
    )


def title_of(ask: Ask, article: Article) -> str:
    title: str = ask(articles, "get", pk=article.pk).title
    return title


def execute(sql: str, *params: int | str, using: str = "default") -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, params)


def kept(ask: Ask, article: Article) -> None:
    """A second read of the article is a hit: it is in the cache."""
    title_of(ask, article)
    with outcomes("hit"):
        title_of(ask, article)


@contextmanager
def publishing_nothing() -> Iterator[None]:
    with metrics.recording() as events:
        yield
    assert [event for event in events if isinstance(event, metrics.Bump)] == []


class Abandoned(Exception):
    """Ends a block by rolling it back."""


@contextmanager
def abandoned(*, savepoint: bool = True) -> Iterator[None]:
    """An atomic block that does not come to its end."""
    with suppress(Abandoned), transaction.atomic(savepoint=savepoint):
        yield
        raise Abandoned


# Others (27). -----------------------------------------------------------------------------------


def test_others_read_the_old_row_until_the_commit_and_the_new_one_after(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    elsewhere.do(lambda: kept(ask, article))
    with transaction.atomic():
        retitle(article)
        assert elsewhere.do(lambda: title_of(ask, article)) == "Old"
        elsewhere.do(lambda: kept(ask, article))
    assert elsewhere.do(lambda: title_of(ask, article)) == "New"


def test_others_list_the_old_rows_until_the_commit_and_the_new_ones_after(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    def slugs() -> list[str]:
        return [each.slug for each in ask(articles.order_by("slug"), "list")]

    assert elsewhere.do(slugs) == ["one"]
    with transaction.atomic():
        Article.objects.create(author_id=article.author_id, slug="two", title="Two")
        assert elsewhere.do(slugs) == ["one"]
        assert elsewhere.do(slugs) == ["one"]
    assert elsewhere.do(slugs) == ["one", "two"]


def test_others_count_the_old_rows_until_a_delete_is_committed(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    def number() -> int:
        count: int = ask(articles.filter(published=True), "count")
        return count

    assert elsewhere.do(number) == 1
    with transaction.atomic():
        article.delete()
        assert elsewhere.do(number) == 1
        assert elsewhere.do(number) == 1
    assert elsewhere.do(number) == 0


def test_a_reader_between_the_commit_and_its_bump_leaves_nothing_old_behind(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    kept(ask, article)
    with committed_but_not_bumped(elsewhere, lambda: retitle(article)):
        title_of(ask, article)  # either is right: the write has not been acknowledged
        ask(articles.filter(slug="one"), "list")
    assert title_of(ask, article) == "New"
    assert [each.title for each in ask(articles.filter(slug="one"), "list")] == ["New"]


# Rollback (28). ---------------------------------------------------------------------------------


def test_a_rollback_publishes_nothing(ask: Ask, article: Article) -> None:
    kept(ask, article)
    with publishing_nothing(), abandoned():
        retitle(article)
    with outcomes("hit"):
        assert title_of(ask, article) == "Old"


def test_a_rolled_back_savepoint_publishes_nothing_and_the_rest_of_its_transaction_all(
    ask: Ask, article: Article, another: Article
) -> None:
    kept(ask, article)
    kept(ask, another)
    with transaction.atomic():
        retitle(article)
        with abandoned():
            retitle(another)
    with outcomes("miss"):
        assert title_of(ask, article) == "New"
    with outcomes("hit"):
        assert title_of(ask, another) == "Old"


def test_a_savepoint_kept_inside_one_that_is_rolled_back_publishes_nothing(
    ask: Ask, article: Article, another: Article
) -> None:
    kept(ask, article)
    with transaction.atomic():
        retitle(another)
        with abandoned(), transaction.atomic():
            retitle(article)
    with outcomes("hit"):
        assert title_of(ask, article) == "Old"


def test_a_savepoint_that_is_kept_publishes_beside_one_inside_it_that_is_not(
    ask: Ask, article: Article, another: Article
) -> None:
    kept(ask, article)
    kept(ask, another)
    with transaction.atomic(), transaction.atomic():
        retitle(article)
        with abandoned():
            retitle(another)
    assert title_of(ask, article) == "New"
    with outcomes("hit"):
        assert title_of(ask, another) == "Old"


def test_a_savepoint_made_by_hand_publishes_nothing_once_it_is_rolled_back(
    ask: Ask, article: Article, another: Article
) -> None:
    kept(ask, article)
    kept(ask, another)
    with transaction.atomic():
        savepoint = transaction.savepoint()
        retitle(another)
        transaction.savepoint_rollback(savepoint)
        retitle(article)
        transaction.savepoint_commit(savepoint)
    assert title_of(ask, article) == "New"
    with outcomes("hit"):
        assert title_of(ask, another) == "Old"


def test_a_failed_block_without_a_savepoint_rolls_all_back_and_publishes_nothing(
    ask: Ask, article: Article, another: Article
) -> None:
    kept(ask, article)
    kept(ask, another)
    with publishing_nothing(), transaction.atomic():
        retitle(article)
        with abandoned(savepoint=False):
            retitle(another)
    with outcomes("hit", "hit"):
        assert title_of(ask, article) == title_of(ask, another) == "Old"


def test_a_block_without_a_savepoint_that_succeeds_publishes_at_the_commit(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    kept(ask, article)
    with transaction.atomic():
        with transaction.atomic(savepoint=False):
            retitle(article)
        assert elsewhere.do(lambda: title_of(ask, article)) == "Old"
    assert title_of(ask, article) == "New"


def test_after_a_rollback_the_next_write_is_published_at_once(ask: Ask, article: Article) -> None:
    kept(ask, article)
    with abandoned():
        retitle(article)
    retitle(article, "Newer")
    assert title_of(ask, article) == "Newer"


def test_after_a_rollback_what_was_rolled_back_is_not_published_by_the_next_commit(
    ask: Ask, article: Article, another: Article
) -> None:
    with abandoned():
        retitle(article)
    kept(ask, article)
    with transaction.atomic():
        retitle(another)
    with outcomes("hit"):
        title_of(ask, article)


def test_after_a_rollback_reads_use_the_cache_again(ask: Ask, article: Article) -> None:
    with abandoned():
        retitle(article)
        with outcomes("bypass"):
            title_of(ask, article)
    with outcomes("miss", "hit"):
        title_of(ask, article)
        title_of(ask, article)


def test_invalidate_inside_a_transaction_takes_effect_at_its_commit(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    kept(ask, article)
    with transaction.atomic():
        invalidate(article)
        assert elsewhere.do(lambda: _outcome(ask, article)) == "hit"
    assert elsewhere.do(lambda: _outcome(ask, article)) == "miss"


def test_invalidate_inside_a_transaction_that_is_rolled_back_has_no_effect(
    ask: Ask, article: Article
) -> None:
    kept(ask, article)
    with abandoned():
        invalidate(article)
    with outcomes("hit"):
        title_of(ask, article)


def _outcome(ask: Ask, article: Article) -> str:
    with metrics.recording() as events:
        title_of(ask, article)
    (event,) = events
    assert isinstance(event, metrics.Read)
    return event.outcome


# Reading inside a transaction (29). -------------------------------------------------------------

ENDS_CACHING: dict[str, Callable[[], object]] = {
    "UPDATE": lambda: Author.objects.update(name="Bob"),
    "INSERT": lambda: Tag.objects.create(name="loom"),
    "FOR UPDATE": lambda: list(Author.objects.select_for_update()),
    "FOR NO KEY UPDATE": lambda: list(Author.objects.select_for_update(no_key=True)),
    "FOR SHARE": lambda: execute("SELECT * FROM news_author FOR SHARE"),
    "LOCK": lambda: execute("LOCK TABLE news_tag IN SHARE MODE"),
    "advisory lock": lambda: execute("SELECT pg_advisory_xact_lock(1)"),
    "SET": lambda: execute("SET LOCAL statement_timeout = '1min'"),
    "set_config": lambda: execute("SELECT set_config('statement_timeout', '1min', true)"),
}


@pytest.mark.usefixtures("postgresql")
def test_in_a_transaction_that_has_only_read_reads_may_hit(ask: Ask, article: Article) -> None:
    kept(ask, article)
    with transaction.atomic():
        articles.get(pk=article.pk)  # synchronous code may ask the database for its isolation
        Author.objects.count()
        with outcomes("hit"):
            title_of(ask, article)


@pytest.mark.usefixtures("postgresql")
def test_what_a_transaction_reads_before_its_first_write_is_kept(
    ask: Ask, article: Article
) -> None:
    with transaction.atomic():
        authors.count()
        kept(ask, article)
    with outcomes("hit"):
        title_of(ask, article)


@pytest.mark.usefixtures("postgresql")
@pytest.mark.parametrize("statement", ENDS_CACHING)
def test_after_its_first_write_lock_or_set_a_transaction_reads_past_the_cache(
    ask: Ask, article: Article, statement: str
) -> None:
    kept(ask, article)
    with transaction.atomic():
        articles.get(pk=article.pk)
        ENDS_CACHING[statement]()
        with outcomes("bypass"):
            title_of(ask, article)
    with outcomes("hit"):
        title_of(ask, article)


@pytest.mark.usefixtures("postgresql")
def test_a_transaction_that_was_given_another_isolation_reads_past_the_cache(
    ask: Ask, article: Article
) -> None:
    kept(ask, article)
    with transaction.atomic():
        execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with outcomes("bypass"):
            title_of(ask, article)


@pytest.mark.usefixtures("sqlite")
def test_on_sqlite_a_transaction_always_reads_past_the_cache(ask: Ask, article: Article) -> None:
    kept(ask, article)
    with transaction.atomic(), outcomes("bypass", "bypass"):
        title_of(ask, article)
        title_of(ask, article)


@pytest.fixture(params=["the database", "the connection's options"])
def repeatable_reads(
    request: pytest.FixtureRequest, postgresql: None, elsewhere: Elsewhere
) -> Iterator[None]:
    """The other thread's transactions are REPEATABLE READ."""
    name = connection.ops.quote_name(str(connection.settings_dict["NAME"]))
    if request.param == "the database":  # which Django's settings do not tell
        execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    else:
        elsewhere.do(_ask_for_repeatable_reads)
    yield
    execute(f"ALTER DATABASE {name} RESET default_transaction_isolation")


def _ask_for_repeatable_reads() -> None:
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    connections["default"].close()
    asking = connections["default"].copy()
    asking.settings_dict["OPTIONS"] = {"isolation_level": IsolationLevel.REPEATABLE_READ}
    connections["default"] = asking


@pytest.mark.usefixtures("repeatable_reads")
def test_a_transaction_that_keeps_one_snapshot_always_reads_past_the_cache(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    kept(ask, article)

    def read_twice() -> None:
        with transaction.atomic(), outcomes("bypass", "bypass", "bypass"):
            articles.get(pk=article.pk)
            title_of(ask, article)
            title_of(ask, article)

    elsewhere.do(read_twice)


@pytest.mark.usefixtures("repeatable_reads")
def test_what_a_transaction_reads_from_its_old_snapshot_is_not_kept(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    def look_back() -> str:
        with transaction.atomic():
            Author.objects.count()  # takes the snapshot
            gate.stop_here()
            return title_of(ask, article)

    with Gate() as gate:
        seen = elsewhere.begin(look_back)
        gate.wait_until_reached()
        retitle(article)
        gate.open()
        assert seen.result() == "Old"
    assert title_of(ask, article) == "New"


@pytest.mark.usefixtures("repeatable_reads")
def test_outside_transactions_the_isolation_does_not_matter(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    elsewhere.do(lambda: kept(ask, article))


@pytest.mark.usefixtures("postgresql")
def test_what_a_raw_transaction_reads_from_its_old_snapshot_is_not_kept(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    def look_back() -> str:
        with transaction.atomic():
            articles.get(pk=article.pk)  # this connection is known for READ COMMITTED
        execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        Author.objects.count()  # takes the snapshot
        gate.stop_here()
        try:
            return title_of(ask, article)
        finally:
            execute("ROLLBACK")

    with Gate() as gate:
        seen = elsewhere.begin(look_back)
        gate.wait_until_reached()
        retitle(article)
        gate.open()
        assert seen.result() == "Old"
    assert title_of(ask, article) == "New"


@pytest.mark.usefixtures("postgresql")
@pytest.mark.parametrize("terminal", ["count", "renamed"])
def test_what_is_read_in_a_transaction_that_another_task_left_open_is_not_kept(
    store: str, article: Article, elsewhere: Elsewhere, terminal: str
) -> None:
    """Tasks share the thread of synchronous code, and with it the connection."""
    renamed: Any = articles if terminal == "renamed" else articles.filter(title="New")

    def take_snapshot() -> None:
        execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        Author.objects.count()

    async def read_after_somebody_began() -> None:
        await asyncio.create_task(sync_to_async(take_snapshot)())
        elsewhere.do(lambda: retitle(article))
        assert await getattr(renamed, f"a{terminal}")() == 0
        await sync_to_async(execute)("ROLLBACK")

    async_to_sync(read_after_somebody_began)()
    assert async_to_sync(getattr(renamed, f"a{terminal}"))() == 1


OWN_WRITES: dict[str, Callable[[Article], object]] = {
    "save": retitle,
    "update": lambda article: Article.objects.filter(pk=article.pk).update(title="New"),
    "raw SQL": lambda article: execute("UPDATE news_article SET title = 'New'"),
    "aupdate": lambda article: async_to_sync(Article.objects.filter(pk=article.pk).aupdate)(
        title="New"
    ),
}


@pytest.mark.parametrize("write", OWN_WRITES)
def test_a_transaction_sees_its_own_write(ask: Ask, article: Article, write: str) -> None:
    kept(ask, article)
    with transaction.atomic():
        OWN_WRITES[write](article)
        assert title_of(ask, article) == "New"


def test_a_transaction_sees_the_row_it_has_created(ask: Ask, article: Article) -> None:
    assert ask(articles.filter(slug="two"), "count") == 0
    with transaction.atomic():
        Article.objects.create(author_id=article.author_id, slug="two", title="Two")
        assert ask(articles.filter(slug="two"), "count") == 1


def test_a_transaction_sees_its_own_write_although_other_connections_were_used_since(
    ask: Ask, article: Article
) -> None:
    kept(ask, article)

    async def read_after_using_another_thread() -> str:
        await sync_to_async(_count_with_own_connection, thread_sensitive=False)()
        return (await articles.aget(pk=article.pk)).title

    with transaction.atomic():
        retitle(article)
        assert async_to_sync(read_after_using_another_thread)() == "New"


def test_a_read_in_another_thread_than_the_transaction_it_belongs_to_goes_past_the_cache(
    store: str, article: Article
) -> None:
    """Which must not ask that thread's connection for its isolation."""

    def read() -> str:
        with outcomes("bypass"):
            title = articles.get(pk=article.pk).title
        connections.close_all()
        return title

    async def read_in_another_thread() -> str:
        return await sync_to_async(read, thread_sensitive=False)()

    with transaction.atomic():
        Author.objects.count()
        assert async_to_sync(read_in_another_thread)() == "Old"


def _count_with_own_connection() -> None:
    Author.objects.count()
    connections.close_all()


def test_a_reader_that_got_a_row_lock_sees_the_commit_that_released_it(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    kept(ask, article)
    with committed_but_not_bumped(elsewhere, lambda: retitle(article)), transaction.atomic():
        locked = Article.objects.select_for_update().get(pk=article.pk)
        assert locked.title == "New"
        assert title_of(ask, article) == "New"


def test_a_unique_violation_shows_the_row_that_caused_it(
    ask: Ask, author: Author, elsewhere: Elsewhere
) -> None:
    taken = {"author": author, "slug": "one", "title": "Taken"}
    assert ask(articles, "get_or_none", slug="one") is None
    with committed_but_not_bumped(elsewhere, lambda: Article.objects.create(**taken)):
        with pytest.raises(IntegrityError):
            Article.objects.create(**taken)
        assert ask(articles, "get", slug="one").title == "Taken"


def test_a_unique_violation_in_a_savepoint_shows_the_row_that_caused_it(
    ask: Ask, author: Author, elsewhere: Elsewhere
) -> None:
    taken = {"author": author, "slug": "one", "title": "Taken"}
    assert ask(articles, "get_or_none", slug="one") is None
    with committed_but_not_bumped(elsewhere, lambda: Article.objects.create(**taken)):
        with transaction.atomic():
            with pytest.raises(IntegrityError), transaction.atomic():
                Article.objects.create(**taken)
            assert ask(articles, "get", slug="one").title == "Taken"
        assert ask(articles, "get", slug="one").title == "Taken"


def test_a_foreign_key_violation_shows_that_the_other_row_is_gone(
    ask: Ask, author: Author, elsewhere: Elsewhere
) -> None:
    assert ask(authors, "get", pk=author.pk) == author
    with committed_but_not_bumped(elsewhere, Author.objects.all().delete):
        with pytest.raises(IntegrityError), transaction.atomic():
            Article.objects.create(author=author, slug="one", title="One")
        assert ask(authors, "get_or_none", pk=author.pk) is None


def test_a_creation_that_violates_a_foreign_key_shows_that_the_other_row_is_gone(
    ask: Ask, author: Author, elsewhere: Elsewhere
) -> None:
    """On SQLite it is refused when its result is fetched."""
    assert ask(authors, "get", pk=author.pk) == author
    with committed_but_not_bumped(elsewhere, Author.objects.all().delete):
        with pytest.raises(IntegrityError):
            Article.objects.create(author=author, slug="one", title="One")
        assert ask(authors, "get_or_none", pk=author.pk) is None


def test_a_creation_that_violated_a_foreign_key_shows_it_after_other_statements_too(
    ask: Ask, author: Author, elsewhere: Elsewhere
) -> None:
    assert ask(authors, "get", pk=author.pk) == author
    with committed_but_not_bumped(elsewhere, Author.objects.all().delete):
        with pytest.raises(IntegrityError):
            Article.objects.create(author=author, slug="one", title="One")
        Tag.objects.exists()
        assert ask(authors, "get_or_none", pk=author.pk) is None


def test_an_update_that_violates_a_foreign_key_shows_that_the_other_row_is_gone(
    ask: Ask, author: Author, article: Article, elsewhere: Elsewhere
) -> None:
    gone = Author.objects.create(name="Eve")
    assert ask(authors, "get", pk=gone.pk) == gone
    with committed_but_not_bumped(elsewhere, Author.objects.filter(name="Eve").delete):
        with pytest.raises(IntegrityError):
            Article.objects.filter(pk=article.pk).update(author=gone)
        assert ask(authors, "get_or_none", pk=gone.pk) is None


@pytest.mark.usefixtures("postgresql")
def test_a_constraint_checked_at_once_by_set_constraints_shows_that_the_other_row_is_gone(
    ask: Ask, author: Author, elsewhere: Elsewhere
) -> None:
    assert ask(authors, "get", pk=author.pk) == author
    with committed_but_not_bumped(elsewhere, Author.objects.all().delete):
        with suppress(Abandoned), transaction.atomic():
            Article.objects.create(author=author, slug="one", title="One")
            with pytest.raises(IntegrityError):
                connection.check_constraints()
            raise Abandoned
        assert ask(authors, "get_or_none", pk=author.pk) is None


# Errors and failing commits (30, 31). -----------------------------------------------------------


def test_an_integrity_error_inside_a_transaction_leaves_no_state_behind(
    ask: Ask, article: Article, another: Article
) -> None:
    @transaction.atomic
    def fail() -> None:
        retitle(another)
        Article.objects.create(author_id=article.author_id, slug="one", title="Again")

    with pytest.raises(IntegrityError):
        fail()
    kept(ask, article)
    kept(ask, another)
    with publishing_nothing(), transaction.atomic():
        Article.objects.count()
    with outcomes("hit", "hit"):
        assert title_of(ask, article) == title_of(ask, another) == "Old"


def test_a_database_error_that_is_caught_inside_a_transaction_leaves_no_state_behind(
    ask: Ask, article: Article
) -> None:
    with suppress(DatabaseError), transaction.atomic():
        retitle(article)
        with suppress(DatabaseError):
            execute("SELECT nothing FROM nowhere")
        raise DatabaseError
    with outcomes("miss", "hit"):
        assert title_of(ask, article) == title_of(ask, article) == "Old"


def test_a_commit_that_a_constraint_refuses_leaves_the_old_answers(ask: Ask) -> None:
    Country.objects.create(code="SE", name="Sweden")
    assert ask(letters, "count") == 0
    with pytest.raises(IntegrityError), transaction.atomic():
        Letter.objects.create(number=1, country_id="XX")  # checked at COMMIT
    assert ask(letters, "count") == 0


def test_a_commit_that_a_constraint_refuses_shows_the_row_it_was_refused_for(
    ask: Ask, elsewhere: Elsewhere, postgresql: None
) -> None:
    Country.objects.create(code="SE", name="Sweden")
    first = {"number": 1, "country_id": "SE"}
    assert ask(letters.filter(number=1), "count") == 0
    with committed_but_not_bumped(elsewhere, lambda: Letter.objects.create(**first)):
        with pytest.raises(IntegrityError), transaction.atomic():
            Letter.objects.create(**first)
        assert ask(letters.filter(number=1), "count") == 1


def test_a_commit_that_a_foreign_key_refuses_shows_that_the_other_row_is_gone(
    ask: Ask, elsewhere: Elsewhere
) -> None:
    Country.objects.create(code="SE", name="Sweden")
    assert ask(countries, "get", code="SE").name == "Sweden"
    with committed_but_not_bumped(elsewhere, Country.objects.all().delete):
        with pytest.raises(IntegrityError), transaction.atomic():
            Letter.objects.create(number=1, country_id="SE")
        assert ask(countries, "get_or_none", code="SE") is None


def test_a_raw_commit_that_a_foreign_key_refuses_shows_that_the_other_row_is_gone(
    ask: Ask, elsewhere: Elsewhere
) -> None:
    Country.objects.create(code="SE", name="Sweden")
    assert ask(countries, "get", code="SE").name == "Sweden"
    with committed_but_not_bumped(elsewhere, Country.objects.all().delete):
        execute("BEGIN")
        Letter.objects.create(number=1, country_id="SE")
        with pytest.raises(IntegrityError):
            execute("COMMIT")
        if connection.vendor == "sqlite":  # where the transaction is still open
            execute("ROLLBACK")
        assert ask(countries, "get_or_none", code="SE") is None


def test_a_commit_that_happened_although_the_client_raised_is_published(
    ask: Ask, article: Article, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raising_after_the_commit(monkeypatch, OperationalError("the connection was lost"))
    kept(ask, article)
    with pytest.raises(OperationalError), transaction.atomic():
        retitle(article)
    assert title_of(ask, article) == "New"


def test_a_commit_that_was_interrupted_after_it_happened_is_published(
    ask: Ask, article: Article, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raising_after_the_commit(monkeypatch, KeyboardInterrupt())
    kept(ask, article)
    with pytest.raises(KeyboardInterrupt), transaction.atomic():
        retitle(article)
    assert title_of(ask, article) == "New"


def _raising_after_the_commit(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    commit = connection._commit  # type: ignore[attr-defined]

    def commit_and_raise() -> None:
        commit()
        monkeypatch.undo()
        raise error

    connection.ensure_connection()
    monkeypatch.setattr(connections["default"], "_commit", commit_and_raise)


@pytest.mark.usefixtures("postgresql")
def test_a_commit_whose_connection_broke_is_published(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    @transaction.atomic
    def fail() -> None:
        retitle(article)
        _end_backend_of(connection, elsewhere)

    kept(ask, article)
    with metrics.recording() as events, pytest.raises(OperationalError):
        fail()
    assert any(isinstance(event, metrics.Bump) for event in events)
    with outcomes("miss"):
        assert title_of(ask, article) == "Old"


@pytest.mark.usefixtures("postgresql")
def test_a_connection_that_breaks_inside_a_transaction_leaves_no_state_behind(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    @transaction.atomic
    def fail() -> None:
        retitle(article)
        _end_backend_of(connection, elsewhere)
        Author.objects.count()

    with pytest.raises(OperationalError):
        fail()
    with outcomes("miss", "hit"):
        assert title_of(ask, article) == title_of(ask, article) == "Old"
    retitle(article)
    assert title_of(ask, article) == "New"


@pytest.mark.usefixtures("postgresql")
def test_a_statement_of_its_own_that_is_done_after_its_connection_broke_is_published(
    ask: Ask, article: Article, elsewhere: Elsewhere, yonder: Elsewhere
) -> None:
    kept(ask, article)
    with write_that_lost_its_connection(elsewhere, yonder, lambda: retitle(article), article):
        pass
    assert Article.objects.get(pk=article.pk).title == "New"
    assert title_of(ask, article) == "New"


def _end_backend_of(connection: Any, elsewhere: Elsewhere) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    elsewhere.do(lambda: execute("SELECT pg_terminate_backend(%s, 10000)", pid))


def test_closing_the_connection_inside_a_transaction_leaves_no_state_behind(
    ask: Ask, article: Article
) -> None:
    with suppress(Abandoned), transaction.atomic():
        retitle(article)
        connection.close()
        raise Abandoned
    with outcomes("miss", "hit"):
        assert title_of(ask, article) == title_of(ask, article) == "Old"
    retitle(article)
    assert title_of(ask, article) == "New"


# Hooks (32). ------------------------------------------------------------------------------------


def test_a_hook_that_runs_on_commit_finds_the_write_published(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    kept(ask, article)
    seen: list[str] = []
    with transaction.atomic():
        transaction.on_commit(lambda: seen.append(elsewhere.do(lambda: title_of(ask, article))))
        retitle(article)
        transaction.on_commit(lambda: seen.append(title_of(ask, article)))
    assert seen == ["New", "New"]


def test_the_write_is_published_although_a_hook_raises(ask: Ask, article: Article) -> None:
    kept(ask, article)

    def raising() -> None:
        raise Abandoned

    with suppress(Abandoned), transaction.atomic():
        transaction.on_commit(raising)
        retitle(article)
    assert title_of(ask, article) == "New"


def test_what_a_hook_writes_is_published_too(ask: Ask, article: Article) -> None:
    kept(ask, article)
    with transaction.atomic():
        transaction.on_commit(lambda: retitle(article, "By the hook"))
        retitle(article)
    assert title_of(ask, article) == "By the hook"


# Transactions managed by hand. ------------------------------------------------------------------


@pytest.fixture
def manual() -> Iterator[None]:
    """Nothing is committed but by hand."""
    transaction.set_autocommit(False)
    yield
    transaction.rollback()
    transaction.set_autocommit(True)


def test_a_commit_by_hand_publishes_what_was_written(
    ask: Ask, article: Article, elsewhere: Elsewhere, manual: None
) -> None:
    elsewhere.do(lambda: kept(ask, article))
    retitle(article)
    assert elsewhere.do(lambda: title_of(ask, article)) == "Old"
    transaction.commit()
    assert elsewhere.do(lambda: title_of(ask, article)) == "New"


def test_a_rollback_by_hand_publishes_nothing(
    ask: Ask, article: Article, elsewhere: Elsewhere, manual: None
) -> None:
    elsewhere.do(lambda: kept(ask, article))
    with publishing_nothing():
        retitle(article)
        transaction.rollback()
        transaction.commit()
    assert elsewhere.do(lambda: _outcome(ask, article)) == "hit"


def test_atomic_without_autocommit_publishes_at_the_commit_by_hand(
    ask: Ask, article: Article, elsewhere: Elsewhere, manual: None
) -> None:
    elsewhere.do(lambda: kept(ask, article))
    with transaction.atomic():
        retitle(article)
    # SQLite has no transaction but the savepoint, and commits at its release.
    now = "New" if connection.vendor == "sqlite" else "Old"
    assert elsewhere.do(lambda: title_of(ask, article)) == now
    transaction.commit()
    assert elsewhere.do(lambda: title_of(ask, article)) == "New"


def test_without_autocommit_own_writes_are_seen(
    ask: Ask, article: Article, elsewhere: Elsewhere, manual: None
) -> None:
    elsewhere.do(lambda: kept(ask, article))
    retitle(article)
    assert title_of(ask, article) == "New"


@pytest.mark.usefixtures("sqlite")
def test_turning_autocommit_on_publishes_what_it_commits(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    elsewhere.do(lambda: kept(ask, article))
    transaction.set_autocommit(False)
    retitle(article)
    assert elsewhere.do(lambda: title_of(ask, article)) == "Old"
    transaction.set_autocommit(True)  # commits, though nobody said so
    assert elsewhere.do(lambda: title_of(ask, article)) == "New"


def test_a_raw_commit_publishes_what_was_written(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    elsewhere.do(lambda: kept(ask, article))
    execute("BEGIN")
    retitle(article)
    assert title_of(ask, article) == "New"
    assert elsewhere.do(lambda: title_of(ask, article)) == "Old"
    execute("COMMIT")
    assert elsewhere.do(lambda: title_of(ask, article)) == "New"


def test_a_raw_rollback_leaves_the_old_answers(ask: Ask, article: Article) -> None:
    kept(ask, article)
    execute("BEGIN")
    retitle(article)
    execute("ROLLBACK")
    assert title_of(ask, article) == "Old"
    kept(ask, article)


def test_a_raw_transaction_ended_through_django_publishes(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    elsewhere.do(lambda: kept(ask, article))
    execute("BEGIN")
    retitle(article)
    assert elsewhere.do(lambda: title_of(ask, article)) == "Old"
    connection.commit()
    assert elsewhere.do(lambda: title_of(ask, article)) == "New"


def test_a_raw_commit_inside_atomic_publishes_what_was_written(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    elsewhere.do(lambda: kept(ask, article))
    with transaction.atomic():
        retitle(article)
        execute("COMMIT")
        assert elsewhere.do(lambda: title_of(ask, article)) == "New"
        execute("BEGIN")
        retitle(article, "Newer")
    assert elsewhere.do(lambda: title_of(ask, article)) == "Newer"


@pytest.mark.usefixtures("postgresql")
def test_a_raw_commit_that_begins_the_next_transaction_publishes_each_at_its_end(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    elsewhere.do(lambda: kept(ask, article))
    execute("BEGIN")
    retitle(article)
    execute("COMMIT AND CHAIN")
    assert elsewhere.do(lambda: title_of(ask, article)) == "New"
    retitle(article, "Newer")
    assert elsewhere.do(lambda: title_of(ask, article)) == "New"
    execute("COMMIT")
    assert elsewhere.do(lambda: title_of(ask, article)) == "Newer"


@pytest.mark.usefixtures("sqlite")
def test_a_raw_savepoint_that_is_a_transaction_publishes_at_its_release(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    elsewhere.do(lambda: kept(ask, article))
    execute("SAVEPOINT one")
    retitle(article)
    assert elsewhere.do(lambda: title_of(ask, article)) == "Old"
    execute("RELEASE one")
    assert elsewhere.do(lambda: title_of(ask, article)) == "New"


@pytest.mark.usefixtures("sqlite")
def test_a_statement_that_ends_its_transaction_by_failing_leaves_no_state_behind(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    elsewhere.do(lambda: kept(ask, article))
    execute("BEGIN")
    with pytest.raises(IntegrityError):
        execute("INSERT OR ROLLBACK INTO news_tag (id, name) VALUES (1, NULL)")
    retitle(article)
    assert elsewhere.do(lambda: title_of(ask, article)) == "New"
    kept(ask, article)


# Two databases (33). ----------------------------------------------------------------------------

on_both_databases = pytest.mark.django_db(transaction=True, databases=["default", "other"])


class CountriesElsewhere:
    """A router: countries live on the other database."""

    def db_for_read(self, model: Any, **_hints: object) -> str | None:
        return "other" if model is Country else None

    db_for_write = db_for_read


@pytest.fixture
def two_databases() -> Iterator[None]:
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.CountriesElsewhere"]):
        yield


@on_both_databases
def test_what_was_written_on_another_database_is_published_although_the_outer_block_rolls_back(
    ask: Ask, article: Article, two_databases: None
) -> None:
    Country.objects.create(code="SE", name="Sweden")
    assert ask(countries, "get", code="SE").name == "Sweden"
    kept(ask, article)
    with abandoned():
        retitle(article)
        with transaction.atomic("other"):
            Country.objects.filter(code="SE").update(name="Sverige")
    assert ask(countries, "get", code="SE").name == "Sverige"
    with outcomes("hit"):
        assert title_of(ask, article) == "Old"


@on_both_databases
def test_a_block_on_another_database_that_rolls_back_publishes_nothing_of_it(
    ask: Ask, article: Article, two_databases: None
) -> None:
    Country.objects.create(code="SE", name="Sweden")
    for _ in range(2):
        ask(countries, "get", code="SE")
    with transaction.atomic():
        retitle(article)
        with suppress(Abandoned), transaction.atomic("other"):
            Country.objects.filter(code="SE").update(name="Sverige")
            raise Abandoned
    with outcomes("hit"):
        assert ask(countries, "get", code="SE").name == "Sweden"
    assert title_of(ask, article) == "New"


@on_both_databases
def test_a_transaction_on_one_database_reads_past_the_cache_on_every_database(
    ask: Ask, article: Article, two_databases: None
) -> None:
    Country.objects.create(code="SE", name="Sweden")
    ask(countries, "get", code="SE")
    with transaction.atomic():
        retitle(article)
        with outcomes("bypass"):
            ask(countries, "get", code="SE")


@on_both_databases
def test_what_a_replica_answers_is_not_kept(ask: Ask, article: Article) -> None:
    with outcomes("bypass"):
        assert ask(articles.using("other"), "count") == 0
    with outcomes("miss"):
        assert ask(articles, "count") == 1


# Statements that commit by themselves. ----------------------------------------------------------


@pytest.fixture
def raising_receiver() -> Iterator[None]:
    """A receiver of post_save, called before any other, that raises."""

    def receiver(**_kwargs: object) -> None:
        raise Abandoned

    post_save.connect(receiver, sender=Article, weak=False)
    post_save.receivers.insert(0, post_save.receivers.pop())
    post_save.sender_receivers_cache.clear()
    yield
    post_save.disconnect(receiver, sender=Article)


def test_a_save_is_published_although_a_receiver_raises(
    ask: Ask, article: Article, raising_receiver: None
) -> None:
    kept(ask, article)
    with pytest.raises(Abandoned):
        retitle(article)
    assert title_of(ask, article) == "New"


def test_a_creation_is_published_although_a_receiver_raises(
    ask: Ask, author: Author, raising_receiver: None
) -> None:
    assert ask(articles, "count") == 0
    with pytest.raises(Abandoned):
        Article.objects.create(author=author, slug="one", title="One")
    assert ask(articles, "count") == 1


def test_what_a_failing_executemany_has_committed_is_published(
    ask: Ask, article: Article, another: Article
) -> None:
    kept(ask, article)
    rows = [("New", article.pk), (None, another.pk)]
    with pytest.raises(IntegrityError), connection.cursor() as cursor:
        cursor.executemany("UPDATE news_article SET title = %s WHERE id = %s", rows)
    article.refresh_from_db()
    assert title_of(ask, article) == article.title


def test_what_an_executemany_has_committed_before_its_rows_ended_in_an_error_is_published(
    ask: Ask, article: Article
) -> None:
    kept(ask, article)

    def rows() -> Any:
        yield "New", article.pk
        yield "Newer", article.pk
        raise Abandoned

    with pytest.raises(Abandoned), connection.cursor() as cursor:
        cursor.executemany("UPDATE news_article SET title = %s WHERE id = %s", rows())
    article.refresh_from_db()
    assert title_of(ask, article) == article.title


@contextmanager
def between_statement_and_fetch(work: Callable[[], object]) -> Iterator[None]:
    """`work` is done once an INSERT has been executed and its bump is out."""

    def wrapper(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        result = execute(sql, *rest)
        if sql.startswith("INSERT"):
            work()
        return result

    connection.execute_wrappers.insert(0, wrapper)
    yield
    connection.execute_wrappers.remove(wrapper)


@pytest.mark.usefixtures("sqlite")
def test_a_reader_between_an_insert_and_the_fetch_that_commits_it_leaves_nothing_old_behind(
    ask: Ask, author: Author, elsewhere: Elsewhere
) -> None:
    def number() -> int:
        count: int = ask(articles, "count")
        return count

    seen = []
    with between_statement_and_fetch(lambda: seen.append(elsewhere.do(number))):
        Article.objects.create(author=author, slug="one", title="One")
    assert seen == [0]  # what it left behind is old
    assert elsewhere.do(number) == 1


@pytest.mark.usefixtures("sqlite")
def test_who_has_fetched_what_a_raw_insert_returns_reads_it(
    ask: Ask, author: Author, elsewhere: Elsewhere
) -> None:
    ask(authors, "count")
    with (
        between_statement_and_fetch(lambda: elsewhere.do(lambda: ask(authors, "count"))),
        connection.cursor() as cursor,
    ):
        cursor.execute("INSERT INTO news_author (name, email) VALUES ('Bob', '') RETURNING id")
        cursor.fetchall()
    assert ask(authors, "count") == 2


@pytest.mark.usefixtures("sqlite")
def test_a_reader_between_a_raw_insert_and_its_fetch_leaves_nothing_old_after_the_next_statement(
    ask: Ask, author: Author, elsewhere: Elsewhere
) -> None:
    def number() -> int:
        count: int = ask(authors, "count")
        return count

    with between_statement_and_fetch(lambda: elsewhere.do(number)), connection.cursor() as cursor:
        cursor.execute("INSERT INTO news_author (name, email) VALUES ('Bob', '') RETURNING id")
        cursor.fetchall()
    Tag.objects.exists()
    assert elsewhere.do(number) == 2


def test_a_statement_that_raises_outside_a_transaction_is_published_all_the_same(
    ask: Ask, article: Article, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may have committed it and the client have lost the answer."""
    kept(ask, article)

    def losing_the_answer(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        execute(sql, *rest)
        raise OperationalError

    with pytest.raises(OperationalError), connection.execute_wrapper(losing_the_answer):
        Article.objects.filter(pk=article.pk).update(title="New")
    assert title_of(ask, article) == "New"


def test_a_write_whose_task_is_cancelled_midway_is_published(
    store: str, article: Article, elsewhere: Elsewhere
) -> None:
    """The thread that runs it goes on to its end."""

    async def write_and_be_cancelled() -> None:
        writer = asyncio.create_task(sync_to_async(write, thread_sensitive=False)())
        await asyncio.to_thread(gate.wait_until_reached)
        writer.cancel()
        gate.open()
        await asyncio.wait([writer])

    def write() -> None:
        try:
            with stopped_after("UPDATE", gate):
                retitle(article)
        finally:
            connection.close()

    elsewhere.do(lambda: articles.get(pk=article.pk))
    with Gate() as gate:
        async_to_sync(write_and_be_cancelled)()
    assert elsewhere.do(lambda: articles.get(pk=article.pk).title) == "New"


# ATOMIC_REQUESTS. -------------------------------------------------------------------------------


def retitling_view(request: HttpRequest) -> HttpResponse:
    article = Article.objects.get(slug="one")
    retitle(article)
    if request.GET.get("fail"):
        raise Abandoned
    return HttpResponse(articles.get(pk=article.pk).title)


urlpatterns = [path("", retitling_view)]


@pytest.fixture(params=["WSGI", "ASGI"])
def visit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Visits the view, in a transaction that the request begins and ends; gives its text."""

    def by_wsgi(**query: str) -> str:
        return Client().get("/", query).content.decode()

    async def by_asgi(**query: str) -> str:
        response = await AsyncClient().get("/", query)
        return response.content.decode()

    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        yield by_wsgi if request.param == "WSGI" else async_to_sync(by_asgi)


def test_a_view_in_a_transaction_of_its_own_sees_what_it_wrote(
    ask: Ask, article: Article, visit: Callable[..., str]
) -> None:
    kept(ask, article)
    assert visit() == "New"


def test_what_a_view_in_a_transaction_of_its_own_wrote_is_published_after_it(
    ask: Ask, article: Article, visit: Callable[..., str], elsewhere: Elsewhere
) -> None:
    elsewhere.do(lambda: kept(ask, article))
    visit()
    assert elsewhere.do(lambda: title_of(ask, article)) == "New"


def test_what_a_view_wrote_before_it_failed_is_not_published(
    ask: Ask, article: Article, visit: Callable[..., str], elsewhere: Elsewhere
) -> None:
    elsewhere.do(lambda: kept(ask, article))
    with pytest.raises(Abandoned):
        visit(fail="yes")
    assert elsewhere.do(lambda: _outcome(ask, article)) == "hit"


# What a transaction writes by other ways than save(). -------------------------------------------


def test_everything_written_in_one_transaction_is_published_in_one_go(
    ask: Ask, article: Article, another: Article
) -> None:
    with metrics.recording() as events, transaction.atomic():
        retitle(article)
        Comment.objects.create(article=another, author_name="Eve", text="Hm")
        article.tags.add(Tag.objects.create(name="loom"))
        Author.objects.update(name="Bob")
    assert [type(event) for event in events] == [metrics.Bump]


def test_a_read_in_progress_when_its_own_thread_writes_is_not_kept(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    with Gate() as gate:

        def read() -> str:
            with stopped_after("SELECT", gate):
                return title_of(ask, article)

        seen = elsewhere.begin(read)
        gate.wait_until_reached()
        with transaction.atomic():
            retitle(article)
            gate.open()
            assert seen.result() == "Old"
    assert title_of(ask, article) == "New"
