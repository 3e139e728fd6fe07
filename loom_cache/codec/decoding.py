"""Bytes -> model instances, and what they are tied to."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Sized
from functools import lru_cache
from typing import Any, Final

import msgspec
from django.db import connections
from django.db.models import Model, Prefetch, QuerySet

from loom_cache.codec.columns import Row, column_decoder, columns_of_text
from loom_cache.codec.fetching import from_db_of
from loom_cache.codec.layout import (
    ATTRIBUTE,
    ATTRIBUTES,
    LONGEST_REMEMBERED,
    PREFETCHED,
    RELATED,
    Entry,
    GroupHeader,
    Link,
)
from loom_cache.codec.prefetching import filled, related_queryset
from loom_cache.codec.relations import may_hold, prefetchable, related_model
from loom_cache.codec.shapes import field_of, registered, shape_of
from loom_cache.codec.texts import reader_of
from loom_cache.codec.values import CorruptEntry


class _Reader:
    """Makes the instances of one group."""

    __slots__ = (
        "_attnames",
        "_count",
        "_database",
        "_extras",
        "_from_db",
        "_label",
        "_prefetching",
        "_read",
        "model",
    )

    def __init__(self, header: GroupHeader) -> None:
        model = registered(header.label)
        if model is None:
            raise ValueError(f"there is no model {header.label!r}")
        shape = shape_of(model)
        if header.fingerprint != shape.fingerprint:
            raise ValueError(f"the fields of {header.label} have changed")
        if header.database is not None and header.database not in connections.settings:
            raise ValueError(f"there is no database {header.database!r}")
        attnames = shape.attnames if header.attnames is None else tuple(header.attnames)
        _check_names(header, attnames, shape.attnames)
        if not all(may_hold(model, name) for name in header.extras):
            raise ValueError("its further attributes have names of the model's own")
        self.model = model
        self._label = shape.label
        self._attnames = attnames
        self._count = len(attnames)
        self._database = header.database
        self._extras = tuple(header.extras)
        self._prefetching = header.prefetching
        self._read = _read_by_fields(model, attnames, header.spec)
        self._from_db = from_db_of(model, header.fetch_mode)

    def lacks(self, attnames: Collection[str]) -> bool:
        """Whether one of these fields is not loaded: looking at it would run a query."""
        return not set(self._attnames).issuperset(attnames)

    def instances(self, data: msgspec.Raw) -> list[Any]:
        if registered(self._label) is not self.model:
            raise ValueError(f"the model {self._label} is another one now")
        rows = self._read(data)
        if not self._extras and not self._prefetching:
            return self._bare(rows)
        count = self._count
        instances = self._bare([row[:count] for row in rows])
        for instance, row in zip(instances, rows, strict=True):
            attributes = instance.__dict__
            attributes.update(zip(self._extras, row[count:], strict=True))
            if self._prefetching:
                attributes["_prefetched_objects_cache"] = {}
        return instances

    def _bare(self, rows: Iterable[Row]) -> list[Any]:
        from_db, database, attnames = self._from_db, self._database, list(self._attnames)
        try:
            return [from_db(database, attnames, row) for row in rows]
        except Exception as error:  # the project's own code, given what was stored: a miss
            raise CorruptEntry(
                f"{self._label} cannot be made from stored values: {type(error).__name__} in its "
                f"from_db, __init__ or a receiver of post_init."
            ) from error


def _check_names(header: GroupHeader, attnames: tuple[str, ...], known: tuple[str, ...]) -> None:
    remaining = iter(known)
    if not all(name in remaining for name in attnames):  # a subsequence
        raise ValueError("its fields are not those of the model")
    if len(header.spec) != len(attnames) + len(header.extras):
        raise ValueError("its columns are not those of the model")


def _read_by_fields(
    model: type[Model], attnames: Sequence[str], spec: str
) -> Callable[[Any], list[Row]]:
    """The decoder of the columns, some of which only their field can read."""
    read = column_decoder(spec)
    indexes = columns_of_text(spec)
    if not indexes:
        return read
    if indexes[-1] >= len(attnames):
        raise ValueError("a column that is no field's is written by one")
    readers = [(index, reader_of(field_of(model, attnames[index]))) for index in indexes]
    return lambda data: [_by_fields(row, readers) for row in read(data)]


def _by_fields(row: Row, readers: Iterable[tuple[int, Callable[[Any], Any]]]) -> Row:
    values = list(row)
    for index, reader in readers:
        try:
            values[index] = reader(values[index])
        except Exception as error:  # likewise
            raise CorruptEntry(
                f"{type(error).__name__} in the to_python of the field that wrote a stored value."
            ) from error
    return tuple(values)


_decode_header: Final = msgspec.msgpack.Decoder(GroupHeader).decode


@lru_cache(maxsize=1024)
def _reader(header: bytes) -> _Reader:
    return _Reader(_decode_header(header))


def _reader_of(header: bytes) -> _Reader:
    if len(header) > LONGEST_REMEMBERED:
        return _Reader(_decode_header(header))
    return _reader(header)


def decode_instances(entry: Entry, model: type[Model]) -> list[Any]:
    """The instances of the only group, which have nothing to do with each other."""
    reader = _reader_of(entry.header)
    _check_model(reader.model, model)
    return reader.instances(entry.rows)


def _check_model(found: type[Model], wanted: type[Model]) -> None:
    if not issubclass(found, wanted):
        raise ValueError(f"it holds {found._meta.label}, not {wanted._meta.label}")


def decode_graph(
    entry: Entry, prefetches: Mapping[str, Prefetch[Any]], model: type[Model]
) -> list[Any]:
    """The instances of the answer, tied together as they were."""
    graph = entry.graph
    if graph is None:
        raise ValueError("it has no graph")
    readers = [_reader_of(entry.header), *(_reader_of(header) for header, _rows in graph.more)]
    if graph.roots is None:
        _check_model(readers[0].model, model)
    stored = [entry.rows, *(rows for _header, rows in graph.more)]
    groups = [reader.instances(rows) for reader, rows in zip(readers, stored, strict=True)]
    everyone = [instance for group in groups for instance in group]
    if graph.roots is None:
        roots = groups[0]
    else:
        roots = [everyone[number] for number in graph.roots]
        for kind in set(map(type, roots)):
            _check_model(kind, model)
    lists = [[everyone[number] for number in members] for members in graph.lists]
    _check_links(graph.links, groups)
    for link in graph.links:
        _tie(link, readers[link.group], groups[link.group], everyone, lists, prefetches)
    for members, known in graph.peers:
        _make_peers([everyone[number] for number in members], [everyone[n] for n in known])
    return roots


def _check_links(links: Iterable[Link], groups: Sequence[Sized]) -> None:
    """An instance is tied once under a name: else a few bytes could cost a queryset each."""
    tied: Counter[tuple[int, int, str]] = Counter()
    for link in links:
        if link.rows is not None and len(set(link.rows)) < len(link.rows):
            raise ValueError("an instance is tied twice to the same")
        place = (link.group, link.kind, link.name)
        tied[place] += len(link.targets)
        if tied[place] > len(groups[link.group]):
            raise ValueError("instances are tied twice to the same")


def _tie(
    link: Link,
    reader: _Reader,
    group: list[Any],
    everyone: list[Any],
    lists: list[list[Any]],
    prefetches: Mapping[str, Prefetch[Any]],
) -> None:
    members = group if link.rows is None else [group[row] for row in link.rows]
    pool = everyone if link.kind in (RELATED, ATTRIBUTE) else lists
    targets = [None if number is None else pool[number] for number in link.targets]
    if link.kind == PREFETCHED:
        _tie_prefetched(link, reader, members, targets, prefetches)
    elif link.kind == RELATED:
        _tie_related(reader.model, link.name, members, targets)
    elif link.kind in ATTRIBUTES and may_hold(reader.model, link.name):
        for member, target in zip(members, targets, strict=True):
            member.__dict__[link.name] = target
    else:
        raise ValueError("instances are tied in an unknown way")


def _tie_related(model: type[Model], name: str, members: list[Any], targets: list[Any]) -> None:
    _check_targets(targets, related_model(model, name))
    for member, target in zip(members, targets, strict=True):
        member._state.fields_cache[name] = target


def _check_targets(targets: Iterable[Any], model: type[Model]) -> None:
    for kind in set(map(type, targets)) - {type(None)}:
        _check_model(kind, model)


def _tie_prefetched(
    link: Link,
    reader: _Reader,
    members: list[Any],
    targets: list[Any],
    prefetches: Mapping[str, Prefetch[Any]],
) -> None:
    prefetch = None if link.path is None else prefetches[link.path]
    relation = prefetchable(reader.model, link.name)
    if reader.lacks(relation.needs):
        raise ValueError("what tells the prefetched objects is not loaded")
    for member, target in zip(members, targets, strict=True):
        if target is None:
            raise ValueError("a prefetched list is missing")
        _check_targets(target, relation.model)
        queryset = _queryset_of(member, relation.accessor, prefetch)
        member.__dict__["_prefetched_objects_cache"][link.name] = filled(queryset, target)


def _queryset_of(member: Any, accessor: str, prefetch: Prefetch[Any] | None) -> QuerySet[Any]:
    try:
        return related_queryset(member, accessor, prefetch)
    except Exception as error:  # likewise
        raise CorruptEntry(
            f"{type(error).__name__} in the manager that stored objects were prefetched by."
        ) from error


def _make_peers(members: list[Any], known: list[Any]) -> None:
    peers = [weakref.ref(instance) for instance in known]
    for member in members:
        member._state.peers = peers
