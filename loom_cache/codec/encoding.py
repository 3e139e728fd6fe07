"""Model instances, and what they are tied to, -> bytes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any, cast

import msgspec
from django.db.models import Model
from django.db.models.query import QuerySet

from loom_cache.codec.groups import (
    PREFETCHES,
    Group,
    check_state,
    encode_group,
    kind_of,
    new_group,
)
from loom_cache.codec.layout import (
    ATTRIBUTE,
    ATTRIBUTE_LIST,
    ATTRIBUTES,
    GRAPH,
    INSTANCES,
    PREFETCHED,
    RELATED,
    Entry,
    Graph,
    Link,
)
from loom_cache.codec.prefetching import is_own_query
from loom_cache.codec.relations import accessor_of
from loom_cache.codec.values import VERSION, pack_bytes
from loom_cache.exceptions import UnsupportedValue


class _Encoder:
    def __init__(self, custom_prefetches: Collection[str]) -> None:
        self.custom = custom_prefetches
        self.groups: dict[Any, Group] = {}
        self.places: dict[int, tuple[Group, int]] = {}  # by id() of an instance
        self.waiting: list[tuple[Model, Group, int, str]] = []
        self.lists: dict[int, tuple[int, list[Model]]] = {}  # by id() of a list of instances
        self.own: dict[tuple[type[Model], str], bool] = {}  # by model and path of a prefetch
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
        encoded = [encode_group(group) for group in groups]
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
        state = instance._state.__dict__
        key = kind_of(instance)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = new_group(instance)
        check_state(instance)
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

    def _follow_related(self, instance: Model, group: Group, row: int, path: str) -> None:
        state = instance._state.__dict__
        for name, target in state.get("fields_cache", {}).items():
            group.link(RELATED, name, None).add(row, target)
            if target is not None:
                self._place(target, _join(path, name))
        peers = state.get("peers")
        if peers is not None:
            self.peers.setdefault(id(peers), (peers, []))[1].append(instance)

    def _follow_prefetched(self, instance: Model, group: Group, row: int, path: str) -> None:
        if not group.prefetching:
            return
        for name, queryset in instance.__dict__[PREFETCHES].items():
            accessor = accessor_of(type(instance), name)
            here = _join(path, accessor)
            result = getattr(queryset, "_result_cache", None)
            if not isinstance(queryset, QuerySet) or result is None:
                raise UnsupportedValue(
                    f"{group.shape.label}.{accessor} was prefetched as something else than a "
                    f"queryset with its result; prefetch it with Prefetch(..., to_attr=...)."
                )
            own = self.own.get((type(instance), here))
            if own is None:
                own = self._is_own(instance, accessor, queryset, here)
                self.own[type(instance), here] = own
            links = group.link(PREFETCHED, name, None if own else here)
            links.add(row, self._list(result, here))

    def _is_own(self, instance: Model, accessor: str, queryset: QuerySet[Any], path: str) -> bool:
        """Whether the manager makes that queryset by itself. (One lookup fills one path.)"""
        own = is_own_query(instance, accessor, queryset)
        if not own and path not in self.custom:
            raise UnsupportedValue(
                f"{instance._meta.label}.{accessor} was prefetched with a queryset of its own, "
                f"which the cache does not know; give it a to_attr, as in "
                f'Prefetch({path!r}, queryset, to_attr="...").'
            )
        return own

    def _follow_attributes(self, instance: Model, group: Group, row: int, path: str) -> None:
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

    def _complete_attributes(self, group: Group) -> None:
        """An attribute that holds instances in some rows holds none, or no list, in the others."""
        attributes = [links for links in group.links.values() if links.kind in ATTRIBUTES]
        for name in {links.name for links in attributes}:
            linked = {row for links in attributes if links.name == name for row in links.rows}
            for row, member in enumerate(group.members):
                if row not in linked:
                    self._link_nothing(group, name, row, member.__dict__[name])

    def _link_nothing(self, group: Group, name: str, row: int, value: object) -> None:
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
        groups: Sequence[Group],
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

    def _emit_links(self, groups: Sequence[Group]) -> Iterator[Link]:
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


def encode_instances(roots: Sequence[object], custom_prefetches: Collection[str]) -> bytes:
    """UnsupportedValue for what could not be given back exactly."""
    return _Encoder(custom_prefetches).encode(cast(Sequence[Model], roots))
