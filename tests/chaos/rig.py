"""What is broken: nginx servers as an administrator would run them, and a gunicorn whose processes can be killed.

Processes are killed through a pidfd that was opened before it was looked at whose child they are, so that a number
which the kernel gave to somebody else meanwhile is never hit. What was started is ended by ``stop``, in the order of
the ``with`` statements.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ports import LOOPBACK, free_port

from resto_wsgi.demo.stock import StockServer

START_WITHIN = 20.0  # seconds
STOP_WITHIN = 5.0  # seconds from SIGTERM to SIGKILL
STEP = 0.01  # seconds between two looks
EXCEPTION = re.compile(r"[A-Za-z_.]+(Error|Exception|Exit|Warning)\b")  # how the last line of a traceback begins
TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PRODUCT = os.path.dirname(TESTS)

__all__ = ["Gunicorn", "Nginx", "connects", "defects_in", "environment", "kill_child", "wait_until"]


class Nginx(StockServer):
    """A stock nginx that is started as after a crash: what lies in its folder for uploads is thrown away first."""

    def __init__(self, folder: str) -> None:
        super().__init__("nginx", folder)

    def start(self) -> None:
        staging = os.path.join(self.folder, "staging")
        with contextlib.suppress(FileNotFoundError):
            for entry in os.listdir(staging):
                os.unlink(os.path.join(staging, entry))
        super().start()

    def kill_worker(self) -> bool:
        """Kill what answers, so that the master process starts another; return whether there was one."""
        return self.pid is not None and kill_child(self.pid, random.Random(0))


class Gunicorn:
    """A gunicorn with ``workers`` processes on a port of its own; ``url`` has no slash at the end."""

    def __init__(self, application: str, folder: str, workers: int) -> None:
        self._application = application
        self._folder = folder
        self._workers = workers
        self._process: subprocess.Popen[bytes] | None = None
        self.log = os.path.join(folder, "gunicorn.log")
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"

    def __enter__(self) -> Gunicorn:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, settings: Mapping[str, str], *, threads: bool = True, preload: bool = False) -> None:
        """Return when it takes connections. ``settings`` are environment variables of the product."""
        command = [sys.executable, "-m", "gunicorn", f"--bind={LOOPBACK}:{self.port}", f"--workers={self._workers}"]
        command += ["--no-control-socket", "--graceful-timeout=3", "--timeout=60", "--backlog=64"]
        command += ["--worker-class=gthread", "--threads=4"] if threads else ["--worker-class=sync"]
        command += ["--preload"] if preload else []
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [*command, self._application],
                cwd=self._folder,
                env={**environment(), **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._listens, START_WITHIN, f"gunicorn does not listen; see {self.log}")

    def kill_worker(self, chance: random.Random) -> bool:
        """Kill -9 one worker; return whether there was one."""
        return self._process is not None and kill_child(self._process.pid, chance)

    def kill_master(self) -> None:
        """Kill -9 the master process alone: its workers serve on until they notice."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill -9 every process of it. The master was not waited for, so its number is still that of the group."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            wait_until(lambda: not connects(self.port), STOP_WITHIN, "a killed gunicorn listens")

    def stop(self) -> None:
        """End it in order, and by force where that takes too long."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_WITHIN
            while not self._ended() and time.monotonic() < deadline:
                time.sleep(STEP)
            self.kill()

    def defects(self) -> list[str]:
        """Return what its log tells of that nobody foresaw."""
        return defects_in(self.log)

    def _listens(self) -> bool:
        if self._ended():
            raise RuntimeError(f"gunicorn ended while starting; see {self.log}")
        return connects(self.port)

    def _ended(self) -> bool:
        process = self._process
        return process is None or bool(os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))


def defects_in(path: str) -> list[str]:
    """Return the lines of a log that tell of what nobody foresaw, with the exception that each ends in."""
    found = []
    with open(path, encoding="utf-8", errors="replace") as log:
        defect = ""
        for line in log:
            if "defect" in line or "housekeeping failed" in line:
                defect = line.strip()
            elif defect and EXCEPTION.match(line):
                found.append(f"{defect}: {line.strip()}")
                defect = ""
    return found


def environment() -> dict[str, str]:
    """Return the environment for processes: ours, the product and the tests on their path, and nothing that slows."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("COVERAGE_", "COV_", "RESTO_"))}
    return {**kept, "PYTHONPATH": os.pathsep.join((TESTS, PRODUCT)), "PYTHONDONTWRITEBYTECODE": "1"}


def kill_child(parent: int, chance: random.Random) -> bool:
    """Kill -9 one child of a process of ours; return whether there was one."""
    children = list(_children(parent))
    if not children:
        return False
    child = chance.choice(children)
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(child)
        try:
            if child in _children(parent):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                return True
        finally:
            os.close(handle)
    return False


def wait_until(condition: Callable[[], Any], seconds: float, problem: str) -> None:
    """Return when the condition is true; raise TimeoutError where it is not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{problem} (waited {seconds:g} s)")
        time.sleep(STEP)


def _children(parent: int) -> Iterator[int]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as stat:
                state, found = stat.read().rpartition(b")")[2].split()[:2]
                if int(found) == parent and state != b"Z":
                    yield int(entry)


def connects(port: int) -> bool:
    """True where somebody listens on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0
