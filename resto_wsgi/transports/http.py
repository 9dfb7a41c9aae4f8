"""PUT and DELETE over HTTP/1.1 to WebDAV servers (nginx, lighttpd, Apache, our own node), and GET and HEAD back.

urllib3 owns connections, TLS and keep-alive; its retries and redirects are off, because it sends a retried body
empty. A reply to a PUT or a DELETE is trusted for its status alone, but not where it says that all is well and does
not end; one to a GET is trusted where all of it came, as many bytes as were announced. Time, memory and doubt are
bounded in ``http_connection``. Nothing else in the library imports urllib3.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http.client import IncompleteRead
from typing import Any, BinaryIO

import urllib3

from ..errors import DeliveryError, shown
from ..hosts import Host
from . import http_headers
from .http_connection import BLOCK, POOL_CLASSES, STEPS, Body, Exchange, Shrunk, Stale, TooLong, exchange

__all__ = ["HttpTransport"]

CONNECTIONS = 16  # kept alive for each host: one for each request thread of a usual WSGI server
POOLS = 1024  # hosts; urllib3 would close the connections of all but the 10 used last

PUT_DONE = frozenset({200, 201, 204})  # 202 only promises
DELETE_DONE = frozenset({200, 204, 404, 410})  # gone is gone
ABSENT = frozenset({404, 410})
FOLDER_KEPT = frozenset({400, 403, 405, 409})  # what servers answer to a DELETE of a folder that is not to be a tree
NO_FOLDER = frozenset({404, 409})  # lighttpd and Apache on a PUT under a missing folder (RFC 4918, section 9.7.1)
TEMPORARY = frozenset({408, 409, 423, 425, 429})  # the 4xx that a later try may get past
UNCLEAR = frozenset({408})  # the 4xx that refuses nothing: the host, or a proxy before it, waited in vain for more
MALFORMED = (ValueError, OverflowError)  # urllib3 passes on what it cannot parse: a chunk of -5 bytes, for instance
OUT_OF_SERVICE = frozenset({429, 502, 503, 504})  # overloaded, or what stands before the host does not reach it
REMEDIES = {
    401: "it wants credentials",
    403: "allow PUT and DELETE from here in its configuration",
    405: "enable PUT and DELETE (WebDAV) in its configuration",
    409: "a folder of the name is missing and could not be made, or is a file there",
    413: "raise its limit of the body size",
    500: "its error log says why; on nginx look at create_full_put_path and the permissions",
    507: "its disk is full",
}
READ_REMEDIES = {
    401: "it wants credentials",
    403: "allow GET from here in its configuration, and look at the permissions",
    405: "enable GET and HEAD in its configuration",
}


@dataclass(frozen=True)
class _Answer:
    """The final answer to a request; the header names are looked up in any case."""

    status: int
    headers: Mapping[str, str]


class _Errand:
    """One call of the transport: whom it is about, and what becomes of each end of it that is no success."""

    def __init__(self, host: Host, name: str, timeout: float, remedies: Mapping[int, str] = REMEDIES) -> None:
        self.host = host
        self.name = name
        self.exchange = Exchange(timeout)
        self._remedies = remedies

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """Have the connection keep to this exchange; whatever breaks it is a DeliveryError."""
        token = exchange.set(self.exchange)
        try:
            yield
        except (urllib3.exceptions.HTTPError, Shrunk, OSError) as error:
            untouched = not (self.exchange.sent or self.exchange.lost)
            raise self.failed(_reason(error, self.exchange), untouched=untouched) from error
        except TooLong as error:
            raise self.failed(str(error), status=error.status) from error
        finally:
            exchange.reset(token)

    def failed(self, reason: str, **facts: Any) -> DeliveryError:
        return DeliveryError(self.host.label, self.name, reason, **facts)

    def refused(self, answer: _Answer) -> DeliveryError:
        """Say what a status means that is not the one that was wanted."""
        status = answer.status
        if status < 300:
            remedy = "which does not say that it was done"
        elif status < 400:
            remedy = "redirects are never followed; give its final URL in media_hosts"
        else:
            remedy = self._remedies.get(status, "its error log says why")
        return self.failed(
            f"answered {status}: {remedy}",
            status=status,
            permanent=status < 500 and status not in TEMPORARY,
            untouched=400 <= status < 500 and status not in UNCLEAR and not self.exchange.lost,
            retry_after=http_headers.retry_after(answer.headers, time.time()),
        )

    def useless(self, answer: _Answer, problem: str) -> DeliveryError:
        """Say why a reply does not do although its status is the one that was wanted."""
        return self.failed(f"its reply {problem}", status=answer.status, permanent=True)


class HttpTransport:
    """Moves files over urllib3 pools; ``timeout`` is in seconds without progress. See ``Transport`` for its duties."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._managers: dict[int, urllib3.PoolManager] = {}  # by process, because a fork shares the sockets

    def put(self, host: Host, name: str, file: BinaryIO, size: int, mtime: float) -> None:
        """PUT (RFC 9110, section 9.3.4) with a length, never chunked; nginx takes Date as the file's mtime."""
        errand = _Errand(host, name, self._timeout)
        headers = {"Content-Length": str(size), "Date": formatdate(mtime, usegmt=True)}
        answer = self._ask(errand, "PUT", host.url_of(name), headers, file, size)
        if answer.status in NO_FOLDER and "/" in name:
            self._make_folders(errand)
            answer = self._ask(errand, "PUT", host.url_of(name), headers, file, size)
        if answer.status not in PUT_DONE:
            raise errand.refused(answer)

    def delete(self, host: Host, name: str) -> None:
        """DELETE (RFC 9110, section 9.3.5).

        ``Depth: 0`` makes nginx, lighttpd and Apache refuse a folder, where the last two would remove its tree. Where
        the name is a folder there is no file of that name any more, and it is done.
        """
        errand = _Errand(host, name, self._timeout)
        answer = self._ask(errand, "DELETE", host.url_of(name), {"Depth": "0"})
        if answer.status not in DELETE_DONE and not (answer.status in FOLDER_KEPT and self._is_folder(errand)):
            raise errand.refused(answer)

    def head(self, host: Host, name: str) -> int | None:
        """HEAD (RFC 9110, section 9.3.2): the Content-Length of the file, None where it is not there.

        Apache leaves out a length of 0 there, and says it on GET.
        """
        errand = _Errand(host, name, self._timeout, READ_REMEDIES)
        answer = self._ask(errand, "HEAD", host.url_of(name))
        if answer.status == 200 and http_headers.is_unsized(answer.headers):
            answer = self._begin(errand)
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
        errand = _Errand(host, name, self._timeout, READ_REMEDIES)
        with errand.under_way():
            response = self._open(errand, "GET", host.url_of(name))
        try:
            answer = _Answer(response.status, response.headers)
            if answer.status != 200:
                raise _no_file(errand, answer, response)
            errand.exchange.expect(_announced(errand, answer))
            while block := _next_block(errand, response):
                with errand.exchange.paused():
                    write(block)
        finally:
            response.close()  # and the connection, where it was not given back because all of the reply was read
            response.release_conn()
        return http_headers.mtime(answer.headers)

    def probe(self, host: Host) -> None:
        """HEAD of the folder that names hang below; whatever a server says of that, it is there to say it."""
        errand = _Errand(host, "/", self._timeout, READ_REMEDIES)
        answer = self._ask(errand, "HEAD", f"{host.url}/")
        if answer.status in OUT_OF_SERVICE:
            raise errand.refused(answer)

    def close(self) -> None:
        """Close this process's connections."""
        manager = self._managers.pop(os.getpid(), None)
        if manager is not None:
            manager.clear()

    def _begin(self, errand: _Errand) -> _Answer:
        """Return the answer to a GET whose file, if it is not empty, is left to the host."""
        with errand.under_way():
            response = self._open(errand, "GET", errand.host.url_of(errand.name))
            try:
                if response.status >= 300 or http_headers.file_size(response.headers) == 0:
                    _drain(response)
            finally:
                response.close()
                response.release_conn()
            return _Answer(response.status, response.headers)

    def _is_folder(self, errand: _Errand) -> bool:
        """True where there is no file: the host sends us on to the name with a slash, or knows nothing there."""
        url = errand.host.url_of(errand.name)
        answer = self._ask(errand, "HEAD", url)
        if answer.status in ABSENT:
            return True
        location = answer.headers.get("Location", "").partition("?")[0]
        return answer.status in (301, 308) and location.endswith(f"{url.rpartition('/')[2]}/")

    def _make_folders(self, errand: _Errand) -> None:
        """MKCOL (RFC 4918, section 9.3) the folders above a name, the topmost first; whatever is there stays."""
        parts = errand.name.split("/")[:-1]
        ends = time.monotonic() + STEPS * self._timeout  # for all of them: a name may have hundreds
        for depth in range(1, len(parts) + 1):
            if time.monotonic() > ends:
                reason = "too slow: its folders took too long to make"
                raise errand.failed(reason, untouched=not errand.exchange.lost)  # the PUT before was refused
            self._ask(errand, "MKCOL", errand.host.url_of("/".join(parts[:depth])) + "/")

    def _ask(
        self,
        errand: _Errand,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        file: BinaryIO | None = None,
        size: int = 0,
    ) -> _Answer:
        """Return the answer to one request whose reply is of interest for its head alone."""
        with errand.under_way():
            response = self._open(errand, method, url, headers, file, size)
            try:
                _drain(response)
            finally:
                response.release_conn()
            return _Answer(response.status, response.headers)

    def _open(
        self,
        errand: _Errand,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        file: BinaryIO | None = None,
        size: int = 0,
    ) -> urllib3.BaseHTTPResponse:
        """Return the reply to one request, repeated once where the connection was stale."""
        errand.exchange.begin(size)
        fields = {**(headers or {}), "User-Agent": "resto_wsgi", "Accept-Encoding": "identity"}
        try:
            return self._attempt(method, url, fields, file, size)
        except urllib3.exceptions.ProtocolError as error:
            if not any(isinstance(argument, Stale) for argument in error.args):
                raise
        errand.exchange.lost = True  # the host may have read it, and died of it
        return self._attempt(method, url, fields, file, size)

    def _attempt(
        self, method: str, url: str, fields: Mapping[str, str], file: BinaryIO | None, size: int
    ) -> urllib3.BaseHTTPResponse:
        return self._manager().urlopen(
            method,
            url,
            body=None if file is None else Body(file, size),
            headers=fields,
            timeout=urllib3.Timeout(connect=self._timeout, read=self._timeout),
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )

    def _manager(self) -> urllib3.PoolManager:
        pid = os.getpid()
        manager = self._managers.get(pid)
        if manager is None:
            manager = urllib3.PoolManager(POOLS, maxsize=CONNECTIONS)
            manager.pool_classes_by_scheme = POOL_CLASSES
            manager = self._managers.setdefault(pid, manager)
        return manager


