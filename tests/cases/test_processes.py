"""Processes, threads and event loops (case 38): what one of them has been told is written, all of
them read."""

import asyncio
import json
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from django.core import serializers
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.models import F, Max
from django.test import override_settings

from loom_cache import CachedRepository, cached_query, metrics
from loom_cache.backends.redis.server import MAX_CONNECTIONS
from tests.cases.conftest import outcomes
from tests.library.models import Edition
from tests.services.postgres import PostgresServer
from tests.services.redis import RedisServer

ROOT = Path(__file__).resolve().parent.parent.parent

SECONDS = 20.0
"""That one process writes and others read."""

READS_PER_WRITE = 50
TASKS = 8
THREADS = 4


class Editions(CachedRepository[Edition]):
    model = Edition

    @cached_query
    async def alatest_number(self) -> int | None:
        number: int | None = (await Edition.objects.aaggregate(number=Max("number")))["number"]
        return number

    @cached_query
    def latest_number(self) -> int | None:
        number: int | None = Edition.objects.aggregate(number=Max("number"))["number"]
        return number


editions = Editions()


# What runs in processes of its own. -------------------------------------------------------------


class Board:
    """What all processes see at once: the latest number that the writer has been told is written.

    Aligned words of eight bytes: each is written and read in one instruction.
    """

    def __init__(self, path: str) -> None:
        with Path(path).open("r+b") as file:
            self._words = memoryview(mmap.mmap(file.fileno(), 16)).cast("Q")

    @property
    def acknowledged(self) -> int:
        return self._words[0]

    @acknowledged.setter
    def acknowledged(self, number: int) -> None:
        self._words[0] = number

    @property
    def over(self) -> bool:
        return self._words[1] == 1

    def end(self) -> None:
        self._words[1] = 1


def _save(number: int) -> None:
    edition = Edition.objects.get(pk=1)
    edition.number = number
    edition.save()


def _update_raw(number: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE library_edition SET number = %s", [number])


def _update_in_two_steps(number: int) -> None:
    with transaction.atomic():
        Edition.objects.update(number=F("number") + 1)
        with transaction.atomic():
            Edition.objects.filter(number=number).update(number=number)


def _update_and_roll_back(number: int) -> None:
    with transaction.atomic():
        Edition.objects.update(number=number + 1000)
        transaction.set_rollback(True)
    Edition.objects.filter(pk=1).update(number=number)


WRITES: list[Callable[[int], object]] = [
    _save,
    _update_raw,
    _update_in_two_steps,
    _update_and_roll_back,
    lambda number: Edition.objects.update(number=number),
    lambda number: Edition.objects.bulk_update([Edition(pk=1, number=number)], ["number"]),
    lambda number: Edition.objects.update_or_create(pk=1, defaults={"number": number}),
]


def prepare() -> None:
    call_command("migrate", run_syncdb=True, verbosity=0)
    Edition.objects.create(pk=1)
    _say()


def write(path: str, pipe: str) -> None:
    """Write higher and higher numbers, and tell each once it is acknowledged; wait for some reads
    in between."""
    board, number, end = Board(path), 0, monotonic() + SECONDS
    while monotonic() < end:
        number += 1
        WRITES[number % len(WRITES)](number)
        board.acknowledged = number
        _wait_for_reads(int(pipe))
    board.end()
    _say(written=number)


def _wait_for_reads(pipe: int) -> None:
    number = 0
    while number < READS_PER_WRITE:
        told = os.read(pipe, READS_PER_WRITE - number)
        if not told:
            raise EOFError("The readers have ended.")
        number += len(told)


class Readers:
    """Reads that begin after a write was acknowledged, and how many of them were stale."""

    def __init__(self, path: str, pipe: str) -> None:
        self.board = Board(path)
        self.reads = 0
        self.stale: list[Any] = []
        self._pipe = int(pipe)
        self._lock = threading.Lock()
        os.set_blocking(self._pipe, False)

    def judge(self, question: int, known: int, seen: int) -> None:
        with self._lock:
            self.reads += 1
            if seen < known:
                self.stale.append((question, known, seen))
        with suppress(BlockingIOError, BrokenPipeError):  # the writer is behind, or has ended
            os.write(self._pipe, b".")

    def say(self) -> None:
        hits = sum(
            number for (_, outcome, _), number in metrics.totals().items() if outcome == "hit"
        )
        _say(reads=self.reads, hits=hits, stale=self.stale[:5])


def read_in_tasks(path: str, pipe: str) -> None:
    readers = Readers(path, pipe)

    async def listed() -> int:
        (edition,) = [edition async for edition in editions.filter(number__gte=0)]
        return edition.number

    async def by_key() -> int:
        return (await editions.aget(pk=1)).number

    async def in_bulk() -> int:
        return (await editions.ain_bulk([1]))[1].number

    async def aggregated() -> Any:
        return (await editions.aaggregate(number=Max("number")))["number"]

    async def by_method() -> Any:
        return await editions.alatest_number()

    questions = [by_key, listed, in_bulk, aggregated, by_method]

    async def read(task: int) -> None:
        turn = task
        while not readers.board.over:
            turn += 1
            known = readers.board.acknowledged
            seen = await questions[turn % len(questions)]()
            readers.judge(turn % len(questions), known, seen)

    async def read_at_once() -> None:
        await asyncio.gather(*map(read, range(TASKS)))

    asyncio.run(read_at_once())
    readers.say()


def read_in_threads(path: str, pipe: str) -> None:
    readers = Readers(path, pipe)
    questions: list[Callable[[], Any]] = [
        lambda: editions.get(pk=1).number,
        lambda: [edition.number for edition in editions.filter(number__gte=0)][-1],
        lambda: editions.aggregate(number=Max("number"))["number"],
        editions.latest_number,
        lambda: editions.values_list("number", flat=True).first(),
    ]

    def read(thread: int) -> None:
        turn = thread
        while not readers.board.over:
            turn += 1
            known = readers.board.acknowledged
            readers.judge(turn % len(questions), known, questions[turn % len(questions)]())
        connections.close_all()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(read, range(THREADS)))
    readers.say()


