"""Django with the example site's models, one library, and nothing else."""

from __future__ import annotations

import os

import django
from django.conf import settings

from benchmarks.libraries import Uncached
from benchmarks.servers import REDIS


def configure(library: Uncached, database: str) -> None:
    """PostgreSQL is found through libpq's variables, Redis through BENCH_REDIS."""
    settings.configure(
        INSTALLED_APPS=["benchmarks.apps.NewsConfig", *library.apps],
        DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": database}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        **library.settings(os.environ[REDIS]),
    )
    django.setup()
