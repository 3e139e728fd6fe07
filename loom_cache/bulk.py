"""`in_bulk`: an entry for each row where rows are told apart by primary key, else one for all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import connections

from loom_cache import config, dependencies, recording, tables
from loom_cache.codec import CorruptEntry, decode_rows, encode_rows
from loom_cache.dependencies import Dependencies
from loom_cache.pages import Known
from loom_cache.plans import RowsPlan
from loom_cache.reached import from_instances
from loom_cache.steps import Loaded

if TYPE_CHECKING:
    from loom_cache.query import CachedQuery


class _Pairs(msgspec.Struct, array_like=True):
    keys: msgspec.Raw
    rows: msgspec.Raw


def _encode_pairs(keyed: bytes, rows: bytes) -> bytes:
    return msgspec.msgpack.encode(_Pairs(msgspec.Raw(keyed), msgspec.Raw(rows)))


_decode_pairs = msgspec.msgpack.Decoder(_Pairs).decode


class DictPlan(RowsPlan):
    """`in_bulk` of whatever cannot be an entry for each row."""

    def depends_on(self, seen: recording.Recorder, loaded: Loaded) -> Dependencies:
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
            rows = super().decode(at, pairs.rows)
            return dict(zip(decode_rows(pairs.keys, model=None), rows, strict=True))
        except (msgspec.DecodeError, RecursionError, TypeError, ValueError) as error:
            raise CorruptEntry(f"A stored dictionary cannot be read: {error}.") from error

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
        with recording.recorded() as seen:
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
        self, rows: list[Any], at: int, seen: recording.Recorder, refusal: str | None
    ) -> Loaded:
        # get(pk=) raises where there are several: it must not find one of them here.
        refusal = "a join repeats the row" if len(rows) > 1 else refusal
        loaded = Loaded(rows[-1:], refusal=refusal)
        if refusal is None:
            self._encode(loaded)
            self.tie(loaded, self.parts[at], self._of_one(seen, at, loaded), seen)
        return loaded

    def _of_one(self, seen: recording.Recorder, at: int, loaded: Loaded) -> Dependencies:
        """Of one row: the statements asked for all of them together."""
        found = self.depends_on(seen, loaded)
        own, row = found.tables.get(self._table), self._rows[at]
        if own is not None and loaded.value and self._names_it_once(seen):
            own.whole = False
            own.rows = {row} | (from_instances(loaded.value).of(self._table) or set())
        return found

    def _names_it_once(self, seen: recording.Recorder) -> bool:
        """Whether the table is read for nothing but the rows asked for."""
        asked = [one for one in seen.asked if self._table in one.statement.names]
        return all(one.statement.mentions.count(self._table) == 1 for one in asked) and (
            len(asked) == 1
        )

    def question(self, at: int) -> msgspec.Raw:
        return self._single[at].question(0)

    def finish(self, values: list[Any]) -> dict[Any, Any]:
        return {row.pk: row for rows in values for row in rows}


def plan_of(
    query: CachedQuery[Any], id_list: Iterable[Any] | None = None, *, field_name: str = "pk"
) -> Known | BulkPlan | DictPlan:
    apart = query.by_row and query.repository.gives_rows_apart()
    if id_list is not None:
        id_list = list(id_list)
        if not id_list and apart:
            return Known({}, query.model._meta.label, "in_bulk")
    pk = query.model._meta.pk
    if id_list is not None and apart and field_name in ("pk", pk.name, pk.attname):
        rows = [tables.as_row(pk, value) for value in id_list]
        known = list(dict.fromkeys(row for row in rows if row is not None))
        if None not in rows and len(known) <= config.current_or_default().max_rows:
            return BulkPlan(query, known)
    kwargs = {} if field_name == "pk" else {"field_name": field_name}
    return DictPlan(query, "in_bulk", (id_list,), kwargs)
