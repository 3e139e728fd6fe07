"""A hit is what a miss is, and both are what Django says (cases 1, 3, 4, 5, 9): every chain method
and every terminal, with types, order, state and all that is attached (tests/fieldapp/same.py)."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import django
import pytest
from asgiref.sync import async_to_sync
from django.contrib.postgres.aggregates import ArrayAgg
from django.contrib.postgres.fields import BigIntegerRangeField
from django.core.paginator import EmptyPage, Page, PageNotAnInteger, Paginator
from django.db import connection, models
from django.db.models import (
    Avg,
    Count,
    Exists,
    F,
    FilteredRelation,
    Func,
    Max,
    OuterRef,
    Prefetch,
    Q,
    Subquery,
    Value,
)
from django.db.models.functions import Lower
from django.test import override_settings

from loom_cache import CachedRepository, hints, tables
from testproject.news.models import Article, Author, Comment, Tag
from tests.cases.conftest import Ask, outcomes, statements
from tests.fieldapp import models as fields
from tests.fieldapp.install import field_app  # noqa: F401
from tests.fieldapp.same import assert_same
from tests.library.models import Book, Cafe, Firm, OpenShop, Reader, Seat, Shelf, Shop

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


class PlainArticles(CachedRepository[Article]):
    model = Article


class PlainAuthors(CachedRepository[Author]):
    model = Author


class PlainComments(CachedRepository[Comment]):
    model = Comment


articles = PlainArticles()
authors = PlainAuthors()
comments: Any = PlainComments()  # Django's stubs know only QuerySets as arguments


@pytest.fixture(autouse=True)
def process_without_memories() -> None:
    """What questions of a kind depend on is known to nobody yet."""
    hints.forget()


@pytest.fixture
def news(transactional_db: None) -> None:
    """Two authors, four articles, two tags, three comments."""
    ada = Author.objects.create(name="Ada", email="ada@example.org")
    ben = Author.objects.create(name="Ben")
    tags = [Tag.objects.create(name=name) for name in ("loom", "wool")]
    for number, author in enumerate([ada, ben, ada, ada]):
        article = Article.objects.create(
            author=author,
            editor=ben if number % 2 else None,
            slug=f"article-{number}",
            title=f"Article {number}",
            published=number != 3,
            views=number * 10,
            created=NOON + timedelta(days=number * 20),
        )
        article.tags.set(tags[:number])
        if number < 3:
            Comment.objects.create(article=article, author_name="Eve", text=f"Comment {number}")


BIG_RANGE = BigIntegerRangeField()


class Question(NamedTuple):
    """What is asked, of a repository as of Django's manager."""

    name: str
    chain: Callable[[Any], Any]
    terminal: str = "list"
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    plainly: Callable[[Any], Any] | None = None
    """The same for Django, where the chain is given something of ours."""


