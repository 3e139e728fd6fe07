"""The servers of a benchmark: a PostgreSQL with the same rows for each library, and a Redis."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from typing import cast

import psycopg

from tests.services.postgres import NAME, PostgresServer
from tests.services.redis import RedisServer

REDIS = "BENCH_REDIS"
"""The variable that says where Redis is."""


class Servers:
    """Those that run, and how the processes of the benchmark find them."""

    def __init__(self, postgres: PostgresServer, redis: RedisServer) -> None:
        self._postgres = postgres
        self.redis = redis

    def environment(self, number: int) -> dict[str, str]:
        """Of a process that uses Redis' database of this number."""
        redis = f"{self.redis.url}?db={number}"
        if self.redis.port:
            redis = f"redis://127.0.0.1:{self.redis.port}/{number}"
        return {**os.environ, **self._postgres.environment(), REDIS: redis}

    def copy(self, names: Iterable[str]) -> None:
        """Make databases that hold what the first one does."""
        with self.connected("postgres") as server:
            for name in names:
                server.execute(f'CREATE DATABASE "{name}" TEMPLATE {NAME}'.encode())

    def connected(self, database: str) -> psycopg.Connection:
        place = self._postgres.settings(database)
        return psycopg.connect(
            host=place["HOST"],
            port=place["PORT"],
            user=place["USER"],
            dbname=place["NAME"],
            autocommit=True,
        )

    def versions(self, packages: Iterable[str | None]) -> str:
        """Of these distributions, and of everything else that takes part."""
        given = [package for package in packages if package is not None]
        named = [f"{name} {version(name)}" for name in dict.fromkeys([*given, "Django"])]
        with self.connected("postgres") as server:
            postgres = f"PostgreSQL {server.info.server_version // 10_000}"
        info = cast(dict[str, str], self.redis.client.info("server"))
        redis = f"Redis {info['redis_version']}"
        return ", ".join([*named, f"Python {platform.python_version()}", postgres, redis])


def machine() -> str:
    return f"{os.cpu_count()} cores ({platform.machine()})"
