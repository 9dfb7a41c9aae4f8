"""Ports of the loopback interface for the servers that tests start.

They are below the ports that Linux gives to outgoing connections, so that nobody takes the port of a server while it is
stopped. Each process that picks ports, of whatever run of the tests, has a part of them to itself as long as it lives,
and a port comes again only after all others of the part. So a server that is to come back on its port finds it free,
and nobody else answers there meanwhile.
"""

from __future__ import annotations

import itertools
import random
import socket

from resto_wsgi.demo import stock

__all__ = ["LOOPBACK", "free_port"]

LOOPBACK = "127.0.0.1"
PARTS = 80  # processes that pick ports at once

_claims: list[socket.socket] = []  # open until the process ends, and with it the claim


def _own_part() -> int:
    """Return the number of a part that no living process of this network has claimed."""
    for number in random.SystemRandom().sample(range(PARTS), PARTS):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0resto-tests-ports-{number}")  # an abstract name: the kernel drops it when the process ends
        except OSError:
            claim.close()
        else:
            _claims.append(claim)
            return number
    raise RuntimeError(f"over {PARTS} processes of tests pick ports at once; end some of them")


_part = _own_part()
PORTS = range(10000, 20000)[_part::PARTS]
_turn = itertools.cycle(PORTS)
stock.PORTS = stock.PORTS[_part::PARTS]  # the stock servers pick for themselves


def free_port() -> int:
    """Return a port that nobody listens on, and that a server finds free whenever it is started again."""
    for port in _turn:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: not held up by TIME_WAIT
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise AssertionError("a cycle does not end")
