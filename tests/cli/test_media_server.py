"""The command `resto media-server`: its options and the environment, and how it starts and ends."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_requests import ask_server
from servers import LOOPBACK, Node, eventually
from signing import KEY, signed

from resto_wsgi.cli.commands import media_server
from resto_wsgi.media_server import http_server
from resto_wsgi.trust.signatures import Key


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def test_the_command_serves_until_it_is_told_to_end(root: Path) -> None:
    """It prints its address, answers there, and ends with 0 on SIGTERM."""
    command = [sys.executable, "-m", "resto_wsgi", "media-server", "--root", root, "--listen", "127.0.0.1:0"]
    command += ["--allow", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stderr
            address = re.match(r"media server http://127\.0\.0\.1:(\d+)/ of ", process.stdout.readline())
            assert address
            connection = http.client.HTTPConnection(LOOPBACK, int(address[1]), timeout=5)
            with contextlib.closing(connection):
                connection.request("PUT", "/x", b"x")
                assert connection.getresponse().status == 201
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("listen", "more", "status", "line"),
    [
        ("127.0.0.1:{taken}", [], 2, "^resto: listen: .*in use"),
        ("127.0.0.1:0", ["--allow", "everybody"], 2, "^resto: allow: "),
        ("8000", [], 2, "wanted HOST:PORT, found '8000'"),
        ("127.0.0.1:99999", [], 2, "wanted HOST:PORT"),
    ],
)
def test_the_command_says_in_a_line_why_it_does_not_start(
    root: Path, media_servers: Any, listen: str, more: list[str], status: int, line: str
) -> None:
    """A taken port, a network that is none and an address that is none are no tracebacks."""
    command = [sys.executable, "-m", "resto_wsgi", "media-server", "--root", root, *more]
    command += ["--listen", listen.format(taken=media_servers("node")[0].port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == status
    assert re.search(line, done.stderr)
    assert "Traceback" not in done.stderr


@contextlib.contextmanager
def command(root: Path, *options: str, **environ: str) -> Iterator[tuple[Node, subprocess.Popen[str]]]:
    """Run ``resto media-server``, and end it with SIGTERM."""
    arguments = [sys.executable, "-m", "resto_wsgi", "media-server", "--root", str(root), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        [*arguments, *options],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout and process.stderr
            line = process.stdout.readline()
            address = re.match(r"media server https?://127\.0\.0\.1:(\d+)/ of ", line)
            assert address, line + process.stderr.read()
            yield Node(root, port=int(address[1])), process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0


HASTY = """
from resto_wsgi.cli import main, media_server
media_server.LOOKS_EVERY = 1e-6
main()
"""


def test_the_command_ends_whenever_it_is_told_to(root: Path) -> None:
    """The signal may come while it begins or ends to wait, as here it does nearly all the time."""
    arguments = [sys.executable, "-c", HASTY, "media-server", "--root", str(root), "--listen", "127.0.0.1:0"]
    for _ in range(4):
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout
            address = re.match(r"media server http://127\.0\.0\.1:(\d+)/ of ", process.stdout.readline())
            assert address
            ask_server(Node(root, port=int(address[1])), "GET", "/x")  # whoever is answered meets one that waits
            process.send_signal(signal.SIGTERM)
            try:
                assert process.wait(20) == 0
            finally:
                process.kill()


def private(path: Path, text: str) -> Path:
    """Write a file that nobody else may read, in the place of the one that is there."""
    new = path.with_name(f"{path.name}.new")
    new.touch(0o600)
    new.write_text(text)
    return new.replace(path)


def readable(stream: Any, lines: list[str]) -> str:
    """Return all that a process has written so far, without waiting for more."""
    os.set_blocking(stream.fileno(), False)
    with contextlib.suppress(BlockingIOError):
        lines.append(os.read(stream.fileno(), 1 << 16).decode())
    return "".join(lines)


def test_keys_change_while_the_command_runs(root: Path, tmp_path: Path) -> None:
    """A new one admits, one that is gone does not, and a broken file is told once and leaves those that there were."""
    new = Key("app-2", b"another-horse-battery-staple-9876")
    old_line, new_line = (f"{each.id}:{each.secret.decode()}\n" for each in (KEY, new))
    keys = private(tmp_path / "keys", old_line)
    nonces = iter(range(10_000))

    def put(key: Key) -> int:
        headers = signed("PUT", f"{node.url}/x", b"x", key=key, nonce=str(next(nonces)))
        return ask_server(node, "PUT", "/x", b"x", **headers)[0]

    with command(root, "--secret-file", str(keys)) as (node, process):
        assert (put(KEY), put(new)) == (201, 401)
        private(keys, old_line + new_line)
        eventually(lambda: put(new) == 204)
        assert put(KEY) == 204
        private(keys, new_line)
        eventually(lambda: put(KEY) == 401)
        private(keys, f"{old_line}hunter2")
        assert process.stderr is not None
        lines: list[str] = []
        eventually(lambda: put(new) == 204 and "stays in force" in readable(process.stderr, lines))
        assert (put(new), put(KEY)) == (204, 401)
        assert "".join(lines).count("stays in force") == 1 and "hunter2" not in "".join(lines)


@pytest.mark.parametrize("option", ["--secret-file", "--tls-key"])
def test_the_command_takes_no_secret_that_others_may_read(root: Path, tmp_path: Path, option: str) -> None:
    """It ends with a line that says what to do; a group may read it."""
    make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=x -keyout key -out cert"
    subprocess.run(["openssl", *make.split()], cwd=tmp_path, check=True, capture_output=True)
    keys = private(tmp_path / "keys", f"{KEY.id}:{KEY.secret.decode()}")
    options = ["--secret-file", str(keys), "--tls-cert", str(tmp_path / "cert"), "--tls-key", str(tmp_path / "key")]
    path = Path(options[options.index(option) + 1])
    path.chmod(0o644)
    arguments = [sys.executable, "-m", "resto_wsgi", "media-server", "--root", str(root), "--listen", "127.0.0.1:0"]
    done = subprocess.run([*arguments, *options], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"resto: {option[2:]}: others may read or change '{path}'; chmod 600 it\n"
    path.chmod(0o640)
    with command(root, *options):
        pass


@pytest.mark.parametrize("where", ["option", "variable", "file variable"])
def test_the_command_takes_secrets_from_a_file_or_the_environment(root: Path, tmp_path: Path, where: str) -> None:
    """And shows them to nobody; its own machine may then not write without."""
    text = f"# keys\nother:{'x' * 40}\n{KEY.id}:{KEY.secret.decode()}\n"
    private(tmp_path / "keys", text)
    options = ["--secret-file", str(tmp_path / "keys")] if where == "option" else []
    environ = {"variable": {"RESTO_SECRET": text}, "file variable": {"RESTO_SECRET_FILE": str(tmp_path / "keys")}}
    with command(root, *options, **environ.get(where, {})) as (node, process):
        assert ask_server(node, "PUT", "/x", b"x")[0] == 401
        assert ask_server(node, "PUT", "/x", b"x", **signed("PUT", f"{node.url}/x", b"x"))[0] == 201
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"horse" not in arguments
        process.send_signal(signal.SIGTERM)
        shown = "".join(process.communicate(timeout=10))
        assert "horse" not in shown


def test_the_command_takes_the_other_options(root: Path) -> None:
    """Networks, threads, a timeout, and HTML that is shown."""
    root.mkdir()
    (root / "x.html").write_text("<p>")
    with command(root, "--allow", "192.0.2.0/24", "--inline", "--threads", "1", "--timeout", "0.3") as (node, _):
        assert ask_server(node, "PUT", "/x", b"x")[0] == 403
        connection = http.client.HTTPConnection(LOOPBACK, node.port, timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", "/x.html")
            reply = connection.getresponse()
            assert (reply.status, reply.read()) == (200, b"<p>")
            assert reply.headers["Content-Disposition"] is None
        with socket.create_connection((LOOPBACK, node.port), 5) as client:
            client.sendall(b"GET")
            assert re.match(rb"HTTP/1.1 408", client.recv(100) or b"HTTP/1.1 408")


@pytest.mark.parametrize(
    ("options", "environ", "line"),
    [
        (["--allow", "0.0.0.0/0"], {}, "resto: allow: those networks are everybody's"),
        (["--secret-file", "/nonexistent"], {}, "resto: secret-file: '/nonexistent' cannot be read: No such file"),
        ([], {"RESTO_SECRET": "a:hunter2"}, "resto: RESTO_SECRET: the secret of its key number 1 is shorter"),
        ([], {"RESTO_SECRET": ""}, "resto: RESTO_SECRET: holds no key"),
        (["--client-ca", "/ca"], {}, "resto: client-ca: needs --tls-cert"),
        (["--tls-cert", "/cert"], {}, "resto: tls-cert: and --tls-key need each other"),
        (["--tls-cert", "/cert", "--tls-key", "/key"], {}, "resto: tls-cert: cannot be used: No such file"),
        (["--root", "/dev/null/x"], {}, "resto: root: cannot be used: Not a directory"),
        (["--listen", "192.0.2.1:1"], {}, "resto: listen: cannot"),
    ],
)
def test_the_command_says_in_a_line_what_is_wrong(
    root: Path, options: list[str], environ: dict[str, str], line: str
) -> None:
    """And exits with 1, before it listens; a secret is not in that line."""
    done = subprocess.run(
        [sys.executable, "-m", "resto_wsgi", "media-server", "--root", root, "--listen", "127.0.0.1:0", *options],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(line) and done.stderr.count("\n") == 1, done.stderr
    assert "hunter2" not in done.stderr


def test_the_command_has_the_servers_defaults() -> None:
    """The server itself is not imported for the help."""
    defaults = {each.name: each.default for each in media_server.params}
    assert (defaults["threads"], defaults["timeout"]) == (http_server.THREADS, http_server.TIMEOUT)
