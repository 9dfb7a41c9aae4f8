"""What became of one name at each host, and how people are told: there each host goes by its label.

Inside of the product everything is by ``Host``. This is the only place where that becomes a label: for the outcome of a
save that an application gets, and for the error that says that too few hosts took a name. Nothing is decided here. The
convergence makes outcomes; the publisher, the replicas and the replicator hand them on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from ..errors import DeliveryError, ReplicationError
from ..hosts import Host

__all__ = ["Outcome", "by_label", "failures_of", "too_few"]

T = TypeVar("T")

Outcome = Mapping[Host, DeliveryError | None]
"""For each host: None where it matches the master, else why not."""


def failures_of(outcome: Outcome) -> dict[Host, DeliveryError]:
    """Return the hosts that failed, and why."""
    return {host: error for host, error in outcome.items() if error is not None}


def by_label(found: Mapping[Host, T]) -> dict[str, T]:
    """Return the same by what people call each host."""
    return {host.label: value for host, value in found.items()}


def too_few(action: str, name: str, outcome: Outcome, required: int) -> ReplicationError:
    """Return the error that says that fewer than ``required`` hosts did it."""
    failures = failures_of(outcome)
    return ReplicationError(action, name, by_label(failures), done=len(outcome) - len(failures), required=required)
