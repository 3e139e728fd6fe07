"""What is done to entries: to their bytes, and to the values that they are made of."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

Node = Any

NAMES = [
    *("_state", "__class__", "__dict__", "_prefetched_objects_cache", "_meta", "save", "delete"),
    *("pk", "id", "objects", "books", "author", "mentor", "tags", "target", "named", "n", "x y"),
    *("", "ﬁ", "fi", "class", "None", "\x00", "default", "other", "fieldapp.author", "auth.user"),
    "0123456789abcdef",
    *("fieldapp.book", "os.path", "Europe/Paris", "../../etc/passwd", "Range", "2026-01-01"),
    *"sitjlLdeEocmuyhDvbgG46wWkKZrqRnxwzfX-",
    *("ii", "isi", "I" * 50, "x" * 3, "w" * 2, "j"),
]
NUMBERS = [0, 1, -1, 2, 3, 7, 63, 64, 127, 128, 255, 2**31, -(2**63), 2**63, 2**64 - 1]
SCALARS = [None, True, False, 0.0, -0.0, float("nan"), float("inf"), 1e308, b"", b"\xff" * 9]
LENGTHS = [
    *(b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"),
    *(b"\xdb\x7f\xff\xff", b"\xdc\xff\xff", b"\xde\xff\xff", b"\xc9\x00\x00\x00\x08\x01"),
    *(b"\xc1", b"\x91" * 2000, b"\x81" * 500, b"\xc7\x0c\xff", b"\xd6\xff", b"\x9f", b"\x8f"),
    *(b"\xd9\xff", b"\xca"),
]
"""Heads of MessagePack values that promise more than comes."""


class Mutator:
    """`random_` decides; the other entries lend parts of theirs."""

    def __init__(self, random_: random.Random, bodies: Sequence[bytes]) -> None:
        self.random = random_
        self.bodies = bodies
        self.trees = [opened(body) for body in bodies]

    def mutated(self, body: bytes) -> bytes:
        how: Callable[[bytes], bytes] = self.random.choices(
            [self.by_value, self.by_byte, self.spliced, self.random_bytes], [70, 18, 10, 2]
        )[0]
        return how(body)

    def by_value(self, body: bytes) -> bytes:
        tree = opened(body)
        for _ in range(self.random.choice([1, 1, 1, 2, 3, 6])):
            tree = self._changed(tree)
        with contextlib.suppress(OverflowError, UnicodeEncodeError, RecursionError):
            return closed(tree)
        return body

    def _changed(self, tree: Node) -> Node:
        """One node somewhere in the tree replaced, large parts being likelier than small ones."""
        if isinstance(tree, list) and tree and self.random.random() < 0.93:
            weights = [size(one) for one in tree]
            (at,) = self.random.choices(range(len(tree)), weights)
            return [*tree[:at], self._changed(tree[at]), *tree[at + 1 :]]
        if isinstance(tree, dict) and tree and self.random.random() < 0.93:
            key = self.random.choice(list(tree))
            return {**tree, key: self._changed(tree[key])}
        if isinstance(tree, Nested) and self.random.random() < 0.9:
            return Nested(self._changed(tree.tree))
        return self._instead_of(tree)

    def _kin_of(self, node: Node) -> Node:
        """Another value of the same type: what passes the first look."""
        choose = self.random.choice
        if isinstance(node, bool) or node is None:
            return choose([True, False, None])
        if isinstance(node, int):
            return choose([*NUMBERS, node + 1, node - 1, self.random.randrange(12)])
        if isinstance(node, str):
            return choose(NAMES)
        for _ in range(20):
            lent = self._lent()
            if type(lent) is type(node):
                return lent
        return node

    def _instead_of(self, node: Node) -> Node:
        choose = self.random.choice
        if self.random.random() < 0.6:
            return self._kin_of(node)
        if isinstance(node, list) and node and self.random.random() < 0.5:
            at = self.random.randrange(len(node))
            return choose(
                [node[:at], node[at:], node + node, node[::-1], [*node, node[at]], node[at]]
            )
        if isinstance(node, str) and node and self.random.random() < 0.4:
            at = self.random.randrange(len(node))
            return choose([node[:at], node + choose(NAMES), node[:at] + choose(NAMES) + node[at:]])
        if type(node) is int and self.random.random() < 0.4:
            return node + choose([1, -1, 2, 100])
        return choose(
            [
                choose(NAMES),
                choose(NUMBERS),
                choose(SCALARS),
                [node],
                [node, node],
                {"a": node},
                [choose(NAMES), node],
                [choose(NAMES), choose(NUMBERS), node],
                nested(node, choose([5, 60, 70, 300])),
                msgspec.msgpack.Ext(choose([-128, -1, 0, 127]), b"\x00" * choose([1, 4, 8, 12])),
                self._lent(),
                {choose(NUMBERS): node, choose(NAMES): choose(SCALARS)},
            ]
        )

    def _lent(self) -> Node:
        """A part of another entry."""
        node = self.random.choice(self.trees)
        while self.random.random() < 0.8:
            node = node.tree if isinstance(node, Nested) else node
            if not isinstance(node, list) or not node:
                break
            node = self.random.choice(node)
        return node

    def by_byte(self, body: bytes) -> bytes:
        data, choose = bytearray(body), self.random
        for _ in range(choose.choice([1, 1, 1, 2, 4])):
            at = choose.randrange(len(data)) if data else 0
            match choose.randrange(6):
                case 0 if data:
                    data[at] ^= 1 << choose.randrange(8)
                case 1 if data:
                    data[at] = choose.randrange(256)
                case 2:
                    del data[at:]
                case 3:
                    data[at : at + choose.randrange(8)] = b""
                case 4:
                    data[at:at] = choose.choice(LENGTHS)
                case _:
                    data[at:at] = struct.pack(">I", choose.randrange(2**32))
        return bytes(data)

    def spliced(self, body: bytes) -> bytes:
        other = self.random.choice(self.bodies)
        if self.random.random() < 0.3:
            return other
        here, there = self.random.randrange(len(body) + 1), self.random.randrange(len(other) + 1)
        return body[:here] + other[there:]

    def random_bytes(self, body: bytes) -> bytes:
        return self.random.randbytes(self.random.randrange(60))


class Nested:
    """Bytes that hold MessagePack themselves: the header of a group."""

    def __init__(self, tree: Node) -> None:
        self.tree = tree


def size(node: Node) -> int:
    """How many values a node is made of."""
    if isinstance(node, Nested):
        return size(node.tree)
    return 1 + sum(map(size, node)) if isinstance(node, list) else 1


def opened(data: bytes) -> Node:
    """The values that an entry's body is made of."""
    return _opened(msgspec.msgpack.decode(data))


def _opened(node: Node) -> Node:
    if isinstance(node, list):
        return [_opened(one) for one in node]
    if isinstance(node, bytes) and node[:1] > b"\x90":
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            return Nested(_opened(msgspec.msgpack.decode(node)))
    return node


def closed(tree: Node) -> bytes:
    return msgspec.msgpack.encode(tree, enc_hook=_encoded)


def _encoded(node: Any) -> bytes:
    return closed(node.tree)


def nested(node: Node, levels: int) -> Node:
    for _ in range(levels):
        node = [node]
    return node
