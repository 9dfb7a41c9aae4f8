"""Which hosts are members: a member is known to hold every name that it is not owed.

    new ── owed everything ──> joining ── nothing of that is owed any more ──> member
     ^                                                                           │
     └── the operator syncs it, or something is saved while it is not configured ┘

If nothing was saved yet on a site, all hosts are members, because there is nothing to hold. In mode distributed, reads
go to members alone if there are any, and a spool is dropped only when all hosts are members. A crash leaves a host new,
and it is owed everything once more. What a host is sent must not be decided here. The replicator calls this.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence

from ..hosts import Host
from ..master.media_root import MediaRoot
from ..master.walk import Tally
from ..outbox.outbox import Outbox
from .modes import Mode

__all__ = ["Membership"]

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
        members, joining = self._outbox.members(), self._outbox.joining()
        strangers = [host for host in self._hosts if host not in members and host not in joining]
        if strangers:
            self._mode.adopt()
        count = 0
        for host in strangers:  # owed first, admitted after: a crash in between leaves it new, and it is owed all again
            if owed := self._owe_all(host):
                log.info("%s is owed all that there is, %d names", host.label, owed)
            self._outbox.admit(host, joining=self._outbox.generation())
            count += owed
        for host, until in joining.items():
            if not self._outbox.owed([host], parked=False, until=until):
                self._outbox.admit(host)
        return count

    def renew(self, host: Host) -> int:
        """Owe a host everything, even if it is a member, and return how many names that is.

        Raises ConfigError if it would have to be filled from other hosts and none of them is a member.
        """
        self._mode.check_renewal(host)
        self._media_root.check_here()
        self._outbox.expel([host])
        return self.admit()

    def _is_new_site(self) -> bool:
        return next(self._media_root.names(), None) is None and next(self._outbox.names(), None) is None

    def _owe_all(self, host: Host) -> int:
        self._media_root.check_here()
        elsewhere = itertools.chain(self._mode.names_elsewhere(), self._outbox.tombstones())
        absent = (name for name in elsewhere if not self._media_root.exists(name))
        links = Tally()
        count = self._outbox.owe(host, itertools.chain(self._media_root.names(links.add), absent))
        self._media_root.check_here()  # it raises if the disk went away during the walk, which then found too little
        self._tell(links)
        return count

    def _tell(self, links: Tally) -> None:
        """Log which links are not followed, once for all hosts that are new: no host gets what is behind them."""
        told = str(links)
        if told and told != self._told:
            log.warning(
                "%s in the media root: not followed, so that nothing behind them is on a media server; "
                "put files and folders in their place, or name linked folders in RESTO_LINKED_FOLDERS",
                told,
            )
        self._told = told
