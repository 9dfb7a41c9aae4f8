"""Many jobs with hosts in one thread: each is moved when its connection is ready, and given up when its time is up.

A job is one piece of work at one host. It may take several requests, one after the other, and each may need a
connection that is not there yet. To connect is to wait, so the job is then handed back (``cold``) and not driven on. No
job waits for another here, and no protocol is known. A transport that can be driven makes the jobs; the fan-out drives
many of them, and connects in threads.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from ..errors import DeliveryError

__all__ = ["Job", "drive", "finish"]


class Job(Protocol):
    """One errand. It is ``over``, or ``cold``: it needs ``connect`` to be called; else it is under way.

    Under way, ``fd`` is to be watched for the poll events ``wants``, and ``until`` is a time.monotonic(). One thread at
    a time calls; nothing here raises but what interrupts the thread. ``outcome`` is None if a job that is over has
    succeeded, else it says why not; ``value`` is what the transport brought back for whoever sent it.
    """

    over: bool
    cold: bool
    outcome: DeliveryError | None
    value: Any

    @property
    def fd(self) -> int:
        """The descriptor of the connection."""

    @property
    def wants(self) -> int:
        """The poll events to wait for."""

    @property
    def until(self) -> float:
        """When to give up."""

    def start(self) -> None:
        """Go ahead on a connection that is there, or become cold."""

    def connect(self) -> None:
        """Do what may wait, which is to connect and whatever else takes its time, and go ahead."""

    def advance(self, events: int) -> None:
        """Go on; the connection showed these poll events."""

    def expire(self) -> None:
        """Go on without what did not come in time."""

    def abandon(self) -> None:
        """End as it stands: nobody waits for it any more."""

    def interrupt(self) -> None:
        """Called by another thread than the one that moves it: have it end soon, as it stands."""


def finish(job: Job) -> None:
    """See one job to its end, in this thread."""
    if not (job.over or job.cold):
        drive([job], lambda landed: ())
    while not job.over:
        job.connect()
        drive([job], lambda landed: ())


def drive(jobs: Iterable[Job], landed: Callable[[Job], Iterable[Job]]) -> None:
    """Move jobs until none is under way. ``landed`` gets each job that is over or cold, and may return others.

    If this thread is interrupted, those under way are abandoned.
    """
    # Not epoll: a job may have closed its descriptor before it is unregistered, which epoll answers with EBADF.
    poll = select.poll()
    flying: dict[int, Job] = {}
    wanted: dict[int, int] = {}

    def watch(job: Job) -> None:
        # A list, no recursion: what `landed` returns may be over at once, and bring the next.
        todo = [job]
        while todo:
            each = todo.pop()
            if each.over or each.cold:
                todo.extend(landed(each))
            else:
                flying[each.fd], wanted[each.fd] = each, each.wants
                poll.register(each.fd, each.wants)

    def moved(fd: int, job: Job) -> None:
        if not (job.over or job.cold) and job.fd == fd:
            if job.wants != wanted[fd]:
                wanted[fd] = job.wants
                poll.modify(fd, job.wants)
            return
        del flying[fd], wanted[fd]
        poll.unregister(fd)
        watch(job)

    try:
        for job in jobs:
            watch(job)
        while flying:
            patience = min(job.until for job in flying.values()) - time.monotonic()
            # poll takes whole milliseconds. Rounded down, this would spin through the last part of one.
            for fd, events in poll.poll(max(0, math.ceil(patience * 1000))):
                job = flying[fd]
                job.advance(events)
                moved(fd, job)
            now = time.monotonic()
            late = [(fd, job) for fd, job in flying.items() if job.until <= now]
            ready = dict(poll.poll(0)) if late else {}  # it may have come while this thread was held up elsewhere
            for fd, job in late:
                if fd in ready:
                    job.advance(ready[fd])
                if not (job.over or job.cold) and job.until <= now:
                    job.expire()
                moved(fd, job)
    except BaseException:
        for job in flying.values():
            job.abandon()
        raise
