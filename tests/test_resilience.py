"""The breaker: when the store is not asked any more, and that no bump is lost for good."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partialmethod
from typing import Any

import pytest

from loom_cache import (
    CacheGateway,
    GenerationalDependencyResolver,
    deadlines,
    drivers,
    generations,
    publishing,
    resilience,
    tags,
)
from loom_cache.backends import Lease, Moved
from loom_cache.backends.failures import Refused
from loom_cache.combinations import Edit
from loom_cache.exceptions import StoreUnavailable
from loom_cache.resilience import FAILURES_TO_OPEN, MOST_QUEUED, Breaker
from loom_cache.steps import Look, Seed
from loom_cache.tags import Change
from tests.clock import Clock, clock

__all__ = ["clock"]

PATIENCE = 20.0  # seconds after which a test that would hang fails

DOWN = StoreUnavailable("There is no store.")
ROW, OTHER = tags.of_row("news_article", 7), tags.of_row("news_article", 8)


class Store:
    """What the breaker bumps: counts requests, and answers when it is up."""

    def __init__(self) -> None:
        self.up = True
        self.asked: list[list[str]] = []
        self.on_request: Callable[[], None] = lambda: None
        self._changed = threading.Condition()

    def land(self, lost: list[str]) -> None:
        with self._changed:
            self.asked.append(lost)
            self._changed.notify_all()
        self.on_request()
        if not self.up:
            raise DOWN

    def was_asked(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) >= number, PATIENCE)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def breaker(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Breaker]:
    """Probes as soon as it is open."""
    monkeypatch.setattr(resilience, "PROBES", (0.001,))
    made = Breaker(store.land)
    yield made
    made.stop()
    _probing_has_ended(made)


def _probing_has_ended(breaker: Breaker) -> None:
    for thread in threading.enumerate():
        if thread.name == "loom_cache-probe":
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_it_opens_after_three_failures_in_a_row(store: Store, breaker: Breaker) -> None:
    store.up = False
    for _ in range(FAILURES_TO_OPEN - 1):
        breaker.failed(DOWN)
    assert breaker.closed
    breaker.failed(DOWN)
    assert not breaker.closed


def test_an_answer_between_failures_keeps_it_closed(store: Store, breaker: Breaker) -> None:
    store.up = False
    for _ in range(FAILURES_TO_OPEN * 2):
        breaker.failed(DOWN)
        breaker.succeeded()
    assert breaker.closed


def test_one_lost_bump_opens_it(store: Store, breaker: Breaker) -> None:
    store.up = False
    breaker.lose([ROW], DOWN)
    assert not breaker.closed


def test_it_closes_when_the_store_answers(store: Store, breaker: Breaker) -> None:
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed(DOWN)
    _probing_has_ended(breaker)
    assert breaker.closed
    assert store.asked == [[]]


def test_it_stays_open_until_the_store_answers(store: Store, breaker: Breaker) -> None:
    store.up = False
    breaker.lose([ROW], DOWN)
    store.was_asked(5)
    assert not breaker.closed
    store.up = True
    _probing_has_ended(breaker)
    assert breaker.closed


def test_after_it_has_closed_it_takes_three_failures_again(store: Store, breaker: Breaker) -> None:
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed(DOWN)
    _probing_has_ended(breaker)
    breaker.failed(DOWN)
    assert breaker.closed


def test_everything_that_was_lost_lands_in_one_request(store: Store, breaker: Breaker) -> None:
    store.up = False
    breaker.lose([ROW], DOWN)
    breaker.lose([OTHER])
    breaker.lose([ROW])
    number = len(store.asked)
    store.was_asked(number + 2)  # the one before may have been under way
    store.up = True
    _probing_has_ended(breaker)
    assert sorted(store.asked[-1]) == [ROW, OTHER]


def test_what_has_landed_is_not_sent_again(store: Store, breaker: Breaker) -> None:
    breaker.lose([ROW], DOWN)
    _probing_has_ended(breaker)
    breaker.lose([OTHER], DOWN)
    _probing_has_ended(breaker)
    assert store.asked == [[ROW], [OTHER]]


def test_a_bump_lost_while_its_tag_is_landing_lands_once_more(
    store: Store, breaker: Breaker
) -> None:
    """The landing may have come before the second write."""

    def lose_again() -> None:
        if len(store.asked) == 1:
            breaker.lose([ROW])

    store.on_request = lose_again
    breaker.lose([ROW, OTHER], DOWN)
    _probing_has_ended(breaker)
    assert store.asked == [[ROW, OTHER], [ROW]]
    assert breaker.closed


def test_it_does_not_close_while_something_lost_has_still_to_land(
    store: Store, breaker: Breaker
) -> None:
    seen: list[bool] = []

    def lose_another() -> None:
        seen.append(breaker.closed)
        if len(store.asked) < 4:
            breaker.lose([tags.of_row("news_article", len(store.asked))])

    store.on_request = lose_another
    breaker.lose([ROW], DOWN)
    _probing_has_ended(breaker)
    assert seen == [False] * 4


def test_more_lost_rows_than_can_be_queued_become_their_tables(
    store: Store, breaker: Breaker
) -> None:
    store.up = False
    breaker.lose(["g:{other}:list"], DOWN)
    breaker.lose([tags.of_row("news_article", row) for row in range(MOST_QUEUED)])
    store.was_asked(len(store.asked) + 2)
    store.up = True
    _probing_has_ended(breaker)
    assert sorted(store.asked[-1]) == ["g:{news_article}", "g:{other}"]


def test_it_says_once_that_it_opens_and_once_that_it_closes(
    store: Store, breaker: Breaker, caplog: pytest.LogCaptureFixture
) -> None:
    store.up = False
    for _ in range(5):
        breaker.failed(DOWN)
        breaker.lose([ROW], DOWN)
    store.was_asked(5)
    store.up = True
    _probing_has_ended(breaker)
    opened, closed = caplog.messages
    assert "There is no store" in opened
    assert "answers again" in closed


def test_once_stopped_it_asks_no_more(store: Store, breaker: Breaker) -> None:
    store.up = False
    breaker.lose([ROW], DOWN)
    breaker.stop()
    _probing_has_ended(breaker)
    number = len(store.asked)
    breaker.lose([ROW], DOWN)
    _probing_has_ended(breaker)
    assert len(store.asked) == number


def test_it_stays_open_while_reads_would_not_be_answered(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was lost has landed then, and is not sent again."""
    monkeypatch.setattr(resilience, "PROBES", (PATIENCE,))
    answers: list[StoreUnavailable | None] = [DOWN, None]

    def answer() -> None:
        error = answers.pop(0)
        if error is not None:
            raise error

    breaker = Breaker(store.land, answer)
    breaker.lose([ROW], DOWN)
    assert not breaker._try_to_close()
    assert not breaker.closed
    assert breaker._try_to_close()
    assert store.asked == [[ROW], []]
    breaker.stop()


