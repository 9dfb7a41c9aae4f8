"""A request's body, as the WSGI server hands it over: counted, bounded, and read no further than its length.

WSGI servers tell of a client that went away in many ways, and let lengths through that are none; both are judged
here. ``node`` makes one for every request, so that what nobody wanted is read in blocks, and not by the WSGI
server, all at once, into memory.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["BLOCK", "Body"]

BLOCK = 256 * 1024  # bytes moved at a time
DISCARD = 4 * 1024 * 1024  # bytes of a refused body that are read; who sends more has to see the connection end
LENGTH_DIGITS = 18  # of a Content-Length: an exabyte


class Body:
    """A request's body, read no further than its Content-Length; ``length`` is None where that is no number."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        announced = environ.get("CONTENT_LENGTH", "")
        self._input = environ["wsgi.input"]
        self.length: int | None = None
        self.fault = ("411 Length Required", "a PUT needs a Content-Length")
        if announced.isascii() and announced.isdigit() and len(announced) <= LENGTH_DIGITS:
            self.length = int(announced)
        elif announced:
            self.fault = ("400 Bad Request", "the Content-Length is not a number of bytes")
        self._left = self.length or 0

    def __iter__(self) -> Iterator[bytes]:
        while self._left and (block := self._read()):
            self._left -= len(block)
            yield block

    def copy_to(self, fd: int) -> bool:
        """Write the body to ``fd``; return whether all of it came."""
        for block in self:
            view = memoryview(block)
            while view:
                view = view[os.write(fd, view) :]
        return not self._left

    def discard(self) -> bool:
        """Read what nobody wanted, so that the client reads the answer; return whether that was all of it."""
        until = self._left - DISCARD
        for _ in self:
            if self._left < until:
                break
        return not self._left

    def _read(self) -> bytes:
        # Servers tell of a client that went away in many ways; each is a body that ends here.
        with contextlib.suppress(Exception):
            block: bytes = self._input.read(min(BLOCK, self._left))
            return block
        return b""
