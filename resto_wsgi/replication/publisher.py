"""How a name is published, withdrawn and deleted: on the master and on enough hosts, or not at all.

Each change is "record, change the master, converge, settle", in this order, under the lock of the name:

    step of a save          killed here leaves
    stage                   a staged file that the next process sweeps
    record                  deliveries owed by every host, which match the master as it was
    publish on the master   the file on the master, owed to every host; the caller was told nothing
    converge each host      the same, on some hosts already
    tombstone, take back    the file, or the master as it was with a tombstone if it had no such name, which tells
                            the hosts to lose it
    converge                the master as it was, owed to every host that may have heard of the file
    settle                  the file on each host that ``outcome`` says, and owed to the others

A child that is forked in the middle of a change holds no lock and ends no change of its parent's (``forks``, and the
table in ``master.locks``); the fork itself waits until ``outbox.database`` is idle. A delete records its tombstone with
its deliveries. When a change stands, a tombstone that is older than the file is voided (``Mode.stands``). If hosts are
told in the background, a save ends after "publish". When hosts are told must not be decided here (see ``sending``), nor
what is kept of a name on this side (see ``modes``). The replicator alone calls this.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable

from ..errors import MediaRootError, OutboxError, RestoError
from ..master.media_root import MediaRoot
from ..master.publication import Publication
from ..master.staged import Staged
from ..outbox.outbox import Delivery, Outbox
from . import breaker
from .batch import Outcome, Owed
from .modes import Mode
from .outcome import failures_of, too_few
from .sending import AtOnce, InBackground

__all__ = ["Publisher"]

log = logging.getLogger("resto_wsgi")


class Publisher:
    """Publishes, withdraws and deletes. ``required`` is how many hosts must hold a file before a save returns."""

    def __init__(
        self,
        required: int,
        media_root: MediaRoot,
        outbox: Outbox,
        mode: Mode,
        at_once: AtOnce,
        in_background: InBackground,
    ) -> None:
        self._media_root = media_root
        self._outbox = outbox
        self._mode = mode
        self._at_once = at_once
        self._in_background = in_background
        self._sending = mode.sender(at_once, in_background)
        self._needed = self._sending.needed(required)

    def publish(self, staged: Staged, name: str, *, overwrite: bool) -> tuple[Outcome, Publication]:
        """Return the outcome and the publication; see ``Replicator.publish``."""
        staged.seal()
        sending = self._sending
        with self._media_root.lock(name):
            self._media_root.check_here()
            if overwrite:
                self._mode.recall(name)
            elif self._mode.is_taken(name):
                raise FileExistsError(errno.EEXIST, "taken", name)
            owed = sending.record(name, gone=self._mode.marks_saves)
            publication = self._give_name(staged, name, overwrite, owed)
            outcome = self._replicate(publication, owed)
            failures = failures_of(outcome)
            if (done := len(outcome) - len(failures)) < self._needed:
                self._take_back(publication, owed, outcome)
                raise too_few("save", name, failures, done=done, required=self._needed)
            self._mode.stands(name, entombed=_is_entombed(owed))
            sending.settle(outcome)
            sending.report(outcome, "save")
        sending.end()
        return outcome, publication

    def withdraw(self, publication: Publication) -> None:
        """Take a publication back; see ``Replicator.withdraw``."""
        with self._media_root.lock(publication.name):
            if self._media_root.is_published(publication):
                owed = self._sending.record(publication.name, gone=self._mode.marks_saves, reserve=True)
                self._take_back(publication, owed, {})
            else:  # somebody replaced it since and told the hosts; if he takes his back, this one must not come back
                self._media_root.check_here()
                self._media_root.take_back(publication)
        self._media_root.forget(publication)

    def keep(self, publication: Publication) -> None:
        """Let a publication stand; see ``Replicator.keep``."""
        self._media_root.forget(publication)
        self._mode.keep(publication)

    def delete(self, name: str) -> None:
        """Delete a name; see ``Replicator.delete``."""
        sending = self._sending
        with self._media_root.lock(name):
            self._mode.check_no_folder(name)
            owed = sending.record(name, gone=True, reserve=True)
            self._remove(name, owed)
            needed = sending.needed(len(owed))
            outcome = sending.send(owed, needed)
            sending.settle(outcome)
        sending.end()
        failures = failures_of(outcome)
        if (done := len(outcome) - len(failures)) < needed:
            raise too_few("delete", name, failures, done=done, required=needed)
        sending.report(outcome, "delete")

    def carry(
        self, name: str, change: Callable[[], object], *, gone: bool, later: bool, way: str, along: object
    ) -> Outcome:
        """Return the outcome of a change that the caller makes; see ``Replicator.carry``."""
        sending = self._in_background if later else self._at_once
        before = self._media_root.state(name)
        owed = sending.record(name, gone=gone, reserve=gone, way=way)
        try:
            change()
        except BaseException:
            if self._media_root.state(name) == before:  # if it is not, the change was made and only its fsync failed
                self._cancel(owed.values())
            self._mode.stands(name)
            raise
        self._mode.stands(name)
        outcome = sending.send(owed, 0, along)
        sending.settle(outcome)
        sending.report(outcome, "delete" if gone else "save")
        return outcome

    def _give_name(self, staged: Staged, name: str, overwrite: bool, owed: Owed) -> Publication:
        try:
            return (self._media_root.replace if overwrite else self._media_root.publish)(staged, name)
        except (RestoError, FileExistsError):  # not BaseException: an interruption may come after the name was given
            self._cancel(owed.values())
            raise

    def _remove(self, name: str, owed: Owed) -> None:
        try:
            self._mode.remove(name)
        except BaseException:
            if self._mode.is_unchanged(name):
                self._cancel(owed.values())
            self._mode.stands(name)
            raise

    def _replicate(self, publication: Publication, owed: Owed) -> Outcome:
        """Make a new name durable, send it to the hosts, and return the outcome.

        If this is interrupted, the hosts are told of the withdrawal, but the deliveries stay begun. Nobody knows any
        more which of them ended without an answer, and so all are made once more.
        """
        try:
            self._media_root.make_durable(publication)
        except BaseException:
            if self._undo(publication):
                self._cancel(owed.values())
            raise
        try:
            return self._sending.send(owed, self._needed)
        except BaseException:
            self._undo(publication)
            self._sending.send({host: delivery.taken_back() for host, delivery in owed.items()}, 0)
            raise

    def _take_back(self, publication: Publication, owed: Owed, outcome: Outcome) -> None:
        """Undo on the master, then on the hosts that may have heard of it. The caller holds the lock of the name.

        A host that has certainly not touched the name has nothing to undo, and it is owed no more than before; only its
        failure is noted. A host that may still do what was asked is not asked again now: that would cost its timeout
        once more and settle nothing.
        """
        failures = failures_of(outcome)
        late = {host: outcome[host] for host, error in failures.items() if breaker.may_come_late(error)}
        untouched = {host: outcome[host] for host, error in failures.items() if error.untouched}
        if not self._undo(publication):
            untouched = {}
        self._cancel(owed[host] for host in untouched)
        told = [host for host in owed if host not in untouched and host not in late]
        heard = {host: owed[host].taken_back() for host in told}
        again = {**late, **self._sending.send(heard, 0)}
        failed = {host: attempt._replace(delivery=None) for host, attempt in untouched.items()}
        self._sending.settle({**failed, **again})
        self._mode.drop(publication.name)
        self._sending.report(again, "withdraw")

    def _undo(self, publication: Publication) -> bool:
        """Take the name back on the master; return False if that failed and the hosts must match it as it is."""
        try:
            self._mode.entomb_new(publication)
            if not self._media_root.take_back(publication):
                self._media_root.check_here()  # it raises if the disk is away: the file may still be on it
            self._mode.prune(publication.name)
        except MediaRootError:
            log.exception("withdraw: the master may still hold the file, and the hosts are made to match it")
            self._mode.stands(publication.name)
            return False
        return True

    def _cancel(self, deliveries: Iterable[Delivery]) -> None:
        """Owe no more than before. The caller knows that no host has done anything for these deliveries."""
        try:
            if cancelled := list(deliveries):
                self._outbox.cancel(cancelled)
        except OutboxError as error:
            log.error("not settled, and delivered once more: %s", error)  # noqa: TRY400 - it says all that there is


def _is_entombed(owed: Owed) -> bool:
    """Return whether the name of these deliveries had a tombstone when they were recorded.

    If there are no hosts, nobody has looked: an old tombstone does no harm before there is one, and the sweep voids it.
    """
    return any(delivery.entombed for delivery in owed.values())
