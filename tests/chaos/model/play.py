"""One history, from its start to its verdict.

    started ──> the steps, one by one ──> all is mended ──> a last look ──> what is owed is delivered ──> judged

Operations overlap, since nobody waits for one; faults are done in their turn. What happened is kept line by line, so
that a history that fails can be read. Whatever becomes of it, everything that it started is ended.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .belief import Belief
from .faults import Faults
from .look import look
from .plan import KINDS, History, Step
from .reader import Reader
from .site import PASSED_BY, Site
from .verdict import conclude, judge_what_is_left

__all__ = ["Outcome", "play"]


@dataclass
class Outcome:
    """What came of a history; ``log`` has a line for whatever happened, ``converged`` is in seconds."""

    seed: int
    problems: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    reads: int = 0
    converged: float = 0.0
    took: float = 0.0


def play(history: History, folder: str) -> Outcome:
    """Play a history in a folder of its own."""
    player = _Player(history, folder)
    try:
        player.play()
    except Exception:
        player.belief.problems.append(f"it broke off: {traceback.format_exc()}")
    finally:
        player.site.close()
    return player.outcome()


class _Player:
    """Plays one history, and keeps its log."""

    def __init__(self, history: History, folder: str) -> None:
        self.belief = Belief(history.seed, history.setup)
        self.site = Site(history.setup, folder, self.belief)
        self._history = history
        self._log: list[str] = []
        self._faults: Counter[str] = Counter()
        self._begun = time.monotonic()
        self._reads = 0
        self._converged = 0.0

    def play(self) -> None:
        faults = Faults(self.site)
        self.site.start()
        self._note("started")
        with Reader(self.site) as reader:
            for step in self._history.steps:
                time.sleep(step.pause)
                self._perform(step, faults)
            faults.mend()
            self._note("all is mended")
        self._reads = reader.reads
        self._note(f"the last look: {look(self.site)}")
        self._converged = conclude(self.site, faults)
        self._note("judged")
        judge_what_is_left(self.site)
        self._note("ended")

    def outcome(self) -> Outcome:
        return Outcome(
            seed=self._history.seed,
            problems=list(dict.fromkeys(self.belief.problems)),
            log=self._log,
            answers=dict(self.belief.answers),
            faults=dict(self._faults),
            reads=self._reads,
            converged=self._converged,
            took=time.monotonic() - self._begun,
        )

    def _perform(self, step: Step, faults: Faults) -> None:
        if step.kind in KINDS:
            self.site.operate(step, lambda told: self._note(f"{step} -> {told}"))
            return
        self._note(f"{step} ...")
        done = faults.do(step)
        if done != PASSED_BY and step.kind != "look":
            self._faults[_kind_of(step)] += 1
        self._note(f"{step} -> {done}")

    def _note(self, line: str) -> None:
        self._log.append(f"{time.monotonic() - self._begun:8.3f} {line}")


def _kind_of(step: Step) -> str:
    """What a fault is counted as."""
    details: dict[str, Any] = {"kill": "who", "freeze": "who", "link": "mode"}
    what = step.what.get(details.get(step.kind, ""))
    if isinstance(what, str) and what[0].isdigit():
        what = "server"
    return f"{step.kind}: {what}" if what else step.kind
