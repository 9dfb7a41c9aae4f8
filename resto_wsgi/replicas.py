"""Reading from the hosts, where no master is kept (mode distributed), and filling one host from another.

A host is known to hold what it does not owe. Hosts are asked one after the other, the healthy ones first, and the next
one where one fails or has not got it, so that one dead host fails nobody; what it costs is one timeout. A file
is fetched whole before a byte of it is handed on: a host that dies under way is replaced by the next, and what the
caller gets can be read twice. The spool comes before all hosts, and is not looked at here. The replicator reads
through this, the convergence fills.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, NamedTuple, TypeVar

from . import breaker
from .errors import DeliveryError, ReplicationError
from .hosts import Host
from .media_root import MediaRoot
from .outbox import HostState, Outbox
from .staging import Staged
from .transports import Transport

__all__ = ["Copy", "Replicas"]

T = TypeVar("T")

FOLDER = frozenset({301, 308})  # what nginx, lighttpd and Apache answer where a folder is asked for without its slash


class Copy(NamedTuple):
    """A file fetched from a host, staged and whole; ``mtime`` in seconds since 1970."""

    staged: Staged
    mtime: float


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
        """Return the size in bytes, None where no host holds the name. Raises ReplicationError where none answers."""
        return self._first(name, list(self._holders(name)), lambda host: self._transport.head(host, name))

    def fetch(self, name: str) -> Copy | None:
        """Return a copy of the file, or None where no host holds it; the caller discards what is staged."""
        return self._fetch(name, list(self._holders(name)))

    def open(self, name: str) -> BinaryIO:
        """Open a copy of the file for reading. Raises FileNotFoundError, and ReplicationError where no host answers."""
        copy = self.fetch(name)
        if copy is None:
            raise FileNotFoundError(errno.ENOENT, "on no media server", name)
        try:
            return copy.staged.open()
        finally:
            copy.staged.discard()  # its bytes stay until the file is closed

    def listdir(self, folder: str) -> tuple[list[str], list[str]]:
        """Return the folders and files that were saved in ``folder``. Raises FileNotFoundError where none were."""
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

    def fill(self, host: Host, name: str) -> None:
        """Make ``host`` hold what another host holds. The caller holds the lock of the name. Raises DeliveryError."""
        holders = list(self._holders(name))
        if host in holders and self._transport.head(host, name) is not None:
            return
        try:
            copy = self._fetch(name, [each for each in holders if each != host])
        except ReplicationError as error:
            raise DeliveryError(host.label, name, f"to be filled from another: {error}", ours=True) from error
        if copy is None:
            raise DeliveryError(host.label, name, "no media server holds it any more", permanent=True, ours=True)
        try:
            with copy.staged.open() as file:
                self._transport.put(host, name, file, copy.staged.size, copy.mtime)
        finally:
            copy.staged.discard()

    def _holders(self, name: str) -> Iterator[Host]:
        """Yield the hosts that hold a name if anybody does, those first that are not known to be down.

        Where every host owes a name that was not deleted, its writer died before it changed anything: ask them all.
        A name with a tombstone is held by nobody, whatever a host may have that was away, or restored from a backup.
        """
        gone = self._outbox.is_gone(name)
        if gone:
            return
        owing = self._outbox.deliveries(name)
        states = self._outbox.host_states()
        now = self._clock()
        holders = [host for host in self._hosts if host.url not in owing]
        if not holders and gone is False:
            holders = list(self._hosts)
        last = [host for host in holders if _is_down(states.get(host.url), now)]
        yield from (host for host in holders if host not in last)
        yield from last

    def _fetch(self, name: str, hosts: Sequence[Host]) -> Copy | None:
        return self._first(name, hosts, lambda host: self._fetch_from(host, name))

    def _fetch_from(self, host: Host, name: str) -> Copy | None:
        staged = self._media_root.stage()
        try:
            mtime = self._transport.get(host, name, staged.write)
            staged.seal()
            if mtime is not None:
                os.utime(staged.path, (mtime, mtime))  # it keeps its age where it becomes the spool once more
        except BaseException as error:
            staged.discard()
            if isinstance(error, FileNotFoundError):
                return None
            raise
        return Copy(staged, self._clock() if mtime is None else mtime)

    def _first(self, name: str, hosts: Sequence[Host], ask: Callable[[Host], T | None]) -> T | None:
        """Return the first answer that is not None; None where all who answered have not got it.

        Raises ReplicationError where there were hosts to ask and not one answered, and where the name is one that
        hosts took: then one of those who did not answer has it.
        """
        known = self._outbox.is_gone(name) is False
        failures: dict[str, DeliveryError] = {}
        for host in hosts:
            try:
                found = ask(host)
            except DeliveryError as error:
                if error.status not in FOLDER or known:
                    failures[host.label] = error
                continue
            if found is not None:
                return found
        if failures and (known or len(failures) == len(hosts)):
            raise ReplicationError("read", name, failures, done=0, required=1)
        return None


def _is_down(state: HostState | None, now: float) -> bool:
    return state is not None and (state.state == "down" or breaker.is_paused(state, now))
