"""`python manage.py load_news`: fill an empty newspaper."""

from django.core.management.base import BaseCommand

from testproject.news import sample


class Command(BaseCommand):
    help = "Loads about 2,000 rows of sample data, unless there are articles already."

    def handle(self, *args: object, **options: object) -> None:
        rows = sample.load()
        self.stdout.write(f"Loaded {rows:,} rows." if rows else "There are articles already.")
