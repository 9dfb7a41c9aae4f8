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
from resto_wsgi.outbox.outbox import LATE, Delivery, Failure, HostState, Outbox, Owed

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
