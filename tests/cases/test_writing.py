"""Writing (cases 10-26): after each write, by whatever path, every cached answer is the database's.

Here the example site's models; test_writing_models.py has those that the site does not have.
"""

import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import connection, connections, migrations, models, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import ProjectState
from django.db.models import Count, Exists, F, Max, OuterRef, Prefetch, Subquery, Sum
from django.test import Client, override_settings
from psycopg import sql

from loom_cache import CachedRepository
from testproject.news.models import Article, Author, Comment, Tag
from tests.cases.conftest import Ask, statements
from tests.cases.questions import (
    Answers,
    Question,
    Questions,
    answers,
    assert_fresh_after,
    row,
    warm,
)
from tests.services.redis import RedisServer

__all__ = ["answers"]

pytestmark = pytest.mark.django_db(transaction=True)

POSTGRESQL = settings.DATABASES["default"]["ENGINE"].endswith("postgresql")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

ADA, BEN, CAT = 1_000_001, 1_000_002, 1_000_003  # far from what a sequence gives
ONE, TWO, THREE = 2_000_001, 2_000_002, 2_000_003
LOOM, WOOL = 3_000_001, 3_000_002
FIRST, SECOND, THIRD = 4_000_001, 4_000_002, 4_000_003


class Articles(CachedRepository[Article]):
    model = Article


class RichArticles(CachedRepository[Article]):
    queryset = Article.objects.select_related("author", "editor").prefetch_related("tags")


class Authors(CachedRepository[Author]):
    model = Author


class Comments(CachedRepository[Comment]):
    model = Comment


class Tags(CachedRepository[Tag]):
    model = Tag


articles, rich_articles, authors = Articles(), RichArticles(), Authors()
comments, tags = Comments(), Tags()


@pytest.fixture(autouse=True)
def news(transactional_db: None) -> None:
    """Three authors, three articles, two tags, three comments."""
    for pk, name in ((ADA, "Ada"), (BEN, "Ben"), (CAT, "Cat")):
        Author.objects.create(pk=pk, name=name)
    for number, (pk, author) in enumerate(((ONE, ADA), (TWO, ADA), (THREE, BEN)), start=1):
        Article.objects.create(
            pk=pk,
            author_id=author,
            editor_id=BEN if pk == ONE else None,
            slug=f"article-{number}",
            title=f"Article {number}",
            views=number,
            created=NOON + timedelta(days=number),
        )
    loom, wool = (Tag.objects.create(pk=pk, name=n) for pk, n in ((LOOM, "loom"), (WOOL, "wool")))
    loom.articles.add(ONE, TWO)
    wool.articles.add(ONE)
    for pk, article in ((FIRST, ONE), (SECOND, ONE), (THIRD, THREE)):
        Comment.objects.create(
            pk=pk, article_id=article, author_name="Eve", text=f"Comment {pk}", created=NOON
        )


def _comments_of_outer() -> Any:
    return Comment.objects.filter(article=OuterRef("pk"), approved=True)


