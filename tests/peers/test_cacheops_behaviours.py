"""What django-cacheops' own suite expects of a cache, shown of this one; docs/peer-behaviours.md
says which test stands for which of theirs. Nothing here is their code."""

from __future__ import annotations

import operator
from contextlib import suppress
from datetime import UTC, date, datetime, time
from functools import reduce
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, connection, models, transaction
from django.db.models import (
    Count,
    Exists,
    F,
    Max,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
)
from django.db.models.expressions import RawSQL
from django.db.models.signals import post_save
from django.db.models.sql import Query
from psycopg import sql

from loom_cache import CachedRepository, ainvalidate, cached_query, invalidate, metrics
from testproject.news.models import Article, Author, Comment, Tag
from tests.cases.conftest import Ask, outcomes, statements
from tests.cases.interleaving import Elsewhere
from tests.cases.questions import Question, described
from tests.fieldapp import models as fields
from tests.library.models import (
    Anthem,
    Book,
    Cafe,
    Country,
    Firm,
    Loan,
    OpenShop,
    Place,
    Reader,
    Remark,
    Shelf,
    Shop,
)
from tests.peers import models as peers
from tests.peers.asking import (
    PAIRS,
    POSTGRESQL,
    Case,
    Write,
    about,
    assert_all_cached_and_fresh,
    assert_cached_and_fresh,
    assert_fresh_then_found,
    assert_warm_after,
    create,
    delete,
    on_both_databases,
    placed,
    repository_of,
    save,
    settings_with,
    told,
    true,
)
from tests.peers.conftest import ADA, BEN, CAT, EVE, LOOM, ONE, THREE, TWO, WOOL

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("news")]


class Articles(CachedRepository[Article]):
    model = Article


class RichArticles(CachedRepository[Article]):
    queryset = Article.objects.select_related("author", "editor").prefetch_related("tags")


class CombinedArticles(CachedRepository[Article]):
    queryset = Article.objects.filter(pk__in=[ONE, TWO]) & (
        Article.objects.filter(author__name="Ada") | Article.objects.none()
    )


class Authors(CachedRepository[Author]):
    model = Author


class Comments(CachedRepository[Comment]):
    model = Comment


class Tags(CachedRepository[Tag]):
    model = Tag


class Links(CachedRepository[Any]):
    model = Article.tags.through


class Readers(CachedRepository[Reader]):
    model = Reader


class Books(CachedRepository[Book]):
    queryset = Book.everything.all()


class Places(CachedRepository[Place]):
    model = Place


class Shops(CachedRepository[Shop]):
    model = Shop


class OpenShops(CachedRepository[OpenShop]):
    model = OpenShop


class Cafes(CachedRepository[Cafe]):
    model = Cafe


class Shelves(CachedRepository[Shelf]):
    model = Shelf


class Countries(CachedRepository[Country]):
    model = Country


class Anthems(CachedRepository[Anthem]):
    model = Anthem


class Remarks(CachedRepository[Remark]):
    queryset = Remark.objects.prefetch_related("about")


articles, rich_articles, authors, comments = Articles(), RichArticles(), Authors(), Comments()
tags, links, readers, books = Tags(), Links(), Readers(), Books()
places, shops, open_shops, cafes, shelves = Places(), Shops(), OpenShops(), Cafes(), Shelves()


def article(slug: str, author: int, **more: Any) -> Write:
    return create(Article, slug=slug, title=slug, author_id=author, **more)


def shop(pk: int = 5_000_001) -> Shop:
    made: Shop = Shop.objects.create(pk=pk, name="Loom & Co")
    return made


# Answers of every kind. ---------------------------------------------------------------------------

UNION_OF_TWO = Author.objects.filter(name="Perl").order_by().values("pk", "name")

