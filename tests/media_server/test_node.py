"""Our own media server: what it stores, what it refuses, and that no request leads out of its root."""

from __future__ import annotations

import contextlib
import errno
import http.client
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from node_requests import ask, files, open_descriptors
from servers import LOOPBACK, Node
from webob import Request

from resto_wsgi import names
from resto_wsgi.errors import ConfigError
from resto_wsgi.media_server import make_server
from resto_wsgi.media_server.access import Access
from resto_wsgi.media_server.node import MediaServer

DATE = "Tue, 03 Nov 2026 10:20:30 GMT"
MTIME = 1793701230


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def app(root: Path) -> MediaServer:
    return MediaServer(root)


@pytest.fixture
def node(root: Path) -> Iterator[Node]:
    with Node(root) as started:
        yield started


# Storing


def test_a_file_is_put_read_and_deleted(any_server: Any) -> None:
    """The node does what the stock servers do: 201, 200, 204, then 204 and 404; a tree says 200, with a report."""
    connection = http.client.HTTPConnection(LOOPBACK, any_server.port, timeout=5)
    with contextlib.closing(connection):
        answers = []
        for method, body in [("PUT", b"one"), ("GET", None), ("PUT", b"two"), ("GET", None), ("DELETE", None)]:
            connection.request(method, "/cat%20%C3%A9.txt", body)
            reply = connection.getresponse()
            content = reply.read()
            answers.append((reply.status, content if method == "GET" else None))
        done = 200 if any_server.kind == "tree" else 204
        assert answers == [(201, None), (200, b"one"), (done, None), (200, b"two"), (done, None)]
        connection.request("GET", "/cat%20%C3%A9.txt")
        assert connection.getresponse().status == 404
        assert not list(Path(any_server.root).glob("cat*"))


def test_put_makes_the_folders_and_leaves_nothing_else(app: MediaServer, root: Path) -> None:
    """The folders of a name are made; the staging folder, which only its owner may enter, is empty again."""
    assert ask(app, "PUT", "/a/b/c.txt", b"x").status_code == 201
    assert files(root) == {"a/b/c.txt": b"x"}
    assert (root / ".resto").stat().st_mode & 0o777 == 0o700
    assert (root / "a/b/c.txt").stat().st_mode & 0o777 == 0o644


def test_the_longest_name_is_stored_below_a_path_too(app: MediaServer, root: Path) -> None:
    """A host's URL has the path of MEDIA_URL before it."""
    name = "/".join(["n" * 204] * 5)
    assert len(name) == names.MAX_NAME == len(names.check(name))
    assert ask(app, "PUT", f"/media/{name}", b"x").status_code == 201
    assert files(root) == {f"media/{name}": b"x"}
    assert ask(app, "PUT", f"/{name}/{name}", b"x").status_code == 400


def test_an_empty_file_is_stored(app: MediaServer, root: Path) -> None:
    """A Content-Length of 0 is a length."""
    assert ask(app, "PUT", "/empty", b"", CONTENT_LENGTH="0").status_code == 201
    assert files(root) == {"empty": b""}


def test_the_date_header_becomes_the_mtime(app: MediaServer, root: Path) -> None:
    """As on nginx, so that Last-Modified and ETag are equal on every replica."""
    ask(app, "PUT", "/cat.txt", b"four", HTTP_DATE=DATE)
    assert (root / "cat.txt").stat().st_mtime == MTIME
    reply = ask(app, "GET", "/cat.txt")
    assert reply.headers["Last-Modified"] == DATE
    assert reply.headers["ETag"] == f'"{MTIME:x}-4"'


def test_the_validators_are_those_of_nginx(nginx: Any, node: Node) -> None:
    """The same PUT to nginx and to the node gives the same ETag and Last-Modified."""
    seen = []
    for server in (nginx, node):
        connection = http.client.HTTPConnection(LOOPBACK, server.port, timeout=5)
        with contextlib.closing(connection):
            connection.request("PUT", "/cat.txt", b"four", {"Date": DATE})
            connection.getresponse().read()
            connection.request("GET", "/cat.txt")
            reply = connection.getresponse()
            seen.append((reply.read(), reply.headers["ETag"], reply.headers["Last-Modified"]))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("date", ["", "yesterday", "Tue, 99 Nov 2026 10:20:30 GMT", "1 Jan 99999 00:00:00 GMT"])