QUESTIONS: Questions = {
    "a row": row(articles, pk=ONE),
    "another row": row(articles, pk=TWO),
    "a row with related rows": row(rich_articles, pk=ONE),
    "a row by a unique field": row(articles, slug="article-2"),
    "a row that is missing": row(articles, slug="new"),
    "a row of values": Question(
        articles, lambda q: q.filter(pk=ONE).values("title", "author__name"), "get_or_none"
    ),
    "rows by primary key": Question(articles, lambda q: q, "in_bulk", ([ONE, THREE, 999],)),
    "a list": Question(articles, lambda q: q),
    "a list by parent": Question(articles, lambda q: q.filter(author_id=ADA)),
    "a list by another parent": Question(articles, lambda q: q.filter(author=BEN)),
    "a slice": Question(articles, lambda q: q.order_by("-views", "pk")[1:3]),
    "a flat list": Question(articles, lambda q: q.values_list("title", flat=True)),
    "dates": Question(articles, lambda q: q.dates("created", "day")),
    "a count": Question(articles, lambda q: q.filter(published=True), "count"),
    "whether there is one": Question(articles, lambda q: q.filter(slug="new"), "exists"),
    "the last": Question(articles, lambda q: q.order_by("pk"), "last"),
    "the latest": Question(articles, lambda q: q, "latest", ("created",)),
    "an aggregate": Question(
        articles, lambda q: q, "aggregate", kwargs={"sum": Sum("views"), "who": Max("author__name")}
    ),
    "related rows": Question(rich_articles, lambda q: q),
    "levels of related rows": Question(
        comments, lambda q: q.select_related("article__author", "article__editor")
    ),
    "levels of prefetched rows": Question(
        authors, lambda q: q.prefetch_related("articles__comments", "articles__tags", "edited")
    ),
    "prefetched rows by a queryset": Question(
        authors,
        lambda q: q.prefetch_related(
            Prefetch("articles", Article.objects.filter(tags__name="loom"), to_attr="looms")
        ),
    ),
    "a join": Question(articles, lambda q: q.filter(author__name="Ada")),
    "a join over a row in the middle": Question(
        comments, lambda q: q.filter(article__author__name="Ada")
    ),
    "a join over a table between": Question(articles, lambda q: q.filter(tags__name="loom")),
    "the other side of a table between": Question(tags, lambda q: q.filter(articles=ONE)),
    "an exclusion": Question(articles, lambda q: q.exclude(comments__approved=True)),
    "an annotation": Question(
        authors, lambda q: q.annotate(answers=Count("articles__comments", distinct=True))
    ),
    "an annotation by a subquery": Question(
        articles,
        lambda q: q.annotate(
            newest=Subquery(_comments_of_outer().order_by("-created", "pk").values("text")[:1])
        ),
    ),
    "a condition by EXISTS": Question(articles, lambda q: q.filter(Exists(_comments_of_outer()))),
    "a condition by a subquery": Question(
        comments, lambda q: q.filter(article__in=Article.objects.filter(author__name="Ada"))
    ),
    "a row by a subquery": Question(
        authors,
        lambda q: q.filter(pk=ADA).filter(pk__in=Article.objects.values("author")),
        "get_or_none",
    ),
    "a row by another table": Question(
        articles,
        lambda q: q.filter(pk=ONE).filter(author__in=Author.objects.filter(name="Ada")),
        "get_or_none",
    ),
    "a row by its own table": Question(
        articles,
        lambda q: q.filter(pk=ONE).filter(
            author__in=Article.objects.filter(title="Article 2").values("author")
        ),
        "get_or_none",
    ),
    "a row by an expression": Question(articles, lambda q: q.filter(pk=ONE).filter(views=1)),
    "a row by an expression on its own table": Question(
        articles, lambda q: q.filter(pk=ONE).filter(views=F("author__articles__views") - 1)
    ),
    "a row by a join to its own table": Question(
        articles, lambda q: q.filter(pk=ONE).filter(author__articles__title="Article 2")
    ),
    "a union": Question(
        tags,
        lambda q: (
            q.filter(name="loom")
            .order_by()
            .union(Tag.objects.filter(articles__author__name="Ben").order_by())
            .order_by("name")
        ),
    ),
    "a difference": Question(
        authors,
        lambda q: (
            q.order_by()
            .difference(Author.objects.filter(articles__published=True).order_by())
            .order_by("name")
        ),
    ),
}

Write = Callable[[], object]
WRITES: dict[str, Write] = {}
"""Every path by which a row can be written, and what it does here."""


def write(path: Write) -> Write:
    WRITES[path.__name__] = path
    return path


def only_on_postgresql(path: Write) -> Write:
    return write(path) if POSTGRESQL else path


def wait(work: Awaitable[object]) -> None:
    async def done() -> object:
        return await work

    async_to_sync(done)()


# An instance.


@write
def save() -> None:
    article = Article.objects.get(pk=ONE)
    article.title = "New"
    article.save()


@write
def save_of_another_column_than_the_answers_show() -> None:
    author = Author.objects.get(pk=ADA)
    author.email = "ada@example.org"
    author.save()


@write
def save_of_a_new_row() -> None:
    Article(author_id=ADA, slug="new", title="New", created=NOON + timedelta(days=9)).save()


@write
def save_of_a_new_row_with_its_primary_key() -> None:
    Article(pk=999, author_id=ADA, slug="new", created=NOON).save(force_insert=True)