CASES: dict[str, Case] = {
    "a count": Case(
        Question(authors, lambda q: q, "count"),
        (
            create(Author, name="Dan"),
            lambda: Author.objects.bulk_create([Author(name="Eva"), Author(name="Fay")]),
            lambda: Author.objects.filter(name__in=["Eva", "Fay"]).delete(),
        ),
    ),
    "whether there is one": Case(
        Question(authors, lambda q: q.filter(name="Dan"), "exists"), (create(Author, name="Dan"),)
    ),
    "a condition that every row meets": Case(
        Question(authors, lambda q: q.exclude(pk__in=range(10), pk__isnull=False)),
        (save(Author, ADA, name="Eda"),),
    ),
    "a row by its key": Case(
        Question(articles, lambda q: q, "get", kwargs={"pk": ONE}),
        (
            save(Article, ONE, title="New"),
            save(Article, ONE, views=F("views") + 1),
            lambda: Article.objects.filter(views=2).update(title="Newer"),
            delete(Article, pk=ONE),
        ),
    ),
    "a row by one of several keys": Case(
        Question(articles, lambda q: q, "get", kwargs={"pk__in": [ONE, 9]}),
        (save(Article, ONE, title="New"),),
    ),
    "a list by its parent": Case(
        Question(articles, lambda q: q.filter(author=ADA)),
        (
            article("new", ADA),
            save(Article, ONE, author_id=BEN),
            lambda: Article.objects.filter(author=BEN).update(author=ADA),
            delete(Article, pk=TWO),
        ),
    ),
    "a list by the parent that rows leave": Case(
        Question(articles, lambda q: q.filter(author=BEN)),
        (lambda: Article.objects.filter(author=BEN).update(author=CAT),),
    ),
    "a list by the parent's key as a lookup": Case(
        Question(articles, lambda q: q.filter(author__id__exact=ADA)),
        (save(Article, ONE, title="New"), article("new", ADA)),
    ),
    "a list by a one-to-one": Case(
        Question(Anthems(), lambda q: q.filter(country="SE")),
        (lambda: Anthem.objects.create(country=Country.objects.create(code="SE"), text="Du"),),
    ),
    "a count by a flag": Case(
        Question(articles, lambda q: q.filter(published=True), "count"),
        (save(Article, ONE, published=False), save(Article, THREE, published=True)),
    ),
    "a count by an expression": Case(
        Question(
            articles,
            lambda q: q.filter(views=F("views").bitand(3), pk__gt=F("views") + 1),
            "count",
        ),
        (save(Article, ONE, views=8),),
    ),
    "the first": Case(Question(authors, lambda q: q, "first"), (create(Author, name="Abe"),)),
    "the last": Case(Question(authors, lambda q: q, "last"), (create(Author, name="Zoe"),)),
    "a union of two tables": Case(
        Question(
            articles,
            lambda q: (
                q.filter(author=ADA)
                .order_by()
                .values_list("pk", "title")
                .union(UNION_OF_TWO.values_list("pk", "name"))
                .order_by("pk")
            ),
        ),
        (create(Author, name="Perl"), save(Article, ONE, title="New")),
    ),
    "a union over one table": Case(
        Question(
            articles,
            lambda q: (
                q.filter(pk=ONE)
                .order_by()
                .union(Article.objects.filter(pk=TWO).order_by())
                .order_by("pk")
            ),
        ),
        (save(Article, TWO, title="New"), delete(Article, pk=ONE)),
    ),
    "a condition by a subquery": Case(
        Question(
            articles,
            lambda q: q.filter(author__in=Subquery(Author.objects.filter(name="Ada").values("pk"))),
            "count",
        ),
        (save(Author, ADA, name="Eda"), save(Author, BEN, name="Ada")),
    ),
    "a condition by a queryset": Case(
        Question(
            articles, lambda q: q.filter(author__in=Author.objects.filter(name__startswith="A"))
        ),
        (save(Author, ADA, name="Eda"), save(Author, BEN, name="Abe")),
    ),
    "a condition by a subquery in SQL": Case(
        Question(
            articles,
            lambda q: q.filter(
                author__in=RawSQL("SELECT id FROM news_author WHERE name = %s", ("Ada",))
            ),
            "count",
        ),
        (save(Author, ADA, name="Eda"), save(Author, BEN, name="Ada")),
    ),
    "a condition by EXISTS without a link": Case(
        Question(authors, lambda q: q.filter(Exists(Article.objects.all()))),
        (lambda: Article.objects.all().delete(),),
    ),
    "an annotation by a subquery": Case(
        Question(
            authors,
            lambda q: q.annotate(
                newest=Subquery(
                    Article.objects.filter(author=OuterRef("pk")).order_by("-pk").values("pk")[:1]
                )
            ),
        ),
        (article("new", CAT), delete(Article, pk=THREE)),
    ),
    "values": Case(Question(authors, lambda q: q.values()), (save(Author, ADA, name="Eda"),)),
    "a count of an exclusion over a table between": Case(
        Question(articles, lambda q: q.exclude(tags__in=[LOOM, WOOL, 3]), "count"),
        (
            lambda: Tag.objects.get(pk=WOOL).articles.add(THREE),
            lambda: Article.objects.get(pk=TWO).tags.clear(),
        ),
    ),
    "text outside ASCII": Case(
        Question(authors, lambda q: q.filter(name="Åsa", name__startswith="Å")),
        (create(Author, name="Åsa"),),
    ),
    "a list over a row in the middle of a join": Case(
        Question(comments, lambda q: q.filter(article__author__name="Ada")),
        (save(Article, ONE, author_id=BEN), save(Author, BEN, name="Ada")),
    ),
    "None among the values of a condition": Case(
        Question(articles, lambda q: q.filter(author__in=[None, ADA]).filter(author=ADA)),
        (article("new", ADA),),
    ),
    "a row by its UUID as text": Case(
        Question(readers, lambda q: q, "get", kwargs={"pk": EVE.hex}),
        (save(Reader, EVE, name="Eva"),),
    ),
    "an aggregate over an annotation": Case(
        Question(
            authors,
            lambda q: q.annotate(number=Count("articles")),
            "aggregate",
            kwargs={"total": Sum("number")},
        ),
        (article("new", CAT),),
    ),
    "a row whose relation is set to null": Case(
        Question(rich_articles, lambda q: q, "get", kwargs={"pk": ONE}),
        (delete(Author, pk=BEN),),
    ),
    "a count of rows that nothing refers to": Case(
        Question(Countries(), lambda q: q.filter(anthem__isnull=True), "count"),
        (
            create(Country, code="SE"),
            lambda: Anthem.objects.create(country_id="SE", text="Du"),
        ),
    ),
    "a condition of many parts": Case(
        Question(
            articles,
            lambda q: q.filter(published=True).filter(
                reduce(
                    operator.and_,
                    (
                        Q(title__icontains=part) | Q(author__name__icontains=part)
                        for part in "a r t i c l e A R T I C L E".split()
                    ),
                )
            ),
        ),
        (save(Article, ONE, title="x"), article("article", BEN)),
    ),
    "rows by a row that they are related to": Case(
        Question(articles, lambda q: q.filter(author__name="Ada")),
        (save(Author, ADA, name="Eda"), save(Author, BEN, name="Ada")),
    ),
    "rows by a row that is related to them": Case(
        Question(authors, lambda q: q.filter(articles__title="Article 1")),
        (save(Article, THREE, title="Article 1"), save(Article, ONE, title="New")),
    ),
    "rows by two conditions on one related row": Case(
        Question(
            authors, lambda q: q.filter(articles__title="Article 3", articles__published=True)
        ),
        (save(Article, THREE, published=True),),
    ),
    "rows by one condition each on two related rows": Case(
        Question(
            authors,
            lambda q: q.filter(articles__title="Article 3").filter(articles__published=True),
        ),
        (article("new", BEN),),
    ),
    "rows by a row of their own table": Case(
        Question(shelves, lambda q: q.filter(above__name="top")),
        (
            lambda: Shelf.objects.create(name="low", above=Shelf.objects.create(name="top")),
            lambda: Shelf.objects.filter(name="top").update(name="roof"),
        ),
    ),
    "an annotation": Case(
        Question(authors, lambda q: q.annotate(number=Count("articles"))), (article("new", CAT),)
    ),
    "an aggregate": Case(
        Question(authors, lambda q: q, "aggregate", kwargs={"number": Count("articles")}),
        (article("new", CAT),),
    ),
    "an aggregate of one row's": Case(
        Question(
            authors,
            lambda q: q.filter(pk=ADA),
            "aggregate",
            kwargs={"number": Count("articles")},
        ),
        (article("new", ADA),),
    ),
    "an aggregate with a condition": Case(
        Question(
            articles,
            lambda q: q,
            "aggregate",
            kwargs={"number": Count("author", filter=Q(author__gt=ADA))},
        ),
        (article("new", BEN),),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_answer_is_found_and_fresh(ask: Ask, case: Case) -> None:
    assert_cached_and_fresh(ask, case)


def test_a_condition_that_no_row_can_meet_costs_no_sql(ask: Ask) -> None:
    with statements(0):
        assert ask(authors.filter(pk__in=[]), "list") == []


def test_a_key_is_one_question_however_it_is_spelled(ask: Ask) -> None:
    ask(authors.filter(pk=ADA), "list")
    with statements(0), outcomes("hit", "hit"):
        assert ask(authors.filter(pk__exact=ADA), "list") == ask(authors.filter(id=ADA), "list")


def test_the_first_and_the_last_are_two_questions(ask: Ask) -> None:
    for outcome in ("miss", "hit"):
        with outcomes(outcome, outcome):
            assert ask(authors.all(), "first").pk == ADA
            assert ask(authors.all(), "last").pk == CAT


@PAIRS
def test_rows_and_values_and_lists_of_values_are_questions_of_their_own(ask: Ask) -> None:
    kinds = [
        authors.all(),
        authors.values(),
        authors.values_list(),
        authors.values_list("pk", flat=True),
        authors.values_list("pk", named=True),
    ]
    with outcomes(*["miss"] * 5):
        missed = [ask(kind, "list") for kind in kinds]
    with statements(0), outcomes(*["hit"] * 5):
        assert [ask(kind, "list") for kind in kinds] == missed
    assert [type(rows[0]).__name__ for rows in missed] == ["Author", "dict", "tuple", "int", "Row"]


def test_an_aggregate_comes_by_the_name_it_is_asked_by(ask: Ask) -> None:
    assert ask(articles, "aggregate", most=Max("author")) == {"most": BEN}
    assert ask(articles, "aggregate", author=Max("author")) == {"author": BEN}


def test_querysets_combined_by_operators_can_be_the_base_and_an_argument(ask: Ask) -> None:
    base = Question(CombinedArticles(), lambda q: q)
    either = Article.objects.filter(pk=ONE) | Article.objects.filter(author__name="Ben")
    argument = Question(comments, lambda q: q.filter(article__in=either))
    assert_cached_and_fresh(ask, Case(base, (save(Article, ONE, author_id=BEN),)))
    assert_cached_and_fresh(ask, Case(argument, (save(Author, BEN, name="Bob"),)))


def test_rows_with_fields_that_are_no_columns_are_found_and_fresh(ask: Ask) -> None:
    Remark.objects.create(text="On Ada", kind=ContentType.objects.get_for_model(Author), key=ADA)
    question = Question(Remarks(), lambda q: q)
    told(ask, question)  # which tables a row is about shows only when it is read
    assert_fresh_then_found(ask, question)
    save(Author, ADA, name="Eda")()
    assert_fresh_then_found(ask, question)


class OwnQuery(Query):
    """As a team might subclass it."""


class OwnQuerySet(QuerySet[Article]):
    def shown(self) -> OwnQuerySet:
        return self.filter(published=True)


class OwnArticles(CachedRepository[Article]):
    def get_queryset(self) -> OwnQuerySet:
        return OwnQuerySet(Article, query=OwnQuery(Article)).shown()


def test_a_queryset_and_a_query_of_ones_own_are_read(ask: Ask) -> None:
    shown = Question(OwnArticles(), lambda q: q.order_by("pk"))
    assert_cached_and_fresh(ask, Case(shown, (save(Article, ONE, published=False),)))


# What an answer gives can be used as what Django gives. -------------------------------------------


def test_a_related_manager_of_a_found_row_asks_the_database(ask: Ask) -> None:
    rich = authors.prefetch_related("articles")
    ask(rich, "get", pk=ADA)
    with outcomes("hit"):
        found = ask(rich, "get", pk=ADA)
    with statements(1), outcomes():
        assert found.articles.get(views=2).pk == TWO


def test_a_found_row_with_deferred_fields_can_be_deleted(ask: Ask) -> None:
    count = Question(articles, lambda q: q, "count")
    assert_fresh_then_found(ask, count)
    query = articles.defer("published").order_by("pk")
    ask(query, "last")
    with outcomes("hit"):
        ask(query, "last").delete()
    assert_fresh_then_found(ask, count)


def test_a_query_with_rows_is_true(ask: Ask) -> None:
    assert articles.filter(author=ADA)
    assert not articles.filter(author=CAT)


# Tables between. ----------------------------------------------------------------------------------


def tags_of(pk: int) -> Any:
    return Article.objects.get(pk=pk).tags


def reader(name: str) -> Reader:
    found: Reader = Reader.objects.get_or_create(name=name)[0]
    return found


def book(title: str) -> Book:
    found: Book = Book.everything.get_or_create(title=title)[0]
    return found


BETWEEN: dict[str, Case] = {
    "the rows of one owner": Case(
        Question(tags, lambda q: q.filter(articles=ONE)),
        (
            lambda: tags_of(ONE).remove(WOOL),
            lambda: tags_of(ONE).add(WOOL),
            lambda: tags_of(ONE).clear(),
            lambda: tags_of(ONE).set([LOOM]),
            delete(Article, pk=ONE),
        ),
    ),
    "the owners of one row": Case(
        Question(articles, lambda q: q.filter(tags=WOOL).order_by("pk")),
        (
            lambda: tags_of(TWO).add(WOOL),
            lambda: tags_of(ONE).remove(WOOL),
            lambda: tags_of(ONE).set([LOOM, WOOL]),
            lambda: tags_of(ONE).clear(),
            delete(Tag, pk=WOOL),
        ),
    ),
    "the rows of one owner through a model": Case(
        Question(readers, lambda q: q.filter(books__title="Loom").order_by("name")),
        (
            lambda: Loan.objects.create(book=book("Loom"), reader=reader("Eve")),
            lambda: Loan.objects.create(book=book("Loom"), reader=reader("Bob")),
            lambda: Loan.objects.get(reader=reader("Eve")).delete(),
            lambda: book("Loom").readers.clear(),
        ),
    ),
    "the owners of one row through a model": Case(
        Question(books, lambda q: q.filter(readers=EVE).order_by("title")),
        (
            lambda: Loan.objects.create(book=book("Loom"), reader=reader("Eve")),
            lambda: Loan.objects.create(book=book("Weft"), reader=reader("Eve")),
            lambda: Loan.objects.get(book=book("Weft")).delete(),
            lambda: book("Loom").readers.clear(),
        ),
    ),
}


@pytest.mark.parametrize("case", BETWEEN.values(), ids=BETWEEN)
def test_an_answer_over_a_table_between_is_found_and_fresh(ask: Ask, case: Case) -> None:
    assert_cached_and_fresh(ask, case)


# Children of tables. ------------------------------------------------------------------------------

SHOP = 5_000_001

CHILDREN: dict[str, Case] = {
    "a count of parents": Case(Question(places, lambda q: q, "count"), (create(Shop, name="New"),)),
    "children by their parent's column": Case(
        Question(shops, lambda q: q.order_by("pk")), (save(Place, SHOP, name="New"),)
    ),
    "a child that is asked for by a proxy": Case(
        Question(open_shops, lambda q: q, "get", kwargs={"pk": SHOP}),
        (save(Place, SHOP, name="New"), delete(Shop, pk=SHOP)),
    ),
    "rows below a child": Case(
        Question(shelves, lambda q: q.filter(shop=SHOP)), (delete(Place, pk=SHOP),)
    ),
    "children of two tables": Case(
        Question(cafes, lambda q: q.order_by("pk")),
        (
            lambda: Firm.objects.update(owner="Uma"),
            lambda: Place.objects.filter(cafe__isnull=False).update(name="Warp"),
        ),
    ),
}


@pytest.fixture
def places_and_firms() -> None:
    Shelf.objects.create(name="top", shop=shop(SHOP))
    Cafe(id=SHOP + 1, number=7, name="Weft", owner="Ida").save(force_insert=True)


@pytest.mark.usefixtures("places_and_firms")
@pytest.mark.parametrize("case", CHILDREN.values(), ids=CHILDREN)
def test_an_answer_about_a_child_of_a_table_is_found_and_fresh(ask: Ask, case: Case) -> None:
    assert_cached_and_fresh(ask, case)


# Methods of one's own. ----------------------------------------------------------------------------

calls: list[object] = []


class Counting(CachedRepository[Author]):
    """Its methods count how often they run."""

    model = Author

    @cached_query(depends_on=[Author])
    def named(self, name: str = "Ada") -> int:
        calls.append(name)
        return len(calls)

    @cached_query(depends_on=[Author])
    async def anamed(self, name: str = "Ada") -> int:
        calls.append(name)
        return len(calls)

    @cached_query(depends_on=[Author, "news.Article"])
    def of_two_models(self) -> int:
        calls.append(None)
        return len(calls)

    @cached_query(depends_on=[Author, "news.Article"])
    async def aof_two_models(self) -> int:
        calls.append(None)
        return len(calls)

    @cached_query(depends_on=[Author])
    def disturbed(self) -> int:
        calls.append(None)
        if len(calls) == 1:
            invalidate(Author)
        return len(calls)

    @cached_query(depends_on=[Author])
    async def adisturbed(self) -> int:
        calls.append(None)
        if len(calls) == 1:
            await ainvalidate(Author)
        return len(calls)

    @cached_query
    def name_of_a_row(self, pk: int) -> str:
        calls.append(pk)
        return authors.get(pk=pk).name

    @cached_query
    async def aname_of_a_row(self, pk: int) -> str:
        calls.append(pk)
        return (await authors.aget(pk=pk)).name


counting = Counting()


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


@PAIRS
def test_a_method_runs_again_once_its_model_was_written(ask: Ask) -> None:
    assert [ask(counting, "named"), ask(counting, "named")] == [1, 1]
    Author.objects.create(name="Dan")
    assert [ask(counting, "named"), ask(counting, "named")] == [2, 2]


@PAIRS
def test_a_method_runs_for_every_argument(ask: Ask) -> None:
    assert [ask(counting, "named", name) for name in ("Ada", "Ada", "Ben", "Ben")] == [1, 1, 2, 2]


@PAIRS
def test_a_method_runs_again_once_either_of_its_models_was_written(ask: Ask) -> None:
    assert ask(counting, "of_two_models") == ask(counting, "of_two_models") == 1
    save(Author, ADA, name="Eda")()
    assert ask(counting, "of_two_models") == ask(counting, "of_two_models") == 2
    save(Article, ONE, title="New")()
    assert ask(counting, "of_two_models") == ask(counting, "of_two_models") == 3


@PAIRS
def test_a_result_that_became_old_while_it_was_made_is_not_found(ask: Ask) -> None:
    results = [ask(counting, "disturbed") for _ in range(3)]
    assert results == [1, 2, 2]


@PAIRS
def test_a_method_that_reads_a_cached_row_changes_with_it(ask: Ask) -> None:
    for _ in range(3):  # the first time finds out what it reads
        assert ask(counting, "name_of_a_row", ADA) == "Ada"
    assert len(calls) < 3
    save(Author, ADA, name="Eda")()
    assert ask(counting, "name_of_a_row", ADA) == "Eda"


# What is told of reads and writes. ----------------------------------------------------------------


def told_of(events: list[metrics.Event]) -> list[tuple[str, str, str]]:
    return [
        (event.label, event.operation.removeprefix("a"), event.outcome)
        for event in events
        if isinstance(event, metrics.Read)
    ]


@PAIRS
def test_each_read_is_told_of_with_its_outcome(ask: Ask) -> None:
    with metrics.recording() as events:
        ask(authors, "get", pk=ADA)
        ask(authors, "get", pk=ADA)
        ask(authors.filter(pk__in=[]), "list")
        ask(counting, "named")
        ask(counting, "named")
    assert told_of(events) == [
        ("news.Author", "get", "miss"),
        ("news.Author", "get", "hit"),
        ("news.Author", "list", "miss"),
        ("news.Author", "named", "miss"),
        ("news.Author", "named", "hit"),
    ]


def test_each_invalidation_is_told_of(ask: Ask) -> None:
    with metrics.recording() as events:
        invalidate(Author)
        save(Article, ONE, title="New")()
    tables = [
        {tag[tag.index("{") : tag.index("}") + 1] for tag in event.tags}
        for event in events
        if isinstance(event, metrics.Bump)
    ]
    assert tables == [{"{news_author}"}, {"{news_article}"}]


# Settings. ----------------------------------------------------------------------------------------


@PAIRS
def test_the_cache_can_be_switched_off_for_a_block(ask: Ask) -> None:
    ask(authors, "count")
    with settings_with(ENABLED=False), outcomes("bypass"):
        ask(authors, "count")


def test_the_cache_can_be_switched_off_for_a_function(ask: Ask) -> None:
    @settings_with(ENABLED=False)
    def read() -> int:
        number: int = ask(authors, "count")
        return number

    with outcomes("bypass", "miss"):
        assert read() == ask(authors, "count") == 3


# Transactions. ------------------------------------------------------------------------------------


class Abandoned(Exception):
    """Ends a block by rolling it back."""


def name_of_ada(ask: Ask) -> str:
    name: str = ask(authors, "get", pk=ADA).name
    return name


rename_ada = save(Author, ADA, name="Eda")


@PAIRS
@pytest.mark.parametrize("depth", [1, 2])
def test_others_read_the_old_row_until_the_outermost_block_is_committed(
    ask: Ask, elsewhere: Elsewhere, depth: int
) -> None:
    def seen() -> tuple[str, str]:
        return name_of_ada(ask), elsewhere.do(lambda: name_of_ada(ask))

    assert seen() == ("Ada", "Ada")
    with transaction.atomic():
        if depth == 2:
            with transaction.atomic():
                rename_ada()
                assert seen() == ("Eda", "Ada")
        else:
            rename_ada()
        assert seen() == ("Eda", "Ada")
    assert seen() == ("Eda", "Eda")


@PAIRS
def test_everybody_reads_the_old_row_after_a_rollback(ask: Ask, elsewhere: Elsewhere) -> None:
    name_of_ada(ask)
    with suppress(Abandoned), transaction.atomic():
        rename_ada()
        assert name_of_ada(ask) == "Eda"
        assert elsewhere.do(lambda: name_of_ada(ask)) == "Ada"
        raise Abandoned
    with statements(0), outcomes("hit"):
        assert name_of_ada(ask) == "Ada"
    assert elsewhere.do(lambda: name_of_ada(ask)) == "Ada"


@PAIRS
def test_everybody_reads_the_old_row_after_a_rollback_to_a_savepoint(
    ask: Ask, elsewhere: Elsewhere
) -> None:
    name_of_ada(ask)
    with transaction.atomic():
        with suppress(Abandoned), transaction.atomic():
            rename_ada()
            assert name_of_ada(ask) == "Eda"
            assert elsewhere.do(lambda: name_of_ada(ask)) == "Ada"
            raise Abandoned
        assert name_of_ada(ask) == "Ada"
    with statements(0), outcomes("hit"):
        assert name_of_ada(ask) == "Ada"
    assert elsewhere.do(lambda: name_of_ada(ask)) == "Ada"


@PAIRS
@pytest.mark.skipif(not POSTGRESQL, reason="On SQLite every atomic block reads the database.")
def test_a_transaction_finds_answers_until_it_writes(ask: Ask) -> None:
    with transaction.atomic():
        authors.count()  # synchronous code may ask the database for its isolation
        with outcomes("miss", "hit"):
            name_of_ada(ask)
            name_of_ada(ask)
        with transaction.atomic(), outcomes("hit"):
            name_of_ada(ask)
        rename_ada()
        with outcomes("bypass", "bypass"):
            assert name_of_ada(ask) == name_of_ada(ask) == "Eda"


@PAIRS
def test_after_an_integrity_error_that_was_rolled_back_answers_are_found_again(ask: Ask) -> None:
    row = Question(authors, lambda q: q, "get", kwargs={"pk": ADA})
    assert_fresh_then_found(ask, row)
    with pytest.raises(IntegrityError), transaction.atomic():
        Article.objects.create(author_id=-1, slug="new")
    assert_fresh_then_found(ask, row)


@PAIRS
def test_a_hook_on_commit_reads_what_was_committed(ask: Ask) -> None:
    name_of_ada(ask)
    read: list[str] = []
    with transaction.atomic():
        transaction.on_commit(lambda: read.append(name_of_ada(ask)))
        rename_ada()
    assert read == ["Eda"]


@pytest.mark.skipif(not POSTGRESQL, reason="psycopg's SQL objects are PostgreSQL's.")
def test_sql_in_objects_of_the_driver_is_read_like_text(ask: Ask) -> None:
    statement = sql.SQL("UPDATE {} SET name = %s").format(sql.Identifier("news_author"))

    def write() -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement, ["New"])

    assert_cached_and_fresh(ask, Case(Question(authors, lambda q: q), (write,)))


@PAIRS
def test_a_receiver_of_post_save_reads_what_was_saved(ask: Ask) -> None:
    read: list[str] = []

    def receiver(instance: Author, **_: object) -> None:
        read.append(ask(authors, "get", pk=instance.pk).name)

    name_of_ada(ask)
    post_save.connect(receiver, sender=Author)
    try:
        rename_ada()
        Author.objects.create(name="Dan")
    finally:
        post_save.disconnect(receiver, sender=Author)
    assert read == ["Eda", "Dan"]


def test_a_write_through_a_manager_made_by_hand_is_seen(ask: Ask) -> None:
    manager: models.Manager[Author] = models.Manager()
    manager.model = Author

    def write() -> None:
        manager.filter(pk=ADA).update(name="Eda")

    assert_cached_and_fresh(ask, Case(Question(authors, lambda q: q), (write,)))


# Databases. ---------------------------------------------------------------------------------------


THERE = Author.objects.using("other")

WRITES_THERE: dict[str, Write] = {
    "save": lambda: Author(name="Dan").save(using="other"),
    "delete": lambda: THERE.get(name="Dan").delete(using="other"),
    "bulk_create": lambda: THERE.bulk_create([Author(name="Fay")]),
    "update": lambda: THERE.filter(name="Fay").update(name="Gus"),
    "add": lambda: THERE.get(name="Eve").edited.add(
        Article.objects.using("other").create(author=THERE.get(name="Eve"), slug="there")
    ),
}


@on_both_databases
def test_a_write_to_another_database_is_seen_there_and_changes_nothing_here(ask: Ask) -> None:
    THERE.create(name="Eve")
    question = Question(authors, lambda q: q.prefetch_related("edited"))
    for name, write in WRITES_THERE.items():
        with about(name):
            assert_fresh_then_found(ask, question)
            with placed("other"):
                assert_fresh_then_found(ask, question)
                before = described(true(question))
                write()
                assert described(true(question)) != before
                assert_fresh_then_found(ask, question)
            assert_fresh_then_found(ask, question)


@PAIRS
@on_both_databases
def test_a_question_to_another_database_is_another_question(ask: Ask) -> None:
    Author.objects.using("other").create(name="Eve")
    for outcome in ("miss", "hit"):
        with outcomes(outcome):
            assert len(ask(authors, "list")) == 3
        with placed("other"), outcomes(outcome):
            assert len(ask(authors, "list")) == 1


@on_both_databases
def test_a_read_and_a_write_on_another_database_ask_nothing_of_the_default_one(ask: Ask) -> None:
    within = Author.objects.using("other").filter(name="Eve")
    with placed("other"), statements(0):
        eve = Author.objects.create(name="Eve")
        Article.objects.create(author=eve, slug="there")
        for _ in range(2):
            found = ask(articles.using("other").filter(author__in=within), "list")
            assert [each.slug for each in found] == ["there"]
        eve.save()
        eve.delete()
        assert ask(articles.using("other"), "count") == 0


# Precision: what a write leaves alone. ------------------------------------------------------------

WARM: dict[str, tuple[Question, Write]] = {
    "a row, when another is saved": (
        Question(articles, lambda q: q, "get", kwargs={"pk": ONE}),
        save(Article, TWO, title="New"),
    ),
    "the rows of a table between, when its links are cleared": (
        Question(tags, lambda q: q, "get", kwargs={"pk": LOOM}),
        lambda: tags_of(ONE).clear(),
    ),
    "a list by its parent, when another parent gets a row": (
        Question(articles, lambda q: q.filter(author=BEN)),
        article("new", ADA),
    ),
    "a list by its parent, when a row moves between two others": (
        Question(articles, lambda q: q.filter(author=CAT)),
        save(Article, ONE, author_id=BEN),
    ),
    "a list by its parent, when a row of another is deleted": (
        Question(articles, lambda q: q.filter(author=BEN)),
        delete(Article, pk=ONE),
    ),
    "a count by a flag, when a row without it is saved": (
        Question(articles, lambda q: q.filter(published=True), "count"),
        save(Article, THREE, title="New"),
    ),
    "a row by a unique field, when another is saved": (
        Question(articles, lambda q: q, "get", kwargs={"slug": "article-1"}),
        save(Article, TWO, title="New"),
    ),
    "that there is no row, when another is created": (
        Question(articles, lambda q: q.filter(slug="missing"), "get_or_none"),
        article("new", ADA),
    ),
    "a link, when those of another owner are cleared": (
        Question(links, lambda q: q, "get", kwargs={"article": TWO, "tag": LOOM}),
        lambda: tags_of(ONE).clear(),
    ),
    "the links of an owner, when a row that it does not have is taken from all others": (
        Question(links, lambda q: q.filter(article=TWO)),
        lambda: Tag.objects.get(pk=WOOL).articles.clear(),
    ),
    "a row with its related row, when another one of these is saved": (
        Question(articles, lambda q: q.select_related("author"), "get", kwargs={"pk": THREE}),
        save(Author, ADA, name="Eda"),
    ),
    "a row with its rows over a table between, when the links of another are cleared": (
        Question(articles, lambda q: q.prefetch_related("tags"), "get", kwargs={"pk": TWO}),
        lambda: tags_of(ONE).clear(),
    ),
    "a row with its rows, when another gets one": (
        Question(articles, lambda q: q.prefetch_related("comments"), "get", kwargs={"pk": THREE}),
        create(Comment, article_id=ONE, text="New"),
    ),
}


@pytest.mark.parametrize(("question", "write"), WARM.values(), ids=WARM)
def test_a_write_leaves_warm(ask: Ask, question: Question, write: Write) -> None:
    assert_warm_after(ask, question, write)


# Fields (their tables exist from here on, which makes each test longer). --------------------------


NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)

