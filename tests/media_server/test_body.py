"""A request's body: its length, its digest, and what becomes of one that is cut or that nobody wants."""

from __future__ import annotations

import errno
import io
import socket
from pathlib import Path
from typing import Any

import pytest
from node_requests import ask, digest_of, files, open_descriptors, put
from servers import LOOPBACK, Node
from webob import Request

from resto_wsgi.media_server import Access, MediaServer


@pytest.mark.parametrize(
    ("length", "status"),
    [(None, 411), ("", 411), ("abc", 400), ("+5", 400), ("-1", 400), ("5, 6", 400), ("\u0665", 400), ("9" * 5000, 400)],
)
def test_a_put_needs_a_length(app: MediaServer, root: Path, length: str | None, status: int) -> None:
    """The lengths that WSGI servers let through are judged here."""
    environ = {
        "PATH_INFO": "/x",
        "REQUEST_METHOD": "PUT",
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": io.BytesIO(b"12345"),
    }
    if length is not None:
        environ["CONTENT_LENGTH"] = length
    assert Request.blank("/x", environ=environ).get_response(app).status_code == status
    assert files(root) == {}


def test_a_part_of_a_file_is_refused(app: MediaServer, root: Path) -> None:
    """A PUT with Content-Range would overwrite a part, as Apache does; RFC 9110 wants 400."""
    ask(app, "PUT", "/cat.txt", b"whole")
    assert ask(app, "PUT", "/cat.txt", b"x", HTTP_CONTENT_RANGE="bytes 0-0/5").status_code == 400
    assert files(root) == {"cat.txt": b"whole"}


def test_a_body_that_is_cut_leaves_the_old_file(node: Node, root: Path) -> None:
    """Half of an announced body, then the client closes its side: 400, the old version, and nothing staged."""
    (root / "cat.txt").write_bytes(b"old")
    with socket.create_connection((LOOPBACK, node.port), timeout=5) as client:
        client.sendall(b"PUT /cat.txt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nfive!")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")
    assert files(root) == {"cat.txt": b"old"}


def test_a_body_whose_reading_fails_leaves_nothing(app: MediaServer, root: Path) -> None:
    """Some servers raise where a client went away: that is a short body too."""

    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise ConnectionResetError(errno.ECONNRESET, "gone")

    reply = ask(app, "PUT", "/cat.txt", CONTENT_LENGTH="5", **{"wsgi.input": Broken()})
    assert reply.status_code == 400
    assert files(root) == {}


def test_a_refused_body_is_read_in_blocks(app: MediaServer) -> None:
    """What nobody wants is read and dropped, so that the WSGI server does not read it at once into memory."""
    sizes = []

    class Input(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def read(self, size: int | None = -1) -> bytes:
            sizes.append(size)
            return super().read(size)

    body = Input(bytes(2_000_000))
    reply = ask(app, "PUT", "/.x", CONTENT_LENGTH="1500000", **{"wsgi.input": body})
    assert reply.status_code == 400
    assert body.tell() == 1_500_000
    assert max(sizes) <= 256 * 1024


def test_a_refused_body_without_end_is_not_read_to_its_end(media_servers: Any) -> None:
    """Who may not write, and announces 100 petabytes, has the connection ended after some MiB."""
    node = media_servers("node", access=Access(["192.0.2.0/24"]))[0]
    with socket.create_connection(("127.0.0.1", node.port), 10) as client:
        client.sendall(b"PUT /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000000000000\r\n\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(512):
                client.sendall(bytes(1 << 20))


@pytest.mark.parametrize("header", ["HTTP_REPR_DIGEST", "HTTP_CONTENT_DIGEST"])
def test_a_body_that_is_not_that_of_its_digest_is_refused(app: MediaServer, root: Path, header: str) -> None:
    """400, and the old file stays; a digest with another algorithm alone says nothing."""
    assert put(app, b"old") == 201
    before = open_descriptors()
    assert put(app, b"new", **{header: digest_of(b"old")}) == 400
    assert put(app, b"new", **{header: "sha-256=:AAAA:"}) == 400
    assert put(app, b"new", HTTP_REPR_DIGEST=digest_of(b"new"), HTTP_CONTENT_DIGEST=digest_of(b"old")) == 400
    assert files(root) == {"x": b"old"}
    assert put(app, b"new", **{header: digest_of(b"other", "sha-512")}) == 204
    assert put(app, b"newer", **{header: digest_of(b"newer")}) == 204
    assert open_descriptors() <= before


class Stream(io.BytesIO):
    """A body that still comes over the network."""

    def seekable(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, 400),
        ({"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": None}, 411),
        ({"HTTP_CONTENT_ENCODING": "gzip"}, 415),
        ({"HTTP_CONTENT_ENCODING": "identity"}, 201),
        ({"HTTP_CONTENT_RANGE": "bytes 0-0/1"}, 400),
    ],
)
def test_what_is_not_a_whole_file_as_it_is_is_refused(
    app: MediaServer, root: Path, environ: dict[str, Any], status: int
) -> None:
    """A body in chunks has the connection ended, because nobody knows where it does."""
    seen: dict[str, str] = {}

    def server(given: Any, start_response: Any) -> Any:
        return app(given, lambda status, headers: seen.update(headers) or start_response(status, headers))  # type: ignore[func-returns-value]

    if "HTTP_TRANSFER_ENCODING" in environ:  # Connection is not for applications, says the validator
        request = Request.blank(
            "/x", method="PUT", environ={"REMOTE_ADDR": "127.0.0.1", "SERVER_PROTOCOL": "HTTP/1.1"}, body=b"x"
        )
        request.environ.update(environ, **{"wsgi.input": Stream(b"x")})
        if environ.get("CONTENT_LENGTH", "") is None:
            del request.environ["CONTENT_LENGTH"]
        reply = request.get_response(server)
        assert (reply.status_code, seen["Connection"]) == (status, "close")
    else:
        assert put(app, b"x", **environ) == status
    assert files(root) == ({"x": b"x"} if status == 201 else {})
