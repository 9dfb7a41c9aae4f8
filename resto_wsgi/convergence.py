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

from collections.abc import Callable, Iterable, Sequence

from . import breaker
from .errors import DeliveryError, MediaRootError, OutboxError
from .fanout import Fanout, Outcome
from .hosts import Host
from .media_root import MediaRoot, Publication
from .outbox import Delivery, Failure, HostState, Outbox
from .replicas import Replicas
from .transports import Transport

__all__ = ["Attempt", "Convergence"]

ROUNDS = 5  # times that the master may change under way before somebody else has to come back later

Attempt = tuple[Host, Delivery, "DeliveryError | None"]
"""What came of one delivery: None where the host matched the master."""


class Convergence:
    """Makes hosts match. ``replicas`` is given in mode distributed alone, and reads from the hosts."""

    def __init__(
        self,
        media_root: MediaRoot,
        outbox: Outbox,
        transport: Transport,
        fanout: Fanout,
        hosts: Sequence[Host],
        replicas: Replicas | None,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._media_root = media_root
        self._outbox = outbox
        self._transport = transport
        self._fanout = fanout
        self._urls = frozenset(host.url for host in hosts)
        self._replicas = replicas
        self._clock = clock
        self._chance = chance

    def converge(self, name: str, hosts: Iterable[Host]) -> Outcome:
        """Make all of ``hosts`` match at the same time. The caller holds the lock and has recorded the deliveries."""
        return self._fanout.run(name, lambda host: self.deliver(host, name), hosts)

    def deliver(self, host: Host, name: str) -> None:
        """Make one host match. The same duties; raises DeliveryError."""
        untouched = True
        try:
            for _ in range(ROUNDS):
                seen = self._send(host, name)
                untouched = False
                if seen == self._media_root.state(name):
                    return
        except (MediaRootError, OutboxError) as error:
            raise DeliveryError(host.label, name, f"this side: {error}", untouched=untouched, ours=True) from error
        except DeliveryError as error:
            error.untouched = error.untouched and untouched  # an earlier round was carried out
            raise
        raise DeliveryError(host.label, name, "the master changes faster than it can be sent", ours=True)

    def settle(self, attempts: Iterable[Attempt], states: dict[str, HostState]) -> None:
        """Note what came of deliveries. The caller still holds the locks of their names.

        ``states`` is what was known of the hosts, and is brought up to date. Raises OutboxError, after which the
        deliveries stay owed and are made again, which does no harm.
        """
        now = self._clock()
        done: list[Delivery] = []
        failed: list[Failure] = []
        news: dict[str, HostState] = {}
        for host, delivery, error in attempts:
            known = states.get(host.url)
            if error is None:
                done.append(delivery)
                state = breaker.after_success(known, host.url, now)
            else:
                failed.append(breaker.failure(delivery, error, now, self._chance))
                state = breaker.after_failure(known, host.url, error, now, self._chance)
            if state is not None and state is not known:
                states[host.url] = news[host.url] = state
        self._outbox.settle(done, failed, list(news.values()))
        for url, state in news.items():
            if state.state == "up" and not state.failures:
                self._outbox.unpark(url, sorted(breaker.WRITES_REFUSED))
        if self._replicas is not None:
            for name in dict.fromkeys(delivery.name for delivery in done):
                self.drop_spool(name)

    def drop_spool(self, name: str, publication: Publication | None = None) -> None:
        """Mode distributed: drop the spool of a name that no host owes any more. The caller holds its lock.

        It is kept while its publisher may still take it back; ``publication`` is his word that he will not.
        """
        if not self._media_root.exists(name) or not self._urls.isdisjoint(self._outbox.deliveries(name)):
            return
        if not self._urls <= self._outbox.members() or self._outbox.is_gone(name) is None:
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
        self._outbox.settle((), present=name, sha256=digest)
        self._media_root.drop(name)

    def _send(self, host: Host, name: str) -> object:
        """Look, and make the host match what was seen; return that state of the master."""
        try:
            master = self._media_root.open(name)
        except FileNotFoundError:
            self._send_absent(host, name)
            return None
        with master.file:
            self._transport.put(host, name, master.file, master.size, master.mtime)
        return master.state

    def _send_absent(self, host: Host, name: str) -> None:
        self._media_root.check_here()
        if self._replicas is None:
            self._transport.delete(host, name)
            return
        gone = self._outbox.is_gone(name)
        if gone:
            self._transport.delete(host, name)
        elif gone is False:
            self._replicas.fill(host, name)