everything = repository_of(fields.Everything)

VALUES: dict[str, Any] = {
    "day": date(2026, 3, 1),
    "moment": NOON,
    "hour": time(10, 30),
    "data": [1, 2],
    "raw": b"12345",
}


@pytest.mark.usefixtures("peers_app")
def test_rows_are_counted_and_given_by_a_value_of_any_type(ask: Ask) -> None:
    def count(field: str) -> Question:
        return Question(everything, lambda q: q.filter(**{field: VALUES[field]}), "count")

    assert_all_cached_and_fresh(
        ask,
        {
            field: Case(count(field), (create(fields.Everything, **{field: value}),))
            for field, value in VALUES.items()
        },
    )
    for field, value in VALUES.items():
        row = Question(everything, lambda q: q, "get", kwargs={field: value})
        assert_fresh_then_found(ask, row)
        assert getattr(told(ask, row), field) == value


@pytest.mark.usefixtures("peers_app")
def test_rows_are_found_by_what_a_field_of_ones_own_makes_of_a_value(ask: Ask) -> None:
    customs = repository_of(fields.Custom)
    count = Question(customs, lambda q: q.filter(pair=("a", "b")), "count")
    write = lambda: fields.Custom.objects.create(shout="x", pair=("a", "b"))  # noqa: E731
    assert_cached_and_fresh(ask, Case(count, (write,)))
    assert_fresh_then_found(ask, Question(customs, lambda q: q, "get", kwargs={"shout": "x"}))


