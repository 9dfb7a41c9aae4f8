"""Lock files with real processes: what a fork copies, and what is left when somebody is killed with -9."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from interruption import interrupted_at

from resto_wsgi import forks
from resto_wsgi.forks import no_fork
from resto_wsgi.master import locks
from resto_wsgi.master.locks import FileLock


def descriptors() -> int:
    gc.collect()  # what other tests have left to it is not ours to count
    return len(os.listdir("/proc/self/fd"))


def run(script: str, *arguments: object) -> Any:
    """Run a script in an interpreter of its own to its end and return the JSON that it printed."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def is_free(path: Path) -> bool:
    lock = FileLock(str(path))
    taken = lock.acquire(wait=False)
    lock.release()
    return taken


def test_a_lock_excludes_others_until_it_is_released(tmp_path: Path) -> None:
    """Without waiting the answer is at once; releasing twice does no harm; then it can be taken again."""
    path, before = tmp_path / "lock", descriptors()
    lock = FileLock(str(path))
    for _ in range(2):
        assert lock.acquire(wait=False) and lock.held and lock.linked
        assert not is_free(path)
        lock.release()
        lock.release()
        assert not lock.held
        assert is_free(path)
    assert descriptors() == before
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_lock_is_not_taken_twice(tmp_path: Path) -> None:
    """The first descriptor would be lost, and hold the lock for ever."""
    lock = FileLock(str(tmp_path / "lock"))
    lock.acquire()
    with pytest.raises(RuntimeError, match="locked already"):
        lock.acquire()
    lock.release()
    assert is_free(tmp_path / "lock")


def test_a_lock_that_cannot_be_had_leaves_no_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the file cannot be opened or the file system knows no locks."""

    def refuse(fd: int, operation: int) -> None:
        if not operation & 8:  # LOCK_UN
            raise OSError("no locks available")

    before = descriptors()
    with pytest.raises(FileNotFoundError):
        FileLock(str(tmp_path / "lock"), 0).acquire()
    monkeypatch.setattr("resto_wsgi.master.locks.fcntl.flock", refuse)
    lock = FileLock(str(tmp_path / "lock"))
    with pytest.raises(OSError, match="no locks"):
        lock.acquire()
    assert not lock.held
    assert descriptors() == before


def test_a_lock_on_a_removed_file_is_told(tmp_path: Path) -> None:
    """It excludes nobody who comes later."""
    lock = FileLock(str(tmp_path / "lock"))
    lock.acquire()
    os.unlink(tmp_path / "lock")
    assert lock.held and not lock.linked
    lock.release()


PARENT_KILLED = """
    import json, os, signal, sys, time
    from resto_wsgi.master.locks import FileLock
    path, how = sys.argv[1:]
    ready, tell = os.pipe()
    parent = os.fork()
    if not parent:
        lock = FileLock(path)
        lock.acquire()
        child = os.fork()
        if not child:
            child = os.fork() if how == "grandchild" else 0
            os.write(tell, f"{os.getpid()} ".encode())
            time.sleep(60)
            os._exit(0)
        time.sleep(60)
        os._exit(0)
    children = b""
    while children.count(b" ") < (2 if how == "grandchild" else 1):
        children += os.read(ready, 100)
    mine = FileLock(path)
    before = mine.acquire(wait=False)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    after = mine.acquire(wait=False)
    for child in children.split():
        os.kill(int(child), signal.SIGKILL)
    print(json.dumps([before, after]))
"""


@pytest.mark.parametrize("how", ["child", "grandchild"])
def test_a_lock_ends_with_its_process_though_a_child_of_it_lives_on(tmp_path: Path, how: str) -> None:
    """Held while the parent lives, and free as soon as it was killed with -9."""
    assert run(PARENT_KILLED, tmp_path / "lock", how) == [False, True]


def test_a_child_holds_nothing_and_releases_nothing(tmp_path: Path) -> None:
    """It leaves the block in which it was forked, which touches neither the lock nor a descriptor of its own."""
    script = """
        import json, os, sys
        from resto_wsgi.master.locks import FileLock
        lock, other = FileLock(sys.argv[1]), FileLock(sys.argv[1])
        out, into = os.pipe()
        lock.acquire()
        number = lock._fd
        child = os.fork()
        if not child:
            held, free = lock.held, other.acquire(wait=False)
            file = os.open("/dev/null", os.O_RDONLY)  # gets the number of what was closed
            lock.release()
            os.fstat(file)
            again = FileLock(sys.argv[1] + ".other")
            os.write(into, json.dumps([file == number, held, free, again.acquire(wait=False)]).encode())
            os._exit(0)
        os.waitpid(child, 0)
        still = not other.acquire(wait=False)
        lock.release()
        print(json.dumps([json.loads(os.read(out, 1000)), still, other.acquire(wait=False)]))
    """
    assert run(script, tmp_path / "lock") == [[True, False, False, True], True, True]


def test_a_fork_waits_while_another_thread_opens_a_lock(tmp_path: Path) -> None:
    """Else the child has a copy of a descriptor that nobody noted yet, and the parent's lock outlives the parent."""
    script = """
        import json, os, sys, threading
        from resto_wsgi.master.locks import FileLock
        real, opened, go_on = os.open, threading.Event(), threading.Event()
        def slow(*arguments):
            fd = real(*arguments)
            opened.set()
            go_on.wait(10)
            return fd
        os.open = slow
        lock = FileLock(sys.argv[1])
        opener = threading.Thread(target=lock.acquire)
        opener.start()
        opened.wait(10)
        threading.Timer(0.2, go_on.set).start()
        out, into = os.pipe()
        child = os.fork()
        if not child:
            names = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                     if os.path.exists(f"/proc/self/fd/{fd}")]
            os.write(into, json.dumps(sys.argv[1] in names).encode())
            os._exit(0)
        os.waitpid(child, 0)
        opener.join()
        print(json.dumps([go_on.is_set(), json.loads(os.read(out, 1000)), lock.held]))
    """
    assert run(script, tmp_path / "lock") == [True, False, True]


