"""What readers get: files that no browser runs, their digests, and listings for those who may write."""

from __future__ import annotations

import contextlib
import errno
import http.client
import io
import json
import os
import threading
import tracemalloc
import urllib.request
from operator import itemgetter
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from node_requests import ask, digest_of, files, open_descriptors
from servers import LOCAL, LOOPBACK, Node
from webob import Request

from resto_wsgi.media_server import Access, MediaServer
from resto_wsgi.media_server.files import marks

TEN = b"0123456789"


# Versions


def test_html_is_shown_where_that_is_allowed(root: Path) -> None:
    """``inline`` is for files of one's own."""
    (root).mkdir()
    (root / "x.html").write_bytes(b"<p>")
    assert "Content-Disposition" in ask(MediaServer(root, access=LOCAL), "GET", "/x.html").headers
    reply = ask(MediaServer(root, inline=True, access=LOCAL), "GET", "/x.html")
    assert "Content-Disposition" not in reply.headers
    assert (reply.headers["Content-Type"], reply.headers["X-Content-Type-Options"]) == ("text/html", "nosniff")
    assert "Content-Security-Policy" not in reply.headers


def test_a_disk_that_fails_is_an_error_without_a_name(app: MediaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 for the reader, and the cause for whoever runs it."""
    real, errors = os.open, io.StringIO()

    def refuse(path: Any, *arguments: Any, **options: Any) -> int:
        if path in (b"x", b"y"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    for path in ("/x", "/y/"):
        reply = ask(app, "GET", path, **{"wsgi.errors": errors})
        assert (reply.status_code, reply.body) == (500, b"the disk refused: Too many open files\n")
    assert errors.getvalue().count("Too many open files") == 2


# Digests


def test_a_digest_that_was_checked_is_given_to_readers(app: MediaServer) -> None:
    """On GET, HEAD and of the whole file on a range, without being asked for (RFC 9530, section 3)."""
    ask(app, "PUT", "/x", TEN, HTTP_REPR_DIGEST=digest_of(TEN))
    for method, more in [("GET", {}), ("HEAD", {}), ("GET", {"HTTP_RANGE": "bytes=0-1"})]:
        assert ask(app, method, "/x", **more).headers["Repr-Digest"] == digest_of(TEN)


def test_a_digest_that_is_not_known_is_computed_where_it_is_wanted(
    app: MediaServer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then it is known."""
    (root / "x").write_bytes(TEN)
    assert "Repr-Digest" not in ask(app, "GET", "/x").headers
    assert "Repr-Digest" not in ask(app, "GET", "/x", HTTP_WANT_REPR_DIGEST="sha-512=9").headers
    reply = ask(app, "GET", "/x", HTTP_WANT_REPR_DIGEST="sha-256=1")
    assert (reply.headers["Repr-Digest"], reply.body) == (digest_of(TEN), TEN)
    monkeypatch.setattr(marks, "compute_digest", None)
    assert ask(app, "HEAD", "/x", HTTP_WANT_REPR_DIGEST="sha-256=1").headers["Repr-Digest"] == digest_of(TEN)


# Listings


def test_a_folder_is_listed_as_nginx_does(nginx: Any, app: MediaServer, root: Path) -> None:
    """Name, type, size and mtime, with what ``autoindex_format json`` gives for the same files."""
    nginx.extra = "autoindex on; autoindex_format json;"
    nginx.restart()
    for folder in (Path(nginx.root), root):
        (folder / "b").mkdir()
        (folder / "a\u00e9.txt").write_bytes(TEN)
        os.utime(folder / "a\u00e9.txt", (1_700_000_000, 1_700_000_000))
        os.utime(folder / "b", (1_700_000_001, 1_700_000_001))
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{nginx.url}/", timeout=5) as theirs:
        expected = json.loads(theirs.read())
    reply = ask(app, "GET", "/")
    assert reply.headers["Content-Type"] == "application/json"
    assert sorted(json.loads(reply.body), key=itemgetter("name")) == sorted(expected, key=itemgetter("name"))
    assert ask(app, "GET", "/b/").body == b"[]"
    assert ask(app, "HEAD", "/b/").headers["Content-Length"] == "2"


def test_a_listing_hides_what_cannot_be_read(app: MediaServer, root: Path, tmp_path: Path) -> None:
    """Our own folder, hidden and temporary files, links, and names that are none."""
    (tmp_path / "outside").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "folder").symlink_to(tmp_path / "outside", target_is_directory=True)
    os.mkfifo(root / "fifo")
    for name in (b".hidden", b"temporary~", b"\xff.txt", "e\u0301.txt".encode()):
        (root / os.fsdecode(name)).touch()
    (root / "shown").touch()
    assert [each["name"] for each in json.loads(ask(app, "GET", "/").body)] == ["shown"]
    for path in ("/link/", "/.resto/", "/nothing/", "/shown/", "/../", "//"):
        assert ask(app, "GET", path).status_code == 404, path


