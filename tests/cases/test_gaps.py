"""Gaps that were found by attacking: each was an answer that was stale, uncommitted, another
question's, or an error that Django would not have raised."""

import asyncio
import contextvars
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta, timezone
from typing import Any

import msgspec
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import DatabaseError, connection, connections, transaction
from django.db.models import CharField, DateTimeField, Exists, F, Func, Q, Value, Window
from django.db.models.expressions import OrderBy, RawSQL
from django.db.models.functions import Cast, JSONObject, Lower, RowNumber, TruncHour
from django.utils.timezone import override as in_zone

from loom_cache import (
    CachedRepository,
    ainvalidate,
    cached_query,
    calls,
    drivers,
    generations,
    hints,
    invalidate,
    plans,
    repository,
    resilience,
    steps,
)
from loom_cache.exceptions import StoreUnavailable
from tests.cases import stored
from tests.cases.conftest import Ask, outcomes
from tests.cases.interleaving import PATIENCE, Elsewhere, Gate, elsewhere
from tests.library.models import Anthem, Book, Census, Country, Loan, Parcel, Reader, Shelf
from tests.thinning import every

__all__ = ["elsewhere"]

pytestmark = pytest.mark.django_db(transaction=True)


class Books(CachedRepository[Book]):
    queryset = Book.everything.all()

    @cached_query
    async def atitles(self) -> list[str]:
        titles = [book.title async for book in Book.everything.order_by("pk")]
        await before_it_returns()
        return titles

    @cached_query
    async def atitles_of(self, pks: list[int]) -> list[str]:
        return [book.title async for book in Book.everything.filter(pk__in=pks)]

    @cached_query
    async def acountries(self) -> list[str]:
        names = [country.name async for country in Country.objects.order_by("pk")]
        await before_it_returns()
        return names


class TitledBooks(CachedRepository[Book]):
    queryset = Book.everything.all()

    def __init__(self, title: str) -> None:
        self.title = title

    @cached_query
    def number(self) -> int:
        return Book.everything.filter(title=self.title).count()


class FirstOfEachTitle(CachedRepository[Book]):
    queryset = Book.everything.distinct("title").order_by("title", "pk")


class Countries(CachedRepository[Country]):
    model = Country


class Anthems(CachedRepository[Anthem]):
    model = Anthem


class Parcels(CachedRepository[Parcel]):
    model = Parcel


class Censuses(CachedRepository[Census]):
    model = Census


books = Books()
countries = Countries()
anthems = Anthems()
parcels = Parcels()
censuses = Censuses()


async def nothing() -> None:
    pass


before_it_returns: Callable[[], Awaitable[None]] = nothing
"""What the methods of `books` do once they have read."""


@pytest.fixture(autouse=True)
def process_without_memories(monkeypatch: pytest.MonkeyPatch) -> None:
    """What questions of a kind depend on is known to nobody yet."""
    hints.forget()
    monkeypatch.setitem(globals(), "before_it_returns", nothing)


@pytest.fixture
def book() -> Book:
    return Book.everything.create(title="Old")


@pytest.fixture
def another() -> Book:
    return Book.everything.create(title="Old")


@pytest.fixture
def france() -> Country:
    return Country.objects.create(code="fr", name="fr")


@pytest.fixture
def postgresql() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has nothing of the kind")


@pytest.fixture
def sqlite() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL has nothing of the kind")


def retitle(book: Book, title: str = "New") -> None:
    Book.everything.filter(pk=book.pk).update(title=title)


def title_of(book: Book) -> str:
    return books.get(pk=book.pk).title


def true_title_of(book: Book) -> str:
    return Book.everything.get(pk=book.pk).title


def kept(book: Book) -> None:
    """A second read of the book is a hit: it is in the cache."""
    title_of(book)
    with outcomes("hit"):
        title_of(book)


def execute(*texts: str) -> None:
    with connection.cursor() as cursor:
        for text in texts:
            cursor.execute(text)


class Abandoned(Exception):
    """Ends a block by rolling it back."""


@contextmanager
def abandoned() -> Iterator[None]:
    """An atomic block that does not come to its end."""
    with suppress(Abandoned), transaction.atomic():
        yield
        raise Abandoned


