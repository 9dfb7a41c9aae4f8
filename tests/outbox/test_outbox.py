"""The outbox on a real disk: real SQLite, real processes, real kill -9, full and read-only file systems."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from servers import eventually

from resto_wsgi.errors import OutboxError
from resto_wsgi.hosts import Host
from resto_wsgi.outbox import database as sqlite_file
from resto_wsgi.outbox import tables as outbox_tables
from resto_wsgi.outbox.database import SqliteFile
from resto_wsgi.outbox.outbox import LATE, Delivery, Failure, HostState, Outbox, Owed

HOST, OTHER = Host.of("http://a/media"), Host.of("http://b/media")
A, B = Host.of("a"), Host.of("b")  # as the scripts call them
NOW = 1_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until a test moves it."""
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where an outbox may be made."""
    return str(tmp_path / "outbox.sqlite3")


@pytest.fixture
def outbox(path: str, clock: Clock) -> Iterator[Outbox]:
    """An empty outbox."""
    outbox = Outbox(path, clock=clock)
    yield outbox
    outbox.close()


def record(outbox: Outbox, name: str = "cat", host: Host = HOST, *, begin: bool = True, due: float = NOW) -> Delivery:
    return outbox.record(name, [host], begin=begin, due=due)[host]


def row(outbox: Outbox, name: str = "cat", host: Host = HOST) -> Delivery:
    return outbox.deliveries(name)[host]


def fill(outbox: Outbox, number: int) -> list[str]:
    names = [f"folder/{count:06}.jpg" for count in range(number)]
    assert outbox.owe(HOST, names) == number
    return names


def command(script: str, *arguments: object) -> list[str]:
    """Return the command that runs a script in an interpreter of its own."""
    return [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), *map(str, arguments)]


def run(script: str, *arguments: object) -> Any:
    """Run a script to its end and return the JSON that it printed."""
    done = subprocess.run(command(script, *arguments), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def together(number: int, work: Callable[[int], Any]) -> list[Any]:
    """Do ``work`` in so many threads at once."""
    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(work, range(number)))


def sound(path: str) -> bool:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


# Recording


def test_what_is_recorded_is_owed_by_each_host(outbox: Outbox) -> None:
    """A first recording is fresh; what is read back is the same but for that."""
    recorded = outbox.record("cat", [HOST, OTHER], begin=True, due=NOW + 30)
    expected = Delivery(HOST, "cat", 1, NOW, NOW + 30, 0, False, 0.0, None, "", fresh=True)
    assert recorded == {HOST: expected, OTHER: expected._replace(host=OTHER)}
    assert row(outbox) == expected._replace(fresh=False)


def test_recording_again_supersedes_but_remembers_since_when(outbox: Outbox, clock: Clock) -> None:
    """Failures are forgotten, the generation is higher, and it is not fresh any more."""
    first = record(outbox, begin=False)
    outbox.settle([], [Failure(first, NOW + 60, "refused", 403, parked=True, unsure_until=NOW + 5)])
    clock.now += 10
    second = record(outbox, begin=False, due=NOW + 11)
    assert second == Delivery(HOST, "cat", 2, NOW, NOW + 11, 0, False, NOW + 5, None, "")
    assert row(outbox) == second


def test_generations_never_go_back(path: str) -> None:
    """Not even when nothing is owed any more, and the outbox was opened anew."""
    seen = []
    for _ in range(3):
        outbox = Outbox(path)
        delivery = record(outbox)
        seen.append(delivery.generation)
        outbox.settle([delivery])
        assert outbox.summary() == []
        outbox.owe(OTHER, ["dog"])
        seen.append(row(outbox, "dog", OTHER).generation)
        outbox.settle([row(outbox, "dog", OTHER)])
        outbox.close()
    assert seen == sorted(set(seen))


def test_a_recording_without_hosts_writes_the_tombstone_alone(outbox: Outbox) -> None:
    """Where there are no media servers, a delete is still remembered."""
    assert outbox.record("cat", [], begin=True, due=NOW, gone=True) == {}
    assert (outbox.is_gone("cat"), outbox.summary()) == (True, [])


def test_names_with_any_character_come_back(outbox: Outbox) -> None:
    """Quotes, percent signs, other alphabets and the last code point are but text."""
    for name in ("a'b", 'a"b', "a%b_c", "ж/猫", "\U0010ffff\U0010ffff", "x" * 1024):
        record(outbox, name)
        assert row(outbox, name).name == name
        assert outbox.due(HOST, NOW, 10) == [name]
        outbox.settle([row(outbox, name)])


# Settling


def test_what_is_settled_is_gone(outbox: Outbox) -> None:
    """Only for the host that was reached."""
    recorded = outbox.record("cat", [HOST, OTHER], begin=True, due=NOW)
    outbox.settle([recorded[HOST]])
    assert list(outbox.deliveries("cat")) == [OTHER]
    outbox.settle([recorded[HOST]])  # again, after an interruption: nothing more to do


def test_what_was_recorded_again_meanwhile_is_not_settled(outbox: Outbox) -> None:
    """Whoever finishes an older delivery takes nothing of the newer one away."""
    old = record(outbox)
    new = record(outbox, begin=False, due=NOW + 7)
    outbox.settle([old])
    assert row(outbox) == new
    outbox.settle([], [Failure(old, NOW + 99, "late", 500, parked=True, unsure_until=NOW + 50)])
    assert row(outbox) == Delivery(HOST, "cat", new.generation, NOW, NOW + 7, 0, False, NOW + 50, None, "")
    outbox.settle([], [Failure(old, NOW + 99, "late", unsure_until=NOW + 40)])
    assert row(outbox).unsure_until == NOW + 50


def test_a_failure_is_noted(outbox: Outbox) -> None:
    """Attempts add up, the last reason is kept, and unsure_until only grows."""
    delivery = record(outbox)
    outbox.settle([], [Failure(delivery, NOW + 1, "no answer", unsure_until=NOW + 20)])
    outbox.settle([], [Failure(delivery, NOW + 2, "forbidden", 403, parked=True)])
    assert row(outbox) == Delivery(HOST, "cat", 1, NOW, NOW + 2, 2, True, NOW + 20, 403, "forbidden")


def test_settling_notes_hosts_and_presence_with_it(outbox: Outbox) -> None:
    """One transaction holds the deliveries, the failures, the hosts and the name that is present."""
    recorded = outbox.record("cat", [HOST, OTHER], begin=True, due=NOW, gone=True)
    state = HostState(OTHER, "down", NOW - 5, 3, NOW + 8, "connection refused", NOW)
    outbox.settle([recorded[HOST]], [Failure(recorded[OTHER], NOW + 8, "connection refused")], [state], "cat")
    assert [delivery.attempts for delivery in outbox.deliveries("cat").values()] == [1]
    assert outbox.host_states() == {OTHER: state}
    assert outbox.is_gone("cat") is False
    up = HostState(OTHER, "up", NOW, 0, 0.0, "")
    outbox.note_host(up)
    assert outbox.host_states() == {OTHER: up}


# What may still arrive late


def test_a_success_after_an_unsure_attempt_is_looked_at_once_more(outbox: Outbox, clock: Clock) -> None:
    """The row stays until nothing sent earlier can still be carried out; then a success deletes it."""
    delivery = record(outbox)
    outbox.settle([], [Failure(delivery, NOW + 1, "timeout", unsure_until=NOW + 20)])
    clock.now = NOW + 5
    outbox.settle(outbox.claim(HOST, ["cat"]))
    expected = "converged; looked at again once nothing earlier can still arrive"
    assert row(outbox) == Delivery(HOST, "cat", 1, NOW, NOW + 20, 0, False, NOW + 20, None, expected)
    clock.now = NOW + 20
    assert row(outbox).name in outbox.due(HOST, clock.now, 1)
    outbox.settle(outbox.claim(HOST, ["cat"]))
    assert outbox.deliveries("cat") == {}


@pytest.mark.parametrize("how", ["record", "claim"])
def test_a_delivery_found_begun_is_unsure(outbox: Outbox, clock: Clock, how: str) -> None:
    """Whoever holds the lock of the name and finds it begun knows that its sender died."""
    record(outbox)
    clock.now += 3
    delivery = record(outbox) if how == "record" else outbox.claim(HOST, ["cat"])[0]
    assert delivery.unsure_until == row(outbox).unsure_until == NOW + 3 + LATE
    outbox.settle([], [Failure(delivery, clock.now, "no", unsure_until=NOW + 99)])
    assert outbox.claim(HOST, ["cat"])[0].unsure_until == NOW + 99  # not begun: not unsure for longer
    assert outbox.claim(HOST, ["cat"])[0].unsure_until == NOW + 99


@pytest.mark.parametrize("how", ["settle", "fail", "release", "cancel"])
def test_each_sender_clears_its_own_beginning(outbox: Outbox, how: str) -> None:
    """Also where sync recorded the name again meanwhile, which is not begun by that."""
    delivery = record(outbox)
    outbox.owe(HOST, ["cat"])
    end_of(outbox, how, delivery)
    assert outbox.claim(HOST, ["cat"])[0].unsure_until == 0.0


@pytest.mark.parametrize("how", ["settle", "fail", "release", "cancel"])
def test_no_sender_clears_the_beginning_of_another(outbox: Outbox, clock: Clock, how: str) -> None:
    """The newer one is found begun, and so is unsure from then on."""
    old = record(outbox)
    record(outbox)
    clock.now += 5
    end_of(outbox, how, old)
    assert outbox.claim(HOST, ["cat"])[0].unsure_until == NOW + 5 + LATE


def end_of(outbox: Outbox, how: str, delivery: Delivery) -> None:
    {
        "settle": lambda: outbox.settle([delivery]),
        "fail": lambda: outbox.settle([], [Failure(delivery, NOW, "no")]),
        "release": lambda: outbox.release([delivery], NOW),
        "cancel": lambda: outbox.cancel([delivery]),
    }[how]()


def test_a_recording_that_does_not_begin_leaves_it_begun(outbox: Outbox) -> None:
    """What a dead sender began stays unsure, however often the name is recorded in between."""
    record(outbox)
    record(outbox, begin=False)
    outbox.owe(HOST, ["cat"])
    assert outbox.claim(HOST, ["cat"])[0].unsure_until == NOW + LATE


def test_a_clock_that_is_set_back_does_not_keep_a_delivery_for_ever(outbox: Outbox, clock: Clock) -> None:
    """It is unsure for LATE by the new clock at most, so that it is not converged in a hot loop for a day."""
    delivery = record(outbox)
    outbox.settle([], [Failure(delivery, NOW + 1, "timeout", unsure_until=NOW + 20)])
    clock.now = NOW - 86400
    assert outbox.due(HOST, clock.now, 10) == ["cat"]
    outbox.settle(outbox.claim(HOST, ["cat"]))
    assert row(outbox).due == row(outbox).unsure_until == clock.now + LATE
    assert outbox.due(HOST, clock.now, 10) == []
    clock.now += LATE
    outbox.settle(outbox.claim(HOST, ["cat"]))
    assert outbox.deliveries("cat") == {}


# Claiming, releasing, cancelling


def test_only_what_is_still_owed_is_claimed(outbox: Outbox) -> None:
    """In the order asked for; what others settled meanwhile is left out."""
    for name in ("a", "b", "c"):
        record(outbox, name, begin=False)
    outbox.settle([row(outbox, "b")])
    assert [delivery.name for delivery in outbox.claim(HOST, ["c", "b", "a", "d"])] == ["c", "a"]
    assert outbox.claim(OTHER, ["a"]) == []


def test_released_is_as_before_but_for_its_time(outbox: Outbox) -> None:
    """It was not tried, so it is not unsure and has failed no more often."""
    delivery = record(outbox)
    outbox.release([delivery], NOW + 4)
    assert outbox.claim(HOST, ["cat"]) == [Delivery(HOST, "cat", 1, NOW, NOW + 4, 0, False, 0.0, None, "")]
    record(outbox)
    outbox.release([delivery], NOW + 9)
    assert row(outbox).due == NOW


def test_cancelled_leaves_what_was_owed_before(outbox: Outbox, clock: Clock) -> None:
    """A fresh row goes, one that was owed before is due at once, one recorded again meanwhile stays as it is."""
    record(outbox, host=OTHER, begin=False)
    clock.now += 5
    recorded = outbox.record("cat", [HOST, OTHER], begin=True, due=NOW + 60)
    outbox.cancel(list(recorded.values()))
    assert list(outbox.deliveries("cat")) == [OTHER]
    assert (row(outbox, host=OTHER).due, row(outbox, host=OTHER).since) == (NOW + 5, NOW)
    fresh = record(outbox, "dog", due=NOW + 60)
    record(outbox, "dog", begin=False, due=NOW + 70)
    outbox.cancel([fresh])
    assert row(outbox, "dog").due == NOW + 70


# When it is due


def test_the_earliest_due_comes_first(outbox: Outbox) -> None:
    """Parked ones too when their time has come; never more than asked for."""
    for name, due in (("c", 3), ("a", 5), ("b", 1), ("later", 11)):
        record(outbox, name, due=NOW + due)
    outbox.settle([], [Failure(row(outbox, "c"), NOW + 4, "forbidden", 403, parked=True)])
    assert outbox.due(HOST, NOW + 10, 10) == ["b", "c", "a"]
    assert outbox.due(HOST, NOW + 10, 2) == ["b", "c"]
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


def test_what_a_dead_process_began_stays_begun_whoever_records_and_cancels(outbox: Outbox, clock: Clock) -> None:
    """A save in mode async that is refused has sent nothing, and knows nothing of what was sent before it."""
    record(outbox, "cat", begin=True)
    later = outbox.record("cat", [HOST], begin=False, due=NOW)
    outbox.cancel(list(later.values()))
    (claimed,) = outbox.claim(HOST, ["cat"])
    assert claimed.unsure_until == clock.now + LATE


def test_postponing_moves_the_time_and_nothing_else(outbox: Outbox) -> None:
    """Somebody else is busy with it, which is no failure; what is not owed stays unowed."""
    before = record(outbox)
    outbox.postpone(HOST, ["cat", "dog"], NOW + 3)
    assert row(outbox) == before._replace(due=NOW + 3, fresh=False)
    assert outbox.deliveries("dog") == {}


def test_a_nudge_makes_a_host_due_now(outbox: Outbox) -> None:
    """What is parked only where asked for; what waits out a late arrival goes on waiting; other hosts too."""
    outbox.note_host(HostState(HOST, "down", NOW, 1, NOW + 50, "refused"))
    outbox.owe(HOST, [f"{count}" for count in range(2500)])
    outbox.postpone(HOST, [f"{count}" for count in range(2500)], NOW + 60)
    record(outbox, "other", OTHER, due=NOW + 60)
    for name, failure in {"parked": {"parked": True, "status": 403}, "unsure": {"unsure_until": NOW + 20}}.items():
        outbox.settle([], [Failure(record(outbox, name), NOW + 60, "no", **failure)])  # type: ignore[arg-type]
    outbox.settle(outbox.claim(HOST, ["unsure"]))
    outbox.nudge([HOST])
    assert len(outbox.due(HOST, NOW, 5000)) == 2500
    assert outbox.host_states()[HOST].retry_at == 0
    assert (row(outbox, "parked").due, row(outbox, "unsure").due) == (NOW + 60, NOW + 20)
    assert row(outbox, "other", OTHER).due == NOW + 60
    outbox.nudge([HOST], parked=True)
    assert (row(outbox, "parked").due, row(outbox, "parked").parked) == (NOW, False)
    assert row(outbox, "unsure").due == NOW + 20


def test_unparking_takes_the_statuses_that_were_mended(outbox: Outbox) -> None:
    """A host that is writable again takes what it refused as read-only, not what was too large for it."""
    for name, status in (("a", 403), ("b", 405), ("c", 413)):
        outbox.settle([], [Failure(record(outbox, name), NOW + 900, "no", status, parked=True)])
    outbox.unpark(HOST, [403, 405])
    outbox.unpark(HOST, [])
    assert outbox.due(HOST, NOW, 10) == ["a", "b"]
    assert [owed.parked for owed in outbox.summary()] == [1]


# Many at once


def test_sync_owes_many_names_in_parts(outbox: Outbox, path: str) -> None:
    """The names may come from anywhere, the outbox itself included, and none is held in memory."""
    commits = statements(outbox, lambda: fill(outbox, 2500)).count("COMMIT")
    assert commits == 3
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
            values: Any = marks | {"late": 1, "set_back": 1, "reason": "", "generation": 1, "unsure_until": 1.0}
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
    outbox.settle([], present="back")
    clock.now += 10
    outbox.entomb("young")
    assert list(outbox.tombstones()) == ["cat", "owed", "young"]
    assert outbox.purge(NOW) == 0
    assert outbox.purge(NOW + 10) == 1
    assert [outbox.is_gone(name) for name in ("cat", "owed", "back", "young")] == [None, True, False, True]


def test_names_are_listed_in_order_below_a_prefix(outbox: Outbox) -> None:
    """In the order of their bytes, tombstones left out; a prefix is text, no pattern."""
    for name in ("b/2", "b/1", "b%", "a", "b/\U0010ffff\U0010ffff", "c", "ж"):
        outbox.settle([], present=name)
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


# Durability and group commit


def statements(outbox: Outbox, work: Callable[[], Any]) -> list[str]:
    """Return what SQLite was told while ``work`` was done, one statement each."""
    seen: list[str] = []
    connection = outbox._file._connection
    assert connection
    connection.set_trace_callback(seen.append)
    work()
    connection.set_trace_callback(None)
    return seen


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


def test_recordings_that_arrive_together_share_a_commit(outbox: Outbox) -> None:
    """While one thread is in its commit, all others gather, and the next one commits for all of them."""
    gathered = threading.Barrier(9)

    def work(number: int) -> Delivery:
        gathered.wait(10)
        return record(outbox, f"{number}")

    def all_at_once() -> None:
        with ThreadPoolExecutor(8) as threads:
            futures = [threads.submit(work, number) for number in range(8)]
            with outbox._file._lock:
                gathered.wait(10)
                eventually(lambda: len(outbox._file._waiting) == 8)
            generations = {future.result(10).generation for future in futures}
        assert len(generations) == 8

    seen = statements(outbox, all_at_once)
    assert seen.count("COMMIT") == 1
    assert outbox.owed([HOST]) == 8


def in_one_batch(file: SqliteFile, works: list[Callable[[Any], Any]]) -> list[Any]:
    """Write all ``works`` in one transaction, the first one leading; return each result or exception."""

    def write(work: Callable[[Any], Any]) -> Any:
        try:
            return file.write(work, durable=True)
        except BaseException as error:
            return error

    with ThreadPoolExecutor(len(works)) as threads:
        futures = []
        with file._lock:
            for number, work in enumerate(works, 1):
                futures.append(threads.submit(write, work))
                eventually(lambda number=number: len(file._waiting) == number)  # type: ignore[misc]
        return [future.result(10) for future in futures]


def test_what_sqlite_refuses_reaches_everyone_who_waits(outbox: Outbox) -> None:
    """Each gets an OutboxError of its own, nothing is recorded, and the next one gets through."""

    def refuse(_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    results = in_one_batch(outbox._file, [refuse, *[lambda c: c.execute(outbox_tables.ENTOMB, ("cat", 1))] * 3])
    assert [type(result) for result in results] == [OutboxError] * 4
    assert len({id(result) for result in results}) == 4
    assert all(result.full for result in results)
    assert outbox.is_gone("cat") is None
    record(outbox)


@pytest.mark.parametrize("fatal", [False, True])
def test_what_befalls_one_does_not_stop_those_who_wait(outbox: Outbox, fatal: bool) -> None:
    """Neither a defect in one of them, nor the end of the thread that commits for all; no one hangs."""

    def fail(_: Any) -> None:
        raise KeyboardInterrupt if fatal else ZeroDivisionError

    def note(connection: Any) -> int:
        connection.execute(outbox_tables.ENTOMB, ("cat", 1))
        return 1

    results = in_one_batch(outbox._file, [note, fail, note, note])
    kinds = [result if result == 1 else type(result) for result in results]
    if fatal:  # whoever commits for all is struck too, which may be any of them
        assert kinds[1] is KeyboardInterrupt
        assert kinds.count(KeyboardInterrupt) + kinds.count(1) == 4
        assert kinds.count(1) >= 2
    else:
        assert kinds == [1, ZeroDivisionError, 1, 1]
    assert outbox.is_gone("cat") is True
    record(outbox)


def test_whoever_stops_waiting_is_not_recorded_for(outbox: Outbox) -> None:
    """An interrupted caller, who will not send, leaves nothing in the next transaction."""
    file = outbox._file

    class Interrupted:
        def __enter__(self) -> None:
            raise KeyboardInterrupt

        def __exit__(self, *_: object) -> None:
            pass

    lock, file._lock = file._lock, Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        record(outbox, "interrupted")
    file._lock = lock
    record(outbox, "next")
    assert outbox.deliveries("interrupted") == {}


def test_a_signal_handler_does_not_write_into_what_it_interrupted(outbox: Outbox) -> None:
    """It is told so instead of waiting for itself, and what it interrupted is whole."""

    def work(connection: Any) -> None:
        connection.execute(outbox_tables.ENTOMB, ("cat", 1))
        with pytest.raises(OutboxError, match="signal handler"):
            outbox.entomb("dog")

    outbox._file.write(work)
    assert (outbox.is_gone("cat"), outbox.is_gone("dog")) == (True, None)


def test_the_journal_does_not_stay_huge(outbox: Outbox, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that held up the checkpoints lets it grow; afterwards it is cut back."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN").execute("SELECT * FROM meta").fetchall()
        for count in range(60):
            outbox.owe(HOST, [f"{count}-{number}-{'x' * 100}" for number in range(1000)])
        grown = os.path.getsize(path + "-wal")
        reader.execute("ROLLBACK")
    assert grown > sqlite_file.JOURNAL
    for number in range(3):
        outbox.owe(HOST, [f"{number}"])
        time.sleep(0)
    assert os.path.getsize(path + "-wal") <= sqlite_file.JOURNAL


# Processes

WRITER = """
    import sys, itertools
    from resto_wsgi.hosts import Host
    from resto_wsgi.outbox.outbox import Outbox
    outbox, hosts = Outbox(sys.argv[1]), [Host.of("a"), Host.of("b")]
    for number in itertools.count():
        recorded = outbox.record(f"{number}", hosts, begin=True, due=0.0)
        print(number, flush=True)
        if sys.argv[2] == "once":
            sys.stdin.read()
