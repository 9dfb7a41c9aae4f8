"""Writers of the media server: versions, generations, digests, and what a request that is no good leaves: nothing."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from node_requests import ask, files, open_descriptors
from webob import Request

from resto_wsgi.master.locks import name_lock
from resto_wsgi.media_server import MediaServer
from resto_wsgi.media_server.files import marks

DATE = "Tue, 03 Nov 2026 10:20:30 GMT"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def app(root: Path) -> MediaServer:
    return MediaServer(root)


@pytest.fixture(params=["attributes", "no attributes"])
def any_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system with extended attributes, and one without, as NFS before 4.2."""
    if request.param == "no attributes":

        def refuse(*arguments: Any, **options: Any) -> Any:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

        monkeypatch.setattr(os, "setxattr", refuse)
        monkeypatch.setattr(os, "getxattr", refuse)


def digest_of(content: bytes, algorithm: str = "sha-256") -> str:
    encoded = base64.b64encode(hashlib.new(algorithm.replace("-", ""), content).digest()).decode()
    return f"{algorithm}=:{encoded}:"


def put(app: MediaServer, content: bytes, generation: Any = None, path: str = "/x", **more: Any) -> int:
    if generation is not None:
        more["HTTP_RESTO_GENERATION"] = str(generation)
    return ask(app, "PUT", path, content, **more).status_code


def delete(app: MediaServer, generation: Any = None, path: str = "/x") -> int:
    more = {} if generation is None else {"HTTP_RESTO_GENERATION": str(generation)}
    return ask(app, "DELETE", path, **more).status_code


def content_of(root: Path) -> dict[str, bytes]:
    """Return the files, but for the tombstones."""
    return {name: content for name, content in files(root).items() if not name.startswith(".resto/generations/")}


# Generations


@pytest.mark.usefixtures("any_disk")
def test_an_older_version_never_replaces_a_newer_one(app: MediaServer, root: Path) -> None:
    """412, with the generation that is here; the same one again is the same change repeated."""
    assert put(app, b"two", 2) == 201
    reply = ask(app, "PUT", "/x", b"one", HTTP_RESTO_GENERATION="1")
    assert (reply.status_code, reply.headers["Resto-Generation"]) == (412, "2")
    assert delete(app, 1) == 412
    assert content_of(root) == {"x": b"two"}
    assert put(app, b"two", 2) == 204
    assert put(app, b"ten", 10) == 204
    assert ask(app, "GET", "/x").headers["Resto-Generation"] == "10"
    assert put(app, b"nine", 9) == 412
    assert content_of(root) == {"x": b"ten"}


@pytest.mark.usefixtures("any_disk")
def test_a_generation_survives_its_file(app: MediaServer, root: Path) -> None:
    """A late PUT of what was deleted does not bring it back, in this process or the next; a newer one does."""
    put(app, b"one", 1)
    assert delete(app, 2) == 204
    for server in (app, MediaServer(root)):
        assert put(server, b"one", 1) == 412
        reply = ask(server, "GET", "/x")
        assert (reply.status_code, reply.headers["Resto-Generation"]) == (404, "2")
    assert content_of(root) == {}
    assert put(app, b"three", 3) == 201
    assert put(app, b"one", 1) == 412
    assert content_of(root) == {"x": b"three"}


@pytest.mark.usefixtures("any_disk")
def test_a_delete_that_comes_first_counts(app: MediaServer, root: Path) -> None:
    """Of a name that was never here, in a folder that was never here."""
    assert delete(app, 5, "/a/b/x") == 404
    assert put(app, b"four", 4, "/a/b/x") == 412
    assert content_of(root) == {}
    assert put(app, b"six", 6, "/a/b/x") == 201


@pytest.mark.usefixtures("any_disk")
def test_without_a_generation_the_last_to_finish_wins(app: MediaServer, root: Path) -> None:
    """And what was known is forgotten, for a file and for a deleted one."""
    put(app, b"two", 2)
    assert put(app, b"plain") == 204
    assert "Resto-Generation" not in ask(app, "GET", "/x").headers
    assert put(app, b"one", 1) == 204
    delete(app, 7)
    assert put(app, b"plain") == 201
    assert put(app, b"one", 1) == 204
    delete(app)
    assert files(root) == {}


def test_a_folder_gets_no_tombstone(app: MediaServer, root: Path) -> None:
    """Its delete is refused, so there is nothing to remember."""
    put(app, b"x", path="/d/x")
    assert delete(app, 5, "/d") == 409
    assert files(root) == {"d/x": b"x"}


def test_a_delete_that_was_cut_off_counts(app: MediaServer, root: Path) -> None:
    """Its tombstone is there and its file too: what is older than the delete is refused all the same."""
    put(app, b"two", 2)
    app.store._generations.write("x", 4)
    assert put(app, b"three", 3) == 412
    assert delete(app, 4) == 204


def test_a_tombstone_is_gone_with_the_file_that_replaces_it(app: MediaServer, root: Path) -> None:
    """The file has its own generation; there is nothing left beside it."""
    delete(app, 1)
    assert len(files(root)) == 1
    put(app, b"two", 2)
    assert files(root) == {"x": b"two"}


