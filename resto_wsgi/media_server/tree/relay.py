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
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from ...config import Settings
from ...errors import OutboxError
from ...hosts import Host
from ...master.media_root import Master, MediaRoot
from ...master.state import State
from ...master.walk import walk
from ...outbox.outbox import Outbox
from ...replication import breaker
from ...replication.outcome import Outcome
from ...replicator import Parts, Replicator
from ...transports.http.connection import AGENT
from ...transports.http.security import Security
from ..answers import Answer, Header, Refused
from ..files.own_names import is_own
from ..files.store import LONGEST, Change, Staged, Store
from . import report as tree_report
from .early import LEAST, Early
from .hops import Hops
from .node_transport import PASSING, WAIT, NodeTransport, Passing
from .report import Line

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["TIMEOUT", "Relay", "is_replicator"]

TIMEOUT = 2.0  # seconds without progress after which a child is given up
PATIENCE = 10.0  # seconds that a person waits for a subtree, beside what the bytes take
PACE = 8 * 1024 * 1024  # bytes per second that a person's file is given on its way through the subtree
LIBRARY = 1.0  # seconds that the library waits: half of its own timeout, after which it would send everything again
MOST_WAIT = 86400.0  # seconds

_AUTHORITY = r"[A-Za-z0-9._:\[\]-]{1,260}"
_CALLED = "HTTP_RESTO_CALLED"
_SECONDS = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?")


