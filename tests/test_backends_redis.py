"""The Redis store: its sockets, deadlines and scripts, and what it does when all goes wrong."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from loom_cache import counters
from loom_cache.backends import Lease
from loom_cache.backends.redis import RedisCache, links, operations
from loom_cache.backends.redis.operations import Operation
from loom_cache.backends.redis.server import MAX_BATCH
from loom_cache.deadlines import Allowance
from loom_cache.exceptions import StoreUnavailable
from tests.services.certificates import for_localhost
from tests.services.proxy import Proxy
from tests.services.redis import RedisServer, free_port

LONG = 30.0  # seconds; a deadline that no test waits for
SHORT = 0.05

Ask = Callable[..., Any]


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    redis_server.reset()
    return redis_server


@pytest.fixture
def fragile() -> Iterator[RedisServer]:
    """A server of the test's own, to be stopped, filled and forbidden."""
    with RedisServer().start() as server:
        yield server


def opened(server: RedisServer, **options: Any) -> RedisCache:
    return RedisCache(**{"url": server.url, "timeout": LONG, "write_timeout": LONG, **options})


async def started(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task that has been sent its way."""
    task = asyncio.create_task(work)
    await some_turns()
    return task


async def some_turns() -> None:
    """Let the event loop notice what has happened to its sockets, and tasks go on."""
    for _ in range(5):
        await asyncio.sleep(0)


def number_of_connection(cache: RedisCache) -> Any:
    return cache._do_sync(Operation([("CLIENT", "ID")], operations.first))


# Round trips.


async def test_a_fetch_is_one_mget(server: RedisServer) -> None:
    cache = opened(server)
    await cache.fetch(["warm"])
    with server.counting() as calls:
        await cache.fetch(["entry", "counter", "another"])
    assert calls == {"mget": 1}


def test_a_fetch_without_a_loop_is_one_mget(server: RedisServer) -> None:
    cache = opened(server)
    cache.fetch_sync(["warm"])
    with server.counting() as calls:
        cache.fetch_sync(["entry", "counter", "another"])
    assert calls == {"mget": 1}


async def test_seeds_and_bumps_are_one_script(server: RedisServer) -> None:
    cache = opened(server)
    await cache.fetch(["warm"])
    with server.counting() as calls:
        await cache.seed(["a", "b"])
        await cache.bump(["a", "b"])
    assert calls["eval"] == 2
    assert not calls.keys() & {"evalsha", "script|load", "multi", "exec"}


async def test_what_is_asked_in_one_turn_shares_a_connection(server: RedisServer) -> None:
    cache = opened(server)
    before = server.connections
    await cache.store([(str(number), b"%d" % number, 10.0) for number in range(300)])
    answers = await asyncio.gather(*[cache.fetch([str(number)]) for number in range(300)])
    assert [answer.values for answer in answers] == [[b"%d" % number] for number in range(300)]
    assert server.connections == before + 1


async def test_what_is_too_much_for_one_write_goes_out_over_several_connections(
    server: RedisServer,
) -> None:
    cache = opened(server)
    before = server.connections
    number = 2 * MAX_BATCH + 1
    await cache.store([(str(one), b"%d" % one, 10.0) for one in range(number)])
    answers = await asyncio.gather(*[cache.fetch([str(one)]) for one in range(number)])
    assert [answer.values for answer in answers] == [[b"%d" % one] for one in range(number)]
    assert server.connections == before + 3


async def test_aliases_of_one_server_share_a_connection(server: RedisServer) -> None:
    one, two = opened(server), opened(server)
    before = server.connections
    await one.fetch(["a"])
    await two.fetch(["a"])
    assert one.server == two.server
    assert server.connections == before + 1


async def test_databases_of_one_server_do_not_share(server: RedisServer) -> None:
    one, two = opened(server), opened(server, url=f"{server.url}?db=1")
    await one.store([("a", b"0", 10.0)])
    await two.store([("a", b"1", 10.0)])
    assert one.server != two.server
    assert (await one.fetch(["a"])).values == [b"0"]
    assert (await two.fetch(["a"])).values == [b"1"]


async def test_hundreds_of_tasks_at_once_all_get_their_own_answers(server: RedisServer) -> None:
    cache = opened(server)
    before = server.connections

    async def work(number: int) -> None:
        for turn in range(5):
            key, value = f"{number}:{turn}", b"%d:%d" % (number, turn)
            await cache.store([(key, value, 10.0)])
            assert (await cache.fetch([key])).values == [value]

    await asyncio.gather(*[work(number) for number in range(300)])
    assert server.connections <= before + 32


def test_threads_at_once_all_get_their_own_answers(server: RedisServer) -> None:
    cache = opened(server)
    before = server.connections

    def work(number: int) -> list[bytes | None]:
        cache.store_sync([(str(number), b"%d" % number, 10.0)])
        return cache.fetch_sync([str(number)]).values

    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(work, range(1_000)))
    assert answers == [[b"%d" % number] for number in range(1_000)]
    assert server.connections <= before + 32


async def test_a_large_answer_arrives_whole(server: RedisServer) -> None:
    cache = opened(server)
    value = os.urandom(3_000_000)
    await cache.store([("a", value, 10.0)])
    assert (await cache.fetch(["a"])).values == [value]
    assert cache.fetch_sync(["a"]).values == [value]


@pytest.mark.parametrize("twin", ["async", "sync"])
async def test_a_bump_whose_connection_breaks_goes_out_over_another(
    server: RedisServer, twin: str
) -> None:
    path = Path(urlsplit(server.url).path)
    with Proxy(path) as proxy:
        cache = opened(server, url=f"redis://127.0.0.1:{proxy.port}")
        (before,) = (await cache.seed(["a"])).values
        assert cache.fetch_sync(["a"]).values == [b"%d" % before]
        proxy.hang(replies=False)

        def bump() -> int:
            moved = cache.bump_and_read_sync(["a"], ["a"], timeout=10)
            assert moved.values == [before + counters.BUMP]
            return moved.existed

        async def abump() -> int:
            moved = await cache.bump_and_read(["a"], ["a"], timeout=10)
            assert moved.values == [before + counters.BUMP]
            return moved.existed

        bumping = asyncio.ensure_future(abump() if twin == "async" else asyncio.to_thread(bump))
        async with asyncio.timeout(LONG):
            while not proxy.held:  # noqa: ASYNC110  it runs in a thread
                await asyncio.sleep(0.001)
        await asyncio.to_thread(proxy.cut)
        await asyncio.to_thread(proxy.flow)
        assert await bumping == 1


# Lives of the server.


async def test_answers_name_the_life_of_the_server(fragile: RedisServer) -> None:
    cache = opened(fragile)
    name = (await cache.fetch(["a"])).incarnation
    assert (await cache.seed(["a"])).incarnation == name
    assert cache.fetch_sync(["a"]).incarnation == name
    assert (await RedisCache(url=f"{fragile.url}?db=1").fetch(["a"])).incarnation == name


async def test_a_restarted_server_is_another_and_costs_no_error(fragile: RedisServer) -> None:
    cache = opened(fragile)
    before = (await cache.fetch(["a"])).incarnation
    assert cache.fetch_sync(["a"]).incarnation == before
    fragile.restart()
    await some_turns()
    after = cache.fetch_sync(["a"]).incarnation
    assert after != before
    assert (await cache.fetch(["a"])).incarnation == after


async def test_a_server_that_has_been_a_replica_is_another(fragile: RedisServer) -> None:
    """What it was sent meanwhile may be older than what it had; it runs on all the same."""
    cache = opened(fragile)
    names = [(await cache.fetch(["a"])).incarnation]
    run_id = fragile.run_id
    with RedisServer().start(tcp=True) as other:
        fragile.follow(other)
        fragile.client.client_kill_filter(_type="normal", skipme=True)  # as Sentinel does
        await some_turns()
        names.append((await cache.fetch(["a"])).incarnation)
        theirs = (await RedisCache(url=other.url).fetch(["a"])).incarnation
        fragile.lead()
        fragile.client.client_kill_filter(_type="normal", skipme=True)
        await some_turns()
        names.append((await cache.fetch(["a"])).incarnation)
    assert len({*names, theirs}) == 4
    assert fragile.run_id == run_id


async def test_a_connection_that_lasts_learns_that_the_server_has_another_history(
    fragile: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has when its first replica comes, or when it was one for a while."""
    with RedisServer().start(tcp=True) as leader:
        cache = RedisCache(url=leader.url)
        before = {(await cache.fetch(["a"])).incarnation, cache.fetch_sync(["a"]).incarnation}
        fragile.follow(leader)
        assert {
            (await cache.fetch(["a"])).incarnation,
            cache.fetch_sync(["a"]).incarnation,
        } == before
        monkeypatch.setattr(links, "NAME_HOLDS", -1.0)
        after = {(await cache.fetch(["a"])).incarnation, cache.fetch_sync(["a"]).incarnation}
        new = RedisCache(url=f"{leader.url}?client_name=new")
        assert after == {new.fetch_sync(["a"]).incarnation} != before
        assert [await cache.holds("a"), cache.holds_sync("a")] == [False, False]
        fragile.lead()


async def test_where_info_is_forbidden_a_name_is_left_in_the_store(fragile: RedisServer) -> None:
    forbid(fragile, "info")
    cache = opened(fragile)
    name = (await cache.fetch(["a"])).incarnation
    assert len(name) == 40
    assert name == cache.fetch_sync(["a"]).incarnation
    assert name.encode() == fragile.client.get("loom:incarnation")
    assert fragile.client.ttl("loom:incarnation") == -1


async def test_where_no_name_can_be_left_every_connection_is_another(fragile: RedisServer) -> None:
    forbid(fragile, "info", "set", "get")
    cache = opened(fragile)
    one, two = await cache.fetch(["a"]), cache.fetch_sync(["a"])
    assert len(one.incarnation) == len(two.incarnation) == 40
    assert one.incarnation != two.incarnation


def forbid(server: RedisServer, *commands: str) -> None:
    """Let everybody do everything else; whoever looks from outside has a user of his own."""
    server.client.acl_setuser(
        "default",
        enabled=True,
        nopass=True,
        keys=["*"],
        commands=["+@all", *(f"-{c}" for c in commands)],
    )


# Scripts and counters.


async def test_seeds_are_milliseconds_of_the_server_exactly(server: RedisServer) -> None:
    cache = opened(server)
    seconds, micros = server.client.time()
    [seeded] = (await cache.seed(["a"])).values
    assert 0 <= (seeded >> 22) + counters.EPOCH_MS - (seconds * 1000 + micros // 1000) < 60_000
    assert seeded & (1 << 22) - 1 == 0
    assert server.client.get("a") == b"%d" % seeded


@pytest.mark.parametrize("value", [2**53 + 1, 2**57 - 1, 117_935_112_330_412_033, 2**62 + 1])
async def test_large_counters_stay_exact(server: RedisServer, value: int) -> None:
    cache = opened(server)
    await cache.store([("a", b"%d" % value, 10.0)])
    assert (await cache.seed(["a"])).values == [value]
    await cache.bump(["a"])
    assert (await cache.seed(["a"])).values == [value + 128]
    assert (await cache.fetch(["a"])).values == [b"%d" % (value + 128)]


async def test_seeds_and_bumps_set_the_expiry_of_a_counter(server: RedisServer) -> None:
    cache = opened(server)
    await cache.seed(["a", "b"])
    for key in ("a", "b"):
        assert 604_700 < server.client.ttl(key) <= 604_800
        server.client.expire(key, 5)
    await cache.bump(["a"])
    await cache.seed(["b"])
    for key in ("a", "b"):
        assert 604_700 < server.client.ttl(key) <= 604_800


async def test_bumps_leave_nothing_where_there_was_nothing(server: RedisServer) -> None:
    assert await opened(server).bump(["a", "b"]) == 0
    assert server.keys() == 0


async def test_concurrent_bumps_are_all_counted(server: RedisServer) -> None:
    cache = opened(server)
    [before] = (await cache.seed(["a"])).values
    await asyncio.gather(*[cache.bump(["a"]) for _ in range(50)])
    assert (await cache.seed(["a"])).values == [before + 50 * counters.BUMP]


async def test_keys_of_another_kind_are_taken_over(server: RedisServer) -> None:
    cache = opened(server)
    server.client.rpush("seeded", "x")
    server.client.rpush("bumped", "x")
    assert (await cache.fetch(["seeded"])).values == [None]
    [seeded] = (await cache.seed(["seeded"])).values
    assert server.client.get("seeded") == b"%d" % seeded
    assert await cache.bump(["bumped"]) == 1
    assert server.client.exists("bumped") == 0
    server.client.rpush("added", "x")
    with pytest.raises(TypeError, match="'added' is not an integer"):
        await cache.add_to("added", 1)


async def test_a_counter_that_would_overflow_is_deleted(server: RedisServer) -> None:
    cache = opened(server)
    await cache.store([("a", b"%d" % (2**63 - 1), 10.0)])
    assert await cache.bump(["a"]) == 1
    assert (await cache.fetch(["a"])).values == [None]


async def test_entries_expire_to_the_millisecond(server: RedisServer) -> None:
    cache = opened(server)
    await cache.store([("a", b"1", 10.5), ("b", b"1", 0.0001)])
    assert 10_000 < server.client.pttl("a") <= 10_500
    assert server.client.pttl("b") <= 1


@pytest.mark.parametrize("sync", [False, True])
async def test_a_full_server_loses_its_counters_rather_than_a_bump(
    fragile: RedisServer, sync: bool
) -> None:
    cache = opened(fragile)
    await cache.seed(["a", "b"])
    await cache.store([("entry", b"old", 100.0)])
    fragile.client.config_set("maxmemory", "1")
    with fragile.counting() as calls:
        assert (cache.bump_sync(["a"]) if sync else await cache.bump(["a"])) == 1
    assert calls["eval"] == 1
    assert "unlink" not in calls
    assert (await cache.fetch(["a", "entry"])).values == [None, b"old"]
    with pytest.raises(StoreUnavailable, match=r"OOM|maxmemory"):
        await cache.seed(["a"])
    with pytest.raises(StoreUnavailable, match=r"OOM|maxmemory"):
        await cache.store([("c", b"1", 10.0)])
    assert await cache.bump(["b"]) == 1
    assert (await cache.fetch(["b"])).values == [None]


@pytest.mark.parametrize("sync", [False, True])
async def test_where_scripts_are_forbidden_bumped_counters_are_deleted(
    fragile: RedisServer, sync: bool
) -> None:
    cache = opened(fragile)
    await cache.seed(["a"])
    forbid(fragile, "eval")
    assert (cache.bump_sync(["a", "x"]) if sync else await cache.bump(["a", "x"])) == 1
    assert (await cache.fetch(["a"])).values == [None]


async def test_a_server_that_takes_no_writes_is_unavailable_for_bumps(fragile: RedisServer) -> None:
    cache = opened(fragile)
    await cache.seed(["a"])
    fragile.client.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]
    with pytest.raises(StoreUnavailable):
        await cache.bump(["a"])
    with pytest.raises(StoreUnavailable):
        cache.bump_sync(["a"])
    assert len((await cache.fetch(["a"])).values) == 1


async def test_the_commands_that_the_documentation_names_are_enough(fragile: RedisServer) -> None:
    named = "mget set unlink scan eval incrby exists expire get del time info".split()
    named += "zadd zrem zcard zrange zremrangebyscore pexpireat".split()  # for STRICT
    fragile.client.acl_setuser(
        "loom",
        enabled=True,
        passwords=["+sesame"],
        keys=["loom:*"],
        categories=["+@connection"],
        commands=[f"+{name}" for name in named],
    )
    cache = opened(fragile, url=fragile.url.replace("unix://", "unix://loom:sesame@"))
    name = (await opened(fragile).fetch(["loom:a"])).incarnation
    assert (await cache.fetch(["loom:a"])).incarnation == name
    await cache.store([("loom:a", b"1", 10.0), ("loom:b", b"1", 0.0)])
    await cache.seed(["loom:t", "loom:a"])
    assert await cache.bump(["loom:t", "loom:u"]) == 1
    assert await cache.add_to("loom:n", 1) == 1
    assert await cache.holds("loom:n")
    fragile.client.rpush("loom:list", "x")
    assert await cache.bump(["loom:list"]) == 1
    writing = partial(Lease, counter="loom:t", writers="loom:w", writer="me", seconds=30)
    cache.take_sync([writing("open")])
    [[(writer, left)]] = cache.writers_sync(["loom:w"])
    assert (writer, left > 29) == ("me", True)
    for step in ("seed", "bump", "close"):
        assert cache.bump_and_read_sync([], [], leases=[writing(step)]).existed == 1
    assert cache.writers_sync(["loom:w"]) == [[]]
    await cache.clear_prefix("loom:")
    assert fragile.keys() == 0
    cache.disconnect_sync()


# Servers that are gone, hang or refuse.


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:1/0",
        "unix:///nowhere/redis.sock",
        "redis://no..name/0",
        "redis://store.invalid/0",
        "rediss://127.0.0.1:1/0?ssl_ca_certs=/nowhere/ca.pem",
    ],
)
async def test_a_server_that_is_not_there_is_unavailable(url: str) -> None:
    cache = RedisCache(url=url, timeout=LONG)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match=r"(correct|check) LOCATION"):
            await cache.fetch(["a"])
        with pytest.raises(StoreUnavailable, match=r"(correct|check) LOCATION"):
            cache.fetch_sync(["a"])


