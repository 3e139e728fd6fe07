"""Canonical arguments and keys (pure).

`canonical` gives every value one spelling in bytes, and never the same one to two values that a
query could tell apart: `1`, `True`, `1.0`, `"1"` and `Decimal(1)` are five different arguments.
None, bool, str, bytes, float and integers of 64 bits are written as MessagePack, and so are lists
and dicts that hold nothing else; whatever else there is starts with the byte that MessagePack
never uses, followed by a letter for its kind.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import hashlib
import ipaddress
import re
import sys
import types
import zoneinfo
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cached_property as functools_cached_property
from functools import lru_cache
from typing import Any, Final, NoReturn, cast
from uuid import UUID

import msgspec
from django.db.models import (
    F,
    Field,
    FilteredRelation,
    ForeignObjectRel,
    Manager,
    Model,
    Prefetch,
    Q,
    QuerySet,
)
from django.db.models.expressions import BaseExpression
from django.db.models.query import RawQuerySet
from django.db.models.sql import Query
from django.utils.functional import LazyObject, Promise
from django.utils.functional import cached_property as django_cached_property
from django.utils.safestring import SafeString

from loom_cache.codec.own import registration_of
from loom_cache.codec.values import pack
from loom_cache.exceptions import UnsupportedValue

MAX_DEPTH: Final = 50
"""Levels of nesting in one argument; deeper ones, and cycles, have no canonical form."""

_ESCAPE: Final = b"\xc1"  # no MessagePack value starts with it
_pack: Final = msgspec.msgpack.Encoder().encode
_is_native: Final = frozenset((type(None), bool, int, float, str, bytes)).issuperset
_SAFE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

Writer = Callable[[Any, int], bytes]


def canonical(value: object) -> bytes:
    """The one spelling of `value`; equal bytes mean equal type and value.

    The order of a dict's items counts (it is the order of columns in `annotate(**kwargs)`); that
    of a set's does not. UnsupportedValue, naming the type, for what has no such spelling.
    """
    return _write(value, 0)


def digest(data: bytes) -> str:
    """32 hexadecimal characters that stand for `data`."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def safe(text: str) -> str:
    """`text` as a part of a tag or key: itself if short and plain, else "~" and its digest, which
    no plain text can be."""
    if _SAFE.fullmatch(text):
        return text
    return "~" + digest(text.encode("utf-8", "surrogatepass"))


_ENTRY: Final = re.compile(r"(?:ns-[^:]+:)?e:([^:]+):")


def label_of_entry(key: str) -> str | None:
    """The model that an entry is about, by its key (see CachedRepository.key); None for the key
    of something else."""
    found = _ENTRY.match(key)
    return None if found is None else found[1]


def freeze(value: Any) -> Any:
    """`value` out of reach of later changes: containers copied, iterators made into lists.

    Everything else is returned as it is.
    """
    return _freeze(value, 0)


def _freeze(value: Any, depth: int) -> Any:
    kind = type(value)
    if depth > MAX_DEPTH:
        return value  # it has no canonical form anyway
    if kind in (list, tuple, set, frozenset):
        return kind(_freeze(item, depth + 1) for item in value)
    if kind is dict:
        return {key: _freeze(item, depth + 1) for key, item in value.items()}
    if kind is bytearray:
        return bytearray(value)
    if kind is Q:
        children = [_freeze(child, depth + 1) for child in value.children]
        return Q.create(children, value.connector, value.negated)
    if issubclass(kind, FilteredRelation):
        relation = copy.copy(value)  # a QuerySet renames the lookups of the one that it is given
        relation.condition = _freeze(value.condition, depth + 1)
        return relation
    if issubclass(kind, (Iterator, *_VIEWS)):
        return [_freeze(item, depth + 1) for item in value]
    if isinstance(value, Model | BaseExpression | list | dict | set):
        # Django's way to copy a row is to change its key; OrderBy.desc() changes its OrderBy.
        return copy.copy(value)
    return value


_VIEWS: Final[tuple[type, ...]] = (type({}.keys()), type({}.values()), type({}.items()))


def _write(value: Any, depth: int) -> bytes:
    kind = type(value)
    writer = _WRITERS.get(kind)
    if writer is None:
        writer = _writer_for(value)
    if depth > MAX_DEPTH:
        _too_deep()
    return writer(value, depth)


def _too_deep() -> NoReturn:
    raise UnsupportedValue(
        f"An argument that is nested more than {MAX_DEPTH} levels deep has no canonical form; "
        f"pass a flatter one."
    )


