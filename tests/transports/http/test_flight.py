"""Requests on their connections, many in one thread: against raw sockets, stock servers, and TLS."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import socket
import ssl
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interruption import interrupted_at
from over_http import BOUND, TIMEOUT, descriptors, host
from servers import FaultyServer, eventually

from resto_wsgi import Replicator
from resto_wsgi.errors import DeliveryError, ReplicationError
from resto_wsgi.hosts import Host
from resto_wsgi.master.media_root import Master
from resto_wsgi.replication import fanout as replication_fanout
from resto_wsgi.replication.fanout import Fanout, Task
from resto_wsgi.transports import driving
from resto_wsgi.transports.http import connecting as http_connecting
from resto_wsgi.transports.http import connection as http_connection
from resto_wsgi.transports.http import flight as http_flight
from resto_wsgi.transports.http import job as http_job
from resto_wsgi.transports.http import progress as http_progress
from resto_wsgi.transports.http.headers import end_of_chunks
from resto_wsgi.transports.http.security import Security
from resto_wsgi.transports.http.transport import HttpTransport

WAIT = 10  # seconds: long after everything here has ended
LARGE = 16 * 1024 * 1024  # bytes: more than all buffers between us and a host hold
CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
STATE = (0, 0, 0, 0)

Script = Callable[[Any, BinaryIO], None]


@pytest.fixture
def patient(transport: HttpTransport) -> HttpTransport:
    """The transport that is not ``hasty``."""
    return transport


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., None]:
    """``put(transport, server, content, name="cat")`` sends a file with that content."""
    lock = threading.Lock()
    count = [0]

    def put(transport: HttpTransport, server: Any, content: bytes = b"content", name: str = "cat") -> None:
        with lock:
            count[0] += 1
            path = tmp_path / f"master-{count[0]}"
        path.write_bytes(content)
        with path.open("rb", buffering=0) as file:
            transport.put(host(server), name, file, len(content), 0)

    return put


@pytest.fixture
def serving(faulty: Any, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FaultyServer]]:
    """``serving(script, ..., tls=True)`` returns a server whose n-th connection is for the n-th script, or the last.

    A script gets the server, the connection, and a reader of it.
    """
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    secured: list[ssl.SSLSocket] = []

    def start(*scripts: Callable[[FaultyServer, Any, BinaryIO], None], tls: bool = False) -> FaultyServer:
        def in_clear(script: Any) -> Script:
            return lambda connection, reader: script(server, connection, reader)

        def under_tls(script: Any) -> Script:
            def run(connection: Any, reader: BinaryIO) -> None:
                with context.wrap_socket(connection, server_side=True) as secure, secure.makefile("rb") as plain:
                    secured.append(secure)
                    script(server, secure, plain)

            return run

        server: FaultyServer = faulty(*((under_tls if tls else in_clear)(script) for script in scripts))
        if tls:
            server.url = server.url.replace("http:", "https:")
        return server

    yield start
    for secure in secured:
        with contextlib.suppress(OSError):
            secure.shutdown(socket.SHUT_RDWR)


def answering(*answers: bytes) -> Any:
    """A script that reads each request and gives the next answer, the last one again and again."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        left = list(answers)
        while server.read_request(reader):
            connection.sendall(left.pop(0) if len(left) > 1 else left[0])

    return script


def in_pieces(answer: bytes, size: int = 1) -> Any:
    """A script that answers each request in pieces of that many bytes, each sent for itself."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while server.read_request(reader):
            for at in range(0, len(answer), size):
                connection.sendall(answer[at : at + size])
                os.sched_yield()

    return script


def keeping(content: dict[str, bytes]) -> Any:
    """A script that keeps what it is given under its path, and answers 201."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        while seen := server.read_request(reader, body=False):
            size = int(seen.headers.get("content-length", "0"))
            body = reader.read(size)
            seen.body = len(body)
            if seen.body == size:
                content[seen.path] = body
                connection.sendall(CREATED)

    return script


def reset(connection: Any) -> None:
    """End a connection with a reset when the script does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# Out


def test_a_small_file_goes_out_in_one_send_with_its_head(
    patient: Any, serving: Any, put: Any, monkeypatch: Any
) -> None:
    """One packet in most cases; a second small one would wait for nothing but cost a wake-up on both sides."""
    sends: list[int] = []
    calls: list[str] = []
    send = socket.socket.send

    def counted(self: socket.socket, data: Any, *flags: int) -> int:
        count = send(self, data, *flags)
        if bytes(data[:4]) == b"PUT " or sends:
            sends.append(count)
        return count

    server = serving(keeping({}))
    monkeypatch.setattr(socket.socket, "send", counted)
    monkeypatch.setattr(os, "sendfile", lambda *arguments: calls.append("sendfile"))
    put(patient, server, bytes(10_000))
    assert len(sends) == 1
    assert sends[0] > 10_000
    assert calls == []


@pytest.mark.parametrize("size", [http_flight.SMALL, http_flight.SMALL + 1, 3_000_001, LARGE])
def test_a_large_file_goes_from_the_disk_to_the_socket_in_the_kernel(
    patient: Any, serving: Any, put: Any, monkeypatch: Any, size: int
) -> None:
    """No byte of it passes through this process, and all arrive."""
    sent: list[int] = []
    sendfile = os.sendfile

    def counted(*arguments: int) -> int:
        count = sendfile(*arguments)
        sent.append(count)
        return count

    monkeypatch.setattr(os, "sendfile", counted)
    held: dict[str, bytes] = {}
    content = os.urandom(size)
    put(patient, serving(keeping(held)), content)
    assert sum(sent) == (size if size > http_flight.SMALL else 0)
    assert held == {"/cat": content}


@pytest.mark.parametrize("code", [22, 95, 38, 75])  # EINVAL, EOPNOTSUPP, ENOSYS, EOVERFLOW
@pytest.mark.parametrize("after", [0, 1])
def test_where_the_kernel_refuses_to_send_a_file_it_is_read(
    patient: Any, serving: Any, put: Any, monkeypatch: Any, code: int, after: int
) -> None:
    """Some file systems cannot; also where some of it went, all arrives once and in order."""
    calls: list[int] = []
    sendfile = os.sendfile

    def refuse(*arguments: int) -> int:
        calls.append(1)
        if len(calls) > after:
            raise OSError(code, os.strerror(code))
        return sendfile(*arguments[:3], 70_000)

    monkeypatch.setattr(os, "sendfile", refuse)
    held: dict[str, bytes] = {}
    content = os.urandom(3_000_000)
    put(patient, serving(keeping(held)), content)
    assert held == {"/cat": content}
    assert len(calls) == after + 1


@pytest.mark.parametrize("tls", [False, True])
def test_a_file_that_cannot_be_read_on_is_not_acknowledged(
    patient: Any, serving: Any, put: Any, monkeypatch: Any, tls: bool
) -> None:
    """A disk that breaks is this side's, and the host is told by a reset that no more comes."""
    held: dict[str, bytes] = {}
    server = serving(keeping(held), tls=tls)

    def broken(*arguments: int) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "sendfile", broken)
    monkeypatch.setattr(os, "pread", broken)
    with pytest.raises(DeliveryError, match="the master cannot be read: Input/output error"):
        put(patient, server, bytes(LARGE))
    monkeypatch.undo()
    server.stop()
    assert held == {}


