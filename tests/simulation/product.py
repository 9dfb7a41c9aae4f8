"""The product in a simulated process: the real Replicator, convergence, lanes and outbox, on stand-ins.

The outbox is the real one on a real SQLite file that all processes of a history share, in a proxy that makes two
steps of each call: a process can die before and after it, never amid it, for that is SQLite's own promise. Nothing of
the product runs in a thread of its own here; the lanes of the worker are stepped by actors.
"""

from __future__ import annotations

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

NEVER_FAILS = frozenset({"close"})


@dataclass
class Machine:
    """What the processes of one history have in common. ``mutant`` breaks the product on purpose."""

    kernel: Kernel
    settings: Settings
    disk: Disk
    network: Network
    outbox_path: str
    plan: dict[str, Any]
    mutant: Any = None
    outboxes: list[Outbox] = field(default_factory=list)
    outbox_refuses: float = field(init=False)

    def __post_init__(self) -> None:
        self.outbox_refuses = self.plan["outbox_refuses"]

    def fanout(self, process: Process) -> Any:
        """Return the fan-out of a process: with threads, or one host after the other."""
        return ActorsFanout(self.kernel, process) if self.plan["threads"] else InlineFanout(self.kernel)


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
        if method in NEVER_FAILS or not machine.outbox_refuses:
            return
        if machine.kernel.chance.random() < machine.outbox_refuses:
            machine.network.count("the outbox refuses")
            raise OutboxError("the outbox", "no space left", "make some", full=True)


class InlineFanout:
    """The face of ``resto_wsgi.fanout.Fanout``, on the caller's thread, one host after the other, in any order."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def run(self, name: str, work: Callable[[Host], None], hosts: Iterable[Host]) -> Outcome:
        return {host.label: self._attempt(name, work, host) for host in self._shuffled(hosts)}

    def close(self) -> None:
        """Nothing is open."""

    def _shuffled(self, hosts: Iterable[Host]) -> list[Host]:
        ordered = list(hosts)
        self._kernel.chance.shuffle(ordered)
        return ordered

    def _attempt(self, name: str, work: Callable[[Host], None], host: Host) -> DeliveryError | None:
        """As the real one does, but that a defect is not logged: it makes the history fail."""
        try:
            work(host)
        except DeliveryError as error:
            return error
        except Exception as error:
            self._kernel.defect(host.label)
            return DeliveryError(host.label, name, f"not delivered: {type(error).__name__}")
        return None


class ActorsFanout(InlineFanout):
    """The same with an actor for each host, all at the same time, as the real one has threads."""

    def __init__(self, kernel: Kernel, process: Process) -> None:
        super().__init__(kernel)
        self._process = process

    def run(self, name: str, work: Callable[[Host], None], hosts: Iterable[Host]) -> Outcome:
        outcome: Outcome = {}
        ordered = self._shuffled(hosts)

        def attempt(host: Host) -> None:
            outcome[host.label] = self._attempt(name, work, host)

        for host in ordered:
            self._kernel.spawn(self._process, f"to {host.label}", lambda host=host: attempt(host))  # type: ignore[misc]
        self._kernel.wait_until(lambda: len(outcome) == len(ordered), f"waits for all hosts to take {name}")
        return outcome


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
            fanout=machine.fanout(self),
            clock=kernel.clock,
            sleep=kernel.sleep,
            chance=kernel.chance.random,
        )
        self.replicator = Replicator(machine.settings, parts=parts)

    def kill(self) -> None:
        """kill -9: locks are free, what was staged is gone, and its threads do nothing any more."""
        self.dead = True
        self.machine.disk.forget(self)