CHAINS = [
    Question("all", lambda q: q.all()),
    Question("filter", lambda q: q.filter(author__name="Ada", views__gte=10)),
    Question("filter by Q", lambda q: q.filter(Q(views=10) | ~Q(title__contains="2"))),
    Question("filter by F", lambda q: q.filter(views__gt=F("pk"))),
    Question("filter by an instance", lambda q: q.filter(author=Author.objects.get(name="Ada"))),
    Question("filter by a list", lambda q: q.filter(slug__in=["article-1", "article-2"])),
    Question("filter by an empty list", lambda q: q.filter(slug__in=[])),
    Question("filter by None", lambda q: q.filter(editor=None)),
    Question("filter twice by one name", lambda q: q.filter(views=10, views__exact=20)),
    Question(
        "filter by two primary keys",
        lambda q: q.filter(pk=pk_of("article-1"), id=pk_of("article-2")),
    ),
    Question("exclude", lambda q: q.exclude(comments__author_name="Eve")),
    Question("order_by", lambda q: q.order_by("author__name", "-views")),
    Question("order_by an expression", lambda q: q.order_by(F("editor").asc(nulls_first=True))),
    Question("reverse", lambda q: q.order_by("views").reverse()),
    Question("distinct", lambda q: q.filter(tags__isnull=False).order_by("views").distinct()),
    Question("annotate", lambda q: q.annotate(answers=Count("comments"), low=Lower("title"))),
    Question("alias", lambda q: q.alias(answers=Count("comments")).filter(answers=1)),
    Question(
        "annotate with a FilteredRelation",
        lambda q: q.annotate(
            eves=FilteredRelation("comments", condition=Q(comments__author_name="Eve"))
        ).filter(eves__text__startswith="C"),
    ),
    Question(
        "alias of a FilteredRelation",
        lambda q: q.alias(
            eves=FilteredRelation("comments", condition=~Q(comments__text=""))
        ).filter(eves__text="Comment 1"),
    ),
    Question("values", lambda q: q.values("title", "author__name")),
    Question("values of everything", lambda q: q.values()),
    Question("values of an expression", lambda q: q.values("pk", low=Lower("title"))),
    Question("values grouped", lambda q: q.order_by().values("author").annotate(n=Count("pk"))),
    Question("values_list", lambda q: q.values_list("title", "views", "created")),
    Question("values_list flat", lambda q: q.values_list("title", flat=True)),
    Question("values_list named", lambda q: q.values_list("title", "pk", named=True)),
    Question("dates", lambda q: q.dates("created", "month", "DESC")),
    Question("datetimes", lambda q: q.datetimes("created", "day")),
    Question("none", lambda q: q.none()),
    Question("select_related", lambda q: q.select_related("author")),
    Question("select_related of a null", lambda q: q.select_related("editor", "author")),
    Question("prefetch_related", lambda q: q.prefetch_related("tags", "comments")),
    Question("only", lambda q: q.only("title")),
    Question("defer", lambda q: q.defer("body", "title")),
    Question("only of a related row", lambda q: q.select_related("author").only("author__name")),
    Question(
        "no select_related any more", lambda q: q.select_related("author").select_related(None)
    ),
    Question("no prefetch any more", lambda q: q.prefetch_related("tags").prefetch_related(None)),
    Question("no defer any more", lambda q: q.defer("title").defer(None)),
    Question("using", lambda q: q.using("default").filter(views=10)),
    Question("slice", lambda q: q.order_by("views")[1:3]),
    Question("slice from the start", lambda q: q.order_by("views")[:2]),
    Question("slice of a slice", lambda q: q.order_by("views")[1:][1:2]),
    Question("slice with a step", lambda q: q.order_by("views")[::2]),
    Question("slice of nothing", lambda q: q.order_by("views")[2:2]),
]

QUERYSETS_AS_ARGUMENTS = [
    Question("in a QuerySet", lambda q: q.filter(author__in=Author.objects.filter(name="Ada"))),
    Question("in a QuerySet in a Q", lambda q: q.filter(Q(author__in=Author.objects.all()[:1]))),
    Question(
        "in a CachedQuery",
        lambda q: q.filter(author__in=authors.filter(name="Ada")),
        plainly=lambda q: q.filter(author__in=Author.objects.filter(name="Ada")),
    ),
    Question(
        "in a CachedQuery in a Q",
        lambda q: q.filter(~Q(author__in=authors.filter(name="Ada"))),
        plainly=lambda q: q.filter(~Q(author__in=Author.objects.filter(name="Ada"))),
    ),
    Question(
        "in a repository",
        lambda q: q.filter(author__in=authors),
        plainly=lambda q: q.filter(author__in=Author.objects.all()),
    ),
    Question("union", lambda q: unordered(q, 10).union(unordered(Article.objects, 20))),
    Question("intersection", lambda q: q.order_by().intersection(unordered(Article.objects, 20))),
    Question("difference", lambda q: q.order_by().difference(unordered(Article.objects, 20))),
    Question("union with a CachedQuery", lambda q: unordered(q, 10).union(unordered(q, 20))),
    Question(
        "union all, ordered",
        lambda q: q.order_by().union(unordered(Article.objects, 20), all=True).order_by("pk"),
    ),
    Question(
        "Subquery",
        lambda q: q.annotate(
            last=Subquery(Comment.objects.filter(article=OuterRef("pk")).values("text")[:1])
        ),
    ),
    Question(
        "Exists",
        lambda q: q.filter(Exists(Comment.objects.filter(article=OuterRef("pk")))),
    ),
    Question(
        "Subquery of a CachedQuery",
        lambda q: q.annotate(
            last=Subquery(comments.filter(article=OuterRef("pk")).values("text")[:1])
        ),
    ),
    Question(
        "Exists of a CachedQuery",
        lambda q: q.exclude(Exists(comments.filter(article=OuterRef("pk")))),
    ),
    Question(
        "Prefetch",
        lambda q: q.prefetch_related(
            Prefetch("comments", queryset=Comment.objects.filter(text="Comment 1"))
        ),
    ),
    Question(
        "Prefetch to an attribute",
        lambda q: q.prefetch_related(
            Prefetch("tags", queryset=Tag.objects.filter(name="loom"), to_attr="looms")
        ),
    ),
    Question(
        "Prefetch of a CachedQuery",
        lambda q: q.prefetch_related(Prefetch("comments", comments.filter(text="Comment 1"))),
        plainly=lambda q: q.prefetch_related(
            Prefetch("comments", Comment.objects.filter(text="Comment 1"))
        ),
    ),
    Question(
        "Prefetch of a prefetch",
        lambda q: q.prefetch_related(
            Prefetch("author", queryset=Author.objects.prefetch_related("articles"))
        ),
    ),
]

