"""Opening an SQLite file: it is made, adopted or upgraded once, and afterwards opened only if it is the same file.

    at the path              what is done                                      what a crash leaves
    nothing                  an empty file is made (0600)                      an empty file
    an empty file            all steps and our mark, in one transaction        an empty file, or ours as a whole
    ours, an older version   the steps that it lacks, in one transaction       the older version, or ours as a whole
    ours, this version       a write, to prove that one gets through           as before
    ours but newer, or of another program                       refused, and not changed

One process at a time does this, under a lock on the folder: SQLite must be alone to switch an empty file to WAL. Later
on nothing is ever made. If the file (or its -wal, its -shm) was removed or replaced, it is refused from then on: what
is written where no other process sees it is lost, and a new file would hide that the content of the old one is lost.
Only SQLite opens the file: if any other descriptor of it were closed, all POSIX locks of this process on it would be
dropped. What the tables mean is not known here. The session calls this.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from ..errors import OutboxError
from .connection import BUSY, Connection
from .reserve import TABLE, Reserve, is_full
from .trouble import AFRESH, DAMAGED, ELSEWHERE, explain, explain_os

__all__ = ["Inode", "Opening"]

JOURNAL = 8 * 1024 * 1024  # bytes that are kept of a -wal that grew: SQLite normally lets it grow to half of that
OPTIONS = "mode=rw"  # it never makes a file: that is done once, and with our permissions

Inode = tuple[int, int]  # device and number; zeros if there is no file


class Opening:
    """``steps`` are the statements that lead from each version of the schema to the next; ``application`` is the
    application_id that tells our files from others. All methods raise OutboxError.
    """

    def __init__(self, path: str, application: int, steps: Sequence[Sequence[str]]) -> None:
        self.path = os.path.realpath(path)
        self._application = application
        self._steps = steps
        self.reserve = Reserve(self.path)
        self._files = (self.path, f"{self.path}-wal", f"{self.path}-shm")
        self._made: Inode | None = None  # the file that was opened first

    def make(self) -> Connection:
        """Make or upgrade the file, and return a connection to it."""
        with self._folder_locked() as folder:
            self._make_empty()
            connection = self._connect()
            try:
                self._check_ours(connection)
                self._prepare(connection)
                self._upgrade_where_there_is_room(connection)
                self.reserve.make(connection)
                self._made = _inode(self.path)
                os.fsync(folder)  # else a power cut may leave no such name in it, and with it no outbox
            except BaseException:
                connection.close()
                raise
            return connection

    def open(self) -> Connection:
        """Return another connection to the file that was made."""
        if _inode(self.path) != self._made:
            raise self.gone()
        connection = self._connect()
        self._prepare(connection)
        self.reserve.keep(connection)
        return connection

    def inodes(self) -> tuple[Inode, ...]:
        """Return the inodes that are at the paths of the file, its log and its index now."""
        return tuple(map(_inode, self._files))  # at each use, so it must stay as cheap as three stats

    def gone(self) -> OutboxError:
        """Return the error to raise if one of these inodes has changed."""
        problem = "was removed or replaced while in use, and with it what it held"
        return OutboxError(self.path, problem, f"put it back; or {AFRESH}")

    def check_version(self, connection: Connection) -> int:
        """Return the version of the schema; another process may have upgraded it since this one opened the file."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(self._steps):
            problem = f"has version {version} of the schema, and this program knows {len(self._steps)}"
            raise OutboxError(self.path, problem, "upgrade resto_wsgi, and restart what runs an older one")
        if version < 0:
            raise OutboxError(self.path, "is damaged: its version is negative", DAMAGED)
        return int(version)

    @contextlib.contextmanager
    def _folder_locked(self) -> Iterator[int]:
        try:
            folder = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise explain_os(self.path, error) from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)  # on the folder: no descriptor of the file itself may ever be closed
            yield folder
        except OSError as error:
            raise explain_os(self.path, error) from error
        except sqlite3.Error as error:
            raise explain(self.path, error) from error
        finally:
            os.close(folder)

    def _make_empty(self) -> None:
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return

    def _connect(self) -> Connection:
        uri = f"file:{quote(os.fsencode(self.path))}?{OPTIONS}"
        try:
            return sqlite3.connect(
                uri, uri=True, timeout=BUSY, isolation_level=None, check_same_thread=False, factory=Connection
            )
        except sqlite3.Error as error:
            raise explain(self.path, error) from error

    def _prepare(self, connection: Connection) -> None:
        """Set the options that are not kept in the file. The journal mode is in the file, but may be refused."""
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise OutboxError(self.path, "its file system does not allow a write-ahead log", ELSEWHERE)
        connection.execute(f"PRAGMA journal_size_limit={JOURNAL}").fetchall()
        connection.execute("PRAGMA busy_timeout=0").fetchall()  # from here on we wait ourselves: ``patiently``
        connection.execute("PRAGMA synchronous=FULL").fetchall()

    def _upgrade_where_there_is_room(self, connection: Connection) -> None:
        try:
            self._upgrade(connection)
        except sqlite3.OperationalError as error:  # others may have filled the log as far as the disk lets it grow
            if not is_full(error):
                raise
            self.reserve.empty_log(connection)
            self._upgrade(connection)

    def _upgrade(self, connection: Connection) -> None:
        """Bring the schema to this version, all at once or not at all, and prove that a write gets through."""
        with connection.transaction():
            for step in self._steps[self.check_version(connection) :]:
                for statement in step:
                    connection.execute(statement)
            connection.execute(TABLE)
            connection.execute(f"PRAGMA application_id={self._application}")
            connection.execute(f"PRAGMA user_version={len(self._steps)}")

    def _check_ours(self, connection: Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        if application != self._application and (application or tables):
            raise OutboxError(self.path, "is the database of another program", "set RESTO_OUTBOX to another path")


def _inode(path: str) -> Inode:
    try:
        status = os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return 0, 0
        raise explain_os(path, error) from error
    return status.st_dev, status.st_ino
