"""Strict models: a read that starts after a COMMIT sees it, whatever becomes of the writer."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn
from unittest.mock import Mock

import pytest
from django.conf import settings
from django.db import IntegrityError, connection, connections, transaction
from django.test import override_settings

from loom_cache import (
    CachedRepository,
    counters,
    generations,
    invalidate,
    leases,
    tables,
    tags,
    watch,
    writes,
)
from loom_cache.exceptions import StoreUnavailable
from loom_cache.generations import GenerationalDependencyResolver
from loom_cache.inspection import counters_of
from loom_cache.metrics import Read, recording
from loom_cache.testing import caching_in_testcases
from testproject.news.models import Article, Author
from tests.cases.conftest import Ask, outcomes, statements
from tests.cases.interleaving import (
    PATIENCE,
    Elsewhere,
    committed_but_not_bumped,
    elsewhere,
    write_that_lost_its_connection,
    yonder,
)
from tests.services.redis import RedisServer

__all__ = ["elsewhere", "yonder"]

pytestmark = pytest.mark.django_db(transaction=True)

postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no server")

TABLE = "news_article"


class Articles(CachedRepository[Article]):
    model = Article


class WithAuthors(CachedRepository[Article]):
    queryset = Article.objects.select_related("author")


articles = Articles()
with_authors = WithAuthors()


@pytest.fixture(autouse=True)
def strict(store: str) -> Iterator[None]:
    with stricter("news.article"):
        yield


@contextmanager
def stricter(*labels: str) -> Iterator[None]:
    with override_settings(LOOM_CACHE={**settings.LOOM_CACHE, "STRICT": list(labels)}):
        yield


@pytest.fixture
def article() -> Article:
    author = Author.objects.create(name="Ada")
    return Article.objects.create(author=author, slug="one", title="Old")


def retitle(article: Article, title: str = "New") -> None:
    Article.objects.filter(pk=article.pk).update(title=title)


def resolver() -> GenerationalDependencyResolver:
    found = generations.resolver()
    assert found is not None
    return found


def open_writers(table: str = TABLE) -> int:
    return len(resolver().writers_sync()[table])


def low_bits(table: str = TABLE) -> int:
    tag = tags.of_table(table)
    return counters.open_writers(resolver().look_sync([], [tag]).generations[tag])


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline


class Abandoned(Exception):
    """Ends a block by rolling it back."""


# The promise. -----------------------------------------------------------------------------------


def test_between_commit_and_bump_a_reader_is_given_what_was_committed(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    ask(articles, "get", pk=article.pk)
    with committed_but_not_bumped(elsewhere, lambda: retitle(article)):
        assert ask(articles, "get", pk=article.pk).title == "New"
        assert ask(articles, "get", title="New").pk == article.pk


def test_without_strict_there_is_such_a_window(article: Article, elsewhere: Elsewhere) -> None:
    with stricter():
        articles.get(pk=article.pk)
        with committed_but_not_bumped(elsewhere, lambda: retitle(article)):
            assert articles.get(pk=article.pk).title == "Old"


def test_while_a_writer_is_open_nothing_is_stored_and_afterwards_it_is(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    ask(articles, "get", pk=article.pk)
    with committed_but_not_bumped(elsewhere, lambda: retitle(article)), outcomes("miss", "miss"):
        ask(articles, "get", pk=article.pk)
        ask(articles, "get", pk=article.pk)
    with outcomes("miss", "hit"):
        ask(articles, "get", pk=article.pk)
        assert ask(articles, "get", pk=article.pk).title == "New"


def test_such_a_read_says_why_it_is_not_stored(article: Article, elsewhere: Elsewhere) -> None:
    with committed_but_not_bumped(elsewhere, lambda: retitle(article)), recording() as events:
        articles.get(pk=article.pk)
    assert [one.reason for one in events if isinstance(one, Read)] == ["open writer"]


def test_a_writer_that_is_killed_after_its_commit_leaves_nothing_stale(
    article: Article, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE", 0.3)
    articles.get(pk=article.pk)
    killed_after_commit(elsewhere, lambda: retitle(article))
    assert articles.get(pk=article.pk).title == "New"


def test_when_the_lease_of_a_killed_writer_is_over_answers_are_stored_again(
    article: Article, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE", 0.3)
    articles.get(pk=article.pk)
    killed_after_commit(elsewhere, lambda: retitle(article))
    until(lambda: is_a_hit(article))


def test_who_knows_nothing_of_strict_tables_prolongs_no_lease(
    store: str, article: Article, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process with other settings: STRICT was taken back, or is being rolled out."""
    if store == "memory":
        pytest.skip("with other settings a store in memory is another one: nobody shares it")
    monkeypatch.setattr(leases, "LEASE", 0.3)
    tag = tags.of_table(TABLE)
    articles.get(pk=article.pk)
    killed_after_commit(elsewhere, lambda: retitle(article))
    with stricter():
        assert resolver().bump_sync([tag]) == 1
        assert counters.open_writers(resolver().current_sync([tag]).generations[tag]) == 1
        until(lambda: is_a_hit(article))


