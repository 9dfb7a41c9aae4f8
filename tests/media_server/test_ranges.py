"""Ranges of a file: what is understood of the header, and the bytes that are sent."""

from __future__ import annotations

import contextlib
import email
import http.client
import os
import time
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from node_requests import ask, open_descriptors
from servers import LOOPBACK, Node

from resto_wsgi.media_server import MediaServer
from resto_wsgi.media_server.ranges import RANGES_MAX, Unsatisfiable, parse


@pytest.mark.parametrize(
    ("header", "spans"),
    [
        ("bytes=0-3", [(0, 4)]),
        ("bytes=0-0,-1", [(0, 1), (9, 10)]),
        ("BYTES = 5-5 ,, 0-1", [(5, 6), (0, 2)]),
        ("bytes=8-99,99-", [(8, 10)]),
        ("bytes=0-5,4-9", None),
        ("bytes=0-,0-", None),
        ("bytes=0-3,x", None),
        ("bytes=", None),
        ("bytes=,", None),
        ("bytes=0-3,5-4", None),
        ("bytes=" + ",".join(["0-0"] * RANGES_MAX), None),
        ("bytes=\u0661-2", None),
        ("0-3", None),
    ],
)
def test_ranges_are_read(header: str, spans: list[tuple[int, int]] | None) -> None:
    """None is the whole file: for what is not understood, and for more than is reasonable."""
    assert parse(header, 10) == spans


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20,-0", "bytes=99-100"])
def test_ranges_outside_the_file(header: str) -> None:
    """None of them in the file: 416."""
    with pytest.raises(Unsatisfiable):
        parse(header, 10)


def test_as_many_ranges_as_are_allowed() -> None:
    """One more is the whole file."""
    header = "bytes=" + ",".join(f"{each}-{each}" for each in range(RANGES_MAX))
    assert len(parse(header, 1000) or []) == RANGES_MAX
    assert parse(f"{header},99-99", 1000) is None


TEN = b"0123456789"


def parts(reply: Any) -> list[tuple[str, str, bytes]]:
    """Return the type, the range and the bytes of each part of a multipart answer, as an email parser sees them."""
    head = f"Content-Type: {reply.headers['Content-Type']}\r\n\r\n".encode()
    found: Any = email.message_from_bytes(head + reply.body).get_payload()
    return [(each["Content-Type"], each["Content-Range"], each.get_payload(decode=True)) for each in found]


def test_several_ranges_are_a_multipart_answer(app: MediaServer, root: Path) -> None:
    """Each with its type and place, in the order asked for, under a length that is right (RFC 9110, section 14.6)."""
    (root / "x.jpg").write_bytes(TEN)
    before = open_descriptors()
    reply = ask(app, "GET", "/x.jpg", HTTP_RANGE="bytes=7-,0-1")
    assert reply.status_code == 206
    assert reply.headers["Content-Type"].startswith("multipart/byteranges; boundary=")
    assert int(reply.headers["Content-Length"]) == len(reply.body)
    assert parts(reply) == [("image/jpeg", "bytes 7-9/10", b"789"), ("image/jpeg", "bytes 0-1/10", b"01")]
    assert "Content-Range" not in reply.headers
    assert open_descriptors() <= before


def test_a_million_ranges_are_the_whole_file_at_once(app: MediaServer, root: Path) -> None:
    """In no time, although each would be allowed."""
    (root / "x").write_bytes(bytes(2_000_000))
    header = "bytes=" + ",".join(["1-1"] * 1_000_000)
    began = time.process_time()
    reply = ask(app, "GET", "/x", HTTP_RANGE=header)
    assert (reply.status_code, len(reply.body)) == (200, 2_000_000)
    assert time.process_time() - began < 0.5


def test_a_file_that_shrinks_while_it_is_sent_ends_the_connection(app: MediaServer, root: Path) -> None:
    """What came is not taken for all of it."""
    (root / "x").write_bytes(bytes(1_000_000))
    answer = app({"REQUEST_METHOD": "GET", "PATH_INFO": "/x", "wsgi.input": None}, lambda *_: None)  # type: ignore[arg-type]
    blocks = iter(answer)
    next(blocks)
    os.truncate(root / "x", 10)
    with pytest.raises(EOFError):
        list(blocks)
    answer.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("wanted", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=x", 200, b"0123456789", None),
        ("bytes=5-2", 200, b"0123456789", None),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=" + "9" * 5000 + "-", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
    ],
)
@pytest.mark.parametrize("wrapper", [None, FileWrapper])
def test_one_range_is_sent(
    app: MediaServer, root: Path, wanted: str, status: int, body: bytes | None, content_range: str | None, wrapper: Any
) -> None:
    """206, 416, or the whole file where the range is several or none (RFC 9110, section 14.2)."""
    (root / "x").write_bytes(b"0123456789")
    before = open_descriptors()
    reply = ask(app, "GET", "/x", HTTP_RANGE=wanted, **({"wsgi.file_wrapper": wrapper} if wrapper else {}))
    assert (reply.status_code, reply.headers.get("Content-Range")) == (status, content_range)
    assert body is None or (reply.body, reply.headers["Content-Length"]) == (body, str(len(body)))
    assert open_descriptors() <= before


def test_a_range_late_in_a_large_file_is_seeked(node: Node, root: Path) -> None:
    """The last bytes of a sparse file of 8 GiB come at once."""
    with open(root / "large", "wb") as file:
        file.truncate(8 << 30)
        file.seek(-3, os.SEEK_END)
        file.write(b"end")
    connection = http.client.HTTPConnection(LOOPBACK, node.port, timeout=2)
    with contextlib.closing(connection):
        connection.request("GET", "/large", headers={"Range": "bytes=-3"})
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (206, b"end")
