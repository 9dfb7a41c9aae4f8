"""The kernel of the simulator: threads of which exactly one runs, and a seed that says which one.

An actor is a thread of a simulated process. Whatever it asks of the world outside is a step: there the seed picks who
goes on, time passes, and the history that is being played may do something: begin an operation, break a host, kill
a process. Nothing here knows the product.

    a thread of a process that lives   runs, or is ready, or waits for a moment, a lock
    a thread of a process that died    raises Killed at its next step and at all later ones, and does nothing else

Time is simulated: it moves a little with each step, and to the next event when nobody can go on. The wall clock, which
the product sees, is that time with an offset that jumps.
"""

from __future__ import annotations

import faulthandler
import heapq
import random
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Actor", "Kernel", "Killed", "Process", "Stuck"]

EPOCH = 1_800_000_000.0  # seconds since 1970 at which each history begins
TICK = 0.0003  # seconds that a step takes: a system call, a commit
STALLS = (0.01, 0.1, 0.1, 2.0)  # seconds, in the mean, for which a thread is not scheduled
STEPS = 150_000  # of one history, which usually takes 5,000: above it something goes round and round
REAL_SECONDS = 120.0  # of one history, which usually takes 0.1: above it a thread waits for a real lock


class Killed(BaseException):
    """The simulated process of this thread was killed. Nothing that the thread still does has an effect."""


class Stuck(Exception):
    """Nobody can go on, or nobody comes to an end."""


