"""What the head of a request says: the name and the version, and what can be neither."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from node_requests import ask, files, put, say
from servers import LOOPBACK, Node
from webob import Request

from resto_wsgi import names
from resto_wsgi.media_server import MediaServer
from resto_wsgi.media_server.answers import Refused
from resto_wsgi.media_server.name_and_version import VALUE_MAX, Version, header_of, readable, writable

# Names


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


def test_the_longest_name_is_stored_below_a_path_too(app: MediaServer, root: Path) -> None:
    """A host's URL has the path of MEDIA_URL before it."""
    name = "/".join(["n" * 204] * 5)
    assert len(name) == names.MAX_NAME == len(names.check(name))
    assert ask(app, "PUT", f"/media/{name}", b"x").status_code == 201
    assert files(root) == {f"media/{name}": b"x"}
    assert ask(app, "PUT", f"/{name}/{name}", b"x").status_code == 400


@pytest.mark.parametrize(
    "target",
    ["/%252e%252e/x", "/%c0%ae%c0%ae/x", "/%e0%80%ae%e0%80%ae/x", "//etc/passwd", "/x%00.jpg", "/%2Fetc%2Fpasswd", "*"],
)
def test_a_path_in_disguise_stays_in_the_root(node: Node, tmp_path: Path, target: str) -> None:
    """Encoded twice, overlong, absolute, with NUL: refused, or a name in the root that looks odd."""
    (tmp_path / "x").write_bytes(b"outside")
    for method, content in [("GET", b""), ("PUT", b"new"), ("DELETE", b"")]:
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        reply = say(node, head.encode() + content)
        assert re.match(rb"HTTP/1.1 (400|404|409) |HTTP/1.1 20[14] ", reply), reply
        assert b"outside" not in reply and b"root:" not in reply
    assert (tmp_path / "x").read_bytes() == b"outside"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["root", "x"]


# Versions


DATE = "Tue, 03 Nov 2026 10:20:30 GMT"


MTIME = 1793701230


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


@pytest.mark.parametrize("generation", ["", "-1", "1.5", "x", "\u0661", "9" * 20, "1, 2"])
def test_a_generation_that_is_none_is_refused(app: MediaServer, root: Path, generation: str) -> None:
    """400; nothing is stored."""
    assert put(app, b"x", generation) == 400
    assert files(root) == {}


def test_nanoseconds_are_a_generation(app: MediaServer) -> None:
    """19 digits, to the last one."""
    assert put(app, b"a", time.time_ns()) == 201
    assert put(app, b"b", 9 * 10**18 + 1) == 204
    assert put(app, b"c", 9 * 10**18) == 412


def test_a_version_is_what_a_sender_says_of_it() -> None:
    """All of it is optional; a node says the mtime to the nanosecond, which counts before the Date."""
    assert Version.of({}) == Version(None, None, False, {})
    told = {"HTTP_DATE": DATE, "HTTP_RESTO_GENERATION": "7"}
    fields = {"Date": DATE, "Resto-Generation": "7"}
    assert Version.of(told) == Version(7, MTIME * 10**9, False, fields)
    assert Version.of({**told, "HTTP_RESTO_MTIME": "5"}) == Version(7, 5, True, fields)


def test_a_header_is_passed_on_to_other_nodes_as_it_is_or_not_at_all() -> None:
    """What is too long, or could break a line, is left out."""
    for value, expected in [("a b", "a b"), ("a\r\nX: y", ""), ("\xe9", ""), ("x" * VALUE_MAX, "x" * VALUE_MAX)]:
        assert header_of({"HTTP_IF_RANGE": value}, "If-Range") == expected
    assert header_of({"HTTP_IF_RANGE": "x" * (VALUE_MAX + 1)}, "If-Range") == header_of({}, "If-Range") == ""


@pytest.mark.parametrize(
    ("path", "read", "written"),
    [("a/b", None, None), ("__index__", 404, 403), ("__missing__/x", 404, 403), ("../x", 404, 400), ("", 404, 400)],
)
def test_the_same_name_is_judged_as_a_reader_or_a_writer_is_to_hear_it(
    path: str, read: int | None, written: int | None
) -> None:
    """To a reader there is no such file, a writer is told what is wrong."""
    for judge, status in ((readable, read), (writable, written)):
        if status is None:
            assert judge(path) == path
            continue
        with pytest.raises(Refused) as caught:
            judge(path)
        assert caught.value.status.startswith(str(status))