def test_a_date_that_is_none_is_ignored(app: MediaServer, date: str) -> None:
    """The file is stored all the same."""
    assert ask(app, "PUT", "/cat.txt", b"x", HTTP_DATE=date).status_code == 201


def test_two_versions_of_one_second_have_two_etags(app: MediaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Date header the ETag is as fine as the clock, although the kernel stamps files 4 ms coarsely."""
    etags = set()
    for number in range(3):
        monkeypatch.setattr(time, "time_ns", lambda number=number: MTIME * 10**9 + number)
        ask(app, "PUT", "/cat.txt", b"four")
        etags.add(ask(app, "GET", "/cat.txt").headers["ETag"])
    assert etags == {f'"{MTIME:x}-4"', f'"{MTIME:x}-4-1"', f'"{MTIME:x}-4-2"'}


def test_it_goes_on_when_its_root_was_emptied(app: MediaServer, root: Path) -> None:
    """Somebody removes everything below the root, the staging folder too: the next PUT makes it anew."""
    shutil.rmtree(root)
    assert ask(app, "PUT", "/cat.txt", b"x").status_code == 201
    assert files(root) == {"cat.txt": b"x"}


def test_what_was_acknowledged_is_durable(app: MediaServer, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes, then each folder that got a new entry, are synced before the answer; a DELETE syncs its folder."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    ask(app, "PUT", "/a/b/cat.txt", b"x")
    staged, *folders = synced
    assert os.path.dirname(staged) == f"{root}/.resto/staging"
    assert folders == [f"{root}", f"{root}/a", f"{root}/a/b"]
    synced.clear()
    ask(app, "DELETE", "/a/b/cat.txt")
    assert synced == [f"{root}/a/b"]


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


@pytest.mark.parametrize(
    ("code", "status"), [(errno.ENOSPC, 507), (errno.EDQUOT, 507), (errno.EFBIG, 507), (errno.EIO, 500)]
)
def test_a_full_disk_is_told_and_leaves_nothing(
    app: MediaServer, root: Path, monkeypatch: pytest.MonkeyPatch, code: int, status: int
) -> None:
    """507 where space is lacking, 500 for other faults of the disk; the staged part is removed."""

    def refuse(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    errors = io.StringIO()
    before = open_descriptors()
    reply = ask(app, "PUT", "/cat.txt", b"x", **{"wsgi.errors": errors})
    assert reply.status_code == status
    assert files(root) == {}
    assert open_descriptors() <= before
    assert bool(errors.getvalue()) == (status == 500)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_really_is_full_is_told(app: MediaServer, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write itself fails with ENOSPC, as on a full disk."""
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda path, flags, *rest, **more: real("/dev/full", os.O_WRONLY)
        if flags & os.O_EXCL else real(path, flags, *rest, **more)
    )  # fmt: skip
    assert ask(app, "PUT", "/cat.txt", b"x").status_code == 507
    assert files(root) == {}


def test_a_name_that_is_a_folder_or_under_a_file_is_a_conflict(app: MediaServer, root: Path) -> None:
    """409 for both, for PUT and DELETE, and the folder keeps its files."""
    ask(app, "PUT", "/d/x.txt", b"x")
    for method, path in [("PUT", "/d"), ("DELETE", "/d"), ("PUT", "/d/x.txt/y"), ("DELETE", "/d/x.txt/y")]:
        assert ask(app, method, path, b"").status_code == 409, (method, path)
    assert files(root) == {"d/x.txt": b"x"}


def test_deleting_what_is_not_there_is_404(app: MediaServer) -> None:
    """Also where its folder is missing; a Depth header changes nothing."""
    ask(app, "PUT", "/x", b"")
    assert ask(app, "DELETE", "/x", HTTP_DEPTH="0").status_code == 204
    assert ask(app, "DELETE", "/x").status_code == 404
    assert ask(app, "DELETE", "/a/b/x").status_code == 404


