"""Single flight (case 8, R7): misses of one event loop that saw the same generations share a load,
and nobody gets one that is older than the reader."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction
from django.test import override_settings

from loom_cache import CachedRepository, cached_query, drivers, plans, steps
from testproject.news.models import Article, Author
from tests.cases.interleaving import PATIENCE
from tests.services.redis import RedisServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_ways]


class Load:
    """What `slow_titles` does, and how often; it goes on when it is told to."""

    def __init__(self) -> None:
        self.number = 0
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.error: Exception | None = None

    async def has_begun(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.begun.wait()

    async def pause(self) -> None:
        self.number += 1
        self.begun.set()
        await self.may_end.wait()
        if self.error is not None:
            raise self.error


class Articles(CachedRepository[Article]):
    model = Article

    @cached_query(depends_on=[Article])
    async def slow_titles(self) -> list[str]:
        titles = [title async for title in Article.objects.values_list("title", flat=True)]
        await load.pause()
        return titles

    @cached_query(depends_on=[Article])
    async def titles_twice(self, depth: int) -> list[str]:
        """Asks itself the same question once."""
        load.number += 1
        if load.number == 1:
            return await self.titles_twice(depth)
        return [title async for title in Article.objects.values_list("title", flat=True)]

    @cached_query(depends_on=[Article])
    async def titles_of_slow_ones(self) -> list[str]:
        return await self.slow_titles()


articles = Articles()
load = Load()


@pytest.fixture(autouse=True)
def fresh_load(store: str) -> None:
    global load
    load = Load()


@pytest.fixture
async def article() -> Article:
    author = await Author.objects.acreate(name="Ada")
    return await Article.objects.acreate(author=author, slug="one", title="Old")


class Waiters:
    """Counts who waits for a load of somebody else."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._number = 0
        self._landing = drivers._landing

    async def landing(self, flight: steps.Flight) -> None:
        async with self._changed:
            self._number += 1
            self._changed.notify_all()
        await self._landing(flight)

    async def number(self, wanted: int) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: self._number >= wanted)


@pytest.fixture
def waiters(monkeypatch: pytest.MonkeyPatch) -> Waiters:
    made = Waiters()
    monkeypatch.setattr(drivers, "_landing", made.landing)
    return made


async def begin(number: int, waiters: Waiters) -> list[asyncio.Task[list[str]]]:
    """A reader whose load has begun, and `number` others who wait for it."""
    leader = asyncio.create_task(articles.slow_titles())
    await load.has_begun()
    others = [asyncio.create_task(articles.slow_titles()) for _ in range(number)]
    await waiters.number(number)
    return [leader, *others]


async def test_misses_that_saw_the_same_generations_load_once(
    article: Article, waiters: Waiters
) -> None:
    readers = await begin(20, waiters)
    load.may_end.set()
    assert await asyncio.gather(*readers) == [["Old"]] * 21
    assert load.number == 1


async def test_who_shares_a_load_gets_objects_of_its_own(
    article: Article, waiters: Waiters
) -> None:
    readers = await begin(2, waiters)
    load.may_end.set()
    first, second, third = await asyncio.gather(*readers)
    first.append("mine")
    second.append("mine, too")
    assert third == ["Old"]


async def test_a_failing_load_reaches_all_who_wait_for_it(
    article: Article, waiters: Waiters
) -> None:
    readers = await begin(3, waiters)
    load.error = ValueError("no")
    load.may_end.set()
    found = await asyncio.gather(*readers, return_exceptions=True)
    assert found == [load.error] * 4
    assert load.number == 1


async def test_a_failing_load_is_not_kept(article: Article, waiters: Waiters) -> None:
    readers = await begin(3, waiters)
    load.error = ValueError("no")
    load.may_end.set()
    await asyncio.gather(*readers, return_exceptions=True)
    load.error = None
    assert await articles.slow_titles() == ["Old"]


async def test_a_cancelled_leader_is_taken_over_by_one_of_those_who_wait(
    article: Article, waiters: Waiters
) -> None:
    leader, *others = await begin(5, waiters)
    load.begun.clear()
    leader.cancel()
    await load.has_begun()
    await waiters.number(5 + 4)
    load.may_end.set()
    assert await asyncio.gather(*others) == [["Old"]] * 5
    assert leader.cancelled()
    assert load.number == 2


