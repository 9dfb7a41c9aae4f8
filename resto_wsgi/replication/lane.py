"""One host's share of what is owed, delivered batch by batch: what the worker does, without a thread or a wait.

    paused ── retry_at ──> probe (where it was down) ──> batch ──> batch ... ──> nothing due
       └────────────── no answer, or 5xx in a row ─────────┘

A step takes the deliveries that have been due longest, as many as took under a second last time, locks their names
without waiting, marks them begun, converges each, and settles all in one commit. A name that somebody holds
is left to him and looked at again soon. The first failure that is not for good ends the batch, and so does time; what
was not tried is given back. A process that dies leaves its batch begun, which the next one knows as unsure. The
worker calls this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from ..errors import DeliveryError
from ..hosts import Host
from ..master.media_root import MediaRoot
from ..outbox.outbox import HostState, Outbox
from ..transports import Transport
from . import breaker
from .batch import Batch
from .convergence import Convergence

__all__ = ["IDLE", "Lane"]

IDLE = 1.0  # seconds after which to look again where nothing is known to become due: other processes record too
BUSY = 0.5  # seconds until a name that somebody else holds is looked at again
BULK = 1024 * 1024  # bytes: what is sent while other names are locked as well
AT_ONCE = 8  # deliveries under way at the same time
BATCH = 64  # deliveries at most: each costs a descriptor for its lock
QUICK, SLOW = 0.1, 0.5  # seconds: a batch that took less is followed by a larger one, more by a smaller one

Report = Callable[[DeliveryError], None]


class Lane:
    """Delivers to one host. One thread at a time calls ``step``."""

    def __init__(
        self,
        host: Host,
        media_root: MediaRoot,
        outbox: Outbox,
        transport: Transport,
        convergence: Convergence,
        report: Report,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self.host = host
        self._media_root = media_root
        self._outbox = outbox
        self._transport = transport
        self._convergence = convergence
        self._report = report
        self._clock = clock
        self._chance = chance
        self._size = 1

    def step(self) -> float:
        """Deliver one batch; return in how many seconds to come again, 0.0 for at once.

        Raises OutboxError and MediaRootError where this side fails; nothing is lost then.
        """
        now = self._clock()
        next_due = self._outbox.next_due(self.host)
        state = self._outbox.host_states().get(self.host)
        if state is not None and breaker.is_paused(state, now):
            return state.retry_at - now
        if next_due is None:
            self._look_after(state)
            return IDLE
        names = self._outbox.due(self.host, now, self._size)
        if not names:
            return min(max(next_due - now, 0.0), IDLE)
        if state is not None and state.state == "down" and not self._is_back():
            return 0.0
        held: list[str] = []
        busy: list[str] = []
        left = BULK
        with contextlib.ExitStack() as locks:
            for name in names:
                left -= self._bytes_of(name)
                if left < 0 and held:  # it comes next, and alone, so that nobody waits for it who wants another name
                    break
                free = locks.enter_context(self._media_root.lock(name, wait=False))
                (held if free else busy).append(name)
            if held:
                self._deliver(held)
        if busy:
            self._outbox.postpone(self.host, busy, self._clock() + BUSY)
        return 0.0

    def _bytes_of(self, name: str) -> int:
        state = self._media_root.state(name)
        return 0 if state is None else state[2]

    def _look_after(self, state: HostState | None) -> None:
        """Where nothing is owed, see whether a host is back that a save did without, or failed for."""
        if state is not None and state.state == "down" and self._is_back():
            up = breaker.after_success(state, self.host, self._clock())
            if up is not None:
                self._outbox.note_host(up)

    def _is_back(self) -> bool:
        """Ask the host for a sign of life, which is cheaper than a file that it does not take."""
        try:
            self._transport.probe(self.host)
        except DeliveryError as error:
            self._report(error)
            known, now = self._outbox.host_states().get(self.host), self._clock()
            self._outbox.note_host(breaker.after_failure(known, self.host, error, now, self._chance))
            return False
        return True

    def _deliver(self, names: list[str]) -> None:
        """Converge names whose locks are held, and settle them together."""
        began = self._clock()

        def go_on(error: DeliveryError | None) -> bool:
            """Stop where the host fails, and in time: these names are locked all the while, and a stop waits for us."""
            return (error is None or error.permanent) and self._clock() - began <= SLOW

        claimed = self._outbox.claim(self.host, names)
        for attempt in self._convergence.deliver(Batch.of_host(claimed, AT_ONCE, go_on)):
            if attempt.error is not None:
                self._report(attempt.error)
        self._adapt(self._clock() - began)

    def _adapt(self, took: float) -> None:
        if took < QUICK:
            self._size = min(self._size * 2, BATCH)
        elif took > SLOW:
            self._size = max(self._size // 2, 1)