async def test_a_request_takes_no_longer_than_what_its_reader_has_left(
    fragile: RedisServer,
) -> None:
    cache = opened(fragile)
    fragile.suspend()
    try:
        with Allowance(SHORT), pytest.raises(StoreUnavailable, match="did not answer within"):
            await cache.fetch(["a"])
        with Allowance(SHORT), pytest.raises(StoreUnavailable, match="did not answer within"):
            cache.fetch_sync(["a"])
    finally:
        fragile.resume()


@pytest.mark.parametrize("connected", [False, True])
async def test_a_server_that_hangs_is_unavailable_after_the_deadline(
    fragile: RedisServer, connected: bool
) -> None:
    cache = opened(fragile, timeout=SHORT)
    if connected:
        await cache.fetch(["a"])
        cache.fetch_sync(["a"])
    fragile.suspend()
    async with asyncio.timeout(LONG):
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.05 s"):
                await cache.fetch(["a"])
            with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.05 s"):
                cache.fetch_sync(["a"])
    fragile.resume()
    cache.timeout = LONG
    assert (await cache.fetch(["a"])).values == [None]
    assert cache.fetch_sync(["a"]).values == [None]


async def test_a_late_answer_is_never_taken_for_another(fragile: RedisServer) -> None:
    cache = opened(fragile)
    await cache.store([("a", b"a", 100.0), ("b", b"b", 100.0)])
    cache.fetch_sync(["a"])
    cache.timeout = SHORT
    fragile.suspend()
    with pytest.raises(StoreUnavailable):
        await cache.fetch(["a"])
    with pytest.raises(StoreUnavailable):
        cache.fetch_sync(["a"])
    fragile.resume()
    cache.timeout = LONG
    assert (await cache.fetch(["b"])).values == [b"b"]
    assert cache.fetch_sync(["b"]).values == [b"b"]


