"""A tree of our own nodes: what is put and deleted at the root, what the answer says, and what is read through it."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import LOOPBACK, Node, Tree, eventually, free_port
from trees import ask, ask_json, held, owed, report, settled

from resto_wsgi.errors import ConfigError, OutboxError
from resto_wsgi.fields.digests import format_digest
from resto_wsgi.media_server import Access, MediaServer
from resto_wsgi.media_server.files.store import Store
from resto_wsgi.media_server.tree.above import CatchUpError, Record
from resto_wsgi.media_server.tree.alone import Alone
from resto_wsgi.media_server.tree.catch_up import CatchUp
from resto_wsgi.replicator import Replicator
from resto_wsgi.trust.signatures import parse_keys

CAT = b"\xff\xd8 a cat \r\n" * 5000


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """Seven nodes in three levels."""
    with Tree(tmp_path / "tree") as started:
        yield started


# Writing


def test_what_is_put_and_deleted_is_so_on_every_node(tree: Tree) -> None:
    """201, 200 and 200 when all seven have it, with a line for each; ETag, mtime and digest are the same everywhere."""
    digest = format_digest(hashlib.sha256(CAT).digest())
    status, _, body = ask(tree, "PUT", "/a/cat.jpg", CAT, Repr_Digest=digest, Resto_Generation="7")
    lines = body.decode().splitlines()
    assert (status, len(lines)) == (201, 7)
    authorities = [f"{LOOPBACK}:{node.port}" for node in tree.nodes]
    assert {*lines} == {f"success: {each}/a/cat.jpg stored: {len(CAT)}bytes" for each in authorities}
    assert [held(node) for node in tree.nodes] == [{"a/cat.jpg": CAT}] * 7
    seen = [ask(node, "GET", "/a/cat.jpg", User_Agent="resto_wsgi")[1] for node in tree.nodes]
    assert len({each["ETag"] for each in seen}) == 1
    assert {(each["Repr-Digest"], each["Resto-Generation"]) for each in seen} == {(digest, "7")}
    assert ask(tree, "PUT", "/a/cat.jpg", b"new", Resto_Generation="8")[0] == 200
    assert [held(node) for node in tree.nodes] == [{"a/cat.jpg": b"new"}] * 7
    status, _, body = ask(tree, "DELETE", "/a/cat.jpg", Resto_Generation="9")
    assert (status, body.decode().count("deleted\n")) == (200, 7)
    assert [held(node) for node in tree.nodes] == [{}] * 7
    assert {ask(node, "GET", "/a/cat.jpg")[1]["Resto-Generation"] for node in tree.nodes} == {"9"}
    assert ask(tree, "PUT", "/a/cat.jpg", b"late", Resto_Generation="8")[0] == 412
    assert ask(tree, "DELETE", "/a/cat.jpg")[0] == 404


def test_conditions_are_judged_at_the_root_alone(tree: Tree) -> None:
    """A child that is behind takes what its parent has taken; one refusal at the root reaches nobody."""
    ask(tree, "PUT", "/cat", b"one")
    Path(tree.nodes[3].root, "cat").write_bytes(b"changed by hand")
    etag = ask(tree, "GET", "/cat")[1]["ETag"]
    assert ask(tree, "PUT", "/cat", b"two", If_Match='"other"')[0] == 412
    assert ask(tree, "PUT", "/cat", b"two", If_Match=etag)[0] == 200
    assert [held(node) for node in tree.nodes] == [{"cat": b"two"}] * 7
    assert ask(tree, "PUT", "/cat", b"three", If_None_Match="*")[0] == 412
    assert settled(tree)


def test_a_child_that_is_away_is_owed_and_the_answer_says_so(tree: Tree) -> None:
    """202 with the line of that child; 201 to the library, which has done its part; later every node has it."""
    tree.nodes[1].stop()
    status, nodes = report(tree, "PUT", "/cat", CAT)
    assert status == 202
    assert [each["state"] for each in nodes] == ["stored", "owed", "stored", "stored", "stored"]
    status, headers, _ = ask(tree, "PUT", "/dog", b"dog", User_Agent="resto_wsgi")
    assert (status, headers["Resto-Owed"]) == (201, "1")
    assert ask(tree, "DELETE", "/none")[0] == 202
    page = ask_json(tree, "/__missing__")
    assert (page["owed"], page["subtree"], page["complete"]) == (3, 3, False)
    assert {(each["name"], each["method"]) for each in page["deliveries"]} == {
        ("cat", "PUT"), ("dog", "PUT"), ("none", "DELETE")
    }  # fmt: skip
    tree.nodes[1].start()
    eventually(lambda: settled(tree))
    assert [held(node) for node in tree.nodes] == [{"cat": CAT, "dog": b"dog"}] * 7
    page = ask_json(tree, "/__missing__")
    assert (page["owed"], page["subtree"], page["complete"], page["deliveries"]) == (0, 0, True, [])


def test_what_is_owed_two_levels_down_is_in_the_report_and_not_sent_again(tree: Tree) -> None:
    """The child has it and answers for its own children: the root owes nothing, and says who does."""
    tree.nodes[3].stop()
    status, nodes = report(tree, "PUT", "/cat", CAT)
    assert status == 202
    assert [(each["level"], each["state"]) for each in nodes] == [
        (0, "stored"), (1, "stored"), (2, "owed"), (2, "stored"), (1, "stored"), (2, "stored"), (2, "stored")
    ]  # fmt: skip
    assert (owed(tree.nodes[0]), owed(tree.nodes[1])) == (0, 1)
    page = ask_json(tree, "/__missing__")
    assert (page["owed"], page["subtree"], page["complete"]) == (0, 1, False)
    tree.nodes[3].start()
    eventually(lambda: ask_json(tree, "/__missing__")["subtree"] == 0)
    assert held(tree.nodes[3]) == {"cat": CAT}


def test_wait_local_answers_when_it_is_durable_here(tree: Tree) -> None:
    """The children get it in the background; a wait that is none is refused before anything is stored."""
    status, nodes = report(tree, "PUT", "/cat?wait=local", CAT)
    assert (status, [each["state"] for each in nodes]) == (202, ["stored", "owed", "owed"])
    eventually(lambda: settled(tree))
    assert [held(node) for node in tree.nodes] == [{"cat": CAT}] * 7
    assert ask(tree, "PUT", "/dog?wait=long", CAT)[0] == 400
    assert ask(tree, "PUT", "/dog", CAT, Resto_Wait="nan")[0] == 400
    assert report(tree, "DELETE", "/cat?wait=local")[0] == 202
    eventually(lambda: settled(tree))
    assert [held(node) for node in tree.nodes] == [{}] * 7


def test_a_child_that_hangs_delays_the_library_less_than_its_timeout(tmp_path: Path, faulty: Any) -> None:
    """It is given up after a part of a second and owed; the other child has the file by then."""
    with Node(tmp_path / "child") as child:
        children = [faulty("hang").url, child.url]
        with Node(tmp_path / "root", children=children) as node:
            began = time.monotonic()
            status, headers, _ = ask(node, "PUT", "/cat", CAT, User_Agent="resto_wsgi")
            assert (status, headers["Resto-Owed"]) == (201, "1")
            assert time.monotonic() - began < 2
            assert held(child) == {"cat": CAT}


def test_a_stock_server_can_be_a_leaf(nginx: Any, tmp_path: Path) -> None:
    """It gets the file with its mtime, and has a line in the report."""
    with Node(tmp_path / "root", children=[nginx.url]) as node:
        status, nodes = report(node, "PUT", "/a/cat", CAT)
        assert (status, len(nodes), nodes[1]["bytes"]) == (201, 2, len(CAT))
        assert ask(node, "DELETE", "/a/cat")[0] == 200
        assert not Path(nginx.root, "a/cat").exists()
        assert ask_json(node, "/__missing__")["complete"]


def test_the_library_replicates_to_a_tree(tree: Tree, tmp_path: Path) -> None:
    """Saved, replaced and deleted: every node of the tree is as the master when the call returns."""
    settings = {"media_root": tmp_path / "media", "fsync": False, "background": False, "media_url": "/"}
    with Replicator(media_hosts=[tree.url], **settings) as replicator:
        replicator.save("a/cat.jpg", CAT)
        replicator.save("dog.jpg", b"dog")
        replicator.save("dog.jpg", b"dog 2", overwrite=True)
        assert [held(node) for node in tree.nodes] == [{"a/cat.jpg": CAT, "dog.jpg": b"dog 2"}] * 7
        replicator.delete("a/cat.jpg")
        assert [held(node) for node in tree.nodes] == [{"dog.jpg": b"dog 2"}] * 7
        assert replicator.status().owed == 0


def test_writers_of_one_name_leave_one_version_everywhere(tree: Tree) -> None:
    """Eight at once, PUTs and DELETEs: all seven nodes end with what the root has."""

    def write(number: int) -> None:
        for each in range(5):
            method, body = ("PUT", b"%d %d" % (number, each) * 1000) if (number + each) % 3 else ("DELETE", None)
            ask(tree, method, f"/cat{'?wait=local' if each % 2 else ''}", body)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: settled(tree), 40)
    assert all(held(node) == held(tree.nodes[0]) for node in tree.nodes)


def test_a_child_that_joins_gets_names_below_a_path_of_the_public_url(tmp_path: Path) -> None:
    """They are longer than the library's, by the path in which those are."""
    name = "/".join(["a" * 200] * 6)
    with Node(tmp_path / "root") as node:
        assert ask(node, "PUT", f"/{name}", CAT)[0] == 201
    with Node(tmp_path / "child") as child, Node(tmp_path / "root", children=[child.url]) as node:
        ask(node, "GET", "/dog")  # by which it starts
        eventually(lambda: held(child) == {name: CAT})