def test_a_folder_is_listed_to_writers_alone(root: Path) -> None:
    """Names that nobody told the public stay unknown to it."""
    app = MediaServer(root, access=Access(["192.0.2.0/24"]))
    (root / "x").touch()
    assert ask(app, "GET", "/").status_code == 403
    assert ask(app, "GET", "/nothing/").status_code == 403
    assert ask(app, "GET", "/", REMOTE_ADDR="192.0.2.1").status_code == 200
    assert ask(app, "GET", "/x").status_code == 200


def test_a_large_folder_costs_little_memory(app: MediaServer, root: Path) -> None:
    """A page of ten of 20,000 names is not a list of all of them."""
    for each in range(20_000):
        os.close(os.open(root / f"{each:06}-{'x' * 100}", os.O_CREAT))
    ask(app, "GET", "/", QUERY_STRING="limit=1")
    tracemalloc.start()
    try:
        ask(app, "GET", "/", QUERY_STRING="limit=10&after=01")
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


def test_readers_and_a_writer_at_once(app: MediaServer, root: Path) -> None:
    """Each reader gets the digest of the very bytes that it gets."""
    versions = [bytes([65 + each]) * 50_000 for each in range(3)]
    ask(app, "PUT", "/x", versions[0], HTTP_REPR_DIGEST=digest_of(versions[0]))
    done = threading.Event()

    def write() -> None:
        for number in range(60):
            content = versions[number % 3]
            ask(app, "PUT", "/x", content, HTTP_REPR_DIGEST=digest_of(content))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        reply = ask(app, "GET", "/x")
        assert reply.headers["Repr-Digest"] == digest_of(reply.body)
    writer.join()
    assert files(root) == {"x": versions[2]}


def test_head_is_get_without_the_body(app: MediaServer, root: Path) -> None:
    """The same headers, the length of the whole file, and a range is ignored."""
    (root / "x").write_bytes(b"0123456789")
    before = open_descriptors()
    for environ in ({}, {"HTTP_RANGE": "bytes=0-3"}):
        reply = ask(app, "HEAD", "/x", **environ)
        assert (reply.status_code, reply.body) == (200, b"")
        assert reply.headers.items() == ask(app, "GET", "/x").headers.items()
        assert reply.headers["Content-Length"] == "10"
    assert open_descriptors() <= before


@pytest.mark.parametrize(
    ("name", "kind", "attached"),
    [
        ("a.jpg", "image/jpeg", False),
        ("a.pdf", "application/pdf", False),
        ("a.txt", "text/plain", False),
        ("a.webp", "image/webp", False),
        ("a", "application/octet-stream", False),
        ("a.svg.gz", "application/octet-stream", False),
        ("a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", False),
        ("a.html", "application/octet-stream", True),
        ("a.xhtml", "application/octet-stream", True),
        ("a.svg", "image/svg+xml", True),
        ("a.SVG", "image/svg+xml", True),
        *[(f"a.{each}", "application/octet-stream", True) for each in ("xml", "xsl", "js", "mjs", "JS", "wasm", "mht")],
    ],
)
def test_what_a_browser_would_run_is_an_attachment(
    app: MediaServer, root: Path, name: str, kind: str, attached: bool
) -> None:
    """Nor has a type that would make it a script of a page that trusts this server; nothing is guessed."""
    (root / name).write_bytes(b"<html>")
    reply = ask(app, "GET", f"/{name}")
    assert reply.headers["Content-Type"] == kind
    policy = None if name == "a.pdf" else "sandbox; default-src 'none'"
    assert reply.headers.get("Content-Security-Policy") == policy
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers.get("Content-Disposition") == ("attachment" if attached else None)


def test_the_servers_file_wrapper_is_used_and_closed(app: MediaServer, root: Path) -> None:
    """A whole file goes out through ``wsgi.file_wrapper``, itself the iterable that the server gets."""
    (root / "x").write_bytes(b"x" * 1000)
    made = []

    def wrapper(file: Any, size: int) -> FileWrapper:
        made.append((file, FileWrapper(file, size)))
        return made[-1][1]

    environ = {**Request.blank("/x").environ, "wsgi.file_wrapper": wrapper}
    answer = app(environ, lambda *_: None)
    ((file, wrapped),) = made
    assert answer is wrapped
    assert b"".join(answer) == b"x" * 1000
    wrapped.close()
    assert file.closed


def test_no_reader_sees_a_part(node: Node, root: Path) -> None:
    """While a name is overwritten again and again, each GET is one whole version, under the length it announced."""
    versions = [bytes([65 + each]) * (100_000 + 50_000 * each) for each in range(4)]
    done = threading.Event()

    def write() -> None:
        connection = http.client.HTTPConnection(LOOPBACK, node.port, timeout=5)
        with contextlib.closing(connection):
            for number in range(120):
                connection.request("PUT", "/cat.txt", versions[number % 4])
                connection.getresponse().read()
        done.set()

    (root / "cat.txt").write_bytes(versions[0])
    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    connection = http.client.HTTPConnection(LOOPBACK, node.port, timeout=5)
    with contextlib.closing(connection):
        while not done.is_set():
            connection.request("GET", "/cat.txt")
            assert connection.getresponse().read() in versions
            reads += 1
    writer.join()
    assert reads > 10
    assert files(root) == {"cat.txt": versions[3]}
