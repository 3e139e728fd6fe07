"""What the cases run on: every test that asks for `ask` runs with the memory and the Redis store,
asynchronously and synchronously; the database is chosen by LOOM_TEST_DB. LOOM_TEST_STORES=redis
leaves out the memory store."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from loom_cache import metrics
from tests.services.redis import RedisServer

_numbers = count()
Ask = Callable[..., Any]


STORES = os.environ.get("LOOM_TEST_STORES", "memory redis").split()


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty store of this test's own."""
    kind: str = request.param
    location = "memory://?ttl_cap=600"
    if kind == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        location = server.url
    with override_settings(
        LOOM_CACHE={"LOCATION": location, "NAMESPACE": f"test{next(_numbers)}", "TIMEOUT": 5}
    ):
        yield kind


@pytest.fixture(params=["async", "sync"])
def ask(request: pytest.FixtureRequest, store: str) -> Ask:
    """`ask(articles, "get", pk=7)`: the terminal of that name, asynchronous or synchronous."""

    def asynchronously(query: Any, terminal: str, *args: Any, **kwargs: Any) -> Any:
        return async_to_sync(getattr(query, f"a{terminal}"))(*args, **kwargs)

    def synchronously(query: Any, terminal: str, *args: Any, **kwargs: Any) -> Any:
        if terminal == "list":
            return list(query)
        return getattr(query, terminal)(*args, **kwargs)

    return asynchronously if request.param == "async" else synchronously


@contextmanager
def statements(number: int) -> Iterator[None]:
    """The block runs so many SQL statements on the default connection of this thread (which
    async_to_sync uses, too)."""
    with CaptureQueriesContext(connection) as captured:
        yield
    assert len(captured) == number, [query["sql"] for query in captured.captured_queries]


@contextmanager
def outcomes(*expected: str) -> Iterator[None]:
    """The reads of the block end so: "hit", "miss", or "bypass"."""
    with metrics.recording() as events:
        yield
    found = [event.outcome for event in events if isinstance(event, metrics.Read)]
    assert found == list(expected), events
