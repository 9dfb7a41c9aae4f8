"""One request and its reply on one connection, moved only when it can be moved without waiting.

    sending ── the kernel has all of it ──> answering ── the reply is whole ─────────────> over: ``head``
       │                                        └─────── closed, reset, not HTTP ────────> over: ``error``
       ├── a reply comes before its end ──> no byte more is sent, and the head of the reply is waited for
       └── the file ends too early ───────────────────────────────────────────────────────> over: ``error``
    in each of them, nothing moves ──> ``expire``: ``progress`` knows whether it is given up

A small file goes out with the head in one send. A larger one goes from the file to the socket in the kernel (sendfile),
or through one block of memory under TLS. A reply is collected up to REPLY_LIMIT. It is trusted for its status once its
head is whole, but not if it says that all is well and does not end. If its status is one of those that are
``streamed``, the flight is over with the head, and ``Reply`` reads on. ``driving`` moves many flights in one thread.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
from collections.abc import Container
from http.client import HTTPResponse

from .connection import MOVED_BYTES_MAX, REPLY_LIMIT, Bounded, TooLong
from .headers import end_of_chunks
from .outgoing import Outgoing
from .progress import Exchange, NoAnswer, Progress
from .reply import Head, open_reply, read_head

__all__ = ["CLOSED", "TIMED_OUT", "Flight"]

SMALL = 64 * 1024  # bytes of a body that goes out with the head of its request
SPAN = 4 * 1024 * 1024  # bytes after which a host that takes all at once lets the others have their turn
TIMED_OUT = 408  # RFC 9110, section 15.5.9

END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
# RFC 9110, section 15.2: to be passed over, even if not asked for
CONTINUE = re.compile(rb"HTTP/[^ \t\r\n]*[ \t]+100(?![0-9])")
# What ends a connection that was kept alive, and closed by the host meanwhile; the others are TLS's words for it.
CLOSED = (ConnectionError, ssl.SSLZeroReturnError, ssl.SSLEOFError)


class Flight:
    """One request on a connected connection.

    ``until`` is the time.monotonic() at which ``expire`` is to be called, ``wants`` the poll events for which
    ``advance`` is. ``over`` is True at the end: then ``head`` is the answer, or ``error`` says why there is none;
    ``cut`` if the host answered before it had all of the request. ``reply`` is there if it is still to be read.
    ``continued`` says that the host wants what was announced: it sent 100 Continue (RFC 9110, section 15.2.1).
    """

    def __init__(
        self,
        connection: Bounded,
        exchange: Exchange,
        method: str,
        head: bytes,
        body: Outgoing | None,
        *,
        streamed: Container[int] = (),
    ) -> None:
        self._sock: socket.socket = connection.sock  # which the caller has connected
        self.fd = self._sock.fileno()
        self.wants = select.POLLIN | select.POLLOUT
        self.over = self.cut = self.reusable = self.continued = False
        self.head: Head | None = None
        self.reply: HTTPResponse | None = None
        self.error: Exception = NoAnswer("not over")
        self._exchange = exchange
        self._method = method
        self._streamed = streamed
        self._head = head
        self._body = body or Outgoing(None, 0)
        self._block = memoryview(b"")
        self._in_kernel = not isinstance(self._sock, ssl.SSLSocket)
        self._received = bytearray()
        self._whole = 0  # bytes of the whole reply; 0 if that is not known
        self._sending = True
        self._broken: Exception | None = None  # why no more could be sent
        self._traffic = connection.route.traffic
        self._progress = Progress(self._sock, exchange, self._traffic)
        self._used, connection.used = connection.used, True
        if self._sock.gettimeout() != 0:
            self._sock.settimeout(0)

    @property
    def until(self) -> float:
        """When to call ``expire``, if the connection is not ready before."""
        return self._progress.until

    @property
    def is_sent(self) -> bool:
        """True if no more of the request goes out: all of it has, or the host answers already."""
        return not self._sending

    @property
    def reply_body(self) -> bytes:
        """What was collected of the reply's body, at most REPLY_LIMIT bytes; none of one in chunks."""
        chunked = self.head is None or self.head.chunked
        return b"" if chunked else bytes(self._received[self._end_of_head :])

    @property
    def is_to_repeat(self) -> bool:
        """True if it failed for the sake of its connection alone: a new one may do (RFC 9110, section 9.2.2).

        The host had ended one that was kept alive: it closed it, or said so (408, section 15.5.9). Or the kernel ended
        one that had lost all its packets for USER_TIMEOUT, on a link on which others move.
        """
        if self.head is not None:
            return self._used and self.head.status == TIMED_OUT
        if self._received or not self._is_broken():
            return False
        return self._used or self._progress.is_crowded_out()

    def _is_broken(self) -> bool:
        """True if the connection ended; TLS does not tell whether the host or the kernel did that."""
        error = self.error
        return isinstance(error, CLOSED) or (isinstance(error, TimeoutError) and error.errno is not None)

    def start(self) -> None:
        """Send what can be sent."""
        try:
            self._progress.moved()  # which also looks whether it is too late to begin
            self._block = memoryview(self._head + self._body.read(SMALL) if self._body.size <= SMALL else self._head)
            self._exchange.sent = True  # before it is: a send that fails may have sent something
            self._send()
        except Exception as error:
            self._fail(error)

    def advance(self, events: int) -> None:
        """Move what can be moved, after the connection was seen to be ready."""
        try:
            if self._sending and not self._is_answered(events):
                self._send()
            else:
                self._receive()
        except Exception as error:
            self._fail(error)

    def expire(self) -> None:
        """Nothing moved for a while: give it up, unless bytes of it have arrived meanwhile."""
        late = self._progress.overdue()
        if late is None:
            return
        if self.head is not None:
            self._end()  # its status is clear
        else:
            self._fail(late)

    def abandon(self) -> None:
        """End it as it stands: nobody waits for it any more."""
        if not self.over:
            self._fail(ConnectionAbortedError("given up"))

    # Out

    def _send(self) -> None:
        """Give to the socket what it takes at once, up to SPAN. Go on to the answer if that is all."""
        span = SPAN
        self.wants = select.POLLIN | select.POLLOUT
        try:
            while span > 0 and not self._is_all_sent():
                if not self._block:
                    if self._in_kernel:
                        span -= self._send_in_kernel()
                        continue
                    self._block = memoryview(self._body.read(MOVED_BYTES_MAX))
                sent = self._sock.send(self._block)
                self._block = self._block[sent:]
                span -= sent
                if not self._is_all_sent():
                    self._progress.moved()
        except (BlockingIOError, ssl.SSLWantWriteError):
            return
        except ssl.SSLWantReadError:  # TLS has something to settle first
            self.wants = select.POLLIN
        except (ConnectionError, ssl.SSLError) as error:  # it may have said why before it closed
            self._broken = error
            self._end_sending()
            self._receive()

    def _is_all_sent(self) -> bool:
        """True if the socket has all; from then on an answer is waited for."""
        if self._block or self._body.taken < self._body.size:
            return False
        if self._sending:
            self._sending = False
            self.wants = select.POLLIN
            self._progress.all_sent()
        return True

    def _send_in_kernel(self) -> int:
        try:
            sent = self._body.send(self.fd, SPAN)
        except (BlockingIOError, ConnectionError):
            raise
        except OSError:  # some file systems cannot, and what else is wrong shows where it is read
            self._in_kernel = False
            return 0
        self._progress.moved()
        return sent

    def _end_sending(self) -> None:
        """Send no more, although not all was sent."""
        self.cut = True
        self._sending = False
        self.wants = select.POLLIN
        self._progress.answer_due()

    def _resume(self) -> None:
        """Send on: what looked like an early answer was none."""
        self.cut = False
        self._sending = True
        self._progress.sends_on()
        self.wants = select.POLLIN | select.POLLOUT

    def _is_answered(self, events: int) -> bool:
        """True if the host says something although not all was sent; then no more is sent."""
        if self._is_all_sent():
            return True
        if not events & ~select.POLLOUT:
            return False
        try:
            data = self._sock.recv(REPLY_LIMIT)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False  # a record of TLS itself, such as a new session ticket
        self._end_sending()  # before it is looked at: else a whole reply would leave the connection amid our body
        self._take(data)
        return True

    # In

    def _receive(self) -> None:
        """Take what has come, up to the end of the reply, or of its head if that is enough."""
        while not self.over:
            try:
                data = self._sock.recv(REPLY_LIMIT)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except (ConnectionError, ssl.SSLError):
                if self.head is None:
                    raise
                data = b""
            self._take(data)

    def _take(self, data: bytes) -> None:
        self._received += data
        if self.head is None:
            self._parse_head(at_end=not data)
        if self.head is not None and not self.over:
            self._look_for_the_end(self.head, at_end=not data)
        if self.over or not self._received:  # an interim answer is none: what was sent may still be on its way
            return
        if not self._sending:
            self._progress.answer_due()
        self._progress.moved()

    def _parse_head(self, *, at_end: bool) -> None:
        while (found := END_OF_HEAD.search(self._received)) and CONTINUE.match(self._received):
            del self._received[: found.end()]
            self.continued = True
            self._used = False  # somebody is there, so the connection was not stale
            if self.cut and self._broken is None and not self._received:
                self._resume()
        too_long = len(self._received) >= REPLY_LIMIT
        if not (found or at_end or too_long or not b"HTTP/".startswith(self._received[:5])):
            return
        if not self._received:
            raise self._broken or ConnectionResetError("Remote end closed connection without response")
        head = read_head(bytes(self._received), self._method)
        if not found:  # http.client is content with a head that is cut off
            raise TooLong if too_long else ConnectionResetError("the host closed the connection amid its answer")
        if head.status < 200:
            raise OSError(f"answered {head.status}, and no final status")
        self._end_of_head = found.end()
        self.head = head

    def _look_for_the_end(self, head: Head, *, at_end: bool) -> None:
        if head.status in self._streamed:
            self.reply = open_reply(self._sock, bytes(self._received), self._method, self._exchange, self._traffic)
            self._end()
        elif self.cut or at_end:
            self._end()
        elif head.length is not None:  # comes first: a reply to HEAD has no chunks, whatever it says of them
            self._whole = self._end_of_head + head.length
        elif head.chunked:
            self._end_of_head, last = end_of_chunks(self._received, self._end_of_head)
            self._whole = self._end_of_head if last else 0
        if self.over:
            return
        if self._whole and len(self._received) >= self._whole:
            self._end(kept=len(self._received) == self._whole and not head.closes)
        elif len(self._received) >= REPLY_LIMIT:
            if head.status < 300:  # others may have a long page; what they say is clear without it
                raise TooLong(head.status)
            self._end()

    # The end

    def _end(self, *, kept: bool = False) -> None:
        self.over = True
        self.reusable = kept
        self._progress.over()

    def _fail(self, error: Exception) -> None:
        self.error = self._broken if self._broken is not None and isinstance(error, OSError) else error
        self.head = None
        self.over = True
        self._progress.over()
