"""The worker with real threads, processes, kill -9 and nginx; a lane that fails on command is scripted."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from servers import eventually, held, on_every_kind

from resto_wsgi.errors import DeliveryError, OutboxError, ReplicationError
from resto_wsgi.hosts import Host
from resto_wsgi.master.locks import FileLock
from resto_wsgi.outbox.outbox import CONVERGED
from resto_wsgi.replication import lane as lane_module
from resto_wsgi.replication import worker as worker_module
from resto_wsgi.replication.worker import TAKE_OVER, Reporter, Worker
from resto_wsgi.replicator import Parts, Replicator

CAT = b"a cat" * 100
HOST = Host("media", "http://media/media")
FOR_EVER = 60.0  # seconds; longer than any test


class ScriptedLane:
    """A lane whose steps are given: each a pause, an exception, or what is called; afterwards there is nothing due."""

    def __init__(self, *steps: Any, host: Host = HOST) -> None:
        self.host = host
        self.steps = 0
        self._script = deque(steps)

    def step(self) -> float:
        self.steps += 1
        step = self._script.popleft() if self._script else FOR_EVER
        if isinstance(step, Exception):
            raise step
        return float(step() if callable(step) else step)


Work = Callable[..., Worker]
Replicate = Callable[..., Replicator]


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Work]:
    """``work(*lanes, housekeeping=None, background=True)`` returns a worker that ends with the test."""
    with ExitStack() as stack:

        def work(*lanes: Any, housekeeping: Any = lambda: None, **options: Any) -> Worker:
            worker = Worker(lanes, str(tmp_path / "worker.lock"), housekeeping, **options)
            stack.callback(lambda: worker.stop(10) or pytest.fail("a worker does not stop"))
            return worker

        yield work


@pytest.fixture
def replicate(tmp_path: Path) -> Iterator[Replicate]:
    """``replicate(servers, timeout=1)`` returns a replicator in mode async with a worker in the background."""
    with ExitStack() as stack:

        def replicate(servers: Any, **keywords: Any) -> Replicator:
            settings = {"media_root": tmp_path / "media", "mode": "async", "timeout": 2, "fsync": False}
            settings |= {"parts": Parts(apart=True)} | keywords  # requests are counted
            return stack.enter_context(Replicator(media_hosts=[server.url for server in servers], **settings))

        yield replicate


@pytest.fixture
def python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``python(script, *arguments)`` starts a script in an interpreter of its own, which does not outlive the test."""
    with ExitStack() as stack:

        def python(script: str, *arguments: object) -> subprocess.Popen[str]:
            command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), *map(str, arguments)]
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        yield python


def threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("resto "))


# Starting


def test_a_process_has_one_worker_however_often_it_is_started(work: Work) -> None:
    """A thread that leads, and one for each host; each request starts it, so that many do at once."""
    lanes = [ScriptedLane(host=Host(label, f"http://{label}")) for label in ("one", "two")]
    worker = work(*lanes)
    assert threads() == []
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: worker.start(), range(50)))
    eventually(lambda: all(lane.steps for lane in lanes))
    assert threads() == ["resto lane one", "resto lane two", "resto worker"]
    assert worker.stop(10)
    assert threads() == []
    worker.start()
    eventually(lambda: len(threads()) == 3)


