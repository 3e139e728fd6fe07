"""A process that does what it is told by a line, and answers by lines."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parent.parent


class Conversation:
    """With a module of this repository that runs as a program."""

    def __init__(
        self, who: str, module: str, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self._who = who
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, line: str, answers: int = 1) -> list[str]:
        """Say a line, and wait for so many."""
        asked, answered = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answered is not None
        with suppress(BrokenPipeError):  # it has ended: then there are too few lines
            asked.write(f"{line}\n")
            asked.flush()
        lines = list(islice(answered, answers))
        if len(lines) < answers:
            raise SystemExit(f"The run of {self._who} ended early; it says why above.")
        return lines

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()  # closes its input, which ends it, and waits
        if error is None and self._process.returncode != 0:
            raise SystemExit(f"The run of {self._who} has failed; it says why above.")
