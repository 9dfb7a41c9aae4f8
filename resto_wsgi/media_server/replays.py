"""Signatures that were seen, so that none is taken twice: an empty file for each, in a folder for each minute.

The files are made with O_EXCL, so that if two threads or processes get one request, only one carries it out. They stay
after a restart, also after kill -9. They are not synced: a power cut may lose the last seconds, and a request of that
time could be carried out once more. Only good signatures come here, so only who has a key can fill the disk, and no
signature is kept for longer than it is good. ``access`` calls this.
"""

from __future__ import annotations

import contextlib
import os
import shutil

from ..master.hidden import make_hidden
from ..trust.signatures import MAX_AGE, MAX_SKEW, Verified

__all__ = ["Replays"]

MINUTE = 60  # seconds


class Replays:
    """The signatures of the last minutes, in ``folder``, which is made if it is missing."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def is_first(self, verified: Verified, now: float) -> bool:
        """Note a signature; return False if it was noted before. Raises OSError."""
        minute = os.path.join(self._folder, str(verified.created // MINUTE))
        path = os.path.join(minute, verified.octets.hex())
        try:
            try:
                _make(path)
            except FileNotFoundError:  # the first one of its minute, so old minutes go once a minute
                make_hidden(self._folder)
                self._sweep(now)
                with contextlib.suppress(FileExistsError):
                    os.mkdir(minute, 0o700)
                _make(path)
        except FileExistsError:
            return False
        return True

    def _sweep(self, now: float) -> None:
        """Remove the minutes whose signatures are too old to be taken."""
        for entry in os.listdir(self._folder):
            if entry.isdigit() and (int(entry) + 1) * MINUTE + MAX_AGE + MAX_SKEW < now:
                shutil.rmtree(os.path.join(self._folder, entry), ignore_errors=True)


def _make(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
