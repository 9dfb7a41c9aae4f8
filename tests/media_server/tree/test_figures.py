"""What the nodes below owe, as each child tells it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from servers import Node
from trees import ask, ask_json

from resto_wsgi.hosts import Host
from resto_wsgi.media_server.tree.figures import figures_below


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


def told(*nodes: dict[str, Any]) -> Any:
    body = json.dumps({"owed": 1, "nodes": nodes}).encode()
    return ("status", 200, {"Content-Type": "application/json"}, body)


def test_a_child_tells_of_itself_and_of_the_nodes_below_it(tmp_path: Path, faulty: Any) -> None:
    """Its own figure has the URL by which it is known here; a stock server owes nothing."""
    below = {"url": "http://below:1", "owed": 3}
    child, stock = faulty(told(below, {"url": "http://away:1", "error": "is away"})), faulty(("status", 404))
    with Node(tmp_path / "root", children=[child.url, stock.url]) as node:
        page = ask_json(node, "/__missing__")
    assert page["nodes"] == [
        {"url": child.url, "owed": 1},
        below,
        {"url": "http://away:1", "error": "is away"},
        {"url": stock.url, "owed": 0},
    ]
    assert (page["subtree"], page["complete"]) == (4, False)


@pytest.mark.parametrize(
    "says", [({"owed": 3}, {"owed": 3}), ({"owed": 3}, {"error": "x"}), ({"error": "x"}, {"owed": 3})]
)
def test_of_two_that_tell_of_one_node_the_one_that_could_not_ask_counts(
    tmp_path: Path, faulty: Any, says: tuple[dict[str, Any], ...]
) -> None:
    """Nobody knows then what it owes; else it is counted once."""
    url = "http://below:1"
    children = [faulty(told({"url": url, **each})).url for each in says]
    with Node(tmp_path / "root", children=children) as node:
        page = ask_json(node, "/__missing__")
    (row,) = [each for each in page["nodes"] if each["url"] == url]
    unknown = any("error" in each for each in says)
    assert ("error" in row, page["complete"]) == (unknown, not unknown)


def test_a_child_that_is_paused_is_not_asked() -> None:
    """The reason for which it rests stands in the place of its figures."""
    host = Host("child", "http://child:1")
    nobody: Any = None
    assert figures_below(nobody, [host], {host: "is away"}, "") == [{"url": host.url, "error": "is away"}]
