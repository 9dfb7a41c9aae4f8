"""Conditional requests: 412 for another version than is wanted, 304 for the one that the reader has."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from node_requests import ask, files, open_descriptors, put

from resto_wsgi.media_server import MediaServer

# Writing


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


def test_of_two_writers_with_one_condition_one_gets_through(app: MediaServer, root: Path) -> None:
    """If-None-Match: * and If-Match are judged and carried out under the lock of the name."""
    for conditions in ({"HTTP_IF_NONE_MATCH": "*"}, None):
        more = conditions or {"HTTP_IF_MATCH": ask(app, "GET", "/x").headers["ETag"]}
        gate = threading.Barrier(6)
        answers: list[int] = []

        def write(number: int, gate: Any = gate, answers: Any = answers, more: Any = more) -> None:
            content = bytes([number]) * 100
            gate.wait()
            answers.append(put(app, content, **more))

        writers = [threading.Thread(target=write, args=(each,)) for each in range(6)]
        for each in writers:
            each.start()
        for each in writers:
            each.join()
        assert sorted(answers) == [201 if conditions else 204, *[412] * 5]


DATE = "Tue, 03 Nov 2026 10:20:30 GMT"


def test_other_conditions_of_writers(app: MediaServer) -> None:
    """If-Unmodified-Since counts where there is a file, and no If-Match (RFC 9110, section 13.2.2)."""
    earlier = "Tue, 03 Nov 2026 10:20:29 GMT"
    assert put(app, b"x", path="/y") == 201
    assert put(app, b"x", path="/y", HTTP_IF_MATCH=f"W/{ask(app, 'GET', '/y').headers['ETag']}") == 412
    assert put(app, b"x", HTTP_DATE=DATE, HTTP_IF_UNMODIFIED_SINCE=earlier) == 201
    assert put(app, b"x", HTTP_IF_UNMODIFIED_SINCE=earlier) == 412
    assert put(app, b"x", HTTP_DATE=DATE, HTTP_IF_UNMODIFIED_SINCE=DATE) == 204
    assert put(app, b"x", HTTP_IF_MODIFIED_SINCE=DATE) == 204


# Reading


TEN = b"0123456789"


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


def test_a_range_of_another_version_is_not_sent(app: MediaServer, root: Path) -> None:
    """If-Range with an ETag that is gone gives the whole file."""
    (root / "x").write_bytes(b"0123456789")
    etag = ask(app, "GET", "/x").headers["ETag"]
    assert ask(app, "GET", "/x", HTTP_RANGE="bytes=0-1", HTTP_IF_RANGE=etag).body == b"01"
    assert ask(app, "GET", "/x", HTTP_RANGE="bytes=0-1", HTTP_IF_RANGE='"gone"').body == b"0123456789"


def test_a_range_of_another_version_is_the_whole_file(app: MediaServer, root: Path) -> None:
    """If-Range with the date of this version is as good as its ETag; a weak ETag is good for nothing."""
    ask(app, "PUT", "/x", TEN, HTTP_DATE=DATE)
    etag = ask(app, "GET", "/x").headers["ETag"]
    later = "Tue, 03 Nov 2026 10:20:31 GMT"
    for wanted, status in [(etag, 206), (DATE, 206), (f"W/{etag}", 200), ('"x"', 200), (later, 200)]:
        assert ask(app, "GET", "/x", HTTP_RANGE="bytes=0-1,4-5", HTTP_IF_RANGE=wanted).status_code == status, wanted
