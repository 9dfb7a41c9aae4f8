"""Whose change it is: what a sender says and a node reads, also behind a proxy that changes the path."""

from __future__ import annotations

import pytest

from resto_wsgi.fields.roots import format_root, format_roots, parse_root, parse_roots

ONE, TWO = "1" * 32, "2" * 32


@pytest.mark.parametrize(
    ("name", "path", "prefix"),
    [
        ("cat.jpg", "/cat.jpg", "/"),
        ("uploads/2026/cat.jpg", "/media/uploads/2026/cat.jpg", "/media/"),
        ("uploads/2026/cat.jpg", "/sites/a/media/uploads/2026/cat.jpg", "/sites/a/media/"),
        ("uploads/2026/cat.jpg", "/uploads/2026/cat.jpg", "/"),
    ],
)
def test_the_prefix_is_what_is_above_the_name(name: str, path: str, prefix: str) -> None:
    """As the node is called, whatever the sender calls it."""
    assert parse_root(format_root(ONE, name), path) == (ONE, prefix)


@pytest.mark.parametrize(
    "said",
    ["", ONE, f"{ONE};segments=0", f"{ONE};segments=3", f"{ONE[1:]};segments=1", f"{ONE};segments=1;x", "x" * 9999],
)
def test_what_is_not_understood_says_nothing(said: str) -> None:
    """A sender that speaks otherwise is none that a warning can be about."""
    assert parse_root(said, "/a/b") is None


def test_the_roots_of_a_prefix_are_told_as_a_list() -> None:
    """In one order, so that it is one value; nonsense is none."""
    assert parse_roots(format_roots([TWO, ONE])) == [ONE, TWO]
    assert parse_roots("") == parse_roots(f"{ONE},{TWO}") == parse_roots("none") == []
