"""Private servers for the tests: started in a temporary directory, gone with the tests.

Plain Python, no pytest. Nothing here looks at, or talks to, a server that it has not started.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO

START_TIMEOUT = 60.0  # seconds

# Runs the server until it is told to stop, or until the tests are gone: then its standard input is
# closed by the system, even after SIGKILL. "keep" leaves the directory for a restart.
SUPERVISOR = """
signal=$1 directory=$2; shift 2
"$@" </dev/null 2>&1 &
server=$!
echo "$server" >&2
exec >/dev/null 2>&1
read -r word
kill -"$signal" "$server"; kill -CONT "$server"
wait "$server"
[ "$word" = keep ] || rm -rf "$directory"
"""


class ServiceError(RuntimeError):
    """A server cannot be started; the message says what to do."""


class Service:
    """A running server program."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        directory: Path,
        ready: str,
        stop_by: signal.Signals,
        user: str | None = None,
    ) -> None:
        self._said: deque[str] = deque(maxlen=50)
        self._settled = threading.Event()  # ready, or ended
        self._ended = False
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", SUPERVISOR, "sh", str(int(stop_by)), str(directory), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            start_new_session=True,  # Ctrl-C is for the tests; the server goes after them
            user=user,
            group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [],
        )
        self.pid = int(_pipe(self._process.stderr).readline())
        self._reader = threading.Thread(target=self._read, args=(ready,), daemon=True)
        self._reader.start()
        if not self._settled.wait(START_TIMEOUT) or self._ended:
            self.stop()
            raise ServiceError(f"{command[0]} did not start. It said:\n{''.join(self._said)}")

    def suspend(self) -> None:
        """Make the server hang: it keeps its sockets and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self, *, keep: bool = False) -> None:
        """End the server, and remove its directory unless it is to be kept for a restart."""
        with self._process as process:  # closes the pipes and waits
            if keep:
                _pipe(process.stdin).write("keep\n")
            _pipe(process.stdin).close()
            process.wait()
            self._reader.join()

    def _read(self, ready: str) -> None:
        """Take what the server says, so that it never waits for a reader."""
        for line in _pipe(self._process.stdout):
            self._said.append(line)
            if ready in line:
                self._settled.set()
        self._ended = True
        self._settled.set()


def temporary_directory(user: str | None = None) -> Path:
    """A new directory of `user`, with a path short enough for a Unix socket."""
    directory = Path(tempfile.mkdtemp(prefix="loom-", dir="/tmp"))
    if user is not None:
        shutil.chown(directory, user, pwd.getpwnam(user).pw_gid)
    return directory


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise AssertionError("the process was started with pipes")
    return stream
