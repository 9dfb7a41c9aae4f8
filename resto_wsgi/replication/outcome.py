"""The outcome of a name at each host, in the form that people get: each host by its label.

Inside of the product everything is by ``Host``. This is the only place where a host becomes a label: in the outcome of
a save that an application gets, and in the error that says that too few hosts took a name. Nothing is decided here. The
publisher, the sending, the replicas and the replicator call this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from ..errors import DeliveryError, ReplicationError
from ..hosts import Host
from .batch import Outcome

__all__ = ["by_label", "errors_of", "failures_of", "too_few"]

T = TypeVar("T")


def errors_of(outcome: Outcome) -> dict[Host, DeliveryError | None]:
    """Return, for each host, None if it matches the master, else why not."""
    return {host: attempt.error for host, attempt in outcome.items()}


def failures_of(outcome: Outcome) -> dict[Host, DeliveryError]:
    """Return the hosts that failed, and why."""
    return {host: attempt.error for host, attempt in outcome.items() if attempt.error is not None}


def by_label(found: Mapping[Host, T]) -> dict[str, T]:
    """Return the same values by the label of each host."""
    return {host.label: value for host, value in found.items()}


def too_few(
    action: str, name: str, failures: Mapping[Host, DeliveryError], *, done: int, required: int
) -> ReplicationError:
    """Return the error that says that only ``done`` hosts did it, and ``required`` had to."""
    return ReplicationError(action, name, by_label(failures), done=done, required=required)
