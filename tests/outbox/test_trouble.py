"""What is wrong with the file, as whoever has to put it right is told."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest
from outboxes import HOST, command, fill, mounted, record, refused, use_up

from resto_wsgi.errors import OutboxError
from resto_wsgi.outbox import connection
from resto_wsgi.outbox.outbox import Outbox
from resto_wsgi.outbox.trouble import explain, explain_os


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("database or disk is full", "no space is left", "free some space"),
        ("attempt to write a readonly database", "cannot be written", "let the user"),
        (
            "file is not a database",
            "is not a database, or its beginning is damaged",
            "a delete that was owed must be made again",
        ),
        ("database disk image is malformed", "is damaged", "a delete that was owed must be made again"),
        ("Could not decode to UTF-8 column 'name'", "is damaged", "a delete that was owed must be made again"),
        (
            "no such table: deliveries",
            "something that it must hold is missing",
            "a delete that was owed must be made again",
        ),
        ("locking protocol", "does not lock files", "local disk"),
        ("unable to open database file", "cannot be opened", "let the user"),
        ("disk I/O error", "does not read or write it", "look at the disk"),
        ("database is locked", "another process has kept it locked", "end it"),
        ("something new", "SQLite says: something new", "look at the file"),
    ],
)
def test_what_sqlite_says_is_said_in_words(path: str, text: str, problem: str, remedy: str) -> None:
    """With the path, and with what to do."""
    error = explain(path, sqlite3.OperationalError(text))
    assert error.path == path
    assert problem in error.problem
    assert remedy in error.remedy
    assert error.full == ("is full" in text)


@pytest.mark.parametrize(
    ("number", "problem", "full"),
    [
        (errno.ENOENT, "its folder does not exist", False),
        (errno.EROFS, "its file system is read-only", False),
        (errno.ENOSPC, "no space is left", True),
        (errno.EDQUOT, "the quota is used up", True),
        (errno.EMFILE, "no more files can be opened", False),
        (errno.ENOLCK, "does not lock files", False),
        (errno.EIO, "cannot be opened or made: Input/output error", False),
    ],
)
def test_what_the_file_system_says_is_said_in_words(path: str, number: int, problem: str, full: bool) -> None:
    """By its number, for its words depend on the language."""
    error = explain_os(path, OSError(number, os.strerror(number)))
    assert problem in error.problem
    assert error.full == full


def test_an_error_of_the_disk_on_a_full_disk_is_that_it_is_full(tmp_path: Path) -> None:
    """SQLite has one word for all that a disk can refuse."""
    with mounted(tmp_path / "small") as folder:
        path = str(folder / "outbox")
        error = sqlite3.OperationalError("disk I/O error")
        assert not explain(path, error).full
        use_up(folder)
        assert explain(path, error).full
        assert "no space is left" in explain(path, error).problem


def test_whoever_keeps_it_locked_is_named(outbox: Outbox, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, with the number of the process that hangs; once it lets go, all is well again."""
    monkeypatch.setattr(connection, "BUSY", 0.1)
    script = """
        import sys, sqlite3
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        print("locked", flush=True)
        sys.stdin.read()
    """
    child = subprocess.Popen(command(script, path), stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    try:
        assert child.stdout and child.stdout.readline()
        with pytest.raises(OutboxError, match=rf"process {child.pid} \(python.*\) has kept it locked"):
            record(outbox)
        assert outbox.summary() == []  # reading waits for nobody
    finally:
        child.communicate(b"")
    record(outbox)


def test_damage_is_found_at_the_start_or_when_it_is_met(path: str) -> None:
    """The error names the file, and says what to do so that nothing is forgotten."""
    outbox = Outbox(path)
    names = fill(outbox, 20_000)
    outbox.close()
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (os.path.getsize(path) - 4096))
    with pytest.raises(
        OutboxError, match=r"is damaged; move it away and restart: .* a delete that was owed must be made again"
    ) as caught:
        Outbox(path).summary()
    assert caught.value.path == path
    with pytest.raises(OutboxError, match="is damaged"):
        Outbox(path).claim(HOST, names)
    with open(path, "r+b") as file:
        file.write(b"\xa5" * 100)
    refused(path, "is not a database, or its beginning is damaged", "a delete that was owed must be made again")


def test_a_missing_table_is_damage(path: str) -> None:
    """A file with our mark and without our tables is nothing to go on with."""
    Outbox(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE deliveries")
    outbox = Outbox(path)
    with pytest.raises(OutboxError, match="something that it must hold is missing; move it away"):
        record(outbox)
    outbox.close()
