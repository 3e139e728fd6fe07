"""One value <-> something MessagePack can carry, with its exact type.

None, bool, float, str, bytes and integers of 64 bits stand for themselves. Everything else is a
list whose first item is a letter for the type, followed by what it is made of. (For types of the
project's own it is a fingerprint; see own.py.)
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections import OrderedDict
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NoReturn
from uuid import UUID

import msgspec
from django.core.exceptions import SynchronousOnlyOperation

from loom_cache.codec.ranges import (
    MULTIRANGE,
    RANGE,
    RANGE_OF_PSYCOPG2,
    family_of,
    made_of,
    parts_of,
)
from loom_cache.exceptions import LoomCacheError, UnsupportedValue

VERSION: Final = 1
"""Of the layout of the bytes; entries with another one are unreadable."""

MAX_DEPTH: Final = 64
"""Levels of nesting in one value."""

MALFORMED: Final = (
    msgspec.DecodeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    OSError,  # the name of a time zone that is a directory
    InvalidOperation,
    RecursionError,
    SynchronousOnlyOperation,
)
"""What reading bytes that this package did not write may end in."""


class CorruptEntry(LoomCacheError):
    """Stored bytes cannot be read: damaged, foreign, or of a model that has changed."""


def encode_value(value: object) -> bytes:
    """One scalar or aggregate of built-in types. UnsupportedValue for what has another type."""
    try:
        return pack_bytes((VERSION, "v", pack(value, "The answer")))
    except (OverflowError, UnicodeEncodeError):
        return pack_bytes((VERSION, "v", pack(value, "The answer", careful=True)))


def decode_value(data: bytes | memoryview | msgspec.Raw) -> Any:
    """The value that `encode_value` was given. CorruptEntry on anything else."""
    try:
        entry = _decode_value_entry(data)
        kind = type(entry.value)
        return entry.value if kind is int or kind is str else restore(entry.value)
    except MALFORMED as error:
        raise CorruptEntry(f"A stored value cannot be read: {error}") from error


class _ValueEntry(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    version: int
    kind: str
    value: Any

    def __post_init__(self) -> None:
        if self.version != VERSION or self.kind != "v":
            raise ValueError("it is not a single value of this version")


_decode_value_entry: Final = msgspec.msgpack.Decoder(_ValueEntry).decode
pack_bytes: Final = msgspec.msgpack.Encoder(uuid_format="bytes").encode

NATIVE: Final = frozenset((type(None), bool, int, float, str, bytes))
_all_native: Final = NATIVE.issuperset
_all_text: Final = frozenset((str,)).issuperset


def is_json(value: Any, depth: int = 0) -> bool:
    """Whether MessagePack gives `value` back exactly: dicts by str and lists, all the way down."""
    kind = type(value)
    if kind in NATIVE:
        return True
    if depth >= MAX_DEPTH:
        return False
    if kind is list:
        return _all_native(map(type, value)) or all(is_json(item, depth + 1) for item in value)
    if kind is dict and _all_text(map(type, value)):
        return _all_native(map(type, value.values())) or all(
            is_json(item, depth + 1) for item in value.values()
        )
    return False


Packer = Callable[[Any, str, int, bool], Any]


def pack(value: Any, where: str, depth: int = 0, careful: bool = False) -> Any:
    """What `restore` turns back into `value`; with `careful` also integers beyond 64 bits and
    lone surrogates. `where` begins the message of an UnsupportedValue."""
    if depth > MAX_DEPTH:
        raise UnsupportedValue(
            f"{where} is nested more than {MAX_DEPTH} levels deep, which the cache does not store."
        )
    packer = PACKERS.get(type(value))
    if packer is None:
        return _pack_range(value, where, depth, careful)
    return packer(value, where, depth, careful)


def _refuse(value: object, where: str) -> NoReturn:
    kind = type(value)
    raise UnsupportedValue(
        f"{where} is of type {kind.__module__}.{kind.__qualname__}, which the cache cannot give "
        f"back exactly; use a built-in type, register it with loom_cache.register_type, or read "
        f"it without the cache."
    )


def _as_it_is(value: Any, where: str, depth: int, careful: bool) -> Any:
    return value


def _pack_int(value: int, where: str, depth: int, careful: bool) -> Any:
    if not careful or -(2**63) <= value < 2**64:
        return value
    return ["i", value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)]


def _pack_str(value: str, where: str, depth: int, careful: bool) -> Any:
    if not careful or encodable(value):
        return value
    return ["s", value.encode("utf-8", "surrogatepass")]


def encodable(text: str) -> bool:
    """Whether UTF-8 can carry `text`: lone surrogates, which JSON may hold, cannot be."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pack_items(letter: str) -> Packer:
    def packer(value: Any, where: str, depth: int, careful: bool) -> Any:
        if not careful and is_json(value, depth):
            return ["j", value]
        return [letter, [pack(item, where, depth + 1, careful) for item in value]]

    return packer


