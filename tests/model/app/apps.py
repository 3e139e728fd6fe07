from django.apps import AppConfig


class PressConfig(AppConfig):
    """The models of the model-based test, installed for it alone."""

    name = "tests.model.app"
    label = "press"
    default_auto_field = "django.db.models.BigAutoField"
