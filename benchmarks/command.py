"""``python benchmarks``: reads the arguments, starts the media servers, and runs the rows turn by turn.

Everything that is started is ended, and every file of the run removed, however it ends. One turn runs each side of a
row once, in a fresh process, checks the bytes that arrived, and clears the hosts.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

from resto_wsgi.demo.stock import StockServer

from . import draining, end_to_end, intake, large, saving, untouched
from .machine import describe
from .process import Failed
from .report import Outcome, as_mapping, table
from .rows import OURS, Place, Row, spread
from .scale import FULL, QUICK, TINY, Scale

__all__ = ["main", "rows_of", "run_turn"]

FOLDER = "/var/tmp"  # by default: it is on a disk, which /tmp often is not
FAMILIES = (saving, large, intake, end_to_end, untouched, draining)


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    scale = TINY if options.tiny else QUICK if options.quick else FULL
    scale = dataclasses.replace(scale, turns=options.turns or scale.turns)
    rows = rows_of(scale)
    if options.list:
        for row in rows:
            print(f"{row.key:16} {row.title}")
        return 0
    try:
        chosen = _chosen(rows, [options.profile] if options.profile else options.only)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all is ended then, too
    with _place(options.folder, max((row.hosts for row in chosen), default=0)) as place:
        if options.profile:
            return _profile(chosen[0], place)
        machine = describe(place.folder)
        outcomes = _measure(chosen, place, scale)
    for key, value in machine.items():
        print(f"{key}: {value}")
    print(f"\n{table(outcomes)}")
    path = options.json or os.path.join(tempfile.gettempdir(), "benchmark.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(as_mapping(scale.name, scale.turns, machine, outcomes), file, indent=1)
    print(f"\nThe figures are in {path}")
    return 1 if any(outcome.problems for outcome in outcomes) else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Compare with what users would use instead.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small sizes and 3 turns, under a minute")
    size.add_argument("--tiny", action="store_true", help="what the test of this benchmark runs")
    parser.add_argument("--only", metavar="ROW[,ROW]", type=lambda text: text.split(","), help="these rows alone")
    parser.add_argument("--turns", type=int, metavar="N", help="runs of each side; 5, or 3 with --quick")
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--json", metavar="FILE", help="where the figures go")
    parser.add_argument("--folder", help=f"where all files of the run go; {FOLDER} by default")
    parser.add_argument("--profile", metavar="ROW", help="run our side of a row once, and print where its time goes")
    return parser.parse_args(arguments)


def rows_of(scale: Scale) -> list[Row]:
    return [row for family in FAMILIES for row in family.rows(scale)]


def _chosen(rows: list[Row], keys: Sequence[str] | None) -> list[Row]:
    if keys is None:
        return rows
    known = [row.key for row in rows]
    if unknown := [key for key in keys if key not in known]:
        raise ValueError(f"no row {', '.join(unknown)} at this scale; there are {', '.join(known)}")
    return [row for row in rows if row.key in keys]


@contextlib.contextmanager
def _place(folder: str | None, hosts: int) -> Iterator[Place]:
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(tempfile.TemporaryDirectory(prefix="resto-bench-", dir=folder or FOLDER))
        spread(path)
        servers = [
            stack.enter_context(StockServer("nginx", os.path.join(path, f"host-{number}"))) for number in range(hosts)
        ]
        yield Place(path, servers)


def _measure(rows: Sequence[Row], place: Place, scale: Scale) -> list[Outcome]:
    ends = time.monotonic() + scale.within
    outcomes = []
    for row in rows:
        outcome = Outcome(row, {side: [] for side in row.sides})
        outcomes.append(outcome)
        shared = os.path.join(place.folder, "shared")
        os.makedirs(shared)
        row.prepare(place, shared)
        for turn in range(scale.turns):
            if time.monotonic() > ends:
                outcome.problems.append(f"time was up after {turn} of {scale.turns} turns")
                break
            run_turn(outcome, place)
            if outcome.problems:
                break
            print(f"{row.key} {turn + 1}/{scale.turns}: {_progress(outcome)}", file=sys.stderr)
        place.throw(shared)
    return outcomes


def run_turn(outcome: Outcome, place: Place) -> None:
    """Run each side once. The first that fails, or whose bytes are wrong, ends the row."""
    for side, runs in outcome.runs.items():
        folder = os.path.join(place.folder, "run")
        os.makedirs(folder)
        try:
            figures = outcome.row.run(side, place, folder)
            problems = outcome.row.problems(side, figures, place, folder)
        except Failed as error:
            problems = [str(error)]
        else:
            runs.append(figures)
        finally:
            place.clear()
            place.throw(folder)
        if problems:
            outcome.problems += [f"{side}: {problem}" for problem in problems]
            return


def _progress(outcome: Outcome) -> str:
    return ", ".join(f"{side} {runs[-1]['seconds']:.2f} s" for side, runs in outcome.runs.items())


def _profile(row: Row, place: Place) -> int:
    folders = [os.path.join(place.folder, name) for name in ("shared", "run")]
    for folder in folders:
        os.makedirs(folder)
    row.prepare(place, folders[0])
    row.run(OURS, place, folders[1], profile=True)
    return 0
