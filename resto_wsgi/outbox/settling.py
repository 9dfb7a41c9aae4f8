"""The results of an attempt: each function notes one part of them, and the outbox calls them in one transaction.

    the host took it, and nothing earlier can still arrive     the row goes
    it took it, but an earlier request may still arrive        the row stays until then, to be converged again at each
                                                               of LOOKS; after the first it is WATCHED, and not owed
    it did not take it                                         the row has when it is due next, and why
    the name was recorded again meanwhile                      the row stays as it was recorded, and only learns until
                                                               when it is unsure

The generation of a delivery tells whether its row is still the one that was tried. If a power cut loses a settlement,
the name is converged once more. What is owed in the first place must not be decided here: see ``recording``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from . import tables as sql
from .connection import Connection
from .recording import LATE, LATEST, LOOKS
from .rows import WATCHED, Delivery, Failure, HostState, key_of

__all__ = ["CONVERGED", "SET_BACK", "note_failures", "note_hosts", "note_present", "settle_converged"]

SET_BACK = 600.0  # seconds: what is owed is not put off for longer, so a time beyond shows a clock set back
CONVERGED = "converged; looked at again once nothing earlier can still arrive"


def settle_converged(connection: Connection, done: Sequence[Delivery], now: float) -> None:
    """Remove the rows of deliveries that converged; a row that is unsure becomes due at the next of LOOKS."""
    rows = [(delivery.name, delivery.host.url, delivery.generation, now) for delivery in done]
    if connection.executemany(sql.REMOVE_SURE, rows).rowcount < len(done):  # harmless for rows that are gone
        more = {"now": now, "set_back": SET_BACK, "reason": CONVERGED, "watched": WATCHED}
        more |= {"latest": LATEST, "to_first": LATEST - LATE, "to_second": LATEST - LOOKS[1]}
        values = [{**key_of(delivery), **more} for delivery in done]
        connection.executemany(sql.CLEAR, values)
        connection.executemany(sql.AGAIN, values)


def note_failures(connection: Connection, failed: Iterable[Failure]) -> None:
    """Note when each is tried again and why; if it was recorded again, note only until when it is unsure."""
    for failure in failed:
        values = {**vars(failure), **key_of(failure.delivery)}
        del values["delivery"]
        # No row of this generation: the name was recorded again, but what failed here may still arrive there, too.
        if not connection.execute(sql.FAIL, values).rowcount:
            connection.execute(sql.DOUBT, values)


def note_hosts(connection: Connection, states: Iterable[HostState]) -> None:
    """Replace what is known of the hosts."""
    for state in states:
        host, *known = state
        connection.execute(sql.NOTE_HOST, (host.url, *known))


def note_present(connection: Connection, name: str, sha256: str) -> None:
    """Note that hosts hold ``name``, and no master does."""
    connection.execute(sql.PRESENT, (name, sha256))
