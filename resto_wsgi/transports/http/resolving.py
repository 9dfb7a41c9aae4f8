"""The addresses of a host's name, asked for aside, so that a resolver that says nothing holds nobody up.

    unknown ── asked ── answered ──> known ── used again FRESH seconds later ──> asked, and still known
                 ├── no such name ──> an error at once         ├── answered ──> known
                 └── silent ────────> an error when ``timeout`` has passed      ├── fails ─────> still known
                                                               └── silent ────> still known, after GRACE seconds

A call of the C library cannot be ended, so a daemon thread makes it: one for each name that is asked for, THREADS at
most, and each ends when nobody asks. A question that waits knows since when. What is known stays known in a process
that forks; what is under way does not go on there. A number is no name and is never asked for. ``connecting`` calls
this.
"""

from __future__ import annotations

import collections
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

__all__ = ["Address", "Known", "Name", "Resolver", "Unresolved"]

FRESH = 5.0  # seconds for which an answer is not asked for again: many connections are made at once
GRACE = 0.25  # seconds that somebody who knows an address waits for a newer one; a resolver that works takes less
KEPT = 24 * 3600.0  # seconds for which an address is used that the resolver does not confirm
THREADS = 16  # names that are asked for at the same time; more wait their turn

Look = Callable[..., Sequence[tuple[Any, ...]]]
Name = tuple[str, int]


class Address(NamedTuple):
    """Where to connect to, as the socket module takes it."""

    family: int
    where: tuple[Any, ...]

    def __str__(self) -> str:
        return str(self.where[0])


class Known(NamedTuple):
    """The addresses of a name, the first to be tried first, and when they were last confirmed."""

    addresses: tuple[Address, ...]
    confirmed: float


class Unresolved(OSError):
    """A name has no address, or none that could be found out in time."""


class _Question:
    """That for one name: since when it is asked, and how it ended."""

    def __init__(self, name: Name, since: float) -> None:
        self.name = name
        self.since = since
        self.over = False
        self.error: Exception | None = None


class Resolver:
    """Any thread may call; each process has its own. ``timeout`` is in seconds, for a name of which nothing is known.

    ``known`` is what is known at first, and is kept up to date.
    """

    def __init__(
        self,
        timeout: float,
        known: dict[Name, Known] | None = None,
        *,
        look_up: Look | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout = timeout
        self._known = {} if known is None else known
        self._look_up = look_up or _look_up
        self._clock = clock
        self._news = threading.Condition()
        self._asked: dict[Name, _Question] = {}
        self._waiting: collections.deque[_Question] = collections.deque()
        self._threads = 0

    def addresses(self, host: str, port: int) -> tuple[Address, ...]:
        """Return where to connect to, the best first. Raises Unresolved, after ``timeout`` seconds at the latest."""
        if numbers := _numbers(host, port):
            return numbers
        name = (host, port)
        known = self._known.get(name)
        if known is not None and known.confirmed > self._clock() - FRESH:
            return known.addresses
        question = self._ask(name)
        usable = known is not None and known.confirmed > self._clock() - KEPT
        self._wait(question, GRACE if usable else self._timeout)
        if question.over and question.error is None:
            return self._known[name].addresses
        if known is not None and usable:
            return known.addresses
        if question.error is not None:
            raise Unresolved(f"its name does not resolve: {_text(question.error)}") from question.error
        since = self._clock() - question.since
        raise Unresolved(f"its name was not resolved within {since:.3g} s; look at the name server of this machine")

    def prefer(self, host: str, port: int, address: Address) -> None:
        """Have an address that has answered tried first the next time."""
        known = self._known.get((host, port))
        if known is not None and address in known.addresses[1:]:
            others = tuple(each for each in known.addresses if each != address)
            self._known[host, port] = Known((address, *others), known.confirmed)

    def _ask(self, name: Name) -> _Question:
        """Return the question that is under way, or a new one that a thread will put."""
        with self._news:
            if name in self._asked:
                return self._asked[name]
            question = self._asked[name] = _Question(name, self._clock())
            self._waiting.append(question)
            if self._threads == THREADS:
                return question
            self._threads += 1
        try:
            threading.Thread(target=self._run, name="resto resolver", daemon=True).start()
        except RuntimeError:  # there can be no more threads, or the program ends
            self._run()
        return question

    def _wait(self, question: _Question, seconds: float) -> None:
        """Wait for an answer, until so many seconds after it was first asked for: who comes later waits for less."""
        with self._news:
            left = question.since + seconds - self._clock()
            self._news.wait_for(lambda: question.over, max(0.0, left))

    def _run(self) -> None:
        """Put the questions that wait, one after the other, until there are none."""
        while True:
            with self._news:
                if not self._waiting:
                    self._threads -= 1
                    return
                question = self._waiting.popleft()
            try:
                found = tuple(Address(each[0], each[4]) for each in self._look_up(*question.name))
                self._end(question, found, None)
            except Exception as error:
                self._end(question, (), error)

    def _end(self, question: _Question, found: tuple[Address, ...], error: Exception | None) -> None:
        with self._news:
            if error is None:
                before = self._known.get(question.name)
                found = tuple(sorted(found, key=lambda each: before is None or each != before.addresses[0]))
                self._known[question.name] = Known(found, self._clock())
            question.error = error
            question.over = True
            self._asked.pop(question.name, None)
            self._news.notify_all()


def _look_up(host: str, port: int) -> Sequence[tuple[Any, ...]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def _numbers(host: str, port: int) -> tuple[Address, ...]:
    """Return the address that ``host`` is, none if it is a name."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return ()
    return (Address(socket.AF_INET, (host, port)) if version == 4 else Address(socket.AF_INET6, (host, port, 0, 0)),)


def _text(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or "it is malformed"
