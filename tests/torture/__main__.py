"""See the package's docstring."""

from __future__ import annotations

import platform
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from tests.services.postgres import PostgresServer
from tests.torture.libraries import LIBRARIES, OURS
from tests.torture.modes import MODES, Mode
from tests.torture.promises import broken
from tests.torture.table import document, table
from tests.torture.world import Outcome, run

SECONDS = 18.0


def _wanted(given: Namespace) -> Iterator[tuple[str, Mode]]:
    for library in given.libraries:
        for name in given.modes:
            if library == OURS or MODES[name].for_all:
                yield library, MODES[name]


def _outcomes(given: Namespace) -> Iterator[Outcome]:
    with PostgresServer().start() as postgres:
        for library, mode in _wanted(given):
            yield run(library, mode, given.seconds, postgres=postgres)
            sys.stderr.write(f"{LIBRARIES[library].title}: {mode.title}\n")


def _versions(libraries: list[str]) -> str:
    packages = [LIBRARIES[name].package for name in libraries]
    named = [f"{one} {version(one)}" for one in dict.fromkeys(packages) if one is not None]
    return ", ".join([*named, f"Django {version('Django')}", f"Python {platform.python_version()}"])


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.torture")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each mode; %(default)g")
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there as well")
    return parser.parse_args()


def main() -> None:
    given = _arguments()
    outcomes = list(_outcomes(given))
    sys.stdout.write(table(outcomes) + "\n")
    if given.write is not None:
        page = document(outcomes, given.seconds, _versions(given.libraries))
        given.write.write_text(page)
    ours = [outcome for outcome in outcomes if LIBRARIES[outcome.library].is_ours]
    sys.exit("\n".join(sentence for one in ours for sentence in broken(one)) or None)


if __name__ == "__main__":
    main()
