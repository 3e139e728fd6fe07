"""CacheGateway: the contract that every store passes, asked with and without an event loop."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import aiocache
import pytest
from aiocache.base import BaseCache
from django.test import override_settings

from loom_cache import CacheConfig, CacheGateway, config, counters
from loom_cache.backends import memory
from loom_cache.backends.memory import MemoryCache
from loom_cache.backends.redis import RedisCache
from loom_cache.exceptions import ConfigurationError, StoreUnavailable, UnsupportedValue
from tests.services.redis import RedisServer

SERIALIZER = {"class": "loom_cache.MsgspecSerializer"}
NOWHERE = "redis://127.0.0.1:1/0"


class OtherCache(aiocache.SimpleMemoryCache):  # type: ignore[misc]
    """A backend that loom_cache does not know; its keys expire by aiocache's own timers."""


OTHER = f"{__name__}.OtherCache"


class Twins:
    """A gateway's methods, all to be awaited, whichever twin they call."""

    def __init__(self, gateway: CacheGateway, *, sync: bool) -> None:
        self.gateway = gateway
        self._sync = sync

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self.gateway, f"{name}_sync" if self._sync else name)

        async def call(*args: Any, **options: Any) -> Any:
            answer = method(*args, **options)
            return answer if self._sync else await answer

        return call

    def __call__(self, *keys: str) -> list[str]:
        """Full keys."""
        return [self.gateway.full_key(key) for key in keys]


@pytest.fixture(params=["async", "sync"])
def sync(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "sync")


