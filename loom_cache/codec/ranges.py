"""Ranges and multiranges of PostgreSQL, taken apart and put together.

Their classes belong to whichever version of psycopg there is. They are looked for only where that
has been imported, and are found by a fixed list: stored bytes import nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

_ELEMENTS: Final = ("Int4", "Int8", "Numeric", "Date", "Timestamp", "Timestamptz")

RANGE: Final = "r"
MULTIRANGE: Final = "q"
RANGE_OF_PSYCOPG2: Final = "R"

_FAMILIES: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    RANGE: (
        "psycopg.types.range",
        frozenset(("Range", *(f"{element}Range" for element in _ELEMENTS))),
    ),
    MULTIRANGE: (
        "psycopg.types.multirange",
        frozenset(("Multirange", *(f"{element}Multirange" for element in _ELEMENTS))),
    ),
    RANGE_OF_PSYCOPG2: (
        "psycopg2._range",
        frozenset(("Range", "NumericRange", "DateRange", "DateTimeRange", "DateTimeTZRange")),
    ),
}
_BY_MODULE: Final = {module: letter for letter, (module, _names) in _FAMILIES.items()}


def family_of(kind: type) -> str | None:
    """The letter of the family that has exactly this class, if one has."""
    letter = _BY_MODULE.get(kind.__module__)
    if letter is None or kind.__name__ not in _FAMILIES[letter][1]:
        return None
    known = getattr(sys.modules.get(kind.__module__), kind.__name__, None)
    return letter if known is kind else None


def parts_of(letter: str, value: Any) -> list[Any]:
    """What `made_of` wants to have besides the name of the class."""
    if letter == MULTIRANGE:
        return list(value)
    if value.isempty:
        return []
    return [value.lower, value.upper, value._bounds]


def made_of(letter: str, name: str, parts: list[Any]) -> Any:
    """The range or multirange again."""
    module, names = _FAMILIES[letter]
    if name not in names:
        raise ValueError("a range has an unknown form")
    kind: Any = getattr(sys.modules.get(module), name, None)
    if kind is None:
        raise ValueError("a range is of a driver that is not in use")
    if letter == MULTIRANGE:
        return kind(parts)
    return kind(*parts) if parts else kind(empty=True)
