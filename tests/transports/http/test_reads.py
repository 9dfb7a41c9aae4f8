"""What the HTTP transport reads: files, sizes, whether a host is there, and what its refusals are worth."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import format_datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import urllib3
from over_http import BOUND, TIMEOUT, descriptors, host
from servers import KINDS, FaultyServer, eventually

from resto_wsgi.errors import DeliveryError
from resto_wsgi.hosts import Host
from resto_wsgi.transports.http import connection as http_connection
from resto_wsgi.transports.http import headers as http_headers
from resto_wsgi.transports.http import progress as http_progress
from resto_wsgi.transports.http import reply as http_reply
from resto_wsgi.transports.http import transport as http
from resto_wsgi.transports.http.transport import HttpTransport

ODD = [
    "with spaces/in folder and name.txt",
    "#?%+;é/#?%+;é &=@'()!$,*.txt",
    "%2e%2e/%zz%41.txt",
    "日本語.txt",
    "n" * 240,
]
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
STORED_CHUNKED = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., None]:
    """``put(transport, server, name, content)`` sends a file with that content."""

    def put(transport: HttpTransport, server: Any, name: str, content: bytes = b"content", mtime: float = 1e9) -> None:
        (tmp_path / "master").write_bytes(content)
        with (tmp_path / "master").open("rb", buffering=0) as file:
            transport.put(host(server), name, file, len(content), mtime)

    return put


def read(transport: HttpTransport, server: Any, name: str) -> bytes:
    blocks: list[bytes] = []
    transport.get(host(server), name, blocks.append)
    return b"".join(blocks)


def serve(*answers: bytes) -> Callable[[socket.socket, BinaryIO], None]:
    """A behaviour that reads a request, sends the parts of its answer 50 ms apart, and closes."""

    def behave(connection: socket.socket, reader: BinaryIO) -> None:
        while reader.readline() not in (b"\r\n", b""):
            pass
        for number, part in enumerate(answers):
            time.sleep(0.05 if number else 0)
            connection.sendall(part)

    return behave


def drip(begin: bytes, byte: bytes, pause: float = 0.05) -> Callable[[socket.socket, BinaryIO], None]:
    """A behaviour that begins an answer and then makes the least progress there is, until the client is gone."""

    def behave(connection: socket.socket, reader: BinaryIO) -> None:
        while reader.readline() not in (b"\r\n", b""):
            pass
        connection.sendall(begin)
        with contextlib.suppress(OSError):
            while True:
                time.sleep(pause)
                connection.sendall(byte)

    return behave


# Every server


@pytest.mark.parametrize("size", [0, 1, 8 * 1024 * 1024 + 1])
def test_a_file_of_any_size_comes_back_whole(transport: HttpTransport, any_server: Any, put: Any, size: int) -> None:
    """From no byte to more than any buffer on the way holds, and head says the same number."""
    content = os.urandom(size)
    put(transport, any_server, "file.bin", content)
    assert transport.head(host(any_server), "file.bin") == size
    assert read(transport, any_server, "file.bin") == content


@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
def test_odd_names_are_found(transport: HttpTransport, any_server: Any, put: Any, name: str) -> None:
    """What was put under a name is read under it."""
    put(transport, any_server, name, name.encode())
    assert transport.head(host(any_server), name) == len(name.encode())
    assert read(transport, any_server, name) == name.encode()


@pytest.mark.parametrize("name", ["cat.css", "cat.gz", "cat.tar.gz", "cat.html", "cat.unknown"])
def test_no_kind_of_file_is_sent_as_something_else(
    transport: HttpTransport, any_server: Any, put: Any, name: str
) -> None:
    """Neither the name of a compressed file nor one that compresses well changes the bytes that come."""
    put(transport, any_server, name, b"cat " * 10_000)
    assert read(transport, any_server, name) == b"cat " * 10_000


def test_get_returns_the_mtime_that_the_host_has(transport: HttpTransport, any_server: Any, put: Any) -> None:
    """In whole seconds; on nginx and on our node it is the master's."""
    put(transport, any_server, "cat.txt", mtime=1_234_567_890.75)
    mtime = transport.get(host(any_server), "cat.txt", bytes)
    assert mtime == int(os.stat(os.path.join(any_server.root, "cat.txt")).st_mtime)
    if any_server.kind in ("nginx", "node"):
        assert mtime == 1_234_567_890.0


def test_what_is_not_there_is_told_apart_from_what_fails(transport: HttpTransport, any_server: Any, put: Any) -> None:
    """Nothing is written, wherever the name leads to nothing."""
    put(transport, any_server, "cat")
    for name in ("dog", "missing/folder/dog"):
        assert transport.head(host(any_server), name) is None
        with pytest.raises(FileNotFoundError) as caught:
            transport.get(host(any_server), name, pytest.fail)
        assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, name)