def test_no_symbolic_link_of_the_root_reaches_a_child(tmp_path: Path) -> None:
    """Neither when a child joins, which gets all that there is, nor in a listing."""
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "cat").write_bytes(CAT)
    with Node(tmp_path / "child") as child, Node(root, children=[child.url]) as node:
        ask(node, "PUT", "/dog", b"dog")
        eventually(lambda: held(child) == {"cat": CAT, "dog": b"dog"})
        eventually(lambda: not owed(node))
        assert held(child) == {"cat": CAT, "dog": b"dog"}


# Hostile children


def answer(body: bytes, **headers: str) -> Any:
    return ("status", 201, {"Content-Type": "application/json", **headers}, body)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"nodes": []}',
        b'{"nodes": [{"node": "x\\nsuccess: y", "state": "stored"}]}',
        b'{"nodes": [{"node": "x", "state": "fine"}]}',
        b'{"nodes": [{"node": "x", "state": "stored", "bytes": -1}]}',
        b'{"nodes": [{"node": "x", "state": "stored", "bytes": 1e400}]}',
        b'{"nodes": [{"node": "x", "state": "stored", "level": 1000}]}',
    ],
)
def test_a_report_that_cannot_be_understood_is_one_line(tmp_path: Path, faulty: Any, body: bytes) -> None:
    """What the child did is known from its status; no line of its making is in our answer."""
    with Node(tmp_path / "root", children=[faulty(answer(body[:60000])).url]) as node:
        status, _, text = ask(node, "PUT", "/cat", CAT)
        assert (status, text.count(b"\n"), text.count(b"success: ")) == (201, 2, 2)