class Waiting:
    """Tells when a reader begins to wait for a load of somebody else."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._number = 0
        self._landing = drivers._landing

    async def landing(self, flight: steps.Flight) -> None:
        async with self._changed:
            self._number += 1
            self._changed.notify_all()
        await self._landing(flight)

    async def number(self, wanted: int) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: self._number >= wanted)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Waiting:
    made = Waiting()
    monkeypatch.setattr(drivers, "_landing", made.landing)
    return made


class FirstLoad:
    """The first load of rows stops when it has read, until it may end."""

    def __init__(self) -> None:
        self._load = plans.QueryPlan.aload
        self._read = asyncio.Event()
        self.number = 0
        self.may_end = asyncio.Event()

    async def aload(self, plan: plans.QueryPlan, missing: Sequence[int]) -> list[steps.Loaded]:
        self.number += 1
        first = self.number == 1
        loaded = await self._load(plan, missing)
        if first:
            self._read.set()
            await self.may_end.wait()
        return loaded

    async def has_read(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._read.wait()


@pytest.fixture
def first_load(monkeypatch: pytest.MonkeyPatch) -> FirstLoad:
    made = FirstLoad()

    async def aload(plan: plans.QueryPlan, missing: Sequence[int]) -> list[steps.Loaded]:
        return await made.aload(plan, missing)

    monkeypatch.setattr(plans.QueryPlan, "aload", aload)
    return made


# Loads that are shared. -------------------------------------------------------------------------


async def test_a_reader_after_a_write_takes_nothing_from_a_load_whose_tables_nobody_knew(
    store: str, monkeypatch: pytest.MonkeyPatch, waiting: Waiting
) -> None:
    await Country.objects.acreate(code="fr", name="Old")
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def stop() -> None:
        begun.set()
        await may_end.wait()

    monkeypatch.setitem(globals(), "before_it_returns", stop)
    leader = asyncio.create_task(books.acountries())
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
    await Country.objects.filter(code="fr").aupdate(name="New")
    later = asyncio.create_task(books.acountries())
    await waiting.number(1)
    may_end.set()
    assert await later == ["New"]
    assert await leader == ["Old"]


async def test_fresh_takes_nothing_from_a_load_that_began_before_it_was_asked(
    store: str, first_load: FirstLoad
) -> None:
    old = books.filter(title="Old")
    leader = asyncio.create_task(old.alist())
    await first_load.has_read()
    await sync_to_async(_insert_unseen)()
    async with asyncio.timeout(PATIENCE):
        assert len(await old.fresh().alist()) == 1
    first_load.may_end.set()
    assert await leader == []


def _insert_unseen() -> None:
    connection.ensure_connection()
    stored.run_unseen("INSERT INTO library_book (title, hidden, stock) VALUES ('Old', false, 1)")


async def test_rows_that_cannot_be_made_on_an_event_loop_are_loaded_by_each_reader(
    store: str, waiting: Waiting, first_load: FirstLoad
) -> None:
    await Country.objects.acreate(code="fr", name="France")
    await Census.objects.acreate(pk=1, year=1999)
    readers = [asyncio.create_task(censuses.aget(pk=1)) for _ in range(3)]
    await first_load.has_read()
    await waiting.number(2)
    first_load.may_end.set()
    assert [census.countries for census in await asyncio.gather(*readers)] == [1, 1, 1]


# Primary keys that are not what they seem. ------------------------------------------------------


@pytest.fixture
def germany(france: Country) -> Country:
    return Country.objects.create(code="de", name="Germany")


def test_a_primary_key_given_as_an_expression_names_no_row(
    ask: Ask, france: Country, germany: Country
) -> None:
    for _ in range(2):
        assert ask(countries.filter(code=F("name")), "list") == [france]


def test_a_primary_key_given_as_a_function_names_no_row(
    ask: Ask, france: Country, germany: Country
) -> None:
    for _ in range(2):
        assert ask(countries, "get_or_none", pk=Lower(Value("FR"))) == france


def test_a_primary_key_given_as_a_queryset_names_no_row(
    ask: Ask, france: Country, germany: Country
) -> None:
    for _ in range(2):
        codes = Country.objects.filter(name="fr").values("code")[:1]
        assert ask(countries.filter(pk=codes), "list") == [france]


def test_a_primary_key_given_as_an_instance_finds_its_row(ask: Ask, france: Country) -> None:
    anthem = Anthem.objects.create(country=france, text="Old")
    for _ in range(2):
        assert ask(anthems, "get_or_none", country=france) == anthem
    Anthem.objects.filter(country=france).update(text="New")
    assert ask(anthems, "get", country=france).text == "New"


def test_a_row_whose_key_is_another_value_in_the_database_is_fresh(ask: Ask) -> None:
    Parcel.objects.create(number="p7", content="Old")
    for _ in range(2):
        assert ask(parcels, "get", pk="p7").content == "Old"
    Parcel.objects.filter(pk="p7").update(content="Newer")
    assert ask(parcels, "get", pk="p7").content == "Newer"
    parcel = Parcel.objects.get(pk="p7")
    parcel.content = "Newest"
    parcel.save()
    assert ask(parcels, "get", pk="p7").content == "Newest"
    parcel.delete()
    assert ask(parcels, "get_or_none", pk="p7") is None


def test_in_bulk_finds_rows_whose_key_is_another_value_in_the_database(ask: Ask) -> None:
    parcel = Parcel.objects.create(number="p7", content="Old")
    for _ in range(2):
        assert ask(parcels, "in_bulk", [7]) == {"p7": parcel}
        assert ask(parcels, "in_bulk", ["p7"]) == {"p7": parcel}


def test_a_primary_key_too_large_for_any_column_names_no_row(ask: Ask, book: Book) -> None:
    for _ in range(2):
        assert ask(books, "get_or_none", pk=int("f" * 10_000, 16)) is None


# Rows that other rows decide about. -------------------------------------------------------------


def numbered(rows: Any) -> Any:
    return rows.annotate(number=Window(RowNumber(), order_by="pk"))


def test_get_is_not_answered_by_the_windows_of_in_bulk(ask: Ask) -> None:
    made = [Book.everything.create(title=str(number)) for number in range(3)]
    found = ask(numbered(books), "in_bulk", [book.pk for book in made])
    assert [found[book.pk].number for book in made] == [1, 2, 3]
    assert ask(numbered(books), "get", pk=made[2].pk).number == 1


def test_get_is_not_answered_by_an_in_bulk_that_filtered_by_a_window(ask: Ask) -> None:
    made = [Book.everything.create(title=str(number)) for number in range(3)]
    first = numbered(books).filter(number=1)
    assert ask(first, "in_bulk", [book.pk for book in made]) == {made[0].pk: made[0]}
    assert ask(first, "get_or_none", pk=made[2].pk) == made[2]


@pytest.mark.usefixtures("postgresql")
def test_get_is_not_answered_by_an_in_bulk_whose_base_leaves_out_duplicates(
    ask: Ask, book: Book, another: Book
) -> None:
    firsts = FirstOfEachTitle()
    assert ask(firsts, "in_bulk", [book.pk, another.pk]) == {book.pk: book}
    assert ask(firsts, "get_or_none", pk=another.pk) == another


# Arguments. -------------------------------------------------------------------------------------


def test_an_instance_that_is_changed_later_changes_no_question(ask: Ask) -> None:
    wanted, other = Shelf.objects.create(name="wanted"), Shelf.objects.create(name="other")
    Book.everything.create(title="wanted", shelf=wanted)
    Book.everything.create(title="other", shelf=other)
    given = Shelf.objects.get(pk=wanted.pk)
    question = books.filter(shelf=given)
    given.pk = other.pk
    for asked in (question, books.filter(shelf=wanted)):
        assert [book.title for book in ask(asked, "list")] == ["wanted"]


def test_an_ordering_that_is_changed_later_changes_no_question(
    ask: Ask, book: Book, another: Book
) -> None:
    ordering = OrderBy(F("pk"))
    question = books.order_by(ordering)
    ordering.desc()
    for asked in (question, books.order_by(OrderBy(F("pk")))):
        assert ask(asked, "list") == [book, another]


async def test_an_argument_that_is_changed_before_the_method_runs_changes_no_question(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = await Book.everything.acreate(title="wanted")
    other = await Book.everything.acreate(title="other")
    pks = [wanted.pk]
    load = calls.CallPlan.aload

    async def load_later(plan: calls.CallPlan, missing: Sequence[int]) -> list[steps.Loaded]:
        pks[:] = [other.pk]  # the key has been made
        return await load(plan, missing)

    monkeypatch.setattr(calls.CallPlan, "aload", load_later)
    assert await books.atitles_of(pks) == ["wanted"]
    assert await books.atitles_of([wanted.pk]) == ["wanted"]


def dynamic(function: str) -> Any:
    """A class made where it is used, of the same name each time."""
    return type("Dynamic", (Func,), {"function": function, "output_field": CharField()})


def test_two_classes_of_one_name_are_two_questions(ask: Ask) -> None:
    Country.objects.create(code="fr", name="Aa")
    for function, found in (("UPPER", "AA"), ("LOWER", "aa")) * 2:
        named = countries.annotate(found=dynamic(function)("name"))
        assert ask(named.values_list("found", flat=True), "list") == [found]


@pytest.mark.parametrize("depth", [30, 60, 150])
def test_conditions_may_be_nested_as_deeply_as_django_allows(
    ask: Ask, book: Book, depth: int
) -> None:
    condition = Q(title="Old")
    for at in range(depth):
        condition = ~Q(condition) if at % 4 == 1 else Q(condition, stock=0)
    expected = Book.everything.filter(condition).count()
    for _ in range(2):
        assert ask(books.filter(condition), "count") == expected


def test_attributes_of_a_repository_are_part_of_its_questions(ask: Ask, book: Book) -> None:
    for _ in range(2):
        assert ask(TitledBooks("Old"), "count") == 1
        assert (TitledBooks("Old").number(), TitledBooks("New").number()) == (1, 0)


def test_time_zones_of_one_name_are_two_questions(ask: Ask, book: Book) -> None:
    noon = Cast(Value("2026-01-01 12:00:00+00:00"), DateTimeField())
    hour = TruncHour("noon")
    for hours in (8, -6) * 2:
        with in_zone(timezone(timedelta(hours=hours), "UTC")):
            direct = Book.everything.annotate(noon=noon).annotate(hour=hour)
            cached = books.annotate(noon=noon).annotate(hour=hour)
            found = ask(cached.values_list("hour", flat=True), "list")
            assert found == list(direct.values_list("hour", flat=True))
            assert found[0].utcoffset() == timedelta(hours=hours)


def forget_what_the_database_can_do() -> None:
    """Django asks it once for each connection."""
    vars(connection.features).pop("supports_json_field", None)


async def test_a_base_whose_sql_depends_on_the_database_is_read_on_an_event_loop(
    store: str,
) -> None:
    class Described(CachedRepository[Book]):
        queryset = Book.everything.annotate(described=JSONObject(a="title"))

    await Book.everything.acreate(title="Old")
    forget_what_the_database_can_do()
    with outcomes("miss", "hit"):
        for _ in range(2):
            found: Any = await Described().afirst()
            assert found.described == {"a": "Old"}


async def test_a_chain_whose_sql_depends_on_the_database_is_read_on_an_event_loop(
    store: str,
) -> None:
    lent = await Book.everything.acreate(title="Lent")
    await Book.everything.acreate(title="Not lent")
    await Loan.objects.acreate(book=lent, reader=await Reader.objects.acreate(name="Ada"))
    forget_what_the_database_can_do()
    described = books.annotate(described=JSONObject(a="title"))
    # An Exists has no canonical form: its SQL must be spelled.
    found: list[Any] = await described.filter(Exists(Loan.objects.filter(days=14))).alist()
    assert {row.described["a"] for row in found} == {"Lent", "Not lent"}


# Which database. --------------------------------------------------------------------------------

MEMORY = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "HOST": "", "PORT": ""}
SHARED_MEMORY = {**MEMORY, "NAME": "file:memorydb_default?mode=memory&cache=shared"}
FILE = {**MEMORY, "NAME": "/srv/news.sqlite3"}


def _places_in_two_processes(
    monkeypatch: pytest.MonkeyPatch, database: dict[str, str]
) -> set[tuple[str, ...]]:
    """Of this process and of one that was forked from it."""
    monkeypatch.setitem(
        connections.settings, "default", {**connections.settings["default"], **database}
    )
    here = repository._place("default")
    monkeypatch.setattr(os, "getpid", lambda: 0)
    return {here, repository._place("default")}


@pytest.mark.parametrize("database", [MEMORY, SHARED_MEMORY])
def test_databases_in_memory_of_two_processes_share_no_keys(
    monkeypatch: pytest.MonkeyPatch, database: dict[str, str]
) -> None:
    assert len(_places_in_two_processes(monkeypatch, database)) == 2


def test_two_processes_on_one_file_share_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(_places_in_two_processes(monkeypatch, FILE)) == 1


# Transactions. ----------------------------------------------------------------------------------


def test_what_a_load_saw_of_its_own_rolled_back_transaction_is_not_kept(
    store: str, book: Book, elsewhere: Elsewhere
) -> None:
    """Seen by gathered tasks in a context that knew nothing of the connection."""
    kept(book)

    async def write_and_read() -> tuple[str, list[str]]:
        await asyncio.gather(Book.everything.filter(pk=book.pk).aupdate(title="New"))
        return (await books.aget(pk=book.pk)).title, await books.atitles()

    def roll_back() -> None:
        with abandoned():
            assert async_to_sync(write_and_read)() == ("New", ["New"])

    elsewhere.do(lambda: contextvars.Context().run(roll_back))
    assert title_of(book) == "Old"
    assert async_to_sync(books.atitles)() == ["Old"]


def test_after_invalidate_in_a_transaction_its_reads_go_past_the_cache(
    ask: Ask, book: Book
) -> None:
    """What it was called for, no cursor has seen."""
    everything = books.filter(stock__gte=0).values_list("title", flat=True)
    kept(book)
    with abandoned():
        ask(books, "count")
        stored.run_unseen("UPDATE library_book SET title = 'New'")
        invalidate(Book)
        assert ask(books, "get", pk=book.pk).title == "New"
        assert ask(everything, "list") == ["New"]
    assert ask(books, "get", pk=book.pk).title == "Old"
    assert ask(everything, "list") == ["Old"]


@pytest.mark.usefixtures("postgresql")
def test_an_isolation_that_the_driver_was_told_of_later_is_noticed(
    store: str, book: Book, elsewhere: Elsewhere
) -> None:
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    def look_back() -> str:
        with transaction.atomic():
            title_of(book)  # this connection is known for READ COMMITTED
        driver: Any = connection.connection
        driver.isolation_level = IsolationLevel.REPEATABLE_READ
        with transaction.atomic():
            Country.objects.count()  # takes the snapshot
            gate.stop_here()
            return title_of(book)

    with Gate() as gate:
        seen = elsewhere.begin(look_back)
        gate.wait_until_reached()
        retitle(book)
        gate.open()
        assert seen.result(PATIENCE) == "Old"
    assert title_of(book) == "New"


@pytest.mark.usefixtures("sqlite")
def test_what_is_committed_by_turning_autocommit_on_is_published(
    ask: Ask, book: Book, elsewhere: Elsewhere
) -> None:
    kept(book)
    connection.set_autocommit(False)
    retitle(book)
    connection.set_autocommit(True)
    assert elsewhere.do(lambda: ask(books, "get", pk=book.pk).title) == "New"


async def test_ainvalidate_takes_effect_although_another_task_has_a_transaction_open(
    store: str,
) -> None:
    """Which is on the connection that both use, and rolls back."""
    book = await Book.everything.acreate(title="Old")

    def roll_back() -> None:
        with abandoned():
            Country.objects.count()
            gate.stop_here()

    await books.aget(pk=book.pk)
    await Book.everything.acount()
    with Gate() as gate:
        stranger = asyncio.create_task(sync_to_async(roll_back)())
        await asyncio.to_thread(gate.wait_until_reached)
        await ainvalidate(Book)
        gate.open()
        await stranger
    with outcomes("miss"):
        await books.aget(pk=book.pk)


@pytest.mark.usefixtures("postgresql")
async def test_what_a_load_saw_of_another_tasks_transaction_is_not_kept_once_that_is_over(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is done outside tasks: the reader's context knows of no connection."""

    def begin() -> None:
        transaction.set_autocommit(False)
        Book.everything.update(title="Never committed")

    def end() -> None:
        transaction.rollback()
        transaction.set_autocommit(True)

    async def in_a_task(work: Callable[[], Any]) -> Any:
        return await asyncio.create_task(_awaited(work))

    async def roll_back() -> None:
        await in_a_task(sync_to_async(end))

    await in_a_task(lambda: Book.everything.acreate(title="Old"))
    await in_a_task(books.atitles)  # its tables are known
    await in_a_task(lambda: ainvalidate(Book))
    await in_a_task(sync_to_async(begin))
    monkeypatch.setitem(globals(), "before_it_returns", roll_back)
    await in_a_task(books.atitles)
    monkeypatch.setitem(globals(), "before_it_returns", nothing)
    assert await in_a_task(books.atitles) == ["Old"]


