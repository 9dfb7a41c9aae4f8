"""Opening, on a real disk: what is made, adopted, upgraded or refused, and that no other file is taken for the same."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest
from outboxes import HOST, NOW, A, Clock, command, fill, mounted, record, refused, remount, row, run, use_up

from resto_wsgi.errors import OutboxError
from resto_wsgi.outbox import opening
from resto_wsgi.outbox.outbox import HostState, Outbox


def test_nobody_but_the_owner_may_read_it(outbox: Outbox, path: str) -> None:
    """Nor what SQLite puts beside it, whatever the umask; closed, nothing is left beside it."""
    record(outbox)
    for suffix in ("", "-wal", "-shm"):
        assert stat.S_IMODE(os.stat(path + suffix).st_mode) == 0o600
    outbox.close()
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
    record(outbox)  # after close, it opens again


def test_a_path_with_marks_of_a_uri_is_but_a_path(tmp_path: Path) -> None:
    """Neither ? nor # nor % is anything special, nor a byte that is no UTF-8, nor a symbolic link."""
    os.symlink(tmp_path / "else.sqlite3", tmp_path / "link")
    for name in ("a?mode=memory&x#y%41", b"\xff".decode(errors="surrogateescape"), "link"):
        outbox = Outbox(str(tmp_path / name))
        record(outbox)
        outbox.close()
        assert os.path.getsize(tmp_path / name) > 0
    assert os.path.islink(tmp_path / "link")


def test_what_is_no_place_for_an_outbox_is_refused(tmp_path: Path) -> None:
    """Each with what to do about it."""
    (tmp_path / "file").write_text("text")
    refused(str(tmp_path / "no" / "outbox"), "its folder does not exist", "RESTO_OUTBOX")
    refused(str(tmp_path / "file" / "outbox"), "its folder is a file", "RESTO_OUTBOX")
    refused(str(tmp_path), "is a folder", "RESTO_OUTBOX")
    refused("/proc/outbox", "cannot be opened or made|does not exist")


def test_a_file_of_another_program_is_not_touched(path: str) -> None:
    """Neither a text nor a database, whether that names its application or not."""
    Path(path).write_bytes(b"Dear diary, " * 1000)
    refused(path, "is not a database", "a delete that was owed must be made again")
    assert Path(path).read_bytes() == b"Dear diary, " * 1000
    os.unlink(path)
    for statement in ("CREATE TABLE recipes (x)", "PRAGMA application_id=42"):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute(statement)
        before = Path(path).read_bytes()
        refused(path, "database of another program", "RESTO_OUTBOX")
        assert Path(path).read_bytes() == before
        os.unlink(path)


def test_a_file_system_without_shared_memory_is_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's dotfile locking stands for a network file system: it cannot do WAL either."""
    monkeypatch.setattr(opening, "OPTIONS", "mode=rw&vfs=unix-dotfile")
    refused(path, "does not allow a write-ahead log", "local disk")


