"""Entries are data: no module of the package has the means to make code of them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import loom_cache

ROOT = Path(loom_cache.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

DESERIALISERS = {"pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}
DESERIALISERS |= {"code", "codeop", "runpy", "importlib", "imp", "pkgutil", "zipimport", "copyreg"}
EXECUTORS = {"eval", "exec", "compile", "__import__", "import_module", "import_string", "loads_fn"}
ALLOWED = {
    # An exception that somebody's __reduce_ex__ raises, while a value is compared with another.
    ("codec/sameness.py", "from pickle import PicklingError"),
    # The callable that the settings name.
    ("config.py", "import_string"),
    ("problems.py", "import_string"),
}


def means(tree: ast.AST) -> Iterator[str]:
    """What a module mentions that could make code of data."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for one in names:
                    if one.name.partition(".")[0] in DESERIALISERS:
                        yield f"import {one.name}"
            case ast.ImportFrom(module=str(module), names=names):
                if module.partition(".")[0] in DESERIALISERS:
                    yield from (f"from {module} import {one.name}" for one in names)
            case ast.Name(id=name) if name in EXECUTORS:
                yield name
            case ast.Attribute(attr=name) if name in EXECUTORS and not is_of_re(node):
                yield name


def is_of_re(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "re"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_neither_unpickles_nor_evaluates_nor_imports_by_name(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    found = {(name, mention) for mention in means(ast.parse(path.read_text()))}
    assert found <= ALLOWED


def test_every_exception_to_this_is_needed() -> None:
    found = {
        (str(path.relative_to(ROOT)), mention)
        for path in MODULES
        for mention in means(ast.parse(path.read_text()))
    }
    assert found >= ALLOWED


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import marshal as data",
        "from importlib import import_module",
        "eval('1')",
        "builtins.exec(x)",
        "django.utils.module_loading.import_string(x)",
        "compile(x, y, 'exec')",
    ],
)
def test_such_means_are_found(line: str) -> None:
    assert list(means(ast.parse(line)))
