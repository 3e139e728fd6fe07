"""The example site's settings, with the models that only the tests need and a second database."""

from testproject.settings import *  # noqa: F403
from testproject.settings import BASE_DIR, DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.library"]

DATABASES["other"] = {**DATABASES["default"], "TEST": {"NAME": BASE_DIR / "test-other.sqlite3"}}
if DATABASES["default"]["ENGINE"].endswith("postgresql"):
    DATABASES["other"]["TEST"] = {"NAME": "test_other"}
elif "NAME" in DATABASES["other"]:
    DATABASES["other"]["NAME"] = BASE_DIR / "other.sqlite3"
