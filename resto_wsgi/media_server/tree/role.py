"""What a node does that is alone or has children: the interface of both, which is chosen once, when the node is made.

``node`` asks a role and never which one it is; so do the pages, and what catches up. ``alone`` and ``relay`` are the
two kinds. A write goes through a role in this order: ``passing`` refuses what came through here before, ``arriving`` is
told of the bytes, ``changing`` holds the name, ``publish`` or ``delete`` changes it, and ``answer`` says what became of
it. What comes up from one step is a value that is given to the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ...hosts import Host
from ...outbox.rows import Delivery
from ...outbox.status import HostStatus
from ..answers import Answer
from ..files.store import Change, Staged, Store
from ..name_and_version import Version
from .node_transport import Passing
from .report import Line

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["Arrival", "Role"]


class Arrival(NamedTuple):
    """A file that arrives: ``took`` is called with how many bytes are here, ``mtime_ns`` is the mtime it is to get.

    ``passing`` is how it is passed on from then on.
    """

    took: Callable[[int], None]
    mtime_ns: int | None
    passing: Passing


class Role(Protocol):
    """``children`` are the nodes below, of which ``node_id`` is the parent; it is "" if there are none."""

    store: Store
    children: Sequence[Host]
    node_id: str

    def start(self) -> None:
        """Begin to deliver what is owed, in this process; harmless and cheap to repeat."""

    def close(self) -> None:
        """Wait for what is under way. What is owed stays owed."""

    # A write

    def passing(self, environ: WSGIEnvironment, size: int = 0) -> Passing:
        """Return how a write is to be passed on, a file of ``size`` bytes; refuse one that came through here before.

        To be called before anything is changed, and before the lock of the name is taken.
        """

    def arriving(
        self, name: str, version: Version, size: int, staged: Staged, passing: Passing
    ) -> AbstractContextManager[Arrival]:
        """Be told how much of a file is here. To be left when it is published, or refused."""

    def changing(self, name: str, passing: Passing) -> AbstractContextManager[Change]:
        """Hold a name that is to be published or deleted. Raises NameRejected, MediaRootError."""

    def publish(self, name: str, change: Change, staged: Staged, passing: Passing) -> list[Line]:
        """Give a sealed file its name, here and below; return what became of it. The caller holds the name."""

    def delete(self, name: str, change: Change, generation: int | None, passing: Passing) -> list[Line]:
        """Delete a name, here and below; return what became of it, also if it was not here. The caller holds it."""

    def answer(self, environ: WSGIEnvironment, name: str, lines: list[Line], *, created: bool) -> Answer:
        """Return what the writer is told. Refuses with 404 the delete of what was nowhere."""

    # A read

    def absent(self, environ: WSGIEnvironment, name: str) -> Answer:
        """Answer for a file that is not here, or refuse with the status that says so."""

    # The node's pages

    def status(self) -> dict[str, HostStatus]:
        """Return what is known of each child and owed to it, by its URL."""

    def owing(self, child: Host, after: str, limit: int) -> list[Delivery]:
        """Return up to ``limit`` deliveries that a child is owed, of names after ``after``, in the order of names."""

    def figures(self, environ: WSGIEnvironment) -> list[dict[str, Any]]:
        """Return what each node below owes itself; refuse a question that came through here before."""

    def tombstones(self, after: str) -> Iterator[str]:
        """Return the names after ``after`` that are known to be deleted, in the order of their UTF-8 bytes."""