def test_a_folder_is_never_read_as_a_file(transport: HttpTransport, any_server: Any, put: Any) -> None:
    """Some servers redirect, some refuse, some say that it is not there."""
    put(transport, any_server, "a/cat")
    with pytest.raises((DeliveryError, FileNotFoundError)):
        transport.get(host(any_server), "a", pytest.fail)
    with contextlib.suppress(DeliveryError):
        assert transport.head(host(any_server), "a") is None


def test_reads_and_writes_share_one_connection(
    transport: HttpTransport, any_server: Any, put: Any, connections: list[Any]
) -> None:
    """Also after an empty file, one that is not there, and a probe."""
    for content in (b"content", b"", bytes(1_000_000)):
        put(transport, any_server, "cat", content)
        assert transport.head(host(any_server), "cat") == len(content)
        assert read(transport, any_server, "cat") == content
        assert transport.head(host(any_server), "dog") is None
        with pytest.raises(FileNotFoundError):
            read(transport, any_server, "dog")
        transport.probe(host(any_server))
    assert [each.port for each in connections].count(any_server.port) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_reads_survive_a_restart_of_the_server(
    transport: HttpTransport, media_servers: Any, put: Any, kind: str
) -> None:
    """The connection that was kept alive is gone, and nobody notices."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (server,) = media_servers(kind, port=port)
    put(transport, server, "cat", b"a cat")
    server.restart()
    assert transport.head(host(server), "cat") == 5
    server.restart()
    assert read(transport, server, "cat") == b"a cat"
    server.restart()
    transport.probe(host(server))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "full"),
        FileNotFoundError("mine"),
        TimeoutError("mine"),
        ValueError("mine"),
        urllib3.exceptions.ProtocolError("mine"),
        http_connection.TooLong(),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_write_raises_goes_on_unchanged(
    transport: HttpTransport, any_server: Any, put: Any, connections: list[Any], error: BaseException
) -> None:
    """The caller knows its own error; the connection, on which the rest would come, is not used again."""

    def write(block: bytes) -> None:
        written.append(len(block))
        raise error

    written: list[int] = []
    put(transport, any_server, "cat", bytes(8_000_000))
    with pytest.raises(BaseException) as caught:
        transport.get(host(any_server), "cat", write)
    assert caught.value is error
    assert len(written) == 1
    put(transport, any_server, "cat", b"after")
    assert read(transport, any_server, "cat") == b"after"
    assert [each.port for each in connections].count(any_server.port) == 2


def test_the_connection_is_dropped_at_once_where_write_raises(hasty: HttpTransport, faulty: Any) -> None:
    """The host need not go on sending what nobody reads."""

    def fail(block: bytes) -> None:
        raise KeyError

    server = faulty(("status", 200, {}, bytes(32 * 1024 * 1024)))
    with pytest.raises(KeyError):
        hasty.get(host(server), "cat", fail)
    eventually(lambda: not server._open)


def test_a_read_leaves_no_descriptor(any_server: Any, put: Any) -> None:
    """After close the process has what it had, whatever happened."""

    def fail(block: bytes) -> None:
        raise OSError

    before = descriptors()
    transport = HttpTransport(5)
    put(transport, any_server, "cat", bytes(3_000_000))
    for _ in range(5):
        with pytest.raises(OSError):
            transport.get(host(any_server), "cat", fail)
        read(transport, any_server, "cat")
    any_server.stop()
    for ask in (transport.head, lambda *a: transport.get(*a, pytest.fail), lambda each, _: transport.probe(each)):
        with pytest.raises(DeliveryError):
            ask(host(any_server), "cat")
    transport.close()
    assert descriptors() <= before  # our node has its own in this process


def test_memory_does_not_grow_with_the_file(transport: HttpTransport, nginx: Any) -> None:
    """A file is never held; blocks come as they arrive."""
    size = 256 * 1024 * 1024
    with open(os.path.join(nginx.root, "large"), "wb") as file:
        file.truncate(size)
    sizes: list[int] = []
    tracemalloc.start()
    try:
        transport.get(host(nginx), "large", lambda block: sizes.append(len(block)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(sizes) == size
    assert max(sizes) <= http_connection.MOVED_BYTES_MAX
    assert peak < 4 * 1024 * 1024


def test_probe_says_whether_a_server_is_there(transport: HttpTransport, any_server: Any) -> None:
    """It sends one request, and changes nothing."""
    transport.probe(host(any_server))
    transport.probe(Host("below", f"{any_server.url}/missing/folder"))
    assert [each for each in os.listdir(any_server.root) if each != ".resto"] == []
    any_server.stop()
    with pytest.raises(DeliveryError, match="refuses connections") as caught:
        transport.probe(host(any_server))
    assert (caught.value.status, caught.value.untouched) == (None, True)


# One server's ways


def test_a_server_that_compresses_is_asked_not_to(transport: HttpTransport, media_servers: Any, put: Any) -> None:
    """The size is the file's, and so are the bytes."""
    (nginx,) = media_servers("nginx", extra="gzip on; gzip_min_length 1; gzip_types *;")
    put(transport, nginx, "cat.txt", b"cat " * 1000)
    assert transport.head(host(nginx), "cat.txt") == 4000
    assert read(transport, nginx, "cat.txt") == b"cat " * 1000


