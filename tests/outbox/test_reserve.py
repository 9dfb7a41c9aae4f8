"""Full disks: small file systems of our own, filled to the last byte while an outbox is open on them.

What must go on there are deletes and settlements; what must be refused are saves; and no page of the file may be
missing on the disk, whatever happens.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from outboxes import HOST, NOW, OTHER, Clock, command, mounted, record, run, sound, use_up

from resto_wsgi.errors import OutboxError
from resto_wsgi.hosts import Host
from resto_wsgi.outbox import reserve
from resto_wsgi.outbox.outbox import Failure, Outbox

THIRD = Host.of("http://c/media")
HOSTS = [HOST, OTHER, THIRD]
PROMISED = 1000  # deletes that three hosts owe, on a disk that has not a byte left


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    with mounted(tmp_path / "small", "16m") as folder:
        yield folder


@pytest.fixture
def small(disk: Path, clock: Clock) -> Iterator[Outbox]:
    """An outbox on it that nobody has used yet."""
    outbox = Outbox(str(disk / "outbox"), clock=clock)
    yield outbox
    outbox.close()


def delete(outbox: Outbox, name: str) -> None:
    """Record a delete that is sent to nobody."""
    outbox.record(name, HOSTS, begin=False, due=NOW, gone=True, reserve=True)


def until_full(work: Callable[[str], object], most: int = 100_000) -> int:
    """Do ``work`` with one name after the other until there is no space; return how often it was done."""
    for number in range(most):
        try:
            work(f"uploads/2026/11/{number:06}.jpg")
        except OutboxError as error:  # noqa: PERF203 - it is looked for at each
            assert error.full, error
            assert "no space is left" in str(error)
            return number
    return most


def rows(path: str) -> set[int]:
    """Return the numbers of the rows of the reserve, and of what it has noted."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {number for (number,) in connection.execute("SELECT number FROM reserve")}


def has_no_holes(path: str) -> bool:
    """True if all pages of the file, as SQLite counts them, are on the disk."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    status = os.stat(path)
    return status.st_blocks * 512 >= status.st_size >= pages * 4096


WHOLE = {1, 2, 3, 4}


def test_a_fresh_outbox_has_its_reserve(small: Outbox, disk: Path) -> None:
    """In the file and in the log, and all of it on the disk."""
    path = str(disk / "outbox")
    assert rows(path) == WHOLE
    assert has_no_holes(path)
    log = os.stat(f"{path}-wal")
    assert log.st_blocks * 512 >= log.st_size >= reserve.LOG


def test_deletes_go_on_on_a_disk_that_is_full(small: Outbox, disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A thousand at least, each owed to three hosts; the log says what they live on, and the file is sound."""
    use_up(disk)
    assert until_full(lambda name: delete(small, name)) >= PROMISED
    assert "its reserve is used, 3 of 4 left" in caplog.text
    assert "its reserve is used, 1 of 4 left" in caplog.text
    assert small.owed(HOSTS) >= 3 * PROMISED
    assert len(list(small.tombstones())) >= PROMISED
    assert has_no_holes(str(disk / "outbox"))
    assert sound(str(disk / "outbox"))


def test_deletes_that_hosts_take_go_on_for_ever(small: Outbox, disk: Path) -> None:
    """Only their tombstones stay: recorded, sent and settled, which frees what it took."""

    def deliver(name: str) -> None:
        recorded = small.record(name, HOSTS, begin=True, due=NOW, gone=True, reserve=True)
        small.settle(list(recorded.values()))

    use_up(disk)
    assert until_full(deliver, 5 * PROMISED) == 5 * PROMISED
    assert small.summary() == []