def test_a_large_file_over_tls_arrives_whole(patient: Any, serving: Any, put: Any) -> None:
    """Sent in blocks through memory; and the connection is good for the next."""
    held: dict[str, bytes] = {}
    server = serving(keeping(held), tls=True)
    first, second = os.urandom(LARGE), os.urandom(1_000_000)
    put(patient, server, first, "first")
    put(patient, server, second, "second")
    assert hashlib.sha256(held["/first"]).digest() == hashlib.sha256(first).digest()
    assert held["/second"] == second
    assert server.connections == 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_under_tls_a_reader_that_is_slow_gets_all(patient: Any, serving: Any, put: Any, version: Any) -> None:
    """Records that did not go out as a whole are gone on with, with either protocol."""
    held: dict[str, bytes] = {}

    def read_slowly(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        seen = server.read_request(reader, body=False)
        assert seen is not None
        parts: list[bytes] = []
        while (left := int(seen.headers["content-length"]) - sum(map(len, parts))) > 0:
            parts.append(reader.read(min(left, 300_000)))
            server.stopped.wait(0.001)
        held[seen.path] = b"".join(parts)
        connection.sendall(CREATED)

    content = os.urandom(6_000_000)
    tls, connect = Security.tls, http_connection.Bounded.connect

    def of_version(self: Security) -> ssl.SSLContext:
        context = tls(self)
        context.maximum_version = version
        return context

    def with_a_small_buffer(self: Any) -> None:
        connect(self)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Security, "tls", of_version)
        patch.setattr(http_connection.Bounded, "connect", with_a_small_buffer)
        put(patient, serving(read_slowly, tls=True), content)
    assert held == {"/cat": content}


# Early answers


