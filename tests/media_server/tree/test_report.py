"""What became of a change on each node, in lines that no child can make its own of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from servers import Node
from trees import ask

from resto_wsgi.media_server.tree.report import (
    LINES_MAX,
    PARENT_BYTES_MAX,
    Line,
    as_json,
    as_text,
    for_parent,
    owed,
    parse,
    unique,
)

CAT = b"\xff\xd8 a cat \r\n" * 5000


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


# The lines themselves

STORED = Line("", "stored", 5)
OWED = Line("b:1", "owed", None, "is away", 1)


def test_a_line_is_told_on_as_that_of_a_node_below() -> None:
    """The parent knows the teller by its URL, and whoever is named already by that name."""
    assert STORED.below("a:1") == Line("a:1", "stored", 5, "", 1)
    assert OWED.below("a:1") == Line("b:1", "owed", None, "is away", 2)


def test_as_text_each_node_has_a_line() -> None:
    """In the form of nginx.filedist, with what it leaves out."""
    lines = [STORED, Line("b:1", "deleted"), Line("c:1", "absent"), OWED]
    assert as_text(lines, "root:1", "a b").splitlines() == [
        "success: root:1/a%20b stored: 5bytes",
        "success: b:1/a%20b deleted",
        "success: c:1/a%20b absent",
        "owed: b:1/a%20b: is away",
    ]


def test_as_json_it_can_be_read_again() -> None:
    """By a node above, line by line."""
    text = as_json([STORED, OWED], "", "cat")
    assert json.loads(text)["owed"] == owed([STORED, OWED]) == 1
    assert parse(text.encode(), "application/json; charset=utf-8") == [STORED, OWED]
    assert parse(text.encode(), "text/plain") is None


def test_of_several_ways_to_a_node_the_worst_is_told() -> None:
    """Else the one on which something was done; the node that tells is none of those below it."""
    gone = [Line("a:1", "absent"), Line("a:1", "deleted"), Line("", "deleted"), Line("b:1", "deleted"), OWED]
    assert unique(gone) == [Line("a:1", "deleted"), Line("", "deleted"), OWED]


def test_a_report_that_is_too_long_for_a_node_above_names_what_is_owed() -> None:
    """It reads a part of an answer alone, and half a report would say nothing."""
    many = [STORED, *(Line(f"{'n' * 250}:{number}", "stored", 5) for number in range(500)), OWED]
    told = parse(for_parent(many, "cat").encode(), "application/json")
    assert told == [STORED, OWED]
    worse = [STORED, *(Line(f"{'n' * 250}:{number}", "owed", None, "r" * 200) for number in range(5000))]
    text = for_parent(worse, "cat")
    assert len(text) <= PARENT_BYTES_MAX and len(parse(text.encode(), "application/json") or []) > 50


def test_no_more_lines_are_taken_than_a_tree_has_nodes() -> None:
    """Whatever a child tells."""
    text = as_json([STORED] * (LINES_MAX + 1), "", "cat")
    assert len(parse(text.encode(), "application/json") or []) == LINES_MAX
