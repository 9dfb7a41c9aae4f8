"""Bringing a node up to date from the node above it, by that one's ``/__index__``: files that differ, and deletes.

    step of one file     killed here leaves
    being fetched        a part in ``.resto/catch-up``, named after the version: the next run goes on from there
    fetched, compared    the same, whole
    published            the file; if this node has children, owed to them
    all was compared     nothing in ``.resto/catch-up``

Others may write meanwhile, here and above. So nothing is published or deleted only because the index said so, which may
be old. Under the lock of the name, the name has to be as it was here when it was looked at, and the node above is asked
once more whether it still has that version, or none. Whatever changes there afterwards is sent here, and waits for the
lock. What is newer here (by its generation, else by its mtime) is kept, and so is a name that is only here, unless the
node above says that it was deleted. If that one holds no file at all, it may be the wrong one, and no more than
DELETES_MAX names are deleted here. One run at a time for each root. The command calls this.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from ... import names
from ...errors import DeliveryError, MediaRootError, NameRejected
from ...fields.digests import parse_digest
from ...hosts import parse_hosts
from ...master.hashing import blocks_of, sha256_of
from ...master.hidden import make_hidden
from ...master.locks import FileLock
from ...master.state import State
from ...transports.http.security import Security
from ..answers import Refused
from ..files import marks
from ..files.store import Change, Staged
from .above import PAUSE_SECONDS, Above, CatchUpError, Pace, Record
from .hops import Hops
from .node_transport import NodeTransport, Passing, Reading, generation_of, mtime_ns_of
from .role import Role

__all__ = ["CatchUp", "CatchUpError", "Progress"]

TIMEOUT = 10.0  # seconds without progress
FILE_TRIES_MAX = 5  # each goes on from where the last one broke off
FOLDER = "catch-up"
DELETES_MAX = 100  # if no file at all is left above


@dataclass(frozen=True)
class Progress:
    """How far it is: names looked at, files fetched and bytes of them, deletes, files newer here, and failures."""

    seen: int = 0
    fetched: int = 0
    size: int = 0
    deleted: int = 0
    newer: int = 0
    failed: int = 0


@dataclass(frozen=True)
class _Reason:
    """Why a name could not be done; ``final`` if another try is of no use."""

    text: str
    final: bool


class CatchUp:
    """One run for the node that has ``role``, from the node at ``url``. Raises ConfigError if that is no URL.

    ``credentials`` are those for the node above, as for ``Relay``.
    ``rate`` is in bytes per second, None for no limit. ``report`` is called with the progress, often; ``warn`` with a
    line for each name that could not be brought up to date.
    """

    def __init__(
        self,
        role: Role,
        url: str,
        *,
        rate: float | None = None,
        timeout: float = TIMEOUT,
        credentials: Mapping[str, str] | None = None,
        report: Callable[[Progress], None] = lambda progress: None,
        warn: Callable[[str], None] = lambda line: None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._role = role
        self._store = role.store
        security = Security(parse_hosts([url], "/"), **(credentials or {}))  # type: ignore[arg-type]
        self._transport = NodeTransport(timeout, role.store, "", lambda host, name: Hops(), security)  # it only reads
        self._above = Above(url, self._transport, Pace(rate, sleep, clock), sleep)
        self._report = report
        self._warn = warn
        self._sleep = sleep
        self._folder = os.path.join(role.store.root, ".resto", FOLDER)
        self.progress = Progress()

    def run(self) -> Progress:
        """Compare, fetch and delete until all of the index was seen. Raises CatchUpError, MediaRootError, OSError."""
        make_hidden(self._folder)
        lock = FileLock(f"{self._folder}.lock")
        if not lock.acquire(wait=False):
            raise CatchUpError("another process catches up for this root")
        try:
            for record in self._above.files():
                self._try(record.name, partial(self._bring, record))
            if not self.progress.seen:
                self._judge_deletes()
            for record in self._above.deleted():
                self._try(record.name, partial(self._delete, record.name))
            if not self.progress.failed:  # else the parts are gone on from by the next run
                shutil.rmtree(self._folder, ignore_errors=True)
        finally:
            lock.release()
            self._transport.close()
        return self.progress

    def _judge_deletes(self) -> None:
        """Refuse to empty this root by what a node says that has no files."""
        doomed = (record for record in self._above.deleted() if self._state(record.name) is not None)
        if sum(1 for _ in islice(doomed, DELETES_MAX + 1)) > DELETES_MAX:
            problem = f"the node above has no files, and says that more than {DELETES_MAX} of those here were deleted"
            raise CatchUpError(
                f"{problem}; nothing was. Look at its URL and its root; if that is right, empty the root"
            )

    def _try(self, name: str, work: Callable[[], None]) -> None:
        """Do one name. What fails for it alone is told and passed over; a disk that refuses ends the run."""
        self._advance(seen=1)
        left = FILE_TRIES_MAX
        while reason := self._attempt(work):
            left -= 1
            if not left or reason.final:
                self._advance(failed=1)
                self._warn(f"{names.quote(name)}: {reason.text}")
                return
            self._sleep(PAUSE_SECONDS)

    def _attempt(self, work: Callable[[], None]) -> _Reason | None:
        try:
            work()
        except DeliveryError as error:
            return _Reason(error.reason, error.permanent or (error.status is not None and error.status < 500))
        except Refused as error:
            return _Reason(error.reason, final=True)
        except NameRejected:
            return _Reason("is a folder here and a file above, or the other way round", final=True)
        except MediaRootError as error:
            if error.errno != errno.ELOOP:
                raise
            return _Reason(error.strerror, final=True)
        return None

    def _bring(self, record: Record) -> None:
        """Fetch a file that differs, and publish it."""
        seen = self._state(record.name)  # before all else: what changes here from now on is newer than what comes
        if seen is not None and self._is_as_above_or_newer(record):
            return
        make_hidden(self._folder)
        version = f"{record.name}\n{record.size}\n{record.mtime_ns}"
        path = os.path.join(self._folder, hashlib.sha256(version.encode()).hexdigest())
        with self._store.part(path) as part:
            told = self._above.fetch(record, path, part.file.fileno(), lambda count: self._advance(size=count))
            if told is not None:  # else it was deleted above, which comes here or is in the other index
                self._publish(record.name, part, told, seen)

    def _is_as_above_or_newer(self, record: Record) -> bool:
        master = self._store.open(record.name)
        if master is None:
            return False
        state = master.state
        with master.file as file:
            own = marks.read_digest(file.fileno(), state)
            if state.size == record.size:
                if record.sha256 is not None:
                    own = own or sha256_of(blocks_of(file.fileno()))
                if own == record.sha256 if own and record.sha256 else state.mtime_ns == record.mtime_ns:
                    return True
            generation = self._store.generation(record.name, file.fileno())
        if generation is not None and record.generation is not None and generation != record.generation:
            newer = generation > record.generation
        else:
            newer = state.mtime_ns > record.mtime_ns
        if newer:
            self._advance(newer=1)
            self._warn(f"{names.quote(record.name)}: is newer here, and left as it is")
        return newer

    def _publish(self, name: str, part: Staged, told: Reading, seen: State | None) -> None:
        """Give what was fetched its name, unless something else happened here or above meanwhile."""
        fd = part.file.fileno()
        sha256, generation = sha256_of(blocks_of(fd)), generation_of(told.headers)
        try:
            wanted = parse_digest(told.headers.get("Repr-Digest", ""))
        except ValueError:
            wanted = None
        if wanted not in (None, sha256):
            os.ftruncate(fd, 0)
            raise told.failed("its bytes are not those of its digest")
        part.seal(mtime_ns_of(told.headers), sha256=sha256, generation=generation, exact=True)
        passing = self._passing()
        with self._role.changing(name, passing) as change:
            if self._state(name) != seen or not _may_follow(change, generation):
                return
            # Asked with the lock held: who changes it above after that has to send it here, and waits for this lock.
            now = self._above.look(name)
            if now.status != 200 or _version(now) != _version(told):
                return
            self._role.publish(name, change, part, passing)
        self._advance(fetched=1)

    def _delete(self, name: str) -> None:
        """Delete what was deleted above, and is still not there."""
        if self._state(name) is None:
            return
        passing = self._passing()
        with self._role.changing(name, passing) as change:
            now = self._above.look(name)
            if change.state is None or now.status != 404 or not _may_follow(change, generation_of(now.headers)):
                return
            self._role.delete(name, change, generation_of(now.headers), passing)
        self._advance(deleted=1)

    def _passing(self) -> Passing:
        """Return how a change goes on from here: it came through the node above, and nobody waits for the children."""
        return Passing(self._above.hops, 0.0)

    def _state(self, name: str) -> State | None:
        return self._store.state(name)

    def _advance(self, **by: int) -> None:
        self.progress = replace(self.progress, **{key: getattr(self.progress, key) + by[key] for key in by})
        self._report(self.progress)


def _may_follow(change: Change, generation: int | None) -> bool:
    """Say whether that generation does not come before the one that is known here, of the file or its tombstone."""
    known = change.generation
    return known is None or (generation is not None and generation >= known)


def _version(reading: Reading) -> tuple[str, str]:
    return reading.headers.get("ETag", ""), reading.headers.get("Last-Modified", "")
