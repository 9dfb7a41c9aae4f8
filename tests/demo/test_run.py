"""`resto demo` as a person and as CI run it: real processes, real sockets, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from html import unescape
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit
from wsgiref.util import setup_testing_defaults

import pytest
from click.testing import CliRunner

from resto_wsgi.cli.commands import resto
from resto_wsgi.demo import once as demo_once
from resto_wsgi.demo import run as demo
from resto_wsgi.demo import servers as demo_servers
from resto_wsgi.demo.app import DemoApp, human_size
from resto_wsgi.demo.servers import LOOPBACK, OwnServer, Ports
from resto_wsgi.demo.stock import missing
from resto_wsgi.errors import RestoError
from resto_wsgi.hosts import Host

COMMAND = [sys.executable, "-c", "from resto_wsgi.cli import main; main()"]
NAMES = ["lake.jpg", "leaflet.pdf", "Zażółć gęślą jaźń.txt", "64 MiB.bin"]


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Wait for a condition, and return what it says; fail when time is up."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)
    return result


def processes_of(folder: Path) -> list[str]:
    """The command lines of all living processes that name the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if os.fsencode(folder) in line:
                found.append(line.replace(b"\0", b" ").decode())
    return found


def listens(url: str) -> bool:
    """Say whether somebody accepts connections at the address."""
    parts = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname or "", parts.port or 0)) == 0


