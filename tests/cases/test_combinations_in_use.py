"""Which combinations of columns answers look at, known to writers of every process; and what comes
of it when the store loses some of that."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings
from django.db import IntegrityError, connection, connections, transaction
from django.db.models import F
from django.test import override_settings

from loom_cache import (
    CachedRepository,
    CacheGateway,
    GenerationalDependencyResolver,
    config,
    generations,
    metrics,
    tags,
)
from loom_cache.backends import Roll
from loom_cache.combinations import Catalogue, combination
from loom_cache.generations import MOST_COMBINATIONS, View
from testproject.news.models import Article, Author, Comment
from tests.cases.conftest import Ask, outcomes, statements
from tests.services.redis import RedisServer

pytestmark = pytest.mark.django_db(transaction=True)

TABLE = "news_article"
COLUMNS = ["slug", "title", "body", "published", "views"]


class Articles(CachedRepository[Article]):
    model = Article


class Comments(CachedRepository[Comment]):
    model = Comment


articles, comments = Articles(), Comments()


@pytest.fixture
def author(transactional_db: None) -> Author:
    return Author.objects.create(name="Ada")


@pytest.fixture
def resolver(store: str) -> GenerationalDependencyResolver:
    found = generations.resolver()
    assert found is not None
    return found


@pytest.fixture
def forgetful(resolver: GenerationalDependencyResolver) -> Callable[[], None]:
    """Calling it makes this process know as little as one that has just been started."""
    return resolver.catalogue.known.clear


@pytest.fixture
def counters(resolver: GenerationalDependencyResolver) -> CacheGateway:
    settings = config.current()
    assert settings is not None
    return CacheGateway(alias=settings.effective_counter_alias)


def article(author: Author, slug: str) -> Article:
    return Article.objects.create(author=author, slug=slug, title=slug)


def titles(found: list[Any]) -> list[str]:
    return sorted(one.title for one in found)


def test_a_writer_that_has_just_started_refreshes_what_others_read_by_value(
    ask: Ask, author: Author, forgetful: Callable[[], None]
) -> None:
    mine = articles.filter(author=author)
    assert ask(mine, "list") == []
    with outcomes("hit"):
        ask(mine, "list")
    forgetful()
    article(author, "new")
    assert titles(ask(mine, "list")) == ["new"]


def test_a_writer_that_has_just_started_leaves_other_values_alone(
    ask: Ask, author: Author, forgetful: Callable[[], None]
) -> None:
    other = Author.objects.create(name="Ben")
    hers = articles.filter(author=other)
    for _ in range(2):
        ask(hers, "list")
    forgetful()
    article(author, "new")
    with outcomes("hit"):
        assert ask(hers, "list") == []


@pytest.mark.parametrize("lost", ["the list", "its changes", "its life", "all of it"])
def test_whatever_is_lost_of_the_list_nothing_is_stale(
    ask: Ask, author: Author, forgetful: Callable[[], None], counters: CacheGateway, lost: str
) -> None:
    mine = articles.filter(author=author)
    for _ in range(2):
        assert ask(mine, "count") == 0
    keys = {
        "the list": [tags.list_of_combinations(TABLE)],
        "its changes": [tags.changes_of_combinations(TABLE)],
        "its life": [tags.of_combinations(TABLE)],
    }
    gone = [key for part in keys.values() for key in part] if lost == "all of it" else keys[lost]
    counters.delete_many_sync(gone)
    forgetful()
    article(author, "new")
    assert ask(mine, "count") == 1
    for _ in range(2):
        ask(mine, "count")
    forgetful()
    article(author, "newer")
    assert ask(mine, "count") == 2


def test_a_list_with_a_name_of_another_release_leaves_nothing_stale(
    ask: Ask, author: Author, forgetful: Callable[[], None], counters: CacheGateway
) -> None:
    mine = articles.filter(author=author)
    for _ in range(2):
        assert ask(mine, "count") == 0
    roll = Roll(
        counters.full_key(tags.of_combinations(TABLE)),
        counters.full_key(tags.list_of_combinations(TABLE)),
        counters.full_key(tags.changes_of_combinations(TABLE)),
    )
    counters.enroll_sync(roll, ["ranges:created"], MOST_COMBINATIONS)
    forgetful()
    article(author, "new")
    assert ask(mine, "count") == 1


def test_more_combinations_than_are_listed_depend_on_the_table(
    ask: Ask, author: Author, resolver: GenerationalDependencyResolver
) -> None:
    by_view = articles.filter(views=3)
    names = [combination([f"c{n}"], [], "rows") for n in range(MOST_COMBINATIONS)]
    resolver.enrol_sync({TABLE: frozenset(names)}, View(None))
    for _ in range(2):
        assert ask(by_view, "list") == []
    with outcomes("hit"):
        ask(by_view, "list")
    article(author, "new")  # of other values
    with outcomes("miss"):
        assert ask(by_view, "list") == []
    Article.objects.update(views=3)
    assert titles(ask(by_view, "list")) == ["new"]


def test_a_combination_that_comes_to_be_in_use_leaves_the_others_warm(
    ask: Ask, author: Author
) -> None:
    for _ in range(2):
        ask(articles.filter(author=author), "list")
    ask(articles.filter(slug="x"), "list")
    with outcomes("hit"):
        ask(articles.filter(author=author), "list")


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What writers ask of the store."""
    asked: list[str] = []
    for name in ("publish_sync", "learn_sync"):
        original = getattr(GenerationalDependencyResolver, name)

        def noted(*args: Any, _original: Any = original, _name: str = name) -> Any:
            asked.append(_name)
            return _original(*args)

        monkeypatch.setattr(GenerationalDependencyResolver, name, noted)
    return asked


