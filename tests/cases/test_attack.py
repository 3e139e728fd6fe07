"""Answers that a precise dependency must not leave stale, and statements it must not change."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, models, transaction
from django.db.models import F, Func, Value
from django.db.models.expressions import RawSQL

from loom_cache import (
    CachedRepository,
    cached_query,
    drivers,
    generations,
    permission,
    reading,
    terminals,
)
from loom_cache.steps import Enrol
from testproject.news.models import Article, Author
from tests.cases.conftest import Ask
from tests.cases.questions import Answers, Question, answers, assert_fresh_after
from tests.museum import models as m
from tests.museum.install import museum, museum_app

__all__ = ["answers", "museum", "museum_app"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("museum")]

postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL has it")
sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite has it")


class Articles(CachedRepository[Article]):
    model = Article


class Artists(CachedRepository[m.Artist]):
    model = m.Artist

    @cached_query
    def documents(self, country: str) -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT row_to_json(a)::text FROM museum_artist a WHERE a.country = %s", [country]
            )
            return [row[0] for row in cursor.fetchall()]


class Frames(CachedRepository[m.Frame]):
    model = m.Frame


class Items(CachedRepository[m.Item]):
    model = m.Item


articles, artists, frames, items = Articles(), Artists(), Frames(), Items()


def run(sql: str, params: Sequence[Any] | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def in_transaction(write: Callable[[], object]) -> None:
    with transaction.atomic():
        write()


@pytest.fixture
def author(transactional_db: None) -> Author:
    return Author.objects.create(name="Ada")


def test_a_combination_learnt_while_a_writer_of_the_same_process_publishes_is_not_missed(
    store: str, author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader has loaded in another thread, and lists its combination between the writer's look at
    what this process knows and its bump."""
    resolver = generations.resolver()
    assert resolver is not None
    asking = drivers._Asking(resolver)
    mine = articles.filter(author=author)
    plan: Any = terminals.plan_of(mine, "list", (), {})
    steps = reading.answer(plan, permission.standing(plan, resolver, on_loop=False), {})
    request = next(steps)
    while not isinstance(request, Enrol):
        request = steps.send(drivers._do(request, asking))
    publish = resolver.publish_sync

    def after_the_reader(*published: Any) -> Any:
        monkeypatch.undo()
        asked: Any = request
        with suppress(StopIteration):
            while True:
                asked = steps.send(drivers._do(asked, asking))
        return publish(*published)

    monkeypatch.setattr(resolver, "publish_sync", after_the_reader)
    with transaction.atomic():
        Article.objects.create(author=author, slug="new", title="new")
    assert [one.slug for one in mine] == ["new"]


@pytest.mark.parametrize("how", [in_transaction, lambda write: write()])
def test_a_count_that_looks_at_a_generated_column_is_fresh(
    answers: Answers, how: Callable[[Any], None]
) -> None:
    frame = m.Frame.objects.create(width=2, height=77)
    large = Question(frames, lambda q: q.filter(height=77, area__gt=1000), "count")
    assert_fresh_after(
        lambda: how(lambda: m.Frame.objects.filter(pk=frame.pk).update(width=100)),
        {"large": large},
        answers,
    )


@postgresql
@pytest.mark.parametrize("bulk", [True, False])
def test_text_that_the_column_cuts_is_found(answers: Answers, bulk: bool) -> None:
    """PostgreSQL cuts spaces off that are too many for a varchar."""
    new = [m.Artist(code=f"n{at}", name="New", country="zz  ") for at in range(2)]

    def write() -> None:
        if bulk:
            m.Artist.objects.bulk_create(new)
        else:
            new[0].save()

    found = Question(artists, lambda q: q.filter(country="zz"), "count")
    assert_fresh_after(write, {"found": found}, answers)


@postgresql
def test_an_update_with_text_that_the_column_cuts_is_found(answers: Answers) -> None:
    one = m.Artist.objects.create(code="new", name="New", country="yy")
    found = Question(artists, lambda q: q.filter(country="zz"), "count")
    assert_fresh_after(
        lambda: m.Artist.objects.filter(pk=one.pk).update(country="zz  "),
        {"found": found},
        answers,
    )


@postgresql
def test_rows_that_a_function_in_the_select_list_makes_appear(answers: Answers) -> None:
    """A function that returns a set gives no row for an article without a match."""
    one = m.Artist.objects.create(code="new", name="nothing", country="zz")
    matched = Question(
        artists,
        lambda q: q.filter(country="zz").annotate(
            found=Func(
                F("name"),
                Value("xyz"),
                Value("g"),
                template="array_to_string(regexp_matches(%(expressions)s), ',')",
                output_field=models.TextField(),
            )
        ),
    )
    assert_fresh_after(
        lambda: m.Artist.objects.filter(pk=one.pk).update(name="axyz"),
        {"matched": matched},
        answers,
    )


@postgresql
def test_a_whole_row_in_an_answer_is_fresh(store: str) -> None:
    one = m.Artist.objects.create(code="new", name="old", country="zz")
    for _ in range(3):
        assert "old" in artists.documents("zz")[0]
    m.Artist.objects.filter(pk=one.pk).update(name="new name")
    assert "new name" in artists.documents("zz")[0]


