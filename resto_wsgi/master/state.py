"""What tells one version of a name from another without a look at its bytes.

Two looks at a name that give the same state have seen the same version: a file that is replaced is another inode, one
that is written in place has another time. A state is compared, and must never be kept on the disk: device numbers
change when a machine starts anew. Everybody who looks twice calls this.
"""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = ["State"]

SECOND = 1_000_000_000
AHEAD = 3600  # seconds by which a time that is moved on may run ahead of the clock; what is later was set by a person


class State(NamedTuple):
    """``size`` is in bytes, ``mtime_ns`` in nanoseconds since 1970."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @property
    def seconds(self) -> int:
        """The mtime in whole seconds since 1970, as HTTP tells it."""
        return self.mtime_ns // SECOND

    def mtime_of_next(self, new: State) -> int:
        """Return the mtime for a version that replaces this one: its own, or the second after this one's.

        Sizes and seconds are all that the ETag and Last-Modified of nginx tell: of two versions that share both, a
        cache keeps the first for good.
        """
        if new.size != self.size or not self.seconds - AHEAD <= new.seconds <= self.seconds:
            return new.mtime_ns
        return (self.seconds + 1) * SECOND

    @classmethod
    def of(cls, status: os.stat_result) -> State:
        """Return the state of a file, by what ``os.stat`` or ``os.fstat`` said of it."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