def _tagged(letter: bytes, payload: bytes) -> bytes:
    return _ESCAPE + letter + _pack(payload)


def _sequence(letter: bytes, items: Iterable[bytes]) -> bytes:
    written = list(items)
    return b"".join((_ESCAPE, letter, _pack(len(written)), *written))


def _text(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _native(value: object, depth: int) -> bytes:
    try:
        return _pack(value)
    except OverflowError:
        number = cast(int, value)
        return _tagged(b"i", number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))
    except UnicodeEncodeError:
        return _tagged(b"s", _text(cast(str, value)))


def _all_native(value: object) -> bytes | None:
    """A container of native values in one go; None if one of them does not fit MessagePack."""
    try:
        return _pack(value)
    except (OverflowError, UnicodeEncodeError):
        return None


def _list(value: list[Any], depth: int) -> bytes:
    if _is_native(map(type, value)) and (packed := _all_native(value)) is not None:
        return packed
    return _sequence(b"l", [_write(item, depth + 1) for item in value])


def _tuple(value: tuple[Any, ...], depth: int) -> bytes:
    if _is_native(map(type, value)) and (packed := _all_native(value)) is not None:
        return _ESCAPE + b"t" + packed
    return _sequence(b"T", [_write(item, depth + 1) for item in value])


def _dict(value: dict[Any, Any], depth: int) -> bytes:
    if (
        _is_native(map(type, value))
        and _is_native(map(type, value.values()))
        and (packed := _all_native(value)) is not None
    ):
        return packed
    return _sequence(b"d", [_write(part, depth + 1) for pair in value.items() for part in pair])


def _set(value: set[Any], depth: int) -> bytes:
    return _sequence(b"e", sorted(_write(item, depth + 1) for item in value))


def _frozenset(value: frozenset[Any], depth: int) -> bytes:
    return _sequence(b"E", sorted(_write(item, depth + 1) for item in value))


def _datetime(value: datetime, depth: int) -> bytes:
    return _moment(b"m", value, value.tzinfo)


def _time(value: time, depth: int) -> bytes:
    return _moment(b"h", value, value.tzinfo)


def _moment(letter: bytes, value: Any, zone: object) -> bytes:
    naive = value.replace(tzinfo=None).isoformat()
    return _sequence(letter, (_pack(naive), _pack(value.fold), _write(zone, 0)))


def _timezone(value: timezone, depth: int) -> bytes:
    offset = value.utcoffset(None)
    return _sequence(b"z", (_timedelta(offset, 0), _pack(value.tzname(None))))


def _zone_info(value: zoneinfo.ZoneInfo, depth: int) -> bytes:
    if value.key is None:
        raise UnsupportedValue("A ZoneInfo without a key has no canonical form; name the zone.")
    return _tagged(b"Z", _text(value.key))


def _timedelta(value: timedelta, depth: int) -> bytes:
    return _ESCAPE + b"D" + _pack((value.days, value.seconds, value.microseconds))


def _bounds(letter: bytes, value: Any, depth: int) -> bytes:
    return _sequence(
        letter, [_write(part, depth + 1) for part in (value.start, value.stop, value.step)]
    )


def _path(kind: type) -> bytes:
    return _pack(class_path(kind))


@lru_cache(maxsize=4096)
def class_path(kind: type) -> str:
    """Module and qualified name of a class; UnsupportedValue if they do not identify it."""
    if "<" in kind.__qualname__:
        raise UnsupportedValue(
            f"{kind.__qualname__} is defined inside a function, so that its name does not "
            f"identify it in a cache key; move it to the top of its module."
        )
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is not kind:
        raise UnsupportedValue(
            f"{kind.__module__}.{kind.__qualname__} is the name of another class, so that it does "
            f"not identify this one in a cache key; give each class its own name."
        )
    return f"{kind.__module__}:{kind.__qualname__}"


def _enum(value: enum.Enum, depth: int) -> bytes:
    return _sequence(b"n", (_path(type(value)), _write(value.value, depth + 1)))


def _named_tuple(value: tuple[Any, ...], depth: int) -> bytes:
    return _sequence(b"N", (_path(type(value)), _tuple(tuple(value), depth)))


def _promise(value: object, depth: int) -> bytes:
    return _tagged(b"p", _text(str(value)))


def _safe_string(value: str, depth: int) -> bytes:
    return _tagged(b"S", _text(str.__str__(value)))


