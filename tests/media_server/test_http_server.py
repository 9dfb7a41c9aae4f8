"""The media server on real HTTP servers: bad requests, slow clients, the command, and what litmus says."""

from __future__ import annotations

import base64
import contextlib
import gc
import hashlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_requests import files
from servers import LOOPBACK, Node, eventually
from signing import KEY, signed
from wsgi_servers import running

from resto_wsgi.cli.commands import media_server
from resto_wsgi.media_server import MediaServer, http_server, make_server
from resto_wsgi.trust.signatures import Key


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def node(root: Path) -> Iterator[Node]:
    with Node(root) as started:
        yield started


@pytest.fixture
def impatient(root: Path) -> Iterator[Node]:
    """Two threads, and half a second for the head of a request."""
    with Node(root, server={"threads": 2, "timeout": 0.5}) as started:
        yield started


def say(node: Any, data: bytes) -> bytes:
    """Send octets on a connection of their own, and return all that comes back."""
    with socket.create_connection((LOOPBACK, node.port), timeout=5) as client, contextlib.suppress(ConnectionError):
        client.sendall(data)
        with contextlib.suppress(OSError):  # it was closed already, which is no ConnectionError here
            client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as reader:
            return reader.read()
    return b""


def ask(node: Any, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, node.port, timeout=5)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        return reply.status, reply.read()


# Bad requests

SECOND = b"PUT /smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: 3\r\nContent-Length: 5", b"abc"),
        (b"Content-Length: 5\r\nContent-Length: 3", b"abc"),
        (b"Content-Length: 5\r\n 3", b"abc"),
        (b"Content-Length: 3, 3", b"abc"),
        (b"Content-Length: 0x3", b"abc"),
        (b"Content-Length: 3\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
        (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked, identity", b"0\r\n\r\n"),
        (b"X: y", b""),
    ],
)
def test_a_length_that_is_in_doubt_ends_the_connection(node: Node, root: Path, head: bytes, body: bytes) -> None:
    """Nothing is written, and what follows is not taken for a request, whatever a proxy took it for."""
    reply = say(node, b"PUT /x HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n" + body + SECOND)
    assert re.match(rb"HTTP/1.1 (400|411|501) ", reply), reply
    chunked = b"Transfer-Encoding" in head
    assert not (root / "smuggled").exists() or (not chunked and b"Content-Length" not in head)
    assert not (root / "x").exists()
    assert ask(node, "PUT", "/after", b"y")[0] == 201


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 1_000_000_000",
        b"Content-Length: +1000000000",
        b"Content-Length: 0000000000001000000000",
        b"Content-Length: 1000\r\nTransfer-Encoding: chunked",
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"PUT"])
def test_a_body_whose_end_is_in_doubt_is_not_waited_for(node: Node, method: bytes, head: bytes) -> None:
    """Answered at once: cheroot, which takes these for lengths, would read a gigabyte into memory first."""
    with socket.create_connection((LOOPBACK, node.port), timeout=5) as client:
        client.sendall(method + b" /x HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n40000000\r\nthe beginning")
        assert re.match(rb"HTTP/1.1 40[04] ", client.recv(1000))


def test_a_refused_body_is_not_taken_for_a_request(node: Node, root: Path) -> None:
    """It is read to its end, on a connection that goes on."""
    reply = say(
        node, b"PUT /.x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(SECOND) + SECOND + SECOND
    )
    assert re.findall(rb"HTTP/1.1 (\d+)", reply) == [b"400", b"201"]


@pytest.mark.parametrize(
    "target",
    ["/%252e%252e/x", "/%c0%ae%c0%ae/x", "/%e0%80%ae%e0%80%ae/x", "//etc/passwd", "/x%00.jpg", "/%2Fetc%2Fpasswd", "*"],
)
def test_a_path_in_disguise_stays_in_the_root(node: Node, tmp_path: Path, target: str) -> None:
    """Encoded twice, overlong, absolute, with NUL: refused, or a name in the root that looks odd."""
    (tmp_path / "x").write_bytes(b"outside")
    for method, content in [("GET", b""), ("PUT", b"new"), ("DELETE", b"")]:
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        reply = say(node, head.encode() + content)
        assert re.match(rb"HTTP/1.1 (400|404|409) |HTTP/1.1 20[14] ", reply), reply
        assert b"outside" not in reply and b"root:" not in reply
    assert (tmp_path / "x").read_bytes() == b"outside"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["root", "x"]


def test_a_million_ranges_over_the_wire(node: Node, root: Path) -> None:
    """The head is too large; with as many as fit, the whole file comes once."""
    (root / "x").write_bytes(bytes(100_000))
    reply = say(node, b"GET /x HTTP/1.1\r\nHost: localhost\r\nRange: bytes=" + b"0-0," * 1_000_000 + b"0-0\r\n\r\n")
    assert reply == b"" or re.match(rb"HTTP/1.1 413 ", reply)
    assert ask(node, "GET", "/x", Range="bytes=" + "0-0," * 15_000 + "0-0") == (200, bytes(100_000))
    assert ask(node, "GET", "/x", Range="bytes=5-5") == (206, b"\0")


