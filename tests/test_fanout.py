"""The fan-out, with pieces of work that wait for one another: no network, no chance."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from resto_wsgi.errors import DeliveryError
from resto_wsgi.fanout import THREADS, Fanout
from resto_wsgi.hosts import Host, parse_hosts

WAIT = 10  # seconds: long after every piece of work here has ended


def hosts(count: int) -> tuple[Host, ...]:
    return parse_hosts([f"media-{number}" for number in range(count)], "/media/")


def nothing(host: Host) -> None:
    """Do no work."""


def threads() -> list[str]:
    """The names of the living threads of fan-outs."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("resto media-")]


def test_all_hosts_are_served_at_the_same_time() -> None:
    """Each piece of work waits until all of them have begun."""
    barrier = threading.Barrier(12)

    def work(host: Host) -> None:
        barrier.wait(WAIT)

    fanout = Fanout(hosts(12))
    assert fanout.run("cat", work) == {f"media-{number}": None for number in range(12)}
    fanout.close()


def test_a_slow_host_does_not_delay_the_work_for_others() -> None:
    """While one host hangs in twenty requests, another host is done with its part of all of them."""
    hung, done = threading.Event(), threading.Semaphore(0)

    def work(host: Host) -> None:
        if host.label == "media-0":
            hung.wait(WAIT)
        else:
            done.release()

    fanout = Fanout(hosts(2))
    with ThreadPoolExecutor(20) as callers:
        runs = [callers.submit(fanout.run, "cat", work) for _ in range(20)]
        try:
            assert all(done.acquire(timeout=WAIT) for _ in runs)
            assert not any(run.done() for run in runs)
        finally:
            hung.set()
        assert all(run.result() == {"media-0": None, "media-1": None} for run in runs)
    assert len(threads()) <= 2 * THREADS
    fanout.close()


def test_a_host_serves_as_many_callers_at_once_as_it_has_threads() -> None:
    """Uploads of many request threads do not wait for one another."""
    barrier = threading.Barrier(16)

    def work(host: Host) -> None:
        if host.label == "media-0":
            barrier.wait(WAIT)

    fanout = Fanout(hosts(2))
    with ThreadPoolExecutor(16) as callers:
        runs = [callers.submit(fanout.run, "cat", work) for _ in range(16)]
        assert all(run.result() == {"media-0": None, "media-1": None} for run in runs)
    fanout.close()


def test_a_delivery_error_is_the_outcome_of_its_host_alone(caplog: pytest.LogCaptureFixture) -> None:
    """The very exception is handed back, and it is for the caller to log it."""
    refused = DeliveryError("media-1", "cat", "refuses connections")

    def work(host: Host) -> None:
        if host.label == "media-1":
            raise refused

    fanout = Fanout(hosts(3))
    outcome = fanout.run("cat", work)
    assert outcome == {"media-0": None, "media-1": refused, "media-2": None}
    assert outcome["media-1"] is refused
    assert caplog.records == []
    fanout.close()


@pytest.mark.parametrize("count", [1, 2])
def test_a_defect_is_logged_and_is_the_outcome_of_its_host(count: int, caplog: pytest.LogCaptureFixture) -> None:
    """The caller can still put things right on the others, with one host as with many."""

    def work(host: Host) -> None:
        if host.label == "media-0":
            raise ZeroDivisionError("a defect")

    fanout = Fanout(hosts(count))
    outcome = fanout.run("cat", work)
    failure = outcome.pop("media-0")
    assert isinstance(failure, DeliveryError)
    assert (failure.host, failure.name, failure.reason) == ("media-0", "cat", "not delivered: ZeroDivisionError")
    assert (failure.status, failure.permanent) == (None, False)
    assert all(each is None for each in outcome.values())
    (record,) = caplog.records
    assert (record.name, record.levelno, record.message) == (
        "resto_wsgi",
        logging.ERROR,
        "defect while delivering to media-0",
    )
    assert record.exc_info and record.exc_info[0] is ZeroDivisionError
    fanout.close()


