"""The rules of the breaker: each is a function of what is known, what happened, the time and chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resto_wsgi.errors import DeliveryError
from resto_wsgi.hosts import Host
from resto_wsgi.outbox.outbox import LATEST, Delivery, HostState
from resto_wsgi.replication.breaker import (
    ASKED_CAP,
    BASE,
    BREATH,
    CAP,
    FAR,
    PARKED,
    PARKED_CAP,
    PATIENCE,
    after_failure,
    after_success,
    failure,
    is_paused,
    may_come_late,
)

HOST = Host("media-01", "http://media-01/media")
NOW = 1_000_000.0
BEFORE = NOW - 500.0
MOST = 1.0 - 2**-53  # the largest number that random.random() returns
NAMES_OWN = (400, 404, 413, 415)  # refusals that are about one name
WRITES = (401, 403, 405, 501, 507)


def least() -> float:
    return 0.0


def most() -> float:
    return MOST


def error(status: int | None = None, **facts: Any) -> DeliveryError:
    """What the transport makes of such an answer, or of none."""
    permanent = status is not None and status < 500 and status not in (408, 409, 423, 425, 429)
    reason = "no answer" if status is None else f"answered {status}"
    return DeliveryError("media-01", "cat", reason, status=status, **{"permanent": permanent} | facts)


def state(seen: str = "up", failures: int = 0, retry_at: float = 0.0, reason: str = "earlier") -> HostState:
    return HostState(HOST, seen, BEFORE, failures, retry_at, reason, BEFORE)


def delivery(attempts: int = 0, *, parked: bool = False) -> Delivery:
    return Delivery(HOST, "cat", 7, BEFORE, BEFORE, attempts, parked, 0.0, None, "")


def fail(known: HostState | None, why: DeliveryError, chance: Callable[[], float] = most) -> HostState:
    after = after_failure(known, HOST, why, NOW, chance)
    assert after is not None
    return after


# The host


@pytest.mark.parametrize("seen", [None, "up", "down", "read-only"])
def test_a_host_that_does_not_answer_is_down_at_once(seen: str | None) -> None:
    """It is not asked before a pause is over; what is known says since when, and why."""
    after = fail(seen and state(seen), error())
    since = BEFORE if seen == "down" else NOW
    assert after == HostState(HOST, "down", since, 1, after.retry_at, "no answer", NOW)
    assert NOW + BASE * 0.99 < after.retry_at <= NOW + BASE
    assert is_paused(after, NOW) and is_paused(after, after.retry_at - 0.001)
    assert not is_paused(after, after.retry_at)


@pytest.mark.parametrize("status", [408, 409, 423, 425, 500])
def test_a_host_that_fails_with_names_is_not_down(status: int) -> None:
    """A dozen names that it cannot take must not keep it from the others; it is let breathe, and no more."""
    known = None
    for _ in range(PATIENCE - 1):
        known = fail(known, error(status))
        assert (known.state, known.retry_at) == ("up", 0.0)
    for _ in range(20):
        known = fail(known, error(status))
        assert (known.state, known.retry_at) == ("up", NOW + BREATH)
    assert fail(state("down", 4, BEFORE), error(status)).state == "up"
    assert fail(None, error(status, retry_after=7.0)).retry_at == NOW + 7.0


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_some_answers_of_5xx_in_a_row_may_be_the_fault_of_names(status: int) -> None:
    """Only the last of PATIENCE takes the host down; until then nothing pauses."""
    known = None
    for count in range(1, PATIENCE):
        known = fail(known, error(status))
        assert (known.state, known.failures, known.retry_at, known.reason) == ("up", count, 0.0, f"answered {status}")
        assert not is_paused(known, NOW)
    known = fail(known, error(status))
    assert (known.state, known.failures) == ("down", PATIENCE)
    assert NOW + BASE * 0.99 < known.retry_at <= NOW + BASE
    known = fail(known, error(status))
    assert NOW + BASE * 1.99 < known.retry_at <= NOW + BASE * 2


def test_a_success_in_between_begins_the_row_anew() -> None:
    """Otherwise three failures in a year would be an outage."""
    known = fail(fail(None, error(500)), error(500))
    known = after_success(known, HOST, NOW) or pytest.fail("no news")
    assert (known.state, known.failures) == ("up", 0)
    assert fail(known, error(500)).state == "up"


@pytest.mark.parametrize("status", [401, 403, 405])
@pytest.mark.parametrize("seen", [None, "up", "down", "read-only"])
def test_a_host_that_refuses_writes_is_read_only(seen: str | None, status: int) -> None:
    """It is no pause: the deliveries are parked one by one, and a reader need not wait."""
    after = fail(seen and state(seen, 5, NOW + 10), error(status))
    since = BEFORE if seen == "read-only" else NOW
    assert after == HostState(HOST, "read-only", since, 0, 0.0, f"answered {status}", NOW)


@pytest.mark.parametrize("status", [401, 501, 507])
def test_a_host_that_cannot_write_now_is_read_only_and_pauses_after_a_while(status: int) -> None:
    """A full disk, or a clock, is no reason to park a delivery, nor to send every file against it."""
    known = fail(None, error(status, permanent=False))
    assert (known.state, known.failures, known.retry_at) == ("read-only", 1, 0.0)
    for _ in range(PATIENCE - 1):
        known = fail(known, error(status, permanent=False))
    assert (known.state, known.failures) == ("read-only", PATIENCE)
    assert is_paused(known, NOW)


@pytest.mark.parametrize("status", NAMES_OWN)
def test_a_refusal_of_one_name_says_that_a_host_is_not_down(status: int) -> None:
    """It answered. Whether it takes other names is not said, so one that takes none stays read-only."""
    up = fail(state("down", 4, BEFORE), error(status))
    assert up == HostState(HOST, "up", NOW, 0, 0.0, f"answered {status}", NOW)
    for known in (state("up", 2), state("read-only", 2, NOW + 1)):
        after = fail(known, error(status))
        assert (after.state, after.since, after.reason) == (known.state, known.since, f"answered {status}")
        assert (after.failures, after.retry_at) == (0, 0.0)
    assert fail(None, error(status)).state == "up"


@pytest.mark.parametrize("seen", ["up", "down", "read-only"])
@pytest.mark.parametrize("status", [None, 403, 413, 500])
def test_what_fails_on_this_side_says_nothing_of_the_host(seen: str, status: int | None) -> None:
    """An unreadable master must not make a healthy host seem to be down, nor the reverse."""
    known = state(seen, 2, NOW + 1)
    assert fail(known, error(status, ours=True)) is known
    assert after_failure(None, HOST, error(status, ours=True), NOW, most) is None


@pytest.mark.parametrize("status", [403, 405, 413])
def test_what_is_refused_again_says_nothing_new_of_a_host_that_is_up(status: int) -> None:
    """It is that name that the host does not take; one that is down or read-only is judged as before."""
    for known in (None, state("up", 1)):
        assert after_failure(known, HOST, error(status), NOW, most, again=True) is known
    for seen in ("down", "read-only"):
        after = after_failure(state(seen), HOST, error(status), NOW, most, again=True)
        assert after == fail(state(seen), error(status))


@pytest.mark.parametrize("seen", ["down", "read-only"])
def test_a_delivery_that_succeeds_makes_a_host_up(seen: str) -> None:
    """The pause ends; why it was away stays known, and when that was."""
    after = after_success(state(seen, 4, NOW + 10), HOST, NOW)
    assert after == HostState(HOST, "up", NOW, 0, 0.0, "earlier", BEFORE)


def test_a_success_of_a_host_that_is_up_is_no_news() -> None:
    """It costs no write; but a row of failures that it ends does, and so does a pause."""
    assert after_success(None, HOST, NOW) is None
    assert after_success(state(), HOST, NOW) is None
    for known in (state(failures=1), state(retry_at=NOW + 1)):
        assert after_success(known, HOST, NOW) == state()


# Pauses


@pytest.mark.parametrize(("failures", "longest"), [(1, 0.5), (2, 1), (3, 2), (4, 4), (5, 8), (6, CAP), (100_000, CAP)])
def test_pauses_of_a_host_double_up_to_a_cap(failures: int, longest: float) -> None:
    """Chance takes away at most half, and never adds anything."""
    for chance, expected in ((most, longest), (least, longest / 2)):
        after = fail(state("down", failures - 1, BEFORE), error(), chance)
        assert after.retry_at - NOW == pytest.approx(expected)
        assert after.retry_at <= NOW + longest


@pytest.mark.parametrize(("attempts", "longest"), [(0, 0.5), (1, 1), (2, 2), (5, CAP), (100_000, CAP)])
def test_pauses_of_a_delivery_double_up_to_a_cap(attempts: int, longest: float) -> None:
    """The same spread, so that many names that failed together do not come back together."""
    for chance, expected in ((most, longest), (least, longest / 2)):
        assert failure(delivery(attempts), error(500), NOW, chance).due - NOW == pytest.approx(expected)


def test_chance_is_asked_each_time() -> None:
    """Two hosts that fail alike at one moment come back at different ones."""
    numbers = iter([0.0, 0.5])
    pauses = [fail(None, error(), lambda: next(numbers)).retry_at - NOW for _ in range(2)]
    assert pauses == pytest.approx([BASE / 2, BASE * 0.75])


@pytest.mark.parametrize(("asked", "expected"), [(0.0, BASE), (0.1, BASE), (60.0, 60.0), (3600.0, ASKED_CAP)])
def test_a_host_is_given_the_time_that_it_asks_for(asked: float, expected: float) -> None:
    """Retry-After holds back the delivery at once, up to a cap, and never shortens a pause of ours."""
    why = error(503, retry_after=asked)
    assert failure(delivery(), why, NOW, most).due - NOW == pytest.approx(expected)
    after = fail(state("down", PATIENCE, BEFORE), why)
    assert after.retry_at - NOW == pytest.approx(max(expected, 2 * BASE))
    if asked > BASE:
        first = fail(None, why)
        assert (first.state, first.retry_at) == ("up", NOW + expected)
        assert is_paused(first, NOW)


def test_a_clock_that_was_set_back_does_not_hold_a_host_for_ever() -> None:
    """No pause is longer than FAR, so one that is belongs to another time."""
    assert not is_paused(None, NOW)
    assert is_paused(state("down", 1, NOW + ASKED_CAP), NOW)
    assert is_paused(state("down", 1, NOW + FAR), NOW)
    assert not is_paused(state("down", 1, NOW + FAR + 1), NOW)
    assert FAR >= ASKED_CAP > CAP


# The delivery


def test_a_temporary_failure_is_tried_again() -> None:
    """What the outbox notes is why, the status, and when."""
    owed = delivery(2)
    noted = failure(owed, error(500), NOW, most)
    assert (noted.delivery, noted.reason, noted.status) == (owed, "answered 500", 500)
    assert (noted.parked, noted.unsure_until) == (False, 0.0)


@pytest.mark.parametrize("status", [*NAMES_OWN, 401, 403, 405])
def test_a_permanent_refusal_parks_the_delivery_hourly_and_then_daily(status: int) -> None:
    """Whoever mends the host need not know of us, and a host that nobody mends is not bothered."""
    pauses, owed = [], delivery()
    for attempts in range(1, 9):
        noted = failure(owed, error(status), NOW, most)
        assert (noted.parked, noted.status, noted.unsure_until) == (True, status, 0.0)
        pauses.append((noted.due - NOW) / PARKED)
        owed = delivery(attempts, parked=True)
    assert pauses == [1, 2, 4, 8, 16, 24, 24, 24]
    assert PARKED_CAP == 24 * PARKED


@pytest.mark.parametrize("attempts", [1, 20, 5000])
def test_failures_before_a_refusal_do_not_make_its_first_pause_longer(attempts: int) -> None:
    """A name that was owed for hours while its host was overloaded may have failed thousands of times."""
    assert failure(delivery(attempts), error(413), NOW, most).due == NOW + PARKED
    assert failure(delivery(attempts + 20, parked=True), error(413), NOW, most).due == NOW + PARKED_CAP


def test_what_is_parked_for_a_cause_on_this_side_is_looked_at_each_minute_at_first() -> None:
    """What is mended is to be seen soon, and what never is costs little: a look each hour."""
    missing = DeliveryError("one", "cat", "missing", permanent=True, untouched=True, ours=True)
    pauses = [failure(delivery(attempts, parked=True), missing, NOW, most).due - NOW for attempts in (0, 1, 2, 20)]
    assert pauses == [60, 120, 240, PARKED]
    assert failure(delivery(), missing, NOW, most).parked


def test_retry_after_does_not_hurry_what_is_parked() -> None:
    """A refusal for good is one, whatever comes with it."""
    assert failure(delivery(), error(413, retry_after=1.0), NOW, most).due == NOW + PARKED


@pytest.mark.parametrize(
    ("status", "late"),
    [(None, True), (502, True), (504, True), (500, False), (503, False), (507, False), (403, False), (429, False)],
)
def test_a_request_that_got_no_final_answer_may_be_carried_out_late(status: int | None, late: bool) -> None:
    """Nobody answered, or a proxy did that gave up; such a delivery is unsure, but not where nothing was sent."""
    assert may_come_late(error(status)) is late
    assert failure(delivery(), error(status), NOW, most).unsure_until == (NOW + LATEST if late else 0.0)
    assert not may_come_late(error(status, untouched=True))
    assert failure(delivery(), error(status, untouched=True), NOW, most).unsure_until == 0.0
