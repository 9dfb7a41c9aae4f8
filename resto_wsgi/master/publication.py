"""How a staged file gets its name in an open folder: the three ways, and what each leaves if it is cut off.

    link       the name, if it was free; the staged file has it and stays     the name, or not
    replace    the name; the old version lies beside the staged file, which   the old version, or the new one
               stays, with a later second if size and second were the same
    put        the name; the staged file is gone, and so is the old version   the old version, or the new one

Each is one link or rename, so that no reader sees anything in between. The caller holds the lock of the name, makes
sure that it is no folder, and makes it durable; nothing of that is done here. The media root calls this.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import stat
from dataclasses import dataclass
from io import FileIO

from .disk import unlink
from .folders import NO_FOLLOWING, Place
from .staged import KEPT, Staged
from .state import State

__all__ = ["Publication", "link", "put", "replace"]


@dataclass(frozen=True)
class Publication:
    """One name given to one staged file, which ``status`` identifies; ``previous`` is the path of what it replaced.

    ``folder`` is open until the name is durable.
    """

    name: str
    staged: Staged
    status: os.stat_result
    previous: str | None = None
    folder: Place | None = None


def link(publication: Publication, place: Place) -> Publication:
    """Give a sealed file a name that is free. Raises OSError, FileExistsError if it is not."""
    os.link(publication.staged.path, place.last, dst_dir_fd=place.fd)
    return publication


def put(publication: Publication, place: Place) -> Publication:
    """Give a sealed file a name, for good. Raises OSError."""
    os.replace(publication.staged.path, place.last, dst_dir_fd=place.fd)
    publication.staged.give_away()
    return publication


def replace(publication: Publication, place: Place) -> Publication:
    """Give a sealed file a name, and keep what was there beside it. Raises OSError, ELOOP if that is a link."""
    staged = publication.staged
    kept, waiting = f"{staged.path}{KEPT}", f"{staged.path}.next"
    staged.keeps = True
    try:
        previous = kept if _keep(place, kept) else None
        if previous:
            _tell_apart(staged, State.of(os.stat(kept)), State.of(publication.status))
        # The rename uses up a second link, so that the staged file keeps its own name.
        os.link(staged.path, waiting)
        os.replace(waiting, place.last, dst_dir_fd=place.fd)
    except BaseException:
        unlink(waiting)
        unlink(kept)
        raise
    return dataclasses.replace(publication, previous=previous)


def _tell_apart(staged: Staged, old: State, new: State) -> None:
    """Move the new version's mtime on if HTTP could not tell it from the old one."""
    if (mtime_ns := old.mtime_of_next(new)) != new.mtime_ns:
        staged.move_mtime(mtime_ns)


def _keep(place: Place, kept: str) -> bool:
    """Keep what has the name under another one; return whether there was something."""
    kind = place.kind()
    if kind == stat.S_IFLNK:
        raise OSError(errno.ELOOP, f"it {NO_FOLLOWING}")  # it is no version, and could not be put back as one
    if not kind:
        return False
    try:
        os.link(place.last, kept, src_dir_fd=place.fd, follow_symlinks=False)
    except PermissionError:  # a file of another user, which Linux does not let us link (protected_hardlinks)
        with FileIO(kept, opener=place.open) as source, open(kept, "xb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            status = os.fstat(source.fileno())
            os.fchmod(target.fileno(), stat.S_IMODE(status.st_mode))
            os.utime(target.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
    return True
