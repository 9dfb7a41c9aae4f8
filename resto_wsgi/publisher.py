"""How a name comes to be, and to be no more: on the master, and on enough hosts, or not at all.

Each change is "record, change the master, converge, settle", under the lock of the name:

    step of a save          killed here leaves
    stage                   a staged file that the next process sweeps
    record                  deliveries owed by every host, which match the master as it was
    publish on the master   the file on the master, owed to every host; the caller was told nothing
    converge each host      the same, on some hosts already
    take back, converge     the master as it was, owed to every host that may have heard of the file
    settle                  the file wherever ``outcome`` says, and owed to the others

A delete records its tombstone with its deliveries. In mode async a save ends after "publish", and the worker does
the rest. In mode distributed the master's copy is a spool (see ``convergence``). Who saves what, and what a caller is
told, is decided by the replicator, which alone calls this.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Container, Iterable, Mapping

from . import breaker
from .config import Settings
from .convergence import Convergence
from .errors import DeliveryError, MediaRootError, OutboxError, ReplicationError, RestoError
from .fanout import Outcome
from .hosts import Host
from .media_root import MediaRoot, Publication
from .outbox import Delivery, Outbox
from .replicas import Replicas
from .staging import Staged
from .worker import Worker

__all__ = ["Publisher"]

GRACE = 5.0  # seconds until the worker looks at what a request has recorded: the request is about to send it

log = logging.getLogger("resto_wsgi")

Owed = Mapping[str, Delivery]
"""The deliveries of one name that were recorded, by the URL of the host."""


class Publisher:
    """Publishes, withdraws and deletes. ``replicas`` is given in mode distributed alone."""

    def __init__(
        self,
        settings: Settings,
        media_root: MediaRoot,
        outbox: Outbox,
        convergence: Convergence,
        replicas: Replicas | None,
        worker: Worker,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._hosts = settings.hosts
        self._needed = settings.required_hosts if settings.fatal_exceptions else 0
        self._later = settings.mode == "async"
        self._media_root = media_root
        self._outbox = outbox
        self._convergence = convergence
        self._replicas = replicas
        self._worker = worker
        self._clock = clock

    def publish(self, staged: Staged, name: str, *, overwrite: bool) -> tuple[Outcome, Publication]:
        """See ``Replicator.publish``."""
        staged.seal()
        with self._media_root.lock(name):
            if overwrite:
                self._recall(name)
            elif self._exists(name):
                raise FileExistsError(errno.EEXIST, "taken", name)
            owed = self._record(name)
            publication = self._give_name(staged, name, overwrite, owed)
            outcome = None
            try:
                self._media_root.make_durable(publication)
                outcome = self._replicate(name)
                self._require(name, outcome)
            except BaseException:
                self._take_back(publication, owed, outcome)
                raise
            if not self._later:
                self._settle(owed, outcome)
                self._log(_failures(outcome), "save")
        self._worker.wake()
        return outcome, publication

    def withdraw(self, publication: Publication) -> None:
        """See ``Replicator.withdraw``."""
        failed: OutboxError | None = None
        with self._media_root.lock(publication.name):
            try:
                owed = self._record(publication.name)
            except OutboxError as error:
                failed, owed = error, {}
            self._take_back(publication, owed, None)
        self._media_root.forget(publication)
        if failed is not None:
            raise failed

    def delete(self, name: str) -> None:
        """See ``Replicator.delete``."""
        with self._media_root.lock(name):
            self._media_root.check_no_folder(name)
            owed = self._record(name, gone=True)
            self._remove(name, owed)
            if self._later:
                self._worker.wake()
                return
            outcome = self._send(name, self._hosts, len(self._hosts) if self._settings.fatal_exceptions else 0)
            self._settle(owed, outcome)
        failures = _failures(outcome)
        if failures and self._settings.fatal_exceptions:
            done = len(outcome) - len(failures)
            raise ReplicationError("delete", name, failures, done=done, required=len(outcome))
        self._log(failures, "delete")

    def _record(self, name: str, *, gone: bool = False) -> Owed:
        """Owe a name to every host, durably. The caller holds its lock, and changes the master only afterwards."""
        self._worker.start()
        due = self._clock() + (0.0 if self._later else GRACE)
        return self._outbox.record(name, [host.url for host in self._hosts], begin=not self._later, due=due, gone=gone)

    def _exists(self, name: str) -> bool:
        if self._replicas is None or self._media_root.exists(name):
            return self._media_root.exists(name)
        return self._replicas.size(name) is not None

    def _remove(self, name: str, owed: Owed) -> None:
        try:
            self._media_root.remove(name)
        except BaseException:
            self._outbox.cancel(list(owed.values()))
            raise

    def _give_name(self, staged: Staged, name: str, overwrite: bool, owed: Owed) -> Publication:
        try:
            return (self._media_root.replace if overwrite else self._media_root.publish)(staged, name)
        except BaseException:
            self._outbox.cancel(list(owed.values()))
            raise

    def _recall(self, name: str) -> None:
        """In mode distributed, bring a version that is to be replaced back to the spool, so that it can be put back."""
        if self._replicas is None or self._media_root.exists(name):
            return
        try:
            copy = self._replicas.fetch(name)
        except ReplicationError:
            if self._settings.fatal_exceptions:
                raise
            return  # nothing will be withdrawn for a host's sake
        if copy is not None:
            try:
                self._media_root.forget(self._media_root.publish(copy.staged, name))
            finally:
                copy.staged.discard()

    def _replicate(self, name: str) -> Outcome:
        """Send a published name to the hosts; in mode async, say that this is still to come."""
        if self._later:
            reason = "owed, and delivered in the background"
            return {
                host.label: DeliveryError(host.label, name, reason, untouched=True, ours=True) for host in self._hosts
            }
        return self._send(name, self._hosts, self._needed)

    def _send(self, name: str, hosts: Iterable[Host], needed: int) -> Outcome:
        """Converge hosts; one that is known to be away is asked only where fewer than ``needed`` would be left."""
        hosts = list(hosts)
        states, now = self._outbox.host_states(), self._clock()
        away = {host for host in hosts if breaker.is_paused(states.get(host.url), now)}
        if len(hosts) - len(away) < needed:
            away = set()
        sent = self._convergence.converge(name, [host for host in hosts if host not in away])
        outcome: Outcome = {}
        for host in hosts:
            if host in away:
                reason = f"not asked, for it was away a moment ago: {states[host.url].reason}"
                outcome[host.label] = _not_sent(host, name, reason)
            else:
                outcome[host.label] = sent[host.label]
        return outcome

    def _settle(self, owed: Owed, outcome: Outcome) -> None:
        """Settle what was sent. What cannot be settled stays owed, and is made again without harm."""
        attempts = [
            (host, owed[host.url], outcome[host.label])
            for host in self._hosts
            if host.label in outcome and host.url in owed
        ]
        try:
            self._convergence.settle(attempts, self._outbox.host_states())
        except RestoError as error:
            log.error("not settled, and delivered once more: %s", error)  # noqa: TRY400 - it says all that there is

    def _require(self, name: str, outcome: Outcome) -> None:
        """Raise ReplicationError where fewer hosts than required hold the name and that is fatal."""
        failures = _failures(outcome)
        done = len(outcome) - len(failures)
        if done < self._needed and not self._later:
            raise ReplicationError("save", name, failures, done=done, required=self._needed)

    def _take_back(self, publication: Publication, owed: Owed, outcome: Outcome | None) -> None:
        """Undo on the master, then on the hosts that may have heard of it. The caller holds the lock of the name.

        A host that has certainly not touched the name has nothing to undo, and owes no more than before. One that did
        not answer is not made to cost its timeout once more; it owes the name, and the worker sees to it.
        """
        failed = _failures(outcome or {})
        untouched = {label for label, error in failed.items() if error.untouched}
        silent = {label: error for label, error in failed.items() if error.status is None and not error.untouched}
        try:
            if self._replicas is not None and publication.previous is None:
                self._outbox.entomb(publication.name)
            if not self._media_root.take_back(publication):
                untouched, silent = {host.label for host in self._hosts}, {}  # it was replaced since, and seen to
        except (MediaRootError, OutboxError):
            log.exception("withdraw: the master may still hold the file, and the hosts are made to match it")
        self._cancel(owed, untouched)
        if not self._later:
            heard = [host for host in self._hosts if host.label not in untouched and host.label not in silent]
            again = {**silent, **self._send(publication.name, heard, needed=0)}
            self._settle(owed, again)
            self._log(_failures(again), "withdraw")

    def _cancel(self, owed: Owed, labels: Container[str]) -> None:
        """Owe these hosts no more than before: nothing was sent to them, or they refused it."""
        try:
            self._outbox.cancel([owed[host.url] for host in self._hosts if host.label in labels and host.url in owed])
        except OutboxError as error:
            log.error("not settled, and delivered once more: %s", error)  # noqa: TRY400 - it says all that there is

    def _log(self, failures: Mapping[str, DeliveryError], action: str) -> None:
        for failure in failures.values():
            trace = failure if self._settings.show_traceback else None
            log.error("%s not replicated, and owed: %s", action, failure, exc_info=trace)


def _failures(outcome: Outcome) -> dict[str, DeliveryError]:
    return {label: failure for label, failure in outcome.items() if failure is not None}


def _not_sent(host: Host, name: str, reason: str) -> DeliveryError:
    return DeliveryError(host.label, name, reason, untouched=True, ours=True)
