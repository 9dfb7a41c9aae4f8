"""The files of a media server, with what is known of each beside its bytes: its digest and its generation.

    publish   staged, made durable with its digest and generation, then, under the lock of the name, renamed: a reader
              sees the old file or the new one. A crash before the rename leaves the old one; what was staged is swept
              by the next start
    delete    files only, never a folder; the tombstone, if there is a generation, is durable before the file goes

``master.media_root`` has the bytes. Here it is told what a node wants of it: names longer than ``names.MAX_NAME``, our
pages left out, and no old version kept. Names are checked before they come here. No HTTP is known here. ``node`` calls
it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Collection, Iterator
from io import FileIO

from ... import names
from ...errors import MediaRootError
from ...master import staged as master
from ...master.disk import disk
from ...master.files import Master
from ...master.listing import Entry
from ...master.media_root import MediaRoot
from ...master.state import State
from . import marks
from .own_names import OWN

__all__ = ["PATH_BYTES_MAX", "Change", "Entry", "Staged", "Store", "etag_of"]

PATH_BYTES_MAX = 2 * names.MAX_NAME  # bytes of a path: a name as long as it may be, below a path of MEDIA_URL
TOMBSTONES = 90 * 86400  # seconds for which the generation of a deleted name is kept, as the application servers do
SWEEP = 86400  # seconds between two looks for tombstones that are older
SECOND = 1_000_000_000  # nanoseconds


def etag_of(state: State) -> str:
    """Return the ETag that nginx gives; an mtime that is no whole second adds a third part."""
    seconds, rest = divmod(state.mtime_ns, SECOND)
    return f"{seconds:x}-{state.size:x}" + (f"-{rest:x}" if rest else "")


class Staged:
    """A file that nobody sees, and what is to be known of it; sealed once, then published or left."""

    def __init__(self, file: master.Staged) -> None:
        self.file = file
        self.sha256: bytes | None = None
        self.generation: int | None = None
        self.marked = False  # whether the file itself holds its generation
        self.exact = False  # whether its mtime is that of the version on another node
        self.size = 0  # in bytes, when it is sealed

    @property
    def path(self) -> str:
        """The path of the file."""
        return self.file.path

    def write(self, block: bytes) -> None:
        """Append a block. Raises MediaRootError."""
        self.file.write(block)

    def seal(
        self,
        mtime_ns: int | None,
        *,
        sha256: bytes | None = None,
        generation: int | None = None,
        exact: bool = False,
    ) -> None:
        """Set what is known of the file and make it durable. ``mtime_ns`` in ns since 1970, None for now.

        ``exact``: another node has told the versions apart by it, so that it stays as it is. Raises MediaRootError.
        """
        self.sha256, self.generation, self.exact = sha256, generation, exact
        with disk("stage", "an upload"):
            fd = self.file.fileno()
            self.size = os.fstat(fd).st_size
            if generation is not None:
                self.marked = marks.mark_generation(fd, generation)
            # The kernel's own time is 4 ms coarse, which two versions can share.
            self._set_mtime(fd, time.time_ns() if mtime_ns is None else mtime_ns)
            self.file.seal()

    def move_mtime(self, mtime_ns: int) -> None:
        """Set another mtime on what is sealed, durably. Raises MediaRootError."""
        with disk("stage", "an upload"), FileIO(self.path, "r+b") as file:
            self._set_mtime(file.fileno(), mtime_ns)
            os.fsync(file.fileno())

    def _set_mtime(self, fd: int, mtime_ns: int) -> None:
        with contextlib.suppress(OverflowError):
            os.utime(fd, ns=(mtime_ns, mtime_ns))
        if self.sha256:
            marks.mark_digest(fd, self.sha256)  # which is noted with the mtime


class Store:
    """The files below ``root``, which is made if it is missing. Raises MediaRootError.

    ``linked_folders`` are the folders below it that may be symbolic links, or on other disks.
    """

    def __init__(self, root: str | os.PathLike[str], linked_folders: Collection[str] = ()) -> None:
        self.media_root = MediaRoot(os.fspath(root), linked=linked_folders, longest=PATH_BYTES_MAX, without=OWN)
        self.root = self.media_root.root
        self._generations = marks.Generations(os.path.join(self.root, ".resto", "generations"))
        self._swept = 0.0
        self.media_root.sweep()
        self.sweep()

    def open(self, name: str) -> Master | None:
        """Return the file of a name, open; None if there is none, or only by way of a link. Raises MediaRootError."""
        try:
            return self.media_root.open(name)
        except FileNotFoundError:
            return None
        except MediaRootError as error:
            if error.errno == errno.ELOOP:
                return None
            raise

    def state(self, name: str) -> State | None:
        """Return what ``open`` would find, without opening it. Raises MediaRootError."""
        return self.media_root.state(name)

    def generation(self, name: str, fd: int | None = None) -> int | None:
        """Return the generation of a name; ``fd`` is its open file, None if there is none. None if none is known."""
        if fd is not None:
            with contextlib.suppress(NotImplementedError):
                return marks.read_generation(fd)
        return self._generations.read(name)

    @contextlib.contextmanager
    def stage(self, name: str = "") -> Iterator[Staged]:
        """Open a file that nobody sees, for a name; it is gone afterwards, unless it was published."""
        staged = self.media_root.stage(near=name, digest=False)
        try:
            yield Staged(staged)
        finally:
            staged.discard()

    @contextlib.contextmanager
    def part(self, path: str) -> Iterator[Staged]:
        """Open the file at ``path``, made if it is missing, to be completed; it stays there unless it is published."""

        def create() -> FileIO:
            return FileIO(path, "r+b", opener=lambda path, flags: os.open(path, flags | os.O_CREAT, 0o644))

        part = master.Staged(create, fsync=True, digest=False)
        part.give_away()
        try:
            yield Staged(part)
        finally:
            part.discard()

    @contextlib.contextmanager
    def change(self, name: str) -> Iterator[Change]:
        """Hold a name that is to be published or deleted against all others.

        Raises NameRejected below a file, and MediaRootError. Also if the root is not the one that it was at start: its
        disk may have been unmounted, and what is written then is not there when it is back.
        """
        with self.media_root.lock(name):
            self.media_root.check_here()
            yield Change(self, name)

    def entries(self, name: str, after: str, limit: int) -> list[Entry] | None:
        """Return at most ``limit`` entries of a folder, "" for the root, whose names come after ``after``, sorted.

        None if there is no such folder. Raises MediaRootError.
        """
        try:
            return self.media_root.entries(name, after, limit)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except MediaRootError as error:
            if error.errno == errno.ELOOP:
                return None
            raise

    def sweep(self, now: float | None = None) -> None:
        """Forget the generations of names that were deleted long ago; at most once a day. The caller holds no lock."""
        now = time.time() if now is None else now
        if now < self._swept + SWEEP:
            return
        self._swept = now
        for name in self._generations.older_than(now - TOMBSTONES):
            with contextlib.suppress(MediaRootError, OSError), self.change(name) as change:
                if change.state is None:
                    self._generations.remove(name, now - TOMBSTONES)

    def close(self) -> None:
        """Give up what is still staged."""
        self.media_root.close()


class Change:
    """A name that is held; ``taken`` if something has it, and ``state`` if that is a file, else None."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        status = store.media_root.status(name)
        self.taken = status is not None
        self.state = State.of(status) if status is not None and stat.S_ISREG(status.st_mode) else None

    @property
    def etag(self) -> str | None:
        """The version of the file that is there."""
        return etag_of(self.state) if self.state else None

    @property
    def generation(self) -> int | None:
        """The newest generation that is known of the name, of its file or of its tombstone."""
        return self._look()[0]

    def publish(self, staged: Staged) -> None:
        """Give a sealed file the name, durably; its folders are made. Without a generation, old ones are forgotten.

        Raises NameRejected if the name is a folder, or below a file, and MediaRootError.
        """
        root, noted = self._store.media_root, self._store._generations
        if not staged.exact:
            self._tell_apart(staged)
        with disk("save", self._name):
            if staged.generation is not None and not staged.marked:
                noted.write(self._name, staged.generation)
            root.make_durable(root.replace(staged.file, self._name, keep=False))
            # Only when the file that holds the generation is durable: a crash before that must not forget the old one.
            if staged.generation is None or staged.marked:
                noted.remove(self._name)

    def delete(self, generation: int | None = None) -> bool:
        """Remove the file, durably; return False if there was none. A generation is kept as the tombstone in any case.

        Raises NameRejected if the name is a folder, and MediaRootError.
        """
        root, noted = self._store.media_root, self._store._generations
        root.check_no_folder(self._name)
        with disk("delete", self._name):
            if generation is not None:
                noted.write(self._name, generation)
            found = root.remove(self._name)
            if found and generation is None:
                noted.remove(self._name)
        return found

    def _tell_apart(self, staged: Staged) -> None:
        """Make the new version's mtime the later one if second and size are the same: nginx gives both one ETag."""
        old = self.state
        if old is None or old.size != staged.size:
            return
        mtime_ns = os.stat(staged.path).st_mtime_ns
        if mtime_ns <= old.mtime_ns and mtime_ns // SECOND == old.mtime_ns // SECOND:
            same = staged.sha256 is not None and self._look()[1] == staged.sha256
            staged.move_mtime(old.mtime_ns + (not same))

    def _look(self) -> tuple[int | None, bytes | None]:
        """Return the generation of the name, and the digest of its file, as far as they are known."""
        noted = self._store.generation(self._name)
        master = self._store.open(self._name)
        if master is None:
            return noted, None
        with master.file as file:
            marked = self._store.generation(self._name, file.fileno())
            # A delete that was cut off between its tombstone and its file leaves both, and is repeated.
            newest = max((each for each in (marked, noted) if each is not None), default=None)
            return newest, marks.read_digest(file.fileno(), master.state)
