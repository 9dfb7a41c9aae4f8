"""SHA-256 of files: of one that is read, and of one while it is written, beside the writing if there is much of it.

    inline ── more than START bytes ──> beside ── end, or the owner is gone ──> ended
       └── no thread to be had, or but one processor ──> inline for good

hashlib lets other threads run while it works, so a large file costs the longer of the two instead of both. At most
DEPTH blocks wait to be hashed, which bounds memory. The thread knows the blocks and nothing of their owner: an owner
that is forgotten ends it. A forked child has no such thread, and gets a RuntimeError. Files and names are not known
here. ``staged`` calls ``Hasher``, and most others call ``sha256_of``. Another algorithm is more than this module:
``fields.digests`` names it on the wire, ``marks`` on the media server's disk, and the outbox keeps digests of spools.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import Any

from ..forks import this_process

__all__ = ["Hasher", "NoHasher", "blocks_of", "sha256_of"]

START = 1024**2  # bytes: half a millisecond of hashing; to start and end a thread costs half of that
DEPTH = 16  # blocks: enough that neither waits for the other's slowest one
LEAST = 16 * 1024  # bytes of a block: handing over a smaller one costs more than to hash it
READ_BYTES = 1024 * 1024  # bytes read at a time: few calls, little memory

Block = bytes | bytearray | memoryview


def sha256_of(blocks: Iterable[bytes]) -> bytes:
    """Return the digest of all blocks together."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.digest()


def blocks_of(fd: int) -> Iterator[bytes]:
    """Yield the bytes of an open file from its beginning, whatever its position is, which stays. Raises OSError."""
    offset = 0
    while block := os.pread(fd, READ_BYTES, offset):
        yield block
        offset += len(block)


class Hasher:
    """A SHA-256 under way. One thread uses it, and calls ``end`` when it is done."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._size = 0
        self._inline = False
        self._beside: _Beside | None = None

    def update(self, block: Block) -> None:
        """Take the next block. Unless it is of ``bytes`` it must not change before ``wait`` returns."""
        self._size += len(block)
        if self._size <= START:
            self._digest.update(block)
            return
        beside = self._beside or self._begin()
        if beside is not None and len(block) >= LEAST:
            beside.take(block)
        else:
            self.wait()
            self._digest.update(block)

    def wait(self) -> None:
        """Return when every block was taken in. Raises RuntimeError in a process forked meanwhile."""
        if self._beside is not None:
            self._beside.wait()

    def hexdigest(self) -> str:
        """Return the digest of all blocks so far, in hexadecimal."""
        self.wait()
        return self._digest.hexdigest()

    def end(self) -> None:
        """End the thread, if there is one; no block is taken afterwards. Safe to repeat."""
        self._inline = True
        if self._beside is not None:
            self._beside.end()

    def _begin(self) -> _Beside | None:
        """Start the thread, if it is time. It has its owner before it starts, so that no thread is left behind."""
        if self._inline or self._size <= START:
            return None
        if len(os.sched_getaffinity(0)) < 2:  # with one processor to use, taking turns is only dearer
            self._inline = True
            return None
        self._beside = _Beside(self._digest)
        if not self._beside.start():
            self._beside, self._inline = None, True
        return self._beside


class NoHasher(Hasher):
    """Takes blocks as a Hasher does, and computes nothing: for a file whose digest nobody wants. It has none."""

    def update(self, block: Block) -> None:
        """Let the block go."""

    def hexdigest(self) -> str:
        raise ValueError("nobody asked for the digest of this file")


class _Beside:
    """The owner's side of the thread: blocks go there by one queue, and what is done comes back by another."""

    def __init__(self, digest: Any) -> None:
        self._given: SimpleQueue[Block | None] = SimpleQueue()
        self._done: SimpleQueue[bool] = SimpleQueue()
        self._under_way = 0
        self._process = this_process()
        arguments = digest, self._given, self._done
        self._thread = threading.Thread(target=_hash, args=arguments, name="resto hashing", daemon=True)

    def start(self) -> bool:
        """Start the thread. Return False if there can be no more threads."""
        try:
            self._thread.start()
        except (RuntimeError, MemoryError):
            return False
        return True

    def take(self, block: Block) -> None:
        self.wait(DEPTH - 1)
        self._under_way += 1
        self._given.put(block)

    def wait(self, left: int = 0) -> None:
        """Return when at most ``left`` blocks are under way."""
        if self._under_way > left and self._process != this_process():
            raise RuntimeError("a file is finished by the process that began it, not by one forked meanwhile")
        while self._under_way > left:
            if not self._done.get():
                raise RuntimeError("the thread that hashed a file has failed")
            self._under_way -= 1

    def end(self) -> None:
        self._given.put(None)
        if self._process == this_process() and self._thread.ident is not None:
            self._thread.join()

    def __del__(self) -> None:
        self._given.put(None)


def _hash(digest: Any, given: SimpleQueue[Block | None], done: SimpleQueue[bool]) -> None:
    """The thread. It holds no block while it waits for the next."""
    try:
        while (block := given.get()) is not None:
            digest.update(block)
            del block
            done.put(True)
    finally:
        done.put(False)
