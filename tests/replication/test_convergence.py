"""Converging with a real master, outbox and media servers; what changes under way is scripted into the transport."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from servers import held, on_every_kind, roots_of

from resto_wsgi.errors import DeliveryError, OutboxError
from resto_wsgi.hosts import Host
from resto_wsgi.master.media_root import MediaRoot
from resto_wsgi.outbox.outbox import CONVERGED, LATE, Delivery, HostState, Outbox
from resto_wsgi.replication.convergence import ROUNDS, Convergence
from resto_wsgi.replication.fanout import Fanout
from resto_wsgi.replication.replicas import Replicas
from resto_wsgi.transports import Transport
from resto_wsgi.transports.http.transport import HttpTransport

NOW = 1_000_000.0
CAT, DOG = b"a cat" * 1000, b"a dog" * 1000  # of one size
ONE, TWO = Host("one", "http://one/media"), Host("two", "http://two/media")


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Scripted:
    """A transport whose hosts are dictionaries: ``fails`` says what a host answers, ``under_way`` what else happens."""

    def __init__(self) -> None:
        self.holds: dict[str, dict[str, bytes]] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.fails: dict[str, DeliveryError] = {}
        self.under_way: Callable[[], object] = lambda: None

    def put(self, host: Host, name: str, file: BinaryIO, size: int, mtime: float) -> None:
        self._ask("PUT", host, name)
        self.holds.setdefault(host.label, {})[name] = file.read(size)
        self.under_way()

    def delete(self, host: Host, name: str) -> None:
        self._ask("DELETE", host, name)
        self.holds.get(host.label, {}).pop(name, None)
        self.under_way()

    def head(self, host: Host, name: str) -> int | None:
        self._ask("HEAD", host, name)
        held = self.holds.get(host.label, {}).get(name)
        return None if held is None else len(held)

    def get(self, host: Host, name: str, write: Callable[[bytes], Any]) -> float | None:
        self._ask("GET", host, name)
        try:
            write(self.holds.get(host.label, {})[name])
        except KeyError:
            raise FileNotFoundError(name) from None
        return None

    def probe(self, host: Host) -> None:
        self._ask("PROBE", host, "/")

    def close(self) -> None:
        """Nothing to close."""

    def _ask(self, method: str, host: Host, name: str) -> None:
        self.asked.append((method, host.label, name))
        if host.label in self.fails:
            raise self.fails[host.label]


class Interfered:
    """HTTP, but whatever is in ``meanwhile`` happens, one after the other, before a request has its answer."""

    def __init__(self) -> None:
        self._http = HttpTransport(5.0)
        self.head, self.get = self._http.head, self._http.get
        self.probe, self.close = self._http.probe, self._http.close
        self.meanwhile: list[Callable[[], object]] = []
        self.asked: list[str] = []

    def put(self, *arguments: Any) -> None:
        self.asked.append("PUT")
        self._http.put(*arguments)
        self._happen()

    def delete(self, *arguments: Any) -> None:
        self.asked.append("DELETE")
        self._http.delete(*arguments)
        self._happen()

    def _happen(self) -> None:
        if self.meanwhile:
            self.meanwhile.pop(0)()


class Party:
    """A master, an outbox, and the convergence of some hosts."""

    def __init__(self, folder: Path, hosts: Any, transport: Transport, *, distributed: bool = False) -> None:
        self.clock = Clock()
        self.root = folder / "media"
        self.hosts = tuple(each if isinstance(each, Host) else Host(each.url, each.url) for each in hosts)
        self.transport = transport
        self.media_root = MediaRoot(str(self.root), fsync=False)
        self.outbox = Outbox(str(folder / "outbox.sqlite3"), clock=self.clock)
        for host in self.hosts:
            self.outbox.admit(host)
        self.fanout = Fanout(transport)
        parts = (self.media_root, self.outbox, transport)
        self.distributed = distributed
        replicas = Replicas(*parts, self.hosts, self.clock) if distributed else None
        self.convergence = Convergence(
            self.media_root, self.outbox, self.fanout, self.hosts, replicas, self.clock, lambda: 0.0
        )

    def write(self, content: bytes = CAT, name: str = "cat") -> None:
        """Change the master as somebody does who knows of no lock."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.root / "aside"
        aside.write_bytes(content)
        aside.rename(path)

    def remove(self) -> None:
        (self.root / "cat").unlink()

    def unmount(self) -> None:
        """Show the empty folder on which the media root's disk is mounted."""
        self.root.rename(self.root.with_name("unmounted"))
        self.root.mkdir()

    def owe(self, *hosts: Host, name: str = "cat", **options: Any) -> dict[Host, Delivery]:
        """Record a name as a save does that is about to send it."""
        usual = {"begin": True, "due": self.clock.now, "gone": self.distributed}
        owed = self.outbox.record(name, hosts or self.hosts, **usual | options)
        for host in self.hosts:  # what is recorded for some is not said to the others, which are members all the same
            self.outbox.admit(host)
        return owed

    def owing(self, name: str = "cat") -> set[Host]:
        return {*self.outbox.deliveries(name)}

    def deliver(self, host: Host, name: str = "cat") -> DeliveryError | None:
        return self.convergence.converge(name, [host])[host]

    def settle(self, delivery: Delivery, error: DeliveryError | None = None) -> None:
        self.convergence.settle([(delivery.host, delivery, error)], self.outbox.host_states())

    def close(self) -> None:
        self.fanout.close()
        self.transport.close()
        self.outbox.close()
        self.media_root.close()