@write
def save_with_a_primary_key_that_exists() -> None:
    Author(pk=ADA, name="Eda").save()


@write
def save_of_some_fields() -> None:
    article = Article.objects.get(pk=ONE)
    article.title = "New"
    article.save(update_fields=["title"])


@write
def save_with_an_expression() -> None:
    article = Article.objects.get(pk=ONE)
    article.views = F("views") + 10
    article.save()


@write
def save_of_an_instance_with_deferred_fields() -> None:
    article = Article.objects.only("title").get(pk=ONE)
    article.title = "New"
    article.save()


@write
def save_of_an_edited_instance_that_the_cache_gave() -> None:
    article = articles.get(pk=ONE)
    article.title = "New"
    article.save()


@write
def save_that_moves_a_row_to_another_parent() -> None:
    article = Article.objects.get(pk=ONE)
    article.author_id = BEN
    article.save()


@write
def save_that_moves_a_row_out_of_a_count() -> None:
    article = Article.objects.get(pk=ONE)
    article.published = False
    article.save()


@write
def save_of_a_row_that_conditions_on_others_read() -> None:
    article = Article.objects.get(pk=TWO)
    article.title = "New"
    article.save()


@write
def save_in_a_transaction() -> None:
    with transaction.atomic(), transaction.atomic():
        Comment.objects.get(pk=FIRST).delete()
        Author(pk=ADA, name="Eda").save()


@write
def save_in_another_thread() -> None:
    def work() -> None:
        save()
        connection.close()

    thread = Thread(target=work)
    thread.start()
    thread.join()


@write
def save_base_as_a_fixture_does() -> None:
    Author(pk=ADA, name="Eda").save_base(raw=True)


@write
def asave() -> None:
    article = Article.objects.get(pk=ONE)
    article.title = "New"
    wait(article.asave())


@write
def delete() -> None:
    Comment.objects.get(pk=FIRST).delete()


@write
def delete_of_a_row_that_others_link_to() -> None:
    Article.objects.get(pk=ONE).delete()


@write
def adelete() -> None:
    wait(Comment.objects.get(pk=FIRST).adelete())


@write
def delete_that_cascades() -> None:
    Author.objects.get(pk=ADA).delete()


@write
def delete_that_sets_null() -> None:
    Author.objects.get(pk=BEN).delete()  # the editor of ONE; the author of THREE, which goes


# A manager or a QuerySet.


@write
def create() -> None:
    Comment.objects.create(article_id=TWO, author_name="Eve", text="New", created=NOON)


@write
def acreate() -> None:
    wait(Article.objects.acreate(author_id=CAT, slug="new", title="New", created=NOON))


@write
def get_or_create() -> None:
    Tag.objects.get_or_create(name="silk")[0].articles.add(ONE)


@write
def aget_or_create() -> None:
    wait(Article.objects.aget_or_create(slug="new", defaults={"author_id": ADA}))


@write
def update_or_create() -> None:
    Article.objects.update_or_create(slug="article-2", defaults={"title": "New"})


@write
def aupdate_or_create() -> None:
    wait(Article.objects.aupdate_or_create(slug="new", defaults={"author_id": ADA}))


@write
def bulk_create() -> None:
    Article.objects.bulk_create(
        Article(author_id=ADA, slug=slug, created=NOON) for slug in ("new", "newer")
    )


@write
def abulk_create() -> None:
    new = [Comment(article_id=TWO, author_name="Eve", text="New", created=NOON)]
    wait(Comment.objects.abulk_create(new))


@write
def bulk_create_that_ignores_conflicts() -> None:
    new = [Article(author_id=BEN, slug=slug, created=NOON) for slug in ("article-1", "new")]
    Article.objects.bulk_create(new, ignore_conflicts=True)


@write
def bulk_create_that_updates_conflicts() -> None:
    Article.objects.bulk_create(
        [Article(author_id=BEN, slug="article-1", title="New", created=NOON)],
        update_conflicts=True,
        unique_fields=["slug"],
        update_fields=["title", "author"],
    )


@write
def update() -> None:
    Article.objects.filter(author=ADA).update(published=False)


