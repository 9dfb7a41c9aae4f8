"""The role of a node that has no children: what it is sent is here or nowhere, and nobody is owed anything.

It has no outbox and no thread. What a request says for a tree is not looked at: how long it waits, and which nodes it
came through, for nothing is passed on. ``node`` makes it; see ``role``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ...hosts import Host
from ...outbox.rows import Delivery
from ...outbox.status import HostStatus
from ..answers import Answer, Refused, no_such_file, text_answer
from ..files.store import Change, Staged, Store
from ..name_and_version import Version
from .hops import Hops
from .node_transport import Passing
from .report import Line
from .role import Arrival

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["Alone"]


class Alone:
    """The role of the node that serves ``store`` by itself."""

    children: Sequence[Host] = ()
    node_id = ""

    def __init__(self, store: Store) -> None:
        self.store = store

    def start(self) -> None:
        """Nothing is to be delivered."""

    def close(self) -> None:
        """Nothing is under way."""

    def passing(self, environ: WSGIEnvironment, size: int = 0) -> Passing:
        return Passing(Hops(), 0.0)

    @contextlib.contextmanager
    def arriving(self, name: str, version: Version, size: int, staged: Staged, passing: Passing) -> Iterator[Arrival]:
        yield Arrival(lambda total: None, version.mtime_ns, passing)

    def changing(self, name: str, passing: Passing) -> contextlib.AbstractContextManager[Change]:
        return self.store.change(name)

    def publish(self, name: str, change: Change, staged: Staged, passing: Passing) -> list[Line]:
        change.publish(staged)
        return [Line("", "stored", staged.size)]

    def delete(self, name: str, change: Change, generation: int | None, passing: Passing) -> list[Line]:
        return [Line("", "deleted" if change.delete(generation) else "absent")]

    def answer(self, environ: WSGIEnvironment, name: str, lines: list[Line], *, created: bool) -> Answer:
        if lines[0].state == "absent":
            raise Refused("404 Not Found", "no such file")
        return text_answer("201 Created", "created") if created else Answer("204 No Content")

    def absent(self, environ: WSGIEnvironment, name: str) -> Answer:
        raise no_such_file(self.store.generation(name))

    def status(self) -> dict[str, HostStatus]:
        return {}

    def owing(self, child: Host, after: str, limit: int) -> list[Delivery]:
        return []

    def figures(self, environ: WSGIEnvironment) -> list[dict[str, Any]]:
        return []

    def tombstones(self, after: str) -> Iterator[str]:
        return iter(())