TERMINALS = [
    Question("get", lambda q: q, "get", kwargs={"slug": "article-1"}),
    Question("get after filter", lambda q: q.filter(slug="article-1"), "get"),
    Question("get by Q", lambda q: q, "get", (Q(slug="article-1"),)),
    Question("first", lambda q: q.order_by("views"), "first"),
    Question("first of an unordered", lambda q: q.order_by(), "first"),
    Question("first of none", lambda q: q.filter(views=-1), "first"),
    Question("last", lambda q: q.order_by("views"), "last"),
    Question("last of none", lambda q: q.filter(views=-1), "last"),
    Question("latest", lambda q: q, "latest", ("created",)),
    Question("earliest", lambda q: q, "earliest", ("author__name", "-views")),
    Question(
        "in_bulk by slug", lambda q: q, "in_bulk", (["article-1", "x"],), {"field_name": "slug"}
    ),
    Question("in_bulk of all", lambda q: q, "in_bulk"),
    Question("count", lambda q: q.filter(published=True), "count"),
    Question("count of a slice", lambda q: q.all()[1:3], "count"),
    Question("exists", lambda q: q.filter(views=10), "exists"),
    Question("exists of none", lambda q: q.filter(views=-1), "exists"),
    Question("aggregate", lambda q: q, "aggregate", (Avg("views"), Max("created"))),
    Question("aggregate by name", lambda q: q, "aggregate", (), {"most": Max("views") + Value(1)}),
    Question("first of values", lambda q: q.values("pk", "title").order_by("pk"), "first"),
    Question(
        "get of a flat list", lambda q: q.values_list("pk", flat=True), "get", (), {"views": 10}
    ),
]


def pk_of(slug: str) -> Any:
    return Article.objects.get(slug=slug).pk


def unordered(base: Any, views: int) -> Any:
    """A member of a union, which may have no order of its own."""
    return base.filter(views=views).order_by()


ON_POSTGRESQL = [
    Question(
        "an array", lambda q: q.values("author").annotate(all=ArrayAgg("views", order_by="pk"))
    ),
    Question("an array of moments", lambda q: q, "aggregate", (), {"all": ArrayAgg("created")}),
    Question(
        "a range",
        lambda q: q.annotate(
            span=Func("views", F("views") + 1, function="int8range", output_field=BIG_RANGE)
        ),
    ),
    Question("distinct on", lambda q: q.order_by("author_id", "-views").distinct("author_id")),
]


def by_django(question: Question) -> Any:
    """Django's own answer."""
    queryset = (question.plainly or question.chain)(Article.objects)
    if question.terminal == "list":
        return list(queryset)
    return getattr(queryset, question.terminal)(*question.args, **question.kwargs)


def named(question: Question) -> str:
    return question.name


@pytest.mark.usefixtures("news")
@pytest.mark.parametrize("question", CHAINS + QUERYSETS_AS_ARGUMENTS + TERMINALS, ids=named)
def test_miss_and_hit_give_what_django_gives(ask: Ask, question: Question) -> None:
    query = question.chain(articles)
    with outcomes("miss"):
        missed = ask(query, question.terminal, *question.args, **question.kwargs)
    with statements(0), outcomes("hit"):
        hit = ask(query, question.terminal, *question.args, **question.kwargs)
    assert_same([by_django(question)], [missed])
    assert_same([missed], [hit])


