"""What is asked and written is Python text, so that a failure prints as a script.

A template such as `row(Post, <post>).delete()` stands for all texts in which each `<kind>` is one
of the values below: few, so that reads and writes meet, and the first of them the simplest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from textwrap import dedent
from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Text(str):  # noqa: SLOT000  it carries what it was made from
    """Python text, shown as it is."""

    template: str = ""
    """What it was made from."""

    def __repr__(self) -> str:
        return str(self)


_KEYS = ["1", "2", "3", "1", "2", "4", "101"]
"""The likeliest are there from the beginning; the last is the first that the database gives."""

_NUMBERS = ["1", "0", "2", "3"]
_SPELLED_NUMBERS = ["1", "'1'", "True", "Decimal('1')", "1.0", "1.5", "0", "-0.0", "Level.TWO"]
_DATES = ["date(2026, 1, 1)", "date(2026, 1, 2)", "date(2025, 12, 31)"]
_SPELLED_DATES = [_DATES[0], "'2026-01-01'", "datetime(2026, 1, 1, 5, tzinfo=UTC)", *_DATES[1:]]
_MOMENTS = [
    "datetime(2026, 1, 1, 12, tzinfo=UTC)",
    "datetime(2026, 1, 1, 14, tzinfo=EAST)",
    "'2026-01-01T12:00:00Z'",
    "datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=UTC)",
]
_PRICES = ["Decimal('1')", "Decimal('1.00')", "1", "'1.0'", "1.0", "Decimal('1.004')", "'2.5'"]
_CODES = ["UUID(int=1)", "str(UUID(int=1))", "UUID(int=1).hex", "UUID(int=2)"]

KINDS: dict[str, list[str]] = {
    "writer": _KEYS,
    "topic": ["'a'", "'b'", "'a'", "'c'", "'d'"],
    "post": _KEYS,
    "reply": _KEYS,
    "club": ["1", "2"],
    "member": _KEYS,
    "place": _KEYS,
    "shop": ["3", "4", "3", "4", "1", "101"],
    "note": _KEYS,
    "sample": _KEYS,
    "flag": ["True", "False"],
    "flag_or_like": ["True", "False", "1", "0", "'True'"],
    "number": _NUMBERS,
    "score": ["None", *_NUMBERS],
    "score_or_like": ["None", *_SPELLED_NUMBERS],
    "number_or_like": _SPELLED_NUMBERS,
    "date": _DATES,
    "day": ["None", *_DATES],
    "day_or_like": ["None", *_SPELLED_DATES],
    "title": ["''", "'x'", "'X'", "'y'", "'1'"],
    "title_or_like": ["''", "'x'", "'X'", "'y'", "1"],
    "name": ["'x'", "'y'", "'z'"],
    "slug": ["'p'", "'q'", "'r'", "'s'", "'t'", "'u'"],
    "nick": ["'n'", "'N'", "'m'"],
    "state": ["'new'", "'old'"],
    "price": ["None", *_PRICES],
    "moment": ["None", *_MOMENTS],
    "code": ["None", *_CODES],
    "weight": ["None", "0.0", "-0.0", "1", "1.0", "'1'", "0.5"],
    "extra": ["{}", "{'a': 1}", "{'a': 1, 'b': None}", "{'b': None, 'a': 1}", "{'a': '1'}"],
}

Draw = Callable[[st.SearchStrategy[T]], T]

_VALUES = {kind: st.sampled_from(values) for kind, values in KINDS.items()}
_PLACE = re.compile(r"<(\w+)>")


# Strategies are composite, since what `map` and `builds` make is shown as calls of those; and made
# once, since Hypothesis looks at each new one at length.


@cache
def any_of(*templates: str) -> st.SearchStrategy[Text]:
    """Any text that one of the templates stands for, a line each."""
    chosen = st.sampled_from([line for several in templates for line in lines(several)])

    @st.composite
    def texts(draw: Draw[Any]) -> Text:
        return filled(draw, draw(chosen))

    return texts()


def filled(draw: Draw[Any], template: str) -> Text:
    """One of the texts that the template stands for."""
    words = _PLACE.split(template)  # text, kind, text, kind, ..., text
    words[1::2] = [draw(_VALUES[kind]) for kind in words[1::2]]
    found = Text("".join(words))
    found.template = template
    return found


@cache
def some_of(templates: str, most: int) -> st.SearchStrategy[list[Text]]:
    """Up to so many of them."""
    return st.lists(any_of(templates), max_size=most) if templates else st.just([])


def lines(templates: str) -> list[str]:
    """A template a line; one that is too long goes on in lines that are indented further."""
    found: list[str] = []
    for line in dedent(templates).splitlines():
        if line.startswith(" "):
            found[-1] += f" {line.strip()}"
        elif line:
            found.append(line)
    return found
