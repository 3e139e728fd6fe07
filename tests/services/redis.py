"""A private Redis server."""

from __future__ import annotations

import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.services import START_TIMEOUT, Service, ServiceError, temporary_directory


class RedisServer:
    """Started by `start`; nothing is written to disk unless it is configured."""

    def __init__(self) -> None:
        self._service: Service | None = None
        self._command: list[str] = []
        self._directory = Path()
        self._client: redis.Redis | None = None
        self.url = ""
        """Where it listens, with its password if it has one."""
        self.port = 0
        """Where it listens on 127.0.0.1; 0 if it is on a Unix socket."""

    def start(self, *, tcp: bool = False, **conf: object) -> Self:
        """Start on a Unix socket, or on a free port of 127.0.0.1.

        `conf` are lines of redis.conf, with underscores for dashes: maxmemory="4mb".
        """
        if self._service is not None:
            raise RuntimeError("This Redis server is running already.")
        program = shutil.which("redis-server")
        if program is None:
            raise ServiceError(
                "The tests need the program redis-server: install the package redis-server "
                "(Debian, Ubuntu) or redis (Fedora, Homebrew)."
            )
        self._directory = temporary_directory()
        place = self._place(tcp=tcp, password=conf.get("requirepass"))
        options = {"dir": self._directory, "save": "", "protected_mode": "no", **place, **conf}
        options.setdefault("repl_diskless_sync_delay", 0)
        self._command = [program]
        for name, value in options.items():
            self._command += [f"--{name.replace('_', '-')}", str(value)]
        self._run()
        return self

    def stop(self) -> None:
        """End the server and remove what it left. Stopping twice is harmless."""
        self._end(keep=False)

    def kill(self) -> None:
        """End the server at once, as a crash would; `restart` brings it back."""
        self._end(keep=True)

    def restart(self) -> None:
        """Start again where it was, with what it had saved; kills it first if it is running."""
        self.kill()
        self._run()

    def suspend(self) -> None:
        """Make it hang: connections are accepted, nothing is answered."""
        self._running().suspend()

    def resume(self) -> None:
        self._running().resume()

    def follow(self, other: RedisServer) -> None:
        """Become a replica of `other` (on TCP), and wait until it has sent its data."""
        self.client.replicaof("127.0.0.1", other.port)
        deadline = time.monotonic() + START_TIMEOUT
        while self._info("replication")["master_link_status"] != "up":
            if time.monotonic() > deadline:
                raise ServiceError("The replica has not got its primary's data.")
            time.sleep(0.01)

    def lead(self) -> None:
        """Be a replica no longer."""
        self.client.replicaof("NO", "ONE")

    @property
    def client(self) -> redis.Redis:
        """A client for looking at the server from outside."""
        if self._client is None:
            self._client = redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0))
        return self._client

    @property
    def run_id(self) -> str:
        return str(self._info("server")["run_id"])

    @property
    def connections(self) -> int:
        """How many connections it has, without the one that asks."""
        self.client.ping()  # by the next command it has noticed those that were closed before
        return int(self._info("clients")["connected_clients"]) - 1

    def keys(self, *, database: int = 0) -> int:
        """How many keys there are in a database."""
        return int(self._info("keyspace").get(f"db{database}", {"keys": 0})["keys"])

    def commandstats(self) -> dict[str, int]:
        """Calls of each command since the last `reset`, those made by scripts included."""
        stats = self._info("commandstats")
        return {
            name.removeprefix("cmdstat_"): int(stat["calls"])
            for name, stat in stats.items()
            if name not in ("cmdstat_info", "cmdstat_config|resetstat")
        }

    @contextmanager
    def counting(self) -> Iterator[dict[str, int]]:
        """Gives a dictionary that holds, after the block, the calls that were made within."""
        calls: dict[str, int] = {}
        self.client.config_resetstat()
        yield calls
        calls.update(self.commandstats())

    def reset(self) -> None:
        """Empty every database and forget the statistics."""
        self.client.flushall()
        self.client.config_resetstat()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _place(self, *, tcp: bool, password: object) -> dict[str, object]:
        """The options for where to listen; sets `url`."""
        credentials = f":{password}@" if password else ""
        if tcp:
            port = self.port = free_port()
            self.url = f"redis://{credentials}127.0.0.1:{port}/0"
            return {"port": port, "bind": "127.0.0.1"}
        path = self._directory / "redis.sock"
        self.url = f"unix://{credentials}{path}"
        return {"port": 0, "unixsocket": path}

    def _run(self) -> None:
        self._service = Service(
            self._command,
            directory=self._directory,
            ready="eady to accept connections",
            stop_by=signal.SIGKILL,
        )

    def _end(self, *, keep: bool) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._service is not None:
            self._service.stop(keep=keep)
            self._service = None
        elif not keep and self._command:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _running(self) -> Service:
        if self._service is None:
            raise RuntimeError("This Redis server is not running.")
        return self._service

    def _info(self, section: str) -> dict[str, Any]:
        info: dict[str, Any] = self.client.info(section)
        return info


def free_port() -> int:
    """Of 127.0.0.1; free for now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
