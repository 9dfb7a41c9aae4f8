"""What tests of the disk engine share: files that are staged and given a name, what is left of them, and scripts.

A script runs in an interpreter of its own, to be killed, forked or given another locale.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest

from resto_wsgi.master.media_root import MediaRoot, Publication
from resto_wsgi.master.staged import Staged

__all__ = [
    "command",
    "descriptors",
    "other_disk",
    "own_mounts",
    "publish",
    "read",
    "replace",
    "run",
    "stage",
    "staged_files",
]

TESTS = os.path.dirname(os.path.abspath(__file__))


def stage(media_root: MediaRoot, content: bytes) -> Staged:
    staged = media_root.stage()
    staged.write(content)
    staged.seal()
    return staged


def publish(media_root: MediaRoot, name: str, content: bytes) -> Publication:
    return media_root.publish(stage(media_root, content), name)


def replace(media_root: MediaRoot, name: str, content: bytes) -> Publication:
    return media_root.replace(stage(media_root, content), name)


def read(media_root: MediaRoot, name: str) -> bytes:
    with media_root.open(name).file as file:
        return file.read()


def staged_files(root: str | Path) -> list[str]:
    """Return the paths of all files in the rooms under a media root."""
    return sorted(str(path) for path in Path(root, ".resto/staging").glob("*/*"))


def other_disk(beside: Path) -> Path:
    """Return a new folder on another file system than ``beside``, which the test removes; skip if there is none."""
    for place in ("/dev/shm", "/run", "/tmp", "/var/tmp"):
        if os.path.isdir(place) and os.access(place, os.W_OK) and os.stat(place).st_dev != os.stat(beside).st_dev:
            return Path(tempfile.mkdtemp(dir=place))
    pytest.skip("there is but one file system here that can be written to")


def own_mounts() -> tuple[str, ...]:
    """Return what a command is given to so that nobody sees what it mounts; skip if nobody may mount here."""
    for namespace in (("unshare", "--mount"), ("unshare", "--map-root-user", "--mount")):
        with contextlib.suppress(OSError):
            if not subprocess.run([*namespace, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode:
                return namespace
    pytest.skip("this system lets nobody mount here")


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    gc.collect()  # what other tests have left to it is not ours to count
    return len(os.listdir("/proc/self/fd"))


def command(script: str, *arguments: object) -> list[str]:
    """Return the command that runs a script in an interpreter of its own."""
    return [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), *map(str, arguments)]


def run(script: str, *arguments: object, before: tuple[str, ...] = (), **environ: str) -> Any:
    """Run a script to its end and return the JSON that it printed. ``before`` is what its command is given to."""
    environment = {**os.environ, "PYTHONPATH": TESTS, **environ}
    done = subprocess.run(
        [*before, *command(script, *arguments)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
