"""What a reply's headers say, read strictly: a value that could mean two things means nothing.

Strings and bytes only: no socket, no clock. The HTTP transport calls this.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Protocol

from ...fields.dates import parse_date

__all__ = ["end_of_chunks", "file_size", "is_chunked", "is_encoded", "is_unsized", "mtime", "retry_after"]


class Headers(Protocol):
    """Header fields, whose names are looked up in any case."""

    def get(self, name: str, failobj: str, /) -> str:
        """Return the value of a field, or ``failobj``."""

    def __contains__(self, name: str, /) -> bool: ...


LONGEST_WAIT = 3600.0  # seconds: who asks for more is asked again after this, in case he was mended
LENGTH_DIGITS = 18  # of a Content-Length: an exabyte
LATEST = datetime(9999, 12, 31, tzinfo=timezone.utc).timestamp()  # what a Date header can still say

_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")
_TRAILERS = re.compile(rb"(?:[^\r\n]+\r?\n)*\r?\n")


def end_of_chunks(reply: bytes | bytearray, at: int) -> tuple[int, bool]:
    """Pass over the chunks of a body that have come (RFC 9112, section 7.1); ``at`` is where one begins.

    Returns where the first chunk begins that has not wholly come, and False; or the end of the body, and True. Raises
    ValueError if there is something else than a chunk.
    """
    while (end := reply.find(b"\n", at)) >= 0:
        chunk = _CHUNK.match(reply, at)
        if chunk is None:
            raise ValueError("it has no chunk where one has to be")
        size = int(chunk[1], 16)
        if not size:
            trailers = _TRAILERS.match(reply, end + 1)
            return (trailers.end(), True) if trailers else (at, False)
        if len(reply) < end + 1 + size + 2:
            break
        at = end + 1 + size + 2
        if reply[at - 2 : at] != b"\r\n":
            raise ValueError("a chunk of it is longer than it says")
    return at, False


def file_size(headers: Headers) -> int | None:
    """Return the Content-Length in bytes, None if none can be relied on (RFC 9112, section 6.3)."""
    text = headers.get("Content-Length", "")
    if "Transfer-Encoding" in headers or not _is_number(text) or len(text) > LENGTH_DIGITS:
        return None
    return int(text)


def is_chunked(headers: Headers) -> bool:
    """True if the body says by itself where it ends."""
    return headers.get("Transfer-Encoding", "").strip().lower() == "chunked" and "Content-Length" not in headers


def is_unsized(headers: Headers) -> bool:
    """True if nothing is said of where the body ends."""
    return "Content-Length" not in headers and "Transfer-Encoding" not in headers


def is_encoded(headers: Headers) -> bool:
    """True if the bytes that come are not those of the file (RFC 9110, section 8.4)."""
    return headers.get("Content-Encoding", "").strip().lower() not in ("", "identity")


def mtime(headers: Headers) -> float | None:
    """Return Last-Modified in seconds since 1970, None if it is missing, or nothing that we could pass on."""
    stamp = parse_date(headers.get("Last-Modified", ""))
    return stamp if stamp is not None and 0 <= stamp <= LATEST else None


def retry_after(headers: Headers, now: float) -> float | None:
    """Return for how many seconds the host asks us to wait (RFC 9110, section 10.2.3), at most an hour.

    It says so in seconds or with a date, which is compared to ``now``. None if it says nothing, or nonsense.
    """
    text = headers.get("Retry-After", "").strip()
    if _is_number(text):
        # A float, as it takes any number of digits: what is too large for it is inf, and the limit is lower.
        return min(float(text), LONGEST_WAIT)
    stamp = parse_date(text)
    return min(stamp - now, LONGEST_WAIT) if stamp is not None and stamp >= now else None


def _is_number(text: str) -> bool:
    # `isdigit` alone is also true of superscripts, at which int() fails, and of digits of other scripts.
    return text.isascii() and text.isdigit()
