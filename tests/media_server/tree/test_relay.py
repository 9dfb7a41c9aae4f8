"""A tree of our own nodes: what is put and deleted at the root, what the answer says, and what is read through it."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from servers import LOCAL, LOOPBACK, Node, Tree, eventually, free_port
from trees import ask, ask_json, held, owed, report, settled

from resto_wsgi.errors import ConfigError, OutboxError
from resto_wsgi.fields.digests import format_digest
from resto_wsgi.media_server import MediaServer
from resto_wsgi.replicator import Replicator

CAT = b"\xff\xd8 a cat \r\n" * 5000


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


def test_children_that_cannot_be_are_refused_at_start(tmp_path: Path) -> None:
    """A URL that is none, and one that is there twice."""
    for children in (["ftp://x"], ["http://a:1", "a:1/"], ["http://a/?x"]):
        with pytest.raises(ConfigError):
            MediaServer(tmp_path / "root", children=children, access=LOCAL)


# Reading


def test_an_outbox_that_cannot_be_read_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, and not by a traceback of the server's: what was deleted is not known then, so no child is asked."""

    def damaged(*_: Any) -> None:
        raise OutboxError("outbox", "damaged", "mend it")

    with Node(tmp_path / "root", children=[f"http://{LOOPBACK}:{free_port()}"]) as node:
        for method, path in (("is_gone", "/cat"), ("owing", "/__missing__")):
            monkeypatch.setattr(node.app.role.outbox, method, damaged)
            assert ask(node, "GET", path)[0] == 503
