"""A private PostgreSQL server."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.services import Service, ServiceError, temporary_directory

NAME = "loom"  # of the superuser and of the database

# Nothing has to survive a crash, and nobody connects over the network.
OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "timezone": "UTC",
}


class PostgresServer:
    """Started by `start`, on a Unix socket only."""

    def __init__(self) -> None:
        self._service: Service | None = None
        self._directory = Path()

    def start(self, **options: object) -> Self:
        """Make a cluster with one empty database, and serve it. `options`: postgresql.conf."""
        if self._service is not None:
            raise RuntimeError("This PostgreSQL server is running already.")
        programs, user = _programs(), _unprivileged_user()
        self._directory = directory = temporary_directory(user)
        try:
            _initialise(programs, directory, user)
        except BaseException:
            shutil.rmtree(directory)
            raise
        command = [str(programs / "postgres"), "-D", str(directory / "data")]
        settings = {**OPTIONS, "unix_socket_directories": directory, **options}
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self._service = Service(
            command,
            directory=directory,
            ready="database system is ready to accept connections",
            stop_by=signal.SIGQUIT,  # at once: the data is thrown away
            user=user,
        )
        return self

    def stop(self) -> None:
        """End the server and remove its data. Stopping twice is harmless."""
        if self._service is not None:
            self._service.stop()
            self._service = None

    def settings(self, name: str = NAME) -> dict[str, Any]:
        """An entry of Django's DATABASES."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "USER": NAME,
            "PASSWORD": "",
            "HOST": str(self._directory),
            "PORT": "5432",
        }

    def environment(self) -> dict[str, str]:
        """libpq's own variables for this server."""
        return {
            "PGHOST": str(self._directory),
            "PGPORT": "5432",
            "PGUSER": NAME,
            "PGDATABASE": NAME,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _programs() -> Path:
    """The directory of PostgreSQL's programs: the one on PATH, else the newest installed."""
    for directory in _candidates():
        if (directory / "initdb").exists() and (directory / "postgres").exists():
            return directory
    raise ServiceError(
        "The tests need the programs initdb and postgres: install the package postgresql "
        "(Debian, Ubuntu, Homebrew) or postgresql-server (Fedora)."
    )


def _candidates() -> Iterator[Path]:
    for program in ("initdb", "postgres"):
        found = shutil.which(program)
        if found is not None:
            yield Path(found).resolve().parent
    for pattern in (
        "usr/lib/postgresql/*/bin",
        "usr/pgsql-*/bin",
        "opt/homebrew/opt/postgresql*/bin",
    ):
        yield from sorted(Path("/").glob(pattern), key=_version, reverse=True)


def _version(directory: Path) -> int:
    digits = "".join(letter for letter in directory.parent.name if letter.isdigit())
    return int(digits or 0)


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root: then somebody else must."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in names:
            return name
    raise ServiceError("PostgreSQL does not run as root, and there is no user postgres or nobody.")


def _initialise(programs: Path, directory: Path, user: str | None) -> None:
    arguments = ["-D", str(directory / "data"), "-U", NAME, "-A", "trust", "-E", "UTF8"]
    _run([programs / "initdb", *arguments, "--locale=C", "--no-sync"], directory, user)
    create = f"CREATE DATABASE {NAME};\n"
    single = ["--single", "-D", str(directory / "data"), "-c", "fsync=off", "template1"]
    _run([programs / "postgres", *single], directory, user, said=create)


def _run(command: list[Any], directory: Path, user: str | None, said: str | None = None) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        input=said,
        stdin=subprocess.DEVNULL if said is None else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=directory,
        user=user,
        group=None if user is None else pwd.getpwnam(user).pw_gid,
        extra_groups=None if user is None else [],
    )
    if done.returncode != 0:
        raise ServiceError(f"{command[0]} failed. It said:\n{done.stdout}")