@write
def update_by_primary_key() -> None:
    Article.objects.filter(pk=ONE).update(title="New")


@write
def update_of_the_primary_key() -> None:
    Comment.objects.filter(pk=FIRST).update(id=777)


@write
def update_over_a_join() -> None:
    Article.objects.filter(author__name="Ada").update(title="New")


@write
def update_with_an_expression() -> None:
    Article.objects.update(views=F("views") + 10)


@write
def aupdate() -> None:
    wait(Article.objects.filter(slug="article-1").aupdate(slug="new"))


@write
def bulk_update() -> None:
    found = list(Article.objects.all())
    for article in found:
        article.title += "!"
    Article.objects.bulk_update(found, ["title"], batch_size=2)


@write
def abulk_update() -> None:
    found = list(Author.objects.all())
    for author in found:
        author.name += "!"
    wait(Author.objects.abulk_update(found, ["name"]))


@write
def delete_by_a_condition() -> None:
    Article.objects.filter(title="Article 2").delete()


@write
def adelete_by_a_condition() -> None:
    wait(Comment.objects.filter(article=ONE).adelete())


@write
def raw_delete() -> None:
    Comment.objects.filter(article=ONE)._raw_delete("default")


@write
def select_for_update_and_save() -> None:
    with transaction.atomic():
        author = Author.objects.select_for_update().get(pk=ADA)
        author.name = "Eda"
        author.save()


# Relations.


@write
def add() -> None:
    Article.objects.get(pk=THREE).tags.add(WOOL)


@write
def add_from_the_other_side() -> None:
    Tag.objects.get(pk=LOOM).articles.add(THREE)


@write
def aadd() -> None:
    wait(Article.objects.get(pk=THREE).tags.aadd(WOOL))


@write
def remove() -> None:
    Article.objects.get(pk=ONE).tags.remove(LOOM)


@write
def remove_from_the_other_side() -> None:
    Tag.objects.get(pk=LOOM).articles.remove(ONE)


@write
def set_() -> None:
    Article.objects.get(pk=ONE).tags.set([WOOL])


@write
def set_from_the_other_side() -> None:
    Tag.objects.get(pk=WOOL).articles.set([THREE])


@write
def aset() -> None:
    wait(Article.objects.get(pk=THREE).tags.aset([LOOM]))


@write
def clear() -> None:
    Article.objects.get(pk=ONE).tags.clear()


@write
def clear_from_the_other_side() -> None:
    Tag.objects.get(pk=LOOM).articles.clear()


@write
def create_through_a_relation() -> None:
    Article.objects.get(pk=ONE).tags.create(name="silk")


@write
def write_to_the_table_between() -> None:
    Article.tags.through.objects.filter(article_id=ONE).update(article_id=THREE)


@write
def add_to_the_many_side_of_a_foreign_key() -> None:
    Author.objects.get(pk=CAT).articles.add(Article.objects.get(pk=ONE))


@write
def clear_the_many_side_of_a_foreign_key() -> None:
    Author.objects.get(pk=BEN).edited.clear()


# SQL.