def test_settlements_failures_and_cancels_go_on(small: Outbox, disk: Path, clock: Clock) -> None:
    """Whatever ends or moves what was owed before the disk was full."""
    names = [f"{number:05}" for number in range(3000)]
    small.owe(HOST, names)
    fresh = [record(small, f"fresh {number}", OTHER) for number in range(500)]
    use_up(disk)
    until_full(lambda name: delete(small, name))  # which leave what this needs
    for begin in range(0, len(names), 50):
        claimed = small.claim(HOST, names[begin : begin + 50])
        failed = [Failure(each, NOW + 60, "no answer in time" * 5, unsure_until=NOW + 20) for each in claimed[::2]]
        small.settle(claimed[1::2], failed)
    small.release(small.claim(HOST, names[:50]), NOW + 5)
    small.cancel(fresh)
    small.nudge([HOST])
    owed = {line.host: line.owed for line in small.summary()}
    assert owed[HOST] - owed[THIRD] == 1500
    assert owed[OTHER] == owed[THIRD]


def test_saves_are_refused_and_leave_nothing(small: Outbox, disk: Path) -> None:
    """As soon as the reserve is in use, also by other processes, though deletes still have room."""
    use_up(disk)
    saved = until_full(lambda name: record(small, name))
    for number in range(500):
        delete(small, f"gone {number}")
    for number in range(500, 600):
        delete(small, f"gone {number}")
        with pytest.raises(OutboxError, match="no space is left") as caught:
            record(small, "refused")
        assert caught.value.full
    script = """
        import json, sys
        from resto_wsgi.errors import OutboxError
        from resto_wsgi.hosts import Host
        from resto_wsgi.outbox.outbox import Outbox
        outbox, hosts, full = Outbox(sys.argv[1]), [Host.of("http://a/media")], []
        for reserve in (False, True):
            try:
                outbox.record("other", hosts, begin=True, due=0.0, gone=reserve, reserve=reserve)
                full.append(False)
            except OutboxError as error:
                full.append(error.full)
        print(json.dumps(full))
    """
    assert run(script, disk / "outbox") == [True, False]
    assert small.deliveries("refused") == {}
    assert {line.host: line.owed for line in small.summary()} == {
        HOST: saved + 601,
        OTHER: 600,
        THIRD: 600,
    }