Make = Callable[..., Party]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """``make(hosts, transport, distributed=True)`` returns a party; its transport is Scripted by default."""
    with ExitStack() as stack:

        def make(hosts: Any, transport: Transport | None = None, **options: Any) -> Party:
            party = Party(tmp_path, hosts, transport or Scripted(), **options)
            stack.callback(party.close)
            return party

        yield make


def refusal(status: int, *, permanent: bool, host: Host = ONE) -> DeliveryError:
    return DeliveryError(host.label, "cat", f"answered {status}", status=status, permanent=permanent)


# A host comes to match the master


@on_every_kind
def test_what_the_master_holds_is_put_and_what_it_does_not_hold_is_deleted(
    make: Make, kind_of_host: str, media_servers: Any
) -> None:
    """Every host matches, whatever it held before; repeating it changes nothing."""
    servers = media_servers(kind_of_host, 2)
    party = make(servers, HttpTransport(5.0))
    for content in (CAT, DOG, None, None, CAT):
        if content is None:
            (party.root / "a/cat").unlink(missing_ok=True)
        else:
            party.write(content, "a/cat")
        for _ in range(2):
            assert party.convergence.converge("a/cat", party.hosts) == dict.fromkeys(party.hosts)
            assert [held(server) for server in servers] == [{} if content is None else {"a/cat": content}] * 2


def test_a_host_that_fails_fails_alone(make: Make, nginx: Any, faulty: Any) -> None:
    """Its error says whether it can have been touched; the others match."""
    refusing, hanging = faulty("refuse"), faulty("hang")
    party = make([refusing, nginx, hanging], HttpTransport(0.2))
    party.write()
    outcome = party.convergence.converge("cat", party.hosts)
    assert held(nginx) == {"cat": CAT}
    assert outcome[Host.of(nginx.url)] is None
    found = [outcome[Host.of(each.url)] for each in (refusing, hanging)]
    assert [(error and (error.status, error.untouched, error.ours)) for error in found] == [
        (None, True, False),
        (None, False, False),
    ]


# The second look


@on_every_kind
def test_a_master_that_is_replaced_under_way_is_sent_again(make: Make, media_server: Any) -> None:
    """The host ends with the version that the master has, although both are of one size."""
    transport = Interfered()
    party = make([media_server], transport)
    party.write(CAT)
    transport.meanwhile = [lambda: party.write(DOG)]
    assert party.deliver(party.hosts[0]) is None
    assert held(media_server) == {"cat": DOG}
    assert transport.asked == ["PUT", "PUT"]


