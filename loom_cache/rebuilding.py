"""From a question that is stored beside an answer to the plan that asks it again.

What the store holds is data that anybody may have put there. No name in it is imported: classes are
found among those declared in this process, chain methods and terminals among those of the reading
API, cached methods among those that are decorated, and nothing in it becomes a part of any SQL by
itself. What comes out is used only if it leads to the very key that the answer is stored under.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from django.apps import apps
from django.db.models import (
    Avg,
    Count,
    F,
    Max,
    Min,
    Model,
    OrderBy,
    OuterRef,
    Q,
    StdDev,
    Sum,
    Value,
    Variance,
)
from django.db.models.expressions import CombinedExpression

from loom_cache import questions, terminals
from loom_cache.calls import CachedCall, CallPlan
from loom_cache.codec.values import NATIVE, restore
from loom_cache.exceptions import LoomCacheError
from loom_cache.questions import CONDITION, EXPRESSION, LIST, MEMBER, ROW, TUPLE, WITHIN
from loom_cache.repository import CachedRepository, declared_repositories

if TYPE_CHECKING:
    from loom_cache.query import CachedQuery
    from loom_cache.terminals import AnyPlan

CHAIN: Final = frozenset(
    "filter exclude order_by reverse distinct annotate alias values values_list dates datetimes "
    "union intersection difference none select_related prefetch_related only defer".split()
)
"""The methods of the reading API that a stored chain may consist of."""

_EXPRESSIONS: Final[Mapping[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        *(Avg, Count, Max, Min, StdDev, Sum, Variance),
        *(CombinedExpression, F, OrderBy, OuterRef, Value),
    )
}
_OPTIONS: Final = frozenset(
    "expression value name distinct filter default sample descending nulls_first nulls_last".split()
)
"""Of expressions: others may bring SQL of their own."""
_OPERATORS: Final = frozenset("+ - * /".split())
_CONNECTORS: Final = frozenset((Q.AND, Q.OR, Q.XOR))
_NAME: Final = re.compile(r"[^\W_]\w*")
_FIELDS: Final = re.compile(r"-?[^\W_]\w*|[?*]")


class NotVerifiable(LoomCacheError):
    """The question cannot be asked again; the message says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that can be asked again."""

    repository: str
    """The name of its class."""
    spelled: str
    """As it stands in code."""
    make: Callable[[], AnyPlan]


def asked_again(question: msgspec.Raw) -> Asked:
    """Raises NotVerifiable. Makes a repository and a query; runs nothing else."""
    try:
        return _asked(msgspec.msgpack.decode(question))
    except NotVerifiable:
        raise
    except Exception as error:  # it may hold anything, and the project's own classes may raise it
        raise NotVerifiable("its question cannot be read") from error


def _asked(question: Any) -> Asked:
    match question:
        case None:
            raise NotVerifiable("it was stored by a release that noted no question")
        case str(reason):
            raise NotVerifiable(f"its question has {reason}")
        case [
            questions.QUERY,
            str(name),
            alias,
            list(steps),
            str(terminal),
            list(args),
            dict(kwargs),
        ]:
            return _query_asked(name, alias, steps, terminal, args, kwargs)
        case [questions.CALL, str(name), str(method), list(args), dict(kwargs)]:
            return _call_asked(name, method, args, kwargs)
    raise NotVerifiable("its question cannot be read")


def _query_asked(
    name: str,
    alias: Any,
    steps: list[Any],
    terminal: str,
    args: list[Any],
    kwargs: dict[str, Any],
) -> Asked:
    if terminal not in terminals.STORED:
        raise NotVerifiable("its terminal is none of the reading API")
    query = _query(name, alias, steps)
    values, named = _values(args), _named(kwargs)
    owner = type(query.repository).__name__
    made = [*_spelled_steps(query), _spelled(f"a{terminal}", values, named)]
    return Asked(
        owner,
        ".".join([owner, *made]).replace(".[", "["),
        lambda: terminals.plan_of(query, terminal, tuple(values), named),
    )


def _call_asked(name: str, method: str, args: list[Any], kwargs: dict[str, Any]) -> Asked:
    repository = _repository(name)
    call = _cached_call(type(repository), method)
    values, named = _values(args), _named(kwargs)
    owner = type(repository).__name__
    return Asked(
        owner,
        f"{owner}.{_spelled(method, values, named)}",
        lambda: CallAgain(call, repository, tuple(values), named),
    )


class CallAgain(CallPlan):
    """A call as a plan of one answer."""

    @property
    def is_async(self) -> bool:
        return self._call.is_async

    def finish(self, values: list[Any]) -> Any:
        return values[0]


def _cached_call(owner: type, method: str) -> CachedCall:
    for kind in owner.__mro__:
        if method in vars(kind):
            call = getattr(vars(kind)[method], "cached_call", None)
            if isinstance(call, CachedCall):
                return call
            break
    raise NotVerifiable("its method is no @cached_query of the repository")


def _repository(name: str) -> CachedRepository[Any]:
    declared = [kind for kind in declared_repositories if questions.name_of(kind) == name]
    if not declared:
        raise NotVerifiable("its repository is not declared in this process")
    try:
        return declared[-1]()
    except TypeError as error:
        raise NotVerifiable("its repository is made with arguments") from error


def _query(name: str, alias: Any, steps: list[Any]) -> CachedQuery[Any]:
    query = _repository(name).all()
    if alias is not None:
        query = query.with_alias(str(alias))
    for method, args, *rest in steps:
        query = _followed(query, method, _values(args), _named(rest[0] if rest else {}))
    return query


def _followed(
    query: CachedQuery[Any], method: Any, args: list[Any], kwargs: dict[str, Any]
) -> CachedQuery[Any]:
    if method == "[]":
        (at,) = args
        if type(at) is not slice:
            raise NotVerifiable("its question cannot be read")
        return query.sliced(at)
    if method not in CHAIN:
        raise NotVerifiable("a method of its chain is none of the reading API")
    if not _are_fields(args):
        raise NotVerifiable("its question names a field that is no plain name")
    return query.followed_by(method, tuple(args), kwargs)


def _are_fields(args: Sequence[Any]) -> bool:
    return all(_FIELDS.fullmatch(text) for text in args if isinstance(text, str))


def _values(packed: Sequence[Any]) -> list[Any]:
    return [_value(one) for one in packed]


def _named(packed: Mapping[str, Any]) -> dict[str, Any]:
    if not all(_NAME.fullmatch(name) for name in packed):
        raise NotVerifiable("its question names a field that is no plain name")
    return {name: _value(value) for name, value in packed.items()}


def _value(packed: Any) -> Any:
    if type(packed) in NATIVE:
        return packed
    restorer = _RESTORERS.get(packed[0]) if type(packed[0]) is str else None
    return restore(packed) if restorer is None else restorer(*packed[1:])


def _member(name: str, packed: Any) -> enum.Enum:
    value = _value(packed)
    for kind in _enumerations(enum.Enum):
        if questions.name_of(kind) == name:
            return kind._value2member_map_[value]
    raise NotVerifiable("an enumeration of its question is not declared in this process")


def _enumerations(kind: type[enum.Enum]) -> Iterator[type[enum.Enum]]:
    for each in type.__subclasses__(kind):
        yield each
        yield from _enumerations(each)


def _row(label: str, packed: Any) -> Any:
    """Such a row as far as a key goes."""
    return apps.get_model(label)(pk=_value(packed))


def _condition(connector: str, negated: bool, children: list[Any]) -> Q:
    if connector not in _CONNECTORS:
        raise NotVerifiable("its question cannot be read")
    made = _values(children)
    for child in made:
        if type(child) is tuple and not _NAME.fullmatch(child[0]):
            raise NotVerifiable("its question names a field that is no plain name")
    return Q.create(made, connector, bool(negated))


def _expression(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    kind = _EXPRESSIONS.get(name)
    if kind is None or not _OPTIONS.issuperset(kwargs):
        raise NotVerifiable(f"its question has an expression of type {name}")
    made = _values(args)
    if kind is CombinedExpression:
        if len(made) != 3 or made[1] not in _OPERATORS:
            raise NotVerifiable(f"its question has an expression of type {name}")
    elif kind is not Value and not _are_fields(made):
        raise NotVerifiable("its question names a field that is no plain name")
    return kind(*made, **_named(kwargs))


_RESTORERS: Final[Mapping[str, Callable[..., Any]]] = {
    LIST: lambda items: _values(items),
    TUPLE: lambda items: tuple(_values(items)),
    MEMBER: _member,
    ROW: _row,
    CONDITION: _condition,
    EXPRESSION: _expression,
    WITHIN: _query,
}


# As code. -----------------------------------------------------------------------------------------


def _spelled_steps(query: CachedQuery[Any]) -> Iterator[str]:
    if query.chosen_alias is not None:
        yield _spelled("using", [query.chosen_alias], {})
    for method, args, kwargs in query.steps:
        if method == "[]":
            at = args[0]
            ends = ["" if end is None else repr(end) for end in (at.start, at.stop)]
            yield f"[{':'.join([*ends, *([repr(at.step)] if at.step is not None else [])])}]"
        else:
            yield _spelled(method, args, kwargs)


def _spelled(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    given = [*map(_shown, args), *(f"{key}={_shown(value)}" for key, value in kwargs.items())]
    return f"{name}({', '.join(given)})"


def _shown(value: Any) -> str:
    """As repr(), but of an instance its key: nothing else is in it for `__str__` to show."""
    if isinstance(value, Model):
        return f"{value._meta.object_name}(pk={_shown(value.pk)})"
    if type(value) is list:
        return f"[{', '.join(map(_shown, value))}]"
    if type(value) is tuple:
        return f"({', '.join(map(_shown, value))}{',' * (len(value) == 1)})"
    if type(value) is Q:
        children = ", ".join(map(_shown, value.children))
        return f"<Q: {'NOT ' * value.negated}({value.connector}: {children})>"
    return repr(value)
