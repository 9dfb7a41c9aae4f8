"""Cuts a multipart body at its delimiters (RFC 2046, section 5.1.1), as every parser cuts it, or refuses it.

    START ──> HEAD ──> DATA ──delimiter, CRLF──> HEAD ... DATA ──delimiter, "--"──> EPILOGUE

Parsers differ over what is a delimiter: some take one after a bare LF or in mid-line, with blanks behind it, or after
the last one. So the boundary may stand nowhere but in its own lines, which CRLF ends, and before the first and after
the last of these there is nothing but line ends. What comes out, joined, is what went in: the invariant from which
the body is handed on as it was sent. What a head says is not read here. The intake calls this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum

from ..errors import UploadRejected, counted

__all__ = ["Kind", "Splitter"]

BEFORE_FIRST = (b"", b"\r\n")  # hand-written clients begin each delimiter with a CRLF, the first one too


class Kind(Enum):
    """What a stretch of the body is."""

    FRAME = "what is around the parts: the first delimiter, line ends"
    HEAD = "all headers of a part, with the empty line behind them"
    DATA = "content of the part under way"
    END = "a delimiter, at which the part under way ends"


Stretch = tuple[Kind, bytes]


class Splitter:
    """Takes a body in blocks and yields its stretches. A head may have ``longest_head`` bytes, which are kept."""

    def __init__(self, boundary: bytes, longest_head: int) -> None:
        self._mark = b"--" + boundary
        self._delimiter = b"\r\n" + self._mark
        self._longest_head = longest_head
        self._buffer = b""
        self._at = 0  # the place in the buffer from which nothing was yielded yet
        self._step: Callable[[], Stretch | None] = self._start
        self.complete = False  # the last delimiter was seen

    def feed(self, block: bytes) -> Iterator[Stretch]:
        """Yield what is certain by now. Raises UploadRejected (400, or 413 for a head that is too long)."""
        self._buffer = self._buffer[self._at :] + block
        self._at = 0
        while stretch := self._step():
            yield stretch

    # Each step returns the next stretch, or None if it needs more of the body.

    def _start(self) -> Stretch | None:
        whole = [before + self._mark for before in BEFORE_FIRST]
        for each in whole:
            if self._buffer.startswith(each):
                return self._line(Kind.FRAME, len(each))
        if not any(each.startswith(self._buffer) for each in whole):
            raise UploadRejected("The form is malformed: it does not begin with its boundary.")
        return None

    def _line(self, kind: Kind, end: int) -> Stretch | None:
        """Return the whole line of a delimiter whose boundary ends at ``end``."""
        tail = self._buffer[end : end + 2]
        if tail == b"\r\n":
            self._step = self._head
        elif tail == b"--":
            self._step = self._epilogue
            self.complete = True
        elif tail in (b"", b"\r", b"-"):
            return None
        else:
            raise UploadRejected("The form is malformed: a boundary is followed by something else than a line end.")
        return kind, self._taken(end + 2)

    def _head(self) -> Stretch | None:
        end = self._buffer.find(b"\r\n\r\n", self._at)
        if (len(self._buffer) - 3 if end < 0 else end) - self._at > self._longest_head:
            limit = counted(self._longest_head, "byte")
            raise UploadRejected(f"The headers of a part of the form are over {limit}.", 413)
        if end < 0:
            return None
        if self._buffer.find(self._mark, self._at, end) >= 0:
            raise UploadRejected("The form is malformed: its boundary is in the headers of a part.")
        self._step = self._data
        return Kind.HEAD, self._taken(end + 4)

    def _data(self) -> Stretch | None:
        end = self._buffer.find(self._mark, self._at)
        if end < 0:
            certain = len(self._buffer) - self._held_back()
            return (Kind.DATA, self._taken(certain)) if certain > self._at else None
        if not self._buffer.endswith(b"\r\n", self._at, end):
            raise UploadRejected("The form is malformed: its boundary is inside of a part.")
        if end - 2 > self._at:
            return Kind.DATA, self._taken(end - 2)
        return self._line(Kind.END, end + len(self._mark))

    def _epilogue(self) -> Stretch | None:
        if self._at == len(self._buffer):
            return None
        rest = self._taken(len(self._buffer))
        if rest.strip(b"\r\n"):
            raise UploadRejected("The form is malformed: something follows its last boundary.")
        return Kind.FRAME, rest

    def _held_back(self) -> int:
        """Return how many of the last bytes may be the beginning of a delimiter, or of one that is to be refused."""
        tail = self._buffer[max(self._at, len(self._buffer) - len(self._delimiter) + 1) :]
        cr = tail.rfind(b"\r")  # a boundary has none, so the last one alone can begin a delimiter
        if cr >= 0 and self._delimiter.startswith(tail[cr:]):
            return len(tail) - cr
        hyphen = tail.find(b"-")
        while hyphen >= 0 and not self._mark.startswith(tail[hyphen:]):
            hyphen = tail.find(b"-", hyphen + 1)
        return len(tail) - hyphen if hyphen >= 0 else 0

    def _taken(self, end: int) -> bytes:
        begin, self._at = self._at, end
        return self._buffer[begin:end]
