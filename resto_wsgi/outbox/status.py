"""What is owed, and to whom: the records that ``Replicator.status`` and ``resto status`` show, made from the outbox.

The number of deliveries of all hosts is one snapshot of the outbox. What is remembered of a host and what it says when
it is asked are kept apart; ``well`` is the one place that judges both. No host is asked here (``replication.asking``
does), and nothing is changed. The replicator calls this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..hosts import Host
from .outbox import Delivery, HostState, Outbox, Owed

__all__ = ["Answer", "HostStatus", "NameStatus", "Status", "status_of", "status_of_name", "with_answers"]

NOT_CONFIGURED = "not configured"


@dataclass(frozen=True)
class Answer:
    """What a host said when it was asked just now: ``error`` is why nothing can be said of it, "" if it answered.

    ``size`` is that of the file that it was asked for, in bytes; None if it does not hold one.
    """

    error: str = ""
    size: int | None = None


@dataclass(frozen=True)
class HostStatus:
    """One host. ``state`` is "up", "down", "read-only", "new" while nobody knows what it holds, or "not configured".

    That is what is remembered. ``asked`` is what it says now, None if it was not asked. ``since`` (of the state) and
    ``oldest`` (delivery) are in seconds since 1970, or None. ``owed`` counts deliveries. If ``everything`` is True, the
    host is to get all that there is, and that is not counted yet. ``parked`` counts those that the host refused for
    good or that the master has not. ``error`` is the last one, "" if all is well.
    """

    host: str
    url: str
    state: str
    since: float | None
    owed: int
    parked: int
    oldest: float | None
    error: str
    everything: bool = False
    asked: Answer | None = None

    @property
    def well(self) -> bool:
        """True if nothing is owed, and the host answers; if it was not asked, that it did when it was needed last."""
        away = self.asked.error != "" if self.asked else self.state == "down"
        return not (self.owed or self.everything or away or self.state == "read-only")


@dataclass(frozen=True)
class Status:
    """Every host, in the order of ``media_hosts``, and what is owed on the whole.

    ``skipped`` says, by kind in words, how much no host gets, as of the latest walk through ``MEDIA_ROOT``.
    """

    hosts: tuple[HostStatus, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)

    @property
    def well(self) -> bool:
        """True if each host is well."""
        return all(host.well for host in self.hosts)

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
    """One name. ``present`` is True if the file is there, ``size`` its bytes on the master if that has it.

    ``known`` is False if there is no file, and nothing says that there was one. ``owing`` has the hosts, by label, that
    do not match that yet, or not for certain, and why. ``new`` has those of which nobody knows what they hold. All
    other ``hosts`` match, as far as is remembered; ``asked`` has what each host says now, if they were asked.
    """

    name: str
    present: bool
    hosts: tuple[str, ...]
    owing: Mapping[str, Delivery]
    known: bool = True
    size: int | None = None
    new: tuple[str, ...] = ()
    asked: Mapping[str, Answer] = field(default_factory=dict)

    @property
    def holding(self) -> tuple[str, ...]:
        """The hosts that hold the file, by label: those that say so, if they were asked."""
        if self.asked:
            return tuple(host for host, answer in self.asked.items() if self.present and self.agrees(answer))
        return tuple(host for host in self.hosts if self.present and host not in self.owing)

    @property
    def well(self) -> bool:
        """True if every host matches, and says so if it was asked; False of a name that nobody knows."""
        return self.known and not (self.owing or self.new) and all(map(self.agrees, self.asked.values()))

    def agrees(self, answer: Answer) -> bool:
        """Return True if a host has what it should: the file in its size, or none."""
        return not answer.error and answer.size == (self.expected if self.present else None)

    @property
    def expected(self) -> int | None:
        """The size that the file should have; if no master says it, the one that a host says first."""
        if self.size is not None:
            return self.size
        return next((answer.size for answer in self.asked.values() if answer.size is not None), -1)


def status_of(outbox: Outbox, hosts: Sequence[Host]) -> Status:
    """Return the status of all hosts. Raises OutboxError."""
    states, members, joining = outbox.host_states(), outbox.members(), outbox.joining()
    owed = {line.host: line for line in outbox.summary()}
    configured = []
    for host in hosts:
        full = host in members or (host in joining and host not in owed)
        status = _host_status(host, states, owed, "up" if full else "new")
        configured.append(replace(status, everything=not (full or host in joining)))
    left = [_host_status(host, {}, owed, NOT_CONFIGURED) for host in owed if host not in hosts]
    return Status((*configured, *left), outbox.notes.skipped())


def status_of_name(outbox: Outbox, hosts: Sequence[Host], name: str, present: bool, size: int | None) -> NameStatus:
    """Return the status of one name; ``size`` is that of the master's copy, if there is one. Raises OutboxError."""
    known, found = outbox.members() | outbox.joining().keys(), outbox.deliveries(name)
    deliveries = {host: each for host, each in found.items() if not each.watched}
    told = [host for host in hosts if host in known]
    return NameStatus(
        name,
        present,
        tuple(host.label for host in told),
        {host.label: deliveries[host] for host in told if host in deliveries},
        known=present or bool(deliveries) or outbox.is_gone(name) is not None,
        size=size,
        new=tuple(host.label for host in hosts if host not in known),
    )


def with_answers(status: Status, answers: Mapping[Host, Answer]) -> Status:
    """Return a status that also has what hosts say now."""
    asked = {host.url: answer for host, answer in answers.items()}
    return replace(status, hosts=tuple(replace(host, asked=asked.get(host.url)) for host in status.hosts))


def _host_status(host: Host, states: Mapping[Host, HostState], owed: Mapping[Host, Owed], state: str) -> HostStatus:
    known, line = states.get(host), owed.get(host)
    if known and known.state == "up" and state == "new":  # it answers, and what it holds is what matters
        known = None
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
