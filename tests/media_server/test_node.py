"""Our own media server: what it stores and deletes, and what it answers if the disk or the client is in the way."""

from __future__ import annotations

import contextlib
import errno
import http.client
import io
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from node_requests import ask, files, open_descriptors, put
from servers import LOOPBACK
from webob import Request

from resto_wsgi.media_server import MediaServer

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


def test_an_empty_file_is_stored(app: MediaServer, root: Path) -> None:
    """A Content-Length of 0 is a length."""
    assert ask(app, "PUT", "/empty", b"", CONTENT_LENGTH="0").status_code == 201
    assert files(root) == {"empty": b""}


def test_nothing_is_written_to_another_root_than_that_of_the_start(app: MediaServer, root: Path) -> None:
    """Its disk was unmounted, and what is there instead is hidden when it is back: 503, and nothing is left there."""
    ask(app, "PUT", "/cat.txt", b"cat")
    root.rename(root.parent / "away")
    for there in ((), (root,), (root, root / ".resto"), (root, root / ".resto", root / ".resto/staging")):
        for folder in there:
            folder.mkdir(exist_ok=True)
        for method in ("PUT", "DELETE"):
            errors = io.StringIO()
            reply = ask(app, method, "/cat.txt", b"x" if method == "PUT" else None, **{"wsgi.errors": errors})
            assert (reply.status_code, b"is its disk mounted?" in reply.body) == (503, True)
            assert "see that the right disk is mounted" in errors.getvalue()
        assert not (root.exists() and files(root))
    shutil.rmtree(root)
    (root.parent / "away").rename(root)
    assert ask(app, "PUT", "/cat.txt", b"x").status_code == 204
    assert files(root) == {"cat.txt": b"x"}


@pytest.mark.parametrize(
    ("code", "status"), [(errno.ENOSPC, 507), (errno.EDQUOT, 507), (errno.EFBIG, 507), (errno.EIO, 500)]
)
def test_a_full_disk_is_told_and_leaves_nothing(
    app: MediaServer, root: Path, monkeypatch: pytest.MonkeyPatch, code: int, status: int
) -> None:
    """507 where space is lacking, 500 for other faults of the disk; the staged part is removed."""

    def refuse(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    app.store.media_root.stage().discard()  # opens the room
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


# Methods


def test_other_methods_are_told_what_there_is(app: MediaServer) -> None:
    """405 with Allow, for MOVE too, and OPTIONS answers the same."""
    for method in ("POST", "PATCH", "PROPFIND", "MOVE"):
        refused = Request.blank(
            "/x", method=method, environ={"REMOTE_ADDR": "127.0.0.1", "SERVER_PROTOCOL": "HTTP/1.1"}
        ).get_response(app)
        assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD, PUT, DELETE, MKCOL, OPTIONS")
    reply = ask(app, "OPTIONS", "/x")
    assert (reply.status_code, reply.headers["Allow"]) == (204, "GET, HEAD, PUT, DELETE, MKCOL, OPTIONS")


def test_a_refused_write_makes_no_folder(app: MediaServer, root: Path) -> None:
    """Nothing changes before it is decided."""
    assert put(app, b"x", path="/a/b/x", HTTP_IF_MATCH="*") == 412
    assert not (root / "a").exists()


def test_a_folder_is_made(app: MediaServer, root: Path) -> None:
    """MKCOL as RFC 4918, section 9.3 has it; a name that is taken, hidden or has a body is refused."""
    assert ask(app, "MKCOL", "/d/").status_code == 201
    assert ask(app, "MKCOL", "/d/e").status_code == 201
    put(app, b"x")
    for path, status in [("/d", 405), ("/x", 405), ("/y/z", 409), ("/x/y", 409), ("/.resto/y", 400), ("/", 400)]:
        assert ask(app, "MKCOL", path).status_code == status, path
    assert ask(app, "MKCOL", "/body", b"x").status_code == 415
    assert ask(app, "MKCOL", "/far", REMOTE_ADDR="10.0.0.1").status_code == 403
    assert sorted(each.name for each in root.iterdir()) == [".resto", "d", "x"]
    assert (root / "d/e").is_dir()