def test_a_server_that_compresses_all_the_same_is_an_error(
    transport: HttpTransport, media_servers: Any, put: Any
) -> None:
    """What it sends is not the file; nothing of it is written."""
    (nginx,) = media_servers("nginx", extra="location /z/ { add_header Content-Encoding gzip; }")
    put(transport, nginx, "z/cat.txt", b"cat")
    for ask in (transport.head, lambda *a: transport.get(*a, pytest.fail)):
        with pytest.raises(DeliveryError, match="compressed") as caught:
            ask(host(nginx), "z/cat.txt")
        assert (caught.value.status, caught.value.permanent, caught.value.untouched) == (200, True, False)


def test_a_server_that_is_being_maintained_says_for_how_long(
    transport: HttpTransport, media_servers: Any, put: Any
) -> None:
    """503 with Retry-After, on every request."""
    (nginx,) = media_servers("nginx", extra='add_header Retry-After 7 always; location / { return 503 "later"; }')
    for ask in (
        lambda: put(transport, nginx, "cat"),
        lambda: transport.delete(host(nginx), "cat"),
        lambda: transport.head(host(nginx), "cat"),
        lambda: transport.get(host(nginx), "cat", pytest.fail),
        lambda: transport.probe(host(nginx)),
    ):
        with pytest.raises(DeliveryError, match="answered 503") as caught:
            ask()
        error = caught.value
        assert (error.status, error.retry_after, error.permanent, error.untouched) == (503, 7.0, False, False)


@pytest.mark.parametrize("kind", ["nginx", "lighttpd", "apache"])
def test_a_refusal_of_a_real_server_leaves_it_untouched(
    transport: HttpTransport, media_servers: Any, put: Any, kind: str
) -> None:
    """A body over the limit was not taken, and the old file stays."""
    (server,) = media_servers(kind, max_body=1024)
    put(transport, server, "cat", b"old")
    with pytest.raises(DeliveryError) as caught:
        put(transport, server, "cat", bytes(3000))
    assert (caught.value.status, caught.value.untouched) == (413, True)
    assert read(transport, server, "cat") == b"old"


def test_a_read_that_is_not_allowed_says_what_to_configure(transport: HttpTransport, media_servers: Any) -> None:
    """Not what a write would need."""
    (nginx,) = media_servers("nginx", extra="location / { deny all; }")
    for ask in (transport.head, lambda *a: transport.get(*a, pytest.fail)):
        with pytest.raises(DeliveryError, match="answered 403: allow GET from here") as caught:
            ask(host(nginx), "cat")
        assert (caught.value.permanent, caught.value.untouched) == (True, True)
    transport.probe(host(nginx))


# Answers


@pytest.mark.parametrize("code", [201, 202, 203, 204, 205, 206, 207, 226, 300, 304, 400, 401, 403, 416, 429, 500, 503])
def test_only_200_is_a_file(hasty: HttpTransport, faulty: Any, code: int) -> None:
    """203 is somebody else's version of it and 206 a part."""
    server = faulty(("status", code, {}, b"" if code == 304 else b"page"))
    for ask in (hasty.head, lambda *a: hasty.get(*a, pytest.fail)):
        with pytest.raises(DeliveryError, match=f"answered {code}") as caught:
            ask(host(server), "cat")
        assert (caught.value.host, caught.value.name, caught.value.status) == (server.url, "cat", code)
    assert [seen.method for seen in server.requests] == ["HEAD", "GET"]


@pytest.mark.parametrize("code", [404, 410])
def test_gone_is_not_there(hasty: HttpTransport, faulty: Any, code: int) -> None:
    """A site's own error page may be large, and is read no further than the limit of a reply."""
    server = faulty(("status", code, {}, bytes(1_000_000)))
    with pytest.raises(FileNotFoundError):
        hasty.get(host(server), "cat", pytest.fail)
    assert hasty.head(host(faulty(("status", code))), "cat") is None


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_read_follows_no_redirect(hasty: HttpTransport, faulty: Any, code: int) -> None:
    """What is elsewhere is not what this host holds."""
    elsewhere = faulty(("status", 200, {}, b"a file"))
    server = faulty(("redirect", code, f"{elsewhere.url}/cat"))
    for ask in (hasty.head, lambda *a: hasty.get(*a, pytest.fail)):
        with pytest.raises(DeliveryError, match="redirects are never followed") as caught:
            ask(host(server), "cat")
        assert (caught.value.status, caught.value.permanent, caught.value.untouched) == (code, True, False)
    hasty.probe(host(server))
    assert elsewhere.connections == 0


@pytest.mark.parametrize("code", [200, 204, 206, 301, 400, 401, 403, 404, 405, 410, 500, 501, 507])
def test_probe_takes_every_answer_of_the_host_itself(hasty: HttpTransport, faulty: Any, code: int) -> None:
    """Whatever it says of its top folder, it is there to say it."""
    server = faulty(("status", code))
    hasty.probe(host(server))
    assert [(seen.method, seen.path) for seen in server.requests] == [("HEAD", "/")]