def test_an_empty_folder_is_removed_where_it_is_asked_for(app: MediaServer, root: Path) -> None:
    """With a slash and Depth: infinity; one with a file in it stays, and so does one that is asked for otherwise."""
    ask(app, "PUT", "/d/e/x", b"x")
    for path, depth in [("/d/", "infinity"), ("/d/e/", "infinity"), ("/d/e", "infinity"), ("/d/e/x/", "infinity")]:
        assert ask(app, "DELETE", path, HTTP_DEPTH=depth).status_code == 409, path
    ask(app, "DELETE", "/d/e/x")
    for depth in ("0", "1", ""):
        assert ask(app, "DELETE", "/d/e/", HTTP_DEPTH=depth).status_code == 400
    assert ask(app, "DELETE", "/.resto/staging/", HTTP_DEPTH="infinity").status_code == 400
    assert (root / "d/e").is_dir()
    for path, status in [("/d/e/", 204), ("/d/e/", 404), ("/d/", 204), ("/", 400)]:
        assert ask(app, "DELETE", path, HTTP_DEPTH="Infinity").status_code == status, path
    assert not (root / "d").exists() and (root / ".resto").is_dir()
    assert ask(app, "DELETE", "/d/", HTTP_DEPTH="infinity", REMOTE_ADDR="192.0.2.1").status_code == 403


def test_conditions_are_kept_to(app: MediaServer, root: Path) -> None:
    """If-Match and If-None-Match guard PUT and DELETE with 412, which nginx ignores."""
    assert ask(app, "PUT", "/x", b"1", HTTP_IF_MATCH="*").status_code == 412
    assert ask(app, "PUT", "/x", b"1", HTTP_IF_NONE_MATCH="*").status_code == 201
    etag = ask(app, "GET", "/x").headers["ETag"]
    assert ask(app, "PUT", "/x", b"2", HTTP_IF_NONE_MATCH="*").status_code == 412
    assert ask(app, "PUT", "/x", b"2", HTTP_IF_MATCH='"other"').status_code == 412
    assert ask(app, "DELETE", "/x", HTTP_IF_MATCH='"other"').status_code == 412
    assert files(root) == {"x": b"1"}
    assert ask(app, "PUT", "/x", b"2", HTTP_IF_MATCH=etag).status_code == 204
    assert ask(app, "DELETE", "/x", HTTP_IF_MATCH=etag).status_code == 412
    assert ask(app, "DELETE", "/x").status_code == 204


def test_what_a_dead_process_staged_is_swept(root: Path, app: MediaServer) -> None:
    """At start, what nobody writes any more is removed; an upload that is under way is not."""
    (root / ".resto/staging/put-dead").write_bytes(b"dead")
    with app.store.stage() as staged:
        MediaServer(root)
        assert list(files(root)) == [os.path.relpath(staged.path, root)]


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


# Names and links

