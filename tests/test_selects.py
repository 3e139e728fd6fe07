"""How a SELECT uses its tables, read from its text: never less than it does."""

import pytest

from loom_cache import sql
from loom_cache.clauses import Parameter
from loom_cache.selects import Select, Use


def read(text: str, vendor: str = "postgresql") -> Select:
    found = sql.read(text, vendor=vendor).select
    assert found is not None
    return found


def only(text: str) -> Use:
    (use,) = read(text).uses
    return use


def demands(use: Use) -> dict[str, tuple[object, ...]]:
    return {one.column: one.operands for one in use.demands}


def test_conditions_that_all_hold_are_demands() -> None:
    use = only(
        'SELECT "t"."id" FROM "t" WHERE ("t"."a" = %s AND "t"."b" IN (%s, %s) AND "t"."c" '
        'AND NOT "t"."d" AND "t"."e" IS NULL AND "t"."f" > %s) ORDER BY "t"."g" LIMIT 20'
    )
    assert demands(use) == {
        "a": (Parameter(0),),
        "b": (Parameter(1), Parameter(2)),
        "c": (True,),
        "d": (False,),
        "e": (None,),
    }


def test_parameters_before_the_condition_are_counted() -> None:
    use = only('SELECT %s AS "a" FROM "t" WHERE "t"."x" = %s LIMIT 1')
    assert demands(use) == {"x": (Parameter(1),)}


@pytest.mark.parametrize(
    "condition",
    [
        "t.a = %s OR t.b = %s",
        "NOT (t.a = %s)",
        "t.a <> %s",
        "t.a = t.b",
        "t.a = %s + 1",
        "UPPER(t.a) = %s",
        "t.a = %s COLLATE nocase",
        "t.a IN (SELECT b FROM u)",
        "t.a BETWEEN %s AND %s",
        "CASE WHEN t.a = 1 AND t.b = 2 THEN true END",
        "t.a IS NOT NULL",
        "t.a = NULL",
        "t.a IN (%s, NULL)",
        "t.a LIKE %s",
    ],
)
def test_any_other_condition_demands_nothing(condition: str) -> None:
    assert demands(only(f"SELECT t.id FROM t WHERE {condition}")) == {}


@pytest.mark.parametrize(
    "text",
    [
        "SELECT COUNT(*) FROM (SELECT t.a FROM t) x",
        "SELECT a FROM t UNION SELECT a FROM u",
        "WITH x AS (SELECT 1) SELECT a FROM x",
        "SELECT a FROM t, u",
        "SELECT a FROM t CROSS JOIN u",
        "SELECT a FROM t RIGHT JOIN u ON (t.a = u.a)",
        "SELECT a FROM t FULL JOIN u ON (t.a = u.a)",
        "SELECT a FROM t NATURAL JOIN u",
        "SELECT a FROM t JOIN u USING (a)",
        "SELECT a FROM f(1)",
        "SELECT a FROM t JOIN LATERAL (SELECT 1) x ON (true)",
        "SELECT 1",
        "VALUES (1)",
        "SELECT t.a FROM t JOIN t ON (t.a = t.b)",
    ],
)
def test_a_statement_of_another_form_is_not_understood(text: str) -> None:
    assert sql.read(text, vendor="postgresql").select is None


def test_each_alias_of_a_table_is_a_use_of_its_own() -> None:
    found = read(
        'SELECT "s"."id", T2."id" FROM "s" LEFT OUTER JOIN "s" T2 ON ("s"."above_id" = T2."id") '
        'WHERE "s"."id" = %s'
    )
    first, second = found.uses
    assert (first.table, second.table) == ("s", "s")
    assert demands(first) == {"id": (Parameter(0),)}
    assert demands(second) == {}
    assert second.joined is not None
    assert (second.joined.column, second.joined.other_column, second.outer) == (
        "id",
        "above_id",
        True,
    )


JOINED = "SELECT a.id, b.id FROM a INNER JOIN b ON (a.b_id = b.id)"


def test_a_table_of_which_columns_are_shown_is_quiet() -> None:
    assert [use.quiet for use in read(JOINED).uses] == [True, True]


@pytest.mark.parametrize(
    ("ending", "quiet"),
    [
        (" WHERE b.name = %s", False),
        (" WHERE a.x = 1", True),
        (" ORDER BY b.name", True),  # all rows are there, in whatever order
        (" ORDER BY b.name LIMIT 3", False),
        (" ORDER BY a.x LIMIT 3", True),
        (" ORDER BY 2 LIMIT 3", False),
        (" ORDER BY score LIMIT 3", False),
        (" GROUP BY b.id", False),
        (" INNER JOIN c ON (c.x = b.name AND c.y = 1)", False),
    ],
)
def test_a_table_that_decides_about_rows_is_not_quiet(ending: str, quiet: bool) -> None:
    assert read(JOINED + ending).uses[1].quiet is quiet


def test_a_join_by_more_than_two_columns_is_no_tie() -> None:
    _, joined = read("SELECT a.id FROM a LEFT JOIN b ON (a.b_id = b.id AND b.x = 3)").uses
    assert joined.joined is None
    assert not joined.quiet


@pytest.mark.parametrize("word", ["DISTINCT t.a", "COUNT(t.a) OVER ()"])
def test_rows_that_say_something_of_other_rows_are_not_plain(word: str) -> None:
    assert not read(f"SELECT {word} FROM t").plain


def test_an_offset_skips_rows() -> None:
    assert read("SELECT t.id FROM t ORDER BY t.a LIMIT 5 OFFSET 5").skips
    assert not read("SELECT t.id FROM t ORDER BY t.a LIMIT 5").skips


def test_columns_that_are_only_shown_decide_nothing() -> None:
    found = read("SELECT t.id, t.title FROM t WHERE t.a = %s ORDER BY t.b LIMIT 5")
    assert found.deciding is not None
    assert found.read is not None
    assert {"a", "b"} <= found.deciding
    assert "title" not in found.deciding
    assert "title" in found.read


@pytest.mark.parametrize("order", ["1", "score"])
def test_what_is_ordered_by_may_be_anything_that_is_shown(order: str) -> None:
    found = read(f"SELECT t.id, t.title + 1 AS score FROM t WHERE t.a = %s ORDER BY {order}")
    assert found.deciding is not None
    assert "title" in found.deciding


def test_a_star_may_read_any_column_and_a_count_reads_none() -> None:
    assert read("SELECT * FROM t WHERE a = %s").read is None
    counted = read("SELECT COUNT(*) FROM t WHERE t.a = %s").read
    assert counted is not None
    assert "a" in counted


@pytest.mark.parametrize(
    "text", ["SELECT t.id FROM t WHERE t.a = '%s' AND t.b = %s", 'SELECT "%s" FROM t WHERE a = %s']
)
def test_where_it_is_unclear_which_parameter_is_which_nothing_is_said(text: str) -> None:
    assert sql.read(text, vendor="postgresql").select is None


def test_what_locks_or_writes_is_not_read_as_a_query() -> None:
    assert sql.read("SELECT a INTO t FROM u", vendor="postgresql").select is None
