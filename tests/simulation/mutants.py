"""The product broken on purpose, at its seams, in some ways; the simulator has to see each of them.

A mutant wraps the parts that a process's Replicator stands on. No file of the product is edited and no method of it is
replaced: what it believes of its outbox, media root and transport is what is no longer true.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

from resto_wsgi.errors import DeliveryError
from resto_wsgi.hosts import Host
from resto_wsgi.master.media_root import Master

from .network import SimulatedTransport

__all__ = ["MUTANTS", "Mutant"]


class Wrapped:
    """Passes everything on to ``part``, but for what a subclass defines."""

    def __init__(self, part: Any) -> None:
        self.part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(self.part, name)


class Mutant:
    """One way to break the product. ``options`` make the history one in which that matters."""

    options: dict[str, Any] = {}  # noqa: RUF012 - each subclass has its own

    def break_parts(self, process: Any, media_root: Any, outbox: Any, transport: Any) -> tuple[Any, Any, Any]:
        """Return the parts that the Replicator of a process gets instead."""
        raise NotImplementedError


class SettlesBeforeTheAnswer(Mutant):
    """The delivery is settled when it is sent. Seen where the host fails: nothing is owed, and it stays different.

    A kill does the same: the next process finds nothing to do.
    """

    options = {"unreliable": 0.15, "kills": 1 / 1000}  # noqa: RUF012

    def break_parts(self, process: Any, media_root: Any, outbox: Any, transport: Any) -> tuple[Any, Any, Any]:
        class Settling(SimulatedTransport):
            def _change(self, host: Host, name: str, content: bytes | None, label: str, version: int) -> None:
                owed = outbox.deliveries(name).get(host)
                if owed is not None:
                    outbox.settle([owed])
                super()._change(host, name, content, label, version)

        return media_root, outbox, Settling(transport.network, transport.kernel, process)


class SkipsTheSecondLook(Mutant):
    """After sending, the master is believed to be what it was. Seen where somebody changes it meanwhile.

    Who does so without taking the lock is the administrator, with a file in MEDIA_ROOT; he syncs the other hosts, and
    the one that was being sent the file is promised to be seen to.
    """

    options = {"administrator": 0.1, "mode": {"mode": "hybrid", "required": "majority"}}  # noqa: RUF012

    def break_parts(self, process: Any, media_root: Any, outbox: Any, transport: Any) -> tuple[Any, Any, Any]:
        class Unseeing(Wrapped):
            def is_still(self, name: str, state: Any) -> bool:
                self.part.step(f"no second look at {name}")
                return True

        return Unseeing(media_root), outbox, transport


class Replays(Mutant):
    """The worker replays what was recorded, the content of the save or the delete, and does not look at the master.

    Seen where the operation was recorded and did not come to pass: it was withdrawn, or its process died before. And
    where an older one comes after a newer one, as in the queue of django_dust.
    """

    options = {"unreliable": 0.15, "kills": 1 / 1000, "threads": False}  # noqa: RUF012

    def __init__(self) -> None:
        self.recorded: dict[str, Any] = {}  # the operation of each name, as the queue of all processes has it

    def break_parts(self, process: Any, media_root: Any, outbox: Any, transport: Any) -> tuple[Any, Any, Any]:
        recorded = self.recorded

        class Queue(Wrapped):
            def publish(self, staged: Any, name: str) -> Any:
                recorded[name] = staged.inode
                return self.part.publish(staged, name)

            def replace(self, staged: Any, name: str) -> Any:
                recorded[name] = staged.inode
                return self.part.replace(staged, name)

            def remove(self, name: str) -> bool:
                recorded[name] = None
                removed: bool = self.part.remove(name)
                return removed

            def open(self, name: str) -> Master:
                if not _in_a_lane() or name not in recorded:
                    master: Master = self.part.open(name)
                    return master
                self.part.step(f"replay {name}")
                inode = recorded[name]
                if inode is None:
                    raise FileNotFoundError(name)
                return Master(io.BytesIO(inode.content), len(inode.content), inode.mtime, inode.state)

            def is_still(self, name: str, state: Any) -> bool:
                if not _in_a_lane() or name not in recorded:
                    return bool(self.part.is_still(name, state))
                self.part.step(f"replayed {name}")
                return True

        return Queue(media_root), outbox, transport


class DropsTheNameLock(Mutant):
    """Nobody waits for anybody. Seen where two write one name: what one puts back is not what he replaced.

    That two of them send to one host at a time is not seen so soon: each looks again after sending, and who finds the
    other's delivery begun has it made once more. So threads stall here, one name is written often, and hardly anything
    else goes wrong.
    """

    options = {  # noqa: RUF012
        "mode": {"mode": "async"},
        "kinds": {"overwrite": 3, "publish, withdraw": 2, "delete": 1, "save": 1},
        "operation_gap": 0.02,
        "processes": 3,
        "lanes": 1.0,
        "stalls": 0.1,
        "stickiness": 0.3,
        "names": 1,
        "reads": 0.1,
        "kills": 0.0,
        "unreliable": 0.0,
        "fault_gap": 15.0,
        "disk_refuses": 0.0,
        "outbox_refuses": 0.0,
        "mounted": True,
    }

    def break_parts(self, process: Any, media_root: Any, outbox: Any, transport: Any) -> tuple[Any, Any, Any]:
        class Unlocked(Wrapped):
            @contextlib.contextmanager
            def lock(self, name: str, wait: bool = True) -> Iterator[bool]:
                self.part.step(f"no lock of {name}")
                yield True

        return Unlocked(media_root), outbox, transport


class ForgetsTheTombstone(Mutant):
    """A delete leaves no sign. Seen in a host that was away and comes back with a file that was deleted meanwhile.

    Its operator syncs it, which owes it what there is and what was deleted, and nobody remembers the latter. In mode
    distributed the tombstone is the only sign of any delete, and the other hosts bring the file back.
    """

    options = {"fault_gap": 1.0, "mode": {"mode": "distributed", "fatal_exceptions": False}}  # noqa: RUF012

    def break_parts(self, process: Any, media_root: Any, outbox: Any, transport: Any) -> tuple[Any, Any, Any]:
        class Forgetful(Wrapped):
            def record(self, *args: Any, gone: bool = False, **keywords: Any) -> Any:
                return self.part.record(*args, **keywords)

            def entomb(self, name: str) -> None:
                """Nothing."""

        return media_root, Forgetful(outbox), transport


class DeletesWithoutEvidence(Mutant):
    """What is not on the master is deleted on the hosts. Seen when it is owed, and back there later."""

    options = {"vanishes": 1.0, "fault_gap": 0.3, "mode": {"mode": "async"}, "unreliable": 0.15}  # noqa: RUF012

    def break_parts(self, process: Any, media_root: Any, outbox: Any, transport: Any) -> tuple[Any, Any, Any]:
        class Sure(Wrapped):
            def is_gone(self, name: str) -> bool:
                self.part.is_gone(name)
                return True

        return media_root, Sure(outbox), transport


class LooksAgainOnce(Mutant):
    """What converged after an attempt that ended unknown is looked at after 20 s, and never again."""

    options = {"very_late": 1.0, "nodes": False, "unreliable": 0.35, "mode": {"mode": "async"}}  # noqa: RUF012

    def break_parts(self, process: Any, media_root: Any, outbox: Any, transport: Any) -> tuple[Any, Any, Any]:
        class Satisfied(Wrapped):
            def settle(self, done: Any, *arguments: Any) -> None:
                self.part.settle(done, *arguments)
                for delivery in done:
                    left = self.part.deliveries(delivery.name).get(delivery.host)
                    if left is not None and left.watched:
                        self.part.cancel([left._replace(fresh=True)])

        return media_root, Satisfied(outbox), transport


class SendsNoVersion(Mutant):
    """Our own nodes are told no versions. Seen where a request is late by minutes."""

    options = {"very_late": 1.0, "nodes": True, "unreliable": 0.35, "restores": 0.0}  # noqa: RUF012

    def break_parts(self, process: Any, media_root: Any, outbox: Any, transport: Any) -> tuple[Any, Any, Any]:
        class Silent(SimulatedTransport):
            def _change(self, host: Host, name: str, content: bytes | None, label: str, version: int) -> None:
                super()._change(host, name, content, label, 0)

        return media_root, outbox, Silent(transport.network, transport.kernel, process)


class StaysBelow(Mutant):
    """Who is refused since the host has a higher version leaves it at that. Seen after an outbox was restored."""

    options = {"nodes": True, "restores": 1.0, "fault_gap": 1.0}  # noqa: RUF012

    def break_parts(self, process: Any, media_root: Any, outbox: Any, transport: Any) -> tuple[Any, Any, Any]:
        class Humble(SimulatedTransport):
            def _error(self, host: Host, name: str, reason: str, **facts: Any) -> DeliveryError:
                return super()._error(host, name, reason, **{**facts, "outdone_by": None})

        return media_root, outbox, Humble(transport.network, transport.kernel, process)


def _in_a_lane() -> bool:
    label = threading.current_thread().name
    return "lane" in label or "worker" in label


MUTANTS: dict[str, Callable[[], Mutant]] = {
    "settle before the answer": SettlesBeforeTheAnswer,
    "skip the second look": SkipsTheSecondLook,
    "replay an operation": Replays,
    "drop the name lock": DropsTheNameLock,
    "forget the tombstone": ForgetsTheTombstone,
    "delete without evidence": DeletesWithoutEvidence,
    "look again once": LooksAgainOnce,
    "send no version": SendsNoVersion,
    "stay below": StaysBelow,
}
