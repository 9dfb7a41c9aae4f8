"""What is owed, and who sends it: the statements of one transaction each, from recording a name to taking it back.

    nothing ── record, owe ──> owed ── record(begin=True), claim ──> begun ── release, cancel ──> owed
                                └────────────── cancel, of what was fresh ──────────────┴──> nothing

A row keeps since when it is owed and until when it is unsure, whoever records the name again. ``begun`` holds the
generation under which sending began, so that a sender clears its own beginning and nobody else's. The transaction and
its durability are the matter of the outbox, which alone calls this; what ends an attempt is in ``settling``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ..hosts import Host
from . import tables as sql
from .connection import Connection
from .rows import Delivery, delivery_of, key_of

__all__ = ["LATE", "cancel", "claim", "entomb", "expel_others", "owe", "record", "release"]

LATE = 20.0  # seconds for which a host may still carry out a request whose sender gave up or died


def record(
    connection: Connection, name: str, hosts: Sequence[Host], *, begin: bool, due: float, way: str, now: float
) -> dict[Host, Delivery]:
    """Owe ``name`` to ``hosts`` under a new generation, and return that by host; see ``Outbox.record``."""
    old = {row[0]: row[1:] for row in connection.execute(sql.FIND_BEGUN, (name,))}
    generation = _next_generation(connection)
    recorded: dict[Host, Delivery] = {}
    rows: list[tuple[object, ...]] = []
    for host in hosts:
        since, unsure_until, begun = old.get(host.url, (now, 0.0, None))
        if begin:
            unsure_until = unsure_until if begun is None else max(unsure_until, now + LATE)
            begun = generation
        row = (name, generation, since, due, 0, False, unsure_until, None, "")
        rows.append((host.url, *row, begun, way))
        recorded[host] = Delivery(host, *row, fresh=host.url not in old)
    connection.executemany(sql.PUT, rows)
    return recorded


def expel_others(connection: Connection, hosts: Collection[Host]) -> None:
    """Make no member of a host that is not among ``hosts``: it is not told, and so may hold what it does not owe."""
    told = {host.url for host in hosts}
    for url, _ in connection.execute(sql.MEMBERS).fetchall():
        if url not in told:
            connection.execute(sql.EXPEL, (url,))


def entomb(connection: Connection, name: str, now: float) -> None:
    """Note that ``name`` is deleted."""
    connection.execute(sql.ENTOMB, (name, now))


def owe(connection: Connection, host: Host, names: Sequence[str], now: float) -> None:
    """Owe all these names to a host, due now; nobody has begun to send them by that."""
    generation = _next_generation(connection)
    connection.executemany(sql.OWE, [(host.url, name, generation, now, now) for name in names])


def claim(connection: Connection, host: Host, names: Sequence[str], now: float) -> list[Delivery]:
    """Begin to send, and return those of ``names`` that are owed. One that is found begun becomes unsure."""
    claimed = []
    for name in names:
        connection.execute(sql.BEGIN, {"name": name, "host": host.url, "late": now + LATE})
        found = connection.execute(sql.FIND, (name, host.url)).fetchone()
        if found:
            claimed.append(delivery_of(found)._replace(host=host))
    return claimed


def release(connection: Connection, deliveries: Iterable[Delivery], due: float) -> None:
    """Put back what was claimed and not tried, to be tried at ``due``."""
    for delivery in deliveries:
        values = {**key_of(delivery), "due": due}
        connection.execute(sql.RELEASE, values)
        connection.execute(sql.CLEAR, values)  # if it was begun under this generation, and not by one who died


def cancel(connection: Connection, deliveries: Sequence[Delivery], now: float) -> None:
    """Take back what was recorded; what was owed before stays owed."""
    for delivery in deliveries:
        if delivery.fresh:
            connection.execute(sql.REMOVE, key_of(delivery))
    release(connection, deliveries, now)


def _next_generation(connection: Connection) -> int:
    connection.execute(sql.NEXT_GENERATION)
    return int(connection.execute(sql.GENERATION).fetchone()[0])
