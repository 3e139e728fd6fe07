from django.apps import AppConfig


class MuseumConfig(AppConfig):
    """Models for every query shape and every write path, for those tests alone."""

    name = "tests.museum"
    label = "museum"
    default_auto_field = "django.db.models.BigAutoField"
