"""A strict mode for development and tests: a cached method has to name the models that it reads.

Without it nothing goes stale: the tables that a method reads are seen as it reads them. But its
first answer is not kept, and what cannot be seen (a query in a thread of its own, a database view)
is noticed by nobody. Where every method has to declare what it reads, forgetting that is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from loom_cache import config, recording, tables
from loom_cache.exceptions import UndeclaredDependency

_asked_for_by_tests = 0


@contextmanager
def required() -> Iterator[None]:
    """As REQUIRE_DEPENDS_ON, within the block and for the whole process."""
    global _asked_for_by_tests
    _asked_for_by_tests += 1
    try:
        yield
    finally:
        _asked_for_by_tests -= 1


def check(name: str, declared: set[str], seen: recording.Recorder) -> None:
    """Raises UndeclaredDependency if the load of the method `name` read another table."""
    settings = config.current()
    if not _asked_for_by_tests and (settings is None or not settings.require_depends_on):
        return
    missing = sorted(tables.among(seen.names) - declared)
    if missing:
        known = tables.watched()
        labels = [known[table].models[0]._meta.label for table in missing]
        raise UndeclaredDependency(
            f"{name} reads the table{'s' if len(missing) > 1 else ''} "
            f"{', '.join(missing)}, which its declaration does not name; write "
            f"@cached_query(depends_on=[{', '.join(map(repr, labels))}])."
        )
