"""Committing together: the works that several threads want written at the same moment share a transaction and an fsync.

    turn       how it comes about                            what ends it
    waiting    its thread has asked                          a thread that commits takes it along, or its own gives up
    taken      a thread has it in its transaction            committed: its result; refused by SQLite: the error of all
    over       its result or its error is there, or its      nothing: a thread that commits later skips it
               thread does not wait any more

The first thread that finds the connection free commits for all that wait then. If that thread dies, or one of the
works has a defect, the others find that their turns are not over, and commit themselves. A crash leaves all works of a
transaction or none. Connections must not live here, and it is not known here what the works do. The database calls
this.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ..errors import OutboxError
from .connection import Connection
from .reserve import SETTLE, is_full
from .session import Session
from .trouble import explain

__all__ = ["GroupCommit"]

T = TypeVar("T")

MOST = 256  # how many callers share a transaction: enough to make its fsync cheap, few enough to keep it short


class _Turn(Generic[T]):
    """What one caller wants written, and its result or its error."""

    def __init__(self, work: Callable[[Connection], T], durable: bool, leaving: int) -> None:
        self.work = work
        self.durable = durable
        self.leaving = leaving
        self.over = False  # it was tried, or its caller does not wait any more
        self.result: T | None = None
        self.error: Exception | None = None


class GroupCommit:
    """The works that the threads of one process want written to ``session``. ``path`` is for errors."""

    def __init__(self, path: str, session: Session) -> None:
        self.session = session
        self._path = path
        self._waiting: deque[_Turn[Any]] = deque()

    def write(self, work: Callable[[Connection], T], *, durable: bool = False, leaving: int = SETTLE) -> T:
        """Do ``work`` in a transaction, and return its result when that is committed; see ``Database.write``."""
        turn = _Turn(work, durable, leaving)
        self._waiting.append(turn)  # before the lock is taken: so the thread that has it can take this turn along
        try:
            with self.session.alone():
                if not turn.over:
                    self._commit(turn)
        finally:
            # Also after an interruption: this caller will not send, so no later transaction may write for it.
            turn.over = True
        if turn.error is not None:
            raise self._own_error(turn.error) from turn.error
        return turn.result  # type: ignore[return-value]

    def _commit(self, mine: _Turn[Any]) -> None:
        turns = self._gather(mine)
        try:
            self._transact(turns)
        except Exception as error:
            if isinstance(error, (sqlite3.Error, OutboxError)) and not is_full(error):
                for turn in turns:
                    turn.error, turn.over = error, True
            else:  # a defect in one of the works, or a full disk, of which each may use another part: each tries alone
                self._commit_alone(mine)

    def _gather(self, mine: _Turn[Any]) -> list[_Turn[Any]]:
        # Not from the queue alone: a thread that took this turn along may have failed, and then it is queued no more.
        turns = [mine]
        while self._waiting and len(turns) < MOST:
            turn = self._waiting.popleft()
            if turn is not mine and not turn.over:
                turns.append(turn)
        return turns

    def _commit_alone(self, mine: _Turn[Any]) -> None:
        try:
            self._transact_where_there_is_room(mine)
        except (sqlite3.Error, OutboxError) as error:
            mine.error = error

    def _transact_where_there_is_room(self, mine: _Turn[Any]) -> None:
        room = self.session.room(mine.leaving)
        while True:
            try:
                return self._transact([mine])
            except sqlite3.OperationalError as error:  # noqa: PERF203 - it is tried again if there is more room
                if not is_full(error) or not next(room, False):
                    raise

    def _transact(self, turns: list[_Turn[Any]]) -> None:
        works = [turn.work for turn in turns]
        # All share one commit. FULL costs it 0.25 ms instead of 0.016, so it is paid only if one of them needs it.
        results = self.session.transact(works, durable=any(turn.durable for turn in turns))
        for turn, result in zip(turns, results, strict=True):
            turn.result, turn.over = result, True

    def _own_error(self, error: Exception) -> OutboxError:
        """Return an error of its own for each caller: one error raised in two threads mixes up their tracebacks."""
        if isinstance(error, OutboxError):
            return OutboxError(error.path, error.problem, error.remedy, full=error.full)
        return explain(self._path, error)
