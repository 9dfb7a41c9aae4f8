"""What is owed, and who sends it: from the recording of a name to its cancel, each function in one transaction.

    nothing ── record, owe ──> owed ── record(begin=True), claim ──> begun ── release, cancel ──> owed
                                └────────────── cancel, of what was fresh ──────────────┴──> nothing

A row keeps since when it is owed and until when it is unsure, even if the name is recorded again. ``begun`` holds the
generation under which sending began, so that a sender clears its own beginning and nobody else's. Transactions and
their durability must not live here: they are the outbox's, which alone calls this. The end of an attempt is in
``settling``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ..hosts import Host
from . import tables as sql
from .connection import Connection
from .reserve import Full
from .rows import ROOM, Delivery, HostState, delivery_of, key_of

__all__ = [
    "LATE",
    "LATEST",
    "LOOKS",
    "VERSION_MAX",
    "cancel",
    "claim",
    "entomb",
    "expel_others",
    "owe",
    "raise_above",
    "record",
    "release",
]

# Seconds after an attempt that ended unknown at which the name is converged again: a host may still carry out a request
# whose sender gave up or died. Nearly all do so before the first. A proxy or a full queue can hold one for minutes.
LOOKS = (20.0, 300.0, 3600.0)
LATE, LATEST = LOOKS[0], LOOKS[-1]
VERSION_MAX = 1 << 62  # ns since 1970, in the year 2116: no clock and no host makes the generations go beyond at once


def record(
    connection: Connection,
    name: str,
    hosts: Sequence[Host],
    *,
    begin: bool,
    due: float,
    reserve: bool,
    way: str,
    now: float,
) -> dict[Host, Delivery]:
    """Owe ``name`` to ``hosts`` under a new generation, and return the deliveries by host; see ``Outbox.record``."""
    old = {row[0]: row[1:] for row in connection.execute(sql.FIND_BEGUN, (name,))}
    states = {row[0]: row[1:] for row in connection.execute(sql.HOSTS)}
    generation, entombed = _next_generation(connection, now, name, reserve=reserve)
    recorded: dict[Host, Delivery] = {}
    rows: list[tuple[object, ...]] = []
    for host in hosts:
        since, unsure_until, begun = old.get(host.url, (now, 0.0, None))
        if begin:  # somebody who had begun, and died, may have sent what still arrives
            unsure_until = unsure_until if begun is None else max(unsure_until, now + LATEST)
            begun = generation
        # In the order of COLUMNS and of Delivery. ``since`` stays, so that status tells how long a host was behind.
        row = (name, generation, since, due, 0, False, unsure_until, None, "")
        rows.append((host.url, *row, begun, way))
        state = HostState(host, *states[host.url]) if host.url in states else None
        recorded[host] = Delivery(host, *row, fresh=host.url not in old, entombed=entombed, state=state)
    connection.executemany(sql.PUT, rows)
    return recorded


def expel_others(connection: Connection, hosts: Collection[Host]) -> None:
    """End the membership of hosts that are not among ``hosts``: they are not told, so they may miss this change."""
    told = {host.url for host in hosts}
    for url, _ in connection.execute(sql.MEMBERS).fetchall():
        if url not in told:
            connection.execute(sql.EXPEL, (url,))


def entomb(connection: Connection, name: str, now: float) -> None:
    """Note that ``name`` is deleted."""
    connection.execute(sql.ENTOMB, (name, now))


def owe(connection: Connection, host: Host, names: Sequence[str], now: float) -> None:
    """Owe all these names to a host, due now. This does not mark them as begun."""
    generation, _ = _next_generation(connection, now)
    connection.executemany(sql.OWE, [(host.url, name, generation, now, now) for name in names])


def claim(connection: Connection, host: Host, names: Sequence[str], now: float) -> list[Delivery]:
    """Return those of ``names`` that are owed, marked as begun. One that is found begun becomes unsure."""
    claimed = []
    for name in names:
        # Marked before it is read: the caller is to see until when the row is unsure because of an earlier sender.
        connection.execute(sql.BEGIN, {"name": name, "host": host.url, "late": now + LATEST})
        found = connection.execute(sql.FIND, (name, host.url)).fetchone()
        if found:
            claimed.append(delivery_of(found)._replace(host=host))
    return claimed


def raise_above(connection: Connection, version: int, now: float) -> int:
    """Return a version above ``version``, and above all that were sent and recorded before; later ones are higher."""
    last, *_ = connection.execute(sql.GENERATION, ("",)).fetchone()
    connection.execute(sql.SET_GENERATION, (max(last, version),))
    return _next_generation(connection, now, reserve=True)[0]


def release(connection: Connection, deliveries: Iterable[Delivery], due: float) -> None:
    """Give back deliveries that were claimed and not tried; they are tried at ``due``."""
    for delivery in deliveries:
        values = {**key_of(delivery), "due": due}
        connection.execute(sql.RELEASE, values)
        connection.execute(sql.CLEAR, values)  # only if it was begun under this generation, not by a dead sender


def cancel(connection: Connection, deliveries: Sequence[Delivery], now: float) -> None:
    """Take back what was recorded; what was owed before stays owed."""
    for delivery in deliveries:
        if delivery.fresh:  # a row that was there before is still owed: only ``release`` may touch it
            connection.execute(sql.REMOVE, key_of(delivery))
    release(connection, deliveries, now)


def _next_generation(connection: Connection, now: float, name: str = "", *, reserve: bool = False) -> tuple[int, bool]:
    """Return a generation that no delivery has had, and if ``name`` has a tombstone.

    It is the time in nanoseconds, or ROOM above the last one if that is higher. So it never goes back, whatever the
    clock does, and an outbox that is new or was restored goes on above what was sent before it.

    Raises Full while the reserve is in use, unless this may use it: a save could take the pages that deletes need. All
    of this is one look, because each save makes it.
    """
    last, gone, noted = connection.execute(sql.GENERATION, (name,)).fetchone()
    if noted and not reserve:
        raise Full
    generation = max(last + ROOM, min(int(now * 1e9), VERSION_MAX))
    connection.execute(sql.SET_GENERATION, (generation,))
    return generation, gone is not None
