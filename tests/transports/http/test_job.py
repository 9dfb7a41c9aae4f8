"""Jobs: an errand's requests one after the other, and what the caller gives and gets: fields, a beginning, a value."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from over_http import BOUND, TIMEOUT, host
from servers import eventually

from resto_wsgi.errors import DeliveryError
from resto_wsgi.transports.driving import finish
from resto_wsgi.transports.http.connection import REPLY_LIMIT
from resto_wsgi.transports.http.errand import HostAnswer
from resto_wsgi.transports.http.job import Begun, HttpJob, result_of
from resto_wsgi.transports.http.transport import HttpTransport, Opening

CAT = os.urandom(300_000)


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """A master that is open."""
    (tmp_path / "master").write_bytes(CAT)
    with open(tmp_path / "master", "rb", buffering=0) as file:
        yield file


def put_job(transport: HttpTransport, server: Any, file: BinaryIO, **options: Any) -> HttpJob:
    return transport.put_job(host(server), "cat", file, len(CAT), 1e9, **options)


# What goes down


def test_fields_are_said_with_a_put_and_a_delete_and_with_nothing_else(
    transport: HttpTransport, faulty: Any, file: BinaryIO
) -> None:
    """The folders that have to be made, and the look at what is in the way, are not of the caller."""
    server = faulty(("status", 409))
    with pytest.raises(DeliveryError):
        result_of(transport.put_job(host(server), "a/cat", file, len(CAT), 1e9, fields={"X-Way": "1"}))
    with pytest.raises(DeliveryError):
        result_of(transport.delete_job(host(server), "cat", fields={"X-Way": "2"}))
    said = [(seen.method, seen.headers.get("x-way")) for seen in server.requests]
    put = [("PUT", "1"), ("MKCOL", None), ("PUT", "1"), ("HEAD", None)]
    assert said == [*put, ("DELETE", "2"), ("HEAD", None)]


def test_a_digest_that_is_given_is_not_computed(
    transport: HttpTransport, faulty: Any, file: BinaryIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs a read of the file, and the caller knows it already; it goes out as it is."""
    server = faulty(("status", 201))
    monkeypatch.setattr(transport, "is_signed", lambda host: True)
    monkeypatch.setattr(transport, "_digests", None)
    result_of(put_job(transport, server, file, fields={"Repr-Digest": "sha-256=:AA==:"}))
    assert server.requests[0].headers["repr-digest"] == "sha-256=:AA==:"


def test_a_job_may_have_more_time_than_its_transport(hasty: HttpTransport, faulty: Any, file: BinaryIO) -> None:
    """A node waits for those below a child; the next job has the usual time again."""
    server = faulty(("late", 2 * TIMEOUT))
    assert result_of(put_job(hasty, server, file, timeout=10.0)).status == 201
    began = time.monotonic()
    with pytest.raises(DeliveryError, match="no answer"):
        result_of(put_job(hasty, server, file))
    assert time.monotonic() - began < BOUND


def test_what_is_given_along_is_not_looked_at(transport: HttpTransport, faulty: Any, file: BinaryIO) -> None:
    """This transport knows nothing that it could be."""
    server = faulty(("status", 200))
    result_of(put_job(transport, server, file, along=object()))
    result_of(transport.delete_job(host(server), "cat", object()))
    assert [seen.method for seen in server.requests] == ["PUT", "DELETE"]


# What comes up


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_the_answer_is_the_value_with_a_bounded_body(
    transport: HttpTransport, faulty: Any, file: BinaryIO, method: str
) -> None:
    """With its status and its fields, whose names are looked up in any case."""
    told = b'{"nodes": []}'
    server = faulty(("status", 200, {"Content-Type": "application/json"}, told))
    job = put_job(transport, server, file) if method == "PUT" else transport.delete_job(host(server), "cat")
    answer = result_of(job)
    assert isinstance(answer, HostAnswer)
    assert (answer.status, answer.headers.get("content-TYPE"), answer.body) == (
        200,
        "application/json",
        b'{"nodes": []}',
    )
    assert job.value is answer


