"""Mistakes in declaring or using a repository are told where they are made, with the cure."""

from typing import Generic, TypeVar

import pytest

from loom_cache import CachedRepository
from loom_cache.exceptions import ConfigurationError
from testproject.news.models import Article, Author


class Articles(CachedRepository[Article]):
    model = Article


@pytest.mark.parametrize("name", ["create", "acreate", "update", "adelete", "bulk_create"])
def test_who_writes_through_a_repository_is_told_where_to_write(name: str) -> None:
    for reader in (Articles(), Articles().filter(pk=1)):
        with pytest.raises(AttributeError, match=rf"only reads.*Article\.objects\.{name}\(\)"):
            getattr(reader, name)
        assert not hasattr(reader, name)


def test_a_repository_may_have_a_method_of_that_name() -> None:
    class Renaming(Articles):
        def update(self) -> str:
            return "mine"

    assert Renaming().update() == "mine"


def test_a_base_class_may_have_a_method_of_that_name() -> None:
    """Wherever it stands among the bases: a repository is a mixin."""

    class Base:
        def create(self) -> str:
            return "theirs"

    class Mixed(CachedRepository[Article], Base):
        model = Article

    assert Mixed().create() == "theirs"
    assert Mixed.create(Mixed()) == "theirs"


def test_a_queryset_of_another_model_than_the_one_named_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"CachedRepository\[Article\].*queryset is of Au"):

        class Wrong(CachedRepository[Article]):
            queryset = Author.objects.all()


def test_the_model_named_to_another_base_is_not_the_repository_s() -> None:
    named = TypeVar("named")

    class Owned(Generic[named]):
        pass

    class Mixed(Owned[Author], CachedRepository[Article]):
        queryset = Article.objects.all()

    assert Mixed.model is Article


def test_a_version_that_is_a_method_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"Versioned\.version is a function"):

        class Versioned(CachedRepository[Article]):
            model = Article

            def version(self) -> int:  # type: ignore[override]
                return 1
