"""Does every name make a file of its own: on servers that change, join or shorten names."""

from __future__ import annotations

from typing import Any

import pytest
from checked import CheckServers, assert_fault_in_memory, the

from resto_wsgi import names


@pytest.mark.parametrize(
    ("fault", "keys", "seen"),
    [
        ("case", {"case"}, "one file"),
        ("decodes", {"characters"}, "aAb"),
        ("odd", {"characters"}, r"\?"),
        ("short names", {"longest"}, "it holds 100 bytes"),
    ],
)
def test_a_server_that_does_not_keep_to_it_is_unsafe(
    fault: str, keys: set[str], seen: str, check: CheckServers
) -> None:
    """Each fault is found, and no other."""
    assert_fault_in_memory(check, fault, keys, seen)


def test_names_as_long_as_ours_may_be_are_tried(nginx: Any, check: CheckServers) -> None:
    """In one part and in all, so that no application finds out later."""
    found = the(check(nginx)[0], "longest")
    assert found.verdict == "ok"
    assert found.seen == f"{names.MAX_SEGMENT} bytes in one part, {names.MAX_NAME:,} in all"
