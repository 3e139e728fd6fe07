"""The least that a hit could cost: the entry and the counters that loom_cache asks for, fetched by
redis-py, compared, decoded and made into models; and the same of bytes that are in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec
import redis
import redis.asyncio

from benchmarks.servers import REDIS
from benchmarks.speed.contestants.ours import Loom
from benchmarks.speed.operation import Operation, Operations

Row = tuple[int, int, int | None, str, str, str, bool, datetime, int]


class _Entry(msgspec.Struct, array_like=True):
    generations: list[int]
    rows: list[Row]


class _Kept(NamedTuple):
    keys: list[str]
    """That of the entry, and those of its counters."""
    data: bytes


class Floor(Loom):
    titles = {
        "async": "floor: MGET, decode, model",
        "process": "floor: bytes in this process, decode, model",
    }

    def operations(self, hot: int) -> Operations:
        reads = self.reads(hot)
        different = {name: one.different for (name, _), one in reads.operations().items()}
        made: dict[tuple[str, str], Operation] = {}
        for name, read in (("row", reads.row), ("list", reads.listed)):
            shelf = _Shelf(different[name], read)
            made[name, "async"] = Operation(
                shelf.fetched, shelf.different, asynchronous=True, warm=shelf.fill
            )
            made[name, "process"] = Operation(shelf.at_hand, shelf.different, warm=shelf.fill)
        return made


@cache
def _client() -> redis.asyncio.Redis:
    """Of the event loop of this process."""
    return redis.asyncio.Redis.from_url(os.environ[REDIS])


class _Shelf:
    """What loom_cache has stored, stored anew in the plainest form."""

    def __init__(self, different: int, read: Callable[[int], Any]) -> None:
        self.different = different
        self._read = read
        self._kept: list[_Kept] = []
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(_Entry).decode

    def fill(self) -> None:
        if not self._kept:
            with redis.Redis.from_url(os.environ[REDIS]) as client:
                self._kept = [self._keep(number, client) for number in range(self.different)]

    def at_hand(self, number: int) -> list[Any]:
        return self._models(self._decode(self._kept[number].data))

    async def fetched(self, number: int) -> list[Any]:
        values: Any = await _client().mget(self._kept[number].keys)
        data, *counters = values
        entry = self._decode(data)
        if list(map(int, counters)) != entry.generations:
            raise AssertionError("nobody writes here")
        return self._models(entry)

    def _models(self, entry: _Entry) -> list[Any]:
        from testproject.news.models import Article

        return [Article.from_db("default", _columns(), row) for row in entry.rows]

    def _keep(self, number: int, client: Any) -> _Kept:
        self._read(number)
        with _fetched() as keys:
            answer = self._read(number)
        rows = [
            tuple(getattr(row, column) for column in _columns())
            for row in (answer if isinstance(answer, list) else [answer])
        ]
        counters = [int(value) for value in client.mget(keys[1:])]
        data = self._encode((counters, rows))
        key = f"floor:{keys[0]}"
        client.set(key, data)
        return _Kept([key, *keys[1:]], data)


@cache
def _columns() -> list[str]:
    from testproject.news.models import Article

    return [column.attname for column in Article._meta.concrete_fields]


@contextmanager
def _fetched() -> Iterator[list[str]]:
    """The keys that are fetched by synchronous reads within."""
    from loom_cache.gateway import CacheGateway

    original = CacheGateway.fetch_sync
    keys: list[str] = []

    def fetch(self: CacheGateway, wanted: Any) -> Any:
        keys.extend(wanted)
        return original(self, wanted)

    with patch.object(CacheGateway, "fetch_sync", fetch):
        yield keys
