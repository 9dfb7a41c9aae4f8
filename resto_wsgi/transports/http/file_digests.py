"""The SHA-256 of files that are about to be sent, as the value of Repr-Digest: once for each open file.

One open file may be sent to twelve hosts. What was computed for the first is there for the others, as long as the file
is open and nobody writes it. Whoever asks while it is computed waits for that. Only a signed PUT needs the digest. It
costs a read of the file, so a thread that has other jobs to move must not compute that of a large file (``is_quick``).
"""

from __future__ import annotations

import os
import threading
from typing import BinaryIO
from weakref import WeakKeyDictionary

from ...fields.digests import format_digest
from ...master.hashing import sha256_of
from .outgoing import Outgoing, Shrunk

__all__ = ["Digests"]

HASHED_BYTES = 1024 * 1024  # bytes read at a time; a file of one block is hashed in less than a millisecond

Stamp = tuple[int, int, int]
"""Size, mtime and ctime of an open file: the last one changes too if somebody sets the mtime back."""


class Digests:
    """Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: WeakKeyDictionary[BinaryIO, _Known] = WeakKeyDictionary()

    def of(self, file: BinaryIO, size: int) -> str:
        """Return the digest of the first ``size`` bytes, whatever the position is. Raises Shrunk."""
        with self._lock:
            known = self._files.get(file)
            if known is None:
                known = self._files[file] = _Known()
        # A lock for each file: `_lock` is not held while bytes are read, so other files do not wait for that.
        with known.lock:
            stamp = _stamp(file)
            if known.of != (stamp, size):
                # `of` comes last: `is_quick` reads it without this lock, to know that the text is there.
                known.text = _digest(file, size)
                known.of = stamp, size
            return known.text

    def is_quick(self, file: BinaryIO, size: int) -> bool:
        """True if ``of`` takes almost no time: the file is small, or its digest is there. Raises Shrunk."""
        if size <= HASHED_BYTES:
            return True
        with self._lock:
            known = self._files.get(file)
        # Without `known.lock`: another thread may hold it for as long as a large file takes.
        return known is not None and known.of == (_stamp(file), size)

    def is_stale(self, file: BinaryIO) -> bool:
        """True if the file was changed since its digest was computed."""
        with self._lock:
            known = self._files.get(file)
        return known is not None and known.of is not None and known.of[0] != _stamp(file)


class _Known:
    """The digest of one open file, and what it is of; None if it is not there. ``lock`` is held to compute it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.of: tuple[Stamp, int] | None = None
        self.text = ""


def _digest(file: BinaryIO, size: int) -> str:
    body = Outgoing(file, size)
    return format_digest(sha256_of(iter(lambda: body.read(HASHED_BYTES), b"")))


def _stamp(file: BinaryIO) -> Stamp:
    try:
        status = os.fstat(file.fileno())
    except ValueError as error:
        raise Shrunk("the master was closed while it was sent") from error
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
