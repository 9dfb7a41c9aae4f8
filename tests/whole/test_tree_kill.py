"""A tree of seven processes: one of them is killed while files are put and deleted, and large files pass through."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import LOOPBACK, eventually, free_port

OPERATIONS = 500
WRITERS = 5
LARGE = int(os.environ.get("TREE_LARGE_MIB", "128")) << 20  # bytes
GROWTH = 32 << 10  # KiB
BLOCK = os.urandom(1 << 20)


class Process:
    """`resto media-server` as a process of its own."""

    def __init__(self, root: Path, children: list[Process], *options: str) -> None:
        self.root, self.port = root, free_port()
        urls = [part for child in children for part in ("--child", child.url)]
        arguments = ["--root", str(root), "--listen", f"{LOOPBACK}:{self.port}", "--allow", LOOPBACK, *urls, *options]
        self._command = [sys.executable, "-W", "ignore", "-m", "resto_wsgi", "media-server", *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout and self._process.stdout.readline()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def peak(self) -> int:
        """Return the peak resident memory in KiB."""
        assert self._process
        with open(f"/proc/{self._process.pid}/status", encoding="utf-8") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=300)
        with contextlib.closing(connection):
            connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
            reply = connection.getresponse()
            return reply.status, reply.read()

    def files(self) -> dict[str, bytes]:
        found = (path for path in self.root.rglob("*") if path.is_file() and ".resto" not in path.parts)
        return {str(path.relative_to(self.root)): path.read_bytes() for path in found}

    def owed(self) -> Any:
        """Return what the whole subtree owes; None where some node does not say."""
        status, body = self.ask("GET", "/__missing__", Accept="application/json")
        page = json.loads(body)
        return page["subtree"] if status == 200 and page["complete"] else None


@contextlib.contextmanager
def running(nodes: list[Process]) -> Iterator[list[Process]]:
    """Start these, which are in the order of the tree from its leaves up; kill all at the end."""
    try:
        for node in nodes:
            node.start()
        yield nodes
    finally:
        for node in nodes:
            node.kill()


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[list[Process]]:
    """Seven nodes, the root first."""
    made: dict[int, Process] = {}
    for number in reversed(range(7)):
        children = [made[each] for each in (2 * number + 1, 2 * number + 2) if each < 7]
        made[number] = Process(tmp_path / str(number), children)
    with running(list(made.values())):
        yield [made[number] for number in range(7)]


@pytest.mark.parametrize("victim", [1, 0])
def test_a_node_is_killed_during_500_puts_and_deletes(tree: list[Process], victim: int) -> None:
    """kill -9 of a node in the middle, and of the root: when it is back all seven are equal, and nothing is owed.

    Where it is the root, what its writers were not told of may have been done or not; the rest is as they were told.
    """
    root, expected, unclear = tree[0], dict[str, bytes](), set[str]()
    done = threading.Semaphore(0)

    def write(writer: int) -> None:
        chance = random.Random(writer)
        for number in range(OPERATIONS // WRITERS):
            name = f"{writer}/{chance.randrange(25)}.jpg"
            body = b"%d %d;" % (writer, number) * chance.randrange(1, 3000) if chance.random() < 0.7 else None
            wait = "?wait=local" if chance.random() < 0.2 else ""
            try:
                status, _ = root.ask("DELETE" if body is None else "PUT", f"/{name}{wait}", body)
            except (OSError, http.client.HTTPException):
                unclear.add(name)
                time.sleep(0.02)
            else:
                assert status in (200, 201, 202, 404), status
                unclear.discard(name)
                expected.pop(name, None)
                if body is not None:
                    expected[name] = body
            done.release()

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    for number in range(OPERATIONS):
        done.acquire()
        if number == OPERATIONS // 3:
            tree[victim].kill()
        if number == OPERATIONS * 2 // 3:
            tree[victim].start()
    for thread in threads:
        thread.join()
    eventually(lambda: root.owed() == 0, 90)
    found = root.files()
    assert {name: body for name, body in found.items() if name not in unclear} == {
        name: body for name, body in expected.items() if name not in unclear
    }
    assert victim == 0 or not unclear
    assert [node.files() == found for node in tree] == [True] * 7


# Large files


def test_a_node_that_is_killed_while_a_large_file_passes_gets_it_later(tmp_path: Path) -> None:
    """The node in the middle of a chain: the root has published it, and owes it."""
    leaf = Process(tmp_path / "3", [])
    middle = Process(tmp_path / "2", [leaf])
    root = Process(tmp_path / "1", [middle])
    with running([leaf, middle, root]) as nodes:
        connection = http.client.HTTPConnection(LOOPBACK, root.port, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest("PUT", "/cat")
            connection.putheader("Content-Length", str(8 * len(BLOCK)))
            connection.endheaders()
            connection.send((BLOCK * 8)[:-1])
            eventually(lambda: received(leaf))
            middle.kill()
            connection.send(BLOCK[-1:])
            reply = connection.getresponse()
            assert reply.status == 202, reply.read()
        middle.start()
        eventually(lambda: root.owed() == 0, 60)
        assert all(node.files() == {"cat": BLOCK * 8} for node in nodes)
        for node in nodes:
            eventually(lambda node=node: not list((node.root / ".resto/staging").glob("*/*")))


def received(node: Process) -> int:
    """Return how many octets of uploads a node has that are not published; one that ends meanwhile counts as none."""
    total = 0
    for each in (node.root / ".resto/staging").glob("*/*"):
        with contextlib.suppress(FileNotFoundError):
            total += each.stat().st_size
    return total


def blocks(size: int) -> Iterator[bytes]:
    for _ in range(size // len(BLOCK)):
        yield BLOCK


def put(node: Process, size: int) -> float:
    """Return how many seconds it took until all of the subtree had it."""
    began = time.monotonic()
    status, body = node.ask("PUT", f"/large-{size}-{began}", blocks(size), Content_Length=str(size))
    assert status == 201, body
    return time.monotonic() - began


def test_a_large_file_passes_through_three_levels_in_constant_memory(tmp_path: Path) -> None:
    """Each node's memory grows by less than 32 MiB; the bytes at the end of the chain are those at its beginning."""
    leaf = Process(tmp_path / "3", [])
    middle = Process(tmp_path / "2", [leaf])
    root = Process(tmp_path / "1", [middle])
    alone = Process(tmp_path / "alone", [])
    with running([leaf, middle, root, alone]) as nodes:
        for node in (root, alone):
            put(node, 1 << 20)
        before = [node.peak() for node in nodes]
        times = put(alone, LARGE), put(root, LARGE)
        growth = [node.peak() - each for node, each in zip(nodes, before, strict=True)]
        print(f"{LARGE >> 20} MiB: one level {times[0]:.2f} s, three {times[1]:.2f} s; memory grew by {growth} KiB")
        assert max(growth) < GROWTH
        (copy,) = [path for path in leaf.root.glob("large-*") if path.stat().st_size == LARGE]
        with copy.open("rb") as file:
            assert all(file.read(len(BLOCK)) == BLOCK for _ in range(LARGE // len(BLOCK)))
            assert not file.read(1)
        os.unlink(next(path for path in root.root.glob("large-*") if path.stat().st_size == LARGE))
        os.unlink(next(path for path in middle.root.glob("large-*") if path.stat().st_size == LARGE))
        before = [node.peak() for node in nodes]
        connection = http.client.HTTPConnection(LOOPBACK, root.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", f"/{copy.name}")
            reply = connection.getresponse()
            assert all(reply.read(len(BLOCK)) == BLOCK for _ in range(LARGE // len(BLOCK)))
        assert max(node.peak() - each for node, each in zip(nodes, before, strict=True)) < GROWTH
