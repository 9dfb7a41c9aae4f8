"""A lane with a real outbox, master and nginx; slowness, faults and interruptions are scripted into the transport."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from permissions import plain_user

from resto_wsgi.errors import DeliveryError, MediaRootError, OutboxError
from resto_wsgi.hosts import Host
from resto_wsgi.master.media_root import MediaRoot
from resto_wsgi.outbox.outbox import CONVERGED, LATE, LATEST, Delivery, HostState, Outbox
from resto_wsgi.replication import lane as lanes
from resto_wsgi.replication.breaker import CAP
from resto_wsgi.replication.convergence import Convergence
from resto_wsgi.replication.fanout import Fanout
from resto_wsgi.replication.lane import AT_ONCE, BATCH, BULK, BUSY, IDLE, SLOW, Lane
from resto_wsgi.replication.modes import Hybrid
from resto_wsgi.replication.on_master import OnMaster
from resto_wsgi.transports.http.transport import HttpTransport

NOW = 1_000_000.0
CAT = b"a cat" * 100
MEDIA = Host("media", "http://media/media")


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Scripted:
    """A transport that does what ``act`` does, by name, and takes every file else; the name of a probe is "/"."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.act: Callable[[str], object] = lambda name: None

    def put(self, host: Host, name: str, file: BinaryIO, size: int, mtime: float, version: int = 0) -> None:
        self._ask(name)

    def delete(self, host: Host, name: str, version: int = 0) -> None:
        self._ask(name)

    def head(self, host: Host, name: str) -> int | None:
        raise NotImplementedError

    def get(self, host: Host, name: str, write: Callable[[bytes], Any]) -> float | None:
        raise NotImplementedError

    def probe(self, host: Host) -> None:
        self._ask("/")

    def close(self) -> None:
        """Nothing to close."""

    def _ask(self, name: str) -> None:
        self.asked.append(name)
        self.act(name)


class Counted(HttpTransport):
    """HTTP that counts its calls, where a server that refuses connections cannot."""

    calls = 0

    def put_job(self, *arguments: Any) -> Any:
        self.calls += 1
        return super().put_job(*arguments)

    def probe(self, host: Host) -> None:
        self.calls += 1
        super().probe(host)


class Party:
    """A lane, and what it stands on."""

    def __init__(self, folder: Path, host: Host, transport: Any) -> None:
        self.clock = Clock()
        self.host = host
        self.transport = transport
        self.root = folder / "media"
        self.media_root = MediaRoot(str(self.root), fsync=False)
        self.outbox = Outbox(str(folder / "outbox.sqlite3"), clock=self.clock)
        self.fanout = Fanout(transport)
        self.reported: list[DeliveryError] = []
        parts = (self.media_root, self.outbox, transport)
        mode = Hybrid([host], *parts)
        on_master = OnMaster(*parts, ())
        convergence = Convergence(self.media_root, self.outbox, self.fanout, mode, on_master, self.clock, lambda: 0.0)
        self.lane = Lane(host, *parts, convergence, self.reported.append, self.clock, lambda: 0.0)

    def owe(self, *names: str) -> tuple[str, ...]:
        """Give the master these names, and owe them, one after the other."""
        for name in names:
            (self.root / name).write_bytes(CAT)
            self.clock.now += 0.001
        self.outbox.owe(self.host, names)
        return names

    def row(self, name: str) -> Delivery:
        return self.outbox.deliveries(name)[self.host]

    @property
    def state(self) -> HostState | None:
        return self.outbox.host_states().get(self.host)

    @property
    def owed(self) -> int:
        return self.outbox.owed([self.host])

    def begun(self, name: str) -> bool:
        """True where the row was begun: whoever claims it then is told that it is unsure. It is not owed after that."""
        (delivery,) = self.outbox.claim(self.host, [name])
        self.outbox.cancel([delivery])
        return delivery.unsure_until > 0

    def run(self) -> float:
        """Step until there is a pause, and return how long it is."""
        for _ in range(1000):
            if pause := self.lane.step():
                return pause
        return pytest.fail("it never rests")

    def close(self) -> None:
        self.fanout.close()
        self.transport.close()
        self.outbox.close()
        self.media_root.close()