async def test_a_bump_outlives_the_reads_it_went_out_with(fragile: RedisServer) -> None:
    """Reads have little patience; a bump that shares their connection keeps its own."""
    cache = opened(fragile, timeout=SHORT)
    await cache._server.ask([("SET", "a", 0)], LONG)
    fragile.suspend()
    bump = asyncio.create_task(cache.bump(["a"]))
    with pytest.raises(StoreUnavailable):
        await cache.fetch(["a"])
    fragile.resume()
    assert await bump == 1


def test_a_bump_without_a_loop_has_a_deadline_of_its_own(fragile: RedisServer) -> None:
    cache = opened(fragile, timeout=SHORT)
    cache.bump_sync(["a"])
    cache.disconnect_sync()
    cache.fetch_sync(["a"])  # this connection was made in a read's short time
    fragile.suspend()
    with ThreadPoolExecutor(1) as threads:
        bump = threads.submit(cache.bump_sync, ["a"])
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                cache.fetch_sync(["a"])
        fragile.resume()
        assert bump.result() == 0


async def test_what_is_given_up_lets_go_of_its_connection(fragile: RedisServer) -> None:
    cache = opened(fragile, timeout=SHORT)
    before = sockets()
    fragile.suspend()
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            await cache.fetch(["a"])
        with pytest.raises(StoreUnavailable):
            cache.fetch_sync(["a"])
        await some_turns()
    assert sockets() == before
    fragile.resume()


