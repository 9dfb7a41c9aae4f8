"""One media server that is probed: how it is asked, what it is known to be, and what was written to it.

All names of the probes hang below one folder with a random name. Whatever may have been written is noted before the
request goes out, so that `cleaning` knows what may be there although no answer ever came. A request is refused with
`Stopped` once somebody wants the check to end.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from .. import names
from ..errors import DeliveryError
from ..hosts import Host
from ..transports import Transport
from ..transports.http.errand import fault
from ..transports.http.raw import RawReply, RawRequests, Tls
from ..transports.http.security import Security
from .finding import Finding, Stopped, Trouble, Verdict
from .remedies import remedy

__all__ = ["FOLDER", "Subject"]

FOLDER = re.compile(r"resto-check-[0-9a-z]{16}")
READ_LIMIT = 8 * 1024 * 1024  # bytes of a file that are read back: no probe writes more
SLOWEST = 64 * 1024  # bytes per second below which a transfer is given up


class Subject:
    """``folder`` is where the probes write; ``security`` is what the host is shown of us, and how it is known.

    ``media_root`` is MEDIA_ROOT, None if it is not to be looked at; ``keeps_master`` is False in mode distributed.
    ``kind`` and ``server`` are what `reach` found out; ``facts`` what `run` compares between hosts. ``own_folder`` is
    True once the folder has been seen to be ours and to be a folder: nothing else is ever removed as a tree.
    """

    def __init__(
        self,
        host: Host,
        transport: Transport,
        timeout: float,
        stop: threading.Event,
        *,
        largest: int,
        security: Security | None = None,
        media_root: str | None = None,
        keeps_master: bool = True,
    ) -> None:
        security = security or Security()
        self.host = host
        self.timeout = timeout
        self.largest = largest
        self.media_root = media_root
        self.keeps_master = keeps_master
        self.shown = security.kind(host.url)  # beside a certificate
        self.is_shown_something = bool(self.shown) or (security.has_certificate and host.url.startswith("https:"))
        self.folder = f"resto-check-{names.random_token(length=16)}"
        self.kind = "unknown"
        self.server = ""
        self.facts: dict[str, Any] = {}
        self.written: dict[str, bool] = {}  # name: whether a request on it ended without an answer
        self.taken = False  # whether any of these may have been taken
        self.own_folder = False
        self.ending = False  # what was written is taken away even if the check was stopped
        self._raw = RawRequests(host, timeout, security)
        self._stranger = RawRequests(host, timeout, security.bare())
        self._transport = transport
        self._stop = stop

    def name(self, leaf: str) -> str:
        return f"{self.folder}/{leaf}"

    def found(self, key: str, verdict: Verdict, seen: str, cause: str = "") -> Finding:
        """Return a finding with the remedy for it on this kind of server; ``cause`` picks among several."""
        cure = "" if verdict == "ok" else remedy(self.kind, key, cause, self._raw.local_address, self.largest)
        return Finding(key, verdict, seen, cure)

    # As replication does it

    def put(self, name: str, content: bytes, mtime: float | None = None) -> None:
        """PUT through the transport, which makes missing folders."""
        with self._noted(name), tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            self._transport.put(self.host, name, file, len(content), time.time() if mtime is None else mtime)
            self.taken = True

    def get(self, name: str) -> bytes | None:
        """Return the file, None if it is not there."""
        content = bytearray()
        ends = time.monotonic() + READ_LIMIT / SLOWEST

        def keep(block: bytes) -> None:
            self.check_stop()
            content.extend(block)
            if len(content) > READ_LIMIT:
                raise Trouble("sends more than was stored, without an end", 200)
            if time.monotonic() > ends:
                raise Trouble("sends what was stored too slowly", 200)

        with self._asked():
            try:
                self._transport.get(self.host, name, keep)
            except FileNotFoundError:
                return None
        return bytes(content)

    def head(self, name: str) -> int | None:
        """Return the size of the file, None if it is not there."""
        with self._asked():
            return self._transport.head(self.host, name)

    def delete(self, name: str) -> None:
        with self._asked():
            self._transport.delete(self.host, name)

    def answers(self) -> bool:
        """Say whether the host is still there."""
        try:
            with self._asked():
                self._transport.probe(self.host)
        except Trouble as trouble:
            return trouble.status is not None
        return True

    # As only somebody else would

    def raw(
        self, method: str, path: str, fields: Mapping[str, str] | None = None, *, bare: bool = False, **more: Any
    ) -> RawReply:
        """Ask for a percent-encoded path below the host's URL, with any method and fields.

        ``bare`` asks as a stranger does, who has no credentials; see `RawRequests.ask` for ``more``.
        """
        with self._asked():
            return (self._stranger if bare else self._raw).ask(method, f"/{path}", fields, **more)

    def raw_put(self, name: str, content: bytes, *, bare: bool = False) -> RawReply:
        """PUT a file in one request, with no folder made for it."""
        with self._noted(name):
            reply = self.raw("PUT", names.quote(name), bare=bare, body=content)
            self.taken = self.taken or reply.status < 400
            return reply

    def cut(self, name: str, length: int, content: bytes) -> None:
        """PUT a body that ends before its announced length."""
        with self._noted(name):
            self._raw.cut(f"/{names.quote(name)}", length, content)

    def announce(self, name: str, length: int) -> RawReply | None:
        """Return the refusal of a PUT of ``length`` bytes that is not sent, None if the host would take it."""
        with self._noted(name):
            return self._raw.announce(f"/{names.quote(name)}", length)

    def tls(self) -> Tls:
        """Return what TLS agreed on."""
        with self._asked():
            return self._raw.tls()

    def check_stop(self) -> None:
        if self._stop.is_set() and not self.ending:
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Wait; raise Stopped if that is wanted meanwhile."""
        self._stop.wait(seconds)
        self.check_stop()

    def patience(self) -> None:
        """Wait for what a host may do late; not cut short by a stop."""
        time.sleep(min(self.timeout, 2.0))

    @contextlib.contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        self.check_stop()
        self.written[name] = True
        try:
            with self._asked():
                yield
        except Stopped:
            self.written[name] = False  # nothing was sent yet
            raise
        except Trouble as trouble:
            self.written[name] = trouble.status is None
            self.taken = self.taken or self.written[name]
            raise
        self.written[name] = False

    @contextlib.contextmanager
    def _asked(self) -> Iterator[None]:
        self.check_stop()
        try:
            yield
        except DeliveryError as error:
            raise Trouble(error.reason, error.status, fault(error)) from error
