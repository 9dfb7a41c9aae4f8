"""The HTTP transport: one suite against every media server, then every fault that a server can be made to have."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import urllib3
from over_http import BOUND, TIMEOUT, descriptors, host
from servers import KINDS, PATIENCE, FaultyServer, eventually, free_port

from resto_wsgi.errors import DeliveryError
from resto_wsgi.hosts import Host
from resto_wsgi.transports.http import connection as http_connection
from resto_wsgi.transports.http import flight as http_flight
from resto_wsgi.transports.http.transport import HttpTransport

ODD = [
    "plain.txt",
    "with spaces/in folder and name.txt",
    "#?%+;é/#?%+;é &=@'()!$,*.txt",
    "%2e%2e/%zz%41.txt",
    "Zażółć/gęślą jaźń.txt",
    "日本語.txt",
    "https:/a/b.txt",
    "n" * 240,
    "é" * 120 + "/" + "é" * 120,
]


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., None]:
    """``put(transport, server, name, content)`` sends a file with that content."""

    def put(
        transport: HttpTransport,
        server: Any,
        name: str,
        content: bytes = b"content",
        mtime: float = 1e9,
        size: int = -1,
    ) -> None:
        path = tmp_path / "master"
        path.write_bytes(content)
        with path.open("rb", buffering=0) as file:
            transport.put(host(server), name, file, len(content) if size < 0 else size, mtime)

    return put


def get(server: Any, name: str) -> bytes:
    """Return what the server serves under a name."""
    reply = urllib3.request("GET", host(server).url_of(name), timeout=5)
    assert reply.status == 200, reply.status
    return reply.data


def held(server: Any, name: str) -> bytes | None:
    """Return what is under a name on the disk of a server, None where there is nothing."""
    path = Path(server.root, name)
    return path.read_bytes() if path.exists() else None


# Every server


def test_put_is_served_under_its_name(transport: HttpTransport, any_server: Any, put: Any) -> None:
    """When put returns, a reader gets the very bytes."""
    put(transport, any_server, "cat.txt", b"a cat")
    assert get(any_server, "cat.txt") == held(any_server, "cat.txt") == b"a cat"


def test_put_replaces_what_was_there(transport: HttpTransport, any_server: Any, put: Any) -> None:
    """A shorter file leaves nothing of a longer one."""
    put(transport, any_server, "cat.txt", b"a long tale of a cat")
    put(transport, any_server, "cat.txt", b"cat")
    assert get(any_server, "cat.txt") == held(any_server, "cat.txt") == b"cat"


def test_put_makes_the_folders_that_are_missing(transport: HttpTransport, any_server: Any, put: Any) -> None:
    """nginx and our node make them by themselves, lighttpd and Apache are told to; those that exist are used."""
    put(transport, any_server, "a/b/c/cat.txt", b"first")
    put(transport, any_server, "a/b/d/cat.txt", b"second")
    assert held(any_server, "a/b/c/cat.txt") == b"first"
    assert held(any_server, "a/b/d/cat.txt") == b"second"


@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
def test_odd_names_make_a_round_trip(transport: HttpTransport, any_server: Any, put: Any, name: str) -> None:
    """The name on the server's disk is the name on ours, and its URL serves it."""
    put(transport, any_server, name, name.encode())
    assert held(any_server, name) == name.encode()
    assert get(any_server, name) == name.encode()
    transport.delete(host(any_server), name)
    assert held(any_server, name) is None


@pytest.mark.parametrize("size", [0, 1, 8 * 1024 * 1024 + 1])
def test_files_of_any_size_arrive_whole(transport: HttpTransport, any_server: Any, put: Any, size: int) -> None:
    """From no byte to more than any buffer on the way holds."""
    content = os.urandom(size)
    put(transport, any_server, "file.bin", content)
    assert held(any_server, "file.bin") == content
    assert get(any_server, "file.bin") == content


def test_the_position_of_the_file_does_not_matter(transport: HttpTransport, any_server: Any, tmp_path: Path) -> None:
    """Many hosts read one open file at once, each at an offset of its own."""
    (tmp_path / "master").write_bytes(b"0123456789")
    with (tmp_path / "master").open("rb", buffering=0) as file:
        file.seek(5)
        transport.put(host(any_server), "digits", file, 10, 0)
        assert file.tell() == 5
    assert held(any_server, "digits") == b"0123456789"


