"""What comes back, compared with what was given."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from django.db.models import Model

from loom_cache.codec.own import registration_of


def fits(result: Any, decoded: Any) -> bool:
    """Whether the decoded value says what the result said, in types the annotation promised.

    Moments in time are compared as such: the name of a time zone is not kept.
    """
    if isinstance(decoded, (list, tuple)):
        return type(result) is type(decoded) and _all_fit(result, decoded)
    if isinstance(decoded, dict):
        return (
            isinstance(result, dict)
            and _all_fit(result.keys(), decoded.keys())
            and _all_fit(result.values(), decoded.values())
        )
    names = _field_names(decoded)
    if names is not None:
        return type(result) is type(decoded) and all(
            fits(getattr(result, name, _ABSENT), getattr(decoded, name, _ABSENT)) for name in names
        )
    return _scalar_fits(result, decoded)


_ABSENT: Final = object()


def _all_fit(result: Iterable[Any], decoded: Iterable[Any]) -> bool:
    ours, theirs = list(result), list(decoded)
    return len(ours) == len(theirs) and all(map(fits, ours, theirs))


def _field_names(decoded: Any) -> Iterable[str] | None:
    if isinstance(decoded, msgspec.Struct):
        return decoded.__struct_fields__
    if dataclasses.is_dataclass(decoded):
        return [field.name for field in dataclasses.fields(decoded)]
    return None


def _scalar_fits(result: Any, decoded: Any) -> bool:
    if isinstance(decoded, Model) or decoded is result:
        return True  # the codec of rows gives instances back exactly
    if registration_of(type(decoded)) is not None:
        return type(result) is type(decoded)  # compared when it was encoded
    if isinstance(decoded, datetime) and isinstance(result, datetime) and decoded.tzinfo:
        # Compared in one zone: in the hour that a zone has twice, nothing equals another zone's.
        return result.tzinfo is not None and result.astimezone(UTC) == decoded.astimezone(UTC)
    if isinstance(decoded, float) and isinstance(result, (int, float)):
        return decoded == result or (decoded != decoded and result != result)
    return isinstance(result, type(decoded)) and bool(decoded == result)
