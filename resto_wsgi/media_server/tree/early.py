"""Sending a large file to children while it still arrives, so that a tree takes about as long as one node does.

    head and bytes as they come ──> all but the last block ──> handed over: the engine sends the rest, when it may
                 └── the child fails, or the file is refused here ──> dropped: a short body, of which nothing is stored

The last block commits the file. It is held back until the file is durable here, its digest was compared, the name is
locked, the change recorded as owed, and the file published. So a child never has what its parent refused, or does not
owe. A child that is not ready then, or has failed, is sent the whole file by the engine, as if nothing had begun; after
a crash the child has a body that was cut short. There is one thread for each child while the file arrives. It reads
from the file, not from memory, at the child's own pace. ``relay`` calls this, ``node_transport`` takes over.
"""

from __future__ import annotations

import contextlib
import os
import select
import ssl
import threading
from collections.abc import Iterable
from typing import Any

from ...hosts import Host
from ...transports.http.connection import Bounded, Origin

__all__ = ["EARLY_BYTES_MIN", "Early", "Stream"]

EARLY_BYTES_MIN = 4 * 1024 * 1024  # of a file: a smaller one is sent faster than this is begun
HELD_BACK_BYTES = 64 * 1024  # at the end of a file
SENT_BYTES_MAX = 1024 * 1024  # at a time


class Stream:
    """One child's PUT of the file at ``path``; ``sent`` bytes of the body are with it. Raises OSError.

    ``mtime_ns`` is the mtime that the child was told; if the file gets another one, the stream is of no use.
    """

    def __init__(self, origin: Origin, head: bytes, path: str, size: int, mtime_ns: int, timeout: float) -> None:
        self.origin = origin
        self.connection: Bounded = origin.new()
        self.sent = 0
        self._head = head
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed at the end of the stream
        self._early_bytes = size - HELD_BACK_BYTES
        self._mtime_ns = mtime_ns
        self._timeout = timeout
        self._have = 0
        self._ended = False
        self._failed = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="resto early", daemon=True)

    def start(self) -> bool:
        """Begin; return False, and be ended, if there can be no more threads."""
        try:
            self._thread.start()
        except RuntimeError:
            self.end()
            return False
        return True

    def arrived(self, total: int) -> None:
        """Say that so many bytes are in the file now."""
        with self._news:
            self._have = total
            self._news.notify()

    def end(self, fd: int | None = None) -> bool:
        """Send no more than what is under way; return whether the rest of ``fd`` can be sent on its connection.

        Else the connection has ended so that the child takes what it has for cut short.
        """
        with self._news:
            self._ended = True
            self._news.notify()
        if self._thread.ident is not None:
            self._thread.join()
        with self._file as file:
            status = os.fstat(file.fileno())
            same = fd is not None and os.path.samestat(os.fstat(fd), status) and status.st_mtime_ns == self._mtime_ns
        if same and not self._failed:
            return True
        self.connection.close()
        return False

    def _run(self) -> None:
        try:
            self.connection.connect()
            sock: Any = self.connection.sock
            sock.settimeout(self._timeout)
            sock.sendall(self._head)
            ready = select.poll()
            ready.register(sock.fileno(), select.POLLIN | select.POLLOUT)
            while (count := self._wait()) > 0:
                events = ready.poll(self._timeout * 1000)
                if not events:
                    raise TimeoutError("it takes nothing")  # noqa: TRY301
                if events[0][1] & ~select.POLLOUT and not isinstance(sock, ssl.SSLSocket):
                    return  # it answers already; the engine reads what it says
                self._send(sock, count)
        except Exception:
            # Whatever it is, the engine sends the file anew, and tells of what goes wrong then.
            self._failed = True

    def _wait(self) -> int:
        """Return how many bytes may be sent now, 0 if no more are to be."""
        with self._news:
            self._news.wait_for(lambda: self._ended or self.sent >= self._early_bytes or self._have > self.sent)
            return 0 if self._ended else min(self._have, self._early_bytes, self.sent + SENT_BYTES_MAX) - self.sent

    def _send(self, sock: Any, count: int) -> None:
        if isinstance(sock, ssl.SSLSocket):
            block = os.pread(self._file.fileno(), count, self.sent)
            sock.sendall(block)
            self.sent += len(block)
            return
        with contextlib.suppress(BlockingIOError):
            self.sent += os.sendfile(sock.fileno(), self._file.fileno(), self.sent, count)


class Early:
    """The streams of one file, by the child's URL. Whatever was not taken over is dropped in the end."""

    def __init__(self, streams: Iterable[tuple[Host, Stream]]) -> None:
        self._streams = {host.url: stream for host, stream in streams if stream.start()}

    def arrived(self, total: int) -> None:
        """Say that so many bytes are in the file now."""
        for stream in self._streams.values():
            stream.arrived(total)

    def take(self, host: Host, fd: int) -> Stream | None:
        """Return the stream to a child, to be gone on with, None if there is none that has sent of that file."""
        stream = self._streams.pop(host.url, None)
        return stream if stream is not None and stream.end(fd) else None

    def close(self) -> None:
        """Drop what nobody took over."""
        for stream in self._streams.values():
            stream.end()
        self._streams.clear()