def test_delete_removes_a_file_and_only_that(transport: HttpTransport, any_server: Any, put: Any) -> None:
    """Its neighbour stays."""
    put(transport, any_server, "a/cat")
    put(transport, any_server, "a/dog")
    transport.delete(host(any_server), "a/cat")
    assert held(any_server, "a/cat") is None
    assert held(any_server, "a/dog") == b"content"


def test_delete_of_what_is_not_there_is_fine(transport: HttpTransport, any_server: Any, put: Any) -> None:
    """Gone is gone, also where the folder is missing, and as often as one likes."""
    put(transport, any_server, "cat")
    for name in ("cat", "cat", "missing/folder/cat"):
        transport.delete(host(any_server), name)


def test_delete_never_removes_a_folder(transport: HttpTransport, any_server: Any, put: Any) -> None:
    """Without Depth: 0 two of the servers would remove the whole tree, and say 204; there is no file, so it is done."""
    put(transport, any_server, "a/b é/cat")
    for name in ("a", "a/b é", "a/b é"):
        transport.delete(host(any_server), name)
    assert held(any_server, "a/b é/cat") == b"content"


@pytest.mark.parametrize("status", [400, 403, 405, 409])
@pytest.mark.parametrize(
    ("answer", "done"),
    [
        ((301, "{url}/a/cat/"), True),
        ((308, "/a/cat/"), True),
        ((301, "/a/cat/?from=elsewhere"), True),
        ((302, "/a/cat/"), False),
        ((301, "/login/"), False),
        ((301, "{url}/a/cat"), False),
        ((200, ""), False),
        ((403, ""), False),
        ((500, ""), False),
    ],
)
def test_a_delete_that_is_refused_is_done_only_where_the_name_is_a_folder(
    transport: HttpTransport, faulty: Any, status: int, answer: tuple[int, str], done: bool
) -> None:
    """Else the file may be there, and be public: the refusal is what is told."""
    code, location = answer

    def script(connection: Any, reader: Any) -> None:
        while request := server.read_request(reader):
            lines = [f"HTTP/1.1 {status if request.method == 'DELETE' else code} Whatever", "Content-Length: 0"]
            if request.method == "HEAD" and location:
                lines.append(f"Location: {location.format(url=server.url)}")
            connection.sendall("\r\n".join([*lines, "", ""]).encode())

    server = faulty(script)
    if done:
        transport.delete(host(server), "a/cat")
    else:
        with pytest.raises(DeliveryError) as caught:
            transport.delete(host(server), "a/cat")
        assert caught.value.status == status
    assert [(seen.method, seen.path) for seen in server.requests] == [("DELETE", "/a/cat"), ("HEAD", "/a/cat")]


def test_put_below_a_file_is_refused(transport: HttpTransport, any_server: Any, put: Any) -> None:
    """The error says what the host answered, and the file stays."""
    put(transport, any_server, "cat", b"a file")
    with pytest.raises(DeliveryError) as caught:
        put(transport, any_server, "cat/kitten")
    assert (caught.value.host, caught.value.name) == (any_server.url, "cat/kitten")
    assert caught.value.status is not None and caught.value.status >= 400
    assert held(any_server, "cat") == b"a file"


def test_put_over_a_folder_is_refused(transport: HttpTransport, any_server: Any, put: Any) -> None:
    """What is in the folder stays."""
    put(transport, any_server, "a/cat")
    with pytest.raises(DeliveryError):
        put(transport, any_server, "a")
    assert held(any_server, "a/cat") == b"content"


def test_connections_are_kept_alive(
    transport: HttpTransport, any_server: Any, put: Any, connections: list[Any]
) -> None:
    """Ten requests after one another are one connection, also where they were refused."""
    for number in range(5):
        put(transport, any_server, f"cat-{number}")
    for number in range(5):
        transport.delete(host(any_server), f"cat-{number}")
    transport.delete(host(any_server), "cat-0")
    assert [each.port for each in connections].count(any_server.port) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_put_survives_a_restart_of_the_server(
    transport: HttpTransport, media_servers: Any, put: Any, kind: str
) -> None:
    """The connection that was kept alive is gone, and nobody notices."""
    # A port that cheroot picks by itself cannot be had again while a connection to it is known to the kernel.
    (server,) = media_servers(kind, port=free_port())
    put(transport, server, "cat", b"before")
    server.restart()
    put(transport, server, "cat", b"after")
    assert held(server, "cat") == b"after"
    server.restart()
    transport.delete(host(server), "cat")
    assert held(server, "cat") is None


