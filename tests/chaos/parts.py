"""Each part as a process of its own, so that one that hangs or leaks is ended and the others still run.

A part is told by SIGTERM to end, and ends then what it started; what is left of it after that is known by its
working directory, which lies in the folder that was made for the run, and is killed. The command calls ``main``, the
short form in the tests calls ``Run`` itself.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .model.broken import MUTANTS
from .model.plan import numbers
from .report import Figures, print_table
from .rig import TESTS, environment

__all__ = ["PARTS", "Run", "Sizes", "main"]

PARTS = ("simulation", "kill", "partitions", "disk", "outage", "links", "model")
MOUNTING = ("disk", "model")
END_WITHIN = 20.0  # seconds from SIGTERM to SIGKILL
LIMIT_SHORT, LIMIT_FULL = 150.0, 1800.0  # seconds for one part


@dataclass(frozen=True)
class Sizes:
    """How much each part does. ``seconds`` are of partitions; ``short`` leaves out what takes waiting.

    ``lines``, ``steps`` and ``mutants`` are the model's.
    """

    short: bool = False
    kills: int = 1000
    seconds: int = 180
    owed: int = 100_000
    histories: int = 2000
    model_seconds: int = 600
    lines: tuple[int, ...] = ()
    steps: tuple[int, ...] | None = None
    mutants: tuple[str, ...] = tuple(MUTANTS)

    @classmethod
    def small(cls) -> Sizes:
        return cls(True, 20, 12, 2000, 100, 25, mutants=())


class Run:
    """One part that runs in a process of its own; ``figures`` waits for what comes of it."""

    def __init__(self, part: str, seed: int, sizes: Sizes, *, keep: bool = False) -> None:
        self.part = part
        self.seed = seed
        self.folder = tempfile.mkdtemp(prefix=f"resto-chaos-{part}-")
        os.chmod(self.folder, 0o755)  # an nginx that gave up root serves files in it
        self._keep = keep
        self._limit = LIMIT_SHORT if sizes.short else LIMIT_FULL
        self._result = os.path.join(self.folder, "figures.json")
        self._log = os.path.join(self.folder, "log")
        mounts = _own_mounts(part)
        order = {"part": part, "seed": seed, "folder": self.folder, "sizes": vars(sizes), "own_mounts": bool(mounts)}
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [*mounts, sys.executable, os.path.join(TESTS, "chaos"), "--inside", json.dumps(order)],
                cwd=self.folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def figures(self) -> Figures:
        """Wait for the part to end, and return its figures; one that did not get that far is a failure."""
        try:
            status: object = self._process.wait(self._limit)
        except subprocess.TimeoutExpired:
            status = f"not ended within {self._limit:.0f} s"
            self._end()
        try:
            with open(self._result, encoding="utf-8") as file:
                return Figures(**json.load(file))
        except (FileNotFoundError, ValueError):
            return Figures(self.part, self.seed, problems=[f"no figures ({status}): {self._last_words()}"])

    def stop(self) -> None:
        """End what runs, and remove the files."""
        self._end()
        for pid in _with_directory_in(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._keep:
            print(f"{self.part}: see {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_WITHIN)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        with open(self._log, encoding="utf-8", errors="replace") as log:
            return " | ".join(log.read().strip().splitlines()[-6:])


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments say; return the exit status."""
    options = _parser().parse_args(arguments)
    if options.inside:
        return _inside(json.loads(options.inside))
    base = Sizes.small() if options.short else Sizes()
    given = {
        key: getattr(options, key)
        for key in ("kills", "seconds", "owed", "histories", "model_seconds", "lines", "steps")
    }
    sizes = Sizes(**{**vars(base), **{key: value for key, value in given.items() if value is not None}})
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    print(f"seed {seed}")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _exit)
    every = []
    for part in options.only or _available():
        print(f"{part} ...", end=" ", flush=True)
        begun = time.monotonic()
        with Run(part, seed, sizes, keep=options.keep) as run:
            every.append(run.figures())
        print(f"{time.monotonic() - begun:.0f} s", flush=True)
    print_table(every)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump([figures.as_mapping() for figures in every], file, indent=1)
    return int(any(figures.failed for figures in every))


