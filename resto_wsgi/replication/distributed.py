"""Mode distributed: no master is kept. MEDIA_ROOT is a spool; a name is removed from it when every host has it.

    save        recorded with a tombstone, spooled, sent    the spool overrules the tombstone: the name is there
    dropped     noted as present, then gone from the spool  the tombstone overruled by that note; it is with the hosts
    delete      recorded with a tombstone, spool removed    the tombstone alone: nobody has it

So there are three cases for a name that is not in the spool. If it has a tombstone, it is deleted on the hosts. If it
is noted as present, a host that lacks it is filled from a host that holds it. If nothing is noted, it is left alone.
The note is on the disk before the spool is dropped. A crash between the two leaves a spool that the next sweep drops.
What all modes share, and when something is sent, must not live here; how hosts are read is in ``replicas``. The
replicator makes this; see ``modes``.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO

from ..config import Settings
from ..errors import (
    ConfigError,
    DeliveryError,
    MediaRootError,
    NameRejected,
    OutboxError,
    ReplicationError,
    RestoError,
)
from ..hosts import Host
from ..master.media_root import MediaRoot
from ..master.publication import Publication
from ..outbox.outbox import NO_MASTER, Delivery, Outbox
from ..transports import Transport
from .batch import our_fault
from .fanout import Task
from .modes import Mode
from .replicas import Replicas

__all__ = ["Distributed"]

ITS_SPOOL = (
    "it serves MEDIA_ROOT itself, which mode distributed empties: "
    "give it a folder of its own, or set the mode to hybrid, in which it holds what MEDIA_ROOT holds"
)

log = logging.getLogger("resto_wsgi")


class Distributed(Mode):
    """Files are on the hosts, and are read from them.

    If ``fatal`` is True, a save fails when no host says whether its name is taken.
    """

    keeps = NO_MASTER
    owns_names = False
    marks_saves = True

    def __init__(
        self,
        hosts: Sequence[Host],
        media_root: MediaRoot,
        outbox: Outbox,
        transport: Transport,
        clock: Callable[[], float],
        *,
        fatal: bool = True,
    ) -> None:
        super().__init__(hosts, media_root, outbox, transport)
        self._replicas = Replicas(media_root, outbox, transport, hosts, clock)
        self._fatal = fatal

    @classmethod
    def check(cls, settings: Settings) -> None:
        if not settings.hosts:
            raise ConfigError("media_hosts", "mode 'distributed' keeps no master, so it needs a media server")
        if settings.outbox:
            raise ConfigError("outbox", "mode 'distributed' has it beside its spool, in MEDIA_ROOT; leave it out")

    @classmethod
    def of(
        cls, settings: Settings, media_root: MediaRoot, outbox: Outbox, transport: Transport, clock: Callable[[], float]
    ) -> Mode:
        return cls(settings.hosts, media_root, outbox, transport, clock, fatal=settings.fatal_exceptions)

    def open(self, name: str) -> BinaryIO:
        return self._replicas.open(name)

    def exists(self, name: str) -> bool:
        return self._replicas.size(name) is not None

    def size(self, name: str) -> int:
        if (size := self._replicas.size(name)) is None:
            raise FileNotFoundError(errno.ENOENT, "on no media server", name)
        return size

    def listdir(self, folder: str) -> tuple[list[str], list[str]]:
        return self._replicas.listdir(folder)

    def path(self, name: str) -> str:
        raise RestoError(f"{name!r} has no path in mode distributed, where no master is kept; open() it")

    def is_present(self, name: str) -> bool:
        return self._media_root.exists(name) or self._outbox.is_gone(name) is False

    def is_taken(self, name: str) -> bool:
        if self._media_root.exists(name):
            return True
        try:
            return self.exists(name)
        except ReplicationError:
            if self._fatal:
                raise
            return self._outbox.is_gone(name) is False  # this is what we know of it ourselves: no host can be asked

    def recall(self, name: str) -> None:
        """Bring the version that is to be replaced back to the spool. Raises ReplicationError if no host answers."""
        if self._media_root.exists(name) or (copy := self._replicas.fetch(name)) is None:
            return
        try:
            self._media_root.forget(self._media_root.publish(copy.staged, name))
        finally:
            copy.staged.discard()

    def check_no_folder(self, name: str) -> None:
        self._media_root.check_no_folder(name)
        if self._replicas.is_folder(name):
            raise NameRejected(name, "is a folder on the media servers; only files are deleted")

    def remove(self, name: str) -> None:
        if self._media_root.exists(name):
            self._media_root.remove(name)
        self._media_root.check_here()  # it raises if the disk is away: the file may still be on it
        self.prune(name)

    def is_unchanged(self, name: str) -> bool:
        """Return False: it stays owed in any case. A spool that is there overrules the tombstone that was recorded."""
        return False

    def entomb_new(self, publication: Publication) -> None:
        """Do nothing: it has had a tombstone since it was recorded.

        With neither a tombstone nor a spool, nobody would know what became of the name.
        """

    def stands(self, name: str, *, entombed: bool | None = None) -> None:
        """Do nothing: a spool that is there overrules its tombstone."""

    def prune(self, name: str) -> None:
        """Remove the folders that the name leaves empty: the spool keeps none."""
        if not self._media_root.exists(name):
            self._media_root.drop(name)

    def drop(self, name: str) -> None:
        self._try_to_drop(name)

    def keep(self, publication: Publication) -> None:
        """Drop the spool if every host has the file; else the last delivery, or the next sweep, drops it."""
        with contextlib.suppress(MediaRootError), self._media_root.lock(publication.name):
            self._try_to_drop(publication.name, publication)

    def absent(self, delivery: Delivery) -> Task | None:
        host, name, version = delivery.host, delivery.name, delivery.version
        gone = self._outbox.is_gone(name)
        if gone:
            return Task(host, name, version=version)
        return None if gone is None else Task(host, name, work=lambda: self._fill(host, name, version))

    def on_master(self, host: Host, name: str) -> Task | None:
        """Raise DeliveryError: what is dropped from the spool would be gone from that host."""
        raise DeliveryError(host.label, name, ITS_SPOOL, permanent=True, untouched=True, ours=True)

    def settled(self, names: Mapping[str, bool | None]) -> None:
        for name in names:
            self._drop(name)

    def sweep(self) -> None:
        for name in self._media_root.names():
            with self._media_root.lock(name, wait=False) as held:  # whoever holds it is at work on the name
                if held:
                    self._try_to_drop(name)

    def adopt(self) -> None:
        """Have the files that lie here dropped when all hosts have them, as if they had been saved in this mode."""
        for name in self._media_root.names():
            if self._outbox.is_gone(name) is None:
                self._outbox.entomb(name)

    def names_elsewhere(self) -> Iterator[str]:
        return self._outbox.names()

    def check_renewal(self, host: Host) -> None:
        if not self._outbox.members() & self._hosts - {host}:
            raise ConfigError("host", "no other media server is known to hold everything; `resto drain` first")

    # The spool

    def _fill(self, host: Host, name: str, version: int) -> None:
        try:
            self._replicas.fill(host, name, version)
        except (MediaRootError, OutboxError) as error:
            raise our_fault(host, name, error) from error

    def _drop(self, name: str, publication: Publication | None = None) -> None:
        """Drop the spool of a name that is owed to no host any more. The caller holds its lock.

        It stays while its publisher may still take it back. If ``publication`` is given, the publisher will not.
        """
        if not self._media_root.exists(name) or not self._hosts.isdisjoint(self._replicas.owing(name)):
            return
        if not self._hosts <= self._outbox.members() or self._outbox.is_gone(name) is None:
            return  # a host that is no member may lack the name without owing it, or the outbox does not know the name
        if publication is not None and self._media_root.is_published(publication):
            digest = publication.staged.sha256
        elif self._media_root.is_staged(name):
            return
        else:
            try:
                digest = self._media_root.sha256(name)
            except FileNotFoundError:  # somebody who does not know of the lock has removed it just now
                return
        self._outbox.note_present(name, digest)  # before the drop: a crash in between must leave the spool, not neither
        self._media_root.drop(name)

    def _try_to_drop(self, name: str, publication: Publication | None = None) -> None:
        try:
            self._drop(name, publication)
        except RestoError as error:
            log.warning("the spool is dropped later: %s", error)