def test_a_file_that_shrinks_under_way_is_never_acknowledged(
    transport: HttpTransport, any_server: Any, put: Any
) -> None:
    """The host keeps its old file, or none, and is not told that the short one is whole."""
    put(transport, any_server, "cat", b"old")
    for name, before in (("cat", b"old"), ("dog", None)):
        with pytest.raises(DeliveryError, match="the master ends at 300000 bytes of 600000") as caught:
            put(transport, any_server, name, bytes(300_000), size=600_000)
        assert (caught.value.status, caught.value.permanent) == (None, False)
        assert held(any_server, name) == before
    put(transport, any_server, "cat", b"new")
    assert held(any_server, "cat") == b"new"


def test_a_file_that_grows_under_way_is_sent_as_it_was(transport: HttpTransport, any_server: Any, put: Any) -> None:
    """The size is what was told, so the next request on the connection is understood."""
    put(transport, any_server, "cat", b"0123456789", size=4)
    put(transport, any_server, "dog", b"next")
    assert held(any_server, "cat") == b"0123"
    assert held(any_server, "dog") == b"next"


def test_a_failed_transfer_leaves_no_descriptor(any_server: Any, put: Any) -> None:
    """After close the process has what it had, whatever happened."""
    before = descriptors()
    transport = HttpTransport(5)
    put(transport, any_server, "cat")
    with pytest.raises(DeliveryError):
        put(transport, any_server, "cat", b"x", size=2)
    any_server.stop()
    with pytest.raises(DeliveryError):
        put(transport, any_server, "cat")
    transport.close()
    transport.close()
    assert descriptors() <= before  # our node has its own in this process


# One server's ways


def test_nginx_takes_the_mtime_of_the_master(transport: HttpTransport, nginx: Any, put: Any) -> None:
    """So ETag and Last-Modified are equal on every replica."""
    put(transport, nginx, "cat", mtime=1_234_567_890.75)
    reply = urllib3.request("HEAD", host(nginx).url_of("cat"))
    assert reply.headers["Last-Modified"] == "Fri, 13 Feb 2009 23:31:30 GMT"


def test_nginx_without_full_put_path_is_told_what_to_configure(
    transport: HttpTransport, media_servers: Any, put: Any
) -> None:
    """Its 500 for a missing folder could be anything, so no folder is made; a folder that is there is used."""
    (nginx,) = media_servers("nginx", full_put_path=False)
    with pytest.raises(DeliveryError, match="look at create_full_put_path") as caught:
        put(transport, nginx, "a/cat")
    assert (caught.value.status, caught.value.permanent) == (500, False)
    os.mkdir(os.path.join(nginx.root, "a"))
    put(transport, nginx, "a/cat")
    assert held(nginx, "a/cat") == b"content"


@pytest.mark.parametrize("kind", ["nginx", "lighttpd", "apache"])
def test_a_body_over_the_limit_of_the_server_is_a_permanent_413(
    transport: HttpTransport, media_servers: Any, put: Any, kind: str
) -> None:
    """Sending the same file again cannot help; a smaller one is taken."""
    (server,) = media_servers(kind, max_body=1024)
    with pytest.raises(DeliveryError, match="raise its limit of the body size") as caught:
        put(transport, server, "cat", bytes(200_000))
    assert (caught.value.status, caught.value.permanent) == (413, True)
    assert held(server, "cat") is None
    put(transport, server, "cat", b"small")
    assert held(server, "cat") == b"small"


def test_a_server_that_does_not_allow_put_is_a_permanent_error(
    transport: HttpTransport, media_servers: Any, put: Any
) -> None:
    """The error says what to configure."""
    (nginx,) = media_servers("nginx", extra="location /closed/ { deny all; } location /plain/ { dav_methods off; }")
    with pytest.raises(DeliveryError, match="answered 403: allow PUT and DELETE from here") as caught:
        put(transport, nginx, "closed/cat")
    assert (caught.value.status, caught.value.permanent) == (403, True)
    with pytest.raises(DeliveryError, match="answered 405: enable PUT and DELETE") as caught:
        put(transport, nginx, "plain/cat")
    assert (caught.value.status, caught.value.permanent) == (405, True)