def _inside(order: dict[str, Any]) -> int:
    """Do one part, in the process that ``Run`` started for it."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _exit)
    folder = order["folder"]
    figures = _do(order["part"], folder, order["seed"], Sizes(**order["sizes"]), order["own_mounts"])
    with open(os.path.join(folder, "figures.json.new"), "w", encoding="utf-8") as file:
        json.dump(figures.as_mapping(), file)
    os.replace(file.name, os.path.join(folder, "figures.json"))
    return 0


def _do(part: str, folder: str, seed: int, sizes: Sizes, own_mounts: bool) -> Figures:
    if part == "simulation":
        begun = time.monotonic()
        found = importlib.import_module("simulation").run(histories=sizes.histories, seed=seed)
        figures = Figures.from_mapping("simulation", seed, found)
        figures.took = figures.took or time.monotonic() - begun
        return figures
    if part == "kill":
        from . import kill

        return kill.run(folder, seed=seed, kills=sizes.kills, patient=not sizes.short)
    if part == "partitions":
        from . import partitions

        return partitions.run(folder, seed=seed, seconds=sizes.seconds, patient=not sizes.short)
    if part == "disk":
        from . import full_disk

        return full_disk.run(folder, seed=seed, own_mounts=own_mounts)
    if part == "links":
        from . import slow_links

        return slow_links.run(folder, seed=seed)
    if part == "model":
        return _model(folder, seed, sizes, own_mounts)
    from . import outage

    return outage.run(folder, seed=seed, count=sizes.owed)


def _model(folder: str, seed: int, sizes: Sizes, own_mounts: bool) -> Figures:
    from .model import part as model

    alone = sizes.steps is not None  # one history is looked at
    return model.run(
        folder,
        seed=seed,
        seconds=sizes.model_seconds,
        own_mounts=own_mounts,
        lines=sizes.lines,
        steps=sizes.steps,
        mutants=() if alone else sizes.mutants,
        patient=not sizes.short,
    )


def _available() -> list[str]:
    return [part for part in PARTS if part != "simulation" or importlib.util.find_spec("simulation")]


def _own_mounts(part: str) -> list[str]:
    """Return what to put before the command of a part that mounts: nothing of that is seen outside or stays."""
    return ["unshare", "--mount", "--propagation=private"] if part in MOUNTING and _may_mount() else []


def _may_mount() -> bool:
    program = shutil.which("unshare")
    return (
        program is not None
        and not subprocess.run(
            [program, "--mount", "--propagation=private", "true"], capture_output=True, check=False
        ).returncode
    )


def _with_directory_in(folder: str) -> list[int]:
    """Return the processes that work in a folder that was made for one run, so that they are of that run."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                if os.path.commonpath([os.readlink(f"/proc/{entry}/cwd"), folder]) == folder:
                    found.append(int(entry))
    return found


def _exit(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _part(text: str) -> list[str]:
    parts = text.split(",")
    if wrong := [part for part in parts if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is not one of {', '.join(PARTS)}")
    return parts


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(numbers(text)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("chaos", description="Break everything, and see that nothing is lost.")
    parser.add_argument("--short", action="store_true", help="what `make test` runs")
    parser.add_argument("--only", type=_part, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seed", type=int, help="draw what a run with this seed drew")
    parser.add_argument("--kills", type=int)
    parser.add_argument("--seconds", type=int, help="of partitions")
    parser.add_argument("--owed", type=int, help="deliveries in the outage")
    parser.add_argument("--histories", type=int, help="of the simulation")
    parser.add_argument("--model-seconds", type=int, help="of the model")
    parser.add_argument("--lines", type=_numbers, help="known defects whose events the model draws, too")
    parser.add_argument("--steps", type=_numbers, help="play these alone of one history of the model, such as 3,7-9")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    parser.add_argument("--keep", action="store_true", help="do not remove the files")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    return parser
