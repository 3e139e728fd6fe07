"""The plan of one terminal: its key, what its answer depends on, how that is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec
from asgiref.sync import sync_to_async
from django.core.exceptions import FieldError, SynchronousOnlyOperation
from django.db import NotSupportedError, models, router
from django.db.models import QuerySet

from loom_cache import (
    config,
    dependencies,
    hints,
    keys,
    kinds,
    memo,
    permission,
    prefetches,
    questions,
    recording,
    tables,
    tags,
)
from loom_cache.codec import CorruptEntry, decode_rows, decode_value, encode_rows, encode_value
from loom_cache.dependencies import Dependencies
from loom_cache.exceptions import UnsupportedValue
from loom_cache.reached import from_instances
from loom_cache.refusals import never_cached, seen_refusal
from loom_cache.steps import Loaded, Part

if TYPE_CHECKING:
    from loom_cache.query import CachedQuery


_SINGLE = frozenset({"get", "get_or_none", "first", "last", "latest", "earliest"})


@dataclass(slots=True)
class _Spelled:
    """What the words of a question, asked in these circumstances, come to."""

    shape: hints.Shape
    digest: str
    own: tuple[str, ...]
    """Tags of its own table that every such answer has."""
    refusal: str | None = None
    """Why it has no key."""
    asked: tuple[tuple[Any, ...], tuple[str, ...]] = ((), ())
    """The tags that were asked for last, and what they were put together from."""


_spelled_before: memo.Memo[_Spelled] = memo.Memo()


class QueryPlan:
    """One terminal of a CachedQuery; see steps.Plan."""

    def __init__(
        self,
        query: CachedQuery[Any],
        operation: str,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        identity: bytes | None = None,
    ) -> None:
        self.query = query
        self.identity = identity
        self.operation = operation
        self.label = query.model._meta.label
        self.fresh = query.refreshes
        self.args = tuple(map(keys.freeze, args))
        self.kwargs = {name: keys.freeze(value) for name, value in (kwargs or {}).items()}
        self._alias = query.database
        self._table = tables.name_of(query.model)
        self._spell()

    def _spell(self) -> None:
        """Find the key and the shape."""
        query = self.query
        verb = "get" if self.operation == "get_or_none" else self.operation
        self.known = known = self._known(verb) or self._spelled(verb)
        self._refusal = known.refusal
        self.shape = known.shape
        self.parts: Sequence[Part] = (self._part(query.repository.key(known.digest)),)

    def _known(self, verb: str) -> _Spelled | None:
        """What it came to when it was asked before; None if it cannot be remembered."""
        query = self.query
        words = None
        if query.origin is not None:
            words = memo.words(query.origin, verb, self.args, self.kwargs)
        if words is None:
            return None
        try:
            identity = self.identity = self.identity or query.identity()
        except (UnsupportedValue, SynchronousOnlyOperation):
            return None
        known = _spelled_before.get((words, identity))
        if known is None:
            known = self._spelled(verb)
            _spelled_before.keep((words, identity), known)
        return known

    def _spelled(self, verb: str) -> _Spelled:
        query, repository = self.query, self.query.repository
        shape, refusal = query.shape, None
        try:
            identity = self.identity = self.identity or query.identity()
            ending = keys.canonical((verb, *self.args)) + keys.canonical(self.kwargs)
            asked = query.spelled
            if asked is None:
                asking = repository.sql_of(query)
                asked = keys.canonical(asking)
                shape = keys.canonical(asking[:-1])  # without the parameters
        except (UnsupportedValue, SynchronousOnlyOperation):
            # The latter: its SQL depends on what the database can do, which a loop cannot ask.
            refusal = "no canonical form"
            identity = ending = asked = b""
        table = self._table
        own = [tags.of_table(table)]
        if query.row is not None:
            own += (tags.of_rows(table), tags.of_row(table, query.row))
        return _Spelled(
            hints.shape_of(keys.canonical(identity) + shape + ending),
            keys.digest(identity + asked + b"\xc1|" + ending),
            tuple(own),
            refusal,
        )

    def _part(self, key: str) -> Part:
        query = self.query
        return Part(
            key=key,
            required=(*self.known.own, *query.declared()),
            ttl=query.repository.seconds(query.seconds, many=self.operation not in _SINGLE),
            missing_ttl=config.current_or_default().missing_ttl,
        )

    def refusal(self) -> str | None:
        if self._refusal or self.shape.refusal:
            return self._refusal or self.shape.refusal
        if self._alias != router.db_for_write(self.query.model):
            return "replica"
        return "ignored table" if tables.touches_ignored([self._table]) else None

    def asked(self) -> tuple[str, ...]:
        every = [one for part in self.parts for one in (part.required, hints.of_keys.of(part.key))]
        sources = (*every, self.shape.hints)
        before, asked = self.known.asked
        if sources != before:
            own = tags.of_list(self._table)  # no tag of a row or of values moves without it
            asked = tuple(dict.fromkeys((*chain.from_iterable(sources), own)))
            self.known.asked = sources, asked
        return asked

    def learn(self, at: int, names: Sequence[str]) -> None:
        hints.learn(self.shape, self.parts[at], names)

    def prepared(self) -> bool:
        return self.shape.analysed

    def prepare(self) -> None:
        """Compile the query once to see which tables it reads."""
        analysed = True
        try:
            queryset = self._to_analyse()
            if isinstance(queryset, QuerySet):  # a slice with a step has become a list
                analysed = self._analyse(queryset)
        except Exception:  # noqa: BLE001
            # The load raises it again, or shows that it does no harm there (exists() of a query
            # that cannot be listed): what it touches is then seen when it runs.
            return
        finally:
            self.shape.analysed = analysed

    def _analyse(self, queryset: QuerySet[Any]) -> bool:
        """Whether there was anything to read: a condition that nothing can meet has no SQL."""
        statement = prefetches.compiled(queryset)
        names = prefetches.tables_of(queryset)
        touched = tables.touched(statement.names | names, statement.sources)
        self.shape.learn(tags.of_whole(touched - {self._table}))
        self.shape.refusal = never_cached(statement, names)
        return bool(statement.names)

    def _to_analyse(self) -> Any:
        return self.query.queryset()

    def load(self, missing: Sequence[int]) -> list[Loaded]:
        with recording.recorded() as seen:
            value = self._fetch()
        loaded = Loaded(value)
        loaded.refusal = self.not_stored(seen)
        if loaded.refusal is None:
            self._encode(loaded)
            self.tie(loaded, self.parts[0], self.depends_on(seen, loaded), seen)
        return [loaded]

    async def aload(self, missing: Sequence[int]) -> list[Loaded]:
        loaded: list[Loaded] = await sync_to_async(self.load, thread_sensitive=True)(missing)
        return loaded

    def not_stored(self, seen: recording.Recorder) -> str | None:
        """Why what has been read must not be kept, judged from what really ran."""
        if self.shape.refusal is None:
            self.shape.refusal = seen_refusal(seen)
        return self.refusal() or permission.refused_here()

    def depends_on(self, seen: recording.Recorder, loaded: Loaded) -> Dependencies:
        return dependencies.of_load(seen, None)

    @staticmethod
    def tie(loaded: Loaded, part: Part, found: Dependencies, seen: recording.Recorder) -> None:
        """Note what the answer depends on."""
        loaded.tags = tuple(dict.fromkeys((*part.required, *found.tags(), *seen.tags)))
        loaded.combinations = found.combinations()

    def question(self, at: int) -> msgspec.Raw:
        return questions.of_query(self.query, self.operation, self.args, self.kwargs)

    def decode(self, at: int, body: msgspec.Raw) -> Any:
        raise NotImplementedError

    def _fetch(self) -> Any:
        raise NotImplementedError

    def _encode(self, loaded: Loaded) -> None:
        raise NotImplementedError

    def _keep(self, loaded: Loaded, encode: Callable[[], bytes]) -> None:
        """Encode into `loaded`, or say why not."""
        try:
            body = encode()
        except UnsupportedValue as error:
            loaded.refusal = f"not representable: {error}"
            return
        if len(body) > config.current_or_default().max_value_bytes:
            loaded.refusal = "larger than MAX_VALUE_BYTES"
        else:
            loaded.body = body


class RowsPlan(QueryPlan):
    """A terminal whose answer is rows: one of them, or all."""

    def _to_analyse(self) -> Any:
        queryset = super()._to_analyse()
        if self.operation not in ("latest", "earliest"):
            return queryset
        by = self.args or self.query.model._meta.get_latest_by or ()
        return queryset.order_by(*((by,) if isinstance(by, str) else by))

    def _fetch(self) -> list[Any]:
        queryset = self.query.queryset()
        if self.operation == "list":
            return list(queryset)
        try:
            verb = "get" if self.operation == "get_or_none" else self.operation
            row = getattr(queryset, verb)(*self.args, **self.kwargs)
        except self.query.model.DoesNotExist:  # type: ignore[attr-defined]
            return []
        return [] if row is None else [row]

    def _encode(self, loaded: Loaded) -> None:
        rows = loaded.value
        loaded.missing = not rows
        if len(rows) > config.current_or_default().max_rows:
            loaded.refusal = "more than MAX_ROWS rows"
        else:
            self._keep(loaded, lambda: encode_rows(rows, custom_prefetches=self.query.prefetches()))

    def depends_on(self, seen: recording.Recorder, loaded: Loaded) -> Dependencies:
        rows = loaded.value
        of_instances = bool(rows) and isinstance(rows[0], models.Model)
        reached = from_instances(rows) if of_instances or not rows else None
        return dependencies.of_load(
            seen, reached, complete=self.query.shows_every_row(), given=self._is_there(loaded)
        )

    def _is_there(self, loaded: Loaded) -> Callable[[str, tables.Row], bool]:
        """Of values one cannot tell which rows they are, but that the one asked for is there."""
        return lambda table, row: (
            not loaded.missing and (table, row) == (self._table, self.query.row)
        )

    def decode(self, at: int, body: msgspec.Raw) -> list[Any]:
        kind = kinds.of_rows(self.query)
        rows = decode_rows(body, prefetches=self.query.prefetches(), model=kind.model)
        kind.check(rows)
        return rows

    def finish(self, values: list[Any]) -> Any:
        rows = values[0]
        if self.operation == "list":
            return rows
        if rows:
            return rows[0]
        if self.operation in ("get", "latest", "earliest"):
            model = self.query.model
            raise model.DoesNotExist(  # type: ignore[attr-defined]
                f"{model._meta.object_name} matching query does not exist."
            )
        return None


_VALUES = {"count": int, "exists": bool, "contains": bool, "aggregate": dict}


class ValuePlan(QueryPlan):
    """A terminal whose answer is a value: a count, a flag, a dict of aggregates."""

    def _to_analyse(self) -> Any:
        queryset = self.query.queryset()
        if self.operation == "aggregate":
            try:
                return queryset.annotate(*self.args, **self.kwargs)
            except (FieldError, ValueError, TypeError, NotSupportedError):
                return queryset  # the load shows what is wrong, or what else it touches
        return queryset

    def _fetch(self) -> Any:
        return getattr(self.query.queryset(), self.operation)(*self.args, **self.kwargs)

    def _encode(self, loaded: Loaded) -> None:
        self._keep(loaded, lambda: encode_value(loaded.value))

    def decode(self, at: int, body: msgspec.Raw) -> Any:
        value = decode_value(body)
        wanted = _VALUES.get(self.operation)
        if wanted is not None and type(value) is not wanted:
            raise CorruptEntry(f"A stored {self.operation} is a {type(value).__qualname__}.")
        return value

    def finish(self, values: list[Any]) -> Any:
        return values[0]
