"""A tree of media servers as it is written on the command line."""

from __future__ import annotations

import pytest

from resto_wsgi.errors import ConfigError
from resto_wsgi.server_config import Node, parse_tree


def shape(node: Node) -> str:
    children = ",".join(map(shape, node.children))
    return node.host.label + (f"({children})" if children else "")


@pytest.mark.parametrize("text", ["a", "a:8080(b:8080(d:8080,e:8080),c:8080)", "a(b(c(d)),[::1]:80,http://x/y)"])
def test_a_tree_is_read_as_it_is_written(text: str) -> None:
    """With blanks or without; each node knows its parent, its level and how much is below it."""
    for spelt in (text, text.replace(",", " ,\n").replace("(", " ( ")):
        tree = parse_tree(spelt, "/media/")
        assert shape(tree) == text
        assert all(node in node.parent.children for node in tree.walk() if node.parent)
        assert tree.height == max(node.level for node in tree.walk())


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "()",
        "a(",
        "a)",
        "a()",
        "a(b",
        "a(b))",
        "(a)",
        "a,b",
        "a b",
        "a(b)c",
        "a(b)(c)",
        "a(,b)",
        "a(b,)",
        "a((b))",
    ],
)
def test_what_is_no_tree_is_refused(text: str) -> None:
    """In one line, with an example."""
    with pytest.raises(ConfigError, match=r"^tree: takes NODE\(CHILD"):
        parse_tree(text, "/media/")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a:80(b,a)", "same server"),
        ("a(b:99999)", "port"),
        ("a(me@b)", "user or a password"),
        ("(".join("abcdefghijklmnopq") + ")" * 16, "16 levels"),
        ("a(" + ",".join(f"b{number}" for number in range(1000)) + ")", "1001 nodes"),
    ],
)
def test_a_tree_has_bounds_and_no_circle(text: str, problem: str) -> None:
    """The same host twice would be a circle."""
    with pytest.raises(ConfigError, match=problem) as caught:
        parse_tree(text, "/media/")
    assert caught.value.setting == "tree"


@pytest.mark.parametrize(
    ("label", "file_name"),
    [("10.0.0.1:80", "10.0.0.1_80"), ("[::1]:8080", "1_8080"), ("https://media/x/y", "media_x_y"), ("a_b", "a_b")],
)
def test_a_node_has_a_name_that_a_file_can_have(label: str, file_name: str) -> None:
    """Without what a disk or a shell would take for something else."""
    assert parse_tree(label, "/media/").file_name == file_name
