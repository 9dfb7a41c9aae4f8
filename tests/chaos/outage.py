"""A long outage: one host of three is away while very many deliveries are owed to it.

    variant    the host
    silent     takes connections and says nothing, a black hole
    refused    nobody listens

In both, with the same deliveries owed: the memory of this process grows by less than 32 MiB, ``status`` answers in
under 100 ms, and saves keep at least 0.8 of the speed that they have on a site of the same kind whose hosts are all
there, measured in turns. Then the host comes back, and the worker delivers all of it, memory still being looked at.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import statistics
import time
from collections.abc import Iterator

from resto_wsgi import Replicator
from resto_wsgi.hosts import Host
from resto_wsgi.outbox.outbox import Outbox

from . import aftermath, bodies
from .judge import judge, owed
from .ledger import Effect, Ledger
from .report import Figures
from .rig import Nginx

__all__ = ["run"]

HOSTS = 3
SIZE = 10_000  # bytes of what is saved
BATCH, TURNS = 5, 31  # saves in a turn, and turns of each site
TRIES = 3  # measurements of which one must do: what else this machine has to do comes and goes
TIMEOUT = 1  # second without progress
GROWTH = 32 * 1024  # KiB
STATUS_WITHIN = 0.1  # seconds
KEPT_SPEED = 0.8
BACK_WITHIN = 600.0  # seconds in which everything owed is delivered


def run(folder: str, *, seed: int, count: int, within: float = BACK_WITHIN) -> Figures:
    """Owe ``count`` deliveries to a host that is away. Keeps its files in ``folder``."""
    begun = time.monotonic()
    figures = Figures("outage", seed)
    with contextlib.ExitStack() as stack:
        before = stack.enter_context(_Site(os.path.join(folder, "before"), HOSTS, "b"))
        fewer = stack.enter_context(_Site(os.path.join(folder, "fewer"), HOSTS - 1, "f"))
        site = stack.enter_context(_Site(os.path.join(folder, "outage"), HOSTS, "o"))
        site.make_backlog(count)
        for each in (before, fewer, site):
            each.save_some()
        _Outage(figures, site, before, fewer, count).play(within)
    figures.took = time.monotonic() - begun
    return figures


class _Site:
    """A replicator with a worker in this process, and its hosts."""

    def __init__(self, folder: str, hosts: int, prefix: str) -> None:
        self.ledger = Ledger(prefix)
        self.master = os.path.join(folder, "media")
        self.outbox = os.path.join(self.master, ".resto", "outbox.sqlite3")
        self.hosts = [Nginx(os.path.join(folder, f"host-{number}")) for number in range(hosts)]
        self._prefix = prefix
        self._backlog = 0

    def __enter__(self) -> _Site:
        with contextlib.ExitStack() as stack:
            for host in self.hosts:
                stack.enter_context(host)
            self.replicator = stack.enter_context(
                Replicator(
                    media_root=self.master,
                    media_hosts=[host.url for host in self.hosts],
                    required="majority",
                    timeout=TIMEOUT,
                )
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def make_backlog(self, count: int) -> None:
        """Make small files on the master, and on every host but the last as if it had been sent there."""
        for name, value in self._names(count):
            path = os.path.join(self.master, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(bodies.make(value, 0))
            for host in self.hosts[:-1]:
                replica = os.path.join(host.root, name)
                os.makedirs(os.path.dirname(replica), exist_ok=True)
                os.link(path, replica)
        self._backlog = count

    def owe_backlog(self) -> None:
        outbox = Outbox(self.outbox)
        outbox.owe(Host.of(self.hosts[-1].url), (name for name, _ in self._names(self._backlog)))
        outbox.close()

    def note_backlog(self) -> None:
        """Enter it in the ledger, for the judge. Only now, because the ledger is large."""
        for name, value in self._names(self._backlog):
            self.ledger.end(self.ledger.begin(name, value), Effect.DONE)

    def save_some(self) -> float:
        """Save a batch; return how many a second."""
        begun = time.perf_counter()
        for _ in range(BATCH):
            value = self.ledger.new_value()
            operation = self.ledger.begin(f"saved/{value}.bin", value)
            self.replicator.save(f"saved/{value}.bin", bodies.make(value, SIZE))
            self.ledger.end(operation, Effect.DONE)
        return BATCH / (time.perf_counter() - begun)

    def _names(self, count: int) -> Iterator[tuple[str, str]]:
        for number in range(count):
            yield f"backlog/{number // 1000:03}/{number:06}.txt", f"backlog-{number}"


class _Outage:
    """Plays both variants and the return of the host, and notes what is not as promised."""

    def __init__(self, figures: Figures, site: _Site, before: _Site, fewer: _Site, count: int) -> None:
        self._figures = figures
        self._site = site
        self._before = before
        self._fewer = fewer
        self._count = count

    def play(self, within: float) -> None:
        figures, site, away = self._figures, self._site, self._site.hosts[-1]
        gc.collect()
        memory = _begin_to_measure()
        away.stop()
        with _silence(away.port):
            begun = time.perf_counter()
            site.save_some()
            figures.notes["first saves in the outage, s"] = round(time.perf_counter() - begun, 2)
            site.owe_backlog()
            self._measure("silent")
        self._measure("refused")
        figures.faults = {"outage: silent": 1, "outage: refused": 1, "owed to one host": self._owed()}
        self._expect(self._owed() >= self._count, f"only {self._owed()} deliveries were owed")
        away.start()
        back = time.monotonic()
        while self._owed() and time.monotonic() - back < within:
            time.sleep(0.2)
        figures.notes["drained after, s"] = round(time.monotonic() - back, 1)
        figures.notes["memory grew by, KiB"] = grown = _peak() - memory
        self._expect(grown < GROWTH, f"memory grew by {grown} KiB")
        self._judge(back, within)

    def _measure(self, variant: str) -> None:
        """Look at the speed and at the status, with the deliveries owed."""
        notes = self._figures.notes
        kept = self._speed(variant)
        for _ in range(TRIES - 1):
            kept = kept if kept >= KEPT_SPEED else self._speed(variant)
        self._expect(kept >= KEPT_SPEED, f"{variant}: saves keep {kept:.2f} of their speed")
        status = statistics.median(self._status_takes() for _ in range(21))
        notes[f"{variant}: status answers in, ms"] = round(status * 1000, 2)
        self._expect(status < STATUS_WITHIN, f"{variant}: status takes {status * 1000:.0f} ms")

    def _speed(self, variant: str) -> float:
        """Return the part of the speed before that saves have now: each turn is compared with those beside it."""
        turns = [(self._site.save_some(), self._before.save_some(), self._fewer.save_some()) for _ in range(TURNS)]
        kept = statistics.median(now / before for now, before, _ in turns)
        of_two = statistics.median(now / fewer for now, _, fewer in turns)
        now = statistics.median(now for now, _, _ in turns)
        said = f"{now:.0f} a second, {kept:.2f} of before, {of_two:.2f} of a site with two hosts"
        self._figures.notes[f"{variant}: saves"] = said
        return kept

    def _status_takes(self) -> float:
        begun = time.perf_counter()
        status = self._site.replicator.status()
        took = time.perf_counter() - begun
        self._expect(status.owed == self._owed(), f"status says that {status.owed} are owed, not {self._owed()}")
        self._expect(status.hosts[-1].state == "down", f"status says that the host is {status.hosts[-1].state}")
        return took

    def _owed(self) -> int:
        return self._site.replicator.status().owed

    def _judge(self, back: float, within: float) -> None:
        site, figures = self._site, self._figures
        site.note_backlog()
        after = aftermath.wait_for_it(
            back,
            lambda: owed(site.outbox)[:1],
            lambda: judge(site.ledger, site.master, {host.url: host.root for host in site.hosts}, site.outbox),
            lambda: None,
            within=within,
        )
        figures.converged = after.seconds
        figures.take(after.verdict)
        figures.operations = figures.acknowledged = site.ledger.outcomes[Effect.DONE.value] - self._count

    def _expect(self, well: bool, problem: str) -> None:
        if not well and problem not in self._figures.problems:
            self._figures.problems.append(problem)


@contextlib.contextmanager
def _silence(port: int) -> Iterator[None]:
    """Take connections on the port of a stopped server, as the kernel does for one that is too busy to accept."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(4096)
        yield


def _begin_to_measure() -> int:
    """Return the resident memory in KiB, and have the peak begin there."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _memory("VmRSS")


def _peak() -> int:
    return _memory("VmHWM")


def _memory(kind: str) -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(f"{kind}:"))
