"""One SQLite file that many threads and processes read and write: its interface. Each job behind it is a module.

    opening       makes, adopts and upgrades the file, and knows when it is not the same any more
    session       one process's connection
    group_commit  one process's threads share transactions
    reserve       room for deletes and settlements on a full disk
    trouble       says what is wrong in words

No connection is ever in two processes. A fork waits until the connection is idle, and closes it; each process opens its
own when it next needs one. A process that was forked in C, without Python's hooks, leaves its parent's connection
alone. Every failure is an OutboxError that names the file and the remedy. The next call starts afresh, so the outbox
works again as soon as a full disk has space. What the rows mean is not known here. The outbox calls this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..forks import Listener, PerProcess, tell
from .connection import Connection
from .group_commit import GroupCommit
from .opening import Opening
from .reserve import DELETE, SAVE, SETTLE
from .session import Session

__all__ = ["DELETE", "SAVE", "SETTLE", "Connection", "Database"]

T = TypeVar("T")

_parents: list[PerProcess[GroupCommit]] = []  # kept for ever: to close a parent's connection could drop its locks


class Database(Listener):
    """``path`` is made (0600) if it is not there. Any thread may call; a fork gets a connection of its own.

    ``steps`` are the statements that lead from each version of the schema to the next; ``application`` is the
    application_id that tells our files from others. Raises OutboxError, as all methods do.
    """

    def __init__(self, path: str, application: int, steps: Sequence[Sequence[str]]) -> None:
        opening = Opening(path, application, steps)
        self.path = opening.path
        self._own = PerProcess(lambda: GroupCommit(opening.path, Session(opening)))
        tell(self)
        with self._session.alone():
            self._session.make()

    def read(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of one query. They are one snapshot, and nothing stays open that would delay a checkpoint."""
        session = self._session
        with session.alone():
            return session.read(sql, parameters)

    def write(self, work: Callable[[Connection], T], *, durable: bool = False, leaving: int = SETTLE) -> T:
        """Do ``work`` in a transaction, and return its result when that is committed; if ``durable``, on the disk.

        ``leaving`` says what it may use of a full disk: SAVE nothing, DELETE most and SETTLE all of the reserve. It
        shares the transaction with the works of other threads, and their failure if SQLite refuses. It may run more
        than once, and in any thread that writes, so it must do nothing but execute statements.
        """
        return self._own.get().write(work, durable=durable, leaving=leaving)

    def close(self) -> None:
        """Close the connection of this process; the next call opens another."""
        with self._session.lock:
            self._session.close()

    def __del__(self) -> None:
        if (own := getattr(self, "_own", None)) is None:  # it was interrupted before it began
            return
        if (mine := own.take()) is not None:
            mine.session.close()
        if own.has_others():
            _parents.append(own)

    def before_fork(self) -> None:
        """Wait until the connection is idle, and close it."""
        self._session.lock.acquire()  # kept through the fork: no other thread may open a connection meanwhile
        self._session.close()

    def after_fork_in_parent(self) -> None:
        """Let the threads that wait for the connection go on."""
        self._session.lock.release()

    @property
    def _session(self) -> Session:
        return self._own.get().session
