"""Model instances, and what they are tied to, -> bytes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter
from typing import Any, Final, cast

import msgspec
from django.db.models import Model
from django.db.models.base import ModelState
from django.db.models.query import QuerySet

from loom_cache.codec.columns import NOTHING, encode_columns
from loom_cache.codec.fetching import mode_number
from loom_cache.codec.layout import (
    ATTRIBUTE,
    ATTRIBUTE_LIST,
    GRAPH,
    INSTANCES,
    PREFETCHED,
    RELATED,
    Entry,
    Graph,
    GroupHeader,
    Link,
)
from loom_cache.codec.prefetching import is_own_query
from loom_cache.codec.rebuilding import made_by_itself
from loom_cache.codec.shapes import Shape, accessor_of, raw_file_name, registered, shape_of
from loom_cache.codec.values import VERSION, pack_bytes
from loom_cache.exceptions import UnsupportedValue

_STATE: Final = "_state"
_PREFETCHES: Final = "_prefetched_objects_cache"
_KNOWN_STATE: Final = frozenset(("db", "adding", "fields_cache", "fetch_mode", "peers"))
_ATTRIBUTES: Final = (ATTRIBUTE, ATTRIBUTE_LIST)


@dataclass(slots=True, eq=False)
class _Links:
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
class _Group:
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
    links: dict[tuple[int, str, str | None], _Links] = field(default_factory=dict)
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
        linked = {links.name for links in self.links.values() if links.kind in _ATTRIBUTES}
        return [name for name in self.extras if name not in made and name not in linked]

    def link(self, kind: int, name: str, path: str | None) -> _Links:
        links = self.links.get((kind, name, path))
        if links is None:
            links = self.links[kind, name, path] = _Links(kind, name, path)
        return links


class _Encoder:
    def __init__(self, custom_prefetches: Collection[str]) -> None:
        self.custom = custom_prefetches
        self.groups: dict[Any, _Group] = {}
        self.places: dict[int, tuple[_Group, int]] = {}  # by id() of an instance
        self.waiting: list[tuple[Model, _Group, int, str]] = []
        self.lists: dict[int, tuple[int, list[Model]]] = {}  # by id() of a list of instances
        self.peers: dict[int, tuple[list[Any], list[Model]]] = {}  # by id() of a list of peers

    def encode(self, roots: Sequence[Model]) -> bytes:
        for root in roots:
            self._place(root, "")
        self._follow()
        groups = list(self.groups.values())
        for group in groups:
            self._complete_attributes(group)
        for before, group in pairwise(groups):
            group.first = before.first + len(before.members)
        encoded = [_encode_group(group) for group in groups]
        header, rows = encoded[0]
        graph = self._graph(roots, groups, encoded[1:])
        kind = INSTANCES if graph is None else GRAPH
        return pack_bytes(Entry(VERSION, kind, header, rows, graph))

    def _place(self, instance: Any, path: str) -> None:
        """Give the instance a place in a group, once."""
        if id(instance) in self.places:
            return
        if not _is_instance(instance):
            raise UnsupportedValue(
                f"The answer holds a {type(instance).__qualname__} where a model instance is "
                f"expected; read it without the cache."
            )
        attributes = instance.__dict__
        state = attributes[_STATE].__dict__
        key = (type(instance), state.get("db"), id(state.get("fetch_mode")), tuple(attributes))
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = _new_group(instance)
        _check_state(instance)
        row = group.add(instance)
        self.places[id(instance)] = (group, row)
        if group.extras or group.prefetching or state.get("fields_cache") or "peers" in state:
            self.waiting.append((instance, group, row, path))

    def _follow(self) -> None:
        """Place whatever can be reached from the instances that are placed already."""
        position = 0
        while position < len(self.waiting):
            instance, group, row, path = self.waiting[position]
            position += 1
            self._follow_related(instance, group, row, path)
            self._follow_prefetched(instance, group, row, path)
            self._follow_attributes(instance, group, row, path)

    def _follow_related(self, instance: Model, group: _Group, row: int, path: str) -> None:
        state = instance._state.__dict__
        for name, target in state.get("fields_cache", {}).items():
            group.link(RELATED, name, None).add(row, target)
            if target is not None:
                self._place(target, _join(path, name))
        peers = state.get("peers")
        if peers is not None:
            self.peers.setdefault(id(peers), (peers, []))[1].append(instance)

    def _follow_prefetched(self, instance: Model, group: _Group, row: int, path: str) -> None:
        if not group.prefetching:
            return
        for name, queryset in instance.__dict__[_PREFETCHES].items():
            accessor = accessor_of(type(instance), name)
            here = _join(path, accessor)
            result = getattr(queryset, "_result_cache", None)
            if not isinstance(queryset, QuerySet) or result is None:
                raise UnsupportedValue(
                    f"{group.shape.label}.{accessor} was prefetched as something else than a "
                    f"queryset with its result; prefetch it with Prefetch(..., to_attr=...)."
                )
            custom = here if here in self.custom else None
            links = group.link(PREFETCHED, name, custom)
            if not links.rows and custom is None and not is_own_query(instance, accessor, queryset):
                raise UnsupportedValue(
                    f"{group.shape.label}.{accessor} was prefetched with a queryset of its own, "
                    f"which the cache does not know; give it a to_attr, as in "
                    f'Prefetch({here!r}, queryset, to_attr="...").'
                )
            links.add(row, self._list(result, here))

    def _follow_attributes(self, instance: Model, group: _Group, row: int, path: str) -> None:
        made: Collection[str] = () if group.is_plain else group.made[row]
        for name in group.extras:
            if name in made:
                continue
            value = instance.__dict__[name]
            if _is_instance(value):
                group.link(ATTRIBUTE, name, None).add(row, value)
                self._place(value, _join(path, name))
            elif type(value) is list and value and _is_instance(value[0]):
                group.link(ATTRIBUTE_LIST, name, None).add(
                    row, self._list(value, _join(path, name))
                )

    def _complete_attributes(self, group: _Group) -> None:
        """An attribute that holds instances in some rows holds none, or no list, in the others."""
        attributes = [links for links in group.links.values() if links.kind in _ATTRIBUTES]
        for name in {links.name for links in attributes}:
            linked = {row for links in attributes if links.name == name for row in links.rows}
            for row, member in enumerate(group.members):
                if row not in linked:
                    self._link_nothing(group, name, row, member.__dict__[name])

    def _link_nothing(self, group: _Group, name: str, row: int, value: object) -> None:
        if value is None:
            group.link(ATTRIBUTE, name, None).add(row, None)
        elif type(value) is list and not value:
            group.link(ATTRIBUTE_LIST, name, None).add(row, self._list(value, ""))
        else:
            raise UnsupportedValue(
                f"{group.shape.label}.{name} holds model instances in some rows and a "
                f"{type(value).__qualname__} in others; read it without the cache."
            )

    def _list(self, members: list[Model], path: str) -> int:
        """The number of a list of instances. (Owners that share one go on sharing it.)"""
        known = self.lists.get(id(members))
        if known is not None:
            return known[0]
        number = len(self.lists)
        self.lists[id(members)] = (number, members)
        for member in members:
            self._place(member, path)
        return number

    def _number(self, instance: Model) -> int:
        group, row = self.places[id(instance)]
        return group.first + row

    def _numbers(self, instances: Sequence[Model]) -> list[int]:
        return [self._number(instance) for instance in instances]

    def _graph(
        self,
        roots: Sequence[Model],
        groups: Sequence[_Group],
        more: list[tuple[bytes, msgspec.Raw]],
    ) -> Graph | None:
        numbers: list[int] | None = self._numbers(roots)
        if numbers == list(range(len(groups[0].members))):
            numbers = None
        links = list(self._emit_links(groups))
        if numbers is None and not (more or links or self.peers):
            return None
        lists = [self._numbers(members) for _number, members in self.lists.values()]
        return Graph(numbers, more, links, lists, list(self._emit_peers()))

    def _emit_links(self, groups: Sequence[_Group]) -> Iterator[Link]:
        for index, group in enumerate(groups):
            for links in group.links.values():
                pairs = sorted(zip(links.rows, links.targets, strict=True), key=itemgetter(0))
                targets = [target for _row, target in pairs]
                if links.kind in (RELATED, ATTRIBUTE):
                    targets = [None if at is None else self._number(at) for at in targets]
                everyone = len(pairs) == len(group.members)
                rows = None if everyone else [row for row, _target in pairs]
                yield Link(index, links.kind, links.name, links.path, rows, targets)

    def _emit_peers(self) -> Iterator[tuple[list[int], list[int]]]:
        for peers, members in self.peers.values():
            alive = (reference() for reference in peers)
            known = [peer for peer in alive if id(peer) in self.places]
            yield self._numbers(members), self._numbers(known)


def _is_instance(value: object) -> bool:
    """Without loading a lazy object, which isinstance() would do."""
    return issubclass(type(value), Model)


def _join(path: str, name: str) -> str:
    return f"{path}__{name}" if path else name


def _new_group(instance: Model) -> _Group:
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
    others = {*attnames, _STATE, _PREFETCHES}
    return _Group(
        shape=shape,
        database=state.db,
        fetch_mode=fetch_mode,
        attnames=attnames,
        extras=tuple(name for name in names if name not in others),
        prefetching=_PREFETCHES in names,
        is_plain=shape.is_plain,
    )


def _check_state(instance: Model) -> None:
    state = instance._state.__dict__
    if state.get("adding", True) or not _KNOWN_STATE.issuperset(state):
        raise UnsupportedValue(
            f"The answer holds a {type(instance)._meta.label} that was not read from the database "
            f"as it is, which the cache cannot give back; save it, or leave it out."
        )


def _encode_group(group: _Group) -> tuple[bytes, msgspec.Raw]:
    shape = group.shape
    extras = tuple(group.stored_extras())
    rows = group.values
    if extras:
        rows = [
            (*row, *[member.__dict__[name] for name in extras])
            for row, member in zip(rows, group.members, strict=True)
        ]
    names, hints = _columns(shape, group.attnames, extras)
    spec, data = encode_columns(rows, names, hints)
    attnames = None if group.attnames == shape.attnames else group.attnames
    header = _header(
        shape, group.database, group.fetch_mode, attnames, extras, group.prefetching, spec
    )
    return header, msgspec.Raw(data)


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


def encode_instances(roots: Sequence[object], custom_prefetches: Collection[str]) -> bytes:
    """UnsupportedValue for what could not be given back exactly."""
    return _Encoder(custom_prefetches).encode(cast(Sequence[Model], roots))
