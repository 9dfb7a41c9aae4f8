"""One HTTP/1.1 connection whose every request ends in bounded time, memory and doubt; urllib3 pools it.

Time is bounded twice: no step takes longer than ``step`` without progress, and the whole request has a deadline, so
that a host that moves a byte now and then cannot hold us. Both are looked at where bytes move: in ``Bounded.send`` on
the way out, in ``Reply`` on the way in. A reply has a limit in bytes, which only a file that was asked for lifts.
What is known of a request while it runs is its ``Exchange``; nothing here knows of names, hosts or statuses.
``http.HttpTransport`` is the only caller.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextvars import ContextVar
from http.client import HTTPResponse as HttpReply
from typing import Any, BinaryIO

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

__all__ = ["BLOCK", "POOL_CLASSES", "Body", "Bounded", "Exchange", "Reply", "Shrunk", "Stale", "TooLong", "exchange"]

BLOCK = 256 * 1024  # bytes read from the file and given to the socket at a time, or the other way round
REPLY_LIMIT = 64 * 1024  # bytes of a whole reply; the error pages of the stock servers are under 1 KiB
MINIMUM_RATE = 64 * 1024  # bytes per second: a transfer that is slower on the whole is given up
STEPS = 3  # times ``step`` that a request may take beside its bytes: to connect, to send, to answer
ANSWER_STEPS = 2  # times ``step`` that an answer may take on the whole, however large the file was
LONGEST = 24 * 3600.0  # seconds that a file may take to come: its length is only what the host says
UNSIZED = 3600.0  # the same where the host says no length, so that nothing else bounds a reply that never ends


class Exchange:
    """One piece of work with a host: its request, and those that have to come before it is repeated.

    ``step`` is how many seconds may pass without progress, ``ends`` when the request has to be over. ``sent`` is
    True from before the first byte of the request went out; ``lost`` where an earlier one of this exchange ended with
    no status, so that nobody knows whether the host did what it asked for. ``reading`` is True once a file comes.
    """

    def __init__(self, step: float) -> None:
        self.step = step
        self.ends = 0.0
        self.sent = False
        self.lost = False
        self.reading = False
        self.reply: Reply | None = None

    def begin(self, size: int) -> None:
        """Start the clock of a request with a body of ``size`` bytes."""
        self.ends = time.monotonic() + STEPS * self.step + size / MINIMUM_RATE
        self.sent = False
        self.reply = None

    def next_step(self) -> float:
        """Return the seconds that the next step may take; raise TimeoutError where there are none."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long on the whole")
        return min(self.step, left)

    def expect(self, size: int | None) -> None:
        """Let the reply go on for a file of ``size`` bytes, or of a size that nobody knows."""
        self.reading = True
        if self.reply is not None:
            self.reply.lift()
        self.ends += UNSIZED if size is None else min(size / MINIMUM_RATE, LONGEST)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock: what is done meanwhile is not the host's."""
        begun = time.monotonic()
        yield
        self.ends += time.monotonic() - begun


# How an exchange reaches the connection that urllib3 picks for its request.
exchange: ContextVar[Exchange] = ContextVar("exchange")


class Stale(ConnectionResetError):
    """A connection that had been kept alive turned out to be closed by the host."""


class Shrunk(Exception):
    """The master's file became shorter while it was sent."""


class TooLong(Exception):
    """A reply went on beyond REPLY_LIMIT. No OSError, so that nobody takes it for the end of the reply."""

    status: int | None = None

    def __str__(self) -> str:
        return f"its reply is longer than {REPLY_LIMIT} bytes; look at what answers at its URL"


class Body(io.RawIOBase):
    """Exactly ``size`` bytes of a file, read at an offset of its own. A shorter file is an error, never a short PUT."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._fd = file.fileno()
        self._size = size
        self._sent = 0

    def read(self, size: int = -1) -> bytes:
        block = os.pread(self._fd, min(BLOCK, self._size - self._sent), self._sent)
        if not block and self._sent < self._size:
            raise Shrunk(f"the master ends at {self._sent} bytes of {self._size}")
        self._sent += len(block)
        return block


class Reply(io.RawIOBase):
    """What a socket receives, until the deadline and up to REPLY_LIMIT bytes."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file = sock.makefile("rb", buffering=0)  # http.client closes the socket before such a reply is read
        self._ends = time.monotonic() + ANSWER_STEPS * exchange.get().step
        self._limit: float = REPLY_LIMIT
        self.received = 0

    def makefile(self, mode: str) -> io.BufferedReader:
        """Stand in for a socket where http.client asks it for a file."""
        return io.BufferedReader(self, 8192)

    def lift(self) -> None:
        """Leave only the deadline: the reply is a file that somebody wants, and is not kept in memory."""
        self._ends = self._limit = float("inf")

    def let_go(self) -> None:
        """Let the socket be closed by who owns it; urllib3 leaves a reply open whose headers it does not like."""
        self._file.close()

    def close(self) -> None:
        self.let_go()
        super().close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.received >= self._limit:
            raise TooLong
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long on the whole")
        work = exchange.get()
        self._sock.settimeout(min(left, work.next_step()))
        try:
            count = self._sock.recv_into(buffer, int(min(len(buffer), self._limit - self.received)))
        except TimeoutError as error:
            work.next_step()  # the whole, where it was the shorter of the two
            raise TimeoutError(f"nothing came within {work.step:g} s") from error
        self.received += count
        return count


class Bounded(HTTPConnection):
    """A connection that keeps to the deadline of its request, and knows when it failed for being stale."""

    _used = False
    _cut = False

    def connect(self) -> None:
        self._used = self._cut = False
        super().connect()

    def send(self, data: Any) -> None:
        """Send all of ``data``, whose every part is a step; to sendall the whole block would be one.

        The look at the deadline after connecting also keeps a name that resolved too late from being written to.
        """
        if self.sock is None:
            self.connect()
        left = memoryview(data)
        try:
            while left:
                self.sock.settimeout(exchange.get().next_step())
                exchange.get().sent = True  # before it is: a send that fails may have sent something
                left = left[self.sock.send(left) :]
        except TimeoutError as error:
            if self._has_an_answer():  # an early 413, from a host that reads no further
                self._cut = True
                raise BrokenPipeError from error  # which urllib3 takes as the word to read it
            self._reset()
            raise
        except BaseException:
            self._reset()
            raise

    def getresponse(self) -> Any:
        reply = exchange.get().reply = Reply(self.sock)
        self.response_class = lambda _, *args, **kw: HttpReply(reply, *args, **kw)  # type: ignore[assignment,arg-type]
        used, self._used = self._used, True
        try:
            response = super().getresponse()
        except BaseException as error:
            reply.let_go()
            if not isinstance(error, ConnectionError):
                self._reset()
            elif used and not reply.received:
                raise Stale(*error.args) from error
            raise
        if response.status < 200 or self._cut:
            self._reset()
            self.close()  # the rest of the request, or of the reply, must not meet the next request
        if response.status < 200:
            raise OSError(f"answered {response.status}, and no final status")
        return response

    def _has_an_answer(self) -> bool:
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))

    def _reset(self) -> None:
        """Let the close that follows be a reset, so that the host drops what it has not read of a request.

        Else a PUT that was given up could be carried out after the DELETE that withdraws it.
        """
        with contextlib.suppress(OSError, AttributeError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class _BoundedTls(Bounded, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = Bounded


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _BoundedTls


POOL_CLASSES = {"http": _Pool, "https": _TlsPool}
