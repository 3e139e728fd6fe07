"""`python manage.py demo`: shows on real data what is cached, and what a write makes fresh."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from loom_cache import config
from testproject.news import demo, sample


class Command(BaseCommand):
    help = (
        "Reads and writes a database of its own through the cache and shows what each read cost. "
        "LOOM_CACHE_LOCATION=redis://127.0.0.1:6379/0 shows the same on Redis."
    )

    def handle(self, *args: object, **options: object) -> None:
        with _throwaway_database():
            rows = sample.load()
            self.stdout.write(
                f"loom_cache on {rows:,} rows in {connection.display_name}, {_where()}"
            )
            self.stdout.write("")
            shown = async_to_sync(demo.run)(self.stdout.write)
        if shown.stale:
            raise CommandError(
                f"{len(shown.stale)} answers were stale, the first of them: {shown.stale[0]}."
            )
        self.stdout.write(
            f"{shown.compared} answers were compared with the database's own: none was stale."
        )


@contextmanager
def _throwaway_database() -> Iterator[None]:
    """A migrated database of the demonstration's own; the site's is not touched."""
    with TemporaryDirectory(prefix="loom-demo-") as folder:
        name = Path(folder) / "demo.sqlite3" if connection.vendor == "sqlite" else "loom_demo"
        connection.settings_dict["TEST"]["NAME"] = str(name)
        site = connection.settings_dict["NAME"]
        connection.creation.create_test_db(verbosity=0, autoclobber=True)
        try:
            yield
        finally:
            connection.creation.destroy_test_db(site, verbosity=0)


def _where() -> str:
    settings = config.current()
    if settings is None:
        raise CommandError("LOOM_CACHE is not right: `python manage.py check` says what to mend.")
    if settings.location is None or settings.location.startswith("memory:"):
        return "cached in this process's memory"
    return "cached in Redis"
