"""One request exactly as it is told: against raw sockets, stock servers, and TLS."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from over_http import BOUND, TIMEOUT, descriptors, host
from servers import Node, eventually

from resto_wsgi.errors import DeliveryError
from resto_wsgi.fields.digests import format_digest
from resto_wsgi.hosts import Host
from resto_wsgi.media_server import Access
from resto_wsgi.transports.http.errand import fault
from resto_wsgi.transports.http.raw import RawRequests
from resto_wsgi.transports.http.security import Security
from resto_wsgi.trust.signatures import Key

MIB = 1024 * 1024
SECRET = "x" * 40
OK = b"HTTP/1.1 200 OK\r\n"
CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"


def requests(server: Any, timeout: float = 5.0, security: Security | None = None) -> RawRequests:
    return RawRequests(host(server), timeout, security or Security())


class Noted:
    """A behaviour that keeps all bytes of a request until its end or the client's, answers, and goes on reading."""

    def __init__(self, answer: bytes = b"", until: bytes = b"\r\n\r\n") -> None:
        self.came = b""
        self.end: str | None = None
        self._answer = answer
        self._until = until

    def __call__(self, connection: socket.socket, reader: BinaryIO) -> None:
        connection.settimeout(10)
        try:
            while self._until not in self.came and (block := connection.recv(65536)):
                self.came += block
            connection.sendall(self._answer)
            while block := connection.recv(65536):
                self.came += block
            self.end = "end"
        except ConnectionResetError:
            self.end = "reset"
            raise


# What goes out


def test_a_request_goes_out_as_it_is_told(faulty: Any) -> None:
    """Method, target and fields; what is added is what the transport says of itself, and that this is the last one."""
    seen = Noted(OK + b"Content-Length: 0\r\n\r\n")
    server = faulty(seen)
    reply = requests(server).ask("DELETE", "/a%20b//../c/?x=1", {"Range": "bytes=1-2"})
    assert (reply.status, reply.body, reply.whole) == (200, b"", True)
    assert seen.came.decode().split("\r\n") == [
        "DELETE /a%20b//../c/?x=1 HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        "User-Agent: resto_wsgi",
        "Accept-Encoding: identity",
        "Connection: close",
        "Range: bytes=1-2",
        "",
        "",
    ]


def test_it_is_below_the_path_of_its_host(faulty: Any) -> None:
    """As the names of files are."""
    server = faulty(("status", 404))
    RawRequests(Host("x", f"{server.url}/media"), 5, Security()).ask("GET", "/cat")
    assert [seen.path for seen in server.requests] == ["/media/cat"]


@pytest.mark.parametrize("size", [0, 1, 100_000, 3 * MIB])
def test_a_body_goes_out_whole_with_its_length(faulty: Any, size: int) -> None:
    """Whether it goes out with the head of the request or after it."""
    server = faulty(("status", 201))
    assert requests(server).ask("PUT", "/cat", body=b"x" * size).status == 201
    (seen,) = server.requests
    assert (seen.headers["content-length"], seen.body) == (str(size), size)


def test_each_request_has_a_connection_of_its_own(faulty: Any) -> None:
    """Although the server would keep it, so that one probe cannot spoil the next one."""
    server = faulty(("status", 404))
    asking = requests(server)
    for _ in range(3):
        asking.ask("GET", "/cat")
    assert (server.connections, len(server.requests)) == (3, 3)


@pytest.mark.parametrize("behaviour", ["reset", "close_on_reuse", ("redirect", 307, "/elsewhere"), ("status", 503)])
def test_nothing_is_repeated_or_followed(faulty: Any, behaviour: Any) -> None:
    """Whatever comes of it: a probe that is sent twice probes something else."""
    server = faulty(behaviour)
    try:
        requests(server, 1).ask("PUT", "/cat", body=b"x")
    except DeliveryError:
        assert behaviour == "reset"
    assert len(server.requests) == 1


@pytest.fixture
def signing(tmp_path: Path) -> Callable[[Any], Security]:
    """``signing(server)`` signs requests to it."""
    own = tmp_path / "credentials"
    own.touch(0o600)
    own.write_text(f"* secret key-1:{SECRET}")
    return lambda server: Security([host(server)], credentials_file=str(own))


def test_a_signature_is_taken_and_a_stranger_has_none(signing: Callable[[Any], Security], tmp_path: Path) -> None:
    """By our own node, which judges it."""
    with Node(tmp_path / "root", access=Access(keys=[Key("key-1", SECRET.encode())])) as node:
        security = signing(node)
        assert requests(node, security=security.bare()).ask("PUT", "/cat", body=b"cat").status == 401
        assert requests(node, security=security).ask("PUT", "/cat", body=b"cat").status == 201
        assert requests(node, security=security).ask("DELETE", "/cat", {"Depth": "0"}).status == 204


