"""Whose requests the demo's page takes, as browsers and programs send them."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
import urllib3
from demos import running
from ports import free_port

from resto_wsgi.demo.visitors import refusal

OWN = "127.0.0.1:8000"


def judged(method: str, host: str | None = OWN, **headers: str) -> str | None:
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "wsgi.url_scheme": "http"}
    environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    return refusal(environ if host is None else {**environ, "HTTP_HOST": host})


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil", "[", "x:y"]
)
def test_no_name_of_a_stranger_is_taken(method: str, host: str) -> None:
    """It may lead here by a rebinding of DNS; then its pages have its own origin."""
    reason = judged(method, host, origin=f"http://{host}", sec_fetch_site="same-origin")
    assert reason is not None and "Host" in reason


@pytest.mark.parametrize(
    "host", [None, "", OWN, "localhost:9000", "a.localhost", "[::1]:8000", "10.0.0.1", socket.gethostname()]
)
def test_its_own_names_are_taken_with_any_port(host: str | None) -> None:
    """As through a tunnel to this machine, which has another port; programs send no more than that."""
    assert judged("GET", host) is None and judged("POST", host) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8001"},
        {"origin": f"https://{OWN}"},
        {"origin": "http://localhost:8000"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": f"http://{OWN}", "sec_fetch_site": "cross-site"},
    ],
)
def test_no_other_page_sends_files(headers: dict[str, str]) -> None:
    """A form needs nobody's leave to be sent; reading is free, for no other page sees the answer."""
    assert judged("POST", **headers) is not None
    assert judged("GET", **headers) is None


@pytest.mark.parametrize(
    "headers", [{"origin": f"http://{OWN}"}, {"origin": f"http://{OWN}", "sec_fetch_site": "same-origin"}]
)
def test_its_own_page_sends_files(headers: dict[str, str]) -> None:
    """What browsers send for the page itself."""
    assert judged("POST", **headers) is None


def test_the_running_demo_refuses_both(tmp_path: Path) -> None:
    """Over the wire, before anything is saved."""
    with running(tmp_path, "--port", str(free_port())) as process:
        assert process.stdout is not None
        page = re.findall(r"http://\S+", process.stdout.readline())[0]
        fields = {"files": ("planted.txt", b"by a stranger")}
        answers = [
            urllib3.request("POST", f"{page}upload", fields=fields, headers={"Accept": "application/json", **headers})
            for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Origin": page[:-1]}, {})
        ]
        assert [answer.status for answer in answers] == [403, 403, 200, 200]
        assert urllib3.request("GET", page, headers={"Host": "evil.example"}).status == 403
        assert len(list(tmp_path.glob("*/media/**/planted*"))) == 2
        process.terminate()  # in order, so that its media servers end with it
        process.communicate(timeout=30)