def missed_and_hit(ask: Ask, query: Any, terminal: str = "list", *args: Any, **kwargs: Any) -> Any:
    """The answer of a miss, after it was compared with that of a hit."""
    with outcomes("miss"):
        missed = ask(query, terminal, *args, **kwargs)
    with statements(0), outcomes("hit"):
        hit = ask(query, terminal, *args, **kwargs)
    assert_same([missed], [hit])
    return missed


@pytest.mark.usefixtures("news")
@pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL has DISTINCT ON.")
@pytest.mark.parametrize("question", ON_POSTGRESQL, ids=named)
def test_miss_and_hit_give_what_django_gives_on_postgresql(ask: Ask, question: Question) -> None:
    query = question.chain(articles)
    found = missed_and_hit(ask, query, question.terminal, *question.args, **question.kwargs)
    assert_same([by_django(question)], [found])


@pytest.mark.usefixtures("news")
@pytest.mark.skipif(not hasattr(models, "FETCH_PEERS"), reason="Django has fetch modes since 6.1.")
@pytest.mark.parametrize("name", ["FETCH_ONE", "FETCH_PEERS", "FETCH_RAISE"])
def test_a_hit_fetches_deferred_fields_as_the_mode_says(ask: Ask, name: str) -> None:
    mode: Any = getattr(models, name, None)
    found = missed_and_hit(ask, articles.only("slug").fetch_mode(mode))
    assert_same(list(Article.objects.only("slug").fetch_mode(mode)), found)


@pytest.mark.usefixtures("news")
def test_in_bulk_gives_the_rows_in_the_order_they_are_asked_for(ask: Ask) -> None:
    keys = list(Article.objects.order_by("views").values_list("pk", flat=True))[::-1]
    with outcomes("miss"):
        missed = ask(articles, "in_bulk", keys)
    with statements(0), outcomes("hit"):
        hit = ask(articles, "in_bulk", keys)
    assert list(missed) == list(hit) == keys
    assert_same([dict(sorted(Article.objects.in_bulk(keys).items()))], [dict(sorted(hit.items()))])


@pytest.mark.usefixtures("news")
@pytest.mark.skipif(django.VERSION < (6, 0), reason="Django has in_bulk() of values since 6.0.")
def test_in_bulk_of_values_gives_what_django_gives(ask: Ask) -> None:
    keys = list(Article.objects.values_list("pk", flat=True))
    chains: list[Callable[[Any], Any]] = [
        lambda q: q.values("title"),
        lambda q: q.values_list("title", flat=True),
    ]
    for chain in chains:
        found = missed_and_hit(ask, chain(articles), "in_bulk", keys)
        assert_same([chain(Article.objects).in_bulk(keys)], [found])


@pytest.mark.usefixtures("news")
def test_in_bulk_leaves_out_keys_that_do_not_exist(ask: Ask) -> None:
    known = Article.objects.earliest("views").pk
    assert list(missed_and_hit(ask, articles, "in_bulk", [known, 0, -1])) == [known]


@pytest.mark.usefixtures("news")
def test_in_bulk_takes_a_key_in_any_spelling_that_django_takes(ask: Ask) -> None:
    known = Article.objects.earliest("views").pk
    assert list(missed_and_hit(ask, articles, "in_bulk", [known, str(known)])) == [known]


@pytest.mark.usefixtures("news")
def test_in_bulk_takes_an_iterator(ask: Ask) -> None:
    known = Article.objects.earliest("views").pk
    assert list(ask(articles, "in_bulk", iter([known]))) == [known]


@pytest.mark.usefixtures("news")
def test_contains_says_whether_the_answer_holds_the_row(ask: Ask) -> None:
    inside, outside = Article.objects.get(views=10), Article.objects.get(views=20)
    query = articles.filter(views=10)
    assert missed_and_hit(ask, query, "contains", inside) is True
    assert missed_and_hit(ask, query, "contains", outside) is False
    assert missed_and_hit(ask, query, "contains", inside.author) is False


@pytest.mark.usefixtures("news")
def test_get_or_none_gives_the_row_or_none(ask: Ask) -> None:
    row = missed_and_hit(ask, articles, "get_or_none", slug="article-1")
    assert row == Article.objects.get(slug="article-1")
    assert missed_and_hit(ask, articles, "get_or_none", slug="nobody's") is None


@pytest.mark.usefixtures("news")
def test_async_for_gives_the_rows_in_their_order(store: str) -> None:
    async def rows() -> list[Article]:
        return [article async for article in articles.order_by("views")]

    with outcomes("miss", "hit"):
        missed, hit = async_to_sync(rows)(), async_to_sync(rows)()
    assert_same(list(Article.objects.order_by("views")), missed)
    assert_same(missed, hit)


