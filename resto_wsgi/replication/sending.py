"""When hosts are told of a change: at once, by the request that made it, or in the background, by the worker.

    step        at once                                  in the background
    record      begun; due when the request has failed   not begun; due now
    send        converged, but for hosts that are away   nothing: each attempt says that it is still to come
    settle      the results, in one transaction          nothing
    end         nothing, for nothing is left             the worker is woken

Both have the same methods, so that nobody who publishes, withdraws or deletes asks which it is. The header of
``publisher`` says what a save leaves behind if it is killed. How one host is made to match must not live here: that is
the convergence's. The publisher calls this, under the lock of the name.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable

from ..config import Settings
from ..errors import DeliveryError, RestoError
from ..outbox.outbox import Delivery, Outbox
from . import breaker
from .batch import Attempt, Batch, Outcome, Owed
from .convergence import Convergence
from .outcome import failures_of
from .worker import Worker

__all__ = ["AtOnce", "InBackground", "Sending"]

GRACE = 5.0  # seconds until the worker looks at what a request has recorded: the request is about to send it
LATER = "owed, and delivered in the background"
AWAY = "not asked, for it was away when it was asked last"

log = logging.getLogger("resto_wsgi")


class Sending(ABC):
    """One way to tell the hosts of ``settings``. The caller of all but ``end`` holds the lock of the name."""

    def __init__(
        self,
        settings: Settings,
        outbox: Outbox,
        convergence: Convergence,
        worker: Worker,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._hosts = settings.hosts
        self._outbox = outbox
        self._convergence = convergence
        self._worker = worker
        self._clock = clock

    @abstractmethod
    def needed(self, wanted: int) -> int:
        """Return how many hosts have to succeed; ``wanted`` is the number that the settings or the action want."""

    @abstractmethod
    def record(self, name: str, *, gone: bool = False, reserve: bool = False, way: str = "") -> Owed:
        """Owe a name to every host, durably, and return the deliveries. Raises OutboxError.

        ``reserve`` is for a delete or a withdrawal, see ``Outbox.record``.

        The caller changes the master only afterwards: a crash in between must not leave a change that no host gets.
        """

    @abstractmethod
    def send(self, owed: Owed, needed: int, along: object = None) -> Outcome:
        """Make the hosts match that are owed a name, and return the outcome at each.

        ``needed`` of them are to succeed if that is possible at all. ``along`` is for the transport, see there.
        """

    @abstractmethod
    def settle(self, outcome: Outcome) -> None:
        """Note the outcome. Raises nothing: what is not settled stays owed."""

    @abstractmethod
    def report(self, outcome: Outcome, action: str) -> None:
        """Log what failed, if the caller is not told of it."""

    @abstractmethod
    def end(self) -> None:
        """Have the rest done. The caller has released the lock of the name."""

    def _record(self, name: str, *, begin: bool, due: float, gone: bool, reserve: bool, way: str) -> Owed:
        self._worker.start()
        return self._outbox.record(name, self._hosts, begin=begin, due=due, gone=gone, reserve=reserve, way=way)


class AtOnce(Sending):
    """The caller sends, and goes on when all hosts that were asked have answered."""

    def needed(self, wanted: int) -> int:
        return wanted if self._settings.fatal_exceptions else 0

    def record(self, name: str, *, gone: bool = False, reserve: bool = False, way: str = "") -> Owed:
        return self._record(name, begin=True, due=self._clock() + GRACE, gone=gone, reserve=reserve, way=way)

    def send(self, owed: Owed, needed: int, along: object = None) -> Outcome:
        """Send now; a host that was away at the recording is asked only if fewer than ``needed`` are left without it.

        The worker comes to it for what it is owed, and probes it; uploads need not pay for that.
        """
        if not owed:
            return {}
        now = self._clock()
        away = {host: each.state for host, each in owed.items() if each.state and breaker.is_away(each.state, now)}
        if len(owed) - len(away) < needed:
            away = {}
        asked = [delivery for host, delivery in owed.items() if host not in away] if away else owed.values()
        outcome = {attempt.host: attempt for attempt in self._convergence.converge(Batch.of_name(asked, along))}
        for host, state in away.items():
            outcome[host] = _not_sent(owed[host], f"{AWAY}: {state.reason}")
        return outcome

    def settle(self, outcome: Outcome) -> None:
        """Note the outcome; if one of the hosts was or is in trouble, read first what is known of them now."""
        if not outcome:
            return
        known = [attempt.delivery.state for attempt in outcome.values() if attempt.delivery and attempt.delivery.state]
        try:
            calm = not failures_of(outcome) and breaker.are_calm(known)
            self._convergence.settle(outcome.values(), {} if calm else self._outbox.host_states())
        except RestoError as error:
            log.error("not settled, and delivered once more: %s", error)  # noqa: TRY400 - it says all that there is

    def report(self, outcome: Outcome, action: str) -> None:
        for failure in failures_of(outcome).values():
            trace = failure if self._settings.show_traceback else None
            log.error("%s not replicated, and owed: %s", action, failure, exc_info=trace)

    def end(self) -> None:
        """Do nothing: the worker comes when something is due, and earlier it would only take processor from uploads."""


class InBackground(Sending):
    """The caller goes on when the change is recorded. Nothing is known of the hosts then, so none has failed."""

    def needed(self, wanted: int) -> int:
        return 0

    def record(self, name: str, *, gone: bool = False, reserve: bool = False, way: str = "") -> Owed:
        return self._record(name, begin=False, due=self._clock(), gone=gone, reserve=reserve, way=way)

    def send(self, owed: Owed, needed: int, along: object = None) -> Outcome:
        return {host: _not_sent(delivery, LATER) for host, delivery in owed.items()}

    def settle(self, outcome: Outcome) -> None:
        """Do nothing: it stays owed."""

    def report(self, outcome: Outcome, action: str) -> None:
        """Do nothing: the worker logs what fails."""

    def end(self) -> None:
        self._worker.wake()


def _not_sent(delivery: Delivery, reason: str) -> Attempt:
    error = DeliveryError(delivery.host.label, delivery.name, reason, untouched=True, ours=True)
    return Attempt(delivery.host, delivery, error)