# Answers


@pytest.mark.parametrize("code", [300, 301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(hasty: HttpTransport, faulty: Any, put: Any, code: int) -> None:
    """Neither a PUT nor a DELETE goes where the configuration did not say."""
    elsewhere = faulty()
    server = faulty(("redirect", code, f"{elsewhere.url}/cat"))
    for send in (lambda: put(hasty, server, "cat"), lambda: hasty.delete(host(server), "cat")):
        with pytest.raises(DeliveryError, match="redirects are never followed") as caught:
            send()
        assert (caught.value.host, caught.value.name) == (server.url, "cat")
        assert (caught.value.status, caught.value.permanent) == (code, True)
    assert elsewhere.connections == 0
    assert [seen.method for seen in server.requests] == ["PUT", "DELETE"]


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 410, 411, 412, 413, 414, 415, 416, 422, 451])
def test_other_4xx_are_permanent(hasty: HttpTransport, faulty: Any, put: Any, code: int) -> None:
    """Repeating cannot help before somebody changes the host; it is not tried."""
    server = faulty(("status", code))
    with pytest.raises(DeliveryError) as caught:
        put(hasty, server, "cat")
    assert (caught.value.host, caught.value.name, caught.value.status) == (server.url, "cat", code)
    assert caught.value.permanent
    assert f"answered {code}: " in str(caught.value)
    assert [seen.method for seen in server.requests if seen.method != "HEAD"] == ["PUT"]


@pytest.mark.parametrize("code", [408, 409, 423, 425, 429, 500, 502, 503, 504, 507, 599])
def test_5xx_and_some_4xx_are_temporary(hasty: HttpTransport, faulty: Any, put: Any, code: int) -> None:
    """A later try may get past; this one is not repeated."""
    server = faulty(("status", code))
    with pytest.raises(DeliveryError) as caught:
        put(hasty, server, "cat")
    assert (caught.value.status, caught.value.permanent) == (code, False)
    assert [seen.method for seen in server.requests if seen.method != "HEAD"] == ["PUT"]


@pytest.mark.parametrize("code", [100, 102, 202, 203, 205, 206, 207, 299])
def test_an_answer_that_does_not_say_that_the_file_is_there_is_an_error(
    hasty: HttpTransport, faulty: Any, put: Any, code: int
) -> None:
    """202 only promises, and an interim answer without a final one says nothing."""
    with pytest.raises(DeliveryError):
        put(hasty, faulty(("status", code)), "cat")


@pytest.mark.parametrize("code", [200, 201, 204])
def test_put_is_done_with_each_answer_that_says_so(hasty: HttpTransport, faulty: Any, put: Any, code: int) -> None:
    """RFC 9110, section 9.3.4."""
    put(hasty, faulty(("status", code)), "cat")


@pytest.mark.parametrize("code", [200, 204, 404, 410])
def test_delete_is_done_with_each_answer_that_says_so(hasty: HttpTransport, faulty: Any, code: int) -> None:
    """What is not there need not be deleted."""
    hasty.delete(host(faulty(("status", code))), "cat")


@pytest.mark.parametrize("code", [202, 207, 403, 409, 500])
def test_delete_is_not_done_with_another_answer(hasty: HttpTransport, faulty: Any, code: int) -> None:
    """202 only promises, and 207 says that a part is left."""
    server = faulty(("status", code))
    with pytest.raises(DeliveryError) as caught:
        hasty.delete(host(server), "cat")
    assert (caught.value.host, caught.value.name, caught.value.status) == (server.url, "cat", code)


def test_folders_are_made_once_and_the_put_is_repeated_once(hasty: HttpTransport, faulty: Any, put: Any) -> None:
    """A host that says 409 for ever is not asked for ever."""
    server = faulty(("status", 409))
    with pytest.raises(DeliveryError, match="a folder of the name is missing"):
        put(hasty, server, "a b/c/cat", b"content")
    assert [(seen.method, seen.path, seen.body) for seen in server.requests] == [
        ("PUT", "/a%20b/c/cat", 7),
        ("MKCOL", "/a%20b/", 0),
        ("MKCOL", "/a%20b/c/", 0),
        ("PUT", "/a%20b/c/cat", 7),
        ("HEAD", "/a%20b/c/cat", 0),  # whether a folder has the name
    ]


