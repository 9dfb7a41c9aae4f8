"""A history: its site and its steps, all drawn from the seed before anything runs, so that it can be played again.

A step is an operation of a client, a fault, the end of one, or a look at what is there. What does not fit any more (a
fault that is over, a process that is dead) is passed by, so that any part of the steps is a history too: ``shrink`` and
``--steps`` keep some of them. Contents are called by the seed and the step, and so are the same each time.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .events import Event, events_for
from .setup import FOLDER, Setup, draw_setup

__all__ = ["History", "Step", "draw", "numbers", "ranges"]

STEPS = 170  # operations of a history: some seconds
FAULTS = 0.14  # of the steps begin a fault
LOOKS = 0.015  # of the steps look at everything
PAUSE = 0.03  # seconds before a step, at most
HOT = ("a.txt", f"{FOLDER}/b.jpg", f"{FOLDER}/c.jpg", "docs/d e.pdf")
ODD = (
    "é #1?%+;.jpg",
    "%00%2e%2e%2fx",
    "日本語/🎉.png",
    "'`$(x)|*&=,@:!~^[].txt",
    "x" * 200,
    "d/" * 30 + "f",
)
SIZES = (0, 100, 100, 2_000, 2_000, 20_000, 20_000, 200_000, 1_000_000)  # bytes
LATELY = 25  # names
LARGE = 5_000_000  # bytes: a node passes it on while it comes
KINDS = {"save": 4, "overwrite": 6, "delete": 3, "read": 3, "upload": 2, "upload, refused": 1, "upload, withdrawn": 1}


@dataclass(frozen=True)
class Step:
    """One step. ``what`` has the arguments of its kind, ``pause`` the seconds before it."""

    number: int
    kind: str
    what: Mapping[str, Any]
    pause: float = 0.0

    def __str__(self) -> str:
        return f"{self.number:4} {self.kind}" + "".join(f", {key} {value!r}" for key, value in self.what.items())


@dataclass(frozen=True)
class History:
    """What a seed makes happen."""

    seed: int
    setup: Setup
    steps: tuple[Step, ...]

    def only(self, kept: Sequence[Step]) -> History:
        """Return the history of these steps alone."""
        return dataclasses.replace(self, steps=tuple(kept))


def draw(
    seed: int,
    *,
    mounts: bool,
    lines: frozenset[int] = frozenset(),
    given: Mapping[str, Any] | None = None,
    weights: Mapping[str, int] | None = None,
    length: int = STEPS,
) -> History:
    """Draw a history. ``given`` are fields of its setup, ``weights`` those of events, both instead of what is usual."""
    chance = random.Random(f"history {seed}")
    setup = draw_setup(chance, seed, mounts=mounts, lines=lines, given=given or {})
    events = events_for(setup, lines)
    heavy = [(weights or {}).get(event.kind, event.weight if weights is None else 0) for event in events]
    drawn: list[tuple[float, str, dict[str, Any]]] = []
    written: list[str] = []
    hosts_lost = False
    for place in range(length):
        if any(heavy) and chance.random() < FAULTS:
            (event,) = chance.choices(events, heavy)
            losing = event.kind in ("back up host", "replace host", "leave")
            if not (losing and hosts_lost):
                drawn += _steps_of(event, place, chance, setup)
            hosts_lost |= losing and setup.mode == "distributed"
        drawn.append((place, *_operation(chance, setup, place, written)))
    drawn.sort(key=lambda each: each[0])
    steps = [Step(n, kind, what, _pause(chance)) for n, (_, kind, what) in enumerate(drawn, 1)]
    return History(seed, setup, tuple(steps))


def _steps_of(
    event: Event, place: int, chance: random.Random, setup: Setup
) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """The step that begins a fault, and the one that ends it, which is of the same thing."""
    what = event.draw(chance, setup)
    yield place, event.kind, what
    if event.ends:
        target: dict[str, Any] = {key: what[key] for key in ("who", "host", "folder", "link") if key in what}
        yield place + chance.randint(*event.lasts) + 0.5, event.ends, target


def _operation(chance: random.Random, setup: Setup, place: int, written: list[str]) -> tuple[str, dict[str, Any]]:
    """An operation; names that were ``written`` are what is mostly read and deleted."""
    if chance.random() < LOOKS:
        return "look", {}
    kinds = KINDS | {"read": 10} if setup.hot else KINDS
    (kind,) = chance.choices(list(kinds), list(kinds.values()))
    what: dict[str, Any] = {"by": chance.randrange(2)}
    if kind in ("save", "overwrite"):
        what["name"] = _name(chance, setup, place, written)
        written.append(what["name"])
    elif kind in ("read", "delete"):
        what["name"] = chance.choice(written[-LATELY:]) if written else HOT[0]
    if kind not in ("delete", "read"):
        what["size"] = LARGE if chance.random() < 0.01 else chance.choice(SIZES)
    return kind, what


def _name(chance: random.Random, setup: Setup, place: int, written: list[str]) -> str:
    """A name that is written often, an odd one, a new one, or one of lately."""
    draw = chance.random()
    if setup.hot:
        return chance.choice(HOT[: setup.hot])
    if draw < 0.12:
        return chance.choice(ODD)
    if draw < 0.5:
        return f"{FOLDER if place % 3 else 'new'}/{place}.bin"
    return chance.choice((*HOT, *written[-LATELY:]))


def _pause(chance: random.Random) -> float:
    return round(chance.uniform(0, PAUSE), 3) if chance.random() < 0.7 else 0.0


def ranges(steps: Sequence[Step]) -> str:
    """Return the numbers of steps as ``--steps`` takes them, such as 1,3-5."""
    found: list[list[int]] = []
    for step in steps:
        if found and step.number == found[-1][1] + 1:
            found[-1][1] = step.number
        else:
            found.append([step.number, step.number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def numbers(text: str) -> frozenset[int]:
    """Return the numbers that ``ranges`` wrote; raise ValueError where it did not."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)
