"""A node that is empty or was away gets what is missing from the node above it, while others write."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Node, eventually, free_port
from trees import ask, held, linked, owed

from resto_wsgi.cli.catching_up import parse_rate
from resto_wsgi.fields.digests import format_digest
from resto_wsgi.media_server import Access, MediaServer
from resto_wsgi.media_server.tree.catch_up import DELETES_MAX, CatchUp, CatchUpError, Progress
from resto_wsgi.trust.signatures import Key

CAT = b"a cat" * 1000
LARGE = os.urandom(3_000_000)


@pytest.fixture
def above(tmp_path: Path) -> Iterator[Node]:
    """A node with children: one that does not answer, so that it remembers deletes."""
    with Node(tmp_path / "above", children=[f"http://127.0.0.1:{free_port()}"]) as node:
        yield node


@pytest.fixture
def app(tmp_path: Path) -> MediaServer:
    return MediaServer(tmp_path / "root")


def catch_up(app: MediaServer, url: str, **options: Any) -> Progress:
    return CatchUp(app.role, url, timeout=2, sleep=lambda seconds: None, **options).run()


def files(app: MediaServer) -> dict[str, bytes]:
    found = (path for path in Path(app.store.root).rglob("*") if path.is_file() and ".resto" not in path.parts)
    return {str(path.relative_to(app.store.root)): path.read_bytes() for path in found}


def put(node: Node, name: str, body: bytes, **headers: str) -> None:
    assert ask(node, "PUT", f"/{name}", body, **headers)[0] in (200, 201, 202)


def test_names_below_a_path_of_the_public_url_are_caught_up_with(app: MediaServer, above: Node) -> None:
    """A node takes names that are longer than the library's, by the path in which those are."""
    name = "/".join(["a" * 200] * 6)
    put(above, name, CAT)
    assert catch_up(app, above.url).fetched == 1
    assert files(app) == {name: CAT}


def test_an_empty_node_becomes_as_the_one_above(app: MediaServer, above: Node) -> None:
    """Files, mtimes to the nanosecond, generations and digests; a second run fetches nothing."""
    digest = format_digest(hashlib.sha256(CAT).digest())
    put(above, "a/cat", CAT, Repr_Digest=digest, Resto_Generation="3")
    put(above, "large", LARGE)
    put(above, "empty", b"")
    done = catch_up(app, above.url)
    assert (done.seen, done.fetched, done.size, done.failed) == (3, 3, len(CAT) + len(LARGE), 0)
    assert files(app) == held(above)
    with Node(app.store.root) as node:
        seen = [ask(each, "GET", "/a/cat", User_Agent="resto_wsgi")[1] for each in (above, node)]
    assert seen[0]["ETag"] == seen[1]["ETag"]
    assert (seen[1]["Resto-Generation"], seen[1]["Repr-Digest"]) == ("3", digest)
    assert catch_up(app, above.url) == Progress(seen=3)
    assert not Path(app.store.root, ".resto/catch-up").exists()


def test_an_outdated_node_gets_what_changed_and_loses_what_was_deleted(app: MediaServer, above: Node) -> None:
    """What is only here is kept, and so is what is newer here; both are no secret."""
    for name in ("same", "changed", "deleted", "back"):
        put(above, name, CAT)
    catch_up(app, above.url)
    put(above, "changed", b"new")
    for name in ("deleted", "back"):
        ask(above, "DELETE", f"/{name}")
    put(above, "back", b"again")
    Path(app.store.root, "own").write_bytes(b"only here")
    Path(app.store.root, "same").write_bytes(b"newer here")
    warned: list[str] = []
    done = catch_up(app, above.url, warn=warned.append)
    assert (done.fetched, done.deleted, done.newer, done.failed) == (2, 1, 1, 0)
    assert files(app) == {"same": b"newer here", "changed": b"new", "back": b"again", "own": b"only here"}
    assert warned == ["same: is newer here, and left as it is"]


