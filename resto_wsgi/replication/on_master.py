"""Which hosts serve the master's own folder, as on a small site whose only disk is behind its media server as well.

    unknown ── what is put into MEDIA_ROOT is not found there ─────────────────> apart: it is sent files
       │ └──── it is, and what is put there over HTTP is in MEDIA_ROOT ────────> on the master: it holds what that holds
       └────── no answer ──> unknown: it is sent files, and looked at before the next ones

A file that is put on such a host would replace the master itself, under way. So nothing is sent to it: what MEDIA_ROOT
has it has, and what is gone there is gone. Finding a file is not enough, for a host may fetch from another what it
lacks. It must have written into the very folder. What was found is noted in the outbox. So a host is looked at once,
with its first delivery, and never on the way of a save after that. One that serves another folder since holds nothing
of it: it is expelled, and owed everything. The probes of a host have names of their own, which one look at a time uses:
what a killed one leaves, in MEDIA_ROOT or on the host, the next one replaces and removes, and the host is unknown until
then. What is sent must not be decided here. The convergence calls this.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import tempfile
from collections.abc import Iterable, Iterator

from ..errors import DeliveryError
from ..hosts import Host
from ..master.media_root import MediaRoot
from ..names import random_token
from ..outbox.outbox import Outbox
from ..transports import Transport

__all__ = ["PROBE", "OnMaster"]

PROBE = "resto-probe-"  # how the names of probes begin, which are nobody's files
NAME = f"{PROBE}{{}}-{{}}.txt"
LENGTH = 64  # characters of a probe, which nobody else has

log = logging.getLogger("resto_wsgi")


class OnMaster:
    """``hosts`` are those of ``configured`` that serve the master's own folder, ``unknown`` those to be looked at.

    Any thread may call.
    """

    def __init__(
        self,
        media_root: MediaRoot,
        outbox: Outbox,
        transport: Transport,
        configured: Iterable[Host],
    ) -> None:
        self._media_root = media_root
        self._outbox = outbox
        self._transport = transport
        self._configured = frozenset(configured)
        self.hosts: frozenset[Host] = frozenset()
        self.unknown: frozenset[Host] = frozenset()
        self._read()

    def holds(self, host: Host) -> bool:
        """Return True if a host holds what the master does, by now: another process may have found that it does not.

        Raises OutboxError.
        """
        if host in self.hosts:  # on most sites there are none, and this is all that a save pays
            self._read()
        return host in self.hosts

    def meet(self, host: Host) -> bool:
        """Look at a host that is unknown, and return True if it serves the master's own folder.

        If it answers nothing that tells, it stays unknown, and False is returned. Raises DeliveryError if it does not
        answer at all, MediaRootError, OutboxError.
        """
        found = self._look_at(host)
        if found is not None:
            self._note(host, found)
        return bool(found)

    def doubt(self, hosts: Iterable[Host]) -> None:
        """Take hosts for unknown that were sent a file while the master changed: it may be they who changed it."""
        self.unknown |= self._configured.intersection(hosts) - self.hosts

    def verify(self) -> None:
        """See whether the hosts on the master are there still; who is not is owed everything.

        Raises MediaRootError, OutboxError.
        """
        for host in self.hosts:
            with contextlib.suppress(DeliveryError):
                if self._look_at(host) is False:
                    self._note(host, False)
                    self._outbox.expel([host])  # after the note: from then on it is told what is saved
                    log.warning("%s serves MEDIA_ROOT no more, and is owed everything", host.label)

    def _look_at(self, host: Host) -> bool | None:
        """Return whether a host serves the master's folder; None if it cannot be told."""
        self._media_root.check_here()
        whose = hashlib.sha256(f"{self._media_root.identity} {host.url}".encode()).hexdigest()[:16]
        name = NAME.format(whose, "get")
        with self._media_root.lock(name):
            with self._probe(name) as content:
                found = self._finds(host, name, content)
            return self._writes(host, NAME.format(whose, "put")) if found else found

    def _finds(self, host: Host, name: str, content: bytes) -> bool | None:
        """Return whether a host gives what the master has; None if it fails. Raises DeliveryError without an answer."""
        received = bytearray()

        def take(block: bytes) -> None:
            if len(received) > len(content):
                raise FileNotFoundError
            received.extend(block)

        try:
            self._transport.get(host, name, take)
        except FileNotFoundError:
            return False
        except DeliveryError as error:
            if error.status is None:
                raise
            return None if error.status >= 500 else False
        return bytes(received) == content

    def _writes(self, host: Host, name: str) -> bool | None:
        """Return whether what is put on a host is in MEDIA_ROOT; None if it takes nothing."""
        content = random_token(length=LENGTH).encode()
        self._media_root.remove(name)
        try:
            with tempfile.TemporaryFile() as file:
                file.write(content)
                file.flush()
                self._transport.put(host, name, file, len(content), 0.0)
            return (
                self._media_root.exists(name) and self._media_root.sha256(name) == hashlib.sha256(content).hexdigest()
            )
        except DeliveryError as error:
            log.warning(
                "%s gives what is in MEDIA_ROOT, and takes no file (%s): if it serves that folder itself, let it take "
                "PUT and DELETE from this machine, so that this can be seen; if not, it needs them all the more",
                host.label,
                error.reason,
            )
            return None
        finally:
            with contextlib.suppress(DeliveryError):
                self._transport.delete(host, name)

    @contextlib.contextmanager
    def _probe(self, name: str) -> Iterator[bytes]:
        """Put a file into MEDIA_ROOT whose content nobody has, for as long as this lasts. Raises MediaRootError."""
        content = random_token(length=LENGTH).encode()
        staged = self._media_root.stage()
        try:
            staged.write(content)
            staged.seal()
            self._media_root.remove(name)
            self._media_root.forget(self._media_root.publish(staged, name))
        finally:
            staged.discard()
        try:
            yield content
        finally:
            self._media_root.remove(name)

    def _read(self) -> None:
        """Take over what is noted."""
        noted = self._outbox.notes.on_master()
        self.hosts = frozenset(host for host in self._configured if noted.get(host))
        self.unknown = self._configured - noted.keys()

    def _note(self, host: Host, found: bool) -> None:
        """Note what was found, for all processes."""
        if found and host not in self.hosts:
            log.info("%s serves MEDIA_ROOT itself: it holds what that holds, nothing is sent to it", host.label)
        self._outbox.notes.keep_on_master(host, found)
        self._read()
