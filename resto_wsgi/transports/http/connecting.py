"""How a connection to one host is made: its addresses are found, they are tried, and TLS is spoken; each within bounds.

All addresses of a host are tried within one ``timeout``, the next one STAGGER seconds after the one before, and the
first that answers is taken (RFC 8305, section 5). TLS has as much time as a request: as long as there is progress.
From before it connects, a socket is made so that nothing is carried out late (``OPTIONS``):

    closed, or its process killed, at any moment ──> a reset; what the kernel had of a request is dropped
    alive, but nothing is acknowledged for USER_TIMEOUT ──> the same, whoever holds the socket

So a request that lies in our kernel while a link is cut is not sent when the link is back. An answered connection has
nothing to lose: its reply has been read, and a host takes a reset for an end. No request is known here. ``connection``
calls this.
"""

from __future__ import annotations

import collections
import errno
import os
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .progress import LOOKS, SLOW_STEPS, Exchange, Progress, Traffic
from .resolving import Address, Resolver

__all__ = ["OPTIONS", "USER_TIMEOUT", "NotConnected", "Route"]

STAGGER = 0.25  # seconds (RFC 8305, section 8)
USER_TIMEOUT = 10.0  # seconds (RFC 5482): half of those after which the outbox holds that nothing is carried out late
OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(USER_TIMEOUT * 1000)),
)


class NotConnected(OSError):
    """No address of a host took a connection."""


@dataclass(frozen=True)
class Route:
    """The way to one host. ``context`` returns that of TLS, None if it is not spoken. ``timeout`` is in seconds."""

    host: str
    port: int
    timeout: float
    resolver: Resolver
    traffic: Traffic
    context: Callable[[], ssl.SSLContext] | None = None

    def connect(self) -> socket.socket:
        """Return a new connection. Raises Unresolved, NotConnected, TimeoutError, ssl.SSLError and OSError."""
        race = _Race(self.resolver.addresses(self.host, self.port), self.timeout, self.traffic)
        sock, address = race.run()
        self.resolver.prefer(self.host, self.port, address)
        try:
            if self.context is not None:
                sock = self._secured(sock, self.context())
            sock.settimeout(self.timeout)
        except BaseException:
            sock.close()
            raise
        return sock

    def _secured(self, sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
        # TLS sends a name without the dot at its end (RFC 6066, section 3).
        secure = context.wrap_socket(sock, server_hostname=self.host.rstrip("."), do_handshake_on_connect=False)
        exchange = Exchange(self.timeout)
        exchange.begin(0)
        progress = Progress(secure, exchange, self.traffic)
        try:
            _shake_hands(secure, progress)
        except BaseException:
            secure.close()
            raise
        finally:
            progress.over()
        return secure


def _shake_hands(secure: ssl.SSLSocket, progress: Progress) -> None:
    """Agree on keys with the host. Raises TimeoutError, ssl.SSLError and OSError."""
    poll = select.poll()
    done = False
    while not done:
        progress.all_sent()
        try:
            secure.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            _await(secure, select.POLLIN, poll, progress)
        except ssl.SSLWantWriteError:
            _await(secure, select.POLLOUT, poll, progress)


def _await(secure: ssl.SSLSocket, events: int, poll: select.poll, progress: Progress) -> None:
    """Wait until the connection is ready. Raises TimeoutError."""
    poll.register(secure, events)
    while not poll.poll(max(1.0, (progress.until - time.monotonic()) * 1000)):
        if (late := progress.overdue()) is not None:
            raise TimeoutError(f"TLS: {late}")
    progress.sends_on()


class _Race:
    """Attempts to connect, of which the first that succeeds ends the others."""

    def __init__(self, addresses: Sequence[Address], timeout: float, traffic: Traffic) -> None:
        self._left = collections.deque(addresses)
        self._timeout = timeout
        self._traffic = traffic
        self._trying: dict[int, tuple[socket.socket, Address]] = {}
        self._poll = select.poll()
        self._refused: list[str] = []

    def run(self) -> tuple[socket.socket, Address]:
        """Return a connected socket that does not wait, and its address. Raises NotConnected."""
        begun = follows = time.monotonic()
        try:
            while self._left or self._trying:
                now = time.monotonic()
                if self._left and (not self._trying or now >= follows):
                    self._try(self._left.popleft())
                    follows = now + STAGGER
                    continue
                if not self._may_go_on(now - begun):
                    raise NotConnected(f"no connection within {self._timeout:g} s")
                for descriptor, _ in self._poll.poll(self._wait(follows - now)):
                    if (won := self._look(descriptor)) is not None:
                        return won
        finally:
            # The one that has won is not among them: `_look` has taken it out.
            for sock, _ in self._trying.values():
                sock.close()
        raise NotConnected(f"refuses connections, or is unreachable: {'; '.join(self._refused)}")

    def _try(self, address: Address) -> None:
        try:
            sock = socket.socket(address.family, socket.SOCK_STREAM)
        except OSError as error:  # this machine does not know such addresses
            self._refused.append(f"{address}: {error.strerror}")
            return
        self._trying[sock.fileno()] = (sock, address)
        sock.setblocking(False)
        for level, option, value in OPTIONS:
            sock.setsockopt(level, option, value)
        self._poll.register(sock, select.POLLOUT)
        code = sock.connect_ex(address.where)
        if code not in (0, errno.EINPROGRESS):
            self._give_up(sock, address, code)

    def _look(self, descriptor: int) -> tuple[socket.socket, Address] | None:
        """Return the attempt if it has succeeded."""
        sock, address = self._trying[descriptor]
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._give_up(sock, address, code)
            return None
        return self._trying.pop(descriptor)

    def _give_up(self, sock: socket.socket, address: Address, code: int) -> None:
        del self._trying[sock.fileno()]
        self._poll.unregister(sock)
        sock.close()
        self._refused.append(f"{address}: {os.strerror(code)}")

    def _may_go_on(self, elapsed: float) -> bool:
        """Return whether there is time left; a link that others are seen to fill may lose our packets for longer."""
        if elapsed < self._timeout / LOOKS:
            return True
        moves = self._traffic.moves(self._timeout)
        return elapsed < self._timeout or (moves and elapsed < SLOW_STEPS * self._timeout)

    def _wait(self, until_next: float) -> float:
        """Return the milliseconds until there may be something to do."""
        seconds = self._timeout / LOOKS
        return 1000 * min(seconds, max(0.0, until_next)) if self._left else 1000 * seconds