Make = Callable[..., Party]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """``make(nginx)`` returns a party with HTTP to that server; without one, its transport is Scripted."""
    with ExitStack() as stack:

        def make(server: Any = None, transport: Any = None) -> Party:
            host = MEDIA if server is None else Host(server.url, server.url)
            party = Party(tmp_path, host, transport or (Scripted() if server is None else HttpTransport(5.0)))
            stack.callback(party.close)
            return party

        yield make


def refusal(name: str, status: int | None = 500, **facts: Any) -> DeliveryError:
    return DeliveryError("media", name, f"answered {status}", status=status, **facts)


def raising(error: BaseException, *names: str) -> Callable[[str], None]:
    """Return what raises ``error`` for these names, for all where there are none."""

    def act(name: str) -> None:
        if name in names or not names:
            raise error

    return act


def descriptors() -> int:
    gc.collect()  # what other tests have left to it is not ours to count
    return len(os.listdir("/proc/self/fd"))


def numbered(count: int) -> list[str]:
    return [f"cat-{number:03}" for number in range(count)]


# Batches


def test_all_that_is_due_is_delivered(make: Make, nginx: Any) -> None:
    """Files are put, names that were deleted are deleted, and nothing is owed afterwards."""
    party = make(nginx)
    names = party.owe(*numbered(150))
    Path(nginx.root, "gone").write_bytes(CAT)
    party.outbox.record("gone", [party.host], begin=False, due=party.clock.now, gone=True)
    party.outbox.owe(party.host, ["never there"])
    assert party.run() == IDLE
    assert {path.name: path.read_bytes() for path in Path(nginx.root).iterdir()} == dict.fromkeys(names, CAT)
    assert party.owed == 0
    assert party.reported == []


def test_batches_grow_while_they_are_quick(make: Make) -> None:
    """One, two, four, up to a limit: each name under way costs a lock."""
    party = make()
    party.owe(*numbered(200))
    sizes = []
    while party.owed:
        before = party.owed
        assert party.lane.step() == 0.0
        sizes.append(before - party.owed)
    assert sizes == [1, 2, 4, 8, 16, 32, BATCH, BATCH, 9]


def test_batches_shrink_where_the_host_is_slow(make: Make) -> None:
    """Their names are locked meanwhile, so that one ends when it has taken SLOW, and the rest is given back."""
    party = make()
    names = party.owe(*numbered(60))
    for _ in range(4):
        party.lane.step()
    assert party.owed == 60 - 15

    sizes = []
    for size in (16, 8, 4, 2, 1, 1):
        begun = itertools.count()
        together = threading.Barrier(max(1, min(size - 1, AT_ONCE)))

        def slow(name: str, begun: Any = begun, together: Any = together) -> None:
            if next(begun):  # none ends before all that may be under way are, so that no order of threads matters
                together.wait(10)
            party.clock.now += SLOW * 0.6

        party.transport.act = slow
        before = party.owed
        assert party.lane.step() == 0.0
        sizes.append(before - party.owed)
    assert sizes == [1 + AT_ONCE, 8, 4, 2, 1, 1]  # one, and as many as are under way when the time is up
    assert party.outbox.due(party.host, party.clock.now, 100) != []
    assert not party.begun(names[30])


def test_batches_of_a_middling_host_keep_their_size(make: Make) -> None:
    """Neither quick nor slow."""
    party = make()
    party.owe(*numbered(20))
    party.lane.step()
    party.lane.step()

    def middling(name: str) -> None:
        party.clock.now += SLOW * 0.2

    party.transport.act = middling
    for _ in range(3):
        before = party.owed
        party.lane.step()
        assert before - party.owed == 4


def test_what_has_been_due_longest_comes_first(make: Make) -> None:
    """Not in the order of names."""
    party = make()
    for name in ("b", "c", "a"):
        party.owe(name)
    party.run()
    assert party.transport.asked == ["b", "c", "a"]


