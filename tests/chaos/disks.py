"""Disks that can be filled and taken away: a small tmpfs, and an empty one that hides what was there.

To mount needs a mount namespace of one's own (``parts`` sees to that), so that nothing of this is seen outside.
Who mounts also unmounts; the end of the namespace does it otherwise.
"""

from __future__ import annotations

import contextlib
import os
import subprocess

__all__ = ["Disk", "hide", "show"]


class Disk:
    """A tmpfs of ``size`` KiB at ``path``, and the file that fills it."""

    def __init__(self, path: str, size: int) -> None:
        self.path = path
        self._filler = os.path.join(path, "filler")
        os.makedirs(path)
        _mount(path, f"size={size}k,mode=755")

    def fill(self) -> None:
        """Leave not a byte."""
        with open(self._filler, "ab", buffering=0) as file:
            for size in (4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def empty(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._filler)

    def unmount(self) -> None:
        show(self.path)


def hide(folder: str) -> None:
    """Have an empty folder seen in the place of this one, as where its disk is not mounted; open files stay open."""
    _mount(folder, "size=4096k,mode=755")


def show(folder: str) -> None:
    """Have a folder seen again; what was written to the empty one is gone."""
    subprocess.run(["umount", "--lazy", folder], check=True)


def _mount(path: str, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)
