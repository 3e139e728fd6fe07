"""How a ported behaviour is shown: an answer is loaded once and found from then on; after each
write that changes it, it is the database's, and found from then on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.test import override_settings

from loom_cache import CachedRepository
from tests.cases.conftest import Ask, outcomes, statements
from tests.cases.questions import NONE, Question, described
from tests.fieldapp.same import assert_same

POSTGRESQL = settings.DATABASES["default"]["ENGINE"].endswith("postgresql")

PAIRS = pytest.mark.parametrize("store", ["memory", "redis"], indirect=True)
"""The store in memory, asked synchronously, and the Redis, asked asynchronously."""

Write = Callable[[], object]


class Case(NamedTuple):
    question: Question
    writes: tuple[Write, ...]
    """Each changes the answer."""


def save(model: Any, pk: Any, **changes: Any) -> Write:
    """A write: these changes to this row, by save()."""

    def write() -> None:
        row = model._base_manager.get(pk=pk)
        for name, value in changes.items():
            setattr(row, name, value)
        row.save()

    return write


def create(model: Any, **values: Any) -> Write:
    return lambda: model._base_manager.create(**values)


def delete(model: Any, **which: Any) -> Write:
    """A write: delete() of an instance."""
    return lambda: model._base_manager.get(**which).delete()


def repository_of(model: Any) -> CachedRepository[Any]:
    named: type[CachedRepository[Any]] = type(model.__name__, (CachedRepository,), {"model": model})
    return named()


class Everywhere:
    """Everything is read from the alias in `place`, and written there."""

    place: ContextVar[str] = ContextVar("tests.peers.place", default="default")

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return self.place.get()

    db_for_write = db_for_read


@contextmanager
def placed(alias: str) -> Iterator[None]:
    """Read and write there."""
    token = Everywhere.place.set(alias)
    try:
        with override_settings(DATABASE_ROUTERS=[Everywhere()]):
            yield
    finally:
        Everywhere.place.reset(token)


on_both_databases = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@contextmanager
def settings_with(**more: Any) -> Iterator[None]:
    """LOOM_CACHE with these keys, too."""
    with override_settings(LOOM_CACHE={**settings.LOOM_CACHE, **more}):
        yield


def asynchronously(query: Any, terminal: str, *args: Any, **kwargs: Any) -> Any:
    return async_to_sync(getattr(query, f"a{terminal}"))(*args, **kwargs)


def synchronously(query: Any, terminal: str, *args: Any, **kwargs: Any) -> Any:
    if terminal == "list":
        return list(query)
    return getattr(query, terminal)(*args, **kwargs)


def told(ask: Ask, question: Question) -> Any:
    """What the repository answers."""
    query = question.chain(question.repository.all())
    return _or_none(lambda: ask(query, question.terminal, *question.args, **question.kwargs))


def true(question: Question) -> Any:
    """What the database answers."""
    return _or_none(question.plain)


def _or_none(answer: Callable[[], Any]) -> Any:
    try:
        return answer()
    except ObjectDoesNotExist:
        return NONE


def assert_fresh_then_found(ask: Ask, question: Question) -> None:
    """The answer is the database's, and the second time it comes from the cache."""
    expected, first = true(question), told(ask, question)
    assert_same([expected], [first])
    with statements(0), outcomes("hit"):
        second = told(ask, question)
    assert_same([expected], [second])


def assert_cached_and_fresh(ask: Ask, case: Case) -> None:
    """The first read loads, the second finds; and so again after each write."""
    question = case.question
    with outcomes("miss", "hit"):
        assert_fresh_then_found(ask, question)
    for write in case.writes:
        before = described(true(question))
        write()
        assert described(true(question)) != before, "This write changes nothing: nothing is shown."
        assert_fresh_then_found(ask, question)


@contextmanager
def about(name: str) -> Iterator[None]:
    """What fails in the block says what it was about: a test for each would cost more than it
    tells."""
    try:
        yield
    except Exception as error:
        error.add_note(f"That was about: {name}.")
        raise


def assert_all_cached_and_fresh(ask: Ask, cases: Mapping[str, Case]) -> None:
    """One after the other."""
    for name, case in cases.items():
        with about(name):
            assert_cached_and_fresh(ask, case)


def assert_warm_after(ask: Ask, question: Question, write: Write) -> None:
    """The write changes nothing of the answer, which stays in the cache."""
    told(ask, question)
    assert_fresh_then_found(ask, question)
    expected = described(true(question))
    write()
    assert described(true(question)) == expected, "This write changes the answer."
    with statements(0), outcomes("hit"):
        assert described(told(ask, question)) == expected
