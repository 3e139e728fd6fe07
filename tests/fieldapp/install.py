"""Fixtures: the models of this app, wherever the settings leave it out, and some rows of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import override_settings

from tests.fieldapp import models as m

APP = "tests.fieldapp"


@pytest.fixture(scope="module")
def field_app(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The app is installed, and its tables exist."""
    if apps.is_installed(APP):
        yield
        return
    installed = override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, *_apps()])
    with django_db_blocker.unblock():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("CREATE EXTENSION IF NOT EXISTS hstore")
        installed.enable()
        known = apps.get_app_config("fieldapp").get_models()
        models = [model for model in known if not model._meta.proxy]
        with connection.schema_editor() as editor:
            for model in models:
                editor.create_model(model)
    yield
    with django_db_blocker.unblock():
        with connection.schema_editor() as editor:
            for model in reversed(models):
                editor.delete_model(model)
        installed.disable()


def _apps() -> list[str]:
    if connection.vendor != "postgresql":
        return [APP]
    import tests.fieldapp.postgres  # noqa: F401  its model

    return [APP, "django.contrib.postgres"]  # which tells psycopg of hstore


@pytest.fixture
def library(field_app: None, db: None) -> None:
    """Authors, books, tags, notes."""
    ContentType.objects.clear_cache()  # Django remembers those of tests that were rolled back
    teacher = m.Author.objects.create(name="teacher")
    pupil = m.Author.objects.create(name="pupil", mentor=teacher)
    pupil.friends.add(teacher)
    m.Passport.objects.create(owner=teacher)
    tags = [m.Tag.objects.create(name=name) for name in ("one", "two")]
    for number in range(4):
        author = pupil if number else teacher
        book = m.Book.objects.create(title=f"b{number}", author=author, editor=teacher)
        book.tags.set(tags[: number % 3])
        m.Note.objects.create(text="n", target=book)