def test_a_reason_that_a_child_gives_breaks_no_line(tmp_path: Path, faulty: Any) -> None:
    """It is quoted, and cut."""
    told = {"nodes": [{"node": "", "state": "owed", "reason": "x\r\nsuccess: y" + "z" * 10_000}]}
    with Node(tmp_path / "root", children=[faulty(answer(json.dumps(told).encode())).url]) as node:
        status, _, text = ask(node, "PUT", "/cat", CAT)
        assert (status, text.count(b"\n"), len(text) < 600) == (202, 2, True)


def test_children_that_cannot_be_are_refused_at_start(tmp_path: Path) -> None:
    """A URL that is none, and one that is there twice."""
    for children in (["ftp://x"], ["http://a:1", "a:1/"], ["http://a/?x"]):
        with pytest.raises(ConfigError):
            MediaServer(tmp_path / "root", children=children)


# Reading


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
        assert not [each for each in os.listdir(Path(node.root, ".resto/staging")) if each.startswith("put-")]


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


def test_an_outbox_that_cannot_be_read_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, and not by a traceback of the server's: what was deleted is not known then, so no child is asked."""

    def damaged(*_: Any) -> None:
        raise OutboxError("outbox", "damaged", "mend it")

    with Node(tmp_path / "root", children=[f"http://{LOOPBACK}:{free_port()}"]) as node:
        for method, path in (("is_gone", "/cat"), ("owing", "/__missing__")):
            monkeypatch.setattr(node.app.role.outbox, method, damaged)
            assert ask(node, "GET", path)[0] == 503


def test_an_answer_that_does_not_say_where_it_ends_is_none(tmp_path: Path, faulty: Any) -> None:
    """It may have been cut short; the next child is asked."""

    def unsized(connection: Any, reader: Any) -> None:
        while reader.readline().strip():
            pass
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nthe beginning")

    child = faulty(unsized).url
    with Node(tmp_path / "root", children=[child]) as node:
        assert ask(node, "GET", "/cat")[0] == 504
    app = MediaServer(tmp_path / "below")
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


# Healing


