"""@cached_query: what makes the key, what may be returned, when an answer is stored, and what it
turns out to depend on."""

import asyncio
import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict
from unittest.mock import Mock, patch
from uuid import UUID

import msgspec
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection
from django.db.models import Count, Prefetch
from django.db.models.functions import Now
from django.test import override_settings
from django.utils import timezone

from loom_cache import CachedRepository, LoomCacheError, bypass, cached_query, drivers, hints
from loom_cache.exceptions import ConfigurationError
from loom_cache.repository import declared_repositories
from testproject.news.models import Article, Author, Comment
from tests.cases import stored
from tests.cases.conftest import outcomes, statements
from tests.fieldapp.same import assert_same
from tests.library.models import Memo, Shelf, tenant
from tests.services.redis import RedisServer

if TYPE_CHECKING:
    from testproject.news.models import Tag

pytestmark = pytest.mark.django_db(transaction=True)

Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def process_without_memories() -> None:
    """What calls of a method depend on is known to nobody yet."""
    hints.forget()


@pytest.fixture
def author() -> Author:
    return Author.objects.create(name="Ada")


@pytest.fixture
def article(author: Author) -> Article:
    return Article.objects.create(author=author, slug="one", title="One")


@pytest.fixture(params=["async", "sync"])
def call(request: pytest.FixtureRequest, store: str) -> Call:
    """`call(questions, "count", 7)`: the method `acount` of the repository, or its twin `count`."""

    def asynchronously(repository: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        return async_to_sync(getattr(repository, f"a{method}"))(*args, **kwargs)

    def synchronously(repository: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(repository, method)(*args, **kwargs)

    return asynchronously if request.param == "async" else synchronously


@contextmanager
def settings_with(**more: Any) -> Iterator[None]:
    """LOOM_CACHE with these keys, too."""
    with override_settings(LOOM_CACHE={**settings.LOOM_CACHE, **more}):
        yield


class Questions(CachedRepository[Article]):
    """Methods of every kind, each asynchronous and synchronous."""

    model = Article

    @cached_query
    async def acount_articles(self) -> int:
        return await Article.objects.acount()

    @cached_query
    def count_articles(self) -> int:
        return Article.objects.count()

    @cached_query
    async def acount_comments(self) -> int:
        return await Comment.objects.acount()

    @cached_query
    def count_comments(self) -> int:
        return Comment.objects.count()

    @cached_query(depends_on=[Comment])
    async def acount_declared(self) -> int:
        return await Comment.objects.acount()

    @cached_query(depends_on=["news.Comment"])
    def count_declared(self) -> int:
        return Comment.objects.count()

    @cached_query
    async def aechoed(self, value: Any, other: int = 5, *, named: str = "x") -> str:
        return f"{value!r} {other!r} {named!r} {await Article.objects.acount()}"

    @cached_query
    def echoed(self, value: Any, other: int = 5, *, named: str = "x") -> str:
        return f"{value!r} {other!r} {named!r} {Article.objects.count()}"

    @cached_query
    async def atitle_or_none(self, slug: str) -> str | None:
        return await Article.objects.filter(slug=slug).values_list("title", flat=True).afirst()

    @cached_query
    def title_or_none(self, slug: str) -> str | None:
        return Article.objects.filter(slug=slug).values_list("title", flat=True).first()

    @cached_query
    async def afailing(self) -> int:
        return (await Article.objects.aget(slug="nobody's")).pk

    @cached_query
    def failing(self) -> int:
        return Article.objects.get(slug="nobody's").pk


questions = Questions()


# When it is stored.


def test_a_method_that_reads_its_own_table_is_answered_from_the_second_call(
    call: Call, article: Article
) -> None:
    with statements(1), outcomes("miss"):
        assert call(questions, "count_articles") == 1
    with statements(0), outcomes("hit"):
        assert call(questions, "count_articles") == 1


def test_a_method_that_reads_another_table_is_answered_from_the_third_call(call: Call) -> None:
    with statements(2), outcomes("miss", "miss"):
        assert call(questions, "count_comments") == call(questions, "count_comments") == 0
    with statements(0), outcomes("hit"):
        assert call(questions, "count_comments") == 0


def test_a_method_that_declares_the_other_table_is_answered_from_the_second_call(
    call: Call,
) -> None:
    with statements(1), outcomes("miss"):
        assert call(questions, "count_declared") == 0
    with statements(0), outcomes("hit"):
        assert call(questions, "count_declared") == 0


@pytest.mark.parametrize("method", ["count_comments", "count_declared"])
def test_an_answer_changes_with_the_tables_it_was_read_from(
    call: Call, article: Article, method: str
) -> None:
    for number in range(3):
        assert [call(questions, method) for _ in range(3)] == [number] * 3
        Comment.objects.create(article=article, text="new")


def test_an_answer_stays_when_another_table_changes(call: Call, article: Article) -> None:
    call(questions, "count_declared")
    article.save()
    with outcomes("hit"):
        call(questions, "count_declared")


def test_an_exception_reaches_the_caller_and_is_not_kept(call: Call, author: Author) -> None:
    for _ in range(2):
        with statements(1), pytest.raises(Article.DoesNotExist):
            call(questions, "failing")
    pk = Article.objects.create(author=author, slug="nobody's", title="Now").pk
    assert call(questions, "failing") == pk


def test_none_is_kept_as_an_answer_until_the_row_comes(call: Call, author: Author) -> None:
    assert call(questions, "title_or_none", "one") is None
    with statements(0), outcomes("hit"):
        assert call(questions, "title_or_none", "one") is None
    Article.objects.create(author=author, slug="one", title="One")
    assert call(questions, "title_or_none", "one") == "One"


def test_bypass_runs_the_method(call: Call, article: Article) -> None:
    call(questions, "count_articles")
    with bypass(), statements(1), outcomes("bypass"):
        assert call(questions, "count_articles") == 1


def test_a_result_larger_than_max_value_bytes_is_given_and_not_stored(
    call: Call, article: Article
) -> None:
    with settings_with(MAX_VALUE_BYTES=100):
        for _ in range(3):
            with outcomes("miss"):
                assert len(call(questions, "echoed", "x" * 200)) > 200
    assert stored.entries() == {}


def test_concurrent_calls_run_the_method_once(store: str, article: Article) -> None:
    runs: list[str] = []
    all_wait = asyncio.Event()
    original = drivers._landing

    class Slow(CachedRepository[Article]):
        @cached_query
        async def rows(self) -> list[int]:
            runs.append("run")
            await all_wait.wait()
            return [await Article.objects.acount()]

    waiting: list[Any] = []

    async def landing(flight: Any) -> None:
        waiting.append(flight)
        if len(waiting) == 4:
            all_wait.set()
        await original(flight)

    async def main() -> list[Any]:
        return await asyncio.gather(*(Slow().rows() for _ in range(5)))

    with declared_for_this_test(Slow), patch.object(drivers, "_landing", landing):
        found = async_to_sync(main)()
    assert found == [[1]] * 5
    assert runs == ["run"]
    assert len({id(each) for each in found}) == 5


@contextmanager
def declared_for_this_test(*classes: type[CachedRepository[Any]]) -> Iterator[None]:
    """The system checks of other tests do not see these."""
    try:
        yield
    finally:
        for each in classes:
            declared_repositories.remove(each)


# The arguments.


def test_positional_and_keyword_spelling_are_one_call(call: Call, article: Article) -> None:
    first = call(questions, "echoed", 1, 5)
    with statements(0), outcomes(*["hit"] * 5):
        assert call(questions, "echoed", 1) == first
        assert call(questions, "echoed", value=1) == first
        assert call(questions, "echoed", other=5, value=1) == first
        assert call(questions, "echoed", 1, other=5, named="x") == first
        assert call(questions, "echoed", named="x", value=1) == first


class Colour(enum.Enum):
    RED = 1


class Point(msgspec.Struct, frozen=True):
    x: int = 1


@dataclass(frozen=True)
class Place:
    x: int = 1


class Spot(NamedTuple):
    x: int = 1


LOOK_ALIKES: list[Any] = [
    1,
    "1",
    True,
    1.0,
    Decimal(1),
    Decimal("1.0"),
    b"1",
    None,
    "None",
    "",
    [],
    (),
    {},
    set(),
    [1],
    (1,),
    ["1"],
    [[1]],
    {"x": 1},
    {"x": "1"},
    {1},
    Colour.RED,
    Point(),
    Point(2),
    Place(),
    Spot(),
    UUID(int=1),
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 1),  # noqa: DTZ001
    datetime(2026, 1, 1, tzinfo=UTC).date(),
    timedelta(1),
    Article,
    range(1),
]


def test_look_alike_arguments_are_calls_of_their_own(call: Call) -> None:
    for outcome in ("miss", "hit"):
        for value in LOOK_ALIKES:
            with outcomes(outcome):
                assert call(questions, "echoed", value) == f"{value!r} 5 'x' 0"


def test_a_model_instance_is_its_primary_key(call: Call, article: Article) -> None:
    call(questions, "echoed", article)
    again = Article.objects.get(pk=article.pk)
    again.title = "not saved"
    with outcomes("hit", "miss", "miss"):
        call(questions, "echoed", again)
        call(questions, "echoed", article.pk)
        call(questions, "echoed", article.author)


class Opaque:
    """Of no type that the cache knows."""


@pytest.mark.parametrize(
    "value",
    [Opaque(), [Opaque()], Article(), lambda: 1, Article.objects.all(), Opaque],
    ids=["object", "in a list", "unsaved", "function", "queryset", "class"],
)
def test_an_argument_without_canonical_form_is_a_type_error_that_names_it(
    call: Call, value: Any
) -> None:
    with pytest.raises(TypeError, match=r"'value' of .*echoed") as error:
        call(questions, "echoed", value)
    assert isinstance(error.value, LoomCacheError)


def test_an_iterator_is_the_list_of_what_it_gives(call: Call) -> None:
    for outcome in ("miss", "hit"):
        with outcomes(outcome):
            assert call(questions, "echoed", iter([1, 2])) == "[1, 2] 5 'x' 0"
    with outcomes("miss"):
        call(questions, "echoed", iter([1, 3]))


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"value": 1}), ((1,), {"nothing": 1})]
)
def test_arguments_that_do_not_fit_are_a_type_error(
    call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match="argument"):
        call(questions, "echoed", *args, **kwargs)