async def test_a_cancelled_waiter_cancels_nobody_else(article: Article, waiters: Waiters) -> None:
    leader, first, second = await begin(2, waiters)
    first.cancel()
    await asyncio.wait([first])
    load.may_end.set()
    assert list(await asyncio.gather(leader, second)) == [["Old"]] * 2
    assert first.cancelled()
    assert load.number == 1


async def test_a_reader_that_starts_after_a_write_joins_no_older_load(
    article: Article, waiters: Waiters
) -> None:
    leader, other = await begin(1, waiters)
    load.begun.clear()
    await Article.objects.filter(pk=article.pk).aupdate(title="New")
    later = asyncio.create_task(articles.slow_titles())
    await load.has_begun()  # it loads by itself
    load.may_end.set()
    assert await later == ["New"]
    assert list(await asyncio.gather(leader, other)) == [["Old"]] * 2
    assert await articles.slow_titles() == ["New"]
    assert load.number == 2


async def test_a_reader_after_a_write_shares_the_load_of_others_after_it(
    article: Article, waiters: Waiters
) -> None:
    (before,) = await begin(0, waiters)
    load.begun.clear()
    await Article.objects.filter(pk=article.pk).aupdate(title="New")
    later = [asyncio.create_task(articles.slow_titles()) for _ in range(3)]
    await waiters.number(2)
    load.may_end.set()
    assert await asyncio.gather(*later) == [["New"]] * 3
    assert await before == ["Old"]
    assert load.number == 2


async def test_a_load_that_asks_its_own_question_is_answered(article: Article) -> None:
    assert await articles.titles_twice(1) == ["Old"]
    assert load.number == 2


async def test_a_load_that_needs_an_answer_under_way_elsewhere_does_not_wait_for_it(
    article: Article, waiters: Waiters
) -> None:
    """Waiting inside a load could close a circle."""
    (leader,) = await begin(0, waiters)
    load.begun.clear()
    outer = asyncio.create_task(articles.titles_of_slow_ones())
    await load.has_begun()
    load.may_end.set()
    assert list(await asyncio.gather(leader, outer)) == [["Old"]] * 2
    assert load.number == 2


async def test_rows_under_way_are_shared_as_objects_of_each_ones_own(
    article: Article, waiters: Waiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = plans.QueryPlan.aload

    async def slow(plan: plans.QueryPlan, missing: Sequence[int]) -> list[steps.Loaded]:
        await load.pause()
        return await original(plan, missing)

    monkeypatch.setattr(plans.QueryPlan, "aload", slow)
    readers = [asyncio.create_task(articles.aget(pk=article.pk)) for _ in range(10)]
    await waiters.number(9)
    load.may_end.set()
    found = await asyncio.gather(*readers)
    assert load.number == 1
    assert found == [article] * 10
    assert len({id(row) for row in found}) == 10


async def test_loads_of_different_event_loops_are_not_shared(
    article: Article, waiters: Waiters
) -> None:
    (leader,) = await begin(0, waiters)
    load.may_end.set()

    def in_a_loop_of_its_own() -> Any:
        return asyncio.run(articles.aget(pk=article.pk))

    assert await asyncio.to_thread(in_a_loop_of_its_own) == article
    assert await leader == ["Old"]


@pytest.fixture
def saving_server() -> Iterator[RedisServer]:
    """A Redis that comes back with what it saved."""
    with RedisServer().start() as server:
        yield server


async def test_a_reader_after_a_restart_joins_no_load_of_the_servers_earlier_life(
    article: Article, waiters: Waiters, saving_server: RedisServer
) -> None:
    with override_settings(LOOM_CACHE={"LOCATION": saving_server.url, "TIMEOUT": 5}):
        (before,) = await begin(0, waiters)
        load.begun.clear()
        await sync_to_async(saving_server.client.save)()
        await Article.objects.filter(pk=article.pk).aupdate(title="New")
        await sync_to_async(saving_server.restart)()  # its counters are those before the write
        later = asyncio.create_task(articles.slow_titles())
        await load.has_begun()
        load.may_end.set()
        assert await later == ["New"]
        assert await before == ["Old"]
        assert await articles.slow_titles() == ["New"]


def test_a_load_inside_a_transaction_is_shared_with_nobody(store: str) -> None:
    author = Author.objects.create(name="Ada")
    Article.objects.create(author=author, slug="one", title="Old")

    async def twice() -> int:
        load.may_end.set()
        await asyncio.gather(articles.slow_titles(), articles.slow_titles())
        return load.number

    with transaction.atomic():
        Article.objects.update(title="New")
        assert async_to_sync(twice)() == 2
