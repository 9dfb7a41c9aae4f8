"""All probes on all hosts at once, what differs between the hosts, and the end: everything written is taken away.

Each host has a thread. A probe that breaks is a finding of its own and ends nothing; a host that does not answer any
more is not asked further. ``stop`` ends the probes, never the cleaning. The command calls this; nothing is printed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..hosts import Host
from ..transports import Transport
from ..transports.http.security import Security
from . import cleaning, folders, naming, reach, reading, replacing, sharing, sizes, writing
from .finding import Finding, Stopped, Trouble, Verdict
from .subject import Subject

__all__ = ["LARGEST", "Check", "Report"]

LARGEST = 1024**3  # bytes: what the middleware accepts if it is not told
SECONDS_MAX = 300.0  # for one host: a slow line needs a minute or two
CLEANING_SECONDS_MAX = 60.0  # for all of it
LOOKS_EVERY = 0.1  # seconds: whether somebody wants it to end
SHOWN = 4  # paths of those that may be left
SKEW = 2.0  # seconds between the clocks of two hosts; a Date header is cut to one

Probe = Callable[[Subject], list[Finding]]


@dataclass(frozen=True)
class _Step:
    """A probe under the key of its main finding. ``broken`` is the verdict if it cannot be done.

    If a ``gate`` finds anything, nothing after it is tried: it would fail too, or leave files behind.
    """

    key: str
    probe: Probe
    broken: Verdict = "unknown"
    gate: bool = False


# The order counts. What only reads comes first, so a host that does not answer is sent no file. `delete` comes right
# after `write`: a host that deletes nothing would keep all that later probes put. `hidden` needs what `absent` notes,
# `folder` needs the folder that `write` has claimed, and `transfer` sends no more than the limit that `size` has found.
STEPS = (
    _Step("reachable", reach.reachable, "unsafe", gate=True),
    _Step("tls", reach.tls, "unsafe"),
    _Step("clock", reach.clock),
    _Step("absent", reach.absent, "unsafe"),
    _Step("hidden", reach.hidden),
    _Step("write", writing.write, "unsafe", gate=True),
    _Step("delete", writing.delete, "unsafe", gate=True),
    _Step("credentials", writing.credentials),
    _Step("roots", sharing.roots),
    _Step("parents", writing.parents, "unsafe"),
    _Step("overwrite", writing.overwrite, "unsafe"),
    _Step("folder", folders.folder, "unsafe"),
    _Step("truncated", writing.truncated, "unsafe"),
    _Step("atomic", replacing.atomic, "unsafe"),
    _Step("temporary", replacing.temporary),
    _Step("mtime", writing.mtime),
    _Step("longest", naming.longest, "unsafe"),
    _Step("characters", naming.characters, "unsafe"),
    _Step("case", naming.case, "unsafe"),
    _Step("size", sizes.size),
    _Step("transfer", sizes.transfer, "unsafe"),
    _Step("range", reading.ranges),
    _Step("conditional", reading.conditional),
    _Step("listing", reading.listing),
    _Step("dots", reading.dots),
    _Step("scripts", reading.scripts, "unsafe"),
)


@dataclass(frozen=True)
class Report:
    """What was found on one host. ``untested`` are keys that were not come to, ``left`` the paths that may be left."""

    host: Host
    kind: str
    server: str
    folder: str
    findings: tuple[Finding, ...]
    untested: tuple[str, ...]
    left: tuple[str, ...]

    @property
    def safe(self) -> bool:
        """True if all was looked at that replication needs, and nothing is unsafe."""
        return not self.untested and all(finding.verdict != "unsafe" for finding in self.findings)


class Check:
    """Probes ``hosts``; ``timeout`` is in seconds without progress, ``largest`` in bytes.

    ``security`` is what the hosts are shown, the same as the transport has. ``media_root`` is where it is seen if a
    host serves the master's own folder, None if that is not to be seen. In mode distributed ``keeps_master`` is False.

    ``run`` returns when everything is done and taken away; ``differences`` are then what differs between the hosts.
    ``stop``, from a signal handler or another thread, ends the probes; a second one the cleaning, too.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        transport: Transport,
        timeout: float,
        *,
        largest: int = LARGEST,
        security: Security | None = None,
        media_root: str | None = None,
        keeps_master: bool = True,
    ) -> None:
        self.differences: tuple[Finding, ...] = ()
        self._stop = threading.Event()
        self._abandon = threading.Event()
        options: dict[str, Any] = {"largest": largest, "security": security}
        options |= {"media_root": media_root, "keeps_master": keeps_master}
        self._examined = [_Examined(Subject(host, transport, timeout, self._stop, **options)) for host in hosts]

    @property
    def interrupted(self) -> bool:
        """True once somebody called ``stop``."""
        return self._stop.is_set()

    def stop(self) -> None:
        """End the probes, and take away what they wrote; called again, leave it there."""
        (self._abandon if self._stop.is_set() else self._stop).set()

    def run(self) -> list[Report]:
        """Probe all hosts, compare them, take everything away, and return a report for each."""
        errors = self._together([each.examine for each in self._examined])
        # Before the cleaning: `_twins` asks each host for a file that is still on another.
        if not self.interrupted:
            self.differences = tuple(_differences([each.subject for each in self._examined]))
        errors += self._together([each.clean for each in self._examined], CLEANING_SECONDS_MAX)
        # A defect in a probe is raised only now, so that the hosts are cleaned all the same.
        if errors:
            raise errors[0]
        return [each.report() for each in self._examined]

    def _together(self, tasks: Sequence[Callable[[], None]], timeout: float = float("inf")) -> list[Exception]:
        """Run each in a thread of its own, until all are done or time is up; return what they raised."""
        errors: list[Exception] = []

        def guarded(task: Callable[[], None]) -> None:
            try:
                task()
            except Exception as error:
                errors.append(error)

        # Daemons: one that still waits for a host when time is up must not keep the process alive.
        threads = [threading.Thread(target=guarded, args=[task], daemon=True) for task in tasks]
        for thread in threads:
            thread.start()
        ends = time.monotonic() + timeout
        for thread in threads:
            while thread.is_alive() and time.monotonic() < ends and not self._abandon.is_set():
                thread.join(LOOKS_EVERY)
        return errors