async def test_a_cancelled_read_disturbs_nobody(fragile: RedisServer) -> None:
    cache = opened(fragile)
    await cache.store([("a", b"a", 100.0), ("b", b"b", 100.0)])
    fragile.suspend()
    cancelled = asyncio.create_task(cache.fetch(["a"]))
    other = asyncio.create_task(cache.fetch(["b"]))
    later = await started(cache.fetch(["a", "b"]))
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    fragile.resume()
    assert (await other).values == [b"b"]
    assert (await later).values == [b"a", b"b"]
    assert (await cache.fetch(["b"])).values == [b"b"]


async def test_a_server_that_dies_fails_what_was_asked(fragile: RedisServer) -> None:
    cache = opened(fragile)
    await cache.fetch(["a"])
    fragile.suspend()
    asked = [await started(cache.fetch(["a"])) for _ in range(3)]
    fragile.kill()
    for task in asked:
        with pytest.raises(StoreUnavailable, match="closed the connection"):
            await task
    fragile.restart()
    assert (await cache.fetch(["a"])).values == [None]


async def test_connections_stay_bounded_while_the_server_hangs(fragile: RedisServer) -> None:
    cache = opened(fragile)
    fragile.suspend()
    before = sockets()
    asked = [await started(cache.fetch(["a"])) for _ in range(100)]
    assert sockets() <= before + 32
    fragile.resume()
    for task in asked:
        assert (await task).values == [None]
    assert fragile.connections <= 32


