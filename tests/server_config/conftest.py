"""What the tests of printed configurations share."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Ends at the end of the test what was entered."""
    with ExitStack() as stack:
        yield stack


def openssl(*arguments: str, folder: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's certificate for 127.0.0.1 and media.test, and a writer's."""
    folder = tmp_path_factory.mktemp("certificates")
    new = ["req", "-newkey", "rsa:2048", "-nodes", "-keyout"]
    made = ["-x509", "-days", "9", "-subj", "/CN=authority", "-addext", "keyUsage=critical,keyCertSign"]
    openssl(*new, "ca.key", *made, "-out", "ca.pem", folder=folder)
    names = folder / "names"
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:media.test\nauthorityKeyIdentifier=keyid\n")
    for name in ("server", "writer"):
        openssl(*new, f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.csr", folder=folder)
        sign = ["x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        openssl(*sign, "-days", "9", "-extfile", str(names), "-out", f"{name}.pem", folder=folder)
    return folder
