"""Threads that write at the same moment: one transaction for all, and what befalls one does not befall the others."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from servers import eventually

from resto_wsgi.errors import OutboxError
from resto_wsgi.outbox import group_commit
from resto_wsgi.outbox.group_commit import GroupCommit
from resto_wsgi.outbox.session import Session


@pytest.fixture
def group(path: str, session: Session) -> GroupCommit:
    """What the threads of this process want written."""
    return GroupCommit(path, session)


def note(connection: Any) -> int:
    """Write something, and return 1."""
    connection.execute("INSERT INTO names (name) VALUES (hex(randomblob(16)))")
    return 1


def noted(session: Session) -> int:
    with session.alone():
        return int(session.read("SELECT COUNT(*) FROM names", ())[0][0])


def together(group: GroupCommit, works: list[Callable[[Any], Any]]) -> list[Any]:
    """Write all ``works`` from a thread each, so that the first one leads; return each result or exception."""

    def write(work: Callable[[Any], Any]) -> Any:
        try:
            return group.write(work, durable=True)
        except BaseException as error:
            return error

    with ThreadPoolExecutor(len(works)) as threads:
        futures = []
        with group.session.lock:
            for number, work in enumerate(works, 1):
                futures.append(threads.submit(write, work))
                eventually(lambda number=number: len(group._waiting) == number)  # type: ignore[misc]
        return [future.result(10) for future in futures]


def commits(session: Session, work: Callable[[], Any]) -> int:
    """Return how many transactions were committed while ``work`` was done."""
    seen: list[str] = []
    assert session._connection
    session._connection.set_trace_callback(seen.append)
    work()
    return seen.count("COMMIT")


def test_what_arrives_together_shares_a_commit(group: GroupCommit, session: Session) -> None:
    """While one thread is in its commit, all others gather, and the next one commits for all of them."""
    results: list[Any] = []
    works = [lambda connection, number=number: note(connection) + number for number in range(8)]
    assert commits(session, lambda: results.extend(together(group, works))) == 1
    assert results == list(range(1, 9))  # each has its own
    assert noted(session) == 8


def test_a_transaction_is_not_longer_than_it_may_be(
    group: GroupCommit, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that do not fit are taken by the next one."""
    monkeypatch.setattr(group_commit, "MOST", 3)
    assert commits(session, lambda: together(group, [note] * 8)) == 3
    assert noted(session) == 8


def test_one_that_must_be_on_the_disk_takes_all_there(group: GroupCommit, session: Session) -> None:
    """The others lose nothing by it."""
    seen: list[str] = []
    assert session._connection
    group.write(note)
    session._connection.set_trace_callback(seen.append)
    together(group, [note, note])
    group.write(note)
    levels = [statement for statement in seen if "synchronous" in statement]
    assert levels == ["PRAGMA synchronous=FULL", "PRAGMA synchronous=NORMAL"]


def test_what_sqlite_refuses_reaches_everyone_who_waits(group: GroupCommit, session: Session) -> None:
    """Each gets an OutboxError of its own, nothing is written, and the next one gets through."""

    def refuse(_: Any) -> None:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    results = together(group, [note, refuse, note, note])
    assert [type(result) for result in results] == [OutboxError] * 4
    assert len({id(result) for result in results}) == 4
    assert noted(session) == 0
    assert group.write(note) == 1


def test_an_error_of_ours_reaches_everyone_as_it_is(group: GroupCommit) -> None:
    """With its remedy, and each as an error of its own."""

    def refuse(_: Any) -> None:
        raise OutboxError("path", "problem", "remedy", full=True)

    first, second = together(group, [note, refuse])
    assert first is not second
    assert str(first) == str(second) == "outbox 'path': problem; remedy"
    assert first.full and second.full


@pytest.mark.parametrize("fatal", [False, True])
def test_what_befalls_one_does_not_stop_those_who_wait(group: GroupCommit, session: Session, fatal: bool) -> None:
    """Neither a defect in one of them, nor the end of the thread that commits for all; no one hangs."""

    def fail(_: Any) -> None:
        raise KeyboardInterrupt if fatal else ZeroDivisionError

    results = together(group, [note, fail, note, note])
    kinds = [result if result == 1 else type(result) for result in results]
    if fatal:  # whoever commits for all is struck too, which may be any of them
        assert kinds[1] is KeyboardInterrupt
        assert kinds.count(KeyboardInterrupt) + kinds.count(1) == 4
        assert kinds.count(1) >= 2
    else:
        assert kinds == [1, ZeroDivisionError, 1, 1]
    assert noted(session) == kinds.count(1)
    assert group.write(note) == 1


def test_whoever_stops_waiting_is_not_written_for(group: GroupCommit, session: Session) -> None:
    """An interrupted caller, who will not send, leaves nothing in the next transaction."""

    class Interrupted:
        def __enter__(self) -> None:
            raise KeyboardInterrupt

        def __exit__(self, *_: object) -> None:
            pass

    lock, session.lock = session.lock, Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        group.write(note)
    session.lock = lock
    group.write(note)
    assert noted(session) == 1


def test_a_thread_that_writes_while_it_waits_is_not_written_twice(group: GroupCommit, session: Session) -> None:
    """Its turn is over when another has committed it, though it gets the connection afterwards."""
    inside, go_on = threading.Event(), threading.Event()

    def slow(connection: Any) -> int:
        inside.set()
        go_on.wait(10)
        return note(connection)

    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(group.write, slow)
        inside.wait(10)
        others = [threads.submit(group.write, note) for _ in range(2)]
        eventually(lambda: len(group._waiting) == 2)
        go_on.set()
        assert [future.result(10) for future in (first, *others)] == [1, 1, 1]
    assert noted(session) == 3
