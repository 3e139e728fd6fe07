"""Fixtures: the museum's models, which the settings leave out, and what it shows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.test import override_settings

from tests.museum import models as m

APP = "tests.museum"


@pytest.fixture(scope="module")
def museum_app(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The app is installed, and its tables exist."""
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, APP]):
        with django_db_blocker.unblock():
            _create_tables()
        yield
        with django_db_blocker.unblock():
            _delete_tables()


def _create_tables() -> None:
    if connection.vendor == "postgresql":
        _execute(
            f"CREATE COLLATION IF NOT EXISTS {m.ANY_CASE} "
            "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
    with connection.schema_editor() as editor:
        for model in _models_with_tables():
            editor.create_model(model)
    for name, query in m.VIEWS.items():
        _execute(f"CREATE VIEW {name} AS {query}")


def _delete_tables() -> None:
    for name in m.VIEWS:
        _execute(f"DROP VIEW {name}")
    with connection.schema_editor() as editor:
        for model in reversed(_models_with_tables()):
            editor.delete_model(model)


def _models_with_tables() -> list[Any]:
    return [
        model
        for model in apps.get_app_config("museum").get_models()
        if model._meta.managed and not model._meta.proxy
    ]


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


ATRIUM, TOWER, NORTH, SOUTH = 1_000_001, 1_000_002, 1_000_003, 1_000_004
ADA, BEN, CAT = 2_000_001, 2_000_002, 2_000_003
"""Nobody taught Ada, she taught Ben, he taught Cat."""
LOOM, VASE, SKY = 3_000_001, 3_000_002, 3_000_003
"""Ada made the first two, Ben the last."""
WOOL, CLAY = 4_000_001, 4_000_002
GOOD, POOR, OF_HALL = 5_000_001, 5_000_002, 5_000_003
OF_EVE = 6_000_001


@pytest.fixture
def museum(museum_app: None, transactional_db: None) -> None:
    """Four venues of three levels, three artists, three works, two styles, three reviews."""
    ContentType.objects.clear_cache()  # Django remembers those of tests that are over
    with transaction.atomic():  # it is quicker
        _open()


def _open() -> None:
    m.Venue.objects.create(pk=ATRIUM, name="Atrium")
    m.Hall.objects.create(pk=TOWER, name="Tower", floor=9)
    north = m.Gallery.objects.create(pk=NORTH, name="North", floor=1)
    south = m.Gallery.objects.create(pk=SOUTH, name="South", floor=2, light="lamps")
    ada = m.Artist.objects.create(pk=ADA, code="ada", name="Ada", country="NO")
    ben = m.Artist.objects.create(
        pk=BEN, code="ben", name="Ben", country="SE", died=1950, mentor=ada
    )
    cat = m.Artist.objects.create(pk=CAT, code="cat", name="Cat", country="NO", mentor=ben)
    cat.friends.add(ben)
    m.Biography.objects.create(artist=ada, text="She wove.")
    m.Portrait.objects.create(artist=ada, title="Ada as a child")
    _hang(ada, ben, north, south)
    m.Slot.objects.bulk_create(
        m.Slot(hall_id=hall, number=number) for hall in (TOWER, NORTH) for number in (1, 2)
    )
    m.Booking.objects.create(pk=OF_EVE, hall_id=TOWER, number=1, who="Eve")


def _hang(ada: Any, ben: Any, north: Any, south: Any) -> None:
    loom = m.Work.objects.create(
        pk=LOOM, number="w1", title="Loom", artist=ada, gallery=north, price=5, details={"a": 1}
    )
    m.Work.objects.create(
        pk=VASE, number="w2", title="Vase", artist=ada, price=20, made=date(1920, 5, 1)
    )
    sky = m.Work.objects.create(
        pk=SKY,
        number="w3",
        title="Sky",
        artist=ben,
        gallery=south,
        price=30,
        sold=True,
        made=date(1920, 7, 1),
        hung=datetime(2026, 3, 1, 12, tzinfo=UTC),
        details={"a": 2, "b": {"c": [1, 2]}},
    )
    wool = m.Style.objects.create(pk=WOOL, name="wool")
    clay = m.Style.objects.create(pk=CLAY, name="clay")
    loom.styles.add(wool)
    sky.styles.add(wool, clay)
    m.Review.objects.create(pk=GOOD, about=loom, stars=5, text="Good")
    m.Review.objects.create(pk=POOR, about=sky, stars=1, text="Poor")
    m.Review.objects.create(pk=OF_HALL, about=m.Hall.objects.get(pk=TOWER), text="High")
