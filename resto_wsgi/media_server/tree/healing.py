"""Keeping a file that was read through a child because it is missing here, as a disk that was replaced lacks it.

    state                  killed here leaves
    staged while it is     a file that the next start sweeps
    passed to the reader
    whole, and compared    the same
    published              the file, owed to every child: one of them has it already, the others may not

It is published under the lock of its name, if there is still no file of that name and nobody has deleted it: what was
put meanwhile is newer, and what was deleted stays so, by its tombstone or by its generation. If the child told a
digest, the bytes have it. A name is kept for one reader at a time: many slow readers would otherwise fill the disk,
each with a staged copy. ``below`` calls this.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from ...errors import MediaRootError, RestoError
from ...fields.digests import parse_digest
from ..answers import Refused
from ..files.store import Change, Staged, Store
from .hops import Hops
from .node_transport import Passing, Reading, generation_of, mtime_ns_of
from .report import Line

__all__ = ["Healing"]

log = logging.getLogger("resto_wsgi")


class Parent(Protocol):
    """What is needed of a node with children; its methods are those of ``role.Role``."""

    store: Store

    def changing(self, name: str, passing: Passing) -> AbstractContextManager[Change]:
        """Hold a name."""

    def publish(self, name: str, change: Change, staged: Staged, passing: Passing) -> list[Line]:
        """Give a file its name."""

    def is_gone(self, name: str) -> bool:
        """Say whether a name is known to be deleted."""


class Healing:
    """Publishes what was missing on the node ``parent``."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent
        self._keeping: set[str] = set()
        self._lock = threading.Lock()

    def keep(self, name: str, reading: Reading) -> Iterator[bytes]:
        """Yield the blocks of a whole file, and keep it when all have come. The reader never fails for that."""
        with self._lock:
            first = name not in self._keeping
            self._keeping.add(name)
        if not first:
            yield from reading.blocks()
            return
        try:
            yield from self._keep(name, reading)
        finally:
            self._keeping.discard(name)

    def _keep(self, name: str, reading: Reading) -> Iterator[bytes]:
        # A disk that is full here is no reason to break off: the reader gets his file.
        digest, whole = hashlib.sha256(), True
        with self._parent.store.stage(name) as staged:
            for block in reading.blocks():
                try:
                    if whole:
                        staged.write(block)
                except MediaRootError:
                    whole = False
                digest.update(block)
                yield block
            try:
                if whole and _is_as_told(reading, digest.digest()):
                    self._publish(name, staged, reading, digest.digest())
            except (OSError, RestoError, Refused) as error:
                log.warning("not kept: %s", error)

    def _publish(self, name: str, staged: Staged, reading: Reading, sha256: bytes) -> None:
        generation = generation_of(reading.headers)
        staged.seal(mtime_ns_of(reading.headers), sha256=sha256, generation=generation, exact=True)
        passing = Passing(Hops(), 0.0)  # nobody waits for the children
        with self._parent.changing(name, passing) as change:
            if change.state is not None or self._parent.is_gone(name):
                return
            # The file that went had this generation or a later one: what comes from below may be older.
            if (known := change.generation) is not None and (generation is None or generation <= known):
                return
            self._parent.publish(name, change, staged, passing)


def _is_as_told(reading: Reading, sha256: bytes) -> bool:
    try:
        told = parse_digest(reading.headers.get("Repr-Digest", ""))
    except ValueError:
        return False
    return told in (None, sha256)
