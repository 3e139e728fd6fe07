"""The README's example, word by word, in a project of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.services.redis import RedisServer

ROOT = Path(__file__).parent.parent

MODELS = """
from django.db import models

class Author(models.Model):
    name = models.CharField(max_length=50)

class Article(models.Model):
    author = models.ForeignKey(Author, on_delete=models.CASCADE)
    slug = models.SlugField()
    published = models.BooleanField(default=True)
    created = models.DateTimeField(auto_now_add=True)

class Comment(models.Model):
    article = models.ForeignKey(Article, on_delete=models.CASCADE, related_name="comments")
"""

RUN = """
import asyncio, os
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
import django
django.setup()
from django.core.management import call_command
call_command("check", fail_level="WARNING")
call_command("migrate", run_syncdb=True, verbosity=0)
from shop.models import Article, Author
from shop.repositories import articles
from loom_cache import metrics

author = Author.objects.create(pk=3, name="Ada")
Article.objects.bulk_create(
    Article(pk=number, author=author, slug="on-looms" if number == 7 else f"no-{number}")
    for number in range(1, 31)
)

async def view():
{view}
    return article, by_id, latest, number, page, top

first = asyncio.run(view())
with metrics.recording() as events:
    second = asyncio.run(view())
assert [event.outcome for event in events] == ["hit"] * 7, events
article, by_id, latest, number, page, top = second
assert (article.pk, sorted(by_id), len(latest), number) == (7, [1, 2, 3], 20, 30)
assert (len(page.object_list), len(top)) == (10, 10)
"""


def blocks() -> dict[str, str]:
    """The README's Python blocks by the file name in their first line."""
    found = re.findall(r"```python\n# (\S+)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return dict(found)


def test_the_readme_example_works_word_by_word(tmp_path: Path, redis_server: RedisServer) -> None:
    parts = blocks()
    settings = parts["settings.py"].replace("[..., ", '["shop", ')
    settings = settings.replace("redis://127.0.0.1:6379/0", redis_server.url)
    settings += (
        'DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}\n'
        'DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"\n'
        "USE_TZ = True\n"
    )
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").touch()
    (tmp_path / "shop/models.py").write_text(MODELS)
    (tmp_path / "shop/repositories.py").write_text(parts["shop/repositories.py"])
    (tmp_path / "settings.py").write_text(settings)
    view = textwrap.indent(parts["shop/views.py"], "    ")
    (tmp_path / "run.py").write_text(RUN.replace("{view}", view))
    done = subprocess.run(
        [sys.executable, "-W", "error", "run.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
