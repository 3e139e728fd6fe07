"""Races (case 35, R1-R6): orders of a reader's and a writer's steps that have made caches stale.
Each is made by hand, on real connections: nothing is left to luck."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core import serializers
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import Sum

from loom_cache import CachedRepository, CacheGateway, cached_query, generations, hints, invalidate
from testproject.news.models import Article, Author, Comment, Tag
from tests.cases.conftest import Ask, outcomes
from tests.cases.interleaving import (
    Elsewhere,
    Gate,
    committed_but_not_bumped,
    elsewhere,
    stopped_after,
    stopped_before,
    yonder,
)

__all__ = ["elsewhere", "yonder"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_ways]


class Articles(CachedRepository[Article]):
    queryset = Article.objects.select_related("author", "editor").prefetch_related("tags")

    @cached_query(depends_on=[Article])
    async def atitles(self) -> list[str]:
        return [title async for title in Article.objects.values_list("title", flat=True)]

    @cached_query(depends_on=[Article])
    def titles(self) -> list[str]:
        return list(Article.objects.values_list("title", flat=True))

    @cached_query
    async def afound_titles(self) -> list[str]:
        return [title async for title in Article.objects.values_list("title", flat=True)]

    @cached_query
    def found_titles(self) -> list[str]:
        return list(Article.objects.values_list("title", flat=True))

    @cached_query
    async def atitles_by_the_list(self) -> list[str]:
        return [article.title for article in await articles.alist()]

    @cached_query
    def titles_by_the_list(self) -> list[str]:
        return [article.title for article in articles]

    @cached_query
    async def aremarks(self) -> list[str]:
        article = await Article.objects.aget()
        if not article.published:
            return []
        return [text async for text in Comment.objects.values_list("text", flat=True)]

    @cached_query
    def remarks(self) -> list[str]:
        if not Article.objects.get().published:
            return []
        return list(Comment.objects.values_list("text", flat=True))


articles = Articles()


@pytest.fixture
def article() -> Article:
    author = Author.objects.create(name="Ada")
    return Article.objects.create(author=author, slug="one", title="Old")


Question = Callable[[Ask, Article], Any]

QUESTIONS: dict[str, Question] = {
    "row": lambda ask, _: ask(articles, "get", slug="one").title,
    "row by primary key": lambda ask, article: ask(articles, "get", pk=article.pk).title,
    "first": lambda ask, _: ask(articles.order_by("pk"), "first").title,
    "missing row": lambda ask, _: ask(articles, "get_or_none", title="New"),
    "list": lambda ask, _: [each.title for each in ask(articles.all(), "list")],
    "filtered": lambda ask, _: [each.slug for each in ask(articles.filter(title="Old"), "list")],
    "values": lambda ask, _: ask(articles.values_list("title"), "list"),
    "page": lambda ask, _: [each.title for each in ask(articles.all(), "page", 1, size=5)],
    "in bulk": lambda ask, article: ask(articles, "in_bulk", [article.pk])[article.pk].title,
    "count": lambda ask, _: ask(articles.filter(published=True), "count"),
    "exists": lambda ask, _: ask(articles.filter(published=True), "exists"),
    "aggregate": lambda ask, _: ask(articles.all(), "aggregate", Sum("views")),
    "custom query": lambda ask, _: ask(articles, "titles"),
    "custom query, dependencies found": lambda ask, _: ask(articles, "found_titles"),
    "custom query made of another": lambda ask, _: ask(articles, "titles_by_the_list"),
}


def change(article: Article) -> None:
    """Every question has another answer after it."""
    Article.objects.filter(pk=article.pk).update(title="New", views=1, published=False)


@dataclass
class Asked:
    """A question whose dependencies are known, and whose answer is in the database alone."""

    name: str
    ask: Callable[[], Any]
    old: Any

    def ask_until(self, gate: Gate, stop: Any) -> Any:
        """In a reader's thread: the answer, after a stop at the gate."""
        with stop("SELECT", gate):
            return self.ask()

    def assert_new(self) -> None:
        found = self.ask(), self.ask()
        assert found[0] == found[1] != self.old, self.name


