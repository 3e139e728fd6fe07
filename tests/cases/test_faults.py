"""Faults (case 36): a Redis that is gone, hangs, is full or takes no writes is never an error for
anybody, and nothing old comes back with it."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.test import override_settings

from loom_cache import (
    CachedRepository,
    CacheGateway,
    GenerationalDependencyResolver,
    ainvalidate,
    deadlines,
    generations,
    invalidate,
    metrics,
    resilience,
)
from loom_cache.backends.redis import RedisCache
from testproject.news.models import Article, Author
from tests.cases.conftest import Ask, outcomes
from tests.cases.interleaving import PATIENCE, Elsewhere, Gate, elsewhere, stopped_after
from tests.services.redis import RedisServer

__all__ = ["elsewhere"]

pytestmark = pytest.mark.django_db(transaction=True)


class Articles(CachedRepository[Article]):
    model = Article


articles = Articles()


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis of this test's own, to be ill-treated."""
    with RedisServer().start() as server:
        yield server


@pytest.fixture
def store(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Instead of conftest's: the cache is on `server` alone."""
    monkeypatch.setattr(resilience, "PROBES", (0.01,))
    with override_settings(
        LOOM_CACHE={"LOCATION": server.url, "TIMEOUT": 0.5, "WRITE_TIMEOUT": 0.5, "DEFAULT_TTL": 77}
    ):
        yield "redis"
        breaker().stop()


def breaker() -> resilience.Breaker:
    resolver = generations.resolver()
    assert resolver is not None
    return resolver.breaker


class Trouble(NamedTuple):
    begin: Callable[[RedisServer], object]
    end: Callable[[RedisServer], object]


def _refuse(server: RedisServer) -> None:
    server.client.save()  # what comes back is as it was
    server.kill()


TROUBLES = {
    "refused": Trouble(_refuse, lambda server: server.restart()),
    "hung": Trouble(lambda server: server.suspend(), lambda server: server.resume()),
    "full": Trouble(
        lambda server: server.client.config_set("maxmemory", 1),
        lambda server: server.client.config_set("maxmemory", 0),
    ),
    "read-only": Trouble(
        lambda server: server.client.replicaof("127.0.0.1", "1"),
        lambda server: server.client.replicaof("NO", "ONE"),
    ),
}


@pytest.fixture(params=TROUBLES)
def trouble(request: pytest.FixtureRequest, server: RedisServer) -> Iterator[Trouble]:
    found = TROUBLES[request.param]
    yield found
    if request.param == "hung":
        server.resume()


@pytest.fixture
def article() -> Article:
    author = Author.objects.create(name="Ada")
    return Article.objects.create(author=author, slug="one", title="Old")


def retitle(article: Article, title: str = "New") -> None:
    Article.objects.filter(pk=article.pk).update(title=title)


def title_of(ask: Ask, article: Article) -> str:
    title: str = ask(articles, "get", pk=article.pk).title
    return title


def recovered() -> None:
    """Wait until the store has been found again, and what was queued has landed."""
    for thread in threading.enumerate():
        if thread.name == "loom_cache-probe":
            thread.join(PATIENCE)
    assert breaker().closed


# Reading and writing while there is no store. ---------------------------------------------------


def test_reads_are_answered_by_the_database(
    ask: Ask, article: Article, server: RedisServer, trouble: Trouble
) -> None:
    title_of(ask, article)
    trouble.begin(server)
    for title in ("Newer", "Newest"):
        retitle(article, title)
        assert title_of(ask, article) == title
        assert [each.title for each in ask(articles.all(), "list")] == [title]
        assert ask(articles.filter(title=title), "count") == 1


def test_what_was_never_read_before_is_answered_by_the_database(
    ask: Ask, article: Article, server: RedisServer, trouble: Trouble
) -> None:
    trouble.begin(server)
    for _ in range(5):
        assert title_of(ask, article) == "Old"


def test_a_write_is_committed_and_its_hooks_run(
    ask: Ask, article: Article, server: RedisServer, trouble: Trouble
) -> None:
    title_of(ask, article)
    trouble.begin(server)
    ran: list[str] = []
    with transaction.atomic():
        retitle(article)
        transaction.on_commit(lambda: ran.append(title_of(ask, article)))
    assert ran == ["New"]
    article.refresh_from_db()
    assert article.title == "New"


def test_invalidate_is_no_error(
    ask: Ask, article: Article, server: RedisServer, trouble: Trouble
) -> None:
    trouble.begin(server)
    invalidate(article)
    async_to_sync(ainvalidate)(article)


def test_reads_do_not_wait_for_a_store_that_has_not_answered_three_times(
    ask: Ask, article: Article, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resilience, "PROBES", (PATIENCE,))
    looks = _counted(monkeypatch, GenerationalDependencyResolver, "look", "look_sync")
    server.suspend()
    try:
        for _ in range(resilience.FAILURES_TO_OPEN + 5):
            title_of(ask, article)
    finally:
        server.resume()
    assert len(looks) == resilience.FAILURES_TO_OPEN


def test_a_read_whose_first_answer_took_all_its_time_asks_for_nothing_more(
    ask: Ask, article: Article, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = 0.0
    monkeypatch.setattr(deadlines, "monotonic", lambda: spent)
    original = RedisCache._read

    def slow(store: RedisCache, operation: Any, reply: Any) -> Any:
        nonlocal spent
        spent += 0.5
        return original(store, operation, reply)

    monkeypatch.setattr(RedisCache, "_read", slow)
    with server.counting() as calls:
        assert title_of(ask, article) == "Old"
    assert calls["mget"] == 1
    assert "eval" not in calls
    assert breaker().closed


def test_writes_do_not_wait_again_for_a_store_that_has_not_acknowledged_one(
    ask: Ask, article: Article, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resilience, "PROBES", (PATIENCE,))
    bumps = _counted(monkeypatch, CacheGateway, "bump_and_read", "bump_and_read_sync")
    server.suspend()
    try:
        for title in "ABCDE":
            retitle(article, title)
    finally:
        server.resume()
    assert len(bumps) == 1


def _counted(monkeypatch: pytest.MonkeyPatch, owner: type, *names: str) -> list[str]:
    """What is asked of the store from here on, by the owner's methods of these names."""
    calls: list[str] = []

    def counting(name: str) -> Callable[..., Any]:
        original = getattr(owner, name)

        def method(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return original(*args, **kwargs)

        return method

    for name in names:
        monkeypatch.setattr(owner, name, counting(name))
    return calls


def test_an_outage_is_said_once_when_it_begins_and_once_when_it_ends(
    ask: Ask, article: Article, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    TROUBLES["refused"].begin(server)
    for number in range(5):
        title_of(ask, article)
        retitle(article, str(number))
    TROUBLES["refused"].end(server)
    recovered()
    title_of(ask, article)
    assert ["answers again" in line for line in caplog.messages] == [False, True]


# Afterwards. ------------------------------------------------------------------------------------


def test_after_recovery_nothing_old_is_served(
    ask: Ask, article: Article, server: RedisServer, trouble: Trouble
) -> None:
    title_of(ask, article)
    with outcomes("hit"):
        title_of(ask, article)
    trouble.begin(server)
    retitle(article)
    trouble.end(server)
    recovered()
    assert title_of(ask, article) == "New"
    assert title_of(ask, article) == "New"


def test_after_recovery_reads_are_hits_again(
    ask: Ask, article: Article, server: RedisServer, trouble: Trouble
) -> None:
    trouble.begin(server)
    for _ in range(5):
        title_of(ask, article)
    retitle(article)
    trouble.end(server)
    recovered()
    title_of(ask, article)
    with outcomes("hit"):
        assert title_of(ask, article) == "New"


def test_until_the_queued_bumps_have_landed_the_process_reads_the_database(
    ask: Ask, article: Article, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resilience, "PROBES", (PATIENCE,))
    title_of(ask, article)
    server.suspend()
    retitle(article)
    server.resume()
    with outcomes("bypass"):
        assert title_of(ask, article) == "New"


def test_a_rollback_during_an_outage_queues_nothing(
    ask: Ask, article: Article, server: RedisServer
) -> None:
    title_of(ask, article)
    server.suspend()
    with transaction.atomic():
        retitle(article)
        transaction.set_rollback(True)
    server.resume()
    with outcomes("hit"):
        assert title_of(ask, article) == "Old"


def test_a_reader_that_looked_before_an_outage_leaves_nothing_old_behind(
    ask: Ask, article: Article, server: RedisServer, elsewhere: Elsewhere
) -> None:
    def read() -> str:
        with stopped_after("SELECT", gate):
            return title_of(ask, article)

    with Gate() as gate:
        seen = elsewhere.begin(read)
        gate.wait_until_reached()
        server.suspend()
        retitle(article)
        server.resume()
        gate.open()
        assert seen.result() == "Old"
    recovered()
    assert title_of(ask, article) == "New"


def test_a_reader_that_stores_after_the_queue_has_landed_leaves_nothing_old_behind(
    ask: Ask, article: Article, server: RedisServer, elsewhere: Elsewhere
) -> None:
    def read() -> str:
        with stopped_after("SELECT", gate):
            return title_of(ask, article)

    with Gate() as gate:
        seen = elsewhere.begin(read)
        gate.wait_until_reached()
        server.suspend()
        retitle(article)
        server.resume()
        recovered()
        gate.open()
        assert seen.result() == "Old"
    assert title_of(ask, article) == "New"


def test_a_redis_that_restarts_from_an_older_snapshot_revives_nothing(
    ask: Ask, article: Article, server: RedisServer
) -> None:
    title_of(ask, article)
    server.client.save()
    retitle(article)
    server.restart()
    assert title_of(ask, article) == "New"


def test_a_redis_that_restarts_during_a_load_keeps_nothing_of_it(
    ask: Ask, article: Article, server: RedisServer, elsewhere: Elsewhere
) -> None:
    """The reader stores into the new life under the counters of the old one."""

    def read() -> str:
        with stopped_after("SELECT", gate):
            return title_of(ask, article)

    with Gate() as gate:
        seen = elsewhere.begin(read)
        gate.wait_until_reached()
        server.client.save()
        retitle(article)
        server.restart()
        gate.open()
        assert seen.result() == "Old"
    assert title_of(ask, article) == "New"


def test_a_redis_that_was_emptied_is_filled_again(
    ask: Ask, article: Article, server: RedisServer
) -> None:
    title_of(ask, article)
    server.client.flushall()
    with outcomes("miss", "hit"):
        title_of(ask, article)
        title_of(ask, article)


def test_dropped_connections_cost_no_reader_or_writer_anything(
    ask: Ask, article: Article, server: RedisServer
) -> None:
    title_of(ask, article)
    server.client.client_kill_filter(_type="normal", skipme=True)
    with outcomes("hit"):
        title_of(ask, article)
    server.client.client_kill_filter(_type="normal", skipme=True)
    retitle(article)
    assert title_of(ask, article) == "New"
    assert breaker().closed


# A writer that dies between its commit and its bump. --------------------------------------------


def test_whatever_is_stored_ends_by_itself(ask: Ask, article: Article, server: RedisServer) -> None:
    """The bound for a writer that is killed after its COMMIT: nothing else tells of its write."""
    ask(articles, "get", pk=article.pk)
    ask(articles, "get_or_none", pk=-1)
    ask(articles.all(), "list")
    ask(articles.all(), "page", 1, size=5)
    entries = [key for key in server.client.scan_iter() if b":e:" in key]
    assert len(entries) == 5
    assert all(0 < server.client.pttl(key) <= 120_000 for key in entries)
    everything = list(server.client.scan_iter())
    assert all(server.client.ttl(key) > 0 for key in everything)


def test_a_read_without_its_store_is_told_as_a_bypass(
    ask: Ask, article: Article, server: RedisServer
) -> None:
    server.kill()
    with metrics.recording() as events:
        title_of(ask, article)
    (event,) = events
    assert isinstance(event, metrics.Read)
    assert (event.outcome, event.reason) == ("bypass", "unavailable")
