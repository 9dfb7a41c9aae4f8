"""PUT and DELETE over HTTP/1.1 to WebDAV servers: nginx, lighttpd, Apache, our own node.

urllib3 owns connections, TLS and keep-alive; its retries and redirects are off, because it sends a retried body
empty. A reply is trusted for its status alone, but not where it says that all is well and does not end. Time is
bounded twice: no step takes longer than ``timeout`` without progress, and the whole request has a deadline, so that
a host that moves a byte now and then cannot hold us. Both are looked at where bytes move: in ``_Bounded.send`` on
the way out, in ``_Reply`` on the way in.
The only module that imports urllib3.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import socket
import struct
import time
from collections.abc import Mapping
from contextvars import ContextVar
from email.utils import formatdate
from http.client import HTTPResponse as HttpReply
from typing import Any, BinaryIO

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from ..errors import DeliveryError, shown
from ..hosts import Host

__all__ = ["HttpTransport"]

BLOCK = 256 * 1024  # bytes read from the file and given to the socket at a time
REPLY_LIMIT = 64 * 1024  # bytes of a whole reply; the error pages of the stock servers are under 1 KiB
MINIMUM_RATE = 64 * 1024  # bytes per second: a transfer that is slower on the whole is given up
STEPS = 3  # times ``timeout`` that a request may take beside its bytes: to connect, to send, to answer
ANSWER_STEPS = 2  # times ``timeout`` that an answer may take on the whole, however large the file was
CONNECTIONS = 16  # kept alive for each host: one for each request thread of a usual WSGI server
POOLS = 1024  # hosts; urllib3 would close the connections of all but the 10 used last

PUT_DONE = frozenset({200, 201, 204})  # 202 only promises
DELETE_DONE = frozenset({200, 204, 404, 410})  # gone is gone
NO_FOLDER = frozenset({404, 409})  # lighttpd and Apache on a PUT under a missing folder (RFC 4918, section 9.7.1)
TEMPORARY = frozenset({408, 409, 423, 425, 429})  # the 4xx that a later try may get past
REMEDIES = {
    401: "it wants credentials",
    403: "allow PUT and DELETE from here in its configuration",
    405: "enable PUT and DELETE (WebDAV) in its configuration",
    409: "a folder of the name is missing and could not be made, or is a file there",
    413: "raise its limit of the body size",
    500: "its error log says why; on nginx look at create_full_put_path and the permissions",
    507: "its disk is full",
}


class _Deadline:
    """When a request has to be over: ``step`` seconds without progress, ``ends`` on the whole."""

    def __init__(self, step: float, size: int) -> None:
        self.step = step
        self.ends = time.monotonic() + STEPS * step + size / MINIMUM_RATE

    def next_step(self) -> float:
        """Return the seconds that the next step may take; raise TimeoutError where there are none."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long on the whole")
        return min(self.step, left)


# How a request's deadline reaches the connection that urllib3 picks for it.
_deadline: ContextVar[_Deadline] = ContextVar("deadline")


class _Stale(ConnectionResetError):
    """A connection that had been kept alive turned out to be closed by the host."""


class _Shrunk(Exception):
    """The master's file became shorter while it was sent."""


class _TooLong(Exception):
    """A reply went on beyond REPLY_LIMIT. No OSError, so that nobody takes it for the end of the reply."""

    status: int | None = None

    def __str__(self) -> str:
        return f"its reply is longer than {REPLY_LIMIT} bytes; look at what answers at its URL"


class _Body(io.RawIOBase):
    """Exactly ``size`` bytes of a file, read at an offset of its own. A shorter file is an error, never a short PUT."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._fd = file.fileno()
        self._size = size
        self._sent = 0

    def read(self, size: int = -1) -> bytes:
        block = os.pread(self._fd, min(BLOCK, self._size - self._sent), self._sent)
        if not block and self._sent < self._size:
            raise _Shrunk(f"the master ends at {self._sent} bytes of {self._size}")
        self._sent += len(block)
        return block


class _Reply(io.RawIOBase):
    """What a socket receives, until the deadline and up to REPLY_LIMIT bytes."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file = sock.makefile("rb", buffering=0)  # http.client closes the socket before such a reply is read
        self._ends = time.monotonic() + ANSWER_STEPS * _deadline.get().step
        self.received = 0

    def makefile(self, mode: str) -> io.BufferedReader:
        """Stand in for a socket where http.client asks it for a file."""
        return io.BufferedReader(self, 8192)

    def close(self) -> None:
        self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.received >= REPLY_LIMIT:
            raise _TooLong
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long on the whole")
        self._sock.settimeout(min(left, _deadline.get().next_step()))
        count = self._sock.recv_into(buffer, min(len(buffer), REPLY_LIMIT - self.received))
        self.received += count
        return count


class _Bounded(HTTPConnection):
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
                self.sock.settimeout(_deadline.get().next_step())
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
        reply = _Reply(self.sock)
        self.response_class = lambda _, *args, **kw: HttpReply(reply, *args, **kw)  # type: ignore[assignment,arg-type]
        used, self._used = self._used, True
        try:
            response = super().getresponse()
        except ConnectionError as error:
            if used and not reply.received:
                raise _Stale(*error.args) from error
            raise
        except BaseException:
            self._reset()
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


