"""`manage.py demo` shows what it promises, and would notice a stale answer."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from testproject.news.demo import Demonstration, Question
from testproject.news.models import Article
from testproject.news.repositories import articles

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the demo prints, run embedded: SQLite, and a cache in its own memory."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("LOOM_")
    }
    done = subprocess.run(
        [sys.executable, ROOT / "manage.py", "demo"],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def table(lines: list[str], column: str) -> list[list[str]]:
    """The cells, row by row, of the table that has this column."""
    head = next(at for at, line in enumerate(lines) if "   question" in line and column in line)
    rows = lines[head + 1 : lines.index("", head)]
    return [re.split(r"\s{2,}", row.strip()) for row in rows]


def test_the_second_read_of_every_question_runs_no_sql(lines: list[str]) -> None:
    rows = table(lines, "1st: SQL")
    assert len(rows) == 7
    assert all(int(first) > 0 for _, first, *_ in rows)
    assert [second for _, _, _, second, *_ in rows] == ["0"] * 7


def test_each_write_makes_fresh_what_it_changed_and_leaves_the_rest_warm(lines: list[str]) -> None:
    title, comment, raw, update = zip(
        *(cells for _, *cells in table(lines, "1) a title")), strict=True
    )
    article, other, by_author, count, comments, other_comments, discussed = range(7)
    for number in (article, by_author, discussed):
        assert title[number].startswith("fresh")
    for number in (other, comments, other_comments):
        assert title[number] == "warm"
    for number in (comments, discussed):
        assert comment[number].startswith("fresh")
    for number in (article, other, by_author, count):
        assert comment[number] == raw[number] == "warm"
    assert raw[comments].startswith("fresh")
    for number in (article, by_author):
        assert update[number].startswith("fresh")
    for number in (comments, other_comments):
        assert update[number] == "warm"


def test_the_generations_that_moved_are_shown(lines: list[str]) -> None:
    moved = [line.split() for line in lines if " -> " in line]
    assert ["news.Article", "list", "0", "->", "1"] in moved
    kinds = {(model, tag.partition(":")[0]) for model, tag, *_ in moved}
    assert kinds >= {("news.Article", "id"), ("news.Article", "ids"), ("news.Comment", "where")}


def test_it_says_that_nothing_was_stale(lines: list[str]) -> None:
    assert lines[-1] == "42 answers were compared with the database's own: none was stale."


@pytest.mark.django_db(transaction=True)
async def test_a_stale_answer_is_noticed() -> None:
    async def wrong() -> int:
        return await articles.all().acount() + 1

    show = Demonstration([Question("number of articles", wrong, Article.objects.acount)], str)
    await show.ask_twice()
    assert show.stale == [
        "number of articles, at the first read",
        "number of articles, at the second read",
    ]
