"""Links that are slow, far, lossy, shared, cut or frozen at their end, and a real nginx behind each.

    sweep     every rate with every number of uploads at once, in the clear and over TLS, on links that lose packets
              and are far, or are not, by TCP's usual congestion control and by cubic: every upload succeeds
    given up  a link that is cut, and a host that is frozen: the upload ends in time
    late      a sender is killed, or stopped, while the link is cut: what lay in its kernel is never carried out

Each point of the sweep moves as much as its link moves in SECONDS. How long each point took is a note of the figures.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from links import SENDER, Site, lacking, queued

from resto_wsgi.outbox.outbox import LATE
from resto_wsgi.transports.http import connecting

from .report import Figures

__all__ = ["run"]

TIMEOUT = 2.0  # seconds: the default of the settings
SECONDS = 7  # that the bytes of a point take at the rate of its link
RATES = (0.25, 1, 4, 16)  # Mbit/s
AT_ONCE = (1, 8, 32)  # uploads
KINDS = {  # seconds one way, and the share of packets that is lost
    "near": (0, 0),
    "lossy": (0, 0.02),
    "far": (0.15, 0),
    "far and lossy": (0.15, 0.02),
}
CONTROLS = ("usual", "cubic")
GIVEN_UP_WITHIN = 4 * TIMEOUT + 6  # seconds: what a frozen host's kernel still takes at 4 Mbit/s is among them
CUT_FOR = 25.0  # seconds for which a link is away, as measured where a request came 29.9 s late


def run(folder: str, *, seed: int) -> Figures:
    """Try them all; keeps its files in ``folder``."""
    figures = Figures("links", seed)
    if lacking():
        figures.skipped = f"a link needs {lacking()}"
        return figures
    begun = time.monotonic()
    chance = random.Random(seed)
    for rate, count, tls in itertools.product(RATES, AT_ONCE, (False, True)):
        _sweep(figures, folder, rate, count, tls, chance.choice(list(KINDS)), chance.choice(CONTROLS))
    for tls in (False, True):
        _is_given_up(figures, folder, "cut", lambda site: site.link.cut(), tls=tls)
        _is_given_up(figures, folder, "frozen", lambda site: site.signal(signal.SIGSTOP), tls=tls)
    for number in (signal.SIGKILL, signal.SIGSTOP):
        _is_not_late(figures, folder, number)
    figures.converged, figures.took = 0.0, time.monotonic() - begun
    return figures


@contextmanager
def _site(folder: str, **options: float) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(dir=folder) as own, Site(Path(own), timeout=TIMEOUT, **options) as site:  # type: ignore[arg-type]
        os.chmod(own, 0o755)
        yield site


def _sweep(figures: Figures, folder: str, rate: float, count: int, tls: bool, kind: str, control: str) -> None:
    """Send so many files at once; each has to arrive."""
    delay, loss = KINDS[kind]
    size = int(rate * 1e6 / 8 * SECONDS / count)
    usual = connecting.OPTIONS
    if control != "usual":
        connecting.OPTIONS = (*usual, (socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode()))
    try:
        with _site(folder, rate=rate, delay=delay, loss=loss) as site:
            begun = time.monotonic()
            errors = site.upload(count, size, tls=tls)
            took = time.monotonic() - begun
    finally:
        connecting.OPTIONS = usual
    name = f"{rate:g} Mbit/s, {count} at once, {kind}, {'TLS' if tls else 'clear'}, {control}"
    figures.operations += count
    figures.acknowledged += count - len(errors)
    figures.notes[name] = f"{size:,} bytes each, {took:.1f} s, {len(errors)} failed"
    figures.problems += [f"{name}: {error}" for error in errors]


def _is_given_up(figures: Figures, folder: str, kind: str, act: Callable[[Site], None], *, tls: bool) -> None:
    """Break it while a file is on its way."""
    with _site(folder, rate=4) as site:
        when: list[float] = []

        def break_it() -> None:
            when.append(time.monotonic())
            act(site)

        timer = threading.Timer(1.5, break_it)
        timer.start()
        errors = site.upload(1, 4_000_000, tls=tls)
        took = time.monotonic() - when[0]
        timer.join()
    name = f"{kind}, {'TLS' if tls else 'clear'}"
    figures.operations += 1
    figures.faults[kind] = figures.faults.get(kind, 0) + 1
    figures.refused += len(errors)
    figures.notes[name] = f"given up after {took:.1f} s: {errors[0].reason if errors else 'not at all'}"
    if not errors or took > GIVEN_UP_WITHIN:
        figures.problems.append(f"{name}: {figures.notes[name]}")


def _is_not_late(figures: Figures, folder: str, number: signal.Signals) -> None:
    """Kill or stop a sender while the link is cut, and look when it is back for as long as the outbox reckons with."""
    with _site(folder) as site:
        (path := Path(folder, "sent")).write_bytes(bytes(1000))
        command = [sys.executable, "-c", SENDER, str(path), site.host().url, str(site.certificate)]
        with site.link.near.entered():
            sender = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        with sender:
            assert sender.stdin is not None and sender.stdout is not None
            try:
                sender.stdout.readline()
                site.link.cut()
                sender.stdin.write("\n")
                sender.stdout.readline()
                time.sleep(1)
                lay = len(queued(site))
                sender.send_signal(number)
                time.sleep(CUT_FOR)
                left = len(queued(site))
                site.link.mend()
                time.sleep(LATE)
            finally:
                sender.kill()
        stored = [name for name in ("kept", "new") if Path(site.nginx.root, name).exists()]
    name = f"sender {number.name}"
    figures.operations += 2
    figures.faults[name] = 1
    figures.notes[name] = f"{lay} requests in the kernel, {left} of them {CUT_FOR:g} s later, {len(stored)} carried out"
    figures.resurrected += len(stored)
    if not lay or stored:
        figures.problems.append(f"{name}: {figures.notes[name]}")
