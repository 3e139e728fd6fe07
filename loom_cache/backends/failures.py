"""What the stores' libraries raise, what it means, and what to do about it: for every store.

Whole sentences without credentials. What a server says is repeated only where nothing better is
known, and never with the arguments of a command that it quotes: passwords are among them.
"""

from __future__ import annotations

import re
import socket
import ssl
import sys
from collections.abc import Iterator
from typing import NamedTuple

import redis.exceptions as of_redis

from loom_cache.exceptions import StoreUnavailable

DOWN: tuple[type[Exception], ...] = (
    of_redis.RedisError,
    OSError,  # those of ssl and of name resolution among them
    EOFError,
    UnicodeError,  # a host name that no resolver takes
    OverflowError,  # a port that there cannot be
)
"""What is raised when a server cannot be asked."""


class Refused(StoreUnavailable):
    """The server answered, with an error."""


class Broken(StoreUnavailable):
    """There is no connection, or it broke before the answer came."""


def down() -> tuple[type[Exception], ...]:
    """DOWN, and what libraries raise that need not be installed."""
    memcached = sys.modules.get("aiomcache")
    return DOWN if memcached is None else (*DOWN, memcached.ClientException)


def unavailable(place: str, error: BaseException) -> Broken:
    """`place` cannot be asked. It is the subject of the message's first sentence."""
    return Broken(f"{place} {meaning(error)}")


def too_slow(place: str, seconds: float, more: str = "") -> StoreUnavailable:
    return StoreUnavailable(f"{place} did not answer within {seconds:.3g} s.{more}")


def refused(place: str, error: BaseException) -> Refused:
    """`place` answered with `error`."""
    return Refused(f"{place} {meaning(error)}")


class _Meaning(NamedTuple):
    codes: str
    """A regular expression for the error codes that a server sends."""
    types: tuple[type[BaseException], ...]
    sentence: str
    """What follows the name of the place, and the cure. `{detail}` is what TLS says itself."""


_MEANINGS = (
    _Meaning(
        "WRONGPASS|NOAUTH|invalid password|AUTH <password> called|no password is set",
        (of_redis.AuthenticationError,),
        "does not accept the user or the password: check both in LOCATION.",
    ),
    _Meaning(
        "NOPERM",
        (of_redis.NoPermissionError,),
        "forbids its user a command or a key that the cache needs: allow what docs/settings.md "
        "lists.",
    ),
    _Meaning(
        "OOM",
        (of_redis.OutOfMemoryError,),
        "is full: raise its maxmemory, or give it an eviction policy (maxmemory-policy "
        "allkeys-lru).",
    ),
    _Meaning(
        "READONLY",
        (of_redis.ReadOnlyError,),
        "is a read-only replica: let LOCATION name the primary.",
    ),
    _Meaning(
        "MISCONF",
        (),
        "takes no writes because it cannot save to its disk: see to its disk, or turn saving off "
        '(save "").',
    ),
    _Meaning(
        "NOREPLICAS",
        (),
        "takes no writes because it has too few replicas: see to them (min-replicas-to-write).",
    ),
    _Meaning(
        "LOADING",
        (of_redis.BusyLoadingError,),
        "is loading its data after a start, and answers when it has done so.",
    ),
    _Meaning(
        "MASTERDOWN",
        (of_redis.MasterDownError,),
        "is a replica that has lost its primary: let LOCATION name the primary.",
    ),
    _Meaning(
        "MOVED|ASK|CLUSTERDOWN|CROSSSLOT",
        (of_redis.ClusterDownError, of_redis.AskError, of_redis.ClusterCrossSlotError),
        "belongs to a Redis Cluster, which is not supported: let LOCATION name a server that is "
        "none of a cluster's.",
    ),
    _Meaning(
        "max number of clients reached",
        (),
        "takes no more connections: raise its maxclients.",
    ),
    _Meaning(
        "",
        (socket.gaierror,),
        "cannot be found, since its host name does not resolve: check LOCATION and the name "
        "service.",
    ),
    _Meaning(
        "",
        (UnicodeError,),
        "has a host name that none can be: correct LOCATION.",
    ),
    _Meaning(
        "",
        (ssl.SSLCertVerificationError,),
        "shows a certificate that is not trusted ({detail}): name its authority by "
        "?ssl_ca_certs=... in LOCATION, or correct the host there.",
    ),
    _Meaning(
        "",
        (ssl.SSLError,),
        "does not speak TLS as it was asked to ({detail}): rediss:// in LOCATION is for a "
        "port with TLS, redis:// for one without.",
    ),
    _Meaning(
        "",
        (of_redis.InvalidResponse,),
        "does not answer as Redis does: check the host, the port and TLS (rediss://) in LOCATION.",
    ),
    _Meaning(
        "",
        (ConnectionRefusedError,),
        "refuses connections, since nothing listens there: start it, or correct LOCATION.",
    ),
    _Meaning(
        "",
        (FileNotFoundError,),
        "cannot be reached, since there is no socket or certificate at the path given: start it, "
        "or correct LOCATION.",
    ),
    _Meaning(
        "",
        (PermissionError,),
        "cannot be reached, since this process may not open its socket or certificate.",
    ),
    _Meaning(
        "Connection closed by server|Connection reset|closed the connection",
        (ConnectionError, EOFError),
        "closed the connection. If it always does, its port may want TLS (rediss:// in LOCATION).",
    ),
    _Meaning(
        "",
        (TimeoutError, of_redis.TimeoutError),
        "did not answer in time.",
    ),
)


def meaning(error: BaseException) -> str:
    """What follows the store's place in a sentence, with the cure where there is one."""
    for each in _chain(error):
        for known in _MEANINGS:
            if _fits(known, each):
                return known.sentence.format(detail=_detail(each))
    text = str(error).partition(", with args")[0].rstrip(".")
    return f"cannot be asked ({type(error).__name__}: {text})."


def _detail(error: BaseException) -> object:
    # OpenSSL's errors have these, those that Python makes itself have not.
    return getattr(error, "verify_message", None) or getattr(error, "reason", None) or error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised for: libraries wrap what the system says."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _fits(known: _Meaning, error: BaseException) -> bool:
    if isinstance(error, known.types):
        return True
    from_server = isinstance(error, of_redis.RedisError)
    return from_server and known.codes != "" and bool(_code(known.codes).search(str(error)))


def _code(codes: str) -> re.Pattern[str]:
    # At its beginning, or, as Redis 6 tells of a script's error, after a hyphen.
    return re.compile(rf"(?:^|-|: )(?:{codes})")
