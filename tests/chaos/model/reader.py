"""A reader: a thread that gets names from the servers all the while, as browsers do, past the application.

Whatever is answered with 200 must be whole, and must have been sent for that name. A validator stands for one content:
if it stands for two, a cache that asks with it gets the old bytes for good. What was put by hand may have any mtime.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
from urllib.parse import quote

from .. import bodies
from .site import Site

__all__ = ["Reader"]

EVERY = 0.03  # seconds between two requests: the product is to have most of the machine
WITHIN = 5.0  # seconds for an answer
LATEST = 20  # names that are read most


class Reader:
    """Reads while the ``with`` block lasts; ``reads`` counts what it got."""

    def __init__(self, site: Site) -> None:
        self.reads = 0
        self._site = site
        self._chance = random.Random(0)
        self._over = threading.Event()
        self._contents: dict[tuple[str, str, str], str] = {}
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(WITHIN * 4)

    def _run(self) -> None:
        servers = list(self._site.servers.values())
        while not self._over.wait(EVERY):
            server = self._chance.choice(servers)
            name = self._site.belief.ledger.some_name(self._chance, LATEST)
            if name is not None and server.pid is not None:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    self._read(server.label, server.port, name)

    def _read(self, label: str, port: int, name: str) -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN)) as connection:
            connection.request("GET", f"/{quote(name)}", headers={"Connection": "close"})
            answer = connection.getresponse()
            content = answer.read()
        if answer.status != 200:
            return
        self.reads += 1
        value, belief = bodies.identify(content), self._site.belief
        if value == bodies.TORN:
            belief.problems.append(f"torn: {len(content)} bytes of {name} from server {label}")
        elif not belief.ledger.was_sent(name, value):
            belief.problems.append(f"unsent: {value} as {name} from server {label}")
        key = label, name, answer.headers.get("ETag", "")
        if name not in self._site.by_hand and self._contents.setdefault(key, value) != value:
            belief.problems.append(f"validator: {key[2]} of {name} on server {label} stands for two contents")