async def test_a_server_that_wants_a_password_is_unavailable_and_it_is_not_told() -> None:
    with RedisServer().start(tcp=True, requirepass="sesame") as server:
        wrong = server.url.replace("sesame", "open-simsim")
        for url in (wrong, server.url.replace(":sesame@", "")):
            cache = RedisCache(url=url, timeout=LONG)
            with pytest.raises(StoreUnavailable) as caught:
                await cache.fetch(["a"])
            assert "simsim" not in str(caught.value)
            with pytest.raises(StoreUnavailable) as caught:
                cache.fetch_sync(["a"])
            assert "simsim" not in str(caught.value)
        right = RedisCache(url=server.url, timeout=LONG)
        assert (await right.fetch(["a"])).values == [None]
        assert right.fetch_sync(["a"]).values == [None]
        right.disconnect_sync()


def test_options_that_redis_py_does_not_take_are_refused_at_once() -> None:
    with pytest.raises(TypeError, match="nonsense"):
        RedisCache(url="redis://127.0.0.1/0?nonsense=1")


# Event loops, threads, processes.


def test_a_thousand_short_loops_leave_no_sockets(server: RedisServer) -> None:
    cache = opened(server)
    here, there = sockets(), server.connections
    for _ in range(1_000):
        assert asyncio.run(cache.fetch(["a"])).values == [None]
    assert sockets() == here
    assert server.connections <= there + 1


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_loops_that_are_closed_carelessly_leave_a_few_at_most(server: RedisServer) -> None:
    """Nothing tells us that such a loop ends; the next one to come clears up after it."""
    cache = opened(server)
    here, there = sockets(), server.connections
    for _ in range(50):
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(cache.fetch(["a"])).values == [None]
        loop.close()
    assert sockets() <= here + 2
    assert server.connections <= there + 2
    asyncio.run(cache.fetch(["a"]))
    assert sockets() == here
    gc.collect()  # so that the warnings about the loops come while they are expected


