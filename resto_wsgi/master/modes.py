"""Who may read what is stored: the modes of files and folders, which a process's umask does not change.

A web server of another user has to read them, also if the application runs with umask 077. What is made gets that mode
at once. What is there already is left as it is. A folder below a setgid folder stays one, so that a group
keeps what it was given. Staging, and all else below ``.resto``, is for its owner alone, whatever is said here.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

__all__ = ["READABLE", "Modes"]


class Modes(NamedTuple):
    """``file`` and ``folder`` as chmod takes them; the defaults are those of Django and of most web servers."""

    file: int = 0o644
    folder: int = 0o755

    def open_file(self, path: str, flags: int) -> int:
        """Make a file and return its descriptor, as an opener of ``open`` does."""
        fd = os.open(path, flags, self.file)
        try:
            os.fchmod(fd, self.file)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def make_root(self, path: str) -> None:
        """Make the folder of a media root, and those above it, if it is missing."""
        if os.path.isdir(path):
            return
        os.makedirs(path, self.folder, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.give_folder(fd)
        finally:
            os.close(fd)

    def give_folder(self, fd: int) -> None:
        """Give a folder that was just made its mode."""
        made = stat.S_IMODE(os.fstat(fd).st_mode)
        wanted = self.folder | (made & stat.S_ISGID)
        if made != wanted:
            os.chmod(".", wanted, dir_fd=fd)  # fchmod takes no descriptor that was opened with O_PATH


READABLE = Modes()
