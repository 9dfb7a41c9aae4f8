"""One request on a connection of its own, exactly as it is told, for what a transport never sends.

Bodies that are cut, DELETE without Depth, Expect, paths that are no names. Nothing is repeated. How to connect, how
long anything may take and what a reply is are not decided here, but where they are decided for every other request
(``connection``, ``flight``): so a host is judged as it will be when files are replicated to it. All that goes wrong is
a DeliveryError. ``check`` calls this.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import select
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import BinaryIO

from ...fields.digests import format_digest
from ...hosts import Host
from .connection import MOVED_BYTES_MAX, Bounded, Origin, Pools
from .errand import FAULTS, READ_REMEDIES, Errand
from .flight import Flight
from .outgoing import Outgoing
from .reply import Fields
from .request import head_of
from .security import Security

__all__ = ["RawReply", "RawRequests", "Tls"]

BODY_LIMIT = 64 * 1024  # bytes of a reply's body that are kept if the caller does not say how many
FINAL = range(200, 600)  # statuses; the body of every reply is read here, not only that of a file


@dataclass(frozen=True)
class RawReply:
    """A final reply. ``whole`` is False if the body ended early or was longer than what was wanted of it."""

    status: int
    headers: Fields
    body: bytes
    whole: bool


@dataclass(frozen=True)
class Tls:
    """What was agreed on: ``version`` such as TLSv1.3, ``expires`` when the certificate ends, seconds since 1970."""

    version: str
    expires: float | None


class RawRequests:
    """Requests to ``host``; ``timeout`` is in seconds without progress, ``security`` is what the host is shown.

    A ``target`` is percent-encoded, begins with a slash and is below the host's own path. ``local_address`` is ours
    as the host sees it, unless something between changes it; "" before the first connection.
    """

    def __init__(self, host: Host, timeout: float, security: Security) -> None:
        self.local_address = ""
        self._host = host
        self._timeout = timeout
        self._security = security
        self._pools = Pools(timeout, security)

    def ask(
        self,
        method: str,
        target: str,
        fields: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        limit: int = BODY_LIMIT,
    ) -> RawReply:
        """Return the answer to a request, with at most ``limit`` bytes of its body."""
        length = None if body is None else len(body)
        with self._line(target) as line:
            flight = line.send(method, target, fields or {}, body or b"", length, limit)
            _move(flight, lambda: False)
            return line.read(flight, limit)

    def cut(self, target: str, length: int, body: bytes) -> None:
        """Announce a PUT of ``length`` bytes, send ``body``, which is shorter, and hang up in order.

        Returns when the host has seen that: it answered, or closed the connection, or took its time.
        """
        with self._line(target) as line:
            flight = line.send("PUT", target, {}, body, length)
            _move(flight, lambda: flight.is_sent)
            # Not close: that is a reset here (SO_LINGER), which is another fault than a body that ends too early.
            with contextlib.suppress(OSError):  # it may have hung up before
                line.connection.sock.shutdown(socket.SHUT_WR)
            _move(flight, lambda: False)

    def announce(self, target: str, length: int) -> RawReply | None:
        """Announce a PUT of ``length`` bytes and send none. Return its refusal, None if the host says to go on.

        RFC 9110, section 10.1.1. Raises DeliveryError if the host says neither in time.
        """
        with self._line(target) as line:
            flight = line.send("PUT", target, {"Expect": "100-continue"}, b"", length)
            _move(flight, lambda: flight.continued)
            if flight.continued:
                line.connection.close()  # a reset, so that the host takes the request for broken and not for complete
                return None
            return line.read(flight, BODY_LIMIT)

    def tls(self) -> Tls:
        """Return what TLS agreed on with a host whose URL says https; the certificate was verified."""
        with self._line("/") as line:
            sock = line.connection.sock
            assert isinstance(sock, ssl.SSLSocket)  # noqa: S101 - only asked of https
            ends = (sock.getpeercert() or {}).get("notAfter")
            expires = float(ssl.cert_time_to_seconds(ends)) if isinstance(ends, str) else None
            return Tls(sock.version() or "", expires)

    @contextlib.contextmanager
    def _line(self, target: str) -> Iterator[_Line]:
        errand = Errand(self._host, target, self._timeout, self._security, READ_REMEDIES)
        origin = self._pools.origin(self._host.url)
        connection = origin.new()
        try:
            connection.connect()
            self.local_address = connection.sock.getsockname()[0]
            with tempfile.TemporaryFile() as file:
                yield _Line(origin, connection, errand, file)
        except FAULTS as error:
            raise errand.broken(error) from error
        finally:
            connection.close()


class _Line:
    """A connection for one request; ``file`` is empty, and for its body."""

    def __init__(self, origin: Origin, connection: Bounded, errand: Errand, file: BinaryIO) -> None:
        self.connection = connection
        self._origin = origin
        self._errand = errand
        self._file = file

    def send(
        self, method: str, target: str, fields: Mapping[str, str], body: bytes, length: int | None, limit: int = 0
    ) -> Flight:
        """Begin to send a request whose Content-Length is ``length``; ``limit`` bytes are expected back."""
        said = {"Connection": "close", **fields}
        if length is not None:
            said["Content-Length"] = str(length)
            if self._origin.signer is not None:
                said["Repr-Digest"] = format_digest(hashlib.sha256(body).digest())
        self._file.write(body)
        self._file.flush()
        self._errand.exchange.begin(len(body) + limit)
        flight = Flight(
            self.connection,
            self._errand.exchange,
            method,
            head_of(self._origin, method, target, said),
            Outgoing(self._file, len(body)),
            streamed=FINAL,
        )
        flight.start()
        return flight

    def read(self, flight: Flight, limit: int) -> RawReply:
        """Return the reply that a flight ended with. Raises DeliveryError if it ended otherwise, and FAULTS."""
        if flight.head is None or flight.reply is None:
            raise self._errand.broken(flight.error)
        with contextlib.closing(flight.reply) as reply:
            body, whole = _read(reply, limit)
        return RawReply(flight.head.status, flight.head.fields, body, whole)


def _read(reply: HTTPResponse, limit: int) -> tuple[bytes, bool]:
    """Return at most ``limit`` bytes of a body, and whether that is all of it."""
    body = bytearray()
    try:
        while len(body) < limit and (block := reply.read(min(MOVED_BYTES_MAX, limit - len(body)))):
            body += block
        # What the length promised and did not come, or came and was not wanted.
        whole = not reply.length and (len(body) < limit or reply.isclosed() or not reply.read(1))
    except HTTPException:
        whole = False
    return bytes(body), whole


def _move(flight: Flight, is_enough: Callable[[], bool]) -> None:
    """Move a flight until it is over, or that is enough."""
    poll = select.poll()
    while not (flight.over or is_enough()):
        poll.register(flight.fd, flight.wants)
        patience = flight.until - time.monotonic()
        if ready := poll.poll(max(0, math.ceil(patience * 1000))):
            flight.advance(ready[0][1])
        else:
            flight.expire()
