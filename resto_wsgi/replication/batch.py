"""The values that pass between the sender and the convergence: a batch of deliveries, and the result of each.

A request makes a batch of one name for many hosts. A lane makes a batch of many names for its host. Both record or
claim the deliveries before, and hold the locks of their names. A batch says what is to be done, and it is never
changed. The results are returned apart from it: an ``Attempt`` for each delivery whose end is known. Nothing is sent
and nothing is decided here. The sending and the lanes make batches; the convergence works on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import DeliveryError, MediaRootError, RestoError
from ..hosts import Host
from ..outbox.rows import Delivery

__all__ = ["Attempt", "Batch", "GoOn", "Outcome", "Owed", "our_fault"]

GoOn = Callable[[DeliveryError | None], bool]
"""It is told how a delivery ended, and returns True if more are to be begun. It is called in any thread."""

Owed = Mapping[Host, Delivery]
"""The deliveries of one name that were recorded, by host."""


class Attempt(NamedTuple):
    """The result of one delivery: ``error`` is None if the host matched the master, else it says why it does not.

    ``delivery`` is None if nothing is owed any more; the attempt then says something about the host alone. ``value``
    is what the transport brought back, for the caller that gave it something in ``along``.
    """

    host: Host
    delivery: Delivery | None
    error: DeliveryError | None
    value: object = None


Outcome = Mapping[Host, Attempt]
"""The result of one name at each host."""


@dataclass(frozen=True)
class Batch:
    """``deliveries``, of which up to ``at_once`` are under way at the same time, until ``go_on`` returns False.

    If ``first_alone`` is True, the others begin when the first has ended; so a host that fails is asked once.
    ``along`` is for the transport, see there; nobody else looks at it.
    """

    deliveries: Sequence[Delivery]
    at_once: int
    first_alone: bool = False
    go_on: GoOn = lambda error: True
    along: object = None

    @classmethod
    def of_name(cls, owed: Iterable[Delivery], along: object = None) -> Batch:
        """Return the batch of a request: one name, to all of its hosts at the same time, even if some of them fail."""
        deliveries = tuple(owed)
        return cls(deliveries, len(deliveries), along=along)

    @classmethod
    def of_host(cls, claimed: Iterable[Delivery], at_once: int, go_on: GoOn) -> Batch:
        """Return the batch of a lane: many names, to one host."""
        return cls(tuple(claimed), at_once, True, go_on)

    def portions(self) -> Iterator[tuple[slice, int]]:
        """Return the parts that come one after the other, each with how many of it go at once."""
        if self.first_alone:
            yield slice(1), 1
            yield slice(1, None), self.at_once
        else:
            yield slice(None), self.at_once


def our_fault(host: Host, name: str, error: RestoError, *, untouched: bool = False) -> DeliveryError:
    """Return the DeliveryError for a failure on this side; it says nothing about the host.

    It parks a name that cannot be read, for whatever reason. A whole disk that is away will be back as a whole.
    """
    parks = isinstance(error, MediaRootError) and not error.away
    return DeliveryError(host.label, name, f"this side: {error}", permanent=parks, untouched=untouched, ours=True)
