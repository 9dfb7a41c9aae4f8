"""How a host comes to match the master's state of one name: the only way in which a delivery is made.

    look ──> PUT what is there, or DELETE what is not ──> look again ──> the same: done
      ^                                                        └──────> something else: go round

A request and the worker both come this way, and both hold the lock of the name meanwhile, so that nobody of ours
changes the master or sends that name; the second look is for those who do not know of the lock, an administrator
for instance. What is owed was recorded before (``Outbox.record`` or ``claim``) and is settled here afterwards:

    killed here                      leaves
    recorded, nothing sent           the delivery, begun: whoever comes next converges it
    sending, or not yet settled      the same; the host may still carry out what it has read, so that the delivery
                                     is converged once more when that can no longer be (``LATE``)
    settled                          nothing to do

In mode distributed the master's copy is a spool: it is there until every host has it, and then dropped. A name whose
spool is gone is deleted where its tombstone says so, else filled from a host that holds it. Nothing here waits,
retries or logs; the replicator and the worker call this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..errors import DeliveryError, MediaRootError, OutboxError, RestoError
from ..hosts import Host
from ..master.media_root import Master, MediaRoot, Publication
from ..outbox.outbox import Delivery, Failure, HostState, Outbox
from . import breaker
from .fanout import Fanout, Task
from .outcome import Outcome
from .replicas import Replicas

__all__ = ["Attempt", "Convergence", "Pair", "Results"]

ROUNDS = 5  # times that the master may change under way before somebody else has to come back later

Pair = tuple[Host, str]
"""A host, and a name that it has to match."""

Results = dict[Pair, "DeliveryError | None"]
"""For each pair: None where the host matches the master, else why not."""

Attempt = tuple[Host, "Delivery | None", "DeliveryError | None"]
"""What came of one delivery: None where the host matched the master."""


class Convergence:
    """Makes hosts match. ``replicas`` is given in mode distributed alone, and reads from the hosts."""

    def __init__(
        self,
        media_root: MediaRoot,
        outbox: Outbox,
        fanout: Fanout,
        hosts: Sequence[Host],
        replicas: Replicas | None,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._media_root = media_root
        self._outbox = outbox
        self._fanout = fanout
        self._hosts = frozenset(hosts)
        self._replicas = replicas
        self._clock = clock
        self._chance = chance

    def converge(self, name: str, hosts: Iterable[Host]) -> Outcome:
        """Make all of ``hosts`` match at the same time. The caller holds the lock and has recorded the deliveries."""
        pairs = [(host, name) for host in hosts]
        results: Results = {}
        self.deliver(pairs, set(), results, at_once=len(pairs))
        return {host: results[host, name] for host, name in pairs}

    def deliver(
        self,
        pairs: Sequence[Pair],
        tried: set[Pair],
        results: Results,
        *,
        at_once: int,
        go_on: Callable[[DeliveryError | None], bool] = lambda error: True,
    ) -> None:
        """Make hosts match in names, up to ``at_once`` at the same time. The same duties, for each name.

        ``go_on`` is told how each ended, and says whether more are to be begun. Those that were begun are in ``tried``,
        those whose end is known in ``results``, also where this is interrupted.
        """
        again = self._round(_Round(pairs, set(), tried, results, go_on), at_once)
        for _ in range(ROUNDS - 1):
            if not again:
                return
            again = self._round(_Round(again, set(again), tried, results, lambda error: True), at_once)
        for host, name in again:
            reason = "the master changes faster than it can be sent"
            results[host, name] = DeliveryError(host.label, name, reason, ours=True)

    def settle(self, attempts: Iterable[Attempt], states: dict[Host, HostState]) -> None:
        """Note what came of deliveries. The caller still holds the locks of their names.

        ``states`` is what was known of the hosts, and is brought up to date; an attempt without a delivery tells
        something of its host alone. Raises OutboxError, after which the deliveries stay owed and are made again, which
        does no harm.
        """
        now = self._clock()
        done: list[Delivery] = []
        failed: list[Failure] = []
        news: dict[Host, HostState] = {}
        for host, delivery, error in attempts:
            known = states.get(host)
            if error is None:
                done += [delivery] if delivery else []
                state = breaker.after_success(known, host, now)
            else:
                failed += [breaker.failure(delivery, error, now, self._chance)] if delivery else []
                state = breaker.after_failure(known, host, error, now, self._chance)
            if state is not None and state is not known:
                states[host] = news[host] = state
        self._outbox.settle(done, failed, list(news.values()))
        for host, state in news.items():
            if state.state == "up" and not state.failures:
                self._outbox.unpark(host, sorted(breaker.WRITES_REFUSED))
        if self._replicas is not None:
            for name in dict.fromkeys(delivery.name for delivery in done):
                self.drop_spool(name)

    def drop_spool(self, name: str, publication: Publication | None = None) -> None:
        """Mode distributed: drop the spool of a name that no host owes any more. The caller holds its lock.

        It is kept while its publisher may still take it back; ``publication`` is his word that he will not.
        """
        if not self._media_root.exists(name) or not self._hosts.isdisjoint(self._outbox.deliveries(name)):
            return
        if not self._hosts <= self._outbox.members() or self._outbox.is_gone(name) is None:
            return  # a host may not even know that it owes this, nobody of this outbox has published it
        if publication is not None and self._media_root.is_published(publication):
            digest = publication.staged.sha256
        elif self._media_root.is_staged(name):
            return
        else:
            try:
                digest = self._media_root.sha256(name)
            except FileNotFoundError:  # somebody who does not know of the lock has removed it just now
                return
        self._outbox.note_present(name, digest)
        self._media_root.drop(name)

    def _round(self, work: _Round, at_once: int) -> list[Pair]:
        """Look, send and look again; return those whose master changed meanwhile.

        Where this is interrupted, those that were sent by then are looked at all the same.
        """
        again: list[Pair] = []
        try:
            with work:
                self._fanout.run(self._tasks(work), work.ended, at_once)
        finally:
            self._look_again(work, again)
        return again

    def _look_again(self, work: _Round, again: list[Pair]) -> None:
        changed: dict[str, bool | MediaRootError] = {}
        for pair in work.sent:
            name = pair[1]
            if name not in changed:
                try:
                    changed[name] = self._media_root.state(name) != work.seen[name]
                except MediaRootError as error:
                    changed[name] = error
            found = changed[name]
            if isinstance(found, MediaRootError):
                work.results[pair] = _ours(pair, found)
            elif found:
                again.append(pair)
            else:
                work.results[pair] = None

    def _tasks(self, work: _Round) -> Iterator[Task]:
        """Look at the master of each name, when its turn has come, and say what is to be sent."""
        for pair in work.pairs:
            if work.stopped:
                return
            work.tried.add(pair)
            try:
                task = self._task(work, pair)
            except (MediaRootError, OutboxError) as error:
                work.results[pair] = _ours(pair, error, untouched=pair not in work.carried)
                continue
            if task is None:
                work.sent.append(pair)
            else:
                yield task

    def _task(self, work: _Round, pair: Pair) -> Task | None:
        """Return what makes a host match what is seen; None where there is nothing to do."""
        host, name = pair
        master = work.look(name, self._media_root.open)
        if master is not None:
            return Task(host, name, master)
        self._media_root.check_here()
        if self._replicas is None:
            return Task(host, name)
        gone = self._outbox.is_gone(name)
        if gone:
            return Task(host, name)
        return None if gone is None else Task(host, name, work=lambda: self._fill(self._replicas, pair))

    def _fill(self, replicas: Replicas | None, pair: Pair) -> None:
        if replicas is not None:
            try:
                replicas.fill(*pair)
            except (MediaRootError, OutboxError) as error:
                raise _ours(pair, error) from error


class _Round:
    """What is seen and what is done in one round of deliveries. The masters that it looks at are open until its end.

    ``carried`` are those that an earlier round has sent, ``sent`` those that this one has, as it believes until the
    second look; ``seen`` is the state of each name's master at the first.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        carried: set[Pair],
        tried: set[Pair],
        results: Results,
        go_on: Callable[[DeliveryError | None], bool],
    ) -> None:
        self.pairs = pairs
        self.carried = carried
        self.tried = tried
        self.results = results
        self.stopped = False
        self.sent: list[Pair] = []
        self.seen: dict[str, object] = {}
        self._go_on = go_on
        self._masters: dict[str, Master] = {}
        self._left = Counter(name for _, name in pairs)  # hosts that have not yet ended with each name

    def look(self, name: str, open_master: Callable[[str], Master]) -> Master | None:
        """Return the master of a name, the same for all hosts of this round; None where there is none."""
        if name not in self.seen:
            try:
                self._masters[name] = master = open_master(name)
            except FileNotFoundError:
                self.seen[name] = None
            else:
                self.seen[name] = master.state
        return self._masters.get(name)

    def ended(self, task: Task, error: DeliveryError | None) -> None:
        """Note how one ended; see ``fanout.Ended``."""
        pair = task.host, task.name
        if error is None:
            self.sent.append(pair)
        else:
            if error.untouched and pair in self.carried:  # an earlier round was carried out
                error = error.with_facts(untouched=False)
            self.results[pair] = error
        if not self._go_on(error):
            self.stopped = True
        self._left[task.name] -= 1
        if not self._left[task.name] and task.master is not None:
            task.master.file.close()

    def __enter__(self) -> None:
        """Nothing is open yet."""

    def __exit__(self, *exc_info: object) -> None:
        for master in self._masters.values():
            master.file.close()


def _ours(pair: Pair, error: RestoError, *, untouched: bool = False) -> DeliveryError:
    host, name = pair
    return DeliveryError(host.label, name, f"this side: {error}", untouched=untouched, ours=True)
