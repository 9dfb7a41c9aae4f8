"""Ports of the loopback interface for the servers that tests start.

They are below the ports that Linux gives to outgoing connections, so that nobody takes the port of a server while it is
stopped. Each worker of pytest-xdist, with the processes that it starts, has a share of its own, and a port comes again
only after all others: a server that is to come back on its port finds it free.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket

__all__ = ["LOOPBACK", "free_port", "share"]

LOOPBACK = "127.0.0.1"


def share(ports: range) -> range:
    """Return the part of ``ports`` that is this worker's."""
    worker, count = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    return ports[int(worker.removeprefix("gw")) :: int(count)]


PORTS = share(range(10000, 20000))
# Another run on this machine, and a process that this one starts, begin elsewhere.
_turn = itertools.count(random.SystemRandom().randrange(len(PORTS)))


def free_port() -> int:
    """Return a port that nobody listens on, and that a server finds free whenever it is started again."""
    while True:
        port = PORTS[next(_turn) % len(PORTS)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
