"""What a check takes away, what it never touches, and what it says may be left."""

from __future__ import annotations

import os
import threading
from typing import Any

from checked import CheckServers, the, unsafe
from memory_server import Memory, tree
from servers import eventually

from resto_wsgi.check.subject import FOLDER


def test_a_delete_that_is_refused_leaves_what_is_said_to_be_left(media_servers: Any, check: CheckServers) -> None:
    """Nothing more is written once it is known, and each path is named."""
    (server,) = media_servers("nginx", extra="location / { dav_methods PUT MKCOL; }")
    (report,) = check(server)
    left = [os.path.relpath(each, server.root) for each in tree(server.root)]
    assert left == [report.folder, *(f"{report.folder}/{name}.jpg" for name in ("ahead", "first", "gone"))]
    assert set(report.left) == {*left[1:], f"{report.folder}/ (the folder)"}
    assert the(report, "left").verdict == "warning" and report.folder in the(report, "left").seen


def test_a_server_that_goes_away_is_said_to_have_something_left(media_servers: Any, check: CheckServers) -> None:
    """The folder is named; the check ends soon, and is not safe."""
    (server,) = media_servers("nginx")

    def kill() -> None:
        eventually(lambda: len(tree(server.root)) > 4)
        server.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    (report,) = check(server)
    thread.join()
    assert not report.safe and report.untested
    assert any("went away" in finding.seen for finding in report.findings)
    assert report.left == (f"{report.folder}/ and what is in it",)
    assert report.folder in tree(server.root)[0]


def test_what_is_done_late_is_taken_away_too(check: CheckServers) -> None:
    """A PUT that was given up, and that the server carried out after it had been deleted."""
    with Memory("late") as server:
        (report,) = check(server, timeout=0.3)
        assert the(report, "mtime").verdict == "unknown" and report.safe
        assert server.files == {} and not report.left


def test_nothing_is_removed_as_a_tree_where_the_folder_is_not_ours(check: CheckServers) -> None:
    """A server that drops the first part of a path would lose everything."""
    with Memory("no folders") as server:
        server.files["kept.jpg"] = b"kept"
        (report,) = check(server)
        assert server.files == {"kept.jpg": b"kept"}
        assert unsafe(report) == {"write"} and "outside" in the(report, "write").seen
        assert not any(name.endswith("/") or FOLDER.fullmatch(name) for name in server.deleted)
    assert "kept.jpg" not in str(report.left)
