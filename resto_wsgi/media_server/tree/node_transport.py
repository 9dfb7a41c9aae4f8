"""How a node speaks with the nodes below and above it: HTTP as the library speaks it, and what only nodes say.

With a PUT or a DELETE go what is known of the file (digest, generation, mtime to the nanosecond), the nodes that the
request came through, and for how many seconds the answer may wait for those below; the answer's body is the child's
report. ``PASSING`` says which request of ours a job belongs to; a job of the worker belongs to none, and waits for
nobody below. Reads are streamed with the deadlines of the transports, whatever the other side does. No file is
changed here, and no policy known. ``relay``, ``below``, ``missing`` and ``catch_up`` call this.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from http.client import HTTPResponse
from typing import BinaryIO

from ...errors import DeliveryError
from ...fields.digests import format_digest
from ...hosts import Host
from ...master.state import State
from ...names import quote
from ...transports.http import headers as http_headers
from ...transports.http.connection import BLOCK, Bounded, Origin, Pools
from ...transports.http.errand import FAULTS, READ_REMEDIES, Answer, Errand
from ...transports.http.flight import CLOSED, TIMED_OUT, Flight
from ...transports.http.job import HttpJob, Requests
from ...transports.http.outgoing import Outgoing, request_head
from ...transports.http.progress import Exchange
from ...transports.http.reply import open_reply
from ...transports.http.security import Security
from ...transports.http.transport import HttpTransport
from ..answers import JSON
from ..caller import WAIT
from ..files import marks
from ..files.store import Store
from . import report as tree_report
from .early import Early, Stream
from .hops import FIELD, LOOP, LOOP_REASON, Hops
from .report import Line

__all__ = ["NODE", "PASSING", "NodeTransport", "Passing", "Reading"]

NODE = "resto_wsgi node"  # the User-Agent of a node that asks for more than what is on that very server
SHARE = 0.7  # of these seconds are the children's: the answer has to come back through each level
LEAST = 0.1  # seconds: with less nobody is waited for
RATE = 32 * 1024 * 1024  # bytes per second that a file may be expected to move at from one node to the next
SHORT = 16 * 1024  # bytes of a body that nobody wants: fewer are read than a new connection costs

_EXACT = re.compile(r'"([0-9a-f]{1,12})-[0-9a-f]{1,16}-([0-9a-f]{1,8})"')  # of ``store.etag_of``


@dataclass
class Passing:
    """A request that is passed on: the nodes that it came through, the seconds it may take, and the children's reports.

    ``reports`` has what each child that answered has told, by its URL; ``early`` what was begun to be sent already.
    """

    hops: Hops
    left: float
    reports: dict[str, list[Line]] = field(default_factory=dict)
    early: Early | None = None

    def below(self, size: int) -> float:
        """Return the seconds that a child may take for those below it; 0.0 where that would be too few."""
        left = self.left * SHARE
        return left if left >= max(LEAST, size / RATE) else 0.0


PASSING: ContextVar[Passing | None] = ContextVar("passing", default=None)


class NodeTransport(HttpTransport):
    """``node_id`` is this node's, see ``hops``; ``way`` tells the worker through which nodes came what is owed."""

    def __init__(
        self,
        timeout: float,
        store: Store,
        node_id: str,
        way: Callable[[Host, str], Hops],
        security: Security | None = None,
    ) -> None:
        super().__init__(timeout, security)
        self._store = store
        self._node_id = node_id
        self._way = way

    def put_job(self, host: Host, name: str, file: BinaryIO, size: int, mtime: float) -> HttpJob:
        job = super().put_job(host, name, file, size, mtime)
        passing = PASSING.get()
        stream = passing.early.take(host, file.fileno()) if passing and passing.early else None
        if stream is not None:
            job = _TakenOver(self._pools, job.errand, job._requests, stream)
        return self._passed_on(job, name, size, self._version(name, file))

    def delete_job(self, host: Host, name: str) -> HttpJob:
        generation = self._store.generation(name)
        fields = {} if generation is None else {"Resto-Generation": str(generation)}
        return self._passed_on(super().delete_job(host, name), name, 0, fields)

    def read(self, host: Host, method: str, target: str, fields: Mapping[str, str]) -> Reading:
        """Send GET or HEAD of a percent-encoded ``target`` below a host; the caller closes what it returns.

        Raises DeliveryError where no answer comes. No redirect is followed.
        """
        errand = Errand(host, target, self._timeout, self._security, READ_REMEDIES)
        try:
            origin = self._pools.origin(host.url)
            connection = origin.lease()
            used = connection.sock is not None
            try:
                reading = _ask(origin, connection, errand, method, self._read_head(origin, method, target, fields))
                if not used or reading.status != TIMED_OUT:
                    return reading
                reading.close()
            except CLOSED:
                if not used:
                    raise
            head = self._read_head(origin, method, target, fields)  # anew: a signature is good once
            return _ask(origin, origin.new(), errand, method, head)  # the one kept alive was closed meanwhile
        except FAULTS as error:
            raise errand.broken(error) from error

    def _read_head(self, origin: Origin, method: str, target: str, fields: Mapping[str, str]) -> bytes:
        """Return the head of a read that shows what its host wants to be shown; the rest is as the caller says it."""
        fields = {**fields, **self._security.fields(origin.url)}
        if origin.signer is not None:
            fields |= origin.signer(method, origin.url + target, fields)
        return request_head(method, origin.path + target, origin.authority, fields)

    def can_begin(self, host: Host, version: Mapping[str, str]) -> bool:
        """True where a PUT can be begun before all of the file is here: a signature has to cover its digest."""
        return host.url not in self._security.signed or "Repr-Digest" in version

    def begin(
        self, host: Host, name: str, path: str, size: int, version: Mapping[str, str], passing: Passing
    ) -> Stream:
        """Return the PUT of a file that still arrives at ``path``, not started; ``version`` is what is known of it."""
        origin = self._pools.origin(host.url)
        passed = self._passed(passing.hops, passing.below(size))
        fields = {"Content-Length": str(size), **version, **passed, **origin.common}
        if origin.signer is not None:
            fields |= origin.signer("PUT", f"{origin.url}/{quote(name)}", fields)
        head = request_head("PUT", f"{origin.path}/{quote(name)}", origin.authority, fields)
        return Stream(origin, head, path, size, int(version["Resto-Mtime"]), self._timeout)

    def _passed_on(self, job: HttpJob, name: str, size: int, fields: dict[str, str]) -> HttpJob:
        passing = PASSING.get()
        left = 0.0 if passing is None else passing.below(size)
        if left:
            job.errand.exchange.step = left
        hops = passing.hops if passing else self._way(job.errand.host, name)
        job._requests = _telling(job, job._requests, {**fields, **self._passed(hops, left)}, passing)
        return job

    def _passed(self, hops: Hops, left: float) -> dict[str, str]:
        return {FIELD: hops.through(self._node_id), WAIT: f"{left:.3f}", "Accept": JSON}

    def _version(self, name: str, file: BinaryIO) -> dict[str, str]:
        """Return what is known of the very file that is sent."""
        state = State.of(os.fstat(file.fileno()))
        fields = {"Resto-Mtime": str(max(0, state.mtime_ns))}
        if (generation := self._store.generation(name, file.fileno())) is not None:
            fields["Resto-Generation"] = str(generation)
        if (digest := marks.read_digest(file.fileno(), state)) is not None:
            fields["Repr-Digest"] = format_digest(digest)
        return fields


