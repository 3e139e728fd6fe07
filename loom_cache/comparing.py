"""Whether a stored answer and the database's are the same answer, and where they differ."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model, QuerySet

from loom_cache.codec.sameness import same
from loom_cache.plans import QueryPlan

if TYPE_CHECKING:
    from loom_cache.terminals import AnyPlan

SHOWN_ROWS: Final = 3
SHOWN_LETTERS: Final = 160
_ONE: Final = frozenset(("first", "last", "latest", "earliest"))


class Verdict(enum.Enum):
    SAME = "same"
    OTHER = "other"
    UNDECIDED = "undecided"
    """The order of the query leaves more than one answer right, and both may be."""


@dataclass(frozen=True, slots=True)
class Raises:
    """What stands for an answer where there is an exception."""

    name: str

    def __repr__(self) -> str:
        return f"raises {self.name}"


@dataclass(frozen=True, slots=True)
class _Order:
    """What a query says of the order of its rows."""

    total: bool
    """Exactly one order is right."""
    by: tuple[str, ...] | None
    """Attributes of the rows; None: something else, or it cannot be told."""
    limited: bool
    """Which rows are in the answer depends on it."""


def compared(plan: AnyPlan, cached: Any, now: Any) -> Verdict:
    if isinstance(cached, Raises) or isinstance(now, Raises):
        return Verdict.SAME if cached == now else Verdict.OTHER
    loose = plan.operation == "aggregate"  # the sum of floats depends on the order of the rows
    mine, other = _plain(cached, loose=loose), _plain(now, loose=loose)
    if same(mine, other):
        return Verdict.SAME
    if plan.operation == "in_bulk" and isinstance(mine, dict) and isinstance(other, dict):
        return _verdict(alike=_same_members(list(mine.items()), list(other.items())))
    if not isinstance(mine, list) or not isinstance(other, list):
        return Verdict.OTHER
    return _of_lists(_order_of(plan), (cached, now), (mine, other))


def _of_lists(order: _Order | None, rows: tuple[Any, Any], plain: tuple[Any, Any]) -> Verdict:
    members = _same_members(*plain)
    if order is None:  # a method's own list: only it knows which order is right
        return Verdict.UNDECIDED if members else Verdict.OTHER
    if order.total or not (members or order.limited):
        return Verdict.OTHER
    in_order = _in_one_order(order, *rows)
    if in_order is False or (not members and _a_row_differs(*plain)):
        return Verdict.OTHER
    return Verdict.SAME if members and in_order else Verdict.UNDECIDED


def _in_one_order(order: _Order, mine: Sequence[Any], other: Sequence[Any]) -> bool | None:
    """Whether both are ordered alike, as far as the query says; None if it cannot be told."""
    if order.by is None:
        return None
    places = _places(mine, order.by), _places(other, order.by)
    return None if None in places else same(*places)


def _verdict(*, alike: bool) -> Verdict:
    return Verdict.SAME if alike else Verdict.OTHER


def _same_members(mine: Sequence[Any], other: Sequence[Any]) -> bool:
    return same(sorted(mine, key=repr), sorted(other, key=repr))


def _places(rows: Iterable[Any], by: Sequence[str]) -> list[Any] | None:
    """What the rows are ordered by; None if they do not say."""
    if not by:
        return []
    if not all(isinstance(row, Model) and set(by) <= row.__dict__.keys() for row in rows):
        return None
    return [[row.__dict__[name] for name in by] for row in rows]


def _a_row_differs(mine: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether a row of both answers has other contents."""
    known = {row.key: row for row in mine if isinstance(row, _Row)}
    both = [row for row in other if isinstance(row, _Row) and row.key in known]
    return any(not same(known[row.key].parts, row.parts) for row in both)


# Order. -------------------------------------------------------------------------------------------


def _order_of(plan: AnyPlan) -> _Order | None:
    if not isinstance(plan, QueryPlan):
        return None
    query = plan.query.queryset().query if _is_queryset(plan) else None
    methods = {method for method, _, _ in plan.query.steps}
    chosen = any(method == "distinct" and args for method, args, _ in plan.query.steps)
    limited = plan.operation in _ONE or "[]" in methods or chosen or query is None
    if query is None:
        return _Order(total=False, by=None, limited=limited)
    fields = _ordering(plan, query)
    names = [_attribute(query.model, field) for field in fields]
    total = not query.combinator and any(
        name is not None and _is_unique(query.model, name) for name in names
    )
    known = None if None in names else tuple(name for name in names if name is not None)
    return _Order(total=total, by=known, limited=limited)


def _is_queryset(plan: QueryPlan) -> bool:
    """A slice with a step has become a list."""
    return plan.query.shows_every_row()