def test_a_name_with_an_underscore_is_not_that_with_a_hyphen(node: Node) -> None:
    """A proxy may have let ``Resto_Generation`` pass where it removes ``Resto-Generation``."""
    assert ask(node, "PUT", "/x", b"x", Resto_Generation="nonsense")[0] == 201
    assert ask(node, "PUT", "/x", b"x", **{"Resto-Generation": "nonsense"})[0] == 400


# Slow clients


def test_silent_connections_hold_no_thread(impatient: Node) -> None:
    """Ten of them, with two threads; and they are closed when their time is up."""
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection((LOOPBACK, impatient.port), 5)) for _ in range(10)]
        began = time.monotonic()
        assert ask(impatient, "GET", "/x")[0] == 404
        assert time.monotonic() - began < 0.4
        for each in silent:
            assert each.recv(1) == b""


def test_more_silent_connections_than_there_is_room_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older ones make room for one that has something to say."""
    monkeypatch.setattr(http_server.Server, "keep_alive_conn_limit", 5)
    monkeypatch.setattr(http_server, "IDLE_SECONDS", 0.1)
    with Node(root, server={"threads": 2, "timeout": 60}) as node, contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(socket.create_connection((LOOPBACK, node.port), 5))
        eventually(lambda: answers(node))


def answers(node: Node) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return ask(node, "GET", "/x")[0] == 404
    return False


def test_a_head_that_drips_is_given_up(impatient: Node) -> None:
    """A byte now and then does not count: half a second is for all of it."""
    with socket.create_connection((LOOPBACK, impatient.port), 5) as client:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in b"GET /x HTTP/1.1\r\nHost: " + b"x" * 1000:
                client.sendall(bytes([byte]))
                time.sleep(0.02)
                if time.monotonic() - began > 3:
                    break
        assert time.monotonic() - began < 2
        with contextlib.suppress(ConnectionError):
            assert client.recv(100)[:12] in (b"", b"HTTP/1.1 408")


@pytest.mark.parametrize("head", [b"PUT /x HTTP/1.1\r\nHost: x", b"PUT /.x HTTP/1.1\r\nHost: x"])
def test_a_body_that_drips_is_given_up(impatient: Node, root: Path, head: bytes) -> None:
    """One that is wanted and one that is refused; nothing is left of it, and the others are served meanwhile."""
    with socket.create_connection((LOOPBACK, impatient.port), 5) as client:
        client.sendall(head + b"\r\nContent-Length: 100000\r\n\r\n")
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < 3:
                client.sendall(b"x")
                assert ask(impatient, "GET", "/x")[0] == 404
                time.sleep(0.02)
        assert time.monotonic() - began < 2.5
    eventually(lambda: files(root) == {})


def test_a_reader_that_reads_nothing_is_given_up(impatient: Node, root: Path) -> None:
    """Two of them do not hold both threads for long."""
    (root / "x").write_bytes(bytes(20_000_000))
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            client = stack.enter_context(socket.create_connection((LOOPBACK, impatient.port), 5))
            client.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
        began = time.monotonic()
        assert ask(impatient, "GET", "/y")[0] == 404
        assert time.monotonic() - began < 3


def test_what_a_reader_did_not_take_is_not_complained_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.13 says on stderr what goes wrong where a file is collected."""
    complaints: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.01)
        writer = http_server._make_file(ours, "wb", 8192)
        with pytest.raises(TimeoutError):
            writer.write(bytes(1 << 22))
    del writer
    gc.collect()
    assert complaints == []


def test_a_slow_reader_gets_all_of_it(impatient: Node, root: Path) -> None:
    """Longer than the timeout in all, but faster than the rate that is wanted."""
    content = os.urandom(8_000_000)
    (root / "x").write_bytes(content)
    connection = http.client.HTTPConnection(LOOPBACK, impatient.port, timeout=5)
    with contextlib.closing(connection):
        connection.connect()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.request("GET", "/x")
        reply = connection.getresponse()
        got = b""
        while block := reply.read(500_000):
            got += block
            time.sleep(0.1)
        assert got == content


# Other WSGI servers


