"""The folders below a media root, opened one after the other from the root, so that no symbolic link is followed.

    met on the way to a name    a reader gets        a writer gets
    a folder                    (goes on)            (goes on)
    nothing                     FileNotFoundError    (it is made, durably)
    a file, or the like         NotADirectoryError   NotADirectoryError
    a symbolic link             OSError, ELOOP       OSError, ELOOP

The root itself may be a link, and so may folders that the site has declared: they are folders like others. What a name
leads to is found anew each time, and nothing stays open: at any moment a disk may be unmounted, and another one
mounted. Names are bytes of UTF-8 on the disk, whatever the locale. ``files`` and ``media_root`` call this.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterable, Sequence

from ..errors import shown
from .modes import READABLE, Modes

__all__ = ["UTF8", "Folders", "Place", "native", "text"]

# O_PATH: the folder is only a place to begin from, which costs a third of opening it, and needs no right to list it.
ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
FOLDER = ROOT | os.O_NOFOLLOW
LISTED = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
READ = os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO would block the open

NO_FOLLOWING = "is a symbolic link, which is not followed"
UTF8 = sys.getfilesystemencoding() == "utf-8"  # of this locale: then a text is what is on the disk


class Place:
    """An open folder, and the ``last`` part of the name that is looked for in it.

    The block that it is opened for closes it. It closes itself if an interruption has lost it.
    """

    fd = -1  # until __init__ has run

    def __init__(self, path: str | bytes, last: bytes, dir_fd: int | None = None, flags: int = ROOT) -> None:
        self.last = last
        self.fd = os.open(path, flags, dir_fd=dir_fd)

    def enter(self, part: bytes, flags: int = FOLDER) -> None:
        """Go on to a folder in this one, and close this one. Raises OSError, and then stays where it is."""
        # In one line, as in ``close``: an interruption between the two would leave one open, or close one twice.
        self.fd, _ = os.open(part, flags, dir_fd=self.fd), os.close(self.fd)  # type: ignore[func-returns-value]

    def make(self, part: bytes, mode: int) -> bool:
        """Make a folder in this one; False if it is there. Raises OSError."""
        try:
            os.mkdir(part, mode, dir_fd=self.fd)
        except FileExistsError:
            return False
        return True

    def status(self) -> os.stat_result:
        """Return the status of what has the name, a link included. Raises OSError."""
        return os.stat(self.last, dir_fd=self.fd, follow_symlinks=False)

    def kind(self) -> int:
        """Return the type of what has the name, as ``stat.S_IFMT`` does; 0 if there is nothing. Raises OSError."""
        try:
            return stat.S_IFMT(self.status().st_mode)
        except FileNotFoundError:
            return 0

    def open(self, path: object, flags: int) -> int:
        """Open what has the name, as an ``opener`` of ``FileIO``. Raises OSError, ELOOP if it is a link."""
        try:
            return os.open(self.last, flags | READ, dir_fd=self.fd)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OSError(errno.ELOOP, f"it {NO_FOLLOWING}") from None
            raise

    def listed(self) -> Place:
        """Return the folder itself, open to be listed or made durable."""
        return Place(".", self.last, self.fd, LISTED)

    def sync(self) -> None:
        """Make the entries of the folder durable."""
        with self.listed() as folder:
            os.fsync(folder.fd)

    def close(self) -> None:
        """Close the folder. Safe to repeat."""
        if self.fd >= 0:
            self.fd = os.close(self.fd) or -1  # type: ignore[func-returns-value]

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class Folders:
    """The folders below ``root``; those in ``linked`` may be links. ``fsync``: what is made and synced is durable."""

    def __init__(self, root: str, linked: Iterable[str] = (), *, fsync: bool, modes: Modes = READABLE) -> None:
        self.root = root
        self._top = os.fsencode(root) + b"/"
        self._linked = frozenset(each.encode() for each in linked)
        self._fsync = fsync
        self._modes = modes

    def place(self, name: str, *, make: bool = False) -> Place:
        """Return the open folder of a name, which is made if it is missing and ``make`` says so. Raises OSError."""
        *parts, last = name.encode().split(b"/")
        if not self._linked:  # most names need no more than this
            # An error is met again below, where missing folders are made, and where it is told what is in the way.
            with contextlib.suppress(OSError):
                return self._straight(parts, last)
        place = Place(self.root, last)
        try:
            for depth in range(len(parts)):
                self._go_on(place, parts, depth, make=make)
        except BaseException:
            place.close()
            raise
        return place

    def folder(self, name: str, *, make: bool = False) -> Place:
        """Return a folder, open; "" is the root. Raises OSError."""
        return self.place(f"{name}/" if name else "", make=make)

    def inner(self, place: Place, name: str) -> Place:
        """Return the folder ``name``, open to be listed, which lies in the open ``place``. Raises OSError."""
        parts = name.encode().split(b"/")
        with Place(".", b"", place.fd) as inner:
            self._go_on(inner, parts, len(parts) - 1, make=False)
            return inner.listed()

    def sync(self, name: str) -> None:
        """Make durable what ``name`` is. Raises OSError."""
        if self._fsync:
            with self.place(name) as place:
                place.sync()

    def sync_removal(self, name: str) -> None:
        """Make durable that a name is gone. If its folder was removed since, that one's own removal counts."""
        if not self._fsync:
            return
        folder = name.rpartition("/")[0]
        while folder:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), self.folder(folder) as place:
                place.sync()
                return
            folder = folder.rpartition("/")[0]
        with self.folder("") as place:
            place.sync()

    def is_linked(self, name: str) -> bool:
        """True for a folder that the site has declared, whether it is a link or not."""
        return bool(self._linked) and name.encode() in self._linked

    def _straight(self, parts: Sequence[bytes], last: bytes) -> Place:
        """Go through folders that are there, in as few steps as can be. Raises OSError."""
        if not parts:
            return Place(self.root, last)
        place = Place(self._top + parts[0], last, flags=FOLDER)  # O_NOFOLLOW is about the last part of a path alone
        try:
            for part in parts[1:]:
                place.enter(part)
        except BaseException:
            place.close()
            raise
        return place

    def _go_on(self, place: Place, parts: Sequence[bytes], depth: int, *, make: bool) -> None:
        """Enter the folder at that depth of ``parts``, from the one that it lies in."""
        part, linked = parts[depth], b"/".join(parts[: depth + 1]) in self._linked
        flags = ROOT if linked else FOLDER
        try:
            place.enter(part, flags)
        except NotADirectoryError:
            raise _obstacle(place, part, linked=linked) from None
        except FileNotFoundError:
            # Not FileNotFoundError: the disk behind the link may be away, and its names must not look deleted.
            if linked and _is_link(place, part):
                raise _obstacle(place, part, linked=True) from None
            if not make:
                raise
        else:
            return
        made = place.make(part, self._modes.folder)
        if self._fsync:
            place.sync()  # also if another has just made it: he may be killed before he does this
        try:
            place.enter(part, flags)
        except NotADirectoryError:
            raise _obstacle(place, part, linked=linked) from None
        if made:
            self._modes.give_folder(place.fd)


def native(path: str) -> str:
    """Return a path as functions of ``os`` take it in this locale; what it cannot spell is UTF-8 on the disk."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return os.fsdecode(path.encode("utf-8", "surrogateescape"))
    return path


def text(name: str | bytes) -> str:
    """Return the text of a name on the disk, which is UTF-8; other bytes become lone surrogates (PEP 383)."""
    if isinstance(name, str):
        if UTF8:
            return name
        name = os.fsencode(name)
    return name.decode("utf-8", "surrogateescape")


def _obstacle(place: Place, part: bytes, *, linked: bool) -> OSError:
    """Return the error for something that is no folder, where a folder has to be."""
    folder = f"its folder {shown(text(part))}"
    if not _is_link(place, part):
        return NotADirectoryError(errno.ENOTDIR, f"{folder} is none")
    if linked:  # not "missing": else its names would be taken for deleted ones
        return OSError(errno.ENODEV, f"{folder} is a symbolic link that leads to no folder")
    return OSError(errno.ELOOP, f"{folder} {NO_FOLLOWING}")


def _is_link(place: Place, part: bytes) -> bool:
    try:
        return stat.S_ISLNK(os.stat(part, dir_fd=place.fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
