"""What every test may use: servers of its own, and a choice of what the tests run on.

LOOM_TEST_DB=postgresql runs them on PostgreSQL instead of SQLite (see testproject/settings.py; a
server is started unless PGHOST names one), LOOM_TEST_STORE=redis on Redis instead of this process's
memory. Tests that are about one database or one store choose for themselves.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections
from django.test import override_settings

from tests import thinning
from tests.emptying import emptying_what_is_filled
from tests.services.postgres import PostgresServer
from tests.services.redis import RedisServer


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    thinning.deselect(config, items)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A running Redis that nobody else uses."""
    with RedisServer().start() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL that nobody else uses."""
    with PostgresServer().start() as server:
        yield server


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    request: pytest.FixtureRequest, django_db_modify_db_settings_parallel_suffix: None
) -> None:
    """pytest-django's hook, called before the test databases are made."""
    if os.environ.get("LOOM_TEST_DB") == "postgresql" and "PGHOST" not in os.environ:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        for database in settings.DATABASES.values():
            database.update(server.settings())


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Closes, before the test databases go, the connections of the thread in which asyncio's
    loops run synchronous code."""
    with ExitStack() as stack:
        with django_db_blocker.unblock():
            stack.enter_context(emptying_what_is_filled())
        yield
    asyncio.run(sync_to_async(connections.close_all)())


@pytest.fixture(scope="session", autouse=True)
def chosen_store(request: pytest.FixtureRequest) -> Iterator[None]:
    """Puts the cache where LOOM_TEST_STORE says."""
    if os.environ.get("LOOM_TEST_STORE") != "redis":
        yield
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    with override_settings(LOOM_CACHE={"LOCATION": server.url}):
        yield
