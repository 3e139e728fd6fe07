"""The tables of the app registry: what each is called in SQL, and which others hang on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache, cached_property
from typing import Any, TypeAlias
from uuid import UUID

from django.apps import apps
from django.core.exceptions import ValidationError
from django.core.signals import setting_changed
from django.db import models
from django.db.models.signals import class_prepared

from loom_cache import config
from loom_cache.clauses import UNKNOWN, Unknown
from loom_cache.combinations import Value

Model = type[models.Model]
Field: TypeAlias = "models.Field[Any, Any]"
Row = int | str | UUID
"""A primary key that can be told from another by its value alone."""


@dataclass
class Table:
    """One database table; several models (proxies, parents, unmanaged twins) may share it."""

    name: str
    models: list[Model] = field(default_factory=list)
    tied: set[str] = field(default_factory=set)
    """Tables joined to this one by a foreign key, in either direction."""
    dependents: set[str] = field(default_factory=set)
    """Tables whose foreign key points here."""
    database_cascades: set[str] = field(default_factory=set)
    """Those of them whose rows the database itself changes when a row here is deleted."""
    ignored: bool = False

    @property
    def pk(self) -> Field:
        return self.models[0]._meta.pk

    @cached_property
    def pk_column(self) -> str | None:
        """None of a key that is made of several columns."""
        column: object = self.pk.column
        return str(column).lower() if column else None

    def keeps_rows(self, assigned: Iterable[str]) -> bool:
        """Whether an UPDATE of these columns leaves every primary key alone."""
        keys = {
            str(column.column).lower()
            for model in self.models
            for column in getattr(model._meta, "pk_fields", (model._meta.pk,))
        }
        return keys.isdisjoint(assigned)

    def touched_by(self, assigned: Iterable[str]) -> frozenset[str] | None:
        """The columns that change as these are assigned, those computed by the database too; None
        where it cannot be told, since a column is not the models'."""
        columns = frozenset(assigned)
        return columns | self.generated if columns <= self.columns.keys() else None

    @property
    def has_one_key(self) -> bool:
        """Whether the primary key is the same column for all of its models."""
        return len({model._meta.pk.column for model in self.models}) == 1

    @cached_property
    def columns(self) -> Mapping[str, list[Field]]:
        """Its columns by name (lower-case) as its models see them."""
        found: dict[str, list[Field]] = {}
        for model in {model._meta.concrete_model: None for model in self.models}:
            for column in model._meta.local_concrete_fields if model is not None else ():
                found.setdefault(str(column.column).lower(), []).append(column)
        return found

    @cached_property
    def generated(self) -> frozenset[str]:
        """Columns that the database computes from the others."""
        return frozenset(
            name
            for name, fields in self.columns.items()
            if any(getattr(one, "generated", False) for one in fields)
        )

    def value(self, column: str, value: object, vendor: str) -> Value | Unknown:
        """`value` in the one form in which equal values of the column are equal; UNKNOWN where the
        database may find other values equal to it, or stores another than it is given."""
        fields = self.columns.get(column, ())
        kinds = {_kind(one, vendor) for one in fields}
        kind = kinds.pop() if len(kinds) == 1 else None
        if kind is None or len({one.column for one in fields}) > 1:  # "A" is not "a" everywhere
            return UNKNOWN
        if isinstance(value, str) and not all(_keeps_text(one, value, vendor) for one in fields):
            return UNKNOWN
        return None if value is None else _READERS[kind](value)

    def refers_to(self, column: str) -> str | None:
        """The table whose primary key the column certainly holds, wherever it holds one."""
        targets = {_target_of(one) for one in self.columns.get(column, ())}
        return targets.pop() if len(targets) == 1 else None

    def never_null(self, column: str) -> bool:
        return not any(one.null for one in self.columns.get(column, ()))

    def row(self, value: object, vendor: str) -> Row | None:
        """The row that `WHERE pk = value` names; None where equal values need not be the same
        text (a collation that folds case), the type is unknown, or another model of this table
        calls its rows by another key."""
        if not self.has_one_key:
            return None
        if not all(_compares_exactly(model._meta.pk, vendor) for model in self.models):
            return None
        return as_row(self.pk, value)


