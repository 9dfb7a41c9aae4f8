"""One HTTP/1.1 request on a connection of its own, exactly as it is told, for what the transport never sends.

Bodies that are cut, DELETE without Depth, paths that are no names, Expect. Nothing is retried and no redirect
followed. Time is bounded twice, for each step and for the whole; a reply is read up to a limit and never further,
whatever it says of its length. All that goes wrong is a `Trouble`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any, cast
from urllib.parse import urlsplit

from ..errors import shown
from ..fields.digests import format_digest
from ..hosts import Host
from ..transports.http.connection import AGENT
from ..transports.http.reply import begin_reply
from ..transports.http.security import Security
from .finding import Trouble

__all__ = ["Answer", "Tls", "Wire"]

BLOCK = 64 * 1024  # bytes written or read at a time
HEAD_LIMIT = 64 * 1024  # bytes of a reply beside its body: http.client bounds lines and headers, not how many 1xx
BODY_LIMIT = 64 * 1024  # bytes of a body that are kept where a probe does not say
STEPS = 3  # times the timeout that a request may take on the whole, beside its bytes
MINIMUM_RATE = 64 * 1024  # bytes per second, as for a transfer of the transport
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Answer:
    """A final reply. ``whole`` is False where the body ended early or was longer than what was wanted of it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool


@dataclass(frozen=True)
class Tls:
    """What was agreed on: ``version`` such as TLSv1.3, ``expires`` when the certificate ends, seconds since 1970."""

    version: str
    expires: float | None


