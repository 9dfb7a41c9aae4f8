"""What a folder of the media root shows: its files and folders, and nothing hidden, linked or special.

What is shown can be opened by that name, so what ``names.check`` would refuse or change is not shown. A folder may hold
a million entries. So they are looked at one after the other, and only those that are wanted are kept. A link is a
folder if the site has declared it as one, and else nothing. ``files`` and ``walk`` call this.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import stat
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from .. import names
from ..errors import NameRejected
from .folders import Folders, text

__all__ = ["FILE", "FOLDER", "LINK", "Entry", "is_name", "kind_of", "listdir", "page"]

FILE, FOLDER, LINK, OTHER = "file", "folder", "link", "other"

Raw = os.DirEntry[str]


@dataclass(frozen=True)
class Entry:
    """What a folder holds under ``name``: a file, or a folder, of which ``size`` is None. ``mtime`` is in seconds."""

    name: str
    folder: bool
    size: int | None
    mtime: int


def is_name(name: str, longest: int) -> bool:
    """Return True if a file can be opened by this name, which may have ``longest`` bytes of UTF-8."""
    try:
        return names.check(name, longest) == name  # one that is not in NFC cannot be opened by its name
    except NameRejected:
        return False


def kind_of(entry: Raw, folders: Folders, name: str) -> str:
    """Return what an entry is, which has that name in the media root: FILE, FOLDER, LINK or OTHER."""
    with contextlib.suppress(OSError):
        if entry.is_file(follow_symlinks=False):
            return FILE
        if entry.is_dir(follow_symlinks=False):
            return FOLDER
        if entry.is_symlink():
            return FOLDER if folders.is_linked(name) else LINK  # also if its disk is away, which who enters it is told
    return OTHER


def listdir(folders: Folders, folder: str, longest: int = names.MAX_NAME) -> tuple[list[str], list[str]]:
    """Return the sorted names of the folders and of the files in ``folder`` ("" is the root). Raises OSError."""
    found: dict[str, list[str]] = {FOLDER: [], FILE: []}
    with folders.folder(folder) as place, place.listed() as listed, os.scandir(listed.fd) as entries:
        for name, kind, _ in _shown(entries, folders, folder, longest):
            found[kind].append(name)
    return sorted(found[FOLDER]), sorted(found[FILE])


def page(
    folders: Folders, folder: str, after: str, limit: int, without: Container[str], longest: int = names.MAX_NAME
) -> list[Entry]:
    """Return at most ``limit`` entries of a folder whose names come after ``after``, sorted. Raises OSError.

    Those named in ``without`` are left out. Memory grows with ``limit`` alone, not with the entries.
    """
    with folders.folder(folder) as place, place.listed() as listed, os.scandir(listed.fd) as entries:
        shown = _shown(entries, folders, folder, longest)
        later = (each for each in shown if each[0] > after and each[0] not in without)
        chosen = heapq.nsmallest(limit, later, key=lambda each: each[0])
        return [entry for each in chosen if (entry := _entry(*each))]


def _shown(entries: Iterable[Raw], folders: Folders, folder: str, longest: int) -> Iterator[tuple[str, str, Raw]]:
    """Yield the name, the kind and the entry itself of all files and folders that are to be seen in a folder."""
    for entry in entries:
        name = text(entry.name)
        whole = f"{folder}/{name}" if folder else name
        if is_name(whole, longest) and (kind := kind_of(entry, folders, whole)) in (FILE, FOLDER):
            yield name, kind, entry


def _entry(name: str, kind: str, entry: Raw) -> Entry | None:
    """Look at what an entry is now, while its folder is open; return None if it is gone."""
    with contextlib.suppress(OSError):
        status = entry.stat(follow_symlinks=kind == FOLDER)
        if stat.S_ISREG(status.st_mode):
            return Entry(name, False, status.st_size, int(status.st_mtime))
        if stat.S_ISDIR(status.st_mode):
            return Entry(name, True, None, int(status.st_mtime))
    return None