def test_methods_of_one_name_in_two_repositories_share_nothing(store: str) -> None:
    class First(CachedRepository[Article]):
        @cached_query
        def name(self) -> str:
            return "first"

    class Second(CachedRepository[Article]):
        @cached_query
        def name(self) -> str:
            return "second"

    class Third(First):
        version = 2

    with declared_for_this_test(First, Second, Third):
        for outcome in ("miss", "hit"):
            for repository, name in ((First(), "first"), (Second(), "second"), (Third(), "first")):
                with outcomes(outcome):
                    assert repository.name() == name


def test_an_inherited_method_asks_the_repository_it_is_called_on(store: str) -> None:
    class Base(CachedRepository[Article]):
        prefix = "base"

        @cached_query
        def named(self) -> str:
            return self.prefix

    class Child(Base):
        prefix = "child"

        @cached_query
        def named(self) -> str:
            return f"{super().named()} of {self.prefix}"

    with declared_for_this_test(Base, Child):
        for _ in range(2):
            assert Base().named() == "base"
            assert Child().named() == "child of child"


# What may be returned.


class Card(msgspec.Struct):
    title: str
    at: datetime


@dataclass
class Line:
    title: str
    price: Decimal


class Pair(NamedTuple):
    title: str
    number: int


class Shape(TypedDict):
    title: str
    sides: int


