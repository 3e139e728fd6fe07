"""What is stored under a key."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from loom_cache import tags


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is stored: the generations an answer was made under, and the answer."""

    incarnation: str
    generations: dict[str, int]
    body: msgspec.Raw


_encoder = msgspec.msgpack.Encoder()
_decode_entry = msgspec.msgpack.Decoder(Entry).decode


def read(data: bytes | None) -> Entry | None:
    if data is None:
        return None
    try:
        entry = _decode_entry(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return entry if all(map(tags.is_tag, entry.generations)) else None


def write(incarnation: str, generations: Mapping[str, int], body: bytes) -> bytes:
    """The bytes of an entry."""
    return _encoder.encode(Entry(incarnation, dict(generations), msgspec.Raw(body)))
