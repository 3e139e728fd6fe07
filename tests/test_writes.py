"""What a statement changes, and what a transaction has pending: no database, no store."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from django.contrib.sessions.models import Session
from django.db import models
from django.test import override_settings
from django.test.utils import isolate_apps

from loom_cache import sql, tables, tags
from loom_cache.pending import Pending
from loom_cache.tags import Change, Changes
from loom_cache.writes import _tables_of, changes_of
from testproject.news.models import Article, Author, Comment
from tests.library.models import Book, Country, Day, Loan, Place, Reader, Seat, Shelf, Shop

UNKNOWN = Change(unknown=True)


def changes(
    text: str, params: Any = (), *, many: bool = False, vendor: str = "postgresql"
) -> Changes:
    return changes_of(sql.read(text, vendor=vendor), params, many=many, vendor=vendor)


def rows(*found: tables.Row) -> Change:
    return Change(rows=set(found))


def named(found: Changes) -> Changes:
    """Without what was read of values (see test_edits.py)."""
    return {table: replace(change, edits=[]) for table, change in found.items()}


# Statements. --------------------------------------------------------------------------------------


def test_a_query_changes_nothing() -> None:
    assert changes('SELECT * FROM "news_article"') == {}


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE elsewhere SET a = 1",
        "INSERT INTO elsewhere (a) VALUES (1)",
        "DELETE FROM elsewhere WHERE id = 7",
        "TRUNCATE elsewhere",
        "WITH x AS (DELETE FROM elsewhere RETURNING a) SELECT a FROM x",
    ],
)
def test_a_write_to_a_table_of_no_model_changes_what_sql_reads_of_it(text: str) -> None:
    assert changes(text) == {"elsewhere": UNKNOWN}


def test_an_insert_changes_the_lists_of_its_table() -> None:
    found = changes('INSERT INTO "news_author" ("name") VALUES (%s)', ["Ada"])
    assert named(found) == {"news_author": Change()}


@pytest.mark.parametrize("params", [("x", 7, 8), ["x", 7, 8]], ids=["tuple", "list"])
def test_a_change_by_primary_key_changes_these_rows(params: Any) -> None:
    found = changes('UPDATE "news_author" SET "name" = %s WHERE "id" IN (%s, %s)', params)
    assert named(found) == {"news_author": rows(7, 8)}


@pytest.mark.parametrize("value", [7, "7", " 7"])
def test_a_primary_key_is_known_by_whatever_the_database_takes_for_it(value: object) -> None:
    found = changes("DELETE FROM news_comment WHERE id = %s", [value])
    assert named(found) == {"news_comment": rows(7)}


@pytest.mark.parametrize("value", [True, 7.0, "seven", [7], object(), b"x"])
def test_a_value_that_is_no_primary_key_changes_any_row(value: object) -> None:
    assert changes("DELETE FROM news_comment WHERE id = %s", [value]) == {"news_comment": UNKNOWN}


@pytest.mark.parametrize(
    "params",
    [None, (), {"id": 7}, iter([7]), (value for value in [7])],
    ids=["none", "empty", "dict", "iterator", "generator"],
)
def test_parameters_out_of_order_or_not_to_be_consumed_change_any_row(params: Any) -> None:
    assert changes("DELETE FROM news_comment WHERE id = %s", params) == {"news_comment": UNKNOWN}


def test_a_generator_of_parameters_is_not_consumed() -> None:
    params = (value for value in [7])
    changes("DELETE FROM news_comment WHERE id = %s", params)
    assert list(params) == [7]


def test_a_statement_for_many_parameters_changes_any_row() -> None:
    found = changes("UPDATE news_author SET name = %s WHERE id = %s", [("x", 7)], many=True)
    assert found == {"news_author": UNKNOWN}


UNNAMED = Change(unnamed=True)
"""Rows of which the values are known, and not the keys."""


@pytest.mark.parametrize("value", [None, 2**63])
def test_a_value_that_no_key_can_have_changes_rows_without_a_name(value: object) -> None:
    found = changes("DELETE FROM news_comment WHERE id = %s", [value])
    assert named(found) == {"news_comment": UNNAMED}


def test_a_condition_on_another_column_changes_rows_without_a_name() -> None:
    found = changes("UPDATE news_article SET title = %s WHERE slug = %s", ["x", "y"])
    assert named(found) == {"news_article": UNNAMED}


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE news_author SET id = 9 WHERE id = %s",
        'UPDATE "news_author" SET "name" = \'x\', "id" = 9 WHERE "news_author"."id" = %s',
        "UPDATE library_seat SET number = 9 WHERE cafe_id = %s",
        "UPDATE news_author SET name = 'x' WHERE name LIKE %s",
    ],
)
def test_a_change_of_keys_or_of_who_knows_which_rows_changes_any_row(text: str) -> None:
    assert list(changes(text, [7]).values()) == [UNKNOWN]


@pytest.mark.parametrize(
    ("model", "value", "row"),
    [
        (Reader, "00000000-0000-0000-0000-000000000007", UUID(int=7)),
        (Reader, UUID(int=7).hex.upper(), UUID(int=7)),
        (Country, "SE", "SE"),
        (Shop, "7", 7),
    ],
)
def test_a_row_is_known_by_its_uuid_its_text_or_its_parents_key(
    model: type[models.Model], value: object, row: tables.Row
) -> None:
    table, column = model._meta.db_table, model._meta.pk.column
    assert changes(f'DELETE FROM "{table}" WHERE "{column}" = %s', [value])[table].rows == {row}


@pytest.mark.parametrize(
    ("model", "column", "value"),
    [(Day, "date", "2026-01-01"), (Seat, "cafe_id", 7), (Seat, "number", 7)],
)
def test_a_key_of_another_type_or_of_two_columns_names_no_row(
    model: type[models.Model], column: str, value: object
) -> None:
    name = tables.name_of(model)
    text = f'DELETE FROM "{model._meta.db_table}" WHERE "{column}" = %s'
    assert not changes(text, [value])[name].rows


def test_text_that_may_be_compared_without_case_names_no_row() -> None:
    text = "DELETE FROM library_country WHERE code = %s"
    assert changes(text, ["se"], vendor="mysql")["library_country"] == UNKNOWN


def test_a_table_whose_models_have_different_keys_names_no_row() -> None:
    by_id = changes("UPDATE library_book SET title = %s WHERE id = %s", ["x", 7])
    by_isbn = changes("UPDATE library_book SET title = %s WHERE isbn = %s", ["x", "7"])
    assert named(by_id) == named(by_isbn) == {"library_book": UNNAMED}


def test_a_statement_that_cannot_be_read_changes_every_table() -> None:
    found = changes("DO $$ BEGIN END $$")
    assert {"news_article", "news_article_tags", "auth_user", "library_place"} <= set(found)
    assert all(change == UNKNOWN for change in found.values())


def test_a_write_changes_each_watched_table_that_it_names() -> None:
    found = changes(
        "WITH x AS (DELETE FROM news_comment RETURNING *) INSERT INTO news_tag SELECT 1"
    )
    assert found == {"news_comment": UNKNOWN, "news_tag": UNKNOWN}


def test_an_ignored_table_is_left_out() -> None:
    session = Session._meta.db_table
    assert changes(f"UPDATE {session} SET expire_date = %s", ["x"]) == {}
    assert session not in changes("CALL p()")
    assert changes(f"TRUNCATE {session}, news_tag") == {"news_tag": UNKNOWN}


@pytest.fixture
def _new_registry() -> Iterator[None]:
    yield
    tables.forget()


@pytest.mark.usefixtures("_new_registry")
def test_the_setting_says_which_tables_are_ignored() -> None:
    with override_settings(LOOM_CACHE={"IGNORE": ["news.tag"]}):
        tables.forget()
        assert changes("TRUNCATE django_session, news_tag") == {"django_session": UNKNOWN}


# Cascades that the database carries out itself. ---------------------------------------------------


def test_a_truncate_that_cascades_changes_all_that_refers_to_the_table() -> None:
    found = set(changes("TRUNCATE library_shelf CASCADE"))
    assert {"library_shelf", "library_book", "library_loan"} <= found
    assert not {"library_shop", "library_reader"} & found
    assert set(changes("TRUNCATE library_shelf")) == {"library_shelf"}


@pytest.fixture
def cascades_in_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if every CASCADE and SET_NULL of the models were Django 6.1's of the database."""
    monkeypatch.setattr(models, "DB_CASCADE", models.CASCADE, raising=False)
    monkeypatch.setattr(models, "DB_SET_NULL", models.SET_NULL, raising=False)
    tables.forget()
    yield
    monkeypatch.undo()
    tables.forget()


