"""What each node of the subtree owes, for people, crawlers and programs."""

from __future__ import annotations

import contextlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import urllib3
from servers import Node, Tree
from trees import ask, ask_json

from resto_wsgi import Replicator

CAT = b"a cat" * 1000


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


def test_who_is_no_child_any_more_and_is_owed_something_is_named(tmp_path: Path) -> None:
    """With how to forget it, which is then done; until then it counts."""
    with Node(tmp_path / "one") as one, Node(tmp_path / "two") as two:
        with Node(tmp_path / "root", children=[one.url, two.url]) as node:
            two.stop()
            ask(node, "PUT", "/cat", CAT)
        with Node(tmp_path / "root", children=[one.url]) as node:
            told = ask_json(node, "/__missing__")
            assert told["owed"] == 1
            (left,) = [child for child in told["children"] if child["url"] != one.url]
            assert (left["url"], left["state"], left["owed"]) == (two.url, "not configured", 1)
            assert "resto forget" in left["error"]
            page = crawl(f"{node.url}/__missing__")[f"{node.url}/__missing__"]
            assert two.url in page and "resto forget" in page
        with Replicator(media_root=tmp_path / "root", background=False) as replicator:
            assert replicator.dismiss(two.url) == 1
        with Node(tmp_path / "root", children=[one.url]) as node:
            told = ask_json(node, "/__missing__")
            assert told["owed"] == 0 and [child["url"] for child in told["children"]] == [one.url]