class _Examined:
    """One host while it is examined."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.findings: list[Finding] = []
        self.untested = [step.key for step in STEPS]
        self.left: list[str] | None = None

    def examine(self) -> None:
        ends = time.monotonic() + SECONDS_MAX
        with contextlib.suppress(Stopped):
            for step in STEPS:
                if time.monotonic() > ends:
                    self._note(
                        self.subject.found("reachable", "unsafe", f"not done within {SECONDS_MAX:.0f} s", "slow")
                    )
                    return
                findings = self._probe(step)
                self._note(*findings)
                # Only now: a probe that `Stopped` has ended in the middle stays untested.
                self.untested.remove(step.key)
                if any(finding.verdict != "ok" for finding in findings) and (step.gate or self._went_away()):
                    return

    def clean(self) -> None:
        """Take away what was written."""
        self.left = cleaning.clean(self.subject)

    def report(self) -> Report:
        subject, left = self.subject, self.left
        if left is None:
            left = [f"{subject.folder}/ and what is in it"] if subject.written else []
        if left == [cleaning.folder_of(subject)]:
            self._note(Finding("left", "ok", f"empty folders stay, as it removes none: {subject.folder}/"))
        elif left:
            more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
            self._note(subject.found("left", "warning", f"may be left there: {', '.join(left[:SHOWN])}{more}"))
        return Report(
            subject.host,
            subject.kind,
            subject.server,
            subject.folder,
            tuple(self.findings),
            tuple(self.untested),
            tuple(left),
        )

    def _note(self, *findings: Finding) -> None:
        self.findings += findings

    def _probe(self, step: _Step) -> list[Finding]:
        try:
            return step.probe(self.subject)
        except Trouble as trouble:
            return [self.subject.found(step.key, step.broken, f"it could not be tried: {trouble}")]

    def _went_away(self) -> bool:
        """Ask for a sign of life after a finding that could come from a host that is gone."""
        if self.subject.answers():
            return False
        self._note(self.subject.found("reachable", "unsafe", "it went away during the check", "lost"))
        return True


def _differences(subjects: Sequence[Subject]) -> list[Finding]:
    """What is not the same on all hosts, although replicas should be."""
    found = []
    clocks = _fact(subjects, "clock")
    if clocks and max(clocks.values()) - min(clocks.values()) > SKEW:
        fast, slow = max(clocks, key=clocks.__getitem__), min(clocks, key=clocks.__getitem__)
        seen = f"the clock of {fast} is {clocks[fast] - clocks[slow]:,.0f} s ahead of that of {slow}"
        found.append(subjects[0].found("clock", "warning", seen))
    limits = _fact(subjects, "size")
    if len(set(limits.values())) > 1:
        seen = "size limits differ: " + ", ".join(f"{label} {sizes.human(limit)}" for label, limit in limits.items())
        found.append(Finding("size", "warning", seen, "give all of them the limit that the application has"))
    validators = _fact(subjects, "validators")
    if len(set(validators.values())) > 1:
        seen = f"one file has other validators (ETag, Last-Modified) on each of {', '.join(validators)}"
        found.append(Finding("mtime", "warning", seen, "let readers keep to one media server"))
    return found + _twins(subjects)


def _fact(subjects: Sequence[Subject], key: str) -> dict[str, Any]:
    return {each.host.label: each.facts[key] for each in subjects if key in each.facts}


def _twins(subjects: Sequence[Subject]) -> list[Finding]:
    """Hosts on which a file of another is found: one server under two names, or one disk under two servers."""
    found = []
    for first in subjects:
        for second in subjects:
            if first is second or not (first.own_folder and second.own_folder):
                continue
            try:
                there = second.head(first.name(writing.FIRST)) is not None
            except (Trouble, Stopped):
                continue
            if there:
                seen = f"what is put on {first.host.label} is on {second.host.label} at once"
                cure = "one server, or one disk, counts for two: leave one of them out, unless the first is a relay"
                found.append(Finding("twins", "warning", seen, cure))
    return found
