"""What a DELETE of a folder does, on a server that would remove all that is in it."""

from __future__ import annotations

from typing import Any

import pytest
from checked import CheckServers, assert_fault_in_memory, the


def test_a_delete_that_takes_a_tree_although_it_says_depth_0_is_unsafe(check: CheckServers) -> None:
    """It is what replication sends, so a name that became a folder would take all of it away."""
    assert_fault_in_memory(check, "tree", {"folder"}, "with a slash")


@pytest.mark.parametrize(
    ("kind", "verdict", "seen"),
    [
        ("nginx", "warning", "a DELETE without Depth, with a slash, removes a folder and all in it"),
        ("lighttpd", "warning", "with or without a slash"),
        ("apache", "warning", "with or without a slash"),
        ("node", "ok", "leaves a folder's files"),
    ],
)
def test_what_a_delete_without_depth_does_is_said(
    kind: str, verdict: str, seen: str, media_servers: Any, check: CheckServers
) -> None:
    """Replication never sends one, but somebody who may write could."""
    (report,) = check(*media_servers(kind))
    assert the(report, "folder").verdict == "ok"
    assert the(report, "tree").verdict == verdict and seen in the(report, "tree").seen
