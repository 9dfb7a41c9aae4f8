"""What came of an attempt, and what may still arrive late."""

from __future__ import annotations

import pytest
from outboxes import HOST, NOW, OTHER, Clock, record, row, statements

from resto_wsgi.outbox.outbox import LATE, LATEST, Delivery, Failure, HostState, Outbox


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
    assert row(outbox) == new._replace(entombed=None)
    outbox.settle([], [Failure(old, NOW + 99, "late", 500, parked=True, unsure_until=NOW + 50)])
    assert row(outbox) == Delivery(HOST, "cat", new.generation, NOW, NOW + 7, 0, False, NOW + 50, None, "")
    outbox.settle([], [Failure(old, NOW + 99, "late", unsure_until=NOW + 40)])
    assert row(outbox).unsure_until == NOW + 50


def test_a_failure_is_noted(outbox: Outbox) -> None:
    """Attempts add up, the last reason is kept, and unsure_until only grows."""
    delivery = record(outbox)
    outbox.settle([], [Failure(delivery, NOW + 1, "no answer", unsure_until=NOW + 20)])
    outbox.settle([], [Failure(delivery, NOW + 2, "forbidden", 403, parked=True)])
    assert row(outbox) == Delivery(HOST, "cat", delivery.generation, NOW, NOW + 2, 2, True, NOW + 20, 403, "forbidden")


def test_settling_notes_failures_and_hosts_with_it(outbox: Outbox) -> None:
    """One transaction holds the deliveries, the failures and the hosts."""
    recorded = outbox.record("cat", [HOST, OTHER], begin=True, due=NOW)
    state = HostState(OTHER, "down", NOW - 5, 3, NOW + 8, "connection refused", NOW)
    failure = Failure(recorded[OTHER], NOW + 8, "connection refused")
    assert statements(outbox, lambda: outbox.settle([recorded[HOST]], [failure], [state])).count("COMMIT") == 1
    assert [delivery.attempts for delivery in outbox.deliveries("cat").values()] == [1]
    assert outbox.host_states() == {OTHER: state}
    up = HostState(OTHER, "up", NOW, 0, 0.0, "")
    outbox.note_host(up)
    assert outbox.host_states() == {OTHER: up}


def test_an_attempt_of_which_nothing_came_writes_nothing(outbox: Outbox) -> None:
    """A save that sent to nobody costs no transaction."""
    assert statements(outbox, lambda: outbox.settle([], [], [])) == []


def test_a_success_after_an_unsure_attempt_is_looked_at_again_and_again(outbox: Outbox, clock: Clock) -> None:
    """The row stays until nothing sent earlier can still be carried out; then a success removes it."""
    delivery = record(outbox)
    outbox.settle([], [Failure(delivery, NOW + 1, "timeout", unsure_until=NOW + 3600)])
    clock.now = NOW + 5
    outbox.settle(outbox.claim(HOST, ["cat"]))
    expected = "converged; looked at again once nothing earlier can still arrive"
    first = Delivery(HOST, "cat", delivery.generation, NOW, NOW + 20, 1, False, NOW + 3600, None, expected)
    assert (row(outbox), outbox.owed([HOST])) == (first, 1)
    for look, following in ((20, 300), (300, 3600)):
        assert outbox.due(HOST, NOW + look - 0.1, 1) == []
        clock.now = NOW + look
        assert outbox.due(HOST, clock.now, 1) == ["cat"] and outbox.next_due(HOST) == clock.now
        outbox.settle(outbox.claim(HOST, ["cat"]))
        assert row(outbox) == first._replace(due=NOW + following, watched=True)
    clock.now = NOW + 3600
    outbox.settle(outbox.claim(HOST, outbox.due(HOST, clock.now, 1)))
    assert outbox.deliveries("cat") == {}


def test_what_is_only_looked_at_again_is_not_owed(outbox: Outbox, clock: Clock) -> None:
    """After the first look nobody waits for it, counts it or shows it; a failure makes it owed once more."""
    outbox.settle([], [Failure(record(outbox), NOW + 1, "timeout", unsure_until=NOW + 3600)])
    clock.now = NOW + 20
    outbox.settle(outbox.claim(HOST, ["cat"]))
    for parked in (False, True):
        assert outbox.owed([HOST], parked=parked) == outbox.owed([HOST], parked=parked, until=1 << 62) == 0
    assert (outbox.summary(), outbox.owing(HOST, "", 9)) == ([], [])
    outbox.nudge([HOST], parked=True)
    assert outbox.next_due(HOST) == NOW + 300
    clock.now = NOW + 300
    outbox.settle([], [Failure(outbox.claim(HOST, ["cat"])[0], NOW + 301, "no")])
    assert (outbox.owed([HOST]), row(outbox).watched) == (1, False)


def test_what_lost_its_sender_a_second_time_begins_its_looks_anew(outbox: Outbox, clock: Clock) -> None:
    """The request that was cut off last counts."""
    record(outbox)
    outbox.claim(HOST, ["cat"])
    clock.now = NOW + 400
    outbox.settle(outbox.claim(HOST, ["cat"]))
    assert (row(outbox).due, row(outbox).unsure_until) == (NOW + 420, NOW + 4000)


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
    assert outbox.claim(HOST, ["cat"])[0].unsure_until == NOW + 5 + LATEST


def end_of(outbox: Outbox, how: str, delivery: Delivery) -> None:
    {
        "settle": lambda: outbox.settle([delivery]),
        "fail": lambda: outbox.settle([], [Failure(delivery, NOW, "no")]),
        "release": lambda: outbox.release([delivery], NOW),
        "cancel": lambda: outbox.cancel([delivery]),
    }[how]()


def test_a_clock_that_is_set_back_does_not_keep_a_delivery_for_ever(outbox: Outbox, clock: Clock) -> None:
    """It is unsure for LATEST by the new clock at most, so that it is not converged in a hot loop for a day."""
    delivery = record(outbox)
    outbox.settle([], [Failure(delivery, NOW + 1, "timeout", unsure_until=NOW + LATEST)])
    clock.now = NOW - 86400
    assert outbox.due(HOST, clock.now, 10) == ["cat"]
    outbox.settle(outbox.claim(HOST, ["cat"]))
    assert (row(outbox).due, row(outbox).unsure_until) == (clock.now + LATE, clock.now + LATEST)
    assert outbox.due(HOST, clock.now, 10) == []
    clock.now += LATEST
    outbox.settle(outbox.claim(HOST, ["cat"]))
    assert outbox.deliveries("cat") == {}


def test_a_digest_is_corrected_only_as_long_as_it_is_what_was_noted(outbox: Outbox) -> None:
    """Whoever saved or deleted the name meanwhile knows better."""
    outbox.note_present("cat", "aa")
    assert outbox.correct_digest("cat", "aa", "bb")
    assert outbox.sha256("cat") == "bb"
    assert not outbox.correct_digest("cat", "aa", "cc")
    outbox.entomb("cat")
    assert not outbox.correct_digest("cat", "", "dd")
    assert outbox.is_gone("cat")
