"""Each fault that a store can have, met by readers and writers: what they get, how long they wait,
what is logged and what is left of it afterwards, as docs/reliability.md says.

LOOM_WRITE_DOCS=1 prints the table's lines, and those of the log, instead of comparing them (with
`pytest -s`).
"""

import asyncio
import gc
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import pytest
from django.conf import settings
from django.test import override_settings

from loom_cache import CachedQuery, CachedRepository, generations, metrics, resilience
from loom_cache.backends.redis.server import AsyncClient, SyncClient
from testproject.news.models import Article, Author
from tests.cases.interleaving import PATIENCE
from tests.cases.troubles import TIMEOUT, TROUBLES, WRITE_TIMEOUT

pytestmark = pytest.mark.django_db(transaction=True)

DOCS = Path(settings.BASE_DIR) / "docs" / "reliability.md"
SLACK = 1.0
"""Seconds that a busy machine may add; some of these faults would keep a reader waiting forever."""
T = TypeVar("T")


class Articles(CachedRepository[Article]):
    model = Article


articles = Articles()


@dataclass
class Met:
    """What was seen."""

    lines: list[str] = field(default_factory=list)
    """Of the log."""
    answers: list[tuple[str, str]] = field(default_factory=list)
    """Each that was given, with what the database held."""
    known: list[str] = field(default_factory=list)
    """How reads of what was in the store ended."""
    reads: list[float] = field(default_factory=list)
    """Seconds, until the cache stepped aside."""
    steps_aside: bool = False
    asked_then: int = 0
    """Requests to the store by readers when it had."""
    write: float = 0.0
    """Seconds."""
    queued: bool = False
    afterwards: list[str] = field(default_factory=list)
    """How reads ended."""


@dataclass
class Reader:
    """Reads one article, on an event loop or without one."""

    loop: asyncio.AbstractEventLoop | None
    pk: int
    met: Met

    def read(self, *, expected: str, by: str = "pk") -> str:
        """How the read ended."""
        with metrics.recording() as events:
            found = self._title(by)
        self.met.answers.append((found, expected))
        (event,) = (event for event in events if isinstance(event, metrics.Read))
        return event.outcome

    def timed(self, **kwargs: Any) -> str:
        began = perf_counter()
        outcome = self.read(**kwargs)
        self.met.reads.append(perf_counter() - began)
        return outcome

    def _title(self, by: str) -> str:
        asked = articles.filter(slug="one") if by == "slug" else articles.filter(pk=self.pk)
        if self.loop is None:
            return asked.get().title
        return asyncio.run_coroutine_threadsafe(_title_of(asked), self.loop).result().title


async def _title_of(asked: CachedQuery[Article]) -> Article:
    return await asked.aget()


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that goes on between reads, as a server's."""
    with asyncio.Runner() as runner:
        loop, end = runner.get_loop(), asyncio.Event()
        thread = threading.Thread(target=runner.run, args=(end.wait(),))
        thread.start()
        try:
            yield loop
        finally:
            loop.call_soon_threadsafe(end.set)
            thread.join()


def meet(name: str, *, asynchronous: bool) -> Met:
    met = Met()
    article = Article.objects.create(
        author=Author.objects.create(name="Ada"), slug="one", title="Old"
    )
    with ExitStack() as stack:
        stack.enter_context(leaks_of_libraries())
        trouble = TROUBLES[name](stack)
        loop = stack.enter_context(running_loop()) if asynchronous else None
        reader = Reader(loop, article.pk, met)
        lines = stack.enter_context(logged())
        with caching_at(trouble.location, PATIENCE):
            reader.read(expected="Old")
            assert reader.read(expected="Old") == "hit"
        breaker = stack.enter_context(caching_at(trouble.location, TIMEOUT))
        trouble.begin()

        met.known = [reader.timed(expected="Old") for _ in range(resilience.FAILURES_TO_OPEN)]
        reader.timed(expected="Old", by="slug")
        met.steps_aside = not breaker.closed
        with counted_requests() as requests:
            reader.read(expected="Old")
            reader.read(expected="Old", by="slug")
        met.asked_then = len(requests) if met.steps_aside else 0

        began = perf_counter()
        Article.objects.filter(pk=article.pk).update(title="New")
        met.write, met.queued = perf_counter() - began, breaker.has_lost
        reader.read(expected="New")
        reader.read(expected="New", by="slug")

        trouble.end()
        recovered(breaker)
        with caching_at(trouble.location, PATIENCE):
            met.afterwards = [reader.read(expected="New") for _ in range(3)]
        met.lines = list(lines)
    return met


