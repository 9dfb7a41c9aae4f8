"""Reading through the children what is not here: each in turn, the next one if one fails, is silent or has it not.

The file is streamed with the deadlines of the transports; a Range is answered by the child. What a child says is passed
on as far as it is about the version of the file; how a browser is to take it is said here. A node to which several ways
lead is asked once on each; one that leads back is passed over. A child that did not answer may itself wait for one
below it. So for REST_SECONDS it is asked for what is on that very server alone, and if it does not answer that either,
for as long not at all: names that are nowhere cost no timeout each, and nobody who asks for one can hide the child's
own files. ``relay`` calls this.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ...errors import DeliveryError
from ...hosts import Host
from ...names import quote
from ...transports.http.connection import AGENT
from ..answers import UNKEPT, Answer, Header, Refused
from ..name_and_version import header_of, printable
from ..reading import presented
from .hops import FIELD, LOOP, Hops
from .node_transport import NODE, NodeTransport, Reading

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["Below"]

REST_SECONDS = 5.0  # a person tries again after about as long
FOUND = {
    200: "OK",
    206: "Partial Content",
    304: "Not Modified",
    412: "Precondition Failed",
    416: "Range Not Satisfiable",
}
ABSENT = frozenset({404, 410, LOOP})
CONDITIONS = (
    "Range",
    "If-Range",
    "If-Match",
    "If-None-Match",
    "If-Modified-Since",
    "If-Unmodified-Since",
    "Want-Repr-Digest",
)
VERSION = ("ETag", "Last-Modified", "Resto-Generation", "Repr-Digest", "Accept-Ranges", "Content-Range")

Keep = Callable[[str, Reading], Iterator[bytes]]


class Below:
    """The children of the node ``node_id``. ``keep`` returns a file's blocks as they come, and may keep them."""

    def __init__(
        self,
        transport: NodeTransport,
        children: Sequence[Host],
        node_id: str,
        *,
        inline: bool,
        keep: Keep | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._children = tuple(children)
        self._node_id = node_id
        self._inline = inline
        self._keep = keep
        self._clock = clock
        self._turn = itertools.count()
        self._alone: dict[str, float] = {}  # until when it is asked for its own files alone, by the child's URL
        self._resting: dict[str, float] = {}  # until when it is not asked

    def answer(self, environ: WSGIEnvironment, name: str) -> Answer:
        """Return the first child's answer that has the file.

        Refuses with 404 if all say that they have not, with 504 if some child did not say, and with 508 what came
        through here before.
        """
        hops = Hops.of_request(environ)
        hops.judge(self._node_id)
        fields = {"Accept-Encoding": "identity", FIELD: hops.through(self._node_id)}
        fields |= {each: value for each in CONDITIONS if (value := header_of(environ, each))}
        silent = 0
        for child in self._in_turn():
            reading = self._ask(child, environ["REQUEST_METHOD"], name, fields)
            if isinstance(reading, Reading):
                return self._passed_on(environ, name, reading)
            silent += reading
        if silent:
            reason = f"not here, and {silent} of {len(self._children)} children did not answer"
            raise Refused("504 Gateway Timeout", reason, [("Retry-After", f"{REST_SECONDS:.0f}"), UNKEPT])
        # Anybody can name nodes that are then not asked, for his own answer alone.
        raise Refused("404 Not Found", "no such file", [UNKEPT] if hops.count else [])

    def _in_turn(self) -> Iterator[Host]:
        # Round robin, so that no child answers for all; a count needs no lock in CPython.
        first = next(self._turn) % len(self._children)
        return iter(self._children[first:] + self._children[:first])

    def _ask(self, child: Host, method: str, name: str, fields: dict[str, str]) -> Reading | bool:
        """Return the answer, or whether there was none; False if the child says that it has not got it."""
        now = self._clock()
        if now < self._resting.get(child.url, 0.0):
            return True
        alone = now < self._alone.get(child.url, 0.0)
        fields = {**fields, "User-Agent": AGENT if alone else NODE}
        try:
            reading = self._transport.read(child, method, f"/{quote(name)}", fields)
        except DeliveryError:
            (self._resting if alone else self._alone)[child.url] = self._clock() + REST_SECONDS
            return True
        # A body without an end could have been cut short, and a part that nobody asked for is no file.
        if reading.status in FOUND and reading.ends and (reading.status != 206 or "Range" in fields):
            return reading
        with reading:
            # Of one that is asked for its own files alone, a 404 says nothing of those below it.
            return alone or reading.status not in ABSENT

    def _passed_on(self, environ: WSGIEnvironment, name: str, reading: Reading) -> Answer:
        try:
            return self._found(environ, name, reading)
        except BaseException:
            reading.close()
            raise

    def _found(self, environ: WSGIEnvironment, name: str, reading: Reading) -> Answer:
        status = f"{reading.status} {FOUND[reading.status]}"
        told: list[Header] = [(each, value) for each in VERSION if (value := printable(reading.headers.get(each)))]
        if reading.status not in (200, 206):
            with reading:
                if reading.status == 304:
                    return Answer(status, told)
                raise Refused(status, "the file is another version, or has no such range", told[-1:])
        kind = printable(reading.headers.get("Content-Type"))
        several = reading.status == 206 and kind.startswith("multipart/byteranges")
        headers = [*told, *presented(name, kind if several else None, inline=self._inline)]
        if reading.size is not None:
            headers.append(("Content-Length", str(reading.size)))
        if environ["REQUEST_METHOD"] == "HEAD":
            reading.close()
            return Answer(status, headers)
        # Only a file that says how long it is can be known to be whole when it has come.
        whole = reading.status == 200 and reading.size is not None
        blocks = self._keep(name, reading) if self._keep and whole else reading.blocks()
        return Answer(status, headers, _Streamed(blocks, reading))


class _Streamed:
    """The blocks of a reading that is let go of when the client is."""

    def __init__(self, blocks: Iterator[bytes], reading: Reading) -> None:
        self._blocks = blocks
        self._reading = reading

    def __iter__(self) -> Iterator[bytes]:
        return self._blocks

    def close(self) -> None:
        close = getattr(self._blocks, "close", None)
        if close is not None:
            close()
        self._reading.close()