def _drain(response: urllib3.BaseHTTPResponse) -> None:
    """Read a reply to its end, or close its connection."""
    try:
        response.drain_conn()
    except TooLong as error:
        if response.status < 300:  # others may have a long page; what they say is clear without it
            error.status = response.status
            raise
    except MALFORMED as error:
        response.close()
        raise OSError(f"the reply is malformed: {error}") from error


def _no_file(errand: _Errand, answer: _Answer, response: urllib3.BaseHTTPResponse) -> Exception:
    """Return what a GET raises that was not answered with the file."""
    if answer.status >= 300:  # a page, after which the connection can be used again
        with errand.under_way():
            _drain(response)
    if answer.status in ABSENT:
        return FileNotFoundError(errno.ENOENT, f"not on {errand.host.label}", errand.name)
    return errand.refused(answer)


def _announced(errand: _Errand, answer: _Answer) -> int | None:
    """Return how many bytes the file has, None where its end will be told; raise DeliveryError where neither is."""
    if http_headers.is_encoded(answer.headers):
        raise errand.useless(answer, "is compressed, or encoded else; turn that off below its URL in media_hosts")
    size = http_headers.file_size(answer.headers)
    if size is None and not http_headers.is_chunked(answer.headers):
        raise errand.useless(answer, "has no Content-Length, or none that is a number, so its end could be missed")
    return size


def _next_block(errand: _Errand, response: urllib3.BaseHTTPResponse) -> bytes:
    """Return some bytes of a file, none at its end; an end that comes too early is a DeliveryError."""
    with errand.under_way():
        try:
            return response.read1(BLOCK, decode_content=False)
        except MALFORMED as error:
            raise OSError(f"the reply is malformed: {error}") from error


def _reason(error: Exception, work: Exchange) -> str:
    """Say in a few words what happened; what the host sent is shown quoted."""
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "its name does not resolve"
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "refuses connections, or is unreachable"
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError):
        return f"no connection within {work.step:g} s"
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return f"too slow: {error.__cause__}" if work.reading else f"no answer within {work.step:g} s"
    if isinstance(error, Shrunk):
        return str(error)
    inner = error.args[-1] if error.args else error
    if isinstance(inner, IncompleteRead):
        return "the connection broke: its reply was cut short"
    if isinstance(error, urllib3.exceptions.SSLError):
        return f"TLS failed: {shown(inner, 160)}"
    if isinstance(inner, TimeoutError):
        return f"too slow: {inner}"
    return f"the connection broke: {shown(inner, 160)}"