@pytest.mark.parametrize("behaviour", [("status", 429), ("status", 502), ("status", 503), ("status", 504)])
def test_probe_does_not_take_the_answer_that_it_is_out_of_service(
    hasty: HttpTransport, faulty: Any, behaviour: Any
) -> None:
    """A proxy answers for a host that it does not reach."""
    with pytest.raises(DeliveryError) as caught:
        hasty.probe(host(faulty(behaviour)))
    assert caught.value.status == behaviour[1]


@pytest.mark.parametrize(
    "behaviour", ["refuse", "hang", "garbage", "reset", "drip", "endless_headers", ("status", 102)]
)
def test_every_way_of_asking_a_host_that_fails_is_a_delivery_error_in_bounded_time(
    hasty: HttpTransport, faulty: Any, behaviour: Any
) -> None:
    """No status, and not permanent."""
    server = faulty(behaviour)
    for ask in (
        lambda: hasty.probe(host(server)),
        lambda: hasty.head(host(server), "cat"),
        lambda: hasty.get(host(server), "cat", pytest.fail),
    ):
        begun = time.monotonic()
        with pytest.raises(DeliveryError) as caught:
            ask()
        assert time.monotonic() - begun < BOUND
        assert (caught.value.status, caught.value.permanent) == (None, False)


def test_a_reply_that_is_none_is_closed() -> None:
    """Else Python 3.13 says on stderr that it collected it after its file."""
    made: list[io.BytesIO] = []

    class Source:
        def makefile(self, mode: str) -> io.BytesIO:
            made.append(io.BytesIO(b"garbage\r\n"))
            return made[0]

    with pytest.raises(HTTPException) as caught:
        http_reply.begin_reply(Source(), "GET")
    assert caught.tb and made[0].closed


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"Content-Length": "abc"},
        {"Content-Length": "-1"},
        {"Content-Length": "+4"},
        {"Content-Length": "4.0"},
        {"Content-Length": "4_0"},
        {"Content-Length": "0x4"},
        {"Content-Length": "4, 4"},
        {"Content-Length": "4, 5"},
        {"Content-Length": "\N{SUPERSCRIPT TWO}"},
        {"Content-Length": "9" * 19},
        {"Content-Length": "9" * 5000},
        {"Content-Length": ""},
        {"Content-Length": "4", "Transfer-Encoding": "chunked"},
        {"Content-Length": "4", "Transfer-Encoding": "identity"},
        {"Transfer-Encoding": "gzip, chunked"},
    ],
    ids=range(16),
)
def test_a_length_that_is_none_is_an_error(hasty: HttpTransport, faulty: Any, fields: dict[str, str]) -> None:
    """Without it, and without chunks, the end of the connection could be the end of the file or not."""
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode("latin-1")
    server = faulty(serve(b"HTTP/1.1 200 OK\r\n", head + b"\r\nfile"))
    for ask in (hasty.head, lambda *a: hasty.get(*a, pytest.fail)):
        with pytest.raises(DeliveryError) as caught:
            ask(host(server), "cat")
        assert not caught.value.untouched
    del caught
    gc.collect()  # a socket that was left open would be a warning, and so an error


def test_a_head_without_a_length_is_an_error_although_get_would_do(hasty: HttpTransport, faulty: Any) -> None:
    """In chunks a file has an end, and no size before."""
    server = faulty(serve(CHUNKED, b"3\r\ncat\r\n", b"4;x=y\r\nfish\r\n", b"0\r\nX-Trailer: 1\r\n\r\n"))
    assert read(hasty, server, "cat") == b"catfish"
    with pytest.raises(DeliveryError, match="does not say the size"):
        hasty.head(host(server), "cat")


@pytest.mark.parametrize("value", ["gzip", "x-gzip", "deflate", "br", "zstd", "identity, gzip", "nonsense"])
def test_an_encoded_reply_is_not_decoded_but_an_error(hasty: HttpTransport, faulty: Any, value: str) -> None:
    """A bomb would go off in our memory; and what it decodes to is not what the host holds."""
    server = faulty(("status", 200, {"Content-Encoding": value}, bytes(100)))
    for ask in (hasty.head, lambda *a: hasty.get(*a, pytest.fail)):
        with pytest.raises(DeliveryError, match="compressed, or encoded else"):
            ask(host(server), "cat")


def test_a_length_that_head_leaves_out_is_asked_of_get(hasty: HttpTransport, faulty: Any, put: Any) -> None:
    """Apache does so where it is 0; of another size no byte is read, and the connection is dropped."""

    def answer(connection: socket.socket, reader: BinaryIO) -> None:
        while seen := server.read_request(reader):
            size = 10**9 if seen.path == "/large" else 0
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" if seen.method == "HEAD" else LENGTH % size)

    server = faulty(answer)
    assert hasty.head(host(server), "cat") == hasty.head(host(server), "cat") == 0
    assert hasty.head(host(server), "large") == 10**9
    assert server.connections == 1
    assert hasty.head(host(server), "cat") == 0
    assert server.connections == 2
    gone = faulty(serve(b"HTTP/1.1 200 OK\r\n\r\n"), ("status", 404))
    assert hasty.head(host(gone), "cat") is None


