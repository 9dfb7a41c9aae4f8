"""Connections that urllib3 pools, and the bounds that each piece of work on them keeps: in time, memory and doubt.

urllib3 resolves, connects, speaks TLS and keeps alive; a connection is leased from its pool for one request, which
``http_flight`` moves. Time is bounded twice: no step takes longer than ``step`` without progress, and the whole request
has a deadline, so that a host that moves a byte now and then cannot hold us. Nothing here knows of names or statuses.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from ...forks import PerProcess
from .security import Security, Signer

__all__ = ["AGENT", "BLOCK", "COMMON", "REPLY_LIMIT", "STEPS", "Bounded", "Exchange", "Origin", "Pools", "TooLong"]

BLOCK = 256 * 1024  # bytes read from a file and given to a socket at a time, or the other way round
REPLY_LIMIT = 64 * 1024  # bytes of a whole reply; the error pages of the stock servers are under 1 KiB
MINIMUM_RATE = 64 * 1024  # bytes per second: a transfer that is slower on the whole is given up
STEPS = 3  # times ``step`` that a request may take beside its bytes: to connect, to send, to answer
LONGEST = 24 * 3600.0  # seconds that a file may take to come: its length is only what the host says
UNSIZED = 3600.0  # the same where the host says no length, so that nothing else bounds a reply that never ends
KEPT = 64  # connections kept alive for each host: one for each request thread of a usual WSGI server
POOLS = 1024  # hosts; urllib3 would close the connections of all but the 10 used last
AGENT = "resto_wsgi"  # it asks for what is on the very server: our node looks in no child for it
COMMON = {"User-Agent": AGENT, "Accept-Encoding": "identity"}


class Exchange:
    """One piece of work with a host: its request, and those that have to come before it is repeated.

    ``step`` is how many seconds may pass without progress, ``ends`` when the request has to be over. ``sent`` is
    True from before the first byte of the request went out; ``lost`` where an earlier one of this exchange ended with
    no status, so that nobody knows whether the host did what it asked for.
    """

    def __init__(self, step: float) -> None:
        self.step = step
        self.ends = 0.0
        self.sent = False
        self.lost = False

    def begin(self, size: int) -> None:
        """Start the clock of a request with a body of ``size`` bytes."""
        self.ends = time.monotonic() + STEPS * self.step + size / MINIMUM_RATE
        self.sent = False

    def next_step(self) -> float:
        """Return the seconds that the next step may take; raise TimeoutError where there are none."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long on the whole")
        return min(self.step, left)

    def expect(self, size: int | None) -> None:
        """Let the reply go on for a file of ``size`` bytes, or of a size that nobody knows."""
        self.ends += UNSIZED if size is None else min(size / MINIMUM_RATE, LONGEST)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock: what is done meanwhile is not the host's."""
        begun = time.monotonic()
        yield
        self.ends += time.monotonic() - begun


class TooLong(Exception):
    """A reply went on beyond REPLY_LIMIT; ``status`` is what it says, None where it did not come to that."""

    def __init__(self, status: int | None = None) -> None:
        super().__init__(status)
        self.status = status

    def __str__(self) -> str:
        return f"its reply is longer than {REPLY_LIMIT} bytes; look at what answers at its URL"


class Bounded(HTTPConnection):
    """A connection that knows whether it was used before, and that can be ended so that nothing is done late."""

    used = False

    def connect(self) -> None:
        """Connect, with TLS where it is configured; this may wait. Raises what urllib3 raises, and OSError."""
        self.used = False
        super().connect()

    def drop(self) -> None:
        """Close with a reset, so that the host drops what it has not read of a request.

        Else a PUT that was given up could be carried out after the DELETE that withdraws it.
        """
        with contextlib.suppress(OSError, AttributeError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


class _BoundedTls(Bounded, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = Bounded


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _BoundedTls


@dataclass(frozen=True)
class Origin:
    """Where the requests for one host go: its pool, what a Host header says of it, and the path before each name.

    ``url`` is that of the host. What it is shown may change, so it is asked for with each request.
    """

    pool: HTTPConnectionPool
    url: str
    authority: str
    path: str
    security: Security = field(repr=False)

    @property
    def common(self) -> Mapping[str, str]:
        """What every request says."""
        return {**COMMON, **self.security.fields(self.url)}

    @property
    def signer(self) -> Signer | None:
        """What signs each request, None where nothing does."""
        return self.security.signer(self.url)

    def lease(self) -> Bounded:
        """Take a connection: one that is alive, as far as is known without asking, or a new one, to be connected."""
        connection: Any = self.pool._get_conn()
        return cast(Bounded, connection)

    def new(self) -> Bounded:
        """Return a connection that was never used, to be connected."""
        connection: Any = self.pool._new_conn()
        return cast(Bounded, connection)

    def give_back(self, connection: Bounded) -> None:
        """Keep a connection for the next request, or close it where enough are kept."""
        try:
            self.pool.pool.put(connection, block=False)  # type: ignore[union-attr]
        except (queue.Full, AttributeError):  # enough are kept, of which urllib3 would log a warning; or it was closed
            connection.close()


class Pools:
    """urllib3's pools, one for each host; a process that forks gets its own. ``timeout`` is in seconds, to connect."""

    def __init__(self, timeout: float, security: Security) -> None:
        self._own = PerProcess(lambda: _Own(timeout, security))  # because a fork shares the sockets

    def origin(self, url: str) -> Origin:
        """Return the origin of a Host.url."""
        own = self._own.get()
        return own.origins.get(url) or own.origins.setdefault(url, own.origin(url))

    def close(self) -> None:
        """Close this process's connections."""
        own = self._own.take()
        if own is not None:
            own.manager.clear()
            for origin in list(own.origins.values()):  # else they are closed when nobody refers to their pool any more
                origin.pool.close()


class _Own:
    """The pools of one process."""

    def __init__(self, timeout: float, security: Security) -> None:
        timeouts = urllib3.Timeout(connect=timeout, read=timeout)
        self.manager = urllib3.PoolManager(POOLS, maxsize=KEPT, timeout=timeouts, ssl_context=security.context)
        self._security = security
        self.manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        self.origins: dict[str, Origin] = {}

    def origin(self, url: str) -> Origin:
        _, _, rest = url.partition("//")
        authority, slash, path = rest.partition("/")
        return Origin(self.manager.connection_from_url(url), url, authority, slash + path, self._security)
