"""The judge: what is on the disks, name by name and byte by byte, against what the ledger allows.

    lost         a name does not hold, on the master, what was acknowledged last; or a host has less, or older, than it
    resurrected  a name is there, on the master or a host, that was deleted or refused
    torn         a file under its own name that is not one whole content
    unsent       a file that nobody sent
    left over    a temporary file older than a minute, or the room of a dead process
    owed         a row of the outbox

Each is a list of lines, one for each finding, so that the figures are their lengths and a failing run says what it
found. Every root is looked at directly; the product is not asked.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field

from resto_wsgi.outbox.rows import WATCHED
from resto_wsgi.replication.on_master import PROBE

from .bodies import TORN, identify
from .ledger import Effect, Ledger

__all__ = ["OLD", "Verdict", "judge", "left_over", "owed", "read_root"]

OLD = 60.0  # seconds: no temporary file may be older
OWN = ".resto"
ROOM = re.compile(r"(\d+)-[0-9a-f]+(\.lock)?")  # of a process, and the lock that says that it lives
ODD = re.compile(r"\.\d{10}$")  # what nginx calls a file that it has not moved to its place


@dataclass
class Verdict:
    """The findings of one look. A clean one has none."""

    lost: list[str] = field(default_factory=list)
    resurrected: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    unsent: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    owed: list[str] = field(default_factory=list)

    @property
    def findings(self) -> dict[str, list[str]]:
        return {kind: found for kind, found in vars(self).items() if found}

    @property
    def clean(self) -> bool:
        return not self.findings

    def __str__(self) -> str:
        return "; ".join(f"{kind} {len(found)}: {found[0]}" for kind, found in self.findings.items()) or "clean"


def judge(
    ledger: Ledger,
    master: str,
    hosts: Mapping[str, str],
    outbox: str | None,
    *,
    now: float | None = None,
    but: Container[str] = (),
) -> Verdict:
    """Compare the ``master`` root and those of the ``hosts`` (by a label) with the ledger and with each other.

    ``now`` in seconds since 1970 is what temporary files are old against; names in ``but`` are not judged. Nothing may
    be under way meanwhile.
    """
    verdict = Verdict()
    truth = _without(read_root(master), but)
    _against_ledger(verdict, ledger, truth, but)
    for label, root in hosts.items():
        _against_master(verdict, ledger, label, truth, _without(read_root(root), but))
    verdict.left_over += left_over(master, time.time() if now is None else now)
    verdict.owed += [] if outbox is None else owed(outbox)
    return verdict


def read_root(root: str) -> dict[str, str]:
    """Return the id of the content, or TORN, of every file under ``root``, our own folder and probes left out."""
    found = {}
    for name in _files(root):
        path = os.path.join(root, name)
        if not name.startswith(PROBE) and not os.path.islink(path):  # what it leads to is no file of this root
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                found[name] = identify(file.read())
    return found


def left_over(master: str, now: float) -> list[str]:
    """Return the temporary files under the media root that are old, and the old rooms of dead processes."""
    found = []
    for folder, _, files in os.walk(os.path.join(master, OWN, "staging")):
        room = ROOM.fullmatch(os.path.basename(folder))
        if room and not _lives(int(room[1])) and _age(folder, now) > OLD:
            found.append(f"the room {folder} of a dead process")
        for file in files:
            path = os.path.join(folder, file)
            lock = ROOM.fullmatch(file)
            if not (lock and _lives(int(lock[1]))) and _age(path, now) > OLD:
                found.append(path)
    return found


def owed(outbox: str) -> list[str]:
    """Return a line for each row of the outbox that is owed. A missing outbox is a finding too.

    What has converged is watched for an hour if an attempt ended unknown; nothing counts as owed for that.
    """
    if not os.path.exists(outbox):
        return [f"there is no outbox at {outbox}"]
    with contextlib.closing(sqlite3.connect(f"file:{outbox}?mode=ro", uri=True, timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        return [str(dict(row)) for row in connection.execute("SELECT * FROM deliveries WHERE parked != ?", (WATCHED,))]


def _without(found: Mapping[str, str], but: Container[str]) -> dict[str, str]:
    return {name: value for name, value in found.items() if name not in but}


def _against_ledger(verdict: Verdict, ledger: Ledger, truth: Mapping[str, str], but: Container[str]) -> None:
    for name in _without(dict.fromkeys(ledger.names(), ""), but):
        legal, value = ledger.legal(name), truth.get(name)
        if value in legal:
            continue
        if value is not None and not _is_a_content_of(ledger, name, value):
            _strange(verdict, ledger, "master", name, value)
        elif None in legal and value is not None:
            verdict.resurrected.append(f"{name} on the master holds {value}, may hold {_shown(legal)}")
        else:
            verdict.lost.append(f"{name} on the master holds {value}, may hold {_shown(legal)}")
    for name in truth.keys() - set(ledger.names()):
        operation = ledger.operation_of(truth[name])
        if operation is None or not _is_a_content_of(ledger, name, truth[name]):
            _strange(verdict, ledger, "master", name, truth[name])
        elif operation.effect is Effect.NONE:
            verdict.resurrected.append(f"{name} on the master holds {truth[name]}, which was refused")


def _against_master(
    verdict: Verdict, ledger: Ledger, label: str, truth: Mapping[str, str], replica: Mapping[str, str]
) -> None:
    for name in sorted(truth.keys() | replica.keys()):
        wanted, value = truth.get(name), replica.get(name)
        if value == wanted:
            continue
        line = f"{name} on {label} holds {value}, {wanted} on the master"
        if value is not None and not _is_a_content_of(ledger, name, value):
            _strange(verdict, ledger, label, name, value)
        elif wanted is None:
            verdict.resurrected.append(line)
        else:
            verdict.lost.append(line)


def _is_a_content_of(ledger: Ledger, name: str, value: str) -> bool:
    return value != TORN and ledger.was_sent(name, value)


def _strange(verdict: Verdict, ledger: Ledger, label: str, name: str, value: str) -> None:
    """Note a file that no save explains."""
    if ODD.search(name):
        verdict.left_over.append(f"{name} on {label}")
    elif value == TORN and ledger.legal(name) != {None}:
        verdict.torn.append(f"{name} on {label}")
    else:
        verdict.unsent.append(f"{name} on {label} holds {value}")


def _shown(legal: set[str | None]) -> str:
    return " or ".join(sorted("nothing" if value is None else value for value in legal))


def _files(root: str) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        if folder == root and OWN in folders:
            folders.remove(OWN)
        for file in files:
            yield os.path.relpath(os.path.join(folder, file), root)


def _lives(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def _age(path: str, now: float) -> float:
    """Return the seconds since the entry came to be where it is; none where it has gone meanwhile."""
    try:
        return now - os.lstat(path).st_ctime
    except FileNotFoundError:
        return 0.0
