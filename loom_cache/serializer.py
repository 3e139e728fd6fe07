"""MsgspecSerializer: what aiocache uses to turn the values of a data alias into bytes."""

from __future__ import annotations

from typing import Any

import msgspec
from aiocache.serializers import BaseSerializer

from loom_cache.exceptions import UnsupportedValue


class MsgspecSerializer(BaseSerializer):  # type: ignore[misc]  # aiocache has no annotations
    """MessagePack by msgspec: data, never code.

    Without a type, `loads` gives plain containers, strings, numbers, bytes and aware datetimes;
    `type` restores what MessagePack cannot tell apart (dates, decimals, tuples, structs).
    """

    DEFAULT_ENCODING = None  # bytes: backends must not decode what they read

    def dumps(self, value: Any) -> bytes:
        """`value` as MessagePack. UnsupportedValue when it cannot be encoded."""
        try:
            return msgspec.msgpack.encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise UnsupportedValue(
                f"A value of type {type(value).__name__} cannot be cached: {error}. "
                "Cache built-in types, dataclasses or msgspec Structs."
            ) from error

    def loads(self, value: bytes | None, type: Any = None) -> Any:  # noqa: A002
        """What `dumps` was given, decoded as `type` if there is one; None for a miss.

        msgspec.DecodeError when the bytes are unreadable or do not fit the type.
        """
        if value is None:
            return None
        if type is None:
            return msgspec.msgpack.decode(value)
        return msgspec.msgpack.decode(value, type=type)
