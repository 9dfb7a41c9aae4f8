"""``Resto-Passed-On``: which nodes a request came through, so that no circle of nodes passes it on for ever.

The value is the ids of our nodes and then one plus for each hop: ``3f0a...,77c1...;++``. nginx, as ``resto config``
sets it up, adds a plus alone. A node that finds its own id, or too many hops, answers 508 (RFC 5842, section 7.2),
before it takes a lock: the request that began the circle holds the lock of the name. A write that brings what is here
already is done instead, see ``repeats``; ids in a write count only where a node says them. What is delivered when its
request is over says the same: the ways are in the outbox, with what is owed. A node that forgot them at its restart
would bring an old version back to where it came from, and where a newer one is by now.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..answers import Refused

__all__ = ["FIELD", "Hops"]

FIELD = "Resto-Passed-On"
MAX_HOPS = 16  # levels of a tree, as many as `resto config --tree` takes
ID = 12  # characters of a media root's id: two nodes of a tree that share them do not occur

_VALUE = re.compile(r"((?:[0-9a-f]{12})(?:,[0-9a-f]{12})*)?;?(\+*)")


@dataclass(frozen=True)
class Hops:
    """The ids of the nodes that a request came through, the first one first, and how many hops there were in all."""

    ids: tuple[str, ...] = ()
    count: int = 0

    @classmethod
    def of(cls, value: str) -> Hops:
        """Return what a header says; refuses what is none."""
        match = _VALUE.fullmatch(value) if len(value) <= 1024 else None
        if match is None:
            raise Refused("400 Bad Request", f"{FIELD} cannot be read")
        ids = tuple(match[1].split(",")) if match[1] else ()
        return cls(ids, max(len(match[2]), len(ids)))

    @classmethod
    def of_way(cls, way: str) -> Hops:
        """Return the hops of which ``way`` was noted."""
        ids = tuple(way.split(",")) if way else ()
        return cls(ids, len(ids))

    @property
    def way(self) -> str:
        """What is noted with a change: the nodes, for hops that nobody has a name for say nothing of who is above."""
        return ",".join(self.ids)

    @staticmethod
    def own(identity: str) -> str:
        """Return the id by which the node of a media root is named."""
        return identity[:ID]

    def judge(self, identity: str) -> None:
        """Refuse what came through this node before, or through too many."""
        if self.own(identity) in self.ids:
            raise Refused("508 Loop Detected", "this request came from here: a child of this node leads back to it")
        if self.count >= MAX_HOPS:
            raise Refused("508 Loop Detected", f"passed on {MAX_HOPS} times: the children form a circle")

    def through(self, identity: str) -> str:
        """Return the header of the same request, passed on by this node."""
        return f"{','.join((*self.ids, self.own(identity)))};{'+' * (self.count + 1)}"
