"""A line of the doctor's report."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Level(enum.Enum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    about: str
    """A word or two, for programs."""
    message: str
    """Whole sentences, without any credential."""
    cure: str = ""


def well(about: str, message: str) -> Finding:
    return Finding(Level.OK, about, message)


def warning(about: str, message: str, cure: str) -> Finding:
    return Finding(Level.WARNING, about, message, cure)


def error(about: str, message: str, cure: str) -> Finding:
    return Finding(Level.ERROR, about, message, cure)
