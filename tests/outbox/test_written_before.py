"""Outboxes that earlier versions left are taken over: each row is what it was, and is delivered, settled and forgotten.

``written_before`` has one of each version of the schema, and ``write.py``, with which those versions wrote them.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from outboxes import Clock, command, sound

from resto_wsgi.errors import OutboxError
from resto_wsgi.hosts import Host
from resto_wsgi.outbox import tables
from resto_wsgi.outbox.outbox import CONVERGED, LATEST, Delivery, HostState, Outbox

FOLDER = Path(__file__).parent / "written_before"
VERSIONS = range(1, len(list(FOLDER.glob("*.sqlite3"))) + 1)
IDENTITY = "5e0d" * 8
NOW = 1_800_000_000.0  # when they were written, in seconds since 1970
A, B, C = map(Host.of, ("http://media-01:8080/media", "https://media-02/media", "http://old-media/media"))
LONG = "ordner/" + "ж" * 120 + "/" + "x" * 700
SETTLED = ("settled.jpg", 'it\'s "50 %".jpg', "ж/猫.jpg", LONG)  # by A alone
FILLED = [f"filled/{number:03}.jpg" for number in range(120)]  # owed to C alone

# What B owes of each name, and A unless it is in OWED_BY_A: generation, due, attempts, parked, unsure, status, reason.
OWED_BY_B: dict[str, tuple[Any, ...]] = {
    **{name: (number, NOW + 5, 0, False, 0.0, None, "") for number, name in enumerate(SETTLED, 1)},
    "begun.jpg": (5, NOW + 5, 0, False, 0.0, None, ""),
    "released.jpg": (6, NOW + 30, 0, False, 0.0, None, ""),
    "failed.jpg": (7, NOW + 60, 1, False, 0.0, None, "refused: connection refused"),
    "unsure.jpg": (8, NOW + 2, 1, False, NOW + 20, None, "no answer within 10 s"),
    "converged.jpg": (9, NOW + 20, 0, False, NOW + 20, None, CONVERGED),
    "parked.exe": (10, NOW + 86400, 1, True, 0.0, 403, "403 Forbidden"),
    "parked.iso": (11, NOW + 86400, 1, True, 0.0, 413, "413 Content Too Large"),
    "deleted.jpg": (12, NOW + 5, 0, False, 0.0, None, ""),
}
OWED_BY_A = {"begun.jpg", "released.jpg", "deleted.jpg"}
PASSED_ON = {2: {"passed on.jpg": (15, NOW, 0, False, 0.0, None, "")}}  # by version: 1 did not know how a change came


def owed_by_b(version: int) -> dict[str, tuple[Any, ...]]:
    return {**OWED_BY_B, **PASSED_ON.get(version, {})}


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> int:
    """A version of the schema."""
    return int(request.param)


@pytest.fixture
def taken_over(version: int, path: str, clock: Clock) -> Iterator[Outbox]:
    """The outbox that it left, opened by this version."""
    shutil.copy(FOLDER / f"version-{version}.sqlite3", path)
    clock.now = NOW + 100
    outbox = Outbox(path, identity=IDENTITY, kind="a master", clock=clock)
    yield outbox
    outbox.close()


def schema_of(path: str) -> tuple[int, set[str]]:
    """Return the version of the schema, and the statements that make it."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        found = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return version, {statement for (statement,) in found}


def test_there_is_an_outbox_of_each_version() -> None:
    """Whoever adds a step to the schema adds one that the version before it has written."""
    assert len(VERSIONS) >= len(tables.STEPS) - 1
    assert {path.name for path in FOLDER.glob("*.sqlite3")} == {f"version-{version}.sqlite3" for version in VERSIONS}
    for version in VERSIONS:
        assert schema_of(str(FOLDER / f"version-{version}.sqlite3"))[0] == version


def test_it_has_the_schema_of_a_new_one(taken_over: Outbox, path: str, tmp_path: Path) -> None:
    """Table by table and index by index, so that no statement can miss anything."""
    Outbox(str(tmp_path / "new")).close()
    assert schema_of(path) == schema_of(str(tmp_path / "new"))


def test_every_delivery_is_what_it_was(taken_over: Outbox, version: int) -> None:
    """Owed, begun, failed, unsure, converged and parked; of names with any character."""
    for name, row in owed_by_b(version).items():
        generation, *rest = row
        since = NOW + 100 if name == "passed on.jpg" else NOW
        expected = Delivery(B, name, generation, since, *rest)
        owed = taken_over.deliveries(name)
        assert owed[B] == expected
        assert (A in owed) == (name in OWED_BY_A)
        assert (C in owed) == (name != "passed on.jpg")
    for name in FILLED:
        assert taken_over.deliveries(name) == {C: Delivery(C, name, 14, NOW + 100, NOW + 100, 0, False, 0.0, None, "")}


