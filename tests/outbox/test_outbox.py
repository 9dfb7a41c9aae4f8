"""What the outbox owes, to whom and since when, on a real file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from outboxes import HOST, NOW, OTHER, WRITER, Clock, command, fill, record, row, statements

from resto_wsgi.errors import OutboxError
from resto_wsgi.outbox import tables as outbox_tables
from resto_wsgi.outbox.outbox import Delivery, Failure, HostState, Outbox, Owed
from resto_wsgi.outbox.rows import ROOM

# When it is due


def test_the_earliest_due_comes_first(outbox: Outbox) -> None:
    """Parked ones too when their time has come; never more than asked for."""
    for name, due in (("c", 3), ("a", 5), ("b", 1), ("later", 11)):
        record(outbox, name, due=NOW + due)
    outbox.settle([], [Failure(row(outbox, "c"), NOW + 4, "forbidden", 403, parked=True)])
    assert outbox.due(HOST, NOW + 10, 10) == ["b", "c", "a"]
    assert outbox.due(HOST, NOW + 10, 2) == ["b", "c"]
    assert outbox.due(HOST, NOW + 10, 2, latest=True) == ["a", "c"]
    assert outbox.due(OTHER, NOW + 10, 10) == []
    assert outbox.next_due(HOST) == NOW + 1
    assert outbox.next_due(OTHER) is None


def test_a_clock_that_is_set_back_makes_everything_due_but_what_is_parked(outbox: Outbox, clock: Clock) -> None:
    """Nothing is put off for more than some minutes, so what is due later was noted by another clock."""
    record(outbox, "cat", due=NOW)
    record(outbox, "dog", due=NOW)
    outbox.settle([], [Failure(row(outbox, "dog"), NOW + 86400, "forbidden", 403, parked=True)])
    clock.now = NOW - 600
    assert (outbox.due(HOST, clock.now, 10), outbox.next_due(HOST)) == ([], NOW)
    clock.now = NOW - 3601
    assert (outbox.due(HOST, clock.now, 10), outbox.next_due(HOST)) == (["cat"], clock.now)


def test_postponing_moves_the_time_and_nothing_else(outbox: Outbox) -> None:
    """Somebody else is busy with it, which is no failure; what is not owed stays unowed."""
    before = record(outbox)
    outbox.postpone(HOST, ["cat", "dog"], NOW + 3)
    assert row(outbox) == before._replace(due=NOW + 3, fresh=False, entombed=None)
    assert outbox.deliveries("dog") == {}


def test_a_nudge_makes_a_host_due_now(outbox: Outbox) -> None:
    """What a host refused only if asked for, what this side parked always; other hosts and late arrivals wait on."""
    outbox.note_host(HostState(HOST, "down", NOW, 1, NOW + 50, "refused"))
    outbox.owe(HOST, [f"{count}" for count in range(2500)])
    outbox.postpone(HOST, [f"{count}" for count in range(2500)], NOW + 60)
    record(outbox, "other", OTHER, due=NOW + 60)
    for name, failure in {"parked": {"parked": True, "status": 403}, "unsure": {"unsure_until": NOW + 20}}.items():
        outbox.settle([], [Failure(record(outbox, name), NOW + 60, "no", **failure)])  # type: ignore[arg-type]
    outbox.settle(outbox.claim(HOST, ["unsure"]))
    outbox.settle([], [Failure(record(outbox, "ours"), NOW + 60, "missing", parked=True)])
    outbox.nudge([HOST])
    assert len(outbox.due(HOST, NOW, 5000)) == 2501
    assert not row(outbox, "ours").parked
    assert outbox.host_states()[HOST].retry_at == 0
    assert (row(outbox, "parked").due, row(outbox, "unsure").due) == (NOW + 60, NOW + 20)
    assert row(outbox, "other", OTHER).due == NOW + 60
    outbox.nudge([HOST], parked=True)
    assert (row(outbox, "parked").due, row(outbox, "parked").parked) == (NOW, False)
    assert row(outbox, "unsure").due == NOW + 20


def test_what_was_refused_is_retried_by_its_status(outbox: Outbox) -> None:
    """A host that is writable again takes what it refused as read-only, not what was too large for it."""
    for name, status in (("a", 403), ("b", 405), ("c", 413)):
        outbox.settle([], [Failure(record(outbox, name), NOW + 900, "no", status, parked=True)])
    outbox.retry_all(HOST, [403, 405])
    outbox.retry_all(HOST, [])
    assert outbox.due(HOST, NOW, 10) == ["a", "b"]
    assert [owed.parked for owed in outbox.summary()] == [1]


def test_one_of_what_was_refused_is_retried_first(outbox: Outbox) -> None:
    """That which would be due first; another one at the next call, and none if none is left."""
    for name, status, due in (("a", 403, 900), ("b", 403, 300), ("c", 403, 600), ("d", 413, 100)):
        outbox.settle([], [Failure(record(outbox, name), NOW + due, "no", status, parked=True)])
    for due in (["b"], ["b", "c"], ["a", "b", "c"], ["a", "b", "c"]):
        outbox.retry_one(HOST, [405, 403])
        assert outbox.due(HOST, NOW, 10) == due


# Many at once


def test_sync_owes_many_names_in_parts(outbox: Outbox, path: str) -> None:
    """The names may come from anywhere, the outbox itself included, and none is held in memory."""
    fill(outbox, 2500)
    assert outbox.generation() == int(NOW * 1e9) + 2 * ROOM
    for name in ("b", "a"):
        outbox.entomb(name)
    outbox.settle([], [Failure(record(outbox, "a"), NOW + 60, "no", 403, parked=True)])
    assert outbox.owe(HOST, outbox.tombstones()) == 2

    def watched() -> Iterator[str]:
        for number in range(2001):
            assert outbox.owed([OTHER]) == number // 1000 * 1000
            yield f"{number}"

    assert outbox.owe(OTHER, watched()) == 2001
    assert row(outbox, "a") == Delivery(HOST, "a", row(outbox, "a").generation, NOW, NOW, 0, False, 0.0, None, "")
    assert outbox.owed([HOST]) == 2502


def test_the_summary_counts_each_host(outbox: Outbox, clock: Clock) -> None:
    """Parked ones are owed too; a host that is owed nothing is not there."""
    assert outbox.summary() == []
    record(outbox, "a", OTHER)
    clock.now += 1
    record(outbox, "a")
    outbox.settle([], [Failure(record(outbox, "b", OTHER), NOW, "no", parked=True)])
    assert outbox.summary() == [Owed(HOST, 1, 0, NOW + 1), Owed(OTHER, 2, 1, NOW)]
    assert outbox.owed([HOST, OTHER]) == 3
    assert outbox.owed([HOST, OTHER], parked=False) == 2
    assert outbox.owed([]) == 0


def test_every_statement_on_many_rows_uses_an_index(outbox: Outbox, path: str) -> None:
    """No scan of a table and no sort, so that 100,000 deliveries cost no more than those that are asked for."""
    marks: dict[str, object] = {
        "host": HOST.url,
        "now": NOW,
        "chunk": 1,
        "status": 1,
        "before": NOW,
        "converged": "",
        "due": 1.0,
        "name": "n",
    }
    fill(outbox, 100_000)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in (value for key, value in vars(outbox_tables).items() if is_statement(key, value)):
            values: Any = marks | {
                "late": 1,
                "set_back": 1,
                "latest": 1,
                "to_first": 1,
                "to_second": 1,
                "watched": 2,
                "reason": "",
                "generation": 1,
                "unsure_until": 1.0,
            }
            values |= {"parked": 0}
            if "?" in statement:
                values = (1,) * statement.count("?")
            plan = [line[3] for line in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
            wrong = [line for line in plan if "TEMP B-TREE" in line or line.startswith("SCAN")]
            if statement == outbox_tables.SUMMARY:
                wrong.remove("SCAN deliveries USING COVERING INDEX deliveries_by_host")
            for few in ("hosts", "members"):
                if statement == getattr(outbox_tables, few.upper()):
                    wrong.remove(f"SCAN {few}")
            assert wrong == [], statement


def is_statement(key: str, value: object) -> bool:
    return key.isupper() and isinstance(value, str) and value.split()[0] in ("SELECT", "UPDATE", "DELETE")


def test_the_summary_is_exact_while_others_write(path: str, outbox: Outbox) -> None:
    """Each recording owes two names to two hosts in one transaction, so that the counts are always equal."""
    stop = threading.Event()
    child = subprocess.Popen(command(WRITER, path, "forever"), stdout=subprocess.PIPE)
    try:
        assert child.stdout and child.stdout.readline()
        end = time.monotonic() + 1
        seen = set()
        while time.monotonic() < end:
            counts = {owed.owed for owed in outbox.summary()}
            assert len(counts) <= 1
            seen |= counts
        assert len(seen) > 3
    finally:
        stop.set()
        child.kill()
        child.communicate()


# Names that are present, and tombstones


def test_a_tombstone_stays_until_it_is_purged(outbox: Outbox, clock: Clock) -> None:
    """Not of a name that a host is still owed, and not of one that hosts hold again."""
    assert outbox.is_gone("cat") is None
    for name in ("cat", "owed", "back"):
        outbox.entomb(name)
    record(outbox, "owed")
    outbox.note_present("back")
    clock.now += 10
    outbox.entomb("young")
    assert list(outbox.tombstones()) == ["cat", "owed", "young"]
    assert outbox.purge(NOW) == 0
    assert outbox.purge(NOW + 10) == 1
    assert [outbox.is_gone(name) for name in ("cat", "owed", "back", "young")] == [None, True, False, True]


def test_names_are_listed_in_order_below_a_prefix(outbox: Outbox) -> None:
    """In the order of their bytes, tombstones left out; a prefix is text, no pattern."""
    for name in ("b/2", "b/1", "b%", "a", "b/\U0010ffff\U0010ffff", "c", "ж"):
        outbox.note_present(name)
    outbox.entomb("b/3")
    assert list(outbox.names()) == ["a", "b%", "b/1", "b/2", "b/\U0010ffff\U0010ffff", "c", "ж"]
    assert list(outbox.names("b/")) == ["b/1", "b/2", "b/\U0010ffff\U0010ffff"]
    assert list(outbox.names("b/2")) == ["b/2"]
    assert list(outbox.names("x")) == []


def test_listing_takes_the_same_memory_for_any_number_of_names(outbox: Outbox) -> None:
    """Names are read part by part, and may be deleted and added meanwhile."""
    with contextlib.closing(sqlite3.connect(outbox.path)) as connection, connection:
        rows = ((f"folder/{count:06}", None if count % 2 else NOW) for count in range(60_000))
        connection.executemany("INSERT INTO names (name, gone) VALUES (?, ?)", rows)
    tracemalloc.start()
    try:
        count = sum(1 for _ in outbox.names()) + sum(1 for _ in outbox.tombstones())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 60_000
    assert peak < 1_000_000
    for seen, name in enumerate(outbox.names()):
        if seen == 0:
            outbox.entomb("folder/059999")
        assert name != "folder/059999"
    assert outbox.purge(NOW + 1) == 30_001


# Durability


def test_recording_waits_for_the_disk_and_settling_does_not(outbox: Outbox) -> None:
    """Only a settlement may be lost to a power cut: it is one more converging then."""
    delivery = record(outbox)
    levels: dict[str, list[Callable[[], object]]] = {
        "FULL": [
            lambda: record(outbox),
            lambda: outbox.entomb("cat"),
            lambda: outbox.owe(HOST, ["cat"]),
        ],
        "NORMAL": [
            lambda: outbox.claim(HOST, ["cat"]),
            lambda: outbox.settle([delivery]),
            lambda: outbox.release([delivery], NOW),
        ],
    }
    for level, works in levels.items():
        for work in works:
            outbox.postpone(HOST, [], NOW) if level == "FULL" else outbox.entomb("dog")  # the other one before it
            seen = statements(outbox, work)
            assert seen[0] == f"PRAGMA synchronous={level}", seen
            assert seen[1] == "BEGIN IMMEDIATE"


@pytest.mark.skipif(not os.access("/usr/bin/strace", os.X_OK), reason="strace counts what reaches the disk")
def test_as_many_fsyncs_as_recordings(path: str) -> None:
    """Counted at the kernel: each record waits for one, claims and settlements for none."""
    script = """
        import sys
        from resto_wsgi.hosts import Host
        from resto_wsgi.outbox.outbox import Outbox
        outbox, host = Outbox(sys.argv[1]), Host.of("http://host")
        for number in range(50):
            recorded = outbox.record(f"{number}", [host], begin=True, due=0.0)
            for _ in range(3):
                outbox.claim(host, [f"{number}"])
            outbox.settle(list(recorded.values()))
    """
    log = path + ".strace"
    trace = ["/usr/bin/strace", "-f", "-e", "trace=fsync,fdatasync", "-o", log]
    done = subprocess.run([*trace, *command(script, path)], capture_output=True, text=True, timeout=60)
    if "ptrace" in done.stderr:
        pytest.skip("strace is not permitted here")
    assert done.returncode == 0, done.stderr
    count = sum("sync(" in line for line in Path(log).read_text().splitlines())
    assert 50 <= count < 70


# Across processes and restarts


def test_an_outbox_belongs_to_one_media_root(path: str) -> None:
    """The first identity is kept; another is refused; none is no claim."""
    for identity in ("", "one", "", "one"):
        Outbox(path, identity=identity).close()
    with pytest.raises(OutboxError, match="belongs to another media root; give each"):
        Outbox(path, identity="two")
    Outbox(path, identity="one").close()
