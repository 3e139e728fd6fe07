"""What is timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Operation:
    """Something done again and again, each time about one of `different` things."""

    do: Callable[[int], Any]
    """A coroutine function, if the operation is asynchronous."""
    different: int
    asynchronous: bool = False
    before: Callable[[int], Any] | None = None
    """What has to be done before each time, and is not timed; it may be a coroutine function."""
    warm: Callable[[], Any] | None = None
    """What has to be done once; without it everything is done once."""


Operations = Mapping[tuple[str, str], Operation]
"""By what is done and the way it is done."""
