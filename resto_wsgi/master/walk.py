"""Every name under a media root, folder by folder, while others write there.

It needs no more than two descriptors for each level of the path, whatever the tree holds. No symbolic link is followed,
except folders that the site has declared. What is no name, or no file, is passed over and told; so is a folder that
cannot be listed, and the rest is walked. So nobody may conclude from a walk that a name is not there. ``files`` calls
this.
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
from .hidden import HIDDEN
from .listing import FILE, FOLDER, LINK, is_name, kind_of

__all__ = ["GONE", "LINKS", "SPECIAL", "UNLISTED", "Skipped", "Tally", "walk"]

LINKS = "symbolic links"
UNLISTED = "folders that cannot be listed"
SPECIAL = "sockets, pipes or devices"
NO_NAME = "names of which each {}"
DECOMPOSED = "is in decomposed Unicode (NFD), as some systems write accents"
FEW = 10  # names that a tally keeps of each kind
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})  # removed, or replaced, since its entry was read
OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})  # this process's lack, which would pass over every folder


@dataclass(frozen=True)
class Skipped:
    """What a walk has passed over: ``name`` is as it is on the disk, ``kind`` says what it is, in the plural."""

    name: str
    kind: str


class Tally:
    """How much a walk has passed over, by kind, with the names of a few: as many as a line of the log takes.

    ``unlisted`` has all folders that could not be listed: what is in them is to be found later.
    """

    def __init__(self) -> None:
        self.unlisted: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._few: dict[str, list[str]] = {}

    def add(self, skipped: Skipped) -> None:
        """Count one."""
        self._counts[skipped.kind] += 1
        few = self._few.setdefault(skipped.kind, [])
        if len(few) < FEW:
            few.append(skipped.name)
        if skipped.kind == UNLISTED:
            self.unlisted.add(skipped.name)

    @property
    def kinds(self) -> list[str]:
        """The kinds that there are, the first that was met first."""
        return list(self._counts)

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each kind."""
        return dict(self._counts)

    def text(self, kind: str) -> str:
        """Return how many of a kind there are, and the names of a few."""
        named = ", ".join(map(shown, self._few[kind])) + (", ..." if self._counts[kind] > FEW else "")
        return f"{self._counts[kind]} {kind} ({named})"

    def __str__(self) -> str:
        return "; ".join(map(self.text, self.kinds))


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
    folder: str = "",
    skipped: Callable[[Skipped], None] = lambda skipped: None,
) -> Iterator[str]:
    """Yield each name in ``folder`` ("" is the root) once, in the order of the disk. What changes may be seen or not.

    ``longest`` is how many bytes of UTF-8 a name may have, ``without`` what is left out at the top of the root.
    ``skipped`` is told of all else: each symbolic link that is not followed, each folder below that cannot be listed,
    and what is no name.
    Raises MediaRootError if ``folder`` itself cannot be, or if this process has no descriptor left.
    """
    stack = [_begin(folders, folder)]
    try:
        while stack:
            entry = _next(stack, skipped)
            if entry is None:
                stack.pop().close()
                continue
            here = stack[-1].name
            name = f"{here}/{text(entry.name)}" if here else text(entry.name)
            if name in without or entry.name == HIDDEN:
                continue
            if not is_name(name, longest):
                skipped(Skipped(name, _fault(name, longest)))
                continue
            kind = kind_of(entry, folders, name)
            if kind == FILE:
                yield name
            elif kind == FOLDER:
                _descend(stack, folders, name, skipped)
            else:
                skipped(Skipped(name, LINKS if kind == LINK else SPECIAL))
    finally:
        for level in stack:
            level.close()


def _fault(name: str, longest: int) -> str:
    """Return the kind of what is no name."""
    try:
        names.check(name, longest)
    except NameRejected as error:
        reason = error.reason.partition(",")[0]  # which goes on with the character
        return NO_NAME.format("is not UTF-8" if not _is_utf8(name) else reason)
    return NO_NAME.format(DECOMPOSED)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _begin(folders: Folders, folder: str) -> _Level:
    try:
        with folders.folder(folder) as place:
            return _level(folder, place.listed())
    except OSError as error:
        raise MediaRootError("list", folder or ".", error) from error


def _level(name: str, place: Place) -> _Level:
    try:
        return _Level(name, place, os.scandir(place.fd))
    except BaseException:
        place.close()
        raise


def _next(stack: list[_Level], skipped: Callable[[Skipped], None]) -> os.DirEntry[str] | None:
    """Return the next entry of the innermost folder; None at its end, or if the rest of it cannot be read."""
    level = stack[-1]
    try:
        return next(level.entries, None)
    except OSError as error:
        if len(stack) == 1:
            raise MediaRootError("list", level.name or ".", error) from error
        _pass_over(level.name, error, skipped)
        return None


def _descend(stack: list[_Level], folders: Folders, name: str, skipped: Callable[[Skipped], None]) -> None:
    """Begin to read a folder, unless it is gone or cannot be listed."""
    try:
        stack.append(_level(name, folders.inner(stack[-1].place, name)))
    except OSError as error:
        _pass_over(name, error, skipped)


def _pass_over(name: str, error: OSError, skipped: Callable[[Skipped], None]) -> None:
    if error.errno in OURS:
        raise MediaRootError("list", name, error) from error
    if error.errno not in GONE:
        skipped(Skipped(name, UNLISTED))
