"""What the modes do differently: with the master's copy of a name, a tombstone, a read, and when hosts are told.

    mode          MEDIA_ROOT holds    a save and a delete return        a name that is not in MEDIA_ROOT
    hybrid        the master          when enough hosts took it         is deleted where that is known, else asked for
    async         the master          when the master is durable        the same
    distributed   a spool             when enough hosts took it         is with the hosts (``distributed``)

A name that is not on the master was deleted if a tombstone says so, and by nothing else: its folder may be a mount
that is away, or a backup half restored. Without one its host is asked: 404 settles the delivery, and a host that has
the name keeps it, parked as MISSING, until the file is back or a person deletes it.

    what writes or voids a tombstone     killed before it                    killed after it
    a delete: with its deliveries        nothing has changed                 file and tombstone: the file counts
    a withdrawal: before its take back   the file stands                     the same
    ``stands``: what is there voids it   the same, until a settlement or     no tombstone
                                         the hourly sweep meets the name

If that of a withdrawal cannot be written, this process remembers it and tries again; killed before it succeeds, hosts
that still have the file park it.

One object of these classes is made by the replicator, and given to whoever would else have to ask which mode it is: the
publisher, the convergence, the membership. Nobody below the replicator knows the mode's name. What is common to all
modes, and when something is sent, must not live here.
"""

from __future__ import annotations

import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, ClassVar, TypeVar

from ..config import Settings
from ..errors import DeliveryError, MediaRootError, OutboxError
from ..hosts import Host
from ..master.media_root import MediaRoot
from ..master.publication import Publication
from ..outbox.outbox import Outbox
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

    Where nothing else is said, who calls a method with a name holds the lock of that name, and MediaRootError and
    OutboxError are raised. Names of methods that read are those of ``Replicator``.
    """

    keeps: ClassVar[str]  # as the outbox notes it: one that was made where the other is kept says nothing of the rest
    marks_saves: ClassVar[bool]  # whether a save, too, is recorded with a tombstone, until hosts are known to hold it

    def __init__(self, hosts: Sequence[Host], media_root: MediaRoot, outbox: Outbox, transport: Transport) -> None:
        self._hosts = frozenset(hosts)
        self._media_root = media_root
        self._outbox = outbox
        self._transport = transport

    @classmethod
    @abstractmethod
    def check(cls, settings: Settings) -> None:
        """Raise ConfigError where these settings contradict the mode."""

    @classmethod
    @abstractmethod
    def of(
        cls, settings: Settings, media_root: MediaRoot, outbox: Outbox, transport: Transport, clock: Callable[[], float]
    ) -> Mode:
        """Return the mode for what it may need."""

    # Reads, without a lock

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open a copy for reading."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """True where there is a file of this name."""

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
        """True where, as far as is known without asking a host, there is a file of this name."""

    # Changes

    def sender(self, at_once: T, in_background: T) -> T:
        """Return which of the two a save and a delete are sent by."""
        return at_once

    @abstractmethod
    def is_taken(self, name: str) -> bool:
        """True where a save of this name would replace something."""

    @abstractmethod
    def recall(self, name: str) -> None:
        """Have what is about to be replaced where it can be put back from. Raises ReplicationError."""

    @abstractmethod
    def check_no_folder(self, name: str) -> None:
        """Raise NameRejected where the name is a folder."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove the master's copy, durably; there may be none."""

    @abstractmethod
    def is_unchanged(self, name: str) -> bool:
        """True where a removal that failed has left the name as it was; without a lock."""

    @abstractmethod
    def entomb_new(self, publication: Publication) -> None:
        """Leave a tombstone for a publication that is about to be taken back and replaced nothing."""

    @abstractmethod
    def stands(self, name: str) -> None:
        """Void a tombstone that is older than what MEDIA_ROOT holds; no matter if that fails, it is tried again."""

    @abstractmethod
    def prune(self, name: str) -> None:
        """Remove folders that a name which was taken back leaves empty, where they are not to stay."""

    @abstractmethod
    def drop(self, name: str) -> None:
        """Let go of a copy that is not needed any more, where it is not to stay; no matter if that fails."""

    @abstractmethod
    def keep(self, publication: Publication) -> None:
        """Do what is to be done when nobody will take a publication back any more; without a lock."""

    # Deliveries

    @abstractmethod
    def absent(self, host: Host, name: str) -> Task | None:
        """Return what makes a host match where MEDIA_ROOT, which is there, has no such name; None for nothing."""

    @abstractmethod
    def settled(self, names: Iterable[str]) -> None:
        """Do what is to be done when some host has come to match in these names."""

    @abstractmethod
    def sweep(self) -> None:
        """Do what was left undone by those who were killed; without a lock."""

    # Hosts that come and go

    @abstractmethod
    def adopt(self) -> None:
        """Note what lies in MEDIA_ROOT and this outbox does not know of; without a lock."""

    @abstractmethod
    def names_elsewhere(self) -> Iterator[str]:
        """Yield the names whose files may be with the hosts alone."""

    @abstractmethod
    def check_renewal(self, host: Host) -> None:
        """Raise ConfigError where a host that holds nothing could not be given what it is to hold."""