@on_every_kind
def test_a_master_that_is_written_in_place_under_way_is_sent_again(make: Make, media_server: Any) -> None:
    """The file is the same and so is its size: its time is not."""
    transport = Interfered()
    party = make([media_server], transport)
    party.write(CAT)
    transport.meanwhile = [lambda: (party.root / "cat").write_bytes(DOG)]
    assert party.deliver(party.hosts[0]) is None
    assert held(media_server) == {"cat": DOG}


@on_every_kind
def test_a_master_that_is_removed_under_way_is_deleted(make: Make, media_server: Any) -> None:
    """Otherwise the host would keep a file that nobody owes it any more."""
    transport = Interfered()
    party = make([media_server], transport)
    party.write(CAT)
    transport.meanwhile = [party.remove]
    assert party.deliver(party.hosts[0]) is None
    assert held(media_server) == {}
    assert transport.asked == ["PUT", "DELETE"]


@on_every_kind
def test_a_master_that_appears_during_a_delete_is_put(make: Make, media_server: Any) -> None:
    """Otherwise the delete would be settled, and the host never hear of the file."""
    transport = Interfered()
    party = make([media_server], transport)
    transport.meanwhile = [lambda: party.write(CAT), lambda: party.write(DOG), party.remove, lambda: party.write(CAT)]
    assert party.deliver(party.hosts[0]) is None
    assert held(media_server) == {"cat": CAT}
    assert transport.asked == ["DELETE", "PUT", "PUT", "DELETE", "PUT"]


def test_a_master_that_never_rests_is_left_for_later(make: Make) -> None:
    """It says nothing of the host, which has been touched, and ends after a few rounds."""
    transport = Scripted()
    party = make([ONE], transport)
    party.write()
    transport.under_way = lambda: party.write(DOG)
    error = party.deliver(ONE)
    assert error is not None
    assert (error.ours, error.permanent, error.untouched, error.status) == (True, False, False, None)
    assert "changes faster" in error.reason
    assert len(transport.asked) == ROUNDS


def test_a_failure_in_a_later_round_does_not_make_a_host_untouched(make: Make) -> None:
    """It holds what the first round sent, so that whoever takes the save back must not pass it by."""
    transport = Scripted()
    party = make([ONE], transport)
    party.write()

    def meanwhile() -> None:
        party.write(DOG)
        transport.fails["one"] = DeliveryError("one", "cat", "refused", untouched=True)

    transport.under_way = meanwhile
    error = party.deliver(ONE)
    assert error is not None and error.reason == "refused" and not error.untouched
    transport.fails["one"] = DeliveryError("one", "cat", "refused", untouched=True)
    error = party.deliver(ONE)
    assert error is not None and error.untouched, "this time nothing was sent"


# A master that cannot be believed


@on_every_kind
def test_nothing_is_deleted_while_the_media_root_is_not_mounted(make: Make, media_server: Any) -> None:
    """An empty mount point looks like a master without files; the hosts keep theirs until it is back."""
    party = make([media_server], HttpTransport(5.0))
    host = party.hosts[0]
    party.write()
    assert party.deliver(host) is None
    party.unmount()
    error = party.deliver(host)
    assert error is not None and "see that the right disk is mounted" in error.reason
    assert (error.ours, error.permanent, error.untouched) == (True, False, True)
    assert held(media_server) == {"cat": CAT}
    (party.root / ".resto").mkdir()
    (party.root / ".resto/id").write_text("0" * 32)
    assert party.deliver(host) is not None, "it is another media root"
    assert held(media_server) == {"cat": CAT}
    shutil.rmtree(party.root)
    party.root.with_name("unmounted").rename(party.root)
    assert party.deliver(host) is None
    party.remove()
    assert party.deliver(host) is None
    assert held(media_server) == {}


