"""Files that nobody sees yet, and the rooms in which they lie.

A room is one process's folder in staging. Its lock file is held by flock, which the kernel releases when the process
dies, so that a free lock means an abandoned room, which is swept by the next process that opens one, or that is asked
to. A fork gets a room of its own. The lock is made before the room and removed after it, so no room is without one.
Names and the master are not known here; the media root calls this, and the intake writes what it staged.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from typing import BinaryIO

from .errors import MediaRootError
from .hashing import Hasher
from .locks import FileLock, no_fork

__all__ = ["KEPT", "Staged", "Staging", "disk", "make_hidden", "unlink"]

KEPT = ".previous"  # how the path of a version ends that was replaced and may be put back
LOCK = ".lock"  # how the path of a room's lock ends; the rest is the path of the room


class Staged:
    """A file being written aside, and its SHA-256. Written by one thread; sealed once; discarded once."""

    def __init__(self, path: str, *, fsync: bool) -> None:
        self.path = path
        self.size = 0
        self._fsync = fsync
        self._hasher = Hasher()
        with disk("stage", "an upload"):
            self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)

    @property
    def sha256(self) -> str:
        """The SHA-256 of all that was written so far, in hexadecimal."""
        return self._hasher.hexdigest()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``. Raises MediaRootError where the disk refuses; the caller then discards."""
        self._hasher.update(data)
        self.size += len(data)
        with disk("stage", "an upload"):
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, memoryview(data)[written:])
        if not isinstance(data, bytes):
            self._hasher.wait()  # the caller may change it now

    def seal(self) -> None:
        """Make the bytes durable and close the descriptor; nothing is written afterwards."""
        if self._fd < 0:
            return
        try:
            if self._fsync:
                with disk("stage", "an upload"):
                    os.fsync(self._fd)
            self._hasher.wait()
        finally:
            self._close()

    def open(self) -> BinaryIO:
        """Return the staged bytes as an unbuffered binary file at its beginning."""
        return open(self.path, "rb", buffering=0)

    def discard(self) -> None:
        """Remove the staged file, whatever state it is in. A published name keeps its bytes. Safe to repeat."""
        self._close()
        unlink(self.path)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        try:
            self._hasher.end()
        finally:
            if fd >= 0:
                os.close(fd)


class Staging:
    """The folder of all rooms, made where it is missing; any thread or forked process may call."""

    def __init__(self, path: str, *, fsync: bool) -> None:
        self.path = path
        self._fsync = fsync
        self._own: _Room | None = None

    def stage(self) -> Staged:
        """Begin a file in this process's room. A staging folder that somebody removed is made again, once."""
        room = self._room()
        try:
            return self._staged(room)
        except MediaRootError as error:
            if error.errno != errno.ENOENT:
                raise
        self._forget(room)
        room.leave()
        return self._staged(self._room())

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

    def _staged(self, room: _Room) -> Staged:
        return Staged(os.path.join(room.path, secrets.token_hex(8)), fsync=self._fsync)

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
    """One process's folder in staging, and the lock that says that the process lives."""

    def __init__(self, staging: str) -> None:
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


@contextlib.contextmanager
def disk(action: str, name: str, but: type[OSError] | tuple[()] = ()) -> Iterator[None]:
    """Translate what the disk refuses into MediaRootError, but for one kind that the caller expects."""
    try:
        yield
    except but:
        raise
    except OSError as error:
        raise MediaRootError(action, name, error) from error
