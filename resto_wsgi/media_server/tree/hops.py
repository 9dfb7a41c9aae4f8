"""``Resto-Passed-On``: the nodes that a request came through, so that a child that leads back is refused.

The value is the ids of our nodes and then one plus for each hop: ``3f0a...,77c1...;++``. nginx, as ``resto config``
sets it up, adds a plus alone. A node that finds its own id, or too many hops, answers 508 (RFC 5842, section 7.2). It
does so before it takes a lock or changes anything: the request that began the circle holds the lock of the name. What
is delivered after its request is over says the same, so the ids are kept in the outbox with what is owed; a node that
forgot them would send an old version back to where it came from. ``relay``, ``below``, ``catch_up`` and the page
``missing`` use this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..answers import UNKEPT, Refused

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["FIELD", "LOOP", "Hops"]

FIELD = "Resto-Passed-On"
LOOP = 508
MAX_HOPS = 16  # levels of a tree, as many as `resto config --tree` takes
MAX_VALUE = 1024  # characters of the header: MAX_HOPS ids and pluses are 224
ID = 12  # characters of a media root's id: two nodes of a tree that share them do not occur

_VALUE = re.compile(r"((?:[0-9a-f]{12})(?:,[0-9a-f]{12})*)?;?(\+*)")


@dataclass(frozen=True)
class Hops:
    """The ids of the nodes that a request came through, the first one first, and how many hops there were in all."""

    ids: tuple[str, ...] = ()
    count: int = 0

    @classmethod
    def of(cls, value: str) -> Hops:
        """Return what a header, or a ``way`` that was noted, says. Refuses what is none."""
        match = _VALUE.fullmatch(value) if len(value) <= MAX_VALUE else None
        if match is None:
            raise Refused("400 Bad Request", f"{FIELD} cannot be read")
        ids = tuple(match[1].split(",")) if match[1] else ()
        return cls(ids, max(len(match[2]), len(ids)))

    @classmethod
    def of_request(cls, environ: WSGIEnvironment) -> Hops:
        """Return what a request says. Refuses what cannot be read."""
        return cls.of(str(environ.get("HTTP_RESTO_PASSED_ON", "")))

    @staticmethod
    def own(identity: str) -> str:
        """Return the id by which the node of a media root is named."""
        return identity[:ID]

    @property
    def way(self) -> str:
        """The text that is noted with what is owed: the ids alone, for a plus does not say who is above."""
        return ",".join(self.ids)

    def judge(self, node_id: str) -> None:
        """Refuse what came through this node before, or through too many. No cache may keep that answer."""
        if node_id in self.ids:
            reason = "this request came through this node before: a child leads back to it"
        elif self.count >= MAX_HOPS:
            reason = f"this request was passed on {MAX_HOPS} times"
        else:
            return
        raise Refused(f"{LOOP} Loop Detected", reason, [UNKEPT])

    def through(self, node_id: str) -> str:
        """Return the header of the same request, passed on by this node."""
        return f"{','.join((*self.ids, node_id))};{'+' * (self.count + 1)}"
