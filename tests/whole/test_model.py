"""The random model for about a minute, with a seed that stays and one of today; and that it can fail.

``make chaos ARGS='--only model'`` runs it for ten minutes. The environment variable CHAOS_SEED draws other histories
than the usual ones; a run that fails prints the seed, the steps, and how to play them again.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from chaos import bodies
from chaos.judge import read_root
from chaos.ledger import Effect
from chaos.model.belief import AWAY, FULL, Belief
from chaos.model.broken import MUTANTS
from chaos.model.events import EVENTS, LINES
from chaos.model.faults import Faults
from chaos.model.look import look
from chaos.model.plan import KINDS, Step, draw, numbers, ranges
from chaos.model.setup import Setup
from chaos.model.shrink import kinds_of, shrink
from chaos.model.site import Site
from chaos.parts import Run, Sizes
from chaos.report import print_table
from servers import need

SEED = int(os.environ.get("CHAOS_SEED", "1"))
TODAY = random.SystemRandom().randrange(1_000_000)
SECONDS = 25
ALL_LINES = frozenset(LINES)
DAILY = "settles before the answer"
OTHERS = [name for name in MUTANTS if name != DAILY]


# The model


@pytest.fixture(scope="module")
def at_once() -> Iterator[dict[str, Run]]:
    """Both runs, running beside each other: most of their time is waiting."""
    need("nginx")
    sizes = Sizes(short=True, model_seconds=SECONDS, mutants=())
    with ExitStack() as stack:
        yield {which: stack.enter_context(Run("model", seed, sizes)) for which, seed in SEEDS.items()}


SEEDS = {"usual": SEED, "of today": TODAY}


@pytest.mark.parametrize("which", SEEDS)
def test_random_histories_end_as_their_clients_were_told(which: str, at_once: dict[str, Run]) -> None:
    """Nothing is lost, resurrected, torn, or deleted unasked; every host is equal, and `status` is true."""
    print(f"seed {SEEDS[which]}")
    figures = at_once[which].figures()
    print_table([figures])
    assert not figures.problems
    assert not figures.failed
    assert figures.notes["histories"] >= 2
    assert figures.acknowledged > 50
    assert figures.reads > 20


@pytest.mark.parametrize("which", ["daily", "another"])
def test_the_model_catches_a_product_that_is_broken_on_purpose(which: str) -> None:
    """One that settles too soon each day, and one of the others; `make chaos` tries all of them."""
    need("nginx")
    name = DAILY if which == "daily" else OTHERS[TODAY % len(OTHERS)]
    print(f"seed {TODAY}, the product that {name}")
    with Run("model", TODAY, Sizes(short=True, model_seconds=0, mutants=(name,))) as run:
        figures = run.figures()
    assert not figures.problems
    assert "caught" in figures.notes[f"that {name}"]


# Histories


def test_a_seed_draws_the_same_history_each_time() -> None:
    """Also in another interpreter, where sets are in another order."""
    script = "from chaos.model.plan import draw; h = draw(5, mounts=True, lines=frozenset({9, 10, 19})); print(h)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    once, again = (
        subprocess.run(
            [sys.executable, "-c", script],
            env={**environment, "PYTHONHASHSEED": order},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for order in "12"
    )
    assert "'overwrite'" in once
    assert once == again


def test_eight_seeds_see_every_mode_and_every_kind_of_host() -> None:
    """In the usual run and in that of today, wherever they begin."""
    for first in (0, 5):
        setups = [draw(seed, mounts=True).setup for seed in range(first, first + 8)]
        assert {setup.mode for setup in setups} == {"hybrid", "async", "distributed"}
        assert {kind for setup in setups for kind in setup.kinds} == {"nginx", "node", "tree"}


def test_events_of_known_defects_are_drawn_only_where_they_are_switched_on() -> None:
    """By the number of their line."""
    theirs = {event.kind for event in EVENTS if event.line} - {event.kind for event in EVENTS if not event.line}
    usual = {step.kind for seed in range(40) for step in draw(seed, mounts=True).steps}
    every = {step.kind for seed in range(120) for step in draw(seed, mounts=True, lines=ALL_LINES).steps}
    assert theirs
    assert not usual & theirs
    assert theirs <= every


def test_every_step_that_is_drawn_can_be_done(tmp_path: Path) -> None:
    """By a process of the application, or by a fault; also those that end another, and the looks."""
    setup = Setup("hybrid", ("nginx", "node", "tree"))
    known = Faults(Site(setup, str(tmp_path), Belief(1, setup))).kinds
    drawn = {step.kind for seed in range(120) for step in draw(seed, mounts=True, lines=ALL_LINES).steps}
    assert drawn - KINDS.keys() <= known
    assert known <= drawn


def test_nothing_is_mounted_where_it_may_not_be() -> None:
    """Neither a small disk nor an empty folder."""
    for seed in range(40):
        history = draw(seed, mounts=False, lines=ALL_LINES)
        assert not history.setup.disk
        assert not [step for step in history.steps if step.kind.startswith(("hide", "fill"))]


def test_the_numbers_of_steps_are_written_as_they_are_read() -> None:
    """Ranges are short for what follows one another."""
    steps = [Step(number, "look", {}) for number in (1, 3, 4, 5, 9)]
    assert ranges(steps) == "1,3-5,9"
    assert numbers("1,3-5,9") == {1, 3, 4, 5, 9}
    assert not draw(1, mounts=True).only(steps[:1]).steps[1:]


# What clients are told


def belief_of(*lines: int) -> Belief:
    return Belief(1, Setup("hybrid", ("nginx",), lines=frozenset(lines)))


def step(number: int, kind: str, name: str | None = "a.txt") -> Step:
    return Step(number, kind, {} if name is None else {"name": name})


def test_a_refusal_promises_nothing_while_the_disk_is_away() -> None:
    """What is on it cannot be taken back; on a disk that is only full nothing of it is there."""
    belief = belief_of()
    for number, trouble, legal in ((1, FULL, {None}), (2, AWAY, {None, "m1-2"}), (3, None, {None, "m1-2"})):
        operation = belief.begin(step(number, "overwrite"))
        if trouble:
            belief.begin_trouble(trouble)
            belief.end_trouble(trouble)
        belief.end(step(number, "overwrite"), operation, {"effect": "none"})
        assert belief.ledger.legal("a.txt") == legal


def test_what_a_dead_process_did_may_be_there_or_not() -> None:
    """Until somebody does something to that name for certain."""
    belief = belief_of()
    belief.end(step(1, "overwrite"), belief.begin(step(1, "overwrite")), None)
    assert belief.ledger.legal("a.txt") == {None, "m1-1"}
    time.sleep(0.001)
    belief.end(step(2, "delete"), belief.begin(step(2, "delete")), {"effect": "done"})
    assert belief.ledger.legal("a.txt") == {None}


@pytest.mark.parametrize(
    ("value", "problem"),
    [("m1-2", None), ("m1-1", "stale"), (None, "stale"), ("m1-9", "unsent"), (bodies.TORN, "torn")],
)
def test_a_read_is_compared_with_what_was_told(value: str | None, problem: str | None) -> None:
    """An older version, nothing, a foreign one, and a part of one are all wrong."""
    belief = belief_of()
    for number in (1, 2):
        belief.end(step(number, "overwrite"), belief.begin(step(number, "overwrite")), {"effect": "done"})
        time.sleep(0.001)
    belief.end(step(3, "read"), belief.begin(step(3, "read")), {"effect": "read", "value": value})
    assert [found.partition(":")[0] for found in belief.problems] == ([problem] if problem else [])


def test_what_is_raised_and_not_promised_is_a_problem() -> None:
    """And so is a delete that a full disk refuses, once that is promised (line 17)."""
    belief = belief_of()
    belief.end(step(1, "delete"), belief.begin(step(1, "delete")), {"effect": "perhaps", "defect": "ValueError"})
    assert "ValueError" in belief.problems[0]
    told = {"effect": "perhaps", "full": True, "error": "no space"}
    for belief, problems in ((belief_of(), 0), (belief_of(17), 1)):
        belief.end(step(1, "delete"), belief.begin(step(1, "delete")), told)
        assert len(belief.problems) == problems


# Looks


class Looked:
    """A site of plain folders, on which ``status`` says whatever it is told to."""

    def __init__(self, folder: Path) -> None:
        self.setup = Setup("hybrid", ("nginx", "nginx"), proxied=False)
        self.belief = Belief(1, self.setup)
        self.site = Site(self.setup, str(folder), self.belief)
        self.urls = [host.url for host in self.site.hosts]
        self.roots = [Path(self.site.media), *(Path(host.servers[0].root) for host in self.site.hosts)]
        self.says: dict[str, Any] = {}
        self.site.operator = lambda: SimpleNamespace(answer_to=lambda *_, **__: self.says)  # type: ignore[assignment]

    def save(self, name: str, *roots: int) -> None:
        operation = self.belief.begin(Step(len(self.belief.ledger.names()) + 1, "overwrite", {"name": name}))
        self.belief.ledger.end(operation, Effect.DONE)
        for root in roots:
            self.roots[root].mkdir(parents=True, exist_ok=True)
            (self.roots[root] / name).write_bytes(bodies.make(operation.value or "", 10))

    def say(self, owed: Sequence[int], owing: dict[str, Sequence[int]]) -> None:
        self.says = {
            "effect": "told",
            "hosts": {url: ["up", count, 0, ""] for url, count in zip(self.urls, owed, strict=True)},
            "labels": {url: url for url in self.urls},
            "names": {name: [True, self.urls, [self.urls[each] for each in hosts]] for name, hosts in owing.items()},
        }

    def look(self) -> list[str]:
        self.belief.problems.clear()
        look(self.site)
        return self.belief.problems


@pytest.fixture
def looked(tmp_path: Path) -> Looked:
    """A file that is everywhere, and one that the second host has not got."""
    looked = Looked(tmp_path)
    looked.save("everywhere", 0, 1, 2)
    looked.save("behind", 0, 1)
    return looked


def test_what_is_owed_may_differ(looked: Looked) -> None:
    """As long as status says of the host, and of the name, that it is owed."""
    looked.say([0, 1], {"behind": [1]})
    assert looked.look() == []


def test_a_status_that_says_too_much_is_untrue(looked: Looked) -> None:
    """That all is well with a host, or that it holds a name."""
    looked.say([0, 0], {"behind": [1]})
    assert [f"all is well with {looked.urls[1]}" in problem for problem in looked.look()] == [True]
    looked.say([0, 1], {"behind": []})
    assert [f"{looked.urls[1]} holds it" in problem for problem in looked.look()] == [True]


def test_what_vanishes_was_deleted_by_nobody(looked: Looked) -> None:
    """It was there at the last look; what somebody has deleted may go, and what a lost disk had."""
    looked.say([1, 1], {})
    assert looked.look() == []
    (looked.roots[1] / "behind").unlink()
    (looked.roots[2] / "everywhere").unlink()
    assert sorted(problem.partition(",")[0] for problem in looked.look()) == [
        "deleted: behind was on server 0",
        "deleted: everywhere was on server 1",
    ]
    looked.save("another", 0, 1, 2)
    assert looked.look() == []
    looked.site.lose(0, "a test")
    for root in looked.roots[1:]:
        (root / "another").unlink()
    looked.belief.ledger.end(looked.belief.ledger.begin("another", None), Effect.DONE)
    assert looked.look() == []


def test_a_link_is_no_file_of_a_root(tmp_path: Path) -> None:
    """Whatever it leads to, it is not read through."""
    (tmp_path / "outside").write_bytes(bodies.make("x-1", 1))
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    assert read_root(str(tmp_path / "root")) == {}


# The fewest steps


def test_a_history_is_shrunk_to_what_it_needs() -> None:
    """Two steps of a hundred, in their order."""
    tried: list[list[int]] = []

    def fails(steps: Sequence[int]) -> bool:
        tried.append(list(steps))
        return 17 in steps and 64 in steps

    assert shrink(list(range(100)), fails, seconds=30) == [17, 64]
    assert len(tried) < 60


def test_a_history_that_does_not_fail_again_stays_as_it_is() -> None:
    """And so does one for which there is no time."""
    assert shrink([1, 2, 3], lambda steps: False, seconds=30) == [1, 2, 3]
    assert shrink([1, 2, 3], lambda steps: True, seconds=0) == [1, 2, 3]


def test_failures_are_of_one_kind_where_they_begin_alike() -> None:
    """A history that is made shorter must not fail in another way."""
    assert kinds_of(["lost: a", "lost: b", "torn: c"]) == {"lost", "torn"}
