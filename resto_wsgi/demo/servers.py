"""The demo's media servers of our own, each a process, on loopback ports that are free.

A server runs in a session of its own, so that Ctrl-C in a terminal reaches the demo alone, and the demo ends its
servers in order. What a server prints goes to a file in its folder: nobody has to read a pipe, and a server that
does not start can be quoted. ``run`` calls it.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from ..errors import RestoError

__all__ = ["LOOPBACK", "OwnServer", "Ports", "port_taken"]

LOOPBACK = "127.0.0.1"

_START_WITHIN = 20.0  # seconds; a start takes 0.3 s here, a laptop under load needs more
_STOP_WITHIN = 5.0  # seconds from SIGTERM to SIGKILL
_TRIED = 200  # ports tried from the first one on, before giving up

T = TypeVar("T")


class Ports:
    """Hands out free loopback ports in rising order, stepping over those that are taken."""

    def __init__(self, first: int) -> None:
        self._first = self._next = first

    def take(self, start: Callable[[int], T]) -> T:
        """Return what ``start(port)`` returns for the next port that is free.

        A port can be lost between the look and the start: ``start`` then raises `port_taken`, and the next is
        tried.
        Raises `RestoError` if no port is free.
        """
        while self._next < min(self._first + _TRIED, 65536):
            port, self._next = self._next, self._next + 1
            if not is_free(port):
                continue
            try:
                return start(port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        raise RestoError(f"no free port from {self._first} to {self._next - 1} on {LOOPBACK}: choose another --port")


def is_free(port: int) -> bool:
    """Say whether a server could listen on ``port`` of the loopback address now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except OSError:
            return False
    return True


def port_taken(port: int) -> OSError:
    """Return the error that says that somebody else listens on ``port``."""
    return OSError(errno.EADDRINUSE, f"port {port} is taken")


class OwnServer:
    """One ``resto media-server``, started in ``folder`` and listening on ``port`` when built.

    ``check`` is called while waiting, and may raise to give up. Raises `port_taken` if the port was lost meanwhile,
    and `RestoError` if the server does not start; neither leaves a process behind.
    """

    def __init__(self, folder: str, port: int, *, check: Callable[[], None] = lambda: None) -> None:
        self.root = os.path.join(folder, "files")
        self.url = f"http://{LOOPBACK}:{port}"
        self._port = port
        self._log = os.path.join(folder, "log")
        os.makedirs(self.root, exist_ok=True)
        command = ["-m", "resto_wsgi", "media-server", "--root", self.root, "--listen", f"{LOOPBACK}:{port}"]
        command += ["--allow", LOOPBACK]
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own module, with arguments made here
                [sys.executable, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_ready(check)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server: SIGTERM, and SIGKILL if that is not heard. Harmless when it has ended."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_ready(self, check: Callable[[], None]) -> None:
        deadline = time.monotonic() + _START_WITHIN
        while not self._listens():
            check()
            if self._process.poll() is not None:
                if not is_free(self._port):
                    raise port_taken(self._port)
                raise RestoError(f"a media server ended while starting: {self._last_line()}")
            if time.monotonic() > deadline:
                raise RestoError(f"a media server did not start within {_START_WITHIN:.0f} s: {self._last_line()}")
            time.sleep(0.02)

    def _listens(self) -> bool:
        # It prints its address when it listens, so an answer at the port is its own and not a stranger's.
        return self.url in self._printed() and self._process.poll() is None

    def _printed(self) -> str:
        with open(self._log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def _last_line(self) -> str:
        return (self._printed().strip().splitlines() or ["it printed nothing"])[-1]
