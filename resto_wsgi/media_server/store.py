"""The files of a media server: opened, staged, published and deleted below one root. No HTTP is known here.

    publish   staged in ``.resto/staging``, fsync, then renamed: a reader sees the old file or the new one
    delete    files only, never a folder

Every name is walked from the root's descriptor, segment by segment, and no symbolic link is followed, so no name
leaves the root, whoever has put links there. Names are checked before they come here. ``node`` calls it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["Store"]

STAGED = "put-"  # how a staged file's name begins

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO would block the open
STAGE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})  # ENXIO: a socket


class Store:
    """The files below ``root``, which is made where it is missing. Raises OSError where it cannot be made."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)
        self._staging = os.path.join(self.root, ".resto", "staging")
        self._make_staging()
        self._sweep()

    def open(self, name: str) -> tuple[BinaryIO, os.stat_result] | None:
        """Return the file of a name, unbuffered, and its status; None where there is no file. Raises OSError."""
        folders, last = _split(name)
        try:
            with self._folder(folders) as folder:
                fd = os.open(last, READ, dir_fd=folder)
        except OSError as error:
            if error.errno in ABSENT:
                return None
            raise
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            return None
        return os.fdopen(fd, "rb", buffering=0), status

    @contextlib.contextmanager
    def stage(self) -> Iterator[tuple[str, int]]:
        """Open a file that nobody sees; it is gone afterwards, unless it was published."""
        self._make_staging()  # somebody may have emptied the root meanwhile
        path = os.path.join(self._staging, f"{STAGED}{secrets.token_hex(8)}")
        fd = os.open(path, STAGE, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # held while it is written, so that a sweep knows who lives
            yield path, fd
        finally:
            os.close(fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    @contextlib.contextmanager
    def change(self, name: str, *, make: bool = False) -> Iterator[Change]:
        """Look at a name that is to be published, for which its folders are made, or deleted."""
        folders, last = _split(name)
        with self._folder(folders, make=make) as folder:
            yield Change(folder, last)

    @contextlib.contextmanager
    def _folder(self, folders: list[str], *, make: bool = False) -> Iterator[int]:
        """Open the folder below the root that ``folders`` lead to, following no symbolic link."""
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for each in folders:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(each, 0o755, dir_fd=fd)
                        os.fsync(fd)
                inner = os.open(each, FOLDER, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)

    def _make_staging(self) -> None:
        os.makedirs(self.root, 0o755, exist_ok=True)
        for folder in (os.path.dirname(self._staging), self._staging):
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)

    def _sweep(self) -> None:
        """Remove what processes that died had staged: the files that nobody holds."""
        for entry in os.listdir(self._staging):
            if entry.startswith(STAGED):
                path = os.path.join(self._staging, entry)
                with contextlib.suppress(OSError), open(path, "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(path)


class Change:
    """A name in its open folder; ``status`` is that of the file that is there, None where there is none."""

    def __init__(self, folder: int, last: str) -> None:
        self._folder = folder
        self._last = last
        self.status: os.stat_result | None = None
        with contextlib.suppress(FileNotFoundError):
            self.status = os.stat(last, dir_fd=folder, follow_symlinks=False)

    def publish(self, path: str) -> None:
        """Give the staged and durable file ``path`` its name, durably."""
        os.replace(path, self._last, dst_dir_fd=self._folder)
        os.fsync(self._folder)

    def delete(self) -> None:
        """Remove the file, durably. Raises FileNotFoundError where there is none."""
        os.unlink(self._last, dir_fd=self._folder)
        os.fsync(self._folder)


def _split(name: str) -> tuple[list[str], str]:
    *folders, last = name.split("/")
    return folders, last
