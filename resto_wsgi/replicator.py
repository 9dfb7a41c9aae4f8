"""The library: files under a media root and on every media server, for applications and for the middleware.

The parts are put together here, and get their public names. The publisher saves and deletes, the worker delivers what
is owed, and the replicas read if there is no master; none of that must live here. Names are checked here, and nowhere
below. The middleware, the command and applications call this. WebOb must not be loaded here.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, BinaryIO, overload

from . import names
from .config import Settings
from .errors import ConfigError, DeliveryError
from .hosts import Host
from .master.media_root import MediaRoot
from .master.modes import Modes
from .master.publication import Publication
from .master.staged import Staged
from .master.walk import Skipped
from .outbox.outbox import Outbox
from .outbox.status import NameStatus, Status, status_of, status_of_name, with_answers
from .replication.asking import ask_for, ask_whether_up
from .replication.batch import Outcome
from .replication.convergence import Convergence
from .replication.distributed import Distributed
from .replication.fanout import Fanout
from .replication.lane import Lane
from .replication.membership import Membership
from .replication.modes import Async, Hybrid, Mode
from .replication.on_master import OnMaster
from .replication.outcome import by_label, errors_of
from .replication.publisher import Publisher
from .replication.sending import AtOnce, InBackground
from .replication.worker import Reporter, Worker
from .transports import Transport
from .transports.http.security import Security
from .transports.http.transport import HttpTransport

__all__ = ["Parts", "Publication", "Replicator", "Staged", "Stored"]

COPY = 1024 * 1024  # bytes read at a time from what is saved: few calls, little memory
STOP = 10.0  # seconds that close() waits for a delivery of the worker under way
POLL = 0.05  # seconds between two looks of drain()
HOUR, DAY = 3600.0, 86400.0  # seconds

MODES: dict[str, type[Mode]] = {"hybrid": Hybrid, "async": Async, "distributed": Distributed}

log = logging.getLogger("resto_wsgi")


@dataclass(frozen=True)
class Stored:
    """The result of a save: ``outcome`` is None for each host that holds the file, else why it does not hold it yet."""

    name: str
    size: int
    sha256: str
    url: str
    outcome: Mapping[str, DeliveryError | None]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Parts that a replicator is given and does not make itself. Times are in seconds, ``chance`` is from 0 to 1.

    ``apart`` says that no host can serve the media root itself, so that none is looked at for that.
    """

    media_root: MediaRoot | None = None
    outbox: Outbox | None = None
    transport: Transport | None = None
    fanout: Fanout | None = None
    apart: bool = False
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