@pytest.mark.parametrize("kind", ["gunicorn-gthread", "waitress"])
def test_it_runs_on_other_wsgi_servers(kind: str, root: Path, tmp_path: Path) -> None:
    """Written, read whole and in ranges, listed and deleted; a body in chunks and a short one are refused."""
    environ = {"NODE_ROOT": str(root), "PYTHONPATH": os.pathsep.join(["tests", os.environ.get("PYTHONPATH", "")])}
    content = os.urandom(1_000_000)
    with running(kind, "node_app:application", tmp_path / "log", environ) as server:
        node = Node(root, port=server.address[1])
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"
        assert ask(node, "PUT", "/a/x", content, **{"Repr-Digest": digest, "Resto-Generation": "2"})[0] == 201
        assert ask(node, "GET", "/a/x") == (200, content)
        assert ask(node, "GET", "/a/x", Range="bytes=999990-") == (206, content[-10:])
        assert content[5:9] in ask(node, "GET", "/a/x", Range="bytes=5-8,1-2")[1]
        assert b'"x"' in ask(node, "GET", "/a/")[1]
        assert ask(node, "PUT", "/a/x", b"y", **{"Repr-Digest": digest})[0] == 400
        assert ask(node, "PUT", "/a/x", b"y", **{"Resto-Generation": "1"})[0] == 412
        assert ask(node, "PUT", "/.y", bytes(6_000_000))[0] == 400
        reply = say(node, b"PUT /y HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nshort")
        assert reply == b"" or reply.startswith(b"HTTP/1.1 400")
        assert not (root / "y").exists()
        assert ask(node, "GET", "/a/x") == (200, content)
        assert ask(node, "DELETE", "/a/x", **{"Resto-Generation": "3"})[0] == 204
    assert not list(root.glob("a/*"))


# litmus


@pytest.mark.parametrize(
    ("suite", "not_ours"),
    [("basic", {"options", "delete_fragment", "delete_coll"}), ("http", set())],
)
def test_litmus_is_content(suite: str, not_ours: set[str], root: Path, tmp_path: Path) -> None:
    """But for what we do not do: claim to be a WebDAV server, and delete folders."""
    if not shutil.which("litmus"):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("litmus is not installed: apt install litmus")
    with Node(root) as node:
        environ = {**os.environ, "TESTS": suite}
        done = subprocess.run(
            ["litmus", "-k", f"{node.url}/"], cwd=tmp_path, env=environ, capture_output=True, text=True
        )
    results = dict(re.findall(r"^ *\d+\. (\w+)\.+ (pass|FAIL|SKIPPED|WARNING)", done.stdout, re.MULTILINE))
    assert {name for name, result in results.items() if result != "pass"} == not_ours, done.stdout
    assert {"init", "begin", "finish"} <= set(results)
    assert suite != "basic" or {"put_get", "put_get_utf8_segment", "delete", "delete_null", "mkcol"} <= set(results)


# The command


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


def private(path: Path, text: str) -> Path:
    """Write a file that nobody else may read, in the place of the one that is there."""
    new = path.with_name(f"{path.name}.new")
    new.touch(0o600)
    new.write_text(text)
    return new.replace(path)


def test_keys_change_while_the_command_runs(root: Path, tmp_path: Path) -> None:
    """A new one admits, one that is gone does not, and a broken file is told once and leaves those that there were."""
    new = Key("app-2", b"another-horse-battery-staple-9876")
    old_line, new_line = (f"{each.id}:{each.secret.decode()}\n" for each in (KEY, new))
    keys = private(tmp_path / "keys", old_line)
    nonces = iter(range(10_000))

    def put(key: Key) -> int:
        headers = signed("PUT", f"{node.url}/x", b"x", key=key, nonce=str(next(nonces)))
        return ask(node, "PUT", "/x", b"x", **headers)[0]

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


def readable(stream: Any, lines: list[str]) -> str:
    """Return all that a process has written so far, without waiting for more."""
    os.set_blocking(stream.fileno(), False)
    with contextlib.suppress(BlockingIOError):
        lines.append(os.read(stream.fileno(), 1 << 16).decode())
    return "".join(lines)


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
    assert (done.returncode, done.stdout) == (1, "")
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
        assert ask(node, "PUT", "/x", b"x")[0] == 401
        assert ask(node, "PUT", "/x", b"x", **signed("PUT", f"{node.url}/x", b"x"))[0] == 201
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
        assert ask(node, "PUT", "/x", b"x")[0] == 403
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
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(line) and done.stderr.count("\n") == 1, done.stderr
    assert "hunter2" not in done.stderr


def test_the_command_has_the_servers_defaults() -> None:
    """The server itself is not imported for the help."""
    defaults = {each.name: each.default for each in media_server.params}
    assert (defaults["threads"], defaults["timeout"]) == (http_server.THREADS, http_server.TIMEOUT)


def test_it_serves_ipv6(root: Path) -> None:
    """Where this machine has it."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        server = make_server(MediaServer(root), "::1", 0)
        server.prepare()
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            connection = http.client.HTTPConnection("::1", server.bind_addr[1], timeout=5)
            with contextlib.closing(connection):
                connection.request("PUT", "/x", b"x")
                assert connection.getresponse().status == 201
        finally:
            server.stop()
            thread.join()
