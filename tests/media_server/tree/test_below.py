"""Reading through the children what is not here: who is asked, and what is made of the answers."""

from __future__ import annotations

import contextlib
import http.client
import os
import time
from pathlib import Path
from typing import Any

import pytest
from servers import LOCAL, Node, Tree
from trees import ask, held

from resto_wsgi.media_server import MediaServer
from resto_wsgi.media_server.tree.above import Record
from resto_wsgi.media_server.tree.catch_up import CatchUp

CAT = b"\xff\xd8 a cat \r\n" * 5000


def test_what_is_missing_is_read_through_the_children(tree: Tree) -> None:
    """The whole, a range, several ranges and HEAD, from two levels down; the library sees what is on the very node."""
    ask(tree, "PUT", "/a/cat.html", CAT)
    for number in (0, 1, 2, 3, 4, 5):
        os.unlink(os.path.join(tree.nodes[number].root, "a/cat.html"))
    status, headers, body = ask(tree, "GET", "/a/cat.html")
    assert (status, body, headers["Content-Disposition"]) == (200, CAT, "attachment")
    status, headers, body = ask(tree, "GET", "/a/cat.html", Range="bytes=10-19")
    assert (status, body, headers["Content-Range"]) == (206, CAT[10:20], f"bytes 10-19/{len(CAT)}")
    status, headers, body = ask(tree, "GET", "/a/cat.html", Range="bytes=0-1,5-6")
    assert status == 206 and headers["Content-Type"].startswith("multipart/byteranges; boundary=")
    assert ask(tree, "GET", "/a/cat.html", Range=f"bytes={len(CAT)}-")[0] == 416
    status, headers, body = ask(tree, "HEAD", "/a/cat.html")
    assert (status, headers["Content-Length"], body) == (200, str(len(CAT)), b"")
    assert ask(tree, "GET", "/a/cat.html", If_None_Match=headers["ETag"])[0] == 304
    assert ask(tree, "GET", "/a/cat.html", User_Agent="resto_wsgi")[0] == 404
    assert ask(tree, "GET", "/a/none")[0] == 404
    assert held(tree.nodes[0]) == {}


def test_what_was_deleted_is_not_read_from_a_child_that_missed_it(tree: Tree) -> None:
    """404, though the child still has it."""
    ask(tree, "PUT", "/cat", CAT)
    tree.nodes[1].stop()
    ask(tree, "DELETE", "/cat")
    assert ask(tree, "GET", "/cat")[0] == 404
    assert held(tree.nodes[1]) == {"cat": CAT}


def test_what_was_put_again_after_a_delete_is_read_through_a_child(tree: Tree) -> None:
    """Its tombstone went with the new file; what a disk loses afterwards is looked for."""
    for method, body in (("PUT", b"old"), ("DELETE", None), ("PUT", CAT)):
        ask(tree, method, "/cat", body)
    os.unlink(Path(tree.nodes[0].root, "cat"))
    assert ask(tree, "GET", "/cat")[2] == CAT


def test_children_that_fail_are_passed_over(tmp_path: Path, faulty: Any) -> None:
    """Whatever they do, the one that has it is found each time; where none has it and one is silent, it is 504."""
    broken = [faulty(each).url for each in ("refuse", "reset", "garbage", ("status", 500), ("redirect", 302, "/x"))]
    with Node(tmp_path / "child") as child:
        ask(child, "PUT", "/cat", CAT)
        with Node(tmp_path / "root", children=[*broken, child.url], timeout=0.5) as node:
            for _ in range(7):
                assert ask(node, "GET", "/cat")[2] == CAT
            status, headers, _ = ask(node, "GET", "/dog")
            assert (status, headers["Retry-After"]) == (504, "5")


def test_a_silent_child_costs_its_timeout_twice(tmp_path: Path, faulty: Any) -> None:
    """For some seconds after it, it is not asked again; one that sends its answer by the byte is no better."""
    silent = [faulty("hang").url, faulty("drip").url]
    with Node(tmp_path / "root", children=silent, timeout=0.3) as node:
        assert ask(node, "GET", "/cat")[0] == 504
        began = time.monotonic()
        for number in range(10):
            assert ask(node, "GET", f"/{number}")[0] == 504
        assert time.monotonic() - began < 3


def test_a_child_that_waits_for_a_silent_one_still_serves_what_it_has(tmp_path: Path, faulty: Any) -> None:
    """Who asks for a name that is nowhere hides nothing, however often he does; what it has not is not known."""
    silent = faulty("hang").url
    with Node(tmp_path / "middle", children=[silent], timeout=2.0) as middle:
        Path(middle.root, "cat").write_bytes(CAT)
        with Node(tmp_path / "root", children=[middle.url], timeout=0.5) as node:
            for number in range(5):
                assert ask(node, "GET", f"/{number}")[0] == 504
                assert ask(node, "GET", "/cat")[2] == CAT


def test_an_answer_that_is_cut_short_is_not_whole(tmp_path: Path, faulty: Any) -> None:
    """The connection of the reader ends, so that nobody takes it for the file; and it is not kept."""

    def cut(connection: Any, reader: Any) -> None:
        reader.readline()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(1000))

    with Node(tmp_path / "root", children=[faulty(cut).url], heal=True) as node:
        with pytest.raises(http.client.IncompleteRead):
            ask(node, "GET", "/cat")
        assert held(node) == {}
        assert not list(Path(node.root, ".resto/staging").glob("*/*"))


def test_an_answer_that_nobody_wants_and_that_does_not_end_is_not_read(tmp_path: Path, faulty: Any) -> None:
    """A 404 without a length ends with its connection, and would fill the memory until then."""
    sent: list[int] = []

    def endless(connection: Any, reader: Any) -> None:
        while reader.readline().strip():
            pass
        connection.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while len(sent) < 64:
                connection.sendall(bytes(1 << 20))
                sent.append(1)

    with Node(tmp_path / "root", children=[faulty(endless).url]) as node:
        assert ask(node, "GET", "/cat")[0] == 404
    assert len(sent) < 32


def test_an_answer_that_does_not_say_where_it_ends_is_none(tmp_path: Path, faulty: Any) -> None:
    """It may have been cut short; the next child is asked."""

    def unsized(connection: Any, reader: Any) -> None:
        while reader.readline().strip():
            pass
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nthe beginning")

    child = faulty(unsized).url
    with Node(tmp_path / "root", children=[child]) as node:
        assert ask(node, "GET", "/cat")[0] == 504
    app = MediaServer(tmp_path / "below", access=LOCAL)
    run = CatchUp(app.role, child, timeout=1, sleep=lambda seconds: None)
    record = Record("cat", 1000, 0, None, None)
    run._try("cat", lambda: run._bring(record))
    assert run.progress.failed == 1 and not (tmp_path / "below/cat").exists()


def test_headers_of_a_child_are_passed_on_only_where_they_tell_the_version(tmp_path: Path, faulty: Any) -> None:
    """No cookie, no policy, no type that would run."""
    headers = {"Set-Cookie": "a=b", "Content-Type": "text/html", "X-Evil": "1", "ETag": '"x"', "Location": "/y"}
    with Node(tmp_path / "root", children=[faulty(("status", 200, headers, b"x")).url]) as node:
        status, found, body = ask(node, "GET", "/cat.txt")
    assert (status, body, found["ETag"], found["Content-Type"]) == (200, b"x", '"x"', "text/plain")
    assert not {"Set-Cookie", "X-Evil", "Location"} & {*found}
