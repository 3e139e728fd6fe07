"""Tuples of values <-> bytes, typed by column.

A column is described by one letter for what its values ARE, in upper case if None is among them.
The letters of a row make up its spec, and a spec makes one decoder.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import msgspec

from loom_cache.codec.values import NATIVE, encodable, is_json, pack, pack_bytes, restore
from loom_cache.exceptions import UnsupportedValue

Row = tuple[Any, ...]

JSON: Final = "j"  # whatever MessagePack gives back exactly without being told the type
PACKED: Final = "x"  # see values.pack
TEXT: Final = "w"  # written by the model's field, which alone can read it; see texts.py
NOTHING: Final = "-"  # None in every row

_ANNOTATIONS: Final[dict[str, Any]] = {
    "i": int,
    "s": str,
    "f": float,
    "b": bool,
    "y": bytes,
    "c": Decimal,
    "u": UUID,
    "d": date,
    "n": datetime,  # naive
    "z": datetime,  # datetime.timezone.utc
    "t": time,
    JSON: Any,
    PACKED: Any,
    TEXT: str,
    NOTHING: None,
}
_LETTERS: Final[dict[type, str]] = {
    int: "i",
    str: "s",
    float: "f",
    bool: "b",
    bytes: "y",
    Decimal: "c",
    UUID: "u",
    date: "d",
}
_is_json_like: Final = (NATIVE | {dict, list}).issuperset
_NONE: Final = type(None)

MAX_COLUMNS: Final = 2000
"""More than databases give."""


def letter_of(column: Sequence[object]) -> str:
    """The letter for what the values of one column are."""
    kinds = set(map(type, column))
    if len(kinds) == 1:
        (kind,) = kinds
        return NOTHING if kind is _NONE else _letter(kind, column)
    if len(kinds) == 2 and _NONE in kinds:
        (kind,) = kinds - {_NONE}
        return _letter(kind, [value for value in column if value is not None]).upper()
    return _letter_of_mixed(kinds, column)


def _letter(kind: type, column: Sequence[Any]) -> str:
    letter = _LETTERS.get(kind)
    if letter is not None:
        return letter
    if kind is datetime:
        return _letter_of_datetimes(column)
    if kind is time:
        plain = all(value.tzinfo is None and not value.fold for value in column)
        return "t" if plain else PACKED
    return _letter_of_mixed({kind}, column)


def _letter_of_datetimes(column: Sequence[datetime]) -> str:
    # By identity: a zone named "GMT" is equal to UTC, and still another one.
    zone = column[0].tzinfo
    if zone is not None and zone is not UTC:
        return PACKED
    alike = all(value.tzinfo is zone and not value.fold for value in column)
    return PACKED if not alike else "n" if zone is None else "z"


def _letter_of_mixed(kinds: set[type], column: Sequence[object]) -> str:
    if _is_json_like(kinds) and all(map(is_json, column)):
        return JSON
    return PACKED


def _careful(letter: str, column: Sequence[Any]) -> str:
    """The letter again, where some value does not fit MessagePack."""
    plain = letter.lower()
    if plain == "i":
        fits = all(value is None or -(2**63) <= value < 2**64 for value in column)
    elif plain == "s":
        fits = all(value is None or encodable(value) for value in column)
    else:
        fits = plain != JSON
    return letter if fits else PACKED


Rescue = Callable[[int, Sequence[Any]], Sequence[str | None] | None]


def _lost(index: int, column: Sequence[Any]) -> None:
    """There are no fields that could write it."""
    return


def encode_columns(
    rows: Sequence[Row],
    names: Sequence[str],
    hints: str | None = None,
    rescue: Rescue = _lost,
) -> tuple[str, bytes]:
    """The spec and the bytes of `rows`, which have at least one column.

    `names` say in an error message what a column is. `hints` has one letter for each column: in
    upper case, the column may hold None in other answers, so that one spec serves them all.
    `rescue` is asked for the texts of a column that is refused otherwise.
    """
    try:
        return _encode(rows, names, hints, rescue, careful=False)
    except (OverflowError, UnicodeEncodeError):
        return _encode(rows, names, hints, rescue, careful=True)


def _encode(
    rows: Sequence[Row], names: Sequence[str], hints: str | None, rescue: Rescue, *, careful: bool
) -> tuple[str, bytes]:
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    spec = [letter_of(column) for column in columns]
    if careful:
        spec = list(map(_careful, spec, columns))
    packed = [index for index, letter in enumerate(spec) if letter.lower() == PACKED]
    for index in packed:
        column = columns[index]
        try:
            columns[index] = [pack(value, names[index], 0, careful) for value in column]
        except UnsupportedValue:
            texts = rescue(index, column)
            if texts is None:
                raise
            columns[index] = texts
            spec[index] = TEXT.upper() if None in texts else TEXT
    if hints is not None:
        spec = list(map(_generalised, spec, hints))
    if packed:
        rows = list(zip(*columns, strict=True))
    return "".join(spec), pack_bytes(rows)


def _generalised(letter: str, hint: str) -> str:
    if letter == NOTHING:
        return hint.upper()  # None, also where the column is said to hold none
    return letter.upper() if hint.isupper() else letter


@lru_cache(maxsize=512)
def column_decoder(spec: str) -> Callable[[Any], list[Row]]:
    """What reads rows of that spec. One of MALFORMED if there is no such spec."""
    if not 0 < len(spec) <= MAX_COLUMNS:
        raise ValueError("the number of columns is out of bounds")
    row = types.GenericAlias(tuple, tuple(_annotation(letter) for letter in spec))
    decode: Callable[[Any], list[Row]] = msgspec.msgpack.Decoder(list[row]).decode  # type: ignore[valid-type]
    packed = [index for index, letter in enumerate(spec) if letter.lower() == PACKED]
    if not packed:
        return decode
    return lambda data: [_restored(row, packed) for row in decode(data)]


def columns_of_text(spec: str) -> list[int]:
    """The indexes of the columns whose values are still texts after decoding."""
    return [index for index, letter in enumerate(spec) if letter.lower() == TEXT]


def _annotation(letter: str) -> Any:
    annotation = _ANNOTATIONS[letter.lower()]
    return annotation | None if letter.isupper() and annotation is not Any else annotation


def _restored(row: Row, packed: Iterable[int]) -> Row:
    values = list(row)
    for index in packed:
        values[index] = restore(values[index])
    return tuple(values)
