"""Credentials are told to nobody but the server: not in logs, messages, reprs, nor tracebacks."""

from __future__ import annotations

import io
import logging
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.test import override_settings

from loom_cache import CachedRepository, CacheGateway, config, generations, invalidate, resilience
from loom_cache.backends.redis import RedisCache
from loom_cache.backends.redis.server import Server
from loom_cache.exceptions import LoomCacheError, StoreUnavailable
from loom_cache.generations import GenerationalDependencyResolver
from testproject.news.models import Article
from tests.services.redis import RedisServer

pytestmark = pytest.mark.django_db(transaction=True)

SECRETS = ("open-sesame", "open%2Dsesame", "sesame")


class Articles(CachedRepository[Article]):
    model = Article


class Told:
    """All that anybody could have read."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, *things: object) -> None:
        for thing in things:
            self.texts += [repr(thing), str(thing)]
            if isinstance(thing, BaseException):
                self.texts += traceback.format_exception(thing)
                self.add(*filter(None, (thing.__cause__, *map(str, thing.args))))

    def attempt(self, act: Callable[[], object]) -> None:
        """Whatever comes of it."""
        try:
            self.add(act())
        except (LoomCacheError, CommandError, ValueError, TypeError) as error:
            self.add(error)

    def check(self) -> None:
        everything = "\n".join(self.texts)
        assert len(everything) > 200
        for secret in SECRETS:
            assert secret not in everything, everything[everything.index(secret) - 300 :][:600]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[Told]:
    """Also what every logger says, and what is printed."""
    caplog.set_level(logging.DEBUG)
    found = Told()
    yield found
    for record in caplog.records:
        formatted = logging.Formatter().format(record)
        if record.name != "django.db.backends":  # its SQL is the project's own
            found.texts.append(formatted)
    found.texts += capfd.readouterr()
    found.check()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resilience, "PROBES", (0.01,))


LOCATIONS = [
    "redis://user:open-sesame@127.0.0.1:1/0",
    "redis://:open%2Dsesame@127.0.0.1:1",
    "redis://127.0.0.1:1/0?password=open-sesame",
    "rediss://user:open-sesame@127.0.0.1:1/0",
    "unix://user:open-sesame@/nowhere/redis.sock",
    "unix:///nowhere/redis.sock?password=open-sesame",
]
BROKEN = [
    "redis://user:open-sesame@127.0.0.1:port",
    "redis://user:open/sesame@127.0.0.1:1",
    "redis://user:12/open-sesame@127.0.0.1:1",
    "redis://user:12?open-sesame=x@127.0.0.1:1",
    "redis://user:12#open-sesame@127.0.0.1:1",
    "redis://127.0.0.1:1?open_timeout=sesame",
    "redis://127.0.0.1:1?socket_timeout=open-sesame",
    "unix://user:open/sesame@/nowhere/redis.sock",
    "memory://user:open-sesame@host",
    "memory://?ttl_cap=open-sesame",
    "http://user:open-sesame@host",
    "user:open-sesame://host",
    "user:open-sesame@host",
    "redis://[open-sesame",
]
SERIALIZER = {"class": "loom_cache.MsgspecSerializer"}
PLACE = {"endpoint": "127.0.0.1", "port": 1, "password": "open-sesame"}
ALIASES: list[dict[str, Any]] = [
    {"cache": "aiocache.RedisCache", **PLACE},
    {"cache": "aiocache.RedisCache", **PLACE, "port": "open-sesame"},
    {"cache": "aiocache.RedisCache", **PLACE, "db": "open-sesame"},
    {"cache": "aiocache.RedisCache", **PLACE, "endpoint": "redis://:open-sesame@127.0.0.1"},
    {"cache": "aiocache.RedisCache", **PLACE, "ssl": True},
    {
        "cache": "aiocache.RedisCache",
        **PLACE,
        "connection_pool_kwargs": {"username": "sesame", "socket_keepalive": True},
    },
    {"cache": "aiocache.RedisCache", "url": "redis://:open-sesame@127.0.0.1:1"},
    {"cache": "aiocache.RedisCache", "url": "open-sesame"},
    {"cache": "aiocache.RedisCache", "connection_pool_kwargs": "open-sesame"},
    {"cache": "aiocache.SimpleMemoryCache", "password": "open-sesame"},
    {"cache": "nowhere.Cache", "password": "open-sesame"},
]


def of_location(location: str) -> dict[str, Any]:
    return {"LOCATION": location, "TIMEOUT": 1, "WRITE_TIMEOUT": 1}


def of_alias(alias: dict[str, Any]) -> dict[str, Any]:
    return {"AIOCACHE_CONFIG": {"default": {**alias, "serializer": SERIALIZER}, "counters": alias}}


SETTINGS = [
    *(pytest.param(of_location(one), id=one) for one in LOCATIONS + BROKEN),
    *(pytest.param(of_alias(one), id=f"alias {at}") for at, one in enumerate(ALIASES)),
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_whatever_is_wrong_with_the_settings_or_the_store(
    settings: dict[str, Any], told: Told
) -> None:
    articles = Articles()
    with override_settings(LOOM_CACHE=settings):
        told.add(*run_checks(), config.current(), config.problems())
        told.attempt(lambda: config.parse(settings))
        told.attempt(lambda: list(articles.all()))
        told.attempt(lambda: async_to_sync(articles.acount)())
        told.attempt(lambda: Article.objects.filter(pk=1).delete())
        told.attempt(lambda: invalidate(Article))
        for alias in ("default", "counters"):
            told.attempt(partial(looked_at, told, alias))
        for command in (["inspect"], ["flush", "--all"], ["inspect", "news.Article"]):
            told.attempt(partial(ordered, told, *command))
        resolver = generations.resolver()
        if resolver is not None:
            told.add(resolver, *vars(resolver).values(), *vars(resolver.breaker).values())
            resolver.breaker.stop()


def looked_at(told: Told, alias: str) -> None:
    """A gateway, and all that is behind it, asked and shown."""
    gateway = CacheGateway(alias=alias)
    store: Any = gateway._store
    told.add(gateway, store)
    server = getattr(store, "_server", None)
    if isinstance(server, Server):
        told.add(server, server.address, server.sync, server._async_link(), server._sync_link())
    for act in (
        lambda: gateway.get_value_sync("a"),
        lambda: gateway.incr_sync("a"),
        lambda: gateway.bump_sync(["a"]),
        lambda: async_to_sync(gateway.get_value)("a"),
        lambda: async_to_sync(gateway.bump)(["a"]),
    ):
        told.attempt(act)


def ordered(told: Told, *arguments: str) -> None:
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command("loom_cache", *arguments, stdout=out, stderr=err)
    finally:
        told.texts += [out.getvalue(), err.getvalue()]


def asked(told: Told, url: str) -> None:
    """A read and a write of a store with that address, each way."""
    cache = RedisCache(url=url, timeout=5, write_timeout=5)
    for act in (
        lambda: cache.fetch_sync(["a"]),
        lambda: cache.bump_sync(["a"]),
        lambda: async_to_sync(cache.fetch)(["a"]),
        lambda: async_to_sync(cache.bump)(["a"]),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            act()
        told.add(caught.value)
    cache.disconnect_sync()


def test_a_server_that_wants_another_password(told: Told) -> None:
    with RedisServer().start(tcp=True, requirepass="another") as server:
        asked(told, server.url.replace("another", "open-sesame"))
        asked(told, server.url.replace(":another@", "sesame:open-sesame@"))


@pytest.fixture
def repeating() -> Iterator[str]:
    """The address of a server that knows no command, and says what it was told (as Redis does
    where AUTH was renamed)."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=[connection], daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65536):
                for command in data.decode().removeprefix("*").split("\r\n*"):
                    name, *given = command.split("\r\n")[2::2]
                    said = f"unknown command '{name}', with args beginning with: {given}"
                    connection.sendall(f"-ERR {said}\r\n".encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"127.0.0.1:{listening.getsockname()[1]}"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(5)


def test_a_server_that_repeats_what_it_was_told(told: Told, repeating: str) -> None:
    asked(told, f"redis://sesame:open-sesame@{repeating}/0")
    asked(told, f"redis://:open-sesame@{repeating}/0?protocol=3")


def test_a_refused_command_is_told_without_its_arguments(told: Told, repeating: str) -> None:
    """They may be a row."""
    cache = RedisCache(url=f"redis://{repeating}/0?protocol=2", timeout=5)
    row = SECRETS[0].encode()
    with pytest.raises(StoreUnavailable, match="SET") as caught:
        cache.store_sync([("key", row, 5)])
    told.add(caught.value)
    cache.disconnect_sync()


def test_the_resolver_is_one_of_these_settings() -> None:
    """Else nothing would be shown above."""
    with override_settings(LOOM_CACHE=of_location(LOCATIONS[0])):
        assert isinstance(generations.resolver(), GenerationalDependencyResolver)
