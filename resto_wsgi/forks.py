"""Forks: which process this is, and what has to be done before and after it forks.

A fork copies descriptors, locks and connections, and of all threads only the one that forks. Code that makes something
which a child must not use keeps ``this_process()`` and compares. Code that needs one value for each process has a
``PerProcess``. Code that must act at the fork itself is a ``Listener``. The only os.register_at_fork of the package is
here:

    before      nobody becomes a listener; each is told; last the guard of ``no_fork``, which nobody holds for a wait
    in parent   the guard is given back; each is told; others may become listeners
    in child    both locks are new, for the thread that held them may not be there; each is told

C code may fork without these hooks, or with only the child's (uWSGI), so code that compares must do so at each use. It
is not known here who listens: this is at the lowest level, so that every module may import it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakSet

__all__ = ["Listener", "PerProcess", "Process", "no_fork", "tell", "this_process"]

T = TypeVar("T")
Process = tuple[int, int]  # its number, which the kernel may reuse, and how many forks led to it


def this_process() -> Process:
    """Return what tells this process from the one that it was forked from, and from all before that."""
    return os.getpid(), _depth


def no_fork() -> threading.RLock:
    """Return the lock that keeps other threads from forking; hold it for a few instructions, never for a wait."""
    return _guard


class Listener:
    """An object that acts at a fork, in the thread that forks. By default it does nothing."""

    def before_fork(self) -> None:
        """Wait until a fork does no harm, and keep other threads from changing that."""

    def after_fork_in_parent(self) -> None:
        """Let the other threads go on. Only called if ``before_fork`` returned."""

    def after_fork_in_child(self) -> None:
        """Give up what belongs to the parent. ``before_fork`` may not have been called."""


def tell(listener: Listener) -> None:
    """Tell ``listener`` of every fork from now on, for as long as somebody keeps it."""
    with _adding:
        _listeners.add(listener)


class PerProcess(Generic[T]):
    """One value for each process, made when the process first asks. Any thread may call."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        # By process. A child keeps its parent's value unused: to free it could end what the parent still uses.
        self._values: dict[Process, T] = {}

    def get(self) -> T:
        """Return this process's value; all threads get the same one."""
        process = this_process()
        if process not in self._values:
            return self._values.setdefault(process, self._make())
        return self._values[process]

    def take(self) -> T | None:
        """Return this process's value and forget it, None if there is none; the next ``get`` makes another."""
        return self._values.pop(this_process(), None)

    def has_others(self) -> bool:
        """True if there are values of processes from which this one was forked."""
        return any(process != this_process() for process in self._values)


_depth = 0  # forks with our hooks between the first process and this one
_guard = threading.RLock()  # not Lock: a signal handler that forks must not wait for the code that it interrupted
_adding = threading.RLock()  # held through a fork, so that each listener has its two calls or none
_listeners: WeakSet[Listener] = WeakSet()
_stopped: list[Listener] = []  # the listeners that the fork under way has told so far


def _before() -> None:
    _adding.acquire()
    try:
        for listener in list(_listeners):
            listener.before_fork()
            _stopped.append(listener)
    finally:  # even if a listener raises: the fork goes on all the same, and ``_in_parent`` releases the guard
        _guard.acquire()


def _in_parent() -> None:
    _guard.release()
    while _stopped:
        _stopped.pop().after_fork_in_parent()
    _adding.release()


def _in_child() -> None:
    global _depth, _guard, _adding
    _depth += 1
    _guard, _adding = threading.RLock(), threading.RLock()
    _stopped.clear()  # the parent tells these, from its own copy
    for listener in list(_listeners):
        listener.after_fork_in_child()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
