"""How each terminal is answered: its parts, what they depend on, how they are loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from asgiref.sync import sync_to_async
from django.core.exceptions import FieldError, SynchronousOnlyOperation
from django.core.paginator import EmptyPage, Page, PageNotAnInteger, Paginator
from django.core.signals import setting_changed
from django.db import NotSupportedError, connections, models, router
from django.db.models import QuerySet

from loom_cache import config, dependencies, keys, permission, prefetches, sql, tables, tags, watch
from loom_cache.codec import CorruptEntry, decode_rows, decode_value, encode_rows, encode_value
from loom_cache.dependencies import Dependencies
from loom_cache.exceptions import UnsupportedValue
from loom_cache.reached import from_instances
from loom_cache.reading import Loaded, Part, Plan

if TYPE_CHECKING:
    from loom_cache.query import CachedQuery


class AnyPlan(Plan, Protocol):
    """A plan that knows what its terminal returns."""

    def finish(self, values: list[Any]) -> Any: ...


@dataclass(slots=True)
class Shape:
    """What is known, in this process, of all questions that differ only in their values."""

    hints: tuple[str, ...] = ()
    """Tags that such answers depend on whatever their values are, and those of every table that
    they read: no other tag of a table moves without these."""
    analysed: bool = False
    refusal: str | None = None
    """Why such an answer is never cached."""

    def learn(self, names: Iterable[str]) -> None:
        found = {name for tag in names for name in tags.widened(tag)}
        found.update(filter(tags.is_general, names))
        if not found <= set(self.hints):
            self.hints = tuple(sorted(found.union(self.hints)))


class _Hints:
    """The tags that an entry turned out to depend on, by its key: asked for together with it. The
    oldest are forgotten, and learnt again at the price of a second look."""

    def __init__(self) -> None:
        self._tags: dict[str, tuple[str, ...]] = {}

    def of(self, key: str) -> tuple[str, ...]:
        return self._tags.get(key, ())

    def learn(self, key: str, names: Iterable[str]) -> None:
        self._tags.pop(key, None)
        self._tags[key] = tuple(names)
        while len(self._tags) > MOST_HINTS:
            self._tags.pop(next(iter(self._tags)), None)

    def forget(self) -> None:
        self._tags.clear()


MOST_HINTS = 10_000
hints = _Hints()


@lru_cache(maxsize=4096)
def shape_of(identity: bytes) -> Shape:
    """The one Shape of this name; the least used are forgotten, and learnt again."""
    return Shape()


def _on_setting_changed(**_kwargs: object) -> None:
    shape_of.cache_clear()  # a table may be ignored no longer, an app be installed
    hints.forget()


setting_changed.connect(_on_setting_changed, dispatch_uid="loom_cache.plans")

_SINGLE = frozenset({"get", "get_or_none", "first", "last", "latest", "earliest"})
_VALUES = frozenset({"count", "exists", "contains", "aggregate"})


def make(
    query: CachedQuery[Any], operation: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AnyPlan:
    """The plan of one terminal. Runs nothing."""
    if operation in ("get", "get_or_none"):
        if args or kwargs:
            query = query.followed_by("filter", args, kwargs)
        return RowsPlan(query, operation)
    if operation == "page":
        return PagePlan(query, *args, **kwargs)
    if operation == "in_bulk":
        return _bulk(query, *args, **kwargs)
    kind = ValuePlan if operation in _VALUES else RowsPlan
    return kind(query, operation, args, kwargs)


class QueryPlan:
    """One terminal of a CachedQuery; see reading.Plan."""

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
        self._refusal: str | None = None
        self._spell()

    def _spell(self) -> None:
        """Find the key and the shape."""
        query, repository = self.query, self.query.repository
        verb = "get" if self.operation == "get_or_none" else self.operation
        shape = query.shape
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
            self._refusal = "no canonical form"
            identity = ending = asked = b""
        self.shape = shape_of(keys.canonical(identity) + shape + ending)
        key = repository.key(keys.digest(identity + asked + b"\xc1|" + ending))
        self.parts: Sequence[Part] = (self._part(key),)

    def _part(self, key: str) -> Part:
        query, table = self.query, self._table
        required = [tags.of_table(table)]
        if query.row is not None:
            required += (tags.of_rows(table), tags.of_row(table, query.row))
        return Part(
            key=key,
            required=(*required, *query.declared()),
            ttl=query.repository.seconds(query.seconds, many=self.operation not in _SINGLE),
            missing_ttl=_settings().missing_ttl,
        )

    def refusal(self) -> str | None:
        if self._refusal or self.shape.refusal:
            return self._refusal or self.shape.refusal
        if self._alias != router.db_for_write(self.query.model):
            return "replica"
        return "ignored table" if tables.touches_ignored([self._table]) else None

    def asked(self) -> tuple[str, ...]:
        wanted = dict.fromkeys(tag for part in self.parts for tag in part.required)
        wanted[tags.of_list(self._table)] = None  # no tag of a row or of values moves without it
        wanted.update(dict.fromkeys(self.shape.hints))
        for part in self.parts:
            wanted.update(dict.fromkeys(hints.of(part.key)))
        return tuple(wanted)

    def learn(self, at: int, names: Sequence[str]) -> None:
        learn(self.shape, self.parts[at], names)

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
        self.shape.refusal = _never_cached(statement, names)
        return bool(statement.names)

    def _to_analyse(self) -> Any:
        return self.query.queryset()

    def load(self, missing: Sequence[int]) -> list[Loaded]:
        with watch.recorded() as seen:
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

    def not_stored(self, seen: watch.Recorder) -> str | None:
        """Why what has been read must not be kept, judged from what really ran."""
        if self.shape.refusal is None:
            self.shape.refusal = seen_refusal(seen)
        return self.refusal() or permission.refused_here()

    def depends_on(self, seen: watch.Recorder, loaded: Loaded) -> Dependencies:
        return dependencies.of_load(seen, None)

    @staticmethod
    def tie(loaded: Loaded, part: Part, found: Dependencies, seen: watch.Recorder) -> None:
        """Note what the answer depends on."""
        loaded.tags = tuple(dict.fromkeys((*part.required, *found.tags(), *seen.tags)))
        loaded.combinations = found.combinations()

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
        if len(body) > _settings().max_value_bytes:
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
        if len(rows) > _settings().max_rows:
            loaded.refusal = "more than MAX_ROWS rows"
        else:
            self._keep(loaded, lambda: encode_rows(rows, custom_prefetches=self.query.prefetches()))

    def depends_on(self, seen: watch.Recorder, loaded: Loaded) -> Dependencies:
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
        return decode_rows(body, prefetches=self.query.prefetches())

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


class _Pairs(msgspec.Struct, array_like=True):
    keys: msgspec.Raw
    rows: msgspec.Raw


def _encode_pairs(keyed: bytes, rows: bytes) -> bytes:
    return msgspec.msgpack.encode(_Pairs(msgspec.Raw(keyed), msgspec.Raw(rows)))


_decode_pairs = msgspec.msgpack.Decoder(_Pairs).decode


class DictPlan(RowsPlan):
    """`in_bulk` of whatever cannot be an entry for each row."""

    def depends_on(self, seen: watch.Recorder, loaded: Loaded) -> Dependencies:
        return dependencies.of_load(seen, None)

    def _fetch(self) -> Any:
        return self.query.queryset().in_bulk(*self.args, **self.kwargs)

    def _encode(self, loaded: Loaded) -> None:
        keyed, rows = list(loaded.value), Loaded(list(loaded.value.values()))
        super()._encode(rows)
        loaded.missing, loaded.refusal = rows.missing, rows.refusal
        if rows.body is not None:
            body = rows.body
            self._keep(loaded, lambda: _encode_pairs(encode_rows(keyed), body))

    def decode(self, at: int, body: msgspec.Raw) -> Any:
        try:
            pairs = _decode_pairs(body)
        except msgspec.DecodeError as error:
            raise CorruptEntry(f"A stored dictionary cannot be read: {error}.") from error
        return dict(zip(decode_rows(pairs.keys), super().decode(at, pairs.rows), strict=False))

    def finish(self, values: list[Any]) -> Any:
        return values[0]


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
        return decode_value(body)

    def finish(self, values: list[Any]) -> Any:
        return values[0]


class BulkPlan(RowsPlan):
    """`in_bulk` by primary key: an entry for each row, the same that `get(pk=)` uses."""

    def __init__(self, query: CachedQuery[Any], rows: Sequence[tables.Row]) -> None:
        self._rows = rows
        super().__init__(query, "in_bulk")
        self._single = [
            RowsPlan(query.followed_by("filter", (), {"pk": row}), "get", identity=self.identity)
            for row in rows
        ]
        self.shape = self._single[0].shape
        self._refusal = self._single[0]._refusal
        self.parts = [plan.parts[0] for plan in self._single]

    def load(self, missing: Sequence[int]) -> list[Loaded]:
        with watch.recorded() as seen:
            found = self._rows_found([self._rows[at] for at in missing])
        refusal = self.not_stored(seen)
        return [self._loaded(found[self._rows[at]], at, seen, refusal) for at in missing]

    def _rows_found(self, wanted: Sequence[tables.Row]) -> dict[tables.Row, list[Any]]:
        """The rows by primary key: several of one where a join repeats them."""
        queryset = self.query.queryset()
        size = connections[queryset.db].features.max_query_params or len(wanted)
        found: dict[tables.Row, list[Any]] = {row: [] for row in wanted}
        for start in range(0, len(wanted), size):
            for row in queryset.filter(pk__in=wanted[start : start + size]):
                found.setdefault(row.pk, []).append(row)
        return found

    def _loaded(
        self, rows: list[Any], at: int, seen: watch.Recorder, refusal: str | None
    ) -> Loaded:
        # get(pk=) raises where there are several: it must not find one of them here.
        refusal = "a join repeats the row" if len(rows) > 1 else refusal
        loaded = Loaded(rows[-1:], refusal=refusal)
        if refusal is None:
            self._encode(loaded)
            self.tie(loaded, self.parts[at], self._of_one(seen, at, loaded), seen)
        return loaded

    def _of_one(self, seen: watch.Recorder, at: int, loaded: Loaded) -> Dependencies:
        """Of one row: the statements asked for all of them together."""
        found = self.depends_on(seen, loaded)
        own, row = found.tables.get(self._table), self._rows[at]
        if own is not None and loaded.value and self._names_it_once(seen):
            own.whole = False
            own.rows = {row} | (from_instances(loaded.value).of(self._table) or set())
        return found

    def _names_it_once(self, seen: watch.Recorder) -> bool:
        """Whether the table is read for nothing but the rows asked for."""
        asked = [one for one in seen.asked if self._table in one.statement.names]
        return all(one.statement.mentions.count(self._table) == 1 for one in asked) and (
            len(asked) == 1
        )

    def finish(self, values: list[Any]) -> dict[Any, Any]:
        return {row.pk: row for rows in values for row in rows}


def _bulk(
    query: CachedQuery[Any], id_list: Iterable[Any] | None = None, *, field_name: str = "pk"
) -> AnyPlan:
    apart = query.by_row and query.repository.gives_rows_apart()
    if id_list is not None:
        id_list = list(id_list)
        if not id_list and apart:
            return Known({}, query.model._meta.label, "in_bulk")
    pk = query.model._meta.pk
    if id_list is not None and apart and field_name in ("pk", pk.name, pk.attname):
        rows = [tables.as_row(pk, value) for value in id_list]
        known = list(dict.fromkeys(row for row in rows if row is not None))
        if None not in rows and len(known) <= _settings().max_rows:
            return BulkPlan(query, known)
    kwargs = {} if field_name == "pk" else {"field_name": field_name}
    return DictPlan(query, "in_bulk", (id_list,), kwargs)


class Joint:
    """Several plans asked for together."""

    def __init__(self, members: Sequence[QueryPlan], operation: str) -> None:
        self.members = members
        self.operation = operation
        self.label = members[0].label
        self.fresh = members[0].fresh
        self.parts: Sequence[Part] = [plan.parts[0] for plan in members]

    def refusal(self) -> str | None:
        return next(filter(None, (plan.refusal() for plan in self.members)), None)

    def asked(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(tag for plan in self.members for tag in plan.asked()))

    def learn(self, at: int, names: Sequence[str]) -> None:
        self.members[at].learn(0, names)

    def prepared(self) -> bool:
        return all(plan.prepared() for plan in self.members)

    def prepare(self) -> None:
        for plan in self.members:
            plan.prepare()

    def load(self, missing: Sequence[int]) -> list[Loaded]:
        return [loaded for at in missing for loaded in self.members[at].load([0])]

    async def aload(self, missing: Sequence[int]) -> list[Loaded]:
        loaded: list[Loaded] = await sync_to_async(self.load, thread_sensitive=True)(missing)
        return loaded

    def decode(self, at: int, body: msgspec.Raw) -> Any:
        return self.members[at].decode(0, body)


class PagePlan(Joint):
    """One page: its rows and the count."""

    def __init__(self, query: CachedQuery[Any], number: Any, size: Any) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"A page's size is a positive whole number, not {size!r}.")
        self._size = size
        self._number = _page_number(number)
        start = (self._number - 1) * size
        rows = RowsPlan(query.sliced(slice(start, start + size)), "list")
        super().__init__([rows, ValuePlan(query, "count")], "page")

    def finish(self, values: list[Any]) -> Any:
        rows, count = values
        paginator = Paginator(rows, self._size)
        paginator.__dict__["count"] = count  # a cached property: the rows are but one page
        return Page(rows, paginator.validate_number(self._number), paginator)


def _page_number(number: Any) -> int:
    """As Paginator.validate_number, which would first want to know the count."""
    try:
        if isinstance(number, float) and not number.is_integer():
            raise ValueError
        number = int(number)
    except (TypeError, ValueError):
        raise PageNotAnInteger(Paginator.default_error_messages["invalid_page"]) from None
    if number < 1:
        raise EmptyPage(Paginator.default_error_messages["min_page"])
    return int(number)


class Known:
    """An answer that needs neither cache nor database."""

    parts: Sequence[Part] = ()
    fresh = False

    def __init__(self, value: Any, label: str, operation: str) -> None:
        self._value, self.label, self.operation = value, label, operation

    def refusal(self) -> str | None:
        return None

    def asked(self) -> tuple[str, ...]:
        return ()

    def learn(self, at: int, names: Sequence[str]) -> None: ...

    def prepared(self) -> bool:
        return True

    def prepare(self) -> None: ...

    def load(self, missing: Sequence[int]) -> list[Loaded]:
        return []

    async def aload(self, missing: Sequence[int]) -> list[Loaded]:
        return []

    def decode(self, at: int, body: msgspec.Raw) -> Any:
        raise IndexError(at)

    def finish(self, values: list[Any]) -> Any:
        return self._value


def learn(shape: Shape, part: Part, names: Iterable[str]) -> None:
    """An entry depends on these tags: its tables are noted for its shape, the rest for its key."""
    shape.learn(names)
    known = {*part.required, *shape.hints}
    hints.learn(part.key, [name for name in names if name not in known])


def seen_refusal(seen: watch.Recorder) -> str | None:
    """Why an answer whose load ran these statements is never cached."""
    if seen.ended_caching:
        return "its load writes, locks or sets"
    if seen.volatile:
        return f"{seen.volatile}() in the query"
    ignored = tables.touches_ignored(seen.names)
    if ignored:
        return f"ignored table {ignored}"
    return "replica" if any(map(_lags, seen.by_alias.items())) else None


def _lags(read: tuple[str, set[str]]) -> bool:
    """Whether one of the tables read from a database is written to another."""
    alias, names = read
    known = tables.watched()
    read_models = (model for name in tables.among(names) for model in known[name].models[:1])
    return any(router.db_for_write(model) != alias for model in read_models)


def _never_cached(statement: sql.Statement, names: Iterable[str]) -> str | None:
    ends, volatile = statement.ends_caching, statement.volatile
    return seen_refusal(
        watch.Recorder(names={*statement.names, *names}, ended_caching=ends, volatile=volatile)
    )


def _settings() -> config.CacheConfig:
    return config.current() or config.CacheConfig()