def test_an_interruption_waits_for_the_work_under_way() -> None:
    """What interrupts goes on to the caller, who then withdraws: by then no host may still be taking the file."""
    begun, ended = threading.Event(), []

    def work(host: Host) -> None:
        if host.label == "media-0":
            begun.wait(WAIT)
            raise SystemExit
        begun.set()
        threading.Event().wait(0.2)
        ended.append(host.label)

    fanout = Fanout(hosts(2))
    with pytest.raises(SystemExit):
        fanout.run("cat", work)
    assert ended == ["media-1"]
    fanout.close()


def test_no_hosts_are_no_outcome() -> None:
    """A single server without media servers is the way to begin."""
    fanout = Fanout(())
    assert fanout.run("cat", nothing) == {}
    fanout.close()


def test_one_host_is_served_in_the_thread_of_the_caller() -> None:
    """No thread is started where there is nothing to do at once."""
    served: list[threading.Thread] = []
    fanout = Fanout(hosts(1))
    assert fanout.run("cat", lambda host: served.append(threading.current_thread())) == {"media-0": None}
    assert served == [threading.current_thread()]
    fanout.close()


def test_close_ends_the_threads_and_may_be_repeated() -> None:
    """Work under way is waited for; a later run starts new threads."""
    fanout = Fanout(hosts(3))
    fanout.close()
    for _ in range(2):
        fanout.run("cat", nothing)
        assert len(threads()) == 3
        fanout.close()
        fanout.close()
        assert threads() == []


def test_callers_that_come_first_at_once_share_the_threads() -> None:
    """Whatever came too late is not left behind: close ends every thread."""
    barrier = threading.Barrier(8)
    fanout = Fanout(hosts(3))

    def call(_: int) -> Any:
        barrier.wait(WAIT)
        return fanout.run("cat", nothing)

    with ThreadPoolExecutor(8) as callers:
        assert all(len(outcome) == 3 for outcome in callers.map(call, range(8)))
    fanout.close()
    assert threads() == []


def test_a_forked_process_gets_threads_of_its_own() -> None:
    """Threads do not survive a fork; the fan-out does, in both processes."""
    script = """
        import json, os, signal
        from resto_wsgi.fanout import Fanout
        from resto_wsgi.hosts import parse_hosts
        fanout = Fanout(parse_hosts(["media-0", "media-1"], "/media/"))
        pids = lambda: (seen := [], fanout.run("cat", lambda host: seen.append(os.getpid())))[0]
        assert pids() == [os.getpid()] * 2
        child = os.fork()
        if not child:
            signal.alarm(10)
            assert pids() == [os.getpid()] * 2
            fanout.close()
            os._exit(7)
        status = os.waitpid(child, 0)[1]
        assert pids() == [os.getpid()] * 2
        fanout.close()
        print(json.dumps(os.waitstatus_to_exitcode(status)))
    """
    python = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)]
    done = subprocess.run(python, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == 7


def test_an_interruption_waits_for_what_is_under_way() -> None:
    """A worker that is told to exit withdraws afterwards; nothing that it began may come after that."""
    hosts = [Host("quick", "http://quick"), Host("slow", "http://slow")]
    ended = threading.Event()

    def work(host: Host) -> None:
        if host.label == "slow":
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
            time.sleep(0.3)
            ended.set()

    def leave(*arguments: object) -> None:
        raise SystemExit(1)

    before = signal.signal(signal.SIGALRM, leave)
    fanout = Fanout(hosts)
    try:
        with pytest.raises(SystemExit):
            fanout.run("name", work)
        assert ended.is_set()
    finally:
        signal.signal(signal.SIGALRM, before)
        fanout.close()


def test_work_is_done_here_where_no_thread_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the main thread has ended, or at the limit of threads, a withdrawal must still reach the hosts."""

    def refuse(*arguments: object) -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")

    monkeypatch.setattr("resto_wsgi.fanout.ThreadPoolExecutor.submit", refuse)
    done = []
    fanout = Fanout([Host("a", "http://a"), Host("b", "http://b")])
    assert fanout.run("name", lambda host: done.append(host.label)) == {"a": None, "b": None}
    assert done == ["a", "b"]
    fanout.close()