def test_every_host_is_what_it_was(taken_over: Outbox, version: int) -> None:
    """What it is owed on the whole, its state, and whether it is a member or is being filled."""
    assert {line.host: (line.owed, line.parked) for line in taken_over.summary()} == {
        A: (len(OWED_BY_A), 0),
        B: (len(owed_by_b(version)), 2),
        C: (len(OWED_BY_B) + len(FILLED), 0),
    }
    assert taken_over.host_states() == {
        A: HostState(A, "up", NOW - 3600, 0, 0.0, "", NOW),
        B: HostState(B, "down", NOW + 10, 4, NOW + 160, "no answer within 10 s", NOW + 100),
        C: HostState(C, "read-only", NOW, 1, NOW + 900, "403 Forbidden", NOW + 50),
    }


def test_every_name_is_what_it_was(taken_over: Outbox) -> None:
    """Deleted, held by hosts with its digest, or nothing that is known."""
    assert list(taken_over.tombstones()) == ["deleted and owed no more.jpg", "deleted.jpg", "withdrawn.jpg"]
    assert list(taken_over.names()) == ["held/by hosts.jpg", "held/unknown.jpg"]
    assert taken_over.sha256("held/by hosts.jpg") == "ab" * 32
    assert taken_over.sha256("held/unknown.jpg") == ""
    assert [taken_over.is_gone(name) for name in ("deleted.jpg", "held/unknown.jpg", "back.jpg")] == [True, False, None]


def test_how_a_change_came_is_what_it_was(taken_over: Outbox, version: int) -> None:
    """Nothing was said of it where the version did not know that."""
    assert taken_over.way(B, "passed on.jpg") == ("node-1, node-2" if version >= 2 else "")
    assert taken_over.way(B, "begun.jpg") == ""


def test_what_was_begun_may_still_arrive(taken_over: Outbox) -> None:
    """Its sender is gone; what it had released or failed was ended."""
    for name in ("begun.jpg", "failed.jpg", "settled.jpg"):
        (claimed,) = taken_over.claim(B, [name])
        assert claimed.unsure_until == (0.0 if name == "failed.jpg" else NOW + 100 + LATEST)


def test_all_is_delivered_and_settled(taken_over: Outbox, version: int, clock: Clock) -> None:
    """What is due at once, what is parked when it is retried, and what is unsure a second time."""
    due = [name for name, row in owed_by_b(version).items() if row[1] <= clock.now]
    assert sorted(taken_over.due(B, clock.now, 1000)) == sorted(due)
    taken_over.retry_all(B, [403, 413])
    taken_over.nudge([A, B, C])
    for _ in range(2):
        for host in (A, B, C):
            taken_over.settle(taken_over.claim(host, taken_over.due(host, clock.now, 1000)))
        clock.now += LATEST
    assert taken_over.summary() == []
    assert taken_over.purge(clock.now) == 3


def test_generations_and_recordings_go_on(taken_over: Outbox, version: int, clock: Clock) -> None:
    """A name that is recorded again keeps since when it is owed, and until when it is unsure."""
    before = {1: 14, 2: 15}[version]
    assert taken_over.generation() == before
    recorded = taken_over.record("unsure.jpg", [A, B], begin=False, due=NOW + 200)
    assert recorded[B].generation == int(clock.now * 1e9) > before
    assert (recorded[B].since, recorded[B].unsure_until, recorded[B].fresh) == (NOW, NOW + 20, False)
    assert recorded[A].fresh


def test_who_is_a_member_is_what_it_was(taken_over: Outbox) -> None:
    """A host that is being filled stays so; the next recording expels whom it does not tell."""
    assert (taken_over.members(), taken_over.joining()) == ({A, B}, {C: 14})
    taken_over.record("new.jpg", [A], begin=False, due=NOW)
    assert (taken_over.members(), taken_over.joining()) == ({A}, {})


def test_it_belongs_to_the_same_media_root(taken_over: Outbox, path: str) -> None:
    """And says so of any other."""
    taken_over.close()
    with pytest.raises(OutboxError, match="belongs to another media root"):
        Outbox(path, identity="another")
    with pytest.raises(OutboxError, match="was made where a master is kept"):
        Outbox(path, identity=IDENTITY, kind="no master")


def test_one_that_was_killed_is_taken_over_with_its_log(version: int, path: str, clock: Clock) -> None:
    """What lies in the -wal counts: the version before was killed, or is still running."""
    shutil.copy(FOLDER / f"version-{version}.sqlite3", path)
    script = """
        import os, sqlite3, sys
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute("UPDATE deliveries SET reason = 'in the log' WHERE name = 'failed.jpg'")
        print(os.path.getsize(sys.argv[1] + "-wal"), flush=True)
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run(command(script, path), capture_output=True, text=True, timeout=60)
    assert int(done.stdout) > 0
    outbox = Outbox(path, clock=clock)
    assert outbox.deliveries("failed.jpg")[B].reason == "in the log"
    assert len(outbox.deliveries("failed.jpg")) == 2
    outbox.close()
    assert sound(path)