def test_a_new_upload_does_not_wait_for_a_backlog(make: Make) -> None:
    """Nor does the backlog wait for new uploads, however many come: each gets every other batch."""
    party = make()
    backlog = party.owe(*numbered(1000))
    for number in range(20):
        party.owe(f"new-{number}")
        party.lane.step()
        party.lane.step()
        assert f"new-{number}" in party.transport.asked
    assert set(backlog[:500]) <= set(party.transport.asked)


# Large files


def test_small_files_do_not_wait_for_a_large_one(make: Make) -> None:
    """It is under way in a lane of its own; they are sent and settled meanwhile, and then there is a pause."""
    party = make()
    (large,) = party.owe("large")
    small = party.owe(*numbered(5))
    (party.root / large).write_bytes(bytes(BULK + 1))
    under_way, go_on = threading.Event(), threading.Event()

    def act(name: str) -> None:
        if name == large:
            under_way.set()
            assert go_on.wait(20)

    party.transport.act = act
    assert party.lane.step() == 0.0
    thread = threading.Thread(target=party.lane.large.step)
    thread.start()
    try:
        assert under_way.wait(20)
        assert party.run() == IDLE
        assert (party.owed, sorted(party.transport.asked[1:])) == (1, sorted(small))
    finally:
        go_on.set()
        thread.join(20)
    assert party.owed == 0 and party.lane.large.step() == IDLE


