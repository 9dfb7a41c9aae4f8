"""How a name comes to be, and to be no more: on the master, and on enough hosts, or not at all.

Each change is "record, change the master, converge, settle", under the lock of the name:

    step of a save          killed here leaves
    stage                   a staged file that the next process sweeps
    record                  deliveries owed by every host, which match the master as it was
    publish on the master   the file on the master, owed to every host; the caller was told nothing
    converge each host      the same, on some hosts already
    take back, converge     the master as it was, owed to every host that may have heard of the file
    settle                  the file wherever ``outcome`` says, and owed to the others

A delete records its tombstone with its deliveries. In mode async a save ends after "publish", and the worker does the
rest. In mode distributed the master's copy is a spool (see ``convergence``); a save writes a tombstone with its
deliveries there, which the spool overrules until every host has the file. The replicator alone calls this.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from ..config import Settings
from ..errors import DeliveryError, MediaRootError, NameRejected, OutboxError, ReplicationError, RestoError
from ..hosts import Host
from ..master.media_root import MediaRoot, Publication
from ..master.staged import Staged
from ..outbox.outbox import Delivery, HostState, Outbox
from . import breaker
from .convergence import Convergence
from .outcome import Outcome, failures_of, too_few
from .replicas import Replicas
from .worker import Worker

__all__ = ["Publisher"]

GRACE = 5.0  # seconds until the worker looks at what a request has recorded: the request is about to send it
LATER = "owed, and delivered in the background"

log = logging.getLogger("resto_wsgi")

Owed = Mapping[Host, Delivery]
"""The deliveries of one name that were recorded, by host."""


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
            self._media_root.check_here()
            if not overwrite and self._exists(name):
                raise FileExistsError(errno.EEXIST, "taken", name)
            if overwrite:
                self._recall(name)
            owed = self._record(name, gone=self._replicas is not None)
            publication = self._give_name(staged, name, overwrite, owed)
            states = self._states()
            outcome = self._replicate(publication, owed, states)
            done = sum(error is None for error in outcome.values())
            if done < self._needed and not self._later:
                self._take_back(publication, owed, failures_of(outcome))
                raise too_few("save", name, outcome, self._needed)
            if not self._later:
                self._settle(owed, outcome, states)
                self._log(outcome, "save")
        if self._later:  # else there is nothing to do for it yet, and it would only take the processor from uploads
            self._worker.wake()
        return outcome, publication

    def withdraw(self, publication: Publication) -> None:
        """See ``Replicator.withdraw``."""
        with self._media_root.lock(publication.name):
            if self._media_root.is_published(publication):
                owed = self._record(publication.name, gone=self._replicas is not None)
                self._take_back(publication, owed, {})
            else:  # somebody replaced it since, and saw to the hosts; he must not put it back
                self._media_root.check_here()
                self._media_root.take_back(publication)
        self._media_root.forget(publication)

    def keep(self, publication: Publication) -> None:
        """See ``Replicator.keep``."""
        self._media_root.forget(publication)
        if self._replicas is not None:
            with contextlib.suppress(MediaRootError), self._media_root.lock(publication.name):  # then sweep() drops it
                self._drop_spool(publication.name, publication)

    def delete(self, name: str) -> None:
        """See ``Replicator.delete``."""
        with self._media_root.lock(name):
            self._media_root.check_no_folder(name)
            if self._replicas is not None and self._replicas.is_folder(name):
                raise NameRejected(name, "is a folder on the media servers; only files are deleted")
            owed = self._record(name, gone=True)
            self._remove(name, owed)
            if self._later:
                self._worker.wake()
                return
            states = self._states()
            outcome = self._send(name, self._hosts, len(self._hosts) if self._settings.fatal_exceptions else 0, states)
            self._settle(owed, outcome, states)
        if any(outcome.values()) and self._settings.fatal_exceptions:
            raise too_few("delete", name, outcome, len(outcome))
        self._log(outcome, "delete")

    def carry(self, name: str, change: Callable[[], None], *, gone: bool, later: bool, way: str) -> Outcome:
        """See ``Replicator.carry``."""
        before = self._media_root.state(name)
        owed = self._record(name, gone=gone, later=later, way=way)
        try:
            change()
        except BaseException:
            if self._media_root.state(name) == before:  # else it has changed, and only its fsync failed
                self._cancel(owed.values())
            raise
        if later:
            return {host: _not_sent(host, name, LATER) for host in self._hosts}
        states = self._states()
        outcome = self._send(name, self._hosts, 0, states)
        self._settle(owed, outcome, states)
        self._log(outcome, "delete" if gone else "save")
        return outcome

    def _record(self, name: str, *, gone: bool = False, later: bool | None = None, way: str = "") -> Owed:
        """Owe a name to every host, durably. The caller holds its lock, and changes the master only afterwards."""
        self._worker.start()
        later = self._later if later is None else later
        due = self._clock() + (0.0 if later else GRACE)
        return self._outbox.record(name, self._hosts, begin=not later, due=due, gone=gone, way=way)

    def _exists(self, name: str) -> bool:
        if self._replicas is None or self._media_root.exists(name):
            return self._media_root.exists(name)
        try:
            return self._replicas.size(name) is not None
        except ReplicationError:
            if self._settings.fatal_exceptions:
                raise
            return self._outbox.is_gone(name) is False  # what we know of it, for no host can be asked

    def _remove(self, name: str, owed: Owed) -> None:
        """Remove the master. Where that fails the name is as it was: a spool that is there overrules a tombstone."""
        try:
            if self._replicas is None or self._media_root.exists(name):
                self._media_root.remove(name)
            self._media_root.check_here()  # else it is there, and only its disk is away
        except BaseException:
            if self._replicas is None and self._media_root.exists(name):  # else only its folder's fsync failed
                self._outbox.cancel(list(owed.values()))
            raise
        self._prune(name)

    def _give_name(self, staged: Staged, name: str, overwrite: bool, owed: Owed) -> Publication:
        try:
            return (self._media_root.replace if overwrite else self._media_root.publish)(staged, name)
        except (RestoError, FileExistsError):  # an interruption may come when it has its name: then it stays owed
            self._outbox.cancel(list(owed.values()))
            raise

    def _recall(self, name: str) -> None:
        """In mode distributed, bring a version that is to be replaced back to the spool, so that it can be put back.

        Raises ReplicationError where no host answers.
        """
        if self._replicas is None or self._media_root.exists(name):
            return
        if (copy := self._replicas.fetch(name)) is not None:
            try:
                self._media_root.forget(self._media_root.publish(copy.staged, name))
            finally:
                copy.staged.discard()

    def _replicate(self, publication: Publication, owed: Owed, states: Mapping[Host, HostState]) -> Outcome:
        """Make a new name durable, and send it to the hosts; in mode async, say that this is still to come.

        Where this is interrupted the hosts are told of the withdrawal, but the deliveries stay begun: nobody knows any
        more which of them ended without an answer, and so all are made once more.
        """
        name = publication.name
        try:
            self._media_root.make_durable(publication)
        except BaseException:
            if self._undo(publication):
                self._cancel(owed.values())
            raise
        if self._later:
            return {host: _not_sent(host, name, LATER) for host in self._hosts}
        try:
            return self._send(name, self._hosts, self._needed, states)
        except BaseException:
            self._undo(publication)
            self._send(name, self._hosts, 0, states)
            raise

    def _send(self, name: str, hosts: Sequence[Host], needed: int, states: Mapping[Host, HostState]) -> Outcome:
        """Converge hosts; one that is known to be away is asked only where fewer than ``needed`` would be left.

        What is owed to it brings the worker to it, which asks for a sign of life; uploads need not pay for that.
        """
        if not hosts:
            return {}
        now = self._clock()
        away = {host for host in hosts if breaker.is_away(states.get(host), now)}
        if len(hosts) - len(away) < needed:
            away = set()
        sent = self._convergence.converge(name, [host for host in hosts if host not in away])
        reason = "not asked, for it was away when it was asked last"
        passed_over = {host: _not_sent(host, name, f"{reason}: {states[host].reason}") for host in away}
        return {host: passed_over[host] if host in away else sent[host] for host in hosts}

    def _states(self) -> dict[Host, HostState]:
        """Return what is known of the hosts; nothing where that cannot be read, which costs a timeout at most."""
        if not self._hosts:
            return {}
        try:
            return self._outbox.host_states()
        except OutboxError as error:
            log.warning("what is known of the media servers cannot be read: %s", error)
            return {}

    def _settle(self, owed: Owed, outcome: Outcome, states: dict[Host, HostState]) -> None:
        """Settle what was sent. What cannot be settled stays owed, and is made again without harm.

        ``states`` is what was known of the hosts before; where one of them was in trouble, or is, it is read anew.
        """
        attempts = [(host, owed.get(host), error) for host, error in outcome.items()]
        if not attempts:
            return
        try:
            calm = not any(outcome.values()) and breaker.are_calm(states.values())
            self._convergence.settle(attempts, states if calm else self._states())
        except RestoError as error:
            log.error("not settled, and delivered once more: %s", error)  # noqa: TRY400 - it says all that there is

    def _take_back(self, publication: Publication, owed: Owed, failures: Mapping[Host, DeliveryError]) -> None:
        """Undo on the master, then on the hosts that may have heard of it. The caller holds the lock of the name.

        A host that has certainly not touched the name has nothing to undo, and is owed no more than before; only that
        it failed is noted. One that may still do what was asked is not asked again now, which would cost its timeout
        once more and settle nothing.
        """
        late = {host: error for host, error in failures.items() if breaker.may_come_late(error)}
        untouched = {host: error for host, error in failures.items() if error.untouched}
        if not self._undo(publication):
            untouched = {}
        self._cancel(owed[host] for host in untouched)
        if not self._later:
            heard = [host for host in self._hosts if host not in untouched and host not in late]
            states = self._states()
            again = {**late, **self._send(publication.name, heard, 0, states)}
            still_owed = {host: delivery for host, delivery in owed.items() if host not in untouched}
            self._settle(still_owed, {**untouched, **again}, states)
            self._drop_spool(publication.name)
            self._log(again, "withdraw")

    def _undo(self, publication: Publication) -> bool:
        """Take the name back on the master; return False where that failed, and the hosts must match it as it is.

        A new name leaves a tombstone, for hosts that are restored from a backup. In mode distributed it has had one
        since it was recorded: with neither that nor a spool, nobody would know what to make of the name.
        """
        try:
            if self._replicas is None and not self._media_root.keeps_previous(publication):
                self._entomb(publication.name)
            if not self._media_root.take_back(publication):
                self._media_root.check_here()  # else it is there, and only its disk is away
            self._prune(publication.name)
        except MediaRootError:
            log.exception("withdraw: the master may still hold the file, and the hosts are made to match it")
            return False
        return True

    def _prune(self, name: str) -> None:
        """In mode distributed, remove the folders that a name leaves empty: the spool keeps nothing."""
        if self._replicas is not None and not self._media_root.exists(name):
            self._media_root.drop(name)

    def _entomb(self, name: str) -> None:
        try:
            self._outbox.entomb(name)
        except OutboxError as error:
            log.warning("withdraw: no tombstone: %s", error)

    def _drop_spool(self, name: str, publication: Publication | None = None) -> None:
        if self._replicas is not None:
            try:
                self._convergence.drop_spool(name, publication)
            except RestoError as error:
                log.warning("the spool is dropped later: %s", error)

    def _cancel(self, deliveries: Iterable[Delivery]) -> None:
        """Owe no more than before: nothing of these was sent, or it was refused."""
        try:
            self._outbox.cancel(list(deliveries))
        except OutboxError as error:
            log.error("not settled, and delivered once more: %s", error)  # noqa: TRY400 - it says all that there is

    def _log(self, outcome: Outcome, action: str) -> None:
        for failure in failures_of(outcome).values():
            trace = failure if self._settings.show_traceback else None
            log.error("%s not replicated, and owed: %s", action, failure, exc_info=trace)


def _not_sent(host: Host, name: str, reason: str) -> DeliveryError:
    return DeliveryError(host.label, name, reason, untouched=True, ours=True)
