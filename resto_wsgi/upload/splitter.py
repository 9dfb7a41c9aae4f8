"""Cuts a multipart body at its delimiters (RFC 2046, section 5.1.1), as every parser cuts it, or refuses it.

    START ──> LINE ──CRLF──> HEAD ──> DATA ──> LINE ... ──"--"──> EPILOGUE

Parsers differ over what is a delimiter: some take one after a bare LF or in mid-line, with blanks behind it, or after
the last one. So the boundary may stand nowhere but in its own lines, which CRLF ends, and before the first and after
the last of these there is nothing but line ends. What comes out, joined, is what went in: the invariant from which
the body is handed on as it was sent. What a head says is not read here. The intake calls this.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from ..errors import UploadRejected

__all__ = ["Kind", "Splitter"]

BEFORE_FIRST = (b"", b"\r\n")  # hand-written clients begin each delimiter with a CRLF, the first one too


class Kind(Enum):
    """What a stretch of the body is."""

    FRAME = "a delimiter, or what is around one"
    HEAD = "all headers of a part, without the empty line behind them"
    DATA = "content of the part under way"
    END = "nothing: the part under way ends"


class Splitter:
    """Takes a body in blocks and yields its stretches. A head may have ``longest_head`` bytes, which are kept."""

    def __init__(self, boundary: bytes, longest_head: int) -> None:
        self._mark = b"--" + boundary
        self._delimiter = b"\r\n" + self._mark
        # What a block may end with that goes on as a delimiter in the next one: good ones, and those to be refused.
        self._beginnings = tuple(
            each[:length] for each in (self._delimiter, self._mark) for length in range(len(each), 0, -1)
        )
        self._longest_head = longest_head
        self._buffer = b""
        self._at = 0  # the place in the buffer from which nothing was yielded yet
        self._step = self._start
        self.complete = False  # the last delimiter was seen

    def feed(self, block: bytes) -> Iterator[tuple[Kind, bytes]]:
        """Yield what is certain by now. Raises UploadRejected (400, or 413 for a head that is too long)."""
        self._buffer = self._buffer[self._at :] + block
        self._at = 0
        while self._at < len(self._buffer):
            step = self._step
            yield from step()
            if step == self._step:
                return  # no further without the next block

    def _start(self) -> Iterator[tuple[Kind, bytes]]:
        whole = [before + self._mark for before in BEFORE_FIRST]
        for each in whole:
            if self._buffer.startswith(each):
                self._step = self._line
                yield Kind.FRAME, self._taken(len(each))
                return
        if not any(each.startswith(self._buffer) for each in whole):
            raise UploadRejected("The form is malformed: it does not begin with its boundary.")

    def _line(self) -> Iterator[tuple[Kind, bytes]]:
        """Read how the line of a delimiter goes on."""
        end = self._buffer[self._at : self._at + 2]
        if len(end) < 2:
            return
        if end == b"\r\n":
            self._step = self._head
        elif end == b"--":
            self._step = self._epilogue
            self.complete = True
        else:
            raise UploadRejected("The form is malformed: a boundary is followed by something else than a line end.")
        yield Kind.FRAME, self._taken(2)

    def _head(self) -> Iterator[tuple[Kind, bytes]]:
        end = self._buffer.find(b"\r\n\r\n", self._at)
        if (len(self._buffer) - 3 if end < 0 else end) - self._at > self._longest_head:
            raise UploadRejected(f"The headers of a part of the form are over {self._longest_head} bytes.", 413)
        if end < 0:
            return
        if self._buffer.find(self._mark, self._at, end) >= 0:
            raise UploadRejected("The form is malformed: its boundary is in the headers of a part.")
        self._step = self._data
        yield Kind.HEAD, self._taken(end - self._at)
        yield Kind.FRAME, self._taken(4)

    def _data(self) -> Iterator[tuple[Kind, bytes]]:
        end = self._buffer.find(self._mark, self._at)
        if end < 0:
            if certain := len(self._buffer) - self._at - self._held_back():
                yield Kind.DATA, self._taken(certain)
            return
        if not self._buffer.endswith(b"\r\n", self._at, end):
            raise UploadRejected("The form is malformed: its boundary is inside of a part.")
        self._step = self._line
        if end - 2 > self._at:
            yield Kind.DATA, self._taken(end - 2 - self._at)
        yield Kind.END, b""
        yield Kind.FRAME, self._taken(len(self._delimiter))

    def _epilogue(self) -> Iterator[tuple[Kind, bytes]]:
        rest = self._taken(len(self._buffer) - self._at)
        if rest.strip(b"\r\n"):
            raise UploadRejected("The form is malformed: something follows its last boundary.")
        yield Kind.FRAME, rest

    def _held_back(self) -> int:
        """Return how many of the last bytes may be the beginning of a delimiter."""
        if not self._buffer.endswith(self._beginnings, self._at):
            return 0
        return max(len(each) for each in self._beginnings if self._buffer.endswith(each, self._at))

    def _taken(self, count: int) -> bytes:
        begin, self._at = self._at, self._at + count
        return self._buffer[begin : self._at]
