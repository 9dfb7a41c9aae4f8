"""``Resto-Passed-On``: which nodes a request came through, so that no circle of nodes passes it on for ever.

The value is the ids of our nodes and then one plus for each hop: ``3f0a...,77c1...;++``. nginx, as ``resto config``
sets it up, adds a plus alone. A node that finds its own id, or too many hops, answers 508 (RFC 5842, section 7.2),
before it takes a lock: the request that began the circle holds the lock of the name. A write that brings what is here
already is done instead, see ``repeats``; ids in a write count only where a node says them.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass

from .answers import Refused

__all__ = ["FIELD", "Hops", "Ways"]

FIELD = "Resto-Passed-On"
MAX_HOPS = 16  # levels of a tree, as many as `resto config --tree` takes
ID = 12  # characters of a media root's id: two nodes of a tree that share them do not occur
MOST = 10_000  # names: 3 MB

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


class Ways:
    """Through which nodes the last change of a name came here, for what is delivered when that request is over.

    By name, for what one request says is not so of what another sender changed. Of the last MOST names, in memory:
    where it is not known, a node that has the change already is sent it once more, and says so.
    """

    def __init__(self) -> None:
        self._hops: dict[str, Hops] = {}
        self._lock = threading.Lock()

    def note(self, name: str, hops: Hops) -> None:
        """Note how a change came. Hops that nobody has a name for say nothing of who is above."""
        with self._lock:
            self._hops.pop(name, None)
            if hops.ids:
                self._hops[name] = Hops(hops.ids, len(hops.ids))
                if len(self._hops) > MOST:
                    del self._hops[next(iter(self._hops))]

    def of(self, name: str) -> Hops:
        """Return how it came; no hops where a client sent it, or it is not known."""
        return self._hops.get(name, Hops())