def test_space_again_makes_the_reserve_whole_before_anything_is_saved(
    small: Outbox, disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By the first save that comes; a delete has no need of it."""
    path = str(disk / "outbox")
    filler = use_up(disk)
    until_full(lambda name: delete(small, name))
    assert rows(path) == {reserve.USED, 1}
    filler.unlink()
    delete(small, "later")
    record(small, "saved")
    assert rows(path) == WHOLE
    assert "there is space again" in caplog.text
    assert has_no_holes(path)


def test_what_settlements_free_makes_it_whole_too(small: Outbox, disk: Path) -> None:
    """The disk stays full: a site whose hosts were away heals itself when they are back."""
    path = str(disk / "outbox")
    use_up(disk)
    saved = until_full(lambda name: record(small, name, begin=False))
    deleted = until_full(lambda name: delete(small, f"gone {name}"))
    with pytest.raises(OutboxError):
        record(small, "saved")
    for host in HOSTS:
        while names := small.due(host, NOW, 64):
            small.settle(small.claim(host, names))
    assert small.purge(NOW + 1) == deleted
    record(small, "saved")
    assert rows(path) == WHOLE
    assert until_full(lambda name: record(small, name)) >= saved / 2
    assert has_no_holes(path)


def test_nobody_else_can_take_it(small: Outbox, disk: Path) -> None:
    """A program that takes each byte as soon as it is free, as uploads do on a disk that they share with the outbox."""
    filler, over = use_up(disk), threading.Event()

    def take() -> None:
        with open(filler, "ab", buffering=0) as file:
            while not over.is_set():
                with contextlib.suppress(OSError):
                    file.write(bytes(4096))

    thread = threading.Thread(target=take)
    thread.start()
    try:
        for number in range(PROMISED):
            delete(small, f"{number}")
            small.settle(small.claim(HOST, [f"{number}"]))
    finally:
        over.set()
        thread.join()
    assert {line.host: line.owed for line in small.summary()} == {OTHER: PROMISED, THIRD: PROMISED}


def test_an_outbox_that_has_filled_its_disk_gets_free_by_itself(small: Outbox, disk: Path) -> None:
    """What it owes is all that is on that disk. SQLite alone would have to enlarge the file to shorten its log."""

    def owe(name: str) -> None:
        small.owe(HOST, [f"{name}/{number}" for number in range(200)])

    assert until_full(owe) * 200 > 20_000
    use_up(disk)
    owed = small.owed([HOST])
    for _ in range(20):
        small.settle(small.claim(HOST, small.due(HOST, NOW, 64)))
    assert small.owed([HOST]) == owed - 20 * 64
    while names := small.due(HOST, NOW, 64):
        small.settle(small.claim(HOST, names))
    assert until_full(owe) * 200 > 20_000
    assert has_no_holes(str(disk / "outbox"))


def test_the_file_never_has_a_page_that_is_not_on_the_disk(small: Outbox, disk: Path) -> None:
    """Looked at after each part of growing, up to the last byte."""
    path = str(disk / "outbox")
    number = 0
    with contextlib.suppress(OutboxError):
        for number in range(10_000):
            small.owe(HOST, [f"{number}/{count}" for count in range(50)])
            if number % 10 == 0:
                assert has_no_holes(path)
    assert number > 100
    use_up(disk)
    assert has_no_holes(path)


def test_a_reader_that_hangs_holds_up_no_save(small: Outbox, disk: Path) -> None:
    """It keeps the log from being emptied, so that new pages are not there yet; the disk has the space."""
    with contextlib.closing(sqlite3.connect(disk / "outbox", isolation_level=None)) as reader:
        reader.execute("BEGIN").execute("SELECT * FROM meta").fetchall()
        for number in range(8):
            small.owe(HOST, [f"{number}/{count}" for count in range(1000)])
    assert small.owed([HOST]) == 8000


def test_other_processes_may_open_it_when_the_disk_is_full(small: Outbox, disk: Path) -> None:
    """`resto status` and `resto drain`, beside the application."""
    use_up(disk)
    deleted = until_full(lambda name: delete(small, name))
    script = """
        import json, sys
        from resto_wsgi.hosts import Host
        from resto_wsgi.outbox.outbox import Outbox
        outbox, host = Outbox(sys.argv[1]), Host.of("http://a/media")
        outbox.nudge([host])
        outbox.settle(outbox.claim(host, outbox.due(host, 2e9, 64)))
        print(json.dumps(outbox.owed([host])))
    """
    for turn in range(1, 4):
        assert run(script, disk / "outbox") == deleted - 64 * turn


KILLED = """
    import sys, time, itertools
    from resto_wsgi.hosts import Host
    from resto_wsgi.outbox.outbox import Outbox
    outbox, hosts = Outbox(sys.argv[1]), [Host.of("http://a/media"), Host.of("http://b/media")]
    print("open", flush=True)
    sys.stdin.readline()
    for number in itertools.count():
        outbox.record(f"gone/{number}", hosts, begin=True, due=0.0, gone=True, reserve=True)
        print(number, flush=True)
"""


def test_kill_9_on_a_full_disk_leaves_a_sound_file(disk: Path) -> None:
    """All that was reported is there, the reserve goes on where it was, and it is made whole when there is space."""
    path, done = str(disk / "outbox"), 0
    for turn in range(4):
        child = subprocess.Popen(command(KILLED, path), stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        assert child.stdout and child.stdin and child.stdout.readline() == "open\n"
        filler = use_up(disk)
        child.stdin.write("\n")
        child.stdin.flush()
        for _ in range(150 * (turn + 1)):
            done = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        child.communicate()
        filler.unlink()
        outbox = Outbox(path)
        assert all(outbox.is_gone(f"gone/{number}") for number in range(done))
        assert rows(path) == WHOLE
        outbox.close()
        assert sound(path)
        assert has_no_holes(path)


@pytest.mark.parametrize("where", ["_is_on_disk", "_free"])
def test_growing_that_was_cut_off_is_gone_on_with(
    small: Outbox, disk: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """By whoever needs room next; what the dead process had added is used."""
    path = str(disk / "outbox")

    def killed(*_: object) -> Any:
        raise KeyboardInterrupt

    def save() -> None:
        small.owe(HOST, [f"{number}" for number in range(5000)])

    with monkeypatch.context() as patch:
        patch.setattr(reserve.Reserve if where == "_is_on_disk" else reserve, where, killed)
        with pytest.raises(KeyboardInterrupt):
            save()
    assert rows(path) == {*WHOLE, reserve.GROWING}
    save()
    assert rows(path) == WHOLE
    assert has_no_holes(path)


def test_space_that_somebody_takes_while_the_file_grows_leaves_it_as_it_was(
    small: Outbox, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The save is refused, deletes go on in what the log has left, and growing is finished when there is space."""
    path = str(disk / "outbox")
    real = reserve.Reserve._is_on_disk
    fillers: list[Path] = []

    def too_late(self: reserve.Reserve, connection: Any) -> bool:
        fillers.append(use_up(disk))
        return real(self, connection)

    with monkeypatch.context() as patch:
        patch.setattr(reserve.Reserve, "_is_on_disk", too_late)
        saved = until_full(lambda name: record(small, name))
    assert reserve.GROWING in rows(path)
    assert until_full(lambda name: record(small, f"more/{name}")) < 100
    small.settle(small.claim(HOST, small.due(HOST, NOW, 20)))
    fillers[0].unlink()
    assert until_full(lambda name: record(small, f"again/{name}"), 3000) == 3000
    assert small.owed([HOST]) >= saved + 2980
    assert rows(path) == WHOLE
    assert has_no_holes(path)


def test_a_small_disk_has_a_small_reserve_or_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said, once; saves are as good as anywhere as long as there is space."""
    for size, number, warned in (("4m", 3, False), ("1m", 0, True)):
        caplog.clear()
        with mounted(tmp_path / size, size) as folder:
            outbox = Outbox(str(folder / "outbox"))
            assert len(rows(str(folder / "outbox"))) == number, size
            assert ("nothing" in caplog.text or "no space to keep" in caplog.text) == warned
            filler = use_up(folder)
            until_full(lambda name: delete(outbox, name))  # noqa: B023 - it ends before the next
            filler.unlink()
            for host in HOSTS:
                while names := outbox.due(host, NOW, 64):
                    outbox.settle(outbox.claim(host, names))
            record(outbox, "saved")
            assert len(rows(str(folder / "outbox"))) == number
            outbox.close()


def test_a_log_that_is_full_costs_no_page_of_the_reserve(small: Outbox, disk: Path) -> None:
    """A change of very many rows may find no room in the log; giving up pages would not help it."""
    path = str(disk / "outbox")
    small.owe(HOST, [f"{number:05}" for number in range(40_000)])
    small.close()  # its log has grown, and another is begun
    small.next_due(HOST)
    use_up(disk)

    def change_all(connection: Any) -> None:
        connection.execute("UPDATE deliveries SET reason = 'x', due = due + 1")

    with pytest.raises(OutboxError, match="no space is left"):
        small._database.write(change_all)
    assert len(rows(path)) >= len(WHOLE)
    assert small.owed([HOST]) == 40_000


def test_nothing_is_logged_while_all_is_well(small: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    """A file that grows is nothing to be told."""
    caplog.set_level(logging.DEBUG)
    small.owe(HOST, [f"{number}" for number in range(10_000)])
    assert caplog.text == ""