@pytest.fixture
def healing(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """A child that has a file, and a node above it that lost it, and keeps what it reads."""
    with Node(tmp_path / "child") as child, Node(tmp_path / "root", children=[child.url], heal=True) as node:
        ask(node, "PUT", "/a/cat", CAT, Resto_Generation="3")
        shutil.rmtree(Path(node.root, "a"))
        yield node, child


def test_heal_keeps_what_was_read(healing: Any) -> None:
    """With its mtime to the nanosecond, its generation and its digest; HEAD and a range keep nothing."""
    node, child = healing
    ask(node, "HEAD", "/a/cat")
    ask(node, "GET", "/a/cat", Range="bytes=0-9")
    assert held(node) == {}
    assert ask(node, "GET", "/a/cat")[2] == CAT
    eventually(lambda: held(node) == {"a/cat": CAT})
    seen = [ask(each, "GET", "/a/cat", User_Agent="resto_wsgi")[1] for each in (node, child)]
    assert seen[0]["ETag"] == seen[1]["ETag"] and seen[0]["Resto-Generation"] == "3"
    eventually(lambda: not owed(node))
    assert ask(child, "GET", "/a/cat", User_Agent="resto_wsgi")[1]["ETag"] == seen[0]["ETag"]


def test_heal_stages_a_file_for_one_of_its_readers(healing: Any) -> None:
    """However many there are, and however slow: the disk has room for others. Who comes later has it kept."""
    node, child = healing
    content = os.urandom(1 << 20) * 40
    ask(child, "PUT", "/video", content)
    staging = Path(node.root, ".resto/staging")
    with contextlib.ExitStack() as readers:
        for _ in range(3):
            connection = readers.enter_context(contextlib.closing(http.client.HTTPConnection(LOOPBACK, node.port)))
            connection.request("GET", "/video")
            assert readers.enter_context(connection.getresponse()).read(1) == content[:1]
        assert len(list(staging.glob("put-*"))) == 1
    eventually(lambda: not list(staging.glob("put-*")), 30)
    assert ask(node, "GET", "/video")[2] == content
    eventually(lambda: held(node) == {"video": content}, 30)


def test_heal_replaces_nothing_newer_and_brings_nothing_back(healing: Any) -> None:
    """What was put or deleted while the old version came through is what stays."""
    node, child = healing
    for method, body, expected in [("PUT", b"new", {"a/cat": b"new"}), ("DELETE", None, {})]:
        ask(child, "PUT", "/a/cat", bytes(30_000_000), User_Agent="resto_wsgi")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(Path(node.root, "a/cat"))
        connection = http.client.HTTPConnection(LOOPBACK, node.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/a/cat")
            reply = connection.getresponse()
            assert reply.status == 200, method
            reply.read(100_000)
            assert ask(node, method, "/a/cat", body)[0] in (200, 201, 202, 404)
            assert len(reply.read()) == 29_900_000
        eventually(lambda: not list(Path(node.root, ".resto/staging").glob("put-*")))  # it was kept by then, or was not
        eventually(lambda: not owed(node), 40)
        assert held(node) == expected == held(child)


def test_heal_keeps_nothing_that_is_not_its_digest(tmp_path: Path, faulty: Any) -> None:
    """The reader, who can compare, gets it; the root stays without."""
    headers = {"Repr-Digest": format_digest(hashlib.sha256(b"other").digest())}
    with Node(tmp_path / "root", children=[faulty(("status", 200, headers, CAT)).url], heal=True) as node:
        assert ask(node, "GET", "/cat")[2] == CAT
        assert ask(node, "GET", "/cat")[2] == CAT
        assert held(node) == {}


# Children that want credentials


@pytest.mark.parametrize("large", [False, True])
def test_children_that_want_a_signature_are_given_one(tmp_path: Path, large: bool) -> None:
    """PUT, DELETE, their pages and a catch-up; large files too, which are begun early only where they have a digest."""
    (key,) = parse_keys("app-1:" + "s" * 40, "the test")
    keys = tmp_path / "credentials"
    keys.write_text("* secret app-1:" + "s" * 40 + "\n")
    keys.chmod(0o600)
    credentials = {"credentials_file": str(keys)}
    content = CAT * (30 if large else 1)
    with contextlib.ExitStack() as stack:
        leaf = stack.enter_context(Node(tmp_path / "leaf", access=Access(keys=[key])))
        more: dict[str, Any] = {"children": [leaf.url], "timeout": 5.0, "credentials": credentials}
        root = stack.enter_context(Node(tmp_path / "root", **more))
        assert ask(leaf, "PUT", "/cat.jpg", content)[0] == 401
        assert ask(root, "PUT", "/cat.jpg", content)[0] == 201
        digest = format_digest(hashlib.sha256(content).digest())
        assert ask(root, "PUT", "/b/cat.jpg", content, Repr_Digest=digest)[0] == 201
        assert held(leaf) == held(root) == {"cat.jpg": content, "b/cat.jpg": content}
        assert ask_json(root, "/__missing__")["complete"] is True
        assert ask(root, "DELETE", "/cat.jpg")[0] == 200
        assert held(leaf) == {"b/cat.jpg": content}
        os.unlink(tmp_path / "root/b/cat.jpg")
        assert ask(root, "GET", "/b/cat.jpg")[2] == content
        fresh = Store(str(tmp_path / "fresh"))
        assert CatchUp(Alone(fresh), leaf.url, credentials=credentials).run().fetched == 1
        with pytest.raises(CatchUpError):
            CatchUp(Alone(Store(str(tmp_path / "stranger"))), leaf.url).run()
