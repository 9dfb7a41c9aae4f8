"""The values that the outbox holds: deliveries, failures, and what is known of the hosts.

Times are seconds since 1970. Nothing is decided here and nothing is read; the outbox makes and takes these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ..hosts import Host

__all__ = ["PARKED", "ROOM", "WATCHED", "Delivery", "Failure", "HostState", "Owed", "delivery_of", "key_of"]

PARKED, WATCHED = 1, 2  # what the column ``parked`` says; 0 is owed. Who counts what is owed leaves out WATCHED
ROOM = 1 << 20  # versions between two generations at least: two for each attempt, of which there are four a minute


class Delivery(NamedTuple):
    """One row. Times are seconds since 1970; ``reason`` and ``status`` are of the last failure since it was recorded.

    ``since`` is when it was first owed. The worker does not try it before ``due``. ``attempts`` counts the failed ones
    since it was recorded last. ``unsure_until`` is 0.0 if nothing that was sent earlier can still be carried out.
    record() tells what it found: ``fresh`` if nothing was owed before, ``entombed`` if the name has a tombstone, and in
    ``state`` what was known of the host. Of others it is not told (None). ``watched`` is True if nothing is owed any
    more, and the host is only looked at again because something that was sent earlier may still be carried out.
    ``raised`` is the version that is sent in place of the usual one, 0 for none; it is never stored.
    """

    # In the order of ``tables.COLUMNS``, by which rows are read and written; what is no column comes last.
    host: Host
    name: str
    generation: int
    since: float
    due: float
    attempts: int
    parked: bool
    unsure_until: float
    status: int | None
    reason: str
    fresh: bool = False
    entombed: bool | None = None
    state: HostState | None = None
    watched: bool = False
    raised: int = 0

    @property
    def version(self) -> int:
        """The version that is sent with the next attempt: higher than with any that failed, or was cut off, before.

        A host that knows versions keeps out what comes late. Each attempt has two: one for the change, and the next for
        its withdrawal by the same caller. Those of the next recording are beyond, see ``recording.ROOM``.
        """
        return self.raised or self.generation + min(2 * self.attempts, ROOM - 2)

    def taken_back(self) -> Delivery:
        """Return what withdraws the change: the host is sent a higher version than with the change itself."""
        return self._replace(raised=self.version + 1)


def delivery_of(row: tuple[Any, ...]) -> Delivery:
    """Return the delivery of a row with the columns of ``tables.COLUMNS``."""
    url, name, generation, since, due, attempts, parked, unsure_until, status, reason = row
    values = (name, generation, since, due, attempts, parked == PARKED, unsure_until, status, reason)
    return Delivery(Host.of(url), *values, watched=parked == WATCHED)


def key_of(delivery: Delivery) -> dict[str, object]:
    """Return what tells the row of a delivery from all others, and from a later recording of the same name."""
    return {"name": delivery.name, "host": delivery.host.url, "generation": delivery.generation}


@dataclass(frozen=True)
class Failure:
    """What the caller decided about a failed attempt."""

    delivery: Delivery
    due: float
    reason: str
    status: int | None = None
    parked: bool = False
    unsure_until: float = 0.0


class HostState(NamedTuple):
    """What is known of a host itself: "up", "down" or "read-only" since when, and why (noted at ``latest``).

    ``failures`` counts those in a row. The host is not asked before ``retry_at``.
    """

    host: Host
    state: str
    since: float
    failures: int
    retry_at: float
    reason: str
    latest: float = 0.0


@dataclass(frozen=True)
class Owed:
    """What one host is owed: how many rows, how many of them parked, and the smallest ``since``."""

    host: Host
    owed: int
    parked: int
    oldest: float | None
