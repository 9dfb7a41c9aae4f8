"""The file that a request brings, as the WSGI server hands it over: counted, bounded, read no further than its length.

WSGI servers let lengths through that are none, and tell of a client that went away in many ways. Both are judged here.
``node`` makes one for each request, so that a body that nobody wanted is read in blocks; the WSGI server would read all
of it at once into memory.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..fields.digests import parse_digest
from .answers import BLOCK_BYTES, Refused

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["FileBody"]

DISCARDED_BYTES_MAX = 4 * 1024 * 1024  # of a refused body: who sends more has to see the connection end
LENGTH_DIGITS_MAX = 18  # of a Content-Length: an exabyte


class FileBody:
    """The body of a request. ``length`` is its Content-Length, None if that is no number."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        announced = environ.get("CONTENT_LENGTH", "")
        self._environ = environ
        self._input = environ["wsgi.input"]
        # Nobody knows the end of a body in chunks. If there is a length too, a proxy before us may see another request
        # in it (RFC 9112, section 6.1).
        self._chunked = "HTTP_TRANSFER_ENCODING" in environ
        self.length: int | None = None
        self._fault = Refused("411 Length Required", "a PUT needs a Content-Length")
        if announced.isascii() and announced.isdigit() and len(announced) <= LENGTH_DIGITS_MAX:
            self.length = int(announced)
        elif announced:
            self._fault = Refused("400 Bad Request", "the Content-Length is not a number of bytes")
        # If the end is not known, nothing is read: a server may take a chunk into memory, whatever its size.
        self._endless = self._chunked or bool(announced and self.length is None)
        self._left = self.length or 0

    def judge(self) -> None:
        """Refuse what is not the whole content of a file, in one piece and as it is."""
        environ = self._environ
        if "HTTP_CONTENT_RANGE" in environ:
            raise Refused("400 Bad Request", "a part of a file cannot be put (RFC 9110, section 14.5)")
        if environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower() not in ("identity", ""):
            raise Refused("415 Unsupported Media Type", "a file is put without a Content-Encoding")
        if self._chunked and self.length is not None:
            raise Refused("400 Bad Request", "a request has a Content-Length or is sent in chunks, not both")
        if self.length is None:
            raise self._fault

    def copy_to(self, write: Callable[[bytes], None], arrived: Callable[[int], None]) -> bytes | None:
        """Give the body to ``write``, block by block; return its SHA-256 if the sender announced it, else None.

        ``arrived`` is called with how many bytes are there, as they come. Refuses a body that is shorter than its
        length, or is not the one of Repr-Digest or Content-Digest (RFC 9530): without a Content-Encoding both are that
        of the body.
        """
        announced = self._digests()
        digest, total = hashlib.sha256(), 0
        for block in self:
            if announced:
                digest.update(block)
            write(block)
            total += len(block)
            arrived(total)
        if self._left:
            raise Refused("400 Bad Request", "the body is shorter than its Content-Length")
        if any(each != digest.digest() for each in announced):
            raise Refused("400 Bad Request", "the body does not match its digest")
        return digest.digest() if announced else None

    def discard(self) -> bool:
        """Read what nobody wanted, so that the client reads the answer; return whether that was all of it.

        Nothing need be read if the server has all of the body before it calls us, as waitress.
        """
        if self._is_here():
            return True
        if self._endless:
            return False
        until = self._left - DISCARDED_BYTES_MAX
        for _ in self:
            if self._left < until:
                break
        return not self._left

    def __iter__(self) -> Iterator[bytes]:
        while self._left and (block := self._read()):
            self._left -= len(block)
            yield block

    def _is_here(self) -> bool:
        seekable = getattr(self._input, "seekable", None)
        return bool(seekable and seekable())

    def _digests(self) -> list[bytes]:
        try:
            found = [parse_digest(self._environ.get(f"HTTP_{each}_DIGEST", "")) for each in ("REPR", "CONTENT")]
        except ValueError as error:
            raise Refused("400 Bad Request", f"the digest cannot be read: {error}") from None
        return [each for each in found if each is not None]

    def _read(self) -> bytes:
        # Some servers raise if the client went away, each another error: for us the body ends here.
        with contextlib.suppress(Exception):
            block: bytes = self._input.read(min(BLOCK_BYTES, self._left))
            return block
        return b""