def as_row(pk: Field, value: object) -> Row | None:
    """`value` as the primary key's own Python type, or None if it is no row's key."""
    while isinstance(pk, models.ForeignKey):
        pk = pk.target_field
    if not type(pk).__module__.startswith("django.db.models."):
        return None  # a field of somebody's own may turn one value into another
    if not isinstance(value, int | str | bytes | Decimal | UUID) or isinstance(value, bool):
        return None  # an expression, an instance, a query: not a value
    try:
        row = pk.to_python(value)
    except (ValidationError, TypeError, ValueError, OverflowError):
        return None
    if type(row) is int:
        return row if abs(row) < 2**63 else None
    return row if type(row) in (str, UUID) else None


def _compares_exactly(pk: Field, vendor: str) -> bool:
    while isinstance(pk, models.ForeignKey):
        pk = pk.target_field
    if isinstance(pk, models.IntegerField | models.UUIDField):
        return True
    text = type(pk) in (models.CharField, models.SlugField)
    collation = getattr(pk, "db_collation", None)
    return text and collation is None and vendor in ("postgresql", "sqlite")


def _target_of(column: Field) -> str | None:
    if not isinstance(column, models.ForeignKey) or not getattr(column, "db_constraint", False):
        return None
    if not column.model._meta.managed:
        return None  # whoever made the table need not have given it the constraint
    return name_of(column.target_field.model) if column.target_field.primary_key else None


def _kind(column: Field, vendor: str) -> str | None:
    """How values of the column are compared; None where that is not by their bytes."""
    while isinstance(column, models.ForeignKey):
        column = column.target_field
    if not type(column).__module__.startswith("django.db.models."):
        return None
    for kind, base in _KINDS:
        if isinstance(column, base):
            return kind
    text = isinstance(column, models.CharField | models.TextField)
    exact = vendor in ("postgresql", "sqlite") and getattr(column, "db_collation", None) is None
    return "text" if text and exact else None


def _keeps_text(column: Field, value: str, vendor: str) -> bool:
    """Whether the text, written to the column, is stored as that and as nothing else: PostgreSQL
    cuts spaces that are too many, and a cast whatever is; where UUIDs are text each spelling is one
    of its own."""
    while isinstance(column, models.ForeignKey):
        column = column.target_field
    if isinstance(column, models.UUIDField):
        return vendor == "postgresql" or _is_hex_of_uuid(value)
    return column.max_length is None or len(value) <= column.max_length


def _is_hex_of_uuid(value: str) -> bool:
    try:
        return UUID(value).hex == value
    except ValueError:
        return False


_KINDS: tuple[tuple[str, type[Field]], ...] = (
    ("number", models.IntegerField),
    ("flag", models.BooleanField),
    ("uuid", models.UUIDField),
)


MOST_DIGITS = 20
"""No column of whole numbers holds more, and not every number that has more can be spelled."""


def _number(value: object) -> Value | Unknown:
    if isinstance(value, bool):
        return UNKNOWN  # a column that stands as a condition is any number but 0
    if isinstance(value, Decimal):
        held = value.is_finite() and value.adjusted() < MOST_DIGITS
        return int(value) if held and value == value.to_integral_value() else UNKNOWN
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        return int(value) if len(value) <= MOST_DIGITS else UNKNOWN
    if isinstance(value, int):
        return int(value) if abs(value) < 10**MOST_DIGITS else UNKNOWN
    return UNKNOWN


def _flag(value: object) -> Value | Unknown:
    return bool(value) if isinstance(value, int) and value in (0, 1) else UNKNOWN


def _uuid(value: object) -> Value | Unknown:
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value) if isinstance(value, str) else UNKNOWN
    except ValueError:
        return UNKNOWN


def _text(value: object) -> Value | Unknown:
    return str.__str__(value) if isinstance(value, str) else UNKNOWN


_READERS: Mapping[str, Callable[[object], Value | Unknown]] = {
    "number": _number,
    "flag": _flag,
    "uuid": _uuid,
    "text": _text,
}


def name_of(model: Model) -> str:
    """The table's name as SQL mentions it: lower-case, without a schema written into db_table."""
    return model._meta.db_table.rpartition('"."')[2].strip('"').lower()