def early(answer: bytes, *, then: str = "hold", keep: list[int] | None = None) -> Any:
    """A script that answers when it has the head; ``then`` holds the connection, resets it, or reads on."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        if server.read_request(reader, body=False) is None:
            return
        connection.sendall(answer)
        if then == "reset":
            eventually(lambda: _taken(connection) < 0 or True)
            reset(connection)
            return
        if then == "hold":
            server.stopped.wait(WAIT)
            return
        count = 0
        with contextlib.suppress(OSError):
            while block := connection.recv(65536):
                count += len(block)
        if keep is not None:
            keep.append(count)

    return script


def _taken(connection: Any) -> int:
    return int(connection.fileno())


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("status", [403, 413, 507])
@pytest.mark.parametrize("then", ["hold", "read"])
def test_an_early_refusal_ends_the_sending_and_is_what_is_told(
    patient: Any, serving: Any, put: Any, tls: bool, status: int, then: str
) -> None:
    """No more of the file goes out than was on its way, whether or not the host reads on."""
    count: list[int] = []
    answer = b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status
    server = serving(early(answer, then=then, keep=count), tls=tls)
    begun = time.monotonic()
    with pytest.raises(DeliveryError, match=f"answered {status}") as caught:
        put(patient, server, bytes(4 * LARGE))
    assert caught.value.status == status
    assert time.monotonic() - begun < 4, "it was not the timeout that ended it"
    if then == "read":
        eventually(lambda: count)
        assert count[0] < 4 * LARGE, "all of it was sent"


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("status", [200, 201, 204])
def test_an_early_success_is_never_trusted(patient: Any, serving: Any, put: Any, tls: bool, status: int) -> None:
    """Who says that it holds a file that it has not read does not hold it."""
    answer = b"HTTP/1.1 %d Fine\r\nContent-Length: 0\r\n\r\n" % status
    with pytest.raises(DeliveryError, match="came before the host had all"):
        put(patient, serving(early(answer), tls=tls), bytes(LARGE))


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("status", [201, 403, 404, 409])
@pytest.mark.parametrize("pieces", [1, 20, 10_000])
def test_a_connection_with_a_part_of_a_file_on_it_is_never_used_again(
    patient: Any, serving: Any, put: Any, tls: bool, status: int, pieces: int
) -> None:
    """Its host would read the next request as that file, and the content of a file as a request."""
    held: dict[str, bytes] = {}
    answer = b"HTTP/1.1 %d Early\r\nContent-Length: 0\r\n\r\n" % status

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader, body=False)
        for at in range(0, len(answer), pieces):
            connection.sendall(answer[at : at + pieces])
        server.stopped.wait(WAIT)

    server = serving(script, keeping(held), tls=tls)
    with pytest.raises(DeliveryError):
        put(patient, server, bytes(LARGE))
    put(patient, server, b"the next", "next")
    assert held == {"/next": b"the next"}
    assert server.connections == 2


@pytest.mark.parametrize("tls", [False, True])
def test_a_reset_after_an_early_refusal_does_not_hide_it(patient: Any, serving: Any, put: Any, tls: bool) -> None:
    """What the host said before it closed is what is told, or at the least that the connection broke."""
    answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader, body=False)
        connection.sendall(answer)  # and closes with unread bytes, which is a reset

    for _ in range(5):
        with pytest.raises(DeliveryError) as caught:
            put(patient, serving(script, tls=tls), bytes(LARGE))
        assert caught.value.status in (413, None)
        assert not (caught.value.status is None and caught.value.untouched)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("status", [201, 413])
def test_an_early_answer_that_is_found_because_sending_breaks_is_early_too(
    patient: Any, serving: Any, put: Any, tls: bool, status: int, monkeypatch: Any
) -> None:
    """The host answered and reset the connection while this side was busy with the disk."""
    has_reset = threading.Event()

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader, body=False)
        connection.sendall(b"HTTP/1.1 %d Early\r\nContent-Length: 0\r\n\r\n" % status)
        reset(connection)
        os.close(connection.detach())
        has_reset.set()

    def after_reset(real: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            assert has_reset.wait(WAIT)  # the head has gone
            return real(*arguments)

        return run

    monkeypatch.setattr(os, "sendfile", after_reset(os.sendfile))
    monkeypatch.setattr(os, "pread", after_reset(os.pread))
    with pytest.raises(DeliveryError) as caught:
        put(patient, serving(script, tls=tls), bytes(LARGE))
    assert not caught.value.untouched or status == 413
    if tls:  # what TLS could not send it does not go on to read, so that a refusal may be lost here
        assert re.search("TLS failed|the connection broke", str(caught.value))  # the latter from Python 3.13 on
    else:
        assert caught.value.status == status
        assert ("came before the host had all" in str(caught.value)) == (status == 201)


def test_nginx_refuses_early_and_the_next_file_is_whole(media_servers: Any, patient: Any, put: Any) -> None:
    """A real server that keeps its connection and drops the rest of a body that it has refused."""
    (nginx,) = media_servers("nginx", max_body=100_000, extra="location /closed/ { deny all; }")
    for name in ("cat", "closed/cat"):
        with pytest.raises(DeliveryError) as caught:
            put(patient, nginx, bytes(LARGE), name)
        assert caught.value.status == (413 if name == "cat" else 403) or "413" in str(caught.value)
        put(patient, nginx, b"the next", "next")
        assert Path(nginx.root, "next").read_bytes() == b"the next"
    assert sorted(path.name for path in Path(nginx.root).rglob("*") if path.is_file()) == ["next"]


# Time


@pytest.mark.parametrize("tls", [False, True])
def test_a_host_that_reads_nothing_is_given_up(hasty: Any, serving: Any, put: Any, tls: bool) -> None:
    """After the time without progress, from the last byte that it took."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.stopped.wait(WAIT)

    begun = time.monotonic()
    with pytest.raises(DeliveryError, match=r"it took nothing for 0\.3 s"):
        put(hasty, serving(script, tls=tls), bytes(LARGE))
    assert time.monotonic() - begun < BOUND


@pytest.mark.parametrize("tls", [False, True])
def test_a_host_that_reads_drop_by_drop_is_given_up(
    hasty: Any, serving: Any, put: Any, tls: bool, monkeypatch: Any
) -> None:
    """There is progress for ever, and a deadline for the whole."""

    connect = http_connection.Bounded.connect

    def connect_with_a_small_buffer(self: Any) -> None:
        connect(self)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        while not server.stopped.wait(0.01) and connection.recv(65536):
            """A drop."""

    monkeypatch.setattr(http_connection.Bounded, "connect", connect_with_a_small_buffer)
    monkeypatch.setattr(http_progress, "LEAST_RATE", LARGE * 10)
    monkeypatch.setattr(http_progress, "STEPS", 3)
    begun = time.monotonic()
    with pytest.raises(DeliveryError, match="too slow: the request took too long on the whole"):
        put(hasty, serving(script, tls=tls), bytes(LARGE))
    assert time.monotonic() - begun < BOUND