class Wire:
    """Requests to ``host``; ``timeout`` is in seconds without progress, ``security`` is what the host is shown."""

    def __init__(self, host: Host, timeout: float, security: Security) -> None:
        parts = urlsplit(host.url)
        self._host = parts.hostname or ""
        self._port = parts.port or PORTS[parts.scheme]
        self._secure = parts.scheme == "https"
        self._authority = parts.netloc
        self._base = parts.path
        self._timeout = timeout
        self._url = host.url
        self._security = security
        self.local_address = ""  # ours, as the host sees it where nothing between changes it

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        limit: int = BODY_LIMIT,
        bare: bool = False,
    ) -> Answer:
        """Return the answer to a request for ``path``, percent-encoded and below the host's URL.

        At most ``limit`` bytes of the reply's body are kept. ``bare`` leaves the credentials out.
        """
        with self._connected(len(body or b"") + limit, bare=bare) as line:
            line.send(self._head(method, path, headers, None if body is None else len(body), body or b"", bare=bare))
            with contextlib.suppress(ConnectionError):  # an early refusal, which is there to be read
                line.send(body or b"")
            return line.answer(method, limit)

    def cut(self, path: str, length: int, body: bytes) -> None:
        """Announce a PUT of ``length`` bytes, send ``body``, which is shorter, and hang up in order."""
        with self._connected(len(body)) as line, contextlib.suppress(ConnectionError):
            line.send(self._head("PUT", path, None, length, body) + body)
            line.end()

    def announce(self, path: str, length: int) -> Answer | None:
        """Announce a PUT of ``length`` bytes and send none. Return its refusal, None where the host says to go on.

        RFC 9110, section 10.1.1. Raises Trouble where the host says neither in time.
        """
        with self._connected(0) as line:
            line.send(self._head("PUT", path, {"Expect": "100-continue"}, length))
            if line.goes_on():
                return None
            return line.answer("PUT", BODY_LIMIT)

    def tls(self) -> Tls:
        """Return what TLS agreed on; raises Trouble where it failed, for its certificate among others."""
        with self._connected(0) as line:
            assert isinstance(line.sock, ssl.SSLSocket)  # noqa: S101 - only asked of https
            ends = (line.sock.getpeercert() or {}).get("notAfter")
            expires = float(ssl.cert_time_to_seconds(ends)) if isinstance(ends, str) else None
            return Tls(line.sock.version() or "", expires)

    def _head(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        length: int | None,
        body: bytes = b"",
        *,
        bare: bool = False,
    ) -> bytes:
        fields = {"Host": self._authority, "User-Agent": AGENT, "Accept-Encoding": "identity"}
        fields |= {"Connection": "close", **({} if bare else self._security.fields(self._url)), **(headers or {})}
        if length is not None:
            fields["Content-Length"] = str(length)
        signer = None if bare else self._security.signer(self._url)
        if signer is not None:
            if length is not None:
                fields["Repr-Digest"] = format_digest(hashlib.sha256(body).digest())
            fields |= signer(method, f"{self._url}/{path}", fields)
        lines = [f"{method} {self._base}/{path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    @contextlib.contextmanager
    def _connected(self, size: int, *, bare: bool = False) -> Iterator[_Line]:
        ends = time.monotonic() + STEPS * self._timeout + size / MINIMUM_RATE
        try:
            with socket.create_connection((self._host, self._port), self._timeout) as sock:
                self.local_address = sock.getsockname()[0]
                with self._secured(sock, bare) as secured:
                    yield _Line(secured, self._timeout, ends)
        except ssl.SSLCertVerificationError as error:
            raise Trouble(f"TLS failed: {shown(error.verify_message, 160)}", cause="tls") from error
        except ssl.SSLError as error:
            raise Trouble(f"TLS failed: {shown(error.reason or error, 160)}", cause="tls") from error
        except TimeoutError as error:
            raise Trouble(f"no answer within {self._timeout:g} s") from error
        except (HTTPException, ValueError, OverflowError) as error:
            raise Trouble(f"its answer is no HTTP: {shown(error, 160)}", cause="protocol") from error
        except OSError as error:
            # A host that does not take our certificate hangs up; before Python 3.13 that is an SSLError.
            cause = "tls" if self._secure and isinstance(error, BrokenPipeError) else ""
            raise Trouble(f"the connection broke: {shown(error.strerror or error, 160)}", cause=cause) from error

    def _secured(self, sock: socket.socket, bare: bool) -> socket.socket:
        if not self._secure:
            return sock
        return self._security.tls(bare=bare).wrap_socket(sock, server_hostname=self._host)


class _Line:
    """A connection with a deadline."""

    def __init__(self, sock: socket.socket, step: float, ends: float) -> None:
        self.sock = sock
        self._step = step
        self._ends = ends
        self._incoming = _Incoming(self)
        self._reader = io.BufferedReader(self._incoming, 8192)

    def wait(self) -> None:
        """Give the next step the time that it may take; raises TimeoutError where there is none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.sock.settimeout(min(self._step, left))

    def send(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            self.wait()
            left = left[self.sock.send(left[:BLOCK]) :]

    def end(self) -> None:
        """Say that no more comes, and wait until the host has seen it: it answers, or closes."""
        self.sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(TimeoutError):
            self._reader.peek(1)

    def goes_on(self) -> bool:
        """True where the next thing that comes is 100 Continue; then what was announced is dropped."""
        status = self._reader.peek(12)[:12].split(b" ")
        if len(status) < 2 or status[1][:1] != b"1":
            return False
        # A reset, so that the host takes the request for broken and not for complete.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return True

    def answer(self, method: str, limit: int) -> Answer:
        with contextlib.closing(begin_reply(self, method)) as reply:
            headers = cast("Mapping[str, str]", reply.msg)  # an email.message.Message, which looks names up in any case
            self._incoming.limit += limit
            body, whole = bytearray(), True
            try:
                while len(body) < limit and (block := reply.read(min(BLOCK, limit - len(body)))):
                    body += block
            except HTTPException:
                whole = False
            # What the length promised and did not come, or came and was not wanted.
            whole = whole and not (reply.length or 0) and (len(body) < limit or not self._more(reply))
            return Answer(reply.status, headers, bytes(body), whole)

    def _more(self, reply: HTTPResponse) -> bool:
        return not reply.isclosed() and bool(reply.read(1))

    def makefile(self, mode: str) -> Any:
        return self._reader


class _Incoming(io.RawIOBase):
    """What a socket receives, up to ``limit`` bytes."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        self.limit = HEAD_LIMIT

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.limit <= 0:
            raise ValueError("it does not end")
        self._line.wait()
        count = self._line.sock.recv_into(buffer, min(len(buffer), self.limit))
        self.limit -= count
        return count
