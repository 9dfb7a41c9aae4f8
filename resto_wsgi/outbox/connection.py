"""A connection to an SQLite file that other processes write, too: a statement waits while they keep it locked.

The wait is ours and not SQLite's own. SQLite looks again only after up to 100 ms, and then many busy processes keep one
process waiting for seconds. The wait has an end; then SQLite's error is raised, and ``trouble`` names the process that
hangs. What the statements say is not known here. Opening makes connections; a session uses one.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence

__all__ = ["Connection"]

BUSY = 10.0  # seconds: a transaction takes milliseconds, so a longer wait means that another process hangs
AGAIN = 0.001  # seconds between two tries


class Connection(sqlite3.Connection):
    """An SQLite connection, used by one thread at a time."""

    def patiently(self, sql: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        """Execute a statement and return its cursor; wait up to BUSY seconds if another process locks the file."""
        end = time.monotonic() + BUSY
        while True:
            try:
                return self.execute(sql, parameters)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
            time.sleep(AGAIN)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what the block does, or roll it back if it raises."""
        self.patiently("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self.in_transaction:  # SQLite has not rolled it back itself
                self.execute("ROLLBACK")
            raise
