"""What a statement says of the values that its rows had and have: never more than is certain."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db import models
from django.test.utils import isolate_apps

from loom_cache import sql
from loom_cache.combinations import Combination, Edit, Opaque, Value, Values, combination, parse
from loom_cache.tables import Table
from loom_cache.tags import Change
from loom_cache.writes import changes_of


def change(text: str, params: Any, *, many: bool = False, vendor: str = "postgresql") -> Change:
    (found,) = changes_of(sql.read(text, vendor=vendor), params, many=many, vendor=vendor).values()
    return found


def edit(text: str, params: Any, **kwargs: Any) -> Edit:
    (found,) = change(text, params, **kwargs).edits
    return found


def known(state: Any) -> dict[str, list[object]]:
    """The values that others can be compared with."""
    found = {
        column: sorted((one for one in values if not isinstance(one, Opaque)), key=str)
        for column, values in state.items()
    }
    return {column: values for column, values in found.items() if values}


INSERT = 'INSERT INTO "news_article_tags" ("article_id", "tag_id") VALUES '


def test_an_insert_says_what_its_rows_have() -> None:
    found = change(INSERT + "(%s, %s), (%s, %s)", (1, 2, 3, 4)).edits
    assert [known(one.after) for one in found] == [
        {"article_id": [1], "tag_id": [2]},
        {"article_id": [3], "tag_id": [4]},
    ]
    assert {one.before for one in found} == {None}


def test_an_insert_of_arrays_says_what_its_rows_have() -> None:
    text = INSERT.replace("VALUES", "SELECT * FROM UNNEST((%s)::bigint[], (%s)::bigint[])")
    found = change(text + " ON CONFLICT DO NOTHING", ([1, 3], [2, 4])).edits
    assert [known(one.after) for one in found] == [
        {"article_id": [1], "tag_id": [2]},
        {"article_id": [3], "tag_id": [4]},
    ]


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("INSERT INTO news_tag DEFAULT VALUES", ()),
        ("INSERT INTO news_tag VALUES (%s, %s)", (1, "x")),
        ("INSERT INTO news_tag (name) SELECT name FROM news_author", ()),
        ("INSERT INTO news_tag (name) SELECT %s", ("x",)),
        (INSERT + "(%s, %s)", (1,)),
        (INSERT + "(%s, %s)", None),
        (INSERT + "(%(a)s, %(b)s)", {"a": 1, "b": 2}),
    ],
)
def test_an_insert_whose_values_are_not_in_sight_says_nothing(text: str, params: Any) -> None:
    found = edit(text, params)
    assert (found.before, found.after) == (None, {})


def test_of_a_row_with_an_expression_the_other_values_are_known() -> None:
    text = 'INSERT INTO "news_author" ("name", "email") VALUES (LOWER(%s), %s), (%s, NULL)'
    found = change(text, ("A", "a@x", "b")).edits
    assert [known(one.after) for one in found] == [
        {"email": ["a@x"]},
        {"name": ["b"], "email": [None]},
    ]


def test_a_very_long_insert_is_read_by_its_parameters() -> None:
    text = INSERT + ", ".join(["(%s, %s)"] * 900)
    found = change(text, tuple(range(1800))).edits
    assert known(found[-1].after) == {"article_id": [1798], "tag_id": [1799]}


def test_a_very_long_insert_with_expressions_says_nothing_of_what_they_shift() -> None:
    text = 'INSERT INTO "news_author" ("name", "email") VALUES ' + ", ".join(
        ["(COALESCE(%s, %s), %s)"] * 900
    )
    assert [one.after for one in change(text, tuple("x" * 2700)).edits] == [{}]


def test_an_executemany_says_nothing() -> None:
    assert edit(INSERT + "(%s, %s)", [(1, 2), (3, 4)], many=True).after == {}


def test_an_update_by_key_says_what_it_assigns() -> None:
    text = "UPDATE news_article SET author_id = %s, title = %s WHERE id = %s"
    found = edit(text, (3, "x", 7))
    assert found.named
    assert found.assigned == frozenset({"author_id", "title"})
    assert known(found.before) == {"id": [7]}
    assert known(found.after) == {"id": [7], "author_id": [3], "title": ["x"]}


def test_of_an_expression_that_is_assigned_nothing_is_known() -> None:
    found = edit("UPDATE news_article SET views = views + %s WHERE id = %s", (1, 7))
    assert found.assigned == frozenset({"views"})
    assert known(found.after) == {"id": [7]}


def test_a_condition_says_what_rows_had_and_have_where_it_is_left_alone() -> None:
    text = "UPDATE news_article SET published = %s WHERE author_id IN (%s, %s) AND published"
    found = edit(text, (False, 3, 4))
    assert not found.named
    assert known(found.before) == {"author_id": [3, 4], "published": [True]}
    assert known(found.after) == {"author_id": [3, 4], "published": [False]}


def test_a_delete_says_what_rows_had() -> None:
    found = edit("DELETE FROM news_article_tags WHERE article_id = %s", (7,))
    assert (known(found.before), found.after) == ({"article_id": [7]}, None)


def test_an_update_of_a_column_that_no_model_has_may_change_any() -> None:
    assert edit("UPDATE news_article SET legacy = 1 WHERE id = %s", (7,)).assigned is None


@isolate_apps("tests.library")
def test_an_update_changes_the_columns_computed_from_it_too() -> None:
    class Box(models.Model):
        width = models.IntegerField()
        area: Any = models.GeneratedField(
            expression=models.F("width") * 2, output_field=models.IntegerField(), db_persist=True
        )

        class Meta:
            app_label = "library"

    assert Table("box", [Box]).touched_by(["width"]) == frozenset({"width", "area"})


VALUES = {
    "a number": ("author_id", 7, 7),
    "a number as text": ("author_id", "7", 7),
    "a whole decimal": ("author_id", Decimal(7), 7),
    "text": ("slug", "x", "x"),
    "a flag": ("published", True, True),
    "a flag as SQLite has it": ("published", 1, True),
    "nothing": ("editor_id", None, None),
}


@pytest.mark.parametrize(("column", "given", "value"), VALUES.values(), ids=VALUES)
def test_equal_values_are_one_value(column: str, given: object, value: object) -> None:
    found = edit(f"INSERT INTO news_article ({column}) VALUES (%s)", (given,))
    assert known(found.after) == {column: [value]}
    assert type(*known(found.after)[column]) is type(value)


UNCERTAIN = {
    "a fraction": ("author_id", 7.5),
    "a fraction as a decimal": ("author_id", Decimal("7.5")),
    "digits of another script": ("author_id", "\u0667"),
    "a truth where a number is": ("author_id", True),
    "a number that is no flag": ("published", 2),
    "a number where text is": ("slug", 7),
    "a moment": ("created", date(2026, 1, 1)),
    "bytes": ("slug", b"x"),
    "a list": ("author_id", [7]),
}


@pytest.mark.parametrize(("column", "given"), UNCERTAIN.values(), ids=UNCERTAIN)
def test_a_value_that_may_equal_another_is_unknown(column: str, given: object) -> None:
    found = edit(f"INSERT INTO news_article ({column}) VALUES (%s)", (given,))
    assert known(found.after) == {}


def test_text_is_unknown_where_a_database_may_ignore_case() -> None:
    found = edit(
        "INSERT INTO news_article (slug, author_id) VALUES (%s, %s)", ("x", 1), vendor="mysql"
    )
    assert known(found.after) == {"author_id": [1]}


def test_a_uuid_is_known_by_itself_and_by_its_text() -> None:
    for given in (UUID(int=7), UUID(int=7).hex):
        found = edit("INSERT INTO library_loan (reader_id) VALUES (%s)", (given,))
        assert known(found.after) == {"reader_id": [UUID(int=7)]}


# What an edit means for the answers that look at values. -----------------------------------------

BY_AUTHOR = combination(["author_id"], ["created"], "rows")
COUNT = combination(["author_id"], [], "all")
THREE: frozenset[Value | Opaque] = frozenset({3})
FOUR: frozenset[Value | Opaque] = frozenset({4})


def test_an_answer_that_names_its_rows_is_found_by_what_a_named_row_becomes() -> None:
    moved = Edit(
        named=True, assigned=frozenset({"author_id"}), before={}, after={"author_id": FOUR}
    )
    assert moved.values_for(BY_AUTHOR) == [(4,)]


def test_another_answer_is_found_by_what_a_row_was_as_well() -> None:
    moved = Edit(
        named=True,
        assigned=frozenset({"author_id"}),
        before={"author_id": THREE},
        after={"author_id": FOUR},
    )
    assert moved.values_for(COUNT) == [(3,), (4,)]


def test_where_it_is_unknown_what_a_row_was_any_such_answer_may_change() -> None:
    moved = Edit(
        named=True, assigned=frozenset({"author_id"}), before={}, after={"author_id": FOUR}
    )
    assert moved.values_for(COUNT) is None


def test_columns_that_an_answer_does_not_look_at_change_nothing() -> None:
    renamed = Edit(named=True, assigned=frozenset({"title"}), before={}, after={})
    assert renamed.values_for(BY_AUTHOR) == []
    assert renamed.values_for(COUNT) == []


def test_rows_without_a_name_are_found_by_what_they_were_whatever_changes() -> None:
    renamed = Edit(
        named=False, assigned=frozenset({"title"}), before={"author_id": THREE}, after={}
    )
    assert renamed.values_for(BY_AUTHOR) == [(3,)]


def test_a_row_that_was_and_is_the_same_to_an_answer_changes_nothing() -> None:
    saved = Edit(
        named=True,
        assigned=frozenset({"author_id", "title"}),
        before={"author_id": THREE},
        after={"author_id": THREE},
    )
    assert saved.values_for(COUNT) == []


def test_a_value_that_is_told_from_itself_alone_shows_that_nothing_changed() -> None:
    moment: frozenset[Value | Opaque] = frozenset({Opaque(date(2026, 1, 1))})
    by_day = combination(["author_id"], ["created"], "later")
    same: Values = {"author_id": THREE, "created": moment}
    saved = Edit(named=True, assigned=frozenset({"created"}), before=same, after=same)
    assert saved.values_for(by_day) == []
    moved: Values = {"author_id": THREE, "created": frozenset({Opaque(date(2026, 1, 2))})}
    assert replace(saved, after=moved).values_for(by_day) == [(3,), (3,)]


def test_a_value_that_is_told_from_itself_alone_is_no_value_to_be_found_by() -> None:
    came = Edit(named=False, after={"author_id": frozenset({Opaque(7.5)})})
    assert came.values_for(COUNT) is None


def test_an_answer_for_which_any_column_may_matter_is_found_by_every_edit() -> None:
    anything = combination(["author_id"], None, "all")
    renamed = Edit(
        named=True,
        assigned=frozenset({"title"}),
        before={"author_id": THREE},
        after={"author_id": THREE},
    )
    assert renamed.values_for(anything) == [(3,), (3,)]


def test_more_values_than_can_be_named_are_any_value() -> None:
    many = frozenset(range(101))
    came = Edit(named=False, after={"author_id": many})
    assert came.values_for(COUNT) is None


@pytest.mark.parametrize(
    "asked",
    [
        BY_AUTHOR,
        COUNT,
        combination(["a", "b"], None, "rows"),
        combination(["a"], [f"c{number}" for number in range(20)], "rows"),
        combination(["a"], ["odd name"], "all"),
    ],
)
def test_a_combination_is_read_from_its_name(asked: Combination) -> None:
    assert parse(asked.name) == asked


@pytest.mark.parametrize(
    "name", ["", "rows", "rows:a", "newer:a:b", "rows:a b:c", "rows::", "x:y:z:"]
)
def test_a_name_of_another_release_is_no_combination(name: str) -> None:
    assert parse(name) is None