def settings_for(store: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings with an empty store."""
    if store == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        server.reset()
        return {"LOCATION": server.url}
    if store == "memory":
        return {"LOCATION": "memory://"}
    aliases = {"default": {"cache": OTHER, "serializer": SERIALIZER}, "counters": {"cache": OTHER}}
    return {"AIOCACHE_CONFIG": aliases, "COUNTER_ALIAS": "counters"}


@pytest.fixture(params=["memory", "redis"])
def native(request: pytest.FixtureRequest) -> Iterator[None]:
    """The two stores of loom_cache."""
    with override_settings(LOOM_CACHE=settings_for(request.param, request)):
        yield


@pytest.fixture(params=["memory", "redis", "foreign"])
def any_store(request: pytest.FixtureRequest) -> Iterator[None]:
    """Those two, and an aiocache backend that loom_cache knows nothing about."""
    with override_settings(LOOM_CACHE=settings_for(request.param, request)):
        yield


@pytest.fixture
def data(any_store: None, sync: bool) -> Twins:
    return Twins(CacheGateway(), sync=sync)


@pytest.fixture
def numbers(any_store: None, sync: bool) -> Twins:
    return Twins(CacheGateway(alias="counters"), sync=sync)


async def test_a_value_comes_back_as_it_was_set(data: Twins) -> None:
    await data.set_value("a", {"title": "On looms", "pages": [1, 2]})
    assert await data.get_value("a") == {"title": "On looms", "pages": [1, 2]}


async def test_both_twins_see_the_same_values(data: Twins) -> None:
    gateway = data.gateway
    await gateway.set_value("a", 1)
    gateway.set_value_sync("b", 2)
    assert gateway.get_value_sync("a") == 1
    assert await gateway.get_value("b") == 2


async def test_a_missing_value_is_none(data: Twins) -> None:
    assert await data.get_value("a") is None


async def test_a_type_restores_what_messagepack_cannot_tell_apart(data: Twins) -> None:
    await data.set_value("a", (1, "2"))
    await data.set_value("b", datetime(2026, 1, 2, tzinfo=UTC))
    assert await data.get_value("a") == [1, "2"]
    assert await data.get_value("a", type=tuple[int, str]) == (1, "2")
    assert await data.multi_get_values(["b"], type=datetime) == [datetime(2026, 1, 2, tzinfo=UTC)]


async def test_unreadable_bytes_are_a_miss(data: Twins) -> None:
    await data.store([(*data("a"), b"\xc1 not MessagePack", 10.0)])
    assert await data.get_value("a") is None


async def test_bytes_of_another_shape_are_a_miss(data: Twins) -> None:
    await data.set_value("a", "text")
    assert await data.get_value("a", type=int) is None


async def test_many_values_keep_the_order_of_their_keys(data: Twins) -> None:
    await data.multi_set_values([("a", 1), ("c", 3)])
    assert await data.multi_get_values(["c", "b", "a", "c"]) == [3, None, 1, 3]


async def test_a_mapping_of_values_can_be_set(data: Twins) -> None:
    await data.multi_set_values({"a": 1, "b": 2})
    assert await data.multi_get_values(["a", "b"]) == [1, 2]


async def test_empty_lists_of_keys_are_legal(data: Twins) -> None:
    await data.multi_set_values([])
    await data.store([])
    assert await data.multi_get_values([]) == []
    assert await data.delete_many([]) == 0
    assert (await data.fetch([])).values == []
    assert (await data.seed([])).values == []
    assert await data.bump([]) == 0
    assert await data.remove([]) == 0


async def test_deleting_counts_what_existed(data: Twins) -> None:
    await data.multi_set_values([("a", 1), ("b", 2), ("c", 3)])
    assert await data.delete("a") == 1
    assert await data.delete("a") == 0
    assert await data.delete_many(["a", "b", "c"]) == 2
    assert await data.multi_get_values(["a", "b", "c"]) == [None, None, None]


async def test_exists_tells_whether_there_is_a_value(data: Twins) -> None:
    await data.set_value("a", 0)
    assert await data.exists("a") is True
    assert await data.exists("b") is False


@pytest.mark.parametrize("ttl", [0, -1, 0.0])
async def test_a_time_to_live_that_is_over_keeps_nothing(data: Twins, ttl: float) -> None:
    await data.set_value("a", 1)
    await data.set_value("a", 2, ttl)
    assert await data.get_value("a") is None


@pytest.mark.parametrize(
    "key",
    [
        "a b",
        "a:b",
        "a\nb",
        "a\r\nb",
        "naïve ☃ 🧶",
        "*",
        "[a]",
        "a?",
        "\\",
        "",
        "x" * 10_000,
        "\x00",
    ],
)
async def test_any_string_is_a_key_of_its_own(native: None, sync: bool, key: str) -> None:
    data = Twins(CacheGateway(), sync=sync)
    await data.set_value(key, "this one")
    await data.set_value(key + " ", "another")
    await data.set_value("a", "a third")
    assert await data.get_value(key) == "this one"
    assert await data.delete(key) == 1
    assert await data.multi_get_values([key, key + " ", "a"]) == [None, "another", "a third"]


async def test_what_cannot_be_encoded_is_named(data: Twins) -> None:
    with pytest.raises(UnsupportedValue, match="type object cannot be cached"):
        await data.set_value("a", object())


async def test_counters_are_plain_integers(numbers: Twins) -> None:
    await numbers.set_value("a", 5)
    assert await numbers.get_value("a") == 5
    assert (await numbers.fetch(numbers("a"))).values == [b"5"]
    with pytest.raises(TypeError, match="'counters' keeps plain integers; 'a' was given a str"):
        await numbers.set_value("a", "5")


async def test_incr_starts_at_zero_and_adds(numbers: Twins) -> None:
    assert await numbers.incr("a") == 1
    assert await numbers.incr("a", 41) == 42
    assert await numbers.incr("a", -2) == 40
    assert await numbers.get_value("a") == 40


async def test_incr_works_on_a_serialized_alias_too(data: Twins) -> None:
    assert await data.incr("a", 2) == 2
    assert await data.incr("a") == 3
    assert await data.get_value("a") == 3


async def test_incr_refuses_what_is_no_integer(data: Twins) -> None:
    await data.set_value("a", "text")
    with pytest.raises(TypeError, match="value at 'a' is not an integer"):
        await data.incr("a")


async def test_incr_of_a_counter_refuses_what_is_no_integer(native: None, sync: bool) -> None:
    numbers = Twins(CacheGateway(alias="counters"), sync=sync)
    await numbers.store([(*numbers("a"), b"text", 10.0)])
    with pytest.raises(TypeError, match="not an integer"):
        await numbers.incr("a")


async def test_concurrent_increments_are_all_counted(native: None) -> None:
    numbers = CacheGateway(alias="counters")
    await asyncio.gather(*[numbers.incr("a") for _ in range(50)])
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: numbers.incr_sync("a"), range(50)))
    assert await numbers.get_value("a") == 100


async def test_clear_empties_its_own_prefix_only(any_store: None, sync: bool) -> None:
    aliases = dict(config_in_force().aliases)
    aliases["other"] = {**aliases["default"], "namespace": "loom2"}
    CacheGateway.configure(aliases)
    data = Twins(CacheGateway(), sync=sync)
    other = Twins(CacheGateway(alias="other"), sync=sync)
    await data.multi_set_values([(str(number), number) for number in range(2_500)])
    await other.set_value("1", "kept")
    await data.clear()
    assert await data.multi_get_values([str(number) for number in range(2_500)]) == [None] * 2_500
    assert await other.get_value("1") == "kept"


async def test_scan_lists_the_keys_under_a_prefix(native: None, sync: bool) -> None:
    data = Twins(CacheGateway(), sync=sync)
    await data.multi_set_values([("x:1", 1), ("x:2", 2), ("y:1", 3), ("x*", 4)])
    assert sorted(await data.scan("loom:x:")) == ["loom:x:1", "loom:x:2"]
    assert await data.scan("loom:x*") == ["loom:x*"]
    assert await data.scan("loom:z") == []


async def test_a_backend_that_cannot_list_its_keys_says_so() -> None:
    aliases = {"default": {"cache": OTHER, "serializer": SERIALIZER}}
    with (
        override_settings(LOOM_CACHE={"AIOCACHE_CONFIG": aliases}),
        pytest.raises(StoreUnavailable, match="OtherCache cannot list its keys"),
    ):
        await CacheGateway().scan("loom:")


# Raw bytes and generations.


async def test_fetch_gives_bytes_in_order_and_none_for_a_miss(data: Twins) -> None:
    await data.store([(*data("a"), b"\x00\xff", 10.0), (*data("b"), b"", 10.0)])
    assert (await data.fetch(data("b", "c", "a", "a"))).values == [
        b"",
        None,
        b"\x00\xff",
        b"\x00\xff",
    ]


async def test_entries_and_counters_on_one_server_come_together(native: None, sync: bool) -> None:
    data, numbers = (Twins(CacheGateway(alias=a), sync=sync) for a in ("default", "counters"))
    assert data.gateway.shares_server_with(numbers.gateway)
    await data.store([(*data("entry"), b"rows", 10.0)])
    seeded = await numbers.seed(numbers("tag"))
    for gateway in (data, numbers):
        found = await gateway.fetch([*data("entry"), *numbers("tag", "other")])
        assert found.values == [b"rows", b"%d" % seeded.values[0], None]
        assert found.incarnation == seeded.incarnation != ""


async def test_a_foreign_backend_shares_with_nobody(any_store: None) -> None:
    data, numbers = CacheGateway(), CacheGateway(alias="counters")
    assert data.shares_server_with(data)
    assert data.shares_server_with(CacheGateway())
    assert data.shares_server_with(numbers) is data.native_counters


async def test_seeding_starts_what_is_absent_at_the_time_it_is(
    numbers: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every seed in memory is a millisecond of its own: other tests' may have run ahead.
    monkeypatch.setattr(memory, "_clock", memory._Clock())
    first = (await numbers.seed(numbers("a", "b"))).values
    for value in first:
        assert abs(datetime.now(UTC) - counters.seeded_at(value)) < timedelta(minutes=1)
        assert counters.open_writers(value) == 0
    second = (await numbers.seed(numbers("b", "c", "a"))).values
    assert [second[2], second[0]] == first


async def test_native_seeds_have_not_been_bumped(native: None, sync: bool) -> None:
    numbers = Twins(CacheGateway(alias="counters"), sync=sync)
    assert counters.bumps((await numbers.seed(numbers("a"))).values[0]) == 0


async def test_what_is_seeded_is_what_is_fetched_exactly(numbers: Twins) -> None:
    seeded = (await numbers.seed(numbers("a"))).values[0]
    assert seeded > 2**53  # beyond what a double can hold
    assert (await numbers.fetch(numbers("a"))).values == [b"%d" % seeded]


@pytest.mark.parametrize("junk", [b"junk", b"", b"1.5", b"0x10", b" 1", b"9" * 30])
async def test_seeding_replaces_what_is_no_integer(numbers: Twins, junk: bytes) -> None:
    await numbers.store([(*numbers("a"), junk, 10.0)])
    seeded = (await numbers.seed(numbers("a"))).values[0]
    assert counters.seeded_at(seeded).year == datetime.now(UTC).year
    assert (await numbers.seed(numbers("a"))).values == [seeded]


async def test_a_counter_set_by_hand_is_seeded_and_bumped_as_it_is(
    native: None, sync: bool
) -> None:
    numbers = Twins(CacheGateway(alias="counters"), sync=sync)
    await numbers.set_value("a", 5)
    await numbers.bump(numbers("a"))
    assert (await numbers.seed(numbers("a"))).values == [5 + counters.BUMP]


async def test_a_bump_moves_the_counters_that_exist(numbers: Twins) -> None:
    [before] = (await numbers.seed(numbers("a"))).values
    assert await numbers.bump(numbers("a", "absent")) == 1
    after, absent = (await numbers.fetch(numbers("a", "absent"))).values
    assert after != b"%d" % before
    assert absent is None


async def test_native_bumps_add_128(native: None, sync: bool) -> None:
    numbers = Twins(CacheGateway(alias="counters"), sync=sync)
    [before] = (await numbers.seed(numbers("a"))).values
    await numbers.bump(numbers("a", "a"))
    await numbers.bump(numbers("a"))
    assert (await numbers.seed(numbers("a"))).values == [before + 3 * counters.BUMP]
    assert counters.bumps(before + 3 * counters.BUMP) == 3


async def test_a_bump_makes_junk_unreadable(numbers: Twins) -> None:
    await numbers.store([(*numbers("a"), b"junk", 10.0)])
    assert await numbers.bump(numbers("a")) == 1
    assert (await numbers.fetch(numbers("a"))).values != [b"junk"]


async def test_foreign_bumps_never_repeat_a_value() -> None:
    """Without atomic increments, two bumps at once must still leave a value not seen before."""
    with override_settings(
        LOOM_CACHE={"AIOCACHE_CONFIG": {"default": {"cache": OTHER, "serializer": SERIALIZER}}}
    ):
        gateway = CacheGateway()
        [key] = [gateway.full_key("a")]
        seen = set((await gateway.seed([key])).values)
        for _ in range(20):
            await asyncio.gather(gateway.bump([key]), gateway.bump([key]))
            seen.update((await gateway.seed([key])).values)
        assert len(seen) == 21


async def test_a_foreign_backend_that_does_not_answer_is_unavailable_in_time(
    sync: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own limit is five seconds."""
    with override_settings(
        LOOM_CACHE={
            "AIOCACHE_CONFIG": {"default": {"cache": OTHER, "serializer": SERIALIZER}},
            "TIMEOUT": 0.05,
            "WRITE_TIMEOUT": 0.05,
        }
    ):
        gateway = Twins(CacheGateway(), sync=sync)
        answered = asyncio.Event()
        monkeypatch.setattr(OtherCache, "multi_get", _hanging(answered))
        with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.05 s"):
            await gateway.fetch(["a"])
        with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.05 s"):
            await gateway.bump(["a"])


def _hanging(answered: asyncio.Event) -> Callable[..., Any]:
    async def method(*_args: object, **_kwargs: object) -> None:
        await answered.wait()

    return method


async def test_remove_counts_full_keys(data: Twins) -> None:
    await data.store([(*data("a"), b"1", 10.0)])
    assert await data.remove(data("a", "b")) == 1


# Aliases and settings.


def config_in_force() -> CacheConfig:
    current = config.current()
    assert current is not None
    return current


def test_keys_are_prefixed_with_the_namespace_of_the_settings() -> None:
    assert CacheGateway().full_key("a") == "loom:a"
    with override_settings(LOOM_CACHE={"NAMESPACE": "shop"}):
        assert CacheGateway().full_key("a") == "shop:a"
        assert CacheGateway(alias="counters").full_key("a") == "shop:a"


def test_a_namespace_that_is_called_leaves_the_static_prefix() -> None:
    with override_settings(LOOM_CACHE={"NAMESPACE": "os.getcwd"}):
        assert CacheGateway().full_key("a") == "loom:a"


def test_an_alias_namespace_goes_before_that_of_the_settings() -> None:
    aliases = {"default": {"serializer": SERIALIZER, "namespace": "mine"}}
    with override_settings(LOOM_CACHE={"AIOCACHE_CONFIG": aliases, "NAMESPACE": "shop"}):
        assert CacheGateway().full_key("a") == "mine:a"


def test_an_alias_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigurationError, match="no cache alias 'nope'"):
        CacheGateway(alias="nope")


