"""The SHA-256 of files that are about to be sent, as the value of Repr-Digest: once for each open file.

Twelve hosts are sent one open file, so what was computed for the first is there for the others, as long as the file is
open and its state is the same. A signed PUT needs it, and no other asks for it: it costs a read of the file.
"""

from __future__ import annotations

import hashlib
import os
import threading
from typing import BinaryIO
from weakref import WeakKeyDictionary

from ..digests import format_digest
from .http_flight import Body, Shrunk

__all__ = ["Digests"]

BLOCK = 1024 * 1024  # bytes read at a time

State = tuple[int, int, int]


class Digests:
    """Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: WeakKeyDictionary[BinaryIO, tuple[State, int, str]] = WeakKeyDictionary()

    def of(self, file: BinaryIO, size: int) -> str:
        """Return the digest of the first ``size`` bytes, whatever the position is. Raises Shrunk."""
        state = _state(file)
        with self._lock:
            known = self._known.get(file)
        if known is not None and known[:2] == (state, size):
            return known[2]
        digest, body = hashlib.sha256(), Body(file, size)
        while block := body.read(BLOCK):
            digest.update(block)
        text = format_digest(digest.digest())
        with self._lock:
            self._known[file] = state, size, text
        return text

    def is_stale(self, file: BinaryIO) -> bool:
        """True where the file was changed since its digest was computed."""
        with self._lock:
            known = self._known.get(file)
        return known is not None and known[0] != _state(file)


def _state(file: BinaryIO) -> State:
    try:
        status = os.fstat(file.fileno())
    except ValueError as error:
        raise Shrunk("the master was closed while it was sent") from error
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