def execute(statement: Any, params: Any = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


@write
def sql_without_parameters() -> None:
    execute("UPDATE news_article SET title = 'New' WHERE id = 2000001")


@write
def sql_with_a_list() -> None:
    execute("UPDATE news_article SET title = %s WHERE id = %s", ["New", ONE])


@write
def sql_with_a_tuple() -> None:
    execute('DELETE FROM "news_comment" WHERE "news_comment"."id" IN (%s, %s)', (FIRST, THIRD))


@write
def sql_with_a_dictionary() -> None:
    execute("UPDATE news_author SET name = %(name)s WHERE id = %(id)s", {"id": ADA, "name": "Eda"})


@write
def sql_that_inserts() -> None:
    execute(
        "INSERT INTO news_comment (article_id, author_name, text, created, approved) "
        "SELECT article_id, author_name, 'New', created, approved FROM news_comment WHERE id = %s",
        [FIRST],
    )


@write
def sql_that_inserts_or_updates() -> None:
    execute(
        "INSERT INTO news_tag (id, name) VALUES (%s, 'silk'), (%s, 'wool') "
        "ON CONFLICT (name) DO UPDATE SET name = 'woollen'",
        [777, 778],
    )


@write
def sql_with_a_schema() -> None:
    execute(f"UPDATE {'public' if POSTGRESQL else 'main'}.news_author SET name = 'Eda'")


@write
def sql_with_a_placeholder_in_a_comment() -> None:
    if POSTGRESQL:  # where the driver gives it a parameter, too
        text = "UPDATE news_article SET /* %s */ views = %s WHERE id = %s"
        execute(text, [THREE, TWO, ONE])
    else:
        execute("UPDATE news_article SET /* it's */ views = %s WHERE id = %s", [TWO, ONE])


@write
def sql_with_a_returning_clause() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE news_author SET name = 'Eda' WHERE id = %s RETURNING id", [ADA])
        assert cursor.fetchall() == [(ADA,)]


@write
def sql_for_a_list_of_parameters() -> None:
    with connection.cursor() as cursor:
        text = "UPDATE news_article SET title = %s WHERE id = %s"
        cursor.executemany(text, [("New", ONE), ("Newer", THREE)])


@write
def sql_for_a_generator_of_parameters() -> None:
    with connection.cursor() as cursor:
        given: Any = ((f"New {pk}", pk) for pk in (ADA, CAT))
        cursor.executemany("UPDATE news_author SET name = %s WHERE id = %s", given)


@write
def sql_with_a_common_table_expression() -> None:
    execute(
        "WITH chosen AS (SELECT id FROM news_author WHERE name = %s) "
        "UPDATE news_article SET published = false WHERE author_id IN (SELECT id FROM chosen)",
        ["Ada"],
    )


@write
def sql_of_one_transaction() -> None:
    execute("BEGIN")
    execute("UPDATE news_author SET name = %s WHERE id = %s", ["Eda", ADA])
    execute("COMMIT")


@only_on_postgresql
def sql_with_a_write_in_a_common_table_expression() -> None:
    execute(
        "WITH gone AS (DELETE FROM news_comment WHERE article_id = %s RETURNING id) "
        "SELECT count(*) FROM gone",
        [ONE],
    )


@only_on_postgresql
def sql_with_another_table() -> None:
    execute("UPDATE news_article SET title = a.name FROM news_author a WHERE author_id = a.id")


@only_on_postgresql
def sql_deleting_with_another_table() -> None:
    text = "DELETE FROM news_comment c USING news_article a WHERE c.article_id = a.id AND a.id = %s"
    execute(text, [ONE])


@only_on_postgresql
def sql_that_merges() -> None:
    execute(
        "MERGE INTO news_author USING (VALUES (%s)) AS given (id) ON news_author.id = given.id "
        "WHEN MATCHED THEN UPDATE SET name = 'Eda'",
        [ADA],
    )


@only_on_postgresql
def sql_that_truncates() -> None:
    execute("TRUNCATE news_comment")


@only_on_postgresql
def sql_that_truncates_and_cascades() -> None:
    execute("TRUNCATE news_article CASCADE")


@only_on_postgresql
def sql_that_does_anything() -> None:
    execute("DO $$ BEGIN DELETE FROM news_comment; END $$")


@only_on_postgresql
def sql_of_several_statements() -> None:
    execute("SELECT 1; UPDATE news_author SET name = 'Eda'; DELETE FROM news_comment")


@only_on_postgresql
def sql_as_bytes() -> None:
    execute(b"UPDATE news_author SET name = %s WHERE id = %s", ["Eda", ADA])


@only_on_postgresql
def sql_as_a_psycopg_object() -> None:
    execute(sql.SQL("DELETE FROM news_comment"))


@only_on_postgresql
def sql_composed_by_psycopg() -> None:
    text = sql.SQL("UPDATE {table} SET {column} = {value} WHERE {key} = %s")
    parts = {"table": "news_article", "column": "title", "key": "id"}
    names = {name: sql.Identifier(part) for name, part in parts.items()}
    execute(text.format(**names, value=sql.Literal("New")), [ONE])


@only_on_postgresql
def sql_with_a_value_of_any() -> None:
    execute("UPDATE news_article SET title = 'New' WHERE id = ANY(%s)", [[ONE, TWO]])


# Django's own tools.


@write
def flush() -> None:
    call_command("flush", interactive=False, verbosity=0)


@write
def a_migration_that_runs_python() -> None:
    def forwards(registry: Any, editor: BaseDatabaseSchemaEditor) -> None:
        historical = registry.get_model("news", "Article")
        historical.objects.filter(pk=ONE).update(title="New")
        registry.get_model("news", "Author").objects.create(name="New")

    state = ProjectState.from_apps(apps)
    with connection.schema_editor(atomic=True) as editor:
        migrations.RunPython(forwards).database_forwards("news", editor, state, state)


@write
def a_migration_that_runs_sql() -> None:
    state = ProjectState.from_apps(apps)
    with connection.schema_editor(atomic=True) as editor:
        operation = migrations.RunSQL("UPDATE news_author SET name = 'Eda';")
        operation.database_forwards("news", editor, state, state)


# The store is another process's, too, and questions are asked both ways: each path with one pair.
PAIRS = pytest.mark.parametrize(
    ("store", "answers"), [("memory", "sync"), ("redis", "async")], indirect=True
)


@PAIRS
@pytest.mark.one_way
@pytest.mark.parametrize("path", WRITES.values(), ids=WRITES)
def test_every_answer_is_fresh_after(path: Write, answers: Answers) -> None:
    assert_fresh_after(path, QUESTIONS, answers)


@PAIRS
def test_every_answer_is_fresh_after_loaddata(answers: Answers, tmp_path: Path) -> None:
    rows = [
        {"model": "news.author", "pk": ADA, "fields": {"name": "Eda"}},
        {"model": "news.tag", "pk": 777, "fields": {"name": "silk"}},
    ]
    fixture = tmp_path / "rows.json"
    fixture.write_text(json.dumps(rows))
    assert_fresh_after(lambda: call_command("loaddata", fixture, verbosity=0), QUESTIONS, answers)


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


@PAIRS
def test_every_answer_is_fresh_after_a_form_of_the_admin(admin: Client, answers: Answers) -> None:
    def save_form() -> None:
        address = f"/admin/news/author/{ADA}/change/"
        assert admin.post(address, {"name": "Eda", "email": ""}).status_code == 302

    assert_fresh_after(save_form, QUESTIONS, answers)


@PAIRS
def test_every_answer_is_fresh_after_an_action_of_the_admin(
    admin: Client, answers: Answers
) -> None:
    def delete_selected() -> None:
        data = {"action": "delete_selected", "_selected_action": [ONE, THREE], "post": "yes"}
        assert admin.post("/admin/news/article/", data).status_code == 302

    assert_fresh_after(delete_selected, QUESTIONS, answers)


@pytest.fixture
def again(transactional_db: None) -> Iterator[str]:
    """A second alias of the default database."""
    place = connections.settings["other"]
    connections["other"].close()
    del connections["other"]
    connections.settings["other"] = {**connections["default"].settings_dict}
    yield "other"
    connections["other"].close()
    del connections["other"]
    connections.settings["other"] = place


@PAIRS
@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_every_answer_is_fresh_after_a_write_through_another_alias(
    again: str, answers: Answers
) -> None:
    def save() -> None:
        article = Article.objects.using(again).get(pk=ONE)
        article.title = "New"
        article.save()

    assert_fresh_after(save, QUESTIONS, answers)


class ToOther:
    """Everything is read from, and written to, the database `other`."""

    def db_for_read(self, model: type[models.Model], **hints: Any) -> str:
        return "other"

    db_for_write = db_for_read


@PAIRS
@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@override_settings(DATABASE_ROUTERS=[ToOther()])
def test_an_answer_from_another_database_is_fresh_after_a_write_there(answers: Answers) -> None:
    author = Author.objects.create(pk=ADA, name="Zoe")
    questions = {"a row": row(authors, pk=ADA), "a list": Question(authors, lambda q: q)}
    author.name = "Eda"
    assert_fresh_after(author.save, questions, answers)
    assert Author.objects.using("default").get(pk=ADA).name == "Ada"


SCRIPT = """
import json, os
import django
from django.conf import settings
settings.LOOM_CACHE = json.loads(os.environ["LOOM_CACHE"])
django.setup()
from loom_cache.repository import declared_repositories
from testproject.news.models import Article, Author
Author.objects.filter(name="Ada").update(name="Eda")
article = Article.objects.get(slug="article-1")
article.title = "New"
article.save()
assert not declared_repositories
"""


def environment() -> dict[str, str]:
    """Where another process finds this database and this store."""
    database = connection.settings_dict
    names = {"PGHOST": "HOST", "PGPORT": "PORT", "PGUSER": "USER", "PGDATABASE": "NAME"}
    place = {name: str(database[key]) for name, key in names.items()}
    return {
        **os.environ,
        **(place if POSTGRESQL else {"LOOM_SQLITE": str(database["NAME"])}),
        "LOOM_CACHE": json.dumps(settings.LOOM_CACHE),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }


@pytest.mark.parametrize("store", ["redis"], indirect=True)
def test_every_answer_is_fresh_after_a_write_of_a_process_without_repositories(
    answers: Answers,
) -> None:
    def run() -> None:
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment(), cwd=settings.BASE_DIR, check=True
        )

    assert_fresh_after(run, QUESTIONS, answers)


