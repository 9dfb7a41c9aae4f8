"""Converging with a real master, outbox and media servers; what changes under way is scripted into the transport."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from party import CAT, DOG, NOW, ONE, TWO, Interfered, Party, Scripted, refusal
from servers import held, on_every_kind

from resto_wsgi.errors import DeliveryError, OutboxError
from resto_wsgi.hosts import Host
from resto_wsgi.outbox.outbox import CONVERGED, LATE, LATEST, VERSION_MAX
from resto_wsgi.replication.batch import Attempt, Batch
from resto_wsgi.replication.convergence import ROUNDS
from resto_wsgi.replication.modes import MISSING
from resto_wsgi.transports.http.transport import HttpTransport

MakeParty = Callable[..., Party]

# A host comes to match the master


@on_every_kind
def test_what_the_master_holds_is_put_and_what_was_deleted_is_deleted(
    make_party: MakeParty, kind_of_host: str, media_servers: Any
) -> None:
    """Every host matches, whatever it held before; repeating it changes nothing."""
    servers = media_servers(kind_of_host, 2)
    party = make_party(servers, HttpTransport(5.0))
    for content in (CAT, DOG, None, None, CAT):
        if content is None:
            (party.root / "a/cat").unlink(missing_ok=True)
            party.outbox.entomb("a/cat")
        else:
            party.write(content, "a/cat")
        for _ in range(2):
            assert party.converge("a/cat") == dict.fromkeys(party.hosts)
            assert [held(server) for server in servers] == [{} if content is None else {"a/cat": content}] * 2


def test_a_host_that_fails_fails_alone(make_party: MakeParty, nginx: Any, faulty: Any) -> None:
    """Its error says whether it can have been touched; the others match."""
    refusing, hanging = faulty("refuse"), faulty("hang")
    party = make_party([refusing, nginx, hanging], HttpTransport(0.2))
    party.write()
    outcome = party.converge()
    assert held(nginx) == {"cat": CAT}
    assert outcome[Host.of(nginx.url)] is None
    found = [outcome[Host.of(each.url)] for each in (refusing, hanging)]
    assert [(error and (error.status, error.untouched, error.ours)) for error in found] == [
        (None, True, False),
        (None, False, False),
    ]


# The second look


@on_every_kind
def test_a_master_that_is_replaced_under_way_is_sent_again(make_party: MakeParty, media_server: Any) -> None:
    """The host ends with the version that the master has, although both are of one size."""
    transport = Interfered()
    party = make_party([media_server], transport)
    party.write(CAT)
    transport.meanwhile = [lambda: party.write(DOG)]
    assert party.deliver(party.hosts[0]) is None
    assert held(media_server) == {"cat": DOG}
    assert transport.asked == ["PUT", "PUT"]


@on_every_kind
def test_a_master_that_is_written_in_place_under_way_is_sent_again(make_party: MakeParty, media_server: Any) -> None:
    """The file is the same and so is its size: its time is not."""
    transport = Interfered()
    party = make_party([media_server], transport)
    party.write(CAT)
    transport.meanwhile = [lambda: (party.root / "cat").write_bytes(DOG)]
    assert party.deliver(party.hosts[0]) is None
    assert held(media_server) == {"cat": DOG}


@on_every_kind
def test_a_master_that_is_deleted_under_way_is_deleted(make_party: MakeParty, media_server: Any) -> None:
    """Otherwise the host would keep a file that nobody owes it any more."""
    transport = Interfered()
    party = make_party([media_server], transport)
    party.write(CAT)
    party.outbox.entomb("cat")
    transport.meanwhile = [party.remove]
    assert party.deliver(party.hosts[0]) is None
    assert held(media_server) == {}
    assert transport.asked == ["PUT", "DELETE"]


@on_every_kind
def test_a_master_that_vanishes_under_way_is_parked(make_party: MakeParty, media_server: Any) -> None:
    """Nobody has deleted it: its disk may be away, so the host keeps what it has, and was touched."""
    transport = Interfered()
    party = make_party([media_server], transport)
    party.write(CAT)
    transport.meanwhile = [party.remove]
    error = party.deliver(party.hosts[0])
    assert error is not None and error.reason == MISSING
    assert (error.ours, error.permanent, error.untouched, error.status) == (True, True, False, None)
    assert held(media_server) == {"cat": CAT}
    assert transport.asked == ["PUT", "HEAD"]


@on_every_kind
def test_a_name_that_is_nowhere_is_settled_by_a_question(make_party: MakeParty, media_server: Any) -> None:
    """A save that was killed before it gave its name leaves a delivery like that: the host says that it has it not."""
    transport = Interfered()
    party = make_party([media_server], transport)
    assert party.deliver(party.hosts[0]) is None
    transport.meanwhile = [party.write]
    assert party.deliver(party.hosts[0]) is None, "it is there after the question"
    assert transport.asked == ["HEAD", "HEAD", "PUT"]
    assert held(media_server) == {"cat": CAT}


def test_a_host_that_does_not_say_whether_it_has_a_name_is_asked_again(make_party: MakeParty, faulty: Any) -> None:
    """Its failure is its own, and nothing is concluded from it."""
    party = make_party([faulty("refuse")], HttpTransport(0.2))
    error = party.deliver(party.hosts[0])
    assert error is not None and (error.ours, error.permanent, error.untouched) == (False, False, True)


@on_every_kind
def test_a_master_that_appears_during_a_delete_is_put(make_party: MakeParty, media_server: Any) -> None:
    """Otherwise the delete would be settled, and the host never hear of the file."""
    transport = Interfered()
    party = make_party([media_server], transport)
    party.outbox.entomb("cat")
    transport.meanwhile = [lambda: party.write(CAT), lambda: party.write(DOG), party.remove, lambda: party.write(CAT)]
    assert party.deliver(party.hosts[0]) is None
    assert held(media_server) == {"cat": CAT}
    assert transport.asked == ["DELETE", "PUT", "PUT", "DELETE", "PUT"]


def test_a_master_that_never_rests_is_left_for_later(make_party: MakeParty) -> None:
    """It says nothing of the host, which has been touched, and ends after a few rounds."""
    transport = Scripted()
    party = make_party([ONE], transport)
    party.write()
    transport.under_way = lambda: party.write(DOG)
    error = party.deliver(ONE)
    assert error is not None
    assert (error.ours, error.permanent, error.untouched, error.status) == (True, True, False, None)
    assert "changes faster" in error.reason
    assert len(transport.asked) == ROUNDS


def test_a_failure_in_a_later_round_does_not_make_a_host_untouched(make_party: MakeParty) -> None:
    """It holds what the first round sent, so that whoever takes the save back must not pass it by."""
    transport = Scripted()
    party = make_party([ONE], transport)
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
def test_nothing_is_deleted_while_the_media_root_is_not_mounted(make_party: MakeParty, media_server: Any) -> None:
    """An empty mount point looks like a master without files; the hosts keep theirs until it is back."""
    party = make_party([media_server], HttpTransport(5.0))
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
    party.outbox.entomb("cat")
    party.remove()
    assert party.deliver(host) is None
    assert held(media_server) == {}


def test_a_media_root_that_is_unmounted_under_way_leaves_the_host_touched(make_party: MakeParty) -> None:
    """What was sent before is there, although the error came of the master."""
    transport = Scripted()
    party = make_party([ONE], transport)
    party.write()
    transport.under_way = party.unmount
    error = party.deliver(ONE)
    assert error is not None
    assert (error.ours, error.untouched) == (True, False)
    assert transport.holds == {"one": {"cat": CAT}}


def test_a_master_that_cannot_be_read_is_no_fault_of_the_host(make_party: MakeParty) -> None:
    """It is not asked, and not taken for down."""
    transport = Scripted()
    party = make_party([ONE], transport)
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


def test_what_succeeded_is_owed_no_more_and_what_failed_is(make_party: MakeParty) -> None:
    """With the failure noted, of the delivery and of the host."""
    party = make_party([ONE, TWO])
    owed = party.owe()
    failure = DeliveryError("two", "cat", "no answer")
    party.convergence.settle([Attempt(ONE, owed[ONE], None), Attempt(TWO, owed[TWO], failure)], {})
    assert party.owing() == {TWO}
    row = party.outbox.deliveries("cat")[TWO]
    assert (row.attempts, row.reason, row.parked, row.unsure_until) == (1, "no answer", False, NOW + LATEST)
    assert row.due > NOW
    assert {host: state.state for host, state in party.outbox.host_states().items()} == {TWO: "down"}


def test_failures_of_one_batch_are_counted_one_after_the_other(make_party: MakeParty) -> None:
    """Three answers of 503 in one settlement are three in a row."""
    party = make_party([ONE])
    attempts = [Attempt(ONE, party.owe(name=name)[ONE], refusal(503, permanent=False)) for name in "abc"]
    party.convergence.settle(attempts, party.outbox.host_states())
    state = party.outbox.host_states()[ONE]
    assert (state.state, state.failures) == ("down", 3)


def test_what_was_recorded_again_under_way_stays_owed(make_party: MakeParty) -> None:
    """The settlement is of what was sent, not of what came after."""
    party = make_party([ONE])
    sent = party.owe()[ONE]
    later = party.owe(begin=False)[ONE]
    for error in (None, refusal(413, permanent=True)):
        party.settle(sent, error)
        row = party.outbox.deliveries("cat")[ONE]
        assert row == later._replace(unsure_until=row.unsure_until, entombed=None)
    party.settle(later)
    assert party.owing() == set()


def test_what_a_dead_sender_left_is_converged_once_more(make_party: MakeParty) -> None:
    """His request may arrive late; only what is converged after that time is settled."""
    transport = Scripted()
    party = make_party([ONE], transport)
    party.write()
    party.owe()  # and dies
    (delivery,) = party.outbox.claim(ONE, ["cat"])
    assert party.deliver(ONE) is None
    party.settle(delivery)
    row = party.outbox.deliveries("cat")[ONE]
    assert (row.reason, row.due, row.unsure_until) == (CONVERGED, NOW + LATE, NOW + LATEST)
    party.clock.now += LATE - 0.1
    assert party.outbox.due(ONE, party.clock.now, 10) == []
    party.clock.now += 0.1
    assert party.outbox.due(ONE, party.clock.now, 10) == ["cat"]
    (delivery,) = party.outbox.claim(ONE, ["cat"])
    transport.holds["one"]["cat"] = b"what arrived late"
    assert party.deliver(ONE) is None
    party.settle(delivery)
    assert party.outbox.deliveries("cat")[ONE].watched
    assert transport.holds == {"one": {"cat": CAT}}
    party.clock.now = NOW + 600
    transport.holds["one"]["cat"] = b"what lay in a queue for ten minutes"
    party.clock.now = party.outbox.next_due(ONE) or 0.0
    assert party.clock.now == NOW + 300  # which nobody did; it is made up at the last look
    party.clock.now = NOW + LATEST
    (delivery,) = party.outbox.claim(ONE, party.outbox.due(ONE, party.clock.now, 10))
    assert party.deliver(ONE) is None
    party.settle(delivery)
    assert (party.owing(), transport.holds) == (set(), {"one": {"cat": CAT}})


@pytest.mark.parametrize(("status", "late"), [(None, True), (504, True), (500, False)])
def test_a_success_soon_after_no_answer_is_not_the_end(make_party: MakeParty, status: int | None, late: bool) -> None:
    """The request that got no answer may still be carried out; one that did is over."""
    party = make_party([ONE])
    party.write()
    party.settle(party.owe()[ONE], DeliveryError("one", "cat", "failed", status=status))
    party.clock.now += 5
    (delivery,) = party.outbox.claim(ONE, ["cat"])
    party.settle(delivery)
    assert party.owing() == ({ONE} if late else set())
    party.clock.now += LATEST
    for delivery in party.outbox.claim(ONE, ["cat"]):
        party.settle(delivery)
    assert party.owing() == set()


def test_a_host_that_takes_writes_again_is_given_what_it_refused(make_party: MakeParty) -> None:
    """One name of what was parked since it took none, then the rest; what it refused for its own sake stays parked."""
    party = make_party([ONE, TWO])
    for name, status in (("forbidden", 403), ("large", 413)):
        for delivery in party.owe(name=name).values():
            party.settle(delivery, refusal(status, permanent=True))
    party.settle(party.owe(ONE, name="again")[ONE], refusal(405, permanent=True))
    states = party.outbox.host_states()
    assert {host: state.state for host, state in states.items()} == {ONE: "read-only", TWO: "read-only"}
    party.clock.now += 10
    party.settle(party.owe(ONE, name="new")[ONE])
    assert party.outbox.host_states()[ONE].state == "up"
    (first,) = party.outbox.due(ONE, party.clock.now, 10)
    assert first in ("again", "forbidden")
    party.settle(party.outbox.deliveries(first)[ONE])
    (second,) = party.outbox.due(ONE, party.clock.now, 10)
    assert {first, second} == {"again", "forbidden"}
    assert party.outbox.due(TWO, party.clock.now, 10) == []
    rows = party.outbox.deliveries("large")
    assert all(row.parked and row.due > NOW + 3000 for row in rows.values())


def test_an_outbox_that_cannot_be_written_leaves_everything_owed(
    make_party: MakeParty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In mode distributed the spool stays, too."""
    party = make_party([ONE], distributed=True)
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


