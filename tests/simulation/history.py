"""One history: a seed, and what it makes happen. Clients, faults, deaths; then everything is mended, and must converge.

    running       OPERATIONS operations begin, overlapping as they like; hosts, disk, clock and processes fail
    recovering    all is mended, one process is left or started, the operator syncs the hosts that lost files, and
                  its worker goes on until nothing is owed
    over          what hosts still do late is done; ``verdict`` compares

Everything is drawn from the seed, so that a history can be played again. This drives, ``verdict`` judges.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from resto_wsgi import names
from resto_wsgi.config import Settings
from resto_wsgi.errors import MediaRootError, OutboxError, RestoError
from resto_wsgi.hosts import Host
from resto_wsgi.replication.on_master import PROBE

from .disk import Disk
from .faults import Faults
from .kernel import Kernel, Stuck
from .network import VERY_LATE, Network, Server
from .operations import NOT_YET, Operation, explains, perform
from .plan import draw
from .product import Machine, ReplicatorProcess
from .vanishing import Vanishing

__all__ = ["OPERATIONS", "History"]

OPERATIONS = 50
HOSTS = ("x:80", "y:80", "z:80")
NAMES = ("a.txt", "b.txt", "folder/c.txt", "folder/d.txt")
LATE = 20.0  # seconds for which the product reckons with late requests
HOUR = 3601.0  # seconds
CONVERGED = 60.0 + LATE  # seconds after the last fault in which all must be equal


class History:
    """Plays one history. ``mutant`` breaks the product on purpose; ``options`` replaces what the seed would draw."""

    def __init__(self, seed: int, folder: str, mutant: Any = None, **options: Any) -> None:
        chance = self.chance = random.Random(seed)
        plan = self.plan = draw(chance, options)
        self.seed = seed
        self.mode: dict[str, Any] = plan["mode"]
        self.counts: Counter[str] = Counter()
        self.files_read = 0
        self.problems: list[str] = []
        self.operations: list[Operation] = []
        self.sent: dict[bytes, Operation] = {}
        self.phase = "running"
        self.converged_at = 0.0
        self.kernel = Kernel(chance)
        self.kernel.stickiness, self.kernel.stalls = plan["stickiness"], plan["stalls"]
        self.settings = Settings(media_root="/simulated", media_hosts=HOSTS, background=False, **self.mode)
        urls = [host.url for host in self.settings.hosts]
        self.network = Network(self.kernel, urls, self.counts, nodes=plan["nodes"])
        if plan["nodes"] or not self.distributed:  # elsewhere what hosts do is the truth, also if they do it too late
            self.network.very_late = plan["very_late"]
        self.network.under_way, self.network.unreliable = self._under_way, plan["unreliable"]
        self.disk = Disk(locks=chance.choice((3, 64)), refusals=plan["disk_refuses"])
        path = os.path.join(folder, "outbox.sqlite3")
        self.faults = Faults(self.kernel, self.network, self.disk, plan, path)
        self.machine = Machine(self.kernel, self.settings, self.disk, self.network, path, plan, mutant)
        self._processes: list[ReplicatorProcess] = []
        self._booted = 0
        self._clients = 0
        self._next_operation = 0.0
        self._next_fault = self._after(plan["fault_gap"])
        self.syncing = False
        self.syncs = 0
        self._vanishing = Vanishing(self)

    @property
    def distributed(self) -> bool:
        return self.mode["mode"] == "distributed"

    def play(self) -> None:
        """Play to the end. What is wrong is in ``problems``."""
        with self._seeded_names():
            try:
                for _ in range(self.plan["processes"]):
                    self._boot()
                self.kernel.run(self)
                self.kernel.flush()
            except Stuck as error:
                self.problems.append(str(error))
            finally:
                for outbox in self.machine.outboxes:
                    outbox.close()
        self.problems += [f"a defect: {defect}" for defect in self.kernel.defects]

    @contextlib.contextmanager
    def _seeded_names(self) -> Iterator[None]:
        """The random part of a name comes from the seed too."""
        original = names.random_token
        names.random_token = lambda: original(self.chance.choice, 6)
        try:
            yield
        finally:
            names.random_token = original

    # The driver of the kernel

    def tick(self) -> None:
        """Perhaps do something, before the next step of anybody."""
        if self.phase != "running":
            return
        chance, plan = self.chance, self.plan
        if plan["kills"] and chance.random() < plan["kills"]:
            self._kill()
        if chance.random() < plan["reads"]:
            self._look_at_a_host()
            self._look_at_the_master()
        if self.kernel.now >= self._next_fault:
            self._next_fault = self._after(plan["fault_gap"])
            self.faults.strike()
            self._vanishing.strike()
        if len(self.operations) < OPERATIONS:
            if self.kernel.now >= self._next_operation and self._clients < 5:
                self._next_operation = self._after(plan["operation_gap"])
                self._begin()
        elif not self._clients:
            self._recover()
        if self.faults.left_to_do and not self.syncing and chance.random() < 0.01:
            self._begin_sync()

    def abort(self) -> None:
        """Kill every process."""
        self.phase = "over"
        for process in self._processes:
            process.kill()

    def _after(self, mean: float) -> float:
        """A random moment from now on; the kernel comes by then."""
        moment = self.kernel.now + self.chance.expovariate(1 / mean)
        self.kernel.at(moment, "", lambda: None)
        return moment

    # Processes

    def _boot(self) -> ReplicatorProcess:
        self._booted += 1
        process = ReplicatorProcess(self.machine, self._booted)
        self._processes.append(process)
        leads = self.chance.random() < self.plan["lanes"]
        self.kernel.spawn(process, "boot", lambda: self._up(process, leads))
        return process

    def _up(self, process: ReplicatorProcess, leads: bool) -> None:
        while not self._started(process):
            self.kernel.sleep(1.0, "starts again in")
        if leads:
            for host in self.settings.hosts:
                self.kernel.spawn(process, f"lane {host.label}", lambda host=host: self._lane(process, host))

    def _started(self, process: ReplicatorProcess) -> bool:
        try:
            process.boot()
        except (MediaRootError, OutboxError) as error:
            self.kernel.note(f"does not start: {error}")
            return False
        return True

    def _lane(self, process: ReplicatorProcess, host: Any) -> None:
        """What the worker's threads do, with the same pauses; in several processes at once, which is harder."""
        assert process.replicator is not None
        while self.phase == "running":
            try:
                pause = process.replicator.worker.step(host)
                if self.chance.random() < 0.02:
                    process.replicator.sweep()
            except RestoError as error:
                self.kernel.note(f"worker: {error}")
                pause = 5.0
            self.kernel.sleep(min(pause, 1.0) if pause else 0.0, "lane: pause")

    def _alive(self) -> list[ReplicatorProcess]:
        return [process for process in self._processes if not process.dead and process.replicator is not None]

    def _kill(self) -> None:
        living = [process for process in self._processes if not process.dead]
        if living:
            process = self.chance.choice(living)
            self.network.count("kill -9")
            self.kernel.note(f"KILL {process.label}")
            process.kill()
            self._processes.remove(process)
            later = self.kernel.now + self.chance.choice((0.01, 0.5, 4.0))
            self.kernel.at(later, "a process starts", lambda: self._boot() if self.phase == "running" else None)

    # Operations

    def _begin(self) -> None:
        living = self._alive()
        if not living:
            return
        process = self.chance.choice(living)
        number = len(self.operations) + 1
        kinds = self.plan["kinds"]
        kind = self.chance.choices(list(kinds), list(kinds.values()))[0]
        operation = self.operation(number, kind, self._name())
        if self.chance.random() < 0.2:
            self.faults.back_up()
        self._clients += 1
        self.kernel.spawn(process, f"#{number}", lambda: self._client(process, operation))

    def operation(self, number: int, kind: str, name: str) -> Operation:
        content = None
        if kind not in ("delete", "read", "administrator removes"):
            content = f"{name} {number};".encode() * self.chance.choice((1, 3))
        steps = self.kernel.steps
        operation = Operation(number, kind, name, content, steps, NOT_YET)
        self.operations.append(operation)
        self.counts[kind] += 1
        if content is not None:
            self.sent[content] = operation
        return operation

    def _name(self) -> str:
        varied = [each.name for each in self.operations[-10:] if each.name not in NAMES]
        return self.chance.choice(NAMES[: self.plan["names"]] + tuple(varied[:1]))

    def _client(self, process: ReplicatorProcess, operation: Operation) -> None:
        assert process.replicator is not None
        try:
            perform(operation, process.replicator, self.kernel, self.told)
            if operation.told in ("refused", "withdrawn") and self.faults.away_at >= operation.begun:
                operation.told = "unknown"  # nobody can take back what is on a disk that is not there
            if operation.told == "read" and not self.faults.spoilt:
                self._check_read(operation)
        finally:
            self._clients -= 1

    def _check_read(self, read: Operation) -> None:
        if not explains(self.register(read.name), read.content, read.begun, read.ended):
            self.problems.append(f"stale read: {read} found {read.content!r}")

    def told(self, what: str) -> None:
        """The product said that it could not record something, so that the operator has to sync."""
        self.kernel.note(what)
        self.faults.unsynced.update(dict.fromkeys(self.network.servers, self.kernel.steps))

    def register(self, name: str) -> list[Operation]:
        """All operations on a name but reads; the killed saves that may have varied theirs to it are among them."""
        stem = name.partition(".")[0]
        return [
            each
            for each in self.operations
            if each.kind != "read"
            and (each.name == name or (each.told == "unknown" and stem.startswith(each.name.partition(".")[0])))
        ]

    # What readers see

    def _look_at_a_host(self) -> None:
        server = self.chance.choice(list(self.network.servers.values()))
        for name, content in server.files.items():
            self.check_sent(server.url, name, content)

    def _look_at_the_master(self) -> None:
        if not self.distributed and not self.problems:
            name = self.chance.choice(NAMES[: self.plan["names"]])
            inode = self.disk.files.get(name)
            self.check_explained(name, None if inode is None else inode.content)

    def check_explained(self, name: str, content: bytes | None) -> None:
        """Note a file that is not what the clients were told, as it is now."""
        register = self.register(name)
        if explains(register, content, self.kernel.steps, self.kernel.steps):
            return
        last = max((each for each in register if each.certain), key=lambda each: each.ended, default=None)
        kind = "lost" if last is not None and last.content is not None else "resurrected"
        when = f"at {self.kernel.now:.4f} s" if self.phase == "running" else "in the end"
        self.problems.append(f"{kind}: {name} is {content!r} {when}; the last that was acknowledged is {last}")

    def check_sent(self, where: str, name: str, content: bytes) -> None:
        """Note a torn or foreign file."""
        if name.startswith(PROBE):
            return
        self.files_read += 1
        operation = self.sent.get(content)
        if operation is None or not name.startswith(operation.name.partition(".")[0]):
            self.problems.append(f"torn: {where} has {content!r} as {name}")

    # What others do to the product

    def _under_way(self, server: Server, name: str) -> None:
        """Perhaps the administrator changes the master, under the hands of whoever is sending it.

        The host that is being sent the name has to notice; those that have it already cannot, so he syncs them.
        """
        if self.chance.random() >= self.plan["administrator"]:
            return
        if self.phase != "running" or self.distributed or self.disk.away or name.startswith(PROBE):
            return
        kind = self.chance.choice(("administrator removes", "administrator replaces"))
        operation = self.operation(len(self.operations) + 1, kind, name)
        operation.told, operation.ended = "acknowledged", operation.begun
        self.faults.change_by_hand(server, name, operation.content)
        self.network.count(kind)

    # The operator

    def _begin_sync(self) -> None:
        living = self._alive()
        if living:
            self.syncing = True
            process = self.chance.choice(living)
            self.kernel.spawn(process, "operator", lambda: self._sync(process))

    def _sync(self, process: ReplicatorProcess) -> None:
        """Sync the hosts that lost files, as their operator is told to; one whose sync fails is still to be synced."""
        assert process.replicator is not None
        try:
            for host in self.settings.hosts:
                lost = self.faults.unsynced.get(host.url)
                if lost is None or self.network.servers[host.url].weather != "up":
                    continue
                self.syncs += 1
                process.replicator.sync(host.label)
                if self.faults.unsynced.get(host.url) == lost:
                    del self.faults.unsynced[host.url]
            for url, name in sorted(self.faults.by_hand):
                process.outbox.owe(Host.of(url), [name])  # what a sync would find that lists the host
                self.faults.by_hand.discard((url, name))
            for name in sorted(self.faults.unsaid):
                self._vanishing.say_so(process.replicator, name)
        except RestoError as error:
            self.kernel.note(f"sync: {error}")
        finally:
            self.syncing = False

    # The end

    def _recover(self) -> None:
        """Mend all, leave one process, and let it bring everything home."""
        self.phase = "recovering"
        self.kernel.note("FAULTS STOP")
        self.faults.mend()
        self._vanishing.end()
        for files in (self.disk.files, *(server.files for server in self.network.servers.values())):
            for name in [name for name in files if name.startswith(PROBE)]:
                del files[name]
        self.machine.outbox_refuses = 0.0
        living = self._alive()
        survivor = self.chance.choice(living) if living and self.chance.random() < 0.5 else None
        for process in self._processes:
            if process is not survivor:
                process.kill()
        self._processes = [survivor] if survivor is not None else [self._boot()]
        process = self._processes[0]
        self.kernel.spawn(process, "the last worker", lambda: self._bring_home(process))

    def _bring_home(self, process: ReplicatorProcess) -> None:
        while process.replicator is None:
            self.kernel.sleep(0.1, "starts")
        rounds = 0
        while self._sync_what_can_be(process) or not rounds:  # in mode distributed never all hosts at the same time
            process.replicator.sweep()  # which owes a host that is new here what there is
            self._deliver_all(process, rounds)
            process.replicator.sweep()  # and finds that it has it
            rounds += 1
        self.converged_at = self.kernel.now
        if self.plan["nodes"] and not self.faults.generations_went_back:
            self._see_that_nodes_refuse_what_is_late()
        self._watch(process)
        self.kernel.sleep(HOUR, "the worker sweeps up each hour")
        process.replicator.sweep()
        self.phase = "over"

    def _see_that_nodes_refuse_what_is_late(self) -> None:
        """Compare our own nodes when all that is late has come, and before anybody looks again."""
        self.kernel.sleep(VERY_LATE, "what is late comes")
        first = next(iter(self.network.servers.values())).files
        expected = first if self.distributed else {name: each.content for name, each in self.disk.files.items()}
        for server in self.network.servers.values():
            if server.files != expected:
                self.problems.append(f"different: {server.url} carried out what was late: {server.files}")

    def _watch(self, process: ReplicatorProcess) -> None:
        """Let the worker look again, until nothing that was sent earlier can still be carried out."""
        assert process.replicator is not None
        end = self.kernel.now + HOUR + CONVERGED + self.faults.set_back
        while dues := [due for host in self.settings.hosts if (due := process.outbox.next_due(host)) is not None]:
            if self.kernel.now > end:
                self.problems.append("looked at again for ever")
                return
            self.kernel.sleep(max(min(dues) - self.kernel.clock(), 0.01), "worker: nothing is due")
            for host in self.settings.hosts:
                process.replicator.worker.step(host)

    def _sync_what_can_be(self, process: ReplicatorProcess) -> bool:
        """Sync the hosts that need it, as far as they can be filled now; return whether there was one."""
        lost = bool(self.faults.left_to_do)
        before = -1
        while lost and before != self.faults.left_to_do:
            before = self.faults.left_to_do
            self._sync(process)
        return lost

    def _deliver_all(self, process: ReplicatorProcess, rounds: int) -> None:
        assert process.replicator is not None
        limit = CONVERGED * (1 + rounds) + self.faults.set_back
        hosts = self.settings.hosts
        again = dict.fromkeys(self.settings.hosts, self.kernel.now)
        while process.outbox.owed(hosts):
            if self.kernel.now > self.network.last_fault + limit:
                self.problems.append(f"not converged {limit:g} s after the last fault")
                break
            if not process.outbox.owed(hosts, parked=False):
                self._vanishing.decide(process)
                process.outbox.nudge(hosts, parked=True)  # as resto drain --parked does once a refusal was mended
            host = min(again, key=lambda host: again[host])
            if again[host] > self.kernel.now:
                self.kernel.sleep(again[host] - self.kernel.now, "worker: pause")
            again[host] = self.kernel.now + min(process.replicator.worker.step(host), 1.0)