def test_identity_is_no_encoding(hasty: HttpTransport, faulty: Any) -> None:
    """RFC 9110 reserves the word for Accept-Encoding, and some say it all the same."""
    server = faulty(("status", 200, {"Content-Encoding": " Identity "}, b"cat"))
    assert read(hasty, server, "cat") == b"cat"
    assert hasty.head(host(server), "cat") == 3
    assert server.requests[0].headers["accept-encoding"] == "identity"
    assert "range" not in server.requests[0].headers


@pytest.mark.parametrize(
    "value", ["", "yesterday", "0", "Thu, 99 Foo 2020 00:00:00 GMT", "Wed, 31 Dec 1969 23:59:59 GMT"]
)
def test_a_last_modified_that_is_none_is_no_mtime(hasty: HttpTransport, faulty: Any, value: str) -> None:
    """The file is whole all the same."""
    server = faulty(("status", 200, {"Last-Modified": value} if value else {}, b"cat"))
    blocks: list[bytes] = []
    assert hasty.get(host(server), "cat", blocks.append) is None
    assert b"".join(blocks) == b"cat"


# Faults within a file


@pytest.mark.parametrize(
    "answer",
    [
        [LENGTH % 10, b"short"],
        [LENGTH % 10],
        [LENGTH % 10_000_000, bytes(9_999_999)],
        [CHUNKED, b"5\r\nshort\r\n"],
        [CHUNKED, b"5\r\nsho"],
        [CHUNKED, b"5\r\nshort"],
        [CHUNKED],
        [CHUNKED, b"-5\r\nshort\r\n0\r\n\r\n"],
        [CHUNKED, b"-1\r\n" + bytes(1_000_000)],
        [CHUNKED, b"-" + b"f" * 40 + b"\r\nshort\r\n0\r\n\r\n"],
        [CHUNKED, b"nonsense\r\nshort\r\n0\r\n\r\n"],
        [CHUNKED, b"5;" + b"x" * 100_000 + b"\r\nshort\r\n0\r\n\r\n"],
    ],
    ids=range(12),
)
def test_a_file_that_is_cut_short_is_an_error(hasty: HttpTransport, faulty: Any, answer: list[bytes]) -> None:
    """However its host says where it ends."""
    with pytest.raises(DeliveryError, match="the connection broke") as caught:
        hasty.get(host(faulty(serve(*answer))), "cat", bytes)
    assert (caught.value.name, caught.value.status, caught.value.permanent) == ("cat", None, False)
    assert not caught.value.untouched


def test_a_chunk_of_all_that_comes_is_not_held_in_memory(hasty: HttpTransport, faulty: Any) -> None:
    """A size of -1 means "read to the end" to many a library."""
    server = faulty(serve(CHUNKED, b"-1\r\n" + bytes(32 * 1024 * 1024)))
    tracemalloc.start()
    try:
        with pytest.raises(DeliveryError):
            hasty.get(host(server), "cat", len)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (32 + 4) * 1024 * 1024  # the server, in this process, makes the answer


def test_more_than_was_announced_is_left_out(hasty: HttpTransport, faulty: Any) -> None:
    """And the connection that has the rest is not used again."""
    server = faulty(serve(LENGTH % 3, b"catHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ndog"))
    assert read(hasty, server, "cat") == b"cat"
    eventually(lambda: not server._open)
    assert read(hasty, server, "cat") == b"cat"
    assert server.connections == 2


@pytest.mark.parametrize("begin", [LENGTH % 10 + b"half", CHUNKED + b"a\r\nhalf"])
def test_a_file_that_stops_under_way_is_given_up(hasty: HttpTransport, faulty: Any, begin: bytes) -> None:
    """After one step without a byte."""
    begun = time.monotonic()
    with pytest.raises(DeliveryError, match=r"too slow: nothing came within 0\.3 s"):
        hasty.get(host(faulty(drip(begin, b"", pause=0.1))), "cat", bytes)
    assert TIMEOUT <= time.monotonic() - begun < BOUND


def test_a_file_that_is_slow_but_moves_is_waited_for(hasty: HttpTransport, faulty: Any) -> None:
    """Longer than any answer to a write may take, and in more than REPLY_LIMIT bytes."""

    def slowly(connection: socket.socket, reader: BinaryIO) -> None:
        server.read_request(reader)
        connection.sendall(LENGTH % (20 * 10_000))
        for _ in range(20):
            time.sleep(0.1)
            connection.sendall(bytes(10_000))

    server = faulty(slowly)
    assert len(read(hasty, server, "cat")) == 200_000


