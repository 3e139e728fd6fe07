"""Settings of the example site, which the demo and the tests use too.

Environment:
    LOOM_CACHE_LOCATION  where the cache lives, e.g. redis://127.0.0.1:6379/0; default: this
                         process's memory.
    LOOM_TEST_DB         "sqlite" (default) or "postgresql"; the latter is found through libpq's
                         own variables (PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE).
    LOOM_SQLITE          the SQLite file; default: news.sqlite3 beside manage.py.
    LOOM_DEBUG           "0" turns Django's debug pages off.
"""

import os
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = "an-example-site-keeps-no-secrets"
DEBUG = os.environ.get("LOOM_DEBUG", "1") == "1"
ALLOWED_HOSTS = ["*"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "loom_cache",
    "testproject.news",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

ROOT_URLCONF = "testproject.urls"
ASGI_APPLICATION = "testproject.asgi.application"
STATIC_URL = "/static/"

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def _sqlite() -> dict[str, Any]:
    """A file, in tests too: an in-memory database cannot be used from several threads at once."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("LOOM_SQLITE", BASE_DIR / "news.sqlite3"),
        "OPTIONS": {
            "timeout": 20,  # seconds to wait for another writer
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
        "TEST": {"NAME": BASE_DIR / "test.sqlite3"},
    }


def _postgresql() -> dict[str, Any]:
    """Whatever is left out here is libpq's to find."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("PGDATABASE", "loom"),
        "USER": os.environ.get("PGUSER", ""),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "HOST": os.environ.get("PGHOST", ""),
        "PORT": os.environ.get("PGPORT", ""),
    }


DATABASES = {
    "default": {"sqlite": _sqlite, "postgresql": _postgresql}[
        os.environ.get("LOOM_TEST_DB", "sqlite")
    ](),
}
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"

LOOM_CACHE: dict[str, Any] = (
    {"LOCATION": os.environ["LOOM_CACHE_LOCATION"]} if "LOOM_CACHE_LOCATION" in os.environ else {}
)
