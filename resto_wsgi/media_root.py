"""The media root: the only module that touches the master's files.

A file is staged under ``.resto/staging/``, where no web server looks, and gets its name by a hard link: a
reader sees the whole file or none, and of two writers of one name exactly one wins. Nothing is ever written
in place. ``.resto`` is 0700.

    state        on disk                           after a crash
    staged       a file in this process's room     the room is swept when the next process opens one
    published    the name; the staged file too     the file is whole; the room is swept
    durable      the same, after fsync             the file is whole, also after a power cut
    replaced     the name is the new version, the  the new version is whole; the room is swept
                 old one is kept in the room
    removed      the name is gone, durable         as it is

A room is one process's folder in staging; its lock file is held by flock, which the kernel releases when the
process dies, so that a free lock means an abandoned room. A name is locked (flock on one of 256 files) while it
is published, replaced or removed and its hosts converge. The replicator calls this; the intake writes what it staged.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from .errors import MediaRootError, NameRejected

__all__ = ["Master", "MediaRoot", "Publication", "Staged"]

LOCKS = 256  # two names share a lock once in 256 times, which costs a wait and nothing else


class Staged:
    """A file being written aside, and its SHA-256. Written by one thread; sealed once; discarded once."""

    def __init__(self, path: str, *, fsync: bool) -> None:
        self.path = path
        self.size = 0
        self._fsync = fsync
        self._digest = hashlib.sha256()
        with _disk("stage", "an upload"):
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
        with _disk("stage", "an upload"):
            while view:
                view = view[os.write(self._fd, view) :]

    def seal(self) -> None:
        """Make the bytes durable and close the descriptor; nothing is written afterwards."""
        if self._fd < 0:
            return
        try:
            if self._fsync:
                with _disk("stage", "an upload"):
                    os.fsync(self._fd)
        finally:
            self._close()

    def open(self) -> BinaryIO:
        """Return the staged bytes as an unbuffered binary file at its beginning."""
        return open(self.path, "rb", buffering=0)

    def discard(self) -> None:
        """Remove the staged file, whatever state it is in. A published name keeps its bytes. Safe to repeat."""
        self._close()
        _unlink(self.path)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


@dataclass(frozen=True)
class Master:
    """The master's copy of a name, open for reading: ``size`` in bytes, ``mtime`` in seconds since 1970."""

    file: BinaryIO
    size: int
    mtime: float


@dataclass(frozen=True)
class Publication:
    """One name given to one staged file, and the path that keeps what it replaced, to be able to take it back."""

    name: str
    staged: Staged
    previous: str | None


