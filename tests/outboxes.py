"""Outboxes for tests: what they record, scripts in interpreters of their own, and small disks that are full."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resto_wsgi.errors import OutboxError
from resto_wsgi.hosts import Host
from resto_wsgi.outbox.outbox import Delivery, Outbox

HOST, OTHER = Host.of("http://a/media"), Host.of("http://b/media")
A, B = Host.of("a"), Host.of("b")  # as the scripts call them
NOW = 1_000_000.0


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def refused(path: str, match: str, remedy: str = "") -> OutboxError:
    """Return the error with which an outbox is not opened."""
    with pytest.raises(OutboxError, match=match) as caught:
        Outbox(path)
    assert caught.value.path == path
    assert remedy in caught.value.remedy
    return caught.value


def record(outbox: Outbox, name: str = "cat", host: Host = HOST, *, begin: bool = True, due: float = NOW) -> Delivery:
    """Owe one name to one host."""
    return outbox.record(name, [host], begin=begin, due=due)[host]


def row(outbox: Outbox, name: str = "cat", host: Host = HOST) -> Delivery:
    """Return what is owed."""
    return outbox.deliveries(name)[host]


def fill(outbox: Outbox, number: int) -> list[str]:
    """Owe HOST so many names, and return them."""
    names = [f"folder/{count:06}.jpg" for count in range(number)]
    assert outbox.owe(HOST, names) == number
    return names


def command(script: str, *arguments: object) -> list[str]:
    """Return the command that runs a script in an interpreter of its own."""
    return [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), *map(str, arguments)]


def run(script: str, *arguments: object) -> Any:
    """Run a script to its end and return the JSON that it printed."""
    done = subprocess.run(command(script, *arguments), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sound(path: str) -> bool:
    """True if SQLite finds no fault in the file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


def statements(outbox: Outbox, work: Callable[[], Any]) -> list[str]:
    """Return what SQLite was told while ``work`` was done, one statement each."""
    seen: list[str] = []
    connection = outbox._database._session._connection
    assert connection
    connection.set_trace_callback(seen.append)
    work()
    connection.set_trace_callback(None)
    return seen


@contextlib.contextmanager
def mounted(folder: Path, size: str = "1m") -> Iterator[Path]:
    """A small file system of our own, where we may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def use_up(folder: Path) -> Path:
    """Leave no space there."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), open(filler, "ab", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return filler


def remount(folder: Path, how: str) -> None:
    """Make a file system of our own read-only (ro) or writable (rw)."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


WRITER = """
    import sys, itertools
    from resto_wsgi.hosts import Host
    from resto_wsgi.outbox.outbox import Outbox
    outbox, hosts = Outbox(sys.argv[1]), [Host.of("a"), Host.of("b")]
    for number in itertools.count():
        recorded = outbox.record(f"{number}", hosts, begin=True, due=0.0)
        print(number, flush=True)
        if sys.argv[2] == "once":
            sys.stdin.read()
"""
