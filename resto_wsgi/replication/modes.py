"""What differs between the modes: the master's copy of a name, tombstones, reads, and when hosts are told.

    mode          MEDIA_ROOT holds    a save and a delete return        a name that is not in MEDIA_ROOT
    hybrid        the master          when enough hosts took it         is deleted if that is known, else asked for
    async         the master          when the master is durable        the same
    distributed   a spool             when enough hosts took it         is with the hosts (``distributed``)

A name that is not on the master was deleted only if a tombstone says so: its folder may also be a mount that is away,
or a backup half restored. Without a tombstone the host is asked. If it answers 404, the delivery is settled. If it has
the name, it keeps it, and the delivery is parked as MISSING until the file is back or a person deletes the name.

    what writes or voids a tombstone     killed before it                    killed after it
    a delete: with its deliveries        nothing has changed                 file and tombstone: the file counts
    a withdrawal: before its take back   the file stands                     the same
    ``stands``: what is there voids it   the same, until a settlement or     no tombstone
                                         the hourly sweep meets the name

If the tombstone of a withdrawal cannot be written, this process remembers it and tries again. If the process is killed
before it succeeds, hosts that still have the file keep it, and its deliveries are parked.

The replicator makes one object of these classes. It gives the object to the parts that would else have to ask which
mode it is: the publisher, the convergence, the membership. Nobody below the replicator knows the mode's name. What is
common to all modes must not live here; how hosts are told at once or in the background is in ``sending``.
"""

from __future__ import annotations

import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, ClassVar, TypeVar

from ..config import Settings
from ..errors import DeliveryError, MediaRootError, OutboxError
from ..hosts import Host
from ..master.media_root import MediaRoot
from ..master.publication import Publication
from ..outbox.outbox import Delivery, Outbox
from ..transports import Transport
from .fanout import Task

__all__ = ["MISSING", "Async", "Hybrid", "Mode"]

MISSING = (
    "missing on the master; nothing says that it was deleted: "
    "put the file back, or delete its name with Replicator.delete()"
)

T = TypeVar("T")

log = logging.getLogger("resto_wsgi")


class Mode(ABC):
    """One mode, over one media root and outbox. Names were checked; any thread may call.

    If nothing else is said, the caller of a method that takes a name holds the lock of that name, and MediaRootError
    and OutboxError are raised. Methods that read have the same names as in ``Replicator``.
    """

    keeps: ClassVar[str]  # noted in the outbox, which is refused if it was made in a mode that keeps something else
    owns_names: ClassVar[bool]  # whether another media root must not write the same names to the hosts
    marks_saves: ClassVar[bool]  # whether a save, too, is recorded with a tombstone, until hosts are known to hold it

    def __init__(self, hosts: Sequence[Host], media_root: MediaRoot, outbox: Outbox, transport: Transport) -> None:
        self._hosts = frozenset(hosts)
        self._media_root = media_root
        self._outbox = outbox
        self._transport = transport

    @classmethod
    @abstractmethod
    def check(cls, settings: Settings) -> None:
        """Raise ConfigError if these settings contradict the mode."""

    @classmethod
    @abstractmethod
    def of(
        cls, settings: Settings, media_root: MediaRoot, outbox: Outbox, transport: Transport, clock: Callable[[], float]
    ) -> Mode:
        """Return a mode, made from what it needs of these."""

    # Reads, without a lock

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open a copy for reading."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Return True if there is a file of this name."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Return the size in bytes."""

    @abstractmethod
    def listdir(self, folder: str) -> tuple[list[str], list[str]]:
        """Return the folders and the files in a folder."""

    @abstractmethod
    def path(self, name: str) -> str:
        """Return the path of the master's copy."""

    @abstractmethod
    def is_present(self, name: str) -> bool:
        """Return True if there is a file of this name, as far as is known without asking a host."""

    # Changes

    def sender(self, at_once: T, in_background: T) -> T:
        """Return the one of the two that sends a save and a delete."""
        return at_once

    @abstractmethod
    def is_taken(self, name: str) -> bool:
        """Return True if a save of this name would replace something."""

    @abstractmethod
    def recall(self, name: str) -> None:
        """Make sure that the version which is to be replaced can be put back. Raises ReplicationError."""

    @abstractmethod
    def check_no_folder(self, name: str) -> None:
        """Raise NameRejected if the name is a folder."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove the master's copy, durably; there may be none."""

    @abstractmethod
    def is_unchanged(self, name: str) -> bool:
        """Return True if a removal that failed has left the name as it was. The caller need not hold the lock."""

    @abstractmethod
    def entomb_new(self, publication: Publication) -> None:
        """Leave a tombstone for a publication that is about to be taken back and replaced nothing."""

    @abstractmethod
    def stands(self, name: str, *, entombed: bool | None = None) -> None:
        """Void a tombstone that is older than what MEDIA_ROOT holds. A failure is only logged: it is tried again.

        ``entombed`` says whether the name has one; None if the caller does not know.
        """

    @abstractmethod
    def prune(self, name: str) -> None:
        """Remove the folders that a name leaves empty when it is taken back, unless the mode keeps them."""

    @abstractmethod
    def drop(self, name: str) -> None:
        """Drop a copy that is not needed any more, unless the mode keeps it. A failure is only logged."""

    @abstractmethod
    def keep(self, publication: Publication) -> None:
        """Do what is to be done when nobody will take a publication back any more. The caller holds no lock."""

    # Deliveries

    @abstractmethod
    def absent(self, delivery: Delivery) -> Task | None:
        """Return the task that makes its host match if MEDIA_ROOT has no such name; None if there is nothing to do.

        The caller has checked that MEDIA_ROOT itself is there.
        """

    @abstractmethod
    def on_master(self, host: Host, name: str) -> Task | None:
        """Return the task for a host that serves MEDIA_ROOT itself; None if there is nothing to do.

        Raises DeliveryError if such a host cannot be one of this mode.
        """

    @abstractmethod
    def settled(self, names: Mapping[str, bool | None]) -> None:
        """Do what is to be done when some host matches the master in these names; each says if it is ``entombed``."""

    @abstractmethod
    def sweep(self) -> None:
        """Do what processes that were killed left undone. The caller holds no lock."""

    # Hosts that come and go

    @abstractmethod
    def adopt(self) -> None:
        """Note the files in MEDIA_ROOT that this outbox does not know of. The caller holds no lock."""

    @abstractmethod
    def names_elsewhere(self) -> Iterator[str]:
        """Yield the names whose files may be on the hosts alone."""

    @abstractmethod
    def check_renewal(self, host: Host) -> None:
        """Raise ConfigError if nobody could give a host that holds nothing what it is to hold."""