def test_a_writer_asks_for_the_list_once(
    ask: Ask, author: Author, forgetful: Callable[[], None], requests: list[str]
) -> None:
    ask(articles.filter(author=author), "list")
    forgetful()
    requests.clear()
    article(author, "new")
    assert requests.count("learn_sync") == 1
    requests.clear()
    Article.objects.filter(slug="new").update(title="x")
    assert requests == ["publish_sync"]


def test_a_writer_of_a_table_that_is_read_by_key_alone_asks_for_no_list(
    ask: Ask, author: Author, forgetful: Callable[[], None], requests: list[str]
) -> None:
    made = article(author, "new")
    ask(articles, "get", pk=made.pk)
    forgetful()
    requests.clear()
    Article.objects.filter(pk=made.pk).update(title="x")
    assert requests == ["publish_sync"]


# What rows held before. ---------------------------------------------------------------------------


@pytest.fixture
def counted(ask: Ask, author: Author) -> Article:
    """An article whose author's articles have been counted."""
    made = article(author, "new")
    for _ in range(2):
        ask(articles.filter(author=author), "count")
    return made


def test_in_a_transaction_one_select_asks_what_a_row_was(counted: Article) -> None:
    with transaction.atomic():
        counted.title = "x"
        with statements(2):
            counted.save()


def test_for_many_rows_it_is_one_select(ask: Ask, counted: Article, author: Author) -> None:
    other = Author.objects.create(name="Ben")
    made = [article(author, f"{number}").pk for number in range(20)]
    with transaction.atomic(), statements(2):
        Article.objects.filter(pk__in=made).update(author=other)
    assert ask(articles.filter(author=author), "count") == 1


def test_what_a_condition_says_is_not_asked_for(ask: Ask, counted: Article, author: Author) -> None:
    other = Author.objects.create(name="Ben")
    with transaction.atomic(), statements(1):
        Article.objects.filter(author=author).update(author=other)
    assert ask(articles.filter(author=author), "count") == 0


@pytest.mark.parametrize(
    "write",
    [
        lambda made: made.save(update_fields=["title"]),
        lambda made: Article.objects.filter(pk=made.pk).update(views=F("views") + 1),
    ],
    ids=["other fields", "an expression"],
)
def test_columns_that_no_answer_looks_at_are_not_asked_for(
    counted: Article, write: Callable[[Article], None]
) -> None:
    with transaction.atomic(), statements(1):
        write(counted)


def test_outside_a_transaction_the_statement_is_put_into_one(counted: Article) -> None:
    with statements(4):  # BEGIN, SELECT, UPDATE, COMMIT
        counted.save()


def test_where_that_is_not_wanted_nothing_is_asked(store: str, author: Author) -> None:
    made = article(author, "new")
    with override_settings(LOOM_CACHE={**settings.LOOM_CACHE, "ASK_BEFORE_WRITES": False}):
        for _ in range(2):
            assert articles.filter(author=author).count() == 1
        with statements(1):
            made.save()
        with transaction.atomic(), statements(1):
            made.save()
        assert articles.filter(author=author).count() == 1


def test_a_statement_that_fails_in_its_own_transaction_leaves_none_behind(
    ask: Ask, counted: Article, author: Author
) -> None:
    article(author, "other")
    counted.slug = "other"
    with pytest.raises(IntegrityError):
        counted.save()
    assert not connection.in_atomic_block
    assert ask(articles.filter(author=author), "count") == 2


def test_for_lists_that_show_their_rows_nothing_is_asked(ask: Ask, author: Author) -> None:
    made = article(author, "new")
    for _ in range(2):
        ask(articles.filter(author=author), "list")
    with transaction.atomic(), statements(1):
        made.save()


def test_a_row_that_was_changed_unseen_since_it_was_loaded_is_found_by_what_it_was(
    ask: Ask, author: Author, counted: Article
) -> None:
    ben, cat = (Author.objects.create(name=name) for name in ("Ben", "Cat"))
    Article.objects.filter(pk=counted.pk).update(author=ben)
    for _ in range(2):
        assert ask(articles.filter(author=ben), "count") == 1
    counted.author = cat  # it was loaded as Ada's
    with transaction.atomic():
        counted.save()
    assert ask(articles.filter(author=ben), "count") == 0
    assert ask(articles.filter(author=cat), "count") == 1