@pytest.mark.usefixtures("peers_app")
def test_rows_with_values_of_a_class_of_ones_own_are_read_each_time(ask: Ask) -> None:
    strange = repository_of(fields.Strange)
    for text in ("one", "two"):
        fields.Strange.objects.all().delete()
        fields.Strange.objects.create(thing=fields.Thing(text))
        with outcomes("miss", "miss"):
            assert ask(strange, "first").thing.text == ask(strange, "first").thing.text == text


@pytest.mark.usefixtures("peers_app")
def test_a_row_whose_init_leaves_an_object_behind_is_found(ask: Ask) -> None:
    fields.Tracked.objects.create(name="one")
    tracked = repository_of(fields.Tracked)
    ask(tracked, "first")
    with outcomes("hit"):
        found = ask(tracked, "first")
    assert found.tracker.owner is found
    assert found.tracker.saved["name"] == "one"


parts = repository_of(peers.Part)
engines = repository_of(peers.Engine)
dealers = repository_of(peers.Dealer)
importers = repository_of(peers.Importer)
warranties = repository_of(peers.Warranty)


@pytest.fixture
def stock(peers_app: None) -> None:
    """A part that replaces another, an engine, and who deals in them."""
    first = peers.Part.objects.create(number=5)
    second = peers.Part.objects.create(number=6, replaces=first)
    engine = peers.Engine.objects.create(number=7)
    fast, slow, furious = (
        peers.Dealer.objects.create(name=name) for name in ("fast", "slow", "furious")
    )
    second.dealers.add(fast, furious)
    engine.dealers.add(slow, furious)
    peers.Warranty.objects.create(part=first)


