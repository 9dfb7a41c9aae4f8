"""Starts the processes under test, all under the same conditions, and ends them, whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["Failed", "run_child", "started"]

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LONGEST = 150.0  # seconds of one run; the longest here takes 30
STOP_WITHIN = 10.0  # seconds from SIGTERM to SIGKILL
SHOWN = 3000  # characters of what a failed process wrote


class Failed(Exception):
    """A process under test did not do its work; the text says what it wrote last."""


def environment(folder: str) -> dict[str, str]:
    """Return the environment of every process: temporary files are on the file system that is measured."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": ROOT,
        "PYTHONHASHSEED": "0",
        "TMPDIR": folder,
    }


def run_child(call: str, arguments: dict[str, Any], folder: str) -> dict[str, Any]:
    """Run ``MODULE:FUNCTION`` in a fresh process and return what it returns. Raises Failed."""
    log = os.path.join(folder, "child.log")
    with started([sys.executable, "-m", "benchmarks.child", call], folder, log, stdin=True) as process:
        try:
            out, _ = process.communicate(json.dumps(arguments).encode(), timeout=LONGEST)
        except subprocess.TimeoutExpired:
            raise Failed(f"{call} took longer than {LONGEST:g} s: {tail(log)}") from None
        if process.returncode:
            raise Failed(f"{call} ended with {process.returncode}: {tail(log)}")
        if arguments.get("profile"):
            print(tail(log, None))
        figures: dict[str, Any] = json.loads(out)
        return figures


@contextlib.contextmanager
def started(
    command: Sequence[str], folder: str, log: str, *, stdin: bool = False, pass_fds: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Have a process in a group of its own, which has ended, with all its children, when the block is left."""
    with open(log, "ab") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdin else file,
            stderr=file,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    try:
        yield process
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_WITHIN)
    finally:
        with contextlib.suppress(ProcessLookupError):  # the group outlives its leader while a child of it lives
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def tail(log: str, size: int | None = SHOWN) -> str:
    with open(log, encoding="utf-8", errors="replace") as file:
        text = file.read().strip()
    return text if size is None else text[-size:]
