"""How a node speaks with the nodes below and above it: what they want to be shown."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_hosts import answering
from servers import Node
from trees import ask, ask_json, held

from resto_wsgi.errors import DeliveryError
from resto_wsgi.fields.digests import format_digest
from resto_wsgi.hosts import Host
from resto_wsgi.media_server import Access
from resto_wsgi.media_server.files.store import Store
from resto_wsgi.media_server.tree.above import CatchUpError
from resto_wsgi.media_server.tree.alone import Alone
from resto_wsgi.media_server.tree.catch_up import CatchUp
from resto_wsgi.media_server.tree.hops import LOOP_REASON, Hops
from resto_wsgi.media_server.tree.node_transport import NodeTransport, Reading
from resto_wsgi.trust.signatures import parse_keys

CAT = b"\xff\xd8 a cat \r\n" * 5000


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


# What is read from another node


@pytest.fixture
def transport(tmp_path: Path) -> Iterator[NodeTransport]:
    """One that only reads."""
    transport = NodeTransport(2.0, Store(tmp_path / "root"), "", lambda host, name: Hops())
    yield transport
    transport.close()


def get(transport: NodeTransport, server: Any, method: str = "GET") -> Reading:
    return transport.read(Host(server.url, server.url), method, "/cat", {})


DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
SECONDS = 1_700_000_000


@pytest.mark.parametrize(
    ("headers", "generation", "mtime_ns"),
    [
        ({}, None, None),
        ({"Resto-Generation": "7", "Last-Modified": DATE}, 7, SECONDS * 10**9),
        ({"Resto-Generation": "x", "Last-Modified": DATE, "ETag": f'"{SECONDS:x}-5-ff"'}, None, SECONDS * 10**9 + 255),
        (
            {"Resto-Generation": "9" * 20, "Last-Modified": DATE, "ETag": f'"{SECONDS + 1:x}-5-ff"'},
            None,
            SECONDS * 10**9,
        ),
        ({"Last-Modified": DATE, "ETag": f'"{SECONDS:x}-5"'}, None, SECONDS * 10**9),
        ({"Last-Modified": "yesterday", "ETag": f'"{SECONDS:x}-5-ff"'}, None, None),
    ],
)
def test_an_answer_tells_the_version_as_far_as_it_can_be_believed(
    transport: NodeTransport, faulty: Any, headers: dict[str, str], generation: int | None, mtime_ns: int | None
) -> None:
    """To the nanosecond if the ETag is one of ours, and of the same second."""
    with get(transport, faulty(("status", 200, headers, b"cat"))) as reading:
        assert (reading.generation(), reading.mtime_ns(), reading.size) == (generation, mtime_ns, 3)


def test_a_body_that_was_read_leaves_the_connection_for_the_next_one(transport: NodeTransport, faulty: Any) -> None:
    """One that is given up does not, unless what is left is less than a connection costs."""
    server = faulty(("status", 200, {}, bytes(100_000)))
    for read, connections in [(True, 1), (True, 1), (False, 1), (True, 2)]:
        with get(transport, server) as reading:
            assert not read or reading.text(100_000) == bytes(100_000)
        assert server.connections == connections
    small = faulty(("status", 404, {}, b"no such file"))
    for _ in range(3):
        with get(transport, small) as reading:
            assert reading.status == 404
    assert small.connections == 1


def test_a_text_has_a_limit(transport: NodeTransport, faulty: Any) -> None:
    """Whatever its length says, and also if it says none."""
    with (
        get(transport, faulty(("status", 200, {}, bytes(1001)))) as reading,
        pytest.raises(DeliveryError, match="1000"),
    ):
        reading.text(1000)


def test_a_connection_that_was_closed_meanwhile_is_opened_anew(transport: NodeTransport, faulty: Any) -> None:
    """Once; a new one that breaks is a failure."""
    server = faulty("close_on_reuse")
    for _ in range(2):
        with get(transport, server) as reading:
            assert reading.text(10) == b""
    with pytest.raises(DeliveryError):
        get(transport, faulty("reset"))


def test_a_read_that_is_answered_408_on_a_connection_that_was_kept_is_repeated(
    transport: NodeTransport, faulty: Any
) -> None:
    """The host had ended the connection while it was idle; on a new one it is an answer like any other."""
    good, late = (b"HTTP/1.1 %s\r\nContent-Length: 3\r\n\r\ncat" % status for status in (b"200 OK", b"408 Late"))

    def script(*answers: bytes) -> Callable[..., None]:
        return lambda connection, reader: answering(*answers)(server, connection, reader)

    server = faulty(script(good, late), script(good), script(late))
    for _ in range(2):
        with get(transport, server) as reading:
            assert (reading.status, reading.text(10)) == (200, b"cat")
    transport.close()
    with get(transport, server) as reading:
        assert reading.status == 408
    assert server.connections == 3


@pytest.mark.parametrize(("status", "reason"), [(403, "answered 403"), (508, LOOP_REASON)])
def test_a_refusal_says_what_it_means_to_this_node(
    transport: NodeTransport, faulty: Any, status: int, reason: str
) -> None:
    """508 is a fault of the tree, with what to do about it."""
    with get(transport, faulty(("status", status))) as reading:
        error = reading.refused()
    assert (error.status, error.reason) == (status, reason)