def each_question(ask: Ask, article: Article) -> Iterator[Asked]:
    for name, question in QUESTIONS.items():
        asked = Asked(name, partial(question, ask, article), None)
        Article.objects.filter(pk=article.pk).update(title="Old", views=0, published=True)
        for _ in range(3):
            asked.old = asked.ask()
        invalidate("news")
        yield asked


# A reader and a writer (R4). --------------------------------------------------------------------


def test_a_reader_that_loaded_before_a_write_leaves_nothing_old_behind(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    for asked in each_question(ask, article):
        with Gate() as gate:
            seen = elsewhere.begin(partial(asked.ask_until, gate, stopped_after))
            gate.wait_until_reached()
            change(article)
            gate.open()
            assert seen.result() == asked.old, asked.name
        asked.assert_new()


def test_a_reader_that_looked_before_a_write_and_loaded_after_it_leaves_nothing_old_behind(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    for asked in each_question(ask, article):
        with Gate() as gate:
            seen = elsewhere.begin(partial(asked.ask_until, gate, stopped_before))
            gate.wait_until_reached()
            change(article)
            gate.open()
            assert seen.result() != asked.old, asked.name
        asked.assert_new()


def test_a_reader_that_loaded_before_a_commit_leaves_nothing_old_behind(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    """The statement was there first, the reader came, and the commit was last."""
    for asked in each_question(ask, article):
        with Gate() as gate:
            with transaction.atomic():
                change(article)
                seen = elsewhere.begin(partial(asked.ask_until, gate, stopped_after))
                gate.wait_until_reached()
            gate.open()
            assert seen.result() == asked.old, asked.name
        asked.assert_new()


def test_a_reader_that_stores_between_a_commit_and_its_bump_leaves_nothing_old_behind(
    ask: Ask, article: Article, elsewhere: Elsewhere, yonder: Elsewhere
) -> None:
    for asked in each_question(ask, article):
        with Gate() as gate:
            seen = yonder.begin(partial(asked.ask_until, gate, stopped_after))
            gate.wait_until_reached()
            with committed_but_not_bumped(elsewhere, partial(change, article)):
                gate.open()
                assert seen.result() == asked.old, asked.name
        asked.assert_new()


def _clear_author(article: Article) -> None:
    Author.objects.filter(name="Eve").delete()  # the editor becomes NULL


def _load_fixture(article: Article) -> None:
    article.title = "New"
    with NamedTemporaryFile("w", suffix=".json") as fixture:
        fixture.write(serializers.serialize("json", [article]))
        fixture.flush()
        call_command("loaddata", fixture.name, verbosity=0)


def _raw_update(article: Article) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE news_article SET title = 'New' WHERE slug LIKE 'o%%'", ())


def _raw_updates(article: Article) -> None:
    with connection.cursor() as cursor:
        cursor.executemany("UPDATE news_article SET title = %s", [("Newer",), ("New",)])


def _bulk_update(article: Article) -> None:
    article.title = "New"
    Article.objects.bulk_update([article], ["title"])


def _bulk_upsert(article: Article) -> None:
    article.title = "New"
    Article.objects.bulk_create(
        [article], update_conflicts=True, unique_fields=["id"], update_fields=["title"]
    )


def _raw_delete(article: Article) -> None:
    article.tags.clear()
    queryset = Article.objects.filter(pk=article.pk)
    queryset._raw_delete(queryset.db)


def _asave(article: Article) -> None:
    article.title = "New"
    async_to_sync(article.asave)()


WRITES: dict[str, Callable[[Article], object]] = {
    "save": lambda article: Article(
        pk=article.pk, author_id=article.author_id, slug="one", title="New"
    ).save(),
    "asave": _asave,
    "update": change,
    "bulk_update": _bulk_update,
    "upsert": _bulk_upsert,
    "raw SQL": _raw_update,
    "executemany": _raw_updates,
    "fixture": _load_fixture,
    "delete": lambda article: Article.objects.get(pk=article.pk).delete(),
    "delete of a queryset": lambda article: Article.objects.all().delete(),
    "_raw_delete": _raw_delete,
    "CASCADE": lambda article: Author.objects.filter(name="Ada").delete(),
    "SET_NULL": _clear_author,
    "related row": lambda article: Author.objects.filter(name="Ada").update(name="Ada Lovelace"),
    "m2m add": lambda article: article.tags.add(Tag.objects.create(name="wool")),
    "m2m remove": lambda article: article.tags.remove(Tag.objects.get(name="loom")),
    "m2m clear": lambda article: article.tags.clear(),
    "m2m from the other side": lambda article: Tag.objects.get(name="loom").articles.clear(),
    "m2m row": lambda article: Tag.objects.filter(name="loom").update(name="looms"),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_reader_that_loaded_before_a_write_of_any_kind_leaves_nothing_old_behind(
    ask: Ask, article: Article, write: str, elsewhere: Elsewhere
) -> None:
    article.editor = Author.objects.create(name="Eve")
    article.save()
    article.tags.add(Tag.objects.create(name="loom"))

    def whole() -> Any:
        found = ask(articles, "get_or_none", pk=article.pk)
        if found is None:
            return None
        names = [tag.name for tag in found.tags.all()]
        return found.title, found.author.name, found.editor and found.editor.name, names

    def read() -> Any:
        with stopped_after(last_query, gate):
            return whole()

    last_query = 'SELECT ("news_article_tags"' if connection.vendor == "postgresql" else "SELECT ("
    with Gate() as gate:
        seen = elsewhere.begin(read)
        gate.wait_until_reached()
        WRITES[write](article)
        gate.open()
        old = seen.result()
    new = whole()
    assert new != old
    assert whole() == new


def test_creating_the_row_that_a_reader_is_finding_missing_leaves_nothing_old_behind(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    def read() -> Any:
        with stopped_after("SELECT", gate):
            return ask(articles, "get_or_none", slug="two")

    with Gate() as gate:
        seen = elsewhere.begin(read)
        gate.wait_until_reached()
        Article.objects.bulk_create([Article(author_id=article.author_id, slug="two", title="Two")])
        gate.open()
        assert seen.result() is None
    assert ask(articles, "get_or_none", slug="two") is not None


# Counters that are lost. ------------------------------------------------------------------------


def lose_counters() -> None:
    """As an eviction, a flush, or a restart without a snapshot does."""
    resolver = generations.resolver()
    assert resolver is not None
    gateway = CacheGateway(alias="counters")
    assert gateway.remove_sync([gateway.full_key(tag) for tag in resolver.known_sync()]) > 0


def test_counters_lost_during_a_load_do_not_revive_what_it_read(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    for asked in each_question(ask, article):
        with Gate() as gate:
            seen = elsewhere.begin(partial(asked.ask_until, gate, stopped_after))
            gate.wait_until_reached()
            lose_counters()
            change(article)  # finds no counter to bump
            gate.open()
            assert seen.result() == asked.old, asked.name
        asked.assert_new()


def test_counters_lost_and_seeded_anew_during_a_load_do_not_revive_what_it_read(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    for asked in each_question(ask, article):
        with Gate() as gate:
            seen = elsewhere.begin(partial(asked.ask_until, gate, stopped_after))
            gate.wait_until_reached()
            lose_counters()
            change(article)
            asked.ask()  # seeds them
            gate.open()
            assert seen.result() == asked.old, asked.name
        asked.assert_new()


def test_an_entry_whose_counters_were_lost_before_a_write_is_not_revived(
    ask: Ask, article: Article
) -> None:
    for asked in each_question(ask, article):
        asked.ask()
        lose_counters()
        change(article)
        asked.assert_new()


# Dependencies that are found late (R6). ---------------------------------------------------------


def forget_what_was_learnt() -> None:
    """As a process that has just been started."""
    hints.forget()


def test_an_entry_is_judged_by_dependencies_that_this_process_has_not_learnt(
    ask: Ask, article: Article
) -> None:
    def author() -> str:
        name: str = ask(articles, "get", pk=article.pk).author.name
        return name

    author()
    with outcomes("hit"):
        author()
    forget_what_was_learnt()
    Author.objects.update(name="Bob")
    assert author() == "Bob"


def test_an_entry_with_unlearnt_dependencies_is_a_hit_while_they_are_unchanged(
    ask: Ask, article: Article
) -> None:
    ask(articles, "get", pk=article.pk)
    forget_what_was_learnt()
    with outcomes("hit"):
        ask(articles, "get", pk=article.pk)


def test_a_table_that_a_load_touches_for_the_first_time_is_watched_from_then_on(
    ask: Ask, article: Article
) -> None:
    Article.objects.update(published=False)
    for _ in range(3):
        assert ask(articles, "remarks") == []
    Article.objects.update(published=True)
    assert ask(articles, "remarks") == []  # has now read the comments, too
    Comment.objects.create(article=article, author_name="Eve", text="Hm")
    assert ask(articles, "remarks") == ["Hm"]


def test_a_write_during_the_load_that_finds_a_new_table_leaves_nothing_old_behind(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    def read() -> Any:
        with stopped_after('SELECT "news_comment"', gate):
            return ask(articles, "remarks")

    forget_what_was_learnt()
    for number in range(3):  # the first finds the table, the others know it
        invalidate("news")
        with Gate() as gate:
            seen = elsewhere.begin(read)
            gate.wait_until_reached()
            Comment.objects.create(article=article, author_name="Eve", text="Hm")
            gate.open()
            assert len(seen.result()) == number
        assert len(ask(articles, "remarks")) == number + 1
        assert len(ask(articles, "remarks")) == number + 1


def test_an_answer_made_of_a_cached_one_changes_with_it(ask: Ask, article: Article) -> None:
    for _ in range(4):
        assert ask(articles, "titles_by_the_list") == ["Old"]
    change(article)
    assert ask(articles, "titles_by_the_list") == ["New"]


def test_an_answer_made_of_a_hit_changes_with_it(ask: Ask, article: Article) -> None:
    forget_what_was_learnt()
    for _ in range(2):
        ask(articles.all(), "list")
    for _ in range(4):  # the load inside is a hit each time: it runs no statement
        assert ask(articles, "titles_by_the_list") == ["Old"]
    change(article)
    assert ask(articles, "titles_by_the_list") == ["New"]


# Two writers. -----------------------------------------------------------------------------------


def test_a_reader_between_two_writes_of_a_row_leaves_nothing_of_the_first_behind(
    ask: Ask, article: Article, elsewhere: Elsewhere
) -> None:
    def read() -> str:
        with stopped_after("SELECT", gate):
            title: str = ask(articles, "get", pk=article.pk).title
            return title

    change(article)
    with Gate() as gate:
        seen = elsewhere.begin(read)
        gate.wait_until_reached()
        Article.objects.filter(pk=article.pk).update(title="Newer")
        gate.open()
        assert seen.result() == "New"
    assert ask(articles, "get", pk=article.pk).title == "Newer"


def test_a_deleted_row_that_comes_back_is_not_answered_from_before(
    ask: Ask, article: Article
) -> None:
    ask(articles, "get", pk=article.pk)
    pk = article.pk
    article.delete()
    assert ask(articles, "get_or_none", pk=pk) is None
    author = Author.objects.get()
    Article.objects.create(pk=pk, author=author, slug="one", title="Back")
    assert ask(articles, "get", pk=pk).title == "Back"
