"""``Resto-Asked``: which nodes a search has asked, so that it asks each once, however many ways lead to it.

A node looks in its children one after the other. Where two nodes have a child in common, or are each other's children,
there are more ways than nodes, soon by factorials. So an answer that found nothing names the nodes with children that
were asked for it, the one that answers first; the request to the next child names them too, and who finds himself
named answers 508 at once. By these answers a node also gets to know the ids of its children, and need not even ask. A
child without children names nobody: it asks nobody, either.

A stranger can send this as well as ``Resto-Passed-On``. What he names is not asked, for his own answer alone: nothing
is learned from a request, and no cache may keep what one that names nodes did not find. ``below`` and ``missing`` use
this.
"""

from __future__ import annotations

import re

from ..answers import Header, Refused
from .hops import Hops

__all__ = ["FIELD", "MOST", "Asked", "Known"]

FIELD = "Resto-Asked"
MOST = 256  # nodes with children: 3.3 KiB, where a stock proxy takes 4 KiB for all headers of an answer

_VALUE = re.compile(rf"[0-9a-f]{{12}}(?:,[0-9a-f]{{12}}){{0,{MOST - 1}}}")


class Known:
    """What children have said of themselves last, by their URLs: their id, or that they have no children."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def learn(self, url: str, ids: list[str]) -> None:
        """Note what an answer of a child named."""
        if ids:
            self._ids[url] = ids[0]
        else:
            self._ids.setdefault(url, "")  # one that has children does not name itself with every answer

    def id_of(self, url: str) -> str | None:
        """Return its id, "" where it has no children, None where nothing is known."""
        return self._ids.get(url)


class Asked:
    """One search, as it is at the node ``identity``: ``value`` is the request's header, "" where there is none.

    Refuses what is no such header, and with 508 what was here before.
    """

    def __init__(self, value: str, hops: Hops, identity: str, known: Known) -> None:
        if value and not _VALUE.fullmatch(value):
            raise Refused("400 Bad Request", f"{FIELD} cannot be read")
        self._before = value.split(",") if value else []
        self._own = Hops.own(identity)
        self._here = [self._own]
        self._named = {*hops.ids, *self._before, self._own}
        self._known = known
        self._is_named = bool(hops.count or value)
        if self._own in {*hops.ids, *self._before}:
            raise Refused("508 Loop Detected", "this node was asked before for the same request", self.told())
        hops.judge(identity)  # too many hops: on a shorter way it can be asked all the same, so it is not named

    @property
    def request(self) -> dict[str, str]:
        """The header for the next child."""
        ids = [*self._before, *self._here[1:]]
        return {FIELD: ",".join(ids)} if ids else {}

    @property
    def full(self) -> bool:
        """True where no more nodes can be named, so that the search has to end."""
        return len(self._before) + len(self._here) > MOST

    def told(self) -> list[Header]:
        """Return what an answer says where a node asked, or somebody like one; else nothing."""
        if not self._is_named:
            return []
        return [(FIELD, ",".join(self._here[:MOST])), ("Cache-Control", "no-store")]

    def was(self, url: str) -> bool:
        """Say whether the child at ``url`` is known to have been asked."""
        return self._known.id_of(url) in self._named

    def learn(self, url: str, value: str) -> bool:
        """Take what the answer of a child names, nothing where it cannot be read; say whether it was asked before."""
        ids = value.split(",") if _VALUE.fullmatch(value) else []
        before = bool(ids) and ids[0] in self._named
        self._known.learn(url, ids)
        for each in ids:
            if each not in self._named:
                self._named.add(each)
                self._here.append(each)
        return before
