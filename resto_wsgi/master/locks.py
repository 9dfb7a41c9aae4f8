"""Locks on a file, or on one place in it, by a descriptor of its own for each holder: they exclude threads as well.

A whole file is locked by flock, a place in it by an open file description lock (fcntl, F_OFD_SETLK), of which one file
holds as many as there are places. The kernel releases a lock when the last copy of its descriptor is closed, and a fork
copies descriptors. So that a lock ends with the process that took it, kill -9 included, a forked child closes its
copies before it runs anything.

    fork while         the parent                       the child
    a lock is held     holds it until it releases it    its ``FileLock`` is not held; ``release`` does nothing
    one is waited for  gets it, or goes on waiting      the thread that waited is not there
    one is opened      the fork waits for the opening   as above

Nothing of the media root is known here: staging locks its rooms with this, the media root and the media server
their names.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import struct
from weakref import WeakSet

from ..forks import Listener, Process, no_fork, tell, this_process

__all__ = ["FileLock", "name_lock"]

PLACES = 7  # bytes of a digest that are the place of a name's lock: two names that share one do not occur


class FileLock:
    """A lock on the file ``path``, which is open only while it is held or waited for. Taken and released by one thread.

    ``place`` is the byte that is locked, up to 2**62, whether the file has it or not; None is all of the file, which
    does not exclude a place in it. ``flags`` are those of ``os.open``; by default the file is made if it is missing.
    A lock that is forgotten is released: an interruption may come between its taking and the block that releases it.
    """

    _fd = -1  # until __init__ has run, which may be interrupted

    def __init__(self, path: str, flags: int = os.O_CREAT, place: int | None = None) -> None:
        self._path = path
        self._place = place
        self._flags = os.O_RDWR | os.O_CLOEXEC | flags
        self._process: Process | None = None

    @property
    def held(self) -> bool:
        """True from its taking to its release, in the process that took it."""
        return self._fd >= 0 and self._process == this_process()

    @property
    def linked(self) -> bool:
        """True while the file has a name; a lock on one that was removed excludes nobody who comes later."""
        return os.fstat(self._fd).st_nlink > 0

    def acquire(self, wait: bool = True) -> bool:
        """Return True once the lock is taken; without ``wait``, False at once if another has it. Raises OSError."""
        if self.held:
            raise RuntimeError(f"{self._path} is locked already")
        with no_fork():  # for as long as a descriptor is open that is not yet in _opened
            self._fd, self._process = os.open(self._path, self._flags, 0o600), this_process()
            _opened.add(self)
        try:
            if self._place is None:
                fcntl.flock(self._fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
                fcntl.fcntl(self._fd, command, _struct_flock(fcntl.F_WRLCK, self._place))
        except BaseException as error:
            self.release()
            # fcntl(2): either number may say that somebody else has the lock.
            if isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def release(self) -> None:
        """Give the lock up, if it is held here, and close the file. Safe to repeat."""
        with no_fork():
            if self._fd < 0:
                return
            try:
                if self._process == this_process():  # else a fork that Python was not told of: it is the parent's lock
                    self._unlock(self._fd)  # a process that is forked to run a program has a copy until then
            finally:
                _opened.discard(self)
                fd, self._fd = self._fd, -1
                os.close(fd)

    def __del__(self) -> None:
        self.release()

    def _unlock(self, fd: int) -> None:
        if self._place is None:
            fcntl.flock(fd, fcntl.LOCK_UN)
        else:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _struct_flock(fcntl.F_UNLCK, self._place))


def _struct_flock(kind: int, place: int) -> bytes:
    """Return the struct flock of fcntl(2) for one byte: type, whence, start, length, pid."""
    # The pid has to be 0, or the kernel answers an open file description lock with EINVAL.
    return struct.pack("hhqqi0q", kind, os.SEEK_SET, place, 1, 0)


def name_lock(own: str, name: str) -> FileLock:
    """Return the lock of a name, not taken; ``own`` is the ``.resto`` of what holds the name."""
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:PLACES], "big")
    return FileLock(f"{own}/names.lock", place=place)


class _Copies(Listener):
    """The descriptors that a fork copies."""

    def after_fork_in_child(self) -> None:
        """Close what the parent holds, which does not release it."""
        for lock in _opened:
            with contextlib.suppress(OSError):
                os.close(lock._fd)
            lock._fd = -1
        _opened.clear()


_opened: WeakSet[FileLock] = WeakSet()
_copies = _Copies()
tell(_copies)
