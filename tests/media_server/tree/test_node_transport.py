"""How a node speaks with the nodes below and above it: what they want to be shown."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
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
from resto_wsgi.media_server.tree.hops import Hops
from resto_wsgi.media_server.tree.node_transport import NodeTransport, Passing, generation_of, mtime_ns_of, report_of
from resto_wsgi.media_server.tree.report import Line
from resto_wsgi.transports.http.errand import HostAnswer
from resto_wsgi.transports.http.job import result_of
from resto_wsgi.transports.http.reply import Fields
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


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A root with one file, of which the generation is known."""
    store = Store(str(tmp_path / "media"))
    with store.stage() as staged, store.change("cat") as change:
        staged.write(CAT)
        staged.seal(1_234_567_890_123_456_789, sha256=hashlib.sha256(CAT).digest(), generation=7, exact=True)
        change.publish(staged)
    return store


def said(store: Store, server: Any, along: object, method: str = "PUT") -> dict[str, str]:
    """The fields that a child is told with a delivery."""
    child = Host(server.url, server.url)
    transport = NodeTransport(5.0, store, "a" * 12, lambda host, name: Hops.of("b" * 12))
    with contextlib.closing(transport), open(Path(store.root, "cat"), "rb", buffering=0) as file:
        if method == "PUT":
            result_of(transport.put_job(child, "cat", file, len(CAT), 1e9, along))
        else:
            result_of(transport.delete_job(child, "cat", along))
    return dict(server.requests[-1].headers)


def test_a_delivery_of_the_worker_says_how_its_change_came_and_waits_for_nobody(store: Store, faulty: Any) -> None:
    """It has nothing along: the way is noted with what is owed. What is known of the file goes with it."""
    server = faulty(("status", 200))
    fields = said(store, server, None)
    assert (fields["resto-passed-on"], fields["resto-wait"]) == (f"{'b' * 12},{'a' * 12};++", "0.000")
    assert (fields["resto-generation"], fields["resto-mtime"]) == ("7", "1234567890123456789")
    assert fields["repr-digest"] == format_digest(hashlib.sha256(CAT).digest())
    assert said(store, server, None, "DELETE")["resto-passed-on"] == f"{'b' * 12},{'a' * 12};++"


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_request_that_is_passed_on_says_so_and_for_how_long_it_waits(store: Store, faulty: Any, method: str) -> None:
    """The nodes that it came through, and a share of the seconds that are left; none if that would be too few."""
    server = faulty(("status", 200))
    fields = said(store, server, Passing(Hops.of("c" * 12), 10.0), method)
    assert (fields["resto-passed-on"], fields["resto-wait"]) == (f"{'c' * 12},{'a' * 12};++", "7.000")
    assert said(store, server, Passing(Hops(), 0.01), method)["resto-wait"] == "0.000"


def test_a_child_may_take_as_long_as_its_parent_waits(store: Store, faulty: Any) -> None:
    """For what is passed on; the worker gives it the usual time."""
    child = faulty(("late", 1.0, 200))
    host = Host(child.url, child.url)
    transport = NodeTransport(0.3, store, "a" * 12, lambda host, name: Hops())
    with contextlib.closing(transport):
        assert result_of(transport.delete_job(host, "cat", Passing(Hops(), 10.0))).status == 200
        with pytest.raises(DeliveryError, match="no answer"):
            result_of(transport.delete_job(host, "cat"))


@pytest.mark.parametrize(
    ("kind", "body", "lines"),
    [
        ("application/json", b'{"nodes": [{"node": "", "state": "stored", "bytes": 3}]}', [Line("", "stored", 3)]),
        ("application/json", b"[]", None),
        ("text/plain", b'{"nodes": []}', None),
    ],
)
def test_what_a_child_has_told_is_read_of_its_answer(kind: str, body: bytes, lines: list[Line] | None) -> None:
    """And of nothing else: a stock server tells nothing, nor does one that was not asked."""
    assert report_of(HostAnswer(201, Fields([("Content-Type", kind)]), body=body)) == lines
    assert report_of(None) is None


def test_a_version_is_read_of_an_answer() -> None:
    """To the nanosecond if the ETag is one of ours, and of the same second; nothing is taken that is no number."""
    date = "Fri, 13 Feb 2009 23:31:30 GMT"
    assert mtime_ns_of(Fields([("Last-Modified", date)])) == 1_234_567_890_000_000_000
    own = Fields([("Last-Modified", date), ("ETag", f'"{1_234_567_890:x}-3-{123_456_789:x}"')])
    assert mtime_ns_of(own) == 1_234_567_890_123_456_789
    assert mtime_ns_of(Fields([("Last-Modified", date), ("ETag", f'"{1:x}-3-1"')])) == 1_234_567_890_000_000_000
    assert mtime_ns_of(Fields([])) is None
    found = [
        generation_of(Fields([("Resto-Generation", text)]))
        for text in ("7", "", "-7", "7.0", "\N{ARABIC-INDIC DIGIT SEVEN}", "9" * 20)
    ]
    assert found == [7, None, None, None, None, None]
