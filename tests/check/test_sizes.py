"""How large a file a server takes, and how fast: on real servers with a limit, and on ones that do not say."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from checked import CheckServers, assert_fault_in_memory, assert_only_fault, the
from memory_server import MIB, tree

from resto_wsgi.check.sizes import human, size
from resto_wsgi.check.subject import Subject
from resto_wsgi.hosts import parse_hosts
from resto_wsgi.transports.http.transport import HttpTransport

FAULTS = [
    ("nginx", {"max_body": MIB}, "size", "1 MiB", "client_max_body_size"),
    ("lighttpd", {"max_body": MIB}, "size", "1 MiB", "server.max-request-size"),
    ("apache", {"max_body": MIB}, "size", "1 MiB", "LimitRequestBody"),
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


@pytest.mark.parametrize(
    ("answer", "verdict", "seen"),
    [(b"", "unknown", "no answer"), (b"HTTP/1.1 403 X\r\nContent-Length: 0\r\n\r\n", "unsafe", "403")],
)
def test_a_size_that_cannot_be_asked_for_is_said(
    answer: bytes, verdict: str, seen: str, faulty: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Expect: 100-continue is not understood everywhere, and something else than the size can be in the way."""

    def silent(connection: Any, reader: Any) -> None:
        server.read_request(reader, body=False)
        connection.sendall(answer)
        server.stopped.wait(1)

    server = faulty(silent)
    (host,) = parse_hosts([server.url], "/")
    transport = HttpTransport(0.3)
    (found,) = size(Subject(host, transport, 0.3, threading.Event(), largest=MIB))
    assert (found.verdict, found.key) == (verdict, "size") and seen in found.seen and found.remedy


def test_a_disk_that_fills_up_under_way_is_unsafe(check: CheckServers) -> None:
    """It takes the announcement, and then not the file."""
    assert_fault_in_memory(check, "large", {"transfer"}, "507")


def test_a_slow_line_is_warned_of(nginx: Any, check: CheckServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a transfer is given up for it."""
    monkeypatch.setattr("resto_wsgi.check.sizes.SLOWEST", 1024**5)
    found = the(check(nginx)[0], "transfer")
    assert found.verdict == "warning" and "limit_rate" in found.remedy


@pytest.mark.parametrize(
    ("count", "text"),
    [(1, "1 byte"), (2, "2 bytes"), (MIB, "1 MiB"), (1536, "1.5 KiB"), (1024**3, "1 GiB"), (5 * 1024**5, "5120 TiB")],
)
def test_bytes_are_said_as_people_do(count: int, text: str) -> None:
    """In powers of 1024."""
    assert human(count) == text
