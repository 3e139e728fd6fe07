"""The wheel holds the library alone, and works where nothing else of this project is."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parent.parent

SETTINGS = """
SECRET_KEY = "none"
INSTALLED_APPS = ["loom_cache", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOOM_CACHE = {}
"""

MODELS = """
from django.db import models

class Article(models.Model):
    title = models.CharField(max_length=100)
"""

SMOKE = """
import asyncio, os
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
import django
django.setup()
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from loom_cache import CachedRepository
from shop.models import Article

class Articles(CachedRepository[Article]):
    model = Article

call_command("check", fail_level="ERROR")
call_command("migrate", run_syncdb=True, verbosity=0)
Article.objects.create(pk=7, title="On looms")
counts = []
for _ in range(2):
    with CaptureQueriesContext(connection) as queries:
        assert Articles().get(pk=7).title == "On looms"
    counts.append(len(queries))
assert asyncio.run(Articles().aget(pk=7)).title == "On looms"
print(*counts, __import__("loom_cache").__file__)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """What the command prints; the test fails, saying why, if the command does."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_library_its_types_and_its_licence_alone(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"loom_cache"}
    assert "loom_cache/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    python = tmp_path / "env" / "bin" / "python"
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env", cwd=tmp_path)
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet"),
        *("--constraint", ROOT / "constraints.txt", wheel),
        cwd=tmp_path,
    )
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "models.py").write_text(MODELS)
    (tmp_path / "settings.py").write_text(SETTINGS)
    (tmp_path / "smoke.py").write_text(SMOKE)
    first, second, where = run(python, "smoke.py", cwd=tmp_path).splitlines()[-1].split()
    assert (first, second) == ("1", "0")
    assert Path(where).is_relative_to(tmp_path)