def test_loops_in_several_threads_do_not_meet(server: RedisServer) -> None:
    cache = opened(server)

    async def work() -> int:
        answers = [await cache.fetch(["a"]) for _ in range(20)]
        return len({answer.incarnation for answer in answers})

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda _: asyncio.run(work()), range(40))) == {1}


async def test_the_synchronous_side_works_in_a_running_loop(server: RedisServer) -> None:
    cache = opened(server)
    await cache.store([("a", b"1", 10.0)])
    assert cache.fetch_sync(["a"]).values == [b"1"]
    assert (await asyncio.to_thread(cache.fetch_sync, ["a"])).values == [b"1"]


async def test_closing_lets_go_and_the_next_request_connects_again(server: RedisServer) -> None:
    cache = opened(server)
    cache.disconnect_sync()
    before = server.connections
    await cache.fetch(["a"])
    cache.fetch_sync(["a"])
    assert server.connections == before + 2
    await cache.disconnect()
    cache.disconnect_sync()
    await some_turns()
    assert server.connections == before
    assert (await cache.fetch(["a"])).values == cache.fetch_sync(["a"]).values == [None]


def test_a_forked_child_leaves_the_parents_connections_alone(server: RedisServer) -> None:
    script = """
import asyncio, os, sys
from loom_cache.backends.redis import RedisCache, operations
from loom_cache.backends.redis.operations import Operation

cache = RedisCache(url=sys.argv[1], timeout=30)
number = Operation([("CLIENT", "ID")], operations.first)

def child(parent_sync):
    assert cache._do_sync(number) != parent_sync
    assert cache.fetch_sync(["a"]).values == [b"1"]
    if not asyncio._get_running_loop():
        assert asyncio.run(cache.fetch(["a"])).values == [b"1"]
    cache.disconnect_sync()
    sys.stdout.write("child ")
    sys.stdout.flush()
    os._exit(0)

def forked(parent_sync):
    pid = os.fork()
    if pid == 0:
        try:
            child(parent_sync)
        finally:
            os._exit(1)
    os.waitpid(pid, 0)

async def main():
    await cache.store([("a", b"1", 100.0)])
    mine, mine_sync = await cache._do(number), cache._do_sync(number)
    forked(mine_sync)
    assert await cache._do(number) == mine
    assert cache._do_sync(number) == mine_sync
    return mine_sync

mine_sync = asyncio.run(main())
forked(mine_sync)
assert cache._do_sync(number) == mine_sync
sys.stdout.write("parent")
"""
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, server.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (said.stdout, said.stderr) == ("child child parent", "")


