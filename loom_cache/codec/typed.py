"""Results of `@cached_query` <-> bytes, as the return annotation says."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from django.db.models import Model
from msgspec import inspect

from loom_cache.codec.fitting import fits
from loom_cache.codec.own import pack_own, registration_of, restore_own
from loom_cache.codec.rows import decode_rows, encode_rows
from loom_cache.codec.values import MALFORMED, VERSION, CorruptEntry, pack_bytes
from loom_cache.exceptions import UnsupportedValue


class _Stored(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    version: int
    fingerprint: bytes
    result: msgspec.Raw


_decode_stored: Final = msgspec.msgpack.Decoder(_Stored).decode


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class TypedCodec:
    """Encodes and decodes the results of one annotation."""

    annotation: object
    fingerprint: bytes
    """Changes with the annotation, and with the fields of what it names."""
    _to_bytes: Callable[[Any], bytes]
    _from_bytes: Callable[[msgspec.Raw], Any]

    def encode(self, result: Any) -> bytes:
        """The bytes of a result. UnsupportedValue, naming both types, if the annotation does not
        describe it: what the bytes decode to is compared with it."""
        data = self._to_bytes(result)
        try:
            decoded = self._from_bytes(msgspec.Raw(data))
            same = fits(result, decoded)
        except (*MALFORMED, CorruptEntry) as error:
            raise self._misfit(result, str(error)) from error
        if not same:
            raise self._misfit(result, f"it would come back as {_name(type(decoded))}, changed")
        return pack_bytes(_Stored(VERSION, self.fingerprint, msgspec.Raw(data)))

    def decode(self, data: bytes | memoryview | msgspec.Raw) -> Any:
        """The result, made anew. CorruptEntry on anything that `encode` did not write."""
        try:
            stored = _decode_stored(data)
            if (stored.version, stored.fingerprint) != (VERSION, self.fingerprint):
                raise ValueError("the annotation or the layout has changed")
            return self._from_bytes(stored.result)
        except MALFORMED as error:
            raise CorruptEntry(f"A stored result cannot be read: {error}.") from error

    def _misfit(self, result: object, reason: str) -> UnsupportedValue:
        return UnsupportedValue(
            f"The result is of type {_name(type(result))}, which the return annotation "
            f"{_name(self.annotation)} does not describe ({reason}); correct one of the two."
        )


def typed_codec(annotation: Any) -> TypedCodec:
    """The codec for a resolved return annotation.

    UnsupportedValue, with the cure, if nothing, or nothing exact, can be decoded by it.
    """
    while hasattr(annotation, "__value__"):  # `type Articles = list[Article]`
        annotation = annotation.__value__
    if _models_in(annotation):
        return _codec_of_models(annotation)
    return _codec_of_data(annotation)


def _name(annotation: Any) -> str:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")


# Annotations that name models


@dataclasses.dataclass(frozen=True, slots=True)
class _Form:
    """How a result holds instances of a model."""

    model: type[Model]
    container: type | None
    optional: bool


def _models_in(annotation: Any) -> list[type[Model]]:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return [annotation] if issubclass(annotation, Model) else []
    return [model for part in typing.get_args(annotation) for model in _models_in(part)]


def _form_of(annotation: Any) -> _Form:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _form_of(parts[0])
    if origin in (typing.Union, types.UnionType) and type(None) in parts and len(parts) == 2:
        (part,) = (part for part in parts if part is not type(None))
        return dataclasses.replace(_form_of(part), optional=True)
    if isinstance(annotation, type) and not parts:
        return _Form(annotation, None, optional=False)
    one_kind = parts[1:] == (...,) if origin is tuple else len(parts) == 1
    if origin in (list, tuple) and one_kind and isinstance(parts[0], type):
        return _Form(parts[0], origin, optional=False)
    raise UnsupportedValue(
        f"The return annotation {_name(annotation)} holds models in a form that the cache does "
        f"not decode; return a Model, Model | None, list[Model] or tuple[Model, ...], or plain "
        f"data such as a msgspec.Struct."
    )


def _codec_of_models(annotation: Any) -> TypedCodec:
    form = _form_of(annotation)

    def to_bytes(result: Any) -> bytes:
        if result is None and form.optional:
            return _NOTHING
        return encode_rows(_rows_of(result, form, annotation))

    def from_bytes(data: msgspec.Raw) -> Any:
        if bytes(data) == _NOTHING and form.optional:
            return None
        return _result_of(decode_rows(data), form)

    fingerprint = _digest(f"{_name(annotation)}|{form.model._meta.label_lower}")
    return TypedCodec(annotation, fingerprint, to_bytes, from_bytes)


def _rows_of(result: Any, form: _Form, annotation: Any) -> list[Any]:
    if form.container is not None and type(result) is not form.container:
        raise _misfit_of(annotation, result)
    rows = [result] if form.container is None else list(result)
    for row in rows:
        if not isinstance(row, form.model):
            raise _misfit_of(annotation, result, f"it holds a {_name(type(row))}")
    return rows


def _result_of(rows: list[Any], form: _Form) -> Any:
    if not all(isinstance(row, form.model) for row in rows):
        raise ValueError(f"it holds something else than {form.model._meta.label}")
    if form.container is not None:
        return form.container(rows)
    (row,) = rows
    return row


_NOTHING: Final = pack_bytes(None)


def _misfit_of(annotation: Any, result: object, reason: str = "") -> UnsupportedValue:
    detail = f" ({reason})" if reason else ""
    return UnsupportedValue(
        f"The result is of type {_name(type(result))}{detail}, which the return annotation "
        f"{_name(annotation)} does not describe; correct one of the two."
    )


# Annotations of plain data


def _codec_of_data(annotation: Any) -> TypedCodec:
    description = _describe(annotation)
    try:
        decoder: Any = msgspec.msgpack.Decoder(annotation, dec_hook=restore_own)
    except TypeError as error:
        raise UnsupportedValue(_undecodable(annotation, str(error))) from error

    def to_bytes(result: Any) -> bytes:
        try:
            return _pack_result(result)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise _misfit_of(annotation, result, str(error)) from error

    return TypedCodec(annotation, _digest(description), to_bytes, decoder.decode)


_pack_result: Final = msgspec.msgpack.Encoder(uuid_format="bytes", enc_hook=pack_own).encode


def _digest(description: str) -> bytes:
    return hashlib.blake2b(description.encode(), digest_size=8).digest()


def _undecodable(annotation: Any, reason: str) -> str:
    return (
        f"The return annotation {_name(annotation)} does not say what a stored result decodes to "
        f"({reason}); annotate built-in types, a msgspec.Struct, a dataclass, a TypedDict, a "
        f"NamedTuple, a model, or lists, dicts, sets, tuples and unions of those; or register the "
        f"type with loom_cache.register_type."
    )


def _describe(annotation: Any) -> str:
    """One text for the annotation and all that it names, down to the fields and their types."""
    if isinstance(annotation, (str, typing.ForwardRef)):
        raise UnsupportedValue(_undecodable(annotation, "it is not resolved"))
    try:
        described = inspect.type_info(annotation)
    except (TypeError, NameError, AttributeError) as error:
        raise UnsupportedValue(_undecodable(annotation, str(error))) from error
    return "\n".join(_parts_of(annotation, described, set()))


_UNDECODABLE: Final = (
    inspect.AnyType,
    inspect.CustomType,
    inspect.ExtType,
    inspect.RawType,
    inspect.MemoryViewType,
)


def _parts_of(annotation: Any, part: Any, seen: set[int]) -> Iterator[str]:
    registration = registration_of(part.cls) if isinstance(part, inspect.CustomType) else None
    if registration is not None:
        yield registration.fingerprint.hex()
        return
    if isinstance(part, _UNDECODABLE):
        raise UnsupportedValue(_undecodable(annotation, _what_is_wrong(part)))
    if id(part) in seen:
        yield "..."
        return
    seen.add(id(part))
    yield type(part).__name__
    for name in part.__struct_fields__:
        yield f"{name}:"
        yield from _parts_of_attribute(annotation, getattr(part, name), seen)


def _what_is_wrong(part: Any) -> str:
    if isinstance(part, inspect.AnyType) or getattr(part, "cls", None) is object:
        return "Any, object or a container that does not name its items could be anything"
    return f"{_name(getattr(part, 'cls', type(part)))} is no plain data"


def _parts_of_attribute(annotation: Any, value: Any, seen: set[int]) -> Iterator[str]:
    if isinstance(value, (inspect.Type, inspect.Field)):
        yield from _parts_of(annotation, value, seen)
    elif isinstance(value, tuple):
        for item in value:
            yield from _parts_of_attribute(annotation, item, seen)
    elif isinstance(value, type):
        yield f"{value.__module__}.{value.__qualname__}"
        if issubclass(value, enum.Enum):
            yield repr([(name, member.value) for name, member in value.__members__.items()])
    elif isinstance(value, _PLAIN):
        yield repr(value)
    else:
        yield type(value).__qualname__  # its repr may hold an address


_PLAIN: Final = (type(None), bool, int, float, str, bytes)
