"""Writing (cases 16, 19, 20, 23, 26) to models of every kind: children of one and two tables,
proxies, twins, tables between, rows that a manager hides, primary keys of all types, generic
relations. After each write every cached answer is the database's."""

from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import UUID

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.models import Count, Q

from loom_cache import CachedRepository
from tests.cases.conftest import Ask, statements
from tests.cases.questions import Answers, Question, Questions, answers, assert_fresh_after, row
from tests.library.models import (
    Book,
    Cafe,
    Country,
    Day,
    Firm,
    Isbn,
    Letter,
    Loan,
    OpenShop,
    Place,
    Reader,
    Remark,
    Seat,
    Shelf,
    Shop,
)

__all__ = ["answers"]

pytestmark = pytest.mark.django_db(transaction=True)

SHOP, FIRM, CAFE = 1_000_001, 2_000_001, 1_000_002
TOP, MIDDLE, BOTTOM = 3_000_001, 3_000_002, 3_000_003
SHOWN, HIDDEN = 4_000_001, 4_000_002
EVE, BOB = UUID(int=1), UUID(int=2)
NEW_YEAR = date(2026, 1, 1)


class Places(CachedRepository[Place]):
    model = Place


class Shops(CachedRepository[Shop]):
    model = Shop


class OpenShops(CachedRepository[OpenShop]):
    queryset = OpenShop.objects.filter(open=True)


class Firms(CachedRepository[Firm]):
    model = Firm


class Cafes(CachedRepository[Cafe]):
    model = Cafe


class Shelves(CachedRepository[Shelf]):
    model = Shelf


class VisibleBooks(CachedRepository[Book]):
    model = Book


class Books(CachedRepository[Book]):
    queryset = Book.everything.all()


class Isbns(CachedRepository[Isbn]):
    model = Isbn


class Readers(CachedRepository[Reader]):
    model = Reader


class Loans(CachedRepository[Loan]):
    model = Loan


class Countries(CachedRepository[Country]):
    model = Country


class Letters(CachedRepository[Letter]):
    model = Letter


class Days(CachedRepository[Day]):
    model = Day


class Seats(CachedRepository[Seat]):
    model = Seat


class Remarks(CachedRepository[Remark]):
    queryset = Remark.objects.prefetch_related("about")


@pytest.fixture(autouse=True)
def library(transactional_db: None) -> None:
    """One of each, and of some two."""
    shop = Shop.objects.create(pk=SHOP, name="Loom & Co")
    cafe = Cafe(id=CAFE, number=FIRM, name="Weft", owner="Ida", seats=1)
    cafe.save(force_insert=True)
    top = Shelf.objects.create(pk=TOP, name="top", shop=shop)
    middle = Shelf.objects.create(pk=MIDDLE, name="middle", above=top)
    Shelf.objects.create(pk=BOTTOM, name="bottom", above=middle, shop=shop)
    shown = Book.everything.create(pk=SHOWN, title="Shown", isbn="1", shelf=middle)
    hidden = Book.everything.create(pk=HIDDEN, title="Hidden", isbn="2", shelf=top, hidden=True)
    eve, bob = (Reader.objects.create(pk=pk, name=n) for pk, n in ((EVE, "Eve"), (BOB, "Bob")))
    Loan.objects.create(book=shown, reader=eve)
    Loan.objects.create(book=hidden, reader=eve)
    Loan.objects.create(book=hidden, reader=bob)
    Country.objects.create(code="NO", name="Norway")
    Letter.objects.create(number=1, country=Country.objects.create(code="SE", name="Sweden"))
    Day.objects.create(date=NEW_YEAR)
    Seat.objects.create(cafe=cafe, number=1)
    Seat.objects.create(cafe=cafe, number=2)
    Remark.objects.create(text="About a shelf", kind=_kind(Shelf), key=TOP)
    Remark.objects.create(text="About a place", kind=_kind(Place), key=SHOP)


