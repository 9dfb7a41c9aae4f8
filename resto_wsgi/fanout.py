"""One piece of work on many hosts at once, and what came of it on each.

Each host has threads of its own, started when they are first needed, so that a slow or dead host holds up only
the work for itself. Work is bounded in time by the transport; the wait here is for all hosts. Nothing is
known here of names, files or policies. The replicator calls it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from .errors import DeliveryError
from .hosts import Host

__all__ = ["Fanout", "Outcome"]

THREADS = 16  # for each host: requests of as many uploads at once; more wait their turn

Outcome = dict[str, "DeliveryError | None"]
"""For each host, by its label: None where the work was done, else why not."""

log = logging.getLogger("resto_wsgi")


class Fanout:
    """Threads for each host of a replicator. Any thread may call; a process that forks gets its own."""

    def __init__(self, hosts: Iterable[Host]) -> None:
        self._hosts = tuple(hosts)
        self._lanes: dict[int, dict[str, ThreadPoolExecutor]] = {}  # by process: threads do not survive a fork

    def run(self, name: str, work: Callable[[Host], None], hosts: Iterable[Host] | None = None) -> Outcome:
        """Do ``work`` for each of ``hosts``, by default all, at the same time and return when all have ended.

        A DeliveryError is that host's outcome. Any other exception is a defect; it is logged, and is that
        host's outcome too, so that the caller can still put things right on the others.
        """
        hosts = self._hosts if hosts is None else tuple(hosts)
        if len(hosts) == 1:
            return {hosts[0].label: _attempt(name, work, hosts[0])}
        lanes = self._own_lanes()
        futures: dict[str, Future[DeliveryError | None]] = {host.label: Future() for host in hosts}
        try:
            for host in hosts:
                _begin(lanes[host.label], futures[host.label], name, work, host)
            wait(futures.values())
        except BaseException:  # a worker that is told to exit: whoever goes on must come after what is under way
            wait([future for future in futures.values() if not future.cancel()])
            raise
        return {label: future.result() for label, future in futures.items()}

    def close(self) -> None:
        """Wait for the work under way and end the threads."""
        for lane in self._lanes.pop(os.getpid(), {}).values():
            lane.shutdown(wait=True)

    def _own_lanes(self) -> dict[str, ThreadPoolExecutor]:
        pid = os.getpid()
        lanes = self._lanes.get(pid)
        if lanes is None:
            fresh = {host.label: ThreadPoolExecutor(THREADS, f"resto {host.label}") for host in self._hosts}
            lanes = self._lanes.setdefault(pid, fresh)
        return lanes


def _begin(
    lane: ThreadPoolExecutor, future: Future[DeliveryError | None], name: str, work: Callable[[Host], None], host: Host
) -> None:
    """Begin the work on a thread, or do it here where there is none to be had: too many, or the program is ending."""

    def attempt() -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(_attempt(name, work, host))
            except BaseException as error:
                future.set_exception(error)  # for the one who waits, as ThreadPoolExecutor does

    try:
        lane.submit(attempt)
    except RuntimeError:
        attempt()


def _attempt(name: str, work: Callable[[Host], None], host: Host) -> DeliveryError | None:
    try:
        work(host)
    except DeliveryError as error:
        return error
    except Exception as error:
        log.exception("defect while delivering to %s", host.label)
        return DeliveryError(host.label, name, f"not delivered: {type(error).__name__}", ours=True)
    return None