# Precision: what stays warm. ----------------------------------------------------------------------


def by_save(pk: int) -> None:
    Article.objects.get(pk=pk).save()


def by_update(pk: int) -> None:
    Article.objects.filter(pk=pk).update(title="New")


def by_bulk_update(pk: int) -> None:
    Article.objects.bulk_update([Article(pk=pk, title="New")], ["title"])


def by_delete(pk: int) -> None:
    Article.objects.get(pk=pk).delete()


def by_delete_of_a_query(pk: int) -> None:
    Article.objects.filter(title="Article 1").delete()


def by_sql(pk: int) -> None:
    execute("UPDATE news_article SET title = %s WHERE id = %s", ["New", pk])


def by_create(pk: int) -> None:
    Article.objects.create(author_id=ADA, slug="new")


@pytest.mark.parametrize(
    "path",
    [by_save, by_update, by_bulk_update, by_delete, by_delete_of_a_query, by_sql, by_create],
)
def test_a_write_to_one_row_leaves_another_row_warm(path: Callable[[int], None], ask: Ask) -> None:
    ask(articles, "get", pk=TWO)
    path(ONE)
    with statements(0):
        assert ask(articles, "get", pk=TWO).title == "Article 2"


def test_a_write_to_one_row_leaves_the_others_of_in_bulk_warm(ask: Ask) -> None:
    ask(articles, "in_bulk", [ONE, TWO])
    by_save(ONE)
    with statements(1):
        ask(articles, "in_bulk", [ONE, TWO])
    with statements(0):
        ask(articles, "get", pk=TWO)