@cache
def watched() -> Mapping[str, Table]:
    """Every table of the app registry by name, ignored ones included (they are marked)."""
    settings = config.current()
    ignored = {label.lower() for label in settings.ignore} if settings else set()
    found: dict[str, Table] = {}
    every = apps.get_models(include_auto_created=True, include_swapped=True)
    for model in every:
        table = found.setdefault(name_of(model), Table(name_of(model)))
        table.models.append(model)
        table.ignored = table.ignored or model._meta.label_lower in ignored
    for model in every:
        _tie(model, found)
    return found


def _tie(model: Model, found: dict[str, Table]) -> None:
    for relation in model._meta.local_fields:
        target = getattr(relation.remote_field, "model", None)
        if target is None or name_of(target) not in found:
            continue
        here, there = found[name_of(model)], found[name_of(target)]
        here.tied.add(there.name)
        there.tied.add(here.name)
        there.dependents.add(here.name)
        if _acts_in_database(relation):
            there.database_cascades.add(here.name)


def _acts_in_database(relation: Field) -> bool:
    """DB_CASCADE and its peers (Django 6.1): the database changes rows no statement names. Where
    Django does nothing the constraint may have been given an action of its own."""
    on_delete = getattr(relation.remote_field, "on_delete", None)
    names = ("DB_CASCADE", "DB_SET_NULL", "DB_SET_DEFAULT", "DO_NOTHING")
    acting = (getattr(models, name, None) for name in names)
    return on_delete is not None and any(on_delete is action for action in acting)


def swept(names: Iterable[str], *, all_keys: bool) -> set[str]:
    """Tables whose rows the database changes itself when rows of `names` are deleted,
    transitively; with `all_keys` (TRUNCATE ... CASCADE) along every foreign key."""
    known, seen, todo = watched(), set[str](), list(names)
    while todo:
        table = known.get(todo.pop())
        if table is None:
            continue
        reached = (table.dependents if all_keys else table.database_cascades) - seen
        seen |= reached
        todo.extend(reached)
    return seen


def among(names: Iterable[str]) -> set[str]:
    """Those of `names` that are tables of the registry and not ignored."""
    known = watched()
    return {name for name in names if name in known and not known[name].ignored}


def touched(names: Iterable[str], sources: Iterable[str]) -> set[str]:
    """The tables that statements touch which name `names`, `sources` among them where a table's
    name stands: those of the registry, and those that belong to no model."""
    known = watched()
    return among(names) | {name for name in sources if name not in known}


def touches_ignored(names: Iterable[str]) -> str | None:
    """The first of `names` that is an ignored table: its writes go unseen."""
    known = watched()
    return next((name for name in names if name in known and known[name].ignored), None)


@cache
def strict() -> frozenset[str]:
    """The tables of the models in STRICT: a read that starts after a COMMIT to one of them sees
    it, also when the writer was killed at that instant (leases.py)."""
    settings = config.current()
    labels = settings.strict if settings is not None else False
    every = among(watched())
    if isinstance(labels, bool):
        return frozenset(every if labels else ())
    known = (model for name in every for model in watched()[name].models)
    named = [model for model in known if model._meta.label_lower in labels]
    # A row of a multi-table child is one in each of its parents' tables, too.
    family = (one for model in named for one in (model, *model._meta.all_parents))
    return frozenset(every.intersection(map(name_of, family)))


@cache
def neighbours(name: str) -> frozenset[str]:
    """The table and those tied to it by a foreign key."""
    table = watched().get(name)
    return frozenset({name} | table.tied) if table else frozenset({name})


def forget(**_kwargs: object) -> None:
    """Read the registry anew at the next look (a model was added, IGNORE was changed)."""
    watched.cache_clear()
    strict.cache_clear()
    neighbours.cache_clear()


def _on_setting_changed(*, setting: str, **_kwargs: object) -> None:
    if setting in ("LOOM_CACHE", "INSTALLED_APPS"):
        forget()


class_prepared.connect(forget, dispatch_uid="loom_cache.tables")
setting_changed.connect(_on_setting_changed, dispatch_uid="loom_cache.tables")
