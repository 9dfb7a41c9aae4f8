"""What an application believes of its files, and what there is: for the tests of the modes, which share it.

``Replicators`` makes replicators over one media root, whose time is the test's own: while one of them drains, hours
pass in seconds, so that nobody waits until a late request can no longer arrive. ``differences`` compares a replicator
with its hosts after all was delivered.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from servers import files, held, server_of

from resto_wsgi.replicator import Parts, Replicator
from resto_wsgi.transports import Transport

MODES = ("hybrid", "async", "distributed")
PATIENCE = 20.0  # seconds that a drain is given; it takes some milliseconds


class Clock:
    """The time of day, which runs ahead while somebody sleeps; or stands still at ``frozen``."""

    STEP = 5.0  # seconds that pass in one nap of a drain

    def __init__(self) -> None:
        self.ahead = 0.0
        self.frozen: float | None = None

    def __call__(self) -> float:
        return (time.time() if self.frozen is None else self.frozen) + self.ahead

    def sleep(self, seconds: float) -> None:
        self.ahead += self.STEP
        time.sleep(min(seconds, 0.01))


class Replicators:
    """``replicators(servers, required=2)`` returns a replicator with these hosts and that setting, not in background.

    All are closed in the end.
    """

    def __init__(self, media_root: Path, **keywords: Any) -> None:
        self.clock = Clock()
        self._keywords = {"media_root": media_root, "timeout": 2, "fsync": False, "background": False} | keywords
        self._made: list[Replicator] = []

    def __call__(self, servers: Any = (), *, transport: Transport | None = None, **keywords: Any) -> Replicator:
        parts = Parts(clock=self.clock, sleep=self.clock.sleep, transport=transport)
        hosts = [server.url for server in servers]
        self._made.append(Replicator(parts=parts, media_hosts=hosts, **self._keywords | keywords))
        return self._made[-1]

    def __enter__(self) -> Replicators:
        return self

    def __exit__(self, *_: object) -> None:
        for replicator in self._made:
            replicator.close()


@contextlib.contextmanager
def three_nginx(folder: Path, **options: Any) -> Iterator[list[Any]]:
    """Three nginx for all tests of a module: there are a hundred, and a start takes as long as many of them."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(server_of("nginx", folder / str(number), **options)) for number in range(3)]


def as_new(servers: Any) -> Any:
    """Return these servers without a file, and started with the options that they had, whatever a test did to them."""
    for server in servers:
        shutil.rmtree(server.root)
        os.mkdir(server.root)
        if server.pid is None:
            server.start()
    return servers


def folders(root: str | Path) -> list[str]:
    """The folders of a media root that are not hidden."""
    found = [str(path.relative_to(root)) for path in Path(root).rglob("*") if path.is_dir()]
    return sorted(path for path in found if not path.startswith("."))


def believed(replicator: Replicator, folder: str = "") -> dict[str, bytes]:
    """Every name that an application finds, with what it reads there."""
    below, here = replicator.listdir(folder)
    prefix = f"{folder}/" if folder else ""
    found = {}
    for name in (prefix + each for each in here):
        with replicator.open(name) as file:
            found[name] = file.read()
            assert replicator.exists(name) and replicator.size(name) == len(found[name]), name
    for each in below:
        found |= believed(replicator, prefix + each)
    return found


def differences(replicator: Replicator, servers: Any, expected: dict[str, bytes]) -> dict[str, Any]:
    """Deliver what is owed, and return whatever is then not as ``expected``; nothing is the right answer."""
    if not replicator.drain(PATIENCE):
        return {"owed": replicator.status()}
    kept = {} if replicator.settings.mode == "distributed" else expected
    found: dict[str, Any] = {"belief": believed(replicator), **{each.url: held(each) for each in servers}}
    different = {where: what for where, what in found.items() if what != expected}
    master = files(replicator.settings.media_root)
    if master != kept or (not kept and replicator.settings.mode == "distributed" and folders(_root(replicator))):
        different["MEDIA_ROOT"] = (master, folders(_root(replicator)))
    if replicator.status().owed:
        different["status"] = replicator.status()
    return different


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a script in an interpreter of its own."""
    python = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(python, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def printed(process: subprocess.Popen[str], code: int = 0) -> Any:
    """Wait for a script and return the JSON that it printed; None where it printed nothing."""
    try:
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, errors
    return json.loads(out) if out else None


def _root(replicator: Replicator) -> str:
    return os.fspath(replicator.settings.media_root)