@pytest.mark.usefixtures("cascades_in_database")
@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM news_author WHERE id = %s",
        "DELETE FROM news_author WHERE name = %s",
        "REPLACE INTO news_author VALUES (%s)",
        "INSERT OR REPLACE INTO news_author VALUES (%s)",
        "WITH x AS (DELETE FROM news_author RETURNING *) SELECT 1",
        "MERGE INTO news_author USING t ON true WHEN MATCHED THEN DELETE",
        "SELECT 1; DELETE FROM news_author",
    ],
)
def test_a_deletion_changes_what_the_database_deletes_with_it(text: str) -> None:
    found = changes(text, [7])
    swept = {name for name, change in found.items() if change == UNKNOWN} - {"news_author", "t"}
    assert swept == {"news_article", "news_article_tags", "news_comment"}
    assert "news_author" in found


@pytest.mark.usefixtures("cascades_in_database")
def test_what_the_database_deletes_is_followed_through_a_table_that_refers_to_itself() -> None:
    found = set(changes("DELETE FROM library_shop WHERE place_ptr_id = %s", [7]))
    assert {"library_shop", "library_shelf", "library_book", "library_loan"} <= found
    assert not {"library_place", "library_reader"} & found


@pytest.mark.usefixtures("cascades_in_database")
def test_deleting_from_an_ignored_table_changes_what_hangs_on_it() -> None:
    with override_settings(LOOM_CACHE={"IGNORE": ["news.author"]}):
        tables.forget()
        found = changes("DELETE FROM news_author WHERE id = %s", [7])
    assert set(found) == {"news_article", "news_article_tags", "news_comment"}