async def _awaited(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()


@pytest.mark.usefixtures("postgresql")
def test_a_savepoint_that_is_released_and_made_anew_in_one_text_keeps_what_was_pending(
    ask: Ask, book: Book, another: Book, elsewhere: Elsewhere
) -> None:
    kept(book)
    with transaction.atomic():
        execute("SAVEPOINT a")
        retitle(book)
        execute("RELEASE a; SAVEPOINT a")
        retitle(another)
        execute("ROLLBACK TO a")
    assert elsewhere.do(lambda: ask(books, "get", pk=book.pk).title) == "New"
    assert elsewhere.do(lambda: ask(books, "get", pk=another.pk).title) == "Old"


@pytest.mark.usefixtures("postgresql")
def test_a_commit_followed_by_a_begin_in_one_text_is_published(
    ask: Ask, book: Book, elsewhere: Elsewhere
) -> None:
    kept(book)
    execute("BEGIN", f"UPDATE library_book SET title = 'New' WHERE id = {book.pk}; COMMIT; BEGIN")
    assert elsewhere.do(lambda: ask(books, "get", pk=book.pk).title) == "New"
    execute("COMMIT")


def test_a_rollback_to_a_savepoint_that_fails_keeps_what_was_pending(
    ask: Ask, book: Book, elsewhere: Elsewhere
) -> None:
    kept(book)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SAVEPOINT a")
        retitle(book)
        with pytest.raises((DatabaseError, TypeError)):
            cursor.execute("ROLLBACK TO a", ["one parameter too many"])
    assert elsewhere.do(lambda: ask(books, "get", pk=book.pk).title) == "New"


def test_a_rollback_to_a_savepoint_that_a_wrapper_refuses_keeps_what_was_pending(
    ask: Ask, book: Book, elsewhere: Elsewhere
) -> None:
    def refuse(call: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if sql.startswith("ROLLBACK TO"):
            raise Abandoned
        return call(sql, *rest)

    kept(book)
    with transaction.atomic():
        savepoint = transaction.savepoint()
        retitle(book)
        with connection.execute_wrapper(refuse), pytest.raises(Abandoned):
            transaction.savepoint_rollback(savepoint)
    assert elsewhere.do(lambda: ask(books, "get", pk=book.pk).title) == "New"


# Statements. ------------------------------------------------------------------------------------


@pytest.fixture
def staged(postgresql: None, book: Book) -> Iterator[None]:
    """A schema with another table of books."""
    execute(
        "CREATE SCHEMA staging",
        "CREATE TABLE staging.library_book (LIKE public.library_book INCLUDING ALL)",
        f"INSERT INTO staging.library_book (id, title, hidden, stock) "
        f"VALUES ({book.pk}, 'Staged', false, 1)",
    )
    yield
    execute("DROP SCHEMA staging CASCADE")


@pytest.mark.usefixtures("staged")
def test_renaming_a_schema_changes_all_tables(ask: Ask, book: Book, elsewhere: Elsewhere) -> None:
    kept(book)
    execute("ALTER SCHEMA public RENAME TO old; ALTER SCHEMA staging RENAME TO public")
    try:
        assert elsewhere.do(lambda: ask(books, "get", pk=book.pk).title) == "Staged"
    finally:
        execute("ALTER SCHEMA public RENAME TO staging; ALTER SCHEMA old RENAME TO public")
    assert elsewhere.do(lambda: ask(books, "get", pk=book.pk).title) == "Old"


@pytest.mark.usefixtures("sqlite")
def test_the_models_own_table_is_seen_where_sqlite_takes_a_string_for_its_name(
    ask: Ask, book: Book
) -> None:
    number = RawSQL("(SELECT COUNT(*) FROM 'library_book')", [])
    counted = books.annotate(number=number)
    assert ask(counted, "get", pk=book.pk).number == 1
    Book.everything.create(title="Another")
    assert ask(counted, "get", pk=book.pk).number == 2


# What else lies in the store. -------------------------------------------------------------------


@pytest.mark.parametrize(
    "foreign", [b"9" * 5000, b"1" + b"0" * 30, b"-5", b"-0", b"", b"x", b"1.5", "٣".encode()]
)
def test_a_counter_that_is_none_of_ours_is_seeded_anew(
    ask: Ask, book: Book, foreign: bytes
) -> None:
    kept(book)
    for key in stored.counters():
        stored.put(key, foreign)
    with outcomes("miss", "hit"):
        for _ in range(2):
            assert ask(books, "get", pk=book.pk).title == "Old"
    retitle(book)
    assert ask(books, "get", pk=book.pk).title == "New"


FOREIGN: list[Callable[[Any, Any, Any], Any]] = [
    lambda version, tags, body: [version, {**tags, "nonsense": 5}, body],
    lambda version, tags, body: [version, {**tags, "g:{x}:id:9": 5}, body],
    lambda version, tags, body: [version, {**tags, "g:{x": 5}, body],
    lambda version, tags, body: [version, tags, 5],
    lambda version, tags, body: [version, tags, None],
    lambda version, tags, body: [version, {}, body],
    lambda version, tags, body: ["x", tags, body],
    lambda version, tags, body: 5,
]


@pytest.mark.parametrize("foreign", range(len(FOREIGN)))
def test_an_entry_that_is_none_of_ours_is_no_answer_and_no_error(
    ask: Ask, book: Book, foreign: int
) -> None:
    kept(book)
    ((key, data),) = stored.entries().items()
    stored.put(key, msgspec.msgpack.encode(FOREIGN[foreign](*msgspec.msgpack.decode(data)[:3])))
    with outcomes("miss", "hit"):
        for _ in range(2):
            assert ask(books, "get", pk=book.pk).title == "Old"
    retitle(book)
    assert ask(books, "get", pk=book.pk).title == "New"


def test_an_entry_with_any_of_its_bytes_changed_is_no_error(ask: Ask, book: Book) -> None:
    kept(book)
    ((key, data),) = stored.entries().items()
    for at in range(0, len(data), every(5)):
        stored.put(key, data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        assert ask(books, "get", pk=book.pk).pk is not None


# A store that reads gave up. --------------------------------------------------------------------


@pytest.fixture
def given_up(store: str, book: Book, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The book is kept; then three reads in this process have failed. The store is there."""
    monkeypatch.setattr(resilience, "PROBES", (3600.0,))
    kept(book)
    resolver = generations.resolver()
    assert resolver is not None
    for _ in range(resilience.FAILURES_TO_OPEN):
        resolver.breaker.failed(StoreUnavailable("The event loop was blocked."))
    with outcomes("bypass"):
        title_of(book)
    yield
    resolver.breaker.stop()


def as_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the store is asked by a resolver that has seen no failure."""
    monkeypatch.setattr(generations, "_current", None)


@pytest.mark.usefixtures("given_up")
def test_a_write_is_bumped_although_reads_have_failed(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    retitle(book)
    as_another_process(monkeypatch)
    assert title_of(book) == "New"


@pytest.mark.usefixtures("given_up")
def test_ainvalidate_is_bumped_although_reads_have_failed(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.run_unseen("UPDATE library_book SET title = 'New'")
    async_to_sync(ainvalidate)(book)
    as_another_process(monkeypatch)
    assert title_of(book) == "New"