RESULT: list[Any] = []
"""What `Returning` returns next."""


class Returning(CachedRepository[Article]):
    model = Article

    @cached_query
    def nothing(self) -> None:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def number(self) -> int:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def real(self) -> float:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def exact(self) -> Decimal:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def moment(self) -> datetime:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def maybe(self) -> int | None:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def numbers(self) -> list[int]:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def words(self) -> set[str]:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def pairs(self) -> tuple[tuple[str, int], ...]:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def by_key(self) -> dict[int, list[str]]:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def colour(self) -> Colour:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def card(self) -> Card:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def cards(self) -> list[Card]:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def line(self) -> Line:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def pair(self) -> Pair:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def shape(self) -> Shape:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def row(self) -> Article:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def row_or_none(self) -> Article | None:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def rows(self) -> list[Article]:
        return RESULT[-1]  # type: ignore[no-any-return]

    @cached_query
    def tuple_of_rows(self) -> tuple[Article, ...]:
        return RESULT[-1]  # type: ignore[no-any-return]


returning = Returning()
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

RESULTS: list[tuple[str, Any]] = [
    ("nothing", None),
    ("number", 5),
    ("number", -(2**63)),
    ("real", 1.5),
    ("exact", Decimal("1.10")),
    ("moment", NOON),
    ("maybe", None),
    ("maybe", 5),
    ("numbers", []),
    ("numbers", [1, 2]),
    ("words", {"a", "b"}),
    ("pairs", (("a", 1), ("b", 2))),
    ("by_key", {1: ["a"], 2: []}),
    ("colour", Colour.RED),
    ("card", Card("One", NOON)),
    ("cards", [Card("One", NOON), Card("Two", NOON)]),
    ("line", Line("One", Decimal("1.10"))),
    ("pair", Pair("One", 1)),
    ("shape", {"title": "One", "sides": 4}),
]


