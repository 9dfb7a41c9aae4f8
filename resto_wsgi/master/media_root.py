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
    dropped      the same, and the folders above   as it is; an empty folder may be left
                 it that are empty

Where staged files lie, and who sweeps them, is the matter of ``staging``. A name is locked (a place in one file for
each) while it is published, replaced or removed and its hosts converge. ``.resto/id`` tells this media root from
the empty folder that is seen where its disk is not mounted. The replicator calls this.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from typing import BinaryIO

from ..errors import MediaRootError, NameRejected
from .hashing import blocks_of, sha256_of
from .identity import identity_of, identity_state, make_private, read_identity
from .locks import name_lock
from .staging import KEPT, Staged, Staging, disk, make_hidden, unlink
from .state import State
from .walk import walk

__all__ = ["Master", "MediaRoot", "Publication", "Staged"]

ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO})  # ENXIO: a socket
FOLDERS_MADE = 50  # times that the folder of a name is made, because another process found it empty and pruned it


@dataclass(frozen=True)
class Master:
    """The master's copy of a name, open for reading: ``size`` in bytes, ``mtime`` in seconds since 1970."""

    file: BinaryIO
    size: int
    mtime: float
    state: State


@dataclass(frozen=True)
class Publication:
    """One name given to one staged file, which ``status`` identifies; ``previous`` is the path of what it replaced."""

    name: str
    staged: Staged
    status: os.stat_result
    previous: str | None