class _TakenOver(HttpJob):
    """A PUT whose first bytes are with the host already; should it be repeated, it is one like any other."""

    def __init__(self, pools: Pools, errand: Errand, requests: Requests, stream: Stream) -> None:
        super().__init__(pools, errand, requests)
        self._stream: Stream | None = stream

    def _begin(self, *, again: bool) -> None:
        stream, self._stream = self._stream, None
        file, size = self._request.file, self._request.size
        if stream is None or file is None:
            super()._begin(again=again)
            return
        self._repeated = True  # the host has begun to read it: no other connection is to be tried in silence
        self.errand.exchange.begin(size)
        self._origin, self._connection = stream.origin, stream.connection
        body = Outgoing(file, size)
        body.taken = stream.sent
        self._flight = Flight(stream.connection, self.errand.exchange, "PUT", b"", body)
        self._flight.start()
        self._look()


def _telling(job: HttpJob, requests: Requests, fields: Mapping[str, str], passing: Passing | None) -> Requests:
    """Add ``fields`` to each PUT and DELETE, note the report that comes back, and know a circle when one answers so."""
    request = next(requests)
    while True:
        writes = request.method in ("PUT", "DELETE")
        answer: Answer = yield request._replace(fields={**request.fields, **fields}) if writes else request
        if writes and passing is not None and not job._flight.cut:
            body = bytes(job._flight._received[job._flight._end_of_head :])
            if lines := tree_report.parse(body, answer.headers.get("Content-Type", "")):
                passing.reports[job.errand.host.url] = lines
        try:
            request = requests.send(answer)
        except StopIteration as stop:
            return stop.value
        except DeliveryError as error:
            if error.status != LOOP:
                raise
            raise error.with_facts(permanent=True, reason=LOOP_REASON) from error  # until somebody changes the tree


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


