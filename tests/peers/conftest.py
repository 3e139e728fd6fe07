"""What the ported behaviours run on: the store that LOOM_TEST_STORE names, asked synchronously if
it is in memory and asynchronously if it is a Redis; where it matters (asking.PAIRS), both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.postgres.apps import uninstall_if_needed
from django.contrib.postgres.signals import get_hstore_oids
from django.core.signals import setting_changed
from django.db import connection, transaction
from django.test import override_settings

from testproject.news.models import Article, Author, Comment, Tag
from tests.cases.conftest import Ask
from tests.cases.interleaving import elsewhere
from tests.fieldapp.install import field_app
from tests.library.models import Reader
from tests.peers.asking import asynchronously, synchronously
from tests.services.redis import RedisServer

__all__ = ["elsewhere", "field_app"]

STORE = os.environ.get("LOOM_TEST_STORE", "memory")
_numbers = count()

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

ADA, BEN, CAT = 1_000_001, 1_000_002, 1_000_003  # far from what a sequence gives
ONE, TWO, THREE = 2_000_001, 2_000_002, 2_000_003
LOOM, WOOL = 3_000_001, 3_000_002
FIRST, SECOND, THIRD = 4_000_001, 4_000_002, 4_000_003
EVE = UUID(int=1)


@pytest.fixture
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty store of this test's own."""
    kind: str = getattr(request, "param", STORE)
    location = "memory://?ttl_cap=600"
    if kind == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        location = server.url
    with override_settings(
        LOOM_CACHE={"LOCATION": location, "NAMESPACE": f"peers{next(_numbers)}", "TIMEOUT": 5}
    ):
        yield kind


@pytest.fixture
def ask(store: str) -> Ask:
    """`ask(articles, "get", pk=7)`: the terminal of that name, asynchronous or synchronous."""
    return asynchronously if store == "redis" else synchronously


@pytest.fixture
def news(transactional_db: None) -> None:
    """Three authors, three articles (the last is not published), two tags, three comments."""
    with transaction.atomic():
        Author.objects.bulk_create(
            Author(pk=pk, name=name) for pk, name in ((ADA, "Ada"), (BEN, "Ben"), (CAT, "Cat"))
        )
        Article.objects.bulk_create(
            Article(
                pk=pk,
                author_id=author,
                editor_id=BEN if pk == ONE else None,
                slug=f"article-{number}",
                title=f"Article {number}",
                published=pk != THREE,
                views=number,
                created=NOON + timedelta(days=40 * number),
            )
            for number, (pk, author) in enumerate(((ONE, ADA), (TWO, ADA), (THREE, BEN)), start=1)
        )
        Tag.objects.bulk_create([Tag(pk=LOOM, name="loom"), Tag(pk=WOOL, name="wool")])
        link = Article.tags.through
        link.objects.bulk_create(
            link(article_id=article, tag_id=tag)
            for article, tag in ((ONE, LOOM), (TWO, LOOM), (ONE, WOOL))
        )
        Comment.objects.bulk_create(
            Comment(
                pk=pk, article_id=article, author_name="Eve", text=f"Comment {pk}", created=NOON
            )
            for pk, article in ((FIRST, ONE), (SECOND, ONE), (THIRD, THREE))
        )
        Reader.objects.create(pk=EVE, name="Eve")


@pytest.fixture(scope="module")
def peers_app(field_app: None, django_db_blocker: Any) -> Iterator[None]:
    """tests.peers is installed, and its tables exist; on PostgreSQL its extensions, too."""
    on_postgresql = connection.vendor == "postgresql"
    with django_db_blocker.unblock():
        added = ["tests.peers", *(_postgresql_extras() if on_postgresql else [])]
        installing = override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, *added])
        installing.enable()
        found = apps.get_app_config("peers").get_models()
        models = [model for model in found if not model._meta.proxy]
        with connection.schema_editor() as editor:
            for model in models:
                editor.create_model(model)
    yield
    with django_db_blocker.unblock():
        with connection.schema_editor() as editor:
            for model in reversed(models):
                editor.delete_model(model)
        installing.disable()
        if on_postgresql:  # it would take itself out again with every other app that goes
            setting_changed.disconnect(uninstall_if_needed)


def _postgresql_extras() -> list[str]:
    """Make PostgreSQL's extensions; the app that knows them."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS hstore")
        cursor.execute("CREATE EXTENSION IF NOT EXISTS unaccent")
    remembering: Any = get_hstore_oids
    remembering.cache_clear()
    from tests.peers import postgres  # noqa: F401  its model is one of tests.peers

    app = "django.contrib.postgres"
    return [] if apps.is_installed(app) else [app]