@pytest.mark.usefixtures("news")
def test_a_repository_itself_can_be_iterated(store: str) -> None:
    async def rows() -> list[Article]:
        return [article async for article in articles]

    assert async_to_sync(rows)() == list(articles) == list(Article.objects.all())


@pytest.mark.usefixtures("news")
def test_an_index_reads_that_row(store: str) -> None:
    query = articles.order_by("views")
    with outcomes("miss", "hit"):
        missed, hit = query[2], query[2]
    assert_same([Article.objects.order_by("views")[2]], [missed])
    assert_same([missed], [hit])


@pytest.mark.usefixtures("news")
def test_an_index_past_the_end_is_an_index_error_each_time(store: str) -> None:
    with outcomes("miss", "hit"):
        for _ in range(2):
            with pytest.raises(IndexError):
                articles[100]


@pytest.mark.usefixtures("news")
def test_a_query_without_rows_is_false_as_in_django(store: str) -> None:
    assert articles.filter(views=10)
    assert not articles.filter(views=-1)


def test_a_repository_is_true_as_a_manager_is_and_reads_nothing(store: str) -> None:
    with outcomes(), statements(0):
        assert bool(articles) is True


@pytest.mark.usefixtures("news")
@pytest.mark.parametrize(("number", "views"), [(1, [0, 10]), (2, [20, 30]), ("2", [20, 30])])
def test_a_page_has_what_djangos_page_has(ask: Ask, number: Any, views: list[int]) -> None:
    query = articles.order_by("views")
    missed = ask(query, "page", number, size=2)
    with statements(0), outcomes("hit"):
        hit = ask(query, "page", number, size=2)
    django_page = Paginator(Article.objects.order_by("views"), 2).page(number)
    assert_same(list(django_page), list(missed))
    assert_same(missed.object_list, hit.object_list)
    for page in (missed, hit):
        assert isinstance(page, Page)
        assert [article.views for article in page] == views
        assert (page.number, len(page)) == (django_page.number, 2)
        assert (page.has_next(), page.has_previous()) == (number == 1, number != 1)
        assert (page.paginator.count, page.paginator.num_pages) == (4, 2)
        assert (page.start_index(), page.end_index()) == (
            django_page.start_index(),
            django_page.end_index(),
        )


def test_the_first_page_of_nothing_is_empty(ask: Ask) -> None:
    page = ask(articles.all(), "page", 1, size=5)
    assert (list(page), page.paginator.count, page.has_next()) == ([], 0, False)


@pytest.mark.usefixtures("news")
@pytest.mark.parametrize("number", [3, 0, -1])
def test_a_page_out_of_range_is_an_empty_page(ask: Ask, number: int) -> None:
    for _ in range(2):
        with pytest.raises(EmptyPage):
            ask(articles, "page", number, size=2)


@pytest.mark.parametrize("number", ["two", None, 1.5])
def test_a_page_number_that_is_none_is_page_not_an_integer(ask: Ask, number: Any) -> None:
    with pytest.raises(PageNotAnInteger):
        ask(articles, "page", number, size=2)


@pytest.mark.parametrize("size", [0, -1, "2", True])
def test_a_page_of_no_size_is_a_value_error(ask: Ask, size: Any) -> None:
    with pytest.raises(ValueError, match="size"):
        ask(articles, "page", 1, size=size)


@pytest.mark.parametrize("number", [0, 1, 100, 1000])
def test_answers_of_any_length_come_back_whole(ask: Ask, number: int) -> None:
    Author.objects.bulk_create(Author(name=f"Author {n:04}") for n in range(number))
    assert Author.objects.count() == number  # SQLite commits an INSERT when its rows are fetched
    names = [f"Author {n:04}" for n in range(number)]
    assert [author.name for author in missed_and_hit(ask, authors.all())] == names
    page = ask(authors.all(), "page", 1, size=1000)
    with statements(0), outcomes("hit"):
        hit = ask(authors.all(), "page", 1, size=1000)
    assert_same(page.object_list, hit.object_list)
    assert [author.name for author in hit] == names


# What a reader does to an answer.