def fork() -> None:
    """Use the cache in both ways, fork, and use it in the child and in the parent."""
    asyncio.run(_anumber())
    assert editions.get(pk=1).number == 1
    connections.close_all()
    pid = os.fork()
    if pid == 0:
        with outcomes("hit", "hit"):
            assert editions.get(pk=1).number == 1
            assert asyncio.run(_anumber()) == 1
        Edition.objects.update(number=2)
        assert editions.get(pk=1).number == 2
        connections.close_all()
        return
    assert os.waitpid(pid, 0)[1] == 0
    assert editions.get(pk=1).number == 2
    with outcomes("hit", "hit"):
        assert editions.get(pk=1).number == 2
        assert asyncio.run(_anumber()) == 2
    _say(parent=True)


async def _anumber() -> int:
    return (await editions.aget(pk=1)).number


def work() -> None:
    """A worker of a job queue: reads what it is asked for, as long as it is asked."""
    for _ in sys.stdin:
        _say(number=editions.get(pk=1).number)


def _say(**found: Any) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


# The tests. -------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis that no other test uses."""
    with (
        RedisServer().start() as server,
        override_settings(LOOM_CACHE={"LOCATION": server.url, "TIMEOUT": 5, "WRITE_TIMEOUT": 5}),
    ):
        yield server


