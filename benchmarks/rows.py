"""What a row of the table is: its sides, which are measured in turns, and the lines that compare them.

A run's figures are a mapping of ``seconds``, ``cpu``, ``rss``, ``units`` and what else the row measures. A line
compares our figure with a peer's, turn by turn, and holds the reach of the issue, if there is one. Rows are made by the
modules named after what they do; ``command`` runs them.
"""

from __future__ import annotations

import fcntl
import importlib.util
import operator
import os
import statistics
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .payload import files_under
from .process import run_child
from .scale import Scale

if TYPE_CHECKING:  # the peers' processes come by here, and must not carry our library
    from resto_wsgi.demo.stock import StockServer

__all__ = ["FASTEST", "OURS", "Line", "Place", "Reach", "Row", "Verdict", "spread", "verdict"]

OURS = "ours"
FASTEST = "the fastest peer"
DJANGO_RESTO = "django-resto"
NEEDS = {DJANGO_RESTO: "django_resto", "python-multipart": "python_multipart", "Django": "django", "WebOb": "webob"}
NEEDS |= {"Werkzeug": "werkzeug"}
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_TOPDIR_FL = 0x80086601, 0x40086602, 0x00020000  # linux/fs.h
LARGE = 64 * 1024  # bytes: what is larger would fill the disk in a full run

Figures = Mapping[str, Any]
Runs = Mapping[str, Sequence[Figures]]
"""The figures of each turn, by side."""


@dataclass(frozen=True)
class Reach:
    """What is to be reached: ``sign`` is ``>=`` or ``<=``; one that is only aimed at is no promise."""

    sign: str
    bound: float
    aim: bool = False

    def met(self, value: float) -> bool:
        return bool((operator.ge if self.sign == ">=" else operator.le)(value, self.bound))

    def __str__(self) -> str:
        return f"{'aim ' if self.aim else ''}{self.sign} {self.bound:g}"


@dataclass(frozen=True)
class Line:
    """One comparison. ``how`` is ``ratio`` or ``minus`` of ours and the peer's, or ``alone``: our figure itself.

    ``of`` takes the figure from those of a run, ``unit`` says what it is.
    """

    peer: str
    of: Callable[[Figures], float]
    unit: str
    reach: Reach | None = None
    how: str = "ratio"


