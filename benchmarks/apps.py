"""The example site's models, without what the site sets up besides."""

from django.apps import AppConfig


class NewsConfig(AppConfig):
    name = "testproject.news"
    label = "news"
