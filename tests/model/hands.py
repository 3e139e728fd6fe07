"""The words that the texts of writes are made of, beside Django's own: see writes.py."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import Any

from asgiref.sync import async_to_sync
from django.db import connections, models
from django.db.models import QuerySet

from tests.model.app.models import Post, Reply, Sample, Shop
from tests.model.sessions import Session

Model = type[models.Model]

HELD: tuple[Model, ...] = (Post, Reply, Shop, Sample)


class NotNow(Exception):
    """What is to be written with is not there, or may not be used here."""


class Hands:
    """What one session writes with; each word goes to its own connection."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._alias = session.alias

    def rows(self, model: Any) -> QuerySet[Any]:
        found: QuerySet[Any] = model._base_manager.using(self._alias)
        return found

    def row(self, model: Model, pk: Any) -> Any:
        return self.rows(model).get(pk=pk)

    def save(self, instance: Any, *, only: Sequence[str] | None = None, **values: Any) -> None:
        """Set the values and save: everything, or `only` these fields."""
        for name, value in values.items():
            setattr(instance, name, value)
        instance.save(using=self._alias, update_fields=only)

    async def asave(
        self, instance: Any, *, only: Sequence[str] | None = None, **values: Any
    ) -> None:
        for name, value in values.items():
            setattr(instance, name, value)
        await instance.asave(using=self._alias, update_fields=only)

    def raw_save(self, instance: Any) -> None:
        """As loaddata does: of a multi-table child its own table alone."""
        instance.save_base(raw=True, using=self._alias)

    def hold_some(self) -> None:
        """One of each model whose instances are held: it was read at the beginning."""
        for model in HELD:
            for instance in self.rows(model)[:1]:
                self.hold(instance)

    def hold(self, instance: Any) -> None:
        """Keep an instance, to be saved when others may have changed its row."""
        self._session.held[type(instance)] = instance

    def held(self, model: Model) -> Any:
        if model not in self._session.held:
            raise NotNow(model.__name__)
        return self._session.held[model]

    def bulk_update(self, model: Model, pks: Iterable[Any], **values: Any) -> None:
        """Give all these rows the values, and save them together."""
        instances = list(self.rows(model).filter(pk__in=pks))
        for instance in instances:
            for name, value in values.items():
                setattr(instance, name, value)
        self.rows(model).bulk_update(instances, list(values))

    def raw_delete(self, rows: Any) -> None:
        """Without what cascades."""
        rows._raw_delete(self._alias)

    def run(self, work: Awaitable[Any]) -> Any:
        """Await it, on an event loop of its own."""

        async def main() -> Any:
            return await work

        return async_to_sync(main)()

    def sql(self, statement: str, *params: Any) -> None:
        with connections[self._alias].cursor() as cursor:
            cursor.execute(statement, params or None)
            if cursor.description is not None:
                cursor.fetchall()

    def truncate(self, tables: str) -> None:
        """Only where it is committed at once: its lock would keep everybody from reading."""
        if self._session.depth:
            raise NotNow(f"TRUNCATE {tables}")
        self.sql(f"TRUNCATE {tables}")

    def sql_many(self, statement: str, *params: Sequence[Any]) -> None:
        """Nothing that a deferred constraint may refuse: it would break psycopg's connection."""
        with connections[self._alias].cursor() as cursor:
            cursor.executemany(statement, params)

    def words(self) -> dict[str, Any]:
        names = (name for name in vars(Hands) if not name.startswith("_") and name != "words")
        return {name: getattr(self, name) for name in names}