@pytest.mark.usefixtures("cascades_in_database")
def test_an_insert_or_an_update_sweeps_nothing() -> None:
    assert set(changes("UPDATE news_author SET name = 'x'")) == {"news_author"}
    assert set(changes("INSERT INTO news_author VALUES (1)")) == {"news_author"}


def test_nothing_is_swept_where_django_deletes_itself() -> None:
    assert set(changes("DELETE FROM news_author")) == {"news_author"}


# From changes to tags. ----------------------------------------------------------------------------


def test_known_rows_move_their_own_tags_and_the_lists() -> None:
    assert tags.of_changes({"news_author": rows(8, 7)}) == [
        "g:{news_author}:list",
        "g:{news_author}:id:7",
        "g:{news_author}:id:8",
    ]


def test_unknown_rows_move_the_table() -> None:
    assert tags.of_changes({"news_author": UNKNOWN}) == ["g:{news_author}"]


def test_a_thousand_rows_are_named_one_by_one() -> None:
    change = Change()
    change.add(rows(*range(1000)))
    assert len(tags.of_changes({"news_author": change})) == 1001


def test_more_than_a_thousand_rows_are_the_table() -> None:
    change = Change()
    for start in (0, 500, 1000):
        change.add(rows(*range(start, start + 501)))
    assert change == UNKNOWN


def test_more_than_a_thousand_rows_of_one_statement_are_the_table() -> None:
    pending = Pending()
    keys = ", ".join(["%s"] * 1001)
    pending.add(changes(f"DELETE FROM news_comment WHERE id IN ({keys})", list(range(1001))))
    assert pending.changes() == {"news_comment": UNKNOWN}


def test_a_table_once_unknown_stays_unknown() -> None:
    change = Change(unknown=True)
    change.add(rows(7))
    assert change == UNKNOWN


# Pending: what a transaction has written. ---------------------------------------------------------

AUTHOR, ARTICLE, TAG = ({name: rows(7)} for name in ("news_author", "news_article", "news_tag"))


def test_what_was_added_is_pending() -> None:
    pending = Pending()
    pending.add({"news_author": rows(7)})
    pending.add({"news_author": rows(8), "news_tag": UNKNOWN})
    assert pending.changes() == {"news_author": rows(7, 8), "news_tag": UNKNOWN}


def test_adding_does_not_change_what_was_given() -> None:
    given = {"news_author": rows(7)}
    pending = Pending()
    pending.add(given)
    pending.add({"news_author": rows(8)})
    assert given == {"news_author": rows(7)}


