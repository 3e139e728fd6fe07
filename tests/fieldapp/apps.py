from django.apps import AppConfig


class FieldAppConfig(AppConfig):
    """Models with every kind of field and relation, for the tests alone."""

    name = "tests.fieldapp"
    label = "fieldapp"
    default_auto_field = "django.db.models.BigAutoField"