def test_a_higher_generation_is_newer_whatever_the_time(app: MediaServer, above: Node) -> None:
    """Here it stays, and from above it comes; a tombstone here keeps out what is older."""
    put(above, "cat", b"five", Resto_Generation="5")
    put(above, "dog", b"five", Resto_Generation="5")
    put(above, "cow", b"five", Resto_Generation="5")
    with Node(app.store.root) as node:
        old, new = "Tue, 03 Nov 2020 10:20:30 GMT", "Tue, 03 Nov 2037 10:20:30 GMT"
        put(node, "cat", b"six", Resto_Generation="6", Date=old)
        put(node, "dog", b"four", Resto_Generation="4", Date=new)
        put(node, "cow", b"six", Resto_Generation="5")
        ask(node, "DELETE", "/cow", Resto_Generation="6")
    catch_up(app, above.url)
    assert files(app) == {"cat": b"six", "dog": b"five"}


def test_a_fetch_goes_on_where_it_broke_off(app: MediaServer, above: Node, faulty: Any) -> None:
    """The bytes that came are not asked for again, neither in this run nor in the next; the whole is compared."""
    put(above, "large", LARGE)
    ranges: list[str] = []

    def broken(connection: Any, reader: Any) -> None:
        while request := reader.readline().decode():
            headers = {}
            while line := reader.readline().decode().strip():
                headers[line.partition(":")[0]] = line.partition(":")[2].strip()
            method, path, _ = request.split()
            status, found, body = ask(above, method, path, **{key: headers[key] for key in headers if key != "Host"})
            lines = [
                f"HTTP/1.1 {status} x",
                *(f"{key}: {value}" for key, value in found.items() if key != "Connection"),
            ]
            if path == "/large" and method == "GET":
                ranges.append(headers.get("Range", ""))
                body = body[:1_000_000]
            connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            if path == "/large" and method == "GET" and len(body) == 1_000_000:
                return

    assert catch_up(app, faulty(broken).url).fetched == 1
    assert files(app) == {"large": LARGE}
    assert ranges == ["", "bytes=1000000-", "bytes=2000000-"]


def test_a_part_of_an_older_version_is_not_gone_on_from(app: MediaServer, above: Node) -> None:
    """The file is what is there now, not two halves."""
    put(above, "large", LARGE)
    stop = RuntimeError("killed")

    def report(progress: Progress) -> None:
        if progress.size > 1_000_000:
            raise stop

    with pytest.raises(RuntimeError):
        catch_up(app, above.url, report=report)
    assert files(app) == {}
    put(above, "large", LARGE[::-1])
    assert catch_up(app, above.url).fetched == 1
    assert files(app) == {"large": LARGE[::-1]}


def test_a_run_that_was_killed_is_gone_on_with(app: MediaServer, above: Node) -> None:
    """The second run takes only what the first has not."""
    put(above, "large", LARGE)

    def report(progress: Progress) -> None:
        if progress.size > 1_000_000:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        catch_up(app, above.url, report=report)
    done = catch_up(app, above.url)
    assert (done.fetched, files(app)) == (1, {"large": LARGE})
    assert done.size < len(LARGE) - 1_000_000


def once(work: Callable[[], None]) -> Callable[[Progress], None]:
    """Return a reporter that does this when the first bytes of a file have come."""
    done: list[bool] = []

    def report(progress: Progress) -> None:
        if progress.size and not done:
            done.append(True)
            work()

    return report


def test_what_is_put_here_meanwhile_stays(app: MediaServer, above: Node) -> None:
    """It is newer than what is being fetched, whether the name was there before or not."""
    put(above, "cat", LARGE)
    with Node(app.store.root) as node:
        catch_up(app, above.url, report=once(lambda: put(node, "cat", b"new")))
    assert files(app) == {"cat": b"new"}


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_what_changes_above_meanwhile_is_not_published_in_its_old_version(
    app: MediaServer, above: Node, method: str
) -> None:
    """Whoever changes it there sends it here; an old version that came late would stay."""
    put(above, "cat", LARGE)
    catch_up(app, above.url, report=once(lambda: ask(above, method, "/cat", b"new" if method == "PUT" else None)))
    assert files(app) == {}


