"""The model as a part of the chaos harness: histories for some minutes, then the product broken in every known way.

Of the first history that fails, the steps that it does not need are left out, as far as there is time for that; what is
left is told with how to repeat it. A way to break the product that is not seen within a minute is a problem too, and so
is one that is seen in a history in which the sound product fails as well.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence

from ..report import COUNTED, Figures
from .broken import MUTANTS
from .plan import ranges
from .play import Outcome
from .runs import Order, play_apart, play_many
from .shrink import kinds_of, shrink

__all__ = ["CAUGHT_WITHIN", "catch", "run"]

CAUGHT_WITHIN = 60.0  # seconds
SHRINK_FOR = 120.0  # seconds
TOLD = 12  # problems of a history that are told
UNMOUNTED = "full disks and folders that are not mounted: be root, with unshare --mount"


def run(
    folder: str,
    *,
    seed: int,
    seconds: float,
    own_mounts: bool,
    lines: Sequence[int] = (),
    steps: Sequence[int] | None = None,
    mutants: Sequence[str] = (),
    patient: bool = False,
) -> Figures:
    """Play histories from ``seed`` on for so many seconds; or, with ``steps``, only those of one history.

    ``lines`` are known defects whose events are drawn too, ``mutants`` the ways in which the product is broken after
    that. ``patient``: there is time to look for the fewest steps of what fails.
    """
    begun = time.monotonic()
    figures = Figures("model", seed)
    order = Order(seed, folder, own_mounts, tuple(lines), steps=None if steps is None else tuple(steps))
    if steps is not None:
        outcomes = [play_apart(order)]
        figures.story += [str(order.history().setup), *outcomes[0].log]
    else:
        outcomes = list(play_many(order, seconds))
    _take(figures, outcomes)
    failed = [outcome for outcome in outcomes if outcome.problems]
    if failed and steps is None:
        figures.story += _story(dataclasses.replace(order, seed=failed[0].seed), failed[0], patient)
    for name in mutants:
        _try_mutant(figures, name, order, patient)
    if not own_mounts:
        figures.notes["left out"] = UNMOUNTED
    figures.took = time.monotonic() - begun
    return figures


def catch(name: str, order: Order) -> tuple[float, Outcome | None, Order]:
    """Play histories of a broken product until one fails; return the seconds, what came of that one, and its order."""
    mutant, begun = MUTANTS[name], time.monotonic()
    given = {**mutant.given, "broken": name}
    broken = dataclasses.replace(order, given=given, weights=dict(mutant.weights), lines=mutant.lines)
    for outcome in play_many(broken, CAUGHT_WITHIN):
        if outcome.problems:
            return time.monotonic() - begun, outcome, dataclasses.replace(broken, seed=outcome.seed)
    return time.monotonic() - begun, None, broken


def _try_mutant(figures: Figures, name: str, order: Order, patient: bool) -> None:
    seconds, outcome, broken = catch(name, order)
    if outcome is None:
        figures.problems.append(f"the product that {name} is not caught in {seconds:.0f} s")
        return
    figures.notes[f"that {name}"] = f"caught in {seconds:.0f} s, by history {outcome.seed}: {outcome.problems[0]}"
    if patient and not MUTANTS[name].lines:
        sound = play_apart(dataclasses.replace(broken, given={**broken.given, "broken": ""}))
        figures.problems += [f"sound, where it is caught that it {name}: {problem}" for problem in sound.problems]


def _take(figures: Figures, outcomes: Sequence[Outcome]) -> None:
    """Add up what came of histories."""
    answers: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for outcome in outcomes:
        answers.update(outcome.answers)
        faults.update(outcome.faults)
        kinds.update(problem.partition(":")[0] for problem in outcome.problems)
        figures.problems += [f"history {outcome.seed}: {problem}" for problem in outcome.problems[:TOLD]]
        figures.reads += outcome.reads
    figures.faults = dict(faults)
    figures.answers = dict(answers)
    figures.operations = sum(answers.values())
    figures.reads += answers["read"]
    figures.acknowledged = answers["done"]
    figures.refused = answers["none"]
    figures.unanswered = answers["no answer"] + answers["perhaps"]
    figures.converged = max((outcome.converged for outcome in outcomes), default=0.0)
    figures.notes["histories"] = len(outcomes)
    for kind in COUNTED:
        setattr(figures, kind, kinds[kind.replace("_", " ")])


def _story(order: Order, outcome: Outcome, patient: bool) -> list[str]:
    """Return how a history fails, with as few steps as there was time to find, and how to play it again."""
    steps = list(order.history().steps)
    kinds = kinds_of(outcome.problems)

    def fails(kept: Sequence[int]) -> bool:
        return bool(kinds & kinds_of(play_apart(dataclasses.replace(order, steps=tuple(kept))).problems))

    if patient:
        left = set(shrink([step.number for step in steps], fails, SHRINK_FOR))
        steps = [step for step in steps if step.number in left]
    lines = f" --lines {','.join(map(str, order.lines))}" if order.lines else ""
    again = f"make chaos ARGS='--only model --seed {order.seed}{lines} --steps {ranges(steps)}'"
    said = [f"history {order.seed}: {order.history().setup}", *map(str, steps), *outcome.problems[:TOLD]]
    return [*said, f"again: {again}"]