def _ordering(plan: QueryPlan, query: Any) -> Sequence[Any]:
    if plan.operation in ("latest", "earliest"):
        by: Any = plan.args or query.model._meta.get_latest_by or ()
        return (by,) if isinstance(by, str) else tuple(by)
    given: tuple[Any, ...] = (*query.extra_order_by, *query.order_by)
    if not given and query.default_ordering and query.group_by is None:
        given = tuple(query.get_meta().ordering)
    return given or (("pk",) if plan.operation in ("first", "last") else ())


def _attribute(model: Any, field: Any) -> str | None:
    """The attribute that a row is ordered by; None if it is no column of its own."""
    if not isinstance(field, str):
        return None
    name = field.lstrip("-+")
    try:
        found = model._meta.pk if name == "pk" else model._meta.get_field(name)
    except FieldDoesNotExist:
        return None
    attname: str | None = getattr(found, "attname", None)
    related = found.is_relation and name not in ("pk", attname)
    return None if related or not getattr(found, "concrete", False) else attname


def _is_unique(model: Any, attname: str) -> bool:
    field = next(field for field in model._meta.concrete_fields if field.attname == attname)
    return bool(field.unique and not field.null)


# Plain data. --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    """An instance as plain data."""

    key: tuple[str, Any]
    parts: dict[str, Any]


def _plain(value: Any, within: tuple[int, ...] = (), *, loose: bool = False) -> Any:
    """`value` as plain data: of an instance all that is in it and attached to it."""
    if isinstance(value, Model):
        return _row(value, within)
    if isinstance(value, dict):
        return {key: _plain(part, within, loose=loose) for key, part in value.items()}
    if isinstance(value, QuerySet) or type(value) is list:
        made = [_plain(part, within, loose=loose) for part in value]
        attached = within and made and all(isinstance(part, _Row) for part in made)
        return sorted(made, key=repr) if attached else made
    if loose and type(value) is float:
        return float(f"{value:.10g}")
    return value


def _row(value: Model, within: tuple[int, ...]) -> _Row:
    key = (value._meta.label, value.pk)
    if id(value) in within:  # a prefetched row knows the one it belongs to
        return _Row(key, {})
    within = (*within, id(value))
    held = {name: part for name, part in vars(value).items() if name != "_state"}
    parts = {**held, **value._state.fields_cache}
    return _Row(key, {name: _plain(part, within) for name, part in parts.items()})


# What a person is shown. --------------------------------------------------------------------------


def difference(cached: Any, now: Any) -> tuple[str, str]:
    """What each of the two says where they differ, in a line."""
    mine, other = _plain(cached), _plain(now)
    rows = [*_rows_of(mine), *_rows_of(other)]
    if rows and all(isinstance(row, _Row) for row in rows):
        pair = (_rows_of(mine), _rows_of(other))
        return _rows_said(*pair), _rows_said(*reversed(pair))
    return shortened(_said(mine)), shortened(_said(other))


def _rows_of(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else [value]


def _rows_said(mine: Sequence[Any], other: Sequence[Any]) -> str:
    known = {row.key: row for row in other if isinstance(row, _Row)}
    told = [text for row in mine if isinstance(row, _Row) and (text := _row_said(row, known)) != ""]
    if not told:
        return f"{len(mine)} rows, in another order" if len(mine) == len(other) else "no such row"
    more = f", and {len(told) - SHOWN_ROWS} more" if len(told) > SHOWN_ROWS else ""
    return shortened("; ".join(told[:SHOWN_ROWS])) + more


def _row_said(row: _Row, known: Mapping[Any, _Row]) -> str:
    """What is different in a row; nothing if nothing is."""
    name = f"{row.key[0]} {row.key[1]}"
    other = known.get(row.key)
    if other is None:
        return name
    changed = {
        part: value
        for part, value in row.parts.items()
        if part not in other.parts or not same(value, other.parts[part])
    }
    told = [f"{part}={_part_said(value, other.parts.get(part))}" for part, value in changed.items()]
    return f"{name}: {', '.join(told)}" if told else ""


def _part_said(value: Any, other: Any) -> str:
    if isinstance(value, _Row) and isinstance(other, _Row) and value.key == other.key:
        return f"({_row_said(value, {other.key: other})})"
    return _said(value)


def _said(value: Any) -> str:
    if isinstance(value, _Row):
        return f"{value.key[0]} {value.key[1]}"
    if isinstance(value, list):
        return "no row" if not value else f"[{', '.join(map(_said, value[:10]))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_said(part)}" for key, part in value.items()) + "}"
    return repr(value)


def shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_LETTERS else f"{text[: SHOWN_LETTERS - 3]}..."
