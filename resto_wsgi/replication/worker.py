"""The background delivery of what is owed: who does it, when it starts, and how it stops.

    candidate ── the lock of the outbox's worker is free ──> leader ── stop, or death ──> gone

Each process has one daemon thread, a candidate. It is started when it is first needed, and again after a fork. The lock
(flock, released by the kernel when its process dies) makes one of all processes with the same hosts the leader; the
others look at it every second. The leader runs the lanes of each host, each in a thread of its own, so that no host
waits for another, and no small file for a large one. It also sweeps up after dead processes. Whatever goes wrong is
logged and tried again; a lane ends only when it is told to stop. What a lane delivers must not be decided here: see
``lane``. The replicator and the sending call this.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence

from ..errors import DeliveryError, RestoError
from ..forks import Process, no_fork, this_process
from ..hosts import Host
from ..master.locks import FileLock
from .lane import IDLE, Lane, Large

__all__ = ["Reporter", "Worker"]

TAKE_OVER = 1.0  # seconds between two looks at the leader's lock
AFTER_DEFECT = 5.0  # seconds until a lane goes on after our own disk or outbox failed
HOUSEKEEPING = 20.0  # seconds between two sweeps
AT_EXIT = 5.0  # seconds that the end of the program waits for a delivery under way

log = logging.getLogger("resto_wsgi")

AnyLane = Lane | Large


class Worker:
    """The background thread of each process. Any thread may call.

    The leader calls ``housekeeping`` when it begins, and then every HOUSEKEEPING seconds. ``lock`` is a path. If
    ``background`` is False, the thread is there only while somebody drains.
    """

    def __init__(
        self, lanes: Sequence[AnyLane], lock: str, housekeeping: Callable[[], None], *, background: bool = True
    ) -> None:
        self._lanes = tuple(lanes)
        self._lock = lock
        self._housekeeping = housekeeping
        self._background = background
        self._process: Process | None = None  # whose thread this is
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._wakes: Mapping[AnyLane, threading.Event] = {}

    def start(self, *, anyway: bool = False) -> None:
        """Begin in this process; do nothing if it has begun already or is not wanted."""
        if self._begun or not self._lanes or not (self._background or anyway):
            return
        with no_fork():  # so that a child does not inherit a start half done
            # Looked at again, now that no other thread is here: two requests may both have passed the look above.
            if self._begun:
                return
            stopping = threading.Event()
            wakes = {lane: threading.Event() for lane in self._lanes}
            thread = threading.Thread(target=self._run, args=(stopping, wakes), name="resto worker", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # too many threads, or the program is ending: a save must not fail for it
                log.warning("worker: not started, tried again later: %s", error)
                return
            # Only now: a thread that could not start must not count as begun, or nobody would try again.
            self._stopping, self._wakes, self._thread, self._process = stopping, wakes, thread, this_process()
            _at_exit.add(self)

    def wake(self) -> None:
        """Look at once: something was recorded. If another process leads, that one looks within IDLE seconds."""
        if self._process == this_process():
            for wake in self._wakes.values():
                wake.set()

    def stop(self, timeout: float) -> bool:
        """Stop after the deliveries under way; return True if all have ended within ``timeout`` seconds."""
        thread = self._thread
        if self._process != this_process() or thread is None:
            return True
        self._stopping.set()
        self.wake()
        thread.join(timeout)
        return not thread.is_alive()

    def step(self, host: Host) -> float:
        """Deliver one batch of each lane of one host in this thread, leader or not; return the shorter pause."""
        return min([lane.step() for lane in self._lanes if lane.host == host])

    @property
    def _begun(self) -> bool:
        """True if this process has a thread that was not told to stop. One that was may end after the next began."""
        return self._process == this_process() and not self._stopping.is_set()

    def _run(self, stopping: threading.Event, wakes: Mapping[AnyLane, threading.Event]) -> None:
        lock = FileLock(self._lock)
        while not stopping.is_set():
            try:
                if lock.acquire(wait=False):
                    try:
                        self._lead(stopping, wakes)
                    finally:
                        lock.release()
            except OSError as error:
                log.warning("worker: cannot take its lock, trying again: %s", error)
                stopping.wait(AFTER_DEFECT)
            stopping.wait(TAKE_OVER)

    def _lead(self, stopping: threading.Event, wakes: Mapping[AnyLane, threading.Event]) -> None:
        """Run the lanes until told to stop."""
        threads: dict[AnyLane, threading.Thread] = {}
        while not stopping.is_set():
            try:
                self._start_lanes(threads, stopping, wakes)
                self._housekeeping()
            except RestoError as error:
                log.warning("worker: %s", error)
            except Exception:
                log.exception("worker: housekeeping failed")
            stopping.wait(HOUSEKEEPING)
        # The lock is released after this: a lane that still ran would deliver beside those of the next leader.
        for thread in threads.values():
            thread.join()

    def _start_lanes(
        self,
        threads: dict[AnyLane, threading.Thread],
        stopping: threading.Event,
        wakes: Mapping[AnyLane, threading.Event],
    ) -> None:
        """Start the lanes that do not run. If there are too many threads to start one, it is tried again."""
        for lane in [lane for lane in self._lanes if lane not in threads or not threads[lane].is_alive()]:
            others = [wakes[other] for other in self._lanes if other.host == lane.host and other is not lane]
            arguments = (lane, stopping, wakes[lane], others)
            thread = threading.Thread(
                target=self._run_lane, args=arguments, name=f"resto lane {lane.host.label}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                log.warning("worker: the lane of %s is not started yet: %s", lane.host.label, error)
                return
            threads[lane] = thread

    def _run_lane(
        self, lane: AnyLane, stopping: threading.Event, wake: threading.Event, others: Sequence[threading.Event]
    ) -> None:
        """Step until told to stop. Each batch wakes the other lanes of the host, which may have been left some."""
        while not stopping.is_set():
            try:
                pause = min(lane.step(), IDLE)  # a cap: another process may let the host be asked sooner
            except RestoError as error:
                log.warning("worker: %s", error)
                pause = AFTER_DEFECT
            except Exception:
                log.exception("worker: defect in the lane of %s", lane.host.label)
                pause = AFTER_DEFECT
            for other in others if pause == 0 else ():
                other.set()
            if pause > 0 and not stopping.is_set():
                wake.wait(pause)
                # Before the next look, never after it: what is recorded during that look must wake this lane again.
                wake.clear()


class Reporter:
    """Logs failed deliveries of which nobody is told, for each host at most one line in EVERY seconds."""

    EVERY = 60.0  # seconds

    def __init__(self, show_traceback: bool, clock: Callable[[], float]) -> None:
        self._show_traceback = show_traceback
        self._clock = clock
        self._quiet_until: dict[str, float] = {}

    def __call__(self, error: DeliveryError) -> None:
        now = self._clock()
        if not now < self._quiet_until.get(error.host, 0.0) <= now + self.EVERY:
            self._quiet_until[error.host] = now + self.EVERY
            log.error("still owed: %s", error, exc_info=error if self._show_traceback else None)


def _stop_all() -> None:
    # One deadline for all workers, so that several replicators do not multiply AT_EXIT.
    deadline = time.monotonic() + AT_EXIT
    for worker in list(_at_exit):
        worker.stop(max(0.0, deadline - time.monotonic()))


_at_exit: weakref.WeakSet[Worker] = weakref.WeakSet()
atexit.register(_stop_all)
