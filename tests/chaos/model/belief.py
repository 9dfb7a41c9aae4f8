"""What the clients of a history were told, and whether that and what they read can be true.

An operation is noted in the ledger before a process hears of it, and ended with the answer. A refusal promises that
nothing stays; but not where the disk of the master was away meanwhile, for nobody can take back what is on it.
Threads that read answers call this.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

from .. import bodies
from ..ledger import Effect, Ledger, Operation
from .plan import Step
from .setup import Setup

__all__ = ["AWAY", "FULL", "Belief"]

AWAY, FULL = "away", "full"
SAVES = frozenset({"save", "overwrite", "upload", "upload, refused", "upload, withdrawn"})
PATIENCE = 20.0  # seconds that an operation may take where nothing of its own process was stopped
AT_MOST = 120.0  # seconds: the same for all; with every host silent, and tries of each, it is some ten seconds


class Belief:
    """The ledger of one history, and the ``problems`` that its answers show."""

    def __init__(self, seed: int, setup: Setup) -> None:
        self.ledger = Ledger(f"m{seed}")
        self.problems: list[str] = []
        self.answers: Counter[str] = Counter()
        self.spoilt = 0  # hosts that have lost files and are not filled yet: where no master is kept, reads may be old
        self._seed = seed
        self._setup = setup
        self._lock = threading.Lock()
        self._troubles: list[tuple[str, list[float]]] = []  # of the master's disk: which, from, until

    def begin(self, step: Step) -> Operation:
        """Note an operation that is about to be sent, also one that reads."""
        name = step.what.get("name")
        if step.kind == "read":
            return Operation(name, None, time.monotonic())
        value = self.value_of(step) if step.kind in SAVES else None
        return self.ledger.begin(name, value, varied=step.kind == "save")

    def value_of(self, step: Step) -> str:
        """Return the id of the content that a step sends."""
        return f"m{self._seed}-{step.number}"

    def end(self, step: Step, operation: Operation, answer: dict[str, Any] | None, *, stopped: bool = False) -> str:
        """Note what the client was told, None where its process died; return it in words.

        ``stopped``: its process was stopped for a while, so that it had to wait.
        """
        effect = "no answer" if answer is None else answer["effect"]
        with self._lock:
            self.answers[effect] += 1
        if step.kind == "read":
            self._judge_read(step, operation, answer)
        else:
            self._end(step, operation, answer)
        if answer is not None:
            self._judge_answer(step, operation, answer, stopped)
        words = [effect, (answer or {}).get("name", ""), (answer or {}).get("error", "")]
        return ": ".join(word for word in words if word)

    def by_hand(self, name: str, value: str | None) -> Operation:
        """Note that somebody has put a file into the media root, or is about to."""
        return self.ledger.begin(name, value)

    def begin_trouble(self, kind: str) -> None:
        """The master's disk is AWAY or FULL from now on."""
        self._troubles.append((kind, [time.monotonic(), float("inf")]))

    def end_trouble(self, *kinds: str) -> None:
        """It is not any more."""
        now = time.monotonic()
        for kind, span in self._troubles:
            if kind in kinds:
                span[1] = min(span[1], now)

    def in_trouble(self, *kinds: str, since: float | None = None) -> bool:
        """True where the master's disk is away or full, or was at some time ``since`` then."""
        begun = time.monotonic() if since is None else since
        return any(kind in kinds and span[1] >= begun for kind, span in self._troubles)

    def _end(self, step: Step, operation: Operation, answer: dict[str, Any] | None) -> None:
        effect = Effect(answer["effect"]) if answer else Effect.PERHAPS
        if effect is Effect.NONE and self.in_trouble(*self._excuses(step), since=operation.begun):
            effect = Effect.PERHAPS
        name = answer.get("name") if answer and effect is Effect.DONE else None
        self.ledger.end(operation, effect, name=name)

    def _excuses(self, step: Step) -> tuple[str, ...]:
        """For what a refusal promises nothing: a withdrawal, too, has to be recorded first (line 17)."""
        withdraws = step.kind.startswith("upload") and 17 not in self._setup.lines
        return (AWAY, FULL) if withdraws else (AWAY,)

    def _judge_answer(self, step: Step, operation: Operation, answer: dict[str, Any], stopped: bool) -> None:
        took = time.monotonic() - operation.begun
        if not stopped and took > (PATIENCE if 6 in self._setup.lines else AT_MOST):
            self.problems.append(f"step {step.number} waited {took:.0f} s for its answer")
        if "defect" in answer:
            self.problems.append(f"step {step.number} raised what is not promised: {answer['defect']}")
        if 17 in self._setup.lines and step.kind == "delete" and answer.get("full"):
            self.problems.append(f"step {step.number}: a delete is refused on a full disk: {answer['error']}")

    def _judge_read(self, step: Step, read: Operation, answer: dict[str, Any] | None) -> None:
        if answer is None or answer["effect"] != "read" or self.spoilt:
            return
        if self.in_trouble(AWAY, since=read.begun):
            return
        assert read.name is not None
        value, legal = answer["value"], self.ledger.readable(read.name, read.begun, time.monotonic())
        if value == bodies.TORN:
            self.problems.append(f"torn: step {step.number} read part of {read.name}")
        elif value is not None and not self.ledger.was_sent(read.name, value):
            self.problems.append(f"unsent: step {step.number} read {value} as {read.name}")
        elif value not in legal:
            self.problems.append(f"stale: step {step.number} read {value} as {read.name}, it may be {legal}")
