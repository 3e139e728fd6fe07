"""How long the cache may keep somebody waiting: one deadline for all that is asked in their name.

A read asks the store up to five times, and so does a writer: each request has a limit of its own,
and all of them together have the same.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from time import monotonic

from loom_cache.exceptions import StoreUnavailable

_until: ContextVar[float | None] = ContextVar("loom_cache.deadline", default=None)


class Allowance:
    """Seconds for all the blocks together that are entered `with` it, one at a time."""

    __slots__ = ("_began", "_token", "left")

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def __enter__(self) -> None:
        self._began = monotonic()
        self._token: Token[float | None] = _until.set(self._began + self.left)

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        _until.reset(self._token)
        self.left -= monotonic() - self._began


def limited(seconds: float) -> float:
    """`seconds` for a request, or what is left for it. StoreUnavailable if nothing is."""
    until = _until.get()
    if until is None:
        return seconds
    left = until - monotonic()
    if left <= 0:
        raise StoreUnavailable("The store took all the time there was for it, in several answers.")
    return min(seconds, left)