OF_AUTHORS: Questions = {
    "a row": row(authors, pk=ADA),
    "a list": Question(authors, lambda q: q),
    "a count": Question(authors, lambda q: q, "count"),
    "an aggregate": Question(authors, lambda q: q, "aggregate", kwargs={"n": Count("pk")}),
}
TO_OTHER_TABLES: dict[str, Write] = {
    name: WRITES[name]
    for name in (
        "save save_of_a_new_row delete create bulk_create bulk_create_that_updates_conflicts "
        "update bulk_update raw_delete add set_ clear update_or_create "
        "sql_with_a_list sql_that_inserts sql_that_inserts_or_updates"
    ).split()
}


@pytest.mark.parametrize("path", TO_OTHER_TABLES.values(), ids=TO_OTHER_TABLES)
def test_a_write_to_one_table_leaves_answers_about_others_warm(
    path: Write, answers: Answers
) -> None:
    warm(OF_AUTHORS, answers)
    path()
    with statements(0):
        answers(OF_AUTHORS)


def test_a_write_that_changes_no_row_known_to_anybody_leaves_answers_warm(
    answers: Answers,
) -> None:
    warm(OF_AUTHORS, answers)
    Session.objects.create(session_key="x", expire_date=NOON)
    execute("CREATE TABLE elsewhere (a integer)")
    execute("DROP TABLE elsewhere")
    with statements(0):
        answers(OF_AUTHORS)