def begin(
    work: Callable[..., None],
    *arguments: object,
    env: dict[str, str],
    **options: Any,
) -> subprocess.Popen[str]:
    """Run a function of this module in a process of its own."""
    code = (
        "import sys, django; django.setup(); from tests.cases import test_processes as here; "
        f"here.{work.__name__}(*sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def ended(process: subprocess.Popen[str]) -> Any:
    """What the process said last."""
    said, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(said.splitlines()[-1])


@pytest.mark.own_servers
def test_no_read_that_begins_after_an_acknowledged_write_is_stale(
    server: RedisServer, tmp_path: Path
) -> None:
    board = tmp_path / "board"
    board.write_bytes(bytes(16))
    reading, writing = os.pipe()
    with PostgresServer().start() as database:
        env = {
            **database.environment(),
            "LOOM_TEST_DB": "postgresql",
            "LOOM_CACHE_LOCATION": server.url,
        }
        ended(begin(prepare, env=env))
        processes = [
            begin(write, board, reading, env=env, pass_fds=[reading]),
            begin(read_in_tasks, board, writing, env=env, pass_fds=[writing]),
            begin(read_in_threads, board, writing, env=env, pass_fds=[writing]),
        ]
        os.close(reading)
        os.close(writing)
        writer, tasks, threads = map(ended, processes)
    assert tasks["stale"] == threads["stale"] == []
    assert writer["written"] > 100
    for reader in (tasks, threads):
        assert reader["reads"] > 2000
        assert reader["hits"] > 500


@pytest.fixture
def environment(transactional_db: None, server: RedisServer) -> dict[str, str]:
    """For a process on this test's database and Redis."""
    settings = connection.settings_dict
    here = {"LOOM_CACHE_LOCATION": server.url, "LOOM_SQLITE": str(settings["NAME"])}
    if connection.vendor == "postgresql":
        names = {"NAME": "PGDATABASE", "USER": "PGUSER", "HOST": "PGHOST", "PORT": "PGPORT"}
        here |= {variable: str(settings[name]) for name, variable in names.items()}
    return here


@pytest.fixture
def edition(environment: dict[str, str]) -> Edition:
    return Edition.objects.create(pk=1, number=1)


def test_a_child_forked_after_first_use_reads_and_writes_like_its_parent(
    environment: dict[str, str], edition: Edition
) -> None:
    assert ended(begin(fork, env=environment)) == {"parent": True}


def test_a_worker_told_of_a_write_by_its_hook_reads_it(
    environment: dict[str, str], edition: Edition
) -> None:
    worker = begin(work, env=environment)
    assert worker.stdin is not None
    assert worker.stdout is not None

    def ask() -> None:
        print("read", file=worker.stdin, flush=True)

    ask()
    assert json.loads(worker.stdout.readline()) == {"number": 1}
    for number in range(2, 20):
        with transaction.atomic():
            transaction.on_commit(ask)
            Edition.objects.update(number=number)
        assert json.loads(worker.stdout.readline()) == {"number": number}
    worker.communicate()


def test_what_a_management_command_writes_is_read(
    environment: dict[str, str], edition: Edition, tmp_path: Path
) -> None:
    assert editions.get(pk=1).number == 1
    fixture = tmp_path / "edition.json"
    fixture.write_text(serializers.serialize("json", [Edition(pk=1, number=2)]))
    subprocess.run(
        [sys.executable, "manage.py", "loaddata", fixture, "--verbosity=0"],
        cwd=ROOT,
        env={**os.environ, **environment, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        check=True,
    )
    assert editions.get(pk=1).number == 2


def test_a_flush_in_another_process_is_noticed(
    environment: dict[str, str], edition: Edition
) -> None:
    for _ in range(2):
        editions.get(pk=1)
    subprocess.run(
        [sys.executable, "manage.py", "loom_cache", "flush", "library.Edition"],
        cwd=ROOT,
        env={**os.environ, **environment, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with outcomes("miss"):
        editions.get(pk=1)


def test_a_thousand_short_event_loops_leave_no_sockets(
    edition: Edition, server: RedisServer
) -> None:
    most = 0
    for number in range(1000):
        assert asyncio.run(_anumber()) == 1
        if number % 100 == 0:
            most = max(most, server.connections)
    assert most <= 3
    assert server.connections <= 3


def test_threads_share_a_bounded_number_of_sockets(edition: Edition, server: RedisServer) -> None:
    barrier = threading.Barrier(2 * MAX_CONNECTIONS)

    def read(_: int) -> int:
        barrier.wait()
        try:
            return editions.get(pk=1).number
        finally:
            connections.close_all()

    editions.get(pk=1)
    with ThreadPoolExecutor(2 * MAX_CONNECTIONS) as pool:
        for number in range(1, 6):
            Edition.objects.update(number=number)
            editions.get(pk=1)  # the others hit: PostgreSQL has fewer connections than threads
            assert set(pool.map(read, range(2 * MAX_CONNECTIONS))) == {number}
    assert server.connections <= MAX_CONNECTIONS + 1