class MediaRoot:
    """The files under one directory. Names were checked by ``names.check``; any thread or process may call."""

    def __init__(self, path: str, *, fsync: bool = True) -> None:
        self.root = os.path.abspath(path)
        self._fsync = fsync
        self._own = os.path.join(self.root, ".resto")
        self._staging = Staging(os.path.join(self._own, "staging"), fsync=fsync)
        with disk("make", ".resto"):
            os.makedirs(self.root, 0o755, exist_ok=True)
            make_hidden(self._staging.path)
        make_private(self._own)
        self.identity = identity_of(self._own, self._staging.path)
        self._seen: object = None  # the state of the file that was found to hold it
        with disk("make", ".resto"):
            self._sync_folder(os.path.join(self._own, "id"))
            self._sync_folder(self._own)

    def check_here(self) -> None:
        """Raise MediaRootError where this is no longer the media root that it was at start.

        To be asked before anything is concluded from a file that is missing: its disk may have been unmounted.
        """
        state = identity_state(self._own)
        if state is not None and state == self._seen:
            return
        found = read_identity(self._own)
        if found != self.identity:
            problem = "it is gone" if found is None else "it is the id of another media root"
            problem += "; see that the right disk is mounted, then start again if it is"
            raise MediaRootError("find", ".resto/id", OSError(errno.ENOENT if found is None else errno.ESTALE, problem))
        self._seen = state

    # Reading

    def path(self, name: str) -> str:
        """Return the absolute path of ``name``."""
        return os.path.join(self.root, name)

    def open(self, name: str) -> Master:
        """Open the master's copy; the caller closes ``file``. Raises FileNotFoundError where there is none."""
        try:
            # A FIFO would block the open. An interruption would leave a bare descriptor open for good.
            file = FileIO(self.path(name), opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK))
        except OSError as error:
            if error.errno in ABSENT:
                raise FileNotFoundError(errno.ENOENT, "not in MEDIA_ROOT", name) from None
            raise MediaRootError("read", name, error) from error
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            file.close()
            raise FileNotFoundError(errno.ENOENT, "not a file in MEDIA_ROOT", name)
        return Master(file, status.st_size, status.st_mtime, State.of(status))

    def state(self, name: str) -> State | None:
        """Return what ``open`` would find, without opening it; None where there is no file."""
        try:
            status = os.stat(self.path(name))
        except OSError as error:
            if error.errno in ABSENT:
                return None
            raise MediaRootError("read", name, error) from error
        return State.of(status) if stat.S_ISREG(status.st_mode) else None

    def size(self, name: str) -> int:
        """Return the size in bytes. Raises FileNotFoundError where there is no such file."""
        with self.open(name).file as file:
            return os.fstat(file.fileno()).st_size

    def sha256(self, name: str) -> str:
        """Return the SHA-256 in hexadecimal. Raises FileNotFoundError where there is no such file."""
        with self.open(name).file as file, disk("read", name):
            return sha256_of(blocks_of(file.fileno())).hex()

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
                if entry.name.startswith("."):
                    continue
                with contextlib.suppress(OSError):  # a symbolic link to itself is neither
                    if entry.is_dir():
                        folders.append(entry.name)
                    elif entry.is_file():
                        files.append(entry.name)
        return sorted(folders), sorted(files)

    def names(self) -> Iterator[str]:
        """Yield every name that has a file, in no order, in constant memory; nothing hidden. Raises MediaRootError."""
        return walk(self.root)

    # Writing

    def stage(self, hold: int = 0) -> Staged:
        """Begin a file that nobody sees, of which ``hold`` bytes may stay in memory."""
        return self._staging.stage(hold)

    def publish(self, staged: Staged, name: str) -> Publication:
        """Give a sealed file its name. Raises FileExistsError where the name is taken."""
        with disk("save", name, but=FileExistsError):
            status = os.stat(staged.path)
            self._in_folder(name, lambda target: os.link(staged.path, target))
        return Publication(name, staged, status, None)

    def replace(self, staged: Staged, name: str) -> Publication:
        """Give a sealed file a name that may be taken; what was there is kept until it is forgotten.

        The caller holds the lock of the name. Raises NameRejected where the name is a folder.
        """
        target = self.path(name)
        if os.path.isdir(target):
            raise NameRejected(name, "is a folder in MEDIA_ROOT")
        kept, waiting = f"{staged.path}{KEPT}", f"{staged.path}.next"
        staged.keeps = True
        try:
            with disk("save", name):
                previous = kept if _keep(target, kept) else None
                status = os.stat(staged.path)
                os.link(staged.path, waiting)
                self._in_folder(name, lambda target: os.replace(waiting, target))
            return Publication(name, staged, status, previous)
        except BaseException:
            unlink(waiting)
            unlink(kept)
            raise

    def make_durable(self, publication: Publication) -> None:
        """Return when the new name survives a power cut. Where this raises, the caller takes the name back."""
        with disk("save", publication.name):
            self._sync_folder(self.path(publication.name))

    def is_published(self, publication: Publication) -> bool:
        """True while the name still is that very file. The caller holds the lock of the name."""
        return _names_a_file(self.path(publication.name), publication.status)

    def keeps_previous(self, publication: Publication) -> bool:
        """True where a publication that is taken back leaves the version that it replaced."""
        return publication.previous is not None and os.path.exists(publication.previous)

    def is_staged(self, name: str) -> bool:
        """True while the staged file of a name is there as well, so that its publisher may still take it back."""
        try:
            return os.stat(self.path(name)).st_nlink > 1
        except (FileNotFoundError, NotADirectoryError):
            return False

    def take_back(self, publication: Publication) -> bool:
        """Undo a publication where the name still is that very file; return False where somebody replaced it since.

        The caller holds the lock of the name.
        """
        target = self.path(publication.name)
        with disk("withdraw", publication.name):
            if not self.is_published(publication):
                self._drop_from_those_who_replaced(publication)
                return False
            if publication.previous is not None and self.keeps_previous(publication):
                os.replace(publication.previous, target)
            else:
                os.unlink(target)
            self._sync_removal(target)
        return True

    def _drop_from_those_who_replaced(self, publication: Publication) -> None:
        """Whoever replaced this version keeps it, to put it back if he fails too; give him what came before it."""
        for kept in glob.iglob(os.path.join(glob.escape(self._staging.path), "*", f"*{KEPT}")):
            if kept != publication.previous and _names_a_file(kept, publication.status):
                if publication.previous is not None and self.keeps_previous(publication):
                    os.replace(publication.previous, kept)
                else:
                    unlink(kept)

    def forget(self, publication: Publication) -> None:
        """Drop the version that a publication replaced and kept. Safe to repeat."""
        if publication.previous is not None:
            unlink(publication.previous)

    def check_no_folder(self, name: str) -> None:
        """Raise NameRejected where the name is a folder: a replica of it could be a whole tree."""
        if os.path.isdir(self.path(name)):
            raise NameRejected(name, "is a folder in MEDIA_ROOT; only files are deleted")

    def remove(self, name: str) -> bool:
        """Remove a name, durably; return False where there was none. The caller holds the lock of the name.

        Raises NameRejected where the name is a folder.
        """
        self.check_no_folder(name)
        target = self.path(name)
        with disk("delete", name):
            try:
                os.unlink(target)
            except (FileNotFoundError, NotADirectoryError):
                return False
            self._sync_removal(target)
        return True

    def drop(self, name: str) -> None:
        """Remove a name, if it is there, and the folders above it that are empty then, up to the root.

        The caller holds the lock of the name. Whoever publishes in such a folder meanwhile makes it again.
        """
        if not os.path.isdir(self.path(name)):
            self.remove(name)
        folder = os.path.dirname(name)
        while folder:
            try:
                os.rmdir(self.path(folder))
            except FileNotFoundError:
                pass  # another process pruned it, and may have been killed before it came to the one above
            except OSError:
                return  # not empty, or none that we may remove
            folder = os.path.dirname(folder)

    @contextlib.contextmanager
    def lock(self, name: str, wait: bool = True) -> Iterator[bool]:
        """Hold a name against every other thread and process that would write it; yields True.

        Without ``wait`` it yields False, at once, where somebody else holds it. A process that is forked meanwhile does
        not hold it.
        """
        lock = name_lock(self._own, name)
        try:
            with disk("lock", name):
                try:
                    held = lock.acquire(wait)
                except FileNotFoundError:  # somebody removed .resto
                    make_hidden(self._staging.path)
                    held = lock.acquire(wait)
            yield held
        finally:
            lock.release()

    def sweep(self) -> None:
        """Remove what dead processes left staged or kept; what belongs to the living is not touched."""
        with disk("sweep", ".resto/staging"):
            self._staging.sweep()

    def close(self) -> None:
        """Give up this process's room, with whatever is still staged in it."""
        self._staging.close()

    def _in_folder(self, name: str, act: Callable[[str], None]) -> None:
        """Give ``act`` the path of ``name``, and make the folders above it where they are missing.

        More than once, where another process prunes them between the two.
        """
        for _ in range(FOLDERS_MADE):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                act(self.path(name))
                return
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self._make_folder(name)
        act(self.path(name))

    def _make_folder(self, name: str) -> None:
        """Make the folders above ``name``, durably."""
        missing = []
        folder = os.path.dirname(self.path(name))
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            try:
                os.mkdir(folder, 0o755)
            except FileExistsError:
                if _is_no_folder(folder):
                    raise NameRejected(name, "a folder of it is a file in MEDIA_ROOT") from None
            self._sync_folder(folder)

    def _sync_removal(self, path: str) -> None:
        """Make durable that ``path`` is gone. Where its folder was pruned since, that one's own removal counts."""
        while os.path.dirname(path) != self.root:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self._sync_folder(path)
                return
            path = os.path.dirname(path)
        self._sync_folder(path)

    def _sync_folder(self, path: str) -> None:
        """Make the entry ``path`` durable: fsync of the folder that holds it."""
        if not self._fsync:
            return
        fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _keep(target: str, kept: str) -> bool:
    """Keep what is at ``target`` under another name; return whether there was something."""
    try:
        os.link(target, kept)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:  # a file of another user, which Linux does not let us link (protected_hardlinks)
        shutil.copy2(target, kept)
    return True


def _names_a_file(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), status)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _is_no_folder(path: str) -> bool:
    """True where there is something else, a symbolic link to nothing included; False where there is nothing."""
    try:
        return not stat.S_ISDIR(os.stat(path).st_mode)
    except OSError:
        return os.path.islink(path)
