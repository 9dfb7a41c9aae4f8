"""What the node above says to a node that catches up with it: its index, a file of it, and one name as it is now.

It is believed in what it holds, and in nothing else. Pages and numbers are bounded, each name is judged as a client's
would be, an index has to go forward, so that one that goes round ends, and no file fills the disk. An earlier fetch
that broke off is gone on with, if the file is still that version (If-Range). Nothing is published here. ``catch_up``
calls this.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ... import names
from ...errors import DeliveryError, NameRejected, RestoError
from ...fields.digests import parse_digest
from ...hosts import parse_hosts
from ...transports.http.connection import COMMON
from ..answers import BLOCK_BYTES, JSON
from ..files.own_names import INDEX, is_own
from ..files.store import PATH_BYTES_MAX
from ..paging import query_text
from .hops import Hops
from .node_transport import NodeTransport, Reading

__all__ = ["PAUSE_SECONDS", "Above", "CatchUpError", "Pace", "Record"]

PAGE_ENTRIES = 1000  # asked for at a time
PAGE_BYTES_MAX = 8 * 1024 * 1024  # a thousand of the longest names
PAGE_TRIES_MAX = 3
PAUSE_SECONDS = 0.5  # between two tries
NUMBER_MAX = (1 << 64) - 1  # of a size, an mtime in ns or a generation
HASHED_BYTES_MAX = 1024**3  # the digest of a larger file would be computed for longer than we wait for an answer
ETAG_CHARACTERS_MAX = 256
REMEDIES = {  # of an index that is refused
    401: "; give what it wants in the file of RESTO_CREDENTIALS_FILE, and compare the clocks",
    403: "; its index is for those who may write there, so let this machine (--allow)",
    404: "; give the URL of another `resto media-server`, with the path that its names hang below",
}

_ID = re.compile(r"[0-9a-f]{12}")


class CatchUpError(RestoError):
    """The node above cannot be read, or its index is none; what was fetched until then stays."""


class Record(NamedTuple):
    """A file of the index; ``sha256`` and ``generation`` are None if the node above does not say them."""

    name: str
    size: int
    mtime_ns: int
    sha256: bytes | None
    generation: int | None


class Pace:
    """Keeps what is moved below ``rate`` bytes per second on the whole; None is no limit."""

    def __init__(self, rate: float | None, sleep: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._rate = rate
        self._sleep = sleep
        self._clock = clock
        self._free = clock()  # when the next bytes may be taken
        # At a low rate the blocks are small, or the sender would see nothing move for too long.
        self.block = BLOCK_BYTES if rate is None else max(1, min(BLOCK_BYTES, int(rate / 4)))

    def take(self, count: int) -> None:
        """Wait until ``count`` more bytes may be moved."""
        if self._rate is None:
            return
        now = self._clock()
        self._free = max(self._free, now - 1.0) + count / self._rate  # a second that was not used may be made up for
        if self._free > now:
            self._sleep(self._free - now)


class Above:
    """The node at ``url``; raises ConfigError if that is none. ``pace`` bounds what is fetched.

    ``hops`` names it, as soon as its index was read: what is fetched has come through it. One without children does not
    say who it is, and nothing can lead back to it.
    """

    def __init__(
        self, url: str, transport: NodeTransport, pace: Pace, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        (self._host,) = parse_hosts([url], "/")
        self._transport = transport
        self._pace = pace
        self._sleep = sleep
        self.hops = Hops()

    def files(self) -> Iterator[Record]:
        """Yield each file that it holds, in the order of a walk. Raises CatchUpError."""
        return self._index("names", {}, lambda name: name.split("/"))

    def deleted(self) -> Iterator[Record]:
        """Yield each name that was deleted there, in the order of their UTF-8 bytes. Raises CatchUpError."""
        return self._index("gone", {"gone": 1}, lambda name: [name])

    def look(self, name: str) -> Reading:
        """Ask for a name as it is now: 200 or 404. Takes no lock there. Raises DeliveryError."""
        with self._transport.read(self._host, "HEAD", f"/{names.quote(name)}", COMMON) as reading:
            if reading.status not in (200, 404):
                raise reading.refused()
            return reading

    def fetch(self, record: Record, path: str, fd: int, took: Callable[[int], None]) -> Reading | None:
        """Complete the part ``fd`` at ``path``; return the answer that tells its version, None if there is no file.

        ``took`` is called with the bytes that come. Raises DeliveryError, after which what came can be gone on from.
        """
        fields = dict(COMMON)
        if record.size <= HASHED_BYTES_MAX:
            fields["Want-Repr-Digest"] = "sha-256=1"
        have = os.fstat(fd).st_size
        if 0 < have < record.size and (etag := _etag_of(path)):
            fields |= {"Range": f"bytes={have}-", "If-Range": etag}
        with self._transport.read(self._host, "GET", f"/{names.quote(record.name)}", fields) as reading:
            if reading.status in (404, 410):
                return None
            start = _start_of(reading, have if "Range" in fields else 0)
            os.ftruncate(fd, start)
            os.lseek(fd, start, os.SEEK_SET)
            _note_etag(path, reading.headers.get("ETag", ""))
            self._copy(reading, fd, took)
        return reading

    def _copy(self, reading: Reading, fd: int, took: Callable[[int], None]) -> None:
        room = _room(fd)
        if (reading.size or 0) > room:
            raise _too_large(reading, f"{reading.size} bytes are to come, and the disk has room for {room}")
        for block in reading.blocks(self._pace.block):
            room -= len(block)
            if room < 0:  # nobody said how much would come
                os.ftruncate(fd, 0)
                raise _too_large(reading, "more bytes came than the disk has room for")
            view = memoryview(block)
            while view:
                view = view[os.write(fd, view) :]
            took(len(block))
            self._pace.take(len(block))

    def _index(self, key: str, query: dict[str, object], place: Callable[[str], list[str]]) -> Iterator[Record]:
        """Yield the records under ``key``, page by page; ``place`` returns what names are sorted by."""
        after = ""
        while True:
            following = {"after": after} if after else {}
            target = f"/{INDEX}?{query_text(**query, limit=PAGE_ENTRIES, **following)}"
            page = [_record(each) for each in self._page(target, key)]
            for record in page:
                if after and place(record.name) <= place(after):
                    raise CatchUpError(f"the index of {self._host.label} does not go forward")
                after = record.name
                if not is_own(record.name):
                    yield record
            if not page:
                return

    def _page(self, target: str, key: str) -> list[Any]:
        left = PAGE_TRIES_MAX
        while True:
            try:
                return self._understood(json.loads(self._text(target)), key)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise CatchUpError(f"the index of {self._host.label} cannot be understood") from error
            except DeliveryError as error:
                left -= 1
                if not left or error.status is not None:
                    problem = error.reason + REMEDIES.get(error.status or 0, "")
                    raise CatchUpError(f"the index of {self._host.label} is not to be had: {problem}") from error
            self._sleep(PAUSE_SECONDS)

    def _understood(self, page: Any, key: str) -> list[Any]:
        self.hops = _hops(page.get("node", ""))
        return _list(page[key])

    def _text(self, target: str) -> bytes:
        with self._transport.read(self._host, "GET", target, {**COMMON, "Accept": JSON}) as reading:
            if reading.status != 200:
                raise reading.refused()
            return reading.text(PAGE_BYTES_MAX)


def _start_of(reading: Reading, wanted: int) -> int:
    """Return from which byte on the file comes, of which those from ``wanted`` on were asked for."""
    goes_on = str(reading.headers.get("Content-Range", "")).startswith(f"bytes {wanted}-")
    if reading.status != 200 and not (reading.status == 206 and wanted and goes_on):
        raise reading.refused()
    if not reading.ends:
        raise reading.failed("its answer does not say where the file ends")
    return wanted if reading.status == 206 else 0


def _room(fd: int) -> int:
    """Return how many bytes the disk of an open file has free."""
    found = os.fstatvfs(fd)
    return found.f_bavail * found.f_frsize


def _too_large(reading: Reading, reason: str) -> DeliveryError:
    return reading.failed(reason).with_facts(permanent=True)


def _record(found: Any) -> Record:
    """Return a record of an index, judged: no name leads out of the root. Raises CatchUpError."""
    record = {"name": found} if isinstance(found, str) else found
    try:
        name = _name(record["name"])
        told = record.get("digest")
        sha256 = None if told is None else parse_digest(str(told))
        size, mtime_ns = _number(record.get("size", 0)), _number(record.get("mtime_ns", 0))
        generation = None if "generation" not in record else _number(record["generation"])
    except (NameRejected, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CatchUpError("the index holds what is no name of a file, or no size or digest of one") from error
    return Record(name, size, mtime_ns, sha256, generation)


def _name(text: str) -> str:
    if names.check(text, PATH_BYTES_MAX) != text:
        raise ValueError("not in NFC")
    return text


def _number(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value <= NUMBER_MAX:
        raise ValueError("no number")
    return value


def _hops(node: str) -> Hops:
    if node and not _ID.fullmatch(node):
        raise ValueError("no id of a node")
    return Hops.of(node)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return value


def _note_etag(path: str, etag: str) -> None:
    with open(f"{path}.etag", "w", encoding="utf-8", errors="replace") as file:
        file.write(etag[:ETAG_CHARACTERS_MAX])


def _etag_of(path: str) -> str:
    with contextlib.suppress(OSError, UnicodeError), open(f"{path}.etag", encoding="utf-8") as file:
        etag = file.read(ETAG_CHARACTERS_MAX)
        return etag if etag.startswith('"') and etag.isascii() and etag.isprintable() else ""
    return ""
