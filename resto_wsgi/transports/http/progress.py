"""How long a request may take: since when nothing of it arrives, and when all of it has to be over.

    moving ── for a quarter of ``step`` nothing is sent, and nothing comes ──> quiet: the kernel is asked, and again
    quiet ─── more has arrived at the host, or come from there ─────────────> moving
      ├────── all has arrived: an answer is due ────────────────────────────> moving
      └────── nothing for as long as ``_patience`` says ────────────────────> given up, as after ``Exchange.ends``

Progress is bytes that arrive. What the kernel takes is none: it takes some MiB at once and sends them when it can. A
request that is quick asks it nothing. A frozen host goes on acknowledging until the buffer of its kernel is full, and
then looks like a link that is cut. Other requests that move at the same host show that the link is only shared.
``flight`` and ``early`` have one ``Progress`` for each request.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios
import time
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Exchange", "NoAnswer", "Progress", "Traffic", "patience"]

STEPS = 12  # times ``step`` that a request may take beside its bytes: SHARED_STEPS, and an answer
LEAST_RATE = 512  # bytes per second on the whole: each of 32 uploads at once on a line of 0.25 Mbit/s has a little more
FILE_SECONDS_MAX = 24 * 3600.0  # seconds that a file may take to come: its length is only what the host says
UNSIZED = 3600.0  # the same if the host says no length, so that nothing else bounds a reply that never ends
LOOKS = 4  # times in a ``step`` that the kernel is asked
TIMERS = 4  # times that TCP's timer may run out on a slow link: a packet that is lost twice is sent again after three
SLOW_STEPS = 4  # times ``step`` that this may come to at most
SHARED_STEPS = 10  # times ``step`` that one request may be quiet while others move: measured 12 s, of 32 at 0.25 Mbit/s
ANSWER_STEPS = 2  # times as long as it may be quiet that an answer may take on the whole, however large the file was
WHOLE = "the request took too long on the whole"

# linux/tcp.h: backoff, rto in us, unacked, last_ack_recv in ms, bytes_received, notsent_bytes, delivered
_TCP_INFO = struct.Struct("=4xB3xI12xI28xI68xQ8xI44xI")
LEAST_TIMER = 0.2  # seconds: TCP_RTO_MIN
_AT_ONCE = 0.05  # seconds within which two looks at all requests of a host are one


class NoAnswer(TimeoutError):
    """The request has arrived, and nothing that ends it came back in time."""


class Exchange:
    """One piece of work with a host: its request, and those that have to come before it is repeated.

    ``step`` is how many seconds may pass without progress, ``ends`` when the request has to be over. ``sent`` is
    True from before the first byte of the request went out; ``lost`` if an earlier one of this exchange ended with
    no status, so that nobody knows whether the host did what it asked for.
    """

    def __init__(self, step: float) -> None:
        self.step = step
        self.ends = 0.0
        self.sent = False
        self.lost = False

    def begin(self, size: int) -> None:
        """Start the clock of a request with a body of ``size`` bytes."""
        self.ends = time.monotonic() + STEPS * self.step + size / LEAST_RATE
        self.sent = False

    def next_step(self) -> float:
        """Return the seconds that the next step may take; raise TimeoutError if there are none."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise TimeoutError(WHOLE)
        return min(self.step, left)

    def expect(self, size: int | None) -> None:
        """Let the reply go on for a file of ``size`` bytes, or of a size that nobody knows."""
        self.ends += UNSIZED if size is None else min(size / LEAST_RATE, FILE_SECONDS_MAX)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock: what is done meanwhile is not the host's."""
        begun = time.monotonic()
        yield
        self.ends += time.monotonic() - begun


class Seen(NamedTuple):
    """What the kernel says of a connection; times are in seconds.

    ``moved`` changes when bytes arrive, there or here. ``queued``: some have yet to arrive there. ``timer`` is how much
    longer than usual TCP waits here before it sends again, ``heard`` since when nothing was acknowledged.
    """

    moved: tuple[int, ...]
    queued: bool
    timer: float = 0.0
    heard: float = float("inf")


