"""The product in a simulated process: the real Replicator, convergence, lanes and outbox, on stand-ins.

The outbox is the real one on a real SQLite file that all processes of a history share, in a proxy that makes two
steps of each call: a process can die before and after it, never amid it, for that is SQLite's own promise. Nothing of
the product runs in a thread of its own here; the lanes of the worker are stepped by actors.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from resto_wsgi.config import Settings
from resto_wsgi.errors import DeliveryError, OutboxError
from resto_wsgi.outbox.notes import Notes
from resto_wsgi.outbox.outbox import Outbox
from resto_wsgi.replication.fanout import Ended, Task
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

    def fanout(self, process: Process, transport: Any) -> Any:
        """Return the fan-out of a process: all at once, or one task after the other."""
        if self.plan["threads"]:
            return ActorsFanout(self.kernel, transport, process)
        return InlineFanout(self.kernel, transport)


class SteppingOutbox:
    """The real outbox, or its notes, with a step around each call, and the trouble that the history asks for."""

    def __init__(self, machine: Machine, outbox: Outbox | Notes) -> None:
        self._machine = machine
        self._outbox = outbox

    def __getattr__(self, method: str) -> Any:
        kernel = self._machine.kernel
        real = getattr(self._outbox, method)
        if isinstance(real, Notes):
            return SteppingOutbox(self._machine, real)

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
    """The face of ``resto_wsgi.replication.fanout.Fanout``, on the caller's thread, one task after the other."""

    def __init__(self, kernel: Kernel, transport: Any) -> None:
        self._kernel = kernel
        self._transport = transport

    def run(self, tasks: Iterable[Task], ended: Ended, at_once: int, along: object = None) -> None:
        """Some tasks at a time, in any order, as the real one may send them."""
        iterator = iter(tasks)
        while batch := list(itertools.islice(iterator, at_once)):
            self._kernel.chance.shuffle(batch)
            for task in batch:
                ended(task, self._attempt(task), None)

    def do(self, task: Task) -> None:
        """One task, as the real one does it for work that does more than that."""
        if task.work is not None:
            task.work()
        elif task.master is None:
            self._transport.delete(task.host, task.name, task.version)
        else:
            master = task.master
            self._transport.put(task.host, task.name, master.file, master.size, master.mtime, task.version)

    def close(self) -> None:
        """Nothing is open."""

    def _attempt(self, task: Task) -> DeliveryError | None:
        """As the real one does, but that a defect is not logged: it makes the history fail."""
        try:
            self.do(task)
        except DeliveryError as error:
            return error
        except Exception as error:
            self._kernel.defect(task.host.label)
            return DeliveryError(task.host.label, task.name, f"not delivered: {type(error).__name__}", ours=True)
        return None


class ActorsFanout(InlineFanout):
    """The same with an actor for each task, all at the same time, as flights are and the real one's threads."""

    def __init__(self, kernel: Kernel, transport: Any, process: Process) -> None:
        super().__init__(kernel, transport)
        self._process = process

    def run(self, tasks: Iterable[Task], ended: Ended, at_once: int, along: object = None) -> None:
        under_way: set[Task] = set()
        todo: list[Task] = []
        iterator = iter(tasks)

        def attempt(task: Task) -> None:
            error = self._attempt(task)
            ended(task, error, None)
            under_way.discard(task)

        while True:
            todo.extend(itertools.islice(iterator, at_once - len(under_way)))
            if not todo and not under_way:
                return
            self._kernel.chance.shuffle(todo)
            while todo:
                task = todo.pop()
                under_way.add(task)
                label = f"to {task.host.label}: {task.name}"
                self._kernel.spawn(self._process, label, lambda task=task: attempt(task))  # type: ignore[misc]
            self._kernel.wait_until(lambda: len(under_way) < at_once, "waits for some delivery to end")


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
        for host in machine.settings.hosts:  # how that is found out is for the tests of ``on_master``
            outbox.notes.keep_on_master(host, False)
        outbox = SteppingOutbox(machine, outbox)
        transport: Any = SimulatedTransport(machine.network, kernel, self)
        if machine.mutant is not None:
            media_root, outbox, transport = machine.mutant.break_parts(self, media_root, outbox, transport)
        self.outbox = outbox
        parts = Parts(
            media_root=media_root,
            outbox=outbox,
            transport=transport,
            fanout=machine.fanout(self, transport),
            clock=kernel.clock,
            sleep=kernel.sleep,
            chance=kernel.chance.random,
        )
        self.replicator = Replicator(machine.settings, parts=parts)

    def kill(self) -> None:
        """kill -9: locks are free, what was staged is gone, and its threads do nothing any more."""
        self.dead = True
        self.machine.disk.forget(self)
