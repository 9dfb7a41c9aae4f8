"""When hosts are told: at once, but for those that are away, or in the background."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from party import NOW, ONE, TWO, Party

from resto_wsgi.config import Settings
from resto_wsgi.errors import DeliveryError, OutboxError
from resto_wsgi.outbox.rows import HostState
from resto_wsgi.replication.outcome import errors_of, failures_of
from resto_wsgi.replication.sending import GRACE, LATER, AtOnce, InBackground, Sending

MakeParty = Callable[..., Party]
AWAY = HostState(TWO, "down", NOW, 1, NOW + 5, "refuses connections")


class Worker:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.started = self.woken = 0

    def start(self) -> None:
        self.started += 1

    def wake(self) -> None:
        self.woken += 1


def sending(kind: type[Sending], party: Party, **keywords: Any) -> tuple[Any, Worker]:
    """One kind of it, for the hosts of a party, with the worker that it tells."""
    worker: Any = Worker()
    hosts = {"media_hosts": [host.label for host in party.hosts], "media_url": "/media/"}
    settings = Settings(media_root=str(party.root), **hosts, **keywords)
    return kind(settings, party.outbox, party.convergence, worker, party.clock), worker


def test_at_once_records_what_is_begun_and_due_later(make_party: MakeParty) -> None:
    """The worker is there, and leaves it to the request for a while."""
    party = make_party([ONE, TWO])
    at_once, worker = sending(AtOnce, party)
    owed = at_once.record("cat", way="a")
    assert {host: delivery.due for host, delivery in owed.items()} == dict.fromkeys((ONE, TWO), NOW + GRACE)
    assert party.outbox.claim(ONE, ["cat"])[0].unsure_until > 0, "it was begun"
    at_once.end()
    assert (worker.started, worker.woken) == (1, 0)


def test_a_host_that_is_away_is_asked_only_if_it_is_needed(make_party: MakeParty) -> None:
    """Else its delivery is a failure that says why, under the name that people gave the host."""
    party = make_party([ONE, TWO])
    party.write()
    at_once, _ = sending(AtOnce, party)
    party.outbox.note_host(AWAY)
    owed = at_once.record("cat")
    outcome = at_once.send(owed, 1)
    assert [host for _, host, _ in party.transport.asked] == ["one"]  # type: ignore[attr-defined]
    assert {host.label for host in outcome} == {"one", "two"}
    (error,) = failures_of(outcome).values()
    assert str(error) == "two: 'cat': not asked, for it was away when it was asked last: refuses connections"
    assert (error.untouched, error.ours) == (True, True)
    assert errors_of(at_once.send(owed, 2)) == {ONE: None, TWO: None}


@pytest.mark.parametrize("fatal", [True, False])
def test_how_many_are_needed_is_for_the_settings_to_say(make_party: MakeParty, fatal: bool) -> None:
    """None without fatal_exceptions, and none of what is sent in the background."""
    party = make_party([ONE, TWO])
    assert sending(AtOnce, party, fatal_exceptions=fatal)[0].needed(2) == (2 if fatal else 0)
    assert sending(InBackground, party, fatal_exceptions=fatal)[0].needed(2) == 0


def test_an_outbox_that_fails_afterwards_fails_no_save(
    make_party: MakeParty, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was sent is not settled: that is logged, and it is made once more."""
    party = make_party([ONE])
    at_once, _ = sending(AtOnce, party)
    outcome = at_once.send(at_once.record("cat"), 0)

    def refuse(*_: Any) -> None:
        raise OutboxError("outbox", "no space is left", "free some")

    monkeypatch.setattr(party.outbox, "settle", refuse)
    at_once.settle(outcome)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert party.owing() == {ONE}


def test_what_failed_is_logged_by_who_sent_it(make_party: MakeParty, caplog: pytest.LogCaptureFixture) -> None:
    """One line for each host; nothing of what was not sent, which has not failed yet."""
    party = make_party([ONE])
    party.write()
    party.transport.fails["one"] = DeliveryError("one", "cat", "no answer")  # type: ignore[attr-defined]
    for kind, lines in ((AtOnce, ["save not replicated, and owed: one: 'cat': no answer"]), (InBackground, [])):
        caplog.clear()
        way, _ = sending(kind, party)
        way.report(way.send(way.record("cat"), 0), "save")
        assert [record.getMessage() for record in caplog.records] == lines


def test_in_the_background_nobody_is_asked(make_party: MakeParty) -> None:
    """All is owed and due, nothing of it begun; the worker comes when the name is free."""
    party = make_party([ONE, TWO])
    in_background, worker = sending(InBackground, party)
    owed = in_background.record("cat")
    outcome = in_background.send(owed, 0)
    in_background.settle(outcome)
    assert party.transport.asked == []  # type: ignore[attr-defined]
    assert {error.reason for error in failures_of(outcome).values()} == {LATER} and party.owing() == {ONE, TWO}
    assert party.outbox.due(ONE, NOW, 1) == ["cat"] and party.outbox.claim(ONE, ["cat"])[0].unsure_until == 0
    assert worker.woken == 0
    in_background.end()
    assert worker.woken == 1
