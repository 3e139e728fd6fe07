"""A table that belongs to no model, read by SQL within a chain or a method: what is written to it
through a Django cursor is seen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection
from django.db.models.expressions import RawSQL

from loom_cache import CachedRepository, cached_query
from testproject.news.models import Tag
from tests.cases.conftest import Ask

pytestmark = pytest.mark.django_db(transaction=True)

NEWEST = "SELECT MAX(number) FROM peers_ledger"


class Tags(CachedRepository[Tag]):
    model = Tag

    @cached_query
    def newest(self) -> int:
        with connection.cursor() as cursor:
            cursor.execute(NEWEST)
            number: int = cursor.fetchone()[0]
            return number


tags = Tags()


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture(autouse=True)
def ledger(transactional_db: None) -> Iterator[None]:
    execute("CREATE TABLE peers_ledger (number integer)")
    execute("INSERT INTO peers_ledger VALUES (1)")
    yield
    execute("DROP TABLE peers_ledger")


def test_a_chain_with_sql_about_such_a_table_is_fresh(ask: Ask) -> None:
    Tag.objects.create(name="loom")
    numbers = tags.annotate(newest=RawSQL(NEWEST, ())).values_list("newest", flat=True)
    for _ in range(2):
        assert ask(numbers, "list") == [1]
    execute("UPDATE peers_ledger SET number = 2")
    assert ask(numbers, "list") == [2]


def test_a_method_with_sql_about_such_a_table_is_fresh(store: str) -> None:
    for _ in range(3):
        assert tags.newest() == 1
    execute("UPDATE peers_ledger SET number = 2")
    assert tags.newest() == 2
