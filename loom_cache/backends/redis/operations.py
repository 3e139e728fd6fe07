"""What is said to Redis, and what its answers mean. Pure: nothing here has a connection."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import Any, Generic, NamedTuple, TypeVar

from redis.exceptions import ResponseError

from loom_cache import counters
from loom_cache.backends import Enrolled, Lease, Moved, Pair, Roll, Snapshot, enrolled
from loom_cache.backends.redis.scripts import BUMP, ENROLL, LEASE, SEED

T = TypeVar("T")
Argument = str | bytes | int
Command = tuple[Argument, ...]


class Reply(NamedTuple):
    """What one connection answered: a value or a ResponseError for each command."""

    incarnation: str
    values: list[Any]


class Operation(NamedTuple, Generic[T]):
    """Commands that go out together, and what their answers mean."""

    commands: Sequence[Command]
    read: Callable[[Reply], T]


def fetch(keys: Sequence[str]) -> Operation[Snapshot[bytes | None]]:
    return Operation([("MGET", *keys)], lambda reply: Snapshot(reply.incarnation, first(reply)))


def store(pairs: Sequence[Pair]) -> Operation[list[Any]]:
    return Operation([_keep(*pair) for pair in pairs], values)


def _keep(key: str, value: bytes, ttl: float) -> Command:
    return put(key, value, ttl) if ttl > 0 else ("UNLINK", key)


def put(key: str, value: Any, ttl: float | None) -> Command:
    """The command that keeps `value` for `ttl` seconds; without a `ttl` until it is deleted."""
    data = value if isinstance(value, bytes | int) else str(value)
    return ("SET", key, data) if not ttl else ("SET", key, data, "PX", milliseconds(ttl))


def seed(keys: Sequence[str], leases: Sequence[Lease] = ()) -> Operation[Snapshot[int]]:
    def read(reply: Reply) -> Snapshot[int]:
        found = values(reply)
        plain = found[0] if keys else []
        strict = [value for _, value in found[len(found) - len(leases) :]]
        return Snapshot(reply.incarnation, [int(value) for value in (*plain, *strict)])

    options = (counters.EPOCH_MS, counters.COUNTER_TTL)
    commands: list[Command] = [("EVAL", SEED, len(keys), *keys, *options)] if keys else []
    return Operation([*commands, *map(_step, leases)], read)


def _step(lease: Lease) -> Command:
    asked = (lease.step, lease.writer, milliseconds(lease.seconds))
    options = (counters.EPOCH_MS, counters.COUNTER_TTL, counters.BUMP)
    return ("EVAL", LEASE, 2, lease.counter, lease.writers, *asked, *options)


def bump(keys: Sequence[str]) -> Operation[int]:
    found = bump_and_read(keys, ())
    return Operation(found.commands, lambda reply: found.read(reply).existed)


def bump_and_read(
    keys: Sequence[str], reads: Sequence[str], leases: Sequence[Lease] = ()
) -> Operation[Moved]:
    """The steps come first: where they are all, nothing else is said."""

    def read(reply: Reply) -> Moved:
        found = values(reply)
        existed = sum(one for one, _ in found[: len(leases)])
        bumped, *rest = found[len(leases)] if commands else (0,)
        counted = [counters.parse(value) for value in rest]
        return Moved(existed + bumped, counted, reply.incarnation)

    options = (counters.BUMP, counters.COUNTER_TTL, len(keys))
    commands: list[Command] = []
    if keys or reads:
        commands = [("EVAL", BUMP, len(keys) + len(reads), *keys, *reads, *options)]
    return Operation([*map(_step, leases), *commands], read)


def writers(keys: Sequence[str]) -> Operation[list[list[tuple[str, float]]]]:
    """The sets, and the server's own time, by which their deadlines are meant."""

    def read(reply: Reply) -> list[list[tuple[str, float]]]:
        (seconds, microseconds), *found = values(reply)
        now = int(seconds) + int(microseconds) / 1e6
        return [
            [(name.decode(), float(deadline) / 1000 - now) for name, deadline in _pairs(one)]
            for one in found
        ]

    return Operation(
        [("TIME",), *(("ZRANGE", key, 0, -1, "WITHSCORES") for key in keys)],
        read,
    )