"""


def test_what_was_recorded_survives_kill_9(path: str) -> None:
    """At once after record returned; whoever comes next finds it begun, and so unsure."""
    child = subprocess.Popen(command(WRITER, path, "once"), stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    assert child.stdout
    child.stdout.readline()
    child.kill()
    child.communicate()
    outbox = Outbox(path)
    assert outbox.deliveries("0").keys() == {A, B}
    assert outbox.claim(A, ["0"])[0].unsure_until > time.time()
    outbox.close()


def test_kill_9_in_the_midst_of_many_leaves_a_sound_file(path: str) -> None:
    """All that was reported is there, whole transactions only, and the next process writes on."""
    for _ in range(5):
        child = subprocess.Popen(command(WRITER, path, "forever"), stdout=subprocess.PIPE, text=True)
        assert child.stdout
        for _ in range(60):
            last = int(child.stdout.readline())
        child.kill()
        rest = child.communicate()[0].splitlines()
        last = int(rest[-1]) if rest and rest[-1].isdigit() else last
        outbox = Outbox(path)
        counts = {owed.host: owed.owed for owed in outbox.summary()}
        assert counts[A] == counts[B] >= last
        assert all(outbox.deliveries(f"{number}") for number in range(0, last, 10))
        outbox.close()
        assert sound(path)


def test_many_processes_and_threads_lose_nothing(path: str) -> None:
    """Four processes of four threads record, claim and settle names of their own and one that all share."""
    script = """
        import sys, json
        from concurrent.futures import ThreadPoolExecutor
        from resto_wsgi.hosts import Host
        from resto_wsgi.outbox.outbox import Failure, Outbox
        outbox, (a, b, c, d) = Outbox(sys.argv[1]), map(Host.of, "abcd")
        def work(thread):
            generations = []
            for number in range(40):
                name = f"{sys.argv[2]}-{thread}-{number}"
                recorded = outbox.record(name, [a, b, c], begin=True, due=0.0)
                generations += {delivery.generation for delivery in recorded.values()}
                failed = [Failure(recorded[b], 0.0, "no")]
                outbox.settle([recorded[a]], failed)
                outbox.settle(outbox.claim(b, [name]))
                shared = outbox.record("shared", [d], begin=False, due=0.0)[d]
                generations.append(shared.generation)
                outbox.settle([], [Failure(shared, 0.0, "no")])
            return generations
        with ThreadPoolExecutor(4) as threads:
            print(json.dumps(sum(threads.map(work, range(4)), [])))
    """
    children = [
        subprocess.Popen(command(script, path, number), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    generations = []
    for child in children:
        out, err = child.communicate(timeout=120)
        assert child.returncode == 0, err
        generations += json.loads(out)
    total = 4 * 4 * 40
    assert len(set(generations)) == len(generations) == 2 * total
    outbox = Outbox(path)
    assert [(owed.host, owed.owed) for owed in outbox.summary()] == [(Host.of("c"), total), (Host.of("d"), 1)]
    assert outbox.record("new", [A], begin=True, due=0.0)[A].generation == 2 * total + 1
    outbox.close()
    assert sound(path)


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


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_in_the_midst_of_recordings_leaves_both_processes_working(path: str) -> None:
    """No connection crosses it, no lock stays held, and every recording of either process counts once."""
    outbox = Outbox(path)
    stop = threading.Event()
    counts = [0] * 4

    def work(thread: int) -> None:
        while not stop.is_set():
            record(outbox, f"{thread}-{counts[thread]}", A)
            counts[thread] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        children = []
        for number in range(10):
            child = os.fork()
            if child == 0:
                status = 1
                with contextlib.suppress(BaseException):
                    signal.alarm(30)
                    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if exists(fd)]
                    assert not any(link.startswith(path) for link in links)
                    together(2, functools.partial(record_ten, outbox, number))
                    status = 0
                os._exit(status)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 10
        before = sum(counts)
        eventually(lambda: sum(counts) > before + 20)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert [(owed.host, owed.owed) for owed in outbox.summary()] == [(A, sum(counts)), (B, 200)]
    outbox.close()
    assert sound(path)


def record_ten(outbox: Outbox, process: int, thread: int) -> None:
    for number in range(10):
        record(outbox, f"{process}-{thread}-{number}", B)


def exists(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_a_fork_without_our_hooks_gets_a_connection_of_its_own(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server in C may fork with none of Python's hooks: the parent's connection is left alone, and not closed."""
    record(outbox)
    parents = outbox._file._connection
    monkeypatch.setattr(os, "getpid", lambda: 4_000_000)
    record(outbox, "dog")
    assert outbox._file._connection is not parents
    assert parents in sqlite_file._abandoned
    assert parents and parents.execute("SELECT 1").fetchone() == (1,)
    sqlite_file._abandoned.remove(parents)
    parents.close()


