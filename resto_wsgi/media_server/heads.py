"""The headers of a request: read as RFC 9112 says that a server must, and refused where readers differ.

A proxy before this server may read a doubtful line in another way, and then take another request for the one that was
judged. So what may be read in two ways is 400: the connection ends, and nothing is carried out. cheroot, which would
take most of it, reads the lines that pass here. ``http_server`` calls this.
"""

from __future__ import annotations

import re
from typing import Any

from cheroot.server import HeaderReader

__all__ = ["Headers", "read_headers"]

ONCE = frozenset({b"Host", b"Content-Length"})  # two of them are two requests (RFC 9112, sections 3.2 and 6.3)

# A token, the colon at once, and no control characters but tabs: no fold, no blank before the colon, no bare CR or LF
# (RFC 9112, sections 5.1, 5.2 and 2.2). What ends it is the line itself.
_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n")

_read = HeaderReader()


class Headers(dict[bytes, bytes]):
    """The headers of a request, as cheroot reads them into it.

    Names with an underscore are left out, for WSGI cannot tell it from a hyphen.
    """

    def __setitem__(self, name: bytes, value: bytes) -> None:
        if name in ONCE and name in self:
            raise ValueError(f"{name.decode()} is there twice.")
        if b"_" not in name:
            super().__setitem__(name, value)


def read_headers(lines: Any, headers: Headers, *, needs_host: bool) -> None:
    """Read lines up to an empty one into ``headers``; raise ValueError, with a sentence, for what is in doubt.

    ``needs_host`` is whether the request is of HTTP/1.1, which has to have a Host (RFC 9112, section 3.2).
    """
    _read(_Judged(lines), headers)
    if needs_host and b"Host" not in headers:
        raise ValueError("Host is missing.")


class _Judged:
    def __init__(self, lines: Any) -> None:
        self._lines = lines

    def readline(self) -> bytes:
        line: bytes = self._lines.readline()
        if line and line != b"\r\n" and not _LINE.fullmatch(line):
            raise ValueError("Illegal header line.")
        return line
