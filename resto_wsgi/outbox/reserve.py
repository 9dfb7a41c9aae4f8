"""Room for deletes and settlements on a full disk: pages of the file that nobody else can take.

    whole     rows of zeros lie in a table of their own, which is no version of the schema: the version before this one
              passes over it
    growing   free pages are being added: their row is in the log, not yet in the file. The next to need room goes
              on from there, also after a crash; until then nothing is saved, for the log may not be emptied
    in use    a row was given up, and a mark says how many there were. Nothing is saved until they are there again:
              the next save of any process adds them, also after a crash, or is refused
    used up   one row is left to settlements: deletes fail, until those free pages or the disk has space

Two more things make that enough. The log has LOG bytes from the start, and is begun anew instead of cut. And no page of
the file is missing on the disk, else a full disk would keep the log from being emptied: SQLite may not enlarge the file
(max_page_count), ``_grow`` does, and has new pages written before one is used. A file system that copies what it
overwrites (btrfs, ZFS) needs space for that, so there this is no promise. The session calls this.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence

from .connection import AGAIN, Connection

__all__ = ["DELETE", "NOTED", "SAVE", "SETTLE", "Full", "Reserve", "is_full"]

ROWS = 4
PAGES = 128  # of each row; 2 MiB in all are some 2,000 deletes that three hosts owe, or 20,000 that none owes
SAVE, DELETE, SETTLE = ROWS, 1, 0  # how many rows each must leave, so that deletes cannot use up what ends them
LOG = 2 * 1024 * 1024  # bytes: more than a delete or a settlement writes, however many share a transaction
ENOUGH = 32  # free pages: who finds no space although there are so many has filled the log
STEP_LEAST, STEP_MOST = 64, 2048  # pages that the file grows by: a quarter of it, so that this is rare
STEP_LAST = 8  # pages that it grows by if the disk has no room for more
POINTER = 4  # bytes of each page of a long value that are not the value's: where its next page is
FRAME, BESIDES = 24, 8  # bytes that a page in the log takes more; pages that a row changes beside its own
NO_LIMIT = 2**30  # pages
PATIENCE = 0.5  # seconds to wait for readers of the log, which take milliseconds

# By number: rows of zeros from 1 to ROWS; then what is noted, which comes last so that a save finds it at once.
TABLE = "CREATE TABLE IF NOT EXISTS reserve (number INTEGER PRIMARY KEY, content)"
GROWING, USED = 100, 101
ADD = "INSERT OR IGNORE INTO reserve VALUES (?, zeroblob(?))"  # another process may be adding it, too
MARK = "INSERT OR IGNORE INTO reserve VALUES (?, ?)"
DROP = "DELETE FROM reserve WHERE number = ?"
FIND = "SELECT content FROM reserve WHERE number = ?"
NUMBERS = f"SELECT number FROM reserve WHERE number <= {ROWS} ORDER BY number"  # noqa: S608 - a constant
# True while the reserve is in use or the file is growing. It is part of the statement with which a save begins, because
# a statement of its own would cost each save more.
NOTED = f"EXISTS (SELECT 1 FROM reserve WHERE number >= {GROWING})"  # noqa: S608 - a constant

log = logging.getLogger("resto_wsgi")


class Full(sqlite3.OperationalError):
    """As SQLite's error of a full disk: there is space, and a save may not use it, because deletes need it."""

    def __init__(self) -> None:
        super().__init__("database or disk is full, but for what is kept for deletes")


def is_full(error: BaseException) -> bool:
    """True if SQLite found no space for something."""
    return isinstance(error, sqlite3.OperationalError) and "is full" in str(error)


