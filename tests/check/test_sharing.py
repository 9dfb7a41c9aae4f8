"""Several media roots below one path: our own node has seen them, and of a stock server a person is asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from checked import CheckServers, the
from memory_server import tree
from servers import KINDS

from resto_wsgi.replicator import Replicator


def test_a_node_that_has_seen_two_media_roots_says_so(media_servers: Any, check: CheckServers, tmp_path: Path) -> None:
    """With their ids, so that whoever reads it finds both; they lose nothing that is there now."""
    (node,) = media_servers("node")
    (report,) = check(node)
    assert the(report, "roots").verdict == "ok"
    for name in ("a", "b", "a"):
        with Replicator(media_root=tmp_path / name, media_hosts=[node.url], background=False) as replicator:
            replicator.save("cat", b"x", overwrite=True)
    (report,) = check(node)
    finding = the(report, "roots")
    assert (finding.verdict, report.safe) == ("warning", True)
    assert all((tmp_path / each / ".resto/id").read_text().strip() in finding.seen for each in "ab")
    assert "several application servers share one MEDIA_ROOT" in finding.remedy
    assert [os.path.basename(path) for path in tree(node.root)] == ["cat"]


@pytest.mark.parametrize("kind", KINDS[:3])
def test_of_a_stock_server_a_person_is_asked(media_servers: Any, check: CheckServers, kind: str) -> None:
    """It cannot be seen there, and one application server alone has nothing to do."""
    (report,) = check(*media_servers(kind))
    finding = the(report, "roots")
    assert (finding.verdict, report.safe) == ("unknown", True)
    assert (
        finding.remedy.startswith("see to it yourself")
        and "several application servers share one MEDIA_ROOT" in finding.remedy
    )
