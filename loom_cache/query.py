"""CachedQuery: a chain of QuerySet methods that is recorded, spelled out as a key, and replayed on
a real QuerySet only when the answer has to be loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from django.contrib.contenttypes.prefetch import GenericPrefetch
from django.core.exceptions import EmptyResultSet, FieldError
from django.db import NotSupportedError, models
from django.db.models import FilteredRelation, Prefetch, Q, QuerySet, Window
from django.utils.functional import Promise

from loom_cache import keys, memo, tables
from loom_cache.api import ReadingAPI
from loom_cache.counters import MAX_TTL
from loom_cache.exceptions import ConfigurationError, UnsupportedValue
from loom_cache.prefetches import asking_managers, lookups_of

if TYPE_CHECKING:
    from loom_cache.repository import CachedRepository

Row = TypeVar("Row")
Step = tuple[str, tuple[Any, ...], dict[str, Any]]

_OF_STEPS = ("steps", "spelled", "shape", "row", "by_row", "within", "origin")
_steps_known: memo.Memo[dict[str, Any]] = memo.Memo()

_BY_ROW = frozenset(
    "filter exclude order_by reverse annotate alias select_related prefetch_related only defer "
    "fetch_mode".split()
)
"""Methods after which each row of the answer is still an instance of the model, by primary key."""


class CachedQuery(ReadingAPI[Row]):
    """An immutable question to a repository. Building one runs nothing; see ReadingAPI."""

    def __init__(self, repository: CachedRepository[Any]) -> None:
        self.repository = repository
        self.steps: tuple[Step, ...] = ()
        self.spelled: bytes | None = b""
        """What tells this question from others of the repository; None: only its SQL can."""
        self.shape = b""
        """The same without the values: questions of one shape touch the same tables."""
        self.row: tables.Row | None = None
        """The primary key, if the chain fixes it."""
        self.within: tuple[CachedQuery[Any], ...] = ()
        """Cached queries among its arguments."""
        self.by_row = True
        self.seconds: float | None = None
        self.refreshes = False
        self._alias: str | None = None
        self.origin: Hashable = repository.model
        """Stands for its steps if they are made of plain values; else None."""

    @property
    def model(self) -> type[models.Model]:
        model: type[models.Model] = self.repository.model
        return model

    @property
    def database(self) -> str:
        """The alias it reads from."""
        return self._alias or self.repository.database()

    @property
    def chosen_alias(self) -> str | None:
        """What `using()` was given."""
        return self._alias

    def queryset(self) -> QuerySet[Any]:
        """The chain, replayed on Django's own QuerySet."""
        return self._replayed(self.database)

    def as_argument(self) -> QuerySet[Any]:
        """The same as a part of another: it reads from that one's database, unless it says so."""
        return self._replayed(self._alias or self.repository.declared_alias)

    def _replayed(self, alias: str | None) -> QuerySet[Any]:
        made = self.repository.base()
        if alias is not None:
            made = made.using(alias)
        for method, args, kwargs in self.steps:
            if method == "[]":
                made = made[args[0]]
            else:
                made = getattr(made, method)(*map(_as_queryset, args), **_as_querysets(kwargs))
        return made

    @property
    def query(self) -> Any:
        """What Subquery and Exists take from a QuerySet."""
        return self.as_argument().query

    def identity(self) -> bytes:
        """What tells the question, asked here and now, from the same words elsewhere."""
        repository = self.repository
        parts = [repository.identity(self.database), *(each.identity() for each in self.within)]
        if not repository.static:
            parts += [
                keys.canonical(sql_of(manager.get_queryset()))
                for manager in asking_managers(self.model, self._lookups())
            ]
        return b"".join(parts)

    def declared(self) -> tuple[str, ...]:
        """The tags of every `depends_on`."""
        tags = self.repository.declared()
        return tags + tuple(tag for each in self.within for tag in each.declared())

    def shows_every_row(self) -> bool:
        """Whether the answer has every row that is read for it: a slice with a step leaves out
        some."""
        slices = (args[0] for method, args, _ in self.steps if method == "[]")
        return all(at.step is None for at in slices)

    def _lookups(self) -> list[Any]:
        """What it prefetches: strings and Prefetch objects."""
        steps = (args for method, args, _ in self.steps if method == "prefetch_related")
        given = (lookup for args in steps for lookup in args if lookup is not None)
        return [*self.repository.base_prefetches(), *given]

    def prefetches(self) -> dict[str, Prefetch[Any]]:
        """Prefetch objects with querysets of their own, by the path they fill."""
        return {
            one.prefetch_to: one
            for one in map(_as_queryset, self._lookups())
            if isinstance(one, Prefetch) and one.queryset is not None
        }

    # How it grows.

    def _query(self) -> CachedQuery[Row]:
        return self

    def _copy(self) -> CachedQuery[Any]:
        made: CachedQuery[Any] = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def followed_by(
        self, method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> CachedQuery[Any]:
        """The query with one more step; its arguments are out of reach of later changes."""
        return self._remembered(method, args, kwargs, lambda: self._with_step(method, args, kwargs))

    def _remembered(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        make: Callable[[], CachedQuery[Any]],
    ) -> CachedQuery[Any]:
        """What `make` gives, or gave when the same step of plain values was taken before."""
        words = None if self.origin is None else memo.words(self.origin, method, args, kwargs)
        known = None if words is None else _steps_known.get(words)
        if known is not None:
            made = self._copy()
            made.__dict__.update(known)
            return made
        made = make()
        made.origin = None
        if words is not None:
            made.origin = object()
            _steps_known.keep(words, {name: getattr(made, name) for name in _OF_STEPS})
        return made

    def _with_step(
        self, method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> CachedQuery[Any]:
        made = self._copy()
        frozen = tuple(map(_settled, args))
        named = {name: _settled(value) for name, value in kwargs.items()}
        if method in ("filter", "exclude"):
            named, row = self._by_primary_key(named)
            if row is not None and method == "filter":
                made.row = row
        made.steps = (*self.steps, (method, frozen, named))
        made.by_row = (
            self.by_row and method in _BY_ROW and not any(map(_windowed, (*args, *kwargs.values())))
        )
        made.within = (*self.within, *_queries_in((*frozen, *named.values())))
        made._spell(method, frozen, named)
        return made

    def _spell(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.spelled is None:
            return
        try:
            first = keys.canonical((method, *map(_spelling, args)))
            named = {name: _spelling(value) for name, value in kwargs.items()}
            self.spelled += first + keys.canonical(named)
        except UnsupportedValue:
            self.spelled = None
            return
        if method == "[]":  # every page of a list reads the same tables
            self.shape += keys.canonical((method, args[0].step is None))
        elif method in ("filter", "exclude") and not args:
            # An expression or a query among the values may read a table of its own.
            asking = {name: named[name] for name, value in kwargs.items() if _asks(value)}
            self.shape += keys.canonical((method, *named)) + keys.canonical(asking)
        else:
            self.shape += first + keys.canonical(named)

    def _by_primary_key(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], tables.Row | None]:
        """`id=7`, `pk="7"` and `pk__exact=7` are one question: they become `pk=7`."""
        pk = self.model._meta.pk
        names = ("pk", pk.name, pk.attname)
        named = dict(sorted(kwargs.items()))
        meant = [name for name in named if name.removesuffix("__exact") in names]
        if len(meant) != 1:  # of several each must hold
            return named, None
        row = tables.as_row(pk, named[meant[0]])
        if row is not None:
            del named[meant[0]]
            named["pk"] = row
        return named, row

    def sliced(self, at: slice) -> CachedQuery[Any]:
        for bound in (at.start, at.stop):
            if bound is not None and bound < 0:
                raise ValueError("Negative indexing is not supported.")
        bounds = (at.start, at.stop, at.step)
        return self._remembered("[]", bounds, {}, lambda: self._with_slice(at))

    def _with_slice(self, at: slice) -> CachedQuery[Any]:
        made = self._copy()
        made.steps = (*self.steps, ("[]", (at,), {}))
        made.by_row = False
        made._spell("[]", (at,), {})
        return made

    def with_alias(self, alias: str | None) -> CachedQuery[Any]:
        made = self._copy()
        made._alias = alias
        return made

    def refreshing(self) -> CachedQuery[Any]:
        made = self._copy()
        made.refreshes = True
        return made

    def kept_for(self, seconds: float) -> CachedQuery[Any]:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise ConfigurationError(
                f"cache_for({seconds!r}) wants a number of seconds, such as cache_for(60)."
            )
        if not 0 < seconds < math.inf:
            raise ConfigurationError(
                f"cache_for({seconds!r}) wants a positive number of seconds; to read past the "
                f"cache use fresh() or `with bypass():`."
            )
        made = self._copy()
        made.seconds = min(seconds, MAX_TTL)
        return made

    def __bool__(self) -> bool:
        """Whether there are rows, as of a QuerySet (a template's `if`); `exists()` asks for less.

        A repository is always true, as a manager is.
        """
        return bool(self._read("list"))

    def __repr__(self) -> str:
        chain = "".join(f".{method}(...)" for method, _, _ in self.steps)
        return f"<CachedQuery {type(self.repository).__name__}{chain}>"


def _settled(value: Any) -> Any:
    """`value` out of reach of later changes, of the active language too."""
    return _spoken(keys.freeze(value))


def _spoken(value: Any) -> Any:
    """A lazy text says once and for all what it says now, as when Django is given it."""
    if isinstance(value, Promise):
        cast: Any = value
        return cast._proxy____cast()
    if type(value) in (list, tuple, set, frozenset) and not _PLAIN.issuperset(map(type, value)):
        return type(value)(map(_spoken, value))
    if isinstance(value, Q):
        return type(value).create(
            [_spoken(child) for child in value.children], value.connector, value.negated
        )
    return value


def _as_queryset(value: Any) -> Any:
    """A cached query or repository among the arguments takes part as its QuerySet."""
    if isinstance(value, ReadingAPI):
        return value._query().as_argument()
    if isinstance(value, Q):
        children = [_as_queryset(child) for child in value.children]
        return type(value).create(children, value.connector, value.negated)
    if type(value) is tuple:  # in a Q: a name and its value
        return tuple(map(_as_queryset, value))
    if isinstance(value, Prefetch) and isinstance(value.queryset, ReadingAPI):
        return Prefetch(value.prefetch_through, _as_queryset(value.queryset), value.to_attr)
    if isinstance(value, GenericPrefetch):
        made: list[Any] = list(map(_as_queryset, _given(value)))
        return GenericPrefetch(value.prefetch_through, made, value.to_attr)
    if isinstance(value, FilteredRelation):  # good for one QuerySet, which renames its lookups
        return value.clone()
    return value


def _as_querysets(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _as_queryset(value) for name, value in kwargs.items()}


def _asks(value: Any) -> bool:
    """Whether an argument is no plain value: two of them need not read the same tables."""
    if type(value) in (list, tuple, set, frozenset):
        return not _PLAIN.issuperset(map(type, value)) and any(map(_asks, value))
    return isinstance(value, ReadingAPI) or hasattr(value, "resolve_expression")


def _windowed(value: Any) -> bool:
    """Whether an expression looks at other rows of the answer."""
    sources: Any = getattr(value, "get_source_expressions", tuple)()
    return isinstance(value, Window) or any(map(_windowed, sources))


_PLAIN = frozenset((int, str, UUID))


def _queries_in(value: Any) -> Iterator[CachedQuery[Any]]:
    if isinstance(value, ReadingAPI):
        yield value._query()
    elif isinstance(value, Prefetch):
        yield from _queries_in(_given(value))
    elif isinstance(value, Q):
        yield from _queries_in(tuple(value.children))
    elif type(value) in (list, tuple) and not _PLAIN.issuperset(map(type, value)):
        for item in value:
            yield from _queries_in(item)


def _spelling(value: Any) -> Any:
    """What stands for an argument in the key: a query by its own spelling (who asks it is looked
    at when it is read) or by its SQL."""
    if isinstance(value, ReadingAPI):
        query = value._query()
        if query.spelled is None:
            raise UnsupportedValue("Only its SQL, when it is read, can spell this query.")
        return ("cached query", query.spelled)
    if isinstance(value, QuerySet):
        return ("queryset", value.model, *sql_of(value))
    if isinstance(value, Prefetch):
        parts = (value.prefetch_through, value.prefetch_to, value.to_attr)
        if given := _given(value):
            return (type(value).__name__, *parts, *map(_spelling, given))
    return value


def _given(prefetch: Any) -> list[Any]:
    """The querysets that a Prefetch, or a GenericPrefetch, brings along."""
    if isinstance(prefetch, GenericPrefetch):
        several: Any = prefetch
        return list(several.querysets)
    return [] if prefetch.queryset is None else [prefetch.queryset]


def sql_of(queryset: QuerySet[Any]) -> tuple[Any, ...]:
    """What a QuerySet asks, as SQL and parameters, and what it makes of the rows."""
    compiler = queryset.query.clone().get_compiler(using=queryset.db)
    try:
        made_of = _made_of(queryset)
        text, params = compiler.as_sql()
    except EmptyResultSet:
        return (*made_of, "empty")
    except (FieldError, ValueError, TypeError, NotSupportedError) as error:
        # Whatever is wrong with it shows, as Django says it, when it is loaded.
        raise UnsupportedValue(f"The QuerySet has no SQL of its own: {error}") from error
    return (*made_of, text, tuple(map(_parameter, params)))


def _made_of(queryset: QuerySet[Any]) -> tuple[Any, ...]:
    """What the SQL does not say: which objects, of which types, Django makes of the rows."""
    kinds = (f"{kind.__module__}.{kind.__qualname__}" for kind in _classes_of(queryset))
    annotated = queryset.query.annotation_select.items()
    types = [(name, getattr(value, "_output_field_or_none", None)) for name, value in annotated]
    prefetched = [_spelling(lookup) for lookup in lookups_of(queryset)]
    return (*kinds, queryset.db, types, prefetched)


def _classes_of(queryset: QuerySet[Any]) -> list[type]:
    mode = getattr(queryset, "_fetch_mode", None)  # since Django 6.1
    return [type(queryset), queryset._iterable_class, type(mode)]


def _parameter(value: Any) -> Any:
    """psycopg's wrappers say which database type a number or a document is meant for."""
    kind = type(value)
    if kind.__module__.partition(".")[0] == "psycopg":
        if isinstance(value, int | float):
            return (kind.__name__, (float if isinstance(value, float) else int)(value))
        if hasattr(value, "obj"):
            return (kind.__name__, value.obj)
    return value
