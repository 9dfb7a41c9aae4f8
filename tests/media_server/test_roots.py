"""Two media roots below one prefix are told by the node and by the library; one that moved, or shares, is not."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from node_requests import ask
from signing import FAR

from resto_wsgi.fields.roots import ROOTS, format_root
from resto_wsgi.media_server import MediaServer
from resto_wsgi.media_server.roots import DAY, PREFIXES_MAX, ROOTS_MAX, Roots
from resto_wsgi.replicator import Replicator

ONE, TWO, THREE = ("1" * 32, "2" * 32, "3" * 32)


def put(app: MediaServer, root: str, name: str, prefix: str = "/media/", **environ: Any) -> Any:
    return ask(app, "PUT", f"{prefix}{name}", b"x", HTTP_RESTO_ROOT=format_root(root, name), **environ)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "MEDIA_ROOT" in record.message]


def test_two_roots_that_write_below_one_prefix_are_told(app: MediaServer, caplog: pytest.LogCaptureFixture) -> None:
    """Once the first is seen to write on: in the log with where each writes from, and to each in its answers."""
    for root, name in ((ONE, "a/cat"), (ONE, "dog"), (TWO, "a/b/cat")):
        assert ROOTS not in put(app, root, name).headers
    assert warnings(caplog) == []
    for root in (ONE, TWO, ONE):
        assert put(app, root, "cat").headers[ROOTS] == f"{ONE}, {TWO}"
    (line,) = warnings(caplog)
    assert "below '/media/'" in line and f"{ONE} (from 127.0.0.1) and {TWO} (from 127.0.0.1)" in line
    assert caplog.records[-1].levelno == logging.WARNING
    gone = ask(app, "DELETE", "/media/cat", HTTP_RESTO_ROOT=format_root(TWO, "cat"))
    assert gone.headers[ROOTS] == f"{ONE}, {TWO}"
    assert ask(app, "PUT", "/media/other", b"x").headers[ROOTS] == f"{ONE}, {TWO}", "resto check asks so"
    assert ROOTS not in ask(app, "PUT", "/elsewhere", b"x").headers
    assert ROOTS not in ask(app, "GET", "/media/other").headers, "that is nobody's who reads"


def test_other_prefixes_are_other_sites(app: MediaServer, caplog: pytest.LogCaptureFixture) -> None:
    """And a root that was replaced for good is no fault."""
    for _ in range(3):
        put(app, ONE, "cat", "/one/")
        put(app, TWO, "cat", "/two/")
    put(app, ONE, "cat", "/moved/")
    for _ in range(3):
        assert ROOTS not in put(app, TWO, "cat", "/moved/").headers
    assert warnings(caplog) == []


def test_who_may_not_write_is_not_heard(app: MediaServer, caplog: pytest.LogCaptureFixture) -> None:
    """A stranger does not make the node warn, and learns nothing."""
    for root in (ONE, TWO, ONE):
        assert put(app, root, "cat", REMOTE_ADDR=FAR).status_code == 403
    assert ROOTS not in put(app, TWO, "cat").headers
    assert warnings(caplog) == []


def test_it_ends_when_only_one_writes_for_a_day(caplog: pytest.LogCaptureFixture) -> None:
    """And is told again once a day while it lasts; what was gone for a day is not back, but new."""
    now = [1000.0]
    roots = Roots(clock=lambda: now[0])

    def note(root: str) -> list[str]:
        return roots.note(format_root(root, "cat"), "/cat", "192.0.2.1")

    assert [note(root) for root in (ONE, TWO, ONE)] == [[], [], [TWO, ONE]]
    now[0] += DAY / 2
    assert note(TWO) and note(ONE) and len(warnings(caplog)) == 1
    now[0] += DAY / 2
    assert note(ONE) and len(warnings(caplog)) == 2
    now[0] += DAY
    assert [note(root) for root in (ONE, TWO, TWO)] == [[]] * 3
    assert note(ONE) == [TWO, ONE] and len(warnings(caplog)) == 3


def test_what_is_known_is_bounded() -> None:
    """Whoever may write fills no memory with prefixes and ids of his own."""
    roots = Roots()
    for number in range(PREFIXES_MAX + 10):
        roots.note(format_root(ONE, "cat"), f"/{number}/cat", "192.0.2.1")
    for number in range(ROOTS_MAX + 10):
        roots.note(format_root(f"{number:032x}", "cat"), "/0/cat", "192.0.2.1")
    assert len(roots._prefixes) == PREFIXES_MAX
    assert len(roots._prefixes["/0/"].seen) == ROOTS_MAX


@pytest.mark.parametrize("mode", ["hybrid", "async"])
def test_the_library_warns_once_for_each_host(
    media_servers: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    """Both application servers do, with the ids of both; a root that they share is one."""
    (node,) = media_servers("node")
    hosts = {"media_hosts": [f"{node.url}/media"], "mode": mode, "background": False, "fsync": False}
    with (
        Replicator(media_root=tmp_path / "a", **hosts) as first,
        Replicator(media_root=tmp_path / "a", outbox=tmp_path / "outbox", **hosts) as same,
        Replicator(media_root=tmp_path / "b", **hosts) as second,
    ):
        for number in range(3):
            for each in (first, same):
                each.save(f"a{number}", b"x")
                assert each.drain(20)
        assert warnings(caplog) == []
        for number in range(2):
            for each in (second, first):
                each.save(f"b{number}/cat", b"x")
                assert each.drain(20)
        own = {(tmp_path / each / ".resto/id").read_text().strip() for each in "ab"}
        lines = [line for line in warnings(caplog) if line.startswith(f"{node.url}/media: another MEDIA_ROOT")]
        assert len(lines) == 2 and all(each in line for line in lines for each in own)


def test_mode_distributed_has_a_root_for_each_server(
    media_servers: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """That is how it is meant, so nothing is said."""
    (node,) = media_servers("node")
    hosts = {"media_hosts": [node.url], "mode": "distributed", "background": False}
    with (
        Replicator(media_root=tmp_path / "a", **hosts) as first,
        Replicator(media_root=tmp_path / "b", **hosts) as other,
    ):
        for number in range(2):
            first.save(f"a{number}", b"x")
            other.save(f"b{number}", b"x")
    assert warnings(caplog) == []