def test_an_alias_of_earlier_settings_is_gone() -> None:
    aliases = {"default": {"serializer": SERIALIZER}}
    with override_settings(LOOM_CACHE={}):
        CacheGateway(alias="counters")
        with (
            override_settings(LOOM_CACHE={"AIOCACHE_CONFIG": aliases}),
            pytest.raises(ConfigurationError),
        ):
            CacheGateway(alias="counters")


def test_no_alias_named_default_is_needed() -> None:
    aliases = {"mine": {"serializer": SERIALIZER}}
    with override_settings(LOOM_CACHE={"AIOCACHE_CONFIG": aliases, "AIOCACHE_ALIAS": "mine"}):
        CacheGateway(alias="mine").set_value_sync("a", 1)
        assert CacheGateway(alias="mine").get_value_sync("a") == 1


def test_settings_take_effect_at_once_and_without_a_connection() -> None:
    with override_settings(LOOM_CACHE={}):
        with override_settings(LOOM_CACHE={"LOCATION": NOWHERE}):
            assert isinstance(aiocache.caches.get("default"), RedisCache)
            CacheGateway()
        assert isinstance(aiocache.caches.get("default"), MemoryCache)


def test_stores_in_memory_start_empty_with_new_settings() -> None:
    with override_settings(LOOM_CACHE={}):
        CacheGateway().set_value_sync("a", 1)
        old = CacheGateway()
    with override_settings(LOOM_CACHE={}):
        assert CacheGateway().get_value_sync("a") is None
        assert not CacheGateway().shares_server_with(old)


