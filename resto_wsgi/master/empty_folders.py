"""Empty folders that are in the way of a file: what is left of names that were deleted gives way to a new one.

Only empty folders are removed, one by one, each by ``rmdir``, which fails if anything is in it. So a file that is saved
there meanwhile stays. Another disk that is mounted below stays as well. The media root calls this if a name is taken.
"""

from __future__ import annotations

import contextlib
import os

from .folders import FOLDER, LISTED, Place

__all__ = ["give_way"]

DEPTH_MAX = 100  # folders in one another: far more than names have, and far less than Python nests


def give_way(place: Place) -> bool:
    """Remove the folder that has the name, and those in it, if they hold no file; return whether it is gone.

    Those that were empty are gone even if another one was not. Raises nothing: what cannot be removed stays.
    """
    with contextlib.suppress(OSError):
        return _remove(place.fd, place.last, os.fstat(place.fd).st_dev, DEPTH_MAX)
    return False


def _remove(above: int, name: bytes | str, device: int, depth: int) -> bool:
    with Place(name if isinstance(name, str) else os.fsdecode(name), b"", above, FOLDER & ~os.O_PATH | LISTED) as here:
        if os.fstat(here.fd).st_dev != device or not depth:
            return False
        with os.scandir(here.fd) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False) or not _remove(here.fd, entry.name, device, depth - 1):
                    return False
    os.rmdir(name, dir_fd=above)
    return True
