"""Every name below the root, in pages, and what was deleted."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_requests import ask as ask_app
from permissions import plain_user
from servers import LOCAL, Node
from trees import ask, ask_json

from resto_wsgi.fields.digests import format_digest
from resto_wsgi.media_server import MediaServer
from resto_wsgi.media_server.pages.index import names_after


def pages_of(node: Any, query: str) -> Iterator[dict[str, Any]]:
    following: str | None = query
    while following is not None:
        page = ask_json(node, f"/__index__?{following}")
        yield page
        following = page["next"]


NAMES = ["a", "a-b/c", "a.b", "b/a/x", "b/a/y", "b/a.x", "b/b", "b-c", "é/ü", "z/1/2/3/4", "z/1/2-"]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
def test_the_index_has_every_name_once(tmp_path: Path, limit: int) -> None:
    """Whatever a page holds; what is hidden or a link is left out."""
    app = MediaServer(tmp_path / "root", access=LOCAL)
    for name in NAMES:
        ask_app(app, "PUT", f"/{name}".encode().decode("latin-1"), b"x")
    (tmp_path / "root/link").symlink_to("/etc/passwd")
    (tmp_path / "root/b/.hidden").write_bytes(b"x")
    (tmp_path / "root/empty").mkdir()
    with Node(tmp_path / "root") as node:
        found = [each["name"] for page in pages_of(node, f"limit={limit}") for each in page["names"]]
    assert sorted(found) == sorted(NAMES) and found == sorted(found, key=lambda name: name.split("/"))


def test_a_folder_that_cannot_be_listed_is_left_out_of_the_index(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What every ext4 has at its top keeps nobody from catching up; it is told in the log."""
    app = MediaServer(tmp_path / "root", access=LOCAL)
    for name in ("a", "lost+found/x", "z/y"):
        ask_app(app, "PUT", f"/{name}", b"x")
    (tmp_path / "root/lost+found").chmod(0)
    with plain_user():
        assert list(names_after(app.store)) == ["a", "z/y"]
        assert list(names_after(app.store, "lost+found/x")) == ["z/y"]
    assert "not in the index: cannot list 'lost+found'" in caplog.text


CAT = b"a cat" * 1000


def test_the_index_tells_size_time_digest_and_what_was_deleted(tmp_path: Path) -> None:
    """As JSON and as HTML; a name that was put again is not among the deleted."""
    with Node(tmp_path / "child") as child, Node(tmp_path / "root", children=[child.url]) as node:
        digest = format_digest(hashlib.sha256(CAT).digest())
        ask(node, "PUT", "/<cat>", CAT, Repr_Digest=digest, Resto_Generation="4")
        for name in ("x", "y", "z"):
            ask(node, "PUT", f"/{name}", b"x")
            ask(node, "DELETE", f"/{name}")
        ask(node, "PUT", "/y", b"x")
        (record,) = [each for each in ask_json(node, "/__index__")["names"] if each["name"] == "<cat>"]
        assert (record["size"], record["digest"], record["generation"]) == (len(CAT), digest, 4)
        assert record["mtime_ns"] == os.stat(Path(node.root, "<cat>")).st_mtime_ns
        _, _, text = ask(node, "GET", "/__index__")
        assert b'href="./%3Ccat%3E">&lt;cat&gt;</a>' in text
        found = [name for page in pages_of(node, "gone=1&limit=1") for name in page["gone"]]
        assert found == ["x", "z"]
        assert b"<td>z</td>" in ask(node, "GET", "/__index__?gone=1")[2]
        for query in ("limit=0", "limit=x", "after=../x", "after=%ff"):
            assert ask(node, "GET", f"/__index__?{query}")[0] == 400, query


def test_an_index_of_as_many_folders_as_a_name_may_have(tmp_path: Path) -> None:
    """One within the other: more than Python nests calls."""
    app = MediaServer(tmp_path / "root", access=LOCAL)
    name = "/".join("a" * 512)
    for each in (name, "b"):
        assert ask_app(app, "PUT", f"/{each}", b"x").status_code == 201
    assert [*names_after(app.store)] == [name, "b"]
    assert [*names_after(app.store, name)] == ["b"]
    assert ask_app(app, "GET", "/__index__").status_code == 200


def test_a_large_index_takes_no_more_memory_than_a_page(tmp_path: Path) -> None:
    """20,000 names in one folder: less than 3 MiB for the walk."""
    app = MediaServer(tmp_path / "root", access=LOCAL)
    (tmp_path / "root/a").mkdir()
    for number in range(20_000):
        (tmp_path / "root/a" / f"{number:0100d}").touch()
    tracemalloc.start()
    try:
        count = sum(1 for _ in names_after(app.store))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000 and peak < 3 << 20