@pytest.mark.parametrize("backend", ["aiocache.SimpleMemoryCache", aiocache.SimpleMemoryCache])
def test_memory_aliases_get_the_size_of_the_settings(backend: object) -> None:
    aliases = {
        "default": {"cache": backend, "serializer": SERIALIZER},
        "declared": {"cache": backend, "max_size": 7},
        "other": {"cache": OTHER},
    }
    with override_settings(LOOM_CACHE={"AIOCACHE_CONFIG": aliases, "MAX_SIZE": 50}):
        stores: list[BaseCache] = [aiocache.caches.get(alias) for alias in aliases]
    assert [type(store) for store in stores] == [MemoryCache, MemoryCache, OtherCache]
    assert [store.max_size for store in stores[:2]] == [50, 7]


@pytest.mark.parametrize("backend", ["aiocache.RedisCache", aiocache.RedisCache])
async def test_aiocaches_redis_is_served_with_its_own_options(backend: object) -> None:
    with RedisServer().start(tcp=True, requirepass="sesame") as server:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        place = {"cache": backend, "endpoint": "127.0.0.1", "port": str(port), "db": 3}
        options = {**place, "password": "sesame", "serializer": SERIALIZER, "pool_max_size": 5}
        with override_settings(LOOM_CACHE={"AIOCACHE_CONFIG": {"default": options}}):
            await CacheGateway().set_value("a", 1)
            assert CacheGateway().get_value_sync("a") == 1
            assert server.keys(database=3) == 1
            await CacheGateway().close()
            CacheGateway().close_sync()


