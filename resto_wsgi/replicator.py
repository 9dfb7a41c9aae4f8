"""What is saved and deleted, on the master and on every host: the policy of the whole.

A host is never told an operation; it is made to converge: look at the master now, PUT what is there or DELETE
what is not. A save, its withdrawal and a delete are all "change the master, then converge", under the lock of
the name, so that whoever comes last leaves every host equal to the master.

    step of a save          killed here leaves
    stage                   a staged file that the next process sweeps
    publish on the master   the file on the master, on no host; the caller was told nothing
    converge each host      the file on the master and on some hosts; the caller was told nothing
    take back, converge     the file on the hosts that were not reached any more
    return                  the file wherever ``outcome`` says

The outbox, once there is one, records each delivery before ``publish`` and settles it in ``_converge``, and
closes the gaps above; until then a failure that is not fatal is logged, and a withdrawal is tried once.
The middleware, the command and applications call this; WebOb and multipart must not be loaded here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from . import names
from .config import Settings
from .errors import ConfigError, DeliveryError, MediaRootError, ReplicationError
from .fanout import Fanout, Outcome
from .hosts import Host
from .media_root import MediaRoot, Publication, Staged
from .transports import Transport
from .transports.http import HttpTransport

__all__ = ["Publication", "Replicator", "Staged", "Stored"]

COPY = 1024 * 1024  # bytes read at a time from what is saved: few calls, little memory

log = logging.getLogger("resto_wsgi")


@dataclass(frozen=True)
class Stored:
    """What a save did: ``outcome`` is None for each host that holds the file, else the DeliveryError."""

    name: str
    size: int
    sha256: str
    url: str
    outcome: Mapping[str, DeliveryError | None]


class Replicator:
    """Files under a media root and on every media server.

    Takes ``Settings``, or their keywords (``media_root``, ``media_hosts`` and so on). Raises ConfigError where they
    do not fit, MediaRootError where the media root cannot be used. Any thread or forked process may call.
    """

    def __init__(
        self, settings: Settings | None = None, *, transport: Transport | None = None, **keywords: Any
    ) -> None:
        if settings is not None and keywords:
            raise ConfigError(sorted(keywords)[0], "give Settings or keywords, not both")
        self.settings = settings or Settings.from_keywords(**keywords)
        if self.settings.mode != "hybrid":
            raise ConfigError("mode", f"{self.settings.mode!r} is not available in this version; use 'hybrid'")
        self._media_root = MediaRoot(self.settings.media_root, fsync=self.settings.fsync)
        self._transport = transport or HttpTransport(self.settings.timeout)
        self._fanout = Fanout(self.settings.hosts)

    # The library

    def save(self, name: str, source: Any, *, overwrite: bool = False) -> Stored:
        """Save ``source`` (bytes, a path, or a binary file from where it stands) and replicate it.

        A name that is taken is varied with a random suffix, or with ``overwrite`` replaced: the name that was
        used is in the result. Returns when enough hosts hold it. Raises NameRejected, MediaRootError, and with
        ``fatal_exceptions`` ReplicationError, after which the file is withdrawn and what it replaced is back.
        """
        wanted = candidate = names.check(name)
        staged = self.stage()
        try:
            _copy(source, staged)
            while (published := self._publish_if_free(staged, candidate, overwrite)) is None:
                candidate = names.with_suffix(wanted, names.random_token())
            stored, publication = published
            self.forget(publication)
            return stored
        finally:
            staged.discard()

    def delete(self, name: str) -> None:
        """Delete a file on the master, then on every host; a name that is not there is deleted all the same.

        Raises NameRejected where it is a folder, MediaRootError, and with ``fatal_exceptions`` ReplicationError
        where some host did not take it; the master is deleted then too, and deleting again is harmless.
        """
        name = names.check(name)
        with self._media_root.lock(name):
            self._media_root.remove(name)
            outcome = self._converge(name)
        failures = _failures(outcome)
        if failures and self.settings.fatal_exceptions:
            done = len(outcome) - len(failures)
            raise ReplicationError("delete", name, failures, done=done, required=len(outcome))
        self._log(failures, "delete")

    def open(self, name: str) -> BinaryIO:
        """Open the master's copy for reading, as an unbuffered binary file. Raises FileNotFoundError."""
        return self._media_root.open(names.check(name)).file

    def exists(self, name: str) -> bool:
        """True where the master holds a file of this name."""
        return self._media_root.exists(names.check(name))

    def size(self, name: str) -> int:
        """Return the size in bytes. Raises FileNotFoundError."""
        return self._media_root.size(names.check(name))

    def listdir(self, path: str = "") -> tuple[list[str], list[str]]:
        """Return the folders and the files in a folder, sorted; "" is the media root. Raises FileNotFoundError."""
        return self._media_root.listdir(names.check(path.rstrip("/")) if path.strip("/") else "")

    def url(self, name: str) -> str:
        """Return the public URL of a name: MEDIA_URL and the name, percent-encoded."""
        return self.settings.media_url + names.quote(names.check(name))

    def path(self, name: str) -> str:
        """Return the absolute path of the master's copy."""
        return self._media_root.path(names.check(name))

    def close(self) -> None:
        """Wait for what is under way, then end threads, connections and staging."""
        self._fanout.close()
        self._transport.close()
        self._media_root.close()

    def __enter__(self) -> Replicator:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # The parts of a save, for callers that stage and decide in their own time

    def stage(self) -> Staged:
        """Begin a file that nobody sees; publish it or discard it."""
        return self._media_root.stage()

    def publish(self, staged: Staged, name: str, *, overwrite: bool = False) -> tuple[Stored, Publication]:
        """Give a staged file its name (already checked) on the master and every host.

        Raises FileExistsError where the name is taken, and else what ``save`` raises; nothing is left then. The
        publication can be withdrawn until it is forgotten, and the caller does one of the two.
        """
        staged.seal()
        with self._media_root.lock(name):
            publication = (self._media_root.replace if overwrite else self._media_root.publish)(staged, name)
            try:
                self._media_root.make_durable(publication)
                outcome = self._converge(name)
                self._require(name, outcome)
            except BaseException:
                self._take_back(publication)
                raise
        self._log(_failures(outcome), "save")
        return Stored(name, staged.size, staged.sha256, self.url(name), outcome), publication

    def withdraw(self, publication: Publication) -> None:
        """Take a publication back everywhere, unless somebody replaced it since. Failures are logged."""
        with self._media_root.lock(publication.name):
            self._take_back(publication)
        self.forget(publication)

    def forget(self, publication: Publication) -> None:
        """Let a publication stand: drop the version that it replaced. The staged file is still the caller's."""
        self._media_root.forget(publication)

    # Policy

    def _publish_if_free(self, staged: Staged, name: str, overwrite: bool) -> tuple[Stored, Publication] | None:
        try:
            return self.publish(staged, name, overwrite=overwrite)
        except FileExistsError:
            return None

    def _converge(self, name: str) -> Outcome:
        """Make every host match the master's state of ``name`` as it is now. The caller holds its lock."""
        return self._fanout.run(name, self._converge_host(name))

    def _converge_host(self, name: str) -> Callable[[Host], None]:
        def converge(host: Host) -> None:
            try:
                master = self._media_root.open(name)
            except FileNotFoundError:
                self._transport.delete(host, name)
                return
            with master.file:
                self._transport.put(host, name, master.file, master.size, master.mtime)

        return converge

    def _require(self, name: str, outcome: Outcome) -> None:
        """Raise ReplicationError where fewer hosts than required hold the name and that is fatal."""
        failures = _failures(outcome)
        done = len(outcome) - len(failures)
        if self.settings.fatal_exceptions and done < self.settings.required_hosts:
            raise ReplicationError("save", name, failures, done=done, required=self.settings.required_hosts)

    def _take_back(self, publication: Publication) -> None:
        """Undo on the master, then on the hosts, once. The caller holds the lock of the name."""
        try:
            taken = self._media_root.take_back(publication)
        except MediaRootError:
            log.exception("withdraw: the master may still hold the file, and the hosts are made to match it")
            taken = True
        if taken:
            self._log(_failures(self._converge(publication.name)), "withdraw")

    def _log(self, failures: Mapping[str, DeliveryError], action: str) -> None:
        for failure in failures.values():
            trace = failure if self.settings.show_traceback else None
            log.error("%s not replicated: %s", action, failure, exc_info=trace)


def _failures(outcome: Outcome) -> dict[str, DeliveryError]:
    return {label: failure for label, failure in outcome.items() if failure is not None}


def _copy(source: Any, staged: Staged) -> None:
    """Stage the whole of ``source``. Raises TypeError where it is no source of bytes."""
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