def test_a_media_root_that_is_unmounted_under_way_leaves_the_host_touched(make: Make) -> None:
    """What was sent before is there, although the error came of the master."""
    transport = Scripted()
    party = make([ONE], transport)
    party.write()
    transport.under_way = party.unmount
    error = party.deliver(ONE)
    assert error is not None
    assert (error.ours, error.untouched) == (True, False)
    assert transport.holds == {"one": {"cat": CAT}}


def test_a_master_that_cannot_be_read_is_no_fault_of_the_host(make: Make) -> None:
    """It is not asked, and not taken for down."""
    transport = Scripted()
    party = make([ONE], transport)
    name = "x" * 300  # longer than any file system's names
    delivery = party.owe(name=name)[ONE]
    error = party.deliver(ONE, name)
    assert error is not None and error.reason.startswith("this side: ")
    assert (error.ours, error.untouched) == (True, True)
    party.settle(delivery, error)
    assert transport.asked == []
    assert {state.state for state in party.outbox.host_states().values()} <= {"up"}
    assert party.owing(name) == {ONE}


# Settling


def test_what_succeeded_is_owed_no_more_and_what_failed_is(make: Make) -> None:
    """With the failure noted, of the delivery and of the host, and in what the caller knows of the hosts."""
    party = make([ONE, TWO])
    owed = party.owe()
    states: dict[Host, HostState] = {}
    failure = DeliveryError("two", "cat", "no answer")
    party.convergence.settle([(ONE, owed[ONE], None), (TWO, owed[TWO], failure)], states)
    assert party.owing() == {TWO}
    row = party.outbox.deliveries("cat")[TWO]
    assert (row.attempts, row.reason, row.parked, row.unsure_until) == (1, "no answer", False, NOW + LATE)
    assert row.due > NOW
    assert states == party.outbox.host_states()
    assert {url: state.state for url, state in states.items()} == {TWO: "down"}


def test_failures_of_one_batch_are_counted_one_after_the_other(make: Make) -> None:
    """Three answers of 503 in one settlement are three in a row."""
    party = make([ONE])
    attempts = [(ONE, party.owe(name=name)[ONE], refusal(503, permanent=False)) for name in "abc"]
    party.convergence.settle(attempts, party.outbox.host_states())
    state = party.outbox.host_states()[ONE]
    assert (state.state, state.failures) == ("down", 3)


def test_what_was_recorded_again_under_way_stays_owed(make: Make) -> None:
    """The settlement is of what was sent, not of what came after."""
    party = make([ONE])
    sent = party.owe()[ONE]
    later = party.owe(begin=False)[ONE]
    for error in (None, refusal(413, permanent=True)):
        party.settle(sent, error)
        row = party.outbox.deliveries("cat")[ONE]
        assert row == later._replace(unsure_until=row.unsure_until)
    party.settle(later)
    assert party.owing() == set()


def test_what_a_dead_sender_left_is_converged_once_more(make: Make) -> None:
    """His request may arrive late; only what is converged after that time is settled."""
    transport = Scripted()
    party = make([ONE], transport)
    party.write()
    party.owe()  # and dies
    (delivery,) = party.outbox.claim(ONE, ["cat"])
    assert party.deliver(ONE) is None
    party.settle(delivery)
    row = party.outbox.deliveries("cat")[ONE]
    assert (row.reason, row.due, row.unsure_until) == (CONVERGED, NOW + LATE, NOW + LATE)
    party.clock.now += LATE - 0.1
    assert party.outbox.due(ONE, party.clock.now, 10) == []
    party.clock.now += 0.1
    assert party.outbox.due(ONE, party.clock.now, 10) == ["cat"]
    (delivery,) = party.outbox.claim(ONE, ["cat"])
    transport.holds["one"]["cat"] = b"what arrived late"
    assert party.deliver(ONE) is None
    party.settle(delivery)
    assert party.owing() == set()
    assert transport.holds == {"one": {"cat": CAT}}