def look(sock: socket.socket) -> Seen:
    """Return what the kernel says. Raises OSError if the connection was closed."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    if len(info) == _TCP_INFO.size:
        backoff, timer, unacked, heard, received, unsent, delivered = _TCP_INFO.unpack(info)
        if delivered:  # of a connection it is never 0; kernels before 4.18, and what stands in for one, do not count it
            # TCP doubles its timer each time that it has run out, and has a least: neither says anything of the link.
            seconds = max(0.0, (timer >> min(backoff, 16)) / 1e6 - LEAST_TIMER)
            return Seen((delivered, received), bool(unacked or unsent), seconds, heard / 1e3)
    (queued,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
    return Seen((queued,), queued > 0)


def patience(step: float, timer: float) -> float:
    """Return for how many seconds a link may be quiet on which TCP waits for ``timer`` before it sends again."""
    return max(step, min(TIMERS * timer, SLOW_STEPS * step))


class Traffic:
    """The requests under way at one host. Any thread may call."""

    def __init__(self) -> None:
        self.under_way: set[Progress] = set()
        self.latest = float("-inf")  # when bytes of one of them arrived, as far as anybody has looked
        self._looked = float("-inf")

    def moves(self, within: float) -> bool:
        """Look at all requests; return whether bytes of one have arrived within so many seconds."""
        now = time.monotonic()
        if now > self._looked + _AT_ONCE:
            self._looked = now
            for each in list(self.under_way):
                each.look(now)
        return self.latest > now - within


class Progress:
    """That of one request on a connection. When ``until`` has come and nothing moved, ``overdue`` is to be asked."""

    # Most requests never change these, and there are many requests.
    until = 0.0
    _latest = 0.0  # when something moved last
    _seen: Seen | None = None
    _all_sent = _reads = False
    _answer_ends = float("inf")

    def __init__(self, sock: socket.socket, exchange: Exchange, traffic: Traffic) -> None:
        self._sock = sock
        self._exchange = exchange
        self._traffic = traffic
        traffic.under_way.add(self)

    def over(self) -> None:
        """Say that nothing is to move any more."""
        self._traffic.under_way.discard(self)

    def moved(self) -> None:
        """Say that something was sent, or has come. Raises TimeoutError if the request took too long on the whole."""
        now, exchange = time.monotonic(), self._exchange
        if now >= exchange.ends:
            raise TimeoutError(WHOLE)
        self._latest = now
        self.until = min(now + exchange.step / LOOKS, exchange.ends, self._answer_ends)

    def all_sent(self) -> None:
        """Say that the kernel has all: an answer is due from when all of it has arrived. Raises as ``moved`` does."""
        self._all_sent = True
        self.moved()

    def answer_due(self) -> None:
        """Say that an answer is due from now on: it has begun, or nothing more can be sent."""
        self._all_sent = True
        self._await_answer(time.monotonic())

    def sends_on(self) -> None:
        """Say that no answer is due yet after all."""
        self._all_sent = False
        self._answer_ends = float("inf")

    def reads_on(self) -> None:
        """Say that a file comes, which takes as long as it takes."""
        self._all_sent = self._reads = True
        self._answer_ends = float("inf")

    def overdue(self) -> TimeoutError | None:
        """Return why the request is given up, None if it may go on until ``until``."""
        now, exchange = time.monotonic(), self._exchange
        self.look(now)
        limit = self._limit()
        if now >= exchange.ends:
            return TimeoutError(WHOLE)
        if now >= min(self._latest + limit, self._answer_ends):
            return self._quiet(f"{limit:g} s")
        self.until = min(now + exchange.step / LOOKS, self._latest + limit, exchange.ends, self._answer_ends)
        return None

    def is_crowded_out(self) -> bool:
        """True if it had been quiet for longer than ``step``, before all had arrived, while others moved."""
        quiet, step = time.monotonic() - self._latest, self._exchange.step
        return quiet > step and not self._has_arrived() and self._traffic.moves(step)

    def look(self, now: float) -> None:
        """Ask the kernel what has arrived. Any thread may call."""
        try:
            seen, before = look(self._sock), self._seen
        except OSError:
            self.over()
            return
        self._seen = seen
        if before is not None and seen.moved != before.moved:
            self._latest = self._traffic.latest = now
        if self._reads:
            return
        arrived = self._has_arrived()
        if before is None or arrived:  # else a host that is full acknowledges without taking anything
            self._latest = max(self._latest, now - seen.heard)
        if arrived:
            self._await_answer(self._latest)

    def _has_arrived(self) -> bool:
        return self._all_sent and (self._seen is None or not self._seen.queued)

    def _await_answer(self, begun: float) -> None:
        if self._answer_ends == float("inf"):
            self._answer_ends = begun + ANSWER_STEPS * self._limit()

    def _limit(self) -> float:
        """Return for how long it may be quiet now. Who owes an answer is not excused by others that get one."""
        step = self._exchange.step
        if (self._reads or not self._has_arrived()) and self._traffic.moves(step):
            return SHARED_STEPS * step
        return patience(step, self._seen.timer if self._seen is not None else 0.0)

    def _quiet(self, limit: str) -> TimeoutError:
        if self._reads:
            return TimeoutError(f"nothing came within {limit}")
        if self._has_arrived():
            return NoAnswer(f"no answer within {limit}")
        return TimeoutError(f"it took nothing for {limit}")