def test_a_fork_while_another_thread_waits_does_not_hang_the_child(fragile: RedisServer) -> None:
    script = """
import asyncio, os, sys
from loom_cache.backends.redis import RedisCache, server
cache = RedisCache(url=sys.argv[1], timeout=30)
cache.fetch_sync(["a"])
server._lock.acquire()
cache._server._lock.acquire()
for _ in range(32):
    cache._server.sync._free.acquire()
child = os.fork()
if child == 0:
    cache = RedisCache(url=sys.argv[1], timeout=30)
    print(cache.fetch_sync(["a"]).values, asyncio.run(cache.fetch(["a"])).values, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    said = subprocess.run(
        [sys.executable, "-c", script, fragile.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (said.stdout, said.stderr) == ("[None] [None]\n", "")


def test_threads_beyond_the_bound_wait_for_their_turn(fragile: RedisServer) -> None:
    """And give up when their deadline comes first."""
    cache = opened(fragile)
    fragile.suspend()
    waiting = [threading.Thread(target=cache.fetch_sync, args=(["a"],)) for _ in range(32)]
    for thread in waiting:
        thread.start()
    while cache._server.sync._free.acquire(blocking=False):
        cache._server.sync._free.release()  # until all of them are inside
    hurried = opened(fragile, timeout=SHORT)
    with pytest.raises(StoreUnavailable, match="did not answer"):
        hurried.fetch_sync(["a"])
    fragile.resume()
    for thread in waiting:
        thread.join()
    assert cache.fetch_sync(["a"]).values == [None]


def sockets() -> int:
    """Sockets this process has open."""
    count = 0
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - one of them is the listing's own
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")  # noqa: PTH115
        except FileNotFoundError:
            continue
    return count


# A server that has become a replica, and connections that nobody closed.


async def test_once_it_refuses_a_write_every_connection_looks_anew(fragile: RedisServer) -> None:
    cache = opened(fragile)
    before = (await cache.fetch(["a"])).incarnation
    assert cache.fetch_sync(["a"]).incarnation == before
    with RedisServer().start(tcp=True) as other:
        fragile.follow(other)
        with pytest.raises(StoreUnavailable, match="read-only replica"):
            cache.bump_sync(["there is none"])  # here; its primary may have it
        after = (await cache.fetch(["a"])).incarnation
        assert after == cache.fetch_sync(["a"]).incarnation != before


# Connections over TLS.


def test_loops_that_end_leave_no_connection_over_tls(tmp_path: Path) -> None:
    """TLS says goodbye, and waits for an answer: there is no loop any more to do so."""
    ours = for_localhost(tmp_path, "ours")
    files = {"tls_cert_file": ours.file, "tls_key_file": ours.key, "tls_ca_cert_file": ours.file}
    port = free_port()
    with RedisServer().start(tcp=True, tls_port=port, tls_auth_clients="no", **files) as server:
        cache = RedisCache(
            url=f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={ours.file}", timeout=LONG
        )
        for _ in range(3):
            assert asyncio.run(cache.fetch(["a"])).values == [None]
        gc.collect()  # what is left open is a ResourceWarning, and that an error
        assert server.connections == 0
