"""The media root: the only module that changes the master's files, for applications and for our own media server.

A file is staged under ``.resto/staging/``, where no web server looks, and gets its name by a hard link or a rename. So
a reader sees the whole file or none, and exactly one of two writers of a name wins. Nothing is ever written in place.

    state        on disk                           after a crash
    staged       a file in this process's room     the room is swept when the next process opens one
    published    the name; the staged file too     the file is whole; the room is swept
    durable      the same, after fsync             the file is whole, also after a power cut
    replaced     the name is the new version, the  the new version is whole; the room is swept
                 old one is kept in the room
    put          the name is the new version, and  as it is
                 the staged file is gone
    removed      the name is gone, durable         as it is
    dropped      the same, and the folders above   as it is; an empty folder may be left
                 it that are empty

A name is locked (a place in one file for each) while it is published, replaced or removed and its hosts converge.
``.resto/id`` tells this media root from the empty folder that is seen where its disk is not mounted. No symbolic link
is followed (``folders``). The replicator calls this, and ``media_server.files``.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import itertools
import os
import stat
from collections.abc import Callable, Collection, Iterator

from .. import names
from ..errors import ROOT_ID, MediaRootError, NameRejected
from .disk import disk, unlink
from .empty_folders import give_way
from .files import BELOW_A_FILE, Files, Master
from .folders import Place
from .hidden import HIDDEN, make_hidden, make_private
from .identity import identity_of, identity_state, read_identity
from .locks import name_lock
from .modes import READABLE, Modes
from .publication import Publication, link, put, replace
from .staged import KEPT, Staged
from .staging import Staging

__all__ = ["Master", "MediaRoot", "Publication"]

FOLDERS_MADE = 50  # times that the folder of a name is made, because another process found it empty and pruned it
NO_NAME = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})  # what is found if a name is not that of a file


class MediaRoot(Files):
    """The files under one directory, which is made if it is missing. Raises MediaRootError.

    ``linked`` are the folders that may be symbolic links, or other disks; ``longest`` is how many bytes of UTF-8 a name
    may have; ``without`` is what at the top of the root is shown to nobody; ``modes`` are those of what is made. Any
    thread or forked process may call.
    """

    def __init__(
        self,
        path: str,
        *,
        fsync: bool = True,
        linked: Collection[str] = (),
        longest: int = names.MAX_NAME,
        without: frozenset[str] = frozenset(),
        modes: Modes = READABLE,
    ) -> None:
        super().__init__(path, linked=linked, fsync=fsync, longest=longest, without=without, modes=modes)
        self._fsync = fsync
        self._modes = modes
        self._own = os.path.join(self.root, HIDDEN)
        self._staging = Staging(os.path.join(self._own, "staging"), fsync=fsync, modes=modes)
        # Those on other disks, by the folder that they are for; of two that are for a name the deeper one comes later.
        self._elsewhere = {
            each: Staging(os.path.join(self.path(each), HIDDEN, "staging"), fsync=fsync, modes=modes)
            for each in sorted(linked)
        }
        with disk("make", HIDDEN):
            modes.make_root(self.root)
            make_hidden(self._own)
            make_hidden(self._staging.path)
        make_private(self._own)
        self.identity = identity_of(self._own, self._staging.path)
        self._seen: object = None  # the state of the file that was found to hold it
        with disk("make", HIDDEN):
            for entry in (f"{HIDDEN}/id", HIDDEN):
                self._folders.sync(entry)

    def check_here(self) -> None:
        """Raise MediaRootError if this is no longer the media root that it was at start.

        Call this before anything is concluded from a missing file: its disk may have been unmounted.
        """
        state = identity_state(self._own)
        if state is not None and state == self._seen:
            return
        found = read_identity(self._own)
        if found != self.identity:
            problem = "it is gone" if found is None else "it is the id of another media root"
            problem += "; see that the right disk is mounted, then start again if it is"
            raise MediaRootError("find", ROOT_ID, OSError(errno.ENOENT if found is None else errno.ESTALE, problem))
        self._seen = state

    # Staging

    def stage(self, hold: int = 0, *, near: str = "", digest: bool = True) -> Staged:
        """Begin a file that nobody sees, of which ``hold`` bytes may stay in memory.

        ``near`` is its name, or its folder, as far as that is known: it is staged on that disk, and is there at once
        when it gets its name. Without ``digest`` its SHA-256 is not computed.
        """
        try:
            return self._staging_of(near).stage(hold, digest=digest)
        except MediaRootError as error:
            if error.errno == errno.ENOENT:
                self.check_here()  # which tells better what is missing
            raise

    def is_staged(self, name: str) -> bool:
        """True while the staged file of a name is there as well, so that its publisher may still take it back.

        A second link alone does not say so: a backup may have made it (``cp -al``), and keeps it for good.
        """
        try:
            status = self._status(name)
        except OSError as error:
            if error.errno in NO_NAME:
                return False
            raise
        return status.st_nlink > 1 and any(_is_that_file(path, status) for path in self._aside("*"))

    def sweep(self) -> None:
        """Remove what dead processes left staged or kept; what belongs to the living is not touched."""
        with disk("sweep", ".resto/staging"):
            self._staging.sweep()
        for staging in self._elsewhere.values():
            with contextlib.suppress(OSError):  # its disk may be away, which is no reason not to start
                staging.sweep()

    def close(self) -> None:
        """Give up this process's rooms, with whatever is still staged in them."""
        for staging in self._stagings():
            staging.close()

    # Publishing

    def publish(self, staged: Staged, name: str) -> Publication:
        """Give a sealed file its name. Raises FileExistsError if the name is taken, NameRejected below a file.

        Empty folders do not take a name: they are what is left of names below it.
        """

        def give(publication: Publication, place: Place) -> Publication:
            try:
                return link(publication, place)
            except FileExistsError:
                if self._folders.is_linked(name) or place.kind() != stat.S_IFDIR or not give_way(place):
                    raise
                return link(publication, place)

        with disk("save", name, but=FileExistsError):
            return self._give(staged, name, give)

    def replace(self, staged: Staged, name: str, *, keep: bool = True) -> Publication:
        """Give a sealed file a name that may be taken. The caller holds the lock of the name.

        What was there is kept until it is forgotten, so that it can be put back, and the file stays staged. Without
        ``keep`` neither is true, and a symbolic link is replaced too. Raises NameRejected if the name is a folder that
        holds a file, or below a file.
        """

        def give(publication: Publication, place: Place) -> Publication:
            if _is_folder(place) and (self._folders.is_linked(name) or not give_way(place)):
                raise NameRejected(name, "is a folder in MEDIA_ROOT")
            return (replace if keep else put)(publication, place)

        with disk("save", name):
            return self._give(staged, name, give)

    def make_durable(self, publication: Publication) -> None:
        """Return when the new name survives a power cut. If this raises, the caller takes the name back."""
        if publication.folder is not None:
            with disk("save", publication.name), publication.folder as folder:
                os.fsync(folder.fd)

    def is_published(self, publication: Publication) -> bool:
        """True while the name still is that very file. The caller holds the lock of the name."""
        with disk("read", publication.name):
            try:
                return os.path.samestat(self._status(publication.name), publication.status)
            except OSError as error:
                if error.errno in NO_NAME:
                    return False
                raise

    def keeps_previous(self, publication: Publication) -> bool:
        """True if a publication that is taken back leaves the version that it replaced."""
        return publication.previous is not None and os.path.exists(publication.previous)

    def take_back(self, publication: Publication) -> bool:
        """Undo a publication if the name still is that very file; return False if somebody replaced it since.

        The caller holds the lock of the name.
        """
        if not self.is_published(publication):
            with disk("withdraw", publication.name):
                self._drop_from_those_who_replaced(publication)
            return False
        with disk("withdraw", publication.name):
            with self._folders.place(publication.name) as place:
                if publication.previous is not None and self.keeps_previous(publication):
                    os.replace(publication.previous, place.last, dst_dir_fd=place.fd)
                else:
                    os.unlink(place.last, dir_fd=place.fd)
            self._folders.sync_removal(publication.name)
        return True

    def _drop_from_those_who_replaced(self, publication: Publication) -> None:
        """Give those who replaced this version what came before it: else they may put this one back."""
        for kept in self._aside(f"*{KEPT}"):
            if kept != publication.previous and _is_that_file(kept, publication.status):
                if publication.previous is not None and self.keeps_previous(publication):
                    os.replace(publication.previous, kept)
                else:
                    unlink(kept)

    def forget(self, publication: Publication) -> None:
        """Drop the version that a publication replaced and kept. Safe to repeat."""
        if publication.previous is not None:
            unlink(publication.previous)

    # Removing

    def check_no_folder(self, name: str) -> None:
        """Raise NameRejected if the name is a folder: a replica of it could be a whole tree.

        Raises MediaRootError if a folder of the name is a symbolic link.
        """
        absent = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with disk("delete", name), absent, self._folders.place(name) as place:
            _check_no_folder(place, name)

    def remove(self, name: str) -> bool:
        """Remove a name, durably; return False if there was none. The caller holds the lock of the name.

        A symbolic link is removed, and not what it leads to. Raises what ``check_no_folder`` raises.
        """
        with disk("delete", name):
            try:
                with self._folders.place(name) as place:
                    _check_no_folder(place, name)
                    os.unlink(place.last, dir_fd=place.fd)
            except (FileNotFoundError, NotADirectoryError):
                return False
            self._folders.sync_removal(name)
        return True

    def drop(self, name: str) -> None:
        """Remove a name, if it is there, and the folders above it that are empty then, up to the root.

        The caller holds the lock of the name. Whoever publishes in such a folder meanwhile makes it again.
        """
        with contextlib.suppress(NameRejected):
            self.remove(name)
        folder = os.path.dirname(name)
        while folder:
            try:
                with self._folders.place(folder) as place:
                    os.rmdir(place.last, dir_fd=place.fd)
            except FileNotFoundError:
                pass  # another process pruned it, and may have been killed before it came to the one above
            except OSError:
                return  # not empty, or none that we may remove
            folder = os.path.dirname(folder)

    # Folders

    def make_folder(self, name: str) -> None:
        """Make one folder, durably. Raises FileExistsError, and FileNotFoundError or NotADirectoryError above it."""
        with disk("make", name, but=(FileExistsError, FileNotFoundError, NotADirectoryError)):
            with self._folders.place(name) as place:
                os.mkdir(place.last, self._modes.folder, dir_fd=place.fd)
                place.enter(place.last)
                self._modes.give_folder(place.fd)
            self._folders.sync(name)

    def remove_folder(self, name: str) -> None:
        """Remove one folder that is empty, durably. Raises FileNotFoundError, and MediaRootError if it is not."""
        with disk("delete", name, but=FileNotFoundError):
            with self._folders.place(name) as place:
                os.rmdir(place.last, dir_fd=place.fd)
            self._folders.sync_removal(name)

    @contextlib.contextmanager
    def lock(self, name: str, wait: bool = True) -> Iterator[bool]:
        """Hold a name against every other thread and process that would write it. Yields True when it is held.

        Without ``wait`` it yields False, at once, if somebody else holds it. A process that is forked meanwhile does
        not hold it.
        """
        lock = name_lock(self._own, name)
        try:
            try:
                with disk("lock", name):
                    held = lock.acquire(wait)
            except MediaRootError as error:
                if error.errno == errno.ENOENT:
                    self.check_here()
                raise
            yield held
        finally:
            lock.release()

    def _staging_of(self, name: str) -> Staging:
        """Return the staging on the disk of a name, whose folder is made if it is missing. Raises MediaRootError."""
        if not self._elsewhere:
            return self._staging
        above = [each for each in self._elsewhere if name == each or name.startswith(f"{each}/")]
        if not above:
            return self._staging
        staging = self._elsewhere[above[-1]]
        with disk("save", name):
            self._folders.folder(above[-1], make=True).close()
            make_hidden(os.path.dirname(staging.path))
        return staging

    def _aside(self, pattern: str) -> Iterator[str]:
        """Yield the paths of files in the rooms of all processes whose names fit."""
        rooms = (os.path.join(glob.escape(each.path), "*", pattern) for each in self._stagings())
        return itertools.chain.from_iterable(map(glob.iglob, rooms))

    def _stagings(self) -> list[Staging]:
        return [self._staging, *self._elsewhere.values()]

    def _give(self, staged: Staged, name: str, act: Callable[[Publication, Place], Publication]) -> Publication:
        """Have ``act`` give a file its name in the open folder of it, which is made if it is missing.

        It is done again if another process prunes the folder between the two, and if the file is moved to that disk.
        """
        left, moved = FOLDERS_MADE, False
        while True:
            try:
                with self._folders.place(name, make=True) as place:
                    folder = place.listed() if self._fsync else None
                    return act(Publication(name, staged, os.stat(staged.path), folder=folder), place)
            except FileNotFoundError:  # noqa: PERF203 - what failed is tried again
                left -= 1
                if not left:
                    raise
            except NotADirectoryError:
                raise NameRejected(name, BELOW_A_FILE) from None
            except OSError as error:
                if error.errno != errno.EXDEV or moved or not self._elsewhere:
                    raise
                staged.move(self._staging_of(name).create)
                moved = True


def _is_folder(place: Place) -> bool:
    """True if the name is a folder, or a symbolic link to one: on a host that one may be a whole tree."""
    kind = place.kind()
    if kind == stat.S_IFLNK:
        with contextlib.suppress(OSError):
            return stat.S_ISDIR(os.stat(place.last, dir_fd=place.fd).st_mode)
    return kind == stat.S_IFDIR


def _check_no_folder(place: Place, name: str) -> None:
    if _is_folder(place):
        raise NameRejected(name, "is a folder in MEDIA_ROOT; only files are deleted")


def _is_that_file(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), status)
    except (FileNotFoundError, NotADirectoryError):
        return False
