"""What a reader and a writer need of a library.

Imported before Django is configured: models are imported where they are used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from tests.torture.rows import group_of

if TYPE_CHECKING:
    from tests.torture.models import Row

Answer = Mapping[int, int] | int
"""Versions by primary key, or the sum of the versions of the rows that were asked about."""
Scope = Literal["row", "some", "group"]
"""One row; some rows; all rows of the group of the one that is given."""


class Question(NamedTuple):
    scope: Scope
    ask: Callable[[Sequence[int]], Answer]


class AsyncQuestion(NamedTuple):
    scope: Scope
    ask: Callable[[Sequence[int]], Awaitable[Answer]]


class Library:
    """Everything as Django has it: what a library does otherwise, it overrides."""

    title: ClassVar[str]
    package: ClassVar[str | None] = None
    """Its distribution, as pip knows it."""
    apps: ClassVar[tuple[str, ...]] = ()
    remark: ClassVar[str] = ""
    pause: ClassVar[float] = 0.008
    """Seconds between two writes of one process, at the most."""
    is_ours: ClassVar[bool] = False
    is_strict: ClassVar[bool] = False
    """Whether a read that begins after a COMMIT must see it."""

    def settings(self, redis: str, ttl: float) -> dict[str, Any]:
        """What its users write into their settings; `redis` is the server's address."""
        raise NotImplementedError

    def connect(self) -> None:
        """What its users do once, in `AppConfig.ready()`."""

    def rows(self) -> Any:
        """What reads start from."""
        from tests.torture.models import Row

        return Row._default_manager

    def questions(self) -> dict[str, Question]:
        """What is read from synchronous code."""
        from django.db.models import Sum

        rows = self.rows()

        def of_group(pks: Sequence[int]) -> Any:
            return rows.filter(group=group_of(pks[0]))

        return {
            "get": Question("row", lambda pks: {pks[0]: rows.get(pk=pks[0]).version}),
            "in_bulk": Question(
                "some", lambda pks: {pk: row.version for pk, row in rows.in_bulk(pks).items()}
            ),
            "list": Question("group", lambda pks: {row.pk: row.version for row in of_group(pks)}),
            "values": Question(
                "group", lambda pks: dict(of_group(pks).values_list("pk", "version"))
            ),
            "sum": Question("group", lambda pks: of_group(pks).aggregate(s=Sum("version"))["s"]),
        }

    def async_questions(self) -> dict[str, AsyncQuestion]:
        """What is read from asynchronous code, if the library can."""
        return {}

    def locked(self, pks: Sequence[int]) -> list[Row]:
        """Rows as the database has them, locked in this order."""
        from tests.torture.models import Row

        return list(Row._default_manager.select_for_update().filter(pk__in=pks).order_by("pk"))

    def update(self, pks: Sequence[int], **where_and_what: Any) -> int:
        """Add one to the version of these rows by one UPDATE, of those that `where_and_what` are
        true of; how many there were."""
        from django.db.models import F

        from tests.torture.models import Row

        found = Row._default_manager.filter(pk__in=pks, **where_and_what)
        return found.update(version=F("version") + 1)

    def has_delivered(self) -> bool:
        """Whether no invalidation waits in this process for the store."""
        return True

    def is_settled(self) -> bool:
        """Whether this process uses the store again, after it could not be reached."""
        return True
