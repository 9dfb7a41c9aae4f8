"""A file that nobody sees yet: written aside, hashed on the way, sealed, and then given a name or dropped.

    in memory ── more than ``hold`` bytes, or its path is asked for ──> on the disk ── discard ──> gone
         └── seal ──> sealed in memory ── its path is asked for ──> sealed on the disk: durable

``staging`` makes it, and knows where it lies and who sweeps it after a crash. The media root decides whether it gets a
name, and which. Neither is known here. The intake, the replicas and our own media server write it.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from io import FileIO
from typing import BinaryIO

from ..forks import Process, this_process
from .disk import disk, unlink
from .hashing import Hasher, NoHasher, blocks_of

__all__ = ["KEPT", "Staged"]

KEPT = ".previous"  # how the path of a version ends that was replaced and may be put back


class Staged:
    """A file being written aside. One thread writes it; it is sealed once, and discarded once.

    ``create`` makes the file. The first ``hold`` bytes may stay in memory until the file is larger, or somebody asks
    for its path; any thread may ask. Without ``digest`` its SHA-256 is not computed. A file that is forgotten is
    discarded: an interruption may come before the block that discards it. ``keeps`` says that a version that it
    replaced may lie beside it; nobody can use that one then.
    """

    keeps = False
    _there = False  # until __init__ has run, which may be interrupted
    _process: Process | None = None

    def __init__(self, create: Callable[[], FileIO], *, fsync: bool, hold: int = 0, digest: bool = True) -> None:
        self.size = 0
        self._create = create
        self._fsync = fsync
        self._hold = hold
        self._held: bytes | None = b""
        self._sealed = False
        self._path = ""
        self._file: FileIO | None = None  # a lost number would stay open, this closes itself
        self._hasher = Hasher() if digest else NoHasher()
        self._lock = threading.RLock()  # an application may share an upload with threads of its own
        if not hold:
            self.spill()

    @property
    def path(self) -> str:
        """Where the file is. Raises MediaRootError if it was in memory, and the disk refuses it."""
        self.spill()
        return self._path

    @property
    def held(self) -> bytes | None:
        """The bytes if they are in memory, else None."""
        return self._held

    @property
    def sha256(self) -> str:
        """The SHA-256 of all that was written so far, in hexadecimal."""
        return self._hasher.hexdigest()

    def fileno(self) -> int:
        """Return the descriptor that it is written by, until it is sealed. Raises what ``path`` raises."""
        self.spill()
        if self._file is None:
            raise ValueError("it is sealed")
        return self._file.fileno()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``. Raises MediaRootError if the disk refuses it; the caller then discards the file."""
        self._hasher.update(data)
        self.size += len(data)
        if self._held is not None:
            if self.size <= self._hold:
                self._held += data
                return
            self.spill()
        self._put(data)
        if not isinstance(data, bytes):
            self._hasher.wait()  # the caller may change it now

    def seal(self) -> None:
        """Make the bytes durable, unless they are in memory, and close the descriptor; nothing is written afterwards.

        What is in memory becomes durable when it goes to the disk.
        """
        if self._sealed:
            return
        self._sealed = True
        try:
            self._sync()
            self._hasher.wait()
        finally:
            self._close()

    def spill(self) -> None:
        """Move what is in memory to the disk, for good. Raises MediaRootError if that refuses; it can be repeated.

        Nobody sees a part of it: the path is told when all is there, and durable if the file is sealed.
        """
        with self._lock:
            if self._held is None:
                return
            try:
                self._process = this_process()
                self._path, self._there, self._file = (file := self._create()).name, True, file
                self._put(self._held)
                if self._sealed:
                    self._sync()
                    self._close()
            except BaseException:
                self._remove()
                raise
            # Last: if the disk refuses, the bytes are still in memory, and the next call can try again.
            self._held = None

    def open(self) -> BinaryIO:
        """Return the staged bytes as an unbuffered binary file at its beginning. Raises what ``path`` raises."""
        return open(self.path, "rb", buffering=0)

    def move(self, create: Callable[[], FileIO]) -> None:
        """Move a sealed file to where ``create`` makes one: from another disk it cannot be linked. Raises OSError.

        Its times, its mode and its attributes are the same there. It is in its old place until it is whole and durable.
        """
        with self._lock, self.open() as source, create() as target:
            try:
                for block in blocks_of(source.fileno()):
                    _write(target.fileno(), block)
                shutil.copystat(self._path, target.name)
                if self._fsync:  # after copystat, so that times and attributes are durable, too
                    os.fsync(target.fileno())
                old, self._path, self._there = self._path, target.name, True
            except BaseException:
                unlink(target.name)
                raise
            unlink(old)

    def move_mtime(self, mtime_ns: int) -> None:
        """Set another mtime on what is sealed, durably. Raises OSError."""
        with FileIO(self.path, "r+b") as file:
            os.utime(file.fileno(), ns=(mtime_ns, mtime_ns))
            if self._fsync:
                os.fsync(file.fileno())

    def give_away(self) -> None:
        """Note that the file is no longer to be discarded: it has got a name, or is to stay where it is."""
        self._there = False

    def discard(self) -> None:
        """Remove the staged file, whatever state it is in. A published name keeps its bytes. Safe to repeat."""
        with self._lock:  # a descriptor that is closed while another thread writes may be another file's by then
            self._held = None
            self._remove()

    def __del__(self) -> None:
        if (self._there or self.keeps) and self._process == this_process():  # else it is the parent's
            self.discard()
            if self.keeps:
                unlink(f"{self._path}{KEPT}")

    @property
    def _fd(self) -> int:
        return -1 if self._file is None else self._file.fileno()

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        with disk("stage", "an upload"):
            _write(self._fd, data)

    def _sync(self) -> None:
        if self._fsync and self._file is not None:
            with disk("stage", "an upload"):
                os.fsync(self._fd)

    def _remove(self) -> None:
        self._close()
        if self._there:
            unlink(self._path)
            self._there = False

    def _close(self) -> None:
        try:
            self._hasher.end()
        finally:
            if self._file is not None:
                self._file.close()
                self._file = None


def _write(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data``: the disk may take less of it at a time."""
    written = os.write(fd, data) if data else 0
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])