def test_rows_that_came_to_match_after_they_were_asked_for_are_not_taken_for_known(
    ask: Ask, author: Author, counted: Article, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another transaction commits between the SELECT and the UPDATE."""
    from loom_cache import previous

    ben = Author.objects.create(name="Ben")
    for _ in range(2):
        ask(articles.filter(author=ben), "count")
    asked = previous._ask

    def asking(*args: Any) -> Any:
        found = asked(*args)
        assert found
        return found[:-1]

    monkeypatch.setattr(previous, "_ask", asking)
    with transaction.atomic():
        Article.objects.filter(slug="new").update(author=ben)
    assert ask(articles.filter(author=author), "count") == 0
    assert ask(articles.filter(author=ben), "count") == 1


# Triggers. ----------------------------------------------------------------------------------------


@pytest.fixture
def trigger(transactional_db: None) -> Iterator[None]:
    """Whoever inserts an article without a body gets 100 views."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "CREATE FUNCTION popular() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN NEW.views = 100; RETURN NEW; END $$"
            )
            cursor.execute(
                "CREATE TRIGGER popular BEFORE INSERT ON news_article "
                "FOR EACH ROW EXECUTE FUNCTION popular()"
            )
        else:
            cursor.execute(
                "CREATE TRIGGER popular AFTER INSERT ON news_article "
                "BEGIN UPDATE news_article SET views = 100 WHERE id = NEW.id; END"
            )
    yield
    with connection.cursor() as cursor:
        on = " ON news_article" if connection.vendor == "postgresql" else ""
        cursor.execute(f"DROP TRIGGER popular{on}")
        if connection.vendor == "postgresql":
            cursor.execute("DROP FUNCTION popular")


def test_a_table_with_a_trigger_is_not_depended_on_by_value(
    ask: Ask, author: Author, trigger: None
) -> None:
    popular = articles.filter(views=100)
    for _ in range(2):
        assert ask(popular, "list") == []
    article(author, "new")
    assert titles(ask(popular, "list")) == ["new"]


def test_whether_there_is_a_trigger_is_no_query_of_the_applications(
    ask: Ask, author: Author
) -> None:
    with statements(1):
        ask(comments.filter(approved=True), "list")


def test_a_bump_says_which_values_moved(ask: Ask, author: Author) -> None:
    ask(articles.filter(author=author), "count")
    with metrics.recording() as events:
        article(author, "new")
    moved = {tag for event in events if isinstance(event, metrics.Bump) for tag in event.tags}
    asked = combination(["author_id"], [], "all")
    assert tags.of_values(TABLE, asked, (author.pk,)) in moved


def test_who_lists_its_values_only_after_its_load_notices_who_wrote_meanwhile(
    ask: Ask, author: Author, counters: CacheGateway
) -> None:
    """The writer knew the list as it was then: without these values."""
    mine = articles.filter(author=author)
    for _ in range(2):
        assert ask(mine, "count") == 0
    counters.delete_many_sync(
        [
            tags.list_of_combinations(TABLE),
            tags.changes_of_combinations(TABLE),
            tags.of_combinations(TABLE),
        ]
    )
    assert ask(articles.filter(title="none"), "count") == 0

    def write() -> None:
        article(author, "one")
        connections.close_all()

    writes = [write]

    def writing_meanwhile(execute: Any, *arguments: Any) -> Any:
        result = execute(*arguments)
        while writes:
            with ThreadPoolExecutor(1) as another:
                another.submit(writes.pop()).result()
        return result

    with connection.execute_wrapper(writing_meanwhile):
        ask(mine, "count")
    assert ask(mine, "count") == 1


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """The store is a Redis that may be restarted."""
    with (
        RedisServer().start() as server,
        override_settings(LOOM_CACHE={"LOCATION": server.url, "TIMEOUT": 5}),
    ):
        yield server


@pytest.fixture
def catalogue(own_server: RedisServer) -> Catalogue:
    """What this process knows; exchanging it makes it another process."""
    found = generations.resolver()
    assert found is not None
    return found.catalogue


def test_a_reader_lists_its_values_again_when_an_older_list_has_come_back(
    author: Author, own_server: RedisServer, catalogue: Catalogue
) -> None:
    assert articles.filter(title="none").count() == 0
    own_server.client.save()
    mine = articles.filter(author=author)
    assert mine.count() == 0
    own_server.restart()
    assert mine.count() == 0
    reader = dict(catalogue.known)
    catalogue.known.clear()  # as a writer that has just been started
    article(author, "one")
    article(author, "two")  # now that it has learnt the list
    catalogue.known.update(reader)
    assert mine.count() == 2


def test_a_writer_does_not_take_another_list_of_the_same_number_for_the_one_it_knows(
    author: Author, own_server: RedisServer, catalogue: Catalogue
) -> None:
    assert articles.filter(title="none").count() == 0
    own_server.client.save()
    assert articles.filter(views=7).count() == 0
    writer = dict(catalogue.known)
    own_server.restart()
    catalogue.known.clear()  # as a reader that has just been started
    mine = articles.filter(author=author)
    assert mine.count() == 0
    catalogue.known.update(writer)
    article(author, "one")
    assert mine.count() == 1