def resto_demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `resto demo` to its end, with its temporary folder below ``folder``."""
    return subprocess.run(
        [*COMMAND, "demo", *options],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=180,
        check=False,
    )


@pytest.fixture
def first_port() -> int:
    """A port from which on some are free."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return min(port, 64000)


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`resto demo` while it runs; killed at the end where the test has not ended it."""
    with subprocess.Popen(
        [*COMMAND, "demo", *options],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


class TestOnce:
    """`--once`: exit status 0 means that every byte is equal everywhere."""

    @pytest.mark.parametrize("kind", ["own", "nginx", "lighttpd", "apache"])
    def test_every_copy_is_equal_on_every_server(self, kind: str, tmp_path: Path, first_port: int) -> None:
        """The table shows each file with its SHA-256 and twelve equal copies, and nothing is left behind."""
        if kind != "own" and missing(kind):
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{kind}: {missing(kind)}")
        result = resto_demo(tmp_path, "--once", "--servers", kind, "--port", str(first_port))
        assert (result.returncode, result.stderr) == (0, "")
        assert all(name in result.stdout for name in NAMES)
        assert len(re.findall(r"\b[0-9a-f]{64}\b", result.stdout)) == len(NAMES)
        assert len(re.findall(r"│ equal\b", result.stdout)) == 3 * len(NAMES)
        assert "64.0 MiB" in result.stdout
        assert list(tmp_path.iterdir()) == []
        assert not any(map(listens, re.findall(r"http://\S+", result.stdout)))

    @pytest.mark.parametrize(
        ("harm", "word"),
        [
            (lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]), "differs"),
            (lambda path: path.write_bytes(path.read_bytes()[:-1]), "differs"),
            (lambda path: path.unlink(), "404"),
        ],
        ids=["one byte", "one short", "gone"],
    )
    def test_one_bad_copy_is_shown_and_fails(
        self,
        harm: Callable[[Path], Any],
        word: str,
        tmp_path: Path,
        first_port: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A single copy that is not what was sent makes the exit status 1, whatever is wrong with it."""
        real_post = demo_once.post

        def harming_post(*args: Any) -> Any:
            saved = real_post(*args)
            (folder,) = tmp_path.glob("resto-demo-*")
            harm(folder / "server-2" / "files" / saved[1]["name"])
            return saved

        monkeypatch.setattr(demo_once, "post", harming_post)
        monkeypatch.setattr(demo_once, "_BIG", 1024 * 1024)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        result = CliRunner().invoke(resto, ["demo", "--once", "--port", str(first_port)])
        assert result.exit_code == 1
        assert "1 of 12 copies are not what was sent" in result.output
        assert word in result.output

    def test_what_the_page_says_must_be_what_was_sent(self) -> None:
        """An answer with another SHA-256 counts for none of the copies, without reading one."""
        sample = demo_once.Sample(filename="a", path="/a", content_type="text/plain", size=1, sha256="0" * 64)
        saved = {"size": 1, "sha256": "f" * 64, "copies": [{"url": "http://127.0.0.1:1/a"}]}
        assert demo_once._statuses(None, sample, saved) == {"127.0.0.1:1": "not as sent"}  # type: ignore[arg-type]

    def test_a_refusal_is_one_line(self, tmp_path: Path, first_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the page refuses, its reason is the one line of the failure."""
        monkeypatch.setattr(demo, "_MAX_FILE_SIZE", 1000)
        monkeypatch.setattr(demo_once, "_BIG", 1024 * 1024)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        result = CliRunner().invoke(resto, ["demo", "--once", "--port", str(first_port)])
        assert result.exit_code == 1
        assert re.fullmatch(r"resto: the upload was refused with 413: .+\n", result.stderr)
        assert list(tmp_path.iterdir()) == []

    def test_a_page_that_is_not_there_is_one_line(self, tmp_path: Path) -> None:
        """A connection that breaks is an error of ours, not a traceback."""
        with pytest.raises(RestoError, match="the upload broke"):
            demo_once.post("http://127.0.0.1:1/", [])

    def test_a_server_that_is_not_there_is_unreadable(self) -> None:
        """A copy that cannot be read is not equal."""
        sample = demo_once.Sample(filename="a", path="/a", content_type="text/plain", size=0, sha256="")
        with demo_once.urllib3.PoolManager(retries=False) as pool:
            assert demo_once.read_back(pool, "http://127.0.0.1:1/a", sample) == "unreadable"


class TestRunning:
    """The demo while a person looks at it."""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_all_of_it(self, number: signal.Signals, tmp_path: Path, first_port: int) -> None:
        """The addresses answer until the signal; then no process, no file and no port is left, and the status is 0."""
        with running(tmp_path, "--port", str(first_port)) as process:
            assert process.stdout is not None
            urls = [re.findall(r"http://\S+", process.stdout.readline())[0] for _ in range(4)]
            assert all(map(listens, urls))
            assert len(processes_of(tmp_path)) == 3
            process.send_signal(number)
            out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
        assert "has ended" in out
        assert processes_of(tmp_path) == []
        assert list(tmp_path.iterdir()) == []
        assert not any(map(listens, urls))

    def test_a_signal_while_starting_leaves_nothing(self, tmp_path: Path, first_port: int) -> None:
        """A signal that comes between two starts is not lost."""
        with running(tmp_path, "--port", str(first_port)) as process:
            until(lambda: processes_of(tmp_path))
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
        assert processes_of(tmp_path) == []
        assert list(tmp_path.iterdir()) == []

    def test_taken_ports_are_stepped_over(self, tmp_path: Path) -> None:
        """With the first port taken and one between, the demo takes the next ones and works."""
        with contextlib.ExitStack() as stack:
            taken = stack.enter_context(socket.create_server((LOOPBACK, 0)))
            port = taken.getsockname()[1]
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server((LOOPBACK, port + 2)))
            with running(tmp_path, "--port", str(port)) as process:
                assert process.stdout is not None
                urls = [re.findall(r"http://\S+", process.stdout.readline())[0] for _ in range(4)]
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=30)
        ports = [urlsplit(url).port for url in urls]
        assert ports == sorted(set(ports))
        assert not {port, port + 2} & set(ports)


class TestPorts:
    """Free ports in rising order."""

    def test_a_port_lost_at_the_start_is_stepped_over(self, first_port: int) -> None:
        """A start that finds its port taken is repeated with the next one."""
        asked: list[int] = []

        def start(port: int) -> int:
            asked.append(port)
            if len(asked) == 1:
                raise demo_servers.port_taken(port)
            return port

        assert Ports(first_port).take(start) == asked[1] > asked[0]

    def test_other_failures_are_not_hidden(self, first_port: int) -> None:
        """Only a taken port is stepped over."""

        def start(port: int) -> int:
            raise PermissionError("no")

        with pytest.raises(PermissionError):
            Ports(first_port).take(start)

    def test_no_port_left_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error names the range and the option."""
        monkeypatch.setattr(demo_servers, "is_free", lambda port: False)
        with pytest.raises(RestoError, match=r"no free port from 8000 to 8199 .* --port"):
            Ports(8000).take(lambda port: port)


class TestOwnServer:
    """A media server of our own as a process."""

    def test_a_server_that_ends_at_once_is_quoted(
        self, tmp_path: Path, first_port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What it printed last is in the error."""
        program = tmp_path / "program"
        program.write_text("#!/bin/sh\necho no disk\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        with pytest.raises(RestoError, match="ended while starting: no disk"):
            OwnServer(str(tmp_path), first_port)

    def test_a_server_that_hangs_is_killed(
        self, tmp_path: Path, first_port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that neither listens nor heeds SIGTERM ends all the same, after the limit."""
        program = tmp_path / "program"
        program.write_text("#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 0.1; done\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        monkeypatch.setattr(demo_servers, "_START_WITHIN", 0.5)
        monkeypatch.setattr(demo_servers, "_STOP_WITHIN", 0.2)
        with pytest.raises(RestoError, match=r"did not start within .*: it printed nothing"):
            OwnServer(str(tmp_path), first_port)
        assert processes_of(program) == []

    def test_a_port_lost_meanwhile_is_told_apart(self, tmp_path: Path) -> None:
        """A server that ends because its port is taken asks for another port."""
        with socket.create_server((LOOPBACK, 0)) as taken, pytest.raises(OSError, match="is taken"):
            OwnServer(str(tmp_path), taken.getsockname()[1])


class TestCommand:
    """What the command says when it cannot work."""

    def test_a_missing_extra_is_one_line(self) -> None:
        """Without click the command names what to install, and exits with 1."""
        code = "import sys; sys.modules['click'] = None; from resto_wsgi.cli import main; main()"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == "resto needs pip install 'resto_wsgi[cli]'\n"

    def test_another_missing_module_is_a_defect(self) -> None:
        """A module that is missing for another reason keeps its traceback."""
        code = "import sys; sys.modules['urllib3'] = None; from resto_wsgi.cli import main; main()"
        result = subprocess.run([sys.executable, "-c", code, "demo"], capture_output=True, text=True, check=False)
        assert result.returncode == 1
        assert "urllib3" in result.stderr
        assert "Traceback" in result.stderr

    def test_a_missing_stock_server_is_one_line(self, first_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that is not installed is named, before anything is uploaded."""
        monkeypatch.setattr(demo, "missing", lambda kind: f"the package {kind}")
        result = CliRunner().invoke(resto, ["demo", "--once", "--servers", "nginx", "--port", str(first_port)])
        assert result.exit_code == 1
        assert result.stderr.startswith("resto: --servers nginx needs the package nginx")
        assert result.stderr.count("\n") == 1


def ask(app: DemoApp, path: str, method: str = "GET", **environ: Any) -> tuple[str, dict[str, str], str]:
    """Ask the application as a WSGI server does; return status, headers and text."""
    environ = {"PATH_INFO": path, "REQUEST_METHOD": method, "wsgi.input": BytesIO(), **environ}
    setup_testing_defaults(environ)
    got: dict[str, Any] = {}

    def start_response(status: str, headers: list[tuple[str, str]], *_: object) -> Any:
        got.update(status=status, headers=dict(headers))

    body = b"".join(app(environ, start_response))  # type: ignore[arg-type]
    return got["status"], got["headers"], body.decode("utf-8", "replace")


@pytest.fixture
def app() -> DemoApp:
    """The demo's application with two media servers that nobody asks."""
    servers = [Host(f"Server {n}", f"http://127.0.0.1:{n}") for n in (81, 82)]
    return DemoApp(servers, max_file_size=5 * 1024 * 1024)


EVIL = SimpleNamespace(
    field="files",
    filename='<script>alert("x")</script>',
    name='a/"><b>.jpg',
    url="/media/x",
    size=2048,
    content_type='image/"><i>',
    sha256="0" * 64,
)


class TestApp:
    """The plain WSGI application by itself."""

    def test_the_page_names_servers_and_limit_and_nothing_outside(self, app: DemoApp) -> None:
        """The page needs no network but its own servers, and says so in its policy."""
        status, headers, text = ask(app, "/")
        assert status == "200 OK"
        assert "two media servers" in text
        assert "5.0 MiB" in text
        assert "{{" not in text.replace("{{cards}}", "")
        assert "{{cards}}" not in text
        assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", text)
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith(
            "default-src 'self'; img-src 'self' blob: http://127.0.0.1:81 http://127.0.0.1:82;"
        )

    @pytest.mark.parametrize("name", ["demo.css", "demo.js", "icon.svg", "lake.jpg", "leaflet.pdf"])
    def test_static_files_need_no_network(self, app: DemoApp, name: str) -> None:
        """Each file of the page is served, and none names another host."""
        status, headers, text = ask(app, f"/static/{name}")
        assert status == "200 OK"
        assert headers["Content-Type"] != "application/octet-stream"
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)\w", text)

    @pytest.mark.parametrize("path", ["/static/index.html", "/static/../demo.py", "/nothing", "/static/"])
    def test_anything_else_is_not_found(self, app: DemoApp, path: str) -> None:
        """Only files on the list are served."""
        assert ask(app, path)[0] == "404 Not Found"

    def test_the_wrong_method_is_told_the_right_one(self, app: DemoApp) -> None:
        """A 405 carries Allow."""
        assert ask(app, "/upload")[:2][0] == "405 Method Not Allowed"
        assert ask(app, "/", "POST")[1]["Allow"] == "GET, HEAD"

    def test_head_has_no_body(self, app: DemoApp) -> None:
        """HEAD answers as GET does, without the body."""
        _, headers, text = ask(app, "/", "HEAD")
        assert text == ""
        assert int(headers["Content-Length"]) > 1000

    def test_a_form_without_script_gets_a_page(self, app: DemoApp) -> None:
        """What the client chose is shown, escaped."""
        status, _, text = ask(app, "/upload", "POST", **{"resto.uploads": [EVIL]})
        assert status == "200 OK"
        assert EVIL.filename not in text
        assert EVIL.filename in unescape(text)
        assert "<b>" not in text
        assert "<i>" not in text
        assert 'href="http://127.0.0.1:82/a/%22%3E%3Cb%3E.jpg"' in text
        assert "0" * 64 in text

    def test_no_file_is_refused_in_the_form_that_was_asked_for(self, app: DemoApp) -> None:
        """An empty form is a 400, as text and as JSON."""
        assert ask(app, "/upload", "POST", **{"resto.uploads": []})[2].startswith("No file was chosen")
        answer = ask(app, "/upload", "POST", HTTP_ACCEPT="application/json", **{"resto.uploads": []})
        assert answer[0] == "400 Bad Request"
        assert '"no_file"' in answer[2]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (64 * 1024**2, "64.0 MiB"), (300 * 1024**2, "300 MiB")],
)
def test_sizes_are_shown_for_a_person(size: int, text: str) -> None:
    """Binary units, one decimal below a hundred."""
    assert human_size(size) == text
