"""The fan-out, with jobs and pieces of work that wait for one another; over HTTP where bytes matter."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import math
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from servers import FaultyServer, eventually

from resto_wsgi.errors import DeliveryError
from resto_wsgi.hosts import Host, parse_hosts
from resto_wsgi.master.media_root import Master
from resto_wsgi.replication.fanout import THREADS, Fanout, Task
from resto_wsgi.transports.http.transport import HttpTransport

WAIT = 10  # seconds: long after every piece of work here has ended
LARGE = 8 * 1024 * 1024  # bytes: more than any buffer between us and a host


def hosts(count: int) -> tuple[Host, ...]:
    return parse_hosts([f"media-{number}" for number in range(count)], "/media/")


def nothing() -> None:
    """Do no work."""


def threads() -> list[str]:
    """The names of the living threads of fan-outs."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("resto ")]


class Ends:
    """What ``ended`` was told, in order, as labels of hosts with their errors."""

    def __init__(self) -> None:
        self.told: list[tuple[str, DeliveryError | None]] = []
        self.values: list[object] = []

    def __call__(self, task: Task, error: DeliveryError | None, value: object) -> None:
        self.told.append((task.host.label, error))
        self.values.append(value)

    @property
    def labels(self) -> list[str]:
        return [label for label, _ in self.told]

    @property
    def outcome(self) -> dict[str, DeliveryError | None]:
        assert len(set(self.labels)) == len(self.told), "a task has ended twice"
        return dict(self.told)


class Line:
    """A job on a pair of sockets: under way until ``reply``; a cold one has ``connecting`` called before.

    See ``driving.Job``. ``begun`` is called when it is under way.
    """

    def __init__(
        self,
        connecting: Callable[[], None] | None = None,
        begun: Callable[[], None] = nothing,
        patience: float = WAIT,
    ) -> None:
        self.cold = self.over = self.abandoned = False
        self.outcome: DeliveryError | None = None
        self.value: object = None
        self.wants = select.POLLIN
        self.until = math.inf
        self._connecting = connecting
        self._begun = begun
        self._patience = patience
        self._near, self._far = socket.socketpair()
        self.fd = self._near.fileno()

    def reply(self) -> None:
        self._far.send(b".")

    def start(self) -> None:
        self.cold = self._connecting is not None
        if not self.cold:
            self._under_way()

    def connect(self) -> None:
        self.cold = False
        if self._connecting is not None:
            self._connecting()
        self.over = True

    def advance(self, events: int) -> None:
        assert self._near.recv(1) == b"."
        self.over = True

    def expire(self) -> None:
        self.outcome, self.over = DeliveryError("line", "cat", "expired"), True

    def interrupt(self) -> None:
        """It has no connection that could be shut down."""

    def abandon(self) -> None:
        self.abandoned = self.over = True

    def close(self) -> None:
        self._near.close()
        self._far.close()

    def _under_way(self) -> None:
        self.until = time.monotonic() + self._patience
        self._begun()


class Lines:
    """A transport that offers ``jobs``: a Line for the label of each host."""

    def __init__(self, jobs: dict[str, Line] | None = None) -> None:
        self.jobs = jobs or {}
        self.given: list[object] = []

    def delete_job(self, host: Host, name: str, along: object = None, version: int = 0) -> Line:
        self.given.append(along)
        return self.jobs[host.label]

    def put_job(
        self, host: Host, name: str, file: BinaryIO, size: int, mtime: float, along: object = None, version: int = 0
    ) -> Line:
        return self.delete_job(host, name, along)

    def put(self, *arguments: Any) -> None: ...

    delete = head = get = probe = close = put


