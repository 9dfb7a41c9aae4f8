"""Is it there, and what is it: real servers, servers that are none, clocks and certificates."""

from __future__ import annotations

import errno
import re
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from checked import CheckServers, assert_only_fault, made, the, unsafe
from memory_server import MIB, Memory, tree

from resto_wsgi.check.reach import tls
from resto_wsgi.check.subject import Subject
from resto_wsgi.hosts import parse_hosts
from resto_wsgi.transports.http.connection import Bounded
from resto_wsgi.transports.http.raw import RawRequests, Tls
from resto_wsgi.transports.http.transport import HttpTransport

FAULTS = [
    ("nginx", {"extra": "location / { return 301 http://elsewhere.test/; }"}, "reachable", "elsewhere", "final URL"),
    (
        "nginx",
        {"extra": "location /.resto/ { return 200 x; }"},
        "hidden",
        "everybody",
        'location ~ "/\\." { return 404; }',
    ),
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


def test_a_server_that_hides_its_name_is_known_by_its_pages(media_servers: Any, check: CheckServers) -> None:
    """So that the remedies fit."""
    (server,) = media_servers("lighttpd", extra='server.tag = "hidden"')
    assert check(server)[0].kind == "lighttpd"


@pytest.mark.parametrize(
    ("behaviour", "seen"),
    [
        ("refuse", "refuses connections"),
        ("hang", "no answer within 0.3 s"),
        ("garbage", "220 mail.example"),
        ("reset", "broke"),
        ("endless_headers", "longer than|100 headers|no answer"),
        ("drip", "no answer"),
        (("redirect", 302, "http://x\x1b[31m/"), r"302, to 'http://x\\x1b"),
    ],
)
def test_what_is_no_web_server_is_found_in_bounded_time(
    behaviour: Any, seen: str, faulty: Any, check: CheckServers
) -> None:
    """Nothing was written, and nothing it sends comes through unquoted."""
    began = time.monotonic()
    (report,) = check(faulty(behaviour), timeout=0.3)
    assert time.monotonic() - began < 5
    assert unsafe(report) == {"reachable"} and re.search(seen, the(report, "reachable").seen)
    assert the(report, "reachable").seen.isprintable() and the(report, "reachable").remedy
    assert report.untested and not report.left


@pytest.mark.parametrize("behaviour", ["endless", "gzip_bomb", ("status", 200, {}, b"hello"), ("status", 201)])
def test_an_answer_to_everything_is_unsafe(behaviour: Any, faulty: Any, check: CheckServers) -> None:
    """A web application that answers each PUT with success and keeps nothing is no media server."""
    (report,) = check(faulty(behaviour), timeout=0.3)
    assert {"absent", "write"} & unsafe(report) and not report.safe


def test_clocks_that_differ_are_said(faulty: Any) -> None:
    """From this machine's, and from each other's."""

    def answer(connection: Any, reader: Any) -> None:
        while server.read_request(reader):
            head = b"HTTP/1.1 404 X\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n"
            connection.sendall(head)

    server = faulty(answer)
    transport = HttpTransport(2.0)
    with Memory() as other:
        work = made(transport, server, other)
        late, _ = work.run()
    transport.close()
    assert "behind" in the(late, "clock").seen and "NTP" in the(late, "clock").remedy
    assert [finding.key for finding in work.differences if "clock" in finding.seen] == ["clock"]


def certificate(folder: Path, address: str, days: int) -> Path:
    path = folder / "certificate.pem"
    what = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=media", "-days", str(days)]
    more = ["-addext", f"subjectAltName={address}", "-keyout", str(folder / "key.pem"), "-out", str(path)]
    subprocess.run(["openssl", "req", "-x509", "-nodes", *what, *more], check=True, capture_output=True)
    return path


@pytest.mark.parametrize(
    ("address", "days", "trusted", "verdict", "seen"),
    [
        ("IP:127.0.0.1", 90, True, "ok", r"TLSv1\.[23]; the certificate ends \d{4}-\d\d-\d\d, in (89|90) days"),
        ("IP:127.0.0.1", 9, True, "warning", "in [89] days"),
        ("IP:127.0.0.1", 90, False, "unsafe", "self-signed"),
        ("DNS:elsewhere.test", 90, True, "unsafe", "IP address mismatch"),
    ],
)
def test_the_certificate_is_looked_at(
    address: str, days: int, trusted: bool, verdict: str, seen: str, tmp_path: Path, media_servers: Any,
    check: CheckServers, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """nginx with TLS: who it is for, who vouches for it, how long it lasts; the rest is checked over it."""
    path = certificate(tmp_path, address, days)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    (free,) = media_servers("node")
    port = free.port
    free.stop()
    secure = f"listen 127.0.0.1:{port} ssl; ssl_certificate {path}; ssl_certificate_key {tmp_path}/key.pem;"
    (server,) = media_servers("nginx", extra=secure)
    (report,) = check(f"https://127.0.0.1:{port}")
    found = the(report, "tls")
    assert found.verdict == verdict and re.search(seen, found.seen), found
    assert report.safe is (verdict != "unsafe")
    assert tree(server.root) == []


@pytest.mark.parametrize(
    ("agreed", "verdict", "seen"),
    [(Tls("TLSv1.1", 0.0), "warning", "not safe any more"), (Tls("TLSv1.3", None), "unknown", "does not say")],
)
def test_what_tls_agrees_on_is_judged(agreed: Tls, verdict: str, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the libraries here would not even try is made up."""
    monkeypatch.setattr(RawRequests, "tls", lambda _: agreed)
    (host,) = parse_hosts(["https://media.test"], "/")
    (found,) = tls(Subject(host, HttpTransport(1.0), 1.0, threading.Event(), largest=MIB))
    assert found.verdict == verdict and seen in found.seen and found.remedy


@pytest.mark.parametrize(("secure", "key"), [(True, "tls"), (False, "reachable")])
def test_a_server_that_hangs_up_may_want_a_certificate(
    secure: bool, key: str, faulty: Any, check: CheckServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS; when Python says it as 3.13 does, which a real server brings about now and then."""

    def hung_up(*_: Any) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(Bounded, "connect", hung_up)
    url = faulty("hang").url
    (report,) = check(url.replace("http:", "https:") if secure else url, timeout=0.3)
    assert unsafe(report) == {key}
    assert ("RESTO_CLIENT_CERT" in the(report, key).remedy) is secure


def test_a_server_that_speaks_no_tls_is_found(nginx: Any, check: CheckServers) -> None:
    """Where the URL says https."""
    (report,) = check(nginx.url.replace("http:", "https:"))
    assert unsafe(report) == {"reachable"} and "without TLS" in the(report, "reachable").seen
