"""Where the time goes, by function."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable
from pathlib import Path
from typing import Any

LEAST = 0.04
"""Of the time: functions with less are left out."""
ROOT = Path(__file__).resolve().parent.parent.parent


def profiled(do: Callable[[], object], calls: int) -> list[dict[str, Any]]:
    """The functions that take most, with what they call. The profiler makes small functions look
    dearer than they are."""
    profiler = cProfile.Profile()
    profiler.enable()
    do()
    profiler.disable()
    stats: dict[Any, Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]  # typeshed's
    total = sum(own for _, _, own, _, _ in stats.values())
    found = [
        {
            "name": _named(*where),
            "calls": times / calls,
            "own": own / total,
            "cumulative": cumulative / total,
        }
        for where, (_, times, own, cumulative, _) in stats.items()
    ]
    found = [one for one in found if one["calls"] >= 0.5 and one["cumulative"] >= LEAST]
    return sorted(found, key=lambda one: -one["cumulative"])


def _named(file: str, line: int, name: str) -> str:
    if file == "~":
        return name.strip("<>")
    path = Path(file)
    if path.is_relative_to(ROOT) and "site-packages" not in path.parts:
        return f"{path.relative_to(ROOT)} {name}"
    return f"{'/'.join(path.parts[-2:])} {name}"