def enroll(roll: Roll, names: Sequence[str], most: int) -> Operation[Enrolled]:
    def read(reply: Reply) -> Enrolled:
        listed, version = first(reply)
        found = enrolled(listed, counters.parse(version))
        return found._replace(incarnation=reply.incarnation)

    options = (counters.EPOCH_MS, counters.COUNTER_TTL, counters.BUMP, most)
    return Operation([("EVAL", ENROLL, 3, *roll, *options, *names)], read)


def remove(keys: Sequence[str]) -> Operation[int]:
    return Operation([("UNLINK", *keys)], first)


def scan(cursor: bytes, prefix: str) -> Operation[tuple[bytes, list[bytes]]]:
    return Operation([("SCAN", cursor, "MATCH", _pattern(prefix), "COUNT", 1000)], first)


def add_to(key: str, delta: int) -> Operation[int]:
    def read(reply: Reply) -> int:
        answer = reply.values[0]
        if isinstance(answer, ResponseError) and ("integer" in str(answer) or _is_other(answer)):
            raise TypeError(f"The value at {key!r} is not an integer.")
        return int(first(reply))

    return Operation([("INCRBY", key, delta)], read)


def holds(key: str) -> Operation[bool]:
    return Operation([("EXISTS", key)], _whether)


def expire(key: str, ttl: float | None) -> Operation[bool]:
    command: Command = ("PEXPIRE", key, milliseconds(ttl)) if ttl else ("PERSIST", key)
    return Operation([command], _whether)


def add(key: str, value: Any, ttl: float | None) -> Operation[bool]:
    return Operation([(*put(key, value, ttl), "NX")], _whether)


def first(reply: Reply) -> Any:
    return values(reply)[0]


def _pairs(scored: list[Any]) -> list[Any]:
    """Members with their scores: the newer protocol pairs them, the older one does not."""
    if scored and isinstance(scored[0], list):
        return scored
    return list(zip(scored[::2], scored[1::2], strict=True))


def _whether(reply: Reply) -> bool:
    return bool(first(reply))


def values(reply: Reply) -> list[Any]:
    """The answers. ResponseError if one of them is an error."""
    for value in reply.values:
        if isinstance(value, ResponseError):
            raise value
    return reply.values


def milliseconds(ttl: float) -> int:
    return max(1, int(ttl * 1000))


def pack(commands: Sequence[Command]) -> bytes:
    """The commands in Redis' serialization protocol."""
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for argument in command:
            data = argument if isinstance(argument, bytes) else str(argument).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


WHO: Sequence[Command] = [("INFO", "server"), ("INFO", "replication")]
"""Asked once per connection: which life of the server is this?"""


def who_else(key: str) -> Sequence[Command]:
    """Where INFO is forbidden: a random name that whoever comes first leaves at `key`."""
    return [("SET", key, secrets.token_hex(20), "NX"), ("GET", key)]


def life(answers: Sequence[Any]) -> str | None:
    """The name of this life of the server, from the answers to WHO.

    A server that becomes a replica and is promoted again runs on with what it was sent meanwhile,
    which may be older than what it had: what it replicates is a part of the name.
    """
    server, replication = map(_fields, answers)
    run_id, history = server.get("run_id"), replication.get("master_replid")
    if not run_id:
        return None
    return sha1(f"{run_id} {history}".encode(), usedforsecurity=False).hexdigest()


def _fields(answer: Any) -> dict[str, str]:
    if not isinstance(answer, bytes | str):
        return {}
    text = answer.decode() if isinstance(answer, bytes) else answer
    lines = (line.partition(":") for line in text.splitlines())
    return {name: value for name, _, value in lines}


def left_name(answers: Sequence[Any]) -> str:
    """The name found by `who_else`; where that is refused too a new one: nothing is then a hit."""
    name = answers[-1]
    return name.decode() if isinstance(name, bytes) else secrets.token_hex(20)


def _is_other(error: ResponseError) -> bool:
    """Whether the key holds a list, a set or something of the kind."""
    return "WRONGTYPE" in str(error)


def _pattern(prefix: str) -> str:
    """A glob that matches the keys beginning with `prefix`, whatever is in it."""
    return "".join("\\" + letter if letter in "\\*?[]^" else letter for letter in prefix) + "*"
