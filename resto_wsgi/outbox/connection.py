"""A connection to an SQLite file that other processes write, too: a statement waits until they let it through.

The wait is ours and not SQLite's own, which looks again after up to 100 ms: many busy processes then keep one waiting
for seconds. It has an end, after which SQLite's error is raised and ``trouble`` names the process that hangs.
What the statements say is not known here. Opening makes connections; a session uses one.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

__all__ = ["Connection"]

BUSY = 10.0  # seconds: a transaction takes milliseconds, so whoever waits longer has met a process that hangs
AGAIN = 0.001  # seconds until one looks again whether it is free


class Connection(sqlite3.Connection):
    """An SQLite connection, used by one thread at a time."""

    def patiently(self, sql: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        """Execute a statement, and wait up to BUSY seconds while another process keeps the file locked."""
        end = time.monotonic() + BUSY
        while True:
            try:
                return self.execute(sql, parameters)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
            time.sleep(AGAIN)
