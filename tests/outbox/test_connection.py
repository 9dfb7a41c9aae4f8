"""A statement that waits for other processes: as long as it takes, and not for ever."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator

import pytest

from resto_wsgi.outbox import connection as module
from resto_wsgi.outbox.connection import Connection


@pytest.fixture
def other(path: str) -> Iterator[sqlite3.Connection]:
    """Another's connection, which holds the write lock."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA journal_mode=WAL").fetchall()
    other.execute("CREATE TABLE numbers (number)")
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


@pytest.fixture
def connection(path: str, other: sqlite3.Connection) -> Iterator[Connection]:
    """A connection of ours to the same file."""
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, factory=Connection)
    yield connection
    connection.close()


def test_a_statement_waits_until_it_is_let_through(connection: Connection, other: sqlite3.Connection) -> None:
    """It looks again often, so that it is soon after the other one has ended."""
    ended: list[float] = []

    def end() -> None:
        other.execute("COMMIT")
        ended.append(time.monotonic())

    timer = threading.Timer(0.3, end)
    timer.start()
    connection.patiently("INSERT INTO numbers VALUES (?)", (7,))
    timer.join()
    assert time.monotonic() - ended[0] < 0.2
    assert connection.patiently("SELECT number FROM numbers").fetchall() == [(7,)]


def test_the_wait_has_an_end(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits longer has met a process that hangs."""
    monkeypatch.setattr(module, "BUSY", 0.2)
    began = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        connection.patiently("INSERT INTO numbers VALUES (7)")
    assert 0.2 <= time.monotonic() - began < 2


def test_what_is_wrong_is_not_waited_for(connection: Connection) -> None:
    """Only a lock goes away of itself."""
    began = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        connection.patiently("INSERT INTO nowhere VALUES (7)")
    assert time.monotonic() - began < 1
