"""Django's own test classes (case 34): inside TestCase reads go past the cache unless the test asks
for it, and no test leaves anything behind for the next."""

import asyncio
import unittest
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase

from loom_cache import CachedRepository, cached_query, invalidate, metrics, watch
from loom_cache.testing import caching_in_testcases
from testproject.news.models import Article, Author, Tag
from tests.cases.conftest import outcomes
from tests.cases.interleaving import Elsewhere, elsewhere

__all__ = ["elsewhere"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("store")]


class Authors(CachedRepository[Author]):
    model = Author

    @cached_query(depends_on=[Author])
    async def anames(self) -> list[str]:
        return [name async for name in Author.objects.values_list("name", flat=True)]

    @cached_query(depends_on=[Author])
    def names(self) -> list[str]:
        return list(Author.objects.values_list("name", flat=True))


class Articles(CachedRepository[Article]):
    model = Article


authors = Authors()
articles = Articles()


def run(case: type[unittest.TestCase]) -> None:
    """Run the tests of `case` in their order, as a test runner does."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.testsRun > 0
    assert result.failures + result.errors == [], result.failures + result.errors


def within_testcase(test: Callable[[], object]) -> None:
    """Run `test` as the one test of a TestCase."""

    class Case(TestCase):
        def test(self) -> None:
            test()

    run(Case)


Reading = Callable[[], list[str]]


@pytest.fixture(params=["async", "sync"])
def read(request: pytest.FixtureRequest) -> Reading:
    """The names of all authors, as the cache tells them."""

    async def asynchronously() -> list[str]:
        return [author.name async for author in authors.order_by("pk")]

    def synchronously() -> list[str]:
        return [author.name for author in authors.order_by("pk")]

    return async_to_sync(asynchronously) if request.param == "async" else synchronously


@pytest.fixture(params=["async", "sync"])
def call(request: pytest.FixtureRequest) -> Reading:
    """The same, by a method."""
    return async_to_sync(authors.anames) if request.param == "async" else authors.names


# As it is. --------------------------------------------------------------------------------------


def test_inside_testcase_reads_go_past_the_cache(read: Reading) -> None:
    def test() -> None:
        Author.objects.create(name="Ada")
        with outcomes("bypass", "bypass"):
            assert read() == read() == ["Ada"]

    within_testcase(test)


def test_inside_an_atomic_block_of_a_testcase_reads_go_past_the_cache(read: Reading) -> None:
    def test() -> None:
        with transaction.atomic(), outcomes("bypass"):
            assert read() == []

    within_testcase(test)


def test_a_testcase_does_not_see_what_was_cached_outside(read: Reading) -> None:
    assert read() == read() == []

    def test() -> None:
        Author.objects.create(name="Ada")
        assert read() == ["Ada"]

    within_testcase(test)


def test_a_testcase_leaves_nothing_for_the_next_reader(read: Reading) -> None:
    Author.objects.create(name="Ada")
    assert read() == read() == ["Ada"]

    def test() -> None:
        Author.objects.create(name="Bob")
        Author.objects.filter(name="Ada").update(name="Eve")
        read()

    within_testcase(test)
    with outcomes("hit"):
        assert read() == ["Ada"]


def test_a_testcase_publishes_nothing(read: Reading) -> None:
    def test() -> None:
        Author.objects.create(name="Ada")
        with transaction.atomic():
            Author.objects.update(name="Bob")

    with metrics.recording() as events:
        within_testcase(test)
    assert events == []


def test_no_test_of_a_testcase_sees_what_another_wrote(read: Reading) -> None:
    class Case(TestCase):
        @classmethod
        def setUpTestData(cls) -> None:
            Author.objects.create(name="Ada")

        def test_1(self) -> None:
            Author.objects.create(name="Bob")
            assert read() == ["Ada", "Bob"]

        def test_2(self) -> None:
            assert read() == ["Ada"]

        def test_3(self) -> None:
            Author.objects.all().delete()
            assert read() == []

        def test_4(self) -> None:
            assert read() == ["Ada"]

    run(Case)
    assert read() == []


def test_an_asynchronous_test_of_a_testcase_sees_its_own_data() -> None:
    class Case(TestCase):
        async def test_1(self) -> None:
            await Author.objects.acreate(name="Ada")
            assert await authors.acount() == 1
            await Author.objects.acreate(name="Bob")
            assert await authors.acount() == 2

        async def test_2(self) -> None:
            assert await authors.acount() == 0

    run(Case)


def test_a_failing_testcase_leaves_nothing_for_the_next_reader(read: Reading) -> None:
    class Case(TestCase):
        def test(self) -> None:
            Author.objects.create(name="Ada")
            with transaction.atomic():
                Author.objects.update(name="Bob")
                raise ValueError

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    assert len(result.errors) == 1
    assert read() == []
    Author.objects.create(name="Eve")
    assert read() == ["Eve"]
    with outcomes("hit"):
        read()


def test_in_a_transactiontestcase_the_cache_works_as_in_production(read: Reading) -> None:
    class Case(TransactionTestCase):
        def test(self) -> None:
            Author.objects.create(name="Ada")
            read()
            with outcomes("hit"):
                assert read() == ["Ada"]
            with transaction.atomic():
                Author.objects.update(name="Bob")
            assert read() == ["Bob"]

    run(Case)


def test_no_test_of_a_transactiontestcase_sees_what_another_cached(read: Reading) -> None:
    """The tables are flushed between them."""

    class Case(TransactionTestCase):
        def test_1(self) -> None:
            Author.objects.create(name="Ada")
            assert read() == ["Ada"]
            assert read() == ["Ada"]

        def test_2(self) -> None:
            assert read() == []

    run(Case)


def test_hooks_captured_by_a_test_read_what_it_wrote(read: Reading) -> None:
    class Case(TestCase):
        def test(self) -> None:
            seen: list[list[str]] = []
            with self.captureOnCommitCallbacks(execute=True) as callbacks:
                Author.objects.create(name="Ada")
                transaction.on_commit(lambda: seen.append(read()))
            assert len(callbacks) == 1
            assert seen == [["Ada"]]

    run(Case)


# With caching switched on. ----------------------------------------------------------------------


def test_when_asked_for_a_second_read_inside_testcase_is_a_hit(read: Reading) -> None:
    def test() -> None:
        Author.objects.create(name="Ada")
        with caching_in_testcases(), outcomes("miss", "hit"):
            assert read() == read() == ["Ada"]

    within_testcase(test)


def test_when_asked_for_a_second_call_inside_testcase_is_a_hit(call: Reading) -> None:
    def test() -> None:
        Author.objects.create(name="Ada")
        with caching_in_testcases(), outcomes("miss", "hit"):
            assert call() == call() == ["Ada"]

    within_testcase(test)


def test_an_asynchronous_test_may_ask_for_it() -> None:
    class Case(TestCase):
        async def test(self) -> None:
            await Author.objects.acreate(name="Ada")
            with caching_in_testcases(), outcomes("miss", "hit", "miss"):
                assert await authors.anames() == ["Ada"]
                assert await authors.anames() == ["Ada"]
                await Author.objects.aupdate(name="Bob")
                assert await authors.anames() == ["Bob"]

    run(Case)


def _abandon() -> None:
    class Abandoned(Exception):
        pass

    try:
        with transaction.atomic():
            Author.objects.all().delete()
            raise Abandoned
    except Abandoned:
        Author.objects.create(name="after the rollback")


def _in_a_block() -> None:
    with transaction.atomic():
        Author.objects.create(name="in a block")


def _in_a_block_without_savepoint() -> None:
    with transaction.atomic(savepoint=False):
        Author.objects.create(name="in a block")


def _in_nested_blocks() -> None:
    with transaction.atomic(), transaction.atomic():
        Author.objects.create(name="in a block")


def _raw() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE news_author SET name = 'raw'")


WRITES: dict[str, Callable[[], object]] = {
    "create": lambda: Author.objects.create(name="Bob"),
    "save": lambda: Author(pk=Author.objects.get().pk, name="Bob").save(),
    "update": lambda: Author.objects.update(name="Bob"),
    "bulk_create": lambda: Author.objects.bulk_create([Author(name="Bob")]),
    "delete": lambda: Author.objects.all().delete(),
    "delete of a row": lambda: Author.objects.get().delete(),
    "raw SQL": _raw,
    "in a block": _in_a_block,
    "in a block without savepoint": _in_a_block_without_savepoint,
    "in nested blocks": _in_nested_blocks,
    "after a block that was rolled back": _abandon,
    "asynchronous": lambda: async_to_sync(Author(name="Bob").asave)(),
}


@pytest.mark.parametrize("write", WRITES)
def test_when_asked_for_a_read_after_a_write_inside_testcase_is_fresh(
    read: Reading, write: str
) -> None:
    def test() -> None:
        Author.objects.create(name="Ada")
        with caching_in_testcases():
            assert read() == read() == ["Ada"]
            WRITES[write]()
            names = list(Author.objects.order_by("pk").values_list("name", flat=True))
            assert names != ["Ada"]
            assert read() == read() == names

    within_testcase(test)


def test_when_asked_for_what_a_rolled_back_block_wrote_is_not_read(read: Reading) -> None:
    def test() -> None:
        Author.objects.create(name="Ada")
        with caching_in_testcases():
            read()
            with transaction.atomic():
                Author.objects.update(name="Bob")
                assert read() == ["Bob"]
                transaction.set_rollback(True)
            assert read() == ["Ada"]

    within_testcase(test)


def test_when_asked_for_a_write_leaves_other_rows_warm() -> None:
    def test() -> None:
        ada, bob = Author.objects.create(name="Ada"), Author.objects.create(name="Bob")
        with caching_in_testcases():
            authors.get(pk=ada.pk), authors.get(pk=bob.pk)
            bob.save()
            with outcomes("hit", "miss"):
                authors.get(pk=ada.pk), authors.get(pk=bob.pk)

    within_testcase(test)


def test_when_asked_for_a_block_that_only_reads_may_hit_after_one_that_wrote() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("on SQLite every block reads past the cache")

    def test() -> None:
        with caching_in_testcases():
            with transaction.atomic():
                Author.objects.create(name="Ada")
            authors.count()
            with transaction.atomic(), outcomes("hit"):
                authors.count()

    within_testcase(test)


def test_when_asked_for_nothing_is_shared_between_tests(read: Reading) -> None:
    class Case(TestCase):
        @classmethod
        def setUpTestData(cls) -> None:
            Author.objects.create(name="Ada")

        def test_1(self) -> None:
            Author.objects.create(name="Bob")
            assert read() == ["Ada", "Bob"]
            assert read() == ["Ada", "Bob"]

        def test_2(self) -> None:
            assert read() == ["Ada"]

    with caching_in_testcases():
        run(Case)
    assert read() == []


def test_when_asked_for_nothing_is_shared_with_readers_outside(
    read: Reading, elsewhere: Elsewhere
) -> None:
    assert elsewhere.do(read) == []

    def test() -> None:
        if connection.vendor == "postgresql":  # on SQLite others would have to wait
            Author.objects.create(name="Ada")
        with caching_in_testcases():
            found = read()
            assert read() == found
            assert elsewhere.do(read) == []

    within_testcase(test)


def test_what_was_written_before_it_was_asked_for_again_is_read(read: Reading) -> None:
    def test() -> None:
        Author.objects.create(name="Ada")
        with caching_in_testcases():
            assert read() == read() == ["Ada"]
        Author.objects.update(name="Bob")  # bumps nothing
        with caching_in_testcases():
            assert read() == ["Bob"]

    within_testcase(test)


def test_after_it_was_asked_for_reads_go_past_the_cache_again(read: Reading) -> None:
    def test() -> None:
        with caching_in_testcases():
            read()
        with outcomes("bypass"):
            read()

    within_testcase(test)


def test_asking_for_it_ends_with_an_exception() -> None:
    with pytest.raises(ValueError, match="no"), caching_in_testcases():
        raise ValueError("no")
    assert watch.cache_in_testcases is None


def test_asking_for_it_twice_ends_with_the_outer_one(read: Reading) -> None:
    def test() -> None:
        with caching_in_testcases():
            with caching_in_testcases():
                read()
            with outcomes("hit"):
                read()

    within_testcase(test)


def test_it_decorates_a_test(read: Reading) -> None:
    class Case(TestCase):
        @caching_in_testcases()
        def test(self) -> None:
            with outcomes("miss", "hit"):
                read()
                read()

    run(Case)


def test_when_asked_for_invalidate_works_at_once(read: Reading) -> None:
    def test() -> None:
        with caching_in_testcases(), outcomes("miss", "miss"):
            read()
            invalidate(Author)
            read()

    within_testcase(test)


def test_when_asked_for_what_a_thread_outside_of_the_test_has_read_is_not_kept() -> None:
    """As under a runner whose event loop runs synchronous code in a thread of its own."""

    class Case(TestCase):
        seen: ClassVar[list[int]] = []

        def test(self) -> None:
            if connection.vendor == "postgresql":
                Author.objects.create(name="Ada")

            def count() -> int:
                try:
                    return authors.count()
                finally:
                    connection.close()

            async def number() -> int:
                return await sync_to_async(count, thread_sensitive=False)()

            with caching_in_testcases():
                assert async_to_sync(number)() == 0
                assert authors.count() == Author.objects.count()

    run(Case)


def test_when_asked_for_reads_of_several_tasks_share_a_load() -> None:
    class Case(TestCase):
        async def test(self) -> None:
            tag = await Tag.objects.acreate(name="loom")
            await Author.objects.acreate(name="Ada")
            with caching_in_testcases():
                found: Any = await asyncio.gather(*(authors.anames() for _ in range(5)))
            assert found == [["Ada"]] * 5
            await tag.adelete()

    run(Case)
