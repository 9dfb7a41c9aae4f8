"""The bytes of a request: as many as were announced, within its limits, and an error if there are fewer.

Each WSGI server has its own way to show a body that was cut: an exception, or a silent short read. Here all of them
become UploadRejected. Every limit is counted on bytes that were really read. The intake reads through this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import UploadRejected, counted

__all__ = ["RequestBody", "in_words"]

BLOCK_SIZE = 64 * 1024  # bytes read at a time; of larger ones the allocator gives each back to the kernel
FIRST_READ = 256  # bytes: what is asked for doubles while it comes quickly, so that a slow client is looked at often
QUICK = 0.25  # seconds that a read may take before less is asked for


class RequestBody:
    """Reads a body in blocks. ``length`` is what was announced, in bytes; None if the server ends the body.

    ``max_size`` is in bytes, ``max_seconds`` from now to the last byte on ``clock``. Raises UploadRejected at once if
    more than ``max_size`` is announced.
    """

    def __init__(
        self, source: Any, length: int | None, *, max_size: int, max_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._read = source.read
        self._length = length
        self._max_size = max_size
        self._max_seconds = max_seconds
        self._clock = clock
        self._ends = clock() + max_seconds
        self._received = 0
        self._step = FIRST_READ
        if length is not None and length > max_size:
            raise self._too_large()

    def read(self) -> bytes:
        """Return the next block, a short one only at the end, b"" after it. Raises UploadRejected (400, 408, 413)."""
        parts = []
        missing = BLOCK_SIZE
        while missing:
            part = self._read_some(missing)
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_some(self, size: int) -> bytes:
        if self._length is not None:
            size = min(size, self._length - self._received)
            if not size:
                return b""
        began = self._clock()
        try:
            part: bytes = self._read(min(size, self._step))
        except Exception as error:  # each WSGI server has its own for a client that is gone
            raise UploadRejected("The body ended early.") from error
        self._received += len(part)
        if not part and self._length is not None:
            raise UploadRejected(f"The body ended early, at {self._received} of {self._length} bytes.")
        if self._received > self._max_size:
            raise self._too_large()
        now = self._clock()
        self._step = min(2 * self._step, BLOCK_SIZE) if now - began < QUICK else max(self._step // 2, 1)
        if now > self._ends:
            raise UploadRejected(f"The body took longer than {self._max_seconds:g} seconds.", 408)
        return part

    def _too_large(self) -> UploadRejected:
        return UploadRejected(f"The request is over {in_words(self._max_size)}.", 413)


def in_words(size: int) -> str:
    """Return "256 MiB" if a size is that exactly, else the number of bytes."""
    for unit, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return counted(size, "byte")
