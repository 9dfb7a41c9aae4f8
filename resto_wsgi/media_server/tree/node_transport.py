"""How a node speaks with the nodes below and above it: HTTP as the library speaks it, and what only nodes say.

With a PUT or a DELETE go what is known of the file (digest, generation, mtime to the nanosecond), the nodes that the
request came through, and for how many seconds the answer may wait for those below; the answer's body is the child's
report. What is said of a request comes from the ``Passing`` that is given along with each delivery of it; a delivery of
the worker has none, and waits for nobody below. No connection is touched here, no file changed, and no policy known.
``relay``, ``below``, ``figures`` and ``above`` call this.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from ...fields.digests import format_digest
from ...fields.versions import VERSION, parse_version
from ...hosts import Host
from ...master.state import State
from ...transports.http import headers as http_headers
from ...transports.http.errand import HostAnswer
from ...transports.http.headers import Headers
from ...transports.http.job import HttpJob, result_of
from ...transports.http.reading import Reading
from ...transports.http.security import Security
from ...transports.http.transport import HttpTransport
from ..answers import JSON
from ..caller import WAIT
from ..files import marks
from ..files.store import Store
from . import report as tree_report
from .early import Early, Stream
from .hops import FIELD, Hops
from .report import Line

__all__ = ["NODE", "NodeTransport", "Passing", "Reading", "generation_of", "mtime_ns_of", "report_of"]

NODE = "resto_wsgi node"  # the User-Agent of a node that asks for more than what is on that very server
SHARE = 0.7  # of these seconds are the children's, since the answer has to come back through each level
LEAST = 0.1  # seconds: with less nobody is waited for
RATE = 32 * 1024 * 1024  # bytes per second that a file may be expected to move at from one node to the next

_EXACT = re.compile(r'"([0-9a-f]{1,12})-[0-9a-f]{1,16}-([0-9a-f]{1,8})"')  # of ``store.etag_of``


@dataclass(frozen=True)
class Passing:
    """A request that is passed on: the nodes that it came through, and the seconds that are left for it.

    ``early`` is what was begun to be sent while the file arrived.
    """

    hops: Hops
    left: float
    early: Early | None = None

    def below(self, size: int) -> float:
        """Return the seconds that a child may take for those below it; 0.0 if that would be too few."""
        left = self.left * SHARE
        return left if left >= max(LEAST, size / RATE) else 0.0


class NodeTransport:
    """A ``DrivenTransport`` of one node: ``node_id`` is its own, see ``hops``.

    What is given along with a delivery is its ``Passing``; ``way`` tells through which nodes came what has none.
    """

    def __init__(
        self,
        timeout: float,
        store: Store,
        node_id: str,
        way: Callable[[Host, str], Hops],
        security: Security | None = None,
    ) -> None:
        self._http = HttpTransport(timeout, security)
        self._store = store
        self._node_id = node_id
        self._way = way

    # What the engine delivers

    # The version that the outbox here would give is not said: a node passes on that of its file, or none. What a child
    # has above that came another way, so it is not gone above either, but refused, as any 412.

    def put_job(
        self, host: Host, name: str, file: BinaryIO, size: int, mtime: float, along: object = None, version: int = 0
    ) -> HttpJob:
        passing = along if isinstance(along, Passing) else None
        begun = passing.early.take(host, file.fileno()) if passing and passing.early else None
        fields, wait = self._passed_on(host, name, size, passing)
        fields |= self._version(name, file)
        return self._http.put_job(host, name, file, size, mtime, fields=fields, begun=begun, timeout=wait or None)

    def delete_job(self, host: Host, name: str, along: object = None, version: int = 0) -> HttpJob:
        fields, wait = self._passed_on(host, name, 0, along if isinstance(along, Passing) else None)
        if (generation := self._store.generation(name)) is not None:
            fields["Resto-Generation"] = str(generation)
        return self._http.delete_job(host, name, fields=fields, timeout=wait or None)

    def put(self, host: Host, name: str, file: BinaryIO, size: int, mtime: float, version: int = 0) -> None:
        result_of(self.put_job(host, name, file, size, mtime))

    def delete(self, host: Host, name: str, version: int = 0) -> None:
        result_of(self.delete_job(host, name))

    def head(self, host: Host, name: str) -> int | None:
        return self._http.head(host, name)

    def get(self, host: Host, name: str, write: Callable[[bytes], Any]) -> float | None:
        return self._http.get(host, name, write)

    def probe(self, host: Host) -> None:
        self._http.probe(host)

    def close(self) -> None:
        self._http.close()

    # What the node itself asks and begins

    def read(self, host: Host, method: str, target: str, fields: Mapping[str, str]) -> Reading:
        """See ``HttpTransport.read``."""
        return self._http.read(host, method, target, fields)

    def can_begin(self, host: Host, version: Mapping[str, str]) -> bool:
        """True if a PUT can be begun before all of the file is here: a signature has to cover its digest."""
        return "Repr-Digest" in version or not self._http.is_signed(host)

    def begin(
        self, host: Host, name: str, path: str, size: int, version: Mapping[str, str], passing: Passing
    ) -> Stream:
        """Return the PUT of a file that still arrives at ``path``, not started; ``version`` is what is known of it."""
        passed, _ = self._passed_on(host, name, size, passing)
        opening = self._http.begin(host, name, size, {**passed, **version})
        return Stream(opening, path, size, int(version["Resto-Mtime"]))

    def _passed_on(self, host: Host, name: str, size: int, passing: Passing | None) -> tuple[dict[str, str], float]:
        """Return what is said of the request that a change came with, and the seconds for which it can wait."""
        hops, wait = (self._way(host, name), 0.0) if passing is None else (passing.hops, passing.below(size))
        return {FIELD: hops.through(self._node_id), WAIT: f"{wait:.3f}", "Accept": JSON}, wait

    def _version(self, name: str, file: BinaryIO) -> dict[str, str]:
        """Return what is known of the very file that is sent."""
        state = State.of(os.fstat(file.fileno()))
        fields = {"Resto-Mtime": str(max(0, state.mtime_ns))}
        if (generation := self._store.generation(name, file.fileno())) is not None:
            fields["Resto-Generation"] = str(generation)
        if (digest := marks.read_digest(file.fileno(), state)) is not None:
            fields["Repr-Digest"] = format_digest(digest)
        return fields


def report_of(value: object) -> list[Line] | None:
    """Return what a child has told, of the ``value`` of a delivery to it; None if that cannot be understood."""
    if not isinstance(value, HostAnswer):
        return None
    return tree_report.parse(value.body, value.headers.get("Content-Type", ""))


def generation_of(headers: Headers) -> int | None:
    """Return the Resto-Generation of an answer, None if there is none."""
    return parse_version(headers.get(VERSION, ""))


def mtime_ns_of(headers: Headers) -> int | None:
    """Return the mtime in ns since 1970: Last-Modified, and what an ETag of ours adds to it. None if unknown."""
    if (seconds := http_headers.mtime(headers)) is None:
        return None
    exact = _EXACT.fullmatch(headers.get("ETag", ""))
    same = exact and int(exact[1], 16) == int(seconds)
    return int(seconds) * 1_000_000_000 + (int(exact[2], 16) if exact and same else 0)
