"""docs/peer-behaviours.md says nothing of tests that do not exist, and counts rightly."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "peer-behaviours.md").read_text()

VERDICTS = ("pass", "differs", "gap", "not applicable")
FILES = {
    "django-cacheops": "tests/peers/test_cacheops_behaviours.py",
    "django-cachalot": "tests/peers/test_cachalot_behaviours.py",
}

NAME = re.compile(r"`(?:(?P<file>tests/\S+\.py)::)?(?P<function>test_\w+)(?:\[(?P<id>[^`]+)\])?`")


class Row(NamedTuple):
    suite: str
    theirs: list[str]
    verdict: str
    here: str


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def rows() -> Iterator[Row]:
    """What is said of the tests of either suite."""
    for section in TEXT.split("\n## ")[1:]:
        suite = section.partition("\n")[0]
        for line in section.splitlines():
            if suite not in FILES or not line.startswith("| ") or line.startswith("| behaviour"):
                continue
            _, theirs, here = cells(line)
            verdict = next((each for each in VERDICTS if here.startswith(each)), "")
            yield Row(suite, theirs.split(", "), verdict, here)


def named(text: str, file: str) -> Iterator[tuple[str, str, str | None]]:
    """The tests that are named there: file, function, parameter."""
    for found in NAME.finditer(text):
        yield found["file"] or file, found["function"], found["id"]


def exists(file: str, function: str, parameter: str | None) -> bool:
    module = import_module(file.removesuffix(".py").replace("/", "."))
    test = getattr(module, function, None)
    return callable(test) and (parameter is None or parameter in ids_of(test))


def ids_of(test: Any) -> set[str]:
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    return {str(name) for mark in marks for name in mark.kwargs.get("ids", mark.args[1])}


@pytest.mark.parametrize("suite", FILES)
def test_every_test_that_is_named_exists(suite: str) -> None:
    tests = {test for row in rows() if row.suite == suite for test in named(row.here, FILES[suite])}
    assert len(tests) > 20
    assert [test for test in sorted(tests, key=str) if not exists(*test)] == []


def test_every_test_that_is_named_of_files_that_are_gone_exists() -> None:
    gone = TEXT.split("\n## ")[-1]
    assert [test for test in named(gone, "") if not exists(*test)] == []


def test_every_row_has_a_verdict_and_what_passes_a_test() -> None:
    for row in rows():
        assert row.verdict, row
        assert row.verdict != "pass" or NAME.search(row.here), row


def test_every_ported_test_stands_for_one_of_theirs() -> None:
    said = set(named(TEXT, "")) | {
        test for row in rows() for test in named(row.here, FILES[row.suite])
    }
    functions = {(file, function) for file, function, _ in said}
    for file in FILES.values():
        defined = re.findall(r"^def (test_\w+)", (ROOT / file).read_text(), flags=re.MULTILINE)
        assert [each for each in defined if (file, each) not in functions] == []


def test_no_test_of_theirs_is_accounted_for_twice() -> None:
    for suite in FILES:
        counted = Counter(name for row in rows() if row.suite == suite for name in row.theirs)
        assert [name for name, number in counted.items() if number > 1] == []


@pytest.mark.parametrize("suite", FILES)
def test_the_counts_at_the_top_are_those_of_the_tables(suite: str) -> None:
    counted = Counter[str]()
    for row in rows():
        if row.suite == suite:
            counted[row.verdict] += len(row.theirs)
    (line,) = [line for line in TEXT.splitlines() if line.startswith(f"| {suite} |")]
    assert cells(line)[1:] == [
        *(str(counted[verdict]) for verdict in VERDICTS),
        str(counted.total()),
    ]
