"""The names of the node's own pages, which no file can have."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers import LOCAL, Node, eventually
from trees import ask, ask_json, held, owed

from resto_wsgi.media_server import MediaServer
from resto_wsgi.media_server.files.own_names import is_own
from resto_wsgi.media_server.tree.catch_up import CatchUp

CAT = b"a cat" * 1000


OWN = ["/__missing__", "/__index__", "/__readme.txt"]


@pytest.mark.parametrize("path", [*OWN, "/__index__/x"])
def test_a_file_in_the_place_of_a_page_is_nobodys(tmp_path: Path, path: str) -> None:
    """It cannot be written; where somebody put it on the disk it is neither listed, nor read, nor given to a child."""
    above, below, caught_up = tmp_path / "above", tmp_path / "below", MediaServer(tmp_path / "caught-up", access=LOCAL)
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


def test_a_name_is_ours_at_the_top_of_the_root_alone() -> None:
    """And so is whatever would lie below it; a folder of files may use the word."""
    for name in ("__missing__", "__index__", "__readme.txt", "__index__/x"):
        assert is_own(name)
    for name in ("__missing__x", "x/__index__", "readme.txt", "__INDEX__"):
        assert not is_own(name)