HOSTILE = [
    "/../x",
    "/a/../../x",
    "/a/./x",
    "//x",
    "/a//x",
    "/.resto/staging/x",
    "/.htaccess",
    "/a\\..\\x",
    "/a\x00b",
    "/a\nb",
    "/\xff\xfe",
    "/\xc3\xa9\xe2\x80\xae.txt",
    "/" + "n" * 241,
    "/" + "n/" * 1100 + "n",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_hostile_path_is_refused(app: MediaServer, tmp_path: Path, path: str) -> None:
    """400 where something would be written, 404 where it would be read, and nothing changes on the disk."""
    (tmp_path / "x").write_bytes(b"outside")
    (tmp_path / "root/d").mkdir()
    before = files(tmp_path)
    for method, status in [("PUT", 400), ("DELETE", 400), ("GET", 404), ("HEAD", 404)]:
        reply = Request.blank("/", method=method, environ={"REMOTE_ADDR": "127.0.0.1", "SERVER_PROTOCOL": "HTTP/1.1"})
        reply.environ.update({"PATH_INFO": path, "CONTENT_LENGTH": "0"})
        assert reply.get_response(app).status_code == status, method
    assert files(tmp_path) == before


@pytest.mark.parametrize("target", ["/%2e%2e/x", "/a/%2e%2e/%2e%2e/x", "/..%2fx", "/%2e%2e%5cx", "/../x", "http:/../x"])
def test_no_spelling_leads_out_of_the_root(node: Node, tmp_path: Path, target: str) -> None:
    """The same over a socket, where no client library tidies the path."""
    (tmp_path / "x").write_bytes(b"outside")
    for method, content in [("PUT", b"new"), ("DELETE", b""), ("GET", b"")]:
        with socket.create_connection((LOOPBACK, node.port), timeout=5) as client:
            headers = f"Host: localhost\r\nConnection: close\r\nContent-Length: {len(content)}"
            client.sendall(f"{method} {target} HTTP/1.1\r\n{headers}\r\n\r\n".encode() + content)
            with client.makefile("rb") as reader:
                reply = reader.read()
        assert b"outside" not in reply
        assert re.match(rb"HTTP/1.1 (400|404|409) ", reply), reply
    assert (tmp_path / "x").read_bytes() == b"outside"


def test_a_symbolic_link_is_not_followed(app: MediaServer, root: Path, tmp_path: Path) -> None:
    """Neither a linked file nor a linked folder is read, written through or deleted in."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    before = open_descriptors()
    for path in ("/folder/secret", "/file"):
        assert ask(app, "GET", path).status_code == 404
    assert ask(app, "PUT", "/folder/secret", b"x").status_code == 409
    assert ask(app, "PUT", "/folder/sub/new", b"x").status_code == 409
    assert ask(app, "DELETE", "/folder/secret").status_code == 409
    assert ask(app, "PUT", "/file", b"mine").status_code == 204
    assert (root / "file").read_bytes() == b"mine" and not (root / "file").is_symlink()
    assert files(outside) == {"secret": b"secret"}
    assert list(outside.iterdir()) == [outside / "secret"]
    assert open_descriptors() <= before


def test_what_is_no_file_is_not_read(app: MediaServer, root: Path) -> None:
    """A folder, a FIFO and a socket are 404 at once, and no descriptor stays open."""
    (root / "folder").mkdir()
    os.mkfifo(root / "fifo")
    before = open_descriptors()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(root / "socket"))
        for path in ("/folder", "/fifo", "/socket"):
            assert ask(app, "GET", path).status_code == 404
    assert open_descriptors() <= before


# Who may write


@pytest.mark.parametrize("address", ["10.0.0.1", "::2", "192.168.1.1", "", "unix:", "127.0.0.1, 10.0.0.1", None])
def test_others_can_only_read(app: MediaServer, root: Path, address: str | None) -> None:
    """An address outside the networks is refused with 403 before its name or body is looked at, and may read."""
    (root / "x").write_bytes(b"x")
    assert ask(app, "PUT", "/y", b"y", REMOTE_ADDR=address).status_code == 403
    assert ask(app, "DELETE", "/x", REMOTE_ADDR=address).status_code == 403
    assert ask(app, "GET", "/x", REMOTE_ADDR=address).body == b"x"
    assert files(root) == {"x": b"x"}


@pytest.mark.parametrize("address", ["10.1.2.3", "fd00::7", "::ffff:10.1.2.3"])
def test_the_given_networks_may_write(root: Path, address: str) -> None:
    """``networks`` replace the default; an IPv4 address that comes in over IPv6 counts as itself."""
    app = MediaServer(root, access=Access(["10.0.0.0/8", "fd00::/8"]))
    assert ask(app, "PUT", "/x", b"x", REMOTE_ADDR=address).status_code == 201
    assert ask(app, "PUT", "/x", b"x").status_code == 403


def test_a_network_that_is_none_is_an_error() -> None:
    """At start, not at the first request."""
    with pytest.raises(ConfigError, match=r"^allow: takes a network such as .*, not '10\.0\.0/8'$"):
        Access(["10.0.0/8"])


def test_other_methods_are_told_what_there_is(app: MediaServer) -> None:
    """405 with Allow, for MOVE too, and OPTIONS answers the same."""
    for method in ("POST", "PATCH", "PROPFIND", "MOVE"):
        refused = Request.blank(
            "/x", method=method, environ={"REMOTE_ADDR": "127.0.0.1", "SERVER_PROTOCOL": "HTTP/1.1"}
        ).get_response(app)
        assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD, PUT, DELETE, MKCOL, OPTIONS")
    reply = ask(app, "OPTIONS", "/x")
    assert (reply.status_code, reply.headers["Allow"]) == (204, "GET, HEAD, PUT, DELETE, MKCOL, OPTIONS")


# Reading


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


def test_a_range_of_another_version_is_not_sent(app: MediaServer, root: Path) -> None:
    """If-Range with an ETag that is gone gives the whole file."""
    (root / "x").write_bytes(b"0123456789")
    etag = ask(app, "GET", "/x").headers["ETag"]
    assert ask(app, "GET", "/x", HTTP_RANGE="bytes=0-1", HTTP_IF_RANGE=etag).body == b"01"
    assert ask(app, "GET", "/x", HTTP_RANGE="bytes=0-1", HTTP_IF_RANGE='"gone"').body == b"0123456789"


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


def test_an_unchanged_file_is_not_sent_again(app: MediaServer, root: Path) -> None:
    """304 for If-None-Match and for If-Modified-Since, of which the first rules; no descriptor stays open."""
    ask(app, "PUT", "/x", b"x", HTTP_DATE=DATE)
    etag = ask(app, "GET", "/x").headers["ETag"]
    before = open_descriptors()
    assert ask(app, "GET", "/x", HTTP_IF_NONE_MATCH=etag).status_code == 304
    assert ask(app, "GET", "/x", HTTP_IF_MODIFIED_SINCE=DATE).status_code == 304
    assert ask(app, "GET", "/x", HTTP_IF_NONE_MATCH='"gone"', HTTP_IF_MODIFIED_SINCE=DATE).status_code == 200
    assert ask(app, "GET", "/x", HTTP_IF_MODIFIED_SINCE="Tue, 03 Nov 2026 10:20:29 GMT").status_code == 200
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
        ("a.html", "text/html", True),
        ("a.xhtml", "application/xhtml+xml", True),
        ("a.svg", "image/svg+xml", True),
        ("a.xml", None, True),
        ("a.js", None, True),
    ],
)
def test_what_a_browser_would_run_is_an_attachment(
    app: MediaServer, root: Path, name: str, kind: str | None, attached: bool
) -> None:
    """An upload must not become a page or a script of this origin; nothing is guessed from the content."""
    (root / name).write_bytes(b"<html>")
    reply = ask(app, "GET", f"/{name}")
    assert kind is None or reply.headers["Content-Type"] == kind
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


# The command


def test_the_command_serves_until_it_is_told_to_end(root: Path) -> None:
    """It prints its address, answers there, and ends with 0 on SIGTERM."""
    command = [sys.executable, "-m", "resto_wsgi", "media-server", "--root", root, "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stderr
            address = re.match(r"media server http://127\.0\.0\.1:(\d+)/ of ", process.stdout.readline())
            assert address
            connection = http.client.HTTPConnection(LOOPBACK, int(address[1]), timeout=5)
            with contextlib.closing(connection):
                connection.request("PUT", "/x", b"x")
                assert connection.getresponse().status == 201
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("listen", "more", "status", "line"),
    [
        ("127.0.0.1:{taken}", [], 1, "^resto: listen: .*in use"),
        ("127.0.0.1:0", ["--allow", "everybody"], 1, "^resto: allow: "),
        ("8000", [], 2, "wanted HOST:PORT, found '8000'"),
        ("127.0.0.1:99999", [], 2, "wanted HOST:PORT"),
    ],
)
def test_the_command_says_in_a_line_why_it_does_not_start(
    root: Path, node: Node, listen: str, more: list[str], status: int, line: str
) -> None:
    """A taken port, a network that is none and an address that is none are no tracebacks."""
    command = [sys.executable, "-m", "resto_wsgi", "media-server", "--root", root, *more]
    command += ["--listen", listen.format(taken=node.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == status
    assert re.search(line, done.stderr)
    assert "Traceback" not in done.stderr


def test_a_missing_cheroot_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch, app: MediaServer) -> None:
    """The extra that has it is named."""
    monkeypatch.setitem(sys.modules, "resto_wsgi.media_server.http_server", None)
    with pytest.raises(ConfigError, match=r"pip install 'resto_wsgi\[server\]'"):
        make_server(app, LOOPBACK, 0)


def test_a_refused_body_without_end_is_not_read_to_its_end(media_servers: Any) -> None:
    """Who may not write, and announces 100 petabytes, has the connection ended after some MiB."""
    node = media_servers("node", access=Access(["192.0.2.0/24"]))[0]
    with socket.create_connection(("127.0.0.1", node.port), 10) as client:
        client.sendall(b"PUT /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000000000000\r\n\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(512):
                client.sendall(bytes(1 << 20))


def test_endless_headers_are_refused(media_servers: Any) -> None:
    """They would be kept in memory."""
    node = media_servers("node")[0]
    with socket.create_connection(("127.0.0.1", node.port), 10) as client:
        client.sendall(b"GET /a HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * (80 << 10) + b"\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 413"
