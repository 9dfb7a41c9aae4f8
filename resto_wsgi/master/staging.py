"""Files that nobody sees yet, and the rooms in which they lie.

A room is one process's folder in staging. Its lock file is held by flock, which the kernel releases when the process
dies. So a free lock means an abandoned room. The next process that opens a room sweeps it, or one that is asked to. A
fork gets a room of its own. The lock is made before the room and removed after it, so no room is without a lock.
Names and the master are not known here; the media root calls this.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import shutil
from io import FileIO

from ..errors import MediaRootError
from ..forks import no_fork
from .disk import disk, unlink
from .hidden import make_hidden
from .locks import FileLock
from .modes import READABLE, Modes
from .staged import KEPT, Staged

__all__ = ["Staging"]

LOCK = ".lock"  # how the path of a room's lock ends; the rest is the path of the room


class Staging:
    """The folder of all rooms, made if it is missing; any thread or forked process may call."""

    def __init__(self, path: str, *, fsync: bool, modes: Modes = READABLE) -> None:
        self.path = path
        self._fsync = fsync
        self._modes = modes
        self._own: _Room | None = None

    def stage(self, hold: int = 0, *, digest: bool = True) -> Staged:
        """Begin a file in this process's room, of which ``hold`` bytes may stay in memory. Raises MediaRootError."""
        return Staged(self.create, fsync=self._fsync, hold=hold, digest=digest)

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
                    # A room that cannot be swept must not keep the others from it.
                    with contextlib.suppress(OSError):
                        _sweep(os.path.join(self.path, entry))

    def create(self) -> FileIO:
        """Make a file in this process's room, and return it. A folder that somebody removed is made again, once."""
        room = self._room()
        try:
            return room.create(self._modes)
        except MediaRootError as error:
            if error.errno != errno.ENOENT:
                raise
        # Forgotten before it is left, so that no other thread begins a file in it meanwhile.
        self._forget(room)
        room.leave()
        return self._room().create(self._modes)

    def _room(self) -> _Room:
        room = self._own
        if room is not None and room.ours:
            return room
        # Without the guard of ``no_fork``, as a disk may be slow. So two threads may each make a room.
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

    def create(self, modes: Modes) -> FileIO:
        """Make a file that nobody has, and return it. Raises MediaRootError."""
        path = f"{self.path}/{next(self._numbers):x}"
        try:
            with disk("stage", "an upload"):
                return FileIO(path, "xb", opener=modes.open_file)
        except BaseException:  # an interruption may come when it is there
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise

    def leave(self) -> bool:
        """Remove the room with what is staged. Return False, and stay, if a version is kept to be put back."""
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
            # While the lock is held: whoever opened the file before sees by ``linked`` that it counts no more.
            os.unlink(path)
    finally:
        lock.release()
