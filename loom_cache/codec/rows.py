"""The rows of an answer <-> bytes that say by themselves what they are.

Rows are what a QuerySet gave: model instances, dicts, tuples, named tuples or scalars. Nothing
needs to be known of that QuerySet to read them back, except its Prefetch objects with a queryset
of their own.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from django.db.models import Model, Prefetch
from django.db.models.utils import create_namedtuple_class

from loom_cache.codec.columns import (
    MAX_COLUMNS,
    NOTHING,
    Row,
    column_decoder,
    columns_of_text,
    encode_columns,
)
from loom_cache.codec.decoding import decode_graph, decode_instances
from loom_cache.codec.encoding import encode_instances
from loom_cache.codec.layout import (
    DICTS,
    GRAPH,
    INSTANCES,
    LONGEST_REMEMBERED,
    NAMED_TUPLES,
    SCALARS,
    TUPLES,
    Entry,
    ValuesHeader,
)
from loom_cache.codec.values import MALFORMED, VERSION, CorruptEntry, pack_bytes

_decode_entry: Final = msgspec.msgpack.Decoder(Entry).decode
_decode_header: Final = msgspec.msgpack.Decoder(ValuesHeader).decode


def encode_rows(rows: Sequence[object], *, custom_prefetches: Collection[str] = ()) -> bytes:
    """The bytes of an answer.

    `custom_prefetches` are the paths, such as "author__books", of its Prefetch objects with a
    queryset and without to_attr. UnsupportedValue, naming model, field and type, for what
    could not be given back exactly.
    """
    kinds: set[Any] = set(map(type, rows))
    if any(issubclass(kind, Model) for kind in kinds):
        return encode_instances(rows, custom_prefetches)
    if len(kinds) == 1:
        (kind,) = kinds
        if kind is dict:
            return _encode_dicts(rows)
        if kind is tuple:
            return _encode_tuples(TUPLES, rows, ())
        if _is_named_row(kind):
            return _encode_tuples(NAMED_TUPLES, rows, kind._fields)
    return _encode_scalars(rows)


def decode_rows(
    data: bytes | memoryview | msgspec.Raw,
    *,
    prefetches: Mapping[str, Prefetch[Any]] = {},  # never written to
    model: type[Model] | None = Model,
) -> list[Any]:
    """The rows, made anew. CorruptEntry on anything that `encode_rows` did not write.

    `prefetches` are the Prefetch objects for the paths that `encode_rows` was given. `model` is
    what the rows are instances of, and None if they are none: nothing else is made.
    """
    try:
        entry = _decode_entry(data)
        if entry.version != VERSION:
            raise ValueError(f"its layout is {entry.version}, not {VERSION}")
        if entry.kind not in (INSTANCES, GRAPH):
            rows = _decode_values(entry)
            if rows and model not in (None, Model):
                raise ValueError("its rows are no instances")
            return rows
        if model is None:
            raise ValueError("its rows are instances")
        if entry.kind == INSTANCES:
            return decode_instances(entry, model)
        return decode_graph(entry, prefetches, model)
    except MALFORMED as error:
        raise CorruptEntry(f"Stored rows cannot be read: {error}.") from error


def _is_named_row(kind: type) -> bool:
    """Whether values_list(named=True) made that class, which it makes anew now and then."""
    return issubclass(kind, tuple) and (kind.__module__, kind.__qualname__) == _NAMED_ROW


_NAMED_ROW: Final = (create_namedtuple_class.__module__, "Row")


def _encode_values(kind: str, names: Sequence[str], spec: str, data: bytes) -> bytes:
    header = pack_bytes(ValuesHeader(list(names), spec))
    return pack_bytes(Entry(VERSION, kind, header, msgspec.Raw(data)))


def _encode_dicts(rows: Sequence[Any]) -> bytes:
    names = tuple(rows[0])
    alike = all(tuple(row) == names for row in rows)
    if not alike or not names or not all(type(name) is str for name in names):
        return _encode_scalars(rows)
    columns = [f'The column "{name}"' for name in names]
    spec, data = encode_columns([tuple(row.values()) for row in rows], columns)
    return _encode_values(DICTS, names, spec, data)


def _encode_tuples(kind: str, rows: Sequence[Any], names: Sequence[str]) -> bytes:
    width = len(rows[0])
    if not width or any(len(row) != width for row in rows):
        return _encode_scalars(rows)
    columns = [f'The column "{name}"' for name in names or range(width)]
    spec, data = encode_columns(rows, columns)
    return _encode_values(kind, names, spec, data)


def _encode_scalars(rows: Sequence[object]) -> bytes:
    if not rows:
        return _encode_values(SCALARS, (), NOTHING, pack_bytes([]))
    spec, data = encode_columns([(row,) for row in rows], ("The answer",))
    return _encode_values(SCALARS, (), spec, data)


def _decode_values(entry: Entry) -> list[Any]:
    remembered = len(entry.header) <= LONGEST_REMEMBERED
    names, read = (_remembered_reader if remembered else _values_reader)(entry.header)
    rows = read(entry.rows)
    return _BUILDERS[entry.kind](rows, names)


def _values_reader(header: bytes) -> tuple[tuple[str, ...], Callable[[Any], list[Row]]]:
    decoded = _decode_header(header)
    if len(decoded.names) > MAX_COLUMNS:
        raise ValueError("it has too many columns")
    if decoded.names and len(decoded.names) != len(decoded.spec):
        raise ValueError("its columns have no names")
    if columns_of_text(decoded.spec):
        raise ValueError("a column that is no field's is written by one")
    return tuple(decoded.names), column_decoder(decoded.spec)


_remembered_reader: Final = lru_cache(maxsize=1024)(_values_reader)


def _build_dicts(rows: list[Row], names: tuple[str, ...]) -> list[Any]:
    return [dict(zip(names, row, strict=True)) for row in rows]


def _build_named_tuples(rows: list[Row], names: tuple[str, ...]) -> list[Any]:
    # namedtuple() writes the names into code: whatever Python reads otherwise than it is spelled
    # stays out. (It looks itself whether they are names.)
    if not all(unicodedata.is_normalized("NFKC", name) for name in names):
        raise ValueError("its columns have names that Python does not have")
    kind: Any = create_namedtuple_class(*names)
    return [tuple.__new__(kind, row) for row in rows]


_BUILDERS: Final[Mapping[str, Callable[[list[Row], tuple[str, ...]], list[Any]]]] = {
    SCALARS: lambda rows, names: [row[0] for row in rows],
    TUPLES: lambda rows, names: rows,
    DICTS: _build_dicts,
    NAMED_TUPLES: _build_named_tuples,
}
