"""Reading from the hosts if no master is kept (mode distributed), and filling one host from another.

A member (see ``Outbox.members``) is known to hold what it is not owed. Hosts are asked one after the other, the healthy
ones first. If one fails or has not got the name, the next is asked; so one dead host fails no read. A file is fetched
whole, and its SHA-256 compared, before a byte of it is handed on. So if a host dies under way, or was restored from an
old backup, the next one takes its place, and the caller can read the file twice. If no host holds the version that the
outbox noted, it is the outbox that is wrong (from an old backup, or another server wrote the name): the newest version
that a host holds is noted instead, so that the name can be read and replaced again. The spool is looked at before all
hosts. When a name is sent or dropped must not be decided here. Mode distributed calls this, for reads and to fill.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Sequence
from typing import BinaryIO, NamedTuple, TypeVar

from ..errors import DeliveryError, ReplicationError
from ..hosts import Host
from ..master.media_root import MediaRoot
from ..master.staged import Staged
from ..outbox.outbox import Outbox
from ..transports import Transport
from . import breaker
from .outcome import too_few

__all__ = ["Copy", "Replicas"]

T = TypeVar("T")

LOOKS = 3  # times that a name may move between the spool and the hosts while it is looked for

OTHER_VERSION = (
    "holds another version than was noted here; `resto sync` that host if it was restored from a backup; if no media "
    "server holds the noted one, the newest is taken as soon as all of them answer"
)

FOLDER = frozenset({301, 308})  # what nginx, lighttpd and Apache answer if a folder is asked for without its slash


log = logging.getLogger("resto_wsgi")


class Copy(NamedTuple):
    """A file fetched from a host, staged and whole; ``mtime`` in seconds since 1970."""

    staged: Staged
    mtime: float


class OtherVersion(DeliveryError):
    """A host holds the version ``held`` (SHA-256) of ``mtime``, and ``noted`` was expected."""

    def __init__(self, host: Host, name: str, *, noted: str, held: str, mtime: float) -> None:
        super().__init__(host.label, name, OTHER_VERSION, ours=True)
        self.noted = noted
        self.held = held
        self.mtime = mtime


class Replicas:
    """The copies on the hosts."""

    def __init__(
        self,
        media_root: MediaRoot,
        outbox: Outbox,
        transport: Transport,
        hosts: Sequence[Host],
        clock: Callable[[], float],
    ) -> None:
        self._media_root = media_root
        self._outbox = outbox
        self._transport = transport
        self._hosts = tuple(hosts)
        self._clock = clock

    def size(self, name: str) -> int | None:
        """Return the size in bytes, None if no host holds the name. Raises ReplicationError if none answers."""
        return self._look(name, self._media_root.size, lambda host: self._transport.head(host, name))

    def open(self, name: str) -> BinaryIO:
        """Return a copy of the file, open for reading.

        Raises FileNotFoundError, and ReplicationError if no host answers.
        """
        found = self._look(
            name, lambda spooled: self._media_root.open(spooled).file, lambda host: self._read(host, name)
        )
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "on no media server", name)
        return found

    def fetch(self, name: str) -> Copy | None:
        """Return a copy of the file, or None if no host holds it; the caller discards what is staged."""
        return self._first(name, lambda host: self._fetch_from(host, name))

    def listdir(self, folder: str) -> tuple[list[str], list[str]]:
        """Return the folders and files that were saved in ``folder``. Raises FileNotFoundError if none were."""
        prefix = f"{folder}/" if folder else ""
        try:
            folders, files = (set(found) for found in self._media_root.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            folders, files = set(), set()
        for name in self._outbox.names(prefix):
            entry, below, _ = name[len(prefix) :].partition("/")
            (folders if below else files).add(entry)
        if folder and not folders and not files:
            raise FileNotFoundError(errno.ENOENT, "no such folder", folder)
        return sorted(folders), sorted(files)

    def is_folder(self, name: str) -> bool:
        """Return True if files were saved below ``name``."""
        return next(self._outbox.names(f"{name}/"), None) is not None

    def fill(self, host: Host, name: str, version: int) -> None:
        """Make ``host`` hold what another host holds. The caller holds the lock of the name. Raises DeliveryError."""
        first, last = self._holders(name)
        if host in (*first, *last) and self._holds(host, name):
            return
        try:
            copy = self._first(name, lambda source: self._fetch_from(source, name), but=host)
        except ReplicationError as error:
            raise DeliveryError(host.label, name, f"to be filled from another: {error}", ours=True) from error
        if copy is None:
            raise DeliveryError(host.label, name, "no media server holds it any more", permanent=True, ours=True)
        try:
            with copy.staged.open() as file:
                self._transport.put(host, name, file, copy.staged.size, copy.mtime, version)
        finally:
            copy.staged.discard()

    def _holds(self, host: Host, name: str) -> bool:
        """Return True if the host has the name as it is to be; False also if it has another version."""
        try:
            copy = self._fetch_from(host, name)
        except DeliveryError as error:
            if error.ours:  # not the version that is known here: an earlier one arrived late, or came from a backup
                return False
            raise
        if copy is not None:
            copy.staged.discard()
        return copy is not None

    def _look(self, name: str, in_spool: Callable[[str], T], on_host: Callable[[Host], T | None]) -> T | None:
        """Return what the spool, or else the first host, says of a name; None if neither has it.

        Between the two looks a name may be spooled or dropped. If somebody may be at work on it, both are repeated.
        """
        for look in range(LOOKS):
            before = self._outbox.is_gone(name)
            with contextlib.suppress(FileNotFoundError):
                return in_spool(name)
            try:
                found = self._first(name, on_host)
            except ReplicationError as error:
                if error.failures or look + 1 == LOOKS:
                    raise
                continue  # all hosts owe it since, so that it is spooled
            if found is not None:
                return found
            if before is None and self._outbox.is_gone(name) is None:
                break
        return None

    def owing(self, name: str) -> set[Host]:
        """Return the hosts that are owed a name; one that is only watched has taken it."""
        return {host for host, delivery in self._outbox.deliveries(name).items() if not delivery.watched}

    def _is_vouched(self, name: str) -> bool:
        """Return True if some host is known to hold the name: if that host says that it does not, the name is gone."""
        return bool({*self._hosts} & self._outbox.members() - self.owing(name))

    def _read(self, host: Host, name: str) -> BinaryIO | None:
        copy = self._fetch_from(host, name)
        if copy is None:
            return None
        try:
            return copy.staged.open()
        finally:
            copy.staged.discard()  # its bytes stay until the file is closed

    def _holders(self, name: str) -> tuple[list[Host], list[Host]]:
        """Return the hosts that hold a name if any does, in two lists: the healthy ones, and those that are away.

        If every host is owed a name that was not deleted, its writer died before it changed anything: ask them all. Ask
        them all, too, if no host is a member, because then of none it is known what it holds. A name with a tombstone
        is held by no host, even if one has it that was away or was restored from a backup.
        """
        gone = self._outbox.is_gone(name)
        if gone:
            return [], []
        owing, members = self.owing(name), self._outbox.members()
        holders = [host for host in self._hosts if host in members and host not in owing]
        if not holders and (gone is False or not members):
            holders = [host for host in self._hosts if host in members] or list(self._hosts)
        states, now = self._outbox.host_states(), self._clock()
        last = [host for host in holders if breaker.is_away(states.get(host), now)]
        return [host for host in holders if host not in last], last

    def _fetch_from(self, host: Host, name: str) -> Copy | None:
        staged = self._media_root.stage(near=name)
        try:
            mtime = self._transport.get(host, name, staged.write)
            staged.seal()
            self._check(host, name, staged.sha256, mtime or 0.0)
            if mtime is not None:
                os.utime(staged.path, (mtime, mtime))  # so that it keeps its age if it becomes the spool once more
        except BaseException as error:
            staged.discard()
            if isinstance(error, FileNotFoundError):
                return None
            raise
        return Copy(staged, self._clock() if mtime is None else mtime)

    def _check(self, host: Host, name: str, held: str, mtime: float) -> None:
        if (noted := self._outbox.sha256(name)) and held != noted:
            raise OtherVersion(host, name, noted=noted, held=held, mtime=mtime)

    def _believe_hosts(self, name: str, failures: Sequence[DeliveryError]) -> bool:
        """Return True if no host holds the noted version, and the newest that one holds is noted instead.

        A host that failed in another way may hold the noted one, so then nothing is changed.
        """
        others = [error for error in failures if isinstance(error, OtherVersion)]
        if not others or len(others) < len(failures):
            return False
        newest = max(others, key=lambda other: other.mtime)
        changed = self._outbox.correct_digest(name, newest.noted, newest.held)  # only if nobody has noted it anew since
        if changed:
            log.warning(
                "no media server holds %r as it was noted here; the newest version, of %s, is taken", name, newest.host
            )
        return changed

    def _first(self, name: str, ask: Callable[[Host], T | None], but: Host | None = None) -> T | None:
        """Return the first answer that is not None; None if the hosts that answered have not got the name.

        If nobody here has saved the name, hosts that are down are asked only if no other answers. Raises
        ReplicationError if there were hosts to ask and not one answered. Raises it also if hosts are known to have
        taken the name: then one of those that did not answer has it.
        """
        known = self._outbox.is_gone(name) is False
        failures: dict[Host, DeliveryError] = {}
        answered = False
        for hosts in self._holders(name):
            if answered and not known:
                break
            for host in hosts:
                if host == but:
                    continue
                try:
                    found = ask(host)
                except DeliveryError as error:
                    if error.status not in FOLDER or known:
                        failures[host] = error
                    continue
                if found is not None:
                    return found
                answered = True
        if (known and not self._is_vouched(name)) or (failures and (known or not answered)):
            if self._believe_hosts(name, list(failures.values())):
                return self._first(name, ask, but)
            raise too_few("read", name, failures, done=0, required=1)
        return None
