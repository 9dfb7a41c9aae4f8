"""One process's use of the file: one connection, one thread at a time, and a new connection after trouble.

    closed ── somebody reads or writes ──> open ── close, fork, an error that it may be a part of ──> closed
                                            └── an error of another process, or a full disk ──> open

Every statement starts from an idle connection and leaves it idle: a transaction is committed or rolled back, so no
snapshot ever delays a checkpoint. A crash leaves the transactions that were committed; the next process needs no more.
Who shares a transaction must not be decided here. The group commit calls this to write, the database to read.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..errors import OutboxError
from .connection import Connection
from .opening import Inode, Opening
from .trouble import explain

__all__ = ["Session", "Work"]

Work = Callable[[Connection], Any]
"""It executes statements and does nothing else, because it may run more than once."""


class Session:
    """The connection of one process to the file of ``opening``. All methods raise OutboxError or sqlite3.Error."""

    def __init__(self, opening: Opening) -> None:
        self.lock = threading.RLock()  # not Lock: a signal handler that forks or writes must not wait for itself
        self._opening = opening
        self._inside = False
        self._connection: Connection | None = None
        self._inodes: tuple[Inode, ...] = ()  # of the file, -wal and -shm, as long as there is a connection
        self._synchronous = ""

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other threads out. Everything below but ``close`` is called inside of this."""
        with self.lock:
            if self._inside:
                raise OutboxError(
                    self._opening.path,
                    "used by a signal handler that interrupted its use",
                    "do not save or delete in one",
                )
            try:
                self._inside = True
                yield
            finally:
                self._inside = False

    def make(self) -> None:
        """Open the file for the first time: make it, or upgrade it."""
        self._use(self._opening.make())

    def read(self, sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        """Return the rows of one query; they are one snapshot."""
        try:
            return self._connected().patiently(sql, parameters).fetchall()
        except sqlite3.Error as error:
            self._recover(error)
            raise explain(self._opening.path, error) from error

    def transact(self, works: Sequence[Work], *, durable: bool) -> list[Any]:
        """Do all works in one transaction, and return their results."""
        try:
            connection = self._connected()
            self._set_synchronous(connection, "FULL" if durable else "NORMAL")
            # Not a plain BEGIN: a lock that is taken only at the first write cannot be waited for once a row was read.
            connection.patiently("BEGIN IMMEDIATE")
            self._opening.check_version(connection)
            results = [work(connection) for work in works]
            connection.execute("COMMIT")
        except BaseException as error:
            self._recover(error)
            raise
        return results

    def room(self, leaving: int) -> Iterator[bool]:
        """Yield True each time that more room was made after ``transact`` found none, until no more can be made."""
        if self._connection is None:  # it is part of the trouble
            return
        try:
            yield from self._opening.reserve.room(self._connection, leaving)
        except sqlite3.Error as error:
            self._recover(error)
            raise

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):  # if its checkpoint fails, the next to open the file does it
                connection.close()

    def _use(self, connection: Connection) -> None:
        self._connection = connection
        self._inodes = self._opening.inodes()
        self._synchronous = ""  # of a new connection it is not known, so it is set before the next transaction

    def _connected(self) -> Connection:
        if self._connection is None:
            self._use(self._opening.open())
        if self._opening.inodes() != self._inodes:
            raise self._opening.gone()
        assert self._connection is not None  # noqa: S101 - for mypy: it has just been set
        return self._connection

    def _set_synchronous(self, connection: Connection, level: str) -> None:
        if self._synchronous != level:
            connection.execute(f"PRAGMA synchronous={level}")
            self._synchronous = level

    def _recover(self, error: BaseException) -> None:
        """Roll back, and close the connection if it may be part of the trouble.

        It stays open on a full disk: what is open can still be read there, and a new connection might not open.
        """
        kept = not isinstance(error, sqlite3.Error) or any(word in str(error) for word in ("locked", "full"))
        connection = self._connection
        try:
            if connection is not None and connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            kept = False
        if not kept:
            self.close()
