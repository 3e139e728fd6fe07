"""Django's settings in every process of the torture test. All that differs is in the environment:
libpq's variables for PostgreSQL, and these."""

import os

from tests.torture.libraries import LIBRARIES

TORTURE_LIBRARY = os.environ.get("TORTURE_LIBRARY", "loom")
TORTURE_REDIS = os.environ.get("TORTURE_REDIS", "redis://127.0.0.1:6379/0")
TORTURE_TTL = float(os.environ.get("TORTURE_TTL", "300"))
"""Seconds that everything is kept."""
TORTURE_DIRECTORY = os.environ.get("TORTURE_DIRECTORY", "")
"""Where the board is, and where the readers put what they have found."""
TORTURE_READERS = int(os.environ.get("TORTURE_READERS", "3"))
TORTURE_WRITERS = int(os.environ.get("TORTURE_WRITERS", "3"))
TORTURE_KILL_AT_COMMIT = float(os.environ.get("TORTURE_KILL_AT_COMMIT", "0"))
"""How probable it is that a writer kills itself between a commit and what follows it."""

_library = LIBRARIES[TORTURE_LIBRARY]

SECRET_KEY = "nothing here is secret"
INSTALLED_APPS = ["tests.torture", *_library.apps]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("PGDATABASE", "loom"),
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    # That the store does not answer is what the test is about.
    "loggers": {"loom_cache": {"level": "ERROR"}, "django": {"level": "CRITICAL"}},
}

globals().update(_library.settings(TORTURE_REDIS, TORTURE_TTL))
