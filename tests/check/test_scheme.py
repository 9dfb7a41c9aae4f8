"""A host that is spoken to in the wrong scheme is told as that, and not as one with a bad certificate or none."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from checked import CheckServers, the, unsafe
from servers import KINDS

from resto_wsgi.check.scheme import other_scheme
from resto_wsgi.hosts import Host


def certificate(folder: Path) -> tuple[str, str]:
    """A certificate that nobody trusts, and its key: it is not what this is about."""
    make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=x -keyout key -out cert"
    subprocess.run(["openssl", *make.split()], cwd=folder, check=True, capture_output=True)
    return f"{folder}/cert", f"{folder}/key"


def free_port(media_servers: Any) -> int:
    (node,) = media_servers("node")
    node.stop()
    return int(node.port)


def test_a_host_with_tls_is_given_as_http(media_servers: Any, check: CheckServers, tmp_path: Path) -> None:
    """nginx answers 400 in plain HTTP; the remedy is its URL."""
    cert, key = certificate(tmp_path)
    port = free_port(media_servers)
    media_servers("nginx", extra=f"listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key};")
    (report,) = check(f"http://127.0.0.1:{port}")
    assert unsafe(report) == {"reachable"} and not report.left
    assert "speaks TLS" in the(report, "reachable").seen and "https://" in the(report, "reachable").remedy
    assert other_scheme(Host.of(f"https://127.0.0.1:{port}"), 2.0) == "", "a certificate that is bad is another fault"


@pytest.mark.parametrize("kind", KINDS[:4])
def test_a_host_without_tls_is_given_as_https(media_servers: Any, check: CheckServers, kind: str) -> None:
    """No certificate is to be renewed for it."""
    (server,) = media_servers(kind)
    (report,) = check(f"https://127.0.0.1:{server.port}")
    assert unsafe(report) == {"reachable"}
    finding = the(report, "reachable")
    assert "without TLS" in finding.seen and "http://" in finding.remedy and "certificate" not in finding.remedy
    assert other_scheme(Host.of(server.url), 2.0) == ""


@pytest.mark.parametrize("behaviour", ["hang", "refuse", "drip"])
def test_what_says_nothing_has_no_scheme(faulty: Any, behaviour: str) -> None:
    """Nor takes long to be asked."""
    port = faulty(behaviour).port
    began = time.monotonic()
    for scheme in ("http", "https"):
        assert other_scheme(Host.of(f"{scheme}://127.0.0.1:{port}"), 0.3) in ("", "http")
    assert time.monotonic() - began < 5
