"""Instances that are alike, stored together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Final

import msgspec
from django.db.models import Model
from django.db.models.base import ModelState

from loom_cache.codec.columns import NOTHING, encode_columns
from loom_cache.codec.fetching import mode_number
from loom_cache.codec.layout import ATTRIBUTES, GroupHeader
from loom_cache.codec.rebuilding import made_by_itself
from loom_cache.codec.relations import may_hold
from loom_cache.codec.shapes import Shape, field_of, raw_file_name, registered, shape_of
from loom_cache.codec.texts import texts_of
from loom_cache.codec.values import pack_bytes
from loom_cache.exceptions import UnsupportedValue

_STATE: Final = "_state"
PREFETCHES: Final = "_prefetched_objects_cache"
_KNOWN_STATE: Final = frozenset(("db", "adding", "fields_cache", "fetch_mode", "peers"))


def kind_of(instance: Model) -> tuple[Any, ...]:
    """Equal for instances that are stored in one group."""
    attributes = instance.__dict__
    state = attributes[_STATE].__dict__
    return (type(instance), state.get("db"), id(state.get("fetch_mode")), tuple(attributes))


@dataclass(slots=True, eq=False)
class Links:
    """Of one group, under one name."""

    kind: int
    name: str
    path: str | None
    rows: list[int] = field(default_factory=list)
    targets: list[Any] = field(default_factory=list)

    def add(self, row: int, target: Any) -> None:
        self.rows.append(row)
        self.targets.append(target)


@dataclass(slots=True, eq=False)
class Group:
    """Instances of one model that have the same attributes and the same database."""

    shape: Shape
    database: str | None
    fetch_mode: int
    attnames: tuple[str, ...]
    extras: tuple[str, ...]
    prefetching: bool
    is_plain: bool
    members: list[Model] = field(default_factory=list)
    values: list[tuple[Any, ...]] = field(default_factory=list)
    """Of the loaded fields, for each member."""
    made: list[set[str]] = field(default_factory=list)
    """For each member, the further attributes that it gives itself; empty for plain models."""
    links: dict[tuple[int, str, str | None], Links] = field(default_factory=dict)
    first: int = 0
    """The number of the first member in the whole answer."""

    def add(self, instance: Model) -> int:
        """The row that the instance has from now on."""
        row = len(self.members)
        values = self._loaded(instance)
        self.members.append(instance)
        self.values.append(values)
        if not self.is_plain:
            made = made_by_itself(self.shape, self.fetch_mode, self.attnames, instance, values)
            self.made.append(made)
        return row

    def _loaded(self, instance: Model) -> tuple[Any, ...]:
        attributes, files = instance.__dict__, self.shape.files
        if not files:
            return tuple([attributes[name] for name in self.attnames])
        return tuple(
            [
                raw_file_name(attributes[name]) if name in files else attributes[name]
                for name in self.attnames
            ]
        )

    def stored_extras(self) -> list[str]:
        """The further attributes that hold data, and do not come by themselves in every row."""
        made = set.intersection(*self.made) if self.made else ()
        linked = {links.name for links in self.links.values() if links.kind in ATTRIBUTES}
        return [name for name in self.extras if name not in made and name not in linked]

    def link(self, kind: int, name: str, path: str | None) -> Links:
        links = self.links.get((kind, name, path))
        if links is None:
            links = self.links[kind, name, path] = Links(kind, name, path)
        return links


def new_group(instance: Model) -> Group:
    model = type(instance)
    shape = shape_of(model)
    if registered(shape.label) is not model:
        raise UnsupportedValue(
            f"The model {model._meta.label} is not the one that Django's app registry has under "
            f"that name, so that its rows could not be given back; read it without the cache."
        )
    names = instance.__dict__
    state = instance._state
    fetch_mode = mode_number(state.__dict__)
    if type(state) is not ModelState or fetch_mode is None:
        raise UnsupportedValue(
            f"{model._meta.label} has a state or a fetch mode that is not Django's own, which the "
            f"cache cannot give back; read it without the cache."
        )
    attnames = tuple(attname for attname in shape.attnames if attname in names)
    others = {*attnames, _STATE, PREFETCHES}
    return Group(
        shape=shape,
        database=state.db,
        fetch_mode=fetch_mode,
        attnames=attnames,
        extras=tuple(name for name in names if name not in others),
        prefetching=PREFETCHES in names,
        is_plain=shape.is_plain,
    )


def check_state(instance: Model) -> None:
    state = instance._state.__dict__
    if state.get("adding", True) or not _KNOWN_STATE.issuperset(state):
        raise UnsupportedValue(
            f"The answer holds a {type(instance)._meta.label} that was not read from the database "
            f"as it is, which the cache cannot give back; save it, or leave it out."
        )


def encode_group(group: Group) -> tuple[bytes, msgspec.Raw]:
    shape = group.shape
    extras = tuple(group.stored_extras())
    _check_attributes(group, extras)
    rows = group.values
    if extras:
        rows = [
            (*row, *[member.__dict__[name] for name in extras])
            for row, member in zip(rows, group.members, strict=True)
        ]
    names, hints = _columns(shape, group.attnames, extras)
    spec, data = encode_columns(rows, names, hints, partial(_written_by_field, group))
    attnames = None if group.attnames == shape.attnames else group.attnames
    header = _header(
        shape, group.database, group.fetch_mode, attnames, extras, group.prefetching, spec
    )
    return header, msgspec.Raw(data)


def _check_attributes(group: Group, extras: Sequence[str]) -> None:
    """Data never takes the place of what an instance does: such names are not read back."""
    linked = (links.name for links in group.links.values() if links.kind in ATTRIBUTES)
    for name in (*extras, *linked):
        if not may_hold(group.shape.model, name):
            raise UnsupportedValue(
                f"{group.shape.model._meta.label}.{name} belongs to the class, and the answer "
                f"holds something else under that name; give it another name."
            )


def _written_by_field(group: Group, index: int, column: Sequence[Any]) -> list[str | None] | None:
    if index >= len(group.attnames):
        return None  # an annotation
    return texts_of(field_of(group.shape.model, group.attnames[index]), column)


@lru_cache(maxsize=1024)
def _columns(
    shape: Shape, attnames: tuple[str, ...], extras: tuple[str, ...]
) -> tuple[list[str], str]:
    """What an error message calls the columns, and their hints."""
    names = [f"{shape.model._meta.label}.{name}" for name in (*attnames, *extras)]
    return names, "".join(shape.hints[name] for name in attnames) + NOTHING * len(extras)


@lru_cache(maxsize=1024)
def _header(
    shape: Shape,
    database: str | None,
    fetch_mode: int,
    attnames: tuple[str, ...] | None,
    extras: tuple[str, ...],
    prefetching: bool,
    spec: str,
) -> bytes:
    header = GroupHeader(
        label=shape.label,
        fingerprint=shape.fingerprint,
        database=database,
        fetch_mode=fetch_mode,
        attnames=None if attnames is None else list(attnames),
        extras=list(extras),
        prefetching=prefetching,
        spec=spec,
    )
    return pack_bytes(header)
