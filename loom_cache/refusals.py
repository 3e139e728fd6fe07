"""Why the answer to a question is never cached, judged from the statements of its load."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import router

from loom_cache import recording, sql, tables


def seen_refusal(seen: recording.Recorder) -> str | None:
    """Why an answer whose load ran these statements is never cached."""
    if seen.ended_caching:
        return "its load writes, locks or sets"
    if seen.volatile:
        return f"{seen.volatile}() in the query"
    ignored = tables.touches_ignored(seen.names)
    if ignored:
        return f"ignored table {ignored}"
    return "replica" if any(map(_lags, seen.by_alias.items())) else None


def _lags(read: tuple[str, set[str]]) -> bool:
    """Whether one of the tables read from a database is written to another."""
    alias, names = read
    known = tables.watched()
    read_models = (model for name in tables.among(names) for model in known[name].models[:1])
    return any(router.db_for_write(model) != alias for model in read_models)


def never_cached(statement: sql.Statement, names: Iterable[str]) -> str | None:
    ends, volatile = statement.ends_caching, statement.volatile
    return seen_refusal(
        recording.Recorder(names={*statement.names, *names}, ended_caching=ends, volatile=volatile)
    )
