"""The stock media servers: they start anywhere, are written to, and leave nothing running."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import eventually, need

from resto_wsgi.demo import stock
from resto_wsgi.demo.stock import SERVERS, StockServer, missing, package_of
from resto_wsgi.errors import RestoError

PLAIN = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    need(request.param)
    return request.param


@pytest.fixture
def server(kind: str, tmp_path: Path) -> Iterator[StockServer]:
    with StockServer(kind, tmp_path / "a folder") as started:
        yield started


def ask(method: str, url: str, body: bytes | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(url, body, method=method)
    try:
        with PLAIN.open(request, timeout=5) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def group_members(group: int) -> list[str]:
    """Return the /proc status lines of the living processes in a process group."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path("/proc", entry, "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            state, _, owner = text.rpartition(")")[2].split()[:3]
            if int(owner) == group and state not in "ZX":
                found.append(text)
    return found


def test_a_file_is_put_read_and_deleted(server: StockServer) -> None:
    """PUT stores below ``root``, GET reads it back, DELETE removes it; the folder's path holds a space."""
    content = os.urandom(300_000)
    assert ask("PUT", f"{server.url}/cat.jpg", content)[0] == 201
    assert Path(server.root, "cat.jpg").read_bytes() == content
    assert ask("GET", f"{server.url}/cat.jpg") == (200, content)
    assert ask("PUT", f"{server.url}/cat.jpg", b"new")[0] == 204
    assert ask("GET", f"{server.url}/cat.jpg") == (200, b"new")
    assert ask("DELETE", f"{server.url}/cat.jpg")[0] == 204
    assert os.listdir(server.root) == []


def test_a_file_placed_in_the_root_is_served_at_once_with_its_type(server: StockServer) -> None:
    """What a test or a person changes in the root is seen by the next request."""
    for content in (b"<svg/>", b"<svg></svg>"):
        Path(server.root, "icon.svg").write_bytes(content)
        with PLAIN.open(f"{server.url}/icon.svg", timeout=5) as reply:
            assert reply.read() == content
            assert reply.headers["Content-Type"] == "image/svg+xml"


def test_only_nginx_makes_folders(server: StockServer) -> None:
    """A PUT below a missing folder is 201 on nginx and 409 on the others."""
    assert ask("PUT", f"{server.url}/a/b.txt", b"x")[0] == (201 if server.kind == "nginx" else 409)


def test_nginx_can_be_told_not_to_make_folders(tmp_path: Path) -> None:
    """Without create_full_put_path nginx answers 500 where a folder is missing."""
    need("nginx")
    with StockServer("nginx", tmp_path, full_put_path=False) as server:
        assert ask("PUT", f"{server.url}/a/b.txt", b"x")[0] == 500


def test_a_body_over_the_limit_is_refused(kind: str, tmp_path: Path) -> None:
    """``max_body`` is kept to by each of them, with 413."""
    with StockServer(kind, tmp_path, max_body=2048) as server:
        assert ask("PUT", f"{server.url}/small", bytes(2048))[0] == 201
        assert ask("PUT", f"{server.url}/large", bytes(2049))[0] == 413
        assert os.listdir(server.root) == ["small"]


def test_there_is_no_limit_by_default(server: StockServer) -> None:
    """20 MiB are taken, which is more than the 1 MiB that nginx takes when it is not told."""
    assert ask("PUT", f"{server.url}/large", bytes(20 << 20))[0] == 201


def test_it_comes_back_on_the_same_port_after_a_crash(server: StockServer) -> None:
    """After ``kill`` nobody answers; after ``start`` the files are there at the same address."""
    url, pid = server.url, server.pid
    ask("PUT", f"{url}/cat.jpg", b"cat")
    server.kill()
    with pytest.raises(urllib.error.URLError):
        ask("GET", f"{url}/cat.jpg")
    server.start()
    assert ask("GET", f"{url}/cat.jpg") == (200, b"cat")
    assert server.pid != pid
    server.restart()
    assert ask("GET", f"{url}/cat.jpg") == (200, b"cat")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_nothing_runs_afterwards(server: StockServer, end: str) -> None:
    """Both ``stop`` and ``kill`` end the workers too, and may be repeated."""
    group = server.pid
    assert group and group_members(group)
    getattr(server, end)()
    eventually(lambda: not group_members(group))
    getattr(server, end)()
    assert server.pid is None


