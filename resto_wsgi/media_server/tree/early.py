"""Sending a large file to children while it still arrives, so that a tree takes about as long as one node does.

    connecting ── connected ──> sending ── ``end`` ──> handed over: the engine sends the rest, when it may
        │                          ├── the child answers, or nothing arrives there ──> stopped ── ``end`` ──> dropped
        └── ``end`` ──> dropped    └── the file is refused here: ``end`` ──> dropped

What is dropped is a short body for the child, of which nothing is stored. The last block commits the file. It is held
back until the file is durable here, its digest was compared, the name is locked, the change recorded as owed, and the
file published. So a child never has what its parent refused, or does not owe. A child that is not ready then, or has
failed, is sent the whole file by the engine, as if nothing had begun; so it is after a crash. There is one thread for
each child while the file arrives. It reads from the file, not from memory, at the child's own pace, and goes on as long
as there is ``Progress``. Nobody waits for one that still connects. ``relay`` calls this, ``node_transport`` takes over.
"""

from __future__ import annotations

import contextlib
import os
import select
import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any

from ...hosts import Host
from ...transports.http.connection import Bounded
from ...transports.http.job import Begun
from ...transports.http.progress import Exchange, Progress
from ...transports.http.transport import Opening

__all__ = ["EARLY_BYTES_MIN", "Early", "Stream"]

EARLY_BYTES_MIN = 4 * 1024 * 1024  # of a file: a smaller one is sent faster than this is begun
HELD_BACK_BYTES = 64 * 1024  # at the end of a file
SENT_BYTES_MAX = 1024 * 1024  # at a time


class Stream:
    """One child's PUT of the file at ``path``, of which the beginning is ``opening``. Raises OSError.

    ``mtime_ns`` is what the child was told of its mtime: if the file got another one, it is of no use.
    """

    def __init__(self, opening: Opening, path: str, size: int, mtime_ns: int) -> None:
        self._origin = opening.origin
        self._connection: Bounded = opening.origin.new()
        self._head = memoryview(opening.head)
        self._sent = 0  # bytes of the body that are with the child
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed when the stream has ended
        self._most = size - HELD_BACK_BYTES
        self._mtime_ns = mtime_ns
        self._exchange = Exchange(opening.timeout)
        self._have = 0
        self._news = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # more is in the file, or it has ended
        self._connecting = True
        self._ended = self._failed = False
        self._lock = threading.Lock()  # of the two before
        self._thread = threading.Thread(target=self._run, name="resto early", daemon=True)

    def start(self) -> bool:
        """Begin; return False, and be ended, if there can be no more threads."""
        try:
            self._thread.start()
        except RuntimeError:
            self._release(keep=False)
            return False
        return True

    def arrived(self, total: int) -> None:
        """Say that so many bytes are in the file now."""
        self._have = total
        os.eventfd_write(self._news, 1)

    def end(self, fd: int | None = None) -> Begun | None:
        """Send no more than what is under way; return what was begun, if the rest of ``fd`` can be sent after it.

        Else the connection has ended so that the child takes what it has for cut short.
        """
        with self._lock:
            self._ended = True
            if self._connecting:  # for as long as that may take: the thread drops what it has then
                return None
        os.eventfd_write(self._news, 1)
        self._thread.join()
        usable = fd is not None and not self._failed and self._is_file(fd)
        self._release(keep=usable)
        return Begun(self._origin, self._connection, self._sent) if usable else None

    def _is_file(self, fd: int) -> bool:
        status = os.fstat(self._file.fileno())
        return os.path.samestat(os.fstat(fd), status) and status.st_mtime_ns == self._mtime_ns

    def _release(self, *, keep: bool) -> None:
        self._file.close()
        os.close(self._news)
        if not keep:
            self._connection.close()

    def _run(self) -> None:
        # Whatever goes wrong, the engine sends the file anew, and tells of what goes wrong then.
        try:
            self._connection.connect()
        except Exception:
            self._failed = True
        with self._lock:
            self._connecting = False
            dropped = self._ended
        if dropped:
            self._release(keep=False)
        elif not self._failed:
            try:
                self._send()
            except Exception:
                self._failed = True

    def _send(self) -> None:
        """Send what is in the file, as far as it may go, until the end, or until the child says something."""
        sock: Any = self._connection.sock
        sock.settimeout(0)
        self._exchange.begin(self._most)
        progress = Progress(sock, self._exchange, self._origin.route.traffic)
        poll = select.poll()
        poll.register(self._news, select.POLLIN)
        try:
            progress.moved()
            while not self._ended and (self._head or self._sent < self._most):
                events = self._wait(poll, sock, progress)
                if events & ~select.POLLOUT:
                    return  # it answers already, or has closed; the engine reads what it says
                if events:
                    with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError):
                        self._send_some(sock)
                        progress.moved()
        finally:
            progress.over()

    def _wait(self, poll: select.poll, sock: Any, progress: Progress) -> int:
        """Return what the connection shows, 0 if there may be more to send. Raises TimeoutError."""
        idle = not self._head and self._have <= self._sent
        # Under TLS a byte that comes is no answer: after the handshake come tickets, which are read with the answer.
        reads = 0 if isinstance(sock, ssl.SSLSocket) else select.POLLIN
        poll.register(sock, reads if idle else reads | select.POLLOUT)
        with self._exchange.paused() if idle else contextlib.nullcontext():
            seconds = None if idle else max(0.001, progress.until - time.monotonic())
            found = dict(poll.poll(seconds and seconds * 1000))
        if found.pop(self._news, 0):
            os.eventfd_read(self._news)
        if idle:
            progress.moved()  # it is not the child that was waited for
        elif not found and time.monotonic() >= progress.until and (late := progress.overdue()) is not None:
            raise late
        return found.get(sock.fileno(), 0)

    def _send_some(self, sock: Any) -> None:
        """Give to the kernel what it takes at once. Raises BlockingIOError, what TLS wants, and OSError."""
        if self._head:
            self._head = self._head[sock.send(self._head) :]
            return
        count = min(self._have, self._most, self._sent + SENT_BYTES_MAX) - self._sent
        if isinstance(sock, ssl.SSLSocket):
            # Who goes on, after a record that has not gone out whole, has to give the same bytes: it sends from here.
            self._sent += sock.send(os.pread(self._file.fileno(), count, self._sent))
        else:
            self._sent += os.sendfile(sock.fileno(), self._file.fileno(), self._sent, count)


class Early:
    """The streams of one file, by child. Whatever was not taken over is dropped in the end."""

    def __init__(self, streams: Iterable[tuple[Host, Stream]]) -> None:
        self._streams = {host: stream for host, stream in streams if stream.start()}

    def arrived(self, total: int) -> None:
        """Say that so many bytes are in the file now."""
        for stream in self._streams.values():
            stream.arrived(total)

    def take(self, host: Host, fd: int) -> Begun | None:
        """Return what was begun to be sent of that file to a child, to be gone on with, None if nothing was."""
        stream = self._streams.pop(host, None)
        return None if stream is None else stream.end(fd)

    def close(self) -> None:
        """Drop what nobody took over."""
        for stream in self._streams.values():
            stream.end()
        self._streams.clear()
