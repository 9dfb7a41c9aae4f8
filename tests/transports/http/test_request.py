"""The head of a request: what it says, what its host is shown with it, and what is never sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from resto_wsgi.hosts import Host
from resto_wsgi.transports.http.connection import Pools
from resto_wsgi.transports.http.request import Request, head_of
from resto_wsgi.transports.http.security import Security

HOST = Host("media-01", "http://media-01:8080/media")
COMMON = ["User-Agent: resto_wsgi", "Accept-Encoding: identity"]


def lines(pools: Pools, method: str, target: str, fields: dict[str, str]) -> list[str]:
    """The lines of a head, but for the two empty ones that end it."""
    *found, one, two = head_of(pools.origin(HOST.url), method, target, fields).decode("ascii").split("\r\n")
    assert one == two == ""
    return found


@pytest.fixture
def pools() -> Pools:
    """Connections to hosts that are shown nothing."""
    return Pools(1.0, Security())


def test_a_head_says_what_all_say_and_then_what_is_its_own(pools: Pools) -> None:
    """The target is below the path of the host, which is named as in its URL."""
    assert lines(pools, "PUT", "/a%20b", {"Content-Length": "3"}) == [
        "PUT /media/a%20b HTTP/1.1",
        "Host: media-01:8080",
        *COMMON,
        "Content-Length: 3",
    ]


def test_what_a_request_says_itself_counts(pools: Pools) -> None:
    """A node that reads for somebody else is not the library."""
    assert lines(pools, "GET", "/cat", {"User-Agent": "resto_wsgi node"})[2:] == [
        "User-Agent: resto_wsgi node",
        COMMON[1],
    ]


def test_a_host_is_shown_what_it_wants_each_time_anew(tmp_path: Path) -> None:
    """A password as it is; a signature of the very request, with a nonce that is good once."""
    own = tmp_path / "credentials"
    own.touch(0o600)
    own.write_text(f"{HOST.url} basic-over-http user:{'p' * 16}\n")
    shown = lines(Pools(1.0, Security([HOST], credentials_file=str(own))), "GET", "/cat", {})
    assert [line.partition(" ")[0] for line in shown[4:]] == ["Authorization:"]
    own.write_text(f"{HOST.url} secret key-1:{'s' * 40}\n")
    signing = Pools(1.0, Security([HOST], credentials_file=str(own)))
    first, second = (lines(signing, "DELETE", "/cat", {"Depth": "0"}) for _ in range(2))
    assert [line.partition(":")[0] for line in first[5:]] == ["Signature-Input", "Signature"]
    assert first[:5] == second[:5] and first[5:] != second[5:]


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        ("/a b", {}),
        ("/a\r\nX: y", {}),
        ("/a", {"X": "a\nY: b"}),
        ("/a", {"X": "a\rb"}),
        ("/a", {"X\n": "a"}),
        ("/é", {}),
    ],
)
def test_no_line_is_slipped_into_a_request(pools: Pools, target: str, fields: dict[str, str]) -> None:
    """It is a defect of ours, and is not sent."""
    with pytest.raises(ValueError):
        lines(pools, "PUT", target, fields)


def test_a_request_asks_for_no_more_than_it_says() -> None:
    """It has no body and no fields, and what comes of it is read, if nothing else is said."""
    assert Request("GET", "/cat") == ("GET", "/cat", {}, None, 0, ())