@pytest.mark.parametrize("what", ["head", "body", "chunks", "interim"])
def test_an_answer_that_comes_drop_by_drop_is_given_up(hasty: Any, serving: Any, put: Any, what: str) -> None:
    """Also where each drop is an interim answer; one whose status is clear counts when time is up."""
    begins = {
        "head": b"HTTP/1.1 201 Created\r\nX: ",
        "body": b"HTTP/1.1 201 Created\r\nContent-Length: 1000\r\n\r\n",
        "chunks": b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n",
        "interim": b"",
    }
    drop = {"chunks": b"1\r\nz\r\n", "interim": b"HTTP/1.1 100 Continue\r\n\r\n"}.get(what, b"z")

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader)
        connection.sendall(begins[what])
        while not server.stopped.wait(0.05):
            connection.sendall(drop)

    server = serving(script)
    begun = time.monotonic()
    with contextlib.nullcontext() if what in ("body", "chunks") else pytest.raises(DeliveryError):
        put(hasty, server)
    assert time.monotonic() - begun < BOUND


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("ending", ["hold", "half-closed"])
def test_waiting_takes_no_processor(hasty: Any, serving: Any, put: Any, tls: bool, ending: str) -> None:
    """Whatever a connection shows while nothing can be done, it is not asked again and again."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader)
        if ending == "half-closed":
            connection.shutdown(socket.SHUT_RD)
        connection.sendall(b"HTTP/1.1 20")
        server.stopped.wait(WAIT)

    server = serving(script, tls=tls)
    begun = time.thread_time()
    with pytest.raises(DeliveryError):
        put(hasty, server, bytes(100_000))
    assert time.thread_time() - begun < TIMEOUT / 3


def test_a_stalled_host_takes_no_processor_while_another_is_served(hasty: Any, serving: Any, tmp_path: Path) -> None:
    """Its socket is full, and that of the other is not."""

    def stall(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader)
        connection.sendall(CREATED)
        server.stopped.wait(WAIT)

    hosts = [host(serving(stall)) for _ in range(3)]
    path = tmp_path / "master"
    path.write_bytes(bytes(LARGE))
    fanout = Fanout(hasty)
    ends: list[DeliveryError | None] = []
    with path.open("rb", buffering=0) as file:
        for size in (10, LARGE):
            begun = time.thread_time()
            tasks = [Task(each, "cat", Master(file, size, 0, STATE)) for each in hosts]
            fanout.run(tasks, lambda task, error: ends.append(error), 3)
    assert time.thread_time() - begun < TIMEOUT / 3
    assert ends[:3] == [None] * 3
    assert all("it took nothing" in str(error) for error in ends[3:])
    fanout.close()


# Masters that change


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("change", ["truncated to 0", "shrunk"])
def test_a_master_that_shrinks_while_it_is_sent_is_never_acknowledged(
    patient: Any, serving: Any, tmp_path: Path, tls: bool, change: str
) -> None:
    """The host has taken a part of it by then, and gets a reset for the rest."""
    path = tmp_path / "master"
    path.write_bytes(bytes(LARGE))
    held: dict[str, bytes] = {}

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        seen = server.read_request(reader, body=False)
        os.truncate(path, 0 if change == "truncated to 0" else LARGE - 1)
        body = reader.read(LARGE)
        if seen and len(body) == LARGE:
            held[seen.path] = body
            connection.sendall(CREATED)

    server = serving(script, tls=tls)
    with path.open("rb", buffering=0) as file, pytest.raises(DeliveryError, match=r"the master ends at \d+ bytes"):
        patient.put(host(server), "cat", file, LARGE, 0)
    server.stop()
    assert held == {}


@pytest.mark.parametrize("tls", [False, True])
def test_a_master_that_grows_while_it_is_sent_leaves_the_connection_in_order(
    patient: Any, serving: Any, put: Any, tmp_path: Path, tls: bool
) -> None:
    """No byte beyond its size goes out, which would be read as the next request."""
    path = tmp_path / "master"
    path.write_bytes(bytes(LARGE))
    held: dict[str, bytes] = {}

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        with path.open("ab") as more:
            more.write(b"DELETE /cat HTTP/1.1\r\n\r\n" * 1000)
        keeping(held)(server, connection, reader)

    server = serving(script, tls=tls)
    with path.open("rb", buffering=0) as file:
        patient.put(host(server), "cat", file, LARGE, 0)
    put(patient, server, b"next", "next")
    assert (len(held["/cat"]), held["/next"]) == (LARGE, b"next")
    assert [seen.method for seen in server.requests] == ["PUT", "PUT"]
    assert server.connections == 1


@pytest.mark.parametrize("change", ["rewritten", "replaced", "truncated", "grown", "removed"])
def test_a_save_ends_with_what_the_master_is_at_last(serving: Any, tmp_path: Path, change: str) -> None:
    """Somebody who knows of no lock changes it while it is sent; the second look sees that, and it is sent again."""
    root = tmp_path / "media"
    held: dict[str, bytes | None] = {}
    changed: list[str] = []
    path = root / "cat"

    def alter() -> None:
        if changed:
            return
        changed.append(change)
        if change == "rewritten":
            with path.open("r+b") as file:
                file.seek(LARGE // 2)
                file.write(b"other" * 1000)
            os.utime(path, (1, 1))
        elif change == "replaced":
            (tmp_path / "other").write_bytes(b"other" * 1_000_000)
            os.replace(tmp_path / "other", path)
        elif change == "truncated":
            os.truncate(path, 0)
        elif change == "grown":
            with path.open("ab") as file:
                file.write(b"more")
        else:
            path.unlink()

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        while seen := server.read_request(reader, body=False):
            size = int(seen.headers.get("content-length", "0"))
            body = reader.read(min(size, 100_000))
            alter()
            body += reader.read(size - len(body))
            if len(body) < size:
                return
            held[seen.path] = body if seen.method == "PUT" else None
            connection.sendall(CREATED if seen.method == "PUT" else b"HTTP/1.1 204 No\r\n\r\n")

    servers = [serving(script) for _ in range(2)]
    replicator = Replicator(media_root=str(root), media_hosts=[server.url + "/" for server in servers], timeout=2)
    try:
        with contextlib.suppress(ReplicationError):  # then it is withdrawn
            replicator.save("cat", io.BytesIO(os.urandom(LARGE)))
            assert held["/cat"] == (path.read_bytes() if path.exists() else None)
        assert changed
        replicator.drain(timeout=0.5)
        eventually(lambda: held.get("/cat") == (path.read_bytes() if path.exists() else None))
    finally:
        replicator.close()


# Answers


def test_100_continue_is_passed_over(hasty: Any, serving: Any, put: Any) -> None:
    """Also several, in one piece with the answer or byte by byte, and the connection is kept."""
    more = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\nX: y\r\n\r\n"
    for script in (answering(more + CREATED), in_pieces(more + CREATED), in_pieces(more + CREATED, 30)):
        server = serving(script)
        put(hasty, server)
        put(hasty, server)
        assert server.connections == 1


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("pieces", [1, 10, 1000])
def test_100_continue_amid_a_large_file_does_not_end_the_sending(
    hasty: Any, serving: Any, put: Any, tls: bool, pieces: int
) -> None:
    """Nobody asked for it, but there are servers that say it to everybody before they read."""
    held: dict[str, bytes] = {}
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        seen = server.read_request(reader, body=False)
        for at in range(0, len(interim), pieces):
            connection.sendall(interim[at : at + pieces])
        body = reader.read(LARGE)
        if seen and len(body) == LARGE:
            held[seen.path] = body
            connection.sendall(CREATED)

    content = os.urandom(LARGE)
    put(hasty, serving(script, tls=tls), content)
    assert held == {"/cat": content}


def test_an_early_success_after_100_continue_is_never_trusted(hasty: Any, serving: Any, put: Any) -> None:
    """Whether both come at once or one after the other."""
    answer = b"HTTP/1.1 100 Continue\r\n\r\n" + CREATED
    for script in (early(answer), in_pieces_early(answer, 25), in_pieces_early(answer, 1)):
        with pytest.raises(DeliveryError, match="came before the host had all"):
            put(hasty, serving(script), bytes(LARGE))


def in_pieces_early(answer: bytes, size: int) -> Any:
    """As ``early``, in pieces."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.read_request(reader, body=False)
        for at in range(0, len(answer), size):
            connection.sendall(answer[at : at + size])
        server.stopped.wait(WAIT)

    return script


