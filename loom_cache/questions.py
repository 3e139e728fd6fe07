"""What an entry answers, written down beside the answer for `loom_cache verify`.

Data and never code: names of classes and methods are looked up among those that this process has
declared (see rebuilding.py), values are written as codec.values writes them. What it has no form
for is written as a text that says what: such an entry is not verified.

    [QUERY, repository, database alias or None, steps, terminal, arguments, keyword arguments]
    [CALL, repository, method, arguments, keyword arguments]
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from django.db.models import Model, Q
from django.db.models.expressions import BaseExpression, F

from loom_cache import keys
from loom_cache.api import ReadingAPI
from loom_cache.codec.values import NATIVE, pack, pack_bytes
from loom_cache.exceptions import UnsupportedValue

if TYPE_CHECKING:
    from loom_cache.query import CachedQuery, Step

QUERY: Final = 1
CALL: Final = 2

# Letters of what codec.values has no form for; it has letters of its own for everything else.
LIST: Final = "?l"
TUPLE: Final = "?t"
MEMBER: Final = "?n"
"""Of an enumeration: its class, the value."""
ROW: Final = "?o"
"""An instance: its model, the primary key."""
CONDITION: Final = "?Q"
EXPRESSION: Final = "?x"
WITHIN: Final = "?q"
"""A cached query as an argument: repository, alias, steps."""

MAX_BYTES: Final = 4096
"""Of a question: a list of ten thousand keys is not stored twice."""
_TOO_LONG: Final = pack_bytes("arguments that are longer than the cache keeps")


Packer = Callable[[Any], Any]


class _Unwritable(Exception):
    """There is no form for a value of this kind."""


def of_query(
    query: CachedQuery[Any], terminal: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> msgspec.Raw:
    return _written(lambda: [QUERY, *_head(query), terminal, _all(args), _named(kwargs)])


def of_call(
    repository: object, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> msgspec.Raw:
    """A method may look at everything in an instance; a query, at its key alone."""
    owner = name_of(type(repository))
    return _written(lambda: [CALL, owner, method, _all(args, _plain), _named(kwargs, _plain)])


def name_of(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _written(question: Callable[[], list[Any]]) -> msgspec.Raw:
    try:
        written = pack_bytes(question())
    except _Unwritable as error:
        return msgspec.Raw(pack_bytes(str(error)))
    except Exception:  # noqa: BLE001  a read never fails for the sake of its question
        return msgspec.Raw(pack_bytes("an argument that cannot be written down"))
    return msgspec.Raw(written if len(written) <= MAX_BYTES else _TOO_LONG)


def _head(query: CachedQuery[Any]) -> list[Any]:
    steps = [_step(step) for step in query.steps]
    return [name_of(type(query.repository)), query.chosen_alias, steps]


def _step(step: Step) -> list[Any]:
    method, args, kwargs = step
    return [method, _all(args), _named(kwargs)] if kwargs else [method, _all(args)]


def _all(values: Sequence[Any], pack: Packer | None = None) -> list[Any]:
    pack = pack or _pack
    return [value if type(value) in NATIVE else pack(value) for value in values]


def _named(values: Mapping[str, Any], pack: Packer | None = None) -> dict[str, Any]:
    pack = pack or _pack
    return {name: value if type(value) in NATIVE else pack(value) for name, value in values.items()}


def _pack(value: Any) -> Any:
    kind = type(value)
    if isinstance(value, Model) and not keys.other_targets(value._meta.concrete_model):
        return [ROW, value._meta.label_lower, _pack(value.pk)]
    if kind is Q:
        return [CONDITION, value.connector, value.negated, _all(value.children)]
    if isinstance(value, BaseExpression | F) and hasattr(value, "_constructor_args"):
        args, kwargs = value._constructor_args
        return [EXPRESSION, kind.__name__, _all(args), _named(kwargs)]
    if isinstance(value, ReadingAPI):
        return [WITHIN, *_head(value._query())]
    return _plain(value, _pack)


def _plain(value: Any, pack_item: Packer | None = None) -> Any:
    kind = type(value)
    if kind in NATIVE:
        return value
    try:
        return pack(value, "It")
    except UnsupportedValue:
        pass
    if kind is list or kind is tuple:
        return [LIST if kind is list else TUPLE, _all(value, pack_item or _plain)]
    if isinstance(value, enum.Enum):
        return [MEMBER, name_of(kind), _plain(value.value)]
    raise _Unwritable(f"an argument of type {kind.__module__}.{kind.__qualname__}")
