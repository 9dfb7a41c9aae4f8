"""The only way in which a delivery is made: a host comes to match the master's state of one name.

    look ──> PUT what is there, DELETE what was deleted ──> look again ──> the same: done
      ^                             │                            └──────> something else: go round
      └── go above its version <────┘ the host has a higher one

A request and the worker both use this, and both hold the lock of the name meanwhile. So no process of ours changes the
master or sends that name. The second look is for those who do not know of the lock, an administrator for instance. The
delivery was recorded before (``Outbox.record`` or ``claim``), and it is settled here afterwards:

    killed here                      leaves
    recorded, nothing sent           the delivery, begun: the next sender converges it
    sending, or not yet settled      the same; the host may still carry out what it has read, so the delivery is
                                     converged again at each of ``LOOKS``
    settled                          nothing to do

If the master has no such name, the mode says what is sent, from the evidence that it has at that moment. That is never
concluded from the delivery, because a delivery does not say for what it was recorded. Nothing here pauses or
retries later, and all that is logged is that a host is back. The sending and the lanes call this.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ..errors import DeliveryError, MediaRootError, OutboxError, counted
from ..hosts import Host
from ..master.files import Master
from ..master.media_root import MediaRoot
from ..master.state import State
from ..outbox.outbox import VERSION_MAX, Delivery, Failure, HostState, Outbox
from . import breaker
from .batch import Attempt, Batch, GoOn, our_fault
from .fanout import Fanout, Task
from .modes import Mode
from .on_master import OnMaster

__all__ = ["Convergence"]

ROUNDS = 5  # times that the master may change under way, before the delivery fails and is tried again later
TOO_FAST = "this side: the master changes faster than it can be sent"
WRITES_REFUSED = sorted(breaker.WRITES_REFUSED)

log = logging.getLogger("resto_wsgi")


class Convergence:
    """Makes hosts match the master, or what ``mode`` keeps instead of a master."""

    def __init__(
        self,
        media_root: MediaRoot,
        outbox: Outbox,
        fanout: Fanout,
        mode: Mode,
        on_master: OnMaster,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._media_root = media_root
        self._outbox = outbox
        self._fanout = fanout
        self._mode = mode
        self._on_master = on_master
        self._clock = clock
        self._chance = chance

    def converge(self, batch: Batch) -> list[Attempt]:
        """Make hosts match, and return the attempt of each delivery, in their order.

        The caller holds the locks of the names, has recorded or claimed the deliveries, and settles them. If this is
        interrupted, all of them stay begun.
        """
        work = _Work(batch)
        self._work_on(work)
        return work.attempts()

    def deliver(self, batch: Batch) -> list[Attempt]:
        """Make hosts match, settle, and return the attempts of the deliveries that were begun.

        If this is interrupted, the deliveries that were not begun are given back, and those that have ended are
        settled. Those that were under way stay begun, and so become unsure. Raises OutboxError.
        """
        work = _Work(batch)
        try:
            self._work_on(work)
        finally:
            if untried := work.untried():
                self._outbox.release(untried, self._clock())
            self.settle(work.attempts(), self._outbox.host_states())
        return work.attempts()

    def settle(self, attempts: Iterable[Attempt], states: Mapping[Host, HostState]) -> None:
        """Note the results of deliveries. The caller still holds the locks of their names.

        ``states`` is what was known of the hosts. Raises OutboxError; the deliveries then stay owed and are made again,
        which does no harm.
        """
        now = self._clock()
        done: list[Delivery] = []
        failed: list[Failure] = []
        news: dict[Host, HostState] = {}
        for host, delivery, error, _ in attempts:
            # What an earlier attempt of this batch told comes first: three answers of 503 in it are three in a row.
            known = news.get(host) or states.get(host)
            if error is None:
                done += [delivery] if delivery else []
                state = breaker.after_success(known, host, now)
            else:
                again = delivery is not None and (delivery.parked or delivery.status in WRITES_REFUSED)
                failed += [breaker.failure(delivery, error, now, self._chance)] if delivery else []
                state = breaker.after_failure(known, host, error, now, self._chance, again=again)
            if state is not None and state is not known:
                news[host] = state
        back = [host for host, state in news.items() if state.state == "up" and host in states]
        back = [host for host in back if states[host].state != "up"]
        self._retry(back, done)
        self._outbox.settle(done, failed, list(news.values()))
        self._mode.settled({delivery.name: delivery.entombed for delivery in done})
        for host in back:
            self._tell_return(states[host], host, sum(each.host == host and not each.fresh for each in done))

    def _retry(self, back: Iterable[Host], done: Iterable[Delivery]) -> None:
        """Try again what hosts refused that take files now: one name first, for they may refuse only these.

        This comes before the settling: who waits until nothing is owed that is not parked must not see a gap.
        """
        for host in back:
            self._outbox.retry_one(host, WRITES_REFUSED)
        for host in {delivery.host for delivery in done if delivery.status in WRITES_REFUSED}:
            self._outbox.retry_all(host, WRITES_REFUSED)

    def _tell_return(self, known: HostState, host: Host, delivered: int) -> None:
        """Log that a host is back that was known to be away: whoever read that it failed is to read this as well."""
        owed = self._outbox.owed([host]) + delivered
        log.warning(
            "%s %s after %s: it was owed %s",
            host.label,
            "is back" if known.state == "down" else "takes writes again",
            _span(self._clock() - known.since),
            counted(owed, "name") if owed else "nothing",
        )

    def _work_on(self, work: _Work) -> None:
        batch = work.batch
        for part, at_once in batch.portions():
            portion = work.each[part]
            again = self._round(_Round(portion, batch.go_on), at_once, batch.along)
            if again:
                self._on_master.doubt(each.delivery.host for each in again)
            for _ in range(ROUNDS - 1):
                if not again:
                    break
                for each in again:
                    # Before the next round: if that fails, the host still holds what this one sent.
                    each.carried = True
                again = self._round(_Round(again), at_once, batch.along)
            for each in again:
                host, name = each.delivery.host, each.delivery.name
                each.end(DeliveryError(host.label, name, TOO_FAST, permanent=True, ours=True))
            if not all(batch.go_on(each.attempt.error) for each in portion if each.attempt is not None):
                return

    def _round(self, work: _Round, at_once: int, along: object) -> list[_Each]:
        """Look, send and look again; return the deliveries whose master changed meanwhile.

        If this is interrupted, the masters of what was sent by then are looked at all the same.
        """
        try:
            with work:
                self._fanout.run(self._tasks(work), work.ended, at_once, along)
        finally:
            again = self._look_again(work)
        return again + self._go_above(work)

    def _go_above(self, work: _Round) -> list[_Each]:
        """Give deliveries whose hosts have a higher version one above that, and return them: they are sent once more.

        Nobody else sends these names meanwhile, so what the host has is an earlier state of ours: of an outbox that was
        lost or restored, of another one of this media root, or from before the clock was set back.
        """
        again: list[_Each] = []
        for each, version in work.outdone:
            if self._raise(each, version):
                again.append(each)
        return again

    def _raise(self, each: _Each, version: int) -> bool:
        try:
            each.delivery = each.delivery._replace(raised=self._outbox.raise_above(version))
        except OutboxError as error:
            each.end(our_fault(each.delivery.host, each.delivery.name, error, untouched=not each.carried))
            return False
        return True

    def _look_again(self, work: _Round) -> list[_Each]:
        again: list[_Each] = []
        changed: dict[str, bool | MediaRootError] = {}
        for each in work.sent:
            name = each.delivery.name
            if name not in changed:
                try:
                    changed[name] = not self._media_root.is_still(name, work.seen[name])
                except MediaRootError as error:
                    changed[name] = error
            found = changed[name]
            if isinstance(found, MediaRootError):
                # Not as untouched: the host may have what was sent, although the master cannot be looked at now.
                each.end(our_fault(each.delivery.host, name, found))
            elif found:
                again.append(each)
            else:
                each.end(None)
        return again

    def _tasks(self, work: _Round) -> Iterator[Task]:
        """Yield what is to be sent. The master of each name is looked at when its turn has come."""
        for each in work.each:
            if work.stopped:
                return
            each.begun = True
            host, name = each.delivery.host, each.delivery.name
            try:
                task = self._task(work, each.delivery)
            except (MediaRootError, OutboxError) as error:
                each.end(our_fault(host, name, error, untouched=not each.carried))
                continue
            except DeliveryError as error:
                each.end(error)
                continue
            if task is None:
                work.sent.append(each)
            else:
                if host in self._on_master.unknown:
                    task = self._meeting(task)
                work.tasks[task] = each
                yield task

    def _task(self, work: _Round, delivery: Delivery) -> Task | None:
        """Return the task that makes a host match what is seen; None if there is nothing to do."""
        master = work.look(delivery.name, self._media_root.open)
        if self._on_master.holds(delivery.host):
            return self._mode.on_master(delivery.host, delivery.name)
        if master is not None:
            return Task(delivery.host, delivery.name, master, version=delivery.version)
        self._media_root.check_here()  # before the mode is asked: on a disk that is away, every name looks deleted
        return self._mode.absent(delivery)

    def _meeting(self, task: Task) -> Task:
        """Return the task for a host that is unknown: it is looked at first, aside, so that no other waits for it."""

        def work() -> None:
            try:
                if self._on_master.meet(task.host):
                    self._mode.on_master(task.host, task.name)
                    return
            except (MediaRootError, OutboxError) as error:
                raise our_fault(task.host, task.name, error, untouched=True) from error
            except DeliveryError as error:
                raise error.with_facts(name=task.name, untouched=True) from error
            self._fanout.do(task)

        return Task(task.host, task.name, task.master, work)


def _span(seconds: float) -> str:
    """Return a time in words, in the largest unit of which there are two."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size:
            return counted(int(seconds // size), unit)
    return counted(max(int(seconds), 0), "second")


class _Each:
    """One delivery of a batch. ``carried``: an earlier round has sent it. ``attempt`` is set when it has ended."""

    __slots__ = ("attempt", "begun", "carried", "delivery", "value")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.begun = self.carried = False
        self.value: object = None  # of the last round
        self.attempt: Attempt | None = None

    def end(self, error: DeliveryError | None) -> None:
        self.attempt = Attempt(self.delivery.host, self.delivery, error, self.value)


class _Work:
    """One batch under way."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.each = [_Each(delivery) for delivery in batch.deliveries]

    def attempts(self) -> list[Attempt]:
        return [each.attempt for each in self.each if each.attempt is not None]

    def untried(self) -> list[Delivery]:
        return [each.delivery for each in self.each if not each.begun]


class _Round:
    """One round of deliveries: what is seen, and what is done. Its masters are closed at its end at the latest.

    ``sent`` are the deliveries that this round has sent; the second look confirms them or not. ``outdone`` are those
    whose hosts have a higher version, with that version. ``seen`` is the state of
    each name's master at the first look.
    """

    def __init__(self, each: Sequence[_Each], go_on: GoOn = lambda error: True) -> None:
        self.each = each
        self.tasks: dict[Task, _Each] = {}
        self.stopped = False
        self.sent: list[_Each] = []
        self.outdone: list[tuple[_Each, int]] = []
        self.seen: dict[str, State | None] = {}
        self._go_on = go_on
        self._masters: dict[str, Master] = {}
        self._left = Counter(one.delivery.name for one in each)  # hosts that have not yet ended with each name

    def look(self, name: str, open_master: Callable[[str], Master]) -> Master | None:
        """Return the master of a name, the same for all hosts of this round; None if there is none."""
        if name not in self.seen:
            try:
                self._masters[name] = master = open_master(name)
            except FileNotFoundError:
                self.seen[name] = None
            else:
                self.seen[name] = master.state
        return self._masters.get(name)

    def ended(self, task: Task, error: DeliveryError | None, value: object) -> None:
        """Note how one delivery ended; see ``fanout.Ended``."""
        each = self.tasks[task]
        each.value = value
        # From VERSION_MAX on it stays an error: to go above it would lift the versions of all later names, too.
        if error is not None and error.outdone_by is not None and error.outdone_by < VERSION_MAX:
            self.outdone.append((each, error.outdone_by))
            error = None
        elif error is None:
            self.sent.append(each)
        elif error.untouched and each.carried:  # an earlier round was carried out
            each.end(error.with_facts(untouched=False))
        else:
            each.end(error)
        if not self._go_on(error):
            self.stopped = True
        self._left[task.name] -= 1
        if not self._left[task.name] and task.master is not None:
            # No host needs it any more. Else a long round would keep a descriptor open for each of its names.
            task.master.file.close()

    def __enter__(self) -> None:
        """Nothing is open yet."""

    def __exit__(self, *exc_info: object) -> None:
        for master in self._masters.values():
            master.file.close()