class Hybrid(Mode):
    """The master is on the local disk, and is the truth: what is not there is to be nowhere."""

    keeps = "a master"
    marks_saves = False

    def __init__(self, hosts: Sequence[Host], media_root: MediaRoot, outbox: Outbox, transport: Transport) -> None:
        super().__init__(hosts, media_root, outbox, transport)
        self._unwritten: set[str] = set()  # names that were withdrawn, and whose tombstones could not be written

    @classmethod
    def check(cls, settings: Settings) -> None:
        """A master goes with all of them."""

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
        """The media root keeps what it replaces by itself."""

    def check_no_folder(self, name: str) -> None:
        self._media_root.check_no_folder(name)

    def remove(self, name: str) -> None:
        self._media_root.remove(name)
        self._media_root.check_here()  # else it is there, and only its disk is away

    def is_unchanged(self, name: str) -> bool:
        return self._media_root.exists(name)  # else only the fsync of its folder failed

    def entomb_new(self, publication: Publication) -> None:
        name = publication.name
        if not self._media_root.keeps_previous(publication):
            self._unwritten.add(name)
            self._write_tombstone(name)

    def stands(self, name: str) -> None:
        try:
            if (name in self._unwritten or self._outbox.is_gone(name)) and self._media_root.exists(name):
                self._unwritten.discard(name)
                self._outbox.exhume(name)
        except (MediaRootError, OutboxError) as error:
            log.warning("a tombstone stays of a name that may be there: %s", error)

    def prune(self, name: str) -> None:
        """Empty folders stay."""

    def drop(self, name: str) -> None:
        """The master stays."""

    def keep(self, publication: Publication) -> None:
        """The master stays."""

    def absent(self, host: Host, name: str) -> Task | None:
        self._write_tombstone(name)
        if name in self._unwritten or self._outbox.is_gone(name):
            return Task(host, name)
        return Task(host, name, work=lambda: self._ask(host, name))

    def settled(self, names: Iterable[str]) -> None:
        for name in names:
            self.stands(name)

    def sweep(self) -> None:
        """Void tombstones of what is there again: saved by a server with another outbox, or put back by a person."""
        for name in itertools.chain(list(self._unwritten), self._outbox.tombstones()):
            if name in self._unwritten or self._media_root.exists(name):
                with self._media_root.lock(name, wait=False) as held:
                    if held:
                        self.stands(name)
                        self._write_tombstone(name)

    def adopt(self) -> None:
        """Whatever lies there is the master."""

    def names_elsewhere(self) -> Iterator[str]:
        return iter(())

    def check_renewal(self, host: Host) -> None:
        """The master has everything."""

    def _write_tombstone(self, name: str) -> None:
        """Write the tombstone of a withdrawal that has none yet; if that fails it is tried again."""
        if name in self._unwritten:
            try:
                self._outbox.entomb(name)
            except OutboxError as error:
                log.warning("withdraw: no tombstone yet: %s", error)
            else:
                self._unwritten.discard(name)

    def _ask(self, host: Host, name: str) -> None:
        """Return if the host does not hold a name of whose delete nothing is known; raise DeliveryError else."""
        if self._transport.head(host, name) is not None:
            raise DeliveryError(host.label, name, MISSING, permanent=True, untouched=True, ours=True)


class Async(Hybrid):
    """The same, but the hosts are told in the background."""

    def sender(self, at_once: T, in_background: T) -> T:
        return in_background
