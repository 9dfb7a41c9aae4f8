"""``resto demo`` as a process, for the tests of the demo: run to its end, or while it runs; and what is left of it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

COMMAND = [sys.executable, "-c", "from resto_wsgi.cli import main; main()"]


def processes_of(folder: Path) -> list[str]:
    """The command lines of all living processes that name the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if os.fsencode(folder) in line:
                found.append(line.replace(b"\0", b" ").decode())
    return found


def listens(url: str) -> bool:
    """Say whether somebody accepts connections at the address."""
    parts = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname or "", parts.port or 0)) == 0


def resto_demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `resto demo` to its end, with its temporary folder below ``folder``."""
    return subprocess.run(
        [*COMMAND, "demo", *options],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=180,
        check=False,
    )


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`resto demo` while it runs; killed at the end where the test has not ended it."""
    with subprocess.Popen(
        [*COMMAND, "demo", *options],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
