"""The fixture that makes the models of this app usable, wherever the settings leave it out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection
from django.test import override_settings

APP = "tests.fieldapp"


@pytest.fixture(scope="module")
def field_app(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The app is installed, and its tables exist."""
    if apps.is_installed(APP):
        yield
        return
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, APP]):
        known = apps.get_app_config("fieldapp").get_models()
        models = [model for model in known if not model._meta.proxy]
        with django_db_blocker.unblock(), connection.schema_editor() as editor:
            for model in models:
                editor.create_model(model)
        yield
        with django_db_blocker.unblock(), connection.schema_editor() as editor:
            for model in reversed(models):
                editor.delete_model(model)
