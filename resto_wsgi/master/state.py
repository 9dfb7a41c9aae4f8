"""What tells one version of a name from another without a look at its bytes.

Two looks at a name that give the same state have seen the same version: a file that is replaced is another inode, one
that is written in place has another time. A state is compared, and never kept on the disk: device numbers change when
a machine starts anew. Everybody who looks twice calls this.
"""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = ["State"]


class State(NamedTuple):
    """``size`` is in bytes, ``mtime_ns`` in nanoseconds since 1970."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @property
    def seconds(self) -> int:
        """The mtime in whole seconds since 1970, as HTTP tells it."""
        return self.mtime_ns // 1_000_000_000

    @classmethod
    def of(cls, status: os.stat_result) -> State:
        """Return the state of a file, by what ``os.stat`` or ``os.fstat`` said of it."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
