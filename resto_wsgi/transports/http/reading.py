"""A reply that is read as it comes, block by block, within the deadlines of its exchange, whatever the other side does.

It is for callers that pass on what a host says, or go on where a file broke off. They choose the method, the target and
the fields, and judge the status. Nothing is repeated, except on a connection that the host had closed already. Whoever
opened a reading closes it; its connection is kept if all of it was read. ``transport`` opens these.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from http.client import HTTPResponse

from ...errors import DeliveryError, counted
from . import headers as http_headers
from .connection import MOVED_BYTES_MAX, Bounded, Origin
from .errand import FAULTS, FINAL, REMEDIES, Errand
from .flight import CLOSED, TIMED_OUT
from .reply import open_reply
from .request import head_of

__all__ = ["Reading", "open_reading"]

SHORT = 16 * 1024  # bytes of a body that nobody wants: fewer are read than a new connection costs


class Reading:
    """A reply whose head has come. ``size`` is that of its body in bytes, None if nobody says it."""

    def __init__(self, origin: Origin, connection: Bounded, errand: Errand, reply: HTTPResponse) -> None:
        self.status = reply.status
        self.headers = reply.headers
        self.size = http_headers.file_size(reply.headers)
        self._origin = origin
        self._connection: Bounded | None = connection
        self._errand = errand
        self._exchange = errand.exchange
        self._reply = reply
        self._exchange.expect(self.size)

    @property
    def ends(self) -> bool:
        """True if the reply says where its body ends. If not, a broken body cannot be told from a whole one."""
        return self._reply.chunked or self._reply.length is not None

    def blocks(self, most: int = MOVED_BYTES_MAX) -> Iterator[bytes]:
        """Yield the body, at most that many bytes at a time. Raises DeliveryError if it ends early, or is late."""
        received = 0
        while block := self._next(most):
            received += len(block)
            with self._exchange.paused():
                yield block
        if self._reply.length:
            came = counted(received, "byte")
            raise self._errand.failed(f"the connection broke: {came} came, and {self._reply.length} did not")
        self._release(kept=not self._reply.will_close)

    def text(self, limit: int) -> bytes:
        """Return a body of at most ``limit`` bytes. Raises DeliveryError if it is longer, or does not come."""
        found = bytearray()
        for block in self.blocks():
            found += block
            if len(found) > limit:
                raise self._errand.failed(f"its answer is longer than {limit} bytes")
        return bytes(found)

    def failed(self, reason: str) -> DeliveryError:
        """Say why a reply does not do."""
        return self._errand.failed(reason)

    def refused(self) -> DeliveryError:
        """Say what a status means that is not one that was wanted."""
        remedy = f": {REMEDIES[self.status]}" if self.status in FINAL else ""
        return self._errand.failed(f"answered {self.status}{remedy}", status=self.status)

    def close(self) -> None:
        """Let go of the connection; it is of no more use unless all was read."""
        self._release(kept=False)

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        length = None if self._reply.chunked else self._reply.length  # None: nobody knows where it ends
        if self._connection is not None and length is not None and length <= SHORT:
            with contextlib.suppress(*FAULTS):
                self._reply.read()
            self._release(kept=not self._reply.will_close)
        self.close()

    def _next(self, most: int) -> bytes:
        try:
            return self._reply.read1(most) if self._reply.chunked else self._reply.read(most)
        except FAULTS as error:
            raise self._errand.broken(error) from error

    def _release(self, *, kept: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._reply.close()
        if kept:
            self._origin.give_back(connection)
        else:
            connection.close()


def open_reading(origin: Origin, errand: Errand, method: str, target: str, fields: Mapping[str, str]) -> Reading:
    """Send a request that has no body, and return the reply to it. Raises DeliveryError if none comes."""
    try:
        connection = origin.lease()
        used = connection.sock is not None
        try:
            reading = _ask(origin, connection, errand, method, head_of(origin, method, target, fields))
            if not used or reading.status != TIMED_OUT:
                return reading
            reading.close()
        except CLOSED:
            if not used:
                raise
        # The host had ended the one that was kept alive. The head is made anew: a signature is good once.
        return _ask(origin, origin.new(), errand, method, head_of(origin, method, target, fields))
    except FAULTS as error:
        raise errand.broken(error) from error


def _ask(origin: Origin, connection: Bounded, errand: Errand, method: str, head: bytes) -> Reading:
    errand.exchange.begin(0)
    try:
        if connection.sock is None:
            connection.connect()
        connection.used = True
        connection.sock.settimeout(errand.exchange.next_step())
        connection.sock.sendall(head)
        reply = open_reply(connection.sock, b"", method, errand.exchange, connection.route.traffic)
    except BaseException:
        connection.close()
        raise
    return Reading(origin, connection, errand, reply)
