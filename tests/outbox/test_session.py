"""One process's connection: what it goes on with after trouble, and what it opens anew."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from outboxes import HOST, Clock, fill, mounted, record, row, sound, use_up

from resto_wsgi.errors import OutboxError
from resto_wsgi.outbox import opening
from resto_wsgi.outbox import tables as outbox_tables
from resto_wsgi.outbox.outbox import Outbox


def test_a_signal_handler_does_not_write_into_what_it_interrupted(outbox: Outbox) -> None:
    """It is told so instead of waiting for itself, and what it interrupted is whole."""

    def work(connection: Any) -> None:
        connection.execute(outbox_tables.ENTOMB, ("cat", 1))
        with pytest.raises(OutboxError, match="signal handler"):
            outbox.entomb("dog")

    outbox._database.write(work)
    assert (outbox.is_gone("cat"), outbox.is_gone("dog")) == (True, None)


def test_the_journal_does_not_stay_huge(outbox: Outbox, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that held up the checkpoints lets it grow; afterwards it is cut back."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN").execute("SELECT * FROM meta").fetchall()
        for count in range(60):
            outbox.owe(HOST, [f"{count}-{number}-{'x' * 100}" for number in range(1000)])
        grown = os.path.getsize(path + "-wal")
        reader.execute("ROLLBACK")
    assert grown > opening.JOURNAL
    for number in range(3):
        outbox.owe(HOST, [f"{number}"])
        time.sleep(0)
    assert os.path.getsize(path + "-wal") <= opening.JOURNAL


def test_damage_under_way_is_found(path: str) -> None:
    """Each later call fails as the first one; nothing pretends to be recorded."""
    outbox = Outbox(path)
    fill(outbox, 20_000)
    outbox.close()
    outbox.next_due(HOST)
    with open(path, "r+b") as file:
        file.seek(8192)
        file.write(b"\x00" * (os.path.getsize(path) - 8192))
    for _ in range(3):
        with pytest.raises(OutboxError, match="is damaged"):
            outbox.summary()
        with pytest.raises(OutboxError, match="is damaged"):
            outbox.owe(HOST, [f"folder/{number:06}.jpg" for number in range(0, 20_000, 20)])
    outbox.close()


def test_a_full_disk_is_said_and_overcome_without_a_restart(tmp_path: Path, clock: Clock) -> None:
    """What was recorded before can still be read; once there is space, the same outbox goes on."""
    with mounted(tmp_path / "small") as folder:
        outbox = Outbox(str(folder / "outbox"), clock=clock)
        record(outbox)
        filler, connection = use_up(folder), outbox._database._session._connection
        for _ in range(2):
            with pytest.raises(OutboxError, match="no space is left; free some space") as caught:
                fill(outbox, 3000)
            assert caught.value.full
            assert row(outbox).name == "cat"
            assert outbox._database._session._connection is connection  # a new one might find no space for its -shm
        refused_names = outbox.owed([HOST])
        filler.unlink()
        record(outbox, "dog")
        assert outbox.owed([HOST]) == refused_names + 1
        outbox.close()
        assert sound(str(folder / "outbox"))
