"""What the benchmark replays: the same for everybody, and possible at every point."""

from collections import Counter

import pytest

from benchmarks import trace
from benchmarks.trace import Operation

SEED = 7
NUMBER = 5_000


@pytest.fixture(scope="module")
def operations() -> list[Operation]:
    return trace.operations(SEED, NUMBER)


def test_the_same_seed_gives_the_same_trace(operations: list[Operation]) -> None:
    assert trace.operations(SEED, NUMBER) == operations
    assert trace.newspaper(SEED) == trace.newspaper(SEED)


def test_another_seed_gives_another_trace(operations: list[Operation]) -> None:
    assert trace.operations(SEED + 1, NUMBER) != operations
    assert trace.newspaper(SEED + 1) != trace.newspaper(SEED)


def test_of_ten_operations_nine_are_reads(operations: list[Operation]) -> None:
    reads = Counter(operation.is_write for operation in operations)[False]
    assert (reads, len(operations)) == (NUMBER * 9 // 10, NUMBER)


def test_every_kind_of_read_and_write_occurs(operations: list[Operation]) -> None:
    assert {operation.kind for operation in operations} == {*trace.READS, *trace.WRITES}


def test_a_tenth_of_the_articles_gets_most_of_the_reads(operations: list[Operation]) -> None:
    of_articles = Counter(
        operation.arguments for operation in operations if operation.kind == "article by pk"
    )
    often = of_articles.most_common(trace.ARTICLES // 10)
    assert sum(number for _, number in often) > of_articles.total() / 2


def test_only_comments_that_are_there_are_deleted(operations: list[Operation]) -> None:
    made = trace.newspaper(SEED).comments
    deleted = set()
    for operation in operations:
        if operation.kind == "create a comment":
            made += 1
        elif operation.kind == "delete a comment":
            (comment,) = operation.arguments
            assert comment <= made
            assert comment not in deleted
            deleted.add(comment)
    assert deleted


def test_only_tags_that_an_article_lacks_are_added_and_those_it_has_removed(
    operations: list[Operation],
) -> None:
    tags = {article: set(some) for article, some in trace.newspaper(SEED).tags_of.items()}
    for operation in operations:
        if operation.kind == "add a tag":
            article, tag = operation.arguments
            assert tag not in tags[article]
            tags[article].add(tag)
        elif operation.kind == "remove a tag":
            article, tag = operation.arguments
            tags[article].remove(tag)
