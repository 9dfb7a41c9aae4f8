"""On what a history runs: the mode, the kinds of hosts, the settings; and how its parts are called.

Eight sites take turns by the seed, so that a few histories in a row have seen every mode and every kind of host; the
rest is drawn. Processes are "writer 0", "writer 1" and "worker"; servers are called by their host's number, "1", and
those of a tree by their place below its root, "1.2". ``plan`` draws on this, ``site`` builds it.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["FOLDER", "PROCESSES", "TREE", "Setup", "draw_setup"]

FOLDER = "photos"  # the one that goes away
PROCESSES = ("writer 0", "writer 1", "worker")
TREE = {0: (1, 2), 1: (3,), 2: (), 3: ()}  # the children of each node
SITES = (
    ("hybrid", ("nginx", "nginx", "nginx")),
    ("async", ("node", "nginx")),
    ("distributed", ("nginx", "nginx", "nginx")),
    ("hybrid", ("tree", "nginx")),
    ("distributed", ("node", "nginx", "node")),
    ("async", ("tree",)),
    ("hybrid", ("nginx", "node", "node")),
    ("distributed", ("tree", "nginx")),
)


@dataclass(frozen=True)
class Setup:
    """The site of one history. ``disk`` is what lies on a small one: "", "master" or "host"; ``lines`` are switched on.

    ``ascii_only``: the locale of the application is. ``mounts``: something may be mounted here. ``patient``: in the end
    it is left to the workers. ``hot``: only so many names are written, 0 for as many as come. ``broken`` is how the
    product is broken, "" if it is not.
    """

    mode: str
    kinds: tuple[str, ...]
    required: str = "all"
    fatal: bool = True
    timeout: float = 1.0
    fsync: bool = False
    background: bool = True
    proxied: bool = True
    disk: str = ""
    mounts: bool = False
    patient: bool = False
    ascii_only: bool = False
    hot: int = 0
    lines: frozenset[int] = frozenset()
    broken: str = ""

    @property
    def processes(self) -> tuple[str, ...]:
        return PROCESSES

    @property
    def servers(self) -> tuple[str, ...]:
        """Every server, the root of a tree before those below it."""
        found = []
        for number, kind in enumerate(self.kinds):
            found.append(str(number))
            found += [f"{number}.{node}" for node in list(TREE)[1:] if kind == "tree"]
        return tuple(found)

    def __str__(self) -> str:
        given = {key: value for key, value in vars(self).items() if key not in ("mode", "kinds", "lines")}
        lines = f", lines {sorted(self.lines)}" if self.lines else ""
        settings = ", ".join(f"{key}={value!r}" for key, value in given.items() if value != _DEFAULTS[key])
        return f"{self.mode} to {' '.join(self.kinds)}{lines}{settings and f', {settings}'}"


_DEFAULTS = {each.name: each.default for each in dataclasses.fields(Setup)}


def draw_setup(
    chance: random.Random, seed: int, *, mounts: bool, lines: frozenset[int], given: Mapping[str, Any]
) -> Setup:
    """Draw the site of a history; what is ``given`` is not drawn."""
    mode, kinds = SITES[seed % len(SITES)]
    drawn: dict[str, Any] = {
        "mode": mode,
        "kinds": kinds,
        "required": chance.choice(("all", "majority", "majority", "1")),
        "fatal": chance.random() < 0.75,
        "fsync": chance.random() < 0.2,
        "background": chance.random() < 0.8,
        "proxied": chance.random() < 0.6,
        "disk": chance.choice(("master", "host", "", "")),
        "patient": chance.random() < 0.1,
        "ascii_only": chance.random() < 0.15,
    }
    drawn |= given
    if not mounts:
        drawn["disk"] = ""
    return Setup(**drawn, mounts=mounts, lines=lines)
