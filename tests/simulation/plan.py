"""What the seed draws for a whole history: the mode, how often what goes wrong, how threads are scheduled.

Drawn for each history and not once for all, so that some are calm, some are wild, and some have one kind of trouble
alone. A mutant, or whoever looks for something, replaces single values.
"""

from __future__ import annotations

import random
from typing import Any

__all__ = ["draw"]

MODES: tuple[dict[str, Any], ...] = (
    {"mode": "hybrid", "required": "all"},
    {"mode": "hybrid", "required": "majority"},
    {"mode": "hybrid", "fatal_exceptions": False},
    {"mode": "async"},
    {"mode": "distributed", "required": "all"},
    {"mode": "distributed", "required": "majority"},
    {"mode": "distributed", "fatal_exceptions": False},
)
KINDS = {"save": 3, "overwrite": 8, "delete": 4, "publish, withdraw": 3, "publish, keep": 2, "read": 2}

UNMOUNTED = 0.15  # how many histories have a disk that is not mounted for some seconds


def draw(chance: random.Random, options: dict[str, Any]) -> dict[str, Any]:
    """Return the plan of a history. ``options`` replaces values of it."""
    plan: dict[str, Any] = {
        "mode": chance.choice(MODES),
        "unreliable": chance.choice((0.0, 0.05, 0.15, 0.35)),
        "operation_gap": chance.choice((0.02, 0.2, 1.0)),
        "fault_gap": chance.choice((1.0, 4.0, 15.0)),
        "kills": chance.choice((0.0, 1 / 3000, 1 / 1000, 1 / 300)),
        "processes": chance.choice((2, 3)),
        "disk_refuses": chance.choice((0.0, 0.0, 0.02)),
        "outbox_refuses": chance.choice((0.0, 0.0, 0.01)),
        "administrator": chance.choice((0.0, 0.0, 0.03)),
        "vanishes": chance.choice((0.0, 0.0, 0.3)),
        "clock_jumps": chance.random() < 0.5,
        "lanes": chance.choice((0.4, 1.0)),
        "names": chance.choice((2, 3, 4)),
        "kinds": KINDS,
        "stickiness": chance.choice((0.3, 0.6, 0.9)),
        "stalls": chance.choice((0.0, 0.002, 0.02)),
        "mounted": chance.random() >= UNMOUNTED,
        "threads": chance.random() < 0.3,
        "reads": 0.02,
        "nodes": chance.random() < 0.4,
        "very_late": chance.choice((0.0, 0.3)),
        "restores": chance.choice((0.0, 0.0, 0.1)),
    }
    unknown = options.keys() - plan.keys()
    if unknown:
        raise TypeError(f"no such option: {sorted(unknown)}")
    return {**plan, **options}
