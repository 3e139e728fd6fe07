"""Asking: through the repositories, synchronously or asynchronously, and of Django itself; and
what an answer is, down to the types in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asgiref.sync import async_to_sync
from django.core.exceptions import MultipleObjectsReturned, ObjectDoesNotExist
from django.core.paginator import EmptyPage, Page, Paginator
from django.db.models import Model, QuerySet

from loom_cache import CachedRepository, bypass
from tests.model.questions import Question
from tests.model.repositories import REPOSITORIES
from tests.model.vocabulary import value_of

Answer = Any
"""Plain data that is equal only to what is the same in every respect."""

ANSWERS = (ObjectDoesNotExist, MultipleObjectsReturned, EmptyPage)
"""Errors that are answers, too."""


def exactly(value: Any, within: tuple[int, ...] = ()) -> Answer:
    """`value` as plain data: its types, its order; of an instance all that is in it and attached
    to it."""
    if isinstance(value, Model):
        return _instance(value, within)
    if isinstance(value, Mapping):
        pairs = [(exactly(key), exactly(part, within)) for key, part in value.items()]
        if any(isinstance(part, Model) for part in value.values()):
            pairs.sort(key=repr)  # in_bulk() promises no order
        return (type(value).__name__, *pairs)
    if isinstance(value, QuerySet):
        return ("QuerySet", *(exactly(part, within) for part in value))
    if isinstance(value, Page):
        count = value.paginator.count
        return ("Page", value.number, count, exactly(list(value.object_list), within))
    if isinstance(value, list | tuple):
        named = getattr(value, "_fields", ())
        return (type(value).__name__, *named, *(exactly(part, within) for part in value))
    return f"{type(value).__name__}: {value!r}"


def _instance(value: Model, within: tuple[int, ...]) -> Answer:
    name = (value._meta.label, value.pk)
    if id(value) in within:  # a prefetched row knows the one it belongs to
        return name
    within = (*within, id(value))
    held = {key: part for key, part in sorted(vars(value).items()) if key != "_state"}
    state = value._state
    related = dict(sorted(state.fields_cache.items()))
    where = (state.db, state.adding)
    return (*name, where, exactly(held, within), exactly(related, within))


def answered(asking: Callable[[], Any]) -> Answer:
    try:
        return exactly(asking())
    except ANSWERS as error:
        return type(error).__qualname__


# Through the cache. -----------------------------------------------------------------------------

_WORDS: dict[str, Any] = dict(REPOSITORIES)


class _Sync:
    """`asked.count()` of a CachedQuery or a repository."""

    def __init__(self, query: Any) -> None:
        self._query = query

    def __getattr__(self, terminal: str) -> Any:
        if terminal == "list":
            return lambda: list(self._query)
        return getattr(self._query, terminal)


class _Async:
    def __init__(self, query: Any) -> None:
        self._query = query

    def __getattr__(self, terminal: str) -> Any:
        return getattr(self._query, f"a{terminal}")


def _query(question: Question, *, fresh: bool) -> Any:
    query = value_of(question.chain, _WORDS)
    # A method of the repository's own has no fresh(): it is only asked.
    return query.fresh() if fresh and not isinstance(query, CachedRepository) else query


def _asked(question: Question, kind: type, *, fresh: bool) -> Any:
    return value_of(
        f"asked.{question.terminal}", {**_WORDS, "asked": kind(_query(question, fresh=fresh))}
    )


def synchronously(question: Question, *, fresh: bool = False) -> Answer:
    return answered(lambda: _asked(question, _Sync, fresh=fresh))


async def _one(question: Question, fresh: bool) -> Answer:
    try:
        return exactly(await _asked(question, _Async, fresh=fresh))
    except ANSWERS as error:
        return type(error).__qualname__


def asynchronously(questions: Sequence[Question], *, fresh: bool = False) -> list[Answer]:
    """All on one event loop, one after the other."""

    async def main() -> list[Answer]:
        return [await _one(question, fresh) for question in questions]

    return async_to_sync(main)()


def cached(questions: Sequence[Question], how: str, *, fresh: bool = False) -> list[Answer]:
    if how == "async":
        return asynchronously(questions, fresh=fresh)
    return [synchronously(question, fresh=fresh) for question in questions]


# Of Django itself. ------------------------------------------------------------------------------


class _Plain:
    def __init__(self, queryset: Any) -> None:
        self._queryset = queryset

    def list(self) -> list[Any]:
        return list(self._queryset)

    def get_or_none(self, **conditions: Any) -> Any:
        try:
            return self._queryset.get(**conditions)
        except ObjectDoesNotExist:
            return None

    def page(self, number: int, *, size: int) -> Any:
        return Paginator(self._queryset, size).page(number)

    def __getattr__(self, terminal: str) -> Any:
        return getattr(self._queryset, terminal)


def plainly(question: Question) -> Answer:
    """What the database answers."""
    if question.is_method:
        with bypass():
            return synchronously(question)
    words = {name: repository.get_queryset() for name, repository in REPOSITORIES.items()}
    asked = _Plain(value_of(question.chain, words))
    return answered(lambda: value_of(f"asked.{question.terminal}", {**words, "asked": asked}))
