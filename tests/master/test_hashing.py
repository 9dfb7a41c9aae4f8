"""The SHA-256 of a file is the same inline and beside its writing, and no thread outlives the file."""

from __future__ import annotations

import gc
import hashlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import eventually

from resto_wsgi.master import hashing
from resto_wsgi.master.hashing import DEPTH, LEAST, START, Hasher, NoHasher, blocks_of, sha256_of

BLOCK = bytes(range(256)) * 256  # 64 KiB
ENOUGH = START // len(BLOCK) + 1  # blocks, the last of which goes to the thread


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "resto hashing"]


def begun_beside() -> Hasher:
    hasher = Hasher()
    for _ in range(ENOUGH):
        hasher.update(BLOCK)
    assert threads()
    return hasher


@pytest.fixture(autouse=True)
def _no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    yield
    gc.collect()
    eventually(lambda: not threads())


def test_a_small_file_has_no_thread() -> None:
    """Up to START bytes are hashed where they are written."""
    hasher = Hasher()
    for _ in range(START // len(BLOCK)):
        hasher.update(BLOCK)
    assert not threads()
    assert hasher.hexdigest() == hashlib.sha256(BLOCK * (START // len(BLOCK))).hexdigest()


def test_blocks_of_every_size_are_hashed_in_order_and_the_thread_ends() -> None:
    """Blocks that are handed over and small ones between them make the digest of all, which can be asked meanwhile."""
    hasher, expected = begun_beside(), hashlib.sha256(BLOCK * ENOUGH)
    for number in range(200):
        block = bytes([number]) * (LEAST + 1 if number % 3 else 10)
        hasher.update(block)
        expected.update(block)
        if number % 50 == 0:
            assert hasher.hexdigest() == expected.hexdigest()
    hasher.end()
    assert not threads()
    hasher.end()
    assert hasher.hexdigest() == expected.hexdigest()


def test_what_may_change_is_hashed_before_wait_returns() -> None:
    """A caller that waits may use its buffer again."""
    hasher, expected = begun_beside(), hashlib.sha256(BLOCK * ENOUGH)
    buffer = bytearray(4 * 1024**2)
    for number in range(4):
        buffer[:] = bytes([number]) * len(buffer)
        expected.update(buffer)
        hasher.update(memoryview(buffer))
        hasher.wait()
    hasher.end()
    assert hasher.hexdigest() == expected.hexdigest()


def test_no_more_blocks_wait_than_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes faster than is hashed waits, so that memory is bounded."""
    go = threading.Event()
    real = hashing._hash
    monkeypatch.setattr(hashing, "_hash", lambda *arguments: go.wait(10) and real(*arguments))
    hasher = begun_beside()
    given = [0]

    def give() -> None:
        for _ in range(3 * DEPTH):
            hasher.update(BLOCK)
            given[0] += 1

    giving = threading.Thread(target=give)
    giving.start()
    eventually(lambda: given[0] == DEPTH - 1)
    giving.join(0.1)
    assert given[0] == DEPTH - 1 and giving.is_alive()
    go.set()
    giving.join(10)
    hasher.end()
    assert hasher.hexdigest() == hashlib.sha256(BLOCK * (ENOUGH + 3 * DEPTH)).hexdigest()


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_without_a_thread_it_is_hashed_inline(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Where no thread can be started the digest is the same, and it is tried once."""
    tried = []

    def refuse(thread: threading.Thread) -> None:
        tried.append(thread)
        raise error

    monkeypatch.setattr(threading.Thread, "start", refuse)
    hasher = Hasher()
    for _ in range(ENOUGH + 5):
        hasher.update(BLOCK)
    hasher.end()
    assert hasher.hexdigest() == hashlib.sha256(BLOCK * (ENOUGH + 5)).hexdigest()
    assert len(tried) == 1


def test_with_one_processor_it_is_hashed_inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads would only take turns."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    hasher = Hasher()
    for _ in range(ENOUGH + 5):
        hasher.update(BLOCK)
    assert not threads()
    assert hasher.hexdigest() == hashlib.sha256(BLOCK * (ENOUGH + 5)).hexdigest()


def test_an_interruption_of_the_start_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A BaseException that comes when the thread runs, and its owner has not heard, ends it all the same."""
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        real(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", start)
    hasher = Hasher()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(ENOUGH):
            hasher.update(BLOCK)
    assert threads()
    hasher.end()
    assert not threads()


def test_one_that_is_forgotten_leaves_no_thread() -> None:
    """The thread knows nothing of its owner, and ends when that is gone."""
    hasher = begun_beside()
    del hasher
    gc.collect()
    eventually(lambda: not threads())


def test_a_thread_that_fails_is_an_error_and_no_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """No digest is returned that lacks a block."""
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    hasher = begun_beside()
    hasher.update(memoryview(bytearray(8 * LEAST)).cast("H")[::2])  # not contiguous, which hashlib refuses
    with pytest.raises(RuntimeError, match="failed"):
        hasher.hexdigest()
    hasher.end()


def test_a_fork_leaves_the_parent_whole_and_the_child_without_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child forked meanwhile is told that the file is not its own, and can drop it; the parent finishes it."""
    go = threading.Event()
    real = hashing._hash
    monkeypatch.setattr(hashing, "_hash", lambda *arguments: go.wait(10) and real(*arguments))
    hasher = begun_beside()
    if not (child := os.fork()):
        signal.alarm(10)
        code = 1
        try:
            hasher.hexdigest()
        except RuntimeError:
            hasher.end()
            del hasher
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    go.set()
    assert status == 0
    hasher.end()
    assert hasher.hexdigest() == hashlib.sha256(BLOCK * ENOUGH).hexdigest()


def test_an_open_file_is_hashed_whole_wherever_it_stands(tmp_path: Path) -> None:
    """And it stands there afterwards; a file of no bytes has a digest too."""
    for content in (b"", b"cat", os.urandom(2 * hashing.READ_BYTES + 1)):
        path = tmp_path / "file"
        path.write_bytes(content)
        with path.open("rb", buffering=0) as file:
            file.seek(2)
            assert sha256_of(blocks_of(file.fileno())) == hashlib.sha256(content).digest()
            assert file.tell() == 2


def test_where_nobody_wants_a_digest_none_is_computed() -> None:
    """Whatever the size, there is no thread, and no digest that could be taken for one."""
    hasher = NoHasher()
    for _ in range(ENOUGH):
        hasher.update(BLOCK)
    assert not threads()
    hasher.wait()
    with pytest.raises(ValueError, match="nobody asked for"):
        hasher.hexdigest()
    hasher.end()
