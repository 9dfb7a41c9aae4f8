"""One file and many processes and threads, with real kill -9 and real forks."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from outboxes import WRITER, A, B, command, record, run, sound
from servers import eventually

from resto_wsgi.hosts import Host
from resto_wsgi.outbox.outbox import Outbox


def together(number: int, work: Callable[[int], Any]) -> list[Any]:
    """Do ``work`` in so many threads at once."""
    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(work, range(number)))


def test_what_was_recorded_survives_kill_9(path: str) -> None:
    """At once after record returned; whoever comes next finds it begun, and so unsure."""
    child = subprocess.Popen(command(WRITER, path, "once"), stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    assert child.stdout
    child.stdout.readline()
    child.kill()
    child.communicate()
    outbox = Outbox(path)
    assert outbox.deliveries("0").keys() == {A, B}
    assert outbox.claim(A, ["0"])[0].unsure_until > time.time()
    outbox.close()


def test_kill_9_in_the_midst_of_many_leaves_a_sound_file(path: str) -> None:
    """All that was reported is there, whole transactions only, and the next process writes on."""
    for _ in range(5):
        child = subprocess.Popen(command(WRITER, path, "forever"), stdout=subprocess.PIPE, text=True)
        assert child.stdout
        for _ in range(60):
            last = int(child.stdout.readline())
        child.kill()
        rest = child.communicate()[0].splitlines()
        last = int(rest[-1]) if rest and rest[-1].isdigit() else last
        outbox = Outbox(path)
        counts = {owed.host: owed.owed for owed in outbox.summary()}
        assert counts[A] == counts[B] >= last
        assert all(outbox.deliveries(f"{number}") for number in range(0, last, 10))
        outbox.close()
        assert sound(path)


def test_many_processes_and_threads_lose_nothing(path: str) -> None:
    """Four processes of four threads record, claim and settle names of their own and one that all share."""
    script = """
        import sys, json
        from concurrent.futures import ThreadPoolExecutor
        from resto_wsgi.hosts import Host
        from resto_wsgi.outbox.outbox import Failure, Outbox
        outbox, (a, b, c, d) = Outbox(sys.argv[1]), map(Host.of, "abcd")
        def work(thread):
            generations = []
            for number in range(40):
                name = f"{sys.argv[2]}-{thread}-{number}"
                recorded = outbox.record(name, [a, b, c], begin=True, due=0.0)
                generations += {delivery.generation for delivery in recorded.values()}
                failed = [Failure(recorded[b], 0.0, "no")]
                outbox.settle([recorded[a]], failed)
                outbox.settle(outbox.claim(b, [name]))
                shared = outbox.record("shared", [d], begin=False, due=0.0)[d]
                generations.append(shared.generation)
                outbox.settle([], [Failure(shared, 0.0, "no")])
            return generations
        with ThreadPoolExecutor(4) as threads:
            print(json.dumps(sum(threads.map(work, range(4)), [])))
    """
    children = [
        subprocess.Popen(command(script, path, number), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    generations = []
    for child in children:
        out, err = child.communicate(timeout=120)
        assert child.returncode == 0, err
        generations += json.loads(out)
    total = 4 * 4 * 40
    assert len(set(generations)) == len(generations) == 2 * total
    outbox = Outbox(path)
    assert [(owed.host, owed.owed) for owed in outbox.summary()] == [(Host.of("c"), total), (Host.of("d"), 1)]
    assert outbox.record("new", [A], begin=True, due=0.0)[A].generation > max(generations)
    outbox.close()
    assert sound(path)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_in_the_midst_of_recordings_leaves_both_processes_working(path: str) -> None:
    """No connection crosses it, no lock stays held, and every recording of either process counts once."""
    outbox = Outbox(path)
    stop = threading.Event()
    counts = [0] * 4

    def work(thread: int) -> None:
        while not stop.is_set():
            record(outbox, f"{thread}-{counts[thread]}", A)
            counts[thread] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        children = []
        for number in range(10):
            child = os.fork()
            if child == 0:
                status = 1
                with contextlib.suppress(BaseException):
                    signal.alarm(30)
                    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if exists(fd)]
                    assert not any(link.startswith(path) for link in links)
                    together(2, functools.partial(record_ten, outbox, number))
                    status = 0
                os._exit(status)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 10
        before = sum(counts)
        eventually(lambda: sum(counts) > before + 20)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert [(owed.host, owed.owed) for owed in outbox.summary()] == [(A, sum(counts)), (B, 200)]
    outbox.close()
    assert sound(path)


def record_ten(outbox: Outbox, process: int, thread: int) -> None:
    for number in range(10):
        record(outbox, f"{process}-{thread}-{number}", B)


def exists(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


FORK_IN_C = """
    import ctypes, gc, json, os, signal, sys, threading
    from resto_wsgi.hosts import Host
    from resto_wsgi.outbox.outbox import Outbox
    path, hosts = sys.argv[1], [Host.of("a")]
    def opened():
        links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
        return [os.readlink(link) for link in links if os.path.lexists(link)].count(path)
    def generation(name):
        return outbox.record(name, hosts, begin=True, due=0.0)[hosts[0]].generation
    outbox = Outbox(path)
    first = generation("cat")
    inside, go_on = threading.Event(), threading.Event()
    def hold():
        with outbox._database._session.alone():
            inside.set()
            go_on.wait(20)
    if sys.argv[2] == "busy":
        threading.Thread(target=hold).start()
        inside.wait(10)
    out, into = os.pipe()
    child = ctypes.PyDLL(None).fork()
    if not child:
        signal.alarm(20)
        found = [opened(), generation("dog") > first, opened()]
        del outbox
        gc.collect()
        os.write(into, json.dumps([*found, opened() > 0]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(into)
    go_on.set()
    print(json.dumps([json.loads(os.read(out, 100) or "null"), generation("cow") > first, opened()]))
"""


@pytest.mark.parametrize("parent", ["idle", "busy"])
def test_a_fork_in_c_gets_a_connection_of_its_own(path: str, parent: str) -> None:
    """A server in C may call none of Python's hooks, while a thread of it is at work.

    The child waits for no lock that the parent's thread held, and leaves the parent's connection open to the end.
    """
    assert run(FORK_IN_C, path, parent) == [[1, True, 2, True], True, 1]
    assert sound(path)
