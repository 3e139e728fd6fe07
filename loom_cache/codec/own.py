"""Types of your own: what `register_type` is told of them.

A value is stored as the fingerprint of its registration, followed by what `encode` gave. Bytes of
a registration that is gone, or has changed, are therefore unreadable: a miss, never another value.
"""

from __future__ import annotations

import hashlib
import ipaddress
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from django.db.models import Model

from loom_cache.codec.ranges import family_of
from loom_cache.codec.sameness import has_equality
from loom_cache.codec.values import PACKERS, RESTORERS, pack, pack_bytes, restore
from loom_cache.exceptions import ConfigurationError, UnsupportedValue

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Registration:
    """How the values of one type are stored."""

    kind: type[Any]
    encode: Callable[[Any], object]
    decode: Callable[[Any], Any]
    fingerprint: bytes

    def pack(self, value: Any, where: str, depth: int, careful: bool) -> Any:
        """See values.pack. What comes back is compared with `value`, here and now."""
        packed = self._packed(value, where, depth, careful)
        stored = pack_bytes(packed)  # nothing that is restored may be a part of `value`
        try:
            again = self.restore(depth, msgspec.msgpack.decode(stored))
            same = _agree(value, again)
        except Exception as error:
            raise UnsupportedValue(self._not_given_back(where, str(error))) from error
        if not same or pack_bytes(self._packed(again, where, depth, careful)) != stored:
            raise UnsupportedValue(self._not_given_back(where, "it gives another value"))
        return [self.fingerprint, packed]

    def _packed(self, value: Any, where: str, depth: int, careful: bool) -> Any:
        try:
            plain = self.encode(value)
        except Exception as error:
            raise UnsupportedValue(
                f"{where} cannot be stored: encode, as registered for {_path(self.kind)}, raised "
                f"{type(error).__name__}: {error}"
            ) from error
        if type(plain) is self.kind:
            raise UnsupportedValue(
                f"{where} cannot be stored: encode, as registered for {_path(self.kind)}, gives "
                f"a value of the same type; give what it is made of."
            )
        if isinstance(plain, _ENDLESS):
            raise UnsupportedValue(
                f"{where} cannot be stored: encode, as registered for {_path(self.kind)}, gives a "
                f"{type(plain).__name__}; give its text, or its ends."
            )
        return pack(plain, f"What encode gave for {where}", depth + 1, careful)

    def _not_given_back(self, where: str, reason: str) -> str:
        return (
            f"{where} would not come back: decode, as registered for {_path(self.kind)}, does not "
            f"undo encode ({reason}); correct one of the two."
        )

    def restore(self, depth: int, packed: Any) -> Any:
        """See values.restore."""
        plain = restore(packed, depth + 1)
        if isinstance(plain, _ENDLESS):
            raise ValueError(f"it is made of a {type(plain).__name__}")
        try:
            value = self.decode(plain)
        except Exception as error:
            raise ValueError(f"decode raised {type(error).__name__}: {error}") from error
        if type(value) is not self.kind:
            raise ValueError(f"it gives a {_path(type(value))}")
        return value


_ENDLESS: Final = (range, ipaddress.IPv4Network, ipaddress.IPv6Network)
"""A few stored bytes that are billions of items to a `decode` such as `lambda parts: Kind(*parts)`,
which somebody who can write to the store would like."""

_registrations: Final[dict[type, Registration]] = {}


def register_type(
    kind: type[T],
    *,
    encode: Callable[[T], object],
    decode: Callable[[Any], T],
    version: int = 1,
) -> None:
    """Let the cache store values whose type is exactly `kind`.

    `encode` gives what a value is made of, in built-in types or registered ones; `decode` makes
    an equal value of that. Raise `version` when the meaning of what `encode` gives changes: older
    entries are then missed. Call it where the type is defined, or in AppConfig.ready().
    ConfigurationError if it cannot be registered.
    """
    problem = _problem(kind, encode, decode, version)
    if problem is not None:
        raise ConfigurationError(f"register_type(): {problem}")
    fingerprint = _fingerprint(kind, encode, decode, version)
    known = _registrations.get(kind)
    if known is not None and known.fingerprint != fingerprint:
        raise ConfigurationError(
            f"register_type(): {_path(kind)} is registered already, with another encode, decode "
            f"or version; register a type once."
        )
    _registrations[kind] = registration = Registration(kind, encode, decode, fingerprint)
    RESTORERS[fingerprint] = registration.restore
    PACKERS[kind] = registration.pack


def unregister_type(kind: type) -> None:
    """As if it had never been registered."""
    registration = _registrations.pop(kind)
    del PACKERS[kind], RESTORERS[registration.fingerprint]


def registration_of(kind: type) -> Registration | None:
    return _registrations.get(kind)


def pack_own(value: Any) -> Any:
    """For msgspec: what stands for a value that it cannot encode."""
    registration = _registrations.get(type(value))
    if registration is None:
        raise TypeError(f"{_path(type(value))} is no plain data, and is not registered")
    return registration.pack(value, "A part of the result", 0, careful=True)


def restore_own(kind: type, packed: Any) -> Any:
    """For msgspec: the value that `pack_own` was given."""
    value = restore(packed)
    if type(value) is not kind:
        raise ValueError(f"it is a {_path(type(value))}, not a {_path(kind)}")
    return value


def _problem(kind: object, encode: object, decode: object, version: object) -> str | None:
    if not isinstance(kind, type):
        return f"the first argument is a class, which {kind!r} is not."
    path = _path(kind)
    if _is_stored_anyway(kind):
        return f"{path} is a type that the cache stores by itself; leave it out."
    if "<" in kind.__qualname__:
        return (
            f"{path} is defined inside a function, so that its name does not identify it; move it "
            f"to the top of its module."
        )
    for name, function in (("encode", encode), ("decode", decode)):
        if not callable(function):
            return f"{name} of {path} is a function of one argument, which {function!r} is not."
    if type(version) is not int:
        return f"version of {path} is a whole number, which {version!r} is not."
    return None


def _is_stored_anyway(kind: type) -> bool:
    known = kind in PACKERS and kind not in _registrations
    return known or family_of(kind) is not None or issubclass(kind, Model)


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _agree(value: Any, again: Any) -> bool:
    """Whether they are equal, as far as their type can tell."""
    if not has_equality(type(value)) or (value == value) is not True:
        return True  # what they are made of is compared in any case
    return (value == again) is True


def _fingerprint(kind: type, encode: object, decode: object, version: int) -> bytes:
    parts = [_path(kind), str(version), *_spelled(encode), *_spelled(decode)]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).digest()


def _spelled(function: Any) -> Iterator[str]:
    """Changes with the function's own code; what it calls is for `version` to tell."""
    named = function if hasattr(function, "__qualname__") else type(function)
    yield f"{named.__module__}.{named.__qualname__}"
    code = getattr(function, "__code__", None)
    if isinstance(code, types.CodeType):
        yield from _spelled_code(code)


def _spelled_code(code: types.CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _spelled_code(constant)
        elif isinstance(constant, frozenset):  # whose order differs between processes
            yield repr(sorted(map(repr, constant)))
        else:
            yield repr(constant)
