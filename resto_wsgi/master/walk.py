"""Every name under a media root, folder by folder, while others write there.

It needs no more than two descriptors for each level of the path, whatever the tree holds. It shows what ``listing``
shows folder by folder: nothing hidden or special. No symbolic link is followed, except folders that the site has
declared. What ``names.check`` would refuse is no name and is left out. ``files`` calls this.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass

from .. import names
from ..errors import MediaRootError, NameRejected, shown
from .folders import Folders, Place, text
from .listing import FILE, FOLDER, LINK, kind_of

__all__ = ["LINKS", "Skipped", "Tally", "walk"]

LINKS = "symbolic links"
FEW = 10  # names that a tally keeps of each kind
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})  # removed, or replaced, since its entry was read


@dataclass(frozen=True)
class Skipped:
    """What a walk has passed over: ``name`` is as it is on the disk, ``kind`` says what it is, in the plural."""

    name: str
    kind: str


class Tally:
    """How much a walk has passed over, by kind, with the names of a few: as many as a line of the log takes."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._few: dict[str, list[str]] = {}

    def add(self, skipped: Skipped) -> None:
        """Count one."""
        self._counts[skipped.kind] += 1
        few = self._few.setdefault(skipped.kind, [])
        if len(few) < FEW:
            few.append(skipped.name)

    def __str__(self) -> str:
        return "; ".join(f"{count} {kind} ({self._named(kind, count)})" for kind, count in self._counts.items())

    def _named(self, kind: str, count: int) -> str:
        return ", ".join(map(shown, self._few[kind])) + (", ..." if count > FEW else "")


@dataclass(frozen=True)
class _Level:
    """A folder that is being read; ``name`` is "" for the root."""

    name: str
    place: Place
    entries: os._ScandirIterator[str]

    def close(self) -> None:
        self.entries.close()
        self.place.close()


def walk(
    folders: Folders,
    *,
    longest: int = names.MAX_NAME,
    without: Container[str] = (),
    skipped: Callable[[Skipped], None] = lambda skipped: None,
) -> Iterator[str]:
    """Yield each name under the root once, in the order of the disk. What changes meanwhile may be seen or not.

    ``longest`` is how many bytes of UTF-8 a name may have, ``without`` what is left out at the top of the root.
    ``skipped`` is told of each symbolic link that is not followed. Raises MediaRootError if the root is not there,
    or if a folder cannot be read.
    """
    stack = [_begin(folders)]
    try:
        while stack:
            entry = _next(stack[-1])
            if entry is None:
                stack.pop().close()
                continue
            here = stack[-1].name
            name = f"{here}/{text(entry.name)}" if here else text(entry.name)
            if not _is_name(name, longest) or name in without:
                continue
            kind = kind_of(entry, folders, name)
            if kind == FILE:
                yield name
            elif kind == FOLDER:
                _descend(stack, folders, name)
            elif kind == LINK:
                skipped(Skipped(name, LINKS))
    finally:
        for level in stack:
            level.close()


def _begin(folders: Folders) -> _Level:
    try:
        with folders.folder("") as root:
            return _level("", root.listed())
    except OSError as error:
        raise MediaRootError("list", ".", error) from error


def _level(name: str, place: Place) -> _Level:
    try:
        return _Level(name, place, os.scandir(place.fd))
    except BaseException:
        place.close()
        raise


def _next(level: _Level) -> os.DirEntry[str] | None:
    try:
        return next(level.entries, None)
    except OSError as error:
        raise MediaRootError("list", level.name or ".", error) from error


def _is_name(name: str, longest: int) -> bool:
    try:
        return names.check(name, longest) == name  # one that is not in NFC cannot be opened by its name
    except NameRejected:
        return False


def _descend(stack: list[_Level], folders: Folders, name: str) -> None:
    """Begin to read a folder, unless it is gone."""
    try:
        stack.append(_level(name, folders.inner(stack[-1].place, name)))
    except OSError as error:
        if error.errno not in GONE:
            raise MediaRootError("list", name, error) from error
