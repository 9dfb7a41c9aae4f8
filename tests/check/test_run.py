"""All probes on one host and on several: servers as they should be, what differs, and how a check ends."""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from checked import WELL, CheckServers, made, unsafe, verdicts
from memory_server import MIB, tree
from servers import eventually

from resto_wsgi.check import Check
from resto_wsgi.check.subject import Subject
from resto_wsgi.transports.http.transport import HttpTransport

WARNED = {"nginx": {"tree"}, "lighttpd": {"tree", "mtime"}, "apache": {"tree", "mtime"}, "node": set()}


@pytest.mark.parametrize("kind", WELL)
def test_a_server_that_is_set_up_well_is_safe(kind: str, media_servers: Any, check: CheckServers) -> None:
    """With the lines that the remedies name, nothing is left to warn of but what that server cannot do else."""
    (server,) = media_servers(kind, **({"extra": WELL[kind]} if WELL[kind] else {}))
    Path(server.root, "kept.jpg").write_bytes(b"kept")
    (report,) = check(server)
    found = verdicts(report)
    assert {key for key, verdict in found.items() if verdict == "warning"} == WARNED[kind], report.findings
    assert unsafe(report) == set() and report.safe and not report.untested and not report.left
    assert report.kind == kind
    assert tree(server.root) == [os.path.join(server.root, "kept.jpg")]
    assert {key for key, verdict in found.items() if verdict == "unknown"} <= {"credentials", "roots", "temporary"}
    assert all(finding.remedy for finding in report.findings if finding.verdict != "ok")


def test_a_server_is_checked_below_the_path_that_names_hang_below(nginx: Any, check: CheckServers) -> None:
    """And nothing is written or removed beside it."""
    Path(nginx.root, "media").mkdir()
    (report,) = check(f"{nginx.url}/media")
    assert report.safe
    assert tree(nginx.root) == [os.path.join(nginx.root, "media")]


def test_a_check_that_takes_too_long_ends(nginx: Any, check: CheckServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not safe, since not all was tested, and leaves nothing."""
    monkeypatch.setattr("resto_wsgi.check.run.SECONDS_MAX", 0.01)
    (report,) = check(nginx)
    assert "not done within" in report.findings[-1].seen and "--timeout" in report.findings[-1].remedy
    assert report.untested and not report.safe and tree(nginx.root) == []


def test_a_defect_of_a_probe_is_raised_when_all_is_taken_away(
    nginx: Any, check: CheckServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no finding, and leaves nothing."""

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("resto_wsgi.check.subject.Subject.announce", broken)
    with pytest.raises(ZeroDivisionError):
        check(nginx)
    assert tree(nginx.root) == []


def test_a_check_that_is_stopped_twice_says_what_is_left(nginx: Any) -> None:
    """The first stop takes everything away, the second leaves it there."""
    transport = HttpTransport(2.0)
    work = made(transport, nginx)
    work.stop()
    (report,) = work.run()
    assert work.interrupted and not report.left and not report.findings and not report.safe
    work = made(transport, nginx)

    def twice() -> None:
        eventually(lambda: tree(nginx.root))
        work.stop()
        work.stop()

    thread = threading.Thread(target=twice)
    thread.start()
    (report,) = work.run()
    thread.join()
    assert report.left == (f"{report.folder}/ and what is in it",)
    transport.close()


@pytest.mark.parametrize("kind", WELL)
def test_a_stop_at_any_request_leaves_nothing(kind: str, media_servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each of the first, while it is not yet known whose the folder is, and at some later ones."""
    (server,) = media_servers(kind)
    look, transport = Subject.check_stop, HttpTransport(2.0)
    for number in (*range(1, 45), 60, 80, 120, 160):
        work, calls = made(transport, server), itertools.count(1)

        def counted(subject: Subject, work: Check = work, calls: Any = calls, number: int = number) -> None:
            if next(calls) == number:
                work.stop()
            look(subject)

        monkeypatch.setattr(Subject, "check_stop", counted)
        (report,) = work.run()
        assert work.interrupted and not report.left, (number, report)
        assert tree(server.root) == [], number
    transport.close()


# Several hosts


def test_what_differs_between_hosts_is_said(media_servers: Any) -> None:
    """Limits, validators, and two names for one disk."""
    (small,) = media_servers("nginx", max_body=MIB)
    (large,) = media_servers("lighttpd", max_body=8 * MIB)
    transport = HttpTransport(2.0)
    hosts = [small.url, large.url, large.url.replace("127.0.0.1", "localhost")]
    work = made(transport, *hosts)
    reports = work.run()
    transport.close()
    differences = {finding.key: finding.seen for finding in work.differences}
    assert f"{small.url} 1 MiB" in differences["size"] and f"{large.url} 8 MiB" in differences["size"]
    assert "validators" in differences["mtime"]
    assert "twins" in differences and small.url not in differences["twins"]
    assert len({report.folder for report in reports}) == 3
    assert tree(small.root) == tree(large.root) == []