class Relay:
    """The children of one node, by their URLs. ``timeout`` is in seconds; raises ConfigError, OutboxError, OSError.

    ``outbox`` is the path of the outbox, by default in ``.resto`` of the root; ``credentials`` are the settings of that
    name, and those for TLS (see ``transports.http_security``), for the children.
    """

    def __init__(
        self,
        store: Store,
        children: Sequence[str],
        *,
        timeout: float = TIMEOUT,
        outbox: str | None = None,
        credentials: Mapping[str, str] | None = None,
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
        self.children: tuple[Host, ...] = settings.hosts
        self._store = store
        self.clock = clock
        root = _Root(store)
        self.identity = root.identity
        path = outbox or os.path.join(store.root, ".resto", "outbox.sqlite3")
        self.outbox = Outbox(path, identity=root.identity, kind="a master", clock=clock)
        self.transport = NodeTransport(timeout, store, root.identity, self._way, Security.of(settings))
        parts = Parts(media_root=root, outbox=self.outbox, transport=self.transport, clock=clock)
        self.replicator = Replicator(settings, parts=parts)
        self._later = threading.local()

    def start(self) -> None:
        """Begin to deliver what is owed, in this process; harmless and cheap to repeat."""
        self.replicator.start()

    def close(self) -> None:
        """Wait for what is under way. What is owed stays owed."""
        self.replicator.close()

    def passing(self, environ: WSGIEnvironment, size: int = 0) -> Passing:
        """Return how a write is to be passed on, a file of ``size`` bytes; refuses one that came through here before.

        To be called before anything is changed, and before the lock of the name is taken.
        """
        hops = Hops.of_request(environ)
        if not _is_node(environ):
            # Only a node says which nodes there were: those that anybody else names would refuse the change.
            hops = Hops((), hops.count)
        hops.judge(self.identity)
        return Passing(hops, _seconds(environ, size))

    @contextlib.contextmanager
    def early(
        self, name: str, staged: Staged, size: int, version: Mapping[str, str], passing: Passing
    ) -> Iterator[Callable[[int], None]]:
        """Send a large file to the children while it arrives; yields what is to be told how much of it is there.

        ``version`` has the headers of what is known of it. To be left when it is published, or refused.
        """
        if size < LEAST or not passing.below(size):
            yield lambda total: None
            return
        now = self.clock()
        states = self.outbox.host_states()
        begun = [
            (host, self.transport.begin(host, name, staged.path, size, version, passing))
            for host in self.children
            if self.transport.can_begin(host, version) and not breaker.is_away(states.get(host), now)
        ]
        passing.early = Early(begun)
        try:
            yield passing.early.arrived
        finally:
            passing.early.close()

    def publish(self, name: str, change: Change, staged: Staged, passing: Passing) -> list[Line]:
        """Give a sealed file its name, here and below; return what became of it. The caller holds the name."""
        outcome = self._carry(name, lambda: change.publish(staged), passing, gone=False)
        if self.outbox.is_gone(name):
            self.outbox.exhume(name)
        size = os.fstat(staged.fd).st_size
        return [Line("", "stored", size), *self._lines(outcome, passing, Line("", "stored", size))]

    def delete(self, name: str, change: Change, generation: int | None, passing: Passing) -> list[Line]:
        """Delete a name, here and below, also where it is not here: a child may have it. The caller holds the name."""
        state = "deleted"

        def delete() -> None:
            nonlocal state
            try:
                change.delete(generation)
            except FileNotFoundError:
                state = "absent"

        outcome = self._carry(name, delete, passing, gone=True)
        return [Line("", state), *self._lines(outcome, passing, Line("", "deleted"))]

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Around the holding of a name: what was left to the worker is begun when the name is free."""
        self._later.due = False
        try:
            yield
        finally:
            if self._later.due:
                self.replicator.worker.wake()

    def answer(self, environ: WSGIEnvironment, name: str, lines: list[Line], *, created: bool) -> Answer:
        """Return the report. 201 or 200: the whole subtree has it; 202: it is durable here, and owed below.

        The library, and a node above, ask whether this node has it, for it answers for those below from now on: they
        get 201 or 200 in both cases, and ``Resto-Owed`` says how many nodes are owed it. A DELETE of what was not
        here is 404, as without children, unless a child is owed it.
        """
        own = own_url(environ).partition("//")[2]
        lines = tree_report.unique(lines)
        bad = tree_report.owed(lines)
        if bad and not is_replicator(environ):
            status = "202 Accepted"
        elif lines[0].state == "absent":
            status = "404 Not Found"
        else:
            status = "201 Created" if created else "200 OK"
        if is_replicator(environ):
            kind, text = tree_report.JSON, tree_report.for_parent(lines, name)
        elif wants_json(environ):
            kind, text = tree_report.JSON, tree_report.as_json(lines, own, name)
        else:
            kind, text = "text/plain; charset=utf-8", tree_report.as_text(lines, own, name)
        body = text.encode()
        headers: list[Header] = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Resto-Owed", str(bad))]
        return Answer(status, headers, [body])

    def _carry(self, name: str, change: Callable[[], None], passing: Passing, *, gone: bool) -> Outcome:
        later = not passing.left
        self._later.due = later
        token = PASSING.set(passing)
        try:
            return self.replicator.carry(name, change, gone=gone, later=later, way=passing.hops.way)
        except OutboxError as error:
            status = "507 Insufficient Storage" if error.full else "503 Service Unavailable"
            raise Refused(status, f"the outbox of this node: {error.problem}") from error
        finally:
            PASSING.reset(token)

    def _way(self, host: Host, name: str) -> Hops:
        return Hops.of(self.outbox.way(host, name))

    def _lines(self, outcome: Outcome, passing: Passing, done: Line) -> Iterator[Line]:
        for host in self.children:
            parent = host.url.partition("//")[2]
            error = outcome[host]
            if error is not None:
                yield Line(parent, "refused" if error.permanent else "owed", None, error.reason, 1)
            else:
                for line in passing.reports.get(host.url) or [done]:
                    yield line.below(parent)


class _Root(MediaRoot):
    """The master as the node sees it: no symbolic link is followed, so none can make a child hold other files."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.root)
        self._store = store

    def open(self, name: str) -> Master:
        found = self._store.open(name)
        if found is None:
            raise FileNotFoundError(name)
        file, status = found
        return Master(file, status.st_size, status.st_mtime, State.of(status))

    def state(self, name: str) -> State | None:
        status = self._store.status(name)
        return None if status is None else State.of(status)

    def exists(self, name: str) -> bool:
        return self.state(name) is not None

    def names(self) -> Iterator[str]:
        return (name for name in walk(self.root, LONGEST) if self.exists(name) and not is_own(name))


def is_replicator(environ: WSGIEnvironment) -> bool:
    """Say whether the library asks, or a node above as it writes: it means this very server."""
    return bool(environ.get("HTTP_USER_AGENT") == AGENT)


def _is_node(environ: WSGIEnvironment) -> bool:
    """Say whether a node above writes: it says how long it waits, which the library does not."""
    return is_replicator(environ) and f"HTTP_{WAIT.upper().replace('-', '_')}" in environ


def wants_json(environ: WSGIEnvironment) -> bool:
    """Say whether a program asks."""
    return tree_report.JSON in environ.get("HTTP_ACCEPT", "")


def own_url(environ: WSGIEnvironment) -> str:
    """Return the URL of the root as the client calls this server, without a slash at its end.

    A proxy before us, which has taken the path away, says it in Resto-Called. Nothing but a scheme, a host, a port and
    a plain path is ever repeated, for people paste it into a shell.
    """
    called = str(environ.get(_CALLED, ""))
    if re.fullmatch(rf"https?://{_AUTHORITY}(?:/[A-Za-z0-9._~-]{{1,260}}){{0,20}}", called):
        return called
    host = str(environ.get("HTTP_HOST", ""))
    authority = host if re.fullmatch(_AUTHORITY, host) else f"{environ.get('SERVER_NAME', 'localhost')}"
    return f"{'https' if environ.get('wsgi.url_scheme') == 'https' else 'http'}://{authority}"


def _seconds(environ: WSGIEnvironment, size: int) -> float:
    """Return for how many seconds an answer may wait for the subtree; 0.0 where it is to wait for nobody."""
    wanted = environ.get(f"HTTP_{WAIT.upper().replace('-', '_')}")
    if wanted is not None:
        if not _SECONDS.fullmatch(wanted):
            raise Refused("400 Bad Request", f"{WAIT} is a number of seconds")
        return min(float(wanted), MOST_WAIT)
    try:
        query = parse_qs(environ.get("QUERY_STRING", ""), max_num_fields=8)
    except ValueError:
        query = {"wait": [""]}
    wait = query.get("wait", ["all"])[-1]
    if wait not in ("all", "local"):
        raise Refused("400 Bad Request", "wanted ?wait=all or ?wait=local")
    if wait == "local":
        return 0.0
    return LIBRARY if is_replicator(environ) else PATIENCE + size / PACE
