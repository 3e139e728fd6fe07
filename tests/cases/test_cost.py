"""What a read costs, counted and never timed: requests by Redis' own statistics, and on a hit no
QuerySet, no SQL, no thread."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
from asgiref.sync import SyncToAsync, async_to_sync
from django.db.models import Count, F, Max, Q, QuerySet
from django.db.models.sql.compiler import SQLAggregateCompiler, SQLCompiler
from django.test import override_settings

from loom_cache import CachedRepository, cached_query, hints
from testproject.news.models import Article, Author, Tag
from tests.cases.conftest import Ask, outcomes, statements
from tests.library.models import Memo
from tests.services.redis import RedisServer

pytestmark = pytest.mark.django_db(transaction=True)


class Articles(CachedRepository[Article]):
    model = Article

    @cached_query
    async def atitles(self) -> list[str]:
        return [title async for title in Article.objects.values_list("title", flat=True)]

    @cached_query
    def titles(self) -> list[str]:
        return list(Article.objects.values_list("title", flat=True))


class WithAuthors(CachedRepository[Article]):
    queryset = Article.objects.select_related("author")


class WithTags(CachedRepository[Article]):
    queryset = Article.objects.prefetch_related("tags")


class StaticMemos(CachedRepository[Memo]):
    """The manager of its model builds its QuerySet anew each time."""

    model = Memo
    static = True


class Memos(CachedRepository[Memo]):
    model = Memo


articles = Articles()
with_authors = WithAuthors()
with_tags = WithTags()


@pytest.fixture(autouse=True)
def fresh_process() -> Callable[[], None]:
    """What questions of a kind depend on is known to nobody yet. Calling it: to nobody any more."""
    hints.forget()
    return hints.forget


@pytest.fixture(autouse=True)
def hundred(transactional_db: None) -> list[int]:
    """The primary keys of a hundred articles."""
    author = Author.objects.create(name="Ada")
    rows = [Article(author=author, slug=f"{n}", title=f"Title {n}", views=n) for n in range(100)]
    Article.objects.bulk_create(rows)
    Article.objects.get(slug="7").tags.add(Tag.objects.create(name="loom"))
    return list(Article.objects.order_by("views").values_list("pk", flat=True))


class Asked(NamedTuple):
    """A question, and the terminal that asks it."""

    name: str
    chain: Callable[[], Any]
    terminal: str = "list"
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}


WITHOUT_PREFETCHES = [
    Asked("a row by pk", lambda: articles.filter(pk=pk_of("7")), "get"),
    Asked("a row by another field", lambda: articles, "get", (), {"slug": "7"}),
    Asked("a row that is not there", lambda: articles, "get_or_none", (), {"slug": "x"}),
    Asked("a row with its author", lambda: with_authors, "get", (), {"slug": "7"}),
    Asked("a list", lambda: articles.filter(views__lt=20)),
    Asked("a list by Q and F", lambda: articles.filter(Q(views=1) | Q(pk=F("views")))),
    Asked("a list by an instance", lambda: articles.filter(author=ada())),
    Asked("a list with authors", lambda: with_authors.order_by("author__name", "pk")),
    Asked("a slice", lambda: articles.order_by("-created")[10:30]),
    Asked("values", lambda: articles.values("slug", "author__name")),
    Asked("a flat list", lambda: articles.values_list("title", flat=True)),
    Asked("an annotated list", lambda: articles.annotate(n=Count("comments"))),
    Asked("a count", lambda: articles.filter(author__name="Ada"), "count"),
    Asked("an existence", lambda: articles.filter(views=1), "exists"),
    Asked("a containment", lambda: articles, "contains", (Article(pk=1),)),
    Asked("an aggregate", lambda: articles, "aggregate", (Max("views"),)),
    Asked("the first", lambda: articles.order_by("views"), "first"),
    Asked("the latest", lambda: articles, "latest", ("created",)),
    Asked("a page and its count", lambda: articles, "page", (2,), {"size": 20}),
    Asked("a hundred rows by pk", lambda: articles.all(), "in_bulk"),
    Asked("a method of one's own", lambda: articles, "titles"),
]
EVERYTHING = [
    *WITHOUT_PREFETCHES,
    Asked("a row with its tags", lambda: with_tags, "get", (), {"slug": "7"}),
]


def pk_of(slug: str) -> int:
    return Article.objects.get(slug=slug).pk


def ada() -> Author:
    return Author.objects.get(name="Ada")


def named(asked: Asked) -> str:
    return asked.name


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[RedisServer]:
    """An empty server, which the cache is on."""
    redis_server.reset()
    with override_settings(LOOM_CACHE={"LOCATION": redis_server.url, "TIMEOUT": 5}):
        yield redis_server


Requests = Callable[..., Counter[str]]


@pytest.fixture(params=["async", "sync"])
def requests(request: pytest.FixtureRequest, redis: RedisServer) -> Requests:
    """`requests(query, "get", pk=7)`: the commands that this read costs over a connection that
    exists already, those that scripts run included."""

    def asynchronously(query: Any, terminal: str, *args: Any, **kwargs: Any) -> Counter[str]:
        async def main() -> Counter[str]:
            await articles.aget_or_none(pk=0)
            with redis.counting() as calls:
                await getattr(query, f"a{terminal}")(*args, **kwargs)
            return Counter(calls)

        return async_to_sync(main)()

    def synchronously(query: Any, terminal: str, *args: Any, **kwargs: Any) -> Counter[str]:
        articles.get_or_none(pk=0)
        with redis.counting() as calls:
            if terminal == "list":
                list(query)
            else:
                getattr(query, terminal)(*args, **kwargs)
        return Counter(calls)

    return asynchronously if request.param == "async" else synchronously


# Requests.


@pytest.mark.parametrize("asked", EVERYTHING, ids=named)
def test_a_hit_is_one_mget_and_nothing_else(requests: Requests, asked: Asked) -> None:
    query = asked.chain()
    requests(query, asked.terminal, *asked.args, **asked.kwargs)
    assert requests(query, asked.terminal, *asked.args, **asked.kwargs) == {"mget": 1}


def test_a_hundred_rows_by_key_are_one_mget(requests: Requests, hundred: list[int]) -> None:
    requests(articles, "in_bulk", hundred)
    assert requests(articles, "in_bulk", hundred) == {"mget": 1}


def test_rows_by_key_that_several_reads_have_stored_are_one_mget(
    requests: Requests, hundred: list[int]
) -> None:
    for pk in hundred[:10]:
        requests(articles, "get", pk=pk)
    assert requests(articles, "in_bulk", hundred[:10]) == {"mget": 1}


def test_a_first_read_looks_seeds_and_stores(requests: Requests, hundred: list[int]) -> None:
    calls = requests(articles.filter(author__name__startswith="A"), "count")
    assert (calls["mget"], calls["eval"]) == (1, 1)
    # One entry, and the counters of the two tables that were not there: T of articles was.
    assert calls["set"] == 1 + 2
    assert not calls.keys() - {"mget", "eval", "time", "get", "set", "expire"}


def test_the_first_read_by_values_makes_them_known_to_writers_as_well(
    requests: Requests, hundred: list[int]
) -> None:
    calls = requests(articles.filter(views=1), "count")
    assert (calls["mget"], calls["eval"]) == (1, 2)  # make known, seed


def test_a_miss_under_counters_that_exist_looks_and_stores(
    requests: Requests, hundred: list[int]
) -> None:
    requests(articles.filter(views__lt=1), "list")
    assert requests(articles.filter(views__lt=2), "list") == {"mget": 1, "set": 1}


def test_a_miss_of_values_not_asked_for_before_looks_seeds_and_stores(
    requests: Requests, hundred: list[int]
) -> None:
    requests(articles.filter(views=1), "list")
    calls = requests(articles.filter(views=2), "list")
    assert (calls["mget"], calls["eval"]) == (1, 1)


def test_a_miss_of_values_asked_for_before_looks_and_stores(
    requests: Requests, hundred: list[int]
) -> None:
    requests(articles.filter(views=1), "list")
    Article.objects.filter(views=1).update(title="New")
    assert requests(articles.filter(views=1), "list") == {"mget": 1, "set": 1}


def test_a_miss_after_a_write_looks_and_stores(requests: Requests, hundred: list[int]) -> None:
    requests(articles, "get", pk=hundred[0])
    Article.objects.filter(pk=hundred[0]).update(title="New")
    assert requests(articles, "get", pk=hundred[0]) == {"mget": 1, "set": 1}


def test_the_rows_that_in_bulk_misses_are_stored_in_one_request(
    redis: RedisServer, hundred: list[int]
) -> None:
    articles.in_bulk(hundred[:50])
    with statements(1), redis.counting() as calls:
        articles.in_bulk(hundred)
    assert (calls["mget"], calls["eval"], calls["set"]) == (1, 1, 50 + 50)


def test_the_first_hit_of_a_process_costs_a_second_look_where_related_rows_were_loaded(
    requests: Requests, fresh_process: Callable[[], None]
) -> None:
    requests(with_authors, "get", slug="7")
    fresh_process()
    assert requests(with_authors, "get", slug="7") == {"mget": 2}
    assert requests(with_authors, "get", slug="7") == {"mget": 1}


def test_the_first_hit_of_a_process_costs_one_look_where_none_were(
    requests: Requests, fresh_process: Callable[[], None], hundred: list[int]
) -> None:
    requests(articles, "get", pk=hundred[0])
    fresh_process()
    assert requests(articles, "get", pk=hundred[0]) == {"mget": 1}


def test_the_first_hit_of_a_process_on_each_page_costs_a_second_look(
    requests: Requests, fresh_process: Callable[[], None]
) -> None:
    for number in (1, 2):
        requests(with_authors, "page", number, size=10)
    fresh_process()
    for number in (1, 2):  # each shows rows of its own
        assert requests(with_authors, "page", number, size=10) == {"mget": 2}
        assert requests(with_authors, "page", number, size=10) == {"mget": 1}


def test_what_only_the_load_shows_is_read_after_it(requests: Requests) -> None:
    requests(with_authors.all()[:5], "list")
    calls = requests(with_authors.all()[5:9], "list")
    assert (calls["mget"], calls["eval"]) == (1, 1)  # the counter of their author


def test_a_bypass_asks_nothing(requests: Requests) -> None:
    for _ in range(2):
        calls = requests(articles.order_by("?"), "list")
    assert calls == {}


# Work.


@contextmanager
def counting(owner: Any, *names: str) -> Iterator[list[str]]:
    """The calls of these methods within the block, by name."""
    calls: list[str] = []
    patches = [patch.object(owner, name, _counted(owner, name, calls)) for name in names]
    for each in patches:
        each.start()
    try:
        yield calls
    finally:
        for each in patches:
            each.stop()


def _counted(owner: Any, name: str, calls: list[str]) -> Callable[..., Any]:
    original = getattr(owner, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(f"{owner.__name__}.{name}")
        return original(*args, **kwargs)

    return counted


@contextmanager
def nothing_compiled() -> Iterator[None]:
    with (
        counting(SQLCompiler, "as_sql", "execute_sql") as selects,
        counting(SQLAggregateCompiler, "as_sql") as aggregates,
        statements(0),
    ):
        yield
    assert selects + aggregates == []


@pytest.mark.parametrize("asked", WITHOUT_PREFETCHES, ids=named)
def test_a_hit_builds_no_queryset_and_compiles_nothing(ask: Ask, asked: Asked) -> None:
    query = asked.chain()
    ask(query, asked.terminal, *asked.args, **asked.kwargs)
    with (
        outcomes("hit"),
        nothing_compiled(),
        counting(QuerySet, "__init__", "_clone") as querysets,
    ):
        ask(query, asked.terminal, *asked.args, **asked.kwargs)
    assert querysets == []


@pytest.mark.parametrize("spelled", [{"slug": "7"}, {"pk": 1}, {"views__in": [1, 2]}])
def test_building_a_chain_builds_no_queryset(store: str, spelled: dict[str, Any]) -> None:
    with nothing_compiled(), counting(QuerySet, "__init__", "_clone") as querysets:
        with_authors.filter(**spelled).exclude(Q(title="x")).order_by("-created")[:20].fresh()
    assert querysets == []


def test_a_hit_with_prefetched_rows_compiles_nothing(ask: Ask) -> None:
    ask(with_tags, "get", slug="7")
    with outcomes("hit"), nothing_compiled():
        article = ask(with_tags, "get", slug="7")
        assert [tag.name for tag in article.tags.all()] == ["loom"]


def test_a_static_base_is_not_built_on_a_hit(ask: Ask) -> None:
    ask(StaticMemos(), "list")
    with outcomes("hit"), nothing_compiled(), counting(QuerySet, "__init__") as querysets:
        ask(StaticMemos(), "list")
    assert querysets == []


def test_a_base_that_depends_on_who_asks_runs_no_sql_on_a_hit(ask: Ask) -> None:
    ask(Memos(), "list")
    with outcomes("hit"), statements(0), counting(SQLCompiler, "execute_sql") as executed:
        ask(Memos(), "list")
    assert executed == []


@pytest.mark.parametrize("asked", EVERYTHING, ids=named)
def test_an_asynchronous_hit_enters_no_thread(store: str, asked: Asked) -> None:
    query = asked.chain()

    async def main() -> list[str]:
        read = getattr(query, f"a{asked.terminal}")
        await read(*asked.args, **asked.kwargs)
        with (
            outcomes("hit"),
            counting(SyncToAsync, "__call__") as hops,
            counting(threading.Thread, "start") as threads,
        ):
            await read(*asked.args, **asked.kwargs)
        return hops + threads

    assert async_to_sync(main)() == []


def test_an_asynchronous_miss_enters_a_thread_once(store: str, hundred: list[int]) -> None:
    async def main() -> list[str]:
        await articles.aget(pk=hundred[0])
        with outcomes("miss"), counting(SyncToAsync, "__call__") as hops:
            await articles.aget(pk=hundred[1])
        return hops

    assert len(async_to_sync(main)()) == 1


def test_a_miss_of_a_known_kind_compiles_its_sql_once(ask: Ask, hundred: list[int]) -> None:
    ask(articles, "get", pk=hundred[0])
    with outcomes("miss"), statements(1), counting(SQLCompiler, "as_sql") as compiled:
        ask(articles, "get", pk=hundred[1])
    assert len(compiled) == 1
