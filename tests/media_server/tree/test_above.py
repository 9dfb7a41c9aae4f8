"""The node above, which is believed in what it holds and in nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from servers import LOCAL, Node
from trees import ask, catch_up, held, put

from resto_wsgi.fields.digests import format_digest
from resto_wsgi.media_server import Access, MediaServer
from resto_wsgi.media_server.tree.catch_up import CatchUp, CatchUpError, Progress
from resto_wsgi.trust.signatures import Key


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
    assert held(app.store) == {}


@pytest.mark.parametrize("names", [["a/cat"], ["b", "a"], ["b", "b"], ["a/b", "a"]])
def test_an_index_that_turns_in_circles_ends_the_run(app: MediaServer, faulty: Any, names: list[str]) -> None:
    """The same page again does not go forward, and neither does a name that comes before the last one."""
    server = faulty(index(*({"name": name, "size": 0, "mtime_ns": 0} for name in names)))
    with pytest.raises(CatchUpError, match="does not go forward"):
        catch_up(app, server.url)
    assert server.connections < 20


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


LARGE = os.urandom(3_000_000)


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
    assert held(app.store) == {"large": LARGE}
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
    assert held(app.store) == {}
    put(above, "large", LARGE[::-1])
    assert catch_up(app, above.url).fetched == 1
    assert held(app.store) == {"large": LARGE[::-1]}


CAT = b"a cat" * 1000


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
    assert held(app.store) == {"dog": CAT}
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
    assert held(app.store) == {} and sum(each.stat().st_size for each in parts) < 1000


def test_the_rate_is_kept(app: MediaServer, above: Node) -> None:
    """1.5 MB at 500 kB/s: two seconds at least, since one may be made up for, and not many more."""
    put(above, "large", LARGE[:1_500_000])
    began = time.monotonic()
    CatchUp(app.role, above.url, rate=500_000).run()
    assert 1.9 < time.monotonic() - began < 8
    assert held(app.store) == {"large": LARGE[:1_500_000]}


def test_an_index_of_an_older_node_brings_no_file_in_the_place_of_a_page(tmp_path: Path, faulty: Any) -> None:
    """It is passed over, and what comes after it is not."""
    app = MediaServer(tmp_path / "root", access=LOCAL)
    asked: list[str] = []

    def older(connection: Any, reader: Any) -> None:
        while request := reader.readline().decode():
            while reader.readline().strip():
                pass
            asked.append(request.split()[1])
            found = [] if "after" in asked[-1] else ["__index__" if "gone" in asked[-1] else {"name": "__missing__/x"}]
            body = json.dumps({"names": found, "gone": found}).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    assert CatchUp(app.role, faulty(older).url).run().seen == 0
    assert len({*asked}) == 4, "what comes after them was asked for"
