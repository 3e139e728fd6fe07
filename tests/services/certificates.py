"""Certificates for the tests' servers, made by the program openssl."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.services import ServiceError


class Certificate(NamedTuple):
    """Its own authority: whoever is to trust it is given `file`."""

    file: Path
    key: Path


def for_localhost(directory: Path, name: str) -> Certificate:
    """A new certificate of 127.0.0.1, for two days."""
    program = shutil.which("openssl")
    if program is None:
        raise ServiceError("The tests need the program openssl: install the package openssl.")
    made = Certificate(directory / f"{name}.pem", directory / f"{name}.key")
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    place = ["-keyout", str(made.key), "-out", str(made.file)]
    subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    done = subprocess.run(
        [program, "req", *kind, *place, *subject],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ServiceError(f"openssl failed. It said:\n{done.stderr}")
    return made
