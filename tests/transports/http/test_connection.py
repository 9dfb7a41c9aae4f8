"""Connections that are kept alive: which are used again, which requests are repeated, and who closes them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from over_http import descriptors, host
from raw_hosts import (
    CREATED,
    LARGE,
    WAIT,
    answering,
    closing_on_reuse,
    keeping,
    reset,
    warm,
)
from servers import FaultyServer, eventually

from resto_wsgi.errors import DeliveryError
from resto_wsgi.hosts import Host
from resto_wsgi.transports.http import connecting as http_connecting
from resto_wsgi.transports.http import connection as http_connection
from resto_wsgi.transports.http.transport import HttpTransport


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
    alive = [each for each in transport._pools.origin(server.url).kept._idle if each.sock is not None]
    assert len(alive) == http_connection.KEPT
    eventually(lambda: descriptors() <= before + 2 * http_connection.KEPT)  # the server's are in this process too
    assert caplog.records == []
    transport.close()
    server.stop()
    eventually(lambda: descriptors() <= before)


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


# 408


TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("size", [7, LARGE])
def test_a_408_on_a_connection_that_was_kept_is_repeated_on_a_new_one(
    patient: Any, serving: Any, put: Any, size: int, tls: bool
) -> None:
    """The host had ended it while it was idle, and says so to whoever comes next (RFC 9110, section 15.5.9)."""
    held: dict[str, bytes] = {}

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader)
        connection.sendall(CREATED)
        server.read_request(reader, body=False)
        connection.sendall(TIMED_OUT)
        server.stopped.wait(WAIT)

    server = serving(script, keeping(held), tls=tls)
    warm(patient, server, 1)
    content = os.urandom(size)
    put(patient, server, content)
    assert held == {"/cat": content}
    assert server.connections == 2


def test_a_delete_is_repeated_after_a_408_too(patient: HttpTransport, serving: Any) -> None:
    """It is as idempotent."""
    server = serving(answering(CREATED, TIMED_OUT), answering(b"HTTP/1.1 204 No\r\n\r\n"))
    warm(patient, server, 1)
    patient.delete(host(server), "cat")
    assert [seen.method for seen in server.requests] == ["PUT", "DELETE", "DELETE"]


def test_a_408_on_a_new_connection_is_an_answer(patient: Any, serving: Any, put: Any) -> None:
    """The host has waited for this very request, and would again."""
    server = serving(answering(TIMED_OUT))
    with pytest.raises(DeliveryError, match="answered 408") as caught:
        put(patient, server)
    assert not caught.value.permanent and not caught.value.untouched
    assert len(server.requests) == 1


def test_a_second_408_is_an_answer(patient: Any, serving: Any, put: Any) -> None:
    """It is repeated once."""
    server = serving(answering(CREATED, TIMED_OUT), answering(TIMED_OUT))
    warm(patient, server, 1)
    with pytest.raises(DeliveryError, match="answered 408"):
        put(patient, server)
    assert len(server.requests) == 3


# Links that many share


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("moving", [True, False])
def test_a_request_that_others_have_crowded_out_is_repeated(
    serving: Any, put: Any, monkeypatch: pytest.MonkeyPatch, moving: bool, tls: bool
) -> None:
    """The kernel ends a connection on which nothing arrives; that of another one shows that it is not the host."""
    others = [each for each in http_connecting.OPTIONS if each[1] != socket.TCP_USER_TIMEOUT]
    soon = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000)  # ms
    monkeypatch.setattr(http_connecting, "OPTIONS", (*others, soon))
    held: dict[str, bytes] = {}
    ended = threading.Event()

    def busy(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader, body=False)
        while moving and not ended.wait(0.01) and reader.read(10_000):
            """Little by little."""

    def quiet(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader, body=False)
        server.stopped.wait(WAIT)

    server = serving(busy, quiet, keeping(held), tls=tls)
    server._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    transport = HttpTransport(0.4)

    def send_other() -> None:
        with contextlib.suppress(DeliveryError):
            put(transport, server, bytes(2 * LARGE), "other")

    other = threading.Thread(target=send_other)
    other.start()
    try:
        eventually(lambda: server.requests)
        if moving:
            put(transport, server, bytes(LARGE))
        else:
            with pytest.raises(DeliveryError, match=r"it took nothing for 0\.4 s"):
                put(transport, server, bytes(LARGE))
    finally:
        ended.set()
        server.stopped.set()
        other.join()
        transport.close()
    assert held == ({"/cat": bytes(LARGE)} if moving else {})


# Processes


def test_a_connection_ends_with_its_process_although_a_child_lives(serving: Any, tmp_path: Path) -> None:
    """A child has a copy of each descriptor; with it the kernel would go on sending for the dead."""
    ended = threading.Event()

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader)
        with contextlib.suppress(ConnectionResetError):
            connection.recv(1)
        ended.set()

    server = serving(script)
    (tmp_path / "file").write_bytes(b"content")
    command = [sys.executable, "-c", FORKING, tmp_path / "file", server.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None and parent.stdin is not None
        try:
            eventually(lambda: server.requests)
            parent.stdin.write("\n")
            parent.stdin.flush()
            child = int(parent.stdout.readline())
            assert not ended.is_set()
        finally:
            parent.kill()
        try:
            assert ended.wait(WAIT)
        finally:
            os.kill(child, signal.SIGKILL)  # and not before


FORKING = """
import os, sys, threading, time
from resto_wsgi.hosts import Host
from resto_wsgi.transports.http.transport import HttpTransport
path, url = sys.argv[1:]
transport = HttpTransport(60)
def put():
    with open(path, "rb", buffering=0) as file:
        transport.put(Host(url, url), "cat", file, 7, 1e9)
threading.Thread(target=put, daemon=True).start()
sys.stdin.readline()
child = os.fork()
if not child:
    os.close(1)
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("tls", [False, True])
def test_a_child_that_is_forked_leaves_the_connections_of_its_parent_alone(
    patient: Any, serving: Any, put: Any, tls: bool
) -> None:
    """It closes its copies, and makes its own; the parent goes on with the one that it had."""
    held: dict[str, bytes] = {}
    server = serving(keeping(held), tls=tls)
    put(patient, server, b"first", "first")
    child = os.fork()
    if not child:
        status = 1
        with contextlib.suppress(BaseException):
            put(patient, server, b"child", "child")
            patient.close()
            status = 0
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    put(patient, server, b"second", "second")
    assert held == {"/first": b"first", "/child": b"child", "/second": b"second"}
    assert server.connections == 2