def part(number: int) -> peers.Part:
    found: peers.Part = peers.Part.objects.get(number=number)
    return found


def engine() -> peers.Engine:
    found: peers.Engine = peers.Engine.objects.get()
    return found


def dealer(name: str) -> Any:
    return peers.Dealer.objects.get(name=name)


COLUMNS: dict[str, Case] = {
    "a row by a column with another name": Case(
        Question(parts, lambda q: q, "get", kwargs={"number": 5}),
        (
            lambda: peers.Part.objects.filter(number=5).update(weight=1),
            lambda: peers.Part(pk=part(5).pk, number=5, weight=2).save(),
        ),
    ),
    "rows that refer to such a column": Case(
        Question(parts, lambda q: q.filter(replaces__number=5)),
        (
            lambda: peers.Part.objects.filter(number=6).update(weight=1),
            lambda: peers.Part.objects.create(number=8, replaces_id=5),
        ),
    ),
    "rows that refer to such a column, by its value": Case(
        Question(parts, lambda q: q.filter(replaces=5)),
        (
            lambda: peers.Part.objects.create(number=9, replaces_id=5),
            lambda: part(5).delete(),
        ),
    ),
}

ONE_TO_ONE: dict[str, Case] = {
    "rows by a one-to-one": Case(
        Question(warranties, lambda q: q.filter(part__number=6)),
        (lambda: peers.Warranty.objects.create(part=part(6)),),
    ),
    "a count of rows without a one-to-one": Case(
        Question(parts, lambda q: q.filter(warranty__isnull=True), "count"),
        (
            lambda: peers.Warranty.objects.create(part=part(7)),
            lambda: peers.Warranty.objects.filter(part__number=7).delete(),
        ),
    ),
    "rows whose one-to-one is set to null": Case(
        Question(warranties, lambda q: q.select_related("part").order_by("pk")),
        (lambda: part(5).delete(),),
    ),
}

