"""Which media root this is: a random id in ``.resto/id``, which everybody who starts there makes or reads.

It tells a media root from the empty folder that is seen where its disk is not mounted, and from another media root.
It is written aside, in a room of staging, and gets its name by a hard link. So if several processes start for the
first time together, one of them gives the id and all read it, and a crash leaves it whole or not there. What follows
from a wrong id is not decided here. The media root calls this.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets

from ..errors import ROOT_ID, MediaRootError
from .disk import disk
from .staging import Staging

__all__ = ["identity_of", "identity_state", "read_identity"]

FORM = re.compile(rb"[0-9a-f]{32}\n?")  # 128 random bits; editors like a line to end


def identity_of(own: str, staging: str) -> str:
    """Return the id kept in the folder ``own``, which is made if there is none. Raises MediaRootError."""
    found = read_identity(own)
    if found is None:
        _make(own, staging)
        found = read_identity(own)
    if found is None:
        raise MediaRootError("make", ROOT_ID, OSError(errno.ENOENT, "something removes it as soon as it is made"))
    return found


def read_identity(own: str) -> str | None:
    """Return the id kept in ``own``; None if there is none. Raises MediaRootError if it is not an id."""
    try:
        with disk("read", ROOT_ID, but=FileNotFoundError), open(os.path.join(own, "id"), "rb") as file:
            content = file.read(100)
    except FileNotFoundError:
        return None
    if not FORM.fullmatch(content):
        problem = "it holds no id; restore it from a backup, or remove it and a new one is made at the next start"
        raise MediaRootError("use", ROOT_ID, OSError(errno.EINVAL, problem))
    return content.decode().strip()


def identity_state(own: str) -> tuple[int, int, int, int] | None:
    """Return what changes with the file of the id, without reading it; None if there is none to be seen."""
    try:
        status = os.stat(os.path.join(own, "id"))
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _make(own: str, staging: str) -> None:
    """Give the media root an id, durably, unless another process was first."""
    with disk("make", ROOT_ID), contextlib.closing(Staging(staging, fsync=True)) as rooms:
        staged = rooms.stage()
        staged.write(f"{secrets.token_hex(16)}\n".encode())
        os.chmod(staged.path, 0o600)
        staged.seal()
        with contextlib.suppress(FileExistsError):
            os.link(staged.path, os.path.join(own, "id"))
