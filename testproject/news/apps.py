"""The news app."""

from django.apps import AppConfig


class NewsConfig(AppConfig):
    name = "testproject.news"
    label = "news"
    verbose_name = "News"
