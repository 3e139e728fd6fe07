"""The news app."""

from django.apps import AppConfig


class NewsConfig(AppConfig):
    name = "testproject.news"
    label = "news"
    verbose_name = "News"

    def ready(self) -> None:
        """Count SQL statements, for the panel that shows what each read cost."""
        from testproject.news.readings import count_statements_of_every_connection

        count_statements_of_every_connection()