@pytest.mark.parametrize(("method", "body"), [("ask", b"cat"), ("cut", b"ca"), ("announce", b"")])
def test_a_signature_covers_the_digest_of_what_is_sent(
    method: str, body: bytes, signing: Callable[[Any], Security], faulty: Any
) -> None:
    """Also where the body is cut, or not sent: else it would be refused for that, and nothing be learnt."""
    seen = Noted(CREATED, until=b"\r\n\r\n" + body)
    server = faulty(seen)
    asking = requests(server, security=signing(server))
    if method == "ask":
        asking.ask("PUT", "/cat", body=body)
    else:
        asking.cut("/cat", 10, body) if method == "cut" else asking.announce("/cat", 10)
    assert b"\r\nSignature: " in seen.came and b'"repr-digest"' in seen.came
    assert f"\r\nRepr-Digest: {format_digest(hashlib.sha256(body).digest())}\r\n".encode() in seen.came


def test_the_address_that_the_host_sees_is_known(nginx: Any) -> None:
    """For the line of a configuration that lets this machine write."""
    asking = requests(nginx)
    assert asking.local_address == ""
    asking.ask("GET", "/cat")
    assert asking.local_address == "127.0.0.1"


# What comes back


@pytest.mark.parametrize(
    ("answer", "limit", "body", "whole"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", 100, b"hello", True),
        (OK + b"Content-Length: 5\r\n\r\nhello", 5, b"hello", True),
        (OK + b"Content-Length: 5\r\n\r\nhello", 4, b"hell", False),
        (OK + b"Content-Length: 9\r\n\r\nhello", 100, b"hello", False),
        (OK + b"\r\nhello", 100, b"hello", True),
        (OK + b"\r\nhello", 4, b"hell", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 100, b"hello", True),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 4, b"hell", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhello", 100, b"", False),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\npage", 100, b"page", True),
        (b"HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\n\r\nel", 100, b"el", True),
        (b"HTTP/1.1 204 No Content\r\n\r\nhello", 100, b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi", 100, b"hi", True),
    ],
)
def test_a_body_is_kept_up_to_the_limit_and_known_to_be_whole_or_not(
    faulty: Any, answer: bytes, limit: int, body: bytes, whole: bool
) -> None:
    """Of every status, and however its end is told."""

    def behave(connection: socket.socket, reader: BinaryIO) -> None:
        server.read_request(reader)
        connection.sendall(answer)

    server = faulty(behave)
    reply = requests(server).ask("GET", "/cat", limit=limit)
    assert (reply.body, reply.whole) == (body, whole)


def test_headers_are_looked_up_in_any_case(faulty: Any) -> None:
    """As RFC 9110, section 5.1, has it."""
    reply = requests(faulty(("status", 404, {"X-Thing": "it"}))).ask("GET", "/cat")
    assert reply.headers.get("x-thing", "") == "it" and "X-THING" in reply.headers
    assert reply.headers.get("X-Other", "none") == "none"


def test_a_refusal_that_comes_early_is_read(faulty: Any) -> None:
    """Although the host does not take the rest of the body any more."""
    reply = requests(faulty("early_413")).ask("PUT", "/cat", body=bytes(8 * MIB))
    assert reply.status == 413


# A body that is cut


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"])
def test_a_body_that_is_cut_ends_in_order(faulty: Any, answer: bytes) -> None:
    """The host sees an end and no reset, which is the harder case: it looks as if all was sent."""
    seen = Noted(answer, until=b"half")
    requests(faulty(seen)).cut("/cat", 1000, b"half")
    head, _, body = seen.came.partition(b"\r\n\r\n")
    assert b"Content-Length: 1000" in head and body == b"half"
    eventually(lambda: seen.end == "end")


def test_a_body_that_is_cut_is_waited_for_no_longer_than_an_answer(faulty: Any) -> None:
    """A host that says nothing and does not close is left alone in time."""
    begun = time.monotonic()
    requests(faulty("hang"), TIMEOUT).cut("/cat", 1000, b"half")
    assert TIMEOUT <= time.monotonic() - begun < BOUND


@pytest.mark.parametrize("kind", ["nginx", "lighttpd", "apache", "node"])
def test_a_body_that_is_cut_makes_no_file(kind: str, media_servers: Any) -> None:
    """On none of the servers that are known, also if it is larger than what goes out with the head."""
    (server,) = media_servers(kind)
    for size in (10, 300_000):
        requests(server).cut("/cat", 2 * size, b"x" * size)
    assert requests(server).ask("GET", "/cat").status == 404


# A body that is only announced


@pytest.mark.parametrize("kind", ["nginx", "lighttpd", "apache", "node"])
def test_a_host_says_whether_it_would_take_a_size(kind: str, media_servers: Any) -> None:
    """And has no file afterwards, whatever it said."""
    (server,) = media_servers(kind, **({} if kind == "node" else {"max_body": MIB}))
    asking = requests(server)
    assert asking.announce("/cat", MIB) is None
    if kind != "node":  # which has no limit
        refusal = asking.announce("/cat", 2 * MIB)
        assert refusal is not None and refusal.status == 413
    assert asking.ask("GET", "/cat").status == 404


