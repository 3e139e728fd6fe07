"""Stale answers that the model-based test has found."""

from __future__ import annotations

import pytest
from django.db import transaction

from loom_cache import CachedRepository
from testproject.news.models import Author
from tests.cases.conftest import Ask

pytestmark = pytest.mark.django_db(transaction=True)


class Authors(CachedRepository[Author]):
    model = Author


authors = Authors()


def test_what_sqlite_commits_at_the_release_of_an_outermost_savepoint_is_published(
    ask: Ask,
) -> None:
    """With autocommit off, SQLite begins a transaction at SAVEPOINT and commits it at RELEASE;
    the rollback() that follows takes nothing back."""
    assert ask(authors, "count") == 0
    transaction.set_autocommit(False)
    try:
        with transaction.atomic():
            Author.objects.create(name="Ada")
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)
    assert ask(authors, "count") == Author.objects.count()
