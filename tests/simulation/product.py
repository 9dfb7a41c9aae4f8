"""The product in a simulated process: the real Replicator, convergence, lanes and outbox, on stand-ins.

The outbox is the real one on a real SQLite file that all processes of a history share, in a proxy that makes two steps of
each call: a process can die before and after it, never amid it, for that is SQLite's own promise. Nothing of the
product runs in a thread of its own here; the lanes of the worker are stepped by actors.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from resto_wsgi.config import Settings
from resto_wsgi.errors import DeliveryError, OutboxError
from resto_wsgi.fanout import Outcome
from resto_wsgi.hosts import Host
from resto_wsgi.outbox import Outbox
from resto_wsgi.replicator import Parts, Replicator

from .disk import Disk, MemoryMediaRoot
from .kernel import Kernel, Process
from .network import Network, SimulatedTransport

__all__ = ["Machine", "ReplicatorProcess", "SteppingOutbox"]

WRITES = frozenset({"record", "entomb", "claim", "settle", "release", "cancel", "postpone", "owe", "note_host"})


@dataclass
class Machine:
    """What the processes of one history have in common. ``mend`` breaks the product on purpose; see ``mutants``."""

    kernel: Kernel
    settings: Settings
    disk: Disk
    network: Network
    outbox_path: str
    counts: Counter[str]
    outbox_refuses: float = 0.0
    outboxes: list[Outbox] = field(default_factory=list)
    mutant: Any = None


class SteppingOutbox:
    """The real outbox, with a step before and after each call, and the trouble that the history asks for."""

    def __init__(self, machine: Machine, outbox: Outbox) -> None:
        self._machine = machine
        self._outbox = outbox

    def __getattr__(self, method: str) -> Callable[..., Any]:
        kernel = self._machine.kernel
        real = getattr(self._outbox, method)

        def call(*args: Any, **keywords: Any) -> Any:
            kernel.step(f"outbox: {method}")
            self._refuse(method)
            result = real(*args, **keywords)
            kernel.step(f"outbox: {method} is done")
            return self._items(result) if isinstance(result, Iterator) else result

        self.__dict__[method] = call
        return call

    def _items(self, result: Iterator[str]) -> Iterator[str]:
        for item in result:
            yield item
            self._machine.kernel.step("outbox: next name")

    def _refuse(self, method: str) -> None:
        machine = self._machine
        if method in WRITES and machine.outbox_refuses and machine.kernel.chance.random() < machine.outbox_refuses:
            machine.network.count("the outbox refuses")
            raise OutboxError("the outbox", "no space left", "make some", full=True)


class InlineFanout:
    """The face of ``resto_wsgi.fanout.Fanout``, on the caller's thread, one host after the other, in any order."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def run(self, name: str, work: Callable[[Host], None], hosts: Iterable[Host]) -> Outcome:
        ordered = list(hosts)
        self._chance.shuffle(ordered)
        outcome: Outcome = {}
        for host in ordered:
            outcome[host.label] = None
            try:
                work(host)
            except DeliveryError as error:
                outcome[host.label] = error
        return outcome

    def close(self) -> None:
        """Nothing is open."""


class ReplicatorProcess(Process):
    """One process of the application, with its own Replicator, once it is up."""

    def __init__(self, machine: Machine, number: int) -> None:
        super().__init__(f"p{number}")
        self.machine = machine
        self.outbox: Any = None
        self.replicator: Replicator | None = None

    def boot(self) -> None:
        """Start up; the actor that calls this may be killed at any step of it."""
        machine, kernel = self.machine, self.machine.kernel
        kernel.step("boot")
        media_root: Any = MemoryMediaRoot(machine.disk, kernel, self)
        outbox: Any = Outbox(machine.outbox_path, identity=media_root.identity, clock=kernel.clock)
        machine.outboxes.append(outbox)
        outbox = SteppingOutbox(machine, outbox)
        transport: Any = SimulatedTransport(machine.network, kernel, self)
        if machine.mutant is not None:
            media_root, outbox, transport = machine.mutant.break_parts(self, media_root, outbox, transport)
        self.outbox = outbox
        parts = Parts(
            media_root=media_root,
            outbox=outbox,
            transport=transport,
            fanout=InlineFanout(kernel.chance),  # type: ignore[arg-type]
            clock=kernel.clock,
            sleep=kernel.sleep,
            chance=kernel.chance.random,
        )
        self.replicator = Replicator(machine.settings, parts=parts)

    def kill(self) -> None:
        """kill -9: locks are free, what was staged is gone, and its threads do nothing any more."""
        self.dead = True
        self.machine.disk.forget(self)
