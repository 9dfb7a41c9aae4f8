"""Does a reader ever see part of a file while it is replaced? One reads all the time while another overwrites."""

from __future__ import annotations

import contextlib
import threading

from .. import names
from ..transports.http.raw import RawReply
from .finding import Finding, Stopped, Trouble
from .subject import Subject

__all__ = ["atomic", "temporary"]

SIZE = 256 * 1024  # bytes: more than one write of a server, and than one packet
ROUNDS = 24  # overwrites; a server that writes in place is seen in the first few
READERS = 2


def atomic(subject: Subject) -> list[Finding]:
    """Every read while a file is replaced is one whole version of it."""
    name = subject.name("replaced.jpg")
    subject.put(name, _version(0))
    watch = _Watch(subject, name)
    threads = [threading.Thread(target=watch.read, daemon=True) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, ROUNDS + 1):
            if not watch.torn:
                subject.put(name, _version(number))
    finally:
        watch.over.set()
        for thread in threads:
            thread.join()
    if watch.torn:
        return [subject.found("atomic", "unsafe", f"while a file was replaced, {watch.torn}")]
    if not watch.reads:
        return [subject.found("atomic", "unknown", f"not one read while a file was replaced: {watch.trouble}")]
    return [Finding("atomic", "ok", f"{watch.reads} reads during {ROUNDS} overwrites, none of them torn")]


def temporary(subject: Subject) -> list[Finding]:
    """A body that still comes is not to be seen over HTTP."""
    if subject.kind == "node":
        return [Finding("temporary", "ok", "it keeps what comes below its root, in .resto")]
    if subject.kind == "apache":
        return [Finding("temporary", "ok", "Apache keeps what comes beside the file, as .davfs.tmp...")]
    seen = "where it keeps what comes until it is whole cannot be seen from here"
    return [subject.found("temporary", "unknown", seen)]


class _Watch:
    """``torn`` says what a reader saw that is no version, "" while there was none."""

    def __init__(self, subject: Subject, name: str) -> None:
        self.over = threading.Event()
        self.reads = 0
        self.torn = ""
        self.trouble = "there was no time"
        self._subject = subject
        self._path = names.quote(name)

    def read(self) -> None:
        """Read until it is over, or something is torn."""
        with contextlib.suppress(Stopped):
            while not self.over.is_set() and not self.torn:
                self._read_once()

    def _read_once(self) -> None:
        try:
            answer = self._subject.raw("GET", self._path, limit=2 * SIZE)
        except Trouble as trouble:
            self.trouble = str(trouble)
        else:
            self.torn = self.torn or _fault(answer)
            self.reads += 1


def _fault(answer: RawReply) -> str:
    if answer.status in (404, 410):
        return "a reader did not find it"
    if answer.status != 200:
        return f"a reader was answered with {answer.status}"
    if not answer.whole or len(answer.body) != SIZE:
        return f"a reader got {len(answer.body):,} of its {SIZE:,} bytes"
    return "a reader got parts of two versions" if answer.body.count(answer.body[:1]) != SIZE else ""


def _version(number: int) -> bytes:
    # One letter all through, and another for each version: two letters in one read are two versions.
    return bytes([65 + number]) * SIZE
