"""The HTTP server: cheroot, with bounds on what a client can hold. Nothing is known here of files.

cheroot gives a thread to each connection from the moment it is accepted, and waits ten seconds for every single byte,
without an end. Here a connection that says nothing holds no thread, a TLS handshake is the work of a thread like any
other, a request's head has ``timeout`` seconds in all, and what follows has to move at BYTES_A_SECOND_MIN. What stays:
a request under way holds a thread, so as many slow clients as there are threads hold all of them. A proxy that buffers
has to stand between this and the open internet. ``make_server`` imports this, and so cheroot.
"""

from __future__ import annotations

import errno
import os
import resource
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from socket import SocketIO, socket
from typing import Any, TypeVar

from cheroot.makefile import BufferedWriter, StreamReader, StreamWriter
from cheroot.server import HTTPConnection, HTTPRequest
from cheroot.ssl.builtin import BuiltinSSLAdapter
from cheroot.wsgi import Server as CherootServer

from ..errors import ConfigError
from ..trust.secret_files import judge
from .heads import Headers, read_headers
from .server_log import ServerLog

__all__ = ["Server", "Tls"]

THREADS = 20  # requests at a time
TIMEOUT = 10.0  # seconds for a request's head, and without a byte
BYTES_A_SECOND_MIN = 1024  # of a body or an answer: 1/50 of a modem's of 1998
UNACCEPTED_MAX = 128  # connections that wait; cheroot's 5 turns some away when every host is written at once
IDLE_MAX = 500  # connections without a request; fewer if there are few descriptors (``_room``)
IDLE_SECONDS = 1.0  # without a request, after which a connection is closed if there are more than IDLE_MAX
QUEUED_MAX = 500  # requests that wait for a thread; more are answered 503
QUEUE_SECONDS = 1.0  # for which accepting stops before that
HEADERS_BYTES_MAX = 64 * 1024  # of all headers of a request; cheroot would keep any number of them in memory
RESERVED = 64  # descriptors for the outbox, the children and what Python has open
RESERVED_A_THREAD = 4  # its connection, the file, its folder, and what is staged
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSE_SECONDS = 0.1  # of accepting, while those that are open go on

T = TypeVar("T")


@dataclass(frozen=True)
class Tls:
    """The files of TLS, in PEM: the certificate with its chain, its key, and who signs the certificates of clients."""

    certificate: str
    key: str
    client_ca: str | None = None


class Server(CherootServer):
    """Serves ``app`` with ``threads`` requests at a time; ``timeout`` is in seconds. Raises ConfigError."""

    keep_alive_conn_limit = IDLE_MAX
    max_request_header_size = HEADERS_BYTES_MAX

    def __init__(
        self,
        app: Any,
        host: str,
        port: int,
        *,
        threads: int = THREADS,
        timeout: float = TIMEOUT,
        tls: Tls | None = None,
    ) -> None:
        room = _room(resource.getrlimit(resource.RLIMIT_NOFILE)[0], threads)
        self.keep_alive_conn_limit = min(self.keep_alive_conn_limit, room)
        seconds: dict[str, Any] = {"timeout": timeout, "accepted_queue_timeout": QUEUE_SECONDS}
        super().__init__(
            (host, port),
            app,
            numthreads=threads,
            max=threads,
            request_queue_size=UNACCEPTED_MAX,
            accepted_queue_size=min(QUEUED_MAX, room),
            **seconds,
        )
        self.ConnectionClass = _Connection
        self._log = ServerLog()
        if tls:
            self.ssl_adapter = _adapter(tls)

    def prepare(self) -> None:
        """Listen; accepting pauses for a moment when there are no more descriptors."""
        super().prepare()
        self.socket = _Listening(self.socket, self._log)

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        """Write what cheroot has to say, a line a minute of what clients and descriptors can cause."""
        self._log.write(msg, traceback=traceback)

    def process_conn(self, connection: Any) -> None:
        """Give a connection to a thread, but a new one only when it has something to say."""
        if connection.last_used is not None:
            super().process_conn(connection)
            return
        if not self.can_add_keepalive_connection:
            # Whoever has something to say has said it by now; a new connection is more likely to be such a one.
            connections: Any = self.__dict__["_connections"]
            connections._expire(threshold=time.time() - IDLE_SECONDS)
        if self.can_add_keepalive_connection:
            self.put_conn(connection)
        else:
            connection.close()


def _room(descriptors: int, threads: int) -> int:
    """Return how many connections may be without a request, and how many may wait for a thread."""
    if descriptors == resource.RLIM_INFINITY:
        return max(IDLE_MAX, QUEUED_MAX)
    return max(1, (descriptors - RESERVED - RESERVED_A_THREAD * threads) // 2)


class _Listening:
    """The socket that listens. cheroot would try again at once, and write a traceback each time, as fast as it can."""

    def __init__(self, listening: Any, log: ServerLog) -> None:
        self._listening = listening
        self._log = log

    def accept(self) -> Any:
        try:
            return self._listening.accept()
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            self._log.write(f"media server: accepting pauses: {error.strerror}; raise LimitNOFILE or ulimit -n")
            time.sleep(PAUSE_SECONDS)
            raise BlockingIOError(errno.EAGAIN, "to be tried again") from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listening, name)