def test_a_body_in_chunks_or_none_is_empty(transport: HttpTransport, faulty: Any, file: BinaryIO) -> None:
    """Nobody who has something to tell sends one."""

    def chunked(connection: Any, reader: BinaryIO) -> None:
        while server.read_request(reader):
            connection.sendall(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ncat\r\n0\r\n\r\n")

    server = faulty(chunked)
    assert result_of(put_job(transport, server, file)).body == b""
    assert result_of(put_job(transport, faulty(("status", 204)), file)).body == b""


def test_a_body_that_is_too_long_is_no_value(transport: HttpTransport, faulty: Any, file: BinaryIO) -> None:
    """A host that says that all is well and does not come to an end is not trusted, as ever."""
    server = faulty(("status", 201, {}, b"x" * REPLY_LIMIT))
    with pytest.raises(DeliveryError, match="longer than"):
        result_of(put_job(transport, server, file))


def test_an_errand_that_fails_has_no_value(transport: HttpTransport, faulty: Any, file: BinaryIO) -> None:
    """Its outcome says why."""
    job = put_job(transport, faulty(("status", 403, {}, b"no")), file)
    job.start()
    finish(job)
    assert job.value is None and job.outcome is not None and job.outcome.status == 403


def test_a_host_that_is_above_the_node_is_refused_for_good(
    transport: HttpTransport, faulty: Any, file: BinaryIO
) -> None:
    """508 is the one answer of its kind that no waiting changes."""
    with pytest.raises(DeliveryError, match="answered 508: it is above the node that has it in --child") as caught:
        result_of(put_job(transport, faulty(("status", 508)), file))
    assert caught.value.permanent


# A beginning


def begun(transport: HttpTransport, server: Any, count: int) -> Begun:
    """Send the head of a PUT of the file, and ``count`` bytes of it."""
    opening = transport.begin(host(server), "cat", len(CAT), {"X-Way": "1"})
    assert isinstance(opening, Opening)
    connection = opening.origin.new()
    connection.connect()
    connection.sock.sendall(opening.head + CAT[:count])
    return Begun(opening.origin, connection, count)


@pytest.mark.parametrize("count", [0, 1, 100_000, len(CAT)])
def test_a_put_that_was_begun_is_gone_on_with(transport: HttpTransport, nginx: Any, file: BinaryIO, count: int) -> None:
    """The host gets one request, with the whole file; the connection is kept for the next one."""
    assert result_of(put_job(transport, nginx, file, begun=begun(transport, nginx, count))).status == 201
    assert Path(nginx.root, "cat").read_bytes() == CAT


def test_its_fields_are_those_that_it_was_begun_with(transport: HttpTransport, faulty: Any, file: BinaryIO) -> None:
    """Its head is with the host already; there is one connection and one request."""
    server = faulty(("status", 201))
    result_of(put_job(transport, server, file, begun=begun(transport, server, 1000), fields={"X-Way": "2"}))
    (seen,) = server.requests
    assert (seen.headers["x-way"], seen.body, server.connections) == ("1", len(CAT), 1)


def test_a_beginning_that_the_host_hung_up_on_is_not_repeated_in_silence(
    transport: HttpTransport, faulty: Any, file: BinaryIO
) -> None:
    """It has read some of it, and may have died of it: that is for the caller to judge."""
    server = faulty("reset")
    with pytest.raises(DeliveryError) as caught:
        result_of(put_job(transport, server, file, begun=begun(transport, server, 1000)))
    assert not caught.value.untouched and server.connections == 1


def test_a_put_that_is_repeated_is_like_any_other(transport: HttpTransport, faulty: Any, file: BinaryIO) -> None:
    """After its folders were made it goes out whole, with the fields of the job."""
    server = faulty(("status", 409))
    start = begun(transport, server, 1000)
    job = transport.put_job(host(server), "a/cat", file, len(CAT), 1e9, fields={"X-Way": "2"}, begun=start)
    with pytest.raises(DeliveryError):
        result_of(job)
    seen = [(each.method, each.headers.get("x-way"), each.body) for each in server.requests]
    assert seen == [("PUT", "1", len(CAT)), ("MKCOL", None, 0), ("PUT", "2", len(CAT)), ("HEAD", None, 0)]


def test_a_beginning_that_is_given_up_is_cut_short(transport: HttpTransport, nginx: Any, file: BinaryIO) -> None:
    """Before the job was started, too: the host stores nothing of it, and no connection is left open."""
    start = begun(transport, nginx, 1000)
    job = put_job(transport, nginx, file, begun=start)
    job.abandon()
    assert start.connection.sock is None
    job.abandon()
    eventually(lambda: not any(Path(nginx.root).iterdir()))


def test_a_beginning_that_is_not_come_to_is_cut_short(transport: HttpTransport, nginx: Any, file: BinaryIO) -> None:
    """An errand may fail before its first request, where its file is gone."""
    start = begun(transport, nginx, 1000)
    errand = put_job(transport, nginx, file).errand

    def failing() -> Any:
        raise errand.failed("its digest cannot be computed", ours=True)
        yield

    job = HttpJob(transport._pools, errand, failing(), start)
    with pytest.raises(DeliveryError, match="digest"):
        result_of(job)
    assert start.connection.sock is None