@pytest.fixture
def fanout_of() -> Iterator[Callable[..., Fanout]]:
    """``fanout_of(transport)``: a fan-out that is closed after the test, with its jobs."""
    with contextlib.ExitStack() as stack:

        def make(transport: Any = None) -> Fanout:
            lines = transport or Lines()
            fanout = Fanout(lines)
            stack.callback(lines.close)
            for job in getattr(lines, "jobs", {}).values():
                stack.callback(job.close)
            stack.callback(fanout.close)
            return fanout

        yield make


@pytest.fixture
def fanout(fanout_of: Callable[..., Fanout]) -> Fanout:
    """A fan-out for pieces of work alone."""
    return fanout_of()


def run(fanout: Fanout, hosts: tuple[Host, ...], work: Callable[[Host], None]) -> dict[str, DeliveryError | None]:
    """Do one piece of work for each of the hosts, all at once."""
    ends = Ends()
    tasks = [Task(host, "cat", work=lambda host=host: work(host)) for host in hosts]  # type: ignore[misc]
    fanout.run(tasks, ends, len(tasks))
    return ends.outcome


def deletes(*labels: str) -> list[Task]:
    return [Task(Host(label, f"http://{label}"), "cat") for label in labels]


@contextlib.contextmanager
def interrupting(error: type[BaseException]) -> Iterator[Callable[[], None]]:
    """Within this, what is handed out raises ``error`` in the main thread, from any thread, as a signal does."""

    def leave(*arguments: object) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, leave)
    try:
        yield lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, before)


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


# At the same time


def test_all_hosts_are_served_at_the_same_time(fanout: Fanout) -> None:
    """Each piece of work waits until all of them have begun."""
    barrier = threading.Barrier(12)
    outcome = run(fanout, hosts(12), lambda host: barrier.wait(WAIT) and None)
    assert outcome == {f"media-{number}": None for number in range(12)}


def test_all_that_are_warm_are_under_way_at_the_same_time_without_a_thread(fanout_of: Any) -> None:
    """No host replies before all were asked."""
    lines: dict[str, Line] = {}
    labels = [f"media-{number}" for number in range(12)]
    for label in labels[:-1]:
        lines[label] = Line()
    lines[labels[-1]] = Line(begun=lambda: [line.reply() for line in lines.values()] and None)
    ends = Ends()
    fanout_of(Lines(lines)).run(deletes(*labels), ends, 12)
    assert ends.outcome == dict.fromkeys(labels)
    assert threads() == []


def test_a_slow_host_does_not_delay_the_work_for_others(fanout: Fanout) -> None:
    """While one host hangs in twenty requests, another host is done with its part of all of them."""
    hung, done = threading.Event(), threading.Semaphore(0)

    def work(host: Host) -> None:
        if host.label == "media-0":
            hung.wait(WAIT)
        else:
            done.release()

    with ThreadPoolExecutor(20) as callers:
        runs = [callers.submit(run, fanout, hosts(2), work) for _ in range(20)]
        try:
            assert all(done.acquire(timeout=WAIT) for _ in runs)
            assert not any(each.done() for each in runs)
        finally:
            hung.set()
        assert all(each.result() == {"media-0": None, "media-1": None} for each in runs)
    assert len(threads()) <= 2 * THREADS


@pytest.mark.parametrize("first", ["slow", "quick"])
def test_a_slow_warm_host_does_not_delay_a_warm_one(fanout_of: Any, first: str) -> None:
    """Its reply comes when the other has ended, and not before."""
    slow = Line()
    quick = Line(begun=lambda: quick.reply())
    ends = Ends()

    def ended(task: Task, error: DeliveryError | None, value: object) -> None:
        ends(task, error, value)
        slow.reply()

    order = ["slow", "quick"] if first == "slow" else ["quick", "slow"]
    fanout_of(Lines({"slow": slow, "quick": quick})).run(deletes(*order), ended, 2)
    assert ends.told == [("quick", None), ("slow", None)]


