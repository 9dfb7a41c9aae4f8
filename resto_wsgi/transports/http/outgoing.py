"""What goes out with a request: its head, and the bytes of a file, exactly as many as were announced.

A head is made of our own values, and refused if one of them could end a line. A file is read at an offset of its own,
so that many hosts can be sent one open file at once. One that ends too early is an error: a host that got a short body
would wait for the rest, and one that got other bytes would keep them. ``flight`` sends both; nothing here waits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import BinaryIO

__all__ = ["Outgoing", "Shrunk", "Unreadable", "request_head"]


class Shrunk(Exception):
    """The master's file became shorter, or was closed, while it was sent."""


class Unreadable(Shrunk):
    """The disk does not give the master's bytes."""


def request_head(method: str, target: str, authority: str, fields: Mapping[str, str]) -> bytes:
    """Return a request up to its body (RFC 9112, section 3). ``target`` is percent-encoded, ``fields`` are our own."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {authority}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    head = "\r\n".join([*lines, "", ""])
    # A line break in a value would begin a field that is not ours (RFC 9110, section 5.5).
    if head.count("\n") != len(lines) + 1 or head.count("\r") != len(lines) + 1 or " " in target:
        raise ValueError("a request cannot have a line break in it, nor its target a space")
    return head.encode("ascii")


class Outgoing:
    """The first ``size`` bytes of a file, taken from its beginning to its end whatever its position is.

    ``taken`` is how many were. A file that ends before is an error, never a short body. Its descriptor is asked for
    each time: that of a file which was closed may be another's by now.
    """

    def __init__(self, file: BinaryIO | None, size: int, taken: int = 0) -> None:
        self._file = file
        self.size = size
        self.taken = taken

    def read(self, limit: int) -> bytes:
        """Return the next bytes, at most ``limit``; none at the end. Raises Shrunk."""
        if self.taken >= self.size:
            return b""
        try:
            block = os.pread(self._fd(), min(limit, self.size - self.taken), self.taken)
        except OSError as error:
            raise Unreadable(f"the master cannot be read: {error.strerror}") from error
        self._take(len(block))
        return block

    def send(self, socket_fd: int, limit: int) -> int:
        """Have the kernel move the next bytes to a socket; return how many. Raises Shrunk and OSError."""
        sent = os.sendfile(socket_fd, self._fd(), self.taken, min(limit, self.size - self.taken))
        self._take(sent)
        return sent

    def _fd(self) -> int:
        try:
            return self._file.fileno() if self._file is not None else -1
        except ValueError as error:
            raise Shrunk("the master was closed while it was sent") from error

    def _take(self, count: int) -> None:
        if not count:
            raise Shrunk(f"the master ends at {self.taken} bytes of {self.size}")
        self.taken += count
