"""Histories in processes of their own, so that one that hangs is ended and leaves nothing: one, or many, two at a time.

An ``Order`` says which history; it is all that such a process is told. What the history leaves (processes, mounts,
files) is known by its folder, and removed. ``part`` plays them and makes figures of what comes of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..rig import environment
from .plan import STEPS, History, draw
from .play import Outcome, play

__all__ = ["Order", "play_apart", "play_many"]

AT_ONCE = 2  # histories: most of their time is waiting
ENDED_WITHIN = 300.0  # seconds for one history; most take ten


@dataclass(frozen=True)
class Order:
    """Which history is to be played: what it is drawn from (see ``plan.draw``), and which of its steps, None for all.

    It is played in a new folder in ``place``.
    """

    seed: int
    place: str
    mounts: bool
    lines: tuple[int, ...] = ()
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: Mapping[str, int] | None = None
    length: int = STEPS
    steps: tuple[int, ...] | None = None

    def history(self) -> History:
        """Draw it."""
        history = draw(
            self.seed,
            mounts=self.mounts,
            lines=frozenset(self.lines),
            given=self.given,
            weights=self.weights,
            length=self.length,
        )
        if self.steps is None:
            return history
        return history.only([step for step in history.steps if step.number in self.steps])


def play_apart(order: Order) -> Outcome:
    """Play a history in a process of its own, of which nothing is left."""
    folder = tempfile.mkdtemp(prefix=f"history-{order.seed}-", dir=order.place)
    os.chmod(folder, 0o755)  # an nginx that gave up root serves files in it
    result = os.path.join(folder, "outcome.json")
    command = [sys.executable, "-m", "chaos.model.runs", json.dumps(vars(order)), folder]
    try:
        with open(os.path.join(folder, "log"), "wb") as log:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment() | _share_of_ports(order.seed % AT_ONCE),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ENDED_WITHIN)
        if process.poll() is None:
            process.kill()
            process.wait()
        return _outcome(order, result, os.path.join(folder, "log"))
    finally:
        _end_all_in(folder)
        _unmount_all_in(folder)
        shutil.rmtree(folder, ignore_errors=True)


def play_many(first: Order, seconds: float) -> Iterator[Outcome]:
    """Play the histories of this seed and those after it, until time is up; each is yielded when it has ended."""
    ends = time.monotonic() + seconds
    seeds = iter(range(first.seed, first.seed + 1_000_000))

    def play_next() -> Outcome:
        return play_apart(dataclasses.replace(first, seed=next(seeds)))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        playing = [pool.submit(play_next) for _ in range(AT_ONCE)] if seconds > 0 else []
        while playing:
            outcome = playing.pop(0).result()
            if time.monotonic() < ends:
                playing.append(pool.submit(play_next))
            yield outcome


def _share_of_ports(number: int) -> dict[str, str]:
    """Have ports to itself that no history beside it takes while a server is down; see ``ports``."""
    worker, count = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    mine = int(worker.removeprefix("gw")) + count * number
    return {"PYTEST_XDIST_WORKER": f"gw{mine}", "PYTEST_XDIST_WORKER_COUNT": str(count * AT_ONCE)}


def _outcome(order: Order, result: str, log: str) -> Outcome:
    try:
        with open(result, encoding="utf-8") as file:
            return Outcome(**json.load(file))
    except (FileNotFoundError, ValueError):
        with open(log, encoding="utf-8", errors="replace") as file:
            words = " | ".join(file.read().strip().splitlines()[-6:])
        return Outcome(order.seed, [f"no outcome within {ENDED_WITHIN:.0f} s: {words}"])


def _end_all_in(folder: str) -> None:
    """Kill what works in this folder, which was made for one history."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                if os.path.commonpath([os.readlink(f"/proc/{entry}/cwd"), folder]) == folder:
                    os.kill(int(entry), signal.SIGKILL)


def _unmount_all_in(folder: str) -> None:
    """Unmount what is mounted in this folder, the last first."""
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        paths = [line.split()[1].encode().decode("unicode_escape") for line in mounts]
    for path in reversed([path for path in paths if path.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", path], check=False, capture_output=True)


def _inside(order: dict[str, Any], folder: str) -> None:
    """Play one history, in the process that ``play_apart`` started for it."""
    site = os.path.join(folder, "site")
    os.mkdir(site)
    outcome = play(Order(**order).history(), site)
    with open(os.path.join(folder, "new.json"), "w", encoding="utf-8") as file:
        json.dump(vars(outcome), file)
    os.replace(file.name, os.path.join(folder, "outcome.json"))


if __name__ == "__main__":
    _inside(json.loads(sys.argv[1]), sys.argv[2])
