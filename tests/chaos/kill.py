"""kill -9: gunicorn with three workers, three nginx, and clients that go on while any process dies at any moment.

    fault             what is killed                                what comes after it
    gunicorn worker   one of the three                              the master starts another
    gunicorn          the master, its workers a moment later        started again, with settings drawn anew
    nginx             master and worker of one of the three         started again within 3 s, on the same files
    nginx worker      the one that answers                          its master starts another

Everything that is drawn comes from the seed; what the machine makes of it does not.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import random
import time
from collections import Counter
from collections.abc import Sequence

from . import aftermath
from .clients import Crowd
from .judge import Verdict, judge, owed
from .ledger import Effect, Ledger
from .report import Figures
from .rig import Gunicorn, Nginx

__all__ = ["run", "take_clients"]

HOSTS = 3
WORKERS = 3
WEIGHTS = {"gunicorn worker": 60, "gunicorn": 8, "nginx": 25, "nginx worker": 7}
BETWEEN = (0.05, 0.6)  # seconds from one kill to the next
DOWN = (0.0, 3.0)  # seconds that an nginx is away
ORPHANS = (0.0, 0.3)  # seconds for which workers outlive their master
EPOCH = 20  # kills in which the names are the same
TIMEOUT = 2  # seconds without progress
REQUIRED = ("all", "majority", "majority", "1")
MODES = ("hybrid", "hybrid", "async")


def run(
    folder: str, *, seed: int, kills: int, patient: bool = False, modes: Sequence[str] = MODES, within: float = 60.0
) -> Figures:
    """Kill ``kills`` times; then see that everything is as it was promised. Keeps its files in ``folder``."""
    begun = time.monotonic()
    figures = Figures("kill -9", seed)
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(Nginx(os.path.join(folder, f"host-{number}"))) for number in range(HOSTS)]
        server = stack.enter_context(Gunicorn("chaos.application:application", folder, WORKERS))
        master, outbox = os.path.join(folder, "media"), os.path.join(folder, "media/.resto/outbox.sqlite3")
        ledger = Ledger(f"k{seed}")
        killer = _Killer(server, hosts, master, random.Random(seed), modes)
        killer.start_server()
        with Crowd(ledger, master, server.port, [host.port for host in hosts], seed) as crowd:
            for number in range(kills):
                crowd.epoch = number // EPOCH
                killer.kill_something()
            crowd.stop()
        killer.start_all()
        after = aftermath.wait_for_it(
            killer.latest,
            lambda: owed(outbox),
            lambda: judge(ledger, master, {host.url: host.root for host in hosts}, outbox),
            lambda: aftermath.ask_for_health(server.port),
            patient=patient,
            within=within,
        )
        figures.faults = dict(killer.faults)
    take_clients(figures, crowd, server)
    figures.converged = after.seconds
    figures.take(after.verdict)
    figures.took = time.monotonic() - begun
    return figures


def take_clients(figures: Figures, crowd: Crowd, server: Gunicorn) -> None:
    """Add what the clients did and saw, and what the application did not foresee."""
    outcomes = crowd.ledger.outcomes
    figures.operations = crowd.counts["operations"]
    figures.reads = crowd.counts["reads"]
    figures.acknowledged = outcomes[Effect.DONE.value]
    figures.refused = outcomes[Effect.NONE.value]
    figures.unanswered = outcomes[Effect.PERHAPS.value]
    figures.answers = dict(crowd.answers)
    figures.problems += [f"a client ended: {defect}" for defect in crowd.defects]
    figures.problems += [f"{count} answers {key}" for key, count in crowd.answers.items() if key.startswith("500")]
    if defects := server.defects():
        figures.problems.append(f"{len(defects)} defects in the log of the application, the first: {defects[0]}")
    figures.take(Verdict(lost=crowd.lost, torn=crowd.torn, unsent=crowd.unsent))
    if not figures.acknowledged or not figures.reads:
        figures.problems.append("nothing was acknowledged, or nothing read: this run shows nothing")


class _Killer:
    """Kills and starts again; ``latest`` is when the last process was killed, or was back."""

    def __init__(
        self, server: Gunicorn, hosts: Sequence[Nginx], master: str, chance: random.Random, modes: Sequence[str]
    ) -> None:
        self.faults: Counter[str] = Counter()
        self.latest = time.monotonic()
        self._server = server
        self._hosts = hosts
        self._master = master
        self._chance = chance
        self._modes = modes
        self._away: list[tuple[float, int]] = []  # when each nginx that is down comes back, and which it is
        self._kinds = {
            "gunicorn worker": self._kill_worker,
            "gunicorn": self._kill_server,
            "nginx": self._kill_host,
            "nginx worker": self._kill_host_worker,
        }

    def start_server(self) -> None:
        """Start gunicorn with settings that are drawn anew."""
        chance = self._chance
        settings = {
            "MEDIA_ROOT": self._master,
            "RESTO_MEDIA_HOSTS": " ".join(host.url for host in self._hosts),
            "RESTO_TIMEOUT": str(TIMEOUT),
            "RESTO_REQUIRED": chance.choice(REQUIRED),
            "RESTO_MODE": chance.choice(self._modes),
        }
        self._server.start(settings, threads=chance.random() < 0.7, preload=chance.random() < 0.5)

    def kill_something(self) -> None:
        """Kill something that runs, in a moment or so."""
        while True:
            self._wait(self._chance.uniform(*BETWEEN))
            (kind,) = self._chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
            if self._kinds[kind]():
                self.faults[kind] += 1
                self.latest = time.monotonic()
                return

    def start_all(self) -> None:
        """Have everything run again; what was down until now was a fault until now."""
        while self._away:
            self._wait(0, early=True)
            self.latest = time.monotonic()

    def _wait(self, seconds: float, *, early: bool = False) -> None:
        """Wait, and start each nginx whose time has come; ``early``: all of them."""
        ends = time.monotonic() + seconds
        while self._away and (early or self._away[0][0] <= ends):
            due, number = heapq.heappop(self._away)
            time.sleep(max(0.0, 0.0 if early else due - time.monotonic()))
            self._hosts[number].start()
        time.sleep(max(0.0, ends - time.monotonic()))

    def _kill_worker(self) -> bool:
        return self._server.kill_worker(self._chance)

    def _kill_server(self) -> bool:
        self._server.kill_master()
        self._wait(self._chance.uniform(*ORPHANS))
        self._server.kill()
        self.start_server()
        return True

    def _kill_host(self) -> bool:
        number = self._chance.randrange(len(self._hosts))
        if self._hosts[number].pid is None:
            return False
        self._hosts[number].kill()
        heapq.heappush(self._away, (time.monotonic() + self._chance.uniform(*DOWN), number))
        return True

    def _kill_host_worker(self) -> bool:
        return self._chance.choice(self._hosts).kill_worker()
