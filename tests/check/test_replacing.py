"""Does a reader ever see part of a file: on a server that writes in place, and on real ones."""

from __future__ import annotations

from typing import Any

import pytest
from checked import CheckServers, assert_fault_in_memory, the


@pytest.mark.parametrize(
    ("fault", "keys", "seen"),
    [
        ("torn", {"atomic"}, "of its"),
        ("mixed", {"atomic"}, "parts of two versions"),
        ("vanishing", {"atomic"}, "did not find it"),
    ],
)
def test_a_server_that_does_not_keep_to_it_is_unsafe(
    fault: str, keys: set[str], seen: str, check: CheckServers
) -> None:
    """Each fault is found, and no other."""
    assert_fault_in_memory(check, fault, keys, seen)


@pytest.mark.parametrize(
    ("kind", "temporary"),
    [("nginx", "unknown"), ("lighttpd", "unknown"), ("apache", "ok"), ("node", "ok")],
)
def test_a_server_that_renames_is_safe_and_where_it_keeps_what_comes_is_said(
    kind: str, temporary: str, media_servers: Any, check: CheckServers
) -> None:
    """Whole files only were read meanwhile; the folder of what comes can be seen from here on two of them."""
    (report,) = check(*media_servers(kind))
    assert the(report, "atomic").verdict == "ok" and "none of them torn" in the(report, "atomic").seen
    assert the(report, "temporary").verdict == temporary
