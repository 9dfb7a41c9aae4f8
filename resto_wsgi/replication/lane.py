"""One host's share of what is owed, delivered batch by batch: what the worker does, without a thread or a wait.

    paused ── retry_at ──> probe (if it was down) ──> batch ──> batch ... ──> nothing due
       └────────────── no answer, or 5xx in a row ──────┘

A step takes, in turn, the deliveries that have been due longest and those that became due last: a new upload waits for
one batch and no backlog, and the backlog gets every other batch. The time that the last batch took decides how many.
It locks their names without waiting, marks them begun, converges each, and settles all in one commit. What has more
than BULK bytes is left to ``Large``, a second lane of the same host, so that nothing small waits for it; that one takes
them one by one, in the order in which they were met. If somebody else holds a name, it is left to the holder and looked
at again soon. A name that the host refuses, or that cannot be read here, fails alone. The first other failure ends the
batch, and so does time; what was not tried is given back. Nothing is tried while the master's disk is away. A process
that dies leaves its batch begun, and the next process takes it as unsure; the names that it had passed to ``Large``
are met again. Threads and pauses must not live here: they are the worker's, which calls this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from ..errors import DeliveryError, MediaRootError
from ..hosts import Host
from ..master.media_root import MediaRoot
from ..outbox.outbox import HostState, Outbox
from ..transports import Transport
from . import breaker
from .batch import Attempt, Batch
from .convergence import Convergence

__all__ = ["IDLE", "Lane", "Large"]

IDLE = 1.0  # seconds after which to look again, even if nothing is known to become due: other processes record too
BUSY = 0.5  # seconds until a name that somebody else holds is looked at again
BULK = 1024 * 1024  # bytes: what is sent while other names are locked as well
LARGE_MAX = 1024  # large names that are known at a time: each step reads past them
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
        self._latest_first = False
        self.large = Large(self)

    def step(self) -> float:
        """Deliver one batch, and return after how many seconds to come again, 0.0 for at once.

        Raises OutboxError and MediaRootError if this side fails; nothing is lost then.
        """
        now = self._clock()
        next_due = self._outbox.next_due(self.host)
        # Before any name is looked at: while the disk is away, a batch would be claimed only to fail.
        self._media_root.check_here()
        state = self._outbox.host_states().get(self.host)
        if state is not None and breaker.is_paused(state, now):
            return state.retry_at - now
        if next_due is None:
            self._look_after(state)
            return IDLE
        names, large = self._next(now)
        if not names:
            return 0.0 if large else IDLE if len(self.large) else min(max(next_due - now, 0.0), IDLE)
        if state is not None and state.state == "down" and not self._is_back():
            return 0.0
        self.deliver(names)
        return 0.0

    def may_send(self) -> bool:
        """Return True unless the host is not to be asked, or fails a probe. Raises OutboxError, MediaRootError."""
        self._media_root.check_here()
        state = self._outbox.host_states().get(self.host)
        if breaker.is_paused(state, self._clock()):
            return False
        return state is None or state.state != "down" or self._is_back()

    def deliver(self, names: Iterable[str]) -> None:
        """Deliver the first of these names, up to BULK bytes, or one that is larger alone."""
        held: list[str] = []
        busy: list[str] = []
        left = BULK
        with contextlib.ExitStack() as locks:
            for name in names:
                left -= self._bytes_of(name)
                if left < 0 and held:  # else those who want the other names wait for it
                    break
                # Never wait here: this thread holds other names already, and two that wait for each other hang.
                free = locks.enter_context(self._media_root.lock(name, wait=False))
                (held if free else busy).append(name)
            if held:
                self._deliver(held)
        if busy:
            self._outbox.postpone(self.host, busy, self._clock() + BUSY)

    def _next(self, now: float) -> tuple[list[str], bool]:
        """Return the names of the next batch, and whether large ones were left to their own lane."""
        limit = self._size + len(self.large)
        # One more than the batch can have: only that one tells whether there is a backlog.
        due = self._outbox.due(self.host, now, limit + 1, latest=self._latest_first)
        if self._latest_first and len(due) <= limit:
            due.reverse()  # no backlog: all of it is in this batch
        # The two ends take turns: new uploads do not wait for a backlog, and it does not wait for them.
        self._latest_first = not self._latest_first
        names = [name for name in due if name not in self.large][: self._size]
        large = [name for name in names if self._bytes_of(name) > BULK]
        taken = [self.large.take(name) for name in large]
        return [name for name in names if name not in large], any(taken)

    def _bytes_of(self, name: str) -> int:
        try:
            state = self._media_root.state(name)
        except MediaRootError:  # the convergence says what is wrong with this one name
            return 0
        return 0 if state is None else state.size

    def _look_after(self, state: HostState | None) -> None:
        """See whether a host that was down is back, if nothing is owed to it."""
        if state is not None and state.state == "down" and self._is_back():
            self._convergence.settle([Attempt(self.host, None, None)], {self.host: state})

    def _is_back(self) -> bool:
        """Return True if the host answers a probe, which costs less than a file that it does not take."""
        try:
            self._transport.probe(self.host)
        except DeliveryError as error:
            self._report(error)
            known, now = self._outbox.host_states().get(self.host), self._clock()
            state = breaker.after_failure(known, self.host, error, now, self._chance)
            if state is not None and state is not known:
                self._outbox.note_host(state)
            return False
        return True

    def _deliver(self, names: list[str]) -> None:
        """Converge names whose locks are held, settle them together, and report what failed."""
        began = self._clock()

        def go_on(error: DeliveryError | None) -> bool:
            """Return False if the host fails, or after SLOW: the names are locked, and whoever stops us waits."""
            return (error is None or error.permanent or error.ours) and self._clock() - began <= SLOW

        # Claimed only under the locks: a request may have settled some of these names since they were found due.
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


class Large:
    """The lane of one host's large files. One thread at a time calls ``step``; that of ``lane`` calls the rest.

    The names are kept in memory alone: whoever loses them meets them again. No lock guards them, which a fork could
    copy while it is held; each operation is one of a dict.
    """

    def __init__(self, lane: Lane) -> None:
        self.host = lane.host
        self._lane = lane
        self._names: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def take(self, name: str) -> bool:
        """Take a name, and return True; False if too many are known already: it stays due, and is met again."""
        if len(self._names) >= LARGE_MAX:
            return False
        self._names[name] = None
        return True

    def step(self) -> float:
        """Deliver one large file; return and raise what ``Lane.step`` does."""
        # A copy, because the thread of ``lane`` may add a name now: a dict that grows breaks its iterator.
        name = next(iter(list(self._names)), None)
        if name is None or not self._lane.may_send():
            return IDLE
        try:
            self._lane.deliver([name])
        finally:
            # Also if it failed: the outbox still has it, and it is met again when it is due.
            self._names.pop(name, None)
        return 0.0