# Versions


def sent(party: Party, **options: Any) -> DeliveryError | None:
    """Record the name for the first host, converge it, settle, and return the error."""
    host = party.hosts[0]
    (attempt,) = party.convergence.deliver(Batch.of_name(party.owe(host, **options).values()))
    return attempt.error


def arrives(party: Party, content: bytes, version: int) -> None:
    """Carry out at the first host what somebody sent with that version."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        party.transport.put(party.hosts[0], "cat", file, len(content), 0.0, version)


def test_a_node_that_has_a_higher_version_is_gone_above(make_party: MakeParty, media_servers: Any) -> None:
    """An outbox that was lost or restored while the clock was ahead: what is sent, and all that follows, is taken."""
    (node,) = media_servers("node", 1)
    party = make_party([node], HttpTransport(5.0))
    arrives(party, DOG, int(NOW * 1e9) + 10**15)
    party.write()
    assert sent(party) is None
    assert held(node) == {"cat": CAT} and party.owing() == set()
    party.write(DOG)
    assert sent(party) is None
    assert held(node) == {"cat": DOG} and party.owing() == set()
    party.remove()
    assert sent(party, gone=True) is None
    assert held(node) == {} and party.owing() == set()


def test_a_version_that_no_time_can_reach_is_refused_for_good(make_party: MakeParty, media_servers: Any) -> None:
    """Nobody goes above it, and all later names with it; it is parked, and says what to do."""
    (node,) = media_servers("node", 1)
    party = make_party([node], HttpTransport(5.0))
    arrives(party, DOG, VERSION_MAX)
    party.write()
    error = sent(party)
    assert error is not None and error.permanent and "delete the name there" in error.reason
    assert party.outbox.deliveries("cat")[party.hosts[0]].parked
    assert party.outbox.generation() < VERSION_MAX


def test_what_is_late_at_a_node_changes_nothing(make_party: MakeParty, media_servers: Any) -> None:
    """A save that was given up, and arrives after its withdrawal or after what was sent since."""
    (node,) = media_servers("node", 1)
    party = make_party([node], HttpTransport(5.0))
    host = party.hosts[0]
    party.write()
    given_up = party.owe(host)[host]
    party.outbox.entomb("cat")
    party.remove()
    (attempt,) = party.convergence.converge(Batch.of_name([given_up.taken_back()]))
    assert attempt.error is None
    with pytest.raises(DeliveryError) as caught:
        arrives(party, CAT, given_up.version)
    assert caught.value.outdone_by == given_up.version + 1
    assert held(node) == {}


def test_an_outbox_that_cannot_be_written_leaves_what_is_outdone_owed(
    make_party: MakeParty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a failure of this side, and tried again."""
    transport = Scripted()
    party = make_party([ONE], transport)
    party.write()
    transport.fails["one"] = refusal(412, permanent=True).with_facts(outdone_by=5, untouched=True)

    def refuse(version: int) -> int:
        raise OutboxError("outbox", "no space left", "make some")

    monkeypatch.setattr(party.outbox, "raise_above", refuse)
    error = sent(party)
    assert error is not None and error.ours and not error.permanent
    assert party.owing() == {ONE}