def test_a_newer_outbox_is_refused(path: str) -> None:
    """At the start, and by a process that still runs when a newer program upgrades the file under it."""
    outbox = Outbox(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(OutboxError, match=r"has version 99 .*; upgrade resto_wsgi"):
        record(outbox)
    outbox.close()
    refused(path, "has version 99", "upgrade")


class NextOutbox(Outbox):
    """As a later version would: a column more, and a table changed in place."""

    _steps = (
        *Outbox._steps,
        ("ALTER TABLE deliveries ADD COLUMN size INTEGER NOT NULL DEFAULT 7", "CREATE TABLE more (x)"),
        ("UPDATE deliveries SET size = size + 1",),
    )


def test_an_upgrade_keeps_every_row(path: str, clock: Clock) -> None:
    """Whatever is owed, known of hosts and deleted is there afterwards, and generations go on."""
    outbox = Outbox(path, identity="one", clock=clock)
    fill(outbox, 1500)
    outbox.entomb("gone")
    outbox.note_host(HostState(HOST, "down", NOW, 1, NOW, "no"))
    before = outbox.summary(), row(outbox, "folder/000001.jpg"), outbox.host_states()
    outbox.close()
    newer = NextOutbox(path, identity="one", clock=clock)
    assert (newer.summary(), row(newer, "folder/000001.jpg"), newer.host_states()) == before
    assert newer.is_gone("gone") is True
    assert newer._database.read("SELECT DISTINCT size FROM deliveries") == [(8,)]
    assert record(newer).generation > before[1].generation
    newer.close()
    NextOutbox(path).close()
    refused(path, "has version 4 of the schema, and this program knows 2")


def test_an_upgrade_that_fails_changes_nothing(path: str) -> None:
    """The older program, or a better upgrade, finds the file as it was."""

    class Broken(NextOutbox):
        _steps = (*NextOutbox._steps[:2], ("UPDATE deliveries SET size = 9", "INSERT INTO nowhere VALUES (1)"))

    outbox = Outbox(path)
    record(outbox)
    outbox.close()
    with pytest.raises(OutboxError):
        Broken(path)
    outbox = Outbox(path)
    assert outbox.owed([HOST]) == 1
    outbox.close()
    NextOutbox(path).close()


def test_many_processes_may_make_the_outbox_at_once(path: str) -> None:
    """As the workers of a server do that all start with an empty media root."""
    script = """
        import sys
        from resto_wsgi.hosts import Host
        from resto_wsgi.outbox.outbox import Outbox
        print("ready", flush=True)
        sys.stdin.readline()
        outbox = Outbox(sys.argv[1], identity="x")
        outbox.record(sys.argv[2], [Host.of("a")], begin=True, due=0.0)
    """
    children = [
        subprocess.Popen(
            command(script, path, number), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for number in range(8)
    ]
    for child in children:
        assert child.stdout and child.stdout.readline()
    for child in children:
        assert child.stdin
        child.stdin.write(b"\n")
        child.stdin.flush()
    for child in children:
        assert child.communicate(timeout=60)[1] == b""
    outbox = Outbox(path)
    assert outbox.owed([A]) == 8
    outbox.close()


def test_other_users_of_the_folder_are_waited_for(path: str) -> None:
    """Making and upgrading is done by one process at a time, under a lock on the folder."""
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    made: list[Outbox] = []
    thread = threading.Thread(target=lambda: made.append(Outbox(path)))
    thread.start()
    thread.join(0.2)
    assert made == []
    os.close(folder)
    thread.join(10)
    made[0].close()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_nothing_is_recorded_into_a_file_that_was_removed(path: str, suffix: str) -> None:
    """Neither the file nor what is beside it: no other process would ever see it. Put back, it works again."""
    outbox = Outbox(path)
    record(outbox)
    os.rename(path + suffix, path + ".away")
    for work in (lambda: record(outbox, "dog"), outbox.summary):
        with pytest.raises(
            OutboxError, match=r"was removed or replaced while in use.* a delete that was owed must be made again"
        ):
            work()
    os.rename(path + ".away", path + suffix)
    assert record(outbox, "dog").fresh
    outbox.close()


def test_a_file_that_was_replaced_is_not_taken_for_the_old_one(path: str) -> None:
    """Not even after a close or a fork, when the connection is made anew."""
    outbox = Outbox(path)
    record(outbox)
    outbox.close()
    os.rename(path, path + ".away")
    for _ in range(2):
        with pytest.raises(OutboxError, match="was removed or replaced"):
            record(outbox)
        assert not os.path.exists(path)
    Outbox(path).close()
    with pytest.raises(OutboxError, match="was removed or replaced"):
        record(outbox)


def test_a_disk_that_is_full_at_the_start_is_refused(tmp_path: Path) -> None:
    """Whether the outbox is there already or not; once there is space, it is made."""
    with mounted(tmp_path / "small") as folder:
        path = str(folder / "outbox")
        filler = use_up(folder)
        assert refused(path, "no space is left").full
        filler.unlink()
        Outbox(path).close()
        filler = use_up(folder)
        assert refused(path, "no space is left").full
        filler.unlink()
        Outbox(path).close()


def test_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    """At the start and under way; made writable again, both work."""
    with mounted(tmp_path / "small") as folder:
        path = str(folder / "outbox")
        Outbox(path).close()
        remount(folder, "ro")
        refused(path, "read-only", "mount it writable")
        refused(str(folder / "another"), "read-only", "mount it writable")
        remount(folder, "rw")
        outbox = Outbox(path)
        outbox.close()  # a file open for writing would keep it from being made read-only
        remount(folder, "ro")
        with pytest.raises(OutboxError, match="read-only"):
            record(outbox)
        remount(folder, "rw")
        record(outbox)
        outbox.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_file_or_folder_that_may_not_be_written_is_refused() -> None:
    """Root may write everything, so the outbox is opened by a user who may not."""
    script = """
        import os, sys, json
        from resto_wsgi.errors import OutboxError
        from resto_wsgi.outbox.outbox import Outbox
        os.setgid(65534); os.setuid(65534)
        try:
            Outbox(sys.argv[1])
            print(json.dumps("made"))
        except OutboxError as error:
            print(json.dumps(str(error)))
    """
    with tempfile.TemporaryDirectory() as reachable, mounted(Path(reachable, "small")) as folder:
        Path(reachable).chmod(0o711)  # pytest's own folders are closed to others, and every run of it closes them again
        folder.chmod(0o755)
        file = folder / "outbox"
        assert "cannot be opened or made; let the user" in run(script, file)
        Outbox(str(file)).close()
        assert "cannot be opened; let the user that runs" in run(script, file)
        file.chmod(0o644)
        assert "let the user that runs" in run(script, file)
        file.chmod(0o666)
        assert "let the user that runs" in run(script, file)
        folder.chmod(0o777)
        assert run(script, file) == "made"
