"""Readings: replies that are read as they come, for nodes that pass them on or go on where a file broke off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from over_http import BOUND, TIMEOUT, descriptors, host
from raw_hosts import answering

from resto_wsgi.errors import DeliveryError
from resto_wsgi.transports.http import reading as http_reading
from resto_wsgi.transports.http.reading import Reading
from resto_wsgi.transports.http.transport import HttpTransport

FILE = b"0123456789" * 100_000


def told(head: bytes, *body: bytes, pause: float = 0.0, kept: bool = True) -> Any:
    """A behaviour: each request is answered with a head, and a body in parts."""

    def script(connection: Any, reader: Any) -> None:
        while reader.readline():
            while reader.readline().strip():
                pass
            connection.sendall(head)
            for part in body:
                connection.sendall(part)
                time.sleep(pause)
            if not kept:
                return

    return script


def read(transport: HttpTransport, server: Any, method: str = "GET", **fields: str) -> Reading:
    return transport.read(
        host(server), method, "/cat", {name.replace("_", "-"): value for name, value in fields.items()}
    )


def test_a_file_comes_block_by_block(transport: HttpTransport, faulty: Any) -> None:
    """No more at a time than is wanted, and all of it; what the host says of it is there before."""
    server = faulty(("status", 206, {"ETag": '"1"'}, FILE))
    with read(transport, server, Range="bytes=0-") as reading:
        assert (reading.status, reading.headers["etag"], reading.size, reading.ends) == (206, '"1"', len(FILE), True)
        blocks = list(reading.blocks(4096))
    assert b"".join(blocks) == FILE and max(map(len, blocks)) <= 4096
    assert server.requests[0].headers["range"] == "bytes=0-"


@pytest.mark.parametrize("size", [0, 1000, http_reading.SHORT + 1])
def test_a_connection_is_kept_if_what_is_left_costs_less_than_a_new_one(
    transport: HttpTransport, faulty: Any, size: int
) -> None:
    """Read to its end, or short and not wanted."""
    server = faulty(("status", 404, {}, b"x" * size))
    for _ in range(2):
        with read(transport, server) as reading:
            assert reading.status == 404
    assert server.connections == (1 if size <= http_reading.SHORT else 2)
    for _ in range(2):
        with read(transport, server) as reading:
            assert len(reading.text(size)) == size
    assert server.connections == (1 if size <= http_reading.SHORT else 3)


def test_a_reply_in_chunks_is_read_as_one(transport: HttpTransport, faulty: Any) -> None:
    """It says where it ends, but not how long it is."""
    server = faulty(told(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\ncat\r\n", b"0\r\n\r\n"))
    for _ in range(2):
        with read(transport, server) as reading:
            assert (reading.size, reading.ends, reading.text(3)) == (None, True, b"cat")
    assert server.connections == 1


def test_a_reply_without_an_end_is_known_as_such(transport: HttpTransport, faulty: Any) -> None:
    """One that broke could not be told from a whole one, so the caller decides what it is worth."""
    server = faulty(told(b"HTTP/1.1 200 OK\r\n\r\n", b"cat", kept=False))
    with read(transport, server) as reading:
        assert not reading.ends and b"".join(reading.blocks()) == b"cat"


def test_a_reply_that_breaks_off_is_an_error(hasty: HttpTransport, faulty: Any) -> None:
    """That says how much came, so that the caller can go on from there."""
    server = faulty(told(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b"012", kept=False))
    with read(hasty, server) as reading, pytest.raises(DeliveryError, match="3 bytes came, and 7 did not"):
        list(reading.blocks())


def test_a_reply_that_stops_is_an_error_in_bounded_time(hasty: HttpTransport, faulty: Any) -> None:
    """What came before is with the caller."""
    server = faulty(told(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b"012", pause=3 * TIMEOUT))
    began, came = time.monotonic(), b""

    def all_of(blocks: Iterator[bytes]) -> None:
        nonlocal came
        for block in blocks:
            came += block

    with read(hasty, server) as reading, pytest.raises(DeliveryError, match="nothing came within"):
        all_of(reading.blocks(1))
    assert came == b"012" and time.monotonic() - began < BOUND


def test_the_time_of_the_caller_is_not_that_of_the_host(hasty: HttpTransport, faulty: Any) -> None:
    """Whoever passes a block on may take as long as his client does."""
    server = faulty(("status", 200, {}, b"cat"))
    with read(hasty, server) as reading:
        for _ in reading.blocks(1):
            time.sleep(1.5 * TIMEOUT)


def test_a_text_is_bounded(transport: HttpTransport, faulty: Any) -> None:
    """A page that is longer than the caller wants is an error, and is not held in memory."""
    server = faulty(("status", 200, {}, b"x" * 101))
    with read(transport, server) as reading, pytest.raises(DeliveryError, match="longer than 100 bytes"):
        reading.text(100)


def test_a_connection_that_the_host_had_closed_is_tried_once_more(transport: HttpTransport, faulty: Any) -> None:
    """A new one is not."""
    server = faulty("close_on_reuse")
    for _ in range(2):
        with read(transport, server) as reading:
            assert reading.status == 201
    assert server.connections == 2
    refusing = faulty("refuse")
    with pytest.raises(DeliveryError, match="refuses connections") as caught:
        read(transport, refusing)
    assert caught.value.untouched


def test_a_read_that_is_answered_408_on_a_connection_that_was_kept_is_repeated(
    transport: HttpTransport, faulty: Any
) -> None:
    """The host had ended the connection while it was idle; on a new one it is an answer like any other."""
    good, late = (b"HTTP/1.1 %s\r\nContent-Length: 3\r\n\r\ncat" % status for status in (b"200 OK", b"408 Late"))

    def script(*answers: bytes) -> Callable[..., None]:
        return lambda connection, reader: answering(*answers)(server, connection, reader)

    server = faulty(script(good, late), script(good), script(late))
    for _ in range(2):
        with read(transport, server) as reading:
            assert (reading.status, reading.text(10)) == (200, b"cat")
    transport.close()
    with read(transport, server) as reading:
        assert reading.status == 408
    assert server.connections == 3


def test_a_host_that_says_nothing_is_an_error_in_bounded_time(hasty: HttpTransport, faulty: Any) -> None:
    """And leaves no descriptor."""
    server = faulty("hang")
    before, began = descriptors(), time.monotonic()
    with pytest.raises(DeliveryError):
        read(hasty, server)
    assert time.monotonic() - began < BOUND
    hasty.close()
    assert descriptors() <= before + 1  # the server's own end


@pytest.mark.parametrize(
    ("status", "reason"), [(500, "answered 500"), (403, "answered 403"), (508, "answered 508: it is above")]
)
def test_a_status_that_was_not_wanted_is_told(transport: HttpTransport, faulty: Any, status: int, reason: str) -> None:
    """With what to do if a child leads back to its parent, which only a person can mend."""
    with read(transport, faulty(("status", status))) as reading:
        error = reading.refused()
    assert error.status == status and error.reason.startswith(reason)
    assert reading.failed("why").reason == "why"
