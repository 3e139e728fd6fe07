"""Reading (cases 1-9, 40): what is answered from the cache, and that it is what the database says."""

import pytest

from tests.cases.conftest import Ask, statements
from testproject.news.models import Article, Author
from testproject.news.repositories import articles

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def author() -> Author:
    return Author.objects.create(name="Ada")


def test_the_second_identical_read_runs_no_sql(ask: Ask, author: Author) -> None:
    article = Article.objects.create(author=author, slug="one", title="One")
    first = ask(articles, "get", pk=article.pk)
    with statements(0):
        second = ask(articles, "get", pk=article.pk)
    assert second == first
    assert second is not first
    assert second.author == author