def test_what_was_announced_and_is_not_sent_is_reset(faulty: Any) -> None:
    """So that no server takes the request for one that is complete."""
    seen = Noted(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert requests(faulty(seen)).announce("/cat", MIB) is None
    assert b"Expect: 100-continue\r\n" in seen.came and b"Content-Length: 1048576\r\n" in seen.came
    eventually(lambda: seen.end == "reset")


def test_a_host_that_says_neither_is_an_error_in_time(faulty: Any) -> None:
    """Expect is not understood everywhere."""
    begun = time.monotonic()
    with pytest.raises(DeliveryError, match="no answer within"):
        requests(faulty("hang"), TIMEOUT).announce("/cat", MIB)
    assert time.monotonic() - begun < BOUND


# Faults


FAULTS: dict[str, tuple[Any, str, str]] = {
    "refuse": ("refuse", "refuses connections", ""),
    "hang": ("hang", "no answer within 0.3 s", ""),
    "reset": ("reset", "the connection broke", ""),
    "drip": ("drip", "no answer within 0.3 s", ""),
    "garbage": ("garbage", "220 mail.example", "protocol"),
    "endless headers": ("endless_headers", "100 headers|longer than 65536 bytes", "protocol"),
}


@pytest.mark.parametrize(
    ("method", "name"),
    [*(("ask", name) for name in FAULTS), *(("announce", name) for name in ("refuse", "hang", "reset", "drip"))],
)
def test_a_fault_is_a_delivery_error_in_bounded_time_and_memory(faulty: Any, name: str, method: str) -> None:
    """It tells what kind of thing failed, and leaves no descriptor."""
    behaviour, reason, kind = FAULTS[name]
    server = faulty(behaviour)
    before, begun = descriptors(), time.monotonic()
    asking = requests(server, TIMEOUT)
    tracemalloc.start()
    try:
        with pytest.raises(DeliveryError, match=reason) as caught:
            asking.ask("GET", "/cat") if method == "ask" else asking.announce("/cat", MIB)
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()
    assert time.monotonic() - begun < BOUND
    assert fault(caught.value) == kind
    server.stop()  # what it has is of this process, too
    assert descriptors() <= before


def test_interim_replies_without_an_end_are_not_waited_for(faulty: Any) -> None:
    """Each of them is progress, so it is the bound of the whole request that ends it."""

    def behave(connection: socket.socket, reader: BinaryIO) -> None:
        server.read_request(reader)
        while not server.stopped.wait(0.05):
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    server = faulty(behave)
    begun = time.monotonic()
    with pytest.raises(DeliveryError):
        requests(server, TIMEOUT).ask("GET", "/cat")
    assert time.monotonic() - begun < BOUND


def test_a_body_without_an_end_costs_no_more_than_its_limit(faulty: Any) -> None:
    """In memory; it is not whole."""
    tracemalloc.start()
    try:
        reply = requests(faulty("endless"), 1).ask("GET", "/cat", limit=1000)
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()
    assert (len(reply.body), reply.whole) == (1000, False)


def test_a_host_that_reads_nothing_is_given_up(faulty: Any) -> None:
    """A probe never waits for longer than its timeout without progress."""

    def behave(connection: socket.socket, reader: BinaryIO) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.stopped.wait()

    server = faulty(behave)
    begun = time.monotonic()
    with pytest.raises(DeliveryError, match="took nothing for"):
        requests(server, TIMEOUT).ask("PUT", "/cat", body=bytes(16 * MIB))
    assert time.monotonic() - begun < BOUND


# TLS


@pytest.fixture
def secure(certificate: Path, media_servers: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], str]]:
    """``secure(trusted)`` is the URL of an nginx with TLS."""

    def start(trusted: bool) -> str:
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        server, port = media_servers("node")[0], 0
        port = server.port
        server.stop()
        key = certificate.with_name("key.pem")
        media_servers(
            "nginx", extra=f"listen 127.0.0.1:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};"
        )
        return f"https://127.0.0.1:{port}"

    yield start


def test_what_tls_agreed_on_is_known(secure: Callable[[bool], str]) -> None:
    """The version, and until when the certificate is good."""
    url = secure(True)
    asking = RawRequests(Host(url, url), 5, Security())
    found = asking.tls()
    assert found.version in ("TLSv1.2", "TLSv1.3")
    assert found.expires is not None and abs(found.expires - time.time()) < 40 * 86400
    assert asking.ask("PUT", "/cat", body=b"x" * 300_000).status == 201
    assert asking.ask("GET", "/cat", limit=MIB).body == b"x" * 300_000
    asking.cut("/dog", 1000, b"half")
    assert asking.ask("GET", "/dog").status == 404


def test_a_certificate_that_nobody_vouches_for_is_a_fault_of_tls(secure: Callable[[bool], str]) -> None:
    """Before a byte of a request goes out."""
    url = secure(False)
    with pytest.raises(DeliveryError, match=r"TLS failed: .*self-signed") as caught:
        RawRequests(Host(url, url), 5, Security()).ask("GET", "/cat")
    assert fault(caught.value) == "tls"


def test_threads_share_it(nginx: Any) -> None:
    """Two readers and a writer ask at once."""
    asking = requests(nginx)
    asking.ask("PUT", "/cat", body=b"cat")
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(asking.ask("GET", "/cat").body)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"cat"] * 8