def test_a_drip_does_not_hold_us_longer_than_its_size_allows(
    hasty: HttpTransport, faulty: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step is in time, and the whole is not: three steps, and a second for each 64 KiB."""
    monkeypatch.setattr(http_progress, "LEAST_RATE", 1000)
    begun = time.monotonic()
    with pytest.raises(DeliveryError, match="too slow: the request took too long on the whole"):
        hasty.get(host(faulty(drip(LENGTH % 1000, b"z"))), "cat", bytes)
    assert http_progress.STEPS * TIMEOUT + 1 <= time.monotonic() - begun < http_progress.STEPS * TIMEOUT + BOUND


@pytest.mark.parametrize(
    ("begin", "byte"), [(LENGTH % 10**17, b"z"), (CHUNKED, b"1\r\nz\r\n"), (CHUNKED + b"0\r\n", b"X-More: 1\r\n")]
)
def test_a_drip_of_any_size_ends(
    hasty: HttpTransport, faulty: Any, monkeypatch: pytest.MonkeyPatch, begin: bytes, byte: bytes
) -> None:
    """Of a length that nobody has, of none, and of trailers after the last byte."""
    monkeypatch.setattr(http_progress, "FILE_SECONDS_MAX", 0.5)
    monkeypatch.setattr(http_progress, "UNSIZED", 0.5)
    begun = time.monotonic()
    with pytest.raises(DeliveryError, match="too slow: the request took too long on the whole"):
        hasty.get(host(faulty(drip(begin, byte))), "cat", bytes)
    assert http_progress.STEPS * TIMEOUT + 0.5 <= time.monotonic() - begun < http_progress.STEPS * TIMEOUT + BOUND


def test_a_slow_writer_is_not_the_fault_of_the_host(hasty: HttpTransport, faulty: Any) -> None:
    """The disk that a file is copied to may take longer than the host has."""
    server = faulty(("status", 200, {}, bytes(2 * 1024 * 1024)))
    slept = threading.Event()
    sizes: list[int] = []

    def write(block: bytes) -> None:
        if not slept.is_set():
            time.sleep(4 * TIMEOUT)
            slept.set()
        sizes.append(len(block))

    hasty.get(host(server), "cat", write)
    assert sum(sizes) == 2 * 1024 * 1024


def test_a_slow_writer_does_not_use_up_the_time_of_the_host(faulty: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the whole request stands still meanwhile."""
    monkeypatch.setattr(http_progress, "LEAST_RATE", 1e9)
    transport = HttpTransport(0.2)
    server = faulty(("status", 200, {}, bytes(3_000_000)))
    sizes: list[int] = []

    def write(block: bytes) -> None:
        sizes.append(len(block))
        if len(sizes) <= 3:
            time.sleep(0.3)

    transport.get(host(server), "cat", write)
    transport.close()
    assert sum(sizes) == 3_000_000


def test_an_error_page_that_does_not_end_is_read_no_further(hasty: HttpTransport, faulty: Any) -> None:
    """Its status is clear without it."""

    def endless(connection: socket.socket, reader: BinaryIO) -> None:
        server.read_request(reader)
        connection.sendall(b"HTTP/1.1 500 Broken\r\n\r\n")
        with contextlib.suppress(OSError):
            while not server.stopped.is_set():
                sent.append(connection.send(bytes(65536)))

    sent: list[int] = []
    server = faulty(endless)
    with pytest.raises(DeliveryError, match="answered 500"):
        hasty.get(host(server), "cat", pytest.fail)
    eventually(lambda: not server._open)
    assert server.connections == 1


# Connections that were kept alive


@pytest.mark.parametrize("ask", ["head", "get", "probe"])
def test_a_read_on_a_stale_connection_is_repeated_once(hasty: HttpTransport, faulty: Any, put: Any, ask: str) -> None:
    """A kept-alive connection that the host had closed says nothing about the host."""
    server = faulty("close_on_reuse", ("status", 200, {}, b"cat"))
    put(hasty, server, "cat")
    if ask == "head":
        assert hasty.head(host(server), "cat") == 3
    elif ask == "get":
        assert read(hasty, server, "cat") == b"cat"
    else:
        hasty.probe(host(server))
    assert server.connections == 2


def test_a_read_is_not_repeated_once_a_byte_of_the_file_came(hasty: HttpTransport, faulty: Any) -> None:
    """The caller has it already."""

    def second_is_cut(connection: socket.socket, reader: BinaryIO) -> None:
        server.read_request(reader)
        connection.sendall(LENGTH % 3 + b"cat")
        server.read_request(reader)
        connection.sendall(LENGTH % 3 + b"c")

    server = faulty(second_is_cut)
    assert read(hasty, server, "cat") == b"cat"
    with pytest.raises(DeliveryError, match="cut short"):
        read(hasty, server, "cat")
    assert server.connections == 1


# Untouched


def failure(work: Callable[[], Any]) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        work()
    return caught.value


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 409, 410, 411, 413, 415, 423, 425, 429, 451])
def test_a_refusal_leaves_the_host_untouched(hasty: HttpTransport, faulty: Any, put: Any, code: int) -> None:
    """It has understood the request, and will not do it."""
    assert failure(lambda: put(hasty, faulty(("status", code)), "cat")).untouched
    if code not in (404, 410):
        assert failure(lambda: hasty.delete(host(faulty(("status", code))), "cat")).untouched


