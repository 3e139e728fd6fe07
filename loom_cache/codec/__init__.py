"""Values and rows <-> bytes: data, never code. Nothing is imported by a name found in the data."""

from loom_cache.codec.own import register_type
from loom_cache.codec.prefetching import custom_prefetches
from loom_cache.codec.rows import decode_rows, encode_rows
from loom_cache.codec.typed import TypedCodec, typed_codec
from loom_cache.codec.values import CorruptEntry, decode_value, encode_value

__all__ = [
    "CorruptEntry",
    "TypedCodec",
    "custom_prefetches",
    "decode_rows",
    "decode_value",
    "encode_rows",
    "encode_value",
    "register_type",
    "typed_codec",
]