def test_a_batch_wakes_the_other_lane_of_its_host_alone(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was left to that one does not wait for its pause to end."""
    monkeypatch.setattr(worker_module, "IDLE", FOR_EVER)
    go_on = threading.Event()
    small, large = ScriptedLane(lambda: 0.0 if go_on.wait(10) else FOR_EVER), ScriptedLane()
    other = ScriptedLane(host=Host("other", "http://other"))
    work(small, large, other).start()
    eventually(lambda: small.steps == large.steps == other.steps == 1)
    go_on.set()
    eventually(lambda: large.steps == 2)
    assert (small.steps, other.steps) == (2, 1)


def test_no_thread_is_started_where_there_is_nothing_to_do(work: Work) -> None:
    """No hosts, or not wanted; stopping what never began is no matter."""
    for worker in (work(), work(ScriptedLane(), background=False)):
        worker.start()
        worker.wake()
        assert threads() == []
        assert worker.stop(0.0)


def test_a_worker_that_cannot_have_a_thread_fails_nobody(
    work: Work, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is recorded stays owed; the next request tries again, and so does the leader for each lane."""
    lanes = [ScriptedLane(host=Host(label, f"http://{label}")) for label in ("one", "two")]
    worker = work(*lanes)
    start, refused = threading.Thread.start, ["resto worker", "resto lane two"]

    def refuse(thread: threading.Thread) -> None:
        if thread.name in refused:
            refused.remove(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(worker_module, "HOUSEKEEPING", 0.05)
    worker.start()
    assert threads() == []
    worker.start()
    eventually(lambda: all(lane.steps for lane in lanes))
    assert refused == []
    assert caplog.text.count("can't start new thread") == 2


def test_a_forked_child_has_a_worker_of_its_own(python: Any, tmp_path: Path) -> None:
    """It is a candidate like any other: it leads when the parent has stopped, and has nothing to stop before."""
    script = """
        import json, os, signal, sys, threading, time
        from resto_wsgi.replication.worker import Worker
        class Lane:
            class host:
                label, url = "media", "http://media"
            def step(self):
                # One write each: another thread prints as well.
                print(json.dumps([mark, os.getpid()]) + "\\n", end="", flush=True)
                leads.set()
                return 0.1
        signal.alarm(30)
        mark, leads = "parent", threading.Event()
        worker = Worker([Lane()], sys.argv[1], lambda: None)
        worker.start()
        worker.start()
        leads.wait(20)  # else the child might
        said, say = os.pipe()
        ended, end = os.pipe()
        child = os.fork()
        if not child:
            signal.alarm(30)
            os.close(end)
            mark = "child"
            before = threading.active_count()
            stopped = worker.stop(0.0)
            worker.start()
            os.write(say, json.dumps([before, stopped, threading.active_count()]).encode())
            os.read(ended, 1)
            os._exit(0 if worker.stop(5) else 1)
        print(json.dumps(["child", *json.loads(os.read(said, 100))]) + "\\n", end="", flush=True)
        sys.stdin.readline()
        print(json.dumps(["stopped", worker.stop(5)]) + "\\n", end="", flush=True)
        sys.stdin.readline()
        os.close(end)
        print(json.dumps(["ended", os.waitpid(child, 0)[1]]), flush=True)
    """
    process = python(script, tmp_path / "worker.lock")
    lines = map(json.loads, process.stdout)

    def after(mark: str) -> list[Any]:
        """Return the next line that is not of the lane of ``mark``."""
        return next(line for line in lines if line[0] != mark)

    assert after("parent") == ["child", 1, True, 2]
    for _ in range(3):
        assert next(lines) == ["parent", process.pid]
    process.stdin.write("\n")
    process.stdin.flush()
    assert after("parent") == ["stopped", True]
    mark, child = next(lines)
    assert mark == "child" and child != process.pid
    process.stdin.write("\n")
    process.stdin.flush()
    assert after("child") == ["ended", 0]
    assert process.communicate(timeout=10)[1] == ""


# Leading


CANDIDATE = """
    import os, sys
    from resto_wsgi.master.media_root import MediaRoot
    from resto_wsgi.replicator import Parts, Replicator
    class Told(MediaRoot):
        def sweep(self):
            if sweeping:
                print("leads\\n", end="", flush=True)  # one write: the other thread prints as well
            super().sweep()
    sweeping = False
    root = Told(sys.argv[1], fsync=False)
    sweeping = True
    replicator = Replicator(media_root=sys.argv[1], media_hosts=sys.argv[2:], timeout=60, fsync=False,
                            parts=Parts(media_root=root, apart=True))
    replicator.start()
    print("candidate\\n", end="", flush=True)
    sys.stdin.read()
"""


def test_one_process_leads_and_another_takes_over_when_it_is_killed(
    replicate: Replicate, python: Any, faulty: Any
) -> None:
    """A real kill -9 while it delivers to a host that hangs: what it was sending is sent again, and stays unsure."""
    server = faulty("hang", ("status", 201))
    replicator = replicate([server], background=False)
    replicator.save("cat", CAT)
    arguments = (CANDIDATE, replicator.settings.media_root, server.url)
    processes = {process.pid: process for process in (python(*arguments) for _ in range(3))}
    said: dict[int, list[str]] = {pid: [] for pid in processes}
    for pid, process in processes.items():
        threading.Thread(
            target=lambda out, into: [into.append(each) for each in out], args=(process.stdout, said[pid])
        ).start()

    def leaders() -> list[int]:
        return [pid for pid, lines in said.items() if "leads\n" in lines]

    eventually(lambda: any("candidate\n" in lines for lines in said.values()), timeout=60)
    eventually(leaders, timeout=30)
    eventually(lambda: server.connections == 1, timeout=30)
    time.sleep(1.5 * TAKE_OVER)  # what is shown is that nothing happens: the others have looked, and do not lead
    (first,) = leaders()
    assert server.connections == 1
    processes[first].kill()
    assert TAKE_OVER <= 1.0, "on an idle machine it takes as long as that; the deadline is for a busy one"
    eventually(lambda: len(leaders()) == 2 and server.requests)
    assert [request.method for request in server.requests] == ["PUT"]
    eventually(lambda: [row.reason for row in replicator.status("cat").owing.values()] == [CONVERGED])
    assert len(leaders()) == 2


def test_hosts_do_not_wait_for_each_other(replicate: Replicate, nginx: Any, faulty: Any) -> None:
    """One hangs, and the other gets its 200 names meanwhile, but for the one that is under way to the first."""
    server = faulty("hang")
    replicator = replicate([server, nginx], background=False, timeout=FOR_EVER)
    for number in range(200):
        Path(replicator.settings.media_root, f"cat-{number}").write_bytes(CAT)
    for host in (server, nginx):
        assert replicator.sync(host.url) == 200
    replicator.worker.start(anyway=True)
    eventually(lambda: server.connections == 1)
    eventually(lambda: len(held(nginx)) == 199, timeout=30)
    assert server.connections == 1
    eventually(lambda: [host.owed for host in replicator.status().hosts] == [200, 1])
    server.stop()
    eventually(lambda: len(held(nginx)) == 200)


@on_every_kind
def test_what_is_saved_is_delivered_promptly(
    replicate: Replicate, media_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when the lane would look of itself, which is never here: a save wakes it, and so do delete and sync."""
    monkeypatch.setattr(lane_module, "IDLE", FOR_EVER)
    monkeypatch.setattr(worker_module, "IDLE", FOR_EVER)
    replicator = replicate([media_server])
    for number in range(5):
        replicator.save(f"cat-{number}", CAT)
        eventually(lambda number=number: Path(media_server.root, f"cat-{number}").exists())
    for number in range(5):
        replicator.delete(f"cat-{number}")
    eventually(lambda: held(media_server) == {})
    Path(replicator.settings.media_root, "dog").write_bytes(CAT)
    replicator.sync(media_server.url)
    eventually(lambda: held(media_server) == {"dog": CAT})


def test_a_lane_looks_again_soon_however_long_its_pause_is(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may have recorded something, or have let a host be asked that was to be left alone."""
    monkeypatch.setattr(worker_module, "IDLE", 0.01)
    lane = ScriptedLane(300.0, 15.0, 4.9)
    work(lane).start()
    eventually(lambda: lane.steps > 3)


def test_another_process_may_record_and_nudge_what_the_leader_delivers(
    replicate: Replicate, python: Any, faulty: Any
) -> None:
    """The leader is here; a save and a drain elsewhere reach it although its host was to be left alone for minutes."""
    overloaded = True

    def script(connection: socket.socket, reader: BinaryIO) -> None:
        while server.read_request(reader):
            status = "503 Overloaded\r\nRetry-After: 300" if overloaded else "201 Created"
            connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

    server = faulty(script)
    replicator = replicate([server])
    replicator.save("cat", CAT)
    eventually(lambda: replicator.status("cat").owing[server.url].attempts == 1)
    overloaded = False
    elsewhere = """
        import sys
        from resto_wsgi.replicator import Parts, Replicator
        settings = dict(media_root=sys.argv[1], media_hosts=sys.argv[2:], mode="async", fsync=False)
        with Replicator(**settings, parts=Parts(apart=True)) as replicator:
            replicator.save("dog", b"dog")
            print(replicator.drain(timeout=8))
    """
    out, err = python(elsewhere, replicator.settings.media_root, server.url).communicate(timeout=30)
    assert (out, err) == ("True\n", "")
    assert sorted(request.path for request in server.requests) == ["/cat", "/cat", "/dog"]


# What goes wrong


def test_a_lane_goes_on_whatever_goes_wrong(
    work: Work, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure of ours is one line, a defect is logged with its trace; each costs a pause, and the lane goes on."""
    monkeypatch.setattr(worker_module, "AFTER_DEFECT", 0.02)
    lane = ScriptedLane(OutboxError("outbox", "no space left", "free some"), ValueError("never thought of"), 0.0)
    other = ScriptedLane(0.0, host=Host("other", "http://other"))
    work(lane, other).start()
    eventually(lambda: lane.steps >= 4)
    records = [record for record in caplog.records if record.name == "resto_wsgi"]
    assert [(record.levelname, bool(record.exc_info)) for record in records] == [("WARNING", False), ("ERROR", True)]
    assert "no space left; free some" in caplog.text
    assert "defect in the lane of media" in caplog.text and "never thought of" in caplog.text
    assert other.steps >= 2


def test_a_failure_of_ours_is_not_a_hot_loop(work: Work, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk stays full for a while."""
    lane = ScriptedLane(*[OutboxError("outbox", "no space left", "free some")] * 1000)
    worker = work(lane)
    worker.start()
    eventually(lambda: lane.steps)
    assert worker.stop(10), "and the pause does not hold up the end"
    assert lane.steps == 1


def test_housekeeping_goes_on_whatever_goes_wrong(
    work: Work, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The lanes do not hear of it."""
    monkeypatch.setattr(worker_module, "HOUSEKEEPING", 0.02)
    script = deque([OutboxError("outbox", "no space left", "free some"), ValueError("never thought of")])
    swept = threading.Event()

    def sweep() -> None:
        if script:
            raise script.popleft()
        swept.set()

    lane = ScriptedLane(0.0)
    work(lane, housekeeping=sweep).start()
    assert swept.wait(10)
    assert "worker: outbox 'outbox': no space left; free some" in caplog.text
    assert "housekeeping failed" in caplog.text and "never thought of" in caplog.text
    eventually(lambda: lane.steps >= 2)


def test_a_lock_that_cannot_be_taken_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its folder may come back with its disk."""
    monkeypatch.setattr(worker_module, "AFTER_DEFECT", 0.02)
    monkeypatch.setattr(worker_module, "TAKE_OVER", 0.02)
    lane = ScriptedLane()
    worker = Worker([lane], str(tmp_path / "missing/worker.lock"), lambda: None)  # type: ignore[list-item]
    worker.start()
    eventually(lambda: "cannot take its lock" in caplog.text)
    assert lane.steps == 0
    (tmp_path / "missing").mkdir()
    eventually(lambda: lane.steps)
    assert worker.stop(10)


def test_rooms_of_killed_processes_are_removed(replicate: Replicate, python: Any, nginx: Any) -> None:
    """The worker sweeps up when it begins to lead; nobody has to save anything first."""
    script = """
        import os, signal, sys
        from resto_wsgi.master.media_root import MediaRoot
        staged = MediaRoot(sys.argv[1]).stage()
        staged.write(b"half a cat")
        print(staged.path, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    replicator = replicate([nginx])
    process = python(script, replicator.settings.media_root)
    path = Path(process.stdout.readline().strip())
    process.wait(10)
    assert path.read_bytes() == b"half a cat"
    replicator.start()
    eventually(lambda: not path.parent.exists())


# Stopping


def test_stopping_waits_for_what_is_under_way(work: Work) -> None:
    """The delivery ends and is settled; the leader's lock is free only then."""
    begun, end = threading.Event(), threading.Event()

    def step() -> float:
        begun.set()
        end.wait(10)
        return 0.0

    lane = ScriptedLane(step)
    worker = work(lane)
    worker.start()
    assert begun.wait(10)
    lock = FileLock(worker._lock)
    assert not worker.stop(0.05)
    assert not lock.acquire(wait=False)
    end.set()
    assert worker.stop(10)
    assert lock.acquire(wait=False)
    lock.release()
    assert lane.steps == 1


def test_a_worker_that_did_not_stop_in_time_can_be_started_again(work: Work) -> None:
    """The next one waits until it has ended, so that no delivery is under way twice."""
    begun, end = threading.Event(), threading.Event()
    most = now = 0

    def step() -> float:
        nonlocal most, now
        now += 1
        most = max(most, now)
        begun.set()
        end.wait(10)
        now -= 1
        return 0.01

    lane = ScriptedLane(*[step] * 1000)
    worker = work(lane)
    worker.start()
    assert begun.wait(10)
    assert not worker.stop(0.05)
    worker.start()
    assert threads() == ["resto lane media", "resto worker", "resto worker"]
    steps = lane.steps
    end.set()
    eventually(lambda: lane.steps > steps + 3)
    eventually(lambda: threads() == ["resto lane media", "resto worker"])
    assert most == 1


def test_a_host_that_hangs_does_not_hold_up_the_end_beyond_its_time(
    replicate: Replicate, faulty: Any, python: Any
) -> None:
    """Stop says that it has not ended, within its deadline; what was under way stays owed."""
    server = faulty("hang")
    replicator = replicate([server], timeout=FOR_EVER)
    replicator.save("cat", CAT)
    eventually(lambda: server.connections)
    began = time.monotonic()
    assert not replicator.worker.stop(0.2)
    assert 0.2 <= time.monotonic() - began < 2
    assert list(replicator.status("cat").owing) == [server.url]
    server.stop()
    assert replicator.worker.stop(10)


AT_EXIT = """
    import logging, sys, time
    from resto_wsgi.replication import worker
    from resto_wsgi.replicator import Replicator
    logging.getLogger("resto_wsgi").addHandler(logging.NullHandler())
    worker.AT_EXIT = float(sys.argv[1])
    replicator = Replicator(media_root=sys.argv[2], media_hosts=sys.argv[3:], mode="async", timeout=60, fsync=False)
    replicator.save("cat", b"cat")
    sys.stdin.readline()
    print(time.monotonic())
"""


@pytest.mark.parametrize("hanging", [False, True])
def test_a_program_that_ends_without_a_word_ends_at_once_and_in_silence(
    tmp_path: Path, python: Any, nginx: Any, faulty: Any, hanging: bool
) -> None:
    """Nobody called close: no trace of a dying thread is seen, and a host that hangs holds it up for a while only."""
    server = faulty("hang")
    process = python(AT_EXIT, 0.3, tmp_path / "media", server.url if hanging else nginx.url)
    eventually(lambda: server.connections if hanging else held(nginx), timeout=30)
    out, err = process.communicate("\n", timeout=30)
    took = time.monotonic() - float(out)
    assert (process.returncode, err) == (0, "")
    assert took < 3
    if hanging:
        assert took >= 0.3, "what is under way was given time"


# Draining where there is no worker in the background


def test_without_a_background_the_worker_is_there_while_somebody_drains(
    replicate: Replicate, nginx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a save nor what was owed before starts a thread, and none is left afterwards."""
    replicator = replicate([nginx], background=False)
    replicator.save("cat", CAT)
    replicator.start()
    assert threads() == []
    assert held(nginx) == {}
    seen: list[str] = []
    assert replicator.drain(10, progress=lambda owed: seen.extend(threads()))
    assert "resto worker" in seen
    assert held(nginx) == {"cat": CAT}
    assert threads() == []
    replicator.save("dog", CAT)
    assert replicator.drain(10), "and again"
    assert set(held(nginx)) == {"cat", "dog"}


def test_what_is_owed_at_the_start_is_delivered_without_a_save(
    replicate: Replicate, nginx: Any, tmp_path: Path
) -> None:
    """The process that recorded it may be gone for good. Making a replicator starts no thread: a server forks later."""
    with Replicator(
        media_root=tmp_path / "media", media_hosts=[nginx.url], fsync=False, mode="async", background=False
    ) as before:
        before.save("cat", CAT)
    replicator = replicate([nginx])
    assert threads() == []
    replicator.start()
    eventually(lambda: held(nginx) == {"cat": CAT})


def test_one_batch_can_be_delivered_in_the_thread_of_the_caller(replicate: Replicate, nginx: Any) -> None:
    """Without any worker, as a scheduler does that has its own time."""
    replicator = replicate([nginx], background=False)
    replicator.save("cat", CAT)
    (host,) = replicator.settings.hosts
    assert replicator.worker.step(host) == 0.0
    assert held(nginx) == {"cat": CAT}
    assert threads() == []


def test_a_failed_save_does_not_need_the_worker(replicate: Replicate, nginx: Any, faulty: Any) -> None:
    """It starts it all the same: the hosts that may have heard of the file owe its removal."""
    server = faulty("hang")
    replicator = replicate([nginx, server], mode="hybrid", timeout=0.2)
    with pytest.raises(ReplicationError):
        replicator.save("cat", CAT)
    assert held(nginx) == {}
    assert "resto worker" in threads()


# Reporting


def error(host: str = "one") -> DeliveryError:
    return DeliveryError(host, "cat", "no answer")


def test_failures_of_a_host_are_one_line_in_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """An outage with 100,000 names must not fill the log; another host is heard all the same."""
    now = 1_000_000.0
    report = Reporter(False, lambda: now)
    for _ in range(100):
        report(error())
    report(error("two"))
    assert [record.getMessage() for record in caplog.records] == [
        "still owed: one: 'cat': no answer",
        "still owed: two: 'cat': no answer",
    ]
    now += Reporter.EVERY - 0.1
    report(error())
    assert len(caplog.records) == 2
    now += 0.1
    report(error())
    assert len(caplog.records) == 3
    now -= 86400
    report(error())
    assert len(caplog.records) == 4, "a clock that was set back silences nobody for a day"
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


@pytest.mark.parametrize("wanted", [False, True])
def test_a_trace_is_logged_where_it_is_wanted(caplog: pytest.LogCaptureFixture, wanted: bool) -> None:
    """As show_traceback says."""
    Reporter(wanted, time.time)(error())
    assert bool(caplog.records[0].exc_info) is wanted
