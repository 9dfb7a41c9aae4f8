"""Forks, with real processes: whom a child is told apart from, what each side is told, and in which order."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from resto_wsgi.forks import Listener, PerProcess, no_fork, tell, this_process


class Told(Listener):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def before_fork(self) -> None:
        self.said.append("before")

    def after_fork_in_parent(self) -> None:
        self.said.append("in parent")

    def after_fork_in_child(self) -> None:
        self.said.append("in child")


@pytest.fixture
def told() -> Iterator[Told]:
    """A listener that is told of forks."""
    told = Told()
    tell(told)
    yield told


def in_child(work: Any, fork: Any = os.fork) -> Any:
    """Fork, and return the JSON of what ``work`` returned in the child."""
    out, into = os.pipe()
    child = fork()
    if not child:
        status = 1
        try:
            signal.alarm(30)
            os.write(into, json.dumps(work()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(into)
    with open(out, "rb") as file:
        said = file.read()
    assert os.waitpid(child, 0)[1] == 0
    return json.loads(said)


def run(script: str) -> Any:
    """Run a script in an interpreter of its own and return the JSON that it printed."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_process_is_the_same_until_it_is_a_forked_one() -> None:
    """Also for its grandchildren, and where Python's hooks were not called."""
    process = this_process()
    assert this_process() == process
    assert in_child(lambda: this_process() == process) is False
    assert in_child(lambda: in_child(lambda: this_process() == process)) is False


def test_a_number_that_is_given_again_is_not_the_same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server forks for years, and the kernel's numbers come round: a grandchild may have that of a dead parent."""
    monkeypatch.setattr(os, "getpid", lambda: 100)
    process = this_process()
    assert in_child(lambda: this_process() == process) is False


def test_each_process_has_a_value_of_its_own() -> None:
    """A child makes its own when it asks, and neither uses nor frees the parent's."""

    class Value:
        pass

    values = PerProcess(Value)
    mine, freed = values.get(), []
    weakref.finalize(mine, freed.append, "freed")

    def look() -> list[bool]:
        gc.collect()
        return [values.get() is mine, values.get() is values.get(), bool(freed), values.has_others()]

    assert in_child(look) == [False, True, False, True]
    assert not values.has_others()
    assert values.get() is mine
    assert in_child(lambda: values.take() is None) is True
    assert values.take() is mine
    assert values.take() is None
    assert values.get() is not mine


def test_all_threads_of_a_process_have_one_value() -> None:
    """Also if all of them ask first: those that others made are dropped."""
    gathered = threading.Barrier(8)

    def make() -> object:
        gathered.wait(10)  # each is making one before the first is there
        return object()

    values = PerProcess(make)
    with ThreadPoolExecutor(8) as threads:
        assert len({id(value) for value in threads.map(lambda _: values.get(), range(8))}) == 1


def test_a_fork_in_c_is_seen_by_who_compares() -> None:
    """A server in C may call none of Python's hooks; the number of the process changes all the same."""
    assert (
        run("""
        import ctypes, json, os
        from resto_wsgi.forks import PerProcess, this_process
        process, values = this_process(), PerProcess(object)
        mine = values.get()
        child = ctypes.PyDLL(None).fork()
        if not child:
            os._exit(10 * (this_process() == process) + (values.get() is mine))
        print(json.dumps(os.waitpid(child, 0)[1]))
    """)
        == 0
    )


def test_a_listener_is_told_before_and_after(told: Told) -> None:
    """In the parent and in the child, each by its own words; whoever is forgotten is told nothing."""
    assert in_child(lambda: told.said) == ["before", "in child"]
    assert told.said == ["before", "in parent"]
    other = Told()
    tell(other)
    said = other.said
    del other
    gc.collect()
    in_child(lambda: None)
    assert said == []


def test_what_fails_before_a_fork_is_not_told_after_it(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fork cannot be stopped. The others are told, and forks and listeners go on."""

    class Fails(Told):
        def before_fork(self) -> None:
            raise OSError("no")

    fails = Fails()
    tell(fails)
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: seen.append(error.exc_type))
    in_child(lambda: None)
    assert seen == [OSError]
    assert fails.said == []
    assert told.said in ([], ["before", "in parent"])
    with ThreadPoolExecutor(1) as thread:  # neither lock is held
        thread.submit(tell, told).result(10)
        thread.submit(in_child, lambda: None).result(10)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_waits_for_who_holds_the_guard() -> None:
    """What is done under it is either done or not begun in the child."""
    held, go_on, done = threading.Event(), threading.Event(), []

    def work() -> None:
        with no_fork():
            held.set()
            go_on.wait(10)
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    held.wait(10)
    timer = threading.Timer(0.2, go_on.set)
    timer.start()
    assert in_child(lambda: done) == [True]
    thread.join(10)
    timer.join(10)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_listeners_are_told_before_the_guard_is_taken() -> None:
    """Who holds what a listener waits for may need the guard: a lock that is collected as garbage, at any moment."""

    class Waits(Listener):
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def before_fork(self) -> None:
            self.taken = self.lock.acquire(timeout=10)

        def after_fork_in_parent(self) -> None:
            self.lock.release()

    waits = Waits()
    tell(waits)
    held, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with waits.lock:
            held.set()
            go_on.wait(10)
            with no_fork():
                pass

    thread = threading.Thread(target=work)
    thread.start()
    held.wait(10)
    timer = threading.Timer(0.2, go_on.set)
    timer.start()
    in_child(lambda: None)
    thread.join(10)
    timer.join(10)
    assert waits.taken and not thread.is_alive()


def test_only_the_child_may_be_told() -> None:
    """uWSGI calls the child's hooks and no others: what another thread of the parent held is free there."""
    assert run("""
        import ctypes, json, os, signal, threading
        from resto_wsgi.forks import Listener, no_fork, tell, this_process
        class Told(Listener):
            said = []
            def before_fork(self): self.said.append("before")
            def after_fork_in_child(self): self.said.append("in child")
        told, held = Told(), threading.Event()
        tell(told)
        def work():
            with no_fork():
                held.set()
                threading.Event().wait(60)
        threading.Thread(target=work, daemon=True).start()
        held.wait(10)
        out, into = os.pipe()
        child = ctypes.PyDLL(None).fork()
        if not child:
            signal.alarm(10)
            ctypes.pythonapi.PyOS_AfterFork_Child()
            with no_fork():
                tell(Told())
                os.write(into, json.dumps(told.said).encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(into)
        print(json.dumps(json.loads(os.read(out, 100) or "null")), flush=True)
        os._exit(0)
    """) == ["in child"]
