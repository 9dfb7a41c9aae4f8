"""The faults that a history can draw: how often, where they fit, what ends them, and which known defect they would hit.

An event becomes one step of the history, and a second one later where something ends it. ``line`` is set where today's
product fails: it is a key of ``LINES``, and the event is drawn only where that line is switched on. Whoever mends the
product takes the number away here, and the event is part of every run from then on.
Nothing is done here; ``faults`` has a method for each kind.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .setup import FOLDER, Setup

__all__ = ["EVENTS", "LINES", "Event", "events_for"]

LINES = {
    1: "one name that cannot be read: the others go on",
    3: "a link that is slow but steady: it delivers",
    6: "a process that is stopped: nobody waits for it without an end",
    9: "a folder or a mount below MEDIA_ROOT is gone: nothing is deleted",
    10: "the outbox, or that of a relay, comes from a backup",
    11: "a request that is carried out later than any that was reckoned with",
    17: "a full disk: a delete is taken, and what was published is withdrawn",
    19: "a name in another Unicode form",
}

Draw = Callable[[random.Random, Setup], dict[str, Any]]
Fits = Callable[[Setup], bool]


@dataclass(frozen=True)
class Event:
    """One kind of fault. ``lasts`` is in steps, from the one that begins it to the one that ends it."""

    kind: str
    weight: int
    draw: Draw = lambda chance, setup: {}
    fits: Fits = lambda setup: True
    ends: str = ""
    lasts: tuple[int, int] = (2, 20)
    line: int | None = None


def events_for(setup: Setup, lines: frozenset[int]) -> list[Event]:
    """Return those that a history of this site may draw."""
    return [event for event in EVENTS if event.fits(setup) and (event.line is None or event.line in lines)]


def _process(chance: random.Random, setup: Setup) -> dict[str, Any]:
    return {"who": chance.choice(setup.processes)}


def _server(chance: random.Random, setup: Setup) -> dict[str, Any]:
    return {"who": chance.choice(setup.servers)}


def _anybody(chance: random.Random, setup: Setup) -> dict[str, Any]:
    return {"who": chance.choice((*setup.processes, *setup.processes, *setup.servers))}


def _host(chance: random.Random, setup: Setup) -> dict[str, Any]:
    return {"host": chance.randrange(len(setup.kinds))}


def _host_of(kinds: tuple[str, ...]) -> Draw:
    def draw(chance: random.Random, setup: Setup) -> dict[str, Any]:
        return {"host": chance.choice([number for number, kind in enumerate(setup.kinds) if kind in kinds])}

    return draw


def _victim(chance: random.Random, setup: Setup) -> dict[str, Any]:
    """The one host that may lose files: where no master is kept, a second one might have the only copy."""
    return {"host": len(setup.kinds) - 1}


def _link(chance: random.Random, setup: Setup) -> dict[str, Any]:
    modes: tuple[dict[str, Any], ...] = (
        {"mode": "refuse"},
        {"mode": "silent"},
        {"mode": "delay", "seconds": round(chance.uniform(0.01, 1.2), 2)},
        {"mode": "slow", "rate": chance.choice((50_000, 200_000, 1_000_000))},
        {"mode": "cut", "after": chance.randrange(400_000) if chance.random() < 0.5 else chance.randrange(600)},
        {"mode": "cut", "after": chance.randrange(120), "direction": "reply"},
        {"mode": "answer_then_cut"},
        {"mode": "late", "seconds": round(chance.uniform(0.1, 2.0), 2)},
    )
    return {"link": chance.choice(setup.servers), **chance.choice(modes)}


def _has(*kinds: str) -> Fits:
    return lambda setup: any(kind in kinds for kind in setup.kinds)


def _kept(setup: Setup) -> bool:
    return setup.mode != "distributed"


def _all(*conditions: Fits) -> Fits:
    return lambda setup: all(condition(setup) for condition in conditions)


def _mounts(setup: Setup) -> bool:
    return setup.mounts


def _several(setup: Setup) -> bool:
    return len(setup.kinds) > 1


def _filled_from(setup: Setup) -> bool:
    """Where a host that lost files can be filled: from the master, or from another host."""
    return _kept(setup) or _several(setup)


def _stock_victim(setup: Setup) -> bool:
    """A relay has an outbox of its own in its root, and children that its backup does not know of."""
    return setup.kinds[-1] != "tree"


def _every() -> Iterator[Event]:
    folder: Draw = lambda chance, setup: {"folder": FOLDER}  # noqa: E731 - as short as those beside it
    yield Event("kill", 10, _process, ends="start", lasts=(1, 12))
    yield Event("kill", 7, _server, ends="start", lasts=(1, 20))
    yield Event("freeze", 8, _anybody, ends="thaw", lasts=(1, 10))
    yield Event("link", 14, _link, lambda setup: setup.proxied, ends="link", lasts=(3, 20))
    yield Event("fill", 6, fits=lambda setup: bool(setup.disk), ends="empty", lasts=(2, 15))
    yield Event("hide master", 2, fits=_mounts, ends="show master", lasts=(3, 12))
    yield Event("hide host", 3, _host, _all(_mounts, _kept), ends="show host", lasts=(3, 15))
    yield Event("back up host", 3, _victim, _all(_filled_from, _stock_victim), ends="restore host", lasts=(20, 80))
    yield Event("replace host", 2, _victim, _all(_filled_from, _stock_victim))
    yield Event("leave", 2, _victim, _several, ends="join", lasts=(10, 40))
    yield Event("by hand", 2, fits=_kept)
    yield Event("by hand, under way", 2, fits=_all(_kept, lambda setup: setup.proxied))
    yield Event("unreadable", 2, fits=_kept, line=1)
    yield Event("lost and found", 2, fits=_kept)
    yield Event("hide folder", 4, folder, _all(_mounts, _kept), ends="show folder", lasts=(8, 30), line=9)
    yield Event("move folder away", 4, folder, _kept, ends="move folder back", lasts=(8, 30), line=9)
    yield Event("back up outbox", 3, ends="restore outbox", lasts=(20, 80), line=10)
    yield Event(
        "back up host", 3, _host_of(("tree",)), _all(_kept, _has("tree")), ends="restore host", lasts=(20, 80), line=10
    )
    yield Event("symbolic link", 3, fits=_kept)
    yield Event("twice in a second", 2)
    yield Event("stopped with a name", 3, fits=_all(_kept, lambda setup: setup.proxied), line=6)
    yield Event("folder to file", 3, fits=_all(_kept, lambda setup: "nginx" not in setup.kinds))
    yield Event("decomposed name", 2, fits=_kept, line=19)


EVENTS = tuple(_every())
