"""When a delivery is tried again, and when a host is: the rules, without a clock, a disk or a socket.

    up ── no answer ──────────────────────────> down          not asked before ``retry_at``, and then by a probe
    up ── PATIENCE times 429, 502, 503, 504 ───> down          the same
    up ── 401, 403, 405, 501, 507 ────────────> read-only     reads are answered, writes are not; 501, 507, and a 401
                                                              to a signature, pause it after PATIENCE times
    up ── PATIENCE times 500, 409 in a row ────> up            a BREATH after each: names may be at fault, not the host
    down ── another refusal of a name (413) ──> up            it answers
    down, read-only ── a delivery succeeds ───> up

Waiting times grow exponentially, up to a cap. They are spread by chance, so that many names, hosts and processes do
not come back at the same moment. A permanent answer parks the delivery. It is then seen in ``status``, and tried again
hourly, then daily, because the person who repairs the host need not know of us. If the cause is on this side, it is
tried again after a minute, and hourly at last: a look costs little here, and what is mended is to be seen soon. The
outbox keeps what is decided here. The convergence, the lanes, the sending, the publisher and the replicas call this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..errors import DeliveryError
from ..hosts import Host
from ..outbox.outbox import LATEST, Delivery, Failure, HostState

__all__ = ["after_failure", "after_success", "are_calm", "failure", "is_away", "is_paused", "may_come_late"]

BASE = 0.5  # seconds: the first pause, about what a restart of a web server takes
CAP = 15.0  # seconds: the longest pause of a host that is away, whose probe is one small request
ASKED_CAP = 300.0  # seconds: a longer Retry-After is cut to this
PARKED = 3600.0  # seconds until a parked delivery is tried again the first time
PARKED_OURS = 60.0  # the same, if the cause is on this side; then it is never longer than PARKED
PARKED_CAP = 86400.0  # seconds between the later times
PATIENCE = 3  # failures in a row that are taken as they come
BREATH = 0.25  # seconds: four a second at most, if a host fails with name after name
FAR = ASKED_CAP  # seconds: a pause that is longer than any we make was made before the clock was set back

WRITES_REFUSED = frozenset({401, 403, 405, 501, 507})
HOST_WIDE = frozenset({401, 429, 501, 502, 503, 504, 507})  # these say something about the host, not about the name
PROXY_GAVE_UP = frozenset({502, 504})  # the server behind it may still be at work

Chance = Callable[[], float]
"""A number from 0 up to 1, at random."""


def may_come_late(error: DeliveryError) -> bool:
    """Return True if the host may still do what was asked after we gave up: nobody answered, or a proxy did."""
    return not error.untouched and (error.status is None or error.status in PROXY_GAVE_UP)


def failure(delivery: Delivery, error: DeliveryError, now: float, chance: Chance) -> Failure:
    """Return what becomes of a delivery that failed; ``now`` is in seconds since 1970."""
    if error.permanent:
        attempts = delivery.attempts if delivery.parked else 0  # those before it was parked were no refusals
        first, cap = (PARKED_OURS, PARKED) if error.ours else (PARKED, PARKED_CAP)
        # 2 ** 11 is beyond both caps. Without that bound, a float overflows after some 1,000 attempts.
        pause = min(first * 2 ** min(attempts, 11), cap)
    else:
        # Retry-After can only lengthen a pause: "0" must not make us come back in a tight loop.
        pause = max(_pause(delivery.attempts + 1, chance), _asked(error))
    unsure_until = now + LATEST if may_come_late(error) else 0.0
    return Failure(delivery, now + pause, error.reason, error.status, error.permanent, unsure_until)


def after_failure(
    state: HostState | None, host: Host, error: DeliveryError, now: float, chance: Chance, *, again: bool = False
) -> HostState | None:
    """Return what is known of a host after it failed once more; ``state`` itself if that tells nothing new of it.

    So it is with a failure on this side, and if a host that is up refuses ``again`` what it refused before: it is that
    name that it does not take.
    """
    is_up = state is None or state.state == "up"
    if error.ours or (again and is_up and error.permanent):
        return state
    state = state or HostState(host, "up", now, 0, 0.0, "")
    if error.status is None:
        failures = state.failures + 1
        return _changed(state, "down", failures, now, now + _pause(failures, chance), error.reason)
    if error.status in WRITES_REFUSED and error.permanent:
        # There is no pause: each delivery is parked by itself, and readers need not wait for this host.
        return _changed(state, "read-only", 0, now, 0.0, error.reason)
    if error.permanent:  # it refuses this name, which is an answer
        return _changed(state, "up" if state.state == "down" else state.state, 0, now, 0.0, error.reason)
    failures = state.failures + 1
    if error.status not in HOST_WIDE:
        # The cause may be the name: if a parent folder of it is a file, nginx answers 500 and lighttpd 409.
        pause = max(BREATH if failures >= PATIENCE else 0.0, _asked(error))
        seen = "up" if state.state == "down" else state.state
        return _changed(state, seen, failures, now, now + pause if pause else 0.0, error.reason)
    seen = "read-only" if error.status in WRITES_REFUSED else "down" if failures >= PATIENCE else state.state
    pause = max(_pause(failures - PATIENCE + 1, chance) if failures >= PATIENCE else 0.0, _asked(error))
    return _changed(state, seen, failures, now, now + pause if pause else 0.0, error.reason)


def are_calm(states: Iterable[HostState]) -> bool:
    """Return True if none of these hosts is known to be in trouble."""
    return all(state.state == "up" and not state.failures and not state.retry_at for state in states)


def after_success(state: HostState | None, host: Host, now: float) -> HostState | None:
    """Return what is known of a host after it took a delivery; None if that changes nothing."""
    if state is None or are_calm([state]):
        return None
    return _changed(state, "up", 0, now, 0.0, "")


def is_paused(state: HostState | None, now: float) -> bool:
    """Return True if the host is not to be asked before ``state.retry_at``."""
    return state is not None and now < state.retry_at <= now + FAR


def is_away(state: HostState | None, now: float) -> bool:
    """Return True if the host did not answer when it was asked last, or is not to be asked now."""
    return state is not None and (state.state == "down" or is_paused(state, now))


def _changed(state: HostState, seen: str, failures: int, now: float, retry_at: float, reason: str) -> HostState:
    since = state.since if state.state == seen else now
    latest = now if reason else state.latest
    return HostState(state.host, seen, since, failures, retry_at, reason or state.reason, latest)


def _pause(failures: int, chance: Chance) -> float:
    # Chance only shortens, by half at most, so that CAP stays a cap. The exponent is bounded, or a float overflows.
    return float(min(CAP, BASE * 2 ** min(failures - 1, 10)) * (0.5 + chance() / 2))


def _asked(error: DeliveryError) -> float:
    return min(error.retry_after or 0.0, ASKED_CAP)