class _BoundedTls(_Bounded, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Bounded


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _BoundedTls


class HttpTransport:
    """Moves files over urllib3 pools; ``timeout`` is in seconds without progress. See ``Transport`` for its duties."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._managers: dict[int, urllib3.PoolManager] = {}  # by process, because a fork shares the sockets

    def put(self, host: Host, name: str, file: BinaryIO, size: int, mtime: float) -> None:
        """PUT (RFC 9110, section 9.3.4) with a length, never chunked; nginx takes Date as the file's mtime."""
        headers = {"Content-Length": str(size), "Date": formatdate(mtime, usegmt=True)}
        status = self._send("PUT", host, name, headers, file, size)
        if status in NO_FOLDER and "/" in name:
            self._make_folders(host, name)
            status = self._send("PUT", host, name, headers, file, size)
        if status not in PUT_DONE:
            raise _refused(host, name, status)

    def delete(self, host: Host, name: str) -> None:
        """DELETE (RFC 9110, section 9.3.5).

        ``Depth: 0`` makes nginx, lighttpd and Apache refuse a folder, where the last two would remove its tree.
        """
        status = self._send("DELETE", host, name, {"Depth": "0"})
        if status not in DELETE_DONE:
            raise _refused(host, name, status)

    def close(self) -> None:
        """Close this process's connections."""
        manager = self._managers.pop(os.getpid(), None)
        if manager is not None:
            manager.clear()

    def _make_folders(self, host: Host, name: str) -> None:
        """MKCOL (RFC 4918, section 9.3) the folders above a name, the topmost first; whatever is there stays."""
        parts = name.split("/")[:-1]
        ends = time.monotonic() + STEPS * self._timeout  # for all of them: a name may have hundreds
        for depth in range(1, len(parts) + 1):
            if time.monotonic() > ends:
                raise DeliveryError(host.label, name, "too slow: its folders took too long to make")
            self._send("MKCOL", host, "/".join(parts[:depth]), {}, folder=True)

    def _send(
        self,
        method: str,
        host: Host,
        name: str,
        headers: Mapping[str, str],
        file: BinaryIO | None = None,
        size: int = 0,
        folder: bool = False,
    ) -> int:
        """Return the status of one request, repeated once where the connection was stale."""
        url = host.url_of(name) + "/" * folder
        deadline = _Deadline(self._timeout, size)
        token = _deadline.set(deadline)
        try:
            for attempt in (1, 2):
                body = None if file is None else _Body(file, size)
                try:
                    return self._status(method, url, headers, body)
                except urllib3.exceptions.ProtocolError as error:
                    if attempt == 1 and _is_stale(error):
                        continue
                    raise
            raise AssertionError("not reached")
        except (urllib3.exceptions.HTTPError, _Shrunk, OSError) as error:
            raise DeliveryError(host.label, name, _reason(error, self._timeout)) from error
        except _TooLong as error:
            raise DeliveryError(host.label, name, str(error), status=error.status) from error
        finally:
            _deadline.reset(token)

    def _status(self, method: str, url: str, headers: Mapping[str, str], body: _Body | None) -> int:
        response = self._manager().urlopen(
            method,
            url,
            body=body,
            headers={**headers, "User-Agent": "resto_wsgi", "Accept-Encoding": "identity"},
            timeout=urllib3.Timeout(connect=self._timeout, read=self._timeout),
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
        try:
            response.drain_conn()  # to its end, or the connection is closed
        except _TooLong as error:
            if response.status < 300:  # others may have a long page; what they say is clear without it
                error.status = response.status
                raise
        except ValueError as error:  # urllib3 passes on what it cannot parse, a chunk of -5 bytes for instance
            response.close()
            raise OSError(f"the reply is malformed: {error}") from error
        finally:
            response.release_conn()
        return int(response.status)

    def _manager(self) -> urllib3.PoolManager:
        pid = os.getpid()
        manager = self._managers.get(pid)
        if manager is None:
            manager = urllib3.PoolManager(POOLS, maxsize=CONNECTIONS)
            manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
            manager = self._managers.setdefault(pid, manager)
        return manager


def _is_stale(error: urllib3.exceptions.ProtocolError) -> bool:
    return any(isinstance(argument, _Stale) for argument in error.args)


def _refused(host: Host, name: str, status: int) -> DeliveryError:
    if 300 <= status < 400:
        remedy = "redirects are never followed; give its final URL in media_hosts"
    else:
        remedy = REMEDIES.get(status, "its error log says why")
    permanent = status < 500 and status not in TEMPORARY
    return DeliveryError(host.label, name, f"answered {status}: {remedy}", status=status, permanent=permanent)


def _reason(error: Exception, timeout: float) -> str:
    """Say in a few words what happened; what the host sent is shown quoted."""
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "its name does not resolve"
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "refuses connections, or is unreachable"
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError):
        return f"no connection within {timeout:g} s"
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, _Shrunk):
        return str(error)
    inner = error.args[-1] if error.args else error
    if isinstance(error, urllib3.exceptions.SSLError):
        return f"TLS failed: {shown(inner, 160)}"
    if isinstance(inner, TimeoutError):
        return f"too slow: {inner}"
    return f"the connection broke: {shown(inner, 160)}"