@pytest.mark.parametrize("order", [("cold", "warm"), ("warm", "cold"), ("cold", "warm", "cold too")])
def test_a_host_that_is_cold_does_not_delay_a_warm_one(fanout_of: Any, order: tuple[str, ...]) -> None:
    """It goes on connecting until the other has ended."""
    warm_ended = threading.Event()
    jobs = {
        "warm": Line(begun=lambda: jobs["warm"].reply()),
        "cold": Line(lambda: warm_ended.wait(WAIT) and None),
        "cold too": Line(lambda: warm_ended.wait(WAIT) and None),
    }
    ends = Ends()

    def ended(task: Task, error: DeliveryError | None, value: object) -> None:
        ends(task, error, value)
        if task.host.label == "warm":
            warm_ended.set()

    begun = time.monotonic()
    fanout_of(Lines(jobs)).run(deletes(*order), ended, len(order))
    assert ends.labels[0] == "warm"
    assert ends.outcome == dict.fromkeys(order)
    assert time.monotonic() - begun < WAIT


def test_a_dead_host_does_not_delay_the_others(faulty: Any, fanout_of: Any) -> None:
    """Cold as all are, those that live have ended while the one that answers nothing is still connected to."""
    transport = HttpTransport(1.0)
    live = [faulty(("status", 204)) for _ in range(3)]
    ends = Ends()
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for waiting in (first, second):  # its queue is full, so the kernel answers nothing
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        urls = [f"http://127.0.0.1:{listener.getsockname()[1]}", *(server.url for server in live)]
        tasks = [Task(Host(f"media-{number}", url), "cat") for number, url in enumerate(urls)]
        fanout_of(transport).run(tasks, ends, len(tasks))
    assert ends.labels[-1] == "media-0"
    assert "no connection within 1 s" in str(ends.outcome["media-0"])
    assert [ends.outcome[f"media-{number}"] for number in (1, 2, 3)] == [None] * 3


def test_a_host_serves_as_many_callers_at_once_as_it_has_threads(fanout: Fanout) -> None:
    """Uploads of many request threads do not wait for one another."""
    barrier = threading.Barrier(THREADS)

    def work(host: Host) -> None:
        if host.label == "media-0":
            barrier.wait(WAIT)

    with ThreadPoolExecutor(THREADS) as callers:
        runs = [callers.submit(run, fanout, hosts(2), work) for _ in range(THREADS)]
        assert all(each.result() == {"media-0": None, "media-1": None} for each in runs)


# How many


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_no_more_are_under_way_than_was_asked_for_and_tasks_are_taken_when_there_is_room(
    fanout: Fanout, at_once: int
) -> None:
    """Whoever makes the tasks can stop making them, and what they hold open is bounded."""
    taken, ended = [0], [0]
    most = [0]

    def tasks() -> Iterator[Task]:
        for host in hosts(20):
            taken[0] += 1
            most[0] = max(most[0], taken[0] - ended[0])
            yield Task(host, "cat", work=nothing)

    lock = threading.Lock()

    def end(task: Task, error: DeliveryError | None, value: object) -> None:
        with lock:
            ended[0] += 1

    fanout.run(tasks(), end, at_once)
    assert (taken, ended) == ([20], [20])
    assert most[0] <= at_once


def test_warm_tasks_are_taken_one_by_one(fanout_of: Any) -> None:
    """The next is begun by the end of one before it, while the first still waits for its reply."""
    jobs = {"slow": Line()}
    for number in range(5):
        jobs[str(number)] = Line(begun=lambda number=number: jobs[str(number)].reply())  # type: ignore[misc]
    under_way: list[int] = []
    ends = Ends()

    def tasks() -> Iterator[Task]:
        for count, task in enumerate(deletes(*jobs)):
            under_way.append(count - len(ends.told))
            yield task

    def ended(task: Task, error: DeliveryError | None, value: object) -> None:
        ends(task, error, value)
        if len(ends.told) == 5:
            jobs["slow"].reply()

    fanout_of(Lines(jobs)).run(tasks(), ended, 2)
    assert ends.labels == ["0", "1", "2", "3", "4", "slow"]
    assert under_way == [0, 1, 1, 1, 1, 1]


