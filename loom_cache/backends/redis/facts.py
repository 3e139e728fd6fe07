"""What a Redis server says of itself, and what it lets this user do. Pure, as operations.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.exceptions import NoPermissionError, ResponseError

from loom_cache.backends import Facts
from loom_cache.backends.redis.operations import Command, Operation, Reply

_TRIED: Final = ("INFO", "EVAL", "UNLINK", "CLIENT", "TIME", "CONFIG")


def facts(address: str, key: str) -> Operation[Facts]:
    """`key`: full, of nothing."""
    commands: Sequence[Command] = [
        ("INFO",),
        ("EVAL", "return 1", 0),
        ("UNLINK", key),
        ("CLIENT", "ID"),
        ("TIME",),
        ("CONFIG", "GET", "save"),
    ]
    return Operation(commands, lambda reply: _read(address, reply))


def _read(address: str, reply: Reply) -> Facts:
    info, _, _, _, clock, saving = reply.values
    told = _told(info)
    return Facts(
        kind="Redis",
        place=address,
        version=told.get("redis_version"),
        clock=_seconds(clock),
        role={"master": "master", "slave": "replica"}.get(told.get("role", "")),
        replicas=_number(told, "connected_slaves"),
        lag=_lag(told),
        clustered=_flag(told, "cluster_enabled"),
        policy=told.get("maxmemory_policy"),
        max_bytes=_number(told, "maxmemory"),
        used_bytes=_number(told, "used_memory"),
        evicted=_number(told, "evicted_keys"),
        saves_snapshots=_saves(saving),
        appends_to_file=_flag(told, "aof_enabled"),
        refused=frozenset(
            name for name, value in zip(_TRIED, reply.values, strict=True) if _is_refused(value)
        ),
    )


def _is_refused(value: Any) -> bool:
    """By its rules for this user, or because the command was taken away from everybody."""
    unknown = isinstance(value, ResponseError) and "unknown command" in str(value).lower()
    return isinstance(value, NoPermissionError) or unknown


def _told(info: Any) -> Mapping[str, str]:
    if not isinstance(info, bytes | str):
        return {}
    text = info.decode() if isinstance(info, bytes) else info
    lines = (line.partition(":") for line in text.splitlines())
    return {name: value for name, mark, value in lines if mark}


def _number(told: Mapping[str, str], name: str) -> int | None:
    value = told.get(name, "")
    return int(value) if value.isdecimal() else None


def _flag(told: Mapping[str, str], name: str) -> bool | None:
    number = _number(told, name)
    return None if number is None else bool(number)


def _lag(told: Mapping[str, str]) -> int | None:
    """Seconds that the slowest replica is behind, or this one, if it is a replica."""
    own = _number(told, "master_last_io_seconds_ago")
    if own is not None:
        return own
    parts = [told[name].split(",") for name in told if name.removeprefix("slave").isdecimal()]
    lags = [part.removeprefix("lag=") for each in parts for part in each if part[:4] == "lag="]
    return max((int(lag) for lag in lags if lag.isdecimal()), default=None)


def _seconds(clock: Any) -> float | None:
    return int(clock[0]) + int(clock[1]) / 1e6 if isinstance(clock, list) else None


def _saves(saving: Any) -> bool | None:
    """Whether snapshots are written by themselves: CONFIG GET gives a list, or a map (RESP3)."""
    if isinstance(saving, dict):
        saving = [part for pair in saving.items() for part in pair]
    if not isinstance(saving, list) or len(saving) != 2:
        return None
    return bool(saving[1])