@pytest.mark.parametrize(("method", "result"), RESULTS)
def test_a_hit_is_of_the_annotated_type_and_of_the_same_value(
    store: str, method: str, result: Any
) -> None:
    RESULT[:] = [result]
    with outcomes("miss", "hit"):
        missed = getattr(returning, method)()
        RESULT.clear()
        hit = getattr(returning, method)()
    assert missed == hit == result
    assert_same([missed], [hit])


@pytest.mark.parametrize("method", ["row", "row_or_none", "rows", "tuple_of_rows"])
def test_a_hit_gives_rows_with_all_that_was_loaded_with_them(
    store: str, article: Article, method: str
) -> None:
    row = (
        Article.objects.select_related("author")
        .prefetch_related("comments")
        .annotate(n=Count("tags"))
        .get()
    )
    result: Any = {"rows": [row], "tuple_of_rows": (row,)}.get(method, row)
    RESULT[:] = [result]
    with outcomes("miss", "hit"):
        missed = getattr(returning, method)()
        RESULT.clear()
        with statements(0):
            hit = getattr(returning, method)()
    assert_same([result], [missed])
    assert_same([missed], [hit])


def test_changing_a_result_changes_nothing_for_the_next_caller(store: str) -> None:
    RESULT[:] = [[Card("One", NOON)]]
    for _ in range(3):
        (card,) = cards = returning.cards()
        assert card.title == "One"
        card.title = "changed"
        cards.clear()


@pytest.mark.parametrize(
    ("method", "result"),
    [
        ("number", "5"),
        ("number", True),
        ("number", None),
        ("numbers", (1, 2)),
        ("numbers", ["a"]),
        ("exact", 1.5),
        ("words", ["a"]),
        ("card", Line("One", Decimal(1))),
        ("card", {"title": "One", "at": NOON}),
        ("shape", {"title": "One"}),
        ("row", None),
        ("row", Author(pk=1)),
        ("rows", Article(pk=1)),
        ("numbers", Opaque()),
    ],
)
def test_a_result_that_does_not_fit_its_annotation_is_a_type_error_that_names_both(
    store: str, method: str, result: Any
) -> None:
    RESULT[:] = [result]
    for _ in range(2):
        with pytest.raises(TypeError, match=type(result).__name__) as error:
            getattr(returning, method)()
        assert f"Returning.{method}" in str(error.value)
    assert stored.entries() == {}


def test_a_method_without_a_usable_annotation_is_a_type_error_that_names_it(store: str) -> None:
    class Unclear(CachedRepository[Article]):
        @cached_query
        def missing(self):  # type: ignore[no-untyped-def]
            return 1

        @cached_query
        def anything(self) -> Any:
            return 1

        @cached_query
        def opaque(self) -> Opaque:
            return Opaque()

        @cached_query
        def unresolved(self) -> "list[Tag]":
            return []

    with declared_for_this_test(Unclear):
        for method in ("missing", "anything", "opaque", "unresolved"):
            with pytest.raises(TypeError, match="annotation"):
                getattr(Unclear(), method)()


# What an answer turns out to depend on.


class Nested(CachedRepository[Article]):
    """Methods that ask other cached questions."""

    model = Article

    @cached_query
    async def anames(self) -> list[str]:
        return [author.name async for author in authors.order_by("name")]

    @cached_query
    def names(self) -> list[str]:
        return [author.name for author in authors.order_by("name")]

    @cached_query
    async def agreeting(self) -> str:
        return f"Hello {', '.join(await self.anames())}"

    @cached_query
    def greeting(self) -> str:
        return f"Hello {', '.join(self.names())}"

    @cached_query
    async def acards(self, pk: int) -> list[str]:
        article = await questions_of_rows.select_related("author").aget(pk=pk)
        return [article.title, article.author.name]

    @cached_query
    def cards(self, pk: int) -> list[str]:
        article = questions_of_rows.select_related("author").get(pk=pk)
        return [article.title, article.author.name]

    @cached_query
    async def aat_once(self) -> list[int]:
        return list(await asyncio.gather(authors.acount(), comments.acount()))

    @cached_query
    def at_once(self) -> list[int]:
        return [authors.count(), comments.count()]

    @cached_query
    async def aunseen(self) -> int:
        return await sync_to_async(self.unseen)()

    @cached_query
    def unseen(self) -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM news_comment")
            return int(cursor.fetchone()[0])


