"""Ends this process exactly between a commit and whatever a library does after it."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

VERBS = ("INSERT", "UPDATE", "DELETE")


def kill_there(probability: float) -> None:
    """From now on, after each commit with that probability."""
    if not probability:
        return
    commit = BaseDatabaseWrapper._commit  # type: ignore[attr-defined]  # Django's own, unlisted

    def committed(connection: BaseDatabaseWrapper) -> None:
        commit(connection)
        _perhaps_end(probability)

    BaseDatabaseWrapper._commit = committed  # type: ignore[attr-defined]  # as above
    connection_created.connect(partial(_watch, probability), weak=False)


def _watch(probability: float, *, connection: Any, **_kwargs: object) -> None:
    """The last wrapper is the innermost: outside a transaction what it has run is committed."""

    def executed(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        result = execute(sql, *arguments)
        if not connection.in_atomic_block and sql.startswith(VERBS):
            _perhaps_end(probability)
        return result

    connection.execute_wrappers.append(executed)


def _perhaps_end(probability: float) -> None:
    if random.random() < probability:
        os.kill(os.getpid(), signal.SIGKILL)
