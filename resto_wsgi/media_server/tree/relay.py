"""A node that passes PUT and DELETE on to its children, and owes them what they miss: the library's engine and outbox.

The node's root is the master of its subtree. Each change is made under the lock of its name:

    step                killed here leaves
    staged              a file that the next start sweeps; a large one is with the children but for its end (``early``)
    owed (outbox)       the name, owed to every child; they match the root as it was, and are sent it once more
    in the root         the same; whoever sent it was told nothing
    sent to children    the same, on some of them already
    settled             what each child that did not take it is owed, in the outbox

A child that has taken a change answers for the nodes below it: the file is durable there and in its outbox. So what is
owed further down is in the report, and in ``/__missing__``, but nobody sends the same file again for it. ``node``
calls this.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...config import Settings
from ...errors import OutboxError
from ...hosts import Host
from ...outbox.outbox import Outbox
from ...outbox.rows import Delivery
from ...outbox.status import HostStatus
from ...replication import breaker
from ...replication.batch import Outcome
from ...replicator import Parts, Replicator
from ...transports.http.security import Security
from ..answers import JSON, TEXT, UNKEPT, Answer, Refused, no_such_file, whole_answer
from ..caller import is_library, is_node, own_url, patience, wants_json
from ..files.store import Change, Staged, Store
from ..name_and_version import Version
from . import report as tree_report
from .below import Below
from .early import EARLY_BYTES_MIN, Early
from .figures import figures_below
from .healing import Healing
from .hops import Hops
from .node_transport import NodeTransport, Passing, report_of
from .report import Line
from .role import Arrival

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["TIMEOUT", "Relay"]

TIMEOUT = 2.0  # seconds without progress after which a child is given up


class Relay:
    """The role of a node whose children have these URLs. Raises ConfigError, OutboxError.

    ``timeout`` is in seconds. ``outbox`` is the path of the outbox, by default in ``.resto`` of the root;
    ``credentials`` are the settings of that name, and those for TLS (see ``transports.http.security``), for the
    children. ``heal`` keeps what was missing here and was read through a child; ``inline`` is as for ``MediaServer``.
    """

    def __init__(
        self,
        store: Store,
        children: Sequence[str],
        *,
        timeout: float = TIMEOUT,
        outbox: str | None = None,
        credentials: Mapping[str, str] | None = None,
        heal: bool = False,
        inline: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        settings = Settings(
            media_root=store.root,
            media_url="/",
            media_hosts=tuple(children),
            fatal_exceptions=False,
            timeout=timeout,
            outbox=outbox,
            **(credentials or {}),  # type: ignore[arg-type]
        )
        self.children: Sequence[Host] = settings.hosts
        self.store = store
        self._clock = clock
        root = store.media_root
        self.node_id = Hops.own(root.identity)
        path = outbox or os.path.join(store.root, ".resto", "outbox.sqlite3")
        self.outbox = Outbox(path, identity=root.identity, kind="a master", clock=clock)
        self.transport = NodeTransport(timeout, store, self.node_id, self._way, Security.of(settings))
        parts = Parts(media_root=root, outbox=self.outbox, transport=self.transport, apart=True, clock=clock)
        self.replicator = Replicator(settings, parts=parts)
        keep = Healing(self).keep if heal else None
        self._below = Below(self.transport, self.children, self.node_id, inline=inline, keep=keep)

    def start(self) -> None:
        self.replicator.start()

    def close(self) -> None:
        self.replicator.close()

    # A write

    def passing(self, environ: WSGIEnvironment, size: int = 0) -> Passing:
        hops = Hops.of_request(environ)
        if not is_node(environ):
            # Only a node says which nodes there were: those that anybody else names would refuse the change.
            hops = Hops((), hops.count)
        hops.judge(self.node_id)
        return Passing(hops, patience(environ, size))

    @contextlib.contextmanager
    def arriving(self, name: str, version: Version, size: int, staged: Staged, passing: Passing) -> Iterator[Arrival]:
        """Send a large file to the children while it arrives, if somebody waits for them."""
        if size < EARLY_BYTES_MIN or not passing.below(size):
            yield Arrival(lambda total: None, version.mtime_ns, passing)
            return
        # Children are told the mtime before there is a file that could have one.
        mtime_ns = time.time_ns() if version.mtime_ns is None else version.mtime_ns
        fields = {"Resto-Mtime": str(max(0, mtime_ns)), **version.fields}
        now, states = self._clock(), self.outbox.host_states()
        begun = [
            (host, self.transport.begin(host, name, staged.path, size, fields, passing))
            for host in self.children
            if self.transport.can_begin(host, fields) and not breaker.is_away(states.get(host), now)
        ]
        early = Early(begun)
        try:
            yield Arrival(early.arrived, mtime_ns, replace(passing, early=early))
        finally:
            early.close()

    @contextlib.contextmanager
    def changing(self, name: str, passing: Passing) -> Iterator[Change]:
        try:
            with self.store.change(name) as change:
                yield change
        finally:
            if not passing.left:
                self.replicator.worker.wake()  # it could do nothing before the name is free

    def publish(self, name: str, change: Change, staged: Staged, passing: Passing) -> list[Line]:
        outcome = self._carry(name, lambda: change.publish(staged), passing, gone=False)
        done = Line("", "stored", staged.size)
        return [done, *self._lines(outcome, done)]

    def delete(self, name: str, change: Change, generation: int | None, passing: Passing) -> list[Line]:
        found = change.state is not None  # also of what is not here the children are told: one may have it
        outcome = self._carry(name, lambda: change.delete(generation), passing, gone=True)
        own = Line("", "deleted" if found else "absent")
        return [own, *self._lines(outcome, Line("", "deleted"))]

    def answer(self, environ: WSGIEnvironment, name: str, lines: list[Line], *, created: bool) -> Answer:
        """Return the report. 201 or 200: the whole subtree has it; 202: it is durable here, and owed below.

        The library, and a node above, ask whether this node has it, for it answers for those below from now on: they
        get 201 or 200 in both cases, and ``Resto-Owed`` says how many nodes are owed it. A DELETE of what was not
        here is 404, as without children, unless a child is owed it.
        """
        own = own_url(environ).partition("//")[2]
        lines = tree_report.unique(lines)
        bad = tree_report.owed(lines)
        # To the library 202 would be a failure: it would send the file again for as long as a leaf is away.
        if bad and not is_library(environ):
            status = "202 Accepted"
        elif lines[0].state == "absent":
            status = "404 Not Found"
        else:
            status = "201 Created" if created else "200 OK"
        if is_library(environ):
            kind, text = JSON, tree_report.for_parent(lines, name)
        elif wants_json(environ):
            kind, text = JSON, tree_report.as_json(lines, own, name)
        else:
            kind, text = TEXT, tree_report.as_text(lines, own, name)
        return whole_answer(status, kind, text.encode(), [("Resto-Owed", str(bad))])

    # A read

    def absent(self, environ: WSGIEnvironment, name: str) -> Answer:
        """Answer with what a child has, unless the name was deleted, or this very server is asked."""
        tombstone = self.store.generation(name)
        if tombstone is not None or self.is_gone(name):
            raise no_such_file(tombstone)
        if is_library(environ):
            # Anybody can say that he is the library, and a child may have the file.
            raise Refused("404 Not Found", "no such file", [UNKEPT])
        return self._below.answer(environ, name)

    def is_gone(self, name: str) -> bool:
        """Say whether a name is known to be deleted."""
        return bool(self.outbox.is_gone(name))

    # The node's pages

    def status(self) -> dict[str, HostStatus]:
        return {each.url: each for each in self.replicator.status().hosts}

    def owing(self, child: Host, after: str, limit: int) -> list[Delivery]:
        return self.outbox.owing(child, after, limit)

    def figures(self, environ: WSGIEnvironment) -> list[dict[str, Any]]:
        """Ask the children. One that is paused is not asked: the nodes above do not wait for long."""
        hops = Hops.of_request(environ)
        hops.judge(self.node_id)
        now, states = self._clock(), self.outbox.host_states()
        paused = {host: state.reason for host, state in states.items() if breaker.is_paused(state, now)}
        return figures_below(self.transport, self.children, paused, hops.through(self.node_id))

    def tombstones(self, after: str) -> Iterator[str]:
        return self.outbox.tombstones(after)

    # Parts of a write

    def _carry(self, name: str, change: Callable[[], object], passing: Passing, *, gone: bool) -> Outcome:
        later, way = not passing.left, passing.hops.way
        try:
            return self.replicator.carry(name, change, gone=gone, later=later, way=way, along=passing)
        except OutboxError as error:
            status = "507 Insufficient Storage" if error.full else "503 Service Unavailable"
            raise Refused(status, f"the outbox of this node: {error.problem}") from error

    def _way(self, host: Host, name: str) -> Hops:
        return Hops.of(self.outbox.way(host, name))

    def _lines(self, outcome: Outcome, done: Line) -> Iterator[Line]:
        for host in self.children:
            parent = host.url.partition("//")[2]
            error = outcome[host].error
            if error is not None:
                yield Line(parent, "refused" if error.permanent else "owed", None, error.reason, 1)
            else:
                for line in report_of(outcome[host].value) or [done]:
                    yield line.below(parent)
