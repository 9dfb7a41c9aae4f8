"""Every name under a media root, folder by folder, while others write there.

One open folder for each level of the path is all the memory it takes, whatever the tree holds. Shown is what
``listdir`` shows folder by folder: nothing hidden, and symbolic links are followed, to folders only inside the root
and not back to where the walk came from. What ``names.check`` would refuse is no name and is left out.
The media root calls this.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from .. import names
from ..errors import MediaRootError, NameRejected

__all__ = ["walk"]

GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})  # removed, or replaced, since its entry was read


@dataclass(frozen=True)
class _Folder:
    """A folder that is being read: ``path`` as the walk came to it, ``real`` with no symbolic link in it."""

    name: str
    path: str
    real: str
    entries: os._ScandirIterator[str]


def walk(root: str, longest: int = names.MAX_NAME) -> Iterator[str]:
    """Yield each name under ``root`` once, in the order of the disk; what changes meanwhile is seen or not.

    ``longest`` is how many bytes of UTF-8 a name may have.

    Raises MediaRootError where the root is not there, or where a folder cannot be read.
    """
    stack = [_open("", root, os.path.realpath(root))]
    try:
        while stack:
            entry = _next(stack[-1])
            if entry is None:
                stack.pop().entries.close()
                continue
            name = f"{stack[-1].name}/{entry.name}".lstrip("/")
            if not _is_name(name, longest):
                continue
            kind = _kind(entry)
            if kind == "file":
                yield name
            elif kind == "folder":
                _descend(stack, entry, name)
    finally:
        for folder in stack:
            folder.entries.close()


def _open(name: str, path: str, real: str) -> _Folder:
    try:
        return _Folder(name, path, real, os.scandir(path))
    except OSError as error:
        raise MediaRootError("list", name or ".", error) from error


def _next(folder: _Folder) -> os.DirEntry[str] | None:
    try:
        return next(folder.entries, None)
    except OSError as error:
        raise MediaRootError("list", folder.name or ".", error) from error


def _is_name(name: str, longest: int) -> bool:
    try:
        return names.check(name, longest) == name  # one that is not in NFC cannot be opened by its name
    except NameRejected:
        return False


def _kind(entry: os.DirEntry[str]) -> str:
    with contextlib.suppress(OSError):  # a symbolic link to itself is neither
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    return ""


def _descend(stack: list[_Folder], entry: os.DirEntry[str], name: str) -> None:
    """Begin to read a folder, unless it is gone or a symbolic link that must not be followed."""
    real = os.path.join(stack[-1].real, entry.name)
    if entry.is_symlink():
        real = os.path.realpath(entry.path)
        if not _is_below(stack[0].real, real) or any(folder.real == real for folder in stack):
            return
    try:
        stack.append(_open(name, entry.path, real))
    except MediaRootError as error:
        if error.errno not in GONE:
            raise


def _is_below(root: str, path: str) -> bool:
    """True where ``path`` is in the root, and not in what is hidden there."""
    inside = os.path.relpath(path, root)
    return not any(part.startswith(".") for part in inside.split(os.sep))