@pytest.mark.usefixtures("news")
def test_changing_a_row_changes_nothing_for_the_next_reader(ask: Ask) -> None:
    query = articles.select_related("author").prefetch_related("tags")
    for _ in range(2):  # the answer of a miss, and that of a hit
        article = ask(query, "get", slug="article-2")
        assert (article.title, article.author.name) == ("Article 2", "Ada")
        assert [tag.name for tag in article.tags.all()] == ["loom", "wool"]
        article.title = article.author.name = "changed"
        article.tags.all()[0].name = "changed"
        article.extra = "added"
    assert not hasattr(ask(query, "get", slug="article-2"), "extra")


@pytest.mark.usefixtures("news")
def test_changing_a_list_changes_nothing_for_the_next_reader(ask: Ask) -> None:
    query = articles.order_by("views").values("title")
    for _ in range(3):
        rows = ask(query, "list")
        assert rows[0] == {"title": "Article 0"}
        rows[0]["title"] = "changed"
        rows.pop()


@pytest.mark.usefixtures("news")
def test_changing_a_dict_of_aggregates_changes_nothing_for_the_next_reader(ask: Ask) -> None:
    for _ in range(3):
        values = ask(articles, "aggregate", most=Max("views"))
        assert values == {"most": 30}
        values.clear()


@pytest.mark.usefixtures("news")
def test_related_rows_of_a_hit_cost_no_sql(ask: Ask) -> None:
    query = articles.select_related("author").prefetch_related("tags", "comments")
    ask(query, "get", slug="article-2")
    with statements(0):
        article = ask(query, "get", slug="article-2")
        assert article.author.name == "Ada"
        assert len(article.tags.all()) == 2
        assert [comment.article for comment in article.comments.all()] == [article]


@pytest.mark.usefixtures("news")
def test_a_row_of_a_hit_can_be_saved(ask: Ask) -> None:
    ask(articles, "get", slug="article-1")
    article = ask(articles, "get", slug="article-1")
    article.title = "Better"
    with statements(1):  # an UPDATE: it is known that the row exists
        article.save()
    assert Article.objects.get(slug="article-1").title == "Better"


@pytest.mark.usefixtures("news")
def test_a_deferred_field_of_a_hit_is_loaded_when_it_is_used(ask: Ask) -> None:
    query = articles.only("slug")
    ask(query, "get", slug="article-1")
    article = ask(query, "get", slug="article-1")
    with statements(1):
        assert article.title == "Article 1"


@pytest.mark.usefixtures("news")
def test_a_refreshed_row_is_what_the_database_says(ask: Ask) -> None:
    article = ask(articles, "get", slug="article-1")
    article = ask(articles, "get", slug="article-1")
    article.title = "not saved"
    with statements(1):
        article.refresh_from_db()
    assert article.title == "Article 1"


# Kinds of models.


def repository_of(model: type[Any]) -> CachedRepository[Any]:
    """A repository as small as can be."""
    members = {"model": model, "__module__": __name__, "__qualname__": f"{model.__name__}s"}
    made: CachedRepository[Any] = type(f"{model.__name__}s", (CachedRepository,), members)()
    return made


shops, open_shops, cafes, shelves, books, readers, seats = map(
    repository_of, (Shop, OpenShop, Cafe, Shelf, Book, Reader, Seat)
)


def test_a_multi_table_child_comes_with_the_fields_of_its_parent(ask: Ask) -> None:
    shop = Shop.objects.create(name="Yarns", open=False)
    found = missed_and_hit(ask, shops, "get", pk=shop.pk)
    assert (found.name, found.open, found.place_ptr_id) == ("Yarns", False, shop.pk)


def test_a_child_of_two_tables_comes_with_the_fields_of_both(ask: Ask) -> None:
    firm = Firm.objects.create(owner="Eve")
    cafe = Cafe.objects.create(name="Beans", seats=5, firm_ptr=firm, owner="Ada")
    found = missed_and_hit(ask, cafes, "get", pk=cafe.pk)
    assert (found.name, found.owner, found.seats) == ("Beans", "Ada", 5)


def test_a_proxy_comes_as_the_proxy(ask: Ask) -> None:
    shop = Shop.objects.create(name="Yarns")
    assert type(missed_and_hit(ask, shops, "get", pk=shop.pk)) is Shop
    assert type(missed_and_hit(ask, open_shops, "get", pk=shop.pk)) is OpenShop