def test_whoever_keeps_it_locked_is_named(outbox: Outbox, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, with the number of the process that hangs; once it lets go, all is well again."""
    monkeypatch.setattr(sqlite_file, "BUSY", 0.1)
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


# The file


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


def test_an_outbox_belongs_to_one_media_root(path: str) -> None:
    """The first identity is kept; another is refused; none is no claim."""
    for identity in ("", "one", "", "one"):
        Outbox(path, identity=identity).close()
    with pytest.raises(OutboxError, match="belongs to another media root; give each"):
        Outbox(path, identity="two")
    Outbox(path, identity="one").close()


def refused(path: str, match: str, remedy: str = "") -> OutboxError:
    with pytest.raises(OutboxError, match=match) as caught:
        Outbox(path)
    assert caught.value.path == path
    assert remedy in caught.value.remedy
    return caught.value


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
    refused(path, "is not a database", "resto sync")
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
    monkeypatch.setattr(sqlite_file, "OPTIONS", "mode=rw&vfs=unix-dotfile")
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


def test_a_way_is_that_of_the_latest_change(path: str, clock: Clock) -> None:
    """It is kept by a restart, and by whoever owes the name once more; of what nobody noted it is empty."""
    outbox = Outbox(path, clock=clock)
    for way in ("first", "second"):
        outbox.record("cat", [HOST], begin=False, due=NOW, way=way)
    outbox.owe(HOST, ["cat", "dog"])
    outbox.close()
    outbox = Outbox(path, clock=clock)
    assert [outbox.way(HOST, name) for name in ("cat", "dog", "none")] == ["second", "", ""]
    outbox.record("cat", [HOST], begin=False, due=NOW)
    assert outbox.way(HOST, "cat") == ""


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
    assert newer._file.read("SELECT DISTINCT size FROM deliveries") == [(8,)]
    assert record(newer).generation == before[1].generation + 2
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


# Damage


def test_damage_is_found_at_the_start_or_when_it_is_met(path: str) -> None:
    """The error names the file, and says what to do so that nothing is forgotten."""
    outbox = Outbox(path)
    names = fill(outbox, 20_000)
    outbox.close()
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (os.path.getsize(path) - 4096))
    with pytest.raises(OutboxError, match="is damaged; move it away, restart, and run `resto sync`") as caught:
        Outbox(path).summary()
    assert caught.value.path == path
    with pytest.raises(OutboxError, match="is damaged"):
        Outbox(path).claim(HOST, names)
    with open(path, "r+b") as file:
        file.write(b"\xa5" * 100)
    refused(path, "is not a database, or its beginning is damaged", "resto sync")


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


def test_a_missing_table_is_damage(path: str) -> None:
    """A file with our mark and without our tables is nothing to go on with."""
    Outbox(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE deliveries")
    outbox = Outbox(path)
    with pytest.raises(OutboxError, match="something that it must hold is missing; move it away"):
        record(outbox)
    outbox.close()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_nothing_is_recorded_into_a_file_that_was_removed(path: str, suffix: str) -> None:
    """Neither the file nor what is beside it: no other process would ever see it. Put back, it works again."""
    outbox = Outbox(path)
    record(outbox)
    os.rename(path + suffix, path + ".away")
    for work in (lambda: record(outbox, "dog"), outbox.summary):
        with pytest.raises(OutboxError, match=r"was removed or replaced while in use.*resto sync"):
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


# Disks that refuse


@contextlib.contextmanager
def mounted(folder: Path, size: str = "1m") -> Iterator[Path]:
    """A small file system of our own, where we may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def use_up(folder: Path) -> Path:
    """Leave no space there."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), open(filler, "ab", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return filler


def test_a_full_disk_is_said_and_overcome_without_a_restart(tmp_path: Path, clock: Clock) -> None:
    """What was recorded before can still be read; once there is space, the same outbox goes on."""
    with mounted(tmp_path / "small") as folder:
        outbox = Outbox(str(folder / "outbox"), clock=clock)
        record(outbox)
        filler, connection = use_up(folder), outbox._file._connection
        for _ in range(2):
            with pytest.raises(OutboxError, match="no space is left; free some space") as caught:
                fill(outbox, 3000)
            assert caught.value.full
            assert row(outbox).name == "cat"
            assert outbox._file._connection is connection  # a new one might find no space for its -shm
        refused_names = outbox.owed([HOST])
        filler.unlink()
        record(outbox, "dog")
        assert outbox.owed([HOST]) == refused_names + 1
        outbox.close()
        assert sound(str(folder / "outbox"))


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


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_file_or_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
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
    with mounted(tmp_path / "small") as folder:
        folder.chmod(0o755)
        reach(folder)
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


def reach(folder: Path) -> None:
    """Let every user come to the folder, as pytest's own folders do not."""
    for parent in folder.parents:
        if parent.owner() == "root" and not os.stat(parent).st_mode & 0o001:
            parent.chmod(0o711)


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