class MediaRoot:
    """The files under one directory. Names were checked by ``names.check``; any thread or process may call."""

    def __init__(self, path: str, *, fsync: bool = True) -> None:
        self.root = os.path.abspath(path)
        self._fsync = fsync
        self._own = os.path.join(self.root, ".resto")
        self._staging = os.path.join(self._own, "staging")
        self._locks = os.path.join(self._own, "locks")
        self._rooms: dict[int, _Room] = {}  # by process, because a fork copies this object
        with _disk("make", ".resto"):
            os.makedirs(self.root, 0o755, exist_ok=True)
            for folder in (self._own, self._staging, self._locks):
                os.makedirs(folder, 0o700, exist_ok=True)

    # Reading

    def path(self, name: str) -> str:
        """Return the absolute path of ``name``."""
        return os.path.join(self.root, name)

    def open(self, name: str) -> Master:
        """Open the master's copy; the caller closes ``file``. Raises FileNotFoundError where there is none."""
        try:
            file = open(self.path(name), "rb", buffering=0)  # noqa: SIM115 - the caller closes it
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise FileNotFoundError(errno.ENOENT, "not in MEDIA_ROOT", name) from None
        except OSError as error:
            raise MediaRootError("read", name, error) from error
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            file.close()
            raise FileNotFoundError(errno.ENOENT, "not a file in MEDIA_ROOT", name)
        return Master(file, status.st_size, status.st_mtime)

    def size(self, name: str) -> int:
        """Return the size in bytes. Raises FileNotFoundError where there is no such file."""
        with self.open(name).file as file:
            return os.fstat(file.fileno()).st_size

    def exists(self, name: str) -> bool:
        """True where ``name`` is a file."""
        return os.path.isfile(self.path(name))

    def listdir(self, folder: str) -> tuple[list[str], list[str]]:
        """Return the sorted names of the folders and of the files in ``folder`` ("" is the root), hidden ones left out.

        Raises FileNotFoundError or NotADirectoryError.
        """
        folders: list[str] = []
        files: list[str] = []
        with os.scandir(os.path.join(self.root, folder)) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    (folders if entry.is_dir() else files).append(entry.name)
        return sorted(folders), sorted(files)

    # Writing

    def stage(self) -> Staged:
        """Begin a file that nobody sees."""
        return Staged(os.path.join(self._room(), secrets.token_hex(8)), fsync=self._fsync)

    def publish(self, staged: Staged, name: str) -> Publication:
        """Give a sealed file its name. Raises FileExistsError where the name is taken."""
        target = self._make_folder(name)
        with _disk("save", name, but=FileExistsError):
            os.link(staged.path, target)
        return Publication(name, staged, None)

    def replace(self, staged: Staged, name: str) -> Publication:
        """Give a sealed file a name that may be taken; what was there is kept until it is forgotten.

        The caller holds the lock of the name. Raises NameRejected where the name is a folder.
        """
        target = self._make_folder(name)
        if os.path.isdir(target):
            raise NameRejected(name, "is a folder in MEDIA_ROOT")
        kept, waiting = f"{staged.path}.previous", f"{staged.path}.next"
        try:
            with _disk("save", name):
                previous = kept if _link_if_there(target, kept) else None
                os.link(staged.path, waiting)
                os.replace(waiting, target)
        except BaseException:
            _unlink(waiting)
            _unlink(kept)
            raise
        return Publication(name, staged, previous)

    def make_durable(self, publication: Publication) -> None:
        """Return when the new name survives a power cut. Where this raises, the caller takes the name back."""
        with _disk("save", publication.name):
            self._sync_folder(self.path(publication.name))

    def take_back(self, publication: Publication) -> bool:
        """Undo a publication where the name still is that very file; return False where somebody replaced it since.

        The caller holds the lock of the name.
        """
        target = self.path(publication.name)
        try:
            if not os.path.samefile(publication.staged.path, target):
                return False
        except (FileNotFoundError, NotADirectoryError):
            return False
        with _disk("withdraw", publication.name):
            if publication.previous is None:
                os.unlink(target)
            else:
                os.replace(publication.previous, target)
            self._sync_folder(target)
        return True

    def forget(self, publication: Publication) -> None:
        """Drop the version that a publication replaced and kept. Safe to repeat."""
        if publication.previous is not None:
            _unlink(publication.previous)

    def remove(self, name: str) -> bool:
        """Remove a name, durably; return False where there was none. The caller holds the lock of the name.

        Raises NameRejected where the name is a folder: a replica of it could be a whole tree.
        """
        target = self.path(name)
        if os.path.isdir(target):
            raise NameRejected(name, "is a folder in MEDIA_ROOT; only files are deleted")
        with _disk("delete", name):
            try:
                os.unlink(target)
            except (FileNotFoundError, NotADirectoryError):
                return False
            self._sync_folder(target)
        return True

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a name against every other thread and process that would write it."""
        bucket = hashlib.sha256(name.encode()).digest()[0] % LOCKS
        with _disk("lock", name):
            fd = os.open(os.path.join(self._locks, f"{bucket:02x}"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            with _disk("lock", name):
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # closing does not release it where a process was forked meanwhile
            os.close(fd)

    def close(self) -> None:
        """Give up this process's room, with whatever is still staged in it."""
        room = self._rooms.pop(os.getpid(), None)
        if room is not None:
            room.leave()

    def _make_folder(self, name: str) -> str:
        """Make the folders above ``name``, durably, and return its path."""
        target = self.path(name)
        missing = []
        folder = os.path.dirname(target)
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            with _disk("save", name):
                try:
                    os.mkdir(folder, 0o755)
                except (FileExistsError, NotADirectoryError):
                    if not os.path.isdir(folder):
                        raise NameRejected(name, "a folder of it is a file in MEDIA_ROOT") from None
                self._sync_folder(folder)
        return target

    def _sync_folder(self, path: str) -> None:
        """Make the entry ``path`` durable: fsync of the folder that holds it."""
        if not self._fsync:
            return
        fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _room(self) -> str:
        """Return the path of this process's room; one that was forked gets its own."""
        pid = os.getpid()
        room = self._rooms.get(pid)
        if room is None:
            _sweep(self._staging)
            fresh = _Room(self._staging)
            room = self._rooms.setdefault(pid, fresh)
            if room is not fresh:
                fresh.leave()
        return room.path


class _Room:
    """One process's folder in staging, and the lock that says that the process lives."""

    def __init__(self, staging: str) -> None:
        with _disk("open", ".resto/staging"):
            while True:
                self.path = os.path.join(staging, f"{os.getpid()}-{secrets.token_hex(4)}")
                self._lock = os.open(f"{self.path}.lock", os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
                if os.fstat(self._lock).st_nlink:  # else a sweep took it between the two lines above
                    os.mkdir(self.path, 0o700)
                    return
                os.close(self._lock)

    def leave(self) -> None:
        """Remove the room with whatever is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        _unlink(f"{self.path}.lock")
        os.close(self._lock)


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


def _link_if_there(source: str, target: str) -> bool:
    try:
        os.link(source, target)
    except FileNotFoundError:
        return False
    return True


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


@contextlib.contextmanager
def _disk(action: str, name: str, but: type[OSError] | tuple[()] = ()) -> Iterator[None]:
    """Translate what the disk refuses into MediaRootError, but for one kind that the caller expects."""
    try:
        yield
    except but:
        raise
    except OSError as error:
        raise MediaRootError(action, name, error) from error
