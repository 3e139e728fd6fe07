"""What django-cachalot's own suite expects of a cache, shown of this one; docs/peer-behaviours.md
says which test stands for which of theirs. Nothing here is their code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.db.models import (
    BooleanField,
    Count,
    Exists,
    FilteredRelation,
    OuterRef,
    Q,
    Subquery,
    Value,
    When,
)
from django.db.models import (
    Case as CaseWhen,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Now

from loom_cache import CachedRepository, bypass, invalidate, metrics
from testproject.news.models import Article, Author, Comment, Tag
from tests.cases import stored
from tests.cases.conftest import Ask, outcomes, statements
from tests.cases.interleaving import Elsewhere
from tests.cases.questions import Question
from tests.fieldapp import models as fields
from tests.library.models import Book, Isbn, Place, Shop
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
)
from tests.peers.conftest import ADA, BEN, CAT, LOOM, NOON, ONE, THREE, TWO, WOOL

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("news")]


class Articles(CachedRepository[Article]):
    model = Article


class Authors(CachedRepository[Author]):
    model = Author


class Comments(CachedRepository[Comment]):
    model = Comment


class Tags(CachedRepository[Tag]):
    model = Tag


class Users(CachedRepository[User]):
    model = User


class Permissions(CachedRepository[Permission]):
    model = Permission


class Shops(CachedRepository[Shop]):
    model = Shop


class Isbns(CachedRepository[Isbn]):
    model = Isbn


articles, authors, comments, tags = Articles(), Authors(), Comments(), Tags()
users, permissions, shops, isbns = Users(), Permissions(), Shops(), Isbns()


def article(slug: str, author: int = ADA, **more: Any) -> Write:
    values = {"slug": slug, "title": slug, "author_id": author, "created": NOON, **more}
    return create(Article, **values)


def execute(statement: Any, *params: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


def tags_of(pk: int) -> Any:
    return Article.objects.get(pk=pk).tags


# Reading, and what a write makes of it. -----------------------------------------------------------

TITLES_OF_OUTER = Article.objects.filter(author=OuterRef("pk")).order_by("pk").values("title")[:1]
NAMED_ADA = "SELECT id FROM news_author WHERE name = 'Ada'"

CASES: dict[str, Case] = {
    "all rows": Case(
        Question(articles, lambda q: q),
        (
            article("new"),
            lambda: Article.objects.bulk_create(
                [Article(author_id=ADA, slug=slug) for slug in ("newer", "newest")]
            ),
            lambda: Article.objects.all().delete(),
        ),
    ),
    "a row by a field": Case(
        Question(articles, lambda q: q, "get", kwargs={"title": "Article 1"}),
        (save(Article, ONE, views=7), save(Article, ONE, title="New")),
    ),
    "the first of none": Case(
        Question(articles, lambda q: q.filter(title="New"), "first"), (article("New"),)
    ),
    "rows by a flag": Case(
        Question(articles, lambda q: q.filter(published=True)), (save(Article, THREE, published=1),)
    ),
    "rows by a list of values": Case(
        Question(articles, lambda q: q.filter(slug__in=["article-2", "new"])), (article("new"),)
    ),
    "rows after a moment": Case(
        Question(articles, lambda q: q.filter(created__gt=NOON + timedelta(days=50))),
        (save(Article, ONE, created=NOON + timedelta(days=99)),),
    ),
    "rows that are not there": Case(
        Question(articles, lambda q: q.filter(published=True, title="New")), (article("New"),)
    ),
    "rows but those of a flag": Case(
        Question(articles, lambda q: q.exclude(published=True)),
        (save(Article, ONE, published=False),),
    ),
    "rows but those of a list of values": Case(
        Question(articles, lambda q: q.exclude(slug__in=["article-2", "new"])),
        (save(Article, ONE, slug="new"),),
    ),
    "a slice": Case(
        Question(articles, lambda q: q.order_by("-views")[:1]), (save(Article, ONE, views=9),)
    ),
    "rows in another order": Case(
        Question(articles, lambda q: q.order_by("-title")), (save(Article, ONE, title="Z"),)
    ),
    "rows in the order of a related row": Case(
        Question(articles, lambda q: q.order_by("author__name", "pk")),
        (save(Author, BEN, name="Abe"),),
    ),
    "rows in the order of an expression over related rows": Case(
        Question(articles, lambda q: q.order_by(Coalesce("editor__name", "author__name"), "pk")),
        (save(Author, ADA, name="Zoe"),),
    ),
    "rows in reverse": Case(Question(articles, lambda q: q.reverse()), (article("new"),)),
    "rows that a join repeats": Case(
        Question(articles, lambda q: q.filter(author__articles__tags__name="loom").order_by("pk")),
        (lambda: tags_of(TWO).clear(),),
    ),
    "rows without what a join repeats": Case(
        Question(authors, lambda q: q.filter(articles__tags__name__in=["loom", "wool"]).distinct()),
        (lambda: tags_of(THREE).add(WOOL),),
    ),
    "rows by their keys": Case(
        Question(articles, lambda q: q, "in_bulk", ([ONE, 999, 998],)),
        (article("new", pk=999), save(Article, ONE, title="New"), delete(Article, pk=ONE)),
    ),
    "values": Case(
        Question(articles, lambda q: q.values("title", "published")),
        (article("new"), delete(Article, pk=ONE)),
    ),
    "a flat list": Case(
        Question(articles, lambda q: q.values_list("title", flat=True)),
        (save(Article, ONE, title="New"),),
    ),
    "the earliest": Case(
        Question(articles, lambda q: q, "earliest", ("created",)),
        (save(Article, THREE, created=NOON - timedelta(days=1)),),
    ),
    "the latest": Case(
        Question(articles, lambda q: q, "latest", ("created",)),
        (save(Article, ONE, created=NOON + timedelta(days=999)),),
    ),
    "dates": Case(
        Question(articles, lambda q: q.dates("created", "month")),
        (save(Article, ONE, created=NOON + timedelta(days=999)),),
    ),
    "moments": Case(
        Question(articles, lambda q: q.datetimes("created", "hour")),
        (save(Article, ONE, created=NOON + timedelta(hours=1)),),
    ),
    "moments in a time zone": Case(
        Question(
            articles, lambda q: q.datetimes("created", "day", tzinfo=ZoneInfo("Pacific/Auckland"))
        ),
        (save(Article, ONE, created=NOON + timedelta(hours=1)),),
    ),
    "keys of related rows": Case(
        Question(articles, lambda q: q.order_by("pk").values_list("author", flat=True)),
        (lambda: Article.objects.filter(pk=TWO).update(author=BEN),),
    ),
    "values over a table between": Case(
        Question(tags, lambda q: q.filter(articles=ONE).values_list("name", flat=True)),
        (save(Tag, LOOM, name="weft"), lambda: Tag.objects.filter(pk=WOOL).update(name="silk")),
    ),
    "rows of a queryset's rows": Case(
        Question(articles, lambda q: q.filter(author__in=Author.objects.all())), (article("new"),)
    ),
    "rows without rows over a table between": Case(
        Question(articles, lambda q: q.exclude(tags__isnull=True)),
        (lambda: tags_of(THREE).add(LOOM),),
    ),
    "rows but those of rows over a table between": Case(
        Question(articles, lambda q: q.exclude(tags__name="silk")),
        (save(Tag, WOOL, name="silk"),),
    ),
    "an annotation by EXISTS": Case(
        Question(
            authors,
            lambda q: q.annotate(writes=Exists(Article.objects.filter(author=OuterRef("pk")))),
        ),
        (article("new", CAT),),
    ),
    "a condition in SQL": Case(
        Question(articles, lambda q: q.filter(author=RawSQL(NAMED_ADA, ()))),
        (save(Author, ADA, name="Eda"), save(Author, BEN, name="Ada")),
    ),
    "a condition in SQL within a subquery": Case(
        Question(
            articles,
            lambda q: q.filter(pk__in=Article.objects.filter(author=RawSQL(NAMED_ADA, ()))),
        ),
        (save(Author, ADA, name="Eda"), save(Author, BEN, name="Ada"), delete(Article, pk=THREE)),
    ),
    "an annotation in SQL": Case(
        Question(
            tags,
            lambda q: q.annotate(who=RawSQL("SELECT name FROM news_author WHERE id = %s", (ADA,))),
        ),
        (save(Author, ADA, name="Eda"),),
    ),
    "an annotation by a subquery or else": Case(
        Question(
            authors, lambda q: q.annotate(about=Coalesce(Subquery(TITLES_OF_OUTER), Value("-")))
        ),
        (article("new", CAT), save(Article, ONE, title="New")),
    ),
    "a case whose result is a subquery": Case(
        Question(
            authors,
            lambda q: q.annotate(
                about=CaseWhen(
                    When(pk=ADA, then=Subquery(TITLES_OF_OUTER)), default=Value("nothing")
                )
            ),
        ),
        (save(Article, ONE, title="New"),),
    ),
    "a case whose default is a subquery": Case(
        Question(
            authors,
            lambda q: q.annotate(
                about=CaseWhen(
                    When(pk=ADA, then=Value("nothing")), default=Subquery(TITLES_OF_OUTER)
                )
            ),
        ),
        (save(Article, THREE, title="New"),),
    ),
    "a case whose condition is a subquery": Case(
        Question(
            tags,
            lambda q: q.annotate(
                of_one=CaseWhen(
                    When(
                        pk__in=Article.tags.through.objects.filter(article=ONE).values("tag"),
                        then=True,
                    ),
                    default=False,
                    output_field=BooleanField(),
                )
            ).filter(of_one=True),
        ),
        (lambda: tags_of(ONE).remove(WOOL), lambda: tags_of(ONE).add(WOOL)),
    ),
    "only some fields": Case(
        Question(articles, lambda q: q.only("title"), "first"), (save(Article, THREE, title="New"),)
    ),
    "all but some fields": Case(
        Question(articles, lambda q: q.defer("title"), "first"),
        (save(Article, THREE, body="New"),),
    ),
    "rows with a related row": Case(
        Question(articles, lambda q: q.select_related("author")),
        (
            save(Author, ADA, name="Eda"),
            article("new", CAT),
            lambda: Article.objects.filter(slug__in=["new", "article-1"]).delete(),
        ),
    ),
    "rows with a row two relations away": Case(
        Question(comments, lambda q: q.select_related("article__author")),
        (save(Author, BEN, name="Bob"), save(Article, ONE, author_id=CAT)),
    ),
    "rows with related rows": Case(
        Question(authors, lambda q: q.prefetch_related("articles")),
        (article("new", CAT), save(Article, ONE, title="New"), delete(Article, pk=TWO)),
    ),
    "rows with a related row and its rows over a table between": Case(
        Question(comments, lambda q: q.select_related("article").prefetch_related("article__tags")),
        (
            lambda: tags_of(THREE).add(WOOL),
            save(Tag, LOOM, name="weft"),
            lambda: Article.objects.update(title="New"),
        ),
    ),
    "a slice of them": Case(
        Question(
            comments,
            lambda q: q.select_related("article").prefetch_related("article__tags")[:1],
        ),
        (lambda: tags_of(ONE).remove(WOOL),),
    ),
    "rows with rows of rows over a table between": Case(
        Question(tags, lambda q: q.prefetch_related("articles__comments")),
        (
            create(Comment, article_id=TWO, text="New"),
            lambda: tags_of(THREE).add(WOOL),
            save(Article, THREE, title="New"),
        ),
    ),
    "rows by a filtered relation": Case(
        Question(
            authors,
            lambda q: q.annotate(
                shown=FilteredRelation("articles", condition=Q(articles__published=True))
            ).filter(shown__views__gt=2),
        ),
        (save(Article, THREE, published=True),),
    ),
    "values of a filtered relation": Case(
        Question(
            authors,
            lambda q: (
                q.annotate(
                    shown=FilteredRelation("articles", condition=Q(articles__published=True))
                )
                .order_by("pk", "shown__pk")
                .values("name", "shown")
            ),
        ),
        (save(Article, THREE, published=True), save(Author, CAT, name="Cid")),
    ),
    "rows by either of two conditions": Case(
        Question(articles, lambda q: q.filter(Q(views__lt=2) | Q(author__name__contains="n"))),
        (save(Author, BEN, name="Bob"),),
    ),
    "a union": Case(
        Question(
            articles,
            lambda q: (
                q.filter(views__lt=2)
                .order_by()
                .union(Article.objects.filter(author__name__contains="n").order_by())
                .order_by("pk")
            ),
        ),
        (save(Author, BEN, name="Bob"), save(Article, TWO, views=1)),
    ),
    "an intersection": Case(
        Question(
            articles,
            lambda q: (
                q.filter(views__gt=0)
                .order_by()
                .intersection(Article.objects.filter(author__name__contains="d").order_by())
                .order_by("pk")
            ),
        ),
        (save(Author, ADA, name="Eva"), save(Author, BEN, name="Ed")),
    ),
    "a difference": Case(
        Question(
            articles,
            lambda q: (
                q.filter(views__gt=0)
                .order_by()
                .difference(Article.objects.filter(author__name__contains="d").order_by())
                .order_by("pk")
            ),
        ),
        (save(Author, ADA, name="Eva"), save(Author, BEN, name="Ed")),
    ),
    "rows by a count of related rows": Case(
        Question(articles, lambda q: q.annotate(n=Count("comments")).filter(n__gte=1)),
        (create(Comment, article_id=TWO, text="New"),),
    ),
    "a count of rows by a count of related rows": Case(
        Question(articles, lambda q: q.annotate(n=Count("comments")).filter(n__gte=1), "count"),
        (lambda: Comment.objects.filter(article=ONE).delete(),),
    ),
    "an aggregate": Case(
        Question(authors, lambda q: q, "aggregate", kwargs={"n": Count("articles")}),
        (article("new", CAT),),
    ),
    "an annotation": Case(
        Question(authors, lambda q: q.annotate(n=Count("articles")).order_by("pk")),
        (
            create(Author, name="Dan"),
            lambda: Article.objects.bulk_create(
                [Article(author_id=pk, slug=f"new-{pk}") for pk in (ADA, BEN)]
            ),
        ),
    ),
    "a row that is not there, by text outside ASCII": Case(
        Question(authors, lambda q: q, "get", kwargs={"name": "Clémentine"}),
        (create(Author, name="Clémentine"), delete(Author, name="Clémentine")),
    ),
    "a child and its parent's column": Case(
        Question(shops, lambda q: q.filter(name__startswith="New"), "get_or_none"),
        (
            create(Shop, name="New"),
            lambda: Place.objects.update(name="Newer"),
            lambda: Shop.objects.filter(name="Newer").update(name="Newest"),
        ),
    ),
    "rows of a model that Django does not manage": Case(
        Question(isbns, lambda q: q),
        (create(Book, title="Loom", isbn="1"), lambda: Isbn.objects.update(title="Weft")),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_answer_is_found_and_fresh(ask: Ask, case: Case) -> None:
    assert_cached_and_fresh(ask, case)


# What differs from reading through a patched ORM. -------------------------------------------------


def test_none_costs_no_sql(ask: Ask) -> None:
    with statements(0):
        assert ask(articles.none(), "list") == ask(articles.none(), "list") == []


BY_ITSELF: dict[str, Callable[[Any], Any]] = {
    "random order": lambda q: q.order_by("?"),
    "random order in a subquery": lambda q: q.filter(
        pk__in=Article.objects.order_by("?").values("pk")[:10]
    ),
    "the time as an annotation": lambda q: q.annotate(now=Now()),
    "the time as a parameter": lambda q: q.filter(created__lte=Now()),
}


def test_what_changes_by_itself_is_read_each_time(ask: Ask) -> None:
    for name, chain in BY_ITSELF.items():
        for _ in range(2):
            with about(name), statements(1):
                assert ask(chain(articles), "list")


SELECT = "SELECT * FROM news_article"

HANDED_OVER: dict[str, Callable[[], object]] = {
    "iterator": lambda: list(articles.iterator(chunk_size=10)),
    "raw": lambda: list(articles.raw(SELECT)),
    "raw SQL about no table": lambda: list(articles.raw("SELECT 1 AS id")),
    "a cursor": lambda: execute(SELECT),
    "a cursor about no table": lambda: execute("SELECT 1"),
    "explain": lambda: articles.explain(),
}


def test_what_goes_past_the_chain_reads_the_database_each_time(store: str) -> None:
    for name, read in HANDED_OVER.items():
        for _ in range(2):
            with about(name), statements(1), outcomes():
                read()
    assert stored.entries() == {}


@pytest.mark.skipif(not POSTGRESQL, reason="A cursor of SQLite takes no bytes.")
def test_a_write_in_bytes_is_seen(ask: Ask) -> None:
    write = lambda: execute(b"UPDATE news_author SET name = 'New'")  # noqa: E731
    assert_cached_and_fresh(ask, Case(Question(authors, lambda q: q), (write,)))


def test_rows_that_are_locked_are_read_each_time_and_written(ask: Ask) -> None:
    rows = Question(articles, lambda q: q)
    assert_fresh_then_found(ask, rows)
    for _ in range(2):
        with transaction.atomic(), statements(1):
            assert len(articles.order_by("pk").select_for_update()) == 3
    with transaction.atomic():
        articles.select_for_update().update(title="New")
    assert_fresh_then_found(ask, rows)


def test_a_related_row_that_is_fetched_when_it_is_used_is_read_each_time(ask: Ask) -> None:
    for _ in range(2):
        row = ask(articles, "get", pk=ONE)
        with statements(1), outcomes():
            assert row.author.name == "Ada"


def test_a_deferred_field_that_is_used_is_read_each_time(ask: Ask) -> None:
    for _ in range(2):
        row = ask(articles.only("title"), "first")
        with statements(1), outcomes():
            assert row.views == 3


def test_a_union_of_rows_that_do_not_fit_is_refused_each_time(ask: Ask) -> None:
    union = articles.order_by().union(Tag.objects.order_by())
    for _ in range(2):
        with pytest.raises(DatabaseError):
            ask(union, "list")


def test_several_rows_where_one_was_asked_for_are_noticed(ask: Ask) -> None:
    new = Question(authors, lambda q: q, "get", kwargs={"name": "New"})
    assert_fresh_then_found(ask, new)
    Author.objects.create(name="New")
    assert_fresh_then_found(ask, new)
    Author.objects.create(name="New")
    for _ in range(2):
        with pytest.raises(Author.MultipleObjectsReturned):
            told(ask, new)


def test_a_list_that_grows_after_it_was_given_changes_no_question(ask: Ask) -> None:
    keys = [ONE]
    few = articles.filter(pk__in=keys)
    for given in (few, articles.filter(pk__in=(TWO, THREE)), articles.filter(pk__in=[TWO])):
        with outcomes("miss"):
            ask(given, "list")
    keys.append(TWO)
    with statements(0), outcomes("hit"):
        assert [row.pk for row in ask(few, "list")] == [ONE]
    assert len(ask(articles.filter(pk__in=keys), "list")) == 2


# What lies in the store. --------------------------------------------------------------------------


@PAIRS
def test_an_answer_whose_counters_are_lost_is_loaded_anew(ask: Ask) -> None:
    rows = Question(articles, lambda q: q)
    assert_fresh_then_found(ask, rows)
    stored.remove(*stored.counters())
    with outcomes("miss", "hit"):
        assert_fresh_then_found(ask, rows)


@PAIRS
def test_an_answer_that_is_broken_is_loaded_anew(ask: Ask) -> None:
    rows = Question(articles, lambda q: q)
    assert_fresh_then_found(ask, rows)
    (key,) = stored.entries()
    for junk in (b"", b"()", b"\xc0", b"\x90"):
        stored.put(key, junk)
        with about(repr(junk)), outcomes("miss", "hit"):
            assert_fresh_then_found(ask, rows)


# extra(): of a base queryset. ---------------------------------------------------------------------

LENGTH = "SELECT LENGTH(name) FROM news_author WHERE news_author.id = news_article.author_id"
EXTRA = "author_id IN (SELECT id FROM news_author WHERE name = 'Ada')"


class WithSelect(CachedRepository[Article]):
    queryset = Article.objects.extra(select={"length": LENGTH})


class WithWhere(CachedRepository[Article]):
    queryset = Article.objects.extra(where=[EXTRA])


class WithTables(CachedRepository[Article]):
    queryset = Article.objects.order_by("pk").extra(
        tables=["news_tag"], select={"tag": "news_tag.name"}, order_by=["pk", "tag"]
    )


class WithOrder(CachedRepository[Article]):
    queryset = Article.objects.extra(order_by=["-news_article.title"])


EXTRAS: dict[str, Case] = {
    "select": Case(
        Question(WithSelect(), lambda q: q), (save(Author, BEN, name="Benjamin"), article("new"))
    ),
    "where": Case(
        Question(WithWhere(), lambda q: q),
        (save(Author, BEN, name="Ada"), save(Author, ADA, name="Eda"), article("new", BEN)),
    ),
    "tables": Case(Question(WithTables(), lambda q: q), (create(Tag, name="silk"), article("new"))),
    "order": Case(
        Question(WithOrder(), lambda q: q), (article("A"), save(Article, ONE, title="Z"))
    ),
}


@pytest.mark.parametrize("case", EXTRAS.values(), ids=EXTRAS)
def test_an_answer_of_a_base_with_extra_is_found_and_fresh(ask: Ask, case: Case) -> None:
    assert_cached_and_fresh(ask, case)


# Rows of other apps, many tables away. ------------------------------------------------------------


@pytest.fixture
def somebody() -> User:
    """A user without groups and permissions."""
    return User.objects.create(username="ida")


def permission(name: str = "touch") -> Permission:
    found: Permission = Permission.objects.get_or_create(
        codename=name, content_type_id=Permission.objects.values_list("content_type")[0][0]
    )[0]
    return found


def join(somebody: User) -> None:
    """The user gets into a group that has a permission."""
    group = Group.objects.create(name="weavers")
    group.permissions.add(permission())
    somebody.groups.add(group)


def test_rows_by_rows_three_tables_away_are_found_and_fresh(ask: Ask, somebody: User) -> None:
    of_groups = Question(
        users, lambda q: q.filter(groups__permissions__in=Permission.objects.all()).distinct()
    )
    assert_cached_and_fresh(
        ask,
        Case(
            of_groups,
            (
                lambda: join(somebody),
                lambda: Group.objects.get().permissions.remove(permission()),
                lambda: Group.objects.get().permissions.set([permission("look")]),
                lambda: somebody.groups.clear(),
            ),
        ),
    )


def test_rows_by_subqueries_within_subqueries_are_found_and_fresh(ask: Ask, somebody: User) -> None:
    permitted = User.objects.filter(user_permissions__in=Permission.objects.all())
    twice = Question(users, lambda q: q.filter(pk__in=permitted))
    thrice = Question(users, lambda q: q.filter(pk__in=User.objects.filter(pk__in=permitted)))
    for question in (twice, thrice):
        assert_cached_and_fresh(
            ask,
            Case(
                question,
                (
                    lambda: somebody.user_permissions.add(permission()),
                    lambda: somebody.user_permissions.remove(permission()),
                ),
            ),
        )


def test_rows_of_a_relation_in_the_order_of_another_table_are_found_and_fresh(
    ask: Ask, somebody: User
) -> None:
    of_somebody = Question(
        permissions, lambda q: q.filter(user=somebody).values_list("codename", flat=True)
    )
    discuss, touch = permission("discuss"), permission("touch")
    assert_cached_and_fresh(
        ask,
        Case(
            of_somebody,
            (
                lambda: somebody.user_permissions.add(touch, discuss),
                save(Permission, touch.pk, codename="a"),
                lambda: Permission.objects.filter(pk=discuss.pk).update(codename="z"),
            ),
        ),
    )


# Writing. -----------------------------------------------------------------------------------------


def test_get_or_create_and_update_or_create_leave_answers_fresh(ask: Ask) -> None:
    def written(name: str, email: str) -> Write:
        return lambda: Author.objects.update_or_create(name=name, defaults={"email": email})

    case = Case(
        Question(authors, lambda q: q),
        (
            lambda: Author.objects.get_or_create(name="Dan"),
            written("Eva", "eva@example.org"),
            written("Eva", "eva@example.com"),
        ),
    )
    assert_cached_and_fresh(ask, case)
    assert Author.objects.get_or_create(name="Dan")[1] is False
    assert_fresh_then_found(ask, case.question)


INSERT = "INSERT INTO news_author (name, email) VALUES (%s, '')"


def test_raw_writes_leave_answers_fresh(ask: Ask) -> None:
    def insert_many() -> None:
        with connection.cursor() as cursor:
            cursor.executemany(INSERT, [["Eva"], ["Fay"]])

    assert_cached_and_fresh(
        ask,
        Case(
            Question(authors, lambda q: q.values_list("name", flat=True)),
            (
                lambda: execute(INSERT, "Dan"),
                insert_many,
                lambda: execute("UPDATE news_author SET name = 'New' WHERE name = 'Dan';"),
                lambda: execute("DELETE FROM news_author WHERE name = 'New';"),
            ),
        ),
    )


def test_an_index_that_is_made_and_dropped_leaves_answers_right(ask: Ask) -> None:
    rows = Question(authors, lambda q: q)
    for statement in ("CREATE INDEX tmp_index ON news_author (name)", "DROP INDEX tmp_index"):
        assert_fresh_then_found(ask, rows)
        execute(statement)
        assert_fresh_then_found(ask, rows)


@pytest.mark.skipif(not POSTGRESQL, reason="Django alters a table of SQLite by making it anew.")
def test_a_column_that_is_added_and_dropped_leaves_answers_right(ask: Ask) -> None:
    rows = Question(authors, lambda q: q)
    for change in ("ADD COLUMN tmp INTEGER", "DROP COLUMN tmp"):
        assert_fresh_then_found(ask, rows)
        execute(f"ALTER TABLE news_author {change}")
        assert_fresh_then_found(ask, rows)


class Abandoned(Exception):
    """Ends a block by rolling it back."""


@pytest.mark.skipif(not POSTGRESQL, reason="The test's table would not come back on SQLite.")
def test_a_table_that_is_dropped_is_not_answered_from_the_cache(ask: Ask) -> None:
    assert_fresh_then_found(ask, Question(comments, lambda q: q))
    with suppress(Abandoned), transaction.atomic():
        execute("DROP TABLE news_comment")
        with pytest.raises(DatabaseError), transaction.atomic():
            ask(comments, "count")
        raise Abandoned
    assert_fresh_then_found(ask, Question(comments, lambda q: q))


def test_loaddata_and_flush_leave_answers_fresh(ask: Ask, tmp_path: Path) -> None:
    fixture = tmp_path / "authors.json"
    fixture.write_text(
        json.dumps([{"model": "news.author", "pk": ADA, "fields": {"name": "Loaded"}}])
    )
    assert_cached_and_fresh(
        ask,
        Case(
            Question(authors, lambda q: q),
            (
                lambda: call_command("loaddata", str(fixture), verbosity=0),
                # Last, since it also brings back the sequence that loaddata has moved.
                lambda: call_command("flush", verbosity=0, interactive=False),
            ),
        ),
    )


# Transactions. ------------------------------------------------------------------------------------


def names(ask: Ask) -> list[str]:
    return [author.name for author in ask(authors, "list")]


@contextmanager
def abandoned() -> Iterator[None]:
    with suppress(Abandoned), transaction.atomic():
        yield
        raise Abandoned


@PAIRS
@pytest.mark.skipif(not POSTGRESQL, reason="On SQLite every atomic block reads the database.")
def test_what_a_transaction_reads_is_found_in_it_and_after_it(ask: Ask) -> None:
    with transaction.atomic():
        tags.count()  # synchronous code may ask the database for its isolation
        with outcomes("miss", "hit"):
            assert names(ask) == names(ask)
        with transaction.atomic(), transaction.atomic(), outcomes("hit"):
            names(ask)
    with statements(0), outcomes("hit"):
        names(ask)


@PAIRS
def test_what_an_abandoned_transaction_reads_is_right_afterwards(ask: Ask) -> None:
    with abandoned():
        assert names(ask) == ["Ada", "Ben", "Cat"]
    with transaction.atomic():
        with abandoned():
            assert names(ask) == ["Ada", "Ben", "Cat"]
        assert names(ask) == ["Ada", "Ben", "Cat"]
    assert_fresh_then_found(ask, Question(authors, lambda q: q))


@PAIRS
def test_each_transaction_leaves_answers_fresh(ask: Ask) -> None:
    rows = Question(authors, lambda q: q)
    for name in ("Dan", "Eva"):
        assert_fresh_then_found(ask, rows)
        with transaction.atomic():
            before = names(ask)
            Author.objects.create(name=name)
            Author.objects.create(name=f"{name} II")
            assert names(ask) == sorted([*before, name, f"{name} II"])
    assert_fresh_then_found(ask, rows)


@PAIRS
def test_an_abandoned_write_leaves_answers_in_the_cache(ask: Ask) -> None:
    missing = Question(authors, lambda q: q, "get", kwargs={"name": "Dan"})
    rows = Question(authors, lambda q: q)
    for question in (missing, rows):
        assert_fresh_then_found(ask, question)
    with abandoned():
        Author.objects.create(name="Dan")
        assert names(ask) == ["Ada", "Ben", "Cat", "Dan"]
    with statements(0), outcomes("hit", "hit"):
        assert names(ask) == ["Ada", "Ben", "Cat"]
        told(ask, missing)
    assert_fresh_then_found(ask, missing)


@PAIRS
def test_savepoints_that_are_kept_are_seen_by_the_writer_at_every_level(ask: Ask) -> None:
    with transaction.atomic():
        Author.objects.create(name="Dan")
        with transaction.atomic():
            Author.objects.create(name="Eva")
        assert names(ask)[3:] == ["Dan", "Eva"]
        with transaction.atomic():
            Author.objects.create(name="Fay")
            with transaction.atomic():
                assert names(ask)[3:] == ["Dan", "Eva", "Fay"]
                Author.objects.create(name="Gus")
    assert names(ask)[3:] == ["Dan", "Eva", "Fay", "Gus"]
    assert_fresh_then_found(ask, Question(authors, lambda q: q))


@PAIRS
def test_savepoints_that_are_abandoned_are_forgotten_at_every_level(ask: Ask) -> None:
    with transaction.atomic():
        Author.objects.create(name="Dan")
        with abandoned():
            Author.objects.create(name="Eva")
            assert names(ask)[3:] == ["Dan", "Eva"]
        assert names(ask)[3:] == ["Dan"]
        with abandoned():
            Author.objects.create(name="Fay")
            with abandoned():
                Author.objects.create(name="Gus")
                assert names(ask)[3:] == ["Dan", "Fay", "Gus"]
            assert names(ask)[3:] == ["Dan", "Fay"]
    assert names(ask)[3:] == ["Dan"]
    assert_fresh_then_found(ask, Question(authors, lambda q: q))


MOMENTS = [
    "before after",
    "begun written",
    "before begun",
    "before written",
    "begun after",
    "written after",
    "begun written after",
]


@pytest.mark.parametrize("moments", MOMENTS)
def test_another_thread_reads_what_is_committed_at_each_moment(
    ask: Ask, elsewhere: Elsewhere, moments: str
) -> None:
    old, new = ["Ada", "Ben", "Cat"], ["Ada", "Ben", "Cat", "Dan"]

    def look(moment: str, expected: list[str]) -> None:
        if moment in moments.split():
            assert elsewhere.do(lambda: names(ask)) == expected

    look("before", old)
    with transaction.atomic():
        look("begun", old)
        Author.objects.create(name="Dan")
        look("written", old)
    look("after", new)
    assert names(ask) == new
    assert_fresh_then_found(ask, Question(authors, lambda q: q))


# Databases. ---------------------------------------------------------------------------------------


def names_there(ask: Ask) -> list[str]:
    with placed("other"):
        return names(ask)


@on_both_databases
def test_each_database_answers_for_itself(ask: Ask) -> None:
    for _ in range(2):
        assert (names(ask), names_there(ask)) == (["Ada", "Ben", "Cat"], [])
    Author.objects.using("other").create(name="Eve")
    for _ in range(2):
        assert (names(ask), names_there(ask)) == (["Ada", "Ben", "Cat"], ["Eve"])
    with placed("other"), statements(0), outcomes("hit"):
        names(ask)


@on_both_databases
def test_a_block_on_one_database_within_one_on_another_is_seen_from_both(ask: Ask) -> None:
    assert (names(ask), names_there(ask)) == (["Ada", "Ben", "Cat"], [])
    with transaction.atomic():
        with transaction.atomic("other"):
            Author.objects.using("other").create(name="Eve")
            assert (names(ask), names_there(ask)) == (["Ada", "Ben", "Cat"], ["Eve"])
        assert (names(ask), names_there(ask)) == (["Ada", "Ben", "Cat"], ["Eve"])
    assert (names(ask), names_there(ask)) == (["Ada", "Ben", "Cat"], ["Eve"])


@on_both_databases
def test_a_block_that_was_committed_within_one_that_is_abandoned_is_seen(ask: Ask) -> None:
    assert names_there(ask) == names_there(ask) == []
    with abandoned(), transaction.atomic("other"):
        Author.objects.using("other").create(name="Eve")
    assert names_there(ask) == names_there(ask) == ["Eve"]


# Settings, and reading past the cache. ------------------------------------------------------------


@pytest.mark.parametrize("store", ["redis"], indirect=True)  # in memory it ends with the settings
def test_a_write_while_the_cache_is_switched_off_is_seen_afterwards(ask: Ask) -> None:
    rows = Question(authors, lambda q: q)
    assert_fresh_then_found(ask, rows)
    with settings_with(ENABLED=False):
        for _ in range(2):
            with outcomes("bypass"):
                names(ask)
    with outcomes("hit"):
        names(ask)
    with settings_with(ENABLED=False):
        Author.objects.create(name="Dan")
    assert_fresh_then_found(ask, rows)


def test_the_innermost_setting_decides_whether_the_cache_is_used(ask: Ask) -> None:
    with settings_with(ENABLED=False):
        with outcomes("bypass"):
            names(ask)
        with settings_with(ENABLED=True):
            assert_fresh_then_found(ask, Question(authors, lambda q: q))
        with outcomes("bypass"):
            names(ask)


IGNORED = {
    "its rows": authors.all(),
    "rows that touch it": articles.select_related("author"),
    "rows of an unmanaged model": isbns.all(),
}


def test_a_table_that_is_ignored_is_read_each_time(ask: Ask) -> None:
    with settings_with(IGNORE=["news.author", "library.isbn"]):
        for name, query in IGNORED.items():
            for _ in range(2):
                with about(name), statements(1):
                    ask(query, "list")
        with outcomes("miss", "hit"):
            assert_fresh_then_found(ask, Question(tags, lambda q: q))
    for name, query in IGNORED.items():
        with about(name), outcomes("miss", "hit"):
            ask(query, "list")
            ask(query, "list")


def test_nothing_within_bypass_comes_from_the_cache(ask: Ask) -> None:
    assert_fresh_then_found(ask, Question(authors, lambda q: q))
    with bypass():
        for name in ("Dan", "Eva"):
            Author.objects.create(name=name)
            with statements(1), outcomes("bypass"):
                assert name in names(ask)
    assert_fresh_then_found(ask, Question(authors, lambda q: q))


def test_reads_within_bypass_leave_what_is_cached_alone(ask: Ask) -> None:
    with outcomes("miss", "bypass", "hit"):
        names(ask)
        with bypass():
            names(ask)
        names(ask)


# invalidate(). ------------------------------------------------------------------------------------


def test_what_is_invalidated_by_hand_is_read_anew(ask: Ask) -> None:
    rows = Question(authors, lambda q: q)
    targets: tuple[Any, ...] = (Author, "news.Author", "news")
    for number, target in enumerate(targets):
        assert_fresh_then_found(ask, rows)
        before = names(ask)
        stored.run_unseen(f"UPDATE news_author SET name = 'New {number}'")
        with about(repr(target)):
            assert names(ask) == before
            invalidate(target)
            assert_fresh_then_found(ask, rows)
            assert names(ask) != before


def test_what_is_invalidated_within_a_transaction_is_read_anew_in_it_and_after_it(ask: Ask) -> None:
    rows = Question(authors, lambda q: q)
    assert_fresh_then_found(ask, rows)
    with transaction.atomic():
        invalidate(Author)
        with outcomes("bypass"):
            names(ask)
    with outcomes("miss", "hit"):
        assert_fresh_then_found(ask, rows)


# What is told of writes. --------------------------------------------------------------------------


@contextmanager
def telling_of(*expected: set[str]) -> Iterator[None]:
    """The block invalidates tags of these tables, in so many round trips."""
    with metrics.recording() as events:
        yield
    found = [
        {tag[tag.index("{") + 1 : tag.index("}")] for tag in event.tags}
        for event in events
        if isinstance(event, metrics.Bump)
    ]
    assert found == list(expected)


@PAIRS
def test_a_write_is_told_of_and_a_read_is_not(ask: Ask) -> None:
    with telling_of():
        names(ask)
    with telling_of({"news_author"}):
        Author.objects.filter(name="Ada").update(name="Eda")
    with telling_of({"news_tag"}):
        invalidate(Tag)


@PAIRS
def test_a_transaction_is_told_of_once_and_at_its_end(ask: Ask) -> None:
    with telling_of({"news_author", "news_tag"}), transaction.atomic(), telling_of():
        Author.objects.create(name="Dan")
        with transaction.atomic():
            Author.objects.create(name="Eva")
            invalidate(Tag)


@on_both_databases
def test_a_write_to_another_database_is_told_of(ask: Ask) -> None:
    with telling_of({"news_author"}):
        Author.objects.using("other").filter(name="Ada").update(name="Eda")


# Precision: what a write leaves alone. ------------------------------------------------------------

WARM: dict[str, tuple[Question, Write]] = {
    "an answer about another table": (
        Question(tags, lambda q: q),
        save(Author, ADA, name="Eda"),
    ),
}


@pytest.mark.parametrize(("question", "write"), WARM.values(), ids=WARM)
def test_a_write_leaves_warm(ask: Ask, question: Question, write: Write) -> None:
    assert_warm_after(ask, question, write)


# Values of every type (their tables exist from here on, which makes each test longer). ------------

everything, nullable = repository_of(fields.Everything), repository_of(fields.Nullable)

VALUES: dict[str, list[Any]] = {
    "number": [0.123456789, 12345.6789],
    "money": [Decimal("12.30"), Decimal("123.45")],
    "address": ["192.168.0.1", "127.0.0.1", "2001:db8:a0b:12f0::1", "2001:db8:0:85a3::ac1f:8001"],
    "span": [timedelta(30), timedelta(60)],
    "code": [UUID(int=1), UUID(int=2)],
    "raw": [b"abc", b"def"],
}


@pytest.mark.usefixtures("peers_app")
def test_rows_are_found_and_fresh_by_values_of_every_type(ask: Ask) -> None:
    def having(field: str, value: Any) -> Case:
        condition = {field: value}
        rows = Question(nullable, lambda q: q.filter(**condition).order_by("pk"))
        return Case(rows, (create(fields.Nullable, **condition),))

    for field, values in VALUES.items():
        cases = {f"{field} = {value!r}": having(field, value) for value in values}
        assert_all_cached_and_fresh(ask, cases)


@pytest.mark.usefixtures("peers_app")
def test_lists_of_values_of_every_type_are_found_and_fresh(ask: Ask) -> None:
    def listed(field: str, values: list[Any]) -> Question:
        condition = {f"{field}__in": values}
        return Question(
            nullable, lambda q: q.filter(**condition).order_by("pk").values_list(field, flat=True)
        )

    for field, values in VALUES.items():
        question = listed(field, values)
        writes = tuple(create(fields.Nullable, **{field: value}) for value in values)
        assert_all_cached_and_fresh(ask, {field: Case(question, writes)})
        assert told(ask, question) == values


@pytest.mark.usefixtures("peers_app")
def test_rows_are_found_by_a_member_of_an_enumeration(ask: Ask) -> None:
    large = fields.Everything.Size.LARGE
    rows = Question(everything, lambda q: q.filter(size=large))
    assert_cached_and_fresh(ask, Case(rows, (create(fields.Everything, size=large),)))


@pytest.fixture
def measured(peers_app: None) -> CachedRepository[Any]:
    """Two rows with the fields that PostgreSQL alone has."""
    if not POSTGRESQL:
        pytest.skip("SQLite has no such fields.")
    from tests.peers.postgres import Measured

    Measured.objects.create(
        name="Clémentine",
        numbers=[1, 2, 3],
        pairs={"a": "b", "c": None},
        document={"a": 1, "b": 2},
        years=(1900, 2000),
        prices=(Decimal(-1000), Decimal("9.87654321")),
        days=(date(1678, 3, 4), date(1741, 7, 28)),
        period=(datetime(1989, 1, 30, 12, 20, tzinfo=UTC), None),
    )
    Measured.objects.create(
        name="Clementine",
        numbers=[4, None, 6],
        pairs={"a": "1", "b": "2"},
        document=["x", {"a": 1, "and yet": {"another": [True, None, 1.5]}}],
        years=(1989, None),
        prices=(Decimal(0), None),
        days=(date(1989, 1, 30), None),
        period=(None, None),
    )
    return repository_of(Measured)


CONDITIONS: dict[str, list[dict[str, Any]]] = {
    "numbers": [
        {},
        {"numbers__contains": [3]},
        {"numbers__contained_by": [1, 2, 3, 4, 5, 6]},
        {"numbers__overlap": [3, 4]},
        {"numbers__len__in": (2, 3)},
        {"numbers__2": 6},
        {"numbers__0_2": [1, 2]},
    ],
    "pairs": [
        {},
        {"pairs__a": "1"},
        {"pairs__contains": {"a": "b"}},
        {"pairs__contained_by": {"a": "b", "c": None, "b": "2"}},
        {"pairs__has_key": "c"},
        {"pairs__has_keys": ["a", "b"]},
        {"pairs__keys": ["a", "b"]},
        {"pairs__values": ["1", "2"]},
    ],
    "document": [
        {},
        {"document__0": "x"},
        {"document__0__missing": "x"},
        {"document__1__and yet__another__0": True},
        {"document__contains": ["x"]},
        {"document__contained_by": {"a": 1, "b": 2, "any": "thing"}},
        {"document__has_key": "a"},
        {"document__has_any_keys": ["a", "z"]},
        {"document__has_keys": ["a", "b"]},
    ],
    "years": [
        {},
        {"years__contains": 2015},
        {"years__contains": (1950, 1990)},
        {"years__contained_by": (0, 2050)},
        {"years__fully_lt": (2015, None)},
        {"years__fully_gt": (1970, 1980)},
        {"years__not_lt": (1970, 1980)},
        {"years__not_gt": (1970, 1980)},
        {"years__adjacent_to": (1900, 1989)},
        {"years__startswith": 1900},
        {"years__endswith": 2000},
        {"years__isempty": True},
    ],
    "prices": [{}, {"prices__startswith": Decimal(0)}],
    "days": [{}, {"days__contains": date(1700, 1, 1)}],
    "period": [{}, {"period__startswith__year": 1989}],
    "name": [{}, {"name__unaccent": "Clémentine"}],
}


def test_fields_that_postgresql_alone_has_are_found_and_fresh_by_every_lookup(
    ask: Ask, measured: CachedRepository[Any]
) -> None:
    def values(field: str, condition: dict[str, Any]) -> Question:
        return Question(
            measured,
            lambda q: q.filter(**condition).order_by("pk").values_list(field, flat=True),
        )

    questions = {
        f"{field} by {condition}": values(field, condition)
        for field, conditions in CONDITIONS.items()
        for condition in conditions
    }
    for name, question in questions.items():
        with about(name), outcomes("miss", "hit"):
            assert_fresh_then_found(ask, question)
    measured.model.objects.filter(name="Clementine").delete()
    measured.model.objects.update(
        numbers=[4, None, 6], pairs={"a": "1"}, document=["x"], years=(5, 5), name="New"
    )
    for name, question in questions.items():
        with about(name):
            assert_fresh_then_found(ask, question)


def test_what_a_reader_does_with_an_array_or_a_document_changes_nothing_for_the_next(
    ask: Ask, measured: CachedRepository[Any]
) -> None:
    for _ in range(3):
        first, second = ask(measured.order_by("pk").values_list("numbers", "document"), "list")
        assert (first[0], second[1][0]) == ([1, 2, 3], "x")
        first[0].append(4)
        first[1]["c"] = 3
        second[1].pop(0)
        second[1][0]["and yet"]["more"] = True


def test_the_time_of_the_transaction_is_read_each_time(
    ask: Ask, measured: CachedRepository[Any]
) -> None:
    from django.contrib.postgres.functions import TransactionNow

    query = measured.filter(period__startswith__lte=TransactionNow())
    for _ in range(2):
        with statements(1):
            assert len(ask(query, "list")) == 1
