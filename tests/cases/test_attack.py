"""Answers that a precise dependency must not leave stale."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from django.db import transaction

from loom_cache import CachedRepository, drivers, generations, permission, reading, terminals
from loom_cache.steps import Enrol
from testproject.news.models import Article, Author

pytestmark = pytest.mark.django_db(transaction=True)


class Articles(CachedRepository[Article]):
    model = Article


articles = Articles()


@pytest.fixture
def author(transactional_db: None) -> Author:
    return Author.objects.create(name="Ada")


def test_a_combination_learnt_while_a_writer_of_the_same_process_publishes_is_not_missed(
    store: str, author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread has loaded, and lists a combination between another's look at the lists that this
    process knows and its bump."""
    resolver = generations.resolver()
    assert resolver is not None
    list(articles.filter(slug="other"))  # the table has a list
    mine = articles.filter(author=author)
    plan: Any = terminals.plan_of(mine, "list", (), {})
    steps = reading.answer(plan, permission.standing(plan, resolver, on_loop=False), {})
    request = next(steps)
    while not isinstance(request, Enrol):
        request = steps.send(drivers._do(request, resolver))
    publish = resolver.publish_sync

    def after_the_reader(tags: Sequence[str], reads: Sequence[str] = ()) -> Any:
        nonlocal request
        monkeypatch.undo()
        with suppress(StopIteration):
            while True:
                request = steps.send(drivers._do(request, resolver))
        return publish(tags, reads)

    monkeypatch.setattr(resolver, "publish_sync", after_the_reader)
    with transaction.atomic():
        Article.objects.create(author=author, slug="new", title="new")
    assert [one.slug for one in mine] == ["new"]
