"""A node's own pages: what the subtree owes, what there is, and commands that work when they are pasted."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import tracemalloc
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import urllib3
from node_requests import ask as ask_app
from servers import Node, Tree, eventually
from trees import ask, ask_json, held, owed, settled

from resto_wsgi.fields.digests import format_digest
from resto_wsgi.media_server import Access, MediaServer
from resto_wsgi.media_server.pages.index import names_after
from resto_wsgi.media_server.tree.catch_up import CatchUp

CAT = b"a cat" * 1000
OWN = ["/__missing__", "/__index__", "/__readme.txt"]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """Seven nodes in three levels."""
    with Tree(tmp_path / "tree") as started:
        yield started


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found += [value for key, value in attrs if tag == "a" and key == "href"]


def crawl(url: str) -> dict[str, str]:
    """Follow every link to a page of this kind, and return the pages by their URLs; "" where nobody answers."""
    pages: dict[str, str] = {}
    todo = [url]
    while todo:
        if (each := todo.pop()) in pages or "__missing__" not in each or len(pages) > 200:
            continue
        pages[each] = ""
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            pages[each] = urllib3.request("GET", each, retries=False).data.decode()
        links = Links()
        links.feed(pages[each])
        todo += [urljoin(each, link) for link in links.found]
    return pages


@pytest.mark.parametrize("path", OWN)
def test_the_pages_are_for_those_who_may_write(tmp_path: Path, path: str) -> None:
    """Else the names of all files would be everybody's; no file can have these names, nor lie below one."""
    app = MediaServer(tmp_path / "root", access=Access(["192.0.2.1"]))
    assert ask_app(app, "GET", path).status_code == 403
    assert ask_app(app, "GET", path, REMOTE_ADDR="192.0.2.1").status_code == 200
    for method in ("PUT", "DELETE", "MKCOL"):
        for below in ("", "/x"):
            body = b"" if method == "PUT" else None
            assert ask_app(app, method, path + below, body, REMOTE_ADDR="192.0.2.1").status_code in (400, 403)


# What is owed


def test_a_crawler_finds_what_every_node_owes(tree: Tree) -> None:
    """By links from the root: PUTs and DELETEs, of every level, page by page."""
    ask(tree, "PUT", "/old", CAT)
    for number in (3, 5, 6):
        tree.nodes[number].stop()
    for number in range(5):
        ask(tree, "PUT", f"/<b>&{number}", CAT)
    ask(tree, "DELETE", "/old")
    pages = crawl(f"{tree.url}/__missing__?limit=2")
    text = "".join(pages.values())
    assert {each.split("/")[2] for each in pages} == {f"127.0.0.1:{node.port}" for node in tree.nodes}
    assert text.count("<td>DELETE</td><td>old</td>") >= 3
    for name in ("&lt;b&gt;&amp;4", "old"):
        assert name in text
    assert "DELETE" in text and "PUT" in text and "<b>" not in text
    page = ask_json(tree, "/__missing__")
    assert (page["owed"], page["subtree"], page["complete"]) == (0, 18, False)


def test_what_is_owed_is_paged(tmp_path: Path) -> None:
    """Every name once, in order, with the query of the next page."""
    with Node(tmp_path / "root", children=["http://127.0.0.1:9"]) as node:
        for number in range(7):
            ask(node, "PUT", f"/{number}", b"x")
        query: str | None = "limit=3"
        found: list[str] = []
        while query is not None:
            page = ask_json(node, f"/__missing__?{query}")
            found += [each["name"] for each in page["deliveries"]]
            query = page["next"]
        assert found == [str(number) for number in range(7)]
        assert ask(node, "GET", "/__missing__?limit=x")[0] == 400
        assert ask(node, "GET", "/__missing__?child=http://x")[0] == 404


@pytest.mark.parametrize(
    "answer",
    [
        ("status", 200, {}, b"{"),
        ("status", 200, {}, b'{"owed": -1, "nodes": []}'),
        ("status", 200, {}, b'{"owed": "7", "nodes": []}'),
        ("status", 200, {}, b'{"owed": 0, "nodes": [{"url": 1}]}'),
        ("status", 200, {}, b"[" * 100_000),
        ("status", 200, {}, bytes(5_000_000)),
        ("status", 500),
        "garbage",
        "reset",
    ],
)
def test_a_child_that_answers_nonsense_is_not_counted_as_owing_nothing(
    tmp_path: Path, faulty: Any, answer: Any
) -> None:
    """It is named, and the figures are called incomplete."""
    with Node(tmp_path / "root", children=[faulty(answer).url], timeout=0.5) as node:
        page = ask_json(node, "/__missing__")
        assert (page["complete"], page["subtree"], "error" in page["nodes"][0]) == (False, 0, True)
        assert ask(node, "GET", "/__missing__")[0] == 200