@pytest.mark.parametrize(("status", "late"), [(None, True), (504, True), (500, False)])
def test_a_success_soon_after_no_answer_is_not_the_end(make: Make, status: int | None, late: bool) -> None:
    """The request that got no answer may still be carried out; one that did is over."""
    party = make([ONE])
    party.write()
    party.settle(party.owe()[ONE], DeliveryError("one", "cat", "failed", status=status))
    party.clock.now += 5
    (delivery,) = party.outbox.claim(ONE, ["cat"])
    party.settle(delivery)
    assert party.owing() == ({ONE} if late else set())
    party.clock.now += LATE
    for delivery in party.outbox.claim(ONE, ["cat"]):
        party.settle(delivery)
    assert party.owing() == set()


def test_a_host_that_takes_writes_again_is_given_what_it_refused(make: Make) -> None:
    """What was parked because it took none is due at once; what it refused for its own sake stays parked."""
    party = make([ONE, TWO])
    for name, status in (("forbidden", 403), ("large", 413)):
        for delivery in party.owe(name=name).values():
            party.settle(delivery, refusal(status, permanent=True))
    party.settle(party.owe(ONE, name="again")[ONE], refusal(405, permanent=True))
    states = party.outbox.host_states()
    assert {url: state.state for url, state in states.items()} == {ONE: "read-only", TWO: "read-only"}
    party.clock.now += 10
    party.settle(party.owe(ONE, name="new")[ONE])
    assert party.outbox.host_states()[ONE].state == "up"
    assert sorted(party.outbox.due(ONE, party.clock.now, 10)) == ["again", "forbidden"]
    assert party.outbox.due(TWO, party.clock.now, 10) == []
    rows = party.outbox.deliveries("large")
    assert all(row.parked and row.due > NOW + 3000 for row in rows.values())


def test_an_outbox_that_cannot_be_written_leaves_everything_owed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """In mode distributed the spool stays, too."""
    party = make([ONE], distributed=True)
    party.write()
    delivery = party.owe()[ONE]

    def refuse(*_: object) -> None:
        raise OutboxError(party.outbox.path, "no space left", "free some")

    with monkeypatch.context() as patch:
        patch.setattr(party.outbox, "settle", refuse)
        with pytest.raises(OutboxError):
            party.settle(delivery)
    assert party.owing() == {ONE}
    assert party.media_root.exists("cat")


# Mode distributed


def test_the_spool_is_dropped_when_the_last_host_has_the_file(make: Make, media_servers: Any) -> None:
    """With the folders that it leaves empty; the name is remembered as present."""
    servers = media_servers("nginx", 2)
    party = make(servers, HttpTransport(5.0), distributed=True)
    party.write(CAT, "a/b/cat")
    owed = party.owe(name="a/b/cat")
    for number, host in enumerate(party.hosts):
        assert (party.root / "a/b/cat").exists() and party.outbox.is_gone("a/b/cat") is True
        assert party.deliver(host, "a/b/cat") is None
        party.settle(owed[host])
        assert held(servers[number]) == {"a/b/cat": CAT}
    assert [path.name for path in party.root.iterdir()] == [".resto"]
    assert list(party.outbox.names()) == ["a/b/cat"]


def test_the_spool_stays_while_a_host_is_parked_or_unsure(make: Make) -> None:
    """Whatever the reason: what is owed can only come from there for certain."""
    party = make([ONE, TWO], distributed=True)
    party.write()
    owed = party.owe()
    party.settle(owed[TWO], refusal(413, permanent=True, host=TWO))
    party.settle(owed[ONE])
    assert party.media_root.exists("cat")
    party.owe(ONE)
    for host in (ONE, TWO):
        for delivery in party.outbox.claim(host, ["cat"]):
            party.settle(delivery)
    assert party.owing() == {ONE}, "its sender died"
    assert party.media_root.exists("cat")
    party.clock.now += LATE
    for delivery in party.outbox.claim(ONE, ["cat"]):
        party.settle(delivery)
    assert not party.media_root.exists("cat")