def is_a_hit(article: Article) -> bool:
    assert articles.get(pk=article.pk).title == "New"
    with statements_seen() as seen:
        articles.get(pk=article.pk)
    return not seen


def killed_after_commit(elsewhere: Elsewhere, write: Callable[[], object]) -> None:
    """Nothing that this process had still to do after COMMIT is done: no bump, no renewal."""

    def die(*_args: Any) -> None:
        raise KilledError

    def killed() -> None:
        with pytest.MonkeyPatch.context() as patch, suppress(KilledError):
            patch.setattr(leases.Writer, "renew", lambda _writer: None)
            patch.setattr(GenerationalDependencyResolver, "publish_sync", die)
            transaction.atomic(write)()

    elsewhere.do(killed)


class KilledError(BaseException):
    """As far as the code that runs is concerned, the process has ended."""


@contextmanager
def statements_seen() -> Iterator[list[str]]:
    seen: list[str] = []

    def note(execute: Any, sql: str, *rest: Any) -> Any:
        seen.append(sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(note):
        yield seen


def test_an_answer_that_shows_a_strict_row_through_a_join_is_as_strict(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    with stricter("news.author"):
        ask(with_authors, "get", pk=article.pk)
        renaming = Author.objects.filter(pk=article.author_id)
        with committed_but_not_bumped(elsewhere, lambda: renaming.update(name="Grace")):
            assert ask(with_authors, "get", pk=article.pk).author.name == "Grace"


def test_a_counter_that_was_lost_is_seeded_with_its_open_writers(article: Article) -> None:
    with transaction.atomic():
        retitle(article)
        forget_counters()
        assert open_writers_seen_by_a_reader() == 1
    assert open_writers_seen_by_a_reader() == 0


@pytest.mark.parametrize("value", ["9" * 19, "9223372036854775807", "-5", "x", ""])
def test_a_counter_that_holds_nonsense_is_seeded_anew(
    ask: Ask, article: Article, value: str
) -> None:
    store = resolver()
    key = store._counters.full_key(tags.of_table(TABLE))
    store.open_sync("alive", [TABLE], 30)
    store._counters.store_sync([(key, value.encode(), 600)])
    assert open_writers_seen_by_a_reader() == 1
    assert ask(articles, "get", pk=article.pk).title == "Old"
    retitle(article)
    assert ask(articles, "get", pk=article.pk).title == "New"


def forget_counters() -> None:
    store = resolver()._counters
    store.remove_sync(store.scan_sync(store.full_key("g:")))


def open_writers_seen_by_a_reader() -> int:
    tag = tags.of_table(TABLE)
    return counters.open_writers(resolver().current_sync([tag]).generations[tag])


# When a writer comes in and goes out. -----------------------------------------------------------


def test_a_transaction_is_open_from_its_first_write_to_its_end(article: Article) -> None:
    with transaction.atomic():
        list(Article.objects.all())
        assert open_writers() == 0
        retitle(article)
        assert (open_writers(), low_bits()) == (1, 1)
        retitle(article, "Newer")
        assert open_writers() == 1
    assert (open_writers(), low_bits()) == (0, 0)


def test_a_transaction_that_rolls_back_goes_out_as_well(article: Article) -> None:
    with suppress(Abandoned), transaction.atomic():
        retitle(article)
        raise Abandoned
    assert (open_writers(), low_bits()) == (0, 0)


def test_a_savepoint_that_is_rolled_back_leaves_the_writer_in(article: Article) -> None:
    with transaction.atomic():
        with suppress(Abandoned), transaction.atomic():
            retitle(article)
            raise Abandoned
        assert open_writers() == 1
    assert open_writers() == 0


def test_a_statement_outside_a_transaction_goes_out_when_it_returns(article: Article) -> None:
    retitle(article)
    assert (open_writers(), low_bits()) == (0, 0)


def test_a_created_row_leaves_nobody_in(article: Article) -> None:
    Article.objects.create(author_id=article.author_id, slug="two", title="Two")
    assert open_writers() == 0


def test_a_statement_whose_result_is_fetched_later_is_open_until_then(article: Article) -> None:
    """SQLite commits it then."""
    sql = "INSERT INTO news_author (name, email) VALUES ('Eve', '') RETURNING id"
    with stricter("news.author"):
        with connection.cursor() as cursor:
            cursor.execute(sql)
            assert open_writers("news_author") == (connection.vendor == "sqlite")
            cursor.fetchall()
        Author.objects.exists()
        assert open_writers("news_author") == 0


def test_a_statement_that_fails_leaves_nobody_in(article: Article) -> None:
    with pytest.raises(IntegrityError):
        Article.objects.create(author_id=article.author_id, slug="one", title="Twice")
    with pytest.raises(IntegrityError), transaction.atomic():
        Article.objects.create(author_id=article.author_id, slug="one", title="Twice")
    assert open_writers() == 0


def test_a_statement_that_is_interrupted_before_it_runs_leaves_nobody_in(
    article: Article, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_sync = GenerationalDependencyResolver.open_sync

    def interrupted(*args: Any) -> None:
        open_sync(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(GenerationalDependencyResolver, "open_sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        retitle(article)
    assert open_writers() == 0


def test_a_connection_that_is_closed_in_a_transaction_leaves_nobody_in(
    article: Article, elsewhere: Elsewhere
) -> None:
    def write_and_close() -> None:
        with suppress(Exception), transaction.atomic():
            retitle(article)
            connections["default"].close()

    elsewhere.do(write_and_close)
    assert open_writers() == 0


def test_writers_are_counted(article: Article) -> None:
    tag, store = TABLE, resolver()
    for name in ("a", "b", "b"):
        store.open_sync(name, [tag], 30)
    assert (open_writers(), open_writers_seen_by_a_reader()) == (2, 2)


def test_other_tables_are_not_opened(article: Article) -> None:
    with transaction.atomic():
        Author.objects.update(name="Grace")
        assert open_writers() == 0


def test_every_table_is_strict_where_the_setting_says_true() -> None:
    with override_settings(LOOM_CACHE={**settings.LOOM_CACHE, "STRICT": True}):
        assert {"news_article", "news_author"} <= tables.strict()
        assert "django_session" not in tables.strict()


def test_the_parents_of_a_strict_child_are_strict() -> None:
    with stricter("Library.Shop"):
        assert tables.strict() == {"library_shop", "library_place"}


def test_what_is_flushed_and_invalidated_stays_open(ask: Ask, article: Article) -> None:
    ask(articles, "get", pk=article.pk)
    resolver().open_sync("somebody", [TABLE], 30)
    invalidate(Article)
    assert low_bits() == 1


def test_inspect_shows_the_open_writers(article: Article) -> None:
    with transaction.atomic():
        retitle(article)
        listing = counters_of(["news.Article"])
    assert [one.open_writers for one in listing.shown if one.tag == "*"] == [1]


@postgresql
def test_a_statement_that_is_done_after_its_connection_broke_leaves_nothing_stale(
    ask: Ask, article: Article, elsewhere: Elsewhere, yonder: Elsewhere
) -> None:
    with write_that_lost_its_connection(elsewhere, yonder, lambda: retitle(article), article):
        assert ask(articles, "first").title == "Old"
    assert Article.objects.get(pk=article.pk).title == "New"
    assert ask(articles, "first").title == "New"


@postgresql
def test_a_commit_that_is_done_after_its_connection_broke_leaves_nothing_stale(
    ask: Ask, article: Article, elsewhere: Elsewhere, yonder: Elsewhere
) -> None:
    """It waited, to check a foreign key, for who had locked the row."""
    other = Author.objects.create(name="Grace")

    @transaction.atomic
    def write() -> None:
        Article.objects.filter(pk=article.pk).update(author=other, title="New")

    with write_that_lost_its_connection(elsewhere, yonder, write, other):
        assert ask(articles, "first").title == "Old"
    assert Article.objects.get(pk=article.pk).title == "New"
    assert ask(articles, "first").title == "New"


@postgresql
def test_a_writer_that_may_still_commit_goes_out_with_its_lease(
    article: Article, elsewhere: Elsewhere, yonder: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE", 0.3)
    with write_that_lost_its_connection(elsewhere, yonder, lambda: retitle(article), article):
        elsewhere.do(connections.close_all)
    until(lambda: is_a_hit(article))


# Leases. ----------------------------------------------------------------------------------------


def test_a_lease_is_renewed_as_long_as_the_transaction_lives(
    article: Article, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEWAL", 0.01)
    monkeypatch.setattr(leases, "_renewal", leases._Renewal())  # whose thread is not under way
    renewed: list[leases.Writer] = []
    renew = leases.Writer.renew

    def renewing(writer: leases.Writer) -> None:
        renew(writer)
        renewed.append(writer)

    monkeypatch.setattr(leases.Writer, "renew", renewing)
    with transaction.atomic():
        retitle(article)
        until(lambda: len(renewed) > 3)
        [(_, seconds)] = resolver().writers_sync()[TABLE]
        assert seconds > leases.LEASE - 5
    assert open_writers() == 0


def test_a_writer_that_nobody_holds_any_more_is_not_renewed_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its connection is gone; the lease is to run out."""
    monkeypatch.setattr(leases, "RENEWAL", 0.01)
    renewal = leases._Renewal()
    monkeypatch.setattr(leases, "_renewal", renewal)
    renewed = threading.Event()
    monkeypatch.setattr(leases.Writer, "renew", lambda _writer: renewed.set())
    writer = leases.Writer(resolver())
    writer.open([TABLE])
    assert renewed.wait(PATIENCE)
    del writer
    until(lambda: renewal._thread is None)


def test_who_has_gone_out_does_not_come_in_again(article: Article) -> None:
    writer = leases.Writer(resolver())
    writer.open([TABLE])
    resolver().publish_sync([], [], writer.leave())
    writer.renew()
    assert open_writers() == 0


def test_a_forked_child_lets_nobody_out(article: Article, store: str) -> None:
    """It closes the connection that it has inherited, whatever its parent does over it."""
    if store == "memory":
        pytest.skip("a forked child begins with a memory of its own: there is nobody to let out")
    with transaction.atomic():
        retitle(article)
        writer = writes._pending(connections["default"]).writer
        assert writer is not None
        with writer._lock:  # of a thread that is just renewing it
            child = os.fork()
            if child == 0:
                end_child()
        assert os.waitpid(child, 0)[1] == 0
        assert open_writers() == 1
    assert open_writers() == 0


def end_child() -> NoReturn:
    signal.alarm(5)
    status = 1
    try:
        writes._forget(connections["default"])
        status = 0
    finally:
        os._exit(status)


def test_a_process_that_was_suspended_comes_in_again_before_it_commits(
    article: Article, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEWAL", 3600)
    opened = []
    open_sync = GenerationalDependencyResolver.open_sync

    def opening(resolver: Any, writer: str, names: Any, seconds: float) -> None:
        opened.append(not watch.is_over_in_driver(connection))
        open_sync(resolver, writer, names, seconds)

    monkeypatch.setattr(GenerationalDependencyResolver, "open_sync", opening)
    with transaction.atomic():
        retitle(article)
        monkeypatch.setattr(leases, "LEASE", 0.0)  # so long ago it was
    assert opened == [True, True]


def test_a_machine_that_slept_has_its_writers_come_in_again_before_they_commit(
    article: Article, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Linux the monotonic clock stands still meanwhile."""
    monkeypatch.setattr(leases, "RENEWAL", 3600)
    opened = []
    open_sync = GenerationalDependencyResolver.open_sync

    def opening(*args: Any) -> None:
        opened.append(args)
        open_sync(*args)

    monkeypatch.setattr(GenerationalDependencyResolver, "open_sync", opening)
    with transaction.atomic():
        retitle(article)
        slept = time.time() + 3600
        monkeypatch.setattr(leases, "time", Mock(wraps=time, time=lambda: slept))
    assert len(opened) == 2


def test_a_process_that_was_suspended_comes_in_again_before_autocommit_is_turned_on(
    article: Article, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite commits then."""
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite commits when autocommit is turned on")
    monkeypatch.setattr(leases, "RENEWAL", 3600)
    opened = []
    open_sync = GenerationalDependencyResolver.open_sync

    def opening(*args: Any) -> None:
        opened.append(not watch.is_over_in_driver(connection))
        open_sync(*args)

    monkeypatch.setattr(GenerationalDependencyResolver, "open_sync", opening)
    transaction.set_autocommit(False)
    retitle(article)
    monkeypatch.setattr(leases, "LEASE", 0.0)
    transaction.set_autocommit(True)
    assert opened[:2] == [False, True]  # a transaction begins with its first statement
    assert open_writers() == 0


def test_whoever_comes_next_removes_a_writer_whose_time_is_over() -> None:
    store = resolver()
    tag = tags.of_table(TABLE)
    store.current_sync([tag])
    store.open_sync("killed", [TABLE], 0.001)
    store.open_sync("alive", [TABLE], 30)
    before = counters.bumps(store.look_sync([], [tag]).generations[tag])
    until(lambda: all(left <= 0 or name == "alive" for name, left in store.writers_sync()[TABLE]))
    store.open_sync("alive", [TABLE], 30)
    assert [name for name, _ in store.writers_sync()[TABLE]] == ["alive"]
    assert low_bits() == 1
    assert counters.bumps(store.look_sync([], [tag]).generations[tag]) in (before, before + 1)


# Costs and failures. ----------------------------------------------------------------------------


def test_a_transaction_costs_one_more_round_trip(
    article: Article, redis_server: RedisServer, store: str
) -> None:
    if store != "redis":
        pytest.skip("memory has no round trips")
    with redis_server.counting() as calls, transaction.atomic():
        retitle(article)
        Article.objects.create(author_id=article.author_id, slug="two", title="Two")
    assert calls["eval"] == 2


def test_a_hit_costs_no_more_than_another(
    article: Article, redis_server: RedisServer, store: str
) -> None:
    if store != "redis":
        pytest.skip("memory has no round trips")
    articles.get(pk=article.pk)
    with redis_server.counting() as calls, statements(0):
        articles.get(pk=article.pk)
    assert calls == {"mget": 1}


def test_nothing_is_asked_before_a_write_to_a_strict_table(ask: Ask, article: Article) -> None:
    """What its rows held does not matter: everything about it becomes unreadable."""
    ask(articles.filter(title="Old"), "count")
    with transaction.atomic(), statements(1):
        retitle(article)
    assert ask(articles.filter(title="Old"), "count") == 0


def test_a_write_goes_on_where_the_store_cannot_be_told_and_says_so_once(
    article: Article, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_args: Any, **_options: Any) -> None:
        raise StoreUnavailable("Redis at nowhere did not answer.")

    monkeypatch.setattr(GenerationalDependencyResolver, "open_sync", refuse)
    with caplog.at_level(logging.WARNING, "loom_cache"), transaction.atomic():
        retitle(article)
        retitle(article, "Newer")
        Article.objects.create(author_id=article.author_id, slug="two", title="Two")
    said = [record.getMessage() for record in caplog.records]
    [told] = [line for line in said if "news_article" in line]
    assert told == (
        "The cache store was not told of a write to strict tables (news_article): until it "
        "answers, reads of them are as new as the last acknowledged write."
    )
    assert Article.objects.get(pk=article.pk).title == "Newer"
    until(lambda: resolver().breaker.closed)
    assert articles.get(pk=article.pk).title == "Newer"


def test_a_write_goes_on_where_no_thread_can_be_started(
    article: Article, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the end of a process."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(leases, "_renewal", leases._Renewal())
    with monkeypatch.context() as patch, transaction.atomic():
        patch.setattr(threading.Thread, "start", refuse)
        retitle(article)
        assert open_writers() == 1
    assert open_writers() == 0
    assert articles.get(pk=article.pk).title == "New"


@pytest.mark.django_db(transaction=False)
def test_a_testcase_opens_nothing(article: Article) -> None:
    retitle(article)
    assert open_writers() == 0


@pytest.mark.django_db(transaction=False)
def test_where_testcases_use_the_cache_strict_models_are_cached_too(article: Article) -> None:
    with caching_in_testcases(), outcomes("miss", "hit", "miss"):
        articles.get(pk=article.pk)
        articles.get(pk=article.pk)
        retitle(article)
        assert articles.get(pk=article.pk).title == "New"
