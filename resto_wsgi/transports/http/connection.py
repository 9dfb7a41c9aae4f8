"""The connections to each host: made on its route, kept alive, and leased for one request at a time.

    new ── connect ──> leased ── answered, and kept ──> in the pool ── leased again: ``used`` ──> leased
                         └────── anything else ──> closed, which is a reset (``connecting``)

A process that forks makes its own, and closes its copies of its parent's. How long a request may take is known to
``progress``, which requests there are to ``job``; nothing here knows of names or statuses.
"""

from __future__ import annotations

import collections
import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from weakref import WeakSet

from urllib3.connection import HTTPConnection

from ...forks import Listener, PerProcess, tell
from .connecting import Route
from .progress import Traffic
from .resolving import Known, Name, Resolver
from .security import Security, Signer

__all__ = ["AGENT", "COMMON", "MOVED_BYTES_MAX", "REPLY_LIMIT", "Bounded", "Origin", "Pools", "TooLong"]

MOVED_BYTES_MAX = 256 * 1024  # bytes read from a file and given to a socket at a time, or the other way round
REPLY_LIMIT = 64 * 1024  # bytes of a whole reply; the error pages of the stock servers are under 1 KiB
KEPT = 64  # connections kept alive for each host: one for each request thread of a usual WSGI server
AGENT = "resto_wsgi"  # it asks for what is on the very server: our node looks in no child for it
COMMON = {"User-Agent": AGENT, "Accept-Encoding": "identity"}


class TooLong(Exception):
    """A reply went on beyond REPLY_LIMIT; ``status`` is what it says, None if it did not come to that."""

    def __init__(self, status: int | None = None) -> None:
        super().__init__(status)
        self.status = status

    def __str__(self) -> str:
        return f"its reply is longer than {REPLY_LIMIT} bytes; look at what answers at its URL"


class Bounded(HTTPConnection):
    """A connection on a ``route``, which knows whether it was used before; urllib3 knows whether it is alive."""

    used = False

    def __init__(self, route: Route) -> None:
        super().__init__(route.host, route.port)
        self.route = route

    def connect(self) -> None:
        """Connect, with TLS if the host is spoken to so; this may wait. Raises what ``Route.connect`` does."""
        self.used = False
        self.sock = self.route.connect()

    def give_up_copy(self) -> None:
        """Close this process's copy of a connection that belongs to another one."""
        with contextlib.suppress(OSError, AttributeError):
            os.close(self.sock.detach())


class _Kept:
    """Connections that are kept alive for one host, of which the last one comes first. Any thread may call."""

    def __init__(self) -> None:
        self._idle: collections.deque[Bounded] = collections.deque()
        self._closed = False

    def take(self) -> Bounded | None:
        """Return a connection that was kept, None if there is none; one that was closed meanwhile has no ``sock``."""
        try:
            connection = self._idle.pop()
        except IndexError:
            return None
        if not connection.is_connected:
            connection.close()
        return connection

    def put(self, connection: Bounded) -> None:
        """Keep a connection, or close it if enough are kept."""
        if len(self._idle) >= KEPT:
            connection.close()
            return
        self._idle.append(connection)
        if self._closed:  # after it was put: whoever closes meanwhile would not see it
            self.close()

    def close(self) -> None:
        """Close what is kept, and whatever is put from now on."""
        self._closed = True
        while (connection := self.take()) is not None:
            connection.close()


@dataclass(frozen=True)
class Origin:
    """Where the requests for one host go: what is kept, what a Host header says of it, and the path before each name.

    ``url`` is that of the host. What it is shown may change, so it is asked for with each request. ``made`` has all
    connections that were made.
    """

    kept: _Kept = field(repr=False)
    route: Route
    url: str
    authority: str
    path: str
    security: Security = field(repr=False)
    made: WeakSet[Bounded] = field(repr=False)

    @property
    def common(self) -> Mapping[str, str]:
        """What every request says."""
        return {**COMMON, **self.security.fields(self.url)}

    @property
    def signer(self) -> Signer | None:
        """What signs each request, None if nothing does."""
        return self.security.signer(self.url)

    def lease(self) -> Bounded:
        """Take a connection: one that is alive, as far as is known without asking, or a new one, to be connected."""
        return self._known(self.kept.take() or Bounded(self.route))

    def new(self) -> Bounded:
        """Return a connection that was never used, to be connected."""
        return self._known(Bounded(self.route))

    def _known(self, connection: Bounded) -> Bounded:
        if connection.sock is None:
            self.made.add(connection)
        return connection

    def give_back(self, connection: Bounded) -> None:
        """Keep a connection for the next request, or close it if enough are kept."""
        self.kept.put(connection)


class Pools(Listener):
    """A pool for each host; a process that forks gets its own. ``timeout`` is in seconds, to connect."""

    def __init__(self, timeout: float, security: Security) -> None:
        self._made: WeakSet[Bounded] = WeakSet()
        known: dict[Name, Known] = {}  # which stays true in a process that forks
        self._own = PerProcess(lambda: _Own(security, Resolver(timeout, known), timeout, self._made))
        tell(self)

    def origin(self, url: str) -> Origin:
        """Return the origin of a Host.url."""
        own = self._own.get()
        return own.origins.get(url) or own.origins.setdefault(url, own.origin(url))

    def close(self) -> None:
        """Close this process's connections."""
        own = self._own.take()
        if own is not None:
            for origin in list(own.origins.values()):
                origin.kept.close()

    def after_fork_in_child(self) -> None:
        """Close the copies of the parent's connections: while they are open, its death would not end its requests."""
        for connection in list(self._made):
            connection.give_up_copy()
        self._made.clear()


class _Own:
    """The pools of one process."""

    def __init__(self, security: Security, resolver: Resolver, timeout: float, made: WeakSet[Bounded]) -> None:
        self.origins: dict[str, Origin] = {}
        self._security = security
        self._resolver = resolver
        self._timeout = timeout
        self._made = made

    def origin(self, url: str) -> Origin:
        parts = urlsplit(url)
        host, secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        route = Route(host, port, self._timeout, self._resolver, Traffic(), self._security.tls if secure else None)
        _, _, rest = url.partition("//")
        authority, slash, path = rest.partition("/")
        return Origin(_Kept(), route, url, authority, slash + path, self._security, self._made)
