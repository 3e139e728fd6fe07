"""`manage.py loom_cache doctor`: what is well with the cache, what is not, and the cure."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import override_settings

from loom_cache import (
    CachedRepository,
    GenerationalDependencyResolver,
    counters,
    entries,
    generations,
)
from loom_cache.backends import Facts
from loom_cache.doctor import Finding, Level, examine
from loom_cache.doctor.contents import SAMPLE
from loom_cache.doctor.examination import of_timeout
from loom_cache.doctor.server import of_clocks, of_server
from testproject.news.models import Article, Author
from tests.cases import stored
from tests.services.redis import RedisServer

in_database = pytest.mark.django_db(transaction=True)

ONE = 1_000_001
SERIALIZER = {"class": "loom_cache.MsgspecSerializer"}
TABLE = "loom:g:{news_article}"


class Articles(CachedRepository[Article]):
    model = Article


articles = Articles()


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[RedisServer]:
    """An empty Redis, in use."""
    redis_server.reset()
    with override_settings(LOOM_CACHE={"LOCATION": redis_server.url, "TIMEOUT": 5}):
        yield redis_server


def run(*arguments: str) -> str:
    """What the command says."""
    said = StringIO()
    call_command("loom_cache", "doctor", *arguments, stdout=said, stderr=StringIO())
    return " ".join(said.getvalue().split())


def failing(*arguments: str) -> str:
    """What it says and complains of, when that is an error."""
    said = StringIO()
    with pytest.raises(CommandError) as raised:
        call_command("loom_cache", "doctor", *arguments, stdout=said, stderr=StringIO())
    return f"{' '.join(said.getvalue().split())} {raised.value}"


def found(about: str) -> Finding:
    """The one finding about something."""
    (one,) = [finding for finding in examine() if finding.about == about]
    return one


def of(**facts: Any) -> dict[str, Finding]:
    """What is said of a Redis with these facts, by what it is about."""
    strict = facts.pop("strict", False)
    return {one.about: one for one in of_server(Facts(kind="Redis", **facts), strict=strict)}


# A server that is well. ---------------------------------------------------------------------------


@in_database
@pytest.mark.usefixtures("server")
def test_of_a_server_that_is_well_every_line_is_ok() -> None:
    Author.objects.create(pk=ONE, name="Ada")
    articles.count()
    said = run()
    assert said.endswith("All is well.")
    assert {one.level for one in examine()} == {Level.OK}
    abouts = "store permission role memory persistence clock connection timeout aliases seeds"
    assert {*abouts.split(), "writers", "entries", "process"} <= {one.about for one in examine()}
    assert "The store is Redis " in said
    assert "the median of 20" in said
    assert "on one server: a hit is one round trip." in said


@in_database
def test_nothing_is_changed_by_looking(server: RedisServer) -> None:
    articles.count()
    before = stored._everything()
    run()
    assert stored._everything() == before


@pytest.mark.usefixtures("server")
def test_as_json_every_finding_has_its_level_and_its_cure() -> None:
    for option in (["--json"], ["--format", "json"]):
        said = json.loads(run(*option))
        assert {tuple(one) for one in said} == {("level", "about", "message", "cure")}
        assert [one["about"] for one in said] == [one.about for one in examine()]
        assert {one["level"] for one in said} == {"ok"}


@in_database
def test_of_a_store_in_memory_it_says_what_there_is_to_say() -> None:
    with override_settings(LOOM_CACHE={"LOCATION": "memory://?ttl_cap=600"}):
        articles.count()
        said = run()
    assert "The store is the memory of this process." in said
    assert "This code can read what is stored (1 looked at)." in said
    assert said.endswith("All is well.")


def test_of_a_foreign_store_it_says_what_it_lacks() -> None:
    place = {"cache": "tests.test_gateway.OtherCache"}
    aliases = {"default": {**place, "serializer": SERIALIZER}, "counters": place}
    settings = {"AIOCACHE_CONFIG": aliases, "COUNTER_ALIAS": "counters"}
    with override_settings(LOOM_CACHE=settings):
        said = run()
    assert "has no atomic counters and no scripts" in said
    assert "What lies in the store was not looked at." in said


# A server that is not there. ----------------------------------------------------------------------


def test_a_server_that_is_down_is_an_error_with_a_cure() -> None:
    with RedisServer().start() as gone:
        address = gone.url
    with override_settings(LOOM_CACHE={"LOCATION": address}):
        said = failing()
    assert "error The store of entries and counters does not answer" in said
    assert "Cure: Start the server, or correct LOCATION" in said
    assert said.endswith("1 error, 0 warnings. What is marked as an error has to be mended.")


@pytest.mark.parametrize("password", ["open-sesame", "wrong-word"])
def test_no_credential_is_ever_shown(password: str) -> None:
    with RedisServer().start(requirepass="open-sesame") as guarded:
        address = guarded.url.replace("open-sesame", password)
        with override_settings(LOOM_CACHE={"LOCATION": address}):
            said = run() if password == "open-sesame" else failing()
    assert "open-sesame" not in said
    assert "wrong-word" not in said


def test_settings_that_are_wrong_are_an_error_that_says_how_to_find_out() -> None:
    with (
        override_settings(LOOM_CACHE={"LOCATIONS": "x"}),
        pytest.raises(CommandError, match=r"LOOM_CACHE setting is wrong.*manage\.py check"),
    ):
        run()


# A server that is not well. -----------------------------------------------------------------------


@contextmanager
def user_without(server: RedisServer, *commands: str) -> Iterator[None]:
    """The cache is used by a user who may not give these commands."""
    client = server.client
    forbidden = [f"-{command}" for command in commands]
    client.acl_setuser(
        "patient",
        enabled=True,
        reset=True,
        nopass=True,
        keys=["loom:*"],
        categories=["+@all"],
        commands=forbidden,
    )
    address = server.url.replace("unix://", "unix://patient:x@")
    try:
        with override_settings(LOOM_CACHE={"LOCATION": address, "TIMEOUT": 5}):
            yield
    finally:
        client.acl_deluser("patient")


@pytest.mark.parametrize(
    ("command", "level"),
    [("EVAL", Level.ERROR), ("INFO", Level.WARNING), ("UNLINK", Level.WARNING)],
)
def test_a_command_that_is_refused_is_named_with_what_it_costs(
    server: RedisServer, command: str, level: Level
) -> None:
    with user_without(server, command.lower()):
        finding = found(f"permission: {command}")
    assert finding.level is level
    assert f"Allow {command}" in finding.cure


def test_commands_that_nothing_needs_may_be_refused(server: RedisServer) -> None:
    with user_without(server, "client", "config", "time"):
        said = run()
    assert "CLIENT, CONFIG, TIME are refused: no read or write needs them" in said


def test_a_life_without_a_name_of_its_own_is_an_error_where_the_server_saves(
    server: RedisServer,
) -> None:
    server.client.config_set("save", "3600 1")
    try:
        with user_without(server, "info"):
            assert found("permission: INFO").level is Level.ERROR
    finally:
        server.client.config_set("save", "")


def test_a_server_that_saves_is_no_harm_and_why(server: RedisServer) -> None:
    server.client.config_set("save", "3600 1")
    try:
        finding = found("persistence")
    finally:
        server.client.config_set("save", "")
    assert finding.level is Level.OK
    assert "another life of the server" in finding.message


def test_a_replica_is_an_error() -> None:
    with (
        RedisServer().start(replicaof="127.0.0.1 1") as replica,
        override_settings(LOOM_CACHE={"LOCATION": replica.url, "TIMEOUT": 5}),
    ):
        said = failing()
    assert "The server is a replica" in said
    assert "Cure: Name the primary server in LOCATION." in said


def test_a_node_of_a_cluster_is_an_error() -> None:
    with (
        RedisServer().start(cluster_enabled="yes") as node,
        override_settings(LOOM_CACHE={"LOCATION": node.url, "TIMEOUT": 5}),
    ):
        said = failing()
    assert "a node of a Redis Cluster, which this version does not support" in said


def test_a_server_that_is_nearly_full_and_evicts_nothing_is_a_warning() -> None:
    full = of(max_bytes=1000, used_bytes=950, policy="noeviction")
    assert full["memory"].level is Level.WARNING
    assert "allkeys-lru" in full["memory"].cure
    assert of(max_bytes=1000, used_bytes=100, policy="noeviction")["memory"].level is Level.OK


def test_counters_that_may_be_evicted_are_a_warning_under_strict_alone() -> None:
    facts = {"max_bytes": 1000, "used_bytes": 950, "policy": "allkeys-lru"}
    assert of(**facts)["memory"].level is Level.OK
    assert "never stale" in of(**facts)["memory"].message
    assert of(**facts, strict=True)["memory"].level is Level.WARNING


def test_the_memory_of_a_server_is_read_from_it(server: RedisServer) -> None:
    server.client.config_set("maxmemory", "100mb")
    server.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        message = found("memory").message
    finally:
        server.client.config_set("maxmemory", "0")
        server.client.config_set("maxmemory-policy", "noeviction")
    assert "of 104.9 MB, policy allkeys-lru" in message


def test_evictions_are_told() -> None:
    assert of(evicted=1234)["evictions"].message.startswith("1,234 keys were evicted")


def test_an_old_redis_is_an_error() -> None:
    assert of(version="5.0.14")["version"].level is Level.ERROR
    assert "version" not in of(version="7.4.1")


def test_a_replica_that_lags_is_told() -> None:
    assert of(role="master", replicas=2, lag=1)["role"].level is Level.OK
    late = of(role="master", replicas=1, lag=60)["role"]
    assert late.level is Level.WARNING
    assert "at most 60 s behind" in late.message


@pytest.mark.parametrize(("skew", "level"), [(0.5, "ok"), (30, "warning"), (-30, "warning")])
def test_a_clock_that_goes_wrong_is_a_warning(skew: float, level: str) -> None:
    (finding,) = of_clocks(1000 + skew, 1000, 0.01)
    assert finding.level is Level(level)


def test_a_timeout_of_a_few_round_trips_is_a_warning() -> None:
    assert of_timeout(0.001, 0.25).level is Level.OK
    tight = of_timeout(0.05, 0.25)
    assert tight.level is Level.WARNING
    assert tight.cure.startswith("Set TIMEOUT to 1 or more")


def test_entries_and_counters_on_two_servers_are_two_round_trips(server: RedisServer) -> None:
    place = {"cache": "aiocache.RedisCache", "url": server.url, "timeout": 5}
    elsewhere = {**place, "url": f"{server.url}?db=1"}
    aliases = {"default": {**place, "serializer": SERIALIZER}, "counters": elsewhere}
    settings = {"AIOCACHE_CONFIG": aliases, "COUNTER_ALIAS": "counters"}
    with override_settings(LOOM_CACHE=settings):
        assert found("aliases").level is Level.WARNING
        stores = [one.message for one in examine() if one.about == "connection"]
    assert [message.split("(")[0] for message in stores] == [
        "The store of entries ",
        "The store of counters ",
    ]


# What lies in the store. --------------------------------------------------------------------------


def test_a_counter_that_was_seeded_in_the_future_is_an_error(server: RedisServer) -> None:
    server.client.set(TABLE, counters.seed(int(time.time() * 1000) + 3_600_000))
    said = failing()
    assert "1 of 1 counters were seeded in the future, g:{news_article} by 3,600 s" in said


@pytest.fixture
def strict(server: RedisServer) -> Iterator[GenerationalDependencyResolver]:
    with override_settings(LOOM_CACHE={**settings.LOOM_CACHE, "STRICT": ["news.article"]}):
        resolver = generations.resolver()
        assert resolver is not None
        yield resolver


def test_open_writers_are_named_with_their_process_and_age(
    strict: GenerationalDependencyResolver,
) -> None:
    assert found("writers").message == "No strict writer is inside a transaction."
    strict.open_sync(f"web1:42~a~{time.time() - 7}", ["news_article"], 30)
    assert found("writers").level is Level.OK
    assert "inside transactions: web1:42 in news_article (7 s)." in found("writers").message


def test_a_writer_that_stays_inside_for_long_is_a_warning(
    strict: GenerationalDependencyResolver,
) -> None:
    strict.open_sync(f"web1:42~a~{time.time() - 700}", ["news_article"], 30)
    strict.open_sync(f"web2:42~a~{time.time()}", ["news_article"], 30)
    assert found("writers").level is Level.WARNING
    assert "web1:42 in news_article (700 s), web2:42 in" in found("writers").message


@in_database
@pytest.mark.usefixtures("server")
def test_entries_that_this_code_cannot_read_are_a_warning() -> None:
    articles.count()
    list(articles.all())
    articles.exists()
    damaged, strange, _ = stored.entries()
    stored.put(damaged, b"damaged")
    entry = entries.read(stored.entries()[strange])
    assert entry is not None
    made = entries.write(entry.incarnation, entry.generations, b"\xc0", entry.question)
    stored.put(strange, made)
    finding = found("entries")
    assert finding.level is Level.WARNING
    assert finding.message.startswith("2 of 3 sampled entries cannot be read by this code")


def test_no_more_than_a_sample_is_looked_at(server: RedisServer) -> None:
    now = counters.seed(int(time.time() * 1000))
    server.client.mset({f"{TABLE}:id:{row}": now for row in range(3 * SAMPLE)})
    assert found("seeds").message.endswith(f"({SAMPLE} looked at).")


# This process. ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("server")
def test_invalidations_that_are_queued_in_this_process_are_an_error() -> None:
    resolver = generations.resolver()
    assert resolver is not None
    breaker = resolver.breaker
    breaker._lost = {"g:{news_article}": object()}
    try:
        finding = found("process")
    finally:
        breaker._lost = {}
    assert finding.level is Level.ERROR
    assert "1 invalidations are queued" in finding.message


@pytest.mark.usefixtures("server")
def test_a_cache_that_is_turned_off_is_a_warning(server: RedisServer) -> None:
    with override_settings(LOOM_CACHE={"LOCATION": server.url, "ENABLED": False, "TIMEOUT": 5}):
        assert found("settings").level is Level.WARNING
        assert run().endswith("0 errors, 1 warning.")