def test_forks_in_the_midst_of_many_threads_leave_no_copy(tmp_path: Path) -> None:
    """Four threads lock and unlock while a fifth forks fifty times; every thread of a child can do the same."""
    script = """
        import json, os, sys, threading
        from resto_wsgi.master.locks import FileLock
        over, bad = threading.Event(), 0
        def work(number):
            lock = FileLock(f"{sys.argv[1]}{number}")
            while not over.is_set():
                lock.acquire()
                lock.release()
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads: thread.start()
        for _ in range(50):
            child = os.fork()
            if not child:
                left = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")
                        and os.readlink(f"/proc/self/fd/{fd}").startswith(sys.argv[1])]
                lock = FileLock(f"{sys.argv[1]}{0}")
                thread = threading.Thread(target=lambda: lock.acquire() and lock.release(), daemon=True)
                thread.start()
                thread.join(20)
                os._exit(len(left) + 100 * thread.is_alive())
            bad += os.waitpid(child, 0)[1] != 0
        over.set()
        for thread in threads: thread.join()
        print(json.dumps(bad))
    """
    assert run(script, tmp_path / "lock") == 0


def test_a_fork_that_python_is_not_told_of_releases_nothing_and_keeps_nothing(tmp_path: Path) -> None:
    """A server in C may fork without the hooks; its child takes no lock of the parent for its own, nor holds it up."""
    script = """
        import ctypes, json, os, sys
        from resto_wsgi.master.locks import FileLock
        lock, other = FileLock(sys.argv[1]), FileLock(sys.argv[1])
        lock.acquire()
        found, fork = [], ctypes.PyDLL(None).fork
        child = fork()
        if not child:
            held = lock.held
            lock.release()
            os._exit(held)
        found.append(os.waitpid(child, 0)[1])
        found.append(other.acquire(wait=False))
        out, into = os.pipe()
        child = fork()
        if not child:
            os.close(into)
            os.read(out, 1)  # until the parent has looked
            os._exit(0)
        lock.release()
        found.append(other.acquire(wait=False))
        os.close(into)
        os.waitpid(child, 0)
        print(json.dumps(found))
    """
    assert run(script, tmp_path / "lock") == [0, False, True]


def test_a_signal_handler_that_forks_amid_the_bookkeeping_does_not_hang(tmp_path: Path) -> None:
    """The guard is taken again by the thread that has it, in the parent and in the child."""

    def fork(*_: object) -> None:
        child = os.fork()
        if not child:
            with no_fork():
                os._exit(7)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    codes: list[int] = []
    old = signal.signal(signal.SIGUSR1, fork)
    try:
        with no_fork():
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert codes == [7]
    thread = threading.Thread(target=lambda: codes.append(is_free(tmp_path / "lock")))
    thread.start()
    thread.join(10)
    assert codes == [7, True]


def test_places_of_one_file_are_locked_apart_from_each_other(tmp_path: Path) -> None:
    """In one process as in another; a place far beyond the end of the file is one, too."""
    path = str(tmp_path / "lock")
    far = 2**56 - 1
    first, second = FileLock(path, place=7), FileLock(path, place=far)
    assert first.acquire(wait=False) and second.acquire(wait=False)
    assert [FileLock(path, place=place).acquire(wait=False) for place in (7, far)] == [False, False]
    script = """
        import json, sys
        from resto_wsgi.master.locks import FileLock
        print(json.dumps([FileLock(sys.argv[1], place=int(each)).acquire(wait=False) for each in sys.argv[2:]]))
    """
    assert run(script, path, 6, 7, 8, far) == [True, False, True, False]
    first.release()
    assert run(script, path, 7, far) == [True, False]
    second.release()
    assert os.path.getsize(path) == 0


def test_a_place_is_free_when_its_holder_is_killed(tmp_path: Path) -> None:
    """Also where a child that he forked lives on."""
    script = """
        import os, sys, time
        from resto_wsgi.master.locks import FileLock
        lock = FileLock(sys.argv[1], place=7)
        lock.acquire()
        if not os.fork():
            time.sleep(60)
            os._exit(0)
        print("held", os.getpid(), flush=True)
        time.sleep(60)
    """
    path = str(tmp_path / "lock")
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), path], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("held")
        lock = FileLock(path, place=7)
        assert not lock.acquire(wait=False)
        process.kill()
        process.wait()
        assert lock.acquire(wait=True)
        lock.release()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


@pytest.mark.parametrize("place", [None, 7])
def test_an_interruption_at_any_line_leaves_nothing_locked(
    tmp_path: Path, place: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes next in the same process would wait for ever."""
    path, steps, left = str(tmp_path / "lock"), 0, [0]
    monkeypatch.setattr(forks, "_guard", threading.RLock())  # tracing interrupts the end of a with, as no signal can

    def hold() -> None:
        lock = FileLock(path, place=place)
        kept.append(lock)  # what is interrupted in __del__ is only a warning
        try:
            lock.acquire()
        finally:
            lock.release()

    kept: list[FileLock] = []
    while left[0] <= 0:
        steps += 1
        with interrupted_at(steps, [locks.__file__]) as left, suppress(KeyboardInterrupt):
            hold()
        kept.clear()
        other = FileLock(path, place=place)
        assert other.acquire(wait=False), f"locked after {steps} steps"
        other.release()
    assert steps > 20