def test_workers_whose_leader_died_are_ended(server: StockServer) -> None:
    """Somebody kills the leading process alone: ``stop`` still ends its workers."""
    group = server.pid
    assert group
    os.kill(group, signal.SIGKILL)
    server.stop()
    eventually(lambda: not group_members(group))


def test_it_listens_on_loopback_alone(server: StockServer) -> None:
    """No other address of this machine reaches it, 127.0.0.2 for one."""
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.2", server.port))


def test_a_server_ends_with_the_process_that_started_it(kind: str, tmp_path: Path) -> None:
    """A process that forgets to stop its server stops it when it exits; a fork that exits does not."""
    program = (
        "import os, sys, urllib.request\n"
        "from resto_wsgi.demo.stock import StockServer\n"
        "server = StockServer(sys.argv[1], sys.argv[2])\n"
        "server.start()\n"
        "if not os.fork(): sys.exit()\n"
        "os.wait()\n"
        "assert not server._ended()\n"
        "print(server.pid)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, kind, tmp_path], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    eventually(lambda: not group_members(int(done.stdout)))


def test_a_port_lost_before_the_start_is_replaced(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody took the chosen port meanwhile, another is tried, and a stranger's answer is not believed."""
    with StockServer(kind, tmp_path / "stranger") as stranger:
        ports = [stranger.port, stock._free_port()]
        monkeypatch.setattr(stock, "_free_port", lambda: ports.pop(0))
        with StockServer(kind, tmp_path / "mine") as server:
            assert server.port != stranger.port
            Path(server.root, "mine").write_bytes(b"mine")
            assert ask("GET", f"{server.url}/mine") == (200, b"mine")


def test_a_given_port_that_is_taken_is_an_error(kind: str, tmp_path: Path) -> None:
    """A port that the caller chose is not replaced: the error says why, and no process is left."""
    with StockServer(kind, tmp_path / "first") as first:
        second = StockServer(kind, tmp_path / "second", first.port)
        with pytest.raises(RestoError, match=r"Address already in use"):
            second.start()
        assert second.pid is None


def test_a_bad_configuration_is_quoted(kind: str, tmp_path: Path) -> None:
    """The error of a server that does not start holds the end of its log, in one line."""
    with pytest.raises(RestoError, match=rf"^{kind} ended while starting: .*server\.conf.*$") as caught:
        StockServer(kind, tmp_path, extra="no_such_thing on;").start()
    assert "\n" not in str(caught.value)


def test_extra_lines_reach_the_configuration(tmp_path: Path) -> None:
    """``extra`` is part of nginx's server block."""
    need("nginx")
    with StockServer("nginx", tmp_path, extra="location = /busy { return 503; }") as server:
        assert ask("GET", f"{server.url}/busy")[0] == 503


def test_starting_twice_is_an_error(server: StockServer) -> None:
    """A second ``start`` would lose the first process."""
    with pytest.raises(RestoError, match="was started already"):
        server.start()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("nginx", "the program nginx, which is not installed: apt install nginx"),
        ("lighttpd", "the program lighttpd, which is not installed: apt install lighttpd lighttpd-mod-webdav"),
        ("apache", "the program apache2, which is not installed: apt install apache2"),
    ],
)
def test_a_missing_program_is_told_with_its_package(
    name: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says what is missing and what to install, and ``start`` raises it."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(stock, "SBIN", str(tmp_path))
    assert missing(name) == line
    assert line.endswith(f": apt install {package_of(name)}")
    with pytest.raises(RestoError, match=line):
        StockServer(name, tmp_path / "x").start()


def test_a_program_outside_the_path_is_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user has no /usr/sbin in PATH."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert missing(kind) is None


def test_an_unknown_kind_is_an_error() -> None:
    """The error names the kinds that there are."""
    with pytest.raises(ValueError, match="nginx, lighttpd, apache"):
        missing("iis")
