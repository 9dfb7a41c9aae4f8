"""What happens when the last fault is over: everything runs again, and nobody does anything but look.

A health request each second is all that the application hears, as it would from a load balancer: what is owed is
delivered by a worker in its processes, and these begin with the first request. The disks must agree within a minute.
"""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Callable
from dataclasses import dataclass

from .judge import OLD, Verdict

__all__ = ["Aftermath", "ask_for_health", "wait_for_it"]

WITHIN = 60.0  # seconds from the last fault
STEP = 0.25  # seconds between two looks at the outbox
HEALTH_EVERY = 1.0  # seconds
MARGIN = 3.0  # seconds


@dataclass
class Aftermath:
    """``seconds`` from the last fault to the first clean look; None where there was none in time."""

    seconds: float | None
    verdict: Verdict


def wait_for_it(
    last_fault: float,
    owed: Callable[[], list[str]],
    look: Callable[[], Verdict],
    health: Callable[[], None],
    *,
    within: float = WITHIN,
    patient: bool = False,
) -> Aftermath:
    """Look until all is clean or time is up; ``last_fault`` as time.monotonic tells it.

    ``patient``: look once more when everything of the last fault is more than a minute old, to find what came late.
    """
    found = Aftermath(None, Verdict())
    asked = 0.0
    while True:
        now = time.monotonic()
        if now - asked >= HEALTH_EVERY:
            asked = now
            health()
        if now - last_fault > within:
            return Aftermath(None, look())
        if not owed() and (found := Aftermath(time.monotonic() - last_fault, look())).verdict.clean:
            break
        time.sleep(STEP)
    while patient and time.monotonic() - last_fault < OLD + MARGIN:
        health()
        time.sleep(HEALTH_EVERY)
    return Aftermath(found.seconds, look()) if patient else found


def ask_for_health(port: int) -> None:
    """Send one request, and do not mind whether it is answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/health", headers={"Connection": "close"})
        connection.getresponse().read()
