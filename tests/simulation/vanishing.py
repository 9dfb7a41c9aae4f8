"""Files that vanish from the master for some seconds, with the disk of their folder, and what an operator then says.

Clients who look meanwhile find nothing, as if an administrator had removed the file, and later as if he had put it
back: so both are operations of the history. A host that held some version when it vanished keeps one, and holds the
file again in the end, whatever it is owed and whoever looks meanwhile. One that held none says so when it is asked,
which settles what it is owed: then the operator owes it the file. Only if its name is used in between is the file lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from resto_wsgi.replication.modes import MISSING
from resto_wsgi.replication.on_master import PROBE
from resto_wsgi.replicator import Replicator

from .disk import Inode
from .operations import NOT_YET, perform
from .product import ReplicatorProcess

if TYPE_CHECKING:
    from .history import History

__all__ = ["Vanishing"]


class _Vanished(NamedTuple):
    """A file that is away; how many operations and syncs there were before, and which hosts had no version of it."""

    inode: Inode
    operations: int
    syncs: int
    without: set[str]


class Vanishing:
    """What has vanished in one history, and when it is back."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._vanished: dict[str, _Vanished] = {}

    def strike(self) -> None:
        """Perhaps let a file vanish whose name nobody is using."""
        history, chance, kernel = self._history, self._history.chance, self._history.kernel
        if history.distributed or history.disk.away or chance.random() >= history.plan["vanishes"]:
            return
        names = [name for name in sorted(history.disk.files) if not name.startswith(PROBE)]
        quiet = [name for name in names if not self._is_used(name, 0, NOT_YET)]
        if quiet:
            name = chance.choice(quiet)
            history.network.count("a file vanishes")
            history.faults.spoilt = True
            self._note("administrator removes", name, None)
            without = {url for url, server in history.network.servers.items() if name not in server.files}
            inode = history.disk.files.pop(name)
            self._vanished[name] = _Vanished(inode, len(history.operations), history.syncs, without)
            kernel.at(kernel.now + chance.expovariate(1 / 6), f"{name}: is back", lambda: self._come_back(name))

    def end(self) -> None:
        """Put everything back."""
        for name in list(self._vanished):
            self._come_back(name)

    def say_so(self, replicator: Replicator, name: str) -> None:
        """Delete a name that is gone by hand: without that no host would lose it."""
        history = self._history
        if name not in history.disk.files:
            operation = history.operation(len(history.operations) + 1, "delete", name)
            perform(operation, replicator, history.kernel, history.told)
            if operation.told != "acknowledged":
                return
        history.faults.unsaid.discard(name)

    def decide(self, process: ReplicatorProcess) -> None:
        """Delete what is parked since the master has it not: whoever withdrew it was killed before he could say so."""
        assert process.replicator is not None
        for host in self._history.settings.hosts:
            for delivery in process.outbox.owing(host, "", 100):
                if delivery.parked and delivery.reason == MISSING:
                    self.say_so(process.replicator, delivery.name)

    def _come_back(self, name: str) -> None:
        if name not in self._vanished:
            return
        history = self._history
        vanished = self._vanished.pop(name)
        if name in history.disk.files or self._is_used(name, vanished.operations):
            history.faults.unsaid.add(name)
            return
        self._note("administrator replaces", name, vanished.inode.content)
        history.disk.files[name] = vanished.inode
        history.network.last_fault = history.kernel.now
        missed = history.syncing or history.syncs != vanished.syncs  # by the walk of a sync
        history.faults.by_hand.update((url, name) for url in (history.network.servers if missed else vanished.without))

    def _note(self, kind: str, name: str, content: bytes | None) -> None:
        """Note an operation that took effect at this step. What the file holds was sent by another one."""
        operation = self._history.operation(len(self._history.operations) + 1, kind, name)
        operation.content, operation.told, operation.ended = content, "acknowledged", operation.begun

    def _is_used(self, name: str, since: int, until: int = 0) -> bool:
        """True where an operation from number ``since`` on may be about this name, and ends no sooner than that."""
        return any(
            name.startswith(each.name.partition(".")[0]) and each.ended >= until and each.kind != "read"
            for each in self._history.operations[since:]
        )
