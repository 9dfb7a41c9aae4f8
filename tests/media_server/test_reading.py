"""What readers get of the media server: ranges, versions, digests, and listings for those who may write."""

from __future__ import annotations

import base64
import email
import errno
import hashlib
import io
import json
import os
import re
import threading
import time
import tracemalloc
import urllib.request
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from node_requests import ask, files, open_descriptors

from resto_wsgi.fields.digests import format_digest
from resto_wsgi.media_server import Access, MediaServer
from resto_wsgi.media_server.files import marks
from resto_wsgi.media_server.ranges import RANGES_MAX, Unsatisfiable, parse

DATE = "Tue, 03 Nov 2026 10:20:30 GMT"
TEN = b"0123456789"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def app(root: Path) -> MediaServer:
    return MediaServer(root)


def parts(reply: Any) -> list[tuple[str, str, bytes]]:
    """Return the type, the range and the bytes of each part of a multipart answer, as an email parser sees them."""
    head = f"Content-Type: {reply.headers['Content-Type']}\r\n\r\n".encode()
    found: Any = email.message_from_bytes(head + reply.body).get_payload()
    return [(each["Content-Type"], each["Content-Range"], each.get_payload(decode=True)) for each in found]


def digest_of(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


# Ranges


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


def test_a_range_of_another_version_is_the_whole_file(app: MediaServer, root: Path) -> None:
    """If-Range with the date of this version is as good as its ETag; a weak ETag is good for nothing."""
    ask(app, "PUT", "/x", TEN, HTTP_DATE=DATE)
    etag = ask(app, "GET", "/x").headers["ETag"]
    later = "Tue, 03 Nov 2026 10:20:31 GMT"
    for wanted, status in [(etag, 206), (DATE, 206), (f"W/{etag}", 200), ('"x"', 200), (later, 200)]:
        assert ask(app, "GET", "/x", HTTP_RANGE="bytes=0-1,4-5", HTTP_IF_RANGE=wanted).status_code == status, wanted


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


# Versions


def test_conditions_of_readers(app: MediaServer) -> None:
    """412 for another version than is wanted, 304 for the one that the reader has (RFC 9110, section 13.2.2)."""
    ask(app, "PUT", "/x", TEN, HTTP_DATE=DATE)
    etag = ask(app, "GET", "/x").headers["ETag"]
    earlier, later = "Tue, 03 Nov 2026 10:20:29 GMT", "Tue, 03 Nov 2026 10:20:31 GMT"
    for conditions, status in [
        ({"HTTP_IF_MATCH": etag}, 200),
        ({"HTTP_IF_MATCH": "*"}, 200),
        ({"HTTP_IF_MATCH": '"a", "b"'}, 412),
        ({"HTTP_IF_UNMODIFIED_SINCE": later}, 200),
        ({"HTTP_IF_UNMODIFIED_SINCE": DATE}, 200),
        ({"HTTP_IF_UNMODIFIED_SINCE": earlier}, 412),
        ({"HTTP_IF_UNMODIFIED_SINCE": "whenever"}, 200),
        ({"HTTP_IF_MATCH": etag, "HTTP_IF_UNMODIFIED_SINCE": earlier}, 200),
        ({"HTTP_IF_NONE_MATCH": f"W/{etag}"}, 304),
        ({"HTTP_IF_NONE_MATCH": "*"}, 304),
        ({"HTTP_IF_MODIFIED_SINCE": later}, 304),
    ]:
        for method in ("GET", "HEAD"):
            reply = ask(app, method, "/x", HTTP_RANGE="bytes=0-", **conditions)
            assert reply.status_code == (206 if (status, method) == (200, "GET") else status), conditions
            assert status != 304 or reply.headers["ETag"] == etag


def test_html_is_shown_where_that_is_allowed(root: Path) -> None:
    """``inline`` is for files of one's own."""
    (root).mkdir()
    (root / "x.html").write_bytes(b"<p>")
    assert "Content-Disposition" in ask(MediaServer(root), "GET", "/x.html").headers
    reply = ask(MediaServer(root, inline=True), "GET", "/x.html")
    assert "Content-Disposition" not in reply.headers
    assert (reply.headers["Content-Type"], reply.headers["X-Content-Type-Options"]) == ("text/html", "nosniff")


def test_a_disk_that_fails_is_an_error_without_a_name(app: MediaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 for the reader, and the cause for whoever runs it."""
    real, errors = os.open, io.StringIO()

    def refuse(path: Any, *arguments: Any, **options: Any) -> int:
        if path in ("x", "y"):
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


def test_a_digest_of_another_version_is_not_given(app: MediaServer, root: Path) -> None:
    """Neither of a file that was written in place, nor of a copy with its attributes."""
    ask(app, "PUT", "/x", TEN, HTTP_REPR_DIGEST=digest_of(TEN))
    (root / "copy").write_bytes(b"another")
    for name in os.listxattr(root / "x"):
        os.setxattr(root / "copy", name, os.getxattr(root / "x", name))
    os.utime(root / "copy", ns=(0, os.stat(root / "x").st_mtime_ns))
    assert "Repr-Digest" not in ask(app, "GET", "/copy").headers
    (root / "x").write_bytes(b"9876543210")
    assert "Repr-Digest" not in ask(app, "GET", "/x").headers
    wanted = {"HTTP_WANT_REPR_DIGEST": "sha-256=1"}
    assert ask(app, "GET", "/x", **wanted).headers["Repr-Digest"] == digest_of(b"9876543210")


def test_garbage_in_the_attribute_is_no_digest(app: MediaServer, root: Path) -> None:
    """Somebody else may have set it."""
    (root / "x").write_bytes(TEN)
    for value in (b"", b"\xff", b"x y z w", b"10 0 0 " + b"z" * 64):
        os.setxattr(root / "x", marks.DIGEST, value)
        assert "Repr-Digest" not in ask(app, "GET", "/x").headers


def test_strangers_cannot_have_everything_hashed_at_once(app: MediaServer, root: Path) -> None:
    """Two at a time; whoever asks for more gets the file without its digest, as the RFC permits."""
    (root / "x").write_bytes(TEN)
    with marks.HASHING, marks.HASHING:
        assert "Repr-Digest" not in ask(app, "GET", "/x", HTTP_WANT_REPR_DIGEST="sha-256=1").headers
    assert "Repr-Digest" in ask(app, "GET", "/x", HTTP_WANT_REPR_DIGEST="sha-256=1").headers


def test_a_file_that_changes_while_it_is_hashed_has_no_digest(
    app: MediaServer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be that of neither version."""
    (root / "x").write_bytes(TEN)
    real = os.pread

    def pread(fd: int, size: int, offset: int) -> bytes:
        os.utime(root / "x", (1, 1))
        return real(fd, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    assert "Repr-Digest" not in ask(app, "GET", "/x", HTTP_WANT_REPR_DIGEST="sha-256=1").headers
    assert marks.DIGEST not in os.listxattr(root / "x")
    assert format_digest(hashlib.sha256(TEN).digest()) == digest_of(TEN)


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


def test_a_listing_comes_in_pages(app: MediaServer, root: Path) -> None:
    """Sorted by name; each page has a link to the next, until there is none (RFC 8288)."""
    expected = sorted(["a b&c.txt", "\u00e9.txt", *(f"n{each:03}" for each in range(10))])
    for name in expected:
        (root / name).touch()
    found, query = [], "limit=5"
    for _ in range(4):
        reply = ask(app, "GET", "/", QUERY_STRING=query)
        page = [each["name"] for each in json.loads(reply.body)]
        assert len(page) <= 5
        found += page
        link = re.fullmatch(r'<\?(.*)>; rel="next"', reply.headers.get("Link", ""))
        if link is None:
            break
        query = link[1]
    assert found == expected


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=-1", "limit=" + "9" * 5000, "&".join(["a=b"] * 99)])
def test_a_page_that_is_none_is_refused(app: MediaServer, query: str) -> None:
    """400, whatever the query is."""
    assert ask(app, "GET", "/", QUERY_STRING=query).status_code == 400


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