def _kind(model: Any) -> ContentType:
    return ContentType.objects.get_for_model(model)


QUESTIONS: Questions = {
    "a parent": row(places := Places(), pk=SHOP),
    "parents": Question(places, lambda q: q.order_by("pk")),
    "parents with their children": Question(
        places, lambda q: q.select_related("shop", "cafe").order_by("pk")
    ),
    "a child": row(shops := Shops(), pk=SHOP),
    "a child by its parent's column": row(shops, name="Loom & Co"),
    "a child's own columns": Question(shops, lambda q: q.filter(pk=SHOP).values("open")),
    "children": Question(shops, lambda q: q.order_by("pk")),
    "a proxy": row(OpenShops(), pk=SHOP),
    "the first of two parents": row(places, pk=CAFE),
    "the second of two parents": row(firms := Firms(), pk=FIRM),
    "a child of two": row(cafes := Cafes(), pk=CAFE),
    "children of two": Question(cafes, lambda q: q.filter(owner="Ida")),
    "a row and what it refers to": Question(
        shelves := Shelves(),
        lambda q: q.filter(pk=BOTTOM).select_related("above__above", "shop"),
    ),
    "a row two levels above": Question(shelves, lambda q: q.filter(above__above__name="top")),
    "rows and those below": Question(
        shelves, lambda q: q.prefetch_related("below__below", "books").order_by("pk")
    ),
    "a visible row": row(VisibleBooks(), pk=SHOWN),
    "a row that is not visible": row(VisibleBooks(), pk=HIDDEN),
    "visible rows": Question(VisibleBooks(), lambda q: q.order_by("pk")),
    "a hidden row": row(books := Books(), pk=HIDDEN),
    "all rows": Question(books, lambda q: q.order_by("pk")),
    "a count of hidden rows": Question(books, lambda q: q.filter(hidden=True), "count"),
    "a twin's row": row(isbns := Isbns(), pk="1"),
    "a twin's rows": Question(isbns, lambda q: q.order_by("pk")),
    "a row by its UUID": row(readers := Readers(), pk=EVE),
    "rows with rows through a model": Question(
        books, lambda q: q.prefetch_related("readers", "loan_set").order_by("pk")
    ),
    "the other side through a model": Question(
        readers, lambda q: q.filter(books__title="Hidden").order_by("name")
    ),
    "a count through a model": Question(
        readers, lambda q: q.annotate(n=Count("books")).order_by("name")
    ),
    "a condition on the model between": Question(
        books, lambda q: q.filter(Q(loan__days=14), loan__reader__name="Eve").order_by("pk")
    ),
    "levels of rows": Question(
        Loans(),
        lambda q: q.select_related("book__shelf__above__shop", "reader").order_by(
            "book", "reader__name"
        ),
    ),
    "a row by text": row(countries := Countries(), pk="SE"),
    "a row that refers to text": Question(Letters(), lambda q: q.select_related("country")),
    "a row by another text": row(countries, pk="SV"),
    "a row by a date": row(Days(), pk=NEW_YEAR),
    "a row by two columns": row(seats := Seats(), pk=(CAFE, 1)),
    "rows by one of two columns": Question(seats, lambda q: q.filter(cafe=CAFE).order_by("pk")),
    "a free seat": Question(seats, lambda q: q.filter(taken=False), "count"),
    "rows about any rows": Question(Remarks(), lambda q: q.order_by("pk")),
}

Write = Callable[[], object]
WRITES: dict[str, Write] = {}


def write(path: Write) -> Write:
    WRITES[path.__name__] = path
    return path


def saved(row: Any, **changes: Any) -> None:
    for name, value in changes.items():
        setattr(row, name, value)
    row.save()