# What there is


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
    app = MediaServer(tmp_path / "root")
    for name in NAMES:
        ask_app(app, "PUT", f"/{name}".encode().decode("latin-1"), b"x")
    (tmp_path / "root/link").symlink_to("/etc/passwd")
    (tmp_path / "root/b/.hidden").write_bytes(b"x")
    (tmp_path / "root/empty").mkdir()
    with Node(tmp_path / "root") as node:
        found = [each["name"] for page in pages_of(node, f"limit={limit}") for each in page["names"]]
    assert sorted(found) == sorted(NAMES) and found == sorted(found, key=lambda name: name.split("/"))


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


@pytest.mark.parametrize("path", [*OWN, "/__index__/x"])
def test_a_file_in_the_place_of_a_page_is_nobodys(tmp_path: Path, path: str) -> None:
    """It cannot be written; where somebody put it on the disk it is neither listed, nor read, nor given to a child."""
    above, below, caught_up = tmp_path / "above", tmp_path / "below", MediaServer(tmp_path / "caught-up")
    planted = above / path[1:]
    planted.parent.mkdir(parents=True)
    planted.write_bytes(CAT)
    (above / "cat").write_bytes(CAT)
    (above / "sub").mkdir()
    (above / "sub" / "__index__").write_bytes(CAT)
    with Node(below) as child, Node(above, children=[child.url]) as node:
        for method in ("PUT", "DELETE", "MKCOL"):
            assert ask(node, method, path, CAT if method == "PUT" else None)[0] == 403
        assert CAT not in ask(node, "GET", path)[2]
        assert ask(node, "GET", f"{path}/")[0] == 404
        assert [each["name"] for each in ask_json(node, "/")] == ["cat", "sub"]
        assert [each["name"] for each in ask_json(node, "/__index__")["names"]] == ["cat", "sub/__index__"]
        node.app.role.replicator.sync(child.url)
        eventually(lambda: (below / "sub/__index__").exists() and not owed(node))
        assert held(child) == {"cat": CAT, "sub/__index__": CAT}
        assert CatchUp(caught_up.role, node.url).run().failed == 0
    assert planted.read_bytes() == CAT


def test_an_index_of_an_older_node_brings_no_file_in_the_place_of_a_page(tmp_path: Path, faulty: Any) -> None:
    """It is passed over, and what comes after it is not."""
    app = MediaServer(tmp_path / "root")
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


def test_an_index_of_as_many_folders_as_a_name_may_have(tmp_path: Path) -> None:
    """One within the other: more than Python nests calls."""
    app = MediaServer(tmp_path / "root")
    name = "/".join("a" * 512)
    for each in (name, "b"):
        assert ask_app(app, "PUT", f"/{each}", b"x").status_code == 201
    assert [*names_after(app.store)] == [name, "b"]
    assert [*names_after(app.store, name)] == ["b"]
    assert ask_app(app, "GET", "/__index__").status_code == 200


def test_a_large_index_takes_no_more_memory_than_a_page(tmp_path: Path) -> None:
    """20,000 names in one folder: less than 3 MiB for the walk."""
    app = MediaServer(tmp_path / "root")
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


# The commands


def test_the_commands_of_the_readme_work_as_they_are_pasted(tree: Tree) -> None:
    """All of them, in their order, in a shell: each is answered, and at the end nothing is left."""
    status, headers, text = ask(tree, "GET", "/__readme.txt")
    assert (status, headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    commands = [line for line in text.decode().splitlines() if line.startswith("curl ")]
    assert len(commands) == 12
    for command in commands:
        done = subprocess.run(["bash", "-c", f"{command} --fail"], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, (command, done)
        if "application/json" in command:
            json.loads(done.stdout)
    eventually(lambda: settled(tree))
    assert [held(node) for node in tree.nodes] == [{}] * 7


def test_the_address_in_the_commands_is_a_host_and_nothing_else(tmp_path: Path) -> None:
    """A Host header that would put a command of its own into the shell is not repeated."""
    app = MediaServer(tmp_path / "root", access=Access(["127.0.0.1"]))
    for host in ("x; rm -rf /", "$(reboot)", "x\r\ny", "`x`"):
        text = ask_app(app, "GET", "/__readme.txt", HTTP_HOST=host).body.decode()
        assert host not in text and re.search(r"http://[a-z0-9.:-]+/__missing__\n", text)
        for called in (f"http://{host}", f"http://media-01/{host}"):
            text = ask_app(app, "GET", "/__readme.txt", HTTP_RESTO_CALLED=called).body.decode()
            assert host not in text and re.search(r"http://[a-z0-9.:-]+/__missing__\n", text)
    text = ask_app(app, "GET", "/__readme.txt", HTTP_RESTO_CALLED="https://media-01:8080/media").body.decode()
    assert "https://media-01:8080/media/__missing__\n" in text