@contextmanager
def leaks_of_libraries() -> Iterator[None]:
    """ssl forgets to close a socket that is reset while it is wrapped, asyncio one that is given
    up before its handshake: both are closed when they are collected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


@contextmanager
def caching_at(location: str, seconds: float) -> Iterator[resilience.Breaker]:
    """Over the same connections, whatever the seconds."""
    timeouts = {"TIMEOUT": seconds, "WRITE_TIMEOUT": seconds}
    with (
        pytest.MonkeyPatch.context() as patched,
        override_settings(LOOM_CACHE={"LOCATION": location, **timeouts}),
    ):
        patched.setattr(resilience, "PROBES", (0.05,))
        resolver = generations.resolver()
        assert resolver is not None
        yield resolver.breaker
        resolver.breaker.stop()


def recovered(breaker: resilience.Breaker) -> None:
    for thread in threading.enumerate():
        if thread.name == "loom_cache-probe":
            thread.join(PATIENCE)
    assert breaker.closed


@contextmanager
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Handler()
    logger = logging.getLogger("loom_cache")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


@contextmanager
def counted_requests() -> Iterator[list[str]]:
    """A name for each request to the store, but for those that ask whether it is back."""
    requests: list[str] = []

    def counting(original: Callable[..., T]) -> Callable[..., T]:
        def ask(*args: Any) -> T:
            name = threading.current_thread().name
            if name != "loom_cache-probe":
                requests.append(name)
            return original(*args)

        return ask

    with pytest.MonkeyPatch.context() as patched:
        for client in (AsyncClient, SyncClient):
            patched.setattr(client, "ask", counting(client.ask))
        yield requests


_met: dict[tuple[str, bool], Met] = {}


@pytest.fixture(params=[True, False], ids=["async", "sync"])
def asynchronous(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=TROUBLES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def met(name: str, asynchronous: bool) -> Met:
    """Seen once, for both tests."""
    key = name, asynchronous
    if key not in _met:
        _met[key] = meet(name, asynchronous=asynchronous)
    return _met[key]


# What is promised whatever the fault. ------------------------------------------------------------


def test_nobody_gets_anything_old_or_waits_longer_than_the_timeouts(met: Met) -> None:
    assert [given for given, _ in met.answers] == [held for _, held in met.answers]
    assert max(met.reads) < TIMEOUT + SLACK
    assert met.write < WRITE_TIMEOUT + SLACK
    assert met.asked_then == 0
    assert met.afterwards[-1] == "hit"


# What the documentation says of each. ------------------------------------------------------------

HEADER = "| Redis | what it holds | a read waits | then it | an invalidation |"


def row(met: Met) -> list[str]:
    return [
        "is read" if "hit" in met.known else "is not read",
        # The first may find that its connection has just been closed.
        "up to TIMEOUT" if min(met.reads[1 : resilience.FAILURES_TO_OPEN]) > TIMEOUT / 2 else "-",
        "is not asked" if met.steps_aside else "is asked",
        "is queued" if met.queued else "is delivered",
    ]


def said(lines: list[str]) -> list[str]:
    """As documented: with another address and another time."""
    return [
        re.sub(
            r"after [\d.]+ s", "after 12.3 s", re.sub(r"at [\w.]+:\d+", "at 127.0.0.1:6379", line)
        )
        for line in lines
    ]


def documented_rows() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    _, _, table = DOCS.read_text().partition(HEADER)
    for line in table.splitlines()[2:]:
        if not line.startswith("|"):
            break
        name, *cells = [cell.strip() for cell in line.split("|")[1:-1]]
        found[name] = cells
    return found


def documented_lines() -> dict[str, list[str]]:
    """By fault: the quoted lines of its section, without what is said when it is over."""
    found: dict[str, list[str]] = {}
    for section in DOCS.read_text().split("\n## Redis ")[1:]:
        title, _, text = section.partition("\n")
        found[title] = re.findall(r"^    (.+)$", text, re.MULTILINE)
    return found


def test_it_is_met_and_logged_as_the_documentation_says(name: str, met: Met) -> None:
    if os.environ.get("LOOM_WRITE_DOCS"):
        lines = "".join(f"\n    {line}" for line in said(met.lines))
        sys.stderr.write(f"\n| {name} | {' | '.join(row(met))} |{lines}")
        sys.stderr.write(f"\n(reads up to {max(met.reads):.3f} s, write {met.write:.3f} s)")
        return
    assert row(met) == documented_rows()[name]
    assert said(met.lines) == documented_lines()[name]


def test_the_documentation_lists_these_faults() -> None:
    assert list(documented_rows()) == list(documented_lines()) == list(TROUBLES)
