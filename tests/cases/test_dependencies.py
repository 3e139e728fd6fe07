"""What an answer depends on: the rows and the values that its load has shown, and whole tables only
where nothing less will do."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import Count, Exists, F, OuterRef, Prefetch, Q

from loom_cache import CachedRepository, entries
from testproject.news.models import Article, Author, Comment, Tag
from tests.cases import stored
from tests.library.models import Place, Shelf, Shop

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("rows")]

ADA, BEN = 1_000_001, 1_000_002
ONE, TWO = 2_000_001, 2_000_002
LOOM = 3_000_001
FIRST = 4_000_001
TOP, BELOW = 5_000_001, 5_000_002
SHOP = 6_000_001


class Articles(CachedRepository[Article]):
    model = Article


class Authors(CachedRepository[Author]):
    model = Author


class Shelves(CachedRepository[Shelf]):
    model = Shelf


class Shops(CachedRepository[Shop]):
    model = Shop


articles, authors, shelves, shops = Articles(), Authors(), Shelves(), Shops()


@pytest.fixture
def rows(transactional_db: None, store: str) -> None:
    Author.objects.create(pk=ADA, name="Ada")
    Author.objects.create(pk=BEN, name="Ben")
    Tag.objects.create(pk=LOOM, name="loom")
    for pk, slug, author in ((ONE, "one", ADA), (TWO, "two", BEN)):
        Article.objects.create(pk=pk, slug=slug, title=slug, author_id=author)
    Article.objects.get(pk=ONE).tags.add(LOOM)
    Comment.objects.create(pk=FIRST, article_id=ONE, author_name="Cat", text="1")
    Shelf.objects.create(pk=TOP, name="top")
    Shelf.objects.create(pk=BELOW, name="below", above_id=TOP)
    Shop.objects.create(pk=SHOP, name="Yarn")


def dependencies(ask: Callable[[], Any]) -> set[str]:
    """The tags of the entry that `ask` leaves, as people would write them: those of a combination
    as `where`, and those of values as `where=` with the values if these are a number."""
    ask()
    (data,) = stored.entries().values()
    entry = entries.read(data)
    assert entry is not None
    return set(map(written, entry.generations))


def written(tag: str) -> str:
    table, _, rest = tag.removeprefix("g:{").partition("}")
    found = re.fullmatch(r":where(?::~\w+)?(?::(~?\w+))?", rest)
    if found is None:
        return f"{table} {rest.removeprefix(':')}".strip()
    value = found[1]
    return f"{table} where" if value is None else f"{table} where={re.sub('~.*', '', value)}"


def whole(*tables: str) -> set[str]:
    return {f"{table} {kind}".strip() for table in tables for kind in ("", "list")}


def by_values(table: str, *values: object) -> set[str]:
    return {table, f"{table} where", *(f"{table} where={value}" for value in values)}


def by_rows(table: str, *rows: int) -> set[str]:
    return {table, f"{table} ids", *(f"{table} id:{row}" for row in rows)}


ARTICLE, AUTHOR, TAGS, TAG = "news_article", "news_author", "news_article_tags", "news_tag"
COMMENT, SHELF = "news_comment", "library_shelf"

CASES: dict[str, tuple[Callable[[], Any], set[str]]] = {
    "a row by its key": (lambda: articles.get(pk=ONE), by_rows(ARTICLE, ONE)),
    "a row by its key that is not there": (
        lambda: articles.get_or_none(pk=7),
        by_rows(ARTICLE, 7) | whole(ARTICLE),
    ),
    "rows by their keys": (
        lambda: list(articles.filter(pk__in=[ONE, TWO])),
        by_rows(ARTICLE, ONE, TWO),
    ),
    "a list by a foreign key": (
        lambda: list(articles.filter(author_id=ADA)),
        by_values(ARTICLE, ADA) | {f"{ARTICLE} id:{ONE}"},
    ),
    "an empty list by a foreign key": (
        lambda: list(articles.filter(author_id=7)),
        by_values(ARTICLE, 7),
    ),
    "a list by several values": (
        lambda: list(articles.filter(author_id__in=[ADA, 7])),
        by_values(ARTICLE, ADA, 7) | {f"{ARTICLE} id:{ONE}"},
    ),
    "a count by a foreign key": (
        lambda: articles.filter(author_id=ADA).count(),
        by_values(ARTICLE, ADA),
    ),
    "a later page": (
        lambda: list(articles.filter(author_id=ADA)[1:3]),
        by_values(ARTICLE, ADA),
    ),
    "values": (
        lambda: list(articles.filter(author_id=ADA).values("title")),
        by_values(ARTICLE, ADA),
    ),
    "a list by too many values": (
        lambda: list(articles.filter(author_id__in=list(range(200)))),
        whole(ARTICLE),
    ),
    "a list without a condition": (lambda: list(articles.all()), whole(ARTICLE)),
    "a list by a range": (lambda: list(articles.filter(views__lt=5)), whole(ARTICLE)),
    "a list by one value or another": (
        lambda: list(articles.filter(Q(author_id=ADA) | Q(editor_id=ADA))),
        whole(ARTICLE),
    ),
    "a list by what another column is": (
        lambda: list(articles.filter(author_id=F("editor_id"))),
        whole(ARTICLE),
    ),
    "a row with the row that it leads to": (
        lambda: articles.select_related("author").get(pk=ONE),
        by_rows(ARTICLE, ONE) | by_rows(AUTHOR, ADA),
    ),
    "a row that leads nowhere": (
        lambda: articles.select_related("editor").get(pk=ONE),
        by_rows(ARTICLE, ONE) | by_rows(AUTHOR),
    ),
    "rows that lead to rows of their table": (
        lambda: shelves.select_related("above").get(pk=BELOW),
        by_rows(SHELF, BELOW, TOP),
    ),
    "a list ordered by what it leads to": (
        lambda: list(
            articles.filter(author_id=ADA).select_related("author").order_by("author__name")
        ),
        by_values(ARTICLE, ADA) | {f"{ARTICLE} id:{ONE}"} | by_rows(AUTHOR, ADA),
    ),
    "a slice ordered by what it leads to": (
        lambda: list(
            articles.filter(author_id=ADA).select_related("author").order_by("author__name")[:1]
        ),
        by_values(ARTICLE, ADA) | {f"{ARTICLE} id:{ONE}"} | whole(AUTHOR),
    ),
    "a list by a related row's name": (
        lambda: list(articles.filter(author__name="Ada")),
        whole(ARTICLE) | by_values(AUTHOR, ""),
    ),
    "rows and their links": (
        lambda: list(articles.filter(pk__in=[ONE, TWO]).prefetch_related("tags")),
        by_rows(ARTICLE, ONE, TWO) | by_values(TAGS, ONE, TWO) | by_rows(TAG, LOOM),
    ),
    "rows and those that point to them": (
        lambda: articles.prefetch_related("comments").get(pk=ONE),
        by_rows(ARTICLE, ONE) | by_values(COMMENT, ONE) | {f"{COMMENT} id:{FIRST}"},
    ),
    "rows and some of those that point to them": (
        lambda: articles.prefetch_related(
            Prefetch("comments", Comment.objects.filter(approved=True), to_attr="good")
        ).get(pk=ONE),
        by_rows(ARTICLE, ONE) | by_values(COMMENT, "") | {f"{COMMENT} id:{FIRST}"},
    ),
    "a child and its parent": (
        lambda: shops.get(pk=SHOP),
        by_rows("library_shop", SHOP) | by_rows("library_place", SHOP),
    ),
    "a table that is joined and counted": (
        lambda: list(articles.filter(author_id=ADA).annotate(number=Count("comments"))),
        by_values(ARTICLE, ADA) | whole(COMMENT),
    ),
    "a table that is asked about": (
        lambda: list(
            articles.filter(Exists(Comment.objects.filter(article=OuterRef("pk"))), author_id=ADA)
        ),
        by_values(ARTICLE, ADA) | {f"{ARTICLE} id:{ONE}"} | whole(COMMENT),
    ),
    "a table that is asked about twice": (
        lambda: list(
            articles.filter(author_id=ADA).exclude(pk__in=Article.objects.filter(views=7))
        ),
        whole(ARTICLE),
    ),
}


@pytest.mark.parametrize(("ask", "expected"), CASES.values(), ids=CASES)
def test_an_answer_depends_on(ask: Callable[[], Any], expected: set[str]) -> None:
    assert dependencies(ask) == expected


def test_more_rows_than_can_be_listed_are_depended_on_by_values() -> None:
    made = [Article(author_id=BEN, slug=f"{n}", title=f"{n}") for n in range(101)]
    Article.objects.bulk_create(made)
    assert dependencies(lambda: list(articles.filter(author_id=BEN))) == by_values(ARTICLE, BEN)


def test_more_rows_than_can_be_listed_that_are_led_to_are_a_whole_table() -> None:
    for number in range(101):
        author = Author.objects.create(name=f"{number}")
        Article.objects.create(author=author, editor_id=BEN, slug=f"{number}", title="x")
    found = dependencies(lambda: list(articles.filter(editor_id=BEN).select_related("author")))
    assert found == by_values(ARTICLE, BEN) | whole(AUTHOR)


def test_a_child_of_which_there_is_none_yet_is_seen_when_it_comes() -> None:
    Place.objects.create(pk=7, name="Park")
    assert shops.get_or_none(pk=7) is None
    Shop(place_ptr_id=7, name="Park").save_base(raw=True)
    assert shops.get(pk=7).name == "Park"
