"""PUT and DELETE over HTTP/1.1 to WebDAV servers (nginx, lighttpd, Apache, our own node), and GET and HEAD back.

Each is a few requests of an ``HttpJob``, written down here as a generator: what to ask, and what the answers mean. A
reply to a PUT or a DELETE is trusted for its status alone, but not if it says that all is well and does not end; one to
a GET is trusted if all of it came, as many bytes as were announced. urllib3's retries and redirects are not used,
because it sends a retried body empty. The fields of a PUT are made here too: its Date is the mtime of the master, which
nginx gives the file. Only this package imports urllib3.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPResponse
from typing import Any, BinaryIO

from ...fields.dates import format_date
from ...fields.roots import ROOT, ROOTS, format_root, parse_roots
from ...fields.versions import VERSION
from ...hosts import Host
from ...names import quote
from . import headers as http_headers
from .connection import MOVED_BYTES_MAX, Origin, Pools
from .errand import FAULTS, READ_REMEDIES, Errand, HostAnswer
from .file_digests import Digests
from .job import PAUSE, Begun, HttpJob, Requests, result_of
from .reading import Reading, open_reading
from .request import Request, head_of
from .security import Security

__all__ = ["HttpTransport", "Opening"]

PUT_DONE = frozenset({200, 201, 204})  # 202 only promises
DELETE_DONE = frozenset({200, 204, 404, 410})  # gone is gone
FILE = frozenset({200})  # what a GET that asks for no part answers with the file
ABSENT = frozenset({404, 410})
FOLDER_KEPT = frozenset({400, 403, 405, 409})  # what servers answer to a DELETE of a folder that is not to be a tree
NO_FOLDER = frozenset({404, 409})  # lighttpd and Apache on a PUT under a missing folder (RFC 4918, section 9.7.1)
IN_THE_WAY = frozenset({405, 409})  # lighttpd, nginx and Apache on a PUT of a name that is a folder there
OUT_OF_SERVICE = frozenset({429, 502, 503, 504})  # overloaded, or what stands before the host does not reach it
STEPS = 3  # times the timeout that all folders above a name may take to make
TELL_AGAIN = 3600.0  # seconds between two warnings that several media roots write to one host
NO_FIELDS: Mapping[str, str] = {}
CACHED = 256  # names and times that are about to be sent to the next host, too


log = logging.getLogger("resto_wsgi")


@dataclass(frozen=True)
class Opening:
    """The beginning of a PUT that is not sent yet: where it goes, and its head; ``timeout`` is in seconds."""

    origin: Origin
    head: bytes
    timeout: float


class HttpTransport:
    """Moves files; ``timeout`` is in seconds without progress. See ``Transport`` for its duties.

    ``security`` is what hosts are shown, and how they are known. Without it they are shown nothing. ``root`` is the id
    of the media root whose names these are, if no other root may write them: our own node tells if one does.
    """

    def __init__(self, timeout: float, security: Security | None = None, *, root: str = "") -> None:
        self._timeout = timeout
        self._root = root
        self._told: dict[str, float] = {}  # when it was told last that several roots write to a host
        self._security = security or Security()
        self._pools = Pools(timeout, self._security)
        self._digests = Digests()

    def put(self, host: Host, name: str, file: BinaryIO, size: int, mtime: float, version: int = 0) -> None:
        result_of(self.put_job(host, name, file, size, mtime, None, version))

    def delete(self, host: Host, name: str, version: int = 0) -> None:
        result_of(self.delete_job(host, name, None, version))

    def put_job(
        self,
        host: Host,
        name: str,
        file: BinaryIO,
        size: int,
        mtime: float,
        along: object = None,
        version: int = 0,
        *,
        fields: Mapping[str, str] = NO_FIELDS,
        begun: Begun | None = None,
        timeout: float | None = None,
    ) -> HttpJob:
        """As ``DrivenTransport.put_job``; the job's ``value`` is the ``HostAnswer``, and ``along`` is not looked at.

        ``fields`` are said beside our own. ``begun`` is the PUT if its first bytes were sent before, see ``begin``.
        ``timeout`` is in seconds without progress, if it is not the transport's own.
        """
        errand = Errand(host, name, timeout or self._timeout, self._security, version=version)
        return HttpJob(self._pools, errand, self._putting(errand, file, size, mtime, fields), begun)

    def delete_job(
        self,
        host: Host,
        name: str,
        along: object = None,
        version: int = 0,
        *,
        fields: Mapping[str, str] = NO_FIELDS,
        timeout: float | None = None,
    ) -> HttpJob:
        """Return the job of a DELETE, as ``put_job`` does of a PUT."""
        errand = Errand(host, name, timeout or self._timeout, self._security, version=version)
        return HttpJob(self._pools, errand, self._deleting(errand, fields))

    def begin(self, host: Host, name: str, size: int, fields: Mapping[str, str]) -> Opening:
        """Return the beginning of a PUT of ``size`` bytes, for whoever sends it while the file still arrives.

        If its host wants requests signed (``is_signed``), ``fields`` have to say the digest of all of it.
        """
        origin = self._pools.origin(host.url)
        head = head_of(origin, "PUT", _target(name), {"Content-Length": str(size), **fields})
        return Opening(origin, head, self._timeout)

    def is_signed(self, host: Host) -> bool:
        """True if each request to a host is signed, and so a PUT has to know the digest of its body."""
        return host.url in self._security.signed

    def read(self, host: Host, method: str, target: str, fields: Mapping[str, str]) -> Reading:
        """Send GET or HEAD of a percent-encoded ``target`` below a host; the caller closes what it returns.

        Raises DeliveryError if no answer comes. No redirect is followed.
        """
        errand = Errand(host, target, self._timeout, self._security, READ_REMEDIES)
        return open_reading(self._pools.origin(host.url), errand, method, target, fields)

    def head(self, host: Host, name: str) -> int | None:
        """HEAD (RFC 9110, section 9.3.2): the Content-Length of the file, None if it is not there.

        Apache leaves out a length of 0 there, and says it on GET.
        """
        errand = Errand(host, name, self._timeout, self._security, READ_REMEDIES)
        answer = self._ask(errand, Request("HEAD", _target(name)))
        if answer.status == 200 and http_headers.is_unsized(answer.headers):
            job = self._job(errand, Request("GET", _target(name), streamed=FILE))
            answer = result_of(job)
            job.release(kept=http_headers.file_size(answer.headers) == 0)
        if answer.status in ABSENT:
            return None
        if answer.status != 200:
            raise errand.refused(answer)
        size = _announced(errand, answer)
        if size is None:
            raise errand.useless(answer, "does not say the size of the file")
        return size

    def get(self, host: Host, name: str, write: Callable[[bytes], Any]) -> float | None:
        """GET (RFC 9110, section 9.3.1), in blocks of at most 256 KiB as they come. Returns Last-Modified."""
        errand = Errand(host, name, self._timeout, self._security, READ_REMEDIES)
        job = self._job(errand, Request("GET", _target(name), streamed=FILE))
        answer = result_of(job)
        if answer.status in ABSENT:
            raise FileNotFoundError(errno.ENOENT, f"not on {host.label}", name)
        if job.reply is None:
            raise errand.refused(answer)
        whole = False
        try:
            size = _announced(errand, answer)
            errand.exchange.expect(size)
            received = 0
            while block := _next_block(errand, job.reply):
                received += len(block)
                with errand.exchange.paused():
                    write(block)
            if size is not None and received < size:  # http.client takes that for the end
                raise errand.failed("the connection broke: its reply was cut short")
            whole = True
        finally:
            job.release(kept=whole)
        return http_headers.mtime(answer.headers)

    def probe(self, host: Host) -> None:
        """HEAD of the folder that names hang below; whatever a server says of that, it is there to say it."""
        errand = Errand(host, "/", self._timeout, self._security, READ_REMEDIES)
        answer = self._ask(errand, Request("HEAD", "/"))
        if answer.status in OUT_OF_SERVICE:
            raise errand.refused(answer)

    def close(self) -> None:
        """Close this process's connections."""
        self._pools.close()

    def _ask(self, errand: Errand, request: Request) -> HostAnswer:
        answer: HostAnswer = result_of(self._job(errand, request))
        return answer

    def _job(self, errand: Errand, request: Request) -> HttpJob:
        return HttpJob(self._pools, errand, _asking(request))

    def _putting(self, errand: Errand, file: BinaryIO, size: int, mtime: float, fields: Mapping[str, str]) -> Requests:
        """PUT (RFC 9110, section 9.3.4) with a length, never chunked; nginx takes Date as the file's mtime."""
        said = {"Content-Length": str(size), "Date": _date(mtime), **self._own_fields(errand), **fields}
        signed = self.is_signed(errand.host)
        if signed and "Repr-Digest" not in said:
            if not self._digests.is_quick(file, size):
                yield PAUSE
            said["Repr-Digest"] = self._digests.of(file, size)
        request = Request("PUT", _target(errand.name), said, file, size)
        answer = yield request
        # Only after a refusal: a folder that is there needs no MKCOL, nor does nginx with create_full_put_path.
        if answer.status in NO_FOLDER and "/" in errand.name:
            yield from self._making_folders(errand)
            answer = yield request
        if signed and answer.status == 400 and self._digests.is_stale(file):
            raise errand.failed("the master changed while it was sent", untouched=not errand.exchange.lost, ours=True)
        if answer.status in IN_THE_WAY:
            found = yield Request("HEAD", _target(errand.name))
            raise errand.in_the_way(answer) if _leads_to_folder(errand.name, found) else errand.refused(answer)
        if answer.status not in PUT_DONE:
            raise errand.refused(answer)
        if answer.early:
            raise errand.useless(answer, "came before the host had all of the file")
        self._heed(errand.host, answer)
        return answer

    def _making_folders(self, errand: Errand) -> Requests:
        """MKCOL (RFC 4918, section 9.3) the folders above a name, the topmost first; whatever is there stays."""
        parts = errand.name.split("/")[:-1]
        ends = time.monotonic() + STEPS * self._timeout  # for all of them: a name may have hundreds
        for depth in range(1, len(parts) + 1):
            if time.monotonic() > ends:
                reason = "too slow: its folders took too long to make"
                raise errand.failed(reason, untouched=not errand.exchange.lost)  # the PUT before was refused
            # No answer is looked at: a folder that is there is 405 (RFC 4918, section 9.3.1).
            yield Request("MKCOL", _target("/".join(parts[:depth])) + "/")

    def _deleting(self, errand: Errand, fields: Mapping[str, str]) -> Requests:
        """DELETE (RFC 9110, section 9.3.5).

        ``Depth: 0`` makes nginx, lighttpd and Apache refuse a folder; without it the last two would remove its tree. If
        the name is a folder, there is no file of that name any more, and the delete is done.
        """
        answer = yield Request("DELETE", _target(errand.name), {"Depth": "0", **self._own_fields(errand), **fields})
        if answer.status in DELETE_DONE:
            self._heed(errand.host, answer)
            return answer
        # The status does not tell a folder from a rule about who may delete: 403 can be either.
        if answer.status in FOLDER_KEPT:
            found = yield Request("HEAD", _target(errand.name))
            if _is_folder(errand.name, found):
                return answer
        raise errand.refused(answer)

    def _own_fields(self, errand: Errand) -> Mapping[str, str]:
        """Return what our own node is told of a change: its version, and whose it is. Others pay no heed to that."""
        fields = {VERSION: str(errand.version)} if errand.version else {}
        if self._root:
            fields[ROOT] = format_root(self._root, errand.name)
        return fields

    def _heed(self, host: Host, answer: HostAnswer) -> None:
        """Warn, once in a while for each host, if it says that another media root writes there as well."""
        if not self._root or ROOTS not in answer.headers:
            return
        others = [each for each in parse_roots(answer.headers.get(ROOTS, "")) if each != self._root]
        now = time.monotonic()
        if others and now >= self._told.get(host.url, now):
            self._told[host.url] = now + TELL_AGAIN
            log.warning(
                "%s: another MEDIA_ROOT writes there too (its .resto/id is %s, ours %s): each overwrites and deletes "
                "what the other saved; let application servers share one MEDIA_ROOT, or give each a path of its own",
                host.label,
                " and ".join(others),
                self._root,
            )