def execute(statement: str, *params: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


# Children and proxies.


@write
def save_a_parent_that_is_a_child() -> None:
    saved(Place.objects.get(pk=SHOP), name="New")


@write
def save_the_parents_column_of_a_child() -> None:
    saved(Shop.objects.get(pk=SHOP), name="New")


@write
def save_the_childs_own_column() -> None:
    saved(Shop.objects.get(pk=SHOP), open=False)


@write
def save_one_field_of_a_child() -> None:
    shop = Shop.objects.get(pk=SHOP)
    shop.name = "New"
    shop.save(update_fields=["name"])


@write
def save_a_proxy() -> None:
    saved(OpenShop.objects.get(pk=SHOP), open=False, name="New")


@write
def update_a_parent() -> None:
    Place.objects.filter(pk=SHOP).update(name="New")


@write
def update_children_by_the_parents_column() -> None:
    Shop.objects.filter(name="Loom & Co").update(name="New")


@write
def update_children_in_both_tables() -> None:
    Shop.objects.update(name="New", open=False)


@write
def update_a_proxy() -> None:
    OpenShop.objects.filter(pk=SHOP).update(open=False)


@write
def bulk_update_the_parents_column_of_children() -> None:
    Shop.objects.bulk_update([Shop(pk=SHOP, name="New")], ["name"])


@write
def create_a_child() -> None:
    Shop.objects.create(name="New")


@write
def add_a_child_to_a_parent() -> None:
    Shop(place_ptr_id=CAFE, open=False).save_base(raw=True)


@write
def delete_a_parent() -> None:
    Place.objects.get(pk=SHOP).delete()


@write
def delete_a_child() -> None:
    Shop.objects.get(pk=SHOP).delete()


@write
def delete_a_child_and_keep_its_parent() -> None:
    Shop.objects.get(pk=SHOP).delete(keep_parents=True)


@write
def delete_a_proxy() -> None:
    OpenShop.objects.filter(pk=SHOP).delete()


@write
def save_the_second_of_two_parents() -> None:
    saved(Firm.objects.get(pk=FIRM), owner="Uma")


@write
def save_a_child_of_two() -> None:
    saved(Cafe.objects.get(pk=CAFE), owner="Uma", name="Warp", seats=7)


@write
def update_the_second_parents_column() -> None:
    Cafe.objects.update(owner="Uma")


@write
def delete_a_child_of_two() -> None:
    Cafe.objects.get(pk=CAFE).delete()


# Relations.


@write
def save_a_row_two_levels_above() -> None:
    saved(Shelf.objects.get(pk=TOP), name="roof")


@write
def move_a_row_in_the_middle() -> None:
    saved(Shelf.objects.get(pk=MIDDLE), above=None)


@write
def delete_that_sets_null_in_the_same_table() -> None:
    Shelf.objects.get(pk=MIDDLE).delete()


@write
def update_what_a_row_refers_to() -> None:
    Shelf.objects.filter(pk=MIDDLE).update(shop_id=SHOP)


@write
def create_a_row_between() -> None:
    Loan.objects.create(book_id=SHOWN, reader_id=BOB)


@write
def save_a_row_between() -> None:
    saved(Loan.objects.get(book=SHOWN), days=7)


@write
def delete_a_row_between() -> None:
    Loan.objects.get(book=SHOWN).delete()


@write
def add_through_a_model() -> None:
    Book.everything.get(pk=SHOWN).readers.add(
        Reader.objects.get(pk=BOB), through_defaults={"days": 3}
    )


@write
def remove_through_a_model() -> None:
    Reader.objects.get(pk=EVE).books.remove(Book.everything.get(pk=SHOWN))


@write
def set_through_a_model() -> None:
    Book.everything.get(pk=HIDDEN).readers.set([Reader.objects.get(pk=BOB)])


@write
def clear_through_a_model() -> None:
    Reader.objects.get(pk=EVE).books.clear()


@write
def save_a_row_that_a_remark_is_about() -> None:
    saved(Shelf.objects.get(pk=TOP), name="roof")


@write
def delete_a_row_that_a_remark_is_about() -> None:
    Shelf.objects.filter(pk=TOP).delete()


# Rows that the default manager hides, and twins.


@write
def save_a_hidden_row() -> None:
    saved(Book.everything.get(pk=HIDDEN), title="New")


@write
def show_a_hidden_row() -> None:
    Book.everything.filter(pk=HIDDEN).update(hidden=False)


@write
def hide_a_row() -> None:
    saved(Book.objects.get(pk=SHOWN), hidden=True)


@write
def delete_a_hidden_row() -> None:
    Book.everything.get(pk=HIDDEN).delete()


@write
def save_the_row_of_a_twin() -> None:
    saved(Isbn.objects.get(pk="1"), title="New")


@write
def update_the_row_of_a_twin_by_its_own_key() -> None:
    Isbn.objects.filter(pk="1").update(title="New")


@write
def update_a_row_that_has_a_twin() -> None:
    Book.everything.filter(pk=SHOWN).update(title="New")


@write
def delete_a_row_that_has_a_twin() -> None:
    Book.everything.filter(pk=SHOWN).delete()


# Primary keys.


@write
def save_a_row_by_its_uuid() -> None:
    saved(Reader.objects.get(pk=EVE), name="Eva")


@write
def sql_by_a_uuid_as_text() -> None:
    value = str(EVE) if connection.vendor == "postgresql" else EVE.hex
    execute("UPDATE library_reader SET name = 'Eva' WHERE id = %s", value)


@write
def delete_a_row_by_its_uuid() -> None:
    Reader.objects.filter(pk=EVE).delete()


@write
def save_a_row_by_text() -> None:
    saved(Country.objects.get(pk="SE"), name="Sverige")


@write
def create_a_row_by_text() -> None:
    Country.objects.create(code="SV", name="El Salvador")


@write
def update_the_primary_key_of_a_row() -> None:
    execute("DELETE FROM library_letter")
    Country.objects.filter(pk="SE").update(code="SV")


@write
def delete_a_row_by_text() -> None:
    Country.objects.get(pk="SE").delete()


@write
def save_a_row_by_a_date() -> None:
    saved(Day.objects.get(pk=NEW_YEAR), visitors=7)


@write
def sql_by_a_date() -> None:
    execute('UPDATE "library Open days" SET visitors = 7 WHERE date = %s', NEW_YEAR)


@write
def delete_a_row_by_a_date() -> None:
    Day.objects.filter(pk=NEW_YEAR).delete()


@write
def save_a_row_by_two_columns() -> None:
    saved(Seat.objects.get(pk=(CAFE, 1)), taken=True)


@write
def update_a_row_by_two_columns() -> None:
    Seat.objects.filter(pk=(CAFE, 1)).update(taken=True)


@write
def bulk_update_rows_by_two_columns() -> None:
    Seat.objects.bulk_update([Seat(cafe_id=CAFE, number=1, taken=True)], ["taken"])


@write
def delete_a_row_by_two_columns() -> None:
    Seat.objects.get(pk=(CAFE, 1)).delete()


PAIRS = pytest.mark.parametrize(
    ("store", "answers"), [("memory", "sync"), ("redis", "async")], indirect=True
)


@PAIRS
@pytest.mark.one_way
@pytest.mark.parametrize("path", WRITES.values(), ids=WRITES)
def test_every_answer_is_fresh_after(path: Write, answers: Answers) -> None:
    assert_fresh_after(path, QUESTIONS, answers)


@pytest.mark.parametrize(
    ("repository", "pk", "other"),
    [(Readers(), EVE, BOB), (Countries(), "SE", "NO"), (Shelves(), TOP, BOTTOM)],
    ids=["uuid", "text", "number"],
)
def test_saving_one_row_leaves_another_warm(
    repository: CachedRepository[Any], pk: Any, other: Any, ask: Ask
) -> None:
    ask(repository, "get", pk=other)
    repository.get_queryset().get(pk=pk).save()
    with statements(0):
        ask(repository, "get", pk=other)
