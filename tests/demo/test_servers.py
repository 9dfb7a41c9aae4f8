"""The demo's media servers of our own, each a process, on ports that are free."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from demos import listens, processes_of
from ports import LOOPBACK, free_port

from resto_wsgi.demo import servers as demo_servers
from resto_wsgi.demo.servers import OwnServer, Ports
from resto_wsgi.errors import RestoError


def test_a_port_lost_at_the_start_is_stepped_over() -> None:
    """A start that finds its port taken is repeated with the next one."""
    asked: list[int] = []

    def start(port: int) -> int:
        asked.append(port)
        if len(asked) == 1:
            raise demo_servers.port_taken(port)
        return port

    assert Ports(free_port()).take(start) == asked[1] > asked[0]


def test_other_failures_are_not_hidden() -> None:
    """Only a taken port is stepped over."""

    def start(port: int) -> int:
        raise PermissionError("no")

    with pytest.raises(PermissionError):
        Ports(free_port()).take(start)


def test_no_port_left_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the range and the option."""
    monkeypatch.setattr(demo_servers, "is_free", lambda port: False)
    with pytest.raises(RestoError, match=r"no free port from 8000 to 8199 .* --port"):
        Ports(8000).take(lambda port: port)


def test_a_server_listens_until_it_is_stopped(tmp_path: Path) -> None:
    """It serves what is in its folder, and may be stopped twice."""
    server = OwnServer(str(tmp_path), free_port())
    try:
        assert listens(server.url) and Path(server.root).is_dir()
        assert len(processes_of(tmp_path)) == 1
    finally:
        server.stop()
    server.stop()
    assert processes_of(tmp_path) == [] and not listens(server.url)


def test_waiting_for_a_server_can_be_given_up(tmp_path: Path) -> None:
    """As for a signal: the process that was started is ended first."""

    def give_up() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        OwnServer(str(tmp_path), free_port(), check=give_up)
    assert processes_of(tmp_path) == []


def test_a_server_that_ends_at_once_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it printed last is in the error."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho no disk\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(RestoError, match="ended while starting: no disk"):
        OwnServer(str(tmp_path), free_port())


def test_a_server_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that neither listens nor heeds SIGTERM ends all the same, after the limit."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 0.1; done\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(demo_servers, "_START_WITHIN", 0.5)
    monkeypatch.setattr(demo_servers, "_STOP_WITHIN", 0.2)
    with pytest.raises(RestoError, match=r"did not start within .*: it printed nothing"):
        OwnServer(str(tmp_path), free_port())
    assert processes_of(program) == []


def test_a_port_lost_meanwhile_is_told_apart(tmp_path: Path) -> None:
    """A server that ends because its port is taken asks for another port."""
    with socket.create_server((LOOPBACK, 0)) as taken, pytest.raises(OSError, match="is taken"):
        OwnServer(str(tmp_path), taken.getsockname()[1])