class Process:
    """What dies as a whole; ``dead`` once it did."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.dead = False


class Driver(Protocol):
    """Who plays the history."""

    def tick(self) -> None:
        """Begin, break, mend or kill something, or do nothing. Called before each step of anybody."""

    def abort(self) -> None:
        """Kill every process: the history failed, and its threads have to end."""


class Actor:
    """One thread of a simulated process, and what it waits for."""

    __slots__ = ("baton", "label", "process", "waits_for", "wakes", "work")

    def __init__(self, process: Process, label: str, work: Callable[[], Any]) -> None:
        self.process = process
        self.label = f"{process.label} {label}"
        self.work = work
        self.baton = threading.Lock()
        self.baton.acquire()
        self.wakes = 0.0
        self.waits_for: Callable[[], bool] | None = None


class Kernel:
    """Runs the actors of one history, one at a time, as ``chance`` will have it; the same seed does the same again."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.now = 0.0
        self.offset = EPOCH
        self.steps = 0
        self.trace: list[tuple[float, str, str]] = []
        self.defects: list[str] = []
        self.stickiness = 0.6  # how often the one who runs goes on: from 0, well shuffled, to nearly 1, lumpy
        self.stalls = 0.0  # how often a thread is not scheduled for a while, as on a machine that swaps
        self.driver: Driver
        self._actors: list[Actor] = []
        self._current: Actor | None = None
        self._events: list[tuple[float, int, str, Callable[[], None]]] = []
        self._events_made = 0
        self._main = threading.Lock()
        self._main.acquire()

    # What stand-ins and the history call

    def clock(self) -> float:
        """The wall clock: seconds since 1970, as far as anybody set it right."""
        return self.now + self.offset

    def note(self, label: str) -> None:
        """Add a line to the trace."""
        actor = self._current
        self.trace.append((self.now, "" if actor is None else actor.label, label))

    def step(self, label: str) -> None:
        """Let somebody else go on, perhaps. Raises Killed."""
        self._wait(label, 0.0, None)

    def sleep(self, seconds: float, label: str = "sleep") -> None:
        """Go on when the time has come. Raises Killed."""
        self._wait(f"{label} {seconds:.3f} s", self.now + max(seconds, 0.0), None)

    def wait_until(self, free: Callable[[], bool], label: str) -> None:
        """Go on when ``free`` is true, which is then true still. Raises Killed."""
        self._wait(label, 0.0, free)

    def at(self, moment: float, label: str, action: Callable[[], None]) -> None:
        """Do something at a moment of simulated time, whoever is alive then."""
        self._events_made += 1
        heapq.heappush(self._events, (moment, self._events_made, label, action))

    def spawn(self, process: Process, label: str, work: Callable[[], Any]) -> None:
        """Begin a thread of a process; it takes its first step when it is picked."""
        actor = Actor(process, label, work)
        self._actors.append(actor)
        threading.Thread(target=self._live, args=(actor,), name=actor.label, daemon=True).start()

    def defect(self, where: str) -> None:
        """Keep the exception that is being handled, which nobody expected; all of it is in the trace."""
        kind, error, trace = sys.exc_info()
        frame = traceback.extract_tb(trace)[-1]
        self.note(traceback.format_exc())
        self.defects.append(f"{where}: {kind and kind.__name__} in {frame.name}: {error}")

    def alive(self, process: Process) -> bool:
        """True where the process has threads."""
        return any(actor.process is process for actor in self._actors)

    def run(self, driver: Driver) -> None:
        """Play until no actor is left and the driver begins none. Raises Stuck, or what the driver raised."""
        self.driver = driver
        failure: list[BaseException] = []
        self._failure = failure
        first = self._pick(None)
        if first is not None:
            self._hand_to(first)
            if not self._main.acquire(timeout=REAL_SECONDS):
                faulthandler.dump_traceback(sys.stderr)
                raise Stuck("a thread waits for something real while another one holds it; see the stacks above")
        if failure:
            raise failure[0]

    def flush(self) -> None:
        """Let all that is still to come happen: what hosts do late."""
        while self._events:
            self._to(max(self.now, self._events[0][0]))

    # Who is next

    def _wait(self, label: str, wakes: float, waits_for: Callable[[], bool] | None) -> None:
        actor = self._current
        if actor is None:
            return  # the history looks at the world itself, between two steps of others
        if actor.process.dead:
            raise Killed
        self.trace.append((self.now, actor.label, label))
        if self.stalls and self.chance.random() < self.stalls:
            wakes = max(wakes, self.now + self.chance.expovariate(1 / self.chance.choice(STALLS)))
        actor.wakes, actor.waits_for = wakes, waits_for
        following = self._pick(actor)
        if following is not actor:
            self._hand_to(following)
            actor.baton.acquire()
        self._current = actor
        if actor.process.dead:
            raise Killed

    def _hand_to(self, actor: Actor | None) -> None:
        if actor is None:
            self._main.release()
        else:
            actor.baton.release()

    def _pick(self, previous: Actor | None) -> Actor | None:
        self._current = None
        try:
            return self._choose(previous)
        except Exception as error:
            self._failure.append(error)
            self.driver.tick = lambda: None  # type: ignore[method-assign]
            self.driver.abort()
            return self._actors[0] if self._actors else None

    def _choose(self, previous: Actor | None) -> Actor | None:
        while True:
            for actor in self._actors:
                if actor.process.dead:
                    return actor
            self.steps += 1
            if self.steps > STEPS:
                raise Stuck(f"no end after {STEPS} steps")
            self._to(self.now + TICK)
            self.driver.tick()
            ready = [actor for actor in self._actors if self._is_ready(actor)]
            if ready:
                if previous in ready and self.chance.random() < self.stickiness:
                    return previous
                return ready[int(self.chance.random() * len(ready))]
            if not self._skip():
                return None

    def _is_ready(self, actor: Actor) -> bool:
        if actor.process.dead:
            return True
        return actor.wakes <= self.now and (actor.waits_for is None or actor.waits_for())

    def _skip(self) -> bool:
        """Go to the next moment at which something happens; return whether there is one."""
        moments = [actor.wakes for actor in self._actors if actor.wakes > self.now]
        if self._events:
            moments.append(self._events[0][0])
        if moments:
            self._to(max(self.now, min(moments)))
            return True
        if self._actors:
            waiting = ", ".join(actor.label for actor in self._actors)
            raise Stuck(f"a deadlock: {waiting} wait for each other")
        return False

    def _to(self, moment: float) -> None:
        self.now = moment
        while self._events and self._events[0][0] <= moment:
            _, _, label, action = heapq.heappop(self._events)
            if label:
                self.note(label)
            action()

    def _live(self, actor: Actor) -> None:
        actor.baton.acquire()
        self._current = actor
        try:
            actor.work()
        except Killed:
            pass
        except BaseException:
            self.defect(actor.label)
        self._actors.remove(actor)
        self._hand_to(self._pick(None))