def test_rolling_back_to_a_savepoint_forgets_what_came_after_it() -> None:
    pending = Pending()
    pending.add(AUTHOR)
    pending.savepoint("a")
    pending.add(ARTICLE)
    pending.roll_back_to("a")
    assert pending.changes() == AUTHOR


def test_a_savepoint_can_be_rolled_back_to_twice() -> None:
    pending = Pending()
    pending.savepoint("a")
    pending.add(AUTHOR)
    pending.roll_back_to("a")
    pending.add(ARTICLE)
    pending.roll_back_to("a")
    pending.add(TAG)
    assert pending.changes() == TAG


def test_releasing_a_savepoint_keeps_what_came_after_it() -> None:
    pending = Pending()
    pending.savepoint("a")
    pending.add(AUTHOR)
    pending.release("a")
    pending.roll_back_to("a")
    assert pending.changes() == AUTHOR


def test_rolling_back_an_outer_savepoint_forgets_the_released_inner_one() -> None:
    pending = Pending()
    pending.savepoint("a")
    pending.savepoint("b")
    pending.add(AUTHOR)
    pending.release("b")
    pending.roll_back_to("a")
    assert pending.changes() == {}


def test_releasing_an_outer_savepoint_releases_the_inner_one() -> None:
    pending = Pending()
    pending.savepoint("a")
    pending.add(AUTHOR)
    pending.savepoint("b")
    pending.add(ARTICLE)
    pending.release("a")
    pending.roll_back_to("b")
    assert pending.changes() == AUTHOR | ARTICLE


def test_of_two_savepoints_of_one_name_the_later_is_meant() -> None:
    pending = Pending()
    pending.savepoint("a")
    pending.add(AUTHOR)
    pending.savepoint("a")
    pending.add(ARTICLE)
    pending.roll_back_to("a")
    assert pending.changes() == AUTHOR


@pytest.mark.parametrize("name", ["b", None])
def test_a_savepoint_that_was_never_made_forgets_nothing(name: str | None) -> None:
    pending = Pending()
    pending.savepoint("a")
    pending.add(AUTHOR)
    pending.roll_back_to(name)
    pending.release(name)
    assert pending.changes() == AUTHOR


def test_savepoints_that_are_not_followed_any_more_forget_nothing() -> None:
    pending = Pending()
    pending.savepoint("a")
    pending.add(AUTHOR)
    pending.fold()
    pending.roll_back_to("a")
    assert pending.changes() == AUTHOR


# The registry. ------------------------------------------------------------------------------------


def test_every_table_of_the_registry_is_watched() -> None:
    watched = set(tables.watched())
    for model in (Article, Author, Comment, Place, Shop, Shelf, Book, Loan, Day):
        assert tables.name_of(model) in watched
    assert {"news_article_tags", "auth_user_groups"} <= watched


def test_proxies_and_twins_share_the_table() -> None:
    names = {model.__name__ for model in tables.watched()["library_shop"].models}
    assert names == {"Shop", "OpenShop"}
    assert {model.__name__ for model in tables.watched()["library_book"].models} == {"Book", "Isbn"}


@isolate_apps()
def test_a_schema_written_into_db_table_is_no_part_of_the_name() -> None:
    class Elsewhere(models.Model):
        class Meta:
            app_label = "nowhere"
            db_table = 'archive"."Old_Things'

    assert tables.name_of(Elsewhere) == "old_things"


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO news_article (title) VALUES ('a')",
        "UPDATE news_article SET title = 'a' WHERE id = 1",
        "UPDATE news_article SET title = 'a'",
        "DELETE FROM news_author WHERE id = 1",
        "TRUNCATE news_author CASCADE",
        "WITH gone AS (DELETE FROM news_comment RETURNING id) UPDATE news_article SET title = 'a'",
        "UPDATE news_article SET title = 'a'; DELETE FROM news_tag",
        "MERGE INTO news_article USING news_author ON true WHEN MATCHED THEN DELETE",
        "ALTER TABLE news_article ADD COLUMN x int",
        "CALL something()",
        "SELECT * INTO news_tag FROM news_author",
        "COPY news_article FROM STDIN",
    ],
)
def test_the_tables_known_before_a_statement_are_those_that_it_turns_out_to_change(
    text: str,
) -> None:
    statement = sql.read(text, vendor="postgresql")
    changed = changes_of(statement, None, vendor="postgresql")
    assert changed
    assert _tables_of(statement) >= changed.keys() & tables.watched().keys()
