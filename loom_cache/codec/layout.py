"""The layout of stored rows: the structures that both directions share."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

Number = Annotated[int, msgspec.Meta(ge=0)]  # a negative index would count from the end

SCALARS: Final = "s"
TUPLES: Final = "t"
NAMED_TUPLES: Final = "n"
DICTS: Final = "d"
INSTANCES: Final = "m"  # of one kind, in order, unrelated
GRAPH: Final = "g"  # instances of several kinds, or tied to each other

LONGEST_REMEMBERED: Final = 4096
"""In bytes. What is made of longer headers is not remembered, so that memory stays bounded."""

RELATED: Final = 0  # _state.fields_cache[name] -> an instance or None
ATTRIBUTE: Final = 1  # the instance's attribute -> an instance or None
PREFETCHED: Final = 2  # _prefetched_objects_cache[name] -> a queryset with its result
ATTRIBUTE_LIST: Final = 3  # the instance's attribute -> a list of instances

ATTRIBUTES: Final = (ATTRIBUTE, ATTRIBUTE_LIST)


class Entry(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A stored answer. `rows` are those of the only, or the first, group."""

    version: int
    kind: str
    header: bytes
    rows: msgspec.Raw
    graph: Graph | None = None


class Link(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What instances of one group are tied to under one name."""

    group: Number
    kind: Number
    name: str
    path: str | None
    """Of the Prefetch with a queryset of its own that filled it."""
    rows: list[Number] | None
    """Of that group; None for all of them, in order."""
    targets: list[Number | None]
    """For one row each: an instance, or the number of a list of them."""


class Graph(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Instances are numbered group by group."""

    roots: list[Number] | None
    """The answer itself; None for the first group, in order."""
    more: list[tuple[bytes, msgspec.Raw]]
    """Header and rows of the other groups."""
    links: list[Link]
    lists: list[list[Number]]
    peers: list[tuple[list[Number], list[Number]]]
    """Instances that share one list of peers, and what it holds."""


class GroupHeader(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What the instances of one group have in common."""

    label: str
    fingerprint: bytes
    database: str | None
    fetch_mode: Number
    attnames: list[str] | None
    """The fields that are loaded; None for all."""
    extras: list[str]
    """Further attributes: annotations, say."""
    prefetching: bool
    """Whether there is a `_prefetched_objects_cache`."""
    spec: str


class ValuesHeader(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Of rows that are no instances."""

    names: list[str]
    spec: str