def test_the_place_of_one_that_has_ended_is_filled_while_another_connects(fanout: Fanout) -> None:
    """The last of those that were begun together waits for one that comes after them."""
    third = threading.Event()
    work = {"media-0": nothing, "media-1": lambda: third.wait(WAIT) and None, "media-2": third.set}
    ends = Ends()
    begun = time.monotonic()
    fanout.run((Task(host, "cat", work=work[host.label]) for host in hosts(3)), ends, 2)
    assert ends.labels.index("media-2") < 2
    assert ends.outcome == dict.fromkeys(work)
    assert time.monotonic() - begun < WAIT


def test_what_is_given_along_goes_down_and_what_is_brought_back_comes_up(fanout_of: Any) -> None:
    """To each job of the run, and of each; nobody looks at either. Work that cannot be driven has neither."""
    jobs = {label: Line(begun=lambda label=label: jobs[label].reply()) for label in ("a", "b")}  # type: ignore[misc]
    for label, job in jobs.items():
        job.value = f"of {label}"
    lines, ends, along = Lines(jobs), Ends(), object()
    task = Task(hosts(1)[0], "cat", work=nothing)
    fanout_of(lines).run([*deletes("a", "b"), task], ends, 3, along)
    assert lines.given == [along, along]
    assert dict(zip(ends.labels, ends.values, strict=True)) == {"a": "of a", "b": "of b", task.host.label: None}


def test_no_hosts_are_no_outcome(fanout: Fanout) -> None:
    """A single server without media servers is the way to begin."""
    assert run(fanout, (), lambda host: None) == {}


def test_one_host_is_served_in_the_thread_of_the_caller(fanout: Fanout) -> None:
    """No thread is started where there is nothing to do at once."""
    served: list[threading.Thread] = []
    assert run(fanout, hosts(1), lambda host: served.append(threading.current_thread())) == {"media-0": None}
    assert served == [threading.current_thread()]


def test_warm_connections_take_no_thread_and_no_more_descriptors(faulty: Any, fanout_of: Any, tmp_path: Path) -> None:
    """Once each host is connected, a request is what its sender does alone, and leaves what was there."""
    transport = HttpTransport(WAIT)
    fanout = fanout_of(transport)
    servers = [faulty() for _ in range(4)]
    path = tmp_path / "cat"
    path.write_bytes(os.urandom(200_000))

    def save() -> None:
        ends = Ends()
        with path.open("rb", buffering=0) as file:
            master = Master(file, 200_000, 0, (0, 0, 0, 0))
            fanout.run([Task(Host(each.url, each.url), "cat", master) for each in servers], ends, 4)
        assert ends.outcome == {each.url: None for each in servers}

    save()
    fanout.close()
    before = descriptors()
    for _ in range(20):
        save()
    assert threads() == []
    assert descriptors() == before
    assert [server.connections for server in servers] == [1] * 4


# Failures


def test_a_delivery_error_is_the_outcome_of_its_host_alone(fanout: Fanout, caplog: pytest.LogCaptureFixture) -> None:
    """The very exception is handed back, and it is for the caller to log it."""
    refused = DeliveryError("media-1", "cat", "refuses connections")

    def work(host: Host) -> None:
        if host.label == "media-1":
            raise refused

    outcome = run(fanout, hosts(3), work)
    assert outcome == {"media-0": None, "media-1": refused, "media-2": None}
    assert outcome["media-1"] is refused
    assert caplog.records == []


