"""Does it keep, replace and give up files: real servers that are set up wrongly, and ones that lie."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from checked import CheckServers, assert_fault_in_memory, assert_only_fault, the, unsafe
from memory_server import Memory, tree
from servers import Node

from resto_wsgi.hosts import parse_hosts
from resto_wsgi.media_server import Access
from resto_wsgi.transports.http.security import Security
from resto_wsgi.trust.signatures import Key

FAULTS = [
    ("nginx", {"full_put_path": False}, "parents", "500", "create_full_put_path on;"),
    ("nginx", {"extra": "location / { dav_methods off; }"}, "write", "405", "dav_methods PUT DELETE;"),
    ("nginx", {"extra": "location / { limit_except GET { deny all; } }"}, "write", "403", "127.0.0.1/32 1;"),
    ("lighttpd", {"extra": '$HTTP["url"] =~ "/" { webdav.is-readonly = "enable" }'}, "write", "403", "is-readonly"),
    ("lighttpd", {"extra": '$HTTP["url"] =~ "/" { webdav.activate = "disable" }'}, "write", "40", "webdav.activate"),
    (
        "apache",
        {"extra": "<Location />\n<LimitExcept GET>\nRequire all denied\n</LimitExcept>\n</Location>"},
        "write",
        "403",
        "Require ip 127.0.0.1",
    ),
    ("node", {"access": Access(["192.0.2.0/24"])}, "write", "403", "--allow 127.0.0.1"),
]


@pytest.mark.parametrize(("kind", "options", "key", "seen", "cure"), FAULTS)
def test_a_fault_is_found_on_a_real_server_and_its_remedy_named(
    kind: str, options: Any, key: str, seen: str, cure: str, media_servers: Any, check: CheckServers
) -> None:
    """Nothing else is unsafe, and the line of that server's configuration is named."""
    (server,) = media_servers(kind, **options)
    (report,) = check(server)
    assert_only_fault(report, key, seen, cure)
    assert tree(server.root) == [] and not report.left


def test_a_server_that_takes_no_delete_is_unsafe(media_servers: Any, check: CheckServers) -> None:
    """Which is known before more than a few files are written."""
    (server,) = media_servers("nginx", extra="location / { dav_methods PUT MKCOL; }")
    assert_only_fault(check(server)[0], "delete", "405", "dav_methods PUT DELETE;")


def test_a_root_that_is_not_writable_is_found(apache: Any, check: CheckServers) -> None:
    """The remedy says whose it has to be."""
    if os.geteuid():
        pytest.skip("needs two users")
    os.chown(apache.root, 0, 0)
    os.chmod(apache.root, 0o755)
    (report,) = check(apache)
    assert unsafe(report) == {"write"} and re.search("403|500", the(report, "write").seen)
    assert "chown -R www-data" in the(report, "write").remedy
    assert tree(apache.root) == [] and not report.left


@pytest.mark.parametrize(
    ("status", "remedy"), [(507, "free space"), (401, "credentials"), (413, "limit"), (403, "allow")]
)
def test_a_refusal_has_the_remedy_of_its_status(status: int, remedy: str, faulty: Any, check: CheckServers) -> None:
    """On a server that nobody knows, too."""

    def answer(connection: Any, reader: Any) -> None:
        while seen := server.read_request(reader):
            code = status if seen.method in ("PUT", "MKCOL") else 404
            connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % code)

    server = faulty(answer)
    (report,) = check(server)
    assert unsafe(report) == {"write"} and remedy in the(report, "write").remedy
    assert not report.left


@pytest.mark.parametrize(
    ("fault", "keys", "seen"),
    [
        ("", set(), ""),
        ("other", {"write"}, "other bytes"),
        ("stale", {"delete"}, "still read"),
        ("no absent", {"delete"}, "not there"),
        ("truncated", {"truncated"}, "broke off"),
        ("once", {"overwrite", "folder", "atomic"}, "405"),
        ("deep", {"parents", "folder", "longest", "characters", "scripts"}, "500"),
        ("lies", {"write"}, "cut short|nothing came"),
    ],
)
def test_a_server_that_does_not_keep_to_it_is_unsafe(
    fault: str, keys: set[str], seen: str, check: CheckServers
) -> None:
    """Each fault is found, and no other."""
    assert_fault_in_memory(check, fault, keys, seen, timeout=0.5 if fault == "lies" else 2.0)


def test_a_cache_in_front_is_found_when_a_file_is_replaced(check: CheckServers) -> None:
    """Where it lets DELETE through but goes on to answer with what it had before a PUT."""

    class Cached(Memory):
        def _delete(self, name: str, environ: Any) -> Any:
            self.cache.pop(name, None)
            return super()._delete(name, environ)

    with Cached("stale") as server:
        (report,) = check(server)
    assert "overwrite" in unsafe(report) and "RESTO_MEDIA_HOSTS" in the(report, "overwrite").remedy


def test_writes_without_credentials_are_found_where_there_are_credentials(check: CheckServers, tmp_path: Path) -> None:
    """Without any it cannot be told."""
    own = tmp_path / "credentials"
    own.touch(0o600)
    own.write_text("* basic x:y")
    with Memory() as server:
        wanted = Security(parse_hosts([server.url], "/"), credentials_file=str(own))
        (report,) = check(server)
        assert the(report, "credentials").verdict == "unknown"
        (report,) = check(server, security=wanted)
        assert unsafe(report) == {"credentials"}


@pytest.mark.parametrize(
    ("shown", "cure"), [("basic x:y", "user and password"), (f"secret app-1:{'x' * 40}", "compare the clocks, the key")]
)
def test_credentials_that_are_refused_have_a_remedy_of_their_own(
    shown: str, cure: str, check: CheckServers, tmp_path: Path
) -> None:
    """Whoever gave some is not told to give some, but what to compare; without any it is the other way round."""
    own = tmp_path / "credentials"
    own.touch(0o600)
    own.write_text(f"* {shown}")
    access = Access(keys=[Key("app-1", b"y" * 40)])
    with Node(tmp_path / "root", access=access) as node:
        wanted = Security(parse_hosts([node.url], "/"), credentials_file=str(own))
        (report,) = check(node, security=wanted)
        assert unsafe(report) == {"write"} and cure in the(report, "write").remedy
        (report,) = check(node)
        assert "it wants credentials" in the(report, "write").remedy


@pytest.mark.parametrize("kind", ["nginx", "lighttpd", "apache", "node"])
def test_a_server_that_serves_the_master_itself_is_said_to(kind: str, media_servers: Any, check: CheckServers) -> None:
    """It is as safe as any other, but in mode distributed, which empties that folder."""
    own, other = media_servers(kind, 2)
    here, apart = check(own, other, media_root=own.root)
    assert the(here, "master").verdict == "ok" and "serves MEDIA_ROOT itself" in the(here, "master").seen
    assert "master" not in {finding.key for finding in apart.findings}
    (emptied,) = check(own, media_root=own.root, keeps_master=False)
    assert the(emptied, "master").verdict == "unsafe" and "set the mode to hybrid" in the(emptied, "master").remedy
