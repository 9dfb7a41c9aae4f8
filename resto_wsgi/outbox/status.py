"""What is owed, and to whom: the records that ``Replicator.status`` and ``resto status`` show, made from the outbox.

The number of deliveries of all hosts is one snapshot of the outbox. No host is asked here, and nothing is changed. The
replicator calls this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..hosts import Host
from .outbox import Delivery, HostState, Outbox, Owed

__all__ = ["HostStatus", "NameStatus", "Status", "status_of", "status_of_name"]

NOT_CONFIGURED = "not configured"


@dataclass(frozen=True)
class HostStatus:
    """One host. ``state`` is "up", "down", "read-only", "new" while nobody knows what it holds, or "not configured".

    ``since`` (of the state) and ``oldest`` (delivery) are in seconds since 1970, or None. ``owed`` counts deliveries.
    ``parked`` counts those of them that the host refused for good or that the master has not. ``error`` is the last
    one, "" if all is well.
    """

    host: str
    url: str
    state: str
    since: float | None
    owed: int
    parked: int
    oldest: float | None
    error: str


@dataclass(frozen=True)
class Status:
    """Every host, in the order of ``media_hosts``, and what is owed on the whole."""

    hosts: tuple[HostStatus, ...]

    @property
    def strays(self) -> tuple[HostStatus, ...]:
        """Hosts that are owed something and are not in ``media_hosts``: nobody delivers to them."""
        return tuple(host for host in self.hosts if host.state == NOT_CONFIGURED)

    @property
    def owed(self) -> int:
        """All deliveries that are owed."""
        return sum(host.owed for host in self.hosts)

    @property
    def parked(self) -> int:
        """Those of them that a host refused for good, or the master has not."""
        return sum(host.parked for host in self.hosts)


@dataclass(frozen=True)
class NameStatus:
    """One name. ``present`` is True if the file is there, False if it is deleted.

    ``owing`` has the hosts, by label, that do not match that yet, or not for certain, and why. All others match.
    """

    name: str
    present: bool
    hosts: tuple[str, ...]
    owing: Mapping[str, Delivery]

    @property
    def holding(self) -> tuple[str, ...]:
        """The hosts that hold the file, by label."""
        return tuple(host for host in self.hosts if self.present and host not in self.owing)


def status_of(outbox: Outbox, hosts: Sequence[Host]) -> Status:
    """Return the status of all hosts. Raises OutboxError."""
    states, members = outbox.host_states(), outbox.members()
    owed = {line.host: line for line in outbox.summary()}
    configured = [_host_status(host, states, owed, "up" if host in members else "new") for host in hosts]
    left = [_host_status(host, {}, owed, NOT_CONFIGURED) for host in owed if host not in hosts]
    return Status((*configured, *left))


def status_of_name(outbox: Outbox, hosts: Sequence[Host], name: str, present: bool) -> NameStatus:
    """Return the status of one name. Raises OutboxError."""
    members, deliveries = outbox.members(), outbox.deliveries(name)
    told = [host for host in hosts if host in members]
    owing = {host.label: deliveries[host] for host in told if host in deliveries}
    return NameStatus(name, present, tuple(host.label for host in told), owing)


def _host_status(host: Host, states: Mapping[Host, HostState], owed: Mapping[Host, Owed], state: str) -> HostStatus:
    known, line = states.get(host), owed.get(host)
    return HostStatus(
        host=host.label,
        url=host.url,
        state=known.state if known else state,
        since=known.since if known else None,
        owed=line.owed if line else 0,
        parked=line.parked if line else 0,
        oldest=line.oldest if line else None,
        error=known.reason if known and (line or known.state != "up") else "",
    )