def test_tombstones_are_kept_for_ninety_days(app: MediaServer, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then they are forgotten, with what a crash left half written, but not that of a file that is there."""
    put(app, b"y", path="/y")
    app.store._generations.write("y", 4)
    delete(app, 5)
    folder = root / ".resto/generations"
    (folder / "ab.cd").write_text("5\nx\n")
    app.store.sweep(time.time() + 89 * 86400)
    assert put(app, b"four", 4) == 412
    app.store.sweep(time.time() + 89.5 * 86400)
    assert len(list(folder.iterdir())) == 3
    app.store.sweep(time.time() + 91 * 86400)
    assert [each.read_text() for each in folder.iterdir()] == ["4\ny\n"]
    assert put(app, b"four", 4) == 201


def test_a_tombstone_that_was_written_anew_meanwhile_stays(app: MediaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep looks again when it holds the name."""
    delete(app, 1)
    monkeypatch.setattr(marks.Generations, "older_than", lambda *_: iter(["x"]))
    app.store.sweep(time.time() + 86400)
    assert put(app, b"x", 0) == 412


@pytest.mark.parametrize(("code", "status"), [(errno.ENOSPC, 507), (errno.EIO, 500)])
def test_a_generation_that_cannot_be_kept_is_told(
    app: MediaServer, root: Path, monkeypatch: pytest.MonkeyPatch, code: int, status: int
) -> None:
    """No room for the attribute: the file is not stored without it."""

    def refuse(*arguments: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "setxattr", refuse)
    assert put(app, b"x", 1, **{"wsgi.errors": io.StringIO()}) == status
    assert files(root) == {}


def test_a_generation_that_somebody_spoilt_is_none(app: MediaServer, root: Path) -> None:
    """Neither the attribute nor the tombstone is believed to be a number."""
    put(app, b"x", 1)
    os.setxattr(root / "x", marks.GENERATION, b"one")
    assert "Resto-Generation" not in ask(app, "GET", "/x").headers
    delete(app, 1)
    for tombstone in (root / ".resto/generations").iterdir():
        tombstone.write_text("one\n")
    assert put(app, b"x", 0) == 201


def test_a_tombstone_that_cannot_be_written_leaves_the_file(
    app: MediaServer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing half written."""
    put(app, b"x", 1)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        assert delete(app, 2) == 507
    assert files(root) == {"x": b"x"}


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


@pytest.mark.usefixtures("any_disk")
def test_killed_at_any_step_it_keeps_its_word(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash at the n-th change of the disk leaves the old file or the new one, whole, and what is repeated counts."""

    class Killed(BaseException):
        pass

    steps = ("fsync", "replace", "unlink", "utime")
    for last in range(1, 40):
        app = MediaServer(root / str(last))
        assert put(app, b"old", 1) == 201
        left = last

        def step(real: Any) -> Any:
            def run(*arguments: Any, **options: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    raise Killed
                return real(*arguments, **options)

            return run

        with monkeypatch.context() as patch:
            for name in steps:
                patch.setattr(os, name, step(getattr(os, name)))
            try:
                put(app, b"newer", 2)
                delete(app, 3)
            except Killed:
                pass
        app = MediaServer(root / str(last))
        assert content_of(root / str(last)).get("x", b"newer") in (b"old", b"newer")
        assert [name for name in content_of(root / str(last)) if name != "x"] == []
        if left > 0:
            assert last > 8
            return
        assert delete(app, 3) in (204, 404)
        assert put(app, b"newer", 2) == 412
        assert content_of(root / str(last)) == {}
    pytest.fail("it was killed at each of forty steps")


# Versions


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


def test_a_write_waits_for_another_process_that_holds_the_name(app: MediaServer, root: Path) -> None:
    """The lock is that of the master's names: a node may serve a folder that a replicator writes."""
    lock = name_lock(str(root / ".resto"), "x")
    lock.acquire()
    writer = threading.Thread(target=put, args=(app, b"x"))
    writer.start()
    writer.join(0.2)
    assert writer.is_alive() and not (root / "x").exists()
    lock.release()
    writer.join(5)
    assert (root / "x").read_bytes() == b"x"


def test_other_conditions_of_writers(app: MediaServer) -> None:
    """If-Unmodified-Since counts where there is a file, and no If-Match (RFC 9110, section 13.2.2)."""
    earlier = "Tue, 03 Nov 2026 10:20:29 GMT"
    assert put(app, b"x", path="/y") == 201
    assert put(app, b"x", path="/y", HTTP_IF_MATCH=f"W/{ask(app, 'GET', '/y').headers['ETag']}") == 412
    assert put(app, b"x", HTTP_DATE=DATE, HTTP_IF_UNMODIFIED_SINCE=earlier) == 201
    assert put(app, b"x", HTTP_IF_UNMODIFIED_SINCE=earlier) == 412
    assert put(app, b"x", HTTP_DATE=DATE, HTTP_IF_UNMODIFIED_SINCE=DATE) == 204
    assert put(app, b"x", HTTP_IF_MODIFIED_SINCE=DATE) == 204


def test_two_versions_of_one_date_and_size_have_two_etags(app: MediaServer) -> None:
    """A strong validator changes with the file, also where Date does not (RFC 9110, section 8.8.1)."""
    etags = []
    for content in (b"one", b"two", b"six"):
        put(app, content, HTTP_DATE=DATE, HTTP_REPR_DIGEST=digest_of(content))
        etags.append(ask(app, "GET", "/x").headers["ETag"])
        put(app, content, HTTP_DATE=DATE, HTTP_REPR_DIGEST=digest_of(content))
        reply = ask(app, "GET", "/x")
        assert (reply.headers["ETag"], reply.headers["Last-Modified"]) == (etags[-1], DATE)
        assert reply.headers["Repr-Digest"] == digest_of(content)
    assert len(set(etags)) == 3


def test_a_refused_write_makes_no_folder(app: MediaServer, root: Path) -> None:
    """Nothing changes before it is decided."""
    assert put(app, b"x", path="/a/b/x", HTTP_IF_MATCH="*") == 412
    assert not (root / "a").exists()


# Bodies


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


class Stream(io.BytesIO):
    """A body that still comes over the network."""

    def seekable(self) -> bool:
        return False


# Folders


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