def test_what_is_put_again_while_its_delete_is_read_is_not_deleted(app: MediaServer, above: Node) -> None:
    """The index said that it was gone; the node above is asked once more."""
    put(above, "cat", CAT)
    catch_up(app, above.url)
    ask(above, "DELETE", "/cat")

    def report(progress: Progress) -> None:
        if progress.seen == 1:
            put(above, "cat", CAT)

    assert catch_up(app, above.url, report=report).deleted == 0
    assert files(app) == {"cat": CAT}


def test_what_changed_where_it_came_from_is_not_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that leads back caught up with the node above it, where a client has written since: 508, and parked."""
    with linked(tmp_path, [[1], [0]]) as (above, below):
        put(above, "dog", b"one")
        below.stop()
        put(above, "cat", b"one")
        ask(above, "DELETE", "/dog")
        app = MediaServer(below.root, children=[above.url])
        assert app.role
        monkeypatch.setattr(app.role.replicator.worker, "start", lambda: None)
        done = catch_up(app, above.url)
        assert (done.fetched, done.deleted) == (1, 1)
        app.close()
        for name in ("cat", "dog"):
            put(above, name, b"two")
        below.start()
        eventually(lambda: not owed(above), 60)
        relay = below.app.role
        eventually(lambda: {each.status for each in relay.outbox.owing(*relay.children, "", 9)} == {508})
        assert [held(node) for node in (above, below)] == [{"cat": b"two", "dog": b"two"}] * 2


def test_a_node_with_children_passes_on_what_it_catches_up_with(tmp_path: Path, above: Node) -> None:
    """Files and deletes, both by its own outbox."""
    put(above, "cat", CAT)
    put(above, "gone", CAT)
    with Node(tmp_path / "leaf") as leaf, Node(tmp_path / "middle", children=[leaf.url]) as middle:
        catch_up(middle.app, above.url)
        eventually(lambda: not owed(middle))
        assert held(leaf) == {"cat": CAT, "gone": CAT}
        ask(above, "DELETE", "/gone")
        catch_up(middle.app, above.url)
        eventually(lambda: not owed(middle))
        assert held(leaf) == {"cat": CAT}


def test_writers_do_not_disturb_a_run_nor_it_them(tmp_path: Path) -> None:
    """While a child catches up, its parent changes names as fast as it can: in the end both are the same."""
    with Node(tmp_path / "child", free_port()) as child, Node(tmp_path / "above", children=[child.url]) as above:
        for number in range(60):
            put(above, f"{number % 7}/{number}", b"%d" % number * 500)
        for _ in range(3):
            shutil.rmtree(Path(child.root, "3"))
            stop = threading.Event()

            def write(stop: threading.Event = stop) -> None:
                number = 0
                while not stop.is_set():
                    number += 1
                    name = f"/{number % 7}/{number * 31 % 60}"
                    ask(above, *(("PUT", name, os.urandom(2000)) if number % 3 else ("DELETE", name)))

            thread = threading.Thread(target=write)
            thread.start()
            try:
                catch_up(child.app, above.url)
            finally:
                stop.set()
                thread.join()
            eventually(lambda: not owed(above))
            catch_up(child.app, above.url)
            assert held(child) == held(above)


# Hostile nodes above


def index(*records: Any, key: str = "names") -> tuple[Any, ...]:
    return ("status", 200, {}, json.dumps({key: records, "next": None}).encode())


@pytest.mark.parametrize(
    "answer",
    [
        index({"name": "../x", "size": 1, "mtime_ns": 1}),
        index({"name": "/etc/passwd", "size": 1, "mtime_ns": 1}),
        index({"name": ".resto/id", "size": 1, "mtime_ns": 1}),
        index({"name": "a\x00b", "size": 1, "mtime_ns": 1}),
        index({"name": 7}),
        index({"name": "x", "size": -1}),
        index({"name": "x", "size": 1 << 70}),
        index({"name": "x", "mtime_ns": 1.5}),
        index({"name": "x", "digest": "sha-256=:x:"}),
        index(["x"]),
        index(None),
        ("status", 200, {}, b"{}"),
        ("status", 200, {}, b'{"names": {}}'),
        ("status", 200, {}, b"[" * 100_000),
        ("status", 200, {}, b" " * 9_000_000),
        ("status", 403),
        ("redirect", 302, "/x"),
        "garbage",
        "refuse",
        "reset",
        "gzip_bomb",
    ],
)
def test_an_index_that_is_none_ends_the_run(app: MediaServer, faulty: Any, answer: Any) -> None:
    """In one line; nothing is written, in the root or out of it."""
    with pytest.raises(CatchUpError) as caught:
        catch_up(app, faulty(answer).url)
    assert "\n" not in str(caught.value)
    assert files(app) == {}


@pytest.mark.parametrize("names", [["a/cat"], ["b", "a"], ["b", "b"], ["a/b", "a"]])
def test_an_index_that_turns_in_circles_ends_the_run(app: MediaServer, faulty: Any, names: list[str]) -> None:
    """The same page again does not go forward, and neither does a name that comes before the last one."""
    server = faulty(index(*({"name": name, "size": 0, "mtime_ns": 0} for name in names)))
    with pytest.raises(CatchUpError, match="does not go forward"):
        catch_up(app, server.url)
    assert server.connections < 20


def test_a_file_that_is_not_its_digest_is_not_published(app: MediaServer, above: Node) -> None:
    """It is named as failed, and what came of it is not gone on from."""
    put(above, "cat", CAT, Repr_Digest=format_digest(hashlib.sha256(CAT).digest()))
    put(above, "dog", CAT)
    status = os.stat(Path(above.root, "cat"))
    with open(Path(above.root, "cat"), "r+b") as file:  # a disk that rots, beneath size and mtime
        file.write(b"A")
    os.utime(Path(above.root, "cat"), ns=(status.st_atime_ns, status.st_mtime_ns))
    warned: list[str] = []
    done = catch_up(app, above.url, warn=warned.append)
    assert (done.fetched, done.failed) == (1, 1)
    assert files(app) == {"dog": CAT}
    assert warned == ["cat: its bytes are not those of its digest"]


@pytest.mark.parametrize(
    ("head", "body", "reason"),
    [
        ("Content-Length: 1000000000000000", b"", "1000000000000000 bytes are to come, and the disk has room for "),
        ("Content-Length: 2000001", b"", "2000001 bytes are to come, and the disk has room for 2000000"),
        ("Transfer-Encoding: chunked", b"100000\r\n" + b"x" * 0x100000 + b"\r\n", "more bytes came than the disk has"),
    ],
)
def test_a_file_that_the_disk_has_no_room_for_is_told(
    app: MediaServer, faulty: Any, monkeypatch: pytest.MonkeyPatch, head: str, body: bytes, reason: str
) -> None:
    """Whatever the index says of its size, and whether its answer does; it is asked for once, and fills nothing."""
    asked: list[str] = []

    def endless(connection: Any, reader: Any) -> None:
        while request := reader.readline().decode():
            while reader.readline().strip():
                pass
            asked.append(request.split()[1])
            if asked[-1] == "/cat":
                with contextlib.suppress(OSError):
                    connection.sendall(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body)
                    while body:
                        connection.sendall(body)
                return
            found = [] if "after" in asked[-1] else [{"name": "cat", "size": 1}]
            page = json.dumps({"names": found, "gone": []}).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page) + page)

    free = os.statvfs_result((1, 1, 2_000_000, 2_000_000, 2_000_000, 1, 1, 1, 0, 255))
    if "1000000000000000" not in head:  # no disk of this machine is as small as that
        monkeypatch.setattr(os, "fstatvfs", lambda fd: free)
    warned: list[str] = []
    assert catch_up(app, faulty(endless).url, warn=warned.append).failed == 1
    assert asked.count("/cat") == 1
    (line,) = warned
    assert line.startswith(f"cat: {reason}")
    parts = Path(app.store.root, ".resto/catch-up").iterdir()
    assert files(app) == {} and sum(each.stat().st_size for each in parts) < 1000


def test_a_node_that_has_nothing_does_not_empty_this_one(app: MediaServer, above: Node) -> None:
    """It may be the wrong one, or have lost its files. A few deletes are carried out all the same."""
    names = [f"{number:03}" for number in range(DELETES_MAX + 1)]
    for name in names:
        put(above, name, CAT)
        Path(app.store.root, name).write_bytes(CAT)
        ask(above, "DELETE", f"/{name}")
    with pytest.raises(CatchUpError, match="has no files, and says that more than 100 of those here were deleted"):
        catch_up(app, above.url)
    assert sorted(files(app)) == names
    Path(app.store.root, names.pop()).unlink()
    assert catch_up(app, above.url).deleted == DELETES_MAX
    assert files(app) == {}


def test_a_node_that_has_something_has_all_its_deletes_carried_out(app: MediaServer, above: Node) -> None:
    """However many there are."""
    for number in range(DELETES_MAX + 1):
        put(above, f"{number}", CAT)
        Path(app.store.root, f"{number}").write_bytes(CAT)
        ask(above, "DELETE", f"/{number}")
    put(above, "cat", CAT)
    assert catch_up(app, above.url).deleted == DELETES_MAX + 1
    assert files(app) == {"cat": CAT}


def test_a_folder_in_the_place_of_a_file_is_told(app: MediaServer, above: Node) -> None:
    """The others come all the same."""
    put(above, "a", CAT)
    put(above, "b", CAT)
    Path(app.store.root, "a").mkdir()
    done = catch_up(app, above.url)
    assert (done.fetched, done.failed) == (1, 1)


def test_one_run_at_a_time(app: MediaServer, above: Node) -> None:
    """The second is refused, and the first goes on."""
    put(above, "cat", CAT)
    seen: list[Exception] = []

    def second() -> None:
        try:
            catch_up(app, above.url)
        except CatchUpError as error:
            seen.append(error)

    assert catch_up(app, above.url, report=once(second)).fetched == 1
    assert len(seen) == 1


# Throttled, and as a command


def test_the_rate_is_kept(app: MediaServer, above: Node) -> None:
    """1.5 MB at 500 kB/s: two seconds at least, since one may be made up for, and not many more."""
    put(above, "large", LARGE[:1_500_000])
    began = time.monotonic()
    CatchUp(app.role, above.url, rate=500_000).run()
    assert 1.9 < time.monotonic() - began < 8
    assert files(app) == {"large": LARGE[:1_500_000]}


def test_a_rate_is_a_number_with_a_unit() -> None:
    """Anything else is refused."""
    assert [parse_rate(text) for text in ("1", "500k", "20m", "1G")] == [1, 512_000, 20 << 20, 1 << 30]
    for text in ("", "0", "-1", "1.5m", "m", "1t", "1" * 10):
        with pytest.raises(ValueError, match="bytes per second"):
            parse_rate(text)


@pytest.mark.parametrize(
    ("access", "path", "cure"),
    [
        (Access(keys=[Key("app-1", b"x" * 40)]), "", "answered 401; give what it wants in the file of RESTO_CRED"),
        (Access(["192.0.2.1"]), "", "answered 403; its index is for those who may write there"),
        (Access(["127.0.0.1"]), "/no-such-folder", "answered 404; give the URL of another"),
    ],
)
def test_an_index_that_is_refused_is_an_error_that_says_what_to_do(
    tmp_path: Path, app: MediaServer, access: Access, path: str, cure: str
) -> None:
    """Who may catch up is who may write there, which nobody would guess."""
    with Node(tmp_path / "above", access=access) as above, pytest.raises(CatchUpError, match=re.escape(cure)):
        catch_up(app, f"{above.url}{path}")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "resto_wsgi", "media-server", "--listen", "127.0.0.1:0", *arguments]


def test_the_command_catches_up_and_then_serves(tmp_path: Path, above: Node) -> None:
    """It says what it did; where that fails it says so in one line, and does not serve."""
    put(above, "cat", CAT)
    arguments = command("--root", str(tmp_path / "root"), "--catch-up-from", above.url, "--limit-rate", "50m")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        line = process.stdout.readline()
        assert re.match(r"media server http://127\.0\.0\.1:\d+/ of ", line), line
        assert (tmp_path / "root/cat").read_bytes() == CAT
        process.terminate()
        assert "1 names, 1 fetched (5000 bytes), 0 deleted" in process.stderr.read()
    assert process.returncode == 0
    above.stop()
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "is not to be had" in done.stderr
    done = subprocess.run([*arguments, "--limit-rate", "x"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "bytes per second" in done.stderr
