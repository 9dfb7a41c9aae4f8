"""Ports of the loopback interface for the servers that tests start.

They are below the ports that Linux gives to outgoing connections, so that nobody takes the port of a server while it is
stopped. A run of the tests has a share of its own, as long as not too many run on this machine at once, and each worker
of pytest-xdist a part of that; a port comes again only after all others. So a server that is to come back on its port
finds it free, and nobody else answers there meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import random
import socket
import tempfile

__all__ = ["LOOPBACK", "free_port", "share"]

LOOPBACK = "127.0.0.1"
RUNS = 10  # at once
RUN = "TESTS_RUN"  # in the environment, so that workers and the processes of a test have the share of their run


def _run() -> int:
    """Return the number of this run, which no other has while the process that took it lives."""
    if RUN not in os.environ:
        numbers = random.sample(range(RUNS), RUNS)
        os.environ[RUN] = str(next(filter(_is_taken_by_us, numbers), numbers[0]))
    return int(os.environ[RUN])


def _is_taken_by_us(number: int) -> bool:
    path = os.path.join(tempfile.gettempdir(), f"resto-tests-run-{number}.lock")
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)  # held, and so open, until the process ends
    except OSError:  # another user's
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return False
    return True


def share(ports: range) -> range:
    """Return the part of ``ports`` that is this worker's."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return ports[_run() :: RUNS][worker :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]


PORTS = share(range(10000, 20000))
_turn = itertools.count(random.SystemRandom().randrange(len(PORTS)))  # the processes of a test begin elsewhere


def free_port() -> int:
    """Return a port that nobody listens on, and that a server finds free whenever it is started again."""
    while True:
        port = PORTS[next(_turn) % len(PORTS)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