@pytest.mark.parametrize("count", [1, 2])
def test_a_defect_is_logged_and_is_the_outcome_of_its_host(
    fanout: Fanout, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller can still put things right on the others, with one host as with many."""

    def work(host: Host) -> None:
        if host.label == "media-0":
            raise ZeroDivisionError("a defect")

    outcome = run(fanout, hosts(count), work)
    failure = outcome.pop("media-0")
    assert isinstance(failure, DeliveryError)
    assert (failure.host, failure.name, failure.reason) == ("media-0", "cat", "not delivered: ZeroDivisionError")
    assert (failure.status, failure.permanent, failure.ours) == (None, False, True)
    assert all(each is None for each in outcome.values())
    (record,) = caplog.records
    assert (record.name, record.levelno, record.message) == (
        "resto_wsgi",
        logging.ERROR,
        "defect while delivering to media-0",
    )
    assert record.exc_info and record.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize("warm", [False, True])
def test_a_master_that_was_closed_is_the_outcome_of_its_host_and_is_not_sent(
    faulty: Any, fanout_of: Any, tmp_path: Path, warm: bool
) -> None:
    """Its descriptor may be that of another file by now, whose bytes are nobody's business."""
    server = faulty()
    fanout = fanout_of(HttpTransport(WAIT))
    host = Host("media", server.url)
    (tmp_path / "cat").write_bytes(b"a cat")
    if warm:
        with (tmp_path / "cat").open("rb", buffering=0) as file:
            fanout.run([Task(host, "cat", Master(file, 5, 0, (0, 0, 0, 0)))], Ends(), 1)
    closed = (tmp_path / "cat").open("rb", buffering=0)
    closed.close()
    ends = Ends()
    with (tmp_path / "cat").open("rb", buffering=0):  # has the descriptor now
        fanout.run([Task(host, "dog", Master(closed, 5, 0, (0, 0, 0, 0)))], ends, 1)
    assert "the master was closed" in str(ends.outcome["media"])
    assert "/dog" not in [seen.path for seen in server.requests]


def test_replies_that_came_while_the_thread_was_held_up_count(fanout_of: Any) -> None:
    """A slow disk on this side is not the host's silence: what has come is looked at before time is called up."""
    late = Line(patience=0.05)

    def tasks() -> Iterator[Task]:
        yield from deletes("late", "quick")
        late.reply()
        time.sleep(0.2)  # the disk

    ends = Ends()
    quick = Line(begun=lambda: quick.reply())
    fanout_of(Lines({"late": late, "quick": quick})).run(tasks(), ends, 2)
    assert ends.outcome == {"quick": None, "late": None}


def test_silence_is_expired_however_busy_the_others_are(fanout_of: Any) -> None:
    """A deadline holds although there is always something else to do."""
    jobs = {"silent": Line(patience=0.1)}
    for number in range(200):
        jobs[str(number)] = Line(begun=lambda number=number: jobs[str(number)].reply())  # type: ignore[misc]
    ends = Ends()

    def tasks() -> Iterator[Task]:
        yield from deletes("silent")
        for number in range(200):
            time.sleep(0.002)
            yield from deletes(str(number))

    fanout_of(Lines(jobs)).run(tasks(), ends, 2)
    assert ends.labels.index("silent") < 200
    assert "expired" in str(ends.outcome["silent"])


def test_waiting_for_a_thread_is_not_the_hosts_slowness(faulty: Any, fanout_of: Any, monkeypatch: Any) -> None:
    """A cold host whose threads are all busy with large files has not failed in what it was never asked."""
    monkeypatch.setattr("resto_wsgi.replication.fanout.THREADS", 1)
    server = faulty(("status", 204))
    host = Host("media", server.url)
    ends = Ends()
    tasks = [Task(host, "large", work=lambda: time.sleep(0.5)), Task(host, "cat"), Task(host, "dog")]
    fanout_of(HttpTransport(0.1)).run(tasks, ends, 3)
    assert [error for _, error in ends.told] == [None] * 3


# Interruptions


def test_an_interruption_in_a_thread_waits_for_the_work_under_way(fanout: Fanout) -> None:
    """What interrupts goes on to the caller, who then withdraws: by then no host may still be taking the file."""
    begun, ended = threading.Event(), []

    def work(host: Host) -> None:
        if host.label == "media-0":
            begun.wait(WAIT)
            raise SystemExit
        begun.set()
        threading.Event().wait(0.2)
        ended.append(host.label)

    with pytest.raises(SystemExit):
        run(fanout, hosts(2), work)
    assert ended == ["media-1"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_of_the_caller_waits_for_what_the_threads_have_begun(
    fanout: Fanout, error: type[BaseException]
) -> None:
    """A worker that is told to exit withdraws afterwards; nothing that it began may come after that."""
    ended = threading.Event()

    with interrupting(error) as interrupt:

        def work(host: Host) -> None:
            if host.label == "media-0":
                interrupt()
                time.sleep(0.3)
                ended.set()

        tasks = [Task(host, "cat", work=lambda host=host: work(host)) for host in hosts(2)]  # type: ignore[misc]
        with pytest.raises(error):
            fanout.run(tasks, Ends(), 3)
    assert ended.is_set()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_abandons_what_is_driven_and_says_nothing_of_it(fanout_of: Any, error: Any) -> None:
    """Two are under way in the caller's thread, one in a thread: that one is waited for, and told."""
    with interrupting(error) as interrupt:
        ended_in_thread = threading.Event()

        def connecting() -> None:
            interrupt()
            time.sleep(0.2)
            ended_in_thread.set()

        jobs = {"a": Line(), "b": Line(), "cold": Line(connecting)}
        ends = Ends()
        with pytest.raises(error):
            fanout_of(Lines(jobs)).run(deletes(*jobs), ends, 3)
    assert (jobs["a"].abandoned, jobs["b"].abandoned) == (True, True)
    assert ended_in_thread.is_set()
    assert ends.told == [("cold", None)]


def test_an_interruption_while_tasks_are_taken_abandons_what_has_begun(fanout_of: Any) -> None:
    """Two were sent to, and nobody has come to wait for them yet."""
    jobs = {"a": Line(), "b": Line()}

    def tasks() -> Iterator[Task]:
        yield from deletes("a", "b")
        raise KeyboardInterrupt

    ends = Ends()
    with pytest.raises(KeyboardInterrupt):
        fanout_of(Lines(jobs)).run(tasks(), ends, 3)
    assert (jobs["a"].abandoned, jobs["b"].abandoned) == (True, True)
    assert ends.told == []


def test_a_second_interruption_waits_as_the_first_does(fanout: Fanout) -> None:
    """Whoever goes on must come after what is under way, however impatient he is."""
    ended = threading.Event()

    with interrupting(KeyboardInterrupt) as interrupt:

        def work(host: Host) -> None:
            if host.label == "media-0":
                time.sleep(0.1)
                interrupt()
                time.sleep(0.2)
                interrupt()
                time.sleep(0.3)
                ended.set()

        tasks = [Task(host, "cat", work=lambda host=host: work(host)) for host in hosts(3)]  # type: ignore[misc]
        with pytest.raises(KeyboardInterrupt):
            fanout.run(tasks, Ends(), 3)
        was_ended = ended.is_set()
        ended.wait(WAIT)
    assert was_ended


def test_an_interruption_cuts_what_a_thread_waits_for(faulty: Any, fanout_of: Any) -> None:
    """Two cold hosts that say nothing would hold up whoever was told to stop for as long as they may take."""
    begun = time.monotonic()
    with interrupting(KeyboardInterrupt) as interrupt:

        def silent(connection: socket.socket, reader: BinaryIO) -> None:
            while reader.readline() not in (b"\r\n", b""):
                """Read the head."""
            asked.append(connection)
            if len(asked) == 2:
                interrupt()
            over.wait(WAIT)

        asked: list[socket.socket] = []
        over = threading.Event()
        servers = [faulty(silent), faulty(silent)]
        with pytest.raises(KeyboardInterrupt):
            fanout_of(HttpTransport(10 * WAIT)).run(
                [Task(Host(each.url, each.url), "cat") for each in servers], Ends(), 2
            )
        over.set()
    assert time.monotonic() - begun < WAIT


def test_an_interruption_resets_the_connections_of_what_is_driven(faulty: Any, fanout_of: Any, tmp_path: Path) -> None:
    """Three hosts have a part of a file; each is told by a reset that no more comes, and carries out nothing."""
    resets: list[str] = []
    half = threading.Barrier(3)
    transport = HttpTransport(WAIT)
    path = tmp_path / "cat"
    path.write_bytes(bytes(LARGE))

    with interrupting(KeyboardInterrupt) as interrupt:

        def take_a_part(server: FaultyServer) -> Callable[[socket.socket, BinaryIO], None]:
            def script(connection: socket.socket, reader: BinaryIO) -> None:
                server.read_request(reader)
                connection.sendall(b"HTTP/1.1 204 No\r\n\r\n")
                server.read_request(reader, body=False)
                if not half.wait(WAIT):
                    interrupt()
                try:
                    while connection.recv(65536):
                        """Take what is on its way."""
                    resets.append("closed")
                except ConnectionResetError:
                    resets.append("reset")

            return script

        servers: list[FaultyServer] = []
        for _ in range(3):
            server = FaultyServer()
            server._scripts = [take_a_part(server)]
            servers.append(server)
        with contextlib.ExitStack() as stack:
            for server in servers:
                stack.enter_context(server)
            fanout = fanout_of(transport)
            on = [Host(f"media-{number}", server.url) for number, server in enumerate(servers)]
            fanout.run([Task(host, "cat") for host in on], Ends(), 3)
            fanout.close()
            before = descriptors()
            ends = Ends()
            with path.open("rb", buffering=0) as file, pytest.raises(KeyboardInterrupt):
                fanout.run([Task(host, "cat", Master(file, LARGE, 0, (0, 0, 0, 0))) for host in on], ends, 3)
            assert ends.told == []
            assert threads() == []
            eventually(lambda: len(resets) == 3)
            assert resets == ["reset"] * 3
            eventually(lambda: descriptors() <= before - 6)  # ours, and the servers'


def test_what_is_interrupted_before_its_thread_begins_is_not_begun(fanout: Fanout, monkeypatch: Any) -> None:
    """The interruption comes when the work has been queued, and nobody has noted that yet."""
    submit = ThreadPoolExecutor.submit
    begun = threading.Event()
    ended = threading.Event()

    def submit_and_leave(self: Any, work: Callable[[], None]) -> None:
        submit(self, work)
        begun.wait(WAIT)
        raise KeyboardInterrupt

    def work() -> None:
        begun.set()
        time.sleep(0.2)
        ended.set()

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit_and_leave)
    with pytest.raises(KeyboardInterrupt):
        fanout.run([Task(host, "cat", work=work) for host in hosts(2)], Ends(), 3)
    assert ended.is_set(), "what a thread has begun was not waited for"


# Threads and processes


def test_close_ends_the_threads_and_may_be_repeated(fanout: Fanout) -> None:
    """Work under way is waited for; a later run starts new threads."""
    fanout.close()
    for _ in range(2):
        run(fanout, hosts(3), lambda host: None)
        assert 2 <= len(threads()) <= 3
        fanout.close()
        fanout.close()
        assert threads() == []


def test_callers_that_come_first_at_once_share_the_threads(fanout: Fanout) -> None:
    """Whatever came too late is not left behind: close ends every thread."""
    barrier = threading.Barrier(8)

    def call(_: int) -> Any:
        barrier.wait(WAIT)
        return run(fanout, hosts(3), lambda host: None)

    with ThreadPoolExecutor(8) as callers:
        assert all(len(outcome) == 3 for outcome in callers.map(call, range(8)))
    fanout.close()
    assert threads() == []


def python(script: str) -> str:
    """Return what a script of its own process prints."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_forked_process_gets_threads_of_its_own() -> None:
    """Threads do not survive a fork; the fan-out does, in both processes."""
    status = python("""
        import json, os, signal
        from resto_wsgi.replication.fanout import Fanout, Task
        from resto_wsgi.hosts import parse_hosts
        fanout = Fanout(None)
        def pids():
            seen = []
            work = lambda: seen.append(os.getpid())
            fanout.run([Task(host, "cat", work=work) for host in parse_hosts(["a", "b", "c"], "/")], print_, 3)
            return seen
        print_ = lambda task, error, value: None
        assert pids() == [os.getpid()] * 3
        child = os.fork()
        if not child:
            signal.alarm(10)
            assert pids() == [os.getpid()] * 3
            fanout.close()
            os._exit(7)
        status = os.waitpid(child, 0)[1]
        assert pids() == [os.getpid()] * 3
        fanout.close()
        print(json.dumps(os.waitstatus_to_exitcode(status)))
    """)
    assert json.loads(status) == 7


def test_work_is_done_when_the_interpreter_is_ending() -> None:
    """No thread takes anything then, and a withdrawal must still reach the hosts, each once."""
    done = python("""
        import atexit, json
        from resto_wsgi.replication.fanout import Fanout, Task
        from resto_wsgi.hosts import parse_hosts
        fanout = Fanout(None)
        def run():
            done = []
            tasks = [Task(host, "cat", work=lambda host=host: done.append(host.label))
                     for host in parse_hosts(["a", "b", "c"], "/")]
            fanout.run(tasks, lambda task, error, value: done.append((task.host.label, error)), 3)
            print(json.dumps(done))
        atexit.register(run)
    """)
    assert json.loads(done) == ["a", ["a", None], "b", ["b", None], "c", ["c", None]]


def test_work_is_done_here_and_once_where_no_thread_is_to_be_had(fanout: Fanout, monkeypatch: Any) -> None:
    """At the limit of threads an executor keeps what it has refused, for the next thread that it gets."""
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name.startswith("resto "):
            raise RuntimeError("can't start new thread")
        start(self)

    done: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert run(fanout, hosts(3), lambda host: done.append(host.label)) == dict.fromkeys(h.label for h in hosts(3))
        assert sorted(done) == ["media-0", "media-1", "media-2"]
    run(fanout, hosts(3), lambda host: None)
    fanout.close()  # by then its threads have come to all that they were given
    assert sorted(done) == ["media-0", "media-1", "media-2"]


def test_one_thread_at_a_time_has_a_piece_of_work_where_another_is_not_to_be_had(
    fanout: Fanout, monkeypatch: Any
) -> None:
    """The only thread of a host comes to what was refused while that is done elsewhere, and leaves it alone."""
    start = threading.Thread.start
    count = [0]
    first, at_work, over = threading.Event(), threading.Event(), threading.Event()
    done: list[str] = []

    def one_only(self: threading.Thread) -> None:
        if self.name.startswith("resto "):
            count[0] += 1
            if count[0] > 1:
                raise RuntimeError("can't start new thread")
        start(self)

    def refused() -> None:
        done.append("begun")
        first.set()  # so that the only thread goes on to what is queued
        at_work.wait(0.3)
        done.append("done")

    def after_refused(task: Task, error: DeliveryError | None, value: object) -> None:
        over.set()

    host = hosts(1)[0]
    monkeypatch.setattr(threading.Thread, "start", one_only)
    tasks = [Task(host, "a", work=lambda: first.wait(WAIT) and None), Task(host, "b", work=refused)]
    fanout.run([*tasks, Task(host, "c", work=nothing)], after_refused, 4)
    fanout.close()
    assert over.is_set()
    assert done == ["begun", "done"]