async def test_an_alias_used_through_aiocache_itself_has_the_same_keys(native: None) -> None:
    gateway, alias = CacheGateway(alias="counters"), aiocache.caches.get("counters")
    await gateway.set_value("a", 1)
    assert int(await alias.get(gateway.full_key("a"))) == 1
    assert await alias.add(gateway.full_key("b"), 2)
    with pytest.raises(ValueError, match="exists"):
        await alias.add(gateway.full_key("b"), 3)
    assert await alias.increment(gateway.full_key("b")) == 3
    assert await alias.multi_set([(gateway.full_key("c"), 1)], ttl=10)
    assert [int(value) for value in await alias.multi_get(map(gateway.full_key, "abc"))] == [
        1,
        3,
        1,
    ]
    assert await alias.exists(gateway.full_key("a"))
    assert await alias.expire(gateway.full_key("a"), 5)
    assert await alias.delete(gateway.full_key("a")) == 1
    assert await gateway.get_value("a") is None


def test_values_are_kept_for_the_default_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(memory, "time", SimpleNamespace(monotonic=lambda: now, time_ns=lambda: 0))
    with override_settings(LOOM_CACHE={"DEFAULT_TTL": 60}):
        gateway = CacheGateway()
        gateway.set_value_sync("default", 1)
        gateway.set_value_sync("longer", 1, ttl=61)
        now += 60
        assert gateway.multi_get_values_sync(["default", "longer"]) == [None, 1]
