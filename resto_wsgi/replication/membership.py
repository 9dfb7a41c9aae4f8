"""Which hosts are members: a member is known to hold every name that it is not owed.

    new ── owed everything ──> joining ── nothing of that is owed any more ──> member
     ^                                                                           │
     └── the operator syncs it, or something is saved while it is not configured ┘

If nothing was saved yet on a site, all hosts are members, because there is nothing to hold. In mode distributed, reads
go to members alone if there are any, and a spool is dropped only when all hosts are members. What a walk finds is owed
first, and what follows for the host is noted after it. A crash, or a walk that fails, leaves the host as it was before;
it is owed everything once more. A folder that cannot be listed is noted and tried again now and then: when it can be,
all hosts are owed what is in it. What a host is sent must not be decided here. The replicator calls this.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence

from ..errors import MediaRootError, counted
from ..hosts import Host
from ..master.media_root import MediaRoot
from ..master.walk import GONE, LINKS, SPECIAL, UNLISTED, Skipped, Tally
from ..outbox.outbox import Outbox
from .modes import Mode

__all__ = ["Membership"]

RENAME = (
    "which no media server gets; rename them, and have them found with `resto sync` "
    "(`resto status --skipped` shows them all)"
)
REMEDIES = {
    SPECIAL: "which are no files, so that no media server gets them",
    LINKS: (
        "not followed, so that nothing behind them is on a media server; "
        "put files and folders in their place, or name linked folders in RESTO_LINKED_FOLDERS"
    ),
    UNLISTED: (
        "so that no media server is owed what is in them; let the application's user list them, or mount their disks, "
        "and what is in them is found and owed by itself (lost+found can stay as it is)"
    ),
}

log = logging.getLogger("resto_wsgi")


class Membership:
    """The members among ``hosts``."""

    def __init__(self, media_root: MediaRoot, outbox: Outbox, hosts: Sequence[Host], mode: Mode) -> None:
        self._media_root = media_root
        self._outbox = outbox
        self._hosts = tuple(hosts)
        self._mode = mode
        self._told = ""
        if hosts and not outbox.members() and not outbox.joining() and self._is_new_site():
            for host in hosts:
                outbox.admit(host)

    def admit(self) -> int:
        """Owe everything to new hosts, make members of hosts that have it, and return how many names were owed anew.

        What a host refuses for good does not keep it out. Raises MediaRootError, OutboxError.
        """
        joining = self._outbox.joining()  # read first: who becomes a member in between is in both, and no stranger
        members = self._outbox.members()
        for host, until in joining.items():
            if not self._outbox.owed([host], parked=False, until=until):
                self._outbox.admit(host)
        count = self._owe_what_can_be_listed_now([host for host in self._hosts if host in members or host in joining])
        strangers = [host for host in self._hosts if host not in members and host not in joining]
        if strangers:
            self._mode.adopt()
        for host in strangers:
            if owed := self._fill(host):
                log.info("%s is owed all that there is, %s", host.label, counted(owed, "name"))
            count += owed
        return count

    def renew(self, host: Host) -> int:
        """Owe a host everything, even if it is a member, and return how many names that is.

        Raises ConfigError if it would have to be filled from other hosts and none of them is a member. If it fails
        later, the host is what it was before, and may be owed some of the names.
        """
        self._mode.check_renewal(host)
        self._mode.adopt()
        return self._fill(host)

    def _is_new_site(self) -> bool:
        """Return True if there is nothing that a host could lack, as far as can be seen."""
        tally = Tally()
        try:
            nothing = next(self._media_root.names(tally.add), None) is None
        except MediaRootError as error:
            log.warning("what the media root holds is not known, and so all media servers are new: %s", error)
            return False
        if nothing:
            self._tell(tally)
        return nothing and not tally.unlisted and next(self._outbox.names(), None) is None

    def _fill(self, host: Host) -> int:
        """Owe a host everything, and then note that it is a member as soon as it has that."""
        count = self._owe_all(host)
        self._outbox.admit(host, joining=self._outbox.generation())
        return count

    def _owe_all(self, host: Host) -> int:
        self._media_root.check_here()
        elsewhere = itertools.chain(self._mode.names_elsewhere(), self._outbox.tombstones())
        absent = (name for name in elsewhere if not self._media_root.exists(name))
        tally = Tally()
        count = self._outbox.owe(host, itertools.chain(self._media_root.names(tally.add), absent))
        self._media_root.check_here()  # it raises if the disk went away during the walk, which then found too little
        self._outbox.notes.keep_unlisted(self._outbox.notes.unlisted() | tally.unlisted)
        self._tell(tally)
        return count

    def _owe_what_can_be_listed_now(self, hosts: Sequence[Host]) -> int:
        """Owe these hosts what is in folders that could not be listed before; return how many names that is."""
        noted = self._outbox.notes.unlisted()
        mended = frozenset(folder for folder in noted if not self._is_unlisted(folder))
        if not mended:
            return 0
        self._mode.adopt()
        tally, count = Tally(), 0
        for host, folder in itertools.product(hosts, mended):
            try:
                count += self._outbox.owe(host, self._media_root.names(tally.add, folder=folder))
            except MediaRootError as error:  # noqa: PERF203 - one folder alone fails
                if error.errno not in GONE:
                    tally.add(Skipped(folder, UNLISTED))
        self._media_root.check_here()
        self._outbox.notes.keep_unlisted(noted - mended | tally.unlisted)
        log.info("folders that could not be listed can be now: what is in them is owed, %s", counted(count, "name"))
        return count

    def _is_unlisted(self, folder: str) -> bool:
        try:
            next(self._media_root.names(folder=folder), None)
        except MediaRootError as error:
            return error.errno not in GONE
        return False

    def _tell(self, tally: Tally) -> None:
        """Note and log what was passed over, once for all hosts that are new: no host gets it."""
        told = str(tally)
        if told != self._told:
            for kind in tally.kinds:
                log.warning("%s in the media root: %s", tally.text(kind), REMEDIES.get(kind, RENAME))
        self._told = told
        self._outbox.notes.keep_skipped(tally.counts)