class _Paced(SocketIO):
    """A connection in one direction: its other end has the timeout for the first byte, then BYTES_A_SECOND_MIN."""

    def __init__(self, connection: Any, mode: Any) -> None:
        super().__init__(connection, mode)
        self._connection = connection
        self._timeout = self._set = connection.gettimeout()
        self.begin(0)

    def begin(self, rate: int = BYTES_A_SECOND_MIN) -> None:
        """Count anew; ``rate`` is in bytes per second, 0 if all has to come within the timeout."""
        self._seconds, self._rate, self._moved, self._waited = self._timeout, rate, 0, 0.0

    def readinto(self, buffer: Any) -> int | None:
        return self._move(super().readinto, buffer)

    def write(self, data: Any) -> int | None:
        return self._move(super().write, data)

    def _move(self, move: Callable[[Any], int | None], data: Any) -> int | None:
        allowed = self._seconds + (self._moved / self._rate if self._rate else 0.0) - self._waited
        if allowed <= 0:
            raise TimeoutError("timed out")
        if (seconds := min(self._timeout, allowed)) != self._set:
            self._set = seconds
            self._connection.settimeout(seconds)
        began = time.monotonic()
        try:
            count = move(data)
        except ssl.SSLError as error:  # the client went, or garbles; cheroot knows what that is without TLS alone
            raise ConnectionResetError(errno.ECONNRESET, error.reason or "TLS failed") from error
        finally:
            self._waited += time.monotonic() - began
        self._moved += count or 0
        return count


class _Reader(StreamReader):
    def __init__(self, connection: socket, mode: str, size: int) -> None:
        super(StreamReader, self).__init__(_Paced(connection, mode), size)
        self.bytes_read = 0


class _Writer(StreamWriter):
    def __init__(self, connection: socket, mode: str, size: int) -> None:
        BufferedWriter.__init__(self, _Paced(connection, mode), size)
        self.bytes_written = 0

    def __del__(self) -> None:
        """Leave what could not be sent: the connection is closed by now, and Python 3.13 would complain on stderr."""


def _make_file(connection: socket, mode: str, size: int) -> Any:
    return _Reader(connection, mode, size) if "r" in mode else _Writer(connection, mode, size)


class _Request(HTTPRequest):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.inheaders = Headers()
        self.header_reader = self._read_head

    def _read_head(self, lines: Any, headers: Headers) -> None:
        read_headers(lines, headers, needs_host=self.response_protocol == "HTTP/1.1")

    def read_request_line(self) -> bool:
        try:
            return bool(super().read_request_line())  # type: ignore[no-untyped-call]
        except ValueError:  # of urllib.parse: GET //[
            self.simple_response("400 Bad Request", "Malformed Request-URI")
            return False

    def parse_request(self) -> None:
        self.conn.rfile.raw.begin(0)
        self.conn.wfile.raw.begin()
        super().parse_request()
        self.conn.rfile.raw.begin()

    def send_headers(self) -> None:
        """Close if the application says so, instead of reading what is left of the body into memory."""
        if any(name.lower() == b"connection" and value.lower() == b"close" for name, value in self.outheaders):
            self.close_connection = True
        super().send_headers()


class _Connection(HTTPConnection):
    RequestHandlerClass = _Request

    def __init__(self, server: Any, connection: Any, _: Any = None) -> None:
        super().__init__(server, connection, _make_file)
        self._shaken = server.ssl_adapter is None

    def communicate(self) -> bool:
        if not self._shaken:
            try:
                self.socket.do_handshake()  # within the timeout, all of it
            except OSError:  # a client that speaks no TLS, or whose certificate is not good
                return False
            self.ssl_env = self.server.ssl_adapter.get_environ(self.socket)
            self._shaken = True
        return bool(super().communicate())  # type: ignore[no-untyped-call]


class _Adapter(BuiltinSSLAdapter):
    def wrap(self, connection: socket) -> tuple[ssl.SSLSocket, dict[str, Any]]:
        """Leave the handshake to the thread that serves the connection."""
        wrapped = self.context.wrap_socket(connection, do_handshake_on_connect=False, server_side=True)
        return wrapped, {}


def _adapter(tls: Tls) -> _Adapter:
    adapter: _Adapter = _usable("tls-cert", lambda: _Adapter(tls.certificate, tls.key))
    judge("tls-key", tls.key, _usable("tls-key", lambda: os.stat(tls.key)), group=True)
    if tls.client_ca is not None:
        context = adapter.context
        _usable("client-ca", lambda: context.load_verify_locations(tls.client_ca))
        context.verify_mode = ssl.CERT_OPTIONAL  # reads are public
    return adapter


def _usable(option: str, load: Callable[[], T]) -> T:
    try:
        return load()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(option, f"cannot be used: {reason}") from error