class Replicator:
    """Files under a media root and on every media server.

    It takes ``Settings``, or their keywords (``media_root``, ``media_hosts`` and so on). Raises ConfigError if they do
    not fit, MediaRootError and OutboxError if the disk does not. Any thread or forked process may call.
    """

    def __init__(self, settings: Settings | None = None, *, parts: Parts | None = None, **keywords: Any) -> None:
        if settings is not None and keywords:
            raise ConfigError(sorted(keywords)[0], "give Settings or keywords, not both")
        self.settings = settings = settings or Settings.from_keywords(**keywords)
        hosts = self._hosts = settings.hosts
        kind = MODES[settings.mode]
        kind.check(settings)
        security = Security.of(settings)
        parts = parts or Parts()
        clock, chance, self._sleep = parts.clock, parts.chance, parts.sleep
        self._clock = clock
        self._swept = 0.0  # when all was swept, not staging alone
        root = self._media_root = parts.media_root or MediaRoot(
            settings.media_root,
            fsync=settings.fsync,
            linked=settings.linked_folders,
            modes=Modes(settings.file_mode, settings.folder_mode),
        )
        path = settings.outbox or os.path.join(root.root, ".resto", "outbox.sqlite3")
        outbox = self._outbox = parts.outbox or Outbox(
            path, identity=root.identity, kind=kind.keeps, fsync=settings.fsync, clock=clock
        )
        whose = root.identity if kind.owns_names else ""
        transport = self._transport = parts.transport or HttpTransport(settings.timeout, security, root=whose)
        self._fanout = parts.fanout or Fanout(transport)
        mode = self._mode = kind.of(settings, root, outbox, transport, clock)
        on_master = self._on_master = OnMaster(root, outbox, transport, () if parts.apart else hosts)
        convergence = Convergence(root, outbox, self._fanout, mode, on_master, clock, chance)
        report = Reporter(settings.show_traceback, clock)
        lanes = [Lane(host, root, outbox, transport, convergence, report, clock, chance) for host in hosts]
        same = sha256("\n".join(sorted(host.url for host in hosts)).encode()).hexdigest()[:8]
        both = [each for lane in lanes for each in (lane, lane.large)]
        self.worker = Worker(both, f"{path}.worker-{same}", self.sweep, background=settings.background)
        self._membership = Membership(root, outbox, hosts, mode)
        sending = (settings, outbox, convergence, self.worker, clock)
        at_once, in_background = AtOnce(*sending), InBackground(*sending)
        self._publisher = Publisher(settings.required_hosts, root, outbox, mode, at_once, in_background)

    # The library

    def save(self, name: str, source: Any, *, overwrite: bool = False) -> Stored:
        """Save ``source`` (bytes, a path, or a binary file from its position on), replicate it, and return the result.

        If the name is taken, it gets a random suffix; with ``overwrite`` the file is replaced. The name that was used
        is in the result. Returns when enough hosts hold it, in mode async when the master does. Raises NameRejected,
        MediaRootError, OutboxError, and with ``fatal_exceptions`` ReplicationError; the file is then withdrawn, and
        what it replaced is back.
        """
        wanted = candidate = names.check(name)
        staged = self.stage(near=wanted)
        try:
            _copy(source, staged)
            while (published := self._publish_if_free(staged, candidate, overwrite)) is None:
                candidate = names.with_suffix(wanted, names.random_token())
            stored, publication = published
            self.keep(publication)
            return stored
        finally:
            staged.discard()

    def delete(self, name: str) -> None:
        """Delete a file on the master, then on every host; a name that is not there is deleted all the same.

        Raises NameRejected if it is a folder, MediaRootError, OutboxError, and with ``fatal_exceptions``
        ReplicationError if some host did not take it; the delete stands then, and stays owed to that host.
        """
        self._publisher.delete(names.check(name))

    def open(self, name: str) -> BinaryIO:
        """Return the master's copy, open for reading as an unbuffered binary file. Raises FileNotFoundError.

        In mode distributed the copy of some host is fetched first; ReplicationError is raised if none answers.
        """
        return self._mode.open(names.check(name))

    def exists(self, name: str) -> bool:
        """Return True if the master holds a file of this name; in mode distributed, if a host holds it."""
        return self._mode.exists(names.check(name))

    def size(self, name: str) -> int:
        """Return the size in bytes. Raises FileNotFoundError, and in mode distributed ReplicationError."""
        return self._mode.size(names.check(name))

    def listdir(self, path: str = "") -> tuple[list[str], list[str]]:
        """Return the folders and the files in a folder, sorted; "" is the media root. Raises FileNotFoundError.

        In mode distributed these are the files that were saved through this media root.
        """
        return self._mode.listdir(names.check(path.rstrip("/")) if path.strip("/") else "")

    def url(self, name: str) -> str:
        """Return the public URL of a name: MEDIA_URL and the name, percent-encoded."""
        return self.settings.media_url + names.quote(names.check(name))

    def path(self, name: str) -> str:
        """Return the absolute path of the master's copy. Raises RestoError in mode distributed, which has no master."""
        return self._mode.path(names.check(name))

    def close(self) -> None:
        """Wait for what is under way, then end threads, connections and staging. What is owed stays owed."""
        if not self.worker.stop(STOP):
            log.warning("worker: a delivery is still under way, and is made again by the next process")
        self._fanout.close()
        self._transport.close()
        self._outbox.close()
        self._media_root.close()

    def __enter__(self) -> Replicator:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # What is owed

    def start(self) -> None:
        """Begin to deliver what is owed, in the background of this process; harmless and cheap to repeat.

        A save does this by itself, and so does the middleware at each request. The constructor must not do it: a server
        that forks its workers afterwards would fork while that thread is at work.
        """
        self.worker.start()

    def drain(
        self,
        timeout: float = 60.0,
        *,
        host: str | None = None,
        parked: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> bool:
        """Deliver what is owed now, before it is due; return True if all is delivered, False if time is up.

        ``timeout`` is in seconds. ``host`` (as in ``media_hosts``) limits this to one host. With ``parked``, deliveries
        that a host refused for good are tried again; else nobody waits for them. ``progress`` is called with the number
        that is still owed. Raises ConfigError if there is no such host, OutboxError.
        """
        if not timeout >= 0:  # nan, too, would never end
            raise ConfigError("timeout", "takes seconds, 0 or more")
        hosts = self._hosts if host is None else (self._host(host),)
        self._membership.admit()
        until = self._outbox.generation()
        self._outbox.nudge(hosts, parked=parked)
        self.worker.start(anyway=True)
        self.worker.wake()
        try:
            done = self._wait_until_settled(hosts, until, time.monotonic() + timeout, progress or (lambda owed: None))
            self._membership.admit()
            return done
        finally:
            if not self.settings.background:
                self.worker.stop(STOP)

    def sync(self, host: str) -> int:
        """Owe one host every name of the master and the delete of every tombstone; return how many names that is.

        It is for a host that was replaced, or that lost files: the worker, or ``drain``, makes it equal to the master.
        Raises ConfigError if there is no such host, MediaRootError, OutboxError.
        """
        count = self._membership.renew(self._host(host))
        self.start()
        self.worker.wake()
        return count

    def dismiss(self, host: str) -> int:
        """Forget a host that is not in ``media_hosts`` any more; return how many deliveries it was owed.

        ``host`` is its URL, as in ``status``. If it comes back, it is owed everything. Raises ConfigError if it is
        configured or if nothing is owed to it, OutboxError.
        """
        if any(host in (each.label, each.url) for each in self._hosts):
            raise ConfigError("host", "is in media_hosts; what it is owed must be delivered to it")
        if not (count := self._outbox.forget(Host.of(host))):
            raise ConfigError("host", "nothing is owed to such a media server; `resto status` shows their URLs")
        return count

    @overload
    def status(self, *, ask: bool = False) -> Status: ...
    @overload
    def status(self, name: str, *, ask: bool = False) -> NameStatus: ...
    def status(self, name: str | None = None, *, ask: bool = False) -> Status | NameStatus:
        """Return what is known of each host and owed to it.

        With ``name``, return which hosts hold that name, which do not match yet, and why. With ``ask``, each host is
        asked, too, all at once and within the timeout: it says whether it answers, or what it holds. Raises
        NameRejected, OutboxError.
        """
        if name is None:
            status = status_of(self._outbox, self._hosts)
            return with_answers(status, ask_whether_up(self._transport, self._hosts)) if ask else status
        name = names.check(name)
        master = self._media_root.state(name)
        present, size = self._mode.is_present(name), master and master.size
        found = status_of_name(self._outbox, self._hosts, name, present, size)
        if not ask:
            return found
        return replace(found, asked=by_label(ask_for(self._transport, self._hosts, name)))

    def skipped(self) -> Iterator[Skipped]:
        """Yield what no host gets and why, all of it: links, names that cannot be used, folders that cannot be listed.

        It walks through MEDIA_ROOT. Raises MediaRootError.
        """
        found: list[Skipped] = []
        for _ in self._media_root.names(found.append):
            yield from found
            found.clear()
        yield from found

    def sweep(self) -> None:
        """Remove what dead processes left, and tombstones that are old enough. The worker does this now and then."""
        self._media_root.sweep()
        self._on_master.verify()
        self._membership.admit()
        self._outbox.take_note()
        now = self._clock()
        if now - HOUR < self._swept <= now:
            return
        self._swept = now
        self._outbox.purge(now - self.settings.tombstone_days * DAY)
        self._mode.sweep()

    # The parts of a save, for callers that stage and decide in their own time

    def stage(self, hold: int = 0, *, near: str = "") -> Staged:
        """Return a new file that nobody sees, of which ``hold`` bytes may stay in memory; publish it or discard it.

        ``near`` is its name or its folder, if that is known; it matters for a folder on another disk
        (``linked_folders``).
        """
        return self._media_root.stage(hold, near=near)

    def publish(self, staged: Staged, name: str, *, overwrite: bool = False) -> tuple[Stored, Publication]:
        """Give a staged file its name (already checked) on the master and every host; return the result of the save.

        Raises FileExistsError if the name is taken, and else what ``save`` raises; nothing is left then. The
        publication, which is returned too, can be withdrawn until it is kept. The caller must do one of the two.
        """
        outcome, publication = self._publisher.publish(staged, name, overwrite=overwrite)
        return Stored(name, staged.size, staged.sha256, self.url(name), by_label(errors_of(outcome))), publication

    def withdraw(self, publication: Publication) -> None:
        """Take a publication back everywhere, unless somebody replaced it since. It stays owed to hosts that fail.

        Raises OutboxError if that cannot be recorded: nothing is taken back then, and the call can be repeated.
        """
        self._publisher.withdraw(publication)

    def keep(self, publication: Publication) -> None:
        """Let a publication stand: drop the version that it replaced. The staged file is still the caller's."""
        self._publisher.keep(publication)

    # For a media server, which keeps the master itself

    def carry(
        self,
        name: str,
        change: Callable[[], object],
        *,
        gone: bool,
        later: bool,
        way: str = "",
        along: object = None,
    ) -> Outcome:
        """Return the outcome of a change that the caller makes, at each host.

        The name is owed to every host; then ``change`` publishes or deletes it on the master; then the hosts are made
        to match. The caller holds the lock of the name. If ``change`` raises and the master is as it was, nothing is
        owed for it. ``gone`` leaves a tombstone. ``later`` leaves the hosts to the worker; the caller wakes the worker
        after the release of the lock. ``way`` is kept with what is owed, see ``Outbox.way``. ``along`` is given to the
        transport with each delivery that is made now; nobody else looks at it. Raises OutboxError, MediaRootError.
        """
        return self._publisher.carry(name, change, gone=gone, later=later, way=way, along=along)

    # Policy

    def _publish_if_free(self, staged: Staged, name: str, overwrite: bool) -> tuple[Stored, Publication] | None:
        try:
            return self.publish(staged, name, overwrite=overwrite)
        except FileExistsError:
            return None

    def _wait_until_settled(
        self, hosts: Sequence[Host], until: int, deadline: float, progress: Callable[[int], None]
    ) -> bool:
        """Return True if everything up to generation ``until`` was settled in time.

        Later generations do not count: on a busy site something is always owed.
        """
        while True:
            waiting = self._outbox.owed(hosts, parked=False, until=until)  # asked first: a part of the next
            if not (owed := self._outbox.owed(hosts, until=until)):
                break
            progress(owed)
            left = deadline - time.monotonic()
            if left <= 0 or not waiting:
                return False
            self._sleep(min(POLL, left))
        progress(0)
        return True

    def _host(self, spec: str) -> Host:
        for host in self._hosts:
            if spec in (host.label, host.url):
                return host
        known = ", ".join(host.label for host in self._hosts) or "none"
        raise ConfigError("host", f"no such media server; media_hosts has {known}")


def _copy(source: Any, staged: Staged) -> None:
    """Stage the whole of ``source``. Raises TypeError if it is no source of bytes."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        staged.write(memoryview(source).cast("B"))
    elif isinstance(source, (str, os.PathLike)):
        with open(source, "rb", buffering=0) as file:
            _copy(file, staged)
    elif hasattr(source, "read"):
        while True:
            block = source.read(COPY)
            if not isinstance(block, (bytes, bytearray, memoryview)):  # an empty str and None are no end of a file
                found = "text" if isinstance(block, str) else "non-blocking"
                raise TypeError(f"save takes a file opened in binary mode, not in {found} mode")
            if not block:
                return
            staged.write(block)
    else:
        raise TypeError(f"save takes bytes, a path or a binary file, not {type(source).__name__}")
