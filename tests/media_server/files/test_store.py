"""The files of a media server: versions that do not go back, and what a crash leaves."""

from __future__ import annotations

import errno
import io
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from node_requests import ask, delete, digest_of, files, open_descriptors, put
from servers import LOCAL

from resto_wsgi.master.locks import name_lock
from resto_wsgi.media_server import MediaServer
from resto_wsgi.media_server.files import marks

# Generations


@pytest.fixture(params=["attributes", "no attributes"])
def any_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system with extended attributes, and one without, as NFS before 4.2."""
    if request.param == "no attributes":

        def refuse(*arguments: Any, **options: Any) -> Any:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

        monkeypatch.setattr(os, "setxattr", refuse)
        monkeypatch.setattr(os, "getxattr", refuse)


@pytest.mark.usefixtures("any_disk")
def test_an_older_version_never_replaces_a_newer_one(app: MediaServer, root: Path) -> None:
    """412, with the generation that is here; the same one again is the same change repeated."""
    assert put(app, b"two", 2) == 201
    reply = ask(app, "PUT", "/x", b"one", HTTP_RESTO_GENERATION="1")
    assert (reply.status_code, reply.headers["Resto-Generation"]) == (412, "2")
    assert delete(app, 1) == 412
    assert files(root, ".resto/generations") == {"x": b"two"}
    assert put(app, b"two", 2) == 204
    assert put(app, b"ten", 10) == 204
    assert ask(app, "GET", "/x").headers["Resto-Generation"] == "10"
    assert put(app, b"nine", 9) == 412
    assert files(root, ".resto/generations") == {"x": b"ten"}


@pytest.mark.usefixtures("any_disk")
def test_a_generation_survives_its_file(app: MediaServer, root: Path) -> None:
    """A late PUT of what was deleted does not bring it back, in this process or the next; a newer one does."""
    put(app, b"one", 1)
    assert delete(app, 2) == 204
    for server in (app, MediaServer(root, access=LOCAL)):
        assert put(server, b"one", 1) == 412
        reply = ask(server, "GET", "/x")
        assert (reply.status_code, reply.headers["Resto-Generation"]) == (404, "2")
    assert files(root, ".resto/generations") == {}
    assert put(app, b"three", 3) == 201
    assert put(app, b"one", 1) == 412
    assert files(root, ".resto/generations") == {"x": b"three"}


@pytest.mark.usefixtures("any_disk")
def test_a_delete_that_comes_first_counts(app: MediaServer, root: Path) -> None:
    """Of a name that was never here, in a folder that was never here."""
    assert delete(app, 5, "/a/b/x") == 404
    assert put(app, b"four", 4, "/a/b/x") == 412
    assert files(root, ".resto/generations") == {}
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


# Crashes, and other writers


@pytest.mark.usefixtures("any_disk")
def test_killed_at_any_step_it_keeps_its_word(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash at the n-th change of the disk leaves the old file or the new one, whole, and what is repeated counts."""

    class Killed(BaseException):
        pass

    steps = ("fsync", "replace", "unlink", "utime")
    for last in range(1, 40):
        app = MediaServer(root / str(last), access=LOCAL)
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
        app = MediaServer(root / str(last), access=LOCAL)
        assert files(root / str(last), ".resto/generations").get("x", b"newer") in (b"old", b"newer")
        assert [name for name in files(root / str(last), ".resto/generations") if name != "x"] == []
        if left > 0:
            assert last > 8
            return
        assert delete(app, 3) in (204, 404)
        assert put(app, b"newer", 2) == 412
        assert files(root / str(last), ".resto/generations") == {}
    pytest.fail("it was killed at each of forty steps")


def test_what_was_acknowledged_is_durable(app: MediaServer, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes, then each folder that got a new entry, are synced before the answer; a DELETE syncs its folder."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    ask(app, "PUT", "/a/b/cat.txt", b"x")
    staged, *folders = synced
    assert os.path.dirname(os.path.dirname(staged)) == f"{root}/.resto/staging"
    assert folders == [f"{root}", f"{root}/a", f"{root}/a/b"]
    synced.clear()
    ask(app, "DELETE", "/a/b/cat.txt")
    assert synced == [f"{root}/a/b"]


def test_what_a_dead_process_staged_is_swept(root: Path, app: MediaServer) -> None:
    """At start, what nobody writes any more is removed; an upload that is under way is not."""
    (root / ".resto/staging/1-dead").mkdir()
    (root / ".resto/staging/1-dead/1").write_bytes(b"dead")
    (root / ".resto/staging/1-dead.lock").touch()
    with app.store.stage() as staged:
        MediaServer(root, access=LOCAL)
        assert list(files(root)) == [os.path.relpath(staged.path, root)]


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


# Versions


DATE = "Tue, 03 Nov 2026 10:20:30 GMT"


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


MTIME = 1793701230


def test_two_versions_of_one_second_have_two_etags(app: MediaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Date header the ETag is as fine as the clock, although the kernel stamps files 4 ms coarsely."""
    etags = set()
    for number in range(3):
        monkeypatch.setattr(time, "time_ns", lambda number=number: MTIME * 10**9 + number)
        ask(app, "PUT", "/cat.txt", b"four")
        etags.add(ask(app, "GET", "/cat.txt").headers["ETag"])
    assert etags == {f'"{MTIME:x}-4"', f'"{MTIME:x}-4-1"', f'"{MTIME:x}-4-2"'}


# Links


def test_a_symbolic_link_is_not_followed(app: MediaServer, root: Path, tmp_path: Path) -> None:
    """Neither a linked file nor a linked folder is read, written through or deleted in."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    app.store.media_root.stage().discard()  # opens the room
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