def _lazy_object(value: Any, depth: int) -> bytes:
    # Its class pretends to be the wrapped one: bool() or an attribute makes it load.
    value.__class__  # noqa: B018
    return _write(value._wrapped, depth + 1)


def _struct(value: msgspec.Struct, depth: int) -> bytes:
    names = type(value).__struct_fields__
    return _fields(b"R", value, names, depth)


def _dataclass(value: Any, depth: int) -> bytes:
    return _fields(b"a", value, (field.name for field in dataclasses.fields(value)), depth)


def _fields(letter: bytes, value: object, names: Iterable[str], depth: int) -> bytes:
    parts = [_path(type(value))]
    for name in names:
        parts += (_pack(name), _write(getattr(value, name, _UNSET), depth + 1))
    return _sequence(letter, parts)


class _Unset:
    """Stands for a field of a dataclass that was never set."""


_UNSET: Final = _Unset()


def _psycopg_range(value: Any, depth: int) -> bytes:
    parts = (value.isempty, value._bounds, value._lower, value._upper)
    return _sequence(b"r", (_path(type(value)), *(_write(part, depth + 1) for part in parts)))


def _model_class(value: type[Model], depth: int) -> bytes:
    return _tagged(b"M", _text(value._meta.label_lower))


def _model_instance(value: Model, depth: int) -> bytes:
    concrete = cast(type[Model], value._meta.concrete_model)  # a row has a table
    pk = value.pk
    if pk is None or (type(pk) is tuple and None in pk):
        raise UnsupportedValue(
            f"An unsaved {value._meta.label} has no canonical form, since it has no primary key; "
            f"save it first."
        )
    parts = [_pack(concrete._meta.label_lower), _write(pk, depth + 1)]
    for attname in other_targets(concrete):
        if attname not in value.__dict__:
            raise UnsupportedValue(
                f"{value._meta.label}.{attname}, which other models refer to, is not loaded; "
                f"do not defer it on an instance that is used as an argument."
            )
        parts += (_pack(attname), _write(value.__dict__[attname], depth + 1))
    return _sequence(b"o", parts)


@lru_cache(maxsize=4096)
def other_targets(model: type[Model]) -> tuple[str, ...]:
    """Columns besides the primary key that a filter by an instance may compare (`to_field`)."""
    return tuple(
        sorted(
            {
                target.attname
                for relation in model._meta.get_fields(include_hidden=True)
                if isinstance(relation, ForeignObjectRel)
                for target in getattr(relation.field, "foreign_related_fields", ())
                if not target.primary_key
            }
        )
    )


def _q(value: Q, depth: int) -> bytes:
    parts = [_pack(value.connector), _pack(value.negated)]
    parts += [_write(child, depth + 1) for child in value.children]
    return _sequence(b"Q", parts)


def _filtered_relation(value: Any, depth: int) -> bytes:
    parts = [_path(type(value)), _pack(value.relation_name), _pack(value.alias)]
    return _sequence(b"q", (*parts, _write(value.condition, depth + 1)))


def _prefetch(value: Prefetch[Any], depth: int) -> bytes:
    if value.queryset is not None:
        raise UnsupportedValue(
            f"Prefetch({value.prefetch_to!r}) has a queryset of its own, which has no canonical "
            f"form; leave the queryset out, or fix it in the repository's `queryset`."
        )
    return _sequence(b"P", (_path(type(value)), _dict(vars(value), depth)))


def _expression(value: Any, depth: int) -> bytes:
    args, kwargs = value._constructor_args
    parts = [_path(type(value)), _tuple(tuple(args), depth), _dict(kwargs, depth)]
    # Methods such as OrderBy.desc() change an expression after it was made.
    kind: type = type(value)
    caches = _cached_names(kind)
    for name, state in sorted(vars(value).items()):
        if name == "extra" or (type(state) in _SCALARS and name not in caches):
            parts += (_pack(name), _write(state, depth + 1))
    return _sequence(b"x", parts)


_SCALARS: Final = frozenset((type(None), bool, int, float, str))


@lru_cache(maxsize=4096)
def _cached_names(kind: type) -> frozenset[str]:
    caches = (django_cached_property, functools_cached_property)
    return frozenset(
        name
        for owner in kind.__mro__
        for name, attribute in vars(owner).items()
        if isinstance(attribute, caches)
    )


