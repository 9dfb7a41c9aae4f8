"""``.resto``: the folder for all that is ours and nobody else's, which no web server shows and only its owner enters.

It lies at the top of a media root, and of a folder on another disk that the site declares. This module makes the
folder and shuts others out, and knows nothing of what is in it. That belongs to those who put it there: staging, the
locks of the names, the id, the outbox, a node's generations. They call this.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from ..errors import MediaRootError
from .disk import disk

__all__ = ["HIDDEN", "make_hidden", "make_private"]

HIDDEN = ".resto"


def make_hidden(path: str) -> None:
    """Make ``.resto``, or a folder in it, if it is missing, for its owner alone. Raises OSError.

    What it lies in has to be there: an empty folder in the place of a disk that is away must not be filled.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)


def make_private(own: str) -> None:
    """Shut group and others out of a folder of ours that somebody made or left open to them. Raises MediaRootError."""
    with disk("look at", HIDDEN):
        mode = stat.S_IMODE(os.stat(own).st_mode)
        if not mode & 0o077:
            return
        with contextlib.suppress(OSError):
            os.chmod(own, mode & ~0o077)
        mode = stat.S_IMODE(os.stat(own).st_mode)  # some file systems take a chmod and do nothing
    if mode & 0o077:
        problem = f"others may enter it and it cannot be changed from here; run chmod 700 {own} as its owner"
        raise MediaRootError("use", HIDDEN, OSError(errno.EACCES, problem))