def test_the_spool_stays_while_its_publisher_may_take_it_back(make: Make) -> None:
    """All hosts have it, but a withdrawal needs it; the publisher drops it, and nobody else before he has ended."""
    party = make([ONE], distributed=True)
    first, second, third = (party.media_root.stage() for _ in range(3))
    for staged in (first, second, third):
        staged.seal()
    replaced = party.media_root.publish(first, "cat")
    delivery = party.owe()[ONE]
    publication = party.media_root.replace(second, "cat")
    party.settle(delivery)
    assert party.owing() == set()
    for word in (None, replaced):
        party.convergence.drop_spool("cat", word)
        assert party.media_root.exists("cat") and party.outbox.is_gone("cat") is True
    party.convergence.drop_spool("cat", publication)
    assert not party.media_root.exists("cat") and party.outbox.is_gone("cat") is False
    party.media_root.publish(third, "dog")
    party.outbox.entomb("dog")
    party.convergence.drop_spool("dog")
    assert party.media_root.exists("dog")
    third.discard()
    party.convergence.drop_spool("dog")
    assert not party.media_root.exists("dog"), "he has ended, and not taken it back"


def test_not_even_its_publisher_drops_a_spool_that_is_owed(make: Make) -> None:
    """It is the only whole copy that is certain."""
    party = make([ONE, TWO], distributed=True)
    staged = party.media_root.stage()
    staged.seal()
    owed = party.owe()
    publication = party.media_root.publish(staged, "cat")
    party.settle(owed[ONE])
    party.convergence.drop_spool("cat", publication)
    assert party.media_root.exists("cat")


def test_hosts_that_are_no_longer_configured_hold_no_spool(make: Make) -> None:
    """Nobody delivers to them, so that their rows are there for ever."""
    party = make([ONE], distributed=True)
    party.write()
    owed = party.owe(ONE, TWO)
    party.settle(owed[ONE])
    assert party.owing() == {TWO}
    assert not party.media_root.exists("cat")
    assert party.outbox.is_gone("cat") is False


def test_the_spool_stays_while_a_host_is_no_member(make: Make) -> None:
    """New, or being filled: it may not even be owed the name yet."""
    party = make([ONE, TWO], distributed=True)
    party.write()
    for delivery in party.owe().values():
        party.outbox.admit(TWO, joining=party.outbox.generation())
        party.settle(delivery)
    assert party.owing() == set() and party.media_root.exists("cat")
    party.outbox.expel([TWO])
    party.convergence.drop_spool("cat")
    assert party.media_root.exists("cat")
    party.outbox.admit(TWO)
    party.convergence.drop_spool("cat")
    assert not party.media_root.exists("cat")


def test_a_file_that_nobody_saved_is_no_spool(make: Make) -> None:
    """It was there before this outbox was: no host is owed it, and it may be the only copy."""
    party = make([ONE], distributed=True)
    party.write()
    party.convergence.drop_spool("cat")
    assert party.media_root.exists("cat") and party.outbox.is_gone("cat") is None


