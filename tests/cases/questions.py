"""Questions asked of a repository and, to compare, of Django itself."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model, QuerySet

from loom_cache import CachedRepository, metrics

Description = Any


def described(value: Any, within: tuple[int, ...] = ()) -> Description:
    """`value` as plain data: of an instance all that is in it and attached to it."""
    if isinstance(value, Model):
        return _instance(value, within)
    if isinstance(value, Mapping):
        return {key: described(part, within) for key, part in value.items()}
    if isinstance(value, list | tuple | QuerySet):
        return [described(part, within) for part in value]
    return value


def _instance(value: Model, within: tuple[int, ...]) -> Description:
    name = (value._meta.label, value.pk)
    if id(value) in within:  # a prefetched row knows the one it belongs to
        return name
    within = (*within, id(value))
    held = {key: part for key, part in vars(value).items() if key != "_state"}
    return (*name, described(held, within), described(value._state.fields_cache, within))


@dataclass(frozen=True)
class Question:
    """One terminal at the end of a chain; the chain is the same for both."""

    repository: CachedRepository[Any]
    chain: Callable[[Any], Any]
    terminal: str = "list"
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def cached(self) -> Any:
        query = self.chain(self.repository.all())
        if self.terminal == "list":
            return list(query)
        return getattr(query, self.terminal)(*self.args, **self.kwargs)

    async def acached(self) -> Any:
        query = self.chain(self.repository.all())
        return await getattr(query, f"a{self.terminal}")(*self.args, **self.kwargs)

    def plain(self) -> Any:
        """What the database answers."""
        queryset = self.chain(self.repository.get_queryset())
        if self.terminal == "list":
            return list(queryset)
        if self.terminal == "get_or_none":
            return next(iter(queryset), None)
        return getattr(queryset, self.terminal)(*self.args, **self.kwargs)


NONE = "DoesNotExist"

Questions = Mapping[str, Question]
Descriptions = dict[str, Description]
Answers = Callable[[Questions], Descriptions]


def row(repository: CachedRepository[Any], **condition: Any) -> Question:
    """The one row that the condition names, or None."""
    return Question(repository, lambda q: q.filter(**condition), "get_or_none")


@pytest.fixture(params=["async", "sync"])
def answers(request: pytest.FixtureRequest, store: str) -> Answers:
    """Asks the repositories, asynchronously (all on one event loop) or synchronously."""

    async def asynchronously(questions: Questions) -> Descriptions:
        return {name: await _adescribed(one) for name, one in questions.items()}

    def synchronously(questions: Questions) -> Descriptions:
        return {name: _described(one.cached) for name, one in questions.items()}

    return async_to_sync(asynchronously) if request.param == "async" else synchronously


async def _adescribed(question: Question) -> Description:
    try:
        return described(await question.acached())
    except ObjectDoesNotExist:
        return NONE


def _described(answer: Callable[[], Any]) -> Description:
    try:
        return described(answer())
    except ObjectDoesNotExist:
        return NONE


def plain(questions: Questions) -> Descriptions:
    return {name: _described(question.plain) for name, question in questions.items()}


def warm(questions: Questions, answers: Answers) -> Descriptions:
    """Ask until every answer comes from the cache; it is then the database's."""
    for _ in range(3):  # the first time may only find out what an answer depends on
        with metrics.recording() as events:
            found = answers(questions)
        missed = [one for one in events if isinstance(one, metrics.Read) and one.outcome != "hit"]
        if not missed:
            break
    assert missed == []
    assert found == plain(questions)
    return found


def assert_fresh_after(write: Callable[[], object], questions: Questions, answers: Answers) -> None:
    """The write changes some of these answers; each that was cached is then the database's."""
    before = warm(questions, answers)
    write()
    now = plain(questions)
    assert now != before, "No answer is changed by this write: nothing is shown."
    assert answers(questions) == now


def assert_fresh_after_each(
    writes: Iterable[Callable[[], object]], questions: Questions, answers: Answers
) -> None:
    """The same for writes that follow on each other: quicker than each by itself."""
    for number, write in enumerate(writes, start=1):
        try:
            assert_fresh_after(write, questions, answers)
        except AssertionError as error:
            error.add_note(f"This is about write {number}, {getattr(write, '__name__', '')}.")
            raise
