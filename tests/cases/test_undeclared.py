"""Where declarations are required, a cached method that reads an undeclared table fails, and says
which."""

from collections.abc import Iterator

import pytest
from django.test import override_settings

from loom_cache import CachedRepository, cached_query
from loom_cache.exceptions import UndeclaredDependency
from loom_cache.testing import requiring_depends_on
from testproject.news.models import Article, Author, Comment
from tests.library.models import Place, Shop

pytestmark = pytest.mark.django_db(transaction=True)


class Articles(CachedRepository[Article]):
    model = Article

    @cached_query
    def titles(self) -> list[str]:
        return list(Article.objects.values_list("title", flat=True))

    @cached_query(depends_on=[Author])
    def names(self) -> list[str]:
        return list(Article.objects.values_list("author__name", flat=True))

    @cached_query
    def undeclared(self) -> list[str]:
        return list(Article.objects.values_list("author__name", flat=True))

    @cached_query
    async def twice_undeclared(self) -> int:
        return await Author.objects.acount() + await Comment.objects.acount()


class Shops(CachedRepository[Shop]):
    model = Shop

    @cached_query
    def names(self) -> list[str]:
        return list(Shop.objects.values_list("name", flat=True))


articles, shops = Articles(), Shops()


@pytest.fixture
def required(store: str) -> Iterator[None]:
    with requiring_depends_on():
        yield


@pytest.mark.usefixtures("required")
def test_a_method_that_reads_its_own_model_needs_no_declaration() -> None:
    assert articles.titles() == []


@pytest.mark.usefixtures("required")
def test_a_method_of_a_child_reads_its_parents_tables_without_declaring_them() -> None:
    Place.objects.create(name="Park")
    Shop.objects.create(name="Yarn")
    assert shops.names() == ["Yarn"]


@pytest.mark.usefixtures("required")
def test_a_method_that_declares_what_it_reads_is_answered() -> None:
    assert articles.names() == []


@pytest.mark.usefixtures("required")
def test_a_method_that_reads_an_undeclared_table_fails_with_the_cure() -> None:
    with pytest.raises(UndeclaredDependency) as caught:
        articles.undeclared()
    assert str(caught.value) == (
        "Articles.undeclared reads the table news_author, which its declaration does not name; "
        "write @cached_query(depends_on=['news.Author'])."
    )


@pytest.mark.usefixtures("required")
async def test_all_undeclared_tables_are_named_at_once() -> None:
    with pytest.raises(UndeclaredDependency, match="tables news_author, news_comment"):
        await articles.twice_undeclared()


def test_the_setting_requires_declarations_as_well(store: str) -> None:
    with (
        override_settings(LOOM_CACHE={"REQUIRE_DEPENDS_ON": True}),
        pytest.raises(UndeclaredDependency),
    ):
        articles.undeclared()


def test_elsewhere_an_undeclared_table_is_learnt(store: str) -> None:
    assert articles.undeclared() == articles.undeclared() == []
