"""Files that nobody sees yet, and the rooms in which they lie.

A room is one process's folder in staging. Its lock file is held by flock, which the kernel releases when the process
dies, so that a free lock means an abandoned room, which is swept by the next process that opens one, or that is asked
to. A fork gets a room of its own. The lock is made before the room and removed after it, so no room is without one.
Names and the master are not known here; the media root calls this, and the intake writes what it staged.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import shutil
import threading
from collections.abc import Callable
from io import FileIO
from typing import BinaryIO

from ..errors import MediaRootError
from ..forks import Process, no_fork, this_process
from .hashing import Hasher
from .locks import FileLock

__all__ = ["KEPT", "Staged", "Staging", "disk", "make_hidden", "unlink"]

KEPT = ".previous"  # how the path of a version ends that was replaced and may be put back
LOCK = ".lock"  # how the path of a room's lock ends; the rest is the path of the room


class Staged:
    """A file being written aside, and its SHA-256. Written by one thread; sealed once; discarded once.

    ``create`` makes the file. The first ``hold`` bytes may stay in memory until the file is larger, or somebody asks
    for its path; any thread may ask. One that is forgotten is discarded: an interruption may come before the block that
    discards it. ``keeps``: a version that it replaced may lie beside it, which is of no use to anybody then.
    """

    keeps = False
    _there = False  # until __init__ has run, which may be interrupted
    _process: Process | None = None

    def __init__(self, create: Callable[[], FileIO], *, fsync: bool, hold: int = 0) -> None:
        self.size = 0
        self._create = create
        self._fsync = fsync
        self._hold = hold
        self._held: bytes | None = b""
        self._sealed = False
        self._path = ""
        self._file: FileIO | None = None  # closes itself where an interruption has it forgotten, as a number would not
        self._hasher = Hasher()
        self._lock = threading.RLock()  # an application may share an upload with threads of its own
        if not hold:
            self.spill()

    @property
    def path(self) -> str:
        """Where the file is. Raises MediaRootError where it was in memory, and the disk refuses it."""
        self.spill()
        return self._path

    @property
    def held(self) -> bytes | None:
        """The bytes, where they are in memory, else None."""
        return self._held

    @property
    def sha256(self) -> str:
        """The SHA-256 of all that was written so far, in hexadecimal."""
        return self._hasher.hexdigest()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``. Raises MediaRootError where the disk refuses; the caller then discards."""
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
        """Move what is in memory to the disk, for good. Raises MediaRootError where that refuses; it can be repeated.

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
            self._held = None

    def open(self) -> BinaryIO:
        """Return the staged bytes as an unbuffered binary file at its beginning. Raises what ``path`` raises."""
        return open(self.path, "rb", buffering=0)

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
            fd = self._fd
            written = os.write(fd, data) if data else 0
            while written < len(data):
                written += os.write(fd, memoryview(data)[written:])

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


class Staging:
    """The folder of all rooms, made where it is missing; any thread or forked process may call."""

    def __init__(self, path: str, *, fsync: bool) -> None:
        self.path = path
        self._fsync = fsync
        self._own: _Room | None = None

    def stage(self, hold: int = 0) -> Staged:
        """Begin a file in this process's room, of which ``hold`` bytes may stay in memory. Raises MediaRootError."""
        return Staged(self._create, fsync=self._fsync, hold=hold)

    def close(self) -> None:
        """Leave this process's room. A save that is under way in another thread fails, and can still be taken back."""
        room = self._own
        if room is not None and room.ours and room.leave():
            self._forget(room)

    def sweep(self) -> None:
        """Remove the rooms of processes that died: those whose lock nobody holds. Those of the living stay."""
        with contextlib.suppress(FileNotFoundError):
            for entry in os.listdir(self.path):
                if entry.endswith(LOCK):
                    with contextlib.suppress(OSError):
                        _sweep(os.path.join(self.path, entry))

    def _create(self) -> FileIO:
        """Make a file, and return it. A folder that somebody removed is made again, once."""
        room = self._room()
        try:
            return room.create()
        except MediaRootError as error:
            if error.errno != errno.ENOENT:
                raise
        self._forget(room)
        room.leave()
        return self._room().create()

    def _room(self) -> _Room:
        room = self._own
        if room is not None and room.ours:
            return room
        with disk("open", ".resto/staging"):
            make_hidden(self.path)
            self.sweep()
            fresh = _Room(self.path)
        with no_fork():
            if self._own is None or not self._own.ours:
                self._own = fresh
            room = self._own
        if room is not fresh:
            fresh.leave()
        return room

    def _forget(self, room: _Room) -> None:
        with no_fork():
            if self._own is room:  # else another thread was first
                self._own = None


class _Room:
    """One process's folder in staging, and the lock that says that the process lives. Its files are numbered."""

    def __init__(self, staging: str) -> None:
        self._numbers = itertools.count(1)
        while True:
            self.path = os.path.join(staging, f"{os.getpid()}-{secrets.token_hex(4)}")
            self._lock = FileLock(f"{self.path}{LOCK}", os.O_CREAT | os.O_EXCL)
            try:
                self._lock.acquire()
                if self._lock.linked:  # else a sweep took it between its making and its locking
                    os.mkdir(self.path, 0o700)
                    return
            except BaseException:
                if self._lock.held:
                    unlink(f"{self.path}{LOCK}")
                self._lock.release()
                raise
            self._lock.release()

    @property
    def ours(self) -> bool:
        """False in a process that was forked from the one that opened it, and after it was left."""
        return self._lock.held

    def create(self) -> FileIO:
        """Make a file that nobody has, and return it. Raises MediaRootError."""
        path = f"{self.path}/{next(self._numbers):x}"
        try:
            with disk("stage", "an upload"):
                return FileIO(path, "xb", opener=lambda path, flags: os.open(path, flags, 0o644))
        except BaseException:  # an interruption may come when it is there
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise

    def leave(self) -> bool:
        """Remove the room with what is staged; return False, and stay, where a version is kept to be put back."""
        with contextlib.suppress(FileNotFoundError):
            for entry in os.listdir(self.path):
                if not entry.endswith(KEPT):
                    unlink(os.path.join(self.path, entry))
            try:
                os.rmdir(self.path)
            except FileNotFoundError:
                raise
            except OSError:
                return False
        unlink(f"{self.path}{LOCK}")
        self._lock.release()
        return True


def _sweep(path: str) -> None:
    """Remove one room, by the path of its lock, if nobody holds that. What cannot be removed is tried again later."""
    lock = FileLock(path, 0)
    if not lock.acquire(wait=False):
        return
    try:
        room = path.removesuffix(LOCK)
        shutil.rmtree(room, ignore_errors=True)
        if not os.path.lexists(room):
            os.unlink(path)
    finally:
        lock.release()


def make_hidden(path: str) -> None:
    """Make a folder in ``.resto``, and that one too, where they are missing; both for their owner alone."""
    for folder in (os.path.dirname(path), path):
        os.makedirs(folder, 0o700, exist_ok=True)  # which gives its mode to the last folder only


def unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


class disk:
    """Translate what the disk refuses into MediaRootError, but for one kind that the caller expects.

    A class, not a generator: it is entered at each step of each file.
    """

    __slots__ = "_action", "_but", "_name"

    def __init__(self, action: str, name: str, but: type[OSError] | tuple[()] = ()) -> None:
        self._action, self._name, self._but = action, name, but

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, self._but):
            raise MediaRootError(self._action, self._name, error) from error