def test_large_files_go_in_the_order_in_which_they_were_met(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more of them than LARGE_MAX are known at a time, and those beyond are met again."""
    monkeypatch.setattr(lanes, "LARGE_MAX", 2)
    party = make()
    names = party.owe(*numbered(7))
    for name in names:
        (party.root / name).write_bytes(bytes(BULK + 1))
    sent: list[str] = []
    for _ in range(100):
        party.lane.step()
        assert len(party.lane.large) <= 2
        known = [name for name in names if name in party.lane.large]
        party.lane.large.step()
        assert set(party.transport.asked) - set(sent) <= set(known)
        sent = list(party.transport.asked)
    assert sorted(sent) == list(names) and party.owed == 0


def test_a_large_file_waits_while_its_host_is_away(make: Make) -> None:
    """Nothing is asked before the pause is over, and then only a probe, until that is answered."""
    party = make()
    (name,) = party.owe("large")
    (party.root / name).write_bytes(bytes(BULK + 1))
    party.lane.step()
    party.transport.act = raising(refusal("large", None))
    assert party.lane.large.step() == 0.0
    party.clock.now = party.row(name).due
    party.lane.step()
    assert party.transport.asked == ["large"]
    party.clock.now += CAP
    assert party.lane.large.step() == IDLE and party.lane.large.step() == IDLE
    assert party.transport.asked == ["large", "/"] and name in party.lane.large
    party.transport.act = lambda name: None
    party.clock.now += CAP
    assert party.lane.large.step() == 0.0
    assert party.transport.asked == ["large", "/", "/", "large"]
    assert party.state is not None and party.state.state == "up"


def test_where_nothing_is_due_nothing_is_asked(make: Make) -> None:
    """The pause is until something is, and at most IDLE, for other processes record, too."""
    party = make()
    assert party.lane.step() == IDLE
    party.outbox.record("cat", [party.host], begin=False, due=NOW + 0.25)
    assert party.lane.step() == pytest.approx(0.25)
    party.outbox.record("cat", [party.host], begin=False, due=NOW + 300)
    assert party.lane.step() == IDLE
    assert party.transport.asked == []


def test_a_host_that_is_owed_nothing_is_asked_whether_it_is_back(make: Make) -> None:
    """A save that failed for it leaves nothing owed, and should nobody save again, who would find out?"""
    party = make()
    party.outbox.note_host(HostState(party.host, "down", NOW, 9, NOW, "earlier"))

    def fail(name: str) -> None:
        raise DeliveryError("media", name, "away")

    party.transport.act = fail
    assert party.lane.step() == IDLE
    paused = party.state
    assert paused is not None and (paused.state, paused.failures) == ("down", 10) and paused.retry_at > NOW
    assert party.lane.step() == paused.retry_at - NOW and party.transport.asked == ["/"]
    party.transport.act = lambda name: None
    party.clock.now = paused.retry_at
    assert party.lane.step() == IDLE
    assert party.state is not None and party.state.state == "up"
    assert party.lane.step() == IDLE and party.transport.asked == ["/", "/"]


def test_a_clock_that_was_set_back_delays_nothing(make: Make) -> None:
    """What seems to be due in a year is due; so is a host that seems to pause for one."""
    party = make()
    party.clock.now = NOW + 365 * 86400
    party.owe("cat")
    party.outbox.note_host(HostState(party.host, "down", NOW, 9, party.clock.now + CAP, "earlier"))
    party.clock.now = NOW
    assert party.run() == IDLE
    assert party.owed == 0


# Names that somebody holds


def test_a_name_that_is_busy_is_not_waited_for(make: Make) -> None:
    """Its row is not touched but for when it is looked at again; all others are delivered meanwhile."""
    party = make()
    party.owe("busy", *numbered(20))
    with party.media_root.lock("busy"):
        assert party.run() == pytest.approx(BUSY, abs=0.05)
        assert party.owed == 1
        assert party.row("busy").due == party.clock.now + BUSY
        assert party.lane.step() == BUSY
    assert "busy" not in party.transport.asked
    party.clock.now += BUSY
    assert party.run() == IDLE
    assert party.owed == 0, "and nobody took it for begun, for then it would be unsure"


def test_what_others_settled_meanwhile_is_not_sent(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the lock a request may have done it."""
    party = make()
    party.owe("cat")
    monkeypatch.setattr(party.outbox, "due", lambda *_, **__: ["cat", "dog"])
    party.outbox.cancel(party.outbox.claim(party.host, ["cat"]))
    for delivery in party.outbox.record("cat", [party.host], begin=True, due=NOW).values():
        party.outbox.settle([delivery])
    party.outbox.owe(party.host, ["other"])
    assert party.lane.step() == 0.0
    assert party.transport.asked == []


# Failures


def test_the_first_failure_of_the_host_ends_the_batch(make: Make) -> None:
    """The rest is given back as it was: not begun, not failed, and due. The first of a batch is asked alone."""
    party = make()
    party.owe(*numbered(15))
    party.run()
    names = party.owe(*(f"dog-{number:02}" for number in range(16)))
    party.transport.act = raising(refusal("dog-00"), "dog-00")
    party.lane.step()
    assert party.transport.asked[15:] == ["dog-00"]
    assert [error.name for error in party.reported] == ["dog-00"]
    assert party.outbox.due(party.host, party.clock.now, 20) == list(names[1:])
    assert (party.row("dog-00").attempts, party.row("dog-01").attempts) == (1, 0)
    assert not any(party.begun(name) for name in names)


def test_a_failure_amid_a_batch_leaves_what_was_under_way_to_its_end(make: Make) -> None:
    """It is settled as it ended; nothing more is begun."""
    party = make()
    party.owe(*numbered(15))
    party.run()
    names = party.owe(*(f"dog-{number:02}" for number in range(16)))
    failed = threading.Event()

    def act(name: str) -> None:
        if name == "dog-02":
            failed.set()
            raise refusal(name)
        assert name == "dog-00" or failed.wait(10)

    party.transport.act = act
    party.lane.step()
    asked = party.transport.asked[15:]
    assert asked[0] == "dog-00" and set(asked[1 : 1 + AT_ONCE]) == set(names[1 : 1 + AT_ONCE])
    assert {name for name in names if party.outbox.deliveries(name)} == {"dog-02", *names} - (set(asked) - {"dog-02"})
    assert not any(party.begun(name) for name in names if party.outbox.deliveries(name))


def test_a_refusal_of_one_name_does_not_end_the_batch(make: Make) -> None:
    """It is parked, and the others are delivered in the same step."""
    party = make()
    party.owe(*numbered(3))
    party.run()
    party.owe(*(f"dog-{number}" for number in range(4)))
    party.transport.act = raising(refusal("dog-1", 413, permanent=True), "dog-1")
    party.lane.step()
    assert party.owed == 1
    assert (party.row("dog-1").parked, party.row("dog-1").status) == (True, 413)
    assert len(party.reported) == 1
    assert party.state is None or party.state.state == "up"
    assert party.run() == IDLE
    assert len(party.transport.asked) == 3 + 4, "what is parked is not tried again soon"
    party.clock.now += 3601
    party.run()
    assert party.transport.asked[7:] == ["dog-1"]


def forbid(party: Party, name: str) -> None:
    (party.root / "folder").mkdir()
    (party.root / name).write_bytes(CAT)
    (party.root / "folder").chmod(0)


def loop(party: Party, name: str) -> None:
    (party.root / "folder").symlink_to("folder")


def refusing(error: int) -> Callable[[Party, str], None]:
    """What no disk here can be made to show: that it refuses one name with ``error``."""

    def break_name(party: Party, name: str) -> None:
        def look(really: Callable[[str], Any], asked: str) -> Any:
            if asked == name:
                raise MediaRootError("read", name, OSError(error, os.strerror(error)))
            return really(asked)

        for how in ("open", "state"):
            setattr(party.media_root, how, partial(look, getattr(party.media_root, how)))

    return break_name


@pytest.mark.parametrize(
    ("name", "break_name", "reason"),
    [
        ("folder/bad", forbid, "Permission denied"),
        ("folder/bad", loop, "is a symbolic link"),
        (f"{'x' * 300}/bad", lambda party, name: None, "File name too long"),
        ("bad", refusing(errno.EIO), "Input/output error"),
        ("bad", refusing(errno.EILSEQ), "Invalid or incomplete multibyte"),
    ],
    ids=["EACCES", "ELOOP", "ENAMETOOLONG", "EIO", "EILSEQ"],
)
def test_a_name_that_cannot_be_read_fails_alone(
    make: Make, name: str, break_name: Callable[[Party, str], None], reason: str
) -> None:
    """It is parked with its reason, wherever it stands among the others; the host is not taken for down."""
    party = make()
    before = party.owe(*numbered(3))
    break_name(party, name)
    party.outbox.owe(party.host, [name])
    party.clock.now += 0.001
    after = party.owe("after-1", "after-2")
    with plain_user():
        assert party.run() == IDLE
    assert sorted(party.transport.asked) == sorted([*before, *after])
    assert party.row(name).parked and reason in party.row(name).reason
    assert (party.state is None or party.state.state == "up") and party.owed == 1
    party.clock.now = party.row(name).due
    party.owe("later")
    with plain_user():
        party.run()
    assert party.owed == 1 and party.row(name).parked, "it fails again, and alone again"


def test_a_file_that_changes_all_the_time_fails_alone(make: Make) -> None:
    """It is parked with its reason, and delivered when it has come to rest."""
    party = make()
    party.owe("restless", *numbered(3))
    path = party.root / "restless"
    party.transport.act = lambda name: name == "restless" and path.write_bytes(path.read_bytes() + CAT)
    assert party.run() == IDLE
    assert party.row("restless").parked and "changes faster" in party.row("restless").reason
    assert party.owed == 1 and (party.state is None or party.state.state == "up")
    party.transport.act = lambda name: None
    party.clock.now = party.row("restless").due
    party.run()
    assert party.owed == 0


def test_nothing_is_tried_while_the_disk_of_the_master_is_away(make: Make) -> None:
    """No name is parked for it; all are delivered when it is back."""
    party = make()
    party.owe(*numbered(3))
    away = party.root.rename(party.root.with_name("away"))
    party.root.mkdir()
    with pytest.raises(MediaRootError, match="it is gone"):
        party.lane.step()
    assert party.owed == 3 and not any(party.row(name).attempts for name in numbered(3))
    party.root.rmdir()
    away.rename(party.root)
    party.run()
    assert party.owed == 0


def test_names_that_are_parked_are_no_hot_loop(make: Make) -> None:
    """A host that refuses one folder is tried with one of its names when it takes another, and not again."""
    party = make()
    bad = [f"bad-{number:02}" for number in range(50)]
    party.owe(*bad)
    party.transport.act = raising(refusal("bad", 403, permanent=True), *bad)
    party.run()
    assert party.state is not None and party.state.state == "read-only"
    asked = len(party.transport.asked)
    for number in range(10):
        party.owe(f"good-{number}")
        party.run()
        assert party.state is not None and party.state.state == "up"
    assert len(party.transport.asked) == asked + 10 + 1
    assert party.owed == 50 and all(party.row(name).parked for name in bad)


def test_a_defect_in_one_delivery_does_not_block_the_others(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its trace, and that delivery has to wait; it would else be the first of every batch."""
    party = make()
    party.owe("bad", *numbered(20))
    party.transport.act = raising(ValueError("never thought of"), "bad")
    assert 0 < party.run() <= IDLE
    assert party.owed == 1
    assert party.row("bad").attempts == 1
    assert "never thought of" in caplog.text
    assert party.state is None or party.state.state == "up"


def returns(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize(("names", "owed"), [(0, "nothing"), (1, "1 name"), (30, "30 names")])
def test_a_host_that_is_back_is_logged_once(
    make: Make, caplog: pytest.LogCaptureFixture, names: int, owed: str
) -> None:
    """With how long it was away and how much it was owed: whoever read that it failed reads this as well."""
    party = make()
    party.owe("first", *numbered(names - 1)) if names else None
    party.outbox.note_host(HostState(MEDIA, "down", NOW - 7300, 9, NOW - 1, "refuses connections", NOW - 1))
    party.run()
    assert party.owed == 0
    assert returns(caplog) == [f"media is back after 2 hours: it was owed {owed}"]
    party.owe("later")
    party.run()
    assert len(returns(caplog)) == 1, "it was here"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 seconds"), (1, "1 second"), (119, "119 seconds"), (120, "2 minutes"), (86400 * 3, "3 days")],
)
def test_the_time_that_a_host_was_away_is_said_in_words(
    make: Make, caplog: pytest.LogCaptureFixture, seconds: float, said: str
) -> None:
    """In a unit of which there are two, so that it is exact enough."""
    party = make()
    party.outbox.note_host(HostState(MEDIA, "down", NOW - seconds, 1, 0.0, "refuses connections", NOW))
    party.run()
    assert returns(caplog) == [f"media is back after {said}: it was owed nothing"]


def test_a_host_that_takes_writes_again_is_logged(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """It was there, and refused them."""
    party = make()
    party.owe("cat")
    party.outbox.note_host(HostState(MEDIA, "read-only", NOW - 600, 0, 0.0, "answered 405", NOW))
    party.run()
    assert returns(caplog) == ["media takes writes again after 10 minutes: it was owed 1 name"]


def test_a_host_that_fails_some_names_is_still_given_the_others(make: Make) -> None:
    """Names that answer 500 do not take down a host that takes others in between, nor are they tried for ever."""
    party = make()
    bad = [f"bad-{number}" for number in range(2)]
    party.owe(*bad, *numbered(10))
    party.transport.act = raising(refusal("bad"), *bad)
    party.run()
    assert party.owed == 2
    assert party.state is not None and party.state.state == "up"


def test_our_own_failures_are_raised_and_lose_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outbox or the media root may refuse; everything stays owed, and is delivered when they do not."""
    party = make()
    party.owe(*numbered(3))

    def refuse(*_: object, **__: object) -> Any:
        raise OutboxError(party.outbox.path, "no space left", "free some")

    for method in ("host_states", "due", "claim", "settle"):
        with monkeypatch.context() as patch:
            patch.setattr(party.outbox, method, refuse)
            with pytest.raises(OutboxError):
                party.lane.step()
            assert party.owed == 3
    lock = party.root / ".resto/names.lock"
    lock.unlink()
    lock.mkdir()
    with pytest.raises(MediaRootError):
        party.lane.step()
    lock.rmdir()
    party.run()
    party.clock.now += LATE
    party.run()
    assert party.owed == 0


def test_what_cannot_be_given_back_is_delivered_all_the_same(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that ended early, and an outbox that refuses just then: whoever comes next finds it begun."""
    party = make()
    party.owe(*numbered(7))
    party.run()
    names = party.owe(*(f"dog-{number}" for number in range(8)))

    def refuse(*_: object) -> None:
        raise OutboxError(party.outbox.path, "no space left", "free some")

    party.transport.act = raising(refusal("dog-0"), "dog-0")
    with monkeypatch.context() as patch:
        patch.setattr(party.outbox, "release", refuse)
        with pytest.raises(OutboxError):
            party.lane.step()
    assert party.owed == len(names) and all(party.begun(name) for name in names)
    for name in names:
        party.outbox.owe(party.host, [name])
    party.transport.act = lambda name: None
    party.run()
    party.clock.now += LATE
    party.run()
    assert party.owed == 0 and set(names) <= set(party.transport.asked)


# Hosts that are away


def test_a_host_that_hangs_costs_one_probe_in_each_pause(make: Make, faulty: Any) -> None:
    """200 names are owed, and it is asked once for each pause, with a request that carries no file."""

    def script(connection: socket.socket, reader: BinaryIO) -> None:
        while server.read_request(reader):
            if len(server.requests) > 127:  # batches of 1, 2, 4 ... 64
                server.stopped.wait()
                return
            connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    server = faulty(script)
    party = make(server, HttpTransport(0.1))
    party.owe(*numbered(327))
    pause = party.run()
    assert (party.owed, len(server.requests)) == (200, 128)
    pauses = []
    for probes in range(1, 9):
        pauses.append(pause)
        assert party.state is not None
        assert (party.state.state, party.state.retry_at) == ("down", pytest.approx(party.clock.now + pause))
        for _ in range(5):
            assert party.lane.step() == pause
        party.clock.now += pause / 2
        assert party.lane.step() == pytest.approx(pause / 2)
        party.clock.now = party.state.retry_at
        pause = party.run()
        assert (party.owed, len(server.requests)) == (200, 128 + probes)
    assert pauses == pytest.approx([0.25, 0.5, 1, 2, 4, CAP / 2, CAP / 2, CAP / 2])
    assert {error.name for error in party.reported[1:]} == {"/"}


def test_a_host_that_refuses_connections_costs_one_probe_in_each_pause(make: Make, faulty: Any) -> None:
    """It is down at the first name, which was not touched."""
    transport = Counted(5.0)
    party = make(faulty("refuse"), transport)
    party.owe(*numbered(200))
    for calls in range(1, 8):
        assert party.run() > 0
        assert (party.owed, transport.calls) == (200, calls)
        assert party.state is not None
        party.clock.now = party.state.retry_at
    assert not party.begun("cat-000")


def test_a_pause_begins_when_the_probe_has_failed(make: Make) -> None:
    """Not when it began: a timeout that is longer than the pause would be no pause at all."""
    party = make()
    party.owe("cat")

    def hang(name: str) -> None:
        party.clock.now += 2
        raise refusal(name, None)

    party.transport.act = hang
    for _ in range(3):
        pause = party.run()
        assert party.state is not None
        assert party.state.retry_at == party.clock.now + pause
        party.clock.now += pause


def test_a_host_that_is_back_is_given_all_that_it_is_owed(make: Make, nginx: Any) -> None:
    """After a restart it is asked when the pause is over, and is up with the first delivery."""
    party = make(nginx)
    names = party.owe(*numbered(30))
    nginx.stop()
    assert party.run() > 0
    assert party.state is not None and party.state.state == "down"
    nginx.start()
    assert party.run() > 0, "not before the pause is over"
    party.clock.now = party.state.retry_at
    assert party.run() == IDLE
    assert sorted(path.name for path in Path(nginx.root).iterdir()) == sorted(names)
    assert (party.owed, party.state.state, party.state.failures) == (0, "up", 0)


def test_a_probe_that_succeeds_before_a_failure_is_not_repeated_without_a_pause(make: Make) -> None:
    """A host that answers, and fails each file, pauses as one that is away."""
    party = make()
    party.owe(*numbered(50))
    party.outbox.note_host(HostState(party.host, "down", NOW, 5, 0.0, "earlier"))
    party.transport.act = raising(refusal("cat", 503), *numbered(50))
    for _ in range(5):
        before = len(party.transport.asked)
        assert party.run() > 0
        assert party.transport.asked[before] == "/"
        assert len(party.transport.asked) == before + 2
        assert party.state is not None
        party.clock.now = party.state.retry_at


def test_a_host_that_asks_for_time_is_given_it(make: Make, faulty: Any) -> None:
    """Retry-After, with one request for all that is owed."""
    server = faulty(("status", 503, {"Retry-After": "60"}))
    party = make(server)
    party.owe(*numbered(20))
    assert party.run() == pytest.approx(60)
    party.clock.now += 59
    assert party.run() == pytest.approx(1)
    assert len(server.requests) == 1


def test_a_read_only_host_is_asked_each_name_once_and_gets_all_when_it_is_not(make: Make) -> None:
    """Each is parked; the first that succeeds brings back the others."""
    party = make()
    names = party.owe(*numbered(20))
    party.transport.act = raising(refusal("cat", 403, permanent=True))
    assert party.run() == IDLE
    assert sorted(party.transport.asked) == list(names)
    assert party.state is not None and party.state.state == "read-only"
    party.transport.act = lambda name: None
    assert party.run() == IDLE
    assert party.owed == 20
    party.owe("new")
    assert party.run() == IDLE
    assert (party.owed, party.state.state) == (0, "up")


# Interruptions and deaths


def test_an_interruption_leaves_the_one_under_way_begun_and_gives_back_the_rest(make: Make) -> None:
    """What was done is settled; what may arrive late is known as unsure; what was not tried is as it was."""
    party = make()
    party.owe(*numbered(7))
    party.run()
    names = party.owe(*(f"dog-{number}" for number in range(8)))
    party.transport.act = raising(KeyboardInterrupt(), "dog-2")
    with pytest.raises(KeyboardInterrupt):
        party.lane.step()
    asked = set(party.transport.asked[7:])
    assert {"dog-0", "dog-2"} <= asked <= set(names[: 1 + 2 * AT_ONCE])
    assert {name for name in names if party.outbox.deliveries(name)} == {"dog-2", *names} - (asked - {"dog-2"})
    with party.media_root.lock("dog-2", wait=False) as free:
        assert free
    begun = {name for name in names if party.outbox.deliveries(name) and party.begun(name)}
    not_come_to = set(names) - asked  # by the thread that was given it
    assert {"dog-2"} <= begun <= {"dog-2"} | not_come_to


def test_what_a_dead_process_was_sending_is_converged_now_and_once_more(make: Make, nginx: Any) -> None:
    """A real kill -9 in the middle: the next lane delivers at once, and again when nothing can arrive late."""
    party = make(nginx)
    party.owe("cat")
    script = """
        import os, signal, sys
        from resto_wsgi.master.media_root import MediaRoot
        from resto_wsgi.hosts import Host
        from resto_wsgi.outbox.outbox import Outbox
        root, outbox, url, now = sys.argv[1:]
        with MediaRoot(root).lock("cat"):
            assert Outbox(outbox, clock=lambda: float(now)).claim(Host.of(url), ["cat"])
            os.kill(os.getpid(), signal.SIGKILL)
    """
    arguments = [str(party.root), party.outbox.path, party.host.url, str(party.clock.now)]
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), *arguments], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    party.run()
    path = Path(nginx.root, "cat")
    assert path.read_bytes() == CAT
    row = party.row("cat")
    assert (row.due, row.unsure_until, row.reason) == (party.clock.now + LATE, party.clock.now + LATEST, CONVERGED)
    path.write_bytes(b"what arrived late")
    party.clock.now += LATE
    assert party.run() == IDLE
    assert path.read_bytes() == CAT
    assert party.owed == 0


def test_a_lane_leaves_no_descriptor(make: Make) -> None:
    """Neither of a lock nor of a master, whether it succeeded or not."""
    party = make()
    party.owe("cat")
    party.run()
    before = descriptors()
    party.owe(*numbered(100))
    party.transport.act = raising(refusal("cat", 413, permanent=True), *numbered(50))
    party.run()
    party.owe("dog")
    party.transport.act = raising(KeyboardInterrupt(), "dog")
    with pytest.raises(KeyboardInterrupt):
        party.lane.step()
    assert descriptors() <= before
