"""What a statement does, read from its text: never too little."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loom_cache import sql
from loom_cache.clauses import UNKNOWN, Equality, Operand, Parameter
from loom_cache.sql import Statement

VENDORS = ("postgresql", "sqlite", "mysql")

unhurried = settings(deadline=None, derandomize=True)


def by(column: str, first: int, operands: tuple[Operand, ...]) -> Equality:
    """The column is one of these values; a None stands for a parameter, `first` for the first."""
    given = iter(range(first, first + len(operands)))
    return Equality(
        None,
        column,
        tuple(Parameter(next(given)) if one is None else one for one in operands),
    )


BY_PLACEHOLDER = by("id", 0, (None,))


def read(text: str, vendor: str = "postgresql") -> Statement:
    return sql.read(text, vendor=vendor)


# Reach: how much a write may change. --------------------------------------------------------------


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    "text",
    [
        "",
        " -- nothing\n",
        "SELECT 1",
        "(SELECT a FROM t) UNION (SELECT a FROM u)",
        "WITH x AS (SELECT a FROM t) SELECT a FROM x",
        "VALUES (1), (2)",
        "SHOW server_version",
        "PRAGMA foreign_keys",
        "EXPLAIN SELECT a FROM t",
        "SELECT REPLACE(a, 'x', 'y') FROM t",
        "SELECT t.update, t.delete, t.do, t.into FROM t",
        "SELECT load, call, handler, copy, import FROM t",
        "SELECT a FROM t WHERE b = 'DELETE FROM t'",
        "SELECT a FROM t /* ; DELETE FROM t */",
        "SELECT a FROM t -- ; DELETE FROM t",
        "SELECT updated, deleted_at, inserting FROM t",
    ],
)
def test_a_reading_statement_reaches_nothing(text: str, vendor: str) -> None:
    assert read(text, vendor).reach == "none"
    assert not read(text, vendor).writes


INSERTS = {
    "plain": "INSERT INTO t (a) VALUES (%s)",
    "quoted": 'INSERT INTO "t" ("a") VALUES (%s)',
    "schema": 'INSERT INTO public."t" (a) VALUES (%s)',
    "spaced schema": "INSERT INTO public . t (a) VALUES (%s)",
    "select": "INSERT INTO t (a) SELECT b FROM u WHERE c = %s",
    "defaults": "INSERT INTO t DEFAULT VALUES",
    "do nothing": "INSERT INTO t (a) VALUES (%s) ON CONFLICT DO NOTHING",
    "or ignore": "INSERT OR IGNORE INTO t (a) VALUES (%s)",
    "returning": 'INSERT INTO "t" ("a") VALUES (%s) RETURNING "t"."id"',
    "alias": "INSERT INTO t AS x (a) VALUES (%s)",
    "cte within": "INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x",
    "function": "INSERT INTO t (a) VALUES (REPLACE(%s, 'a', 'b'))",
    "commented": "/* INSERT INTO u */ INSERT /* INTO u */ INTO t (a) VALUES (1) -- INTO u",
    "unnest": "INSERT INTO t (a) SELECT * FROM UNNEST((%s)::text[])",
}


@pytest.mark.parametrize("text", INSERTS.values(), ids=INSERTS)
def test_an_insert_adds_rows_to_its_target(text: str) -> None:
    assert (read(text).reach, read(text).target) == ("insert", "t")


UPSERTS = {
    "do update": "INSERT INTO t (a) VALUES (%s) ON CONFLICT (a) DO UPDATE SET b = 1",
    "do update where": "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 1 WHERE c",
    "lower case": "insert into t values (1) on conflict (a) do update set b = 1",
    "or replace": "INSERT OR REPLACE INTO t (a) VALUES (%s)",
    "replace": "REPLACE INTO t (a) VALUES (%s)",
    "duplicate key": "INSERT INTO t (a) VALUES (%s) ON DUPLICATE KEY UPDATE a = 1",
}


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("text", UPSERTS.values(), ids=UPSERTS)
def test_an_upsert_may_change_any_row_of_its_table(text: str, vendor: str) -> None:
    statement = read(text, vendor)
    assert statement.reach == "tables"
    assert "t" in ({statement.target} if statement.target else statement.names)


BY_KEY: dict[str, tuple[str, Equality]] = {
    "update": ('UPDATE "t" SET "a" = %s WHERE "t"."id" = %s', by("id", 1, (None,))),
    "delete": ('DELETE FROM "t" WHERE "t"."id" = %s', BY_PLACEHOLDER),
    "delete in": (
        'DELETE FROM "t" WHERE "t"."id" IN (%s, %s, %s)',
        by("id", 0, (None, None, None)),
    ),
    "in one": ("DELETE FROM t WHERE id IN (%s)", BY_PLACEHOLDER),
    "numbers": ("DELETE FROM t WHERE id IN (7, 8)", by("id", 0, (7, 8))),
    "mixed": ("DELETE FROM t WHERE id IN (7, %s)", by("id", 0, (7, None))),
    "number": ("UPDATE t SET a = %s WHERE id = 7", by("id", 1, (7,))),
    "parentheses": ("DELETE FROM t WHERE ((id = %s))", BY_PLACEHOLDER),
    "returning": ("DELETE FROM t WHERE id = %s RETURNING a", BY_PLACEHOLDER),
    "only": ("UPDATE ONLY t SET a = 1 WHERE id = %s", BY_PLACEHOLDER),
    "or ignore": ("UPDATE OR IGNORE t SET a = 1 WHERE id = %s", BY_PLACEHOLDER),
    "schema": ("DELETE FROM public.t WHERE id = %s", BY_PLACEHOLDER),
    "another column": ("DELETE FROM t WHERE a = %s", by("a", 0, (None,))),
    "expression": ("UPDATE t SET a = a + %s WHERE id = %s", by("id", 1, (None,))),
    "escaped percent": ("UPDATE t SET a = b %% %s WHERE id = %s", by("id", 1, (None,))),
    "binary parameter": ("UPDATE t SET a = %b WHERE id = %t", by("id", 1, (None,))),
    "subquery in SET": (
        "UPDATE t SET a = (SELECT b FROM u WHERE c = %s) WHERE id = %s",
        by("id", 1, (None,)),
    ),
    "CASE": (
        'UPDATE "t" SET "a" = (CASE WHEN ("t"."id" = %s) THEN %s END)::text WHERE "t"."id" IN (%s)',
        by("id", 2, (None,)),
    ),
    "semicolon at the end": ("DELETE FROM t WHERE id = %s;", BY_PLACEHOLDER),
    "comment": ("DELETE FROM t /* WHERE a = 1 */ WHERE id = %s -- OR true", BY_PLACEHOLDER),
}


@pytest.mark.parametrize(("text", "condition"), BY_KEY.values(), ids=BY_KEY)
def test_a_change_by_one_column_names_its_rows(text: str, condition: Equality) -> None:
    statement = read(text)
    assert (statement.reach, statement.target) == ("rows", "t")
    assert statement.changed is not None
    assert statement.changed.exact
    assert [replace(one, table=None) for one in statement.changed.where] == [condition]


def test_of_conditions_that_all_hold_those_that_are_equalities_describe_the_rows() -> None:
    text = (
        "UPDATE t SET a = 1 WHERE (t.id = %s AND b > 2 AND c IN (%s, %s) AND NOT d AND e IS NULL)"
    )
    changed = read(text).changed
    assert changed is not None
    assert not changed.exact
    assert [replace(one, table=None) for one in changed.where] == [
        by("id", 0, (None,)),
        by("c", 1, (None, None)),
        Equality(None, "d", (False,)),
        Equality(None, "e", (None,)),
    ]


def test_the_columns_of_a_key_are_compared_together() -> None:
    changed = read("DELETE FROM t WHERE (t.a, t.b) = (%s, %s)").changed
    assert changed is not None
    assert [(one.column, one.operands) for one in changed.where] == [
        ("a", (Parameter(0),)),
        ("b", (Parameter(1),)),
    ]


def test_what_an_update_assigns_is_read() -> None:
    text = 'UPDATE "t" SET "a" = %s, "b" = ("t"."b" + %s), "c" = NULL, "d" = 3 WHERE "t"."id" = %s'
    changed = read(text).changed
    assert changed is not None
    assert changed.assigned == (("a", Parameter(0)), ("b", UNKNOWN), ("c", None), ("d", 3))


NOT_BY_KEY = {
    "no condition": "DELETE FROM t",
    "or": "UPDATE t SET a = 1 WHERE id = %s OR b = 2",
    "or, in parentheses": "UPDATE t SET a = 1 WHERE (id = %s) OR (b = 2)",
    "not": "UPDATE t SET a = 1 WHERE NOT id = %s",
    "not in": "UPDATE t SET a = 1 WHERE id NOT IN (%s)",
    "unequal": "UPDATE t SET a = 1 WHERE id <> %s",
    "less": "UPDATE t SET a = 1 WHERE id < %s",
    "two lists": "DELETE FROM t WHERE id IN (%s) OR id IN (%s)",
    "two lists, in parentheses": "DELETE FROM t WHERE ((id IN (%s)) OR (id IN (%s)))",
    "empty list": "DELETE FROM t WHERE id IN ()",
    "subquery": "DELETE FROM t WHERE id IN (SELECT id FROM t WHERE a = %s)",
    "short subquery": "DELETE FROM t WHERE id IN (VALUES (%s))",
    "expression": "DELETE FROM t WHERE id = %s + 1",
    "column": "DELETE FROM t WHERE id = other",
    "literal": "DELETE FROM t WHERE id = '7'",
    "negative": "DELETE FROM t WHERE id = -7",
    "cast": "DELETE FROM t WHERE id = %s::int",
    "any": "DELETE FROM t WHERE id = ANY(%s)",
    "collation": "DELETE FROM t WHERE id = %s COLLATE NOCASE",
    "limit": "DELETE FROM t WHERE id = %s LIMIT 1",
    "cursor": "DELETE FROM t WHERE CURRENT OF c",
    "named parameter": "DELETE FROM t WHERE id = %(id)s",
    "sets a tuple": "UPDATE t SET (a, id) = (1, 9) WHERE id = %s",
    "sets a tuple later": "UPDATE t SET b = 1, (a, id) = (1, 9) WHERE id = %s",
    "from": "UPDATE t SET a = u.a FROM u WHERE id = %s",
    "alias": "UPDATE t AS x SET a = 1 WHERE id = %s",
    "another table's column": "DELETE FROM t WHERE u.id = %s",
    "placeholder in a literal": "UPDATE t SET a = '%s' WHERE id = %s",
    "placeholder in a comment": "UPDATE t SET /* %s */ a = %s WHERE id = %s",
    "placeholder in a name": 'UPDATE t SET "100%s" = %s WHERE id = %s',
}


@pytest.mark.parametrize("text", NOT_BY_KEY.values(), ids=NOT_BY_KEY)
def test_any_other_condition_names_no_rows(text: str) -> None:
    statement = read(text)
    assert (statement.reach, statement.changed) == ("tables", None)
    assert "t" in ({statement.target} if statement.target else statement.names)


WHOLE = {
    "using": ("DELETE FROM t USING u WHERE t.id = u.id", {"t"}),
    "alias without AS": ("UPDATE t x SET a = 1 WHERE x.id = %s", {"t"}),
    "star": ("DELETE FROM t * WHERE id = 7", {"t"}),
    "indexed by": ("UPDATE t INDEXED BY i SET a = 1 WHERE id = 7", {"t"}),
    "only, in parentheses": ("DELETE FROM ONLY (t) WHERE id = 7", {"t"}),
    "merge": ("MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE", {"t"}),
    "truncate": ("TRUNCATE t, public.u", {"t", "u"}),
    "truncate table": ('TRUNCATE TABLE "t", "u" RESTART IDENTITY CASCADE', {"t", "u"}),
    "cte deletes": ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", {"t"}),
    "cte inserts": ("WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT a FROM x", {"t"}),
    "cte feeds": ("WITH x AS (SELECT 1) UPDATE t SET a = 1 WHERE id = 7", {"t"}),
    "cte moves": (
        "WITH x AS (DELETE FROM t RETURNING *) INSERT INTO u SELECT * FROM x",
        {"t", "u"},
    ),
    "insert deletes": ("INSERT INTO t WITH x AS (DELETE FROM u RETURNING *) TABLE x", {"t", "u"}),
    "update or replace": ("UPDATE OR REPLACE t SET a = 1 WHERE id = 7", {"t"}),
    "select into": ("SELECT a INTO t FROM u", {"t"}),
    "explain analyze": ("EXPLAIN ANALYZE DELETE FROM t WHERE id = 7", {"t"}),
    "copy": ("COPY t FROM STDIN", {"t"}),
    "load": ("LOAD DATA INFILE 'x' INTO TABLE t", {"t"}),
    "refresh": ("REFRESH MATERIALIZED VIEW CONCURRENTLY t", {"t"}),
    "alter": ("ALTER TABLE t ADD COLUMN b int", {"t"}),
    "drop": ("DROP TABLE IF EXISTS t CASCADE", {"t"}),
    "rename": ('ALTER TABLE "new__t" RENAME TO "t"', {"t"}),
    "trigger": ("CREATE TRIGGER x AFTER INSERT ON t BEGIN UPDATE u SET a = 1; END", {"t", "u"}),
    "two statements": ("DELETE FROM t WHERE id = 7; UPDATE u SET a = 1 WHERE id = 7", {"t", "u"}),
    "after a query": ("SELECT 1; DELETE FROM t WHERE id = 7", {"t"}),
    "insert all": ("INSERT ALL INTO t VALUES (1) INTO u VALUES (2) SELECT 1", {"t", "u"}),
    "insert without INTO": ("INSERT t VALUES (1)", {"t"}),
}


@pytest.mark.parametrize(("text", "tables"), WHOLE.values(), ids=WHOLE)
def test_a_wider_write_may_change_any_row_of_the_tables_it_names(
    text: str, tables: set[str]
) -> None:
    statement = read(text)
    assert (statement.reach, statement.target, statement.changed) == ("tables", None, None)
    assert tables <= statement.names


SEVERAL_TABLES = {
    "update join": "UPDATE t JOIN u ON t.a = u.a SET t.b = 1, u.b = 2 WHERE t.id = %s",
    "update comma": "UPDATE t, u SET t.b = 1, u.b = 2 WHERE t.id = %s",
    "delete from": "DELETE t, u FROM t JOIN u ON t.a = u.a WHERE t.id = %s",
    "delete using": "DELETE FROM t, u USING t JOIN u ON t.a = u.a WHERE t.id = %s",
}


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("text", SEVERAL_TABLES.values(), ids=SEVERAL_TABLES)
def test_a_write_to_several_tables_may_change_any_row_of_each(text: str, vendor: str) -> None:
    statement = read(text, vendor)
    assert (statement.reach, statement.target) == ("tables", None)
    assert {"t", "u"} <= statement.names


@pytest.mark.parametrize(
    "text",
    [
        "CALL p()",
        "DO $$ BEGIN DELETE FROM t; END $$",
        "EXECUTE prepared(1)",
        "PREPARE x AS DELETE FROM t",
        "EXPLAIN ANALYZE EXECUTE x",
        "SELECT 1; CALL p()",
        "DROP SCHEMA s CASCADE",
        "DROP OWNED BY somebody",
        "ALTER SCHEMA s RENAME TO r",
        "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
        "SELECT 'no end",
        'SELECT "no end',
        "SELECT 1 /* no end",
        "SELECT $$ no end",
        'DELETE FROM U&"\\0074"',
        "SELECT E'a'\n'\\'' ; DELETE FROM t WHERE a = '",
    ],
)
def test_what_cannot_be_read_may_change_anything(text: str) -> None:
    statement = read(text)
    assert statement.reach == "everything"
    assert statement.deletes
    assert statement.ends_caching


HIDDEN: list[tuple[str, str]] = [
    ("postgresql", "/* /* */ ' */ DELETE FROM t -- '"),
    ("postgresql", "-- a comment ends at the carriage return\rDELETE FROM t"),
    ("postgresql", r"SELECT '\'; DELETE FROM t --'"),
    ("postgresql", "SELECT $a$ $b$ $a$; DELETE FROM t -- $b$"),
    ("postgresql", "SELECT a$b$ FROM c; DELETE FROM t -- $b$"),
    ("sqlite", "/* /* */ DELETE FROM t /* */"),
    ("sqlite", r"SELECT e'\' FROM u; DELETE FROM t --'"),
    ("sqlite", "SELECT [it's] FROM u; DELETE FROM t --'"),
    ("sqlite", "DELETE FROM 't'"),
    ("sqlite", "DELETE FROM main.'t'"),
    ("sqlite", "INSERT INTO main.'t' VALUES (1)"),
    ("sqlite", "UPDATE 't' SET a = 1 WHERE id = 7"),
    ("sqlite", "UPDATE t SET a = 1 WHERE for"),
    ("mysql", "/* it's */ DELETE FROM t /* that's */"),
    ("mysql", "-- it's\nDELETE FROM t -- '"),
    ("mysql", "# it's\nDELETE FROM t -- '"),
    ("mysql", "SELECT 5--1; DELETE FROM t"),
    ("mysql", 'SELECT "\\"" FROM u; DELETE FROM t -- "'),
    ("mysql", "/*! DELETE FROM t */"),
    ("mysql", "/*M!100100 DELETE FROM t */"),
    ("mysql", "UPDATE 2t SET a = 1"),
]


@pytest.mark.parametrize(("vendor", "text"), HIDDEN)
def test_a_write_that_only_one_database_would_see_is_seen_there(vendor: str, text: str) -> None:
    statement = read(text, vendor)
    assert statement.writes
    known = {statement.target} if statement.target else statement.names
    assert statement.reach == "everything" or {"t", "2t"} & known


@pytest.mark.parametrize("name", ["straße", "naïf", "Größe", "таблица"])
def test_a_name_outside_ascii_stays_what_it_is(name: str) -> None:
    assert read(f"DELETE FROM {name}").target == name.lower()
    assert name.lower() in read(f"SELECT a FROM {name}").names


# What else is known of a statement. ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "deletes"),
    [
        ("DELETE FROM t WHERE id = 7", True),
        ("TRUNCATE t", True),
        ("REPLACE INTO t VALUES (1)", True),
        ("INSERT OR REPLACE INTO t VALUES (1)", True),
        ("UPDATE OR REPLACE t SET a = 1", True),
        ("MERGE INTO t USING u ON a WHEN MATCHED THEN DELETE", True),
        ("WITH x AS (DELETE FROM t RETURNING *) SELECT 1", True),
        ("DROP TABLE t", True),
        ("SELECT 1; DELETE FROM t", True),
        ("INSERT INTO t VALUES (1)", False),
        ("UPDATE t SET a = 'DELETE'", False),
        ("SELECT 1", False),
    ],
)
def test_a_statement_that_may_delete_rows_is_known(text: str, deletes: bool) -> None:
    assert read(text).deletes is deletes


def test_a_truncate_that_cascades_is_known() -> None:
    assert read("TRUNCATE t CASCADE").cascades
    assert not read("TRUNCATE t").cascades
    assert not read("DROP TABLE t CASCADE").cascades


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t VALUES (1)",
        "UPDATE t SET a = 1",
        "DELETE FROM t",
        "CREATE TABLE t (a int)",
        "SELECT a FROM t FOR UPDATE",
        "SELECT a FROM t FOR NO KEY UPDATE",
        "SELECT a FROM t FOR UPDATE OF t SKIP LOCKED",
        "SELECT a FROM t FOR UPDATE NOWAIT",
        "SELECT a FROM t FOR SHARE",
        "SELECT a FROM t FOR KEY SHARE",
        "SELECT a FROM t LOCK IN SHARE MODE",
        "LOCK TABLE t IN SHARE MODE",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT pg_try_advisory_lock(1)",
        "SELECT GET_LOCK('a', 1)",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET LOCAL search_path TO a",
        "RESET ALL",
        "SELECT set_config('a', 'b', true)",
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "SELECT 1; SELECT a FROM t FOR UPDATE",
        "WITH x AS (DELETE FROM t RETURNING *) SELECT 1",
    ],
)
def test_what_writes_locks_or_sets_ends_caching(text: str) -> None:
    assert read(text).ends_caching


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "BEGIN",
        "COMMIT",
        "SAVEPOINT a",
        "SHOW transaction_isolation",
        "SELECT a FROM t WHERE b = 'FOR UPDATE'",
        'SELECT "set", "lock" FROM t',
        "SELECT a FROM t -- FOR UPDATE",
        "SELECT SUBSTRING(a FROM 1 FOR 2) FROM t",
    ],
)
def test_what_only_reads_goes_on_caching(text: str) -> None:
    assert not read(text).ends_caching


@pytest.mark.parametrize(
    ("text", "control", "savepoint"),
    [
        ("BEGIN", "begin", None),
        ("begin immediate", "begin", None),
        ("START TRANSACTION", "begin", None),
        ("COMMIT", "commit", None),
        ("END", "commit", None),
        ("ROLLBACK", "rollback", None),
        ("ABORT", "rollback", None),
        ('SAVEPOINT "s1_x2"', "savepoint", "s1_x2"),
        ("SAVEPOINT S1", "savepoint", "s1"),
        ('ROLLBACK TO SAVEPOINT "s1_x2"', "rollback to", "s1_x2"),
        ("ROLLBACK TO s1", "rollback to", "s1"),
        ("ROLLBACK TRANSACTION TO SAVEPOINT s1", "rollback to", "s1"),
        ('RELEASE SAVEPOINT "s1_x2"', "release", "s1_x2"),
        ("RELEASE s1", "release", "s1"),
        ("BEGIN; UPDATE t SET a = 1; COMMIT", "commit", None),
        ("UPDATE t SET a = 1; BEGIN", "begin", None),
        ("COMMIT; BEGIN", "commit", None),
        ("ROLLBACK; UPDATE t SET a = 1", "commit", None),
        ("SAVEPOINT a; UPDATE t SET a = 1; ROLLBACK TO a", "fold", None),
        ("SELECT 'COMMIT'", None, None),
        ("SELECT 1 -- COMMIT", None, None),
        ("CREATE TRIGGER x AFTER INSERT ON t BEGIN UPDATE u SET a = 1; END", None, None),
        ("CREATE TRIGGER x AFTER INSERT ON t BEGIN UPDATE u SET a = 1; END;", None, None),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END", None, None),
        ("BEGIN; CREATE FUNCTION f() RETURNS int AS 'x'; END", "commit", None),
    ],
)
def test_transactions_and_savepoints_are_followed(
    text: str, control: str | None, savepoint: str | None
) -> None:
    statement = read(text)
    assert (statement.control, statement.savepoint) == (control, savepoint)


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("SELECT RANDOM()", "RANDOM"),
        ("SELECT a FROM t ORDER BY RAND() ASC", "RAND"),
        ("SELECT a FROM t WHERE b < now ()", "NOW"),
        ("SELECT a FROM t WHERE b < CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP"),
        ("SELECT a FROM t WHERE b < STATEMENT_TIMESTAMP()", "STATEMENT_TIMESTAMP"),
        ("SELECT STRFTIME('%%Y', 'NOW')", "NOW"),
        ("SELECT 'now'::timestamp", "NOW"),
        ("SELECT a FROM t WHERE b < 'today'::date", "TODAY"),
        ("SELECT datetime()", "DATETIME"),
        ("SELECT datetime(a) FROM t", None),
        ("SELECT age(born) FROM t", "AGE"),
        ("SELECT nextval('s')", "NEXTVAL"),
        ("SELECT a FROM t TABLESAMPLE BERNOULLI (10)", "TABLESAMPLE"),
        ("SELECT 1; SELECT RANDOM()", "RANDOM"),
        ("SELECT random, age, uuid, now FROM t", None),
        ("SELECT a::uuid FROM t", None),
        ("SELECT t.current_user FROM t", None),
        ("SELECT \"random\", 'RANDOM()' FROM t -- RANDOM()", None),
    ],
)
def test_what_gives_another_answer_each_time_is_named(text: str, function: str | None) -> None:
    assert read(text).volatile == function


def test_a_statement_that_defines_or_returns_is_known() -> None:
    assert read("ALTER TABLE t ADD b int").defines
    assert not read("UPDATE t SET a = 1").defines
    assert read("DELETE FROM t RETURNING a").returns
    assert not read("DELETE FROM t WHERE a = 'RETURNING'").returns


def test_every_table_is_among_the_names() -> None:
    text = 'SELECT * FROM a, public."B" JOIN `c` USING (x) WHERE EXISTS (SELECT 1 FROM d U0)'
    assert {"a", "b", "c", "d"} <= read(text, "sqlite").names


def test_a_qualifier_is_no_mention() -> None:
    assert read('SELECT "t"."a", "t"."b" FROM "t"').mentions.count("t") == 1
    assert read('SELECT "t"."a" FROM "t" JOIN "t" u ON "t"."a" = u."b"').mentions.count("t") == 2


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t (a, b) VALUES {rows}",
        "INSERT INTO t (a, b) VALUES {rows} ON CONFLICT (a) DO UPDATE SET b = 1",
        "INSERT INTO t (a, b) VALUES {rows} RETURNING id",
        "INSERT INTO t (a, b) VALUES {rows}; DELETE FROM u WHERE id = %s",
        "SELECT a FROM t WHERE id IN ({list}) AND b = '{list}' FOR UPDATE",
        "WITH x AS (DELETE FROM t WHERE id IN ({list}) RETURNING a) SELECT a FROM x",
    ],
)
def test_a_long_statement_is_read_like_a_short_one(text: str) -> None:
    long = text.format(rows=", ".join(["(%s, %s)"] * 2000), list=", ".join(["%s"] * 2000))
    short = read(text.format(rows="(%s, %s)", list="%s"))
    assert replace(read(long), placeholders=0) == replace(short, placeholders=0)


def test_a_long_change_keeps_its_parameters_apart() -> None:
    keys = ", ".join(["%s"] * 2000)
    changed = read(f"UPDATE t SET a = %s WHERE id IN ({keys})").changed
    assert changed is not None
    assert changed.where == (by("id", 1, (None,) * 2000),)


# Whatever stands in a literal, a comment or a quoted identifier says nothing. ---------------------

HOLES = [
    "SELECT {} FROM t",
    "UPDATE t SET a = {} WHERE id = %s",
    "INSERT INTO t (a) VALUES ({})",
    "INSERT INTO t (a) VALUES (%s) ON CONFLICT (a) DO UPDATE SET b = {}",
    "WITH x AS (DELETE FROM t WHERE a = {} RETURNING *) SELECT a FROM x",
    "SELECT a FROM t WHERE b = {} FOR UPDATE",
    "TRUNCATE t; SELECT {}",
]
HOLES_BETWEEN = [
    "SELECT {} a FROM t",
    "{} DELETE FROM t WHERE id = %s",
    "DELETE FROM t WHERE id = %s {}",
    "UPDATE t SET a = {} %s WHERE id = %s",
    "INSERT INTO {} t (a) VALUES (%s) ON CONFLICT (a) DO {} NOTHING",
    "WITH x AS (DELETE FROM t {} RETURNING *) SELECT a FROM x",
    "SELECT a FROM t FOR {} UPDATE",
    "TRUNCATE t; {} SELECT 1",
    "SAVEPOINT {} s1",
    "ROLLBACK {}",
]


def facts(statement: Statement) -> dict[str, Any]:
    """All but the names."""
    known = asdict(statement)
    for name in ("deciding", "read", "bare"):
        (known["select"] or {}).pop(name, None)
    return {name: known[name] for name in known if name not in ("names", "mentions")}


words = st.lists(
    st.sampled_from(
        "DELETE FROM t ; ' '' \" \"\" ` \\ \\' -- \n \r /* */ /*! # $$ $a$ E' U& ( ) %% INTO SET "
        "COMMIT FOR UPDATE CALL RANDOM() WHERE id = 7 OR".split(" ")
    )
).map(" ".join)
anything = st.one_of(words, st.text()).map(
    lambda text: text.replace("\0", "").replace("%", "%%")  # as a percent sign is written
)


def literal(text: str, vendor: str) -> str:
    if vendor == "mysql":
        text = text.replace("\\", "\\\\")
    return "'" + text.replace("'", "''") + "'"


def escaped_literal(text: str) -> str:
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@pytest.mark.parametrize("vendor", VENDORS)
@unhurried
@given(text=anything, hole=st.sampled_from(HOLES))
@example(text="'; DELETE FROM t --", hole=HOLES[0])
def test_no_text_in_a_literal_changes_the_reading(vendor: str, text: str, hole: str) -> None:
    text = "" if read(f"SELECT {literal(text, vendor)}", vendor).volatile else text  # 'now'
    plain = facts(read(hole.format("''"), vendor))
    assert facts(read(hole.format(literal(text, vendor)), vendor)) == plain
    if vendor == "postgresql":
        assert facts(read(hole.format(escaped_literal(text)))) == plain
        if "$" not in text:
            assert facts(read(hole.format(f"$a${text}$a$"))) == plain


@pytest.mark.parametrize("vendor", VENDORS)
@unhurried
@given(text=anything, hole=st.sampled_from(HOLES_BETWEEN))
@example(text="; DELETE FROM t", hole=HOLES_BETWEEN[0])
@example(text="it's", hole=HOLES_BETWEEN[1])
def test_no_text_in_a_comment_changes_the_reading(vendor: str, text: str, hole: str) -> None:
    plain = read(hole.replace("{}", ""), vendor)
    block = text.replace("*", "").replace("/", "")
    line = text.replace("\n", "").replace("\r", "")
    assert read(hole.replace("{}", f"/* {block} */"), vendor) == plain
    assert read(hole.replace("{}", f"-- {line}\n"), vendor) == plain
    if vendor == "postgresql":
        assert read(hole.replace("{}", f"/* {block} /* {block} */ {block} */")) == plain
    if vendor == "mysql":
        assert read(hole.replace("{}", f"# {line}\n"), vendor) == plain


@pytest.mark.parametrize("vendor", VENDORS)
@unhurried
@given(text=anything.filter(bool), hole=st.sampled_from(HOLES))
@example(text='"; DELETE FROM t --', hole=HOLES[0])
def test_no_text_in_a_quoted_identifier_changes_more_than_the_names(
    vendor: str, text: str, hole: str
) -> None:
    text = text.replace("\\", "")  # an escape in MySQL, where double quotes make a literal
    plain = facts(read(hole.format('"x"'), vendor))
    quoted = '"' + text.replace('"', '""') + '"'
    assert facts(read(hole.format(quoted), vendor)) == plain
    if vendor != "postgresql":
        quoted = "`" + text.replace("`", "``") + "`"
        assert facts(read(hole.format(quoted), vendor)) == plain


@pytest.mark.parametrize("vendor", ["", "oracle", *VENDORS])
@unhurried
@given(text=st.one_of(words, st.text()))
def test_every_text_can_be_read(vendor: str, text: str) -> None:
    statement = read(text, vendor)
    assert statement.reach in ("none", "insert", "rows", "tables", "everything")
    assert statement.ends_caching or not statement.writes
