"""Keeping what was read through a child because it was missing here."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import LOOPBACK, Node, eventually
from trees import ask, held, owed

from resto_wsgi.fields.digests import format_digest

CAT = b"\xff\xd8 a cat \r\n" * 5000


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
        assert len(list(staging.glob("*/*"))) == 1
    eventually(lambda: not list(staging.glob("*/*")), 30)
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
        eventually(lambda: not list(Path(node.root, ".resto/staging").glob("*/*")))  # it was kept by then, or was not
        eventually(lambda: not owed(node), 40)
        assert held(node) == expected == held(child)


def test_heal_keeps_nothing_that_is_not_its_digest(tmp_path: Path, faulty: Any) -> None:
    """The reader, who can compare, gets it; the root stays without."""
    headers = {"Repr-Digest": format_digest(hashlib.sha256(b"other").digest())}
    with Node(tmp_path / "root", children=[faulty(("status", 200, headers, CAT)).url], heal=True) as node:
        assert ask(node, "GET", "/cat")[2] == CAT
        assert ask(node, "GET", "/cat")[2] == CAT
        assert held(node) == {}