OF_A_CHILD: dict[str, Case] = {
    "the dealers of a child": Case(
        Question(dealers, lambda q: q.filter(parts__engine__power=0).order_by("pk")),
        (
            lambda: engine().dealers.remove(dealer("furious")),
            lambda: engine().dealers.add(dealer("fast")),
            lambda: engine().dealers.clear(),
        ),
    ),
    "the children that a dealer has": Case(
        Question(engines, lambda q: q.filter(dealers__name="furious")),
        (
            lambda: engine().dealers.add(dealer("furious")),
            lambda: engine().dealers.remove(dealer("furious")),
            lambda: dealer("furious").parts.set([engine()]),
            lambda: dealer("furious").parts.clear(),
        ),
    ),
}

PROXIES: dict[str, Case] = {
    "rows of a proxy": Case(
        Question(importers, lambda q: q.order_by("pk")),
        (
            lambda: peers.Dealer.objects.create(name="new"),
            lambda: peers.Retailer.objects.create(name="newer"),
            lambda: peers.Retailer.objects.get(name="newer").delete(),
        ),
    ),
    "rows behind a proxy": Case(
        Question(dealers, lambda q: q.order_by("pk")),
        (
            lambda: peers.Importer.objects.create(name="newest"),
            lambda: peers.Importer.objects.get(name="newest").delete(),
        ),
    ),
    "a row of a proxy": Case(
        Question(importers, lambda q: q, "get", kwargs={"name": "fast"}),
        (lambda: dealer("fast").delete(),),
    ),
    "a row behind a proxy": Case(
        Question(dealers, lambda q: q, "get", kwargs={"name": "slow"}),
        (lambda: peers.Importer.objects.get(name="slow").delete(),),
    ),
}