def test_requests_say_what_is_needed_and_no_more(hasty: HttpTransport, faulty: Any, put: Any) -> None:
    """A PUT has a length and is never chunked, a DELETE has no body and stays at depth 0."""
    server = faulty()
    put(hasty, server, "cat", b"content", mtime=0)
    with pytest.raises(DeliveryError):
        hasty.delete(host(server), "cat")  # 201
    put_seen, delete_seen = server.requests
    common = {"host": f"127.0.0.1:{server.port}", "user-agent": "resto_wsgi", "accept-encoding": "identity"}
    assert put_seen.headers == common | {"content-length": "7", "date": "Thu, 01 Jan 1970 00:00:00 GMT"}
    assert delete_seen.headers == common | {"depth": "0"}


# Faults

FAULTS: dict[str, tuple[Any, int | None, str]] = {
    "refuse": ("refuse", None, "refuses connections"),
    "hang": ("hang", None, "no answer within 0.3 s"),
    "garbage": ("garbage", None, "the connection broke"),
    "endless": ("endless", 201, "longer than 65536 bytes"),
    "endless headers": ("endless_headers", None, "the connection broke: 'got more than 100 headers'"),
    "drip": ("drip", None, "no answer within 0.3 s"),
    "gzip bomb": ("gzip_bomb", 201, "longer than 65536 bytes"),
    "early 413": ("early_413", 413, "raise its limit"),
    "reset": ("reset", None, "the connection broke"),
    "late": (("late", 30), None, "no answer within 0.3 s"),
    "long error page": (("status", 500, {}, bytes(1_000_000)), 500, "answered 500"),
    "gzipped error page": (("status", 403, {"Content-Encoding": "gzip"}, b"no gzip"), 403, "answered 403"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("method", ["put", "delete"])
def test_a_fault_is_a_delivery_error_in_bounded_time_and_memory(faulty: Any, put: Any, fault: str, method: str) -> None:
    """It has host, name and status, was tried once, leaves no descriptor, and the transport is as good as new."""
    behaviour, status, reason = FAULTS[fault]
    before = descriptors()
    server = faulty(behaviour)
    transport = HttpTransport(TIMEOUT)
    begun = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(DeliveryError, match=reason) as caught:
            put(transport, server, "cat", b"content") if method == "put" else transport.delete(host(server), "cat")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.monotonic() - begun < BOUND
    assert (caught.value.host, caught.value.name, caught.value.status) == (server.url, "cat", status)
    assert "\n" not in str(caught.value) and str(caught.value).isascii()
    assert peak < 4 * 1024 * 1024 + (1 << 20) * (fault == "gzip bomb")  # the server makes the bomb in this process
    assert server.connections == (fault != "refuse")
    put(transport, faulty(), "cat")
    transport.close()
    server.stop()
    eventually(lambda: descriptors() <= before + 2)  # the listener of the good server, and its last connection


@pytest.mark.parametrize("fault", ["hang", "early 413", "reset", "drip"])
def test_a_fault_in_the_middle_of_a_large_file_is_found(faulty: Any, put: Any, fault: str) -> None:
    """The file does not fit into the buffers between, so the fault comes while it is sent."""
    behaviour, status, _ = FAULTS[fault]
    transport = HttpTransport(TIMEOUT)
    begun = time.monotonic()
    with pytest.raises(DeliveryError) as caught:
        put(transport, faulty(behaviour), "cat", bytes(32 * 1024 * 1024) if fault != "drip" else b"")
    assert time.monotonic() - begun < BOUND
    assert caught.value.status in (status, None)
    transport.close()


def test_a_host_that_takes_no_more_connections_is_given_up(hasty: HttpTransport, put: Any) -> None:
    """Its queue is full, so the kernel answers nothing at all."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())

        class Full:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        begun = time.monotonic()
        with pytest.raises(DeliveryError, match=r"no connection within 0\.3 s"):
            put(hasty, Full, "cat")
        assert time.monotonic() - begun < BOUND


def test_a_host_whose_name_does_not_resolve_is_said_to_be_so(hasty: HttpTransport, put: Any) -> None:
    """RFC 6761, section 6.4: there is no host below invalid."""

    class Nowhere:
        url = "http://media.invalid"

    with pytest.raises(DeliveryError, match="its name does not resolve"):
        put(hasty, Nowhere, "cat")


def test_after_a_name_that_resolved_too_late_nothing_is_sent(
    hasty: HttpTransport, faulty: Any, put: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver may take for ever; whoever waited for the request may have withdrawn the file by then."""
    resolve, answer, ended = socket.getaddrinfo, threading.Event(), threading.Event()

    def late(host: str, *arguments: Any, **keywords: Any) -> Any:
        if host != "media.test":
            return resolve(host, *arguments, **keywords)
        answer.wait(PATIENCE)
        try:
            return resolve("127.0.0.1", *arguments, **keywords)
        finally:
            ended.set()

    server = faulty()

    class Named:
        url = f"http://media.test:{server.port}"

    monkeypatch.setattr(socket, "getaddrinfo", late)
    begun = time.monotonic()
    with pytest.raises(DeliveryError, match=r"its name was not resolved within 0\.3\d* s; look at the name server"):
        put(hasty, Named, "cat")
    assert time.monotonic() - begun < BOUND
    answer.set()
    assert ended.wait(PATIENCE)
    server.stop()
    assert server.requests == []


def test_what_a_host_sends_is_shown_escaped(hasty: HttpTransport, faulty: Any, put: Any) -> None:
    """A media server writes no log line and no page of ours."""

    def answer(connection: socket.socket, reader: BinaryIO) -> None:
        connection.sendall(b"<script>\x1b[31m\xff HTTP\r\n\r\n")

    with pytest.raises(DeliveryError) as caught:
        put(hasty, faulty(answer), "cat")
    assert str(caught.value).isprintable() and str(caught.value).isascii() and "<" not in str(caught.value)


def test_a_host_that_is_slow_but_makes_progress_is_waited_for(
    hasty: HttpTransport, faulty: Any, put: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timeout counts from the last byte that moved, not from the first of a block."""

    def read_slowly(connection: socket.socket, reader: BinaryIO) -> None:
        seen = server.read_request(reader, body=False)
        while seen and seen.body < size:
            server.stopped.wait(0.09)
            seen.body += len(reader.read(min(40_000, size - seen.body)))
        connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    def connect_with_a_small_buffer(self: Any) -> None:
        connect(self)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)

    size = 700_000  # in blocks of 256 KiB, each of which takes twice the timeout
    server = faulty(read_slowly)
    server._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    connect = http_connection.Bounded.connect
    monkeypatch.setattr(http_connection.Bounded, "connect", connect_with_a_small_buffer)
    put(hasty, server, "cat", bytes(size))
    assert server.requests[0].body == size


# Connections that were kept alive


@pytest.mark.parametrize("behaviour", ["close_on_reuse", "close_idle"])
def test_a_stale_connection_is_repeated_once_with_the_whole_body(
    hasty: HttpTransport, faulty: Any, put: Any, behaviour: str
) -> None:
    """A kept-alive connection that the host had closed says nothing about the host."""
    server = faulty(behaviour, ("status", 201))
    put(hasty, server, "cat", b"first")
    put(hasty, server, "cat", b"second one")
    assert server.connections == 2
    assert [seen.body for seen in server.requests] == [5, 10]


def test_a_host_that_breaks_the_repeated_request_too_is_an_error(hasty: HttpTransport, faulty: Any, put: Any) -> None:
    """It is repeated once and not again."""
    server = faulty("close_on_reuse", "reset")
    put(hasty, server, "cat", b"first")
    with pytest.raises(DeliveryError, match="the connection broke"):
        put(hasty, server, "cat", b"second")
    assert server.connections == 2


def test_a_connection_that_breaks_within_the_answer_is_not_repeated(
    hasty: HttpTransport, faulty: Any, put: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host was alive and had begun to answer, so it is not a stale connection."""

    def half_an_answer(connection: socket.socket, reader: BinaryIO) -> None:
        server.read_request(reader)
        connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        server.read_request(reader)
        connection.sendall(b"HTTP/1.1 20")
        assert connection.recv(1) == b"!"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset

    def take_and_say_so(self: Any, data: bytes) -> None:
        take(self, data)
        if data == b"HTTP/1.1 20":
            self._sock.sendall(b"!")

    take = http_flight.Flight._take
    server = faulty(half_an_answer)
    put(hasty, server, "cat")
    monkeypatch.setattr(http_flight.Flight, "_take", take_and_say_so)
    with pytest.raises(DeliveryError, match="reset"):
        put(hasty, server, "cat")
    assert server.connections == 1


def test_an_answer_with_connection_close_is_trusted(hasty: HttpTransport, faulty: Any, put: Any) -> None:
    """The host ends the connection after its page, and the next request makes another."""

    def answer(connection: socket.socket, reader: BinaryIO) -> None:
        server.read_request(reader)
        connection.sendall(b"HTTP/1.1 201 Created\r\nConnection: close\r\n\r\n")
        connection.sendall(bytes(20_000))

    server = faulty(answer)
    put(hasty, server, "cat")
    put(hasty, server, "cat")
    assert server.connections == 2


def test_a_reply_that_breaks_off_after_its_status_is_trusted(hasty: HttpTransport, faulty: Any, put: Any) -> None:
    """The status says that the file is there; the connection is not used again."""

    def answer(connection: socket.socket, reader: BinaryIO) -> None:
        server.read_request(reader)
        connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\nshort")

    server = faulty(answer)
    put(hasty, server, "cat")
    put(hasty, server, "cat")
    assert server.connections == 2


def test_a_long_page_with_404_is_still_a_delete_that_is_done(hasty: HttpTransport, faulty: Any) -> None:
    """A site's own error page may be large; what counts is that the file is gone."""
    server = faulty(("status", 404, {}, bytes(1_000_000)))
    hasty.delete(host(server), "cat")


def test_a_forked_process_makes_its_own_connections(
    hasty: HttpTransport, faulty: Any, put: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes that write to one socket would mix their requests."""
    server = faulty()
    put(hasty, server, "cat")
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)  # as if forked
        put(hasty, server, "cat")
        assert server.connections == 2
        hasty.close()
    put(hasty, server, "cat")
    assert server.connections == 2


# TLS


@pytest.fixture
def tls(faulty: Any, certificate: Path) -> Iterator[FaultyServer]:
    """A server that speaks TLS with that certificate and answers 201."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    secured: list[ssl.SSLSocket] = []
    dripping = threading.Event()

    def serve(connection: socket.socket, reader: BinaryIO) -> None:
        with context.wrap_socket(connection, server_side=True) as secure, secure.makefile("rb") as secure_reader:
            secured.append(secure)
            while server.read_request(secure_reader):
                if dripping.is_set():
                    secure.sendall(b"HTTP/1.1 201 ")
                while dripping.is_set() and not server.stopped.wait(0.2):
                    secure.sendall(b"z")
                secure.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    server: FaultyServer = faulty(serve)
    server.url = server.url.replace("http:", "https:")
    server.dripping = dripping  # type: ignore[attr-defined]
    yield server
    for secure in secured:
        with contextlib.suppress(OSError):
            secure.shutdown(socket.SHUT_RDWR)


def test_a_certificate_that_nobody_vouches_for_is_a_delivery_error(
    hasty: HttpTransport, tls: FaultyServer, put: Any
) -> None:
    """The error says so, and no request was sent."""
    with pytest.raises(DeliveryError, match=r"TLS.*certificate verify failed: self-signed certificate") as caught:
        put(hasty, tls, "cat")
    assert (caught.value.host, caught.value.name, caught.value.status) == (tls.url, "cat", None)
    assert tls.requests == []


def test_a_certificate_of_the_system_is_trusted_and_the_connection_kept(
    transport: HttpTransport, tls: FaultyServer, put: Any, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under TLS a file arrives whole, too."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    put(transport, tls, "cat", bytes(1_000_000))
    put(transport, tls, "cat", b"second")
    assert [seen.body for seen in tls.requests] == [1_000_000, 6]
    assert tls.connections == 1


def test_under_tls_time_is_bounded_too(
    hasty: HttpTransport, tls: Any, put: Any, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply that comes byte by byte is given up."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    put(hasty, tls, "cat")
    tls.dripping.set()
    begun = time.monotonic()
    with pytest.raises(DeliveryError, match="no answer"):
        put(hasty, tls, "cat")
    assert time.monotonic() - begun < BOUND


def test_a_host_that_speaks_no_tls_is_a_delivery_error(hasty: HttpTransport, faulty: Any, put: Any) -> None:
    """https was configured, and the port speaks something else."""
    server = faulty(lambda connection, reader: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    server.url = server.url.replace("http:", "https:")
    with pytest.raises(DeliveryError, match="TLS failed"):
        put(hasty, server, "cat")
    silent = faulty("hang")
    silent.url = silent.url.replace("http:", "https:")
    begun = time.monotonic()
    with pytest.raises(DeliveryError):
        put(hasty, silent, "cat")
    assert time.monotonic() - begun < BOUND


@pytest.mark.parametrize("status", [101, 102, 103])
def test_an_interim_answer_is_no_answer_and_its_connection_is_not_used_again(
    faulty: Any, tmp_path: Path, status: int
) -> None:
    """Else the next file would be acknowledged by what the host says of this one."""

    def interim(connection: socket.socket, reader: Any) -> None:
        while server.read_request(reader):
            connection.sendall(b"HTTP/1.1 %d Wait\r\n\r\n" % status)
            connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    server = faulty(interim)
    (tmp_path / "file").write_bytes(b"content")
    transport = HttpTransport(timeout=1)
    host = Host("host", server.url)
    for _ in range(2):
        with open(tmp_path / "file", "rb") as file, pytest.raises(DeliveryError, match=f"answered {status}"):
            transport.put(host, "a", file, 7, 0)
    transport.close()


def test_a_reply_that_cannot_be_parsed_is_a_delivery_error(faulty: Any, tmp_path: Path) -> None:
    """A chunk of a negative size, for instance."""

    def malformed(connection: socket.socket, reader: Any) -> None:
        server.read_request(reader)
        connection.sendall(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nxxxxx\r\n")

    server = faulty(malformed)
    (tmp_path / "file").write_bytes(b"content")
    transport = HttpTransport(timeout=1)
    with open(tmp_path / "file", "rb") as file, pytest.raises(DeliveryError):
        transport.put(Host("host", server.url), "a", file, 7, 0)
    transport.close()


def test_an_early_refusal_by_a_host_that_reads_no_further_is_reported(faulty: Any, tmp_path: Path) -> None:
    """The sending stops, and the status is the host's, not that it was slow."""
    proceed = threading.Event()

    def stop_reading(connection: socket.socket, reader: Any) -> None:
        while reader.readline() not in (b"\r\n", b""):
            pass
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        proceed.wait(10)

    server = faulty(stop_reading)
    with open(tmp_path / "file", "wb") as file:
        file.truncate(64 << 20)
    transport = HttpTransport(timeout=0.5)
    try:
        with open(tmp_path / "file", "rb") as file, pytest.raises(DeliveryError) as caught:
            transport.put(Host("host", server.url), "a", file, 64 << 20, 0)
        assert (caught.value.status, caught.value.permanent) == (413, True)
    finally:
        proceed.set()
        transport.close()


def test_a_put_that_was_given_up_is_not_carried_out_later(nginx: Any, tmp_path: Path) -> None:
    """The host was frozen; its buffers hold the whole body, and the connection's end is a reset that empties them."""
    (tmp_path / "file").write_bytes(bytes(1_000_000))
    transport = HttpTransport(timeout=0.3)
    host = Host("host", nginx.url)
    os.killpg(nginx.pid, signal.SIGSTOP)
    try:
        with open(tmp_path / "file", "rb") as file, pytest.raises(DeliveryError):
            transport.put(host, "a", file, 1_000_000, 0)
    finally:
        os.killpg(nginx.pid, signal.SIGCONT)
    eventually(lambda: _deleted(transport, host))
    time.sleep(0.5)  # for what must not happen there is no condition to wait for
    assert not os.path.exists(os.path.join(nginx.root, "a"))
    transport.close()


def _deleted(transport: HttpTransport, host: Host) -> bool:
    with contextlib.suppress(DeliveryError):
        transport.delete(host, "a")
        return True
    return False
