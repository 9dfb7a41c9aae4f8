"""One SQLite file that many threads and processes write: opening, upgrading, committing together, forking.

Each process has one connection, used by one thread at a time. What several threads want written at the same moment
goes into one transaction, so that they share its fsync. A fork waits until the connection is idle and closes it:
no connection is ever in two processes, and each opens its own when it next needs one. Every failure is an OutboxError
that names the file and the remedy; the next call starts afresh, so that a disk that is freed again just works.

The file is never made twice. Where it, or SQLite's -wal or -shm beside it, is removed or replaced under way, every
call fails from then on: writing to what no other process sees would lose it, and going on with a new file would
hide that what the old one held is lost. The way out is a restart and a `resto sync`. It is never opened but by
SQLite, for closing a file drops all POSIX locks on it. Nothing is known here of what the rows mean.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from ..errors import OutboxError
from ..forks import Listener, tell, this_process
from .trouble import DAMAGED, ELSEWHERE, explain, explain_os

__all__ = ["Connection", "SqliteFile"]

Connection = sqlite3.Connection
T = TypeVar("T")

BUSY = 10.0  # seconds: a transaction takes milliseconds, so whoever waits longer has met a process that hangs
AGAIN = 0.001  # seconds until one looks again whether it is free
MOST = 256  # how many callers share a transaction: enough to make its fsync cheap, few enough to keep it short
JOURNAL = 8 * 1024 * 1024  # bytes: what is kept of a -wal that grew; twice what SQLite lets it grow to as a rule
OPTIONS = "mode=rw"  # never makes a file: that is done once, and with our permissions


class _Turn(Generic[T]):
    """What one caller wants written, and what came of it."""

    def __init__(self, work: Callable[[Connection], T], durable: bool) -> None:
        self.work = work
        self.durable = durable
        self.over = False  # it was tried, or its caller does not wait any more
        self.result: T | None = None
        self.error: Exception | None = None


class SqliteFile(Listener):
    """``path`` is made (0600) where it is not there. Any thread may call; a fork gets a connection of its own.

    ``steps`` are the statements that lead from each version of the schema to the next; ``application`` is the
    application_id that tells our files from others. Raises OutboxError, as all methods do.
    """

    def __init__(self, path: str, application: int, steps: Sequence[Sequence[str]]) -> None:
        self.path = os.path.realpath(path)
        self._application = application
        self._steps = steps
        self._log, self._index = f"{self.path}-wal", f"{self.path}-shm"
        self._inodes: tuple[tuple[int, int], ...] = ()  # of the file, -wal and -shm, as long as there is a connection
        self._made: tuple[int, int] | None = None  # the file that was opened first
        self._begin_anew()
        tell(self)
        with self._alone(), self._folder_locked() as folder:
            self._make()
            self._upgrade(self._connect())
            self._made = _inode(self.path)
            self._inodes = self._look()
            os.fsync(folder)

    def _begin_anew(self) -> None:
        """Forget what belongs to the process that this one was forked from."""
        self._lock = threading.RLock()  # not Lock: a signal handler that forks or writes must not wait for itself
        self._inside = False
        self._waiting: deque[_Turn[Any]] = deque()
        self._connection: Connection | None = None
        self._synchronous = ""
        self._process = this_process()

    # Reading and writing

    def read(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of one query: one snapshot, and nothing stays open that would hold up a checkpoint."""
        with self._alone():
            try:
                return _patiently(self._connected(), sql, parameters).fetchall()
            except sqlite3.Error as error:
                self._recover(error)
                raise explain(self.path, error) from error

    def write(self, work: Callable[[Connection], T], *, durable: bool = False) -> T:
        """Run ``work`` in a transaction and return its result when it is committed, ``durable``: on the disk.

        It shares the transaction with what other threads want written, and their failure where SQLite refuses. It
        may run more than once, so it must do nothing but execute statements; it runs in any thread that writes.
        """
        turn = _Turn(work, durable)
        self._waiting.append(turn)
        try:
            with self._alone():
                if not turn.over:
                    self._commit(turn)
        finally:
            turn.over = True
        if turn.error is not None:
            raise self._told(turn.error) from turn.error
        return turn.result  # type: ignore[return-value]

    def close(self) -> None:
        """Close the connection of this process; whoever calls again opens another."""
        with self._lock:
            self._disconnect()

    def __del__(self) -> None:
        if getattr(self, "_process", None) == this_process():
            self._disconnect()

    # Committing together

    def _commit(self, mine: _Turn[Any]) -> None:
        """Commit ``mine`` and what others wait for. Where this thread dies, each of them finds its turn not over."""
        turns = [mine]
        while self._waiting and len(turns) < MOST:
            turn = self._waiting.popleft()
            if turn is not mine and not turn.over:
                turns.append(turn)
        try:
            self._transact(turns)
        except (sqlite3.Error, OutboxError) as error:
            for turn in turns:
                turn.error, turn.over = error, True
        except Exception:  # a defect in one of them: the others need not hear of it, and try alone
            if len(turns) == 1:
                raise
            self._commit_alone(mine)

    def _commit_alone(self, mine: _Turn[Any]) -> None:
        try:
            self._transact([mine])
        except (sqlite3.Error, OutboxError) as error:
            mine.error = error

    def _transact(self, turns: Sequence[_Turn[Any]]) -> None:
        """Commit all of them. A log that has filled its disk is emptied first, which else only a commit does."""
        try:
            self._try_to_transact(turns)
        except sqlite3.OperationalError as error:
            if "full" not in str(error) or self._connection is None:
                raise
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._try_to_transact(turns)

    def _try_to_transact(self, turns: Sequence[_Turn[Any]]) -> None:
        try:
            connection = self._connected()
            self._set_synchronous(connection, "FULL" if any(turn.durable for turn in turns) else "NORMAL")
            _patiently(connection, "BEGIN IMMEDIATE")
            self._check_version(connection)  # another process may have upgraded it under this one
            results = [turn.work(connection) for turn in turns]
            connection.execute("COMMIT")
        except BaseException as error:
            self._recover(error)
            raise
        for turn, result in zip(turns, results, strict=True):
            turn.result, turn.over = result, True

    def _set_synchronous(self, connection: Connection, level: str) -> None:
        if self._synchronous != level:
            connection.execute(f"PRAGMA synchronous={level}")
            self._synchronous = level

    def _recover(self, error: BaseException) -> None:
        """Roll back, and begin with a new connection where this one may be part of the trouble.

        Not on a full disk: what is open can still be read there, a new connection might not come up.
        """
        kept = not isinstance(error, sqlite3.Error) or any(word in str(error) for word in ("locked", "full"))
        connection = self._connection
        try:
            if connection is not None and connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            kept = False
        if not kept:
            self._disconnect()

    def _told(self, error: Exception) -> OutboxError:
        """Return an error of its own for each caller: one that is raised in two threads mixes up their tracebacks."""
        if isinstance(error, OutboxError):
            return OutboxError(error.path, error.problem, error.remedy, full=error.full)
        return explain(self.path, error)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            if self._inside:
                raise OutboxError(
                    self.path, "used by a signal handler that interrupted its use", "do not save or delete in one"
                )
            try:
                self._inside = True
                yield
            finally:
                self._inside = False

    # Forking

    def before_fork(self) -> None:
        """Wait until the connection is idle, and close it."""
        self._lock.acquire()
        self._disconnect()

    def after_fork_in_parent(self) -> None:
        """Let the threads that wait go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Start with nothing of the parent's."""
        _abandoned.append(self._connection)  # None unless before_fork was not called
        self._begin_anew()

    # Opening

    def _connected(self) -> Connection:
        if self._process != this_process():  # forked without Python's hooks, in C
            self.after_fork_in_child()
        if self._connection is None:
            if _inode(self.path) != self._made:
                raise self._gone()
            self._prepare(self._connect())
            self._inodes = self._look()
        if self._look() != self._inodes:
            raise self._gone()
        assert self._connection is not None  # noqa: S101 - for mypy: _connect has just set it
        return self._connection

    def _look(self) -> tuple[tuple[int, int], ...]:
        return _inode(self.path), _inode(self._log), _inode(self._index)

    def _gone(self) -> OutboxError:
        remedy = "put it back, or restart the application and run `resto sync` for each host"
        return OutboxError(self.path, "was removed or replaced while in use, and with it what it held", remedy)

    @contextlib.contextmanager
    def _folder_locked(self) -> Iterator[int]:
        """Let one process at a time make or upgrade the file: to switch an empty one to WAL, SQLite must be alone."""
        try:
            folder = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise explain_os(self.path, error) from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield folder
        except OSError as error:
            raise explain_os(self.path, error) from error
        except sqlite3.Error as error:
            self._disconnect()
            raise explain(self.path, error) from error
        except BaseException:
            self._disconnect()
            raise
        finally:
            os.close(folder)

    def _make(self) -> None:
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return

    def _connect(self) -> Connection:
        uri = f"file:{quote(os.fsencode(self.path))}?{OPTIONS}"
        try:
            self._connection = sqlite3.connect(
                uri, uri=True, timeout=BUSY, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise explain(self.path, error) from error
        return self._connection

    def _prepare(self, connection: Connection) -> None:
        """Set what a connection does not find in the file. The journal mode is in the file, but may be refused."""
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise OutboxError(self.path, "its file system does not allow a write-ahead log", ELSEWHERE)
        connection.execute(f"PRAGMA journal_size_limit={JOURNAL}").fetchall()
        connection.execute("PRAGMA busy_timeout=0").fetchall()  # from here on it is us who wait
        self._synchronous = ""
        self._set_synchronous(connection, "FULL")

    def _upgrade(self, connection: Connection) -> None:
        """Bring the schema to this version, all at once or not at all, and prove that a write gets through.

        Nothing is changed in a file that is not ours.
        """
        self._check_ours(connection)
        self._prepare(connection)
        _patiently(connection, "BEGIN IMMEDIATE")
        for step in self._steps[self._check_version(connection) :]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id={self._application}")
        connection.execute(f"PRAGMA user_version={len(self._steps)}")
        connection.execute("COMMIT")

    def _check_ours(self, connection: Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        if application != self._application and (application or tables):
            raise OutboxError(self.path, "is the database of another program", "set RESTO_OUTBOX to another path")

    def _check_version(self, connection: Connection) -> int:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(self._steps):
            problem = f"has version {version} of the schema, and this program knows {len(self._steps)}"
            raise OutboxError(self.path, problem, "upgrade resto_wsgi, and restart what runs an older one")
        if version < 0:
            raise OutboxError(self.path, "is damaged: its version is negative", DAMAGED)
        return int(version)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):  # a checkpoint that fails is done by who opens it next
                connection.close()


def _patiently(connection: Connection, sql: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
    """Execute a statement that waits for other processes.

    SQLite's own way is to look again after up to 100 ms: many busy processes then keep one waiting for seconds.
    """
    end = time.monotonic() + BUSY
    while True:
        try:
            return connection.execute(sql, parameters)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(AGAIN)


def _inode(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return 0, 0
        raise explain_os(path, error) from error
    return status.st_dev, status.st_ino


_abandoned: list[Connection | None] = []  # of processes forked in C: closing them here would meddle with the parent's
