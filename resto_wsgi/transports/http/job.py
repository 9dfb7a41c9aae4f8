"""An errand as a job that can be driven: its requests one after the other, each on a connection leased for it.

    cold ── connect ──> under way ── answered ──> the next request ──> ... ──> over: ``outcome``
      ^                     └── the connection that was kept alive turns out to be closed ──> cold, once
      └── no connection is there for a request, or the errand has to do what takes its time before it

A generator says which requests an errand takes, and what their answers mean; nothing of that is known here. It yields
each ``Request``, is sent its ``HostAnswer``, and returns, or raises the DeliveryError that is the outcome. Before what
would hold up others, as the hashing of a large file, it yields ``PAUSE``, and goes on, with no answer, where waiting is
allowed. ``transport`` writes these generators.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

from ...errors import DeliveryError
from ..driving import finish
from .connection import Bounded, Origin, Pools
from .errand import FAULTS, Errand, HostAnswer
from .flight import Flight
from .outgoing import Outgoing
from .request import Request, head_of

__all__ = ["PAUSE", "Begun", "HttpJob", "Requests", "result_of"]


@dataclass(frozen=True)
class Begun:
    """A PUT whose head and first ``sent`` bytes of its body are with the host already, on ``connection``."""

    origin: Origin
    connection: Bounded
    sent: int


PAUSE = Request("", "")
Requests = Generator[Request, HostAnswer, Any]


class HttpJob:
    """See ``driving.Job``. ``outcome`` is None if the errand succeeded, with ``value``; else why it did not.

    ``begun`` is its first request if that is under way already. If it has to be repeated, it is like any other.
    """

    def __init__(self, pools: Pools, errand: Errand, requests: Requests, begun: Begun | None = None) -> None:
        self.errand = errand
        self.cold = self.over = False
        self.outcome: DeliveryError | None = None
        self.value: Any = None
        self.reply: HTTPResponse | None = None
        self._pools = pools
        self._requests = requests
        self._repeated = self._interrupted = self._paused = False
        self._begun = begun
        self._connection: Bounded | None = None if begun is None else begun.connection
        self._origin: Origin  # of the request under way, as are the next two
        self._request: Request
        self._flight: Flight

    @property
    def fd(self) -> int:
        return self._flight.fd

    @property
    def wants(self) -> int:
        return self._flight.wants

    @property
    def until(self) -> float:
        return self._flight.until

    def start(self) -> None:
        self._next(None)

    def connect(self) -> None:
        if self._paused:
            self.cold = self._paused = False
            if self._interrupted:
                self.abandon()
            else:
                self._next(None)
            return
        connection = self._connection
        if connection is None:
            return
        self.errand.exchange.begin(self._request.size)  # it may have waited for a thread, which is no fault of the host
        try:
            connection.connect()
        except FAULTS as error:
            self._let_go(kept=False)
            self._end(self.errand.broken(error))
            return
        self.errand.exchange.begin(self._request.size)  # to connect has bounds of its own
        self.cold = False
        if self._interrupted:
            self.abandon()
        else:
            self._fly(connection)

    def advance(self, events: int) -> None:
        self._flight.advance(events)
        self._look()

    def expire(self) -> None:
        self._flight.expire()
        self._look()

    def abandon(self) -> None:
        if not self.over:
            self._let_go(kept=False)
            self._end(self.errand.failed("given up, for the process was told to stop"))

    def interrupt(self) -> None:
        self._interrupted = True
        connection = self._connection
        # Not close: the thread that moves the job may still poll this number, which could then be another's.
        # A job that is connecting may have no socket yet; it looks at the flag when it is connected.
        with contextlib.suppress(OSError, AttributeError):
            connection.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    def release(self, *, kept: bool) -> None:
        """Let go of a streamed reply; ``kept`` is True if all of it was read."""
        if self.reply is not None:
            kept = kept and not self.reply.will_close
            self.reply.close()
            self.reply = None
            self._let_go(kept=kept)

    def _next(self, answer: HostAnswer | None) -> None:
        """Tell the errand the answer to its last request, if there was one, and begin the next one."""
        try:
            self._request = next(self._requests) if answer is None else self._requests.send(answer)
        except StopIteration as stop:
            self.value = stop.value
            self._end(None)
        except DeliveryError as error:
            self._end(error)
        except Exception as error:
            self._end(self.errand.broken(error))
        else:
            if self._request is PAUSE:
                self.cold = self._paused = True
            else:
                self._begin(again=False)

    def _begin(self, *, again: bool) -> None:
        """Take a connection, and send the request if it is connected; ``again`` only on a new one."""
        if self._interrupted:
            self.abandon()
            return
        self._repeated = again
        self.errand.exchange.begin(self._request.size)
        begun, self._begun = self._begun, None
        if begun is not None:
            self._go_on(begun)
            return
        try:
            self._origin = self._pools.origin(self.errand.host.url)
            self._connection = self._origin.new() if again else self._origin.lease()
        except FAULTS as error:
            self._end(self.errand.broken(error))
            return
        if self._connection.sock is None:
            self.cold = True
        else:
            self._fly(self._connection)

    def _go_on(self, begun: Begun) -> None:
        """Send the rest of what was begun. The host reads it already, so no other connection is tried in silence."""
        self._repeated = True
        self._origin = begun.origin
        self._fly(begun.connection, b"", begun.sent)

    def _fly(self, connection: Bounded, head: bytes | None = None, sent: int = 0) -> None:
        request = self._request
        if head is None:
            head = head_of(self._origin, request.method, request.target, request.fields)
        body = None if request.file is None else Outgoing(request.file, request.size, sent)
        self._flight = Flight(connection, self.errand.exchange, request.method, head, body, streamed=request.streamed)
        self._flight.start()
        self._look()

    def _look(self) -> None:
        """Go on if the flight is over."""
        flight = self._flight
        if not flight.over:
            return
        if flight.is_to_repeat and not self._repeated:
            self._let_go(kept=False)
            self.errand.exchange.lost = True  # the host may have read it, and died of it
            self._begin(again=True)
            return
        if flight.head is None:
            self._let_go(kept=False)
            self._end(self.errand.broken(flight.error))
            return
        if flight.reply is not None:
            self.reply = flight.reply
        elif flight.reusable or flight.cut:
            self._let_go(kept=flight.reusable)
        elif self._connection is not None:
            self._connection.close()
            self._connection = None
        body = b"" if flight.cut or flight.reply is not None else flight.reply_body
        self._next(HostAnswer(flight.head.status, flight.head.fields, flight.cut, body))

    def _let_go(self, *, kept: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if kept:
            self._origin.give_back(connection)
        else:
            connection.close()

    def _end(self, outcome: DeliveryError | None) -> None:
        if self._begun is not None:  # it did not come to it
            self._let_go(kept=False)
        self.outcome = outcome
        self.cold = False
        self.over = True
        self._requests.close()


def result_of(job: HttpJob) -> Any:
    """Return what came of an errand, in this thread; raise the DeliveryError of one that failed."""
    try:
        job.start()
        finish(job)
    except BaseException:
        job.abandon()
        raise
    if job.outcome is not None:
        raise job.outcome
    return job.value
