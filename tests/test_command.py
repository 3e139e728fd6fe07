"""`manage.py loom_cache inspect` and `flush`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from loom_cache import CachedRepository, cached_query
from testproject.news.models import Article, Author
from tests.library.models import Country, Day, Shop
from tests.services.redis import RedisServer

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parent.parent
ONE, TWO = 1_000_001, 1_000_002


class Articles(CachedRepository[Article]):
    model = Article


class Authors(CachedRepository[Author]):
    model = Author


class Countries(CachedRepository[Country]):
    model = Country


class Shops(CachedRepository[Shop]):
    model = Shop


class Days(CachedRepository[Day]):
    model = Day

    @cached_query
    def no_table(self) -> int:
        calls.append("called")
        return len(calls)


articles, authors, countries = Articles(), Authors(), Countries()
shops, days = Shops(), Days()
calls: list[str] = []


@pytest.fixture(autouse=True)
def server(redis_server: RedisServer) -> Iterator[RedisServer]:
    """An empty Redis, and in the database an author with two articles."""
    redis_server.reset()
    with override_settings(LOOM_CACHE={"LOCATION": redis_server.url, "TIMEOUT": 5}):
        author = Author.objects.create(pk=ONE, name="Ada")
        for pk, slug in ((ONE, "one"), (TWO, "two")):
            Article.objects.create(pk=pk, author=author, slug=slug)
        yield redis_server


@pytest.fixture
def in_memory() -> Iterator[None]:
    with override_settings(LOOM_CACHE={"LOCATION": "memory://?ttl_cap=600"}):
        yield


def run(*arguments: str) -> str:
    """What the command says; nothing on stderr."""
    said, complained = StringIO(), StringIO()
    call_command("loom_cache", *arguments, stdout=said, stderr=complained)
    assert complained.getvalue() == ""
    return said.getvalue()


def counters(*arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("inspect", "--format", "json", *arguments))
    return found


def tags(*arguments: str) -> list[tuple[str, str]]:
    return [(counter["model"], counter["tag"]) for counter in counters(*arguments)]


def is_warm(read: Callable[[], object]) -> bool:
    """Whether the answer comes from the cache."""
    with CaptureQueriesContext(connection) as captured:
        read()
    return len(captured) == 0


def article(pk: int = ONE) -> Article:
    return articles.get(pk=pk)


# inspect ------------------------------------------------------------------------------------------


def test_inspect_shows_each_counter_as_a_line_of_a_table() -> None:
    article()
    head, *lines = run("inspect").splitlines()
    assert head.split("  ")[0] == "MODEL"
    assert head.split() == "MODEL TAG GENERATION BUMPS SEEDED OPEN WRITERS".split()
    assert [line.split()[:2] for line in lines] == [
        ["news.Article", "*"],
        ["news.Article", f"id:{ONE}"],
        ["news.Article", "ids"],
        ["news.Article", "list"],
    ]
    assert len({line.index(f" {line.split()[1]} ") for line in lines}) == 1, "columns are aligned"


def test_inspect_as_json_gives_every_counter_with_its_facts() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    article()
    for counter in counters():
        assert list(counter) == "model tag generation bumps seeded open_writers".split()
        assert counter["model"] == "news.Article"
        assert counter["generation"] > 0
        assert (counter["bumps"], counter["open_writers"]) == (0, 0)
        assert before <= datetime.fromisoformat(counter["seeded"]) <= datetime.now(UTC)


def test_inspect_shows_the_values_that_answers_are_found_by() -> None:
    articles.filter(author_id=7).count()
    list(articles.filter(author_id=7))
    list(articles.filter(author_id=7)[5:10])
    found = {one["tag"] for one in json.loads(run("inspect", "news.Article", "--format", "json"))}
    kinds = ("", "[counts]", "[later pages]")
    assert {"where", *(f"where:author_id{kind}:7" for kind in kinds)} <= found


def test_inspect_counts_the_bumps() -> None:
    article()
    for title in "abc":
        Article.objects.filter(pk=ONE).update(title=title)
    bumps = {counter["tag"]: counter["bumps"] for counter in counters()}
    assert bumps == {"*": 0, f"id:{ONE}": 3, "ids": 0, "list": 3}


def test_inspect_says_that_nothing_is_cached() -> None:
    assert run("inspect") == "There are no counters: nothing is cached.\n"
    assert counters() == []


@pytest.mark.parametrize("label", ["news.Author", "news.author", "NEWS.AUTHOR"])
def test_inspect_shows_only_the_model_that_is_named(label: str) -> None:
    article()
    authors.get(pk=ONE)
    assert {model for model, _ in tags(label)} == {"news.Author"}


def test_inspect_shows_only_the_apps_that_are_named() -> None:
    article()
    Country.objects.create(code="SE", name="Sweden")
    countries.get(pk="SE")
    assert {model for model, _ in tags("library")} == {"library.Country"}
    assert {model for model, _ in tags("library", "news")} == {"library.Country", "news.Article"}


def test_inspect_shows_only_the_row_that_is_named() -> None:
    article(ONE)
    article(TWO)
    assert tags("news.Article", "--pk", str(TWO)) == [("news.Article", f"id:{TWO}")]
    assert tags("news.Article", "--pk", "7") == []


def test_inspect_shows_no_more_than_the_limit() -> None:
    for pk in (ONE, TWO):
        article(pk)
    assert len(counters()) == 5
    assert len(counters("--limit", "3")) == 3


def test_inspect_names_a_model_whose_table_has_an_unusual_name() -> None:
    Day.objects.create(date=date(2026, 1, 1))
    days.count()
    assert {model for model, _ in tags()} == {"library.Day"}
    assert tags("library.Day") == tags()


def test_inspect_names_every_model_of_a_table() -> None:
    shops.count()
    assert ("library.OpenShop, library.Shop", "list") in tags("library.OpenShop")


def test_inspect_shows_the_counter_of_what_depends_on_no_table() -> None:
    days.no_table()
    assert ("(no table)", "*") in tags()


# flush --------------------------------------------------------------------------------------------


def test_flush_of_a_model_makes_what_is_cached_of_it_unreadable() -> None:
    article()
    authors.get(pk=ONE)
    assert run("flush", "news.Article") == (
        "Bumped 1 counter of news.Article: what was cached before is not read again.\n"
    )
    assert not is_warm(article)
    assert is_warm(lambda: authors.get(pk=ONE))


def test_flush_of_an_app_makes_what_is_cached_of_its_models_unreadable() -> None:
    article()
    Country.objects.create(code="SE", name="Sweden")
    countries.get(pk="SE")
    assert "news.Article, news.Article_tags, news.Author" in run("flush", "news")
    assert not is_warm(article)
    assert is_warm(lambda: countries.get(pk="SE"))


def test_flush_of_several_labels_is_one_round_trip(server: RedisServer) -> None:
    article()
    with server.counting() as made:
        run("flush", "news", "library.Day")
    assert made["eval"] == 1


def test_flush_of_rows_leaves_the_others_readable() -> None:
    for pk in (ONE, TWO):
        article(pk)
    articles.count()
    assert run("flush", "news.Article", "--pk", str(ONE), "7") == (
        f"Bumped 2 counters of news.Article, rows {ONE}, 7: "
        "what was cached before is not read again.\n"
    )
    assert not is_warm(lambda: article(ONE))
    assert not is_warm(articles.count)
    assert is_warm(lambda: article(TWO))


def test_flush_of_all_makes_everything_unreadable() -> None:
    for _ in range(2):
        article()
        days.no_table()
    assert is_warm(article)
    number = len(calls)
    run("flush", "--all")
    assert not is_warm(article)
    days.no_table()
    assert len(calls) == number + 1


def test_a_dry_run_says_what_would_be_bumped_and_bumps_nothing() -> None:
    article()
    assert run("flush", "news.Article", "--dry-run") == "Would bump 1 counter of news.Article.\n"
    run("flush", "--all", "--dry-run")
    assert is_warm(article)


def test_flush_says_that_nothing_was_cached() -> None:
    assert run("flush", "news.Tag") == "Nothing is cached of news.Tag.\n"


def test_flush_reaches_the_processes_that_share_the_store(server: RedisServer) -> None:
    article()
    subprocess.run(
        [sys.executable, ROOT / "manage.py", "loom_cache", "flush", "news.article"],
        env={**os.environ, "LOOM_CACHE_LOCATION": server.url},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    assert not is_warm(article)


# Mistakes -----------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[list[str], str]] = {
    "no such model": (["flush", "news.Artcle"], "'news.Artcle'.*Did you mean 'news.Article'"),
    "no such app": (["flush", "nwes"], "'nwes'.*Did you mean 'news'"),
    "one wrong label": (["flush", "news.Article", "x.y"], r"'x\.y'"),
    "no primary key": (
        ["flush", "news.Article", "--pk", "x"],
        "'x' is no primary key of news.Article: id is a BigAutoField",
    ),
    "one wrong primary key": (["flush", "news.Article", "--pk", str(ONE), "x"], "'x' is no pri"),
    "a key of an app": (["flush", "news", "--pk", "1"], r"primary keys.*need one model, such as"),
    "a key of two labels": (
        ["flush", "news.Article", "news.Tag", "--pk", "1"],
        "Primary keys need exactly one label",
    ),
    "a key of all": (["flush", "--all", "--pk", "1"], "Primary keys need exactly one label"),
    "nothing named": (["flush"], r"labels such as shop\.Article, or --all"),
    "labels and all": (["flush", "news", "--all"], "labels or --all, not both"),
    "inspect: no such model": (["inspect", "news.Artcle"], "Did you mean 'news.Article'"),
    "inspect: no primary key": (["inspect", "news.Article", "--pk", "x"], "'x' is no primary key"),
    "inspect: a key of an app": (["inspect", "news", "--pk", "1"], "exactly one model"),
    "inspect: a key of nothing": (["inspect", "--pk", "1"], "exactly one model"),
    "inspect: no limit": (["inspect", "--limit", "0"], "'0' is no positive whole number"),
    "inspect: no number": (["inspect", "--limit", "x"], "'x' is no positive whole number"),
    "inspect: no format": (["inspect", "--format", "xml"], "invalid choice: 'xml'"),
    "no action": ([], "ACTION"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_and_nothing_is_bumped(arguments: list[str], message: str) -> None:
    article()
    with pytest.raises(CommandError, match=message):
        run(*arguments)
    assert is_warm(article)


@pytest.mark.parametrize("arguments", [["inspect"], ["flush", "news"], ["flush", "--all"]])
def test_a_store_that_is_down_is_an_error_that_says_so(arguments: list[str]) -> None:
    with RedisServer().start() as gone:
        address = gone.url
    with (
        override_settings(LOOM_CACHE={"LOCATION": address}),
        pytest.raises(CommandError, match="Redis"),
    ):
        run(*arguments)


def test_settings_that_are_wrong_are_an_error_that_says_how_to_find_out() -> None:
    with (
        override_settings(LOOM_CACHE={"LOCATIONS": "x"}),
        pytest.raises(CommandError, match=r"LOOM_CACHE setting is wrong.*manage\.py check"),
    ):
        run("inspect")


# A store in memory --------------------------------------------------------------------------------


@pytest.mark.usefixtures("in_memory")
@pytest.mark.parametrize("arguments", [["inspect"], ["flush", "news"]])
def test_with_a_store_in_memory_it_says_that_it_sees_only_its_own_process(
    arguments: list[str],
) -> None:
    complained = StringIO()
    call_command("loom_cache", *arguments, stdout=StringIO(), stderr=complained)
    assert "in the memory of each process" in complained.getvalue()
    assert "LOOM_CACHE['LOCATION']" in complained.getvalue()


@pytest.mark.usefixtures("in_memory")
def test_with_a_store_in_memory_it_flushes_its_own_process() -> None:
    article()
    call_command("loom_cache", "flush", "news", stdout=StringIO(), stderr=StringIO())
    assert not is_warm(article)