@postgresql
def test_a_system_column_in_an_answer_is_fresh(answers: Answers) -> None:
    one = m.Artist.objects.create(code="new", name="old", country="zz")
    versions = Question(
        artists,
        lambda q: (
            q.filter(country="zz")
            .annotate(version=RawSQL("museum_artist.xmin::text", [], models.TextField()))
            .values_list("version")
        ),
    )
    assert_fresh_after(
        lambda: m.Artist.objects.filter(pk=one.pk).update(name="new"), {"v": versions}, answers
    )


@pytest.mark.parametrize("value", [Decimal("Infinity"), Decimal("NaN"), "9" * 5000])
def test_a_number_that_no_column_holds_breaks_no_statement(store: str, value: object) -> None:
    if connection.vendor == "postgresql" and isinstance(value, str):
        value = Decimal(value)
    list(items.filter(number=3))
    m.Item.objects.create(number=3)
    run("UPDATE museum_item SET name = 'x' WHERE number = %s", [value])


@pytest.mark.parametrize("condition", ["TRUE", "NOT FALSE"])
def test_a_condition_without_a_column_breaks_no_statement(store: str, condition: str) -> None:
    m.Item.objects.create(number=3, name="a")
    for _ in range(2):
        items.filter(name="a").count()
    run(f"UPDATE museum_item SET name = 'x' WHERE {condition} AND number = 3")
    assert items.filter(name="a").count() == 0


@pytest.fixture
def extra_column() -> Any:
    run('ALTER TABLE museum_item ADD COLUMN "LegacyCode" integer DEFAULT 5')
    yield
    run('ALTER TABLE museum_item DROP COLUMN "LegacyCode"')


def test_a_column_of_no_model_breaks_no_statement(store: str, extra_column: None) -> None:
    m.Item.objects.create(number=3, name="a")
    for _ in range(2):
        items.filter(name="a").count()
    run("""UPDATE museum_item SET name = 'x' WHERE "LegacyCode" = 5 AND number = 3""")
    assert items.filter(name="a").count() == 0


@sqlite
def test_a_uuid_that_is_respelled_is_another_value_on_sqlite(answers: Answers) -> None:
    code = UUID(int=0xABCDEF)
    one = m.Item.objects.create(code=code)
    found = Question(items, lambda q: q.filter(code=code), "count")
    assert_fresh_after(
        lambda: run("UPDATE museum_item SET code = %s WHERE id = %s", [str(code), one.pk]),
        {"found": found},
        answers,
    )


@pytest.fixture(params=["char(5)", "citext"])
def other_type(request: pytest.FixtureRequest) -> Any:
    """Artists' countries are of a type that their model does not know of."""
    if request.param == "citext":
        run("CREATE EXTENSION IF NOT EXISTS citext")
    run(f"ALTER TABLE museum_artist ALTER COLUMN country TYPE {request.param}")
    connection.close()  # its prepared statements
    yield request.param
    run("ALTER TABLE museum_artist ALTER COLUMN country TYPE varchar(2)")


@postgresql
def test_a_row_that_had_an_equal_value_of_another_spelling_is_found(
    answers: Answers, other_type: str
) -> None:
    spelled = "ZZ" if other_type == "citext" else "zz"  # the database itself pads the latter
    one = m.Artist.objects.create(code="new", name="New", country=spelled)
    found = Question(artists, lambda q: q.filter(country="zz"), "count")
    assert_fresh_after(
        lambda: m.Artist.objects.filter(pk=one.pk).update(country="yy"), {"found": found}, answers
    )


@pytest.fixture
def one_favourite(transactional_db: None) -> Iterator[None]:
    """Only one article has more than 100 views: a trigger resets the others."""
    on = "ON news_article"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "CREATE FUNCTION favourite() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "UPDATE news_article SET views = 0 WHERE id <> NEW.id AND views > 100; "
                "RETURN NULL; END $$"
            )
            cursor.execute(
                f"CREATE TRIGGER favourite AFTER UPDATE {on} FOR EACH ROW "
                "WHEN (NEW.views > 100) EXECUTE FUNCTION favourite()"
            )
        else:
            on = ""
            cursor.execute(
                "CREATE TRIGGER favourite AFTER UPDATE ON news_article WHEN NEW.views > 100 BEGIN "
                "UPDATE news_article SET views = 0 WHERE id <> NEW.id AND views > 100; END"
            )
    yield
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER favourite {on}")
        if connection.vendor == "postgresql":
            cursor.execute("DROP FUNCTION favourite")


def test_a_trigger_that_changes_other_rows_of_its_table_is_followed(
    ask: Ask, author: Author, one_favourite: None
) -> None:
    first, second = (
        Article.objects.create(author=author, slug=slug, title=slug) for slug in ("a", "b")
    )
    Article.objects.filter(pk=first.pk).update(views=200)
    for _ in range(2):
        assert ask(articles, "get", pk=first.pk).views == 200
    Article.objects.filter(pk=second.pk).update(views=300)
    assert ask(articles, "get", pk=first.pk).views == 0


def test_a_wrapper_that_forbids_queries_lets_a_write_through(ask: Ask, author: Author) -> None:
    made = Article.objects.create(author=author, slug="a", title="a")
    for _ in range(2):
        assert ask(articles.filter(author=author), "count") == 1

    def no_queries(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith("SELECT"):
            raise RuntimeError("No queries here.")
        return execute(sql, *rest)

    other = Author.objects.create(name="Ben")
    with connection.execute_wrapper(no_queries):
        made.author = other
        made.save()
    assert ask(articles.filter(author=author), "count") == 0
