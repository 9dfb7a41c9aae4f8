"""Partitions: a proxy between us and each host, switched at random while two processes save, overwrite and delete.

A switch is a fault that is counted by its mode; about half of the time a host can be reached. Storms take turns with
calms, in which hosts are asked again and names change hands before what is held arrives. In the end all pass, and what
a proxy still holds is delivered: the last of these is the last fault.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from . import aftermath
from .clients import Crowd
from .judge import judge, owed
from .kill import take_clients
from .ledger import Ledger
from .proxy import Proxy
from .report import Figures
from .rig import Gunicorn, Nginx, wait_until

__all__ = ["run"]

HOSTS = 3
PROCESSES = 2
BETWEEN = (0.05, 0.5)  # seconds from one switch to the next
PASS = 0.5  # how often a switch is one back to all is well
LATE = (0.5, 12.0)  # seconds; what comes later than 20 s after its sender gave up is not promised to be noticed
STORM, CALM = 4.0, 2.0  # seconds
DELAY = (0.01, 1.5)  # seconds, above the timeout too
TIMEOUT = 1  # second without progress
EPOCH = 4.0  # seconds in which the names are the same
PERIOD = 20.0  # seconds until the application is started again with settings drawn anew
REQUIRED = ("all", "majority", "majority", "1")
MODES = ("hybrid", "hybrid", "async")


def run(
    folder: str, *, seed: int, seconds: float, patient: bool = False, modes: Sequence[str] = MODES, within: float = 60.0
) -> Figures:
    """Switch for ``seconds``; then see that everything is as it was promised. Keeps its files in ``folder``."""
    begun = time.monotonic()
    figures = Figures("partitions", seed)
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(Nginx(os.path.join(folder, f"host-{number}"))) for number in range(HOSTS)]
        proxies = [stack.enter_context(Proxy(host.port)) for host in hosts]
        server = stack.enter_context(Gunicorn("chaos.application:application", folder, PROCESSES))
        master, outbox = os.path.join(folder, "media"), os.path.join(folder, "media/.resto/outbox.sqlite3")
        ledger = Ledger(f"p{seed}")
        network = _Network(server, proxies, master, random.Random(seed), modes)
        network.start_server()
        with Crowd(ledger, master, server.port, [host.port for host in hosts], seed) as crowd:
            network.switch(seconds, crowd)
            network.mend()
            crowd.stop()
        after = aftermath.wait_for_it(
            network.latest(),
            lambda: owed(outbox),
            lambda: judge(ledger, master, {host.url: host.root for host in hosts}, outbox),
            lambda: aftermath.ask_for_health(server.port),
            patient=patient,
            within=within,
        )
        figures.faults = dict(network.faults)
        figures.notes["connections that felt it"] = dict(sum((proxy.counts for proxy in proxies), Counter()))
    take_clients(figures, crowd, server)
    figures.converged = after.seconds
    figures.take(after.verdict)
    figures.took = time.monotonic() - begun
    return figures


class _Network:
    """The proxies, and the application whose only way to the hosts they are."""

    def __init__(
        self, server: Gunicorn, proxies: Sequence[Proxy], master: str, chance: random.Random, modes: Sequence[str]
    ) -> None:
        self.faults: Counter[str] = Counter()
        self._server = server
        self._proxies = proxies
        self._master = master
        self._chance = chance
        self._modes = modes
        self._mended = 0.0

    def start_server(self) -> None:
        """Start gunicorn with settings that are drawn anew."""
        settings = {
            "MEDIA_ROOT": self._master,
            "RESTO_MEDIA_HOSTS": " ".join(proxy.url for proxy in self._proxies),
            "RESTO_TIMEOUT": str(TIMEOUT),
            "RESTO_REQUIRED": self._chance.choice(REQUIRED),
            "RESTO_MODE": self._chance.choice(self._modes),
        }
        self._server.start(settings)

    def switch(self, seconds: float, crowd: Crowd) -> None:
        """Switch one proxy after the other until time is up, and start the application again now and then."""
        begun = time.monotonic()
        calm, restart = begun, begun + PERIOD
        while (now := time.monotonic()) < begun + seconds:
            crowd.epoch = int((now - begun) / EPOCH)
            time.sleep(self._chance.uniform(*BETWEEN))
            mode = _mode(self._chance)
            self._chance.choice(self._proxies).set(**mode)
            if now - calm > STORM:
                self._calm()
                calm = time.monotonic()
            if mode["kind"] != "pass":
                self.faults[f"{mode['kind']} {mode.get('direction', '')}".strip()] += 1
            if now > restart:
                restart += PERIOD
                self._server.stop()
                self.start_server()

    def _calm(self) -> None:
        for proxy in self._proxies:
            proxy.set("pass")
        time.sleep(CALM)

    def mend(self) -> None:
        """Let all pass, and have what is held delivered."""
        for proxy in self._proxies:
            proxy.set("pass")
        self._mended = time.monotonic()
        wait_until(lambda: not any(proxy.held for proxy in self._proxies), LATE[1] + 5, "a proxy holds on for ever")

    def latest(self) -> float:
        """Return when the last fault was, as time.monotonic tells it."""
        return max(self._mended, *(proxy.latest for proxy in self._proxies))


def _mode(chance: random.Random) -> dict[str, Any]:
    """Draw a mode."""
    if chance.random() < PASS:
        return {"kind": "pass"}
    kind = chance.choice(("refuse", "silent", "delay", "cut", "cut", "answer_then_cut", "late", "late"))
    mode: dict[str, Any] = {"kind": kind}
    if kind in ("delay", "late"):
        mode["seconds"] = chance.uniform(*(DELAY if kind == "delay" else LATE))
    if kind == "cut":
        mode["direction"] = chance.choice(("request", "reply"))
        mode["after"] = int(10 ** chance.uniform(0, 6 if mode["direction"] == "request" else 2.5))
    return mode