@pytest.mark.parametrize(
    "behaviour",
    [
        *[("status", code) for code in (100, 102, 202, 206, 207, 302, 304, 408, 500, 502, 503, 504, 507)],
        *["hang", "garbage", "endless", "endless_headers", "drip", "gzip_bomb", "reset"],
        pytest.param(serve(STORED_CHUNKED + b"-5\r\nxxxxx\r\n"), id="a chunk of a negative size"),
        pytest.param(serve(STORED_CHUNKED + b"-" + b"f" * 40 + b"\r\n"), id="a chunk of a large negative size"),
        pytest.param(serve(b"HTTP/1.1 40"), id="half of a status line"),
        pytest.param(serve(b""), id="nothing"),
    ],
    ids=str,
)
def test_anything_else_may_have_been_done(hasty: HttpTransport, faulty: Any, put: Any, behaviour: Any) -> None:
    """Or may be done late; 408 is what a host says that lost patience, with the request or with the connection."""
    assert not failure(lambda: put(hasty, faulty(behaviour), "cat")).untouched


def test_a_file_that_shrinks_has_touched_the_host(transport: HttpTransport, any_server: Any, tmp_path: Path) -> None:
    """A part of it was sent."""
    (tmp_path / "master").write_bytes(bytes(1000))
    with (tmp_path / "master").open("rb", buffering=0) as file:
        error = failure(lambda: transport.put(host(any_server), "cat", file, 2000, 0))
    assert (error.status, error.untouched) == (None, False)


def test_a_host_that_was_not_reached_is_untouched(hasty: HttpTransport, faulty: Any, put: Any) -> None:
    """Its port is closed, its name is unknown, or it takes no connection."""
    assert failure(lambda: put(hasty, faulty("refuse"), "cat")).untouched

    class Nowhere:
        url = "http://media.invalid"

    assert failure(lambda: put(hasty, Nowhere, "cat")).untouched
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())

        class Full:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        error = failure(lambda: put(hasty, Full, "cat"))
    assert "no connection within" in error.reason
    assert error.untouched


def test_a_host_with_which_tls_fails_is_untouched(hasty: HttpTransport, faulty: Any, put: Any) -> None:
    """No byte of the request is sent before the handshake is done: not to one that speaks no TLS, nor to a mute."""
    for behaviour in (lambda connection, reader: connection.sendall(b"HTTP/1.1 400 Bad\r\n\r\n"), "hang", "reset"):
        server = faulty(behaviour)
        server.url = server.url.replace("http:", "https:")
        assert failure(lambda: put(hasty, server, "cat")).untouched  # noqa: B023 - called at once


