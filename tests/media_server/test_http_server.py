"""The HTTP server: bad requests, slow clients, TLS, and what nobody may hold or send too much of."""

from __future__ import annotations

import contextlib
import errno
import gc
import http.client
import os
import re
import resource
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_requests import ask_over_tls, ask_server, files, say
from servers import LOCAL, LOOPBACK, Node, eventually

from resto_wsgi.errors import ConfigError
from resto_wsgi.media_server import MediaServer, http_server, make_server
from resto_wsgi.media_server.http_server import Tls


@pytest.fixture
def impatient(root: Path) -> Iterator[Node]:
    """Two threads, and half a second for the head of a request."""
    with Node(root, server={"threads": 2, "timeout": 0.5}) as started:
        yield started


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
    assert ask_server(node, "PUT", "/after", b"y")[0] == 201


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


def test_a_name_with_an_underscore_is_not_that_with_a_hyphen(node: Node) -> None:
    """A proxy may have let ``Resto_Generation`` pass where it removes ``Resto-Generation``."""
    assert ask_server(node, "PUT", "/x", b"x", Resto_Generation="nonsense")[0] == 201
    assert ask_server(node, "PUT", "/x", b"x", **{"Resto-Generation": "nonsense"})[0] == 400


# Slow clients


def test_silent_connections_hold_no_thread(impatient: Node) -> None:
    """Ten of them, with two threads; and they are closed when their time is up."""
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection((LOOPBACK, impatient.port), 5)) for _ in range(10)]
        began = time.monotonic()
        assert ask_server(impatient, "GET", "/x")[0] == 404
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
        return ask_server(node, "GET", "/x")[0] == 404
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
                assert ask_server(impatient, "GET", "/x")[0] == 404
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
        assert ask_server(impatient, "GET", "/y")[0] == 404
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


# Addresses


def test_it_serves_ipv6(root: Path) -> None:
    """Where this machine has it."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        server = make_server(MediaServer(root, access=LOCAL), "::1", 0)
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


# What there is too much of


def test_endless_headers_are_refused(media_servers: Any) -> None:
    """They would be kept in memory."""
    node = media_servers("node")[0]
    with socket.create_connection(("127.0.0.1", node.port), 10) as client:
        client.sendall(b"GET /a HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * (80 << 10) + b"\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 413"


def test_a_missing_cheroot_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch, app: MediaServer) -> None:
    """The extra that has it is named."""
    monkeypatch.setitem(sys.modules, "resto_wsgi.media_server.http_server", None)
    with pytest.raises(ConfigError, match=r"pip install 'resto_wsgi\[server\]'"):
        make_server(app, LOOPBACK, 0)


@pytest.mark.parametrize(
    ("limit", "room"), [(1024, 440), (256, 56), (64, 1), (resource.RLIM_INFINITY, 500), (1 << 20, 500)]
)
def test_connections_leave_descriptors_for_files(
    app: MediaServer, monkeypatch: pytest.MonkeyPatch, limit: int, room: int
) -> None:
    """Idle ones, those that wait and those with a thread are together fewer than the process may have."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    server = make_server(app, LOOPBACK, 0)
    assert (server.keep_alive_conn_limit, server.requests._queue.maxsize) == (room, room)


def test_without_descriptors_accepting_pauses(node: Node, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """One line, no processor that spins, and it goes on when there are some again."""
    tries = []

    class Exhausted:
        def accept(self) -> Any:
            tries.append(time.monotonic())
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    listening = node._server.socket
    with monkeypatch.context() as patched:
        patched.setattr(listening, "_listening", Exhausted())
        with socket.create_connection((LOOPBACK, node.port), 5):
            eventually(lambda: len(tries) > 4)
    assert tries[4] - tries[0] > 3 * http_server.PAUSE_SECONDS
    assert ask_server(node, "GET", "/x")[0] == 404
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "accepting pauses: Too many open files" in said


# TLS


def test_a_silent_client_holds_up_no_handshake(tls_node: Node, pki: Path) -> None:
    """Connections that say nothing, that speak no TLS, and that stop in the middle; then one that does."""
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection((LOOPBACK, tls_node.port), 5)) for _ in range(6)]
        silent[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
        silent[1].sendall(b"\x16\x03\x01\x02\x00\x01")
        began = time.monotonic()
        assert ask_over_tls(tls_node, pki, "GET") == 404
        assert time.monotonic() - began < 1.5


def test_a_client_that_breaks_off_leaves_no_traceback(
    pki: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody has to do anything about it, over TLS no more than without; one thread, so it is done with the first."""
    tls = Tls(str(pki / "server.pem"), str(pki / "server.key"))
    context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
    with Node(root, server={"tls": tls, "threads": 1}) as node:
        for _ in range(2):
            with socket.create_connection((LOOPBACK, node.port), 5) as connection:
                client = context.wrap_socket(connection, server_hostname=LOOPBACK)
                client.sendall(b"PUT /x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nhalf")
                client.close()
        assert ask_over_tls(node, pki, "GET") == 404
    assert capsys.readouterr().err == ""


def test_a_handshake_that_drips_is_given_up(pki: Path, root: Path) -> None:
    """A byte now and then does not count: half a second is for all of it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="media-01")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    tls = Tls(str(pki / "server.pem"), str(pki / "server.key"))
    with (
        Node(root, server={"tls": tls, "timeout": 0.5, "threads": 1}) as node,
        socket.create_connection((LOOPBACK, node.port), 5) as connection,
    ):
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in outgoing.read():
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        assert time.monotonic() - began < 3


def test_certificates_that_cannot_be_used_are_an_error(pki: Path, tmp_path: Path) -> None:
    """At start, in a line that names the option."""
    server, key, missing = str(pki / "server.pem"), str(pki / "server.key"), str(tmp_path / "missing")
    for tls, option in [
        (Tls(missing, key), "tls-cert"),
        (Tls(server, str(pki / "client.key")), "tls-cert"),
        (Tls(server, key, missing), "client-ca"),
        (Tls(server, key, key), "client-ca"),
    ]:
        with pytest.raises(ConfigError, match=f"^{option}: cannot be used: "):
            make_server(None, LOOPBACK, 0, tls=tls)


def test_a_million_ranges_over_the_wire(node: Node, root: Path) -> None:
    """The head is too large; with as many as fit, the whole file comes once."""
    (root / "x").write_bytes(bytes(100_000))
    reply = say(node, b"GET /x HTTP/1.1\r\nHost: localhost\r\nRange: bytes=" + b"0-0," * 1_000_000 + b"0-0\r\n\r\n")
    assert reply == b"" or re.match(rb"HTTP/1.1 413 ", reply)
    assert ask_server(node, "GET", "/x", Range="bytes=" + "0-0," * 15_000 + "0-0") == (200, bytes(100_000))
    assert ask_server(node, "GET", "/x", Range="bytes=5-5") == (206, b"\0")
