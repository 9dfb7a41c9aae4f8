"""How large a file it takes, asked without sending one, and how fast a few MiB travel.

The probes only ask and judge: what to change is in ``remedies``, and what they wrote is removed by ``cleaning``.
``run`` calls them.
"""

from __future__ import annotations

import time

from ..errors import shown
from .finding import Finding, Trouble
from .subject import SLOWEST, Subject

__all__ = ["human", "size", "transfer"]

TRANSFER = 4 * 1024 * 1024  # bytes each way: some seconds on a slow line, and more than a buffer of a server
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def size(subject: Subject) -> list[Finding]:
    """It would take the largest file that the application accepts; nothing of it is sent."""
    largest = subject.largest
    name = subject.name("large.bin")
    try:
        refusal = subject.announce(name, largest)
    except Trouble as trouble:
        return [subject.found("size", "unknown", f"asked whether it takes {human(largest)}: {trouble}", "unsaid")]
    if refusal is None:
        subject.facts["size"] = largest
        return [Finding("size", "ok", f"it takes an announcement of {human(largest)}; that much was not sent")]
    if refusal.status != 413:
        seen = f"a PUT of {human(largest)} was answered with {refusal.status} before a byte was sent"
        return [subject.found("size", "unsafe" if refusal.status >= 400 else "unknown", seen)]
    subject.facts["size"] = limit = _limit(subject, name, largest)
    return [subject.found("size", "unsafe", f"it takes {human(limit)} at most, and refuses {human(largest)} with 413")]


def transfer(subject: Subject) -> list[Finding]:
    """Some MiB arrive whole, and come back."""
    count = min(TRANSFER, subject.facts.get("size", TRANSFER))  # what is above the limit is a finding already
    name, content = subject.name("some.bin"), (subject.folder.encode() * (count // 16 + 1))[:count]
    begun = time.monotonic()
    try:
        subject.put(name, content)
        up = count / max(time.monotonic() - begun, 1e-6)
        begun = time.monotonic()
        found = subject.get(name)
    except Trouble as trouble:
        return [subject.found("transfer", "unsafe", f"a file of {human(count)}: {trouble}")]
    down = count / max(time.monotonic() - begun, 1e-6)
    subject.delete(name)
    if found != content:
        return [
            subject.found(
                "transfer", "unsafe", f"a file of {human(count)} came back as {shown(len(found or b''))} bytes"
            )
        ]
    slow = min(up, down) < 2 * SLOWEST
    seen = f"{human(count)}: {human(up)}/s up, {human(down)}/s down"
    return [subject.found("transfer", "warning" if slow else "ok", seen, "slow")]


def human(count: float) -> str:
    """Return a number of bytes as people say it."""
    if count == 1:
        return "1 byte"
    for unit in UNITS:
        if count < 1024 or unit == UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if count >= 100 or count == int(count) else f"{count:.1f} {unit}"


def _limit(subject: Subject, name: str, largest: int) -> int:
    """Return the largest size that is not refused, in 30 requests for a GiB."""
    good, bad = 0, largest
    while bad - good > 1:
        middle = (good + bad) // 2
        refusal = subject.announce(name, middle)
        good, bad = (middle, bad) if refusal is None or refusal.status != 413 else (good, middle)
    return good