def _asking(request: Request) -> Requests:
    """One request, whose answer is the result."""
    answer = yield request
    return answer


def _is_folder(name: str, answer: HostAnswer) -> bool:
    """True if there is no file: the host sends us on to the name with a slash, or knows nothing there."""
    return answer.status in ABSENT or _leads_to_folder(name, answer)


def _leads_to_folder(name: str, answer: HostAnswer) -> bool:
    location = answer.headers.get("Location", "").partition("?")[0]
    return answer.status in (301, 308) and location.endswith(f"{_target(name).rpartition('/')[2]}/")


@lru_cache(CACHED)
def _target(name: str) -> str:
    return f"/{quote(name)}"


@lru_cache(CACHED)
def _date(mtime: float) -> str:
    return format_date(mtime)


def _announced(errand: Errand, answer: HostAnswer) -> int | None:
    """Return how many bytes the file has, None if its end will be told; raise DeliveryError if neither is known."""
    if http_headers.is_encoded(answer.headers):
        raise errand.useless(answer, "is compressed, or encoded else; turn that off below its URL in media_hosts")
    size = http_headers.file_size(answer.headers)
    if size is None and not http_headers.is_chunked(answer.headers):
        raise errand.useless(answer, "has no Content-Length, or none that is a number, so its end could be missed")
    return size


def _next_block(errand: Errand, reply: HTTPResponse) -> bytes:
    """Return some bytes of a file, none at its end; an end that comes too early is a DeliveryError."""
    try:
        return reply.read1(MOVED_BYTES_MAX)
    except FAULTS as error:
        raise errand.broken(error) from error