class Reading:
    """An answer that is read as it comes. ``size`` is that of its body in bytes, None where nobody says it."""

    def __init__(self, origin: Origin, connection: Bounded, errand: Errand, reply: HTTPResponse) -> None:
        self.status = reply.status
        self.headers = reply.headers
        self.size = http_headers.file_size(reply.headers)
        self._origin = origin
        self._connection: Bounded | None = connection
        self._errand = errand
        self._exchange: Exchange = errand.exchange
        self._reply = reply
        self._exchange.expect(self.size)

    @property
    def ends(self) -> bool:
        """True where it says where its body ends; else one that broke cannot be told from a whole one."""
        return self._reply.chunked or self._reply.length is not None

    def blocks(self, most: int = BLOCK) -> Iterator[bytes]:
        """Yield the body, at most that many bytes at a time. Raises DeliveryError where it ends early, or is late."""
        received = 0
        while block := self._next(most):
            received += len(block)
            with self._exchange.paused():
                yield block
        if self._reply.length:
            raise self._errand.failed(f"the connection broke: {received} bytes came, and {self._reply.length} did not")
        self._release(kept=not self._reply.will_close)

    def text(self, limit: int) -> bytes:
        """Return a body of at most ``limit`` bytes. Raises DeliveryError where it is longer, or does not come."""
        found = bytearray()
        for block in self.blocks():
            found += block
            if len(found) > limit:
                raise self._errand.failed(f"its answer is longer than {limit} bytes")
        return bytes(found)

    def generation(self) -> int | None:
        """Return the Resto-Generation, None where there is none."""
        text = self.headers.get("Resto-Generation", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else None

    def mtime_ns(self) -> int | None:
        """Return the mtime in ns since 1970: Last-Modified, and what an ETag of ours adds to it. None where unknown."""
        if (seconds := http_headers.mtime(self.headers)) is None:
            return None
        exact = _EXACT.fullmatch(self.headers.get("ETag", ""))
        same = exact and int(exact[1], 16) == int(seconds)
        return int(seconds) * 1_000_000_000 + (int(exact[2], 16) if exact and same else 0)

    def failed(self, reason: str) -> DeliveryError:
        """Say why an answer does not do."""
        return self._errand.failed(reason)

    def refused(self) -> DeliveryError:
        """Say what a status means that is not one that was wanted."""
        reason = LOOP_REASON if self.status == LOOP else f"answered {self.status}"
        return self._errand.failed(reason, status=self.status)

    def close(self) -> None:
        """Let go of the connection; it is of no more use unless all was read."""
        self._release(kept=False)

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        length = None if self._reply.chunked else self._reply.length  # None: it ends who knows where
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