def test_a_uuid_key_comes_as_a_uuid(ask: Ask) -> None:
    reader = Reader.objects.create(name="Eve")
    assert type(missed_and_hit(ask, readers, "get", pk=str(reader.pk)).pk) is UUID


def test_a_row_related_to_its_own_table_comes_with_it(ask: Ask) -> None:
    top = Shelf.objects.create(name="top")
    low = Shelf.objects.create(name="low", above=top)
    query = shelves.select_related("above__above", "shop")
    found = missed_and_hit(ask, query, "get", pk=low.pk)
    with statements(0):
        assert (found.above.name, found.above.above, found.shop) == ("top", None, None)


def test_a_default_manager_that_leaves_rows_out_is_the_base(ask: Ask) -> None:
    Book.objects.create(title="seen")
    Book.objects.create(title="hidden", hidden=True)
    assert [book.title for book in missed_and_hit(ask, books.all())] == ["seen"]


def test_a_row_with_a_composite_key_is_found_by_it(ask: Ask) -> None:
    cafe = Cafe.objects.create(name="Beans", firm_ptr=Firm.objects.create(owner="Eve"))
    Seat.objects.create(cafe=cafe, number=1)
    Seat.objects.create(cafe=cafe, number=2, taken=True)
    assert missed_and_hit(ask, seats, "get", pk=(cafe.pk, 2)).taken
    assert list(missed_and_hit(ask, seats, "in_bulk", [(cafe.pk, 1)])) == [(cafe.pk, 1)]


@pytest.fixture
def every_field(
    field_app: None,  # noqa: F811
    transactional_db: None,
) -> Iterator[None]:
    tables.forget()  # the app was installed by the fixture
    yield
    tables.forget()


@pytest.mark.usefixtures("every_field")
def test_every_type_of_field_comes_back_in_its_type(ask: Ask) -> None:
    row = fields.Everything.objects.create(
        big=-(2**63),
        positive_big=2**63 - 1,
        number=1e300,
        money=Decimal("1234567.80"),
        title="ä\n",
        data={"a": [1, 1.5, None, {"b": "c"}]},
        raw=b"\x00\xff",
        day=date(2026, 3, 1),
        moment=NOON,
        hour=time(23, 59, 59, 999999),
        span=timedelta(days=-1, microseconds=5),
    )
    found = missed_and_hit(ask, repository_of(fields.Everything), "get", pk=row.pk)
    assert_same([fields.Everything.objects.get()], [found])


@pytest.mark.usefixtures("news")
def test_naive_times_come_back_naive(ask: Ask) -> None:
    with override_settings(USE_TZ=False):
        row = missed_and_hit(ask, articles, "get", slug="article-1")
        assert row.created == Article.objects.get(slug="article-1").created
        assert row.created.tzinfo is None
    assert ask(articles, "get", slug="article-1").created.tzinfo is not None


@pytest.mark.usefixtures("every_field")
def test_every_type_of_field_comes_back_as_null(ask: Ask) -> None:
    fields.Nullable.objects.create()
    fields.Nullable.objects.create(integer=1, data=[], day=date(2026, 3, 1), moment=NOON)
    found = missed_and_hit(ask, repository_of(fields.Nullable).order_by("pk"))
    assert_same(list(fields.Nullable.objects.order_by("pk")), found)


@pytest.mark.usefixtures("every_field")
def test_a_field_of_your_own_comes_back_as_from_db_value_made_it(ask: Ask) -> None:
    fields.Custom.objects.create(shout="quiet", pair=("a", "b"))
    found = missed_and_hit(ask, repository_of(fields.Custom), "first")
    assert (found.shout, found.pair) == ("QUIET", ("a", "b"))


@pytest.mark.usefixtures("every_field")
def test_an_own_from_db_is_called_on_a_hit_too(ask: Ask) -> None:
    fields.Remembering.objects.create(name="one", size=1)
    found = missed_and_hit(ask, repository_of(fields.Remembering), "first")
    assert found.loaded == {"id": found.pk, "name": "one", "size": 1}


@pytest.mark.usefixtures("every_field")
def test_what_cannot_be_given_back_exactly_is_read_each_time(ask: Ask) -> None:
    fields.Strange.objects.create(thing=fields.Thing("odd"))
    strange = repository_of(fields.Strange)
    with outcomes("miss", "miss"):
        assert ask(strange, "first").thing.text == ask(strange, "first").thing.text == "odd"
