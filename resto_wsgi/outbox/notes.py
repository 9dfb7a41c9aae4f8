"""What walks and first meetings have found out of the media root and of hosts, kept for all processes of a site.

A note is one row of ``meta``, by its key, and JSON, so that it is ASCII whatever the names in it are. It is replaced as
a whole, on the disk when the call returns, and written only if it says something new. What follows from a note must not
be decided here: see ``replication.membership`` and ``replication.on_master``, which call this, as the status does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from ..hosts import Host
from . import tables as sql
from .database import Database

__all__ = ["Notes"]

UNLISTED, SKIPPED = "unlisted", "skipped"
ON_MASTER = "on master "  # and the URL of the host
LAST = "\U0010ffff"  # it sorts after every URL


class Notes:
    """The notes in ``database``. Without ``fsync`` a power cut may lose the latest. All methods raise OutboxError."""

    def __init__(self, database: Database, *, fsync: bool) -> None:
        self._database = database
        self._fsync = fsync

    def unlisted(self) -> frozenset[str]:
        """Return the folders of the media root that could not be listed, so that nobody is owed what is in them."""
        return frozenset(json.loads(self._read(UNLISTED) or "[]"))

    def keep_unlisted(self, folders: Iterable[str]) -> None:
        """Replace the folders that could not be listed."""
        self._keep(UNLISTED, json.dumps(sorted(folders)))

    def skipped(self) -> dict[str, int]:
        """Return how much of each kind the latest walk has passed over, so that no host gets it."""
        return dict(json.loads(self._read(SKIPPED) or "{}"))

    def keep_skipped(self, counts: Mapping[str, int]) -> None:
        """Replace how much of each kind the latest walk has passed over."""
        self._keep(SKIPPED, json.dumps(dict(counts)))

    def on_master(self) -> dict[Host, bool]:
        """Return which hosts serve the master's own folder; a host that is missing was not looked at yet."""
        found = self._database.read(sql.NOTES, (ON_MASTER, f"{ON_MASTER}{LAST}"))
        return {Host.of(key.removeprefix(ON_MASTER)): json.loads(value) for key, value in found}

    def keep_on_master(self, host: Host, found: bool) -> None:
        """Note whether a host serves the master's own folder."""
        self._keep(f"{ON_MASTER}{host.url}", json.dumps(found))

    def _read(self, key: str) -> str:
        return "".join(value for (value,) in self._database.read(sql.META, (key,)))

    def _keep(self, key: str, text: str) -> None:
        if text != self._read(key):
            values = (key, text)
            self._database.write(lambda connection: connection.execute(sql.NOTE, values), durable=self._fsync)