def _field(value: Any, depth: int) -> bytes:
    if value.name and getattr(value, "model", None) is not None:
        parts = [_path(type(value)), _pack(value.model._meta.label_lower)]
        for name, state in sorted(vars(value).items()):
            if type(state) in _SCALARS and name != "creation_counter":  # counts as imports come
                parts += (_pack(name), _pack(state))
        return _sequence(b"f", parts)
    _name, _import_path, args, kwargs = value.deconstruct()
    parts = [_path(type(value)), _tuple(tuple(args), depth), _dict(kwargs, depth)]
    return _sequence(b"F", parts)


def _derived(value: Any, depth: int) -> bytes:
    """A moment of a class derived from Python's own, such as those of libraries."""
    base = datetime if isinstance(value, datetime) else date
    return _sequence(b"k", (_path(type(value)), _WRITERS[base](value, depth)))


def _derived_zone(value: Any, depth: int) -> bytes:
    return _sequence(b"K", (_path(type(value)), _zone_info(value, depth)))


def _registered(value: object, depth: int) -> bytes:
    """A value of a type that register_type knows: what it is stored as."""
    return _sequence(b"O", (_write(pack(value, "An argument", 0, careful=True), depth + 1),))


def _unsupported(value: object, depth: int) -> NoReturn:
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, QuerySet | RawQuerySet | Query | Manager):
        cure = "evaluate it first and pass the primary keys"
    else:
        cure = "pass plain data, such as its primary key or a string"
    raise UnsupportedValue(f"An argument of type {name} has no canonical form; {cure}.")


_WRITERS: dict[type, Writer] = {
    int: _native,
    str: _native,
    type(None): _native,
    bool: _native,
    float: _native,
    bytes: _native,
    list: _list,
    tuple: _tuple,
    dict: _dict,
    set: _set,
    frozenset: _frozenset,
    bytearray: lambda value, depth: _tagged(b"b", bytes(value)),
    memoryview: lambda value, depth: _tagged(b"v", bytes(value)),
    Decimal: lambda value, depth: _tagged(b"c", str(value).encode()),
    UUID: lambda value, depth: _tagged(b"u", value.bytes),
    datetime: _datetime,
    date: lambda value, depth: _tagged(b"y", value.isoformat().encode()),
    time: _time,
    timedelta: _timedelta,
    timezone: _timezone,
    zoneinfo.ZoneInfo: _zone_info,
    range: lambda value, depth: _bounds(b"g", value, depth),
    slice: lambda value, depth: _bounds(b"G", value, depth),
    ipaddress.IPv4Address: lambda value, depth: _tagged(b"4", str(value).encode()),
    ipaddress.IPv6Address: lambda value, depth: _tagged(b"6", str(value).encode()),
    ipaddress.IPv4Network: lambda value, depth: _tagged(b"w", str(value).encode()),
    ipaddress.IPv6Network: lambda value, depth: _tagged(b"W", str(value).encode()),
    ipaddress.IPv4Interface: lambda value, depth: _tagged(b"j", str(value).encode()),
    ipaddress.IPv6Interface: lambda value, depth: _tagged(b"J", str(value).encode()),
    SafeString: _safe_string,
    Q: _q,
    _Unset: lambda value, depth: _ESCAPE + b"_",
}


def _writer_for(value: Any) -> Writer:
    """For what is recognised by its base class rather than by its exact type."""
    kind = type(value)
    for base, writer in _BY_BASE:
        if issubclass(kind, base):
            return writer
    if isinstance(value, type):
        return _model_class if issubclass(value, Model) else _unsupported
    if hasattr(value, "_constructor_args") and issubclass(kind, BaseExpression | F):
        return _expression
    if dataclasses.is_dataclass(value):
        return _dataclass
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _named_tuple
    if _is_psycopg_range(kind):
        return _psycopg_range
    if registration_of(kind) is not None:
        return _registered
    return _unsupported


_BY_BASE: Final[tuple[tuple[type, Writer], ...]] = (
    (LazyObject, _lazy_object),
    (Promise, _promise),
    (enum.Enum, _enum),
    (Model, _model_instance),
    (Prefetch, _prefetch),
    (FilteredRelation, _filtered_relation),
    (Field, _field),
    (msgspec.Struct, _struct),
    (date, _derived),  # of which datetime is one
    (zoneinfo.ZoneInfo, _derived_zone),
)


def _is_psycopg_range(kind: type) -> bool:
    """Without importing psycopg: a range exists only where it has been imported."""
    modules: list[types.ModuleType | None] = [
        sys.modules.get("psycopg.types.range"),
        sys.modules.get("psycopg2._range"),
    ]
    return any(module is not None and issubclass(kind, module.Range) for module in modules)
