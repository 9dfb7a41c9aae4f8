"""Media servers as processes, each in a folder of its own, and the broken network before them.

A host is what the application is given a URL of: one nginx, one of our own nodes, or the root of a tree of nodes.
``Server`` is one process of those; it can be killed, stopped for a while, and started again on its files and its port.
With ``proxied``, whoever sends to a server, the application or the node above it, goes through a ``Proxy``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Protocol

from ports import LOOPBACK, free_port

from ..proxy import Proxy
from ..rig import STOP_WITHIN, Nginx, connects, environment, wait_until
from .setup import TREE, Setup

__all__ = ["Host", "Server", "make_hosts", "wait_for_quiet"]

START_WITHIN = 60.0  # seconds; on a busy machine an interpreter takes its time


class Server(Protocol):
    """One process that serves ``root``, the folder ``folder`` being all that it has; ``link`` leads to it."""

    label: str
    folder: str
    root: str
    port: int
    link: Proxy | None

    @property
    def pid(self) -> int | None:
        """The process, or None while there is none."""

    def launch(self) -> None:
        """Start it, and do not wait for it."""

    def await_start(self) -> None:
        """Return when it answers."""

    def kill(self) -> None:
        """End it as a crash does; harmless where it does not run."""

    def stop(self) -> None:
        """End it in order."""

    def signal(self, number: int) -> None:
        """Send this signal to all of it."""


class NginxServer(Nginx):
    """A stock nginx: starting it takes 15 ms."""

    def __init__(self, label: str, folder: str) -> None:
        super().__init__(folder)
        self.label = label
        self.port = free_port()
        self.link: Proxy | None = None

    def launch(self) -> None:
        self.start()

    def await_start(self) -> None:
        """It was waited for."""

    def signal(self, number: int) -> None:
        if self.pid is not None:
            os.killpg(self.pid, number)


class NodeServer:
    """``resto media-server`` with the children of these URLs."""

    def __init__(self, label: str, folder: str, children: Sequence[str], timeout: float) -> None:
        self.label = label
        self.folder = folder
        self.root = os.path.join(folder, "files")
        self.port = free_port()
        self.link: Proxy | None = None
        options = ["--root", self.root, "--listen", f"{LOOPBACK}:{self.port}", "--allow", LOOPBACK]
        options += ["--child-timeout", str(timeout)]
        for child in children:
            options += ["--child", child]
        self._command = [sys.executable, "-m", "resto_wsgi", "media-server", *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def log(self) -> str:
        return os.path.join(self.folder, "log")

    def launch(self) -> None:
        os.makedirs(self.folder, exist_ok=True)
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self.folder, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def await_start(self) -> None:
        wait_until(self._listens, START_WITHIN, f"node {self.label} does not listen; see {self.log}")

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2 * STOP_WITHIN)
        self.kill()

    def signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _listens(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"node {self.label} ended while starting; see {self.log}")
        return connects(self.port)


class Host:
    """One host: its ``servers``, the one that the application speaks to first, and the ``url`` that it is given."""

    def __init__(self, number: int, kind: str, servers: Sequence[Server]) -> None:
        self.number = number
        self.kind = kind
        self.servers = tuple(servers)
        self.url = _url_of(servers[0])

    @property
    def roots(self) -> dict[str, str]:
        """The folder of each server, by its label."""
        return {server.label: server.root for server in self.servers}

    def start(self) -> None:
        """Start what does not run."""
        started = [server for server in reversed(self.servers) if server.pid is None]
        for server in started:
            server.launch()
        for server in started:
            server.await_start()

    def kill(self) -> None:
        for server in self.servers:
            server.kill()

    def copy(self, to: str) -> None:
        """Copy the files of the first server as they are, under way or not, as a nightly backup does."""
        _copy_tree(self.servers[0].root, to)

    def replace(self, backup: str | None) -> None:
        """Have the first server hold what a backup has, or nothing. It must not run."""
        root = self.servers[0].root
        for entry in os.listdir(root):
            path = os.path.join(root, entry)
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
        if backup is not None:
            _copy_tree(backup, root)


def make_hosts(setup: Setup, folder: str) -> list[Host]:
    """Return the hosts of a site, not started; their links are open, if it has any."""
    hosts = []
    for number, kind in enumerate(setup.kinds):
        place = os.path.join(folder, f"host-{number}")
        if kind == "tree":
            servers = _make_tree(setup, str(number), place)
        elif kind == "node":
            servers = [NodeServer(str(number), place, (), setup.timeout)]
        else:
            servers = [NginxServer(str(number), place)]
        for server in servers:
            _link(setup, server)
        hosts.append(Host(number, kind, servers))
    return hosts


def _make_tree(setup: Setup, label: str, place: str) -> list[Server]:
    """The nodes of a tree, its root first; each knows the links to its children."""
    made: dict[int, NodeServer] = {}
    for node in sorted(TREE, reverse=True):
        name = f"{label}.{node}" if node else label
        children = [_url_of(made[child]) for child in TREE[node]]
        made[node] = NodeServer(name, f"{place}-{node}" if node else place, children, setup.timeout)
        _link(setup, made[node])
    return [made[node] for node in sorted(made)]


def _link(setup: Setup, server: Server) -> None:
    if setup.proxied and server.link is None:
        server.link = Proxy(server.port)


def _url_of(server: Server) -> str:
    return server.link.url if server.link else f"http://{LOOPBACK}:{server.port}"


def _copy_tree(source: str, to: str) -> None:
    """Copy a folder in which files come and go; mtimes stay."""
    for folder, folders, files in os.walk(source):
        target = os.path.join(to, os.path.relpath(folder, source))
        os.makedirs(target, exist_ok=True)
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                shutil.copy2(os.path.join(folder, name), os.path.join(target, name), follow_symlinks=False)
        for name in folders:
            os.makedirs(os.path.join(target, name), exist_ok=True)


def wait_for_quiet(roots: Sequence[str], seconds: float) -> None:
    """Return when nothing has changed in these folders for so long."""
    seen, since = None, time.monotonic()
    while time.monotonic() - since < seconds:
        now = [(entry.path, entry.inode()) for root in roots for entry in _entries(root)]
        if now != seen:
            seen, since = now, time.monotonic()
        time.sleep(0.05)


def _entries(root: str) -> list[os.DirEntry[str]]:
    found = []
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            found.append(entry)
            if entry.is_dir(follow_symlinks=False):
                found += _entries(entry.path)
    return found