class Authors(CachedRepository[Author]):
    model = Author


class Comments(CachedRepository[Comment]):
    model = Comment


class Rows(CachedRepository[Article]):
    model = Article


nested, authors, comments, questions_of_rows = Nested(), Authors(), Comments(), Rows()


def settled(call: Call, method: str, *args: Any) -> Any:
    """The answer, once it is stored."""
    for _ in range(4):
        found = call(nested, method, *args)
    with statements(0), outcomes("hit"):
        assert call(nested, method, *args) == found
    return found


def test_what_a_cached_query_within_depends_on_is_passed_on(call: Call, author: Author) -> None:
    assert settled(call, "names") == ["Ada"]
    author.name = "Ada L."
    author.save()
    assert call(nested, "names") == ["Ada L."]


def test_what_a_cached_method_within_depends_on_is_passed_on(call: Call, author: Author) -> None:
    settled(call, "names")  # the inner answers are hits from now on
    assert settled(call, "greeting") == "Hello Ada"
    Author.objects.create(name="Ben")
    assert call(nested, "greeting") == "Hello Ada, Ben"


def test_what_a_row_within_was_loaded_with_is_passed_on(call: Call, article: Article) -> None:
    for _ in range(2):
        questions_of_rows.select_related("author").get(pk=article.pk)
    assert settled(call, "cards", article.pk) == ["One", "Ada"]
    Author.objects.update(name="Ada L.")
    assert call(nested, "cards", article.pk) == ["One", "Ada L."]
    settled(call, "cards", article.pk)
    Article.objects.update(title="Two")
    assert call(nested, "cards", article.pk) == ["Two", "Ada L."]


@pytest.mark.parametrize("model", [Author, Comment])
def test_what_queries_at_once_depend_on_is_passed_on(
    call: Call, article: Article, model: Any
) -> None:
    Comment.objects.create(article=article, text="one")
    assert settled(call, "at_once") == [1, 1]
    model.objects.all().delete()
    assert call(nested, "at_once") == ([0, 0] if model is Author else [1, 0])


def test_what_raw_sql_reads_is_depended_on(call: Call, article: Article) -> None:
    assert settled(call, "unseen") == 0
    Comment.objects.create(article=article, text="new")
    assert call(nested, "unseen") == 1


def test_depends_on_adds_what_cannot_be_seen(store: str, author: Author) -> None:
    class Declared(CachedRepository[Article]):
        @cached_query(depends_on=[Author])
        def name(self) -> str:
            return NAME[-1]

    with declared_for_this_test(Declared):
        NAME[:] = ["one"]
        assert Declared().name() == "one"
        NAME[:] = ["two"]
        assert Declared().name() == "one"
        author.save()
        assert Declared().name() == "two"


def test_depends_on_of_the_repository_holds_for_its_methods_and_chains(
    store: str, author: Author, article: Article
) -> None:
    class Declared(CachedRepository[Article]):
        model = Article
        depends_on = (Comment,)

        @cached_query
        def name(self) -> str:
            return NAME[-1]

    with declared_for_this_test(Declared):
        repository = Declared()
        NAME[:] = ["one"]
        repository.name()
        repository.get(pk=article.pk)
        with outcomes("hit", "hit"):
            repository.name()
            repository.get(pk=article.pk)
        NAME[:] = ["two"]
        Comment.objects.create(article=article, text="new")
        with outcomes("miss", "miss"):
            assert repository.name() == "two"
            repository.get(pk=article.pk)


NAME: list[str] = []


class ShelvesWithMemos(CachedRepository[Shelf]):
    """The memos are those of who asks."""

    queryset = Shelf.objects.prefetch_related("memos")

    @cached_query
    async def atexts(self) -> list[str]:
        return [memo.text async for shelf in self.all() for memo in shelf.memos.all()]

    @cached_query
    def texts(self) -> list[str]:
        return [memo.text for shelf in self.all() for memo in shelf.memos.all()]


def test_who_asks_is_looked_at_by_the_prefetches_of_the_base(call: Call) -> None:
    shelf = Shelf.objects.create(name="top")
    for owner in ("ada", "ben"):
        Memo.everybodys.create(owner=owner, text=f"{owner}'s", shelf=shelf)
    for _ in range(4):
        for owner in ("ada", "ben"):
            token = tenant.set(owner)
            assert call(ShelvesWithMemos(), "texts") == [f"{owner}'s"]
            tenant.reset(token)


