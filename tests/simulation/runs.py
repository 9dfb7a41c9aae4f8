"""Many histories, on all processors: each is one seed, and can be played again alone."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from .history import History
from .verdict import judge, total

__all__ = ["play", "run"]

CHUNK = 10  # histories that a processor is given at a time
MEMORY = "/dev/shm"  # where a commit costs no disk


def play(seed: int, mutant: Any = None, **options: Any) -> tuple[dict[str, Any], History]:
    """Play one history; return its figures, and it."""
    log = logging.getLogger("resto_wsgi")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)  # what it logs are the faults that are made here
    where = MEMORY if os.path.isdir(MEMORY) else None
    try:
        with tempfile.TemporaryDirectory(prefix="resto-simulation-", dir=where) as folder:
            history = History(seed, folder, mutant, **options)
            history.play()
    finally:
        log.setLevel(level)
    return judge(history), history


def run(histories: int, seed: int, processors: int | None = None) -> dict[str, Any]:
    """Play histories with the seeds from ``seed`` on, and return their figures as one; failing ones are printed."""
    processors = processors or os.cpu_count() or 1
    seeds = range(seed, seed + histories)
    chunks = [seeds[start : start + CHUNK] for start in range(0, histories, CHUNK)]
    results: list[dict[str, Any]] = []
    context = multiprocessing.get_context("spawn")  # a fork of a process that has threads may hang
    with ProcessPoolExecutor(processors, mp_context=context) as pool:
        for played in pool.map(_play_chunk, chunks):
            results += played
            for result in played:
                for problem in result["problems"]:
                    print(f"seed {result['seed']} ({result['mode']}): {problem}", file=sys.stderr)
    return total(results)


def _play_chunk(seeds: range) -> list[dict[str, Any]]:
    return [play(seed)[0] for seed in seeds]
