"""The paths by which a user of Django writes and that test_writing.py does not have: after each,
every cached answer is the database's."""

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.admin import AdminSite, ModelAdmin, TabularInline
from django.contrib.auth.models import User
from django.contrib.contenttypes.admin import GenericTabularInline
from django.contrib.contenttypes.forms import generic_inlineformset_factory
from django.core import serializers
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models import (
    Case,
    Count,
    Exists,
    F,
    IntegerField,
    OuterRef,
    Prefetch,
    ProtectedError,
    RestrictedError,
    Subquery,
    Sum,
    Value,
    When,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Concat, Upper
from django.db.models.signals import pre_save
from django.forms import inlineformset_factory, modelform_factory, modelformset_factory
from django.test import Client, override_settings
from django.urls import path as url
from psycopg import sql

from loom_cache import CachedRepository, invalidate
from testproject.news.models import Article, Author
from tests.cases.conftest import Ask, statements
from tests.cases.questions import (
    Answers,
    Question,
    Questions,
    answers,
    assert_fresh_after,
    assert_fresh_after_each,
    row,
    warm,
)
from tests.museum import models as m
from tests.museum.install import (
    ADA,
    BEN,
    CAT,
    CLAY,
    GOOD,
    LOOM,
    NORTH,
    POOR,
    SKY,
    SOUTH,
    TOWER,
    VASE,
    WOOL,
    museum,
    museum_app,
)

__all__ = ["answers", "museum", "museum_app"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("museum")]

POSTGRESQL = connection.vendor == "postgresql"
NEW, NEWER = 8_000_001, 8_000_002


class Works(CachedRepository[m.Work]):
    model = m.Work


class Artists(CachedRepository[m.Artist]):
    model = m.Artist


class Styles(CachedRepository[m.Style]):
    model = m.Style


class Reviews(CachedRepository[m.Review]):
    model = m.Review


class Venues(CachedRepository[m.Venue]):
    model = m.Venue


class Galleries(CachedRepository[m.Gallery]):
    model = m.Gallery


class Labels(CachedRepository[m.Label]):
    model = m.Label


class Slots(CachedRepository[m.Slot]):
    model = m.Slot


class Bookings(CachedRepository[m.Booking]):
    model = m.Booking


works, artists, styles, reviews = Works(), Artists(), Styles(), Reviews()

QUESTIONS: Questions = {
    "a row": row(works, pk=LOOM),
    "a row that is missing": row(works, pk=NEW),
    "rows by primary key": Question(works, lambda q: q, "in_bulk", ([LOOM, SKY, NEWER],)),
    "a row by a unique column": row(works, number="w1"),
    "a row that is missing by a unique column": row(works, number="new"),
    "rows": Question(works, lambda q: q),
    "rows by their parent": Question(works, lambda q: q.filter(artist=ADA)),
    "rows by another parent": Question(works, lambda q: q.filter(artist_id=BEN)),
    "rows by a parent without any": Question(works, lambda q: q.filter(artist=CAT)),
    "rows without a parent": Question(works, lambda q: q.filter(gallery=None), "count"),
    "rows by a flag": Question(works, lambda q: q.filter(sold=True)),
    "a count by a flag": Question(works, lambda q: q.filter(sold=False), "count"),
    "a count by two columns": Question(works, lambda q: q.filter(artist=ADA, sold=False), "count"),
    "whether there is one": Question(works, lambda q: q.filter(title="New"), "exists"),
    "a sum": Question(
        works, lambda q: q.filter(artist=ADA), "aggregate", kwargs={"s": Sum("price")}
    ),
    "a slice": Question(works, lambda q: q.order_by("-price", "pk")[:2]),
    "a row and its parents": Question(
        works, lambda q: q.filter(pk=LOOM).select_related("artist", "gallery"), "get_or_none"
    ),
    "rows over a table between": Question(works, lambda q: q.filter(styles=WOOL)),
    "a count over a table between": Question(
        styles, lambda q: q.annotate(n=Count("works")).order_by("pk")
    ),
    "a row and those over a table between": Question(
        works, lambda q: q.filter(pk=LOOM).prefetch_related("styles"), "get_or_none"
    ),
    "a row and those that refer to it": Question(
        artists, lambda q: q.filter(pk=ADA).prefetch_related("works__styles"), "get_or_none"
    ),
    "rows and some that refer to them": Question(
        artists,
        lambda q: q.prefetch_related(Prefetch("works", m.Work.objects.filter(sold=False))),
    ),
    "rows and the one that refers to them": Question(
        artists, lambda q: q.select_related("biography", "mentor")
    ),
    "rows by a text": Question(artists, lambda q: q.filter(country="NO")),
    "rows by another's text": Question(works, lambda q: q.filter(artist__country="NO")),
    "a row and what is said about it": Question(
        works, lambda q: q.filter(pk=LOOM).prefetch_related("reviews"), "get_or_none"
    ),
    "rows about any rows": Question(reviews, lambda q: q.prefetch_related("about")),
    "a parent": row(Venues(), pk=NORTH),
    "children by a column of their parent": Question(
        galleries := Galleries(), lambda q: q.filter(name="North")
    ),
    "children by a column of their own": Question(galleries, lambda q: q.filter(light="lamps")),
    "a twin's rows": Question(Labels(), lambda q: q.filter(artist_id=ADA)),
    "a row by two columns": row(slots := Slots(), pk=(TOWER, 1)),
    "rows by one of two columns": Question(slots, lambda q: q.filter(hall=TOWER)),
    "a row that refers to two columns": Question(Bookings(), lambda q: q.select_related("slot")),
}

Write = Callable[[], object]
WRITES: dict[str, Write] = {}


def write(path: Write) -> Write:
    assert path.__name__ not in WRITES
    WRITES[path.__name__] = path
    return path


def only_on_postgresql(path: Write) -> Write:
    return write(path) if POSTGRESQL else path


def only_on_sqlite(path: Write) -> Write:
    return path if POSTGRESQL else write(path)


def wait(work: Awaitable[object]) -> None:
    async def done() -> object:
        return await work

    async_to_sync(done)()


def execute(statement: Any, params: Any = None) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else None


def loom() -> Any:
    return m.Work.objects.get(pk=LOOM)


def new_work(number: str = "new", **values: Any) -> Any:
    return m.Work(**{"number": number, "title": "New", "artist_id": ADA, **values})


# Asynchronously. ---------------------------------------------------------------------------------


@write
def asave_a_new_row() -> None:
    wait(new_work(pk=NEW).asave())


@write
def asave_some_columns() -> None:
    work = loom()
    work.artist_id, work.title = BEN, "not saved"
    wait(work.asave(update_fields=["artist"]))


@write
def adelete() -> None:
    wait(loom().adelete())


@write
def adelete_rows() -> None:
    wait(m.Work.objects.filter(artist__country="NO", sold=False).adelete())


@write
def acreate() -> None:
    wait(m.Work.objects.acreate(number="new", title="New", artist_id=CAT, sold=True))


@write
def aupdate() -> None:
    wait(m.Work.objects.filter(sold=False).aupdate(sold=True, artist=CAT))


@write
def abulk_create() -> None:
    wait(m.Work.objects.abulk_create(new_work(number) for number in ("new", "newer")))


@write
def abulk_create_that_ignores_conflicts() -> None:
    new = [new_work("w1", artist_id=CAT), new_work(artist_id=CAT)]
    wait(m.Work.objects.abulk_create(new, ignore_conflicts=True))


@write
def abulk_create_that_updates_conflicts() -> None:
    new = [new_work("w1", artist_id=CAT), new_work("w3", artist_id=CAT)]
    wait(
        m.Work.objects.abulk_create(
            new, update_conflicts=True, unique_fields=["number"], update_fields=["artist"]
        )
    )


@write
def abulk_update() -> None:
    moved = [m.Work(pk=LOOM, artist_id=BEN), m.Work(pk=SKY, artist_id=CAT)]
    wait(m.Work.objects.abulk_update(moved, ["artist"], batch_size=1))


@write
def aget_or_create() -> None:
    wait(m.Work.objects.aget_or_create(number="new", defaults={"artist_id": BEN, "title": "New"}))


@write
def aupdate_or_create_that_updates() -> None:
    wait(m.Work.objects.aupdate_or_create(number="w1", defaults={"artist_id": BEN}))


@write
def aupdate_or_create_that_creates() -> None:
    wait(
        m.Work.objects.aupdate_or_create(
            number="new", defaults={"title": "Old"}, create_defaults={"artist_id": CAT}
        )
    )


def astyle(pk: int) -> Any:
    return m.Style.objects.get(pk=pk).works


def aworks(pk: int) -> Any:
    return m.Artist.objects.get(pk=pk).works


def ahanging() -> Any:
    return m.Gallery.objects.get(pk=NORTH).works


def vase() -> Any:
    return m.Work.objects.get(pk=VASE)


def poor() -> Any:
    return m.Review.objects.get(pk=POOR)


# Writes that follow on each other: each changes an answer.
STORIES: dict[str, list[Write]] = {
    "over a table between": [
        lambda: wait(loom().styles.aadd(CLAY)),
        lambda: wait(loom().styles.aremove(WOOL)),
        lambda: wait(loom().styles.aset([WOOL])),
        lambda: wait(loom().styles.acreate(name="new")),
        lambda: wait(loom().styles.aget_or_create(name="newer")),
        lambda: wait(loom().styles.aupdate_or_create(name="wool", defaults={"name": "felt"})),
        lambda: wait(loom().styles.aclear()),
    ],
    "over a table between, from the other side": [
        lambda: wait(astyle(CLAY).aadd(LOOM, VASE)),
        lambda: wait(astyle(WOOL).aremove(loom())),
        lambda: wait(astyle(CLAY).aset([LOOM], clear=True)),
        lambda: wait(astyle(WOOL).acreate(number="new", title="New", artist_id=CAT)),
        lambda: wait(astyle(CLAY).aclear()),
    ],
    "on the many side": [
        lambda: wait(aworks(CAT).acreate(number="new", title="New")),
        lambda: wait(aworks(CAT).aget_or_create(number="newer")),
        lambda: wait(aworks(CAT).aupdate_or_create(number="new", defaults={"sold": True})),
        lambda: wait(aworks(CAT).aadd(loom())),
        lambda: wait(aworks(BEN).aadd(loom(), bulk=False)),
    ],
    "on the many side of what may be null": [
        lambda: wait(ahanging().aset([vase()])),
        lambda: wait(ahanging().aadd(loom())),
        lambda: wait(ahanging().aremove(vase())),
        lambda: wait(ahanging().aset([vase()], clear=True)),
        lambda: wait(ahanging().aclear()),
    ],
    "of a generic relation": [
        lambda: wait(loom().reviews.acreate(stars=1)),
        lambda: wait(loom().reviews.aadd(poor())),
        lambda: wait(loom().reviews.aset([m.Review.objects.get(pk=GOOD)])),
        lambda: wait(loom().reviews.aclear()),
    ],
    "on the many side, synchronously": [
        lambda: m.Artist.objects.get(pk=CAT).works.add(loom(), bulk=False),
        lambda: ahanging().remove(loom()),
        lambda: ahanging().set([vase()], clear=True),
        lambda: loom().styles.set([WOOL, CLAY]),
        lambda: ahanging().update(sold=True),
        lambda: ahanging().all().delete(),
    ],
    "of a generic relation, synchronously": [
        lambda: loom().reviews.add(poor()),
        lambda: loom().reviews.remove(m.Review.objects.get(pk=GOOD)),
        lambda: loom().reviews.update(stars=2),
        lambda: loom().reviews.set([]),
    ],
}


# Instances. --------------------------------------------------------------------------------------


@write
def save_an_instance_that_was_never_loaded() -> None:
    """Nobody on this side knows whose work it was."""
    m.Work(pk=LOOM, number="w1", title="Loom", artist_id=CAT, sold=True).save()


@write
def save_an_instance_that_is_behind() -> None:
    behind = loom()
    m.Work.objects.filter(pk=LOOM).update(artist=BEN, sold=True)
    behind.artist_id = CAT
    behind.save()


@write
def delete_an_instance_that_is_behind() -> None:
    behind = loom()
    m.Work.objects.filter(pk=LOOM).update(artist=BEN, sold=True, gallery=SOUTH)
    behind.delete()


@write
def delete_an_instance_that_was_never_loaded() -> None:
    m.Work(pk=LOOM).delete()


@write
def save_a_copy() -> None:
    copy = loom()
    copy.pk, copy.number = None, "new"
    copy.save()


@write
def save_a_copy_under_another_primary_key() -> None:
    copy = loom()
    copy.pk, copy.number = NEW, "new"
    copy.save()


@write
def save_over_another_row() -> None:
    copy = loom()
    copy.pk, copy.number = SKY, "w3"
    copy.save()


@write
def save_with_a_foreign_key_by_an_expression() -> None:
    work = loom()
    work.artist_id = Subquery(m.Artist.objects.filter(code="cat").values("pk")[:1])
    work.save(update_fields=["artist"])


@write
def save_after_a_receiver_has_changed_it() -> None:
    def give_away(instance: Any, **_: object) -> None:
        instance.artist_id = CAT

    pre_save.connect(give_away, sender=m.Work)
    try:
        loom().save()
    finally:
        assert pre_save.disconnect(give_away, sender=m.Work)


@write
def save_after_the_same_instance_was_saved_in_vain() -> None:
    work = loom()
    work.artist_id, work.number = CAT, "w3"
    with suppress(IntegrityError):
        work.save()
    work.number = "w1"
    work.save()


@write
def save_through_a_relation() -> None:
    work = m.Work.objects.select_related("artist").get(pk=LOOM)
    work.artist.country = "DK"
    work.artist.save()


@write
def save_the_one_that_refers() -> None:
    m.Biography(artist=m.Artist.objects.get(pk=CAT), text="New").save()


@write
def save_a_row_of_the_third_level() -> None:
    gallery = m.Gallery.objects.get(pk=SOUTH)
    gallery.name, gallery.light = "North", "daylight"
    gallery.save()


@write
def save_a_column_of_the_first_level_through_the_third() -> None:
    gallery = m.Gallery.objects.get(pk=SOUTH)
    gallery.name = "North"
    gallery.save(update_fields=["name"])


@write
def save_a_row_by_two_columns_over_another() -> None:
    m.Slot(hall_id=TOWER, number=1, taken=True).save()


# Many rows. --------------------------------------------------------------------------------------


@write
def bulk_create_with_primary_keys() -> None:
    m.Work.objects.bulk_create([new_work(pk=NEW), new_work("newer", pk=NEWER, artist_id=CAT)])


@write
def bulk_create_with_an_expression() -> None:
    m.Work.objects.bulk_create([new_work(title=Upper(Value("new"))), new_work("newer")])


@write
def bulk_create_in_batches_of_a_generator() -> None:
    m.Work.objects.bulk_create((new_work(f"new{n}") for n in range(5)), batch_size=2)


@write
def bulk_create_of_one_on_the_many_side() -> None:
    m.Artist.objects.get(pk=CAT).works.bulk_create([new_work(artist_id=CAT)])


@write
def bulk_create_that_updates_conflicts_by_primary_key() -> None:
    m.Work.objects.bulk_create(
        [new_work("w9", pk=LOOM, artist_id=CAT)],
        update_conflicts=True,
        unique_fields=["pk"],
        update_fields=["number", "artist", "sold"],
    )


@write
def bulk_create_that_updates_conflicts_of_two_columns() -> None:
    m.Slot.objects.bulk_create(
        [m.Slot(hall_id=TOWER, number=number, taken=True) for number in (1, 9)],
        update_conflicts=True,
        unique_fields=["hall", "number"],
        update_fields=["taken"],
    )


@write
def bulk_update_with_expressions() -> None:
    rows = [m.Work(pk=LOOM, price=F("price") + 30), m.Work(pk=SKY, price=Value(Decimal(1)))]
    m.Work.objects.bulk_update(rows, ["price"])


@write
def bulk_update_of_instances_that_are_behind() -> None:
    rows = list(m.Work.objects.all())
    m.Work.objects.update(artist=BEN)
    for work in rows:
        work.artist_id = CAT
    m.Work.objects.bulk_update(rows, ["artist", "gallery"])


@write
def update_by_a_subquery() -> None:
    of_artist = m.Artist.objects.filter(pk=OuterRef("artist"))
    m.Work.objects.filter(sold=False).update(title=Subquery(of_artist.values("name")[:1]))


@write
def update_of_a_foreign_key_by_a_subquery() -> None:
    pupils = m.Artist.objects.filter(mentor=OuterRef("artist")).values("pk")
    m.Work.objects.filter(artist=ADA).update(artist=Subquery(pupils[:1]))


@write
def update_by_another_column() -> None:
    m.Work.objects.filter(pk=LOOM).update(title=Concat("number", Value("!")), price=F("price") * 9)


@write
def update_by_a_case() -> None:
    cat = m.Artist.objects.filter(pk=CAT).values("pk")
    m.Work.objects.update(artist=Case(When(sold=True, then=cat), default=F("artist")))


@write
def update_of_rows_by_the_column_that_changes() -> None:
    m.Work.objects.filter(artist=ADA).update(artist=CAT)


@write
def update_of_rows_by_two_columns() -> None:
    m.Work.objects.filter(artist=ADA, sold=False).update(sold=True)


@write
def update_of_rows_without_a_parent() -> None:
    m.Work.objects.filter(gallery__isnull=True).update(gallery=NORTH)


@write
def update_of_rows_over_a_table_between() -> None:
    m.Work.objects.filter(styles__name="wool").update(artist=CAT)


@write
def update_of_rows_that_are_left_out() -> None:
    m.Work.objects.exclude(styles__name="clay").update(sold=True)


@write
def update_of_rows_with_a_subquery() -> None:
    reviewed = m.Review.objects.filter(key=OuterRef("pk"), stars=5)
    m.Work.objects.filter(Exists(reviewed)).update(artist=BEN)


@write
def update_of_a_slice() -> None:
    m.Work.objects.filter(pk__in=m.Work.objects.order_by("price").values("pk")[:1]).update(
        sold=True
    )


@write
def update_of_annotated_rows() -> None:
    m.Work.objects.annotate(n=Count("styles")).filter(n=0).update(artist=BEN)


@write
def update_over_a_table_between() -> None:
    loom().styles.update(name="felt")


@write
def update_of_a_twin() -> None:
    m.Label.objects.filter(title="Loom").update(artist_id=CAT)


@write
def update_of_two_levels() -> None:
    m.Gallery.objects.filter(light="lamps").update(name="North", light="daylight")


@write
def update_of_a_primary_key() -> None:
    m.Review.objects.all().delete()
    m.Work.styles.through.objects.all().delete()
    m.Work.objects.filter(pk=LOOM).update(id=NEW)


@write
def update_of_all_primary_keys() -> None:
    m.Work.styles.through.objects.all().delete()
    m.Work.objects.update(id=F("id") + NEW - LOOM)


@write
def update_of_one_of_two_columns_of_a_primary_key() -> None:
    m.Slot.objects.filter(pk=(NORTH, 1)).update(hall=TOWER, number=7)


@write
def select_for_update_and_save() -> None:
    with transaction.atomic():
        work = m.Work.objects.select_for_update().get(number="w1")
        work.artist_id = CAT
        work.save()


@only_on_postgresql
def select_for_update_of_one_table_and_update() -> None:
    with transaction.atomic():
        locked = m.Work.objects.select_related("artist").select_for_update(
            of=("self",), skip_locked=True, no_key=True
        )
        m.Work.objects.filter(pk__in=[work.pk for work in locked]).update(sold=True)


# Deletions. --------------------------------------------------------------------------------------


@write
def delete_over_a_table_between() -> None:
    loom().styles.all().delete()


@write
def delete_of_a_slice() -> None:
    m.Work.objects.filter(pk__in=m.Work.objects.order_by("pk").values("pk")[:1]).delete()


@write
def delete_that_takes_a_generic_relation_along() -> None:
    m.Work.objects.filter(pk=LOOM).delete()


@write
def delete_of_a_generic_relation() -> None:
    loom().reviews.all().delete()


@write
def delete_of_all() -> None:
    m.Artist.objects.all().delete()


@write
def delete_of_the_first_level() -> None:
    m.Venue.objects.get(pk=NORTH).delete()


@write
def delete_of_the_second_level_that_keeps_the_first() -> None:
    m.Hall.objects.get(pk=NORTH).delete(keep_parents=True)


@write
def delete_of_a_row_that_is_referred_to_by_another_column() -> None:
    m.Artist.objects.get(pk=ADA).delete()


@write
def delete_of_a_row_that_is_referred_to_by_two_columns() -> None:
    m.Slot.objects.get(pk=(TOWER, 1)).delete()


# Relations. --------------------------------------------------------------------------------------


@write
def change_what_a_remark_is_about() -> None:
    review = m.Review.objects.get(pk=POOR)
    review.about = m.Gallery.objects.get(pk=NORTH)
    review.save()


# SQL. --------------------------------------------------------------------------------------------


@write
def sql_for_dictionaries_of_parameters() -> None:
    rows = [{"artist": CAT, "pk": pk} for pk in (LOOM, SKY)]
    with connection.cursor() as cursor:
        text = "UPDATE museum_work SET artist_id = %(artist)s WHERE id = %(pk)s"
        cursor.executemany(text, rows)


@write
def sql_that_inserts_for_a_generator_of_parameters() -> None:
    with connection.cursor() as cursor:
        given: Any = ((name,) for name in ("new", "newer"))
        cursor.executemany("INSERT INTO museum_style (name) VALUES (%s)", given)


@write
def sql_by_an_equal_value() -> None:
    execute("UPDATE museum_work SET sold = %s WHERE artist_id = %s", [True, ADA])


@write
def sql_that_deletes_by_an_equal_value() -> None:
    execute("DELETE FROM museum_review WHERE key = %s", [LOOM])


@write
def sql_that_inserts_what_it_selects() -> None:
    execute(
        "INSERT INTO museum_review (kind_id, key, stars, text) "
        "SELECT kind_id, %s, stars, text FROM museum_review WHERE id = %s",
        [LOOM, POOR],
    )


@write
def sql_that_inserts_or_does_nothing() -> None:
    execute("INSERT INTO museum_style (name) VALUES ('wool'), ('new') ON CONFLICT DO NOTHING")


@write
def sql_that_deletes_and_returns() -> None:
    deleted = execute("DELETE FROM museum_review WHERE stars < %s RETURNING id, text", [3])
    assert deleted == [(POOR, "Poor")]


@write
def sql_that_updates_and_returns_as_a_raw_queryset() -> None:
    text = "UPDATE museum_work SET artist_id = %s WHERE number = %s RETURNING *"
    assert [work.pk for work in m.Work.objects.raw(text, [CAT, "w1"])] == [LOOM]


@write
def sql_that_updates_from_another_table() -> None:
    execute(
        "UPDATE museum_work SET title = museum_artist.name FROM museum_artist "
        "WHERE museum_artist.id = museum_work.artist_id"
    )


@write
def sql_that_deletes_after_a_common_table_expression() -> None:
    execute(
        "WITH chosen AS (SELECT id FROM museum_work WHERE sold) DELETE FROM museum_review "
        "WHERE key IN (SELECT id FROM chosen)"
    )


@only_on_sqlite
def sql_that_replaces() -> None:
    execute("REPLACE INTO museum_style (id, name) VALUES (%s, 'felt')", [WOOL])


@only_on_sqlite
def sql_that_inserts_or_replaces() -> None:
    execute("INSERT OR REPLACE INTO museum_style (id, name) VALUES (%s, 'felt')", [WOOL])


@only_on_sqlite
def sql_that_updates_or_ignores() -> None:
    execute("UPDATE OR IGNORE museum_style SET name = 'new'")


@only_on_postgresql
def sql_with_a_deletion_in_a_common_table_expression() -> None:
    rows = execute(
        "WITH gone AS (DELETE FROM museum_review WHERE stars = %s RETURNING text) "
        "SELECT text FROM gone",
        [5],
    )
    assert rows == [("Good",)]


@only_on_postgresql
def sql_with_an_update_and_an_insert_in_a_common_table_expression() -> None:
    execute(
        "WITH moved AS (UPDATE museum_work SET artist_id = %s WHERE id = %s RETURNING title) "
        "INSERT INTO museum_style (name) SELECT title FROM moved",
        [CAT, LOOM],
    )


@only_on_postgresql
def sql_that_truncates_and_restarts() -> None:
    execute("TRUNCATE museum_review, museum_booking RESTART IDENTITY CASCADE")


@only_on_postgresql
def sql_that_copies() -> None:
    execute("COPY museum_style (name) FROM PROGRAM 'echo new'")


@only_on_postgresql
def sql_that_runs_what_was_prepared() -> None:
    execute("PREPARE give (bigint) AS UPDATE museum_work SET artist_id = $1")
    try:
        execute(f"EXECUTE give ({CAT})")
    finally:
        execute("DEALLOCATE give")


@only_on_postgresql
def sql_that_calls_a_procedure() -> None:
    execute(
        f"CREATE PROCEDURE give() LANGUAGE SQL AS $$ UPDATE museum_work SET artist_id = {CAT} $$"
    )
    try:
        execute("CALL give()")
    finally:
        execute("DROP PROCEDURE give")


@only_on_postgresql
def sql_joined_by_psycopg() -> None:
    parts = [sql.SQL("DELETE FROM"), sql.Identifier("museum_review"), sql.SQL("WHERE key =")]
    execute(sql.SQL(" ").join([*parts, sql.Literal(LOOM)]))


@only_on_postgresql
def sql_of_psycopg_for_a_list_of_parameters() -> None:
    text = sql.SQL("UPDATE {} SET artist_id = {} WHERE id = {}").format(
        sql.Identifier("public", "museum_work"), sql.Placeholder("artist"), sql.Placeholder("pk")
    )
    with connection.cursor() as cursor:
        given: Any = ({"artist": CAT, "pk": pk} for pk in (LOOM, SKY))
        cursor.executemany(text, given)


@only_on_postgresql
def sql_of_psycopg_in_a_common_table_expression() -> None:
    inner = sql.SQL("UPDATE museum_artist SET country = {} RETURNING id").format("DK")
    execute(sql.SQL("WITH moved AS (") + inner + sql.SQL(") SELECT id FROM moved"))


# Forms, fixtures. --------------------------------------------------------------------------------

WorkForm: Any = modelform_factory(m.Work, fields=["title", "number", "artist", "styles"])


@write
def a_form_of_a_model() -> None:
    data = {"title": "New", "number": "w1", "artist": CAT, "styles": [CLAY]}
    WorkForm(data, instance=loom()).save()


@write
def a_form_that_saves_what_is_between_later() -> None:
    form = WorkForm({"title": "New", "number": "new", "artist": CAT, "styles": [CLAY, WOOL]})
    form.save(commit=False).save()
    form.save_m2m()


def forms(prefix: str, *rows: dict[str, Any], initial: int) -> dict[str, Any]:
    """What a browser sends of several forms."""
    data = {f"{prefix}-TOTAL_FORMS": len(rows), f"{prefix}-INITIAL_FORMS": initial}
    for at, fields in enumerate(rows):
        data.update({f"{prefix}-{at}-{name}": value for name, value in fields.items()})
    return data


@write
def a_set_of_forms() -> None:
    kind: Any = modelformset_factory(m.Style, fields=["name"], can_delete=True)
    rows = [{"id": CLAY, "name": "loam"}, {"id": WOOL, "name": "wool", "DELETE": "on"}]
    formset = kind(forms("form", *rows, {"name": "new"}, initial=2))
    assert formset.is_valid(), formset.errors
    formset.save()


@write
def a_set_of_forms_on_the_many_side() -> None:
    kind: Any = inlineformset_factory(m.Artist, m.Work, fields=["title", "number", "sold"])
    rows: list[dict[str, Any]] = [
        {"id": LOOM, "title": "Renamed", "number": "w1", "sold": "on"},
        {"id": VASE, "title": "Vase", "number": "w2", "DELETE": "on"},
        {"title": "New", "number": "new"},
    ]
    formset = kind(forms("works", *rows, initial=2), instance=m.Artist.objects.get(pk=ADA))
    assert formset.is_valid(), formset.errors
    formset.save()


@write
def a_set_of_forms_of_a_generic_relation() -> None:
    kind: Any = generic_inlineformset_factory(
        m.Review, ct_field="kind", fk_field="key", fields=["stars"]
    )
    prefix = kind.get_default_prefix()
    data = forms(prefix, {"id": GOOD, "stars": 1}, {"stars": 2}, initial=1)
    formset = kind(data, instance=loom())
    assert formset.is_valid(), formset.errors
    formset.save()


@write
def rows_that_were_serialized() -> None:
    text = serializers.serialize("json", m.Work.objects.filter(pk=LOOM))
    [record] = json.loads(text)
    record["fields"].update(artist=CAT, styles=[CLAY])
    for each in serializers.deserialize("json", json.dumps([record])):
        each.save()


# Each path is gone with one store and one way of asking.
WAYS = [("memory", "async"), ("redis", "sync")]


def pairs(paths: dict[str, Any]) -> list[Any]:
    """In a run on PostgreSQL the other ones than in a run on SQLite."""
    return [
        pytest.param(path, *WAYS[(at + POSTGRESQL) % 2], id=name)
        for at, (name, path) in enumerate(paths.items())
    ]


@pytest.mark.parametrize(("path", "store", "answers"), pairs(WRITES), indirect=["store", "answers"])
def test_every_answer_is_fresh_after(path: Write, answers: Answers) -> None:
    assert_fresh_after(path, QUESTIONS, answers)


@pytest.mark.parametrize(
    ("story", "store", "answers"), pairs(STORIES), indirect=["store", "answers"]
)
def test_every_answer_is_fresh_after_each_write_of_a_relation(
    story: list[Write], answers: Answers
) -> None:
    assert_fresh_after_each(story, QUESTIONS, answers)


# What the database works out by itself. ----------------------------------------------------------


class Frames(CachedRepository[m.Frame]):
    model = m.Frame


frames = Frames()
OAK = 7_000_001
OF_FRAMES: Questions = {
    "a row": row(frames, pk=OAK),
    "rows by a generated column": Question(frames, lambda q: q.filter(area=12)),
    "a count by a generated column": Question(frames, lambda q: q.filter(area=6), "count"),
    "rows by a generated text": Question(frames, lambda q: q.filter(shouted="ELM")),
    "rows by a column with a default of the database": Question(
        frames, lambda q: q.filter(finish="plain")
    ),
    "a count by two columns": Question(frames, lambda q: q.filter(height=1, area=3), "count"),
    "generated columns by others": Question(
        frames, lambda q: q.filter(height=3).values_list("area", "shouted")
    ),
    "a sum of a generated column": Question(
        frames, lambda q: q.filter(finish="plain"), "aggregate", kwargs={"s": Sum("area")}
    ),
    "a later row by a generated column": Question(
        frames, lambda q: q.filter(finish="plain").order_by("area")[1:2]
    ),
}


def save_what_a_generated_column_is_made_of() -> None:
    frame = m.Frame.objects.get(pk=OAK)
    frame.width = 4
    frame.save()


def save_some_of_what_a_generated_column_is_made_of() -> None:
    m.Frame(pk=OAK, width=4).save(update_fields=["width"])


FRAMED: dict[str, Write] = {
    path.__name__: path
    for path in (
        save_what_a_generated_column_is_made_of,
        save_some_of_what_a_generated_column_is_made_of,
    )
} | {
    "update by primary key": lambda: m.Frame.objects.filter(pk=OAK).update(width=F("width") * 2),
    "update by a generated column": lambda: m.Frame.objects.filter(area=6).update(height=6),
    "update of a text": lambda: m.Frame.objects.filter(pk=OAK).update(wood="elm"),
    "bulk_update": lambda: m.Frame.objects.bulk_update([m.Frame(pk=OAK, width=4)], ["width"]),
    "create": lambda: m.Frame.objects.create(width=3),
    "bulk_create": lambda: m.Frame.objects.bulk_create([m.Frame(width=3), m.Frame(width=12)]),
    "acreate": lambda: wait(m.Frame.objects.acreate(width=12, wood="elm")),
    "sql": lambda: execute("UPDATE museum_frame SET width = %s WHERE id = %s", [4, OAK]),
    "sql that inserts": lambda: execute("INSERT INTO museum_frame (width, wood) VALUES (3, 'elm')"),
    "delete": lambda: m.Frame.objects.get(pk=OAK).delete(),
}


@pytest.fixture
def oak(museum: None) -> None:
    m.Frame.objects.create(pk=OAK, width=2, height=3)


@pytest.mark.usefixtures("oak")
@pytest.mark.parametrize(("path", "store", "answers"), pairs(FRAMED), indirect=["store", "answers"])
def test_every_answer_by_what_the_database_works_out_is_fresh_after(
    path: Write, answers: Answers
) -> None:
    assert_fresh_after(path, OF_FRAMES, answers)


class Ledgers(CachedRepository[m.Ledger]):
    model = m.Ledger


ledgers = Ledgers()
BOOK = 7_000_002
OF_LEDGERS: Questions = {
    "a row": row(ledgers, pk=BOOK),
    "rows": Question(ledgers, lambda q: q),
    "rows by what the trigger sets": Question(ledgers, lambda q: q.filter(state="rich")),
    "a count by what the trigger sets": Question(
        ledgers, lambda q: q.filter(state="poor"), "count"
    ),
    "rows by both": Question(ledgers, lambda q: q.filter(amount=500, state="rich")),
}
"""Of its own row, a trigger sets the state to rich or poor."""
TRIGGERS = {
    "sqlite": [
        f"CREATE TRIGGER museum_{event.lower()} AFTER {event} ON museum_ledger BEGIN "
        "UPDATE museum_ledger SET state = CASE WHEN amount > 100 THEN 'rich' ELSE 'poor' END "
        "WHERE id = NEW.id; END"
        for event in ("INSERT", "UPDATE")
    ],
    "postgresql": [
        (
            "CREATE FUNCTION museum_state() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "NEW.state = CASE WHEN NEW.amount > 100 THEN 'rich' ELSE 'poor' END; RETURN NEW; END $$"
        ),
        (
            "CREATE TRIGGER museum_state BEFORE INSERT OR UPDATE ON museum_ledger "
            "FOR EACH ROW EXECUTE FUNCTION museum_state()"
        ),
    ],
}
WITHOUT_TRIGGERS = {
    "sqlite": ["DROP TRIGGER museum_insert", "DROP TRIGGER museum_update"],
    "postgresql": ["DROP TRIGGER museum_state ON museum_ledger", "DROP FUNCTION museum_state"],
}


@pytest.fixture
def triggers(museum: None) -> Iterator[None]:
    for statement in TRIGGERS[connection.vendor]:
        execute(statement)
    m.Ledger.objects.create(pk=BOOK, amount=1)
    yield
    for statement in WITHOUT_TRIGGERS[connection.vendor]:
        execute(statement)


def save_what_the_trigger_looks_at() -> None:
    ledger = m.Ledger.objects.get(pk=BOOK)
    ledger.amount = 500
    ledger.save()


TRIGGERED: dict[str, Write] = {
    "save": save_what_the_trigger_looks_at,
    "save of one column": lambda: m.Ledger(pk=BOOK, amount=500).save(update_fields=["amount"]),
    "update by primary key": lambda: m.Ledger.objects.filter(pk=BOOK).update(amount=500),
    "update by a column": lambda: m.Ledger.objects.filter(state="poor").update(
        amount=F("amount") * 500
    ),
    "bulk_update": lambda: m.Ledger.objects.bulk_update(
        [m.Ledger(pk=BOOK, amount=500)], ["amount"]
    ),
    "create": lambda: m.Ledger.objects.create(amount=500),
    "bulk_create": lambda: m.Ledger.objects.bulk_create([m.Ledger(amount=500), m.Ledger(amount=5)]),
    "sql": lambda: execute("UPDATE museum_ledger SET amount = 500 WHERE id = %s", [BOOK]),
    "sql by a value": lambda: execute("UPDATE museum_ledger SET amount = 500 WHERE amount = 1"),
    "delete": lambda: m.Ledger.objects.get(pk=BOOK).delete(),
}


@pytest.mark.usefixtures("triggers")
@pytest.mark.parametrize(
    ("path", "store", "answers"), pairs(TRIGGERED), indirect=["store", "answers"]
)
def test_every_answer_is_fresh_after_a_trigger_has_changed_the_row_that_was_written(
    path: Write, answers: Answers
) -> None:
    assert_fresh_after(path, OF_LEDGERS, answers)


@pytest.fixture
def hidden(museum: None) -> Iterator[None]:
    """A column that no model has."""
    execute("ALTER TABLE museum_work ADD COLUMN hidden integer DEFAULT 1")
    yield
    execute("ALTER TABLE museum_work DROP COLUMN hidden")


@pytest.mark.usefixtures("hidden")
def test_every_answer_is_fresh_after_a_column_that_no_model_has_was_changed(
    answers: Answers,
) -> None:
    column = RawSQL("hidden", (), output_field=IntegerField())
    questions = {
        "rows": Question(works, lambda q: q.filter(artist=ADA).annotate(hidden=column)),
        "values": Question(works, lambda q: q.filter(artist=ADA).annotate(h=column).values("h")),
        "a sum": Question(
            works, lambda q: q.filter(artist=ADA), "aggregate", kwargs={"s": Sum(column)}
        ),
    }
    writes: list[Write] = [
        lambda: execute("UPDATE museum_work SET hidden = 2 WHERE id = %s", [LOOM]),
        lambda: execute("UPDATE museum_work SET hidden = 3 WHERE artist_id = %s", [ADA]),
    ]
    assert_fresh_after_each(writes, questions, answers)


# What becomes of those that refer. ---------------------------------------------------------------


class Duties(CachedRepository[m.Duty]):
    model = m.Duty


class Tasks(CachedRepository[m.Task]):
    model = m.Task


class Keepers(CachedRepository[m.Keeper]):
    model = m.Keeper


duties, tasks, keepers = Duties(), Tasks(), Keepers()
GOING, STAYING, DUTY = 7_000_003, 7_000_004, 7_000_005
RELATIONS = "cascading nulled defaulted passed_on left protecting restricting".split()


def _of_keepers() -> Questions:
    found: dict[str, Question] = {
        "a row": row(duties, pk=DUTY),
        "rows": Question(duties, lambda q: q),
        "rows of rows that go": Question(tasks, lambda q: q.filter(duty=DUTY)),
        "a count of rows of rows that go": Question(tasks, lambda q: q, "count"),
        "the keeper": row(keepers, pk=GOING),
        "keepers": Question(keepers, lambda q: q.filter(name="Uma")),
    }
    for name in RELATIONS:
        for pk in (GOING, None, m.CARETAKER):
            found[f"{name} {pk}"] = Question(duties, _by(name, pk), "count" if pk else "list")
    return found


def _by(name: str, pk: int | None) -> Callable[[Any], Any]:
    return lambda q: q.filter(**{name: pk})


OF_KEEPERS = _of_keepers()


@pytest.fixture
def guarded(museum: None) -> None:
    for pk, name in ((GOING, "Uma"), (STAYING, "Ole"), (m.CARETAKER, "Ida")):
        m.Keeper.objects.create(pk=pk, name=name)


DISMISSALS: dict[str, Write] = {
    "an instance": lambda: m.Keeper.objects.get(pk=GOING).delete(),
    "a query": lambda: m.Keeper.objects.filter(name="Uma").delete(),
    "asynchronously": lambda: wait(m.Keeper.objects.filter(name="Uma").adelete()),
}


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("relation", RELATIONS[:5])
@pytest.mark.parametrize(
    ("path", "store", "answers"), pairs(DISMISSALS), indirect=["store", "answers"]
)
def test_every_answer_is_fresh_after_a_row_was_deleted_that_others_refer_to(
    relation: str, path: Write, answers: Answers
) -> None:
    """Both the rows that went with it, or refer to something else now, and theirs."""
    m.Duty.objects.create(pk=DUTY, name="Locks", **{f"{relation}_id": GOING})
    m.Task.objects.create(duty_id=DUTY, name="Front door")
    assert_fresh_after(path, OF_KEEPERS, answers)


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("relation", RELATIONS[5:])
def test_a_deletion_that_is_refused_changes_no_answer(relation: str, answers: Answers) -> None:
    m.Duty.objects.create(pk=DUTY, name="Locks", **{f"{relation}_id": GOING})
    warm(OF_KEEPERS, answers)
    with pytest.raises((ProtectedError, RestrictedError)):
        m.Keeper.objects.get(pk=GOING).delete()
    with statements(0):
        answers(OF_KEEPERS)


@pytest.mark.usefixtures("guarded")
def test_every_answer_is_fresh_after_a_restricted_row_went_with_the_one_it_hangs_on(
    answers: Answers,
) -> None:
    m.Duty.objects.create(pk=DUTY, name="Locks", cascading_id=GOING, restricting_id=GOING)
    assert_fresh_after(DISMISSALS["an instance"], OF_KEEPERS, answers)


# Tables that Django did not make. ----------------------------------------------------------------


@pytest.fixture
def old_tables(museum: None) -> Iterator[None]:
    for name, columns in m.OLD_TABLES.items():
        execute(f"CREATE TABLE {name} ({columns})")
    yield
    for name in m.OLD_TABLES:
        execute(f"DROP TABLE {name}")


class Locks(CachedRepository[m.Lock]):
    model = m.Lock


class Signs(CachedRepository[m.Sign]):
    model = m.Sign


locks, signs = Locks(), Signs()


@pytest.mark.usefixtures("guarded", "old_tables")
@pytest.mark.parametrize("path", DISMISSALS.values(), ids=DISMISSALS)
def test_every_answer_is_fresh_after_the_database_deleted_what_refers_to_a_deleted_row(
    path: Write, answers: Answers
) -> None:
    """`DO_NOTHING` leaves it to the database what to do."""
    m.Lock.objects.create(pk=1, keeper_id=GOING, door="Front")
    questions = {
        "a row": row(locks, pk=1),
        "rows": Question(locks, lambda q: q),
        "rows of the keeper": Question(locks, lambda q: q.filter(keeper=GOING)),
        "a count by another column": Question(locks, lambda q: q.filter(door="Front"), "count"),
        "rows with their keepers": Question(locks, lambda q: q.select_related("keeper")),
    }
    assert_fresh_after(path, questions, answers)


@pytest.mark.usefixtures("old_tables")
def test_every_answer_is_fresh_after_a_row_came_to_be_that_was_referred_to_already(
    answers: Answers,
) -> None:
    m.Sign.objects.create(pk=1, style_id=NEW, text="Silk")
    questions = {
        "a row": Question(signs, lambda q: q.filter(pk=1).select_related("style"), "get_or_none"),
        "rows": Question(signs, lambda q: q.select_related("style")),
        "rows by a text": Question(
            signs, lambda q: q.filter(text="Silk").select_related("style"), "first"
        ),
        "a count": Question(signs, lambda q: q.filter(style__name="silk"), "count"),
        "prefetched": Question(signs, lambda q: q.prefetch_related("style")),
    }
    writes: list[Write] = [
        lambda: m.Style.objects.create(pk=NEW, name="silk"),
        lambda: m.Style.objects.filter(pk=NEW).delete(),
    ]
    assert_fresh_after_each(writes, questions, answers)


# The admin. --------------------------------------------------------------------------------------


class WorksOfArtist(TabularInline):  # type: ignore[type-arg]
    model = m.Work
    fields = ["title", "number", "sold"]
    extra = 0


class ReviewsOfWork(GenericTabularInline):
    model = m.Review
    ct_field, ct_fk_field = "kind", "key"
    fields = ["stars"]
    extra = 0


class ArtistAdmin(ModelAdmin):  # type: ignore[type-arg]
    fields = ["code", "name", "country"]
    inlines = [WorksOfArtist]


class WorkAdmin(ModelAdmin):  # type: ignore[type-arg]
    fields = ["title", "number", "artist", "styles"]
    list_display = ["title", "sold", "artist"]
    list_editable = ["sold", "artist"]
    inlines = [ReviewsOfWork]
    actions = ["sell"]

    def sell(self, request: Any, queryset: Any) -> None:
        queryset.update(sold=True)


curators = AdminSite("curators")
curators.register(m.Artist, ArtistAdmin)
curators.register(m.Work, WorkAdmin)
urlpatterns = [url("", curators.urls)]


@pytest.fixture
def curator() -> Iterator[Client]:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    with override_settings(ROOT_URLCONF=__name__):
        yield client


def posts(address: str, **data: Any) -> Callable[[Client], Write]:
    def made(client: Client) -> Write:
        def post() -> None:
            answer = client.post(address, data)
            assert answer.status_code == 302, answer.context["errors"]

        return post

    return made


NO_REVIEWS = forms("museum-review-kind-key", initial=0)
FORMS: dict[str, Callable[[Client], Write]] = {
    "an action": posts("/museum/work/", action="sell", _selected_action=[LOOM]),
    "the action that deletes": posts(
        "/museum/artist/", action="delete_selected", _selected_action=[ADA], post="yes"
    ),
    "a form to add": posts(
        "/museum/work/add/", title="New", number="new", artist=CAT, styles=[CLAY], **NO_REVIEWS
    ),
    "a form to change": posts(
        f"/museum/work/{LOOM}/change/",
        title="New",
        number="w1",
        artist=CAT,
        styles=[CLAY],
        **forms("museum-review-kind-key", {"id": GOOD, "stars": 1}, initial=1),
    ),
    "a form to delete": posts(f"/museum/work/{LOOM}/delete/", post="yes"),
    "a list to edit": posts(
        "/museum/work/",
        _save="Save",
        **forms(
            "form",
            {"id": LOOM, "artist": CAT, "sold": "on"},
            {"id": VASE, "artist": ADA},
            {"id": SKY, "artist": ADA, "sold": "on"},
            initial=3,
        ),
    ),
    "a form with other forms in it": posts(
        f"/museum/artist/{ADA}/change/",
        code="ada",
        name="Ada",
        country="NO",
        **forms(
            "works",
            {"id": LOOM, "artist": ADA, "title": "Renamed", "number": "w1", "sold": "on"},
            {"id": VASE, "artist": ADA, "title": "Vase", "number": "w2", "DELETE": "on"},
            {"artist": ADA, "title": "New", "number": "new"},
            initial=2,
        ),
    ),
}


@pytest.mark.parametrize(("path", "store", "answers"), pairs(FORMS), indirect=["store", "answers"])
def test_every_answer_is_fresh_after_the_admin_was_used(
    path: Callable[[Client], Write], curator: Client, answers: Answers
) -> None:
    assert_fresh_after(path(curator), QUESTIONS, answers)


# Commands. ---------------------------------------------------------------------------------------


def load(folder: Path, *records: dict[str, Any]) -> Write:
    fixture = folder / "rows.json"
    fixture.write_text(json.dumps(records))
    return lambda: call_command("loaddata", fixture, verbosity=0)


@pytest.mark.parametrize(
    ("store", "answers"), [("memory", "async"), ("redis", "sync")], indirect=True
)
def test_every_answer_is_fresh_after_a_fixture_was_loaded(answers: Answers, tmp_path: Path) -> None:
    """Of a row of the third level, a row with others over a table between, one by two columns."""
    write_rows = load(
        tmp_path,
        {"model": "museum.venue", "pk": SOUTH, "fields": {"name": "North"}},
        {"model": "museum.hall", "pk": SOUTH, "fields": {"floor": 5}},
        {"model": "museum.gallery", "pk": SOUTH, "fields": {"light": "daylight"}},
        {
            "model": "museum.work",
            "pk": LOOM,
            "fields": {"title": "New", "number": "new", "artist": CAT, "styles": [CLAY]},
        },
        {
            "model": "museum.review",
            "pk": NEW,
            "fields": {"kind": ["museum", "work"], "key": LOOM, "stars": 1},
        },
    )
    assert_fresh_after(write_rows, QUESTIONS, answers)


@pytest.mark.parametrize(
    ("store", "answers"), [("memory", "async"), ("redis", "sync")], indirect=True
)
def test_every_answer_is_fresh_after_the_database_was_flushed(answers: Answers) -> None:
    def flush() -> None:
        call_command("flush", interactive=False, verbosity=0)

    assert_fresh_after(flush, QUESTIONS, answers)


class Articles(CachedRepository[Article]):
    queryset = Article.objects.select_related("author").prefetch_related("tags")


class Authors(CachedRepository[Author]):
    model = Author


OF_NEWS: Questions = {
    "rows": Question(Articles(), lambda q: q),
    "rows by a text": Question(Articles(), lambda q: q.filter(title="New")),
    "an author by name": row(authors := Authors(), name="New Ada"),
    "a count by name": Question(authors, lambda q: q.filter(name="Ada"), "count"),
    "whether there is a tag": Question(
        authors, lambda q: q.filter(articles__tags__name="new"), "exists"
    ),
}


@pytest.mark.parametrize(
    ("store", "answers"), [("memory", "async"), ("redis", "sync")], indirect=True
)
@override_settings(MIGRATION_MODULES={"news": "tests.museum.news.migrations"})
def test_every_answer_is_fresh_after_a_migration_forwards_and_one_backwards(
    answers: Answers,
) -> None:
    for name in ("Ada", "Ben"):
        author = Author.objects.create(name=name)
        Article.objects.create(author=author, slug=name, title=name)

    def migrate(to: str) -> Write:
        return lambda: MigrationExecutor(connection).migrate([("news", to)])

    for migration in ("0002_rename_authors", "0001_initial"):
        assert_fresh_after(migrate(migration), OF_NEWS, answers)


def test_a_write_is_no_error_where_the_table_lacks_a_column_of_the_model(ask: Ask) -> None:
    """As in a migration of data backwards: what the column has been asked for does not matter."""
    asked = ledgers.filter(state="new").values_list("amount", flat=True)
    m.Ledger.objects.create(pk=BOOK, amount=1)
    assert ask(asked, "list") == [1]
    m.Ledger.objects.filter(pk=BOOK).update(amount=2)  # this process knows of the question now
    assert ask(asked, "list") == [2]
    execute("ALTER TABLE museum_ledger DROP COLUMN state")
    try:
        m.Ledger.objects.filter(pk=BOOK).update(amount=3)
        with transaction.atomic():
            m.Ledger.objects.filter(amount=3).update(amount=4)
    finally:
        execute("ALTER TABLE museum_ledger ADD COLUMN state varchar(50) DEFAULT 'new' NOT NULL")
    assert ask(asked, "list") == [4]


@pytest.mark.skipif(not POSTGRESQL, reason="PostgreSQL has COPY.")
def test_what_copy_has_written_unseen_is_read_after_invalidate(answers: Answers) -> None:
    """`cursor.copy()` passes no execute wrapper of Django (docs/caveats)."""

    def copy() -> None:
        with connection.cursor() as cursor:
            copying: Any = cursor.copy("COPY museum_style (name) FROM STDIN")
            with copying as rows:
                rows.write_row(("new",))
        invalidate(m.Style)

    assert_fresh_after(copy, QUESTIONS, answers)


# Connections. ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("store", "answers"), [("memory", "async"), ("redis", "sync")], indirect=True
)
def test_every_answer_is_fresh_after_a_write_through_a_connection_without_an_alias(
    answers: Answers,
) -> None:
    """Django makes such a one to create databases; so does whoever copies a connection."""
    copied = connection.copy(alias="__nowhere__")

    def write() -> None:
        with copied.cursor() as cursor:
            cursor.execute("UPDATE museum_work SET artist_id = %s WHERE id = %s", [CAT, LOOM])

    try:
        assert_fresh_after(write, QUESTIONS, answers)
    finally:
        copied.close()