def _pack_set(letter: str) -> Packer:
    def packer(value: Any, where: str, depth: int, careful: bool) -> Any:
        items = [pack(item, where, depth + 1, careful) for item in value]
        return [letter, sorted(items, key=pack_bytes)]  # equal sets may differ in their order

    return packer


def _pack_dict(value: dict[Any, Any], where: str, depth: int, careful: bool) -> Any:
    if not careful and is_json(value, depth):
        return ["j", value]
    return ["d", _pack_dict_items(value, where, depth, careful)]


def _pack_dict_items(value: dict[Any, Any], where: str, depth: int, careful: bool) -> Any:
    return [[pack(part, where, depth + 1, careful) for part in pair] for pair in value.items()]


def _pack_ordered_dict(value: OrderedDict[Any, Any], where: str, depth: int, careful: bool) -> Any:
    return ["o", _pack_dict_items(value, where, depth, careful)]


def _pack_zone(zone: object, where: str) -> Any:
    """None, the key of a ZoneInfo, or days, seconds, microseconds and name of a fixed offset."""
    if zone is None:
        return None
    if type(zone) is zoneinfo.ZoneInfo and zone.key is not None:
        return zone.key
    if type(zone) is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]  # for pickle
        return [offset.days, offset.seconds, offset.microseconds, *name]
    return _refuse(zone, f"The time zone of {where}")


def _pack_datetime(value: datetime, where: str, depth: int, careful: bool) -> Any:
    naive = value.replace(tzinfo=None).isoformat()
    return ["m", naive, value.fold, _pack_zone(value.tzinfo, where)]


def _pack_time(value: time, where: str, depth: int, careful: bool) -> Any:
    naive = value.replace(tzinfo=None).isoformat()
    return ["h", naive, value.fold, _pack_zone(value.tzinfo, where)]


def _pack_range(value: Any, where: str, depth: int, careful: bool) -> Any:
    letter = family_of(type(value))
    if letter is None:
        _refuse(value, where)
    parts = (pack(part, where, depth + 1, careful) for part in parts_of(letter, value))
    return [letter, type(value).__name__, *parts]


_BYTE_FORMATS: Final = ("B", "b", "c")  # psycopg2 gives "c"


def _pack_memoryview(value: memoryview, where: str, depth: int, careful: bool) -> Any:
    if value.format not in _BYTE_FORMATS or value.ndim != 1:
        _refuse(value, where)
    return ["v", bytes(value), value.format]


def _pack_slots(letter: str, names: tuple[str, ...]) -> Packer:
    def packer(value: Any, where: str, depth: int, careful: bool) -> Any:
        return [letter, *(pack(getattr(value, name), where, depth + 1, careful) for name in names)]

    return packer


def _pack_text(letter: str) -> Packer:
    return lambda value, where, depth, careful: [letter, str(value)]


_SLICE: Final = ("start", "stop", "step")

# register_type adds to these two: exact types, and fingerprints in place of letters.

PACKERS: Final[dict[type, Packer]] = {
    type(None): _as_it_is,
    bool: _as_it_is,
    float: _as_it_is,
    bytes: _as_it_is,
    int: _pack_int,
    str: _pack_str,
    list: _pack_items("l"),
    tuple: _pack_items("t"),
    set: _pack_set("e"),
    frozenset: _pack_set("E"),
    dict: _pack_dict,
    OrderedDict: _pack_ordered_dict,
    Decimal: _pack_text("c"),
    UUID: lambda value, where, depth, careful: ["u", value.bytes],
    datetime: _pack_datetime,
    date: lambda value, where, depth, careful: ["y", value.isoformat()],
    time: _pack_time,
    zoneinfo.ZoneInfo: lambda value, where, depth, careful: ["Z", _pack_zone(value, where)],
    timezone: lambda value, where, depth, careful: ["Z", _pack_zone(value, where)],
    timedelta: _pack_slots("D", ("days", "seconds", "microseconds")),
    memoryview: _pack_memoryview,
    bytearray: lambda value, where, depth, careful: ["b", bytes(value)],
    range: _pack_slots("g", _SLICE),
    slice: _pack_slots("G", _SLICE),
    ipaddress.IPv4Address: _pack_text("4"),
    ipaddress.IPv6Address: _pack_text("6"),
    ipaddress.IPv4Network: _pack_text("w"),
    ipaddress.IPv6Network: _pack_text("W"),
    ipaddress.IPv4Interface: _pack_text("k"),
    ipaddress.IPv6Interface: _pack_text("K"),
}