def test_an_error_that_nobody_foresaw_does_not_end_the_probing(
    store: Store, breaker: Breaker, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_once() -> None:
        if len(store.asked) == 1:
            raise ZeroDivisionError

    store.on_request = fail_once
    breaker.lose([ROW], DOWN)
    _probing_has_ended(breaker)
    assert breaker.closed
    assert sum("failed unexpectedly" in line for line in caplog.messages) == 1


REFUSED = Refused("The store is full.")


def test_refusals_leave_it_closed_and_are_said_once(
    breaker: Breaker, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(FAILURES_TO_OPEN * 2):
        breaker.refused(REFUSED)
    assert breaker.closed
    assert len(caplog.messages) == 1
    assert "is full" in caplog.messages[0]


def test_the_end_of_refusals_is_said_once_they_have_ceased(
    breaker: Breaker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full store may take every second entry."""
    clock = iter([100.0, 105.0, 110.0, 115.1, 200.0])
    monkeypatch.setattr(resilience, "monotonic", lambda: next(clock))
    breaker.refused(REFUSED)
    breaker.refused(REFUSED)
    breaker.kept()
    assert len(caplog.messages) == 1
    breaker.kept()
    assert caplog.messages[1:] == ["The cache store takes new entries again."]
    breaker.kept()
    breaker.refused(REFUSED)
    assert len(caplog.messages) == 3


# The end of a process. --------------------------------------------------------------------------

PROCESS = """
import os
from loom_cache import resilience
from loom_cache.exceptions import StoreUnavailable
from loom_cache.resilience import Breaker
resilience.PROBES = (3600,)  # before the end
up = False
def land(lost):
    if not up:
        raise StoreUnavailable("There is no store.")
    print("landed", *lost, flush=True)
breaker = Breaker(land)
breaker.lose(["g:{news_article}"], StoreUnavailable("There is no store."))
"""


def run(more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROCESS + more], capture_output=True, text=True, check=True
    )


def test_what_is_still_lost_when_the_process_ends_lands_then() -> None:
    assert run("up = True").stdout == "landed g:{news_article}\n"


def test_what_cannot_be_delivered_when_the_process_ends_is_said() -> None:
    assert "1 invalidations could not be delivered" in run("").stderr


def test_a_process_with_nothing_lost_asks_for_nothing_at_its_end() -> None:
    assert run("up = True; assert breaker._try_to_close(); print('end')").stdout == (
        "landed g:{news_article}\nend\n"
    )


def test_a_forked_child_begins_closed_and_leaves_the_queue_to_its_parent() -> None:
    done = run(
        """
pid = os.fork()
up = True
if pid == 0:
    assert breaker.closed
    raise SystemExit  # with nothing to land
assert os.waitpid(pid, 0)[1] == 0
print("parent", flush=True)
"""
    )
    assert done.stdout == "parent\nlanded g:{news_article}\n"


# What the resolver does with it. ----------------------------------------------------------------


class Interrupted(BaseException):
    """As Ctrl-C or a worker's time limit, which strike anywhere."""


@pytest.fixture
def resolver(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> Iterator[GenerationalDependencyResolver]:
    """Probes only when it is asked to."""
    monkeypatch.setattr(resilience, "PROBES", (PATIENCE,))
    settings.LOOM_CACHE = {"WRITE_TIMEOUT": 1.5}
    made = generations.resolver()
    assert made is not None
    yield made
    made.breaker.stop()


class Bumps:
    """What reaches the store, by tag, and how that ends."""

    def __init__(self) -> None:
        self.reached: list[list[str]] = []
        self.error: BaseException | None = None
        """Of the next one."""

    def bump_and_read_sync(
        self, keys: list[str], reads: list[str], *, leases: list[Lease], timeout: float
    ) -> Moved:
        assert timeout == 1.5
        self.reached.append([key.partition(":")[2] for key in keys])
        error, self.error = self.error, None
        if error is not None:
            raise error
        return Moved(len(keys), [None] * len(reads))

    async def bump_and_read(
        self,
        keys: list[str],
        reads: list[str],
        *,
        leases: list[Lease],
        timeout: float,  # noqa: ASYNC109
    ) -> Moved:
        return self.bump_and_read_sync(keys, reads, leases=leases, timeout=timeout)


def _called(_: CacheGateway, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return method(*args, **kwargs)


@pytest.fixture
def bumps(monkeypatch: pytest.MonkeyPatch) -> Bumps:
    made = Bumps()
    for name in ("bump_and_read", "bump_and_read_sync"):
        stand_in = partialmethod(_called, getattr(made, name))
        monkeypatch.setattr(CacheGateway, name, stand_in)
    return made


def test_a_bump_that_is_not_acknowledged_is_queued_and_nobody_is_told(
    resolver: GenerationalDependencyResolver, bumps: Bumps
) -> None:
    bumps.error = DOWN
    resolver.publish_sync([ROW])
    resolver.breaker._try_to_close()
    assert bumps.reached == [[ROW], [ROW]]


def test_an_asynchronous_bump_that_is_not_acknowledged_is_queued_and_nobody_is_told(
    resolver: GenerationalDependencyResolver, bumps: Bumps
) -> None:
    bumps.error = DOWN
    asyncio.run(resolver.publish([ROW]))
    resolver.breaker._try_to_close()
    assert bumps.reached == [[ROW], [ROW]]


def test_while_it_is_open_bumps_are_queued_without_asking(
    resolver: GenerationalDependencyResolver, bumps: Bumps
) -> None:
    bumps.error = DOWN
    resolver.publish_sync([ROW])
    resolver.publish_sync([OTHER])
    asyncio.run(resolver.publish([tags.OF_NOTHING]))
    assert bumps.reached == [[ROW]]
    resolver.breaker._try_to_close()
    assert bumps.reached[1:] == [[ROW, OTHER, tags.OF_NOTHING]]


def test_a_bump_that_was_interrupted_is_queued_and_the_interruption_goes_on(
    resolver: GenerationalDependencyResolver, bumps: Bumps
) -> None:
    bumps.error = Interrupted()
    with pytest.raises(Interrupted):
        resolver.publish_sync([ROW])
    resolver.breaker._try_to_close()
    assert bumps.reached == [[ROW], [ROW]]


def test_an_asynchronous_bump_that_was_cancelled_is_queued(
    resolver: GenerationalDependencyResolver, bumps: Bumps
) -> None:
    bumps.error = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(resolver.publish([ROW]))
    resolver.breaker._try_to_close()
    assert bumps.reached == [[ROW], [ROW]]


# What one read tells it. ------------------------------------------------------------------------


LOOK, SEED = Look(["key"], [ROW]), Seed([ROW])


def ask(asking: drivers._Asking, request: Look | Seed, clock: Clock, took: float = 0.0) -> None:
    """The request was answered."""
    asking.request = request
    with asking:
        clock.now += took


def fail(
    asking: drivers._Asking,
    request: Look | Seed,
    clock: Clock,
    took: float = 0.0,
    error: StoreUnavailable = DOWN,
) -> None:
    asking.request = request
    with suppress(StoreUnavailable), asking:
        clock.now += took
        raise error


def test_reads_whose_second_request_is_not_answered_open_it(
    resolver: GenerationalDependencyResolver, clock: Clock
) -> None:
    """As while writes are paused for a failover: what only reads is answered."""
    for _ in range(FAILURES_TO_OPEN):
        asking = drivers._Asking(resolver)
        ask(asking, LOOK, clock)
        fail(asking, SEED, clock, took=resolver.timeout)
        asking.end()
    assert not resolver.breaker.closed


def test_a_store_whose_first_answer_took_most_of_the_time_has_not_failed(
    resolver: GenerationalDependencyResolver, clock: Clock
) -> None:
    for _ in range(FAILURES_TO_OPEN * 2):
        asking = drivers._Asking(resolver)
        ask(asking, LOOK, clock, took=resolver.timeout * 0.6)
        fail(asking, SEED, clock, took=resolver.timeout * 0.4)
        asking.end()
    assert resolver.breaker.closed


def test_a_store_that_refuses_to_keep_something_has_not_failed(
    resolver: GenerationalDependencyResolver, clock: Clock
) -> None:
    for _ in range(FAILURES_TO_OPEN * 2):
        asking = drivers._Asking(resolver)
        ask(asking, LOOK, clock)
        fail(asking, SEED, clock, error=REFUSED)
        asking.end()
    assert resolver.breaker.closed


def test_a_store_that_refuses_to_be_read_has_failed(
    resolver: GenerationalDependencyResolver, clock: Clock
) -> None:
    for _ in range(FAILURES_TO_OPEN):
        asking = drivers._Asking(resolver)
        fail(asking, LOOK, clock, error=REFUSED)
        asking.end()
    assert not resolver.breaker.closed


# What one writer asks. --------------------------------------------------------------------------


def test_all_that_a_writer_asks_takes_no_longer_than_its_timeout(
    resolver: GenerationalDependencyResolver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that answers each request just in time, and shows another list each time."""
    had: list[float] = []

    def slow(
        _: CacheGateway,
        keys: list[str],
        reads: list[str],
        *,
        leases: list[Lease],
        timeout: float,
    ) -> Moved:
        had.append(deadlines.limited(timeout))
        clock.now += 1.0
        return Moved(len(keys), [len(had)] * len(reads))

    monkeypatch.setattr(CacheGateway, "bump_and_read_sync", slow)
    change = Change(rows={7}, edits=[Edit(named=True)])
    publishing.publish_sync({"news_article": change}, resolver)
    assert had == [1.5, 0.5]
    assert resolver.breaker.has_lost


def test_the_probing_does_not_inherit_a_deadline(
    breaker: Breaker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads inherit the context where Python has no GIL."""
    start = threading.Thread.start

    def start_in_this_context(thread: threading.Thread) -> None:
        here, run = copy_context(), thread.run
        monkeypatch.setattr(thread, "run", lambda: here.run(run))
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_in_this_context)
    store.on_request = lambda: waited.append(deadlines.limited(1.0))
    waited: list[float] = []
    with deadlines.Allowance(0.0):
        breaker.lose([ROW], DOWN)
    store.was_asked(1)
    _probing_has_ended(breaker)
    assert waited == [1.0]


# Where no thread can be started: at the end of a process, or beyond a limit. ----------------------


@contextmanager
def no_threads() -> Iterator[None]:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield


def test_without_threads_what_is_lost_is_queued_and_lands_once_there_are_some(
    store: Store, breaker: Breaker
) -> None:
    with no_threads():
        breaker.lose([ROW], DOWN)
    assert (breaker.queued, breaker.closed) == (1, False)
    breaker.lose([OTHER], DOWN)
    _probing_has_ended(breaker)
    assert (breaker.queued, breaker.closed) == (0, True)
    assert sorted(store.asked[-1]) == sorted([ROW, OTHER])


def test_without_threads_failed_reads_do_not_turn_the_cache_off(breaker: Breaker) -> None:
    """Nobody would find out that the store is back."""
    with no_threads():
        for _ in range(FAILURES_TO_OPEN):
            breaker.failed(DOWN)
    assert breaker.closed