def test_a_host_whose_name_resolved_too_late_is_untouched(
    hasty: HttpTransport, faulty: Any, put: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was connected to, and nothing was sent."""
    begin = http_progress.Exchange.begin

    def over(self: Any, size: int) -> None:
        begin(self, size)
        self.ends = 0.0

    monkeypatch.setattr(http_progress.Exchange, "begin", over)
    server = faulty()
    error = failure(lambda: put(hasty, server, "cat"))
    assert "too long on the whole" in error.reason
    assert error.untouched
    server.stop()
    assert server.requests == []


@pytest.mark.parametrize("then", [("status", 403), ("status", 409), "refuse", "reset"])
def test_a_repeated_request_is_in_doubt_whatever_became_of_the_second(
    hasty: HttpTransport, faulty: Any, put: Any, then: Any
) -> None:
    """The host may have done the first, and died before it said so."""
    server = faulty("close_on_reuse", then if then != "refuse" else "reset")
    put(hasty, server, "cat")
    if then == "refuse":
        server._listener.shutdown(socket.SHUT_RDWR)  # the connection that is kept alive goes on
        eventually(lambda: _refuses(server.port))
    assert not failure(lambda: put(hasty, server, "cat")).untouched
    assert server.connections == (1 if then == "refuse" else 2)


def _refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_a_repeated_request_is_in_doubt_also_where_its_folders_cannot_be_made(
    hasty: HttpTransport, faulty: Any, put: Any
) -> None:
    """Nothing of the last request was sent, and the first may have been done."""

    def refuse_and_go(connection: socket.socket, reader: BinaryIO) -> None:
        server.read_request(reader)
        server._listener.shutdown(socket.SHUT_RDWR)
        connection.sendall(b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    server = faulty("close_on_reuse", refuse_and_go)
    put(hasty, server, "cat")
    error = failure(lambda: put(hasty, server, "a/cat"))
    assert "refuses connections" in error.reason
    assert not error.untouched


def test_a_stale_connection_that_was_found_out_before_leaves_no_doubt(
    hasty: HttpTransport, faulty: Any, put: Any
) -> None:
    """Nothing was sent on it."""
    server = faulty("close_idle", ("status", 403))
    put(hasty, server, "cat")
    eventually(lambda: not server._open)
    assert failure(lambda: put(hasty, server, "cat")).untouched


def test_a_refusal_after_the_folders_were_made_leaves_the_host_untouched(
    hasty: HttpTransport, faulty: Any, put: Any
) -> None:
    """Folders are not what was asked; each request was answered."""
    assert failure(lambda: put(hasty, faulty(("status", 409)), "a/b/cat")).untouched


def test_folders_that_take_too_long_leave_the_host_untouched(
    hasty: HttpTransport, faulty: Any, put: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file was refused before them, and is not sent again."""
    monkeypatch.setattr(http, "STEPS", -1)
    server = faulty(("status", 409))
    error = failure(lambda: put(hasty, server, "a/b/cat"))
    assert "its folders took too long" in error.reason
    assert (error.status, error.untouched) == (None, True)
    assert [seen.method for seen in server.requests] == ["PUT"]


def test_folders_whose_answer_did_not_come_leave_doubt(hasty: HttpTransport, faulty: Any, put: Any) -> None:
    """A folder may be made late, where the file should be by then."""

    def only_first(connection: socket.socket, reader: BinaryIO) -> None:
        server.read_request(reader)
        connection.sendall(b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n")
        server.read_request(reader)
        server.stopped.wait(5)

    server = faulty(only_first)
    error = failure(lambda: put(hasty, server, "a/b/cat"))
    assert (error.status, error.untouched) == (None, False)


# Retry-After


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("3601", 3600.0),
        ("9" * 5000, 3600.0),
        ("-1", None),
        ("+5", None),
        ("1.5", None),
        ("1e3", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        ("5, 7", None),
        ("\N{SUPERSCRIPT TWO}", None),
        ("Fri, 13 Feb 2009 23:31:40 GMT", 10.0),
        ("Friday, 13-Feb-09 23:31:40 GMT", 10.0),
        ("Fri Feb 13 23:31:40 2009", 10.0),
        ("Fri, 13 Feb 2009 23:31:30 GMT", 0.0),
        ("Fri, 13 Feb 2009 23:31:29 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        ("Fri, 99 Feb 2009 23:31:40 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    """RFC 9110, section 10.2.3; what is neither says nothing, and nobody waits longer than an hour."""
    assert http_headers.retry_after({"Retry-After": text}, 1_234_567_890) == seconds


def test_retry_after_comes_with_every_refusal(hasty: HttpTransport, faulty: Any, put: Any) -> None:
    """As a number or as a date; with none it is None."""
    date = format_datetime(datetime.fromtimestamp(time.time() + 100, timezone.utc), usegmt=True)
    for code in (403, 413, 429, 500, 503, 507):
        error = failure(lambda: put(hasty, faulty(("status", code, {"Retry-After": "12"})), "cat"))  # noqa: B023
        assert error.retry_after == 12.0
    error = failure(lambda: hasty.delete(host(faulty(("status", 503, {"retry-after": date}))), "cat"))
    assert error.retry_after is not None
    assert 90 < error.retry_after <= 100
    assert failure(lambda: put(hasty, faulty(("status", 503)), "cat")).retry_after is None
    assert failure(lambda: put(hasty, faulty("reset"), "cat")).retry_after is None


# Headers alone


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Fri, 13 Feb 2009 23:31:30 GMT", 1_234_567_890.0),
        ("Fri, 13 Feb 2009 23:31:30 -0000", 1_234_567_890.0),
        ("Fri, 13 Feb 2009 23:31:30 +0100", 1_234_564_290.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Wed, 31 Dec 1969 23:59:59 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),
        ("Mon, 01 Jan 1900 00:00:00 +2359", None),
        ("1234567890", None),
        ("", None),
    ],
)
def test_an_mtime_is_one_that_can_be_passed_on(text: str, seconds: float | None) -> None:
    """To a disk, and to a Date header."""
    assert http_headers.mtime({"Last-Modified": text}) == seconds


def test_tls_files_are_read_too(
    transport: HttpTransport, faulty: Any, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file comes whole, one that is cut is an error, and both are read in blocks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    def answer(connection: socket.socket, reader: BinaryIO) -> None:
        with context.wrap_socket(connection, server_side=True) as secure, secure.makefile("rb") as secure_reader:
            while seen := server.read_request(secure_reader):
                secure.sendall(LENGTH % 3_000_000 + bytes(3_000_000 if seen.path == "/whole" else 2_000_000))
                if seen.path != "/whole":
                    return

    server: FaultyServer = faulty(answer)
    server.url = server.url.replace("http:", "https:")
    assert read(transport, server, "whole") == read(transport, server, "whole") == bytes(3_000_000)
    assert server.connections == 1
    with pytest.raises(DeliveryError):
        read(transport, server, "cut")
