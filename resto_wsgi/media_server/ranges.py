"""Ranges of a file: which a client asks for, and the bytes of one or several of them (RFC 9110, section 14).

``parse`` bounds what one request can cost: a header with more than RANGES_MAX ranges, or with ranges that overlap
so much that they are more than the file, is answered with the whole file. The RFC permits that, and nginx does it.
``reading`` calls this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from .answers import BLOCK_BYTES

__all__ = ["RANGES_MAX", "Blocks", "Parts", "Span", "Unsatisfiable", "content_range", "parse"]

RANGES_MAX = 32  # in a request: a viewer of PDF files asks for some ten; each costs a seek and a head of 150 bytes

Span = tuple[int, int]  # the first offset, and the one after the last

_UNIT = re.compile(r"bytes[ \t]*=(.*)", re.IGNORECASE)
_SPEC = re.compile(r"(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))")


class Unsatisfiable(Exception):
    """No range that is asked for is in the file: 416."""


def parse(header: str, size: int) -> list[Span] | None:
    """Return the ranges of a file of ``size`` bytes that a Range header asks for, in its order.

    None if it is not understood or asks for too much, so that the whole file is sent. Raises Unsatisfiable.
    """
    match = _UNIT.fullmatch(header.strip())
    if not match or match[1].count(",") >= RANGES_MAX:
        return None
    spans = []
    for each in filter(None, map(str.strip, match[1].split(","))):
        spec = _SPEC.fullmatch(each)
        if not spec or (spec[2] and int(spec[2]) < int(spec[1])):
            return None
        first = int(spec[1]) if spec[1] else max(0, size - int(spec[3]))
        spans.append((first, min(size, int(spec[2]) + 1) if spec[2] else size))
    if not spans:
        return None
    # Those outside of the file are left out, as section 15.5.17 permits, unless all of them are.
    found = [(first, end) for first, end in spans if first < end]
    if not found:
        raise Unsatisfiable
    # Overlaps that add up to more than the file would cost more than sending it whole.
    return found if sum(end - first for first, end in found) <= size else None


def content_range(span: Span, size: int) -> str:
    """Return the value of Content-Range for one range (RFC 9110, section 14.4)."""
    return f"bytes {span[0]}-{span[1] - 1}/{size}"


class Blocks:
    """The bytes of a file from the first offset of ``span`` to its last, in blocks; closing it closes the file.

    Raises EOFError if the file has become shorter meanwhile, so that the connection ends and nobody takes what
    came for all of it.
    """

    def __init__(self, file: BinaryIO, span: Span) -> None:
        self._file = file
        self._span = span

    def __iter__(self) -> Iterator[bytes]:
        return _read(self._file, self._span)

    def close(self) -> None:
        self._file.close()


class Parts:
    """Several ranges as multipart/byteranges (RFC 9110, section 14.6); ``length`` is that of all of it in bytes."""

    def __init__(self, file: BinaryIO, spans: Sequence[Span], size: int, kind: str, boundary: str) -> None:
        self._file = file
        heads = [
            f"\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {content_range(span, size)}\r\n\r\n".encode()
            for span in spans
        ]
        self._parts = list(zip(heads, spans, strict=True))
        self._end = f"\r\n--{boundary}--\r\n".encode()
        self.length = sum(len(head) + end - first for head, (first, end) in self._parts) + len(self._end)

    def __iter__(self) -> Iterator[bytes]:
        for head, span in self._parts:
            yield head
            yield from _read(self._file, span)
        yield self._end

    def close(self) -> None:
        self._file.close()


def _read(file: BinaryIO, span: Span) -> Iterator[bytes]:
    left = span[1] - span[0]
    file.seek(span[0])
    while left:
        block = file.read(min(BLOCK_BYTES, left))
        if not block:
            raise EOFError("a file became shorter while it was sent")
        left -= len(block)
        yield block
