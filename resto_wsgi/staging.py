"""Files that nobody sees yet, and the rooms in which they lie.

A room is one process's folder in staging. Its lock file is held by flock, which the kernel releases when the process
dies, so that a free lock means an abandoned room, which the next process sweeps. A fork gets a room of its own.
Names and the master are not known here; the media root calls this, and the intake writes what it staged.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from typing import BinaryIO

from .errors import MediaRootError

__all__ = ["KEPT", "Staged", "Staging", "disk", "unlink"]

KEPT = ".previous"  # how the path of a version ends that was replaced and may be put back


class Staged:
    """A file being written aside, and its SHA-256. Written by one thread; sealed once; discarded once."""

    def __init__(self, path: str, *, fsync: bool) -> None:
        self.path = path
        self.size = 0
        self._fsync = fsync
        self._digest = hashlib.sha256()
        with disk("stage", "an upload"):
            self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)

    @property
    def sha256(self) -> str:
        """The SHA-256 of all that was written so far, in hexadecimal."""
        return self._digest.hexdigest()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``. Raises MediaRootError where the disk refuses; the caller then discards."""
        self._digest.update(data)
        self.size += len(data)
        view = memoryview(data)
        with disk("stage", "an upload"):
            while view:
                view = view[os.write(self._fd, view) :]

    def seal(self) -> None:
        """Make the bytes durable and close the descriptor; nothing is written afterwards."""
        if self._fd < 0:
            return
        try:
            if self._fsync:
                with disk("stage", "an upload"):
                    os.fsync(self._fd)
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
        if fd >= 0:
            os.close(fd)


class Staging:
    """The folder of all rooms, made where it is missing; any thread or forked process may call."""

    def __init__(self, path: str, *, fsync: bool) -> None:
        self.path = path
        self._fsync = fsync
        self._rooms: dict[int, _Room] = {}  # by process, because a fork copies this object

    def stage(self) -> Staged:
        """Begin a file in this process's room. A staging folder that somebody removed is made again, once."""
        try:
            return self._staged()
        except MediaRootError as error:
            if error.errno != errno.ENOENT:
                raise
        self._rooms.pop(os.getpid(), None)
        return self._staged()

    def close(self) -> None:
        """Leave this process's room. A save that is under way in another thread fails, and can still be taken back."""
        room = self._rooms.get(os.getpid())
        if room is not None and room.leave():
            del self._rooms[os.getpid()]

    def _staged(self) -> Staged:
        return Staged(os.path.join(self._room().path, secrets.token_hex(8)), fsync=self._fsync)

    def _room(self) -> _Room:
        pid = os.getpid()
        room = self._rooms.get(pid)
        if room is None:
            with disk("open", ".resto/staging"):
                os.makedirs(self.path, 0o700, exist_ok=True)
                _sweep(self.path)
                fresh = _Room(self.path)
            room = self._rooms.setdefault(pid, fresh)
            if room is not fresh:
                fresh.leave()
        return room


class _Room:
    """One process's folder in staging, and the lock that says that the process lives."""

    def __init__(self, staging: str) -> None:
        while True:
            self.path = os.path.join(staging, f"{os.getpid()}-{secrets.token_hex(4)}")
            self._lock = os.open(f"{self.path}.lock", os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX)
                if os.fstat(self._lock).st_nlink:  # else a sweep took it between the two lines above
                    os.mkdir(self.path, 0o700)
                    return
            except BaseException:
                unlink(f"{self.path}.lock")
                os.close(self._lock)
                raise
            os.close(self._lock)

    def leave(self) -> bool:
        """Remove the room with what is staged; return False, and stay, where a version is kept to be put back."""
        with contextlib.suppress(FileNotFoundError):
            for entry in os.listdir(self.path):
                if not entry.endswith(KEPT):
                    unlink(os.path.join(self.path, entry))
            try:
                os.rmdir(self.path)
            except OSError:
                return False
        unlink(f"{self.path}.lock")
        os.close(self._lock)
        return True


def _sweep(staging: str) -> None:
    """Remove the rooms of processes that died: those whose lock nobody holds."""
    for entry in os.listdir(staging):
        if not entry.endswith(".lock"):
            continue
        path = os.path.join(staging, entry)
        with contextlib.suppress(OSError), open(path, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path.removesuffix(".lock"), ignore_errors=True)
            os.unlink(path)


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
