"""The outbox: the durable set of deliveries that are owed. A delivery says "this host must come to match this name".

A caller that changes or sends a name holds its lock, and calls this before the first byte is sent and after the last.

    state of a row       how it came about                    what a crash leaves, and what comes of it
    owed                 record, owe, release, a failure      the row; somebody converges it when it is due
    begun                record(begin=True), claim: bytes     the row, found begun by the next sender: what the dead
                         may be under way                     sender sent may arrive late, so it becomes unsure too
    unsure until         an attempt that ended unknown        the row; a success does not delete it before that time,
                                                              but has it converged again at each of LOOKS
    watched              a success after the first of LOOKS   the row, converged again when due; nothing is owed
    parked               a permanent refusal                  the row; tried when due, which is late, or retried
    no row               settle, cancel                       nothing: the host matches, or was never meant to change

Each recording gets a generation, a time in nanoseconds that never goes back (``recording``). So if a name was recorded
again under way, the newer row is not settled. ``begun`` holds the generation under which sending began: a sender only
ever clears its own. What is recorded survives a power cut; the rest survives a kill -9. If a power cut loses a
settlement, the name is converged once more. How the file is opened and shared must not live here: see ``database``.
When something is sent or tried again must not be decided here either. The replicator, the parts of ``replication`` and
a media server's tree call this.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..errors import OutboxError
from ..hosts import Host
from . import loss, recording, settling
from . import tables as sql
from .database import DELETE, SAVE, SETTLE, Connection, Database
from .loss import NO_MASTER
from .notes import Notes
from .recording import LATE, LATEST, LOOKS, VERSION_MAX
from .rows import PARKED, WATCHED, Delivery, Failure, HostState, Owed, delivery_of
from .settling import CONVERGED, SET_BACK

__all__ = ["CONVERGED", "LATE", "LATEST", "LOOKS", "NO_MASTER", "VERSION_MAX", "Delivery"]
__all__ += ["Failure", "HostState", "Outbox", "Owed"]

# Seconds for which what is owed, parked or watched is put off at most: what is due later shows a clock set back. That
# of what is parked is twice ``breaker.PARKED_CAP``.
SET_BACKS = {0: SET_BACK, PARKED: 172800.0, WATCHED: LATEST + SET_BACK}
CHUNK = 1000  # rows in one transaction: a few milliseconds, so that uploads get their turn in between
ANOTHER_ROOT = (
    "belongs to another media root",
    "give each media root an outbox of its own (RESTO_OUTBOX), or mount the one that it belongs to",
)
ANOTHER_KIND = (
    "was made where {} is kept, and says nothing of the rest",
    "set the mode (RESTO_MODE) that the application has; how to change it is in the README, under Modes",
)
AFTER_ALL = "\U0010ffff" * 257  # it sorts after the rest of any name, which has at most 256 of these

log = logging.getLogger("resto_wsgi")


class Outbox:
    """The outbox at ``path``; it is made if there is none. Any thread and any forked process may call.

    ``identity`` is the media root's: an outbox is never used for another media root. ``kind`` is what the mode keeps.
    Every method raises OutboxError.
    """

    _steps: Sequence[Sequence[str]] = sql.STEPS

    def __init__(
        self,
        path: str,
        *,
        identity: str = "",
        kind: str = "",
        fsync: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self._fsync = fsync
        self._clock = clock
        self._database = Database(path, sql.APPLICATION, self._steps)
        self.notes = Notes(self._database, fsync=fsync)
        if identity:
            self._adopt("identity", identity, *ANOTHER_ROOT)
        self._kind = kind
        if kind:
            self._adopt("kind", kind, *ANOTHER_KIND)
            self.take_note()

    def close(self) -> None:
        """Close this process's connection; the next call opens another."""
        with contextlib.suppress(OutboxError):  # the note may be older: see ``loss``
            self.take_note()
        self._database.close()

    def take_note(self) -> None:
        """Note beside the outbox how new it is; if the note that is there knows of a newer one, tell what is lost."""
        if not self._kind:
            return
        path, now, kind = f"{self._database.path}.note", self._clock(), self._kind
        noted = loss.read(path)  # before the transaction: a later note may be newer than what the transaction sees
        lost, note = self._database.write(lambda on: loss.compare(on, noted, kind, now), durable=self._fsync)
        if lost:
            log.warning("outbox %s: %s", self.path, lost)
        if loss.is_news(note, noted):
            loss.write(path, note)

    # Writing

    def record(
        self,
        name: str,
        hosts: Sequence[Host],
        *,
        begin: bool,
        due: float,
        gone: bool = False,
        reserve: bool = False,
        way: str = "",
    ) -> dict[Host, Delivery]:
        """Note that these hosts are owed ``name``, and return the deliveries by host; they are on the disk then.

        If ``begin`` is True, the caller, who holds the lock of the name, will send now. If ``gone`` is True, the name
        is deleted, and a tombstone is written with it. If ``reserve`` is True, this is a delete or a withdrawal, which
        may use what is kept for them on a full disk. ``way`` is how the change came, in the caller's words; ``owe``
        clears it. A delivery that was owed before keeps since when it is owed and until when it is unsure; its failures
        are forgotten.
        """
        now = self._clock()

        def work(connection: Connection) -> dict[Host, Delivery]:
            if gone:
                recording.entomb(connection, name, now)
            recording.expel_others(connection, hosts)
            return recording.record(connection, name, hosts, begin=begin, due=due, reserve=reserve, way=way, now=now)

        if not hosts and not gone:
            return {}
        return self._database.write(work, durable=self._fsync, leaving=DELETE if reserve else SAVE)

    def entomb(self, name: str) -> None:
        """Note that ``name`` is deleted, so that a host which returns does not restore it; it is on the disk then."""
        now = self._clock()
        self._database.write(lambda connection: recording.entomb(connection, name, now), durable=self._fsync)

    def exhume(self, name: str) -> None:
        """Forget that ``name`` was deleted: the master holds it again."""
        self._database.write(lambda connection: connection.execute(sql.EXHUME, (name,)))

    def claim(self, host: Host, names: Sequence[str]) -> list[Delivery]:
        """Return those of ``names`` that are still owed, marked as begun. The caller holds the locks of the names."""
        now = self._clock()
        return self._database.write(lambda connection: recording.claim(connection, host, names, now))

    def raise_above(self, version: int) -> int:
        """Return a version above ``version``, which a host has; all that are recorded later are higher still.

        It is on the disk then: what is sent with it must not be above what comes after a power cut.
        """
        now = self._clock()
        return self._database.write(
            lambda connection: recording.raise_above(connection, version, now), durable=self._fsync
        )

    def settle(self, done: Sequence[Delivery], failed: Sequence[Failure] = (), hosts: Sequence[HostState] = ()) -> None:
        """Note the results of attempts in one transaction: what converged, what failed, and the states of hosts.

        If a name was recorded again meanwhile, it stays owed as it was recorded.
        """
        now = self._clock()

        def work(connection: Connection) -> None:
            settling.settle_converged(connection, done, now)
            settling.note_failures(connection, failed)
            settling.note_hosts(connection, hosts)

        if done or failed or hosts:
            self._database.write(work)

    def note_present(self, name: str, sha256: str = "") -> None:
        """Note that hosts hold ``name`` and no master does (mode distributed); it is on the disk then.

        It must be: the spool is dropped next. ``sha256`` is in hexadecimal, "" if it is not known.
        """
        self._database.write(lambda connection: settling.note_present(connection, name, sha256), durable=self._fsync)

    def correct_digest(self, name: str, noted: str, held: str) -> bool:
        """Replace the SHA-256 that was noted of a name; return False if ``noted`` is not what is noted any more."""
        values = (held, name, noted)
        return self._database.write(lambda connection: connection.execute(sql.CORRECT, values).rowcount) > 0

    def note_host(self, state: HostState) -> None:
        """Replace what is known of a host."""
        self._database.write(lambda connection: settling.note_hosts(connection, [state]))

    def release(self, deliveries: Sequence[Delivery], due: float) -> None:
        """Give back deliveries that were claimed and not tried; they are tried at ``due``."""
        self._database.write(lambda connection: recording.release(connection, deliveries, due))

    def cancel(self, deliveries: Sequence[Delivery]) -> None:
        """Take back what was recorded: no host has changed, and the master is as it was. Older debts stay owed."""
        now = self._clock()
        self._database.write(lambda connection: recording.cancel(connection, deliveries, now))

    def owe(self, host: Host, names: Iterable[str]) -> int:
        """Note that ``host`` is owed all these names, due now; return how many they are. They are on the disk then."""
        now = self._clock()
        total, iterator = 0, iter(names)  # read outside of the transaction: it may itself come from the outbox
        while chunk := list(itertools.islice(iterator, CHUNK)):

            def work(connection: Connection, chunk: Sequence[str] = chunk) -> int:
                recording.owe(connection, host, chunk, now)
                return len(chunk)

            total += self._in_turn(work, durable=self._fsync, leaving=SAVE)
        return total

    def postpone(self, host: Host, names: Sequence[str], due: float) -> None:
        """Change when these are due, and nothing else: somebody else is at work on them."""
        values = [(due, name, host.url) for name in names]
        self._database.write(lambda connection: connection.executemany(sql.POSTPONE, values))

    def nudge(self, hosts: Sequence[Host], *, parked: bool = False) -> None:
        """Make everything that these hosts are owed due now, and end the pauses of the hosts.

        With ``parked``, what is parked is due too. What is parked for a cause on this side is due in any case: to look
        again costs little. What has converged, and only waits until nothing earlier can still arrive, waits on.
        """
        now = self._clock()
        self._database.write(lambda connection: connection.executemany(sql.ASK, [(host.url,) for host in hosts]))
        for host in hosts:
            values = {"host": host.url, "now": now, "converged": CONVERGED, "chunk": CHUNK}
            self._repeat(sql.NUDGE, values)
            self._repeat(sql.UNPARK if parked else sql.UNPARK_OURS, values)

    def retry_one(self, host: Host, statuses: Iterable[int]) -> None:
        """Make one name due now that ``host`` refused with one of these statuses: that which would be due first."""
        for status in statuses:
            values = {"host": host.url, "now": self._clock(), "status": status, "chunk": 1}
            if self._database.write(lambda connection: connection.execute(sql.UNPARK_STATUS, values).rowcount):  # noqa: B023
                return

    def retry_all(self, host: Host, statuses: Iterable[int]) -> None:
        """Make all names due now that ``host`` refused with one of these statuses."""
        for status in statuses:
            self._repeat(sql.UNPARK_STATUS, {"host": host.url, "now": self._clock(), "status": status, "chunk": CHUNK})

    def purge(self, before: float) -> int:
        """Forget tombstones from before that time, and return how many; those of names that are still owed stay."""
        return self._repeat(sql.PURGE, {"before": before, "chunk": CHUNK})

    def admit(self, host: Host, *, joining: int | None = None) -> None:
        """Note that a host holds every name that it is not owed.

        If ``joining`` is given, this will be true only once nothing up to that generation is owed.
        """
        self._database.write(lambda connection: connection.execute(sql.ADMIT, (host.url, joining)), durable=self._fsync)

    def expel(self, hosts: Iterable[Host]) -> None:
        """Note that these hosts are no members: nobody tells them any more what is saved and deleted."""
        if expelled := [(host.url,) for host in hosts]:
            self._database.write(lambda connection: connection.executemany(sql.EXPEL, expelled), durable=self._fsync)

    def forget(self, host: Host) -> int:
        """Forget a host and all that it is owed; return how many deliveries that was."""
        self.expel([host])
        self._database.write(lambda connection: connection.execute(sql.FORGET_STATE, (host.url,)))
        return self._repeat(sql.FORGET, {"host": host.url, "chunk": CHUNK})

    # Reading

    def due(self, host: Host, now: float, limit: int, *, latest: bool = False) -> list[str]:
        """Return up to ``limit`` names that are due, the earliest first; last those of a clock that was set back.

        With ``latest`` those that became due last come first.
        """
        found: list[tuple[float, str]] = []
        for parked in SET_BACKS:  # each is in the order of the index; both at once would have to be sorted
            found += self._database.read(sql.DUE_LATEST if latest else sql.DUE, (host.url, parked, now, limit))
        found.sort(reverse=latest)
        if len(found) < limit:
            found += self._beyond(host, now, limit - len(found))
        return [name for _, name in found[:limit]]

    def _beyond(self, host: Host, now: float, limit: int) -> list[tuple[Any, ...]]:
        """Return deliveries whose due time is further off than anything sets it: the clock was set back since."""
        for parked, set_back in SET_BACKS.items():
            if found := self._database.read(sql.BEYOND, (host.url, parked, now + set_back, limit)):
                return found
        return []

    def next_due(self, host: Host) -> float | None:
        """Return when the next one is due, the current time if the clock was set back, None if nothing is owed."""
        now = self._clock()
        if self._beyond(host, now, 1):
            return now
        firsts = [self._database.read(sql.FIRST, (host.url, parked)) for parked in SET_BACKS]
        return min((due for first in firsts for due, _ in first), default=None)

    def members(self) -> frozenset[Host]:
        """Return the hosts that hold every name that they are not owed; of all others that is not known."""
        return frozenset(Host.of(url) for url, joining in self._database.read(sql.MEMBERS, ()) if joining is None)

    def joining(self) -> dict[Host, int]:
        """Return the hosts that are being filled; each is a member once nothing up to its generation is owed."""
        return {Host.of(url): joining for url, joining in self._database.read(sql.MEMBERS, ()) if joining is not None}

    def generation(self) -> int:
        """Return the latest generation: what is recorded from now on has a higher one."""
        return int(self._database.read(sql.META, ("generation",))[0][0])

    def owed(self, hosts: Sequence[Host], *, parked: bool = True, until: int | None = None) -> int:
        """Return how many deliveries these hosts are owed; if ``parked`` is False, without those that are parked.

        If ``until`` is given, later generations do not count, unless there are too many rows (CHUNK) to look at each.
        """
        found = sum(int(self._database.read(sql.OWED, (host.url, int(parked)))[0][0]) for host in hosts)
        if until is None or found > CHUNK:
            return found
        return sum(int(self._database.read(sql.OWED_UNTIL, (host.url, int(parked), until))[0][0]) for host in hosts)

    def deliveries(self, name: str) -> dict[Host, Delivery]:
        """Return what is owed of one name, by host."""
        found = (delivery_of(row) for row in self._database.read(sql.FIND_ALL, (name,)))
        return {delivery.host: delivery for delivery in found}

    def way(self, host: Host, name: str) -> str:
        """Return how the change came that a host is owed, "" if nothing was said of it."""
        return "".join(way for (way,) in self._database.read(sql.FIND_WAY, (name, host.url)))

    def owing(self, host: Host, after: str, limit: int) -> list[Delivery]:
        """Return up to ``limit`` deliveries that a host is owed, of names after ``after``, in the order of names."""
        return [delivery_of(row) for row in self._database.read(sql.FIND_FROM, (after, host.url, limit))]

    def summary(self) -> list[Owed]:
        """Return what each host is owed, exactly as it was at one moment."""
        return [Owed(Host.of(url), *row) for url, *row in self._database.read(sql.SUMMARY)]

    def host_states(self) -> dict[Host, HostState]:
        """Return what is known of the hosts."""
        found = (HostState(Host.of(url), *row) for url, *row in self._database.read(sql.HOSTS))
        return {state.host: state for state in found}

    def is_gone(self, name: str) -> bool | None:
        """Return True if ``name`` was deleted, None if nothing is known of it, else False."""
        found = self._database.read(sql.GONE, (name,))
        return found[0][0] is not None if found else None

    def sha256(self, name: str) -> str:
        """Return the SHA-256 in hexadecimal of a name that hosts hold (mode distributed); "" if it is not known."""
        found = self._database.read(sql.DIGEST, (name,))
        return str(found[0][0]) if found else ""

    def names(self, prefix: str = "") -> Iterator[str]:
        """Return the names that hosts hold (mode distributed), in the order of their UTF-8 bytes."""
        return self._all_names(False, prefix)

    def tombstones(self, after: str = "") -> Iterator[str]:
        """Return the names after ``after`` that were deleted, in the order of their UTF-8 bytes."""
        return self._all_names(True, "", after)

    def _all_names(self, gone: bool, prefix: str, after: str = "") -> Iterator[str]:
        """Yield names, read chunk by chunk, so that neither memory nor a snapshot grows with the number of names."""
        end = prefix + AFTER_ALL
        chunk = self._database.read(sql.NAMES_AFTER if after else sql.NAMES_FROM, (after or prefix, end, gone, CHUNK))
        while chunk:
            yield from (name for (name,) in chunk)
            chunk = self._database.read(sql.NAMES_AFTER, (chunk[-1][0], end, gone, CHUNK))

    def _repeat(self, sql: str, values: dict[str, object]) -> int:
        """Run a statement that changes at most CHUNK rows until it changes none; return how many it changed."""
        total = 0
        while changed := self._in_turn(lambda connection: connection.execute(sql, values).rowcount):
            total += changed
        return total

    def _in_turn(self, work: Callable[[Connection], int], *, durable: bool = False, leaving: int = SETTLE) -> int:
        """Write one chunk of many, leave the file to others for as long as that took, and return the work's result."""
        began = time.monotonic()
        result = self._database.write(work, durable=durable, leaving=leaving)
        time.sleep(time.monotonic() - began)  # else the next chunk takes the lock before saves that wait for it
        return result

    def _adopt(self, key: str, wanted: str, problem: str, remedy: str) -> None:
        def work(connection: Connection) -> str:
            connection.execute(sql.ADOPT, (wanted, key))
            return str(connection.execute(sql.META, (key,)).fetchone()[0])

        if (found := self._database.write(work, durable=self._fsync)) != wanted:
            self._database.close()
            raise OutboxError(self.path, problem.format(found), remedy)