@pytest.mark.usefixtures("stock")
def test_answers_by_a_column_with_another_name_are_found_and_fresh(ask: Ask) -> None:
    assert_all_cached_and_fresh(ask, COLUMNS)


@pytest.mark.usefixtures("stock")
def test_answers_over_a_one_to_one_are_found_and_fresh(ask: Ask) -> None:
    assert_all_cached_and_fresh(ask, ONE_TO_ONE)


@pytest.mark.usefixtures("stock")
def test_answers_over_a_table_between_that_a_child_inherits_are_found_and_fresh(ask: Ask) -> None:
    assert_all_cached_and_fresh(ask, OF_A_CHILD)


@pytest.mark.usefixtures("stock")
def test_answers_about_proxies_are_found_and_fresh(ask: Ask) -> None:
    assert_all_cached_and_fresh(ask, PROXIES)


@pytest.mark.usefixtures("stock")
def test_a_row_comes_as_the_class_that_it_was_asked_by(ask: Ask) -> None:
    kinds = [(dealers, peers.Dealer), (importers, peers.Importer)]
    for name, order in (("fast", kinds), ("slow", kinds[::-1])):
        for repository, kind in order * 2:
            assert type(ask(repository, "get", pk=dealer(name).pk)) is kind


@pytest.mark.usefixtures("peers_app")
def test_rows_by_an_element_of_a_document_are_found_and_fresh(ask: Ask) -> None:
    count = Question(everything, lambda q: q.filter(data__author="Eve"), "count")
    write = create(fields.Everything, data={"author": "Eve"})
    assert_cached_and_fresh(ask, Case(count, (write,)))


ARRAYS: dict[str, tuple[dict[str, Any], list[int]]] = {
    "by an element": ({"numbers__contains": [42]}, [1, 42]),
    "by their length": ({"numbers__len": 3}, [1, 2, 3]),
    "empty": ({"numbers": []}, []),
}


@pytest.mark.skipif(not POSTGRESQL, reason="Arrays are PostgreSQL's.")
@pytest.mark.usefixtures("peers_app")
def test_rows_by_an_array_are_found_and_fresh(ask: Ask) -> None:
    from tests.peers.postgres import Measured

    measured = repository_of(Measured)

    def count(condition: dict[str, Any]) -> Question:
        return Question(measured, lambda q: q.filter(**condition), "count")

    assert_all_cached_and_fresh(
        ask,
        {
            name: Case(count(condition), (create(Measured, numbers=numbers),))
            for name, (condition, numbers) in ARRAYS.items()
        },
    )