def test_many_interim_answers_are_no_defect_of_ours(
    hasty: Any, serving: Any, put: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A host that says it ten thousand times before it answers makes no deep recursion and no traceback."""
    put(hasty, serving(answering(b"HTTP/1.1 100 \r\n\r\n" * 10_000 + CREATED)))
    assert caplog.records == []


@pytest.mark.parametrize("status", [101, 102, 103, 199])
def test_another_interim_answer_is_refused(hasty: Any, serving: Any, put: Any, status: int) -> None:
    """It is no final one, and what comes after it is not waited for; the next file goes elsewhere."""
    server = serving(answering(b"HTTP/1.1 %d Wait\r\n\r\n" % status + CREATED), answering(CREATED))
    with pytest.raises(DeliveryError, match=f"answered {status}, and no final status"):
        put(hasty, server)
    put(hasty, server)
    assert server.connections == 2


GOOD_CHUNKS = {
    "none": b"0\r\n\r\n",
    "one": b"5\r\nhello\r\n0\r\n\r\n",
    "extensions": b'5;a="b" ; c\r\nhello\r\n00000;x\r\n\r\n',
    "trailers": b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
    "large": b"2000\r\n" + bytes(0x2000) + b"\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "what looks like an end": b"7\r\n0\r\n\r\nab\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("chunks", GOOD_CHUNKS)
def test_a_chunked_answer_ends_where_its_chunks_do(
    patient: Any, serving: Any, put: Any, chunks: str, size: int
) -> None:
    """In one piece, in several, and byte by byte; and the connection is kept."""
    answer = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n" + GOOD_CHUNKS[chunks]
    server = serving(in_pieces(answer, size))
    begun = time.monotonic()
    for _ in range(2):
        put(patient, server)
    assert server.connections == 1
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize(
    "chunks",
    [b"-5\r\nx", b"5\r\nhello!\r\n", b"x\r\n", b"\r\n", b"0x5\r\nhello\r\n", b"5 5\r\nhello", b"1" * 16 + b"\r\n"],
)
def test_a_chunked_answer_that_is_malformed_is_an_error(hasty: Any, serving: Any, put: Any, chunks: bytes) -> None:
    """At once, and nothing of it is left on a connection."""
    answer = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    server = serving(answering(answer), answering(CREATED))
    with pytest.raises(DeliveryError, match="the connection broke: the reply is malformed"):
        put(hasty, server)
    put(hasty, server)
    assert server.connections == 2


def test_a_chunked_answer_without_an_end_is_an_error(hasty: Any, serving: Any, put: Any) -> None:
    """No more of it is read than the limit of a reply."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader)
        connection.sendall(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not server.stopped.is_set():
            connection.sendall(b"1000\r\n" + bytes(0x1000) + b"\r\n")

    with pytest.raises(DeliveryError, match="longer than 65536 bytes"):
        put(hasty, serving(script))


@pytest.mark.parametrize("extra", [b"x", CREATED, b"\r\n", b"HTTP/1.1 201 Cr"])
@pytest.mark.parametrize("head", [b"Content-Length: 0\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("tls", [False, True])
def test_what_comes_after_an_answer_never_answers_the_next_request(
    patient: Any, serving: Any, put: Any, extra: bytes, head: bytes, late: bool, tls: bool
) -> None:
    """The host does not hold the second file, whatever it has said before that was sent."""
    sent = threading.Event()

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader)
        answer = b"HTTP/1.1 201 Created\r\n" + head
        for part in (answer, extra) if late else (answer + extra,):
            connection.sendall(part)
        sent.set()
        server.stopped.wait(WAIT)

    def refuse(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader)
        connection.sendall(b"HTTP/1.1 507 Full\r\nContent-Length: 0\r\n\r\n")

    server = serving(script, refuse, tls=tls)
    put(patient, server)
    assert sent.wait(WAIT)
    with pytest.raises(DeliveryError, match="answered 507"):
        put(patient, server, name="second")
    assert server.connections == 2


@pytest.mark.parametrize("answer", [b"HTTP/1.1 204 No\r\n\r\n", b"HTTP/1.1 204 No\r\nContent-Length: 7\r\n\r\n"])
def test_an_answer_that_has_no_body_ends_with_its_head(patient: Any, serving: Any, put: Any, answer: bytes) -> None:
    """Whatever length it says (RFC 9110, section 15.3.5)."""
    server = serving(answering(answer))
    put(patient, server)
    put(patient, server)
    assert server.connections == 1


def test_the_answer_to_head_ends_with_its_head(patient: Any, serving: Any) -> None:
    """Its length is that of the file, and no body comes; also with a page that was not found."""
    server = serving(answering(b"HTTP/1.1 200 Fine\r\nContent-Length: 7000000\r\n\r\n"))
    begun = time.monotonic()
    assert [patient.head(host(server), "cat") for _ in range(3)] == [7_000_000] * 3
    missing = serving(answering(b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n"))
    assert [patient.head(host(missing), "cat") for _ in range(3)] == [None] * 3
    assert (server.connections, missing.connections) == (1, 1)
    assert time.monotonic() - begun < 4


def test_an_answer_without_a_length_ends_with_its_connection(patient: Any, serving: Any, put: Any) -> None:
    """The next request goes on another one."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader)
        connection.sendall(b"HTTP/1.1 201 Created\r\n\r\nsome page")

    server = serving(script)
    put(patient, server)
    put(patient, server)
    assert server.connections == 2


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_an_answer_in_pieces_of_one_byte_is_understood(patient: Any, serving: Any, put: Any, end: str) -> None:
    """Head and body, with either end of line."""
    answer = end.join(["HTTP/1.1 201 Created", "X-One: 1", "Content-Length: 3", "", "abc"]).encode()
    server = serving(in_pieces(answer))
    put(patient, server)
    put(patient, server)
    assert server.connections == 1


@pytest.mark.parametrize("cut", range(1, len(CREATED)))
def test_a_head_that_is_cut_off_is_never_trusted(hasty: Any, serving: Any, put: Any, cut: int) -> None:
    """Wherever the host closes before its end; and it is not sent again."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader)
        connection.sendall(CREATED[:cut])

    server = serving(script)
    with pytest.raises(DeliveryError):
        put(hasty, server)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("size", "fine"), [(60_000, True), (140_000, False), (1_000_000, False)])
def test_a_reply_is_read_up_to_its_limit(patient: Any, serving: Any, put: Any, size: int, fine: bool) -> None:
    """A success that does not end there is none; a refusal is clear without its page."""
    head = b"Content-Length: %d\r\n\r\n" % size
    server = serving(answering(b"HTTP/1.1 201 Created\r\n" + head + bytes(size)))
    if fine:
        put(patient, server)
    else:
        with pytest.raises(DeliveryError, match="longer than 65536 bytes"):
            put(patient, server)
    with pytest.raises(DeliveryError, match="answered 500"):
        put(patient, serving(answering(b"HTTP/1.1 500 No\r\n" + head + bytes(size))))


# Connections that were kept alive


def closing_on_reuse(said: bytes = b"") -> Any:
    """A script that answers one request, takes another, says so much of an answer, and closes."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader)
        connection.sendall(CREATED)
        if server.read_request(reader):
            connection.sendall(said)

    return script


def warm(transport: HttpTransport, server: FaultyServer, count: int) -> None:
    """Have ``count`` connections kept alive; the scripts of the server answer their first requests."""
    origin = transport._pools.origin(host(server).url)
    leased = [origin.lease() for _ in range(count)]
    for connection in leased:
        connection.connect()
        connection.sock.sendall(b"PUT /warm HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        assert connection.sock.recv(1000) == CREATED
        connection.used = True
    for connection in leased:
        origin.give_back(connection)


@pytest.mark.parametrize("tls", [False, True])
def test_a_stale_connection_is_repeated_once_and_on_a_new_one(patient: Any, serving: Any, put: Any, tls: bool) -> None:
    """Others are kept alive, and may be as stale as the first."""
    held: dict[str, bytes] = {}
    server = serving(*[closing_on_reuse()] * 3, keeping(held), tls=tls)
    warm(patient, server, 3)
    assert server.connections == 3
    put(patient, server, b"content")
    assert held == {"/cat": b"content"}
    assert server.connections == 4
    assert [seen.path for seen in server.requests[3:]] == ["/cat", "/cat"]


@pytest.mark.parametrize("tls", [False, True])
def test_a_large_file_on_a_stale_connection_is_repeated_whole(patient: Any, serving: Any, put: Any, tls: bool) -> None:
    """From its first byte, although a part was sent before."""
    held: dict[str, bytes] = {}

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader)
        connection.sendall(CREATED)
        server.read_request(reader, body=False)
        reader.read(1_000_000)
        reset(connection)

    server = serving(script, keeping(held), tls=tls)
    warm(patient, server, 1)
    content = os.urandom(LARGE)
    put(patient, server, content)
    assert held == {"/cat": content}
    assert server.connections == 2


def test_a_repetition_that_fails_too_is_not_untouched(patient: Any, serving: Any, put: Any) -> None:
    """The host may have read the first, and died of it."""
    server = serving(closing_on_reuse(), answering(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"))
    warm(patient, server, 1)
    with pytest.raises(DeliveryError, match="answered 403") as caught:
        put(patient, server)
    assert not caught.value.untouched
    assert len(server.requests) == 3


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 20", b"HTTP/1.1 100 Continue\r\n\r\n", CREATED[:-1]])
def test_nothing_is_repeated_when_a_byte_of_an_answer_came(
    patient: Any, serving: Any, put: Any, tls: bool, said: bytes
) -> None:
    """The connection was not stale: somebody was there, and did what nobody knows."""
    server = serving(closing_on_reuse(said), answering(CREATED), tls=tls)
    warm(patient, server, 1)
    with pytest.raises(DeliveryError, match="the connection broke") as caught:
        put(patient, server)
    assert not caught.value.untouched
    assert [seen.path for seen in server.requests] == ["/warm", "/cat"]


def test_a_first_request_on_a_connection_is_never_repeated(patient: Any, serving: Any, put: Any) -> None:
    """A host that closes at once would be asked for ever."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader)

    server = serving(script)
    with pytest.raises(DeliveryError):
        put(patient, server)
    assert (server.connections, len(server.requests)) == (1, 1)


# Many


@pytest.mark.parametrize("kind", ["lighttpd", "apache"])
def test_folders_are_made_by_what_is_driven(media_servers: Any, patient: Any, tmp_path: Path, kind: str) -> None:
    """At several hosts at once, in one or two goes: lighttpd closes the connection of a PUT that it has refused."""
    servers = media_servers(kind, 2)
    path = tmp_path / "master"
    path.write_bytes(b"content")
    fanout = Fanout(patient)
    ends: list[DeliveryError | None] = []
    for name in ("warm", "a/b/c/cat"):
        with path.open("rb", buffering=0) as file:
            tasks = [Task(host(server), name, Master(file, 7, 0, STATE)) for server in servers]
            fanout.run(tasks, lambda task, error: ends.append(error), 2)
    fanout.close()
    assert ends == [None] * 4
    assert [Path(server.root, "a/b/c/cat").read_bytes() for server in servers] == [b"content"] * 2


def test_requests_after_one_another_are_driven_without_a_thread(patient: Any, serving: Any, tmp_path: Path) -> None:
    """PUT, MKCOL, MKCOL and PUT again at three hosts at once, on the connections that are there."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        made: set[str] = set()
        while seen := server.read_request(reader):
            if seen.method == "MKCOL":
                made.add(seen.path)
            missing = seen.path == "/a/b/cat" and made != {"/a/", "/a/b/"}
            connection.sendall(b"HTTP/1.1 409 No\r\nContent-Length: 2\r\n\r\nno" if missing else CREATED)

    servers = [serving(script) for _ in range(3)]
    path = tmp_path / "master"
    path.write_bytes(bytes(LARGE))
    fanout = Fanout(patient)
    ends: list[DeliveryError | None] = []
    for name, size in (("warm", 1), ("a/b/cat", 1_000_000)):
        fanout.close()  # the threads that have connected
        with path.open("rb", buffering=0) as file:
            tasks = [Task(host(server), name, Master(file, size, 0, STATE)) for server in servers]
            fanout.run(tasks, lambda task, error: ends.append(error), 3)
    assert not [each.name for each in threading.enumerate() if each.name.startswith("resto ")]
    assert ends == [None] * 6
    for server in servers:
        assert server.connections == 1
        assert [(seen.method, seen.path, seen.body) for seen in server.requests[1:]] == [
            ("PUT", "/a/b/cat", 1_000_000),
            ("MKCOL", "/a/", 0),
            ("MKCOL", "/a/b/", 0),
            ("PUT", "/a/b/cat", 1_000_000),
        ]


@pytest.mark.parametrize("warmed", [False, True])
def test_bad_hosts_have_each_its_own_error_and_delay_no_other(serving: Any, tmp_path: Path, warmed: bool) -> None:
    """Twelve hosts: one hangs, one drips, one resets, one is dead, one speaks TLS, and seven are as always."""
    held: list[dict[str, bytes]] = [{} for _ in range(8)]
    ready = threading.Event()

    def after_warm(script: Any) -> Any:
        def run(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
            if not ready.is_set():
                server.read_request(reader)
                connection.sendall(CREATED)
                ready.wait(WAIT)
            script(server, connection, reader)

        return run

    def hang(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.stopped.wait(WAIT)

    def drip(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server._drip(connection, reader)

    def break_off(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader, body=False)
        connection.sendall(b"HTTP/1.1 2")
        time.sleep(0)
        reset(connection)

    good = [serving(keeping(each)) for each in held[:7]]
    secure = serving(keeping(held[7]), tls=True)
    bad = {
        "hangs": serving(after_warm(hang)),
        "drips": serving(after_warm(drip)),
        "resets": serving(after_warm(break_off)),
    }
    dead = FaultyServer("refuse")
    hosts = [Host(label, server.url) for label, server in bad.items()] + [Host("dead", dead.url)]
    hosts += [Host(f"good-{number}", server.url) for number, server in enumerate([*good, secure])]
    transport = HttpTransport(1.0)
    fanout = Fanout(transport)
    path = tmp_path / "master"
    content = os.urandom(2_000_000)
    path.write_bytes(content)
    ends: list[tuple[str, DeliveryError | None, float]] = []

    def ended(task: Task, error: DeliveryError | None) -> None:
        ends.append((task.host.label, error, time.monotonic() - begun))

    try:
        with path.open("rb", buffering=0) as file:
            if warmed:
                begun = time.monotonic()
                fanout.run([Task(each, "warm", Master(file, 7, 0, STATE)) for each in hosts], ended, 12)
                assert [label for label, error, _ in ends if error] == ["dead"]
                ends.clear()
            ready.set()
            begun = time.monotonic()
            fanout.run([Task(each, "cat", Master(file, len(content), 0, STATE)) for each in hosts], ended, 12)
    finally:
        fanout.close()
        transport.close()
        dead.stop()
    order = [label for label, _, _ in ends]
    errors = {label: str(error) for label, error, _ in ends if error}
    assert len(order) == len(set(order)) == 12
    assert sorted(errors) == ["dead", "drips", "hangs", "resets"]
    assert "it took nothing for 1 s" in errors["hangs"] or "no answer within 1 s" in errors["hangs"]
    assert "no answer within 1 s" in errors["drips"]
    assert "the connection broke" in errors["resets"]
    assert "refuses connections" in errors["dead"]
    assert set(order[-2:]) == {"hangs", "drips"}
    assert max(took for label, _, took in ends if label.startswith("good")) < 0.9, "a bad host has held up a good one"
    assert all(each["/cat"] == content for each in held)


def test_many_callers_send_the_right_bytes_over_the_same_connections(
    media_servers: Any, patient: Any, tmp_path: Path
) -> None:
    """Sixteen threads, three hosts, small files and large ones: each name has its own content at the end."""
    servers = media_servers("nginx", 3)
    fanout = Fanout(patient)
    rounds, callers = 6, 16
    content = {
        f"f-{caller}-{count}": os.urandom([10, 5_000, 70_000, 1_500_000][(caller + count) % 4])
        for caller in range(callers)
        for count in range(rounds)
    }
    errors: list[DeliveryError] = []

    def ended(task: Task, error: DeliveryError | None) -> None:
        if error is not None:
            errors.append(error)

    def call(caller: int) -> None:
        for count in range(rounds):
            name = f"f-{caller}-{count}"
            path = tmp_path / name
            path.write_bytes(content[name])
            with path.open("rb", buffering=0) as file:
                master = Master(file, len(content[name]), 0, STATE)
                fanout.run([Task(host(server), name, master) for server in servers], ended, 3)

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(call, range(callers)))
    fanout.close()
    assert errors == []
    for server in servers:
        assert {name: Path(server.root, name).read_bytes() for name in content} == content


def test_no_more_connections_are_kept_than_the_limit(
    faulty: Any, put: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred threads at once have a hundred; afterwards the rest is closed, without a word in the log."""
    barrier = threading.Barrier(100)
    transport = HttpTransport(WAIT)

    def script(connection: Any, reader: BinaryIO) -> None:
        while server.read_request(reader):
            with contextlib.suppress(threading.BrokenBarrierError):
                barrier.wait(WAIT)
            connection.sendall(CREATED)

    server = faulty(script)
    before = descriptors()
    with ThreadPoolExecutor(100) as pool:
        list(pool.map(lambda number: put(transport, server, name=str(number)), range(100)))
    assert server.connections == 100
    pool_of = transport._pools.origin(server.url).pool.pool
    assert pool_of is not None
    alive = [each for each in list(pool_of.queue) if each is not None and each.sock is not None]
    assert len(alive) == http_connection.KEPT
    eventually(lambda: descriptors() <= before + 2 * http_connection.KEPT)  # the server's are in this process too
    assert caplog.records == []
    transport.close()
    server.stop()
    eventually(lambda: descriptors() <= before)


ENGINE = [http_flight, http_job, http_connection, http_connecting, http_progress, driving, replication_fanout]
SWEPT = [module.__file__ for module in ENGINE]


@pytest.mark.usefixtures("quick_collections")
@pytest.mark.parametrize("warmed", [True, False])
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_an_interruption_at_any_line_leaves_nothing_behind(
    media_servers: Any, patient: Any, tmp_path: Path, size: int, warmed: bool
) -> None:
    """No descriptor, no thread at work, no end that is not true, and no connection that is not in order."""
    servers = media_servers("nginx", 2)
    path = tmp_path / "master"
    content = os.urandom(size)
    path.write_bytes(content)
    fanout = Fanout(patient)

    def save(name: str) -> list[tuple[Host, DeliveryError | None]]:
        ends: list[tuple[Host, DeliveryError | None]] = []
        with path.open("rb", buffering=0) as file:
            tasks = [Task(host(server), name, Master(file, size, 0, STATE)) for server in servers]
            with contextlib.suppress(KeyboardInterrupt):
                fanout.run(tasks, lambda task, error: ends.append((task.host, error)), 2)
        return ends

    def held(server: Any, name: str) -> bytes | None:
        found = Path(server.root, name)
        return found.read_bytes() if found.exists() else None

    by_host = {host(server): server for server in servers}
    assert len(save("whole")) == 2
    fanout.close()
    before = descriptors()
    count, left = 0, [0]
    while left[0] <= 0:
        count += 1 if count < 20 else 13
        if not warmed:
            patient.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # a connection of which nobody had yet been told
            with interrupted_at(count, SWEPT) as left:
                ends = save(f"cut-{count}")
            fanout.close()
            assert descriptors() <= before
        for each, error in ends:
            assert error is not None or held(by_host[each], f"cut-{count}") == content
        for server in servers:
            assert held(server, f"cut-{count}") in (None, content)
    assert count > 100
    ends = save("last")
    fanout.close()
    assert [error for _, error in ends] == [None, None]
    assert [held(server, "last") for server in servers] == [content] * 2


# Chunks


def chunked(parts: list[bytes], trailers: list[str]) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return body + b"0\r\n" + b"".join(f"{each}: x\r\n".encode() for each in trailers) + b"\r\n"


@settings(max_examples=200, deadline=None)
@given(
    parts=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    trailers=st.lists(st.from_regex(r"[A-Za-z]{1,8}", fullmatch=True), max_size=3),
    after=st.binary(max_size=10),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
def test_the_end_of_chunks_does_not_depend_on_how_they_come(
    parts: list[bytes], trailers: list[str], after: bytes, cuts: list[int]
) -> None:
    """In whatever pieces: the end is found where the whole has its end, not before, and not beyond."""
    body = chunked(parts, trailers)
    whole = body + after
    assert end_of_chunks(b"head" + whole, 4) == (4 + len(body), True)
    at = 0
    for cut in sorted({*(cut for cut in cuts if cut < len(body)), len(body)}):
        at, last = end_of_chunks(whole[:cut], at)
        assert last == (cut == len(body))
        assert at <= cut
    assert at == len(body)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text("0123456789abcdefg;\r\n -x", max_size=60).map(str.encode))
def test_junk_instead_of_chunks_raises_or_waits(junk: bytes) -> None:
    """It never loops, never goes back, and never finds an end beyond what has come."""
    with contextlib.suppress(ValueError):
        at, last = end_of_chunks(junk, 0)
        assert 0 <= at <= len(junk)
        again = end_of_chunks(junk, at)
        assert last or again == (at, False)


def test_nothing_is_sent_on_a_connection_that_is_ready_after_its_caller_was_told_to_stop(
    faulty: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever interrupts a thread that connects must not have it send the request all the same."""
    server = faulty()
    transport = HttpTransport(5)
    job = transport.delete_job(Host(server.url, server.url), "cat")
    connect = http_connection.Bounded.connect

    def connect_too_late(self: Any) -> None:
        job.interrupt()
        connect(self)

    monkeypatch.setattr(http_connection.Bounded, "connect", connect_too_late)
    job.start()
    assert job.cold
    job.connect()
    assert job.over and job.outcome is not None
    transport.close()
    server.stop()
    assert server.requests == []
