"""The store in this process's memory: bounded, and right under several loops and threads."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from loom_cache import counters
from loom_cache.backends import memory
from loom_cache.backends.memory import COUNTERS_PER_ENTRY, MemoryCache


class Clock:
    """Stands in for the time module; does not go on by itself."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return int(self.now * 1_000_000_000)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(memory, "time", clock)
    return clock


def keep(cache: MemoryCache, *keys: str, ttl: float = 100.0) -> None:
    cache.store_sync([(key, key.encode(), ttl) for key in keys])


def kept(cache: MemoryCache, *keys: str) -> list[str]:
    return [key for key in keys if cache.holds_sync(key)]


def test_no_more_than_max_size_entries_are_kept() -> None:
    cache = MemoryCache(max_size=3)
    for number in range(1_000):
        keep(cache, str(number))
    assert sorted(cache.scan_sync("")) == ["997", "998", "999"]


def test_the_least_recently_used_goes_first() -> None:
    cache = MemoryCache(max_size=3)
    keep(cache, "a", "b", "c")
    cache.fetch_sync(["a"])
    keep(cache, "b")
    keep(cache, "d")
    assert kept(cache, "a", "b", "c", "d") == ["a", "b", "d"]


def test_entries_do_not_push_out_the_counters_that_make_them_valid() -> None:
    cache = MemoryCache(max_size=3)
    seeded = cache.seed_sync(["x", "y", "z"]).values
    keep(cache, *"abcdefgh")
    assert cache.seed_sync(["x", "y", "z"]).values == seeded


def test_counters_are_bounded_too() -> None:
    cache = MemoryCache(max_size=3)
    cache.seed_sync([str(number) for number in range(1_000)])
    assert len(cache.scan_sync("")) == 3 * COUNTERS_PER_ENTRY


def test_a_counter_that_was_pushed_out_starts_with_another_value(clock: Clock) -> None:
    cache = MemoryCache(max_size=1)
    [first] = cache.seed_sync(["a"]).values
    cache.seed_sync([f"b{number}" for number in range(COUNTERS_PER_ENTRY)])
    assert cache.seed_sync(["a"]).values > [first]


def test_entries_end_with_their_time_to_live(clock: Clock) -> None:
    cache = MemoryCache()
    keep(cache, "a", ttl=10)
    keep(cache, "b", ttl=10.5)
    clock.now += 10
    assert cache.scan_sync("") == ["b"]
    assert cache.fetch_sync(["a", "b"]).values == [None, b"b"]
    clock.now += 1
    assert cache.fetch_sync(["b"]).values == [None]


def test_a_key_stored_again_lives_anew(clock: Clock) -> None:
    cache = MemoryCache()
    keep(cache, "a", ttl=10)
    clock.now += 9
    keep(cache, "a", ttl=10)
    clock.now += 9
    assert kept(cache, "a") == ["a"]


def test_entries_end_though_their_loop_has_ended(clock: Clock) -> None:
    cache = MemoryCache()
    asyncio.run(cache.store([("a", b"1", 10.0)]))
    clock.now += 10
    assert asyncio.run(cache.fetch(["a"])).values == [None]


async def test_nothing_left_by_clear_ends_a_later_key(clock: Clock) -> None:
    cache = MemoryCache()
    await cache.set("a", "1", ttl=10)
    await cache.clear_prefix("")
    clock.now += 5
    await cache.set("a", "2", ttl=10)
    clock.now += 6
    assert await cache.get("a") == "2"


def test_idle_counters_are_forgotten_and_bumps_keep_them(clock: Clock) -> None:
    cache = MemoryCache()
    cache.seed_sync(["idle", "used"])
    clock.now += counters.COUNTER_TTL - 1
    assert cache.bump_sync(["used"]) == 1
    clock.now += 1
    assert kept(cache, "idle", "used") == ["used"]
    assert cache.bump_sync(["idle"]) == 0
    clock.now += counters.COUNTER_TTL - 1
    assert kept(cache, "used") == []


def test_an_increment_keeps_the_time_to_live(clock: Clock) -> None:
    cache = MemoryCache()
    cache.store_sync([("a", b"5", 10.0)])
    assert cache.add_to_sync("a", 2) == 7
    clock.now += 10
    assert cache.add_to_sync("a", 2) == 2


def test_seeds_increase_even_when_the_clock_stands_still_or_goes_back(clock: Clock) -> None:
    cache = MemoryCache()
    seeds = cache.seed_sync(["a", "b", "c"]).values
    clock.now -= 500
    seeds += cache.seed_sync(["d", "e"]).values
    seeds += MemoryCache().seed_sync(["a"]).values
    assert seeds == sorted(set(seeds))


def test_a_key_is_one_key_whatever_it_holds() -> None:
    cache = MemoryCache()
    keep(cache, "a")
    cache.seed_sync(["a"])
    keep(cache, "a")
    assert cache.scan_sync("") == ["a"]
    assert cache.fetch_sync(["a"]).values == [b"a"]
    assert cache.remove_sync(["a"]) == 1
    assert cache.fetch_sync(["a"]).values == [None]


def test_stores_are_apart_unless_they_have_the_same_name() -> None:
    one, two, other = MemoryCache(store="x"), MemoryCache(store="x"), MemoryCache()
    keep(one, "a")
    assert [kept(cache, "a") for cache in (one, two, other)] == [["a"], ["a"], []]
    assert one.server == two.server != other.server
    assert one.fetch_sync([]).incarnation != other.fetch_sync([]).incarnation


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_lose_no_bump(restless: None) -> None:
    cache = MemoryCache()
    keys = [str(number) for number in range(10)]
    before = cache.seed_sync(keys).values
    together = threading.Barrier(8)

    def work() -> None:
        together.wait()
        for _ in range(100):
            cache.bump_sync(keys)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.seed_sync(keys).values == [value + 800 * counters.BUMP for value in before]


def test_event_loops_share_it() -> None:
    cache = MemoryCache()
    asyncio.run(cache.store([("a", b"1", 10.0)]))
    assert asyncio.run(cache.fetch(["a"])).values == [b"1"]


def test_a_forked_child_starts_empty_even_if_a_lock_was_held() -> None:
    """The parent's later writes cannot reach it, nor can the thread that held the lock."""
    script = """
import os
from loom_cache.backends.memory import MemoryCache
cache = MemoryCache()
cache.store_sync([("a", b"1", 10.0)])
cache._store._lock.acquire()
child = os.fork()
if child == 0:
    found = cache.fetch_sync(["a"])
    print(found.values, cache.seed_sync(["t"]).values[0] > 0, flush=True)
    os._exit(0)
os.waitpid(child, 0)
cache._store._lock.release()
print(cache.fetch_sync(["a"]).values)
"""
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout.splitlines() == ["[None] True", "[b'1']"]
