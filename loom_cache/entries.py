"""What is stored under a key, and how much of it is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from loom_cache import config, tags

MAX_TAGS = 10_000
"""Of one entry. A hit asks for the counter of each."""
MAX_TAG_BYTES = 300
"""A tag and its generation, with a margin: see tags.py, where every part has a limit."""

UNASKED: Final = msgspec.Raw(b"\xc0")
"""No question is known: None, as MessagePack writes it."""


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is stored: the generations an answer was made under, the answer, and the question."""

    incarnation: str
    generations: dict[str, int]
    body: msgspec.Raw
    question: msgspec.Raw = UNASKED
    """See questions.py; a hit leaves it unread."""


_encoder = msgspec.msgpack.Encoder()
_decode_entry = msgspec.msgpack.Decoder(Entry).decode


def read(data: bytes | None) -> Entry | None:
    """The entry; None for nothing, for what is none, and for what is larger than any that this
    process would store. (So that whatever lies in the store costs no more than such an answer.)"""
    if data is None:
        return None
    largest = config.current_or_default().max_value_bytes
    if len(data) > largest + MAX_TAGS * MAX_TAG_BYTES:
        return None
    try:
        entry = _decode_entry(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if len(entry.body) > largest or len(entry.generations) > MAX_TAGS:
        return None
    return entry if all(map(tags.is_tag, entry.generations)) else None


def write(
    incarnation: str,
    generations: Mapping[str, int],
    body: bytes,
    question: msgspec.Raw = UNASKED,
) -> bytes:
    """The bytes of an entry."""
    return _encoder.encode(Entry(incarnation, dict(generations), msgspec.Raw(body), question))