def restore(packed: Any, depth: int = 0) -> Any:
    """The value that `pack` was given. One of MALFORMED on anything else."""
    if type(packed) in NATIVE:
        return packed
    if depth > MAX_DEPTH + 1:
        raise ValueError("it is nested too deeply")
    if type(packed) is not list:
        raise ValueError("a value has an unknown form")
    letter, *parts = packed
    return RESTORERS[letter](depth, *parts)


def _restore_items(depth: int, items: list[Any]) -> list[Any]:
    return [restore(item, depth + 1) for item in items]


def _restore_dict(depth: int, pairs: list[list[Any]]) -> dict[Any, Any]:
    return {restore(key, depth + 1): restore(item, depth + 1) for key, item in pairs}


_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]{1,40}(?:/[A-Za-z0-9_+-]{1,40}){0,4}")
"""It becomes a path below the system's zones, and the name of a package of `tzdata`."""


def _restore_zone(packed: Any) -> timezone | zoneinfo.ZoneInfo | None:
    if packed is None:
        return None
    if isinstance(packed, str):
        if _ZONE.fullmatch(packed) is None:
            raise ValueError("a time zone has no name of one")
        return zoneinfo.ZoneInfo(packed)
    days, seconds, microseconds, *name = packed
    return timezone(timedelta(days, seconds, microseconds), *name)


def _restore_datetime(depth: int, text: str, fold: int, zone: Any) -> datetime:
    return datetime.fromisoformat(text).replace(fold=fold, tzinfo=_restore_zone(zone))


def _restore_time(depth: int, text: str, fold: int, zone: Any) -> time:
    return time.fromisoformat(text).replace(fold=fold, tzinfo=_restore_zone(zone))


def _bytes(data: Any) -> bytes:
    if type(data) is not bytes:  # bytearray(10**10) would take that much memory
        raise ValueError("a value has an unknown form")
    return data


def _restore_memoryview(depth: int, data: Any, kind: Any) -> memoryview:
    return memoryview(_bytes(data)).cast(kind)


def _restored(kind: Callable[..., Any], part: type) -> Callable[..., Any]:
    """Of parts of exactly that type: what else the class takes is not what was stored."""

    def restorer(depth: int, *parts: Any) -> Any:
        if any(type(one) is not part for one in parts):
            raise ValueError("a value has an unknown form")
        return kind(*parts)

    return restorer


def _restored_bounds(kind: Callable[..., Any]) -> Callable[..., Any]:
    return lambda depth, *ends: kind(*(restore(end, depth + 1) for end in ends))


def _range_restorer(letter: str) -> Callable[..., Any]:
    return lambda depth, name, *parts: made_of(letter, name, _restore_items(depth, list(parts)))


RESTORERS: Final[dict[str | bytes, Callable[..., Any]]] = {
    "i": lambda depth, data: int.from_bytes(_bytes(data), "big", signed=True),
    "s": lambda depth, data: _bytes(data).decode("utf-8", "surrogatepass"),
    "j": lambda depth, value: value,
    "l": _restore_items,
    "t": lambda depth, items: tuple(_restore_items(depth, items)),
    "e": lambda depth, items: set(_restore_items(depth, items)),
    "E": lambda depth, items: frozenset(_restore_items(depth, items)),
    "d": _restore_dict,
    "c": _restored(Decimal, str),
    "u": lambda depth, data: UUID(bytes=_bytes(data)),
    "m": _restore_datetime,
    "y": _restored(date.fromisoformat, str),
    "h": _restore_time,
    "D": _restored(timedelta, int),
    "v": _restore_memoryview,
    "b": lambda depth, data: bytearray(_bytes(data)),
    "g": _restored_bounds(range),
    "G": _restored_bounds(slice),
    "4": _restored(ipaddress.IPv4Address, str),
    "6": _restored(ipaddress.IPv6Address, str),
    "w": _restored(ipaddress.IPv4Network, str),
    "W": _restored(ipaddress.IPv6Network, str),
    "k": _restored(ipaddress.IPv4Interface, str),
    "K": _restored(ipaddress.IPv6Interface, str),
    "o": lambda depth, pairs: OrderedDict(_restore_dict(depth, pairs)),
    "Z": lambda depth, zone: _restore_zone(zone),
    **{letter: _range_restorer(letter) for letter in (RANGE, MULTIRANGE, RANGE_OF_PSYCOPG2)},
}