def test_a_name_is_present_before_its_spool_is_dropped(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the two would else leave a name that nobody knows, and that no host could be filled with."""
    party = make([ONE], distributed=True)
    party.write()
    delivery = party.owe()[ONE]
    seen: list[bool | None] = []

    def die(name: str) -> None:
        seen.append(party.outbox.is_gone(name))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(party.media_root, "drop", die)
        party.settle(delivery)
    assert seen == [False]
    assert party.media_root.exists("cat")
    party.convergence.drop_spool("cat")
    assert not party.media_root.exists("cat"), "whoever comes next drops it"


def test_dropping_a_spool_that_is_not_there_changes_nothing(make: Make) -> None:
    """Above all it does not make a name present that was deleted."""
    party = make([ONE], distributed=True)
    party.outbox.entomb("cat")
    party.convergence.drop_spool("cat")
    party.settle(party.owe()[ONE])
    assert party.outbox.is_gone("cat") is True


@on_every_kind
def test_a_name_with_a_tombstone_is_deleted(make: Make, media_server: Any) -> None:
    """The spool is gone, and it was deleted, so that every host must drop it."""
    party = make([media_server], HttpTransport(5.0), distributed=True)
    Path(media_server.root, "cat").write_bytes(CAT)
    party.owe()
    assert party.deliver(party.hosts[0]) is None
    assert held(media_server) == {}


@on_every_kind
def test_a_spool_is_put_although_its_name_was_deleted_once(make: Make, media_server: Any) -> None:
    """It was saved again since, and the tombstone goes when all hosts have it."""
    party = make([media_server], HttpTransport(5.0), distributed=True)
    party.outbox.entomb("cat")
    party.write()
    delivery = party.owe()[party.hosts[0]]
    assert party.deliver(party.hosts[0]) is None
    party.settle(delivery)
    assert held(media_server) == {"cat": CAT}
    assert party.outbox.is_gone("cat") is False


@on_every_kind
def test_a_host_is_filled_from_another(make: Make, kind_of_host: str, media_servers: Any) -> None:
    """The spool is gone and the name is present: a new host gets the file of an old one, and its time."""
    old, new = media_servers(kind_of_host, 2)
    party = make([old, new], HttpTransport(5.0), distributed=True)
    path = Path(old.root, "a/cat")
    path.parent.mkdir()
    path.write_bytes(CAT)
    os.utime(path, (1_234_567_890, 1_234_567_890))
    party.outbox.note_present("a/cat")
    delivery = party.owe(party.hosts[1], name="a/cat", gone=False)[party.hosts[1]]
    assert party.deliver(party.hosts[1], "a/cat") is None
    party.settle(delivery)
    assert held(new) == {"a/cat": CAT}
    assert {Path(root, "a/cat").stat().st_mtime for root in roots_of(new)} == {1_234_567_890}
    assert party.owing("a/cat") == set()
    assert list(party.media_root.names()) == [], "the copy was not published here"


def test_a_name_that_nobody_knows_is_left_alone(make: Make) -> None:
    """Its save died before it gave the name, and what hosts hold under it may be somebody else's."""
    transport = Scripted()
    transport.holds = {"one": {"cat": DOG}}
    party = make([ONE], transport, distributed=True)
    delivery = party.owe(gone=False)[ONE]
    assert party.deliver(ONE) is None
    party.settle(delivery)
    assert transport.asked == []
    assert party.owing() == set()
    assert party.outbox.is_gone("cat") is None


def test_a_host_that_cannot_be_filled_is_not_blamed_for_it(make: Make) -> None:
    """Where no other host answers it waits; where none holds the file it is parked."""
    transport = Scripted()
    transport.fails["two"] = DeliveryError("two", "cat", "no answer")
    party = make([ONE, TWO], transport, distributed=True)
    party.outbox.note_present("cat")
    delivery = party.owe(ONE, gone=False)[ONE]
    error = party.deliver(ONE)
    assert error is not None and (error.ours, error.permanent) == (True, False)
    party.settle(delivery, error)
    assert {state.state for state in party.outbox.host_states().values()} <= {"up"}
    del transport.fails["two"]
    error = party.deliver(ONE)
    assert error is not None and (error.ours, error.permanent) == (True, True)
    assert not any(method in ("PUT", "DELETE") for method, *_ in transport.asked)


def test_an_unmounted_spool_deletes_nothing(make: Make) -> None:
    """Not even where there is a tombstone: the file may have been saved again, on the disk that is not there."""
    transport = Scripted()
    party = make([ONE], transport, distributed=True)
    party.owe()
    party.unmount()
    error = party.deliver(ONE)
    assert error is not None and error.ours
    assert transport.asked == []


def test_the_scripted_transport_is_a_transport(tmp_path: Path) -> None:
    """What is faked here does as a real one does, for the calls that are made."""
    transport: Transport = Scripted()
    transport.put(ONE, "cat", io.BytesIO(CAT), len(CAT), NOW)
    assert transport.head(ONE, "cat") == len(CAT)
    with pytest.raises(FileNotFoundError):
        transport.get(TWO, "cat", print)
