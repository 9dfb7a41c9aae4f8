"""The WSGI servers that people use, each as a process of its own on a free loopback port, serving `module:application`.

Nothing is known here of uploads. `running` starts one and ends it; what it prints is in ``WsgiServer.log``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ports import LOOPBACK, free_port

START_WITHIN = 20.0  # seconds
STOP_WITHIN = 10.0  # seconds from SIGTERM to SIGKILL

_GUNICORN = ["gunicorn", "--bind={address}", "--workers=2", "--no-control-socket"]  # that one is for operators
COMMANDS = {
    "waitress": ["waitress", "--listen={address}"],
    "gunicorn-sync": [*_GUNICORN, "--worker-class=sync"],
    "gunicorn-gthread": [*_GUNICORN, "--worker-class=gthread", "--threads=4"],
    "cheroot": ["cheroot", "--bind={address}"],
}
STREAMING = frozenset(COMMANDS) - {"waitress"}  # these call the application before the body is there


@dataclass(frozen=True)
class WsgiServer:
    """A server that runs: where it listens, and the file that has its output."""

    url: str
    address: tuple[str, int]
    output: Path

    @property
    def log(self) -> str:
        """What the server printed until now."""
        return self.output.read_text("utf-8", "replace")


@contextlib.contextmanager
def running(kind: str, application: str, output: Path, environ: Mapping[str, str]) -> Iterator[WsgiServer]:
    """One of COMMANDS with ``application`` (`module:name`), with ``environ`` beside this process's environment."""
    port = free_port()
    arguments = [argument.format(address=f"{LOOPBACK}:{port}") for argument in COMMANDS[kind]]
    server = WsgiServer(f"http://{LOOPBACK}:{port}/", (LOOPBACK, port), output)
    with (
        output.open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", *arguments, application],
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            _wait_until_it_listens(server, process)
            yield server
        finally:
            _stop(process)


def _wait_until_it_listens(server: WsgiServer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_WITHIN
    while True:
        assert process.poll() is None, f"the server ended while starting:\n{server.log}"
        with socket.socket() as probe:
            if probe.connect_ex(server.address) == 0:
                return
        assert time.monotonic() < deadline, f"the server does not listen:\n{server.log}"
        time.sleep(0.02)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
