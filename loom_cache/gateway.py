"""CacheGateway: with the stores behind it, the only room that knows aiocache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from aiocache import caches
from aiocache.factory import CacheHandler

from loom_cache import config as configuration
from loom_cache import counters
from loom_cache.backends import Enrolled, Facts, Lease, Moved, Pair, Roll, Snapshot, Store
from loom_cache.backends.foreign import ForeignStore
from loom_cache.backends.memory import MemoryCache
from loom_cache.backends.redis import RedisCache
from loom_cache.config import MEMORY_BACKEND, CacheConfig
from loom_cache.exceptions import ConfigurationError
from loom_cache.serializer import MsgspecSerializer

__all__ = ["CacheGateway", "Snapshot"]


class CacheGateway:
    """One alias of aiocache, asked by relative keys.

    A data gateway (its alias has the MsgspecSerializer) keeps any value; a counter gateway keeps
    plain integers. Every method has a synchronous twin, `..._sync`, that needs no event loop.
    All raise StoreUnavailable when the store cannot be asked.
    """

    __slots__ = ("_alias", "_cache", "_prefix", "_serializer", "_store")

    def __init__(self, *, alias: str = "default") -> None:
        config = configuration.current()
        try:
            cache = caches.get(alias)
        except KeyError as error:
            raise ConfigurationError(
                f"There is no cache alias {alias!r}. Declare it in LOOM_CACHE['AIOCACHE_CONFIG']."
            ) from error
        self._alias = alias
        self._cache = cache
        self._store = _store_of(cache)
        space = cache.namespace or (config.static_namespace if config else "loom")
        self._prefix = f"{space}:"
        serializer = cache.serializer
        self._serializer = serializer if isinstance(serializer, MsgspecSerializer) else None

    def __repr__(self) -> str:
        return f"<CacheGateway {self._alias!r}>"

    @staticmethod
    def configure(raw_config: Mapping[str, Mapping[str, Any]]) -> None:
        """Hand `raw_config`, keyed by alias, to aiocache. No connection is made.

        aiocache's own memory and Redis backends are served by ours, with the same options.
        """
        aliases = {alias: _served(options) for alias, options in raw_config.items()}
        aliases.setdefault("default", {"cache": MemoryCache})  # aiocache insists on one
        caches.set_config({**caches.get_config(), **aliases})  # forgets every instance there is
        caches.set_config(aliases)

    @classmethod
    def apply_config(cls, config: CacheConfig) -> None:
        """Register the aliases of `config`; memory aliases without a `max_size` get its own."""
        aliases = {
            alias: {"max_size": config.max_size, **options}
            if configuration.is_memory(options)
            else options
            for alias, options in config.aliases.items()
        }
        cls.configure(aliases)
        _set_timeouts(config)

    @staticmethod
    def try_alias(options: Mapping[str, Any]) -> bool:
        """Whether an alias with these options serializes its values.

        ConfigurationError if aiocache cannot make it; the message repeats no value, since options
        hold passwords. No connection is made, and nothing is registered.
        """
        handler = CacheHandler()
        try:
            handler.set_config({"default": _served(options)})
            cache = handler.get("default")
        except (ImportError, AttributeError, TypeError) as error:
            raise ConfigurationError(f"Its class or its options are wrong: {error}.") from error
        except (ValueError, KeyError):
            raise ConfigurationError("The value of one of its options is wrong.") from None
        return isinstance(cache.serializer, MsgspecSerializer)

    @property
    def alias(self) -> str:
        return self._alias

    @property
    def native_counters(self) -> bool:
        """Whether the store increments atomically and gives out seeds by one clock."""
        return self._store.native_counters

    @property
    def is_data(self) -> bool:
        """Whether values are serialized; otherwise they are plain integers."""
        return self._serializer is not None

    def full_key(self, key: str) -> str:
        return self._prefix + key

    def shares_server_with(self, other: CacheGateway) -> bool:
        """Whether one request can ask for the keys of both."""
        return self._store.server == other._store.server

    # Raw bytes by full keys, for generations and reading.

    async def fetch(self, keys: Sequence[str]) -> Snapshot[bytes | None]:
        """The bytes at each full key, and the life of the server that held them, in one request."""
        return await self._store.fetch(keys) if keys else Snapshot("", [])

    def fetch_sync(self, keys: Sequence[str]) -> Snapshot[bytes | None]:
        return self._store.fetch_sync(keys) if keys else Snapshot("", [])

    async def store(self, pairs: Sequence[Pair]) -> None:
        """Keep (full key, bytes, seconds) in one request."""
        if pairs:
            await self._store.store(pairs)

    def store_sync(self, pairs: Sequence[Pair]) -> None:
        if pairs:
            self._store.store_sync(pairs)

    async def seed(self, keys: Sequence[str], leases: Sequence[Lease] = ()) -> Snapshot[int]:
        """The counters at the full keys, then those of strict tables, started where there are
        none, in one request."""
        return await self._store.seed(keys, leases) if keys or leases else Snapshot("", [])

    def seed_sync(self, keys: Sequence[str], leases: Sequence[Lease] = ()) -> Snapshot[int]:
        return self._store.seed_sync(keys, leases) if keys or leases else Snapshot("", [])

    async def bump(self, keys: Sequence[str], *, timeout: float | None = None) -> int:  # noqa: ASYNC109
        """Make what was stored under these counters unreadable; how many of them existed.

        One request, `timeout` seconds at most (default: WRITE_TIMEOUT).
        """
        return await self._store.bump(keys, timeout=timeout) if keys else 0

    def bump_sync(self, keys: Sequence[str], *, timeout: float | None = None) -> int:
        return self._store.bump_sync(keys, timeout=timeout) if keys else 0

    async def bump_and_read(
        self,
        keys: Sequence[str],
        reads: Sequence[str],
        *,
        leases: Sequence[Lease] = (),
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Moved:
        """Bump, take the steps of strict tables, and then read the counters at `reads`, in one
        request."""
        return await self._store.bump_and_read(keys, reads, leases=leases, timeout=timeout)

    def bump_and_read_sync(
        self,
        keys: Sequence[str],
        reads: Sequence[str],
        *,
        leases: Sequence[Lease] = (),
        timeout: float | None = None,
    ) -> Moved:
        return self._store.bump_and_read_sync(keys, reads, leases=leases, timeout=timeout)

    def take_sync(self, leases: Sequence[Lease], *, timeout: float | None = None) -> None:
        """Let writers of strict tables come in or stay, in one request."""
        self._store.take_sync(leases, timeout=timeout)

    def writers_sync(self, keys: Sequence[str]) -> list[list[tuple[str, float]]]:
        """The open writers in each of these sets, with the seconds that are left to them."""
        return self._store.writers_sync(keys)

    async def enroll(self, roll: Roll, names: Sequence[str], most: int) -> Enrolled:
        """Add names to a list (see Store.enroll)."""
        return await self._store.enroll(roll, names, most)

    def enroll_sync(self, roll: Roll, names: Sequence[str], most: int) -> Enrolled:
        return self._store.enroll_sync(roll, names, most)

    async def remove(self, keys: Sequence[str]) -> int:
        """Delete full keys; how many existed."""
        return await self._store.remove(keys) if keys else 0

    def remove_sync(self, keys: Sequence[str]) -> int:
        return self._store.remove_sync(keys) if keys else 0

    async def scan(self, prefix: str) -> list[str]:
        """The full keys that begin with `prefix` (itself a full key). Not for the read path."""
        return await self._store.scan(prefix)

    def scan_sync(self, prefix: str) -> list[str]:
        return self._store.scan_sync(prefix)

    def walk_sync(self, prefix: str) -> Iterator[Sequence[str]]:
        """The same, a batch at a time; a key may come twice."""
        return self._store.walk_sync(prefix)

    def facts_sync(self) -> Facts:
        """What the store says of itself."""
        return self._store.facts_sync(self.full_key("nothing"))

    # Values by relative keys.

    async def get_value(self, key: str, *, type: Any = None) -> Any:  # noqa: A002
        """The value at `key`, decoded as `type` if there is one; None for a miss."""
        return (await self.multi_get_values([key], type=type))[0]

    def get_value_sync(self, key: str, *, type: Any = None) -> Any:  # noqa: A002
        return self.multi_get_values_sync([key], type=type)[0]

    async def multi_get_values(self, keys: Iterable[str], *, type: Any = None) -> list[Any]:  # noqa: A002
        """The values in the order of the keys, None for each miss, in one request."""
        found = await self.fetch([self.full_key(key) for key in keys])
        return [self._decode(value, type) for value in found.values]

    def multi_get_values_sync(self, keys: Iterable[str], *, type: Any = None) -> list[Any]:  # noqa: A002
        found = self.fetch_sync([self.full_key(key) for key in keys])
        return [self._decode(value, type) for value in found.values]

    async def set_value(self, key: str, value: Any, ttl: float | None = None) -> None:
        """Keep `value` for `ttl` seconds (default: the alias's, or DEFAULT_TTL)."""
        await self.multi_set_values([(key, value)], ttl)

    def set_value_sync(self, key: str, value: Any, ttl: float | None = None) -> None:
        self.multi_set_values_sync([(key, value)], ttl)

    async def multi_set_values(
        self, pairs: Iterable[tuple[str, Any]] | Mapping[str, Any], ttl: float | None = None
    ) -> None:
        """Keep several values for `ttl` seconds each, in one request."""
        await self.store(self._encoded(pairs, ttl))

    def multi_set_values_sync(
        self, pairs: Iterable[tuple[str, Any]] | Mapping[str, Any], ttl: float | None = None
    ) -> None:
        self.store_sync(self._encoded(pairs, ttl))

    async def exists(self, key: str) -> bool:
        return await self._store.holds(self.full_key(key))

    def exists_sync(self, key: str) -> bool:
        return self._store.holds_sync(self.full_key(key))

    async def delete(self, key: str) -> int:
        """Delete `key`; 1 if it existed, else 0."""
        return await self.delete_many([key])

    def delete_sync(self, key: str) -> int:
        return self.delete_many_sync([key])

    async def delete_many(self, keys: Iterable[str]) -> int:
        """Delete the keys; how many existed."""
        return await self.remove([self.full_key(key) for key in keys])

    def delete_many_sync(self, keys: Iterable[str]) -> int:
        return self.remove_sync([self.full_key(key) for key in keys])

    async def incr(self, key: str, delta: int = 1) -> int:
        """Add to the integer at `key`, which starts at 0, and return it.

        Atomic on a counter gateway whose store has `native_counters`; GET and SET elsewhere.
        TypeError if the value is not an integer.
        """
        if not self.is_data and self.native_counters:
            return await self._store.add_to(self.full_key(key), delta)
        value = _sum(key, await self.get_value(key), delta)
        await self.set_value(key, value)
        return value

    def incr_sync(self, key: str, delta: int = 1) -> int:
        if not self.is_data and self.native_counters:
            return self._store.add_to_sync(self.full_key(key), delta)
        value = _sum(key, self.get_value_sync(key), delta)
        self.set_value_sync(key, value)
        return value

    async def clear(self) -> None:
        """Delete everything under this alias's prefix, and nothing else."""
        await self._store.clear_prefix(self._prefix)

    def clear_sync(self) -> None:
        self._store.clear_prefix_sync(self._prefix)

    async def close(self) -> None:
        """Close the connections of the running event loop; the next request opens new ones."""
        await self._store.disconnect()

    def close_sync(self) -> None:
        """Close the connections used outside event loops; the next request opens new ones."""
        self._store.disconnect_sync()

    def _encoded(
        self, pairs: Iterable[tuple[str, Any]] | Mapping[str, Any], ttl: float | None
    ) -> list[Pair]:
        seconds = self._ttl() if ttl is None else ttl
        items = pairs.items() if isinstance(pairs, Mapping) else pairs
        return [(self.full_key(key), self._encode(key, value), seconds) for key, value in items]

    def _encode(self, key: str, value: Any) -> bytes:
        if self._serializer is not None:
            return self._serializer.dumps(value)
        if type(value) is not int:
            raise TypeError(
                f"The counter alias {self._alias!r} keeps plain integers; {key!r} was given a "
                f"{type(value).__name__}. Use an alias that has the MsgspecSerializer."
            )
        return b"%d" % value

    def _decode(self, value: bytes | None, kind: Any) -> Any:
        if self._serializer is None:
            return counters.parse(value)
        try:
            return self._serializer.loads(value, kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None  # truncated, foreign or of another shape: a miss, never an error

    def _ttl(self) -> float:
        if self._cache.ttl is not None:
            return float(self._cache.ttl)
        if not self.is_data:
            return counters.COUNTER_TTL
        config = configuration.current()
        return config.default_ttl if config else CacheConfig().default_ttl


def _sum(key: str, value: Any, delta: int) -> int:
    if value is None:
        return delta
    if type(value) is not int:
        raise TypeError(f"The value at {key!r} is not an integer.")
    return value + delta


_foreign: WeakKeyDictionary[Any, ForeignStore] = WeakKeyDictionary()


def _store_of(cache: Any) -> Store:
    if isinstance(cache, MemoryCache | RedisCache):
        return cache
    if cache not in _foreign:
        _foreign[cache] = ForeignStore(cache)
    return _foreign[cache]


def _served(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an alias, with aiocache's own memory and Redis backends replaced by ours."""
    served = {"cache": MEMORY_BACKEND, **options}
    name = configuration.class_path(served["cache"])
    if name in configuration.MEMORY_CLASSES:
        served["cache"] = MemoryCache
    elif name in configuration.REDIS_CLASSES:
        served["cache"] = RedisCache
    return served


def _set_timeouts(config: CacheConfig) -> None:
    for store in (RedisCache, ForeignStore):
        store.read_timeout = config.timeout
        store.bump_timeout = config.write_timeout