@dataclass(frozen=True)
class Verdict:
    """What came of a line; ``values`` is what the reach is held against, one for each turn."""

    peer: str
    unit: str
    how: str
    ours: float
    its: float | None
    values: tuple[float, ...]
    reach: Reach | None

    @property
    def value(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        return None if self.reach is None else self.reach.met(self.value)

    def as_mapping(self) -> dict[str, Any]:
        spread = {"median": self.value, "min": min(self.values), "max": max(self.values)}
        facts = {"peer": self.peer, "unit": self.unit, "ours": self.ours, "its": self.its, self.how: spread}
        return {**facts, "reach": None if self.reach is None else str(self.reach), "met": self.met}


def rate(figures: Figures) -> float:
    return float(figures["units"] / figures["seconds"])


def seconds(figures: Figures) -> float:
    return float(figures["seconds"])


def cpu(figures: Figures) -> float:
    return float(figures["cpu"])


def rss(figures: Figures) -> float:
    return float(figures["rss"] / 1024**2)


def verdict(line: Line, runs: Runs) -> Verdict | None:
    """Compare; None where one of the sides was not run."""
    peer = _fastest(line, runs) if line.peer == FASTEST else line.peer
    ours = [line.of(figures) for figures in runs.get(OURS, ())]
    if not ours or (line.how != "alone" and not runs.get(peer)):
        return None
    if line.how == "alone":
        return Verdict("", line.unit, line.how, statistics.median(ours), None, tuple(ours), line.reach)
    theirs = [line.of(figures) for figures in runs[peer]]
    compare = operator.truediv if line.how == "ratio" else operator.sub
    values = tuple(compare(a, b) for a, b in zip(ours, theirs, strict=False))
    shown = f"{FASTEST}, {peer}" if line.peer == FASTEST else peer
    return Verdict(shown, line.unit, line.how, statistics.median(ours), statistics.median(theirs), values, line.reach)


def _fastest(line: Line, runs: Runs) -> str:
    peers = {side: statistics.median(map(line.of, runs[side])) for side in runs if side in NEEDS and runs[side]}
    return min(peers, key=lambda side: peers[side]) if peers else ""


@dataclass
class Place:
    """Where rows run: a folder, and media servers on loopback, which all rows and sides share.

    Nothing is deleted before the end, but thrown aside: for up to 5 minutes after many files were deleted, ext4 takes
    up to 1 ms to make a file nearby, since it looks at each freed inode before it takes another, and whoever came later
    would pay. ``spread`` keeps others' deletions away.
    """

    folder: str
    servers: Sequence[StockServer]
    _thrown: int = 0

    def hosts(self, count: int) -> list[str]:
        return [server.url.removeprefix("http://") for server in self.servers[:count]]

    def replicas(self, count: int) -> list[dict[str, str]]:
        """Return the files on the disk of each host, by name."""
        return [files_under(os.path.join(server.root, "media")) for server in self.servers[:count]]

    def clear(self) -> None:
        for server in self.servers:
            self.throw(os.path.join(server.root, "media"))

    def throw(self, path: str) -> None:
        """Move a folder out of the way, where it is there, and empty its large files."""
        if not os.path.isdir(path):
            return
        self._thrown += 1
        aside = os.path.join(self.folder, "thrown", str(self._thrown))
        os.makedirs(os.path.dirname(aside), exist_ok=True)
        os.rename(path, aside)
        for folder, _, names in os.walk(aside):
            for name in names:
                if os.path.getsize(os.path.join(folder, name)) > LARGE:
                    os.truncate(os.path.join(folder, name), 0)


class Row:
    """A row. A subclass says what its sides are, and checks the bytes that arrived."""

    key: str
    title: str
    says: str  # what this is, and what it is not
    calls: Mapping[str, str]  # MODULE:FUNCTION of each side, ours first
    lines: Sequence[Line]
    hosts = 0

    def __init__(self, scale: Scale) -> None:
        self.scale = scale

    @property
    def sides(self) -> list[str]:
        """Those whose library is installed."""
        return [side for side in self.calls if side not in NEEDS or importlib.util.find_spec(NEEDS[side])]

    def prepare(self, place: Place, folder: str) -> None:
        """Make what all runs share, in ``folder``."""

    def arguments(self, side: str, place: Place, folder: str) -> dict[str, Any]:
        """Return the arguments of a side's function, for a run whose own files are in ``folder``."""
        raise NotImplementedError

    def problems(self, side: str, figures: Figures, place: Place, folder: str) -> list[str]:
        """Look at the bytes that arrived, and return what is wrong with them."""
        raise NotImplementedError

    def run(self, side: str, place: Place, folder: str, *, profile: bool = False) -> dict[str, Any]:
        """Run a side once, in a fresh process."""
        arguments = {**self.arguments(side, place, folder), "profile": profile}
        return run_child(self.calls[side], arguments, folder)


def spread(folder: str) -> None:
    """Have ext4 keep each folder in this one in a region of its own, as if each host had its own disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flags = bytearray(8)
        fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, flags)
        fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, struct.pack("l", struct.unpack("l", flags)[0] | FS_TOPDIR_FL))
    except OSError:  # another file system, which has no such flag
        pass
    finally:
        os.close(descriptor)


def wrong_copies(place: Place, hosts: int, names: Sequence[str], is_right: Callable[[str, str], bool]) -> list[str]:
    """Return a line for each host that does not have just these names, or not the right bytes under one of them."""
    problems = []
    for number, replica in enumerate(place.replicas(hosts)):
        missing, foreign = set(names) - replica.keys(), replica.keys() - set(names)
        wrong = [name for name in names if name in replica and not is_right(name, replica[name])]
        if missing or foreign or wrong:
            counted = f"{len(missing)} missing, {len(foreign)} foreign, {len(wrong)} with wrong bytes"
            problems.append(f"host {number}: {counted}, such as {sorted({*missing, *foreign, *wrong})[0]}")
    return problems
