"""Values of a type that the cache does not know, in the text form of their field.

It is the form that Django's fixtures use, and is trusted only where it was seen to give the same
value back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from django.db.models import Field

from loom_cache.codec.sameness import has_equality, same
from loom_cache.codec.values import encodable


def texts_of(field: Field[Any, Any], column: Sequence[Any]) -> list[str | None] | None:
    """The texts of a column of values; None if one of them would not come back the same."""
    texts = []
    for value in column:
        text = None if value is None else _text_of(field, value)
        if text is None and value is not None:
            return None
        texts.append(text)
    return texts


def _text_of(field: Field[Any, Any], value: Any) -> str | None:
    try:
        # No instance: somebody's descriptor might change it when the value is looked at.
        text = field.value_to_string(SimpleNamespace(**{field.attname: value}))  # type: ignore[arg-type]
        if type(text) is str and encodable(text) and _is_given_back(field, text, value):
            return text
    except Exception:  # noqa: BLE001  of somebody else's making: it cannot be used
        return None
    return None


def _is_given_back(field: Field[Any, Any], text: str, value: Any) -> bool:
    again = field.to_python(text)
    return same(value, again) and (not has_equality(type(value)) or bool(value == again))


def reader_of(field: Field[Any, Any]) -> Callable[[str | None], Any]:
    """What turns the texts of that field into values."""
    to_python = field.to_python
    return lambda text: None if text is None else to_python(text)