class Hybrid(Mode):
    """The master is on the local disk, and it decides: a file that was deleted there is to be on no host."""

    keeps = "a master"
    owns_names = True
    marks_saves = False

    def __init__(self, hosts: Sequence[Host], media_root: MediaRoot, outbox: Outbox, transport: Transport) -> None:
        super().__init__(hosts, media_root, outbox, transport)
        self._unwritten: set[str] = set()  # names that were withdrawn, and whose tombstones could not be written

    @classmethod
    def check(cls, settings: Settings) -> None:
        """Do nothing: a master contradicts no setting."""

    @classmethod
    def of(
        cls, settings: Settings, media_root: MediaRoot, outbox: Outbox, transport: Transport, clock: Callable[[], float]
    ) -> Mode:
        return cls(settings.hosts, media_root, outbox, transport)

    def open(self, name: str) -> BinaryIO:
        return self._media_root.open(name).file

    def exists(self, name: str) -> bool:
        return self._media_root.exists(name)

    def size(self, name: str) -> int:
        return self._media_root.size(name)

    def listdir(self, folder: str) -> tuple[list[str], list[str]]:
        return self._media_root.listdir(folder)

    def path(self, name: str) -> str:
        return self._media_root.path(name)

    def is_present(self, name: str) -> bool:
        return self._media_root.exists(name)

    def is_taken(self, name: str) -> bool:
        return self._media_root.exists(name)

    def recall(self, name: str) -> None:
        """Do nothing: the media root itself keeps what it replaces."""

    def check_no_folder(self, name: str) -> None:
        self._media_root.check_no_folder(name)

    def remove(self, name: str) -> None:
        self._media_root.remove(name)
        self._media_root.check_here()  # it raises if the disk is away: the file may still be on it

    def is_unchanged(self, name: str) -> bool:
        return self._media_root.exists(name)  # if it is not there, it was removed, and only the fsync failed

    def entomb_new(self, publication: Publication) -> None:
        name = publication.name
        if not self._media_root.keeps_previous(publication):
            self._unwritten.add(name)
            self._write_tombstone(name)

    def stands(self, name: str, *, entombed: bool | None = None) -> None:
        try:
            gone = self._outbox.is_gone(name) if entombed is None else entombed  # to look costs a tenth of a small save
            if (name in self._unwritten or gone) and self._media_root.exists(name):
                self._unwritten.discard(name)
                self._outbox.exhume(name)
        except (MediaRootError, OutboxError) as error:
            log.warning("a tombstone stays of a name that may be there: %s", error)

    def prune(self, name: str) -> None:
        """Do nothing: empty folders stay."""

    def drop(self, name: str) -> None:
        """Do nothing: the master stays."""

    def keep(self, publication: Publication) -> None:
        """Do nothing: the master stays."""

    def absent(self, delivery: Delivery) -> Task | None:
        host, name = delivery.host, delivery.name
        self._write_tombstone(name)
        if name in self._unwritten or self._outbox.is_gone(name):
            return Task(host, name, version=delivery.version)
        return Task(host, name, work=lambda: self._ask(host, name))

    def on_master(self, host: Host, name: str) -> Task | None:
        """Return None: what the master has, or has not, is what that host has, or has not."""
        return None

    def settled(self, names: Mapping[str, bool | None]) -> None:
        for name, entombed in names.items():
            self.stands(name, entombed=entombed)

    def sweep(self) -> None:
        """Void tombstones of names that are there again: a server with another outbox or a person put them back."""
        for name in itertools.chain(list(self._unwritten), self._outbox.tombstones()):
            if name in self._unwritten or self._media_root.exists(name):
                with self._media_root.lock(name, wait=False) as held:
                    if held:
                        self.stands(name)
                        self._write_tombstone(name)

    def adopt(self) -> None:
        """Do nothing: all files that are there are the master."""

    def names_elsewhere(self) -> Iterator[str]:
        return iter(())

    def check_renewal(self, host: Host) -> None:
        """Do nothing: the master has everything."""

    def _write_tombstone(self, name: str) -> None:
        """Write the tombstone of a withdrawal that has none yet. If that fails, it is tried again."""
        if name in self._unwritten:
            try:
                self._outbox.entomb(name)
            except OutboxError as error:
                log.warning("withdraw: no tombstone yet: %s", error)
            else:
                self._unwritten.discard(name)

    def _ask(self, host: Host, name: str) -> None:
        """Return if the host does not hold the name; else raise DeliveryError, for nothing says that it was deleted."""
        if self._transport.head(host, name) is not None:
            raise DeliveryError(host.label, name, MISSING, permanent=True, untouched=True, ours=True)


class Async(Hybrid):
    """The same as hybrid, but the hosts are told in the background."""

    def sender(self, at_once: T, in_background: T) -> T:
        return in_background