class Reserve:
    """The reserve in the file at ``path``. Raises sqlite3.Error, but none of a full disk."""

    def __init__(self, path: str) -> None:
        self._path = path

    def make(self, connection: Connection) -> None:
        """Make it whole in a file that was just opened, or as large as there is room for."""
        self.keep(connection)
        if not self._fill(connection, ROWS) and not connection.execute(NUMBERS).fetchone():
            log.warning("outbox %s: no space to keep for deletes, which will fail when its disk is full", self._path)
        self._make_whole(connection)

    def keep(self, connection: Connection) -> None:
        """Give the log its room, and keep SQLite from enlarging the file, as long as this connection is open."""
        path = f"{self._path}-wal"
        with contextlib.suppress(OSError):  # no space, or it was removed, which is found at the next use
            if os.path.getsize(path) < LOG:
                # Nobody else may write meanwhile: on some file systems the C library allocates by writing zeros.
                # No lock is ever on the log itself, so that to close it does no harm.
                with connection.transaction(), open(path, "r+b", buffering=0) as file:
                    os.posix_fallocate(file.fileno(), 0, LOG)
        _limit(connection)

    def room(self, connection: Connection, leaving: int) -> Iterator[bool]:
        """Yield True each time that there is more room than before, until there is no more to be made."""
        # For a save alone: to make it whole takes of the log, and if somebody takes the space meanwhile, all of it.
        if leaving >= SAVE and self._is_used(connection):
            if not self._make_whole(connection):
                return
            yield True
        while self._grow(connection):
            yield True
        self.empty_log(connection)
        yield True
        while self._give_up(connection, leaving):
            yield True

    def empty_log(self, connection: Connection) -> None:
        """Let the log be begun anew: all of it is room again, if no reader holds it up."""
        _empty(connection, "RESTART", PATIENCE)

    def _cut_log(self, connection: Connection, used: int) -> None:
        """Give the disk back what the log has grown by, as the first write to a log that is begun anew does."""
        (limit,) = connection.execute("PRAGMA journal_size_limit").fetchone()
        connection.execute(f"PRAGMA journal_size_limit={LOG}").fetchall()
        try:
            self.empty_log(connection)
            _write(connection, (DROP, (USED,)), (MARK, (USED, used)))  # SQLite passes over what changes nothing
        finally:
            connection.execute(f"PRAGMA journal_size_limit={limit}").fetchall()

    def _is_used(self, connection: Connection) -> bool:
        return connection.execute(FIND, (USED,)).fetchone() is not None

    def _make_whole(self, connection: Connection) -> bool:
        """True if it was in use, and is whole now."""
        if (used := connection.execute(FIND, (USED,)).fetchone()) is None:
            return False
        self._cut_log(connection, used[0])
        if not self._fill(connection, used[0]):
            return False
        log.warning("outbox %s: there is space again, and its reserve is whole", self._path)
        return _write(connection, (DROP, (USED,)))

    def _fill(self, connection: Connection, rows: int) -> bool:
        """Have so many rows; return False if there is only room for fewer, or for none."""
        there = {number for (number,) in connection.execute(NUMBERS)}
        missing = [number for number in range(1, rows + 1) if number not in there]
        if not missing:
            return self._is_on_disk(connection)
        return self._add(connection, missing, PAGES) or all(
            self._add_to_empty_log(connection, [number], PAGES) for number in missing
        )

    def _grow(self, connection: Connection) -> bool:
        """Enlarge the file by free pages; return False if there is no room, or not yet."""
        pages, free = _count(connection, "page"), _count(connection, "freelist")
        growing = connection.execute(FIND, (GROWING,)).fetchone()
        step = min(max(pages // 4, STEP_LEAST), STEP_MOST)
        if growing:
            there = self._is_on_disk(connection)
        else:
            there = self._add(connection, [GROWING], free + step) or any(
                self._add_to_empty_log(connection, [GROWING], free + each) for each in (step, STEP_LAST)
            )
        return there and _free(connection, (DROP, (GROWING,)))

    def _give_up(self, connection: Connection, leaving: int) -> bool:
        """Free the pages of a row; return False if there is none to be had, or pages are not what is missing."""
        rows = [number for (number,) in connection.execute(NUMBERS)]
        if len(rows) <= leaving or _count(connection, "freelist") >= ENOUGH:
            return False
        log.warning("outbox %s: no space is left; its reserve is used, %d of %d left", self._path, len(rows) - 1, ROWS)
        return _free(connection, (DROP, (rows[-1],)), (MARK, (USED, len(rows))))

    def _add_to_empty_log(self, connection: Connection, rows: Sequence[int], pages: int) -> bool:
        """As ``_add``, if the disk has room for pages of the file, but not for as many of the log."""
        self.empty_log(connection)
        return self._add(connection, rows, pages, log=os.path.getsize(f"{self._path}-wal"))

    def _add(self, connection: Connection, rows: Sequence[int], pages: int, *, log: int = 0) -> bool:
        """Add rows of so many pages, free ones first; return whether the file has all its pages on the disk.

        Their room is held by a file without a name until they are in the log, of which ``log`` bytes are free for them.
        From then on to the end of the checkpoint somebody else may take it: that leaves the rows in the log, and what
        they are for undone.
        """
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        more = max(0, len(rows) * pages - _count(connection, "freelist"))
        in_log = (len(rows) * pages + BESIDES) * (size + FRAME)
        with _held(os.path.dirname(self._path), more * size + max(0, in_log - log)) as held:
            if not held:
                return False
            connection.execute(f"PRAGMA max_page_count={NO_LIMIT}").fetchall()
            try:
                added = _write(connection, *[(ADD, (number, pages * (size - POINTER))) for number in rows])
            finally:
                _limit(connection)
        return added and self._is_on_disk(connection)

    def _is_on_disk(self, connection: Connection) -> bool:
        """Empty the log into the file, and return False if the disk has no space for that.

        A reader that does not come to an end keeps a log from being emptied; the disk had the space a moment ago.
        """
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        there = os.path.getsize(self._path) >= _count(connection, "page") * size
        return there or _empty(connection, "PASSIVE", PATIENCE / 10)


def _count(connection: Connection, what: str) -> int:
    return int(connection.execute(f"PRAGMA {what}_count").fetchone()[0])


def _limit(connection: Connection) -> None:
    """Let SQLite have no more pages than it has; it takes the least that is possible."""
    connection.execute("PRAGMA max_page_count=1").fetchall()


def _empty(connection: Connection, how: str, seconds: float) -> bool:
    """Empty the log into the file, as far as readers let it; return False if the disk has no space for that."""
    end = time.monotonic() + seconds
    while True:
        try:
            busy, frames, copied = connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
            return False
        if (not busy and frames == copied) or time.monotonic() > end:
            return True
        time.sleep(AGAIN)


def _write(connection: Connection, *statements: tuple[str, Sequence[object]]) -> bool:
    """Execute them in a transaction; return False if there is no space for that."""
    try:
        with connection.transaction():
            for sql, parameters in statements:
                connection.execute(sql, parameters)
    except sqlite3.OperationalError as error:
        if not is_full(error):
            raise
        return False
    return True


def _free(connection: Connection, *statements: tuple[str, Sequence[object]]) -> bool:
    """As ``_write``, for what frees pages of zeros: SQLite does not write zeros over them once more."""
    (secure,) = connection.execute("PRAGMA secure_delete").fetchone()
    connection.execute("PRAGMA secure_delete=0").fetchall()
    try:
        return _write(connection, *statements)
    finally:
        connection.execute(f"PRAGMA secure_delete={secure}").fetchall()


@contextlib.contextmanager
def _held(folder: str, size: int) -> Iterator[bool]:
    """Hold so many bytes of the disk for as long as the block runs, and yield True; False if it has not so many."""
    with contextlib.ExitStack() as stack:
        try:
            if size:
                file = stack.enter_context(tempfile.TemporaryFile(dir=folder, buffering=0))
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            yield False
        else:
            yield True