# What is never stored.


def _now_through_django() -> int:
    return Article.objects.filter(created__lt=Now()).count()


def _now_through_a_repository() -> int:
    return questions_of_rows.filter(created__lt=Now()).count()


def _now_in_a_prefetch_of_a_repository() -> int:
    recent = Prefetch("comments", Comment.objects.filter(created__lt=Now()))
    return len(list(questions_of_rows.prefetch_related(recent)))


def _sessions() -> int:
    return Session.objects.count()


def _sessions_through_a_repository() -> int:
    return questions_of_rows.exclude(slug__in=Session.objects.values("session_key")).count()


def _a_write() -> int:
    return Comment.objects.filter(text="none").update(text="none")


def _another_database() -> int:
    return Article.objects.using("other").count() + 1


def _another_database_through_a_repository() -> int:
    return int(questions_of_rows.using("other").count()) + 1


UNSTORABLE = [
    _now_through_django,
    _now_through_a_repository,
    _now_in_a_prefetch_of_a_repository,
    _sessions,
    _sessions_through_a_repository,
    _a_write,
    _another_database,
    _another_database_through_a_repository,
]

READ: list[Callable[[], int]] = []
"""What `Unstorable` reads next."""


class Unstorable(CachedRepository[Article]):
    model = Article

    @cached_query
    async def aread(self) -> int:
        number: int = await sync_to_async(READ[-1])()
        return number

    @cached_query
    def read(self) -> int:
        return READ[-1]()


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize("read", UNSTORABLE)
def test_what_can_never_be_stored_is_read_each_time(
    call: Call, article: Article, read: Callable[[], int]
) -> None:
    Session.objects.create(session_key="a", session_data="", expire_date=timezone.now())
    counted = Mock(side_effect=read)
    READ[:] = [counted]
    for number in range(4):
        call(Unstorable(), "read")
        assert counted.call_count == number + 1


# How long an answer is kept.


class Timed(CachedRepository[Article]):
    model = Article
    ttl = 700
    list_ttl = 70

    @cached_query
    def plain(self, value: int | None) -> int | None:
        return value

    @cached_query(ttl=30)
    def own(self, value: int | None) -> int | None:
        return value

    @cached_query(ttl=30, missing_ttl=7)
    def missing(self, value: int | None) -> int | None:
        return value


class Untimed(Timed):
    ttl: Any = None
    list_ttl: Any = None


@pytest.mark.parametrize(
    ("seconds", "repository", "method", "value"),
    [
        (70, Timed(), "plain", 1),
        (40, Untimed(), "plain", 1),
        (30, Timed(), "own", 1),
        (30, Untimed(), "own", 1),
        (30, Timed(), "missing", 1),
        (7, Timed(), "missing", None),
        (10, Timed(), "own", None),
        (10, Timed(), "plain", None),
    ],
)
def test_a_result_is_kept_as_long_as_the_nearest_ttl_says(
    redis_server: RedisServer, seconds: int, repository: Timed, method: str, value: Any
) -> None:
    redis_server.reset()
    given = {"LOCATION": redis_server.url, "TIMEOUT": 5, "TTL_JITTER": 0}
    with override_settings(LOOM_CACHE={**given, "TTL": {"news.article_list": 40}}):
        getattr(repository, method)(value)
        (key,) = stored.entries()
        left = redis_server.client.pttl(key) / 1000
    assert seconds * 0.8 < left <= seconds


@pytest.mark.parametrize("seconds", [0, -1, True, "60", float("inf")])
@pytest.mark.parametrize("name", ["ttl", "missing_ttl"])
def test_a_ttl_that_is_none_is_refused_when_the_method_is_declared(name: str, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):

        @cached_query(**{name: seconds})
        def method(self: Any) -> int:
            return 1


# The method itself.


def test_a_decorated_method_keeps_its_name_and_its_documentation() -> None:
    class Documented(CachedRepository[Article]):
        @cached_query(ttl=5)
        async def method(self) -> int:
            """Says something."""
            return 1

    with declared_for_this_test(Documented):
        assert (Documented.method.__name__, Documented.method.__doc__) == (
            "method",
            "Says something.",
        )
        assert asyncio.iscoroutinefunction(Documented.method)


def test_a_synchronous_method_is_refused_in_a_running_loop(store: str) -> None:
    async def main() -> None:
        with pytest.raises(SynchronousOnlyOperation):
            questions.count_articles()

    async_to_sync(main)()
