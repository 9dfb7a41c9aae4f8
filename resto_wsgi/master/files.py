"""The files of a media root, for readers: they are opened, looked at and listed. Nothing is changed here.

``open`` tells a missing name from one that cannot be seen for another reason, for instance a symbolic link on its way.
Only what is missing may be deleted elsewhere. ``media_root`` stands on this.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from typing import BinaryIO

from ..errors import MediaRootError, NameRejected
from .disk import disk
from .folders import UTF8, Folders, native
from .hashing import blocks_of, sha256_of
from .listing import Entry, listdir, page
from .modes import READABLE, Modes
from .state import State
from .walk import Skipped, walk

__all__ = ["Files", "Master"]

BELOW_A_FILE = "a folder of it is a file in MEDIA_ROOT"
ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENXIO})  # ENXIO: a socket


@dataclass(frozen=True)
class Master:
    """The master's copy of a name, open for reading: ``size`` in bytes, ``mtime`` in seconds since 1970."""

    file: BinaryIO
    size: int
    mtime: float
    state: State


class Files:
    """The files below ``root``. Names were checked by ``names.check``; any thread or process may call.

    ``linked`` are the folders that may be symbolic links, ``longest`` is how many bytes of UTF-8 a name may have, and
    ``without`` is what at the top of the root belongs to somebody else and is never shown.
    """

    def __init__(
        self,
        root: str,
        *,
        linked: Iterable[str],
        fsync: bool,
        longest: int,
        without: Container[str],
        modes: Modes = READABLE,
    ) -> None:
        self.root = native(os.path.abspath(root))
        self._folders = Folders(self.root, linked, fsync=fsync, modes=modes)
        self._longest = longest
        self._without = without

    def path(self, name: str) -> str:
        """Return the absolute path of ``name``, as ``open`` takes it in this locale."""
        return f"{self.root}/{name if UTF8 else os.fsdecode(name.encode())}"

    def open(self, name: str) -> Master:
        """Open the master's copy; the caller closes ``file``.

        Raises FileNotFoundError if there is none, and MediaRootError if that cannot be told, as with a symbolic
        link. What is missing may be deleted on the hosts, so the two must not be mixed up.
        """
        try:
            with self._folders.place(name) as place:
                # Not a bare descriptor, which an interruption would leave open for good.
                file = FileIO(self.path(name), opener=place.open)
        except OSError as error:
            if error.errno in ABSENT:
                raise FileNotFoundError(errno.ENOENT, "not in MEDIA_ROOT", name) from None
            raise MediaRootError("read", name, error) from error
        # Of the descriptor, not of the name: another file may have that name by now.
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            file.close()
            raise FileNotFoundError(errno.ENOENT, "not a file in MEDIA_ROOT", name)
        return Master(file, status.st_size, status.st_mtime, State.of(status))

    def state(self, name: str) -> State | None:
        """Return what ``open`` would find, without opening it. None if it would find nothing, or a symbolic link."""
        try:
            status = self._status(name)
        except OSError as error:
            if error.errno in ABSENT or error.errno == errno.ELOOP:
                return None
            raise MediaRootError("read", name, error) from error
        return State.of(status) if stat.S_ISREG(status.st_mode) else None

    def is_still(self, name: str, state: State | None) -> bool:
        """True if ``name`` still gives the ``state`` that it gave before. Raises MediaRootError."""
        if state is not None:
            with contextlib.suppress(OSError):
                if State.of(os.lstat(self.path(name))) == state:  # that very file, whatever way leads to it now
                    return True
        return self.state(name) == state

    def status(self, name: str) -> os.stat_result | None:
        """Return the status of what has the name, a folder or a symbolic link too; None if nothing has it.

        Raises NameRejected below a file, and MediaRootError below a link.
        """
        with disk("read", name):
            try:
                return self._status(name)
            except FileNotFoundError:
                return None
            except NotADirectoryError:
                raise NameRejected(name, BELOW_A_FILE) from None

    def size(self, name: str) -> int:
        """Return the size in bytes. Raises what ``open`` raises."""
        master = self.open(name)
        master.file.close()
        return master.size

    def sha256(self, name: str) -> str:
        """Return the SHA-256 in hexadecimal. Raises what ``open`` raises."""
        with self.open(name).file as file, disk("read", name):
            return sha256_of(blocks_of(file.fileno())).hex()

    def exists(self, name: str) -> bool:
        """True if ``name`` is a file."""
        try:
            os.lstat(self.path(name))  # most names that are asked for are free, whatever is followed
            return stat.S_ISREG(self._status(name).st_mode)
        except OSError:
            return False

    def listdir(self, folder: str) -> tuple[list[str], list[str]]:
        """Return the sorted names of the folders and of the files in ``folder`` ("" is the root).

        What is hidden, and what ``open`` could not be given, is left out.
        Raises FileNotFoundError or NotADirectoryError, and MediaRootError.
        """
        with disk("list", folder or ".", but=(FileNotFoundError, NotADirectoryError)):
            return listdir(self._folders, folder, self._longest)

    def entries(self, folder: str, after: str, limit: int) -> list[Entry]:
        """Return at most ``limit`` entries of a folder ("" is the root) whose names come after ``after``, sorted.

        Raises what ``listdir`` raises.
        """
        with disk("list", folder or ".", but=(FileNotFoundError, NotADirectoryError)):
            return page(self._folders, folder, after, limit, () if folder else self._without, self._longest)

    def names(self, skipped: Callable[[Skipped], None] = lambda skipped: None, *, folder: str = "") -> Iterator[str]:
        """Yield every name in ``folder`` that has a file, in no order, in constant memory; nothing hidden.

        ``skipped`` is told of what is passed over: each symbolic link, and each folder that cannot be listed, whose
        names are missing then. Raises MediaRootError if ``folder`` itself ("" is the root) cannot be listed.
        """
        return walk(self._folders, longest=self._longest, without=self._without, folder=folder, skipped=skipped)

    def _status(self, name: str) -> os.stat_result:
        with self._folders.place(name) as place:
            return place.status()
