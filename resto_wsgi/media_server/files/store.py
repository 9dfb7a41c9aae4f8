"""The files of a media server: opened, staged, published, deleted and listed below one root. No HTTP is known here.

    publish   staged in ``.resto/staging``, made durable with its digest and generation, then, under the lock of
              the name, renamed: a reader sees the old file or the new one. A crash before the rename leaves the old
              one and a staged file, which the next start sweeps; a crash after it leaves the new one
    delete    files only, never a folder; the tombstone, where there is a generation, is durable before the file goes

Every name is walked from the root's descriptor, segment by segment, and no symbolic link is followed, so no name
leaves the root, whoever has put links there. Names are checked before they come here. ``node`` calls it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import heapq
import os
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ... import names
from ...master.hidden import make_hidden
from ...master.locks import name_lock
from . import marks
from .own_names import is_own

__all__ = ["LONGEST", "Change", "Entry", "Staged", "Store", "etag_of"]

LONGEST = 2 * names.MAX_NAME  # bytes of a path: a name as long as it may be, below a path of MEDIA_URL
STAGED = "put-"  # how a staged file's name begins
TOMBSTONES = 90 * 86400  # seconds for which the generation of a deleted name is kept, as the application servers do
SWEEP = 86400  # seconds between two looks for tombstones that are older

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO would block the open
STAGE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})  # ENXIO: a socket


def etag_of(status: os.stat_result) -> str:
    """Return the ETag that nginx gives; an mtime that is no whole second adds a third part."""
    seconds, rest = divmod(status.st_mtime_ns, 1_000_000_000)
    return f"{seconds:x}-{status.st_size:x}" + (f"-{rest:x}" if rest else "")


@dataclass(frozen=True)
class Entry:
    """What a folder holds under ``name``: a file, or a folder, of which ``size`` is None. ``mtime`` is in seconds."""

    name: str
    folder: bool
    size: int | None
    mtime: int


class Store:
    """The files below ``root``, which is made where it is missing. Raises OSError where it cannot be made."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)
        own = os.path.join(self.root, ".resto")
        self._staging = os.path.join(own, "staging")
        self._own = own
        self._generations = marks.Generations(os.path.join(own, "generations"))
        self._swept = 0.0
        self._make_staging()
        self._sweep_staging()
        self.sweep()

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

    def status(self, name: str) -> os.stat_result | None:
        """Return the status of the file of a name, None where there is no file. Raises OSError."""
        folders, last = _split(name)
        try:
            with self._folder(folders) as folder:
                status = os.stat(last, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno in ABSENT:
                return None
            raise
        return status if stat.S_ISREG(status.st_mode) else None

    def generation(self, name: str, fd: int | None = None) -> int | None:
        """Return the generation of a name; ``fd`` is its open file, None where there is none. None if none is known."""
        if fd is not None:
            with contextlib.suppress(NotImplementedError):
                return marks.read_generation(fd)
        return self._generations.read(name)

    @contextlib.contextmanager
    def stage(self) -> Iterator[Staged]:
        """Open a file that nobody sees; it is gone afterwards, unless it was published."""
        self._make_staging()  # somebody may have emptied the root meanwhile
        path = os.path.join(self._staging, f"{STAGED}{secrets.token_hex(8)}")
        fd = self._open_staged(path)
        try:
            yield Staged(path, fd)
        finally:
            os.close(fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    @contextlib.contextmanager
    def change(self, name: str) -> Iterator[Change]:
        """Hold a name, against all other threads and processes, that is to be published or deleted. Raises OSError."""
        self._make_staging()  # and with it where the locks are
        lock = name_lock(self._own, name)
        lock.acquire()
        try:
            yield Change(self, name)
        finally:
            lock.release()

    def make_folder(self, name: str) -> None:
        """Make one folder, durably. Raises FileExistsError, or FileNotFoundError where the one above is missing."""
        folders, last = _split(name)
        with self._folder(folders) as folder:
            os.mkdir(last, 0o755, dir_fd=folder)
            os.fsync(folder)

    def remove_folder(self, name: str) -> None:
        """Remove one folder that is empty, durably. Raises OSError where it is not, or is none."""
        folders, last = _split(name)
        with self._folder(folders) as folder:
            os.rmdir(last, dir_fd=folder)
            os.fsync(folder)

    def entries(self, name: str, after: str, limit: int) -> list[Entry] | None:
        """Return at most ``limit`` entries of a folder, "" for the root, whose names come after ``after``, sorted.

        Hidden files, links, what is neither file nor folder, and what a page of ours takes the place of are left out.
        None where there is no such folder. Memory grows with ``limit`` alone, not with the entries. Raises OSError.
        """
        try:
            with self._folder(name.split("/") if name else []) as folder, os.scandir(folder) as found:
                later = (each for each in found if each.name > after and (name or not is_own(each.name)))
                shown = (each for each in later if _is_shown(each))
                chosen = heapq.nsmallest(limit, shown, key=lambda entry: entry.name)
                return [entry for each in chosen if (entry := _entry(each))]
        except OSError as error:
            if error.errno in ABSENT:
                return None
            raise

    def sweep(self, now: float | None = None) -> None:
        """Forget the generations of names that were deleted long ago; at most once a day. The caller holds no lock."""
        now = time.time() if now is None else now
        if now < self._swept + SWEEP:
            return
        self._swept = now
        for name in self._generations.older_than(now - TOMBSTONES):
            with contextlib.suppress(OSError), self.change(name) as change:
                if change.status is None:
                    self._generations.remove(name, now - TOMBSTONES)

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
        make_hidden(self._staging)

    def _open_staged(self, path: str) -> int:
        """Make a file and lock it while it is written, so that a sweep knows who lives."""
        while True:
            fd = os.open(path, STAGE, 0o644)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                return fd
            os.close(fd)  # another process, which starts, swept it between its making and its locking

    def _sweep_staging(self) -> None:
        """Remove what processes that died had staged: the files that nobody holds."""
        for entry in os.listdir(self._staging):
            if entry.startswith(STAGED):
                path = os.path.join(self._staging, entry)
                with contextlib.suppress(OSError), open(path, "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(path)


class Staged:
    """A file that nobody sees, open for writing as ``fd``; sealed once, then published or left."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.sha256: bytes | None = None
        self.generation: int | None = None
        self.marked = False  # whether the file itself holds its generation
        self.exact = False  # whether its mtime is that of the version on another node

    def seal(
        self,
        mtime_ns: int | None,
        *,
        sha256: bytes | None = None,
        generation: int | None = None,
        exact: bool = False,
    ) -> None:
        """Set what is known of the file and make it durable. ``mtime_ns`` in ns since 1970, None for now.

        ``exact``: another node has told the versions apart by it, so that it stays as it is.
        """
        self.sha256, self.generation, self.exact = sha256, generation, exact
        if generation is not None:
            self.marked = marks.mark_generation(self.fd, generation)
        # The kernel's own time is 4 ms coarse, which two versions can share.
        self.set_mtime(time.time_ns() if mtime_ns is None else mtime_ns)

    def set_mtime(self, mtime_ns: int) -> None:
        """Set the mtime, which a digest is noted with, and make the file durable."""
        with contextlib.suppress(OverflowError):
            os.utime(self.fd, ns=(mtime_ns, mtime_ns))
        if self.sha256:
            marks.mark_digest(self.fd, self.sha256)
        os.fsync(self.fd)


class Change:
    """A name that is held; ``status`` is that of the file that is there, None where there is none."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._folders, self._last = _split(name)
        self.status: os.stat_result | None = None
        with contextlib.suppress(FileNotFoundError), store._folder(self._folders) as folder:
            self.status = os.stat(self._last, dir_fd=folder, follow_symlinks=False)

    @property
    def etag(self) -> str | None:
        """The version of the file that is there."""
        return etag_of(self.status) if self.status else None

    @property
    def generation(self) -> int | None:
        """The newest generation that is known of the name, of its file or of its tombstone."""
        return self._look()[0]

    def publish(self, staged: Staged) -> None:
        """Give a sealed file the name, durably; its folders are made. Without a generation, old ones are forgotten."""
        if not staged.exact:
            self._tell_apart(staged)
        noted = self._store._generations
        if staged.generation is not None and not staged.marked:
            noted.write(self._name, staged.generation)
        with self._store._folder(self._folders, make=True) as folder:
            os.replace(staged.path, self._last, dst_dir_fd=folder)
            os.fsync(folder)
        if staged.generation is None or staged.marked:
            noted.remove(self._name)

    def delete(self, generation: int | None = None) -> None:
        """Remove the file, durably; a generation is kept as the tombstone, also where there is no file.

        Raises FileNotFoundError where there is none.
        """
        if self.status is not None and stat.S_ISDIR(self.status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if generation is not None:
            self._store._generations.write(self._name, generation)
        with self._store._folder(self._folders) as folder:
            os.unlink(self._last, dir_fd=folder)
            os.fsync(folder)
        if generation is None:
            self._store._generations.remove(self._name)

    def _tell_apart(self, staged: Staged) -> None:
        """Make the new version's mtime the later one where second and size are the same: nginx gives both one ETag."""
        old, new = self.status, os.fstat(staged.fd)
        if old is None or old.st_size != new.st_size or new.st_mtime_ns > old.st_mtime_ns:
            return
        if old.st_mtime_ns // 1_000_000_000 == new.st_mtime_ns // 1_000_000_000:
            same = staged.sha256 is not None and self._look()[1] == staged.sha256
            staged.set_mtime(old.st_mtime_ns + (not same))

    def _look(self) -> tuple[int | None, bytes | None]:
        """Return the generation of the name, and the digest of its file, as far as they are known."""
        noted = self._store.generation(self._name)
        found = self._store.open(self._name)
        if found is None:
            return noted, None
        file, status = found
        with file:
            marked = self._store.generation(self._name, file.fileno())
            # A delete that was cut off between its tombstone and its file leaves both, and is repeated.
            newest = max((each for each in (marked, noted) if each is not None), default=None)
            return newest, marks.read_digest(file.fileno(), status)


def _is_shown(entry: os.DirEntry[str]) -> bool:
    kind = entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)
    return kind and not entry.name.startswith(".")


def _entry(entry: os.DirEntry[str]) -> Entry | None:
    with contextlib.suppress(OSError):
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            return Entry(entry.name, False, status.st_size, int(status.st_mtime))
        if stat.S_ISDIR(status.st_mode):
            return Entry(entry.name, True, None, int(status.st_mtime))
    return None


def _split(name: str) -> tuple[list[str], str]:
    *folders, last = name.split("/")
    return folders, last
