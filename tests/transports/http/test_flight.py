"""Requests and their answers on one connection: against raw sockets, stock servers, and TLS."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from over_http import BOUND, TIMEOUT, host
from raw_hosts import (
    CREATED,
    LARGE,
    STATE,
    WAIT,
    answering,
    early,
    in_pieces,
    in_pieces_early,
    keeping,
    reset,
)
from servers import FaultyServer, eventually

from resto_wsgi.errors import DeliveryError
from resto_wsgi.master.media_root import Master
from resto_wsgi.replication.fanout import Fanout, Task
from resto_wsgi.transports.http import connection as http_connection
from resto_wsgi.transports.http import progress as http_progress

# Early answers


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
    looked = {"/cat": b""} if status == 409 else {}  # a HEAD: what is in the way of the name
    assert held == {**looked, "/next": b"the next"}
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
            fanout.run(tasks, lambda task, error, value: ends.append(error), 3)
    assert time.thread_time() - begun < TIMEOUT / 3
    assert ends[:3] == [None] * 3
    assert all("it took nothing" in str(error) for error in ends[3:])
    fanout.close()


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