# What a write costs. ------------------------------------------------------------------------------


@pytest.fixture
def bumped(redis_server: RedisServer) -> Iterator[Callable[[Write], int]]:
    """How many round trips a write spends on bumps."""

    def count(path: Write) -> int:
        with redis_server.counting() as calls:
            path()
        assert not {"mget", "set", "scan"} & set(calls)  # what a script reads is no round trip
        return calls.get("eval", 0) + calls.get("evalsha", 0) + calls.get("fcall", 0)

    with override_settings(LOOM_CACHE={"LOCATION": redis_server.url, "TIMEOUT": 5}):
        Author.objects.create(name="the first write opens the connection")
        yield count


def in_a_transaction() -> None:
    with transaction.atomic():
        save()
        update()
        bulk_create()
        delete()


def in_a_transaction_with_savepoints() -> None:
    with transaction.atomic():
        save()
        with transaction.atomic():
            update()
            with transaction.atomic():
                delete()


def many_rows() -> None:
    Comment.objects.bulk_create(
        Comment(article_id=ONE, author_name="Eve", text=str(number)) for number in range(2500)
    )


def many_rows_one_by_one() -> None:
    with transaction.atomic():
        for number in range(50):
            Comment.objects.create(article_id=ONE, author_name="Eve", text=str(number))


ONE_ROUND_TRIP = [
    save,
    save_of_some_fields,
    save_of_an_instance_with_deferred_fields,
    update,
    update_by_primary_key,
    bulk_update,
    bulk_create,
    bulk_create_that_updates_conflicts,
    delete,
    delete_of_a_row_that_others_link_to,
    delete_that_cascades,
    delete_by_a_condition,
    raw_delete,
    update_or_create,
    remove,
    set_,
    sql_with_a_list,
    sql_for_a_list_of_parameters,
    in_a_transaction,
    in_a_transaction_with_savepoints,
    many_rows,
    many_rows_one_by_one,
]


@pytest.mark.parametrize("path", ONE_ROUND_TRIP, ids=lambda path: path.__name__)
def test_a_write_is_bumped_in_one_round_trip(path: Write, bumped: Callable[[Write], int]) -> None:
    assert bumped(path) == 1


def test_a_form_of_the_admin_is_bumped_in_one_round_trip(
    admin: Client, bumped: Callable[[Write], int]
) -> None:
    def save_form() -> None:
        admin.post(f"/admin/news/author/{ADA}/change/", {"name": "Eda", "email": ""})

    assert bumped(save_form) == 1


def test_an_insert_whose_result_commits_it_is_bumped_before_and_after(
    bumped: Callable[[Write], int],
) -> None:
    assert bumped(create) == (1 if POSTGRESQL else 2)


def test_each_statement_outside_a_transaction_is_bumped_by_itself(
    bumped: Callable[[Write], int],
) -> None:
    def two_statements() -> None:
        update_by_primary_key()
        update_with_an_expression()

    assert bumped(two_statements) == 2


def test_what_writes_nothing_bumps_nothing(bumped: Callable[[Write], int]) -> None:
    def reading_and_rolling_back() -> None:
        list(Article.objects.select_related("author"))
        with transaction.atomic():
            Article.objects.count()
        with transaction.atomic():
            update()
            transaction.set_rollback(True)
        Session.objects.create(session_key="x", expire_date=NOON)

    assert bumped(reading_and_rolling_back) == 0


@pytest.mark.parametrize(
    ("path", "number"),
    [
        (lambda: Article(pk=ONE, author_id=ADA, slug="new").save(force_update=True), 1),
        (lambda: Article(pk=ONE, title="New").save(update_fields=["title"]), 1),
        (lambda: Article(pk=ONE, views=F("views") + 1).save(update_fields=["views"]), 1),
        (save_of_an_instance_with_deferred_fields, 2),
        (create, 1),
        (acreate, 1),
        (update, 1),
        (aupdate, 1),
        (raw_delete, 1),
    ],
    ids="save update_fields expression deferred create acreate update aupdate raw_delete".split(),
)
def test_a_write_runs_no_statement_of_ours(path: Write, number: int, store: str) -> None:
    with statements(number):
        path()
