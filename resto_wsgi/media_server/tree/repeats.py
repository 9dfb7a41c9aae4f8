"""A change that comes to a node once more: on a second way through the tree, or back to where it came from.

Two nodes can have a child in common, or be each other's children. A change that has just been made here changes nothing
here, and what that means for the children is in the outbox since the first time. So it is answered as done, and not
passed on: each node passes a change on once, however many ways there are. That is looked at without the lock of the
name, for on the way that came first this very node may hold it, and wait for the node that asks.

    PUT      the same bytes, mtime and generation are here; a file of a new mtime is a new version, whatever its bytes
    DELETE   there is no file, and the name was deleted

Both less than FRESH seconds ago, unless the change came from here: much later somebody may sync all that there is, or
delete a name once more, because a node far below lost a file or brought one back from a backup. And no child has
refused it for good: one that had something newer then may take it now, and else would be owed it until tomorrow.

Nothing is changed here. ``relay`` calls this for what nodes send, never for what a client does.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

from ...outbox.outbox import Outbox
from ..files.store import Staged, Store

__all__ = ["Repeats"]

FRESH = 60.0  # seconds
BLOCK = 1 << 20  # bytes compared at a time


class Repeats:
    """What of ``store`` and ``outbox`` is the same as what comes now. ``clock`` returns seconds since 1970."""

    def __init__(self, store: Store, outbox: Outbox, clock: Callable[[], float]) -> None:
        self._store = store
        self._outbox = outbox
        self._clock = clock
        self._arriving: set[tuple[str, int]] = set()  # names and mtimes
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def arriving(self, name: str, mtime_ns: int) -> Iterator[bool]:
        """While a version of a name arrives; yields whether it is the only one of that mtime that does."""
        version = (name, mtime_ns)
        with self._lock:
            first = version not in self._arriving
            self._arriving.add(version)
        try:
            yield first
        finally:
            if first:
                with self._lock:
                    self._arriving.discard(version)

    def may_be(self, name: str, size: int, mtime_ns: int) -> bool:
        """Say whether a version whose bytes are still to come seems to be here, or arrives on another way."""
        status = self._store.status(name)
        here = status is not None and (status.st_size, status.st_mtime_ns) == (size, mtime_ns)
        return here or (name, mtime_ns) in self._arriving

    def is_put(self, name: str, staged: Staged, *, back: bool) -> bool:
        """Say whether a sealed file is the version that was put here; ``back``: it came from here, and so at any time.

        Raises OSError.
        """
        found = self._store.open(name)
        if found is None:
            return False
        file, here = found
        with file:
            there = os.fstat(staged.fd)
            same = (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns)
            same = same and self._store.generation(name, file.fileno()) == staged.generation
            fresh = abs(self._clock() - here.st_ctime) < FRESH  # the time of its rename
            if not same or not (back or (fresh and not self._is_parked(name))):
                return False
            with open(staged.path, "rb", buffering=0) as other:
                return _same_bytes(file.fileno(), other.fileno())

    def is_deleted(self, name: str, generation: int | None, *, back: bool) -> bool:
        """Say whether that delete was carried out here; ``back``: it came from here, and so at any time."""
        if self._store.status(name) is not None or self._store.generation(name) != generation:
            return False
        if back:
            return bool(self._outbox.is_gone(name))
        return bool(self._outbox.is_gone(name, self._clock() - FRESH)) and not self._is_parked(name)

    def _is_parked(self, name: str) -> bool:
        return any(each.parked for each in self._outbox.deliveries(name).values())


def _same_bytes(one: int, other: int) -> bool:
    offset = 0
    while block := os.pread(one, BLOCK, offset):
        if os.pread(other, BLOCK, offset) != block:
            return False
        offset += len(block)
    return True
