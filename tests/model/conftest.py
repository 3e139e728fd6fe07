"""The models of the model-based test and its second alias, and a world for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection
from django.test import override_settings

from loom_cache import metrics
from tests.cases.conftest import STORES
from tests.cases.interleaving import Elsewhere, elsewhere, yonder
from tests.model.app.models import MODELS
from tests.model.world import TABLES, World, twin_alias

__all__ = ["elsewhere", "yonder"]

APP = "tests.model.app"


@pytest.fixture(scope="module")
def press(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The app is installed, and its tables exist."""
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, APP]):
        apps.get_app_config("press")
        with django_db_blocker.unblock(), connection.schema_editor() as editor:
            for model in MODELS:
                editor.create_model(model)
            if editor.connection.vendor == "postgresql":
                for table in TABLES:  # a lock that nobody of us holds would make a run another
                    editor.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
        with twin_alias():
            yield
        with django_db_blocker.unblock(), connection.schema_editor() as editor:
            for model in reversed(MODELS):
                editor.delete_model(model)


@pytest.fixture(params=STORES)
def world(
    request: pytest.FixtureRequest, press: None, elsewhere: Elsewhere, yonder: Elsewhere
) -> Iterator[World]:
    location = "memory://?ttl_cap=600"
    if request.param == "redis":
        location = request.getfixturevalue("redis_server").url
    made = World(elsewhere, yonder, location)
    unsubscribe = metrics.subscribe(made.tally.note)
    yield made
    unsubscribe()
