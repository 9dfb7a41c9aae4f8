"""Who calls, by what the head of a request says: the library, a node above, a program or a person."""

from __future__ import annotations

from typing import Any

import pytest

from resto_wsgi.media_server.answers import Refused
from resto_wsgi.media_server.caller import (
    LIBRARY,
    PACE,
    PERSON,
    WAIT_MAX,
    is_library,
    is_node,
    own_url,
    patience,
    wants_json,
)
from resto_wsgi.transports.http.connection import AGENT

MIB = 1 << 20


@pytest.mark.parametrize(
    ("environ", "library", "node"),
    [
        ({}, False, False),
        ({"HTTP_USER_AGENT": "curl/8"}, False, False),
        ({"HTTP_RESTO_WAIT": "1"}, False, False),
        ({"HTTP_USER_AGENT": AGENT}, True, False),
        ({"HTTP_USER_AGENT": AGENT, "HTTP_RESTO_WAIT": "0.000"}, True, True),
        ({"HTTP_USER_AGENT": f"{AGENT} node"}, False, False),
    ],
)
def test_a_node_writes_as_the_library_does_and_says_how_long_it_waits(environ: Any, library: bool, node: bool) -> None:
    """A node that reads for somebody else is neither: it asks for more than what is on this very server."""
    assert (is_library(environ), is_node(environ)) == (library, node)


def test_a_program_says_so_with_accept() -> None:
    """Among other types too."""
    assert wants_json({"HTTP_ACCEPT": "text/html, application/json;q=0.9"})
    assert not wants_json({"HTTP_ACCEPT": "*/*"}) and not wants_json({})


@pytest.mark.parametrize(
    ("environ", "size", "seconds"),
    [
        ({}, 0, PERSON),
        ({}, 80 * MIB, PERSON + 80 * MIB / PACE),
        ({"QUERY_STRING": "wait=all&x=y"}, 0, PERSON),
        ({"QUERY_STRING": "wait=local"}, 80 * MIB, 0.0),
        ({"QUERY_STRING": "wait=all&wait=local"}, 0, 0.0),
        ({"HTTP_USER_AGENT": AGENT}, 80 * MIB, LIBRARY),
        ({"HTTP_USER_AGENT": AGENT, "QUERY_STRING": "wait=local"}, 0, 0.0),
        ({"HTTP_RESTO_WAIT": "0.7", "QUERY_STRING": "wait=local"}, 80 * MIB, 0.7),
        ({"HTTP_RESTO_WAIT": "999999"}, 0, WAIT_MAX),
    ],
)
def test_how_long_a_caller_waits_for_the_subtree(environ: Any, size: int, seconds: float) -> None:
    """A node says it; the library less than its own timeout; a person also for what the bytes take."""
    assert patience(environ, size) == seconds


@pytest.mark.parametrize("wait", ["", "x", "-1", "1e3", "nan", "9999999", "1.", "\u0661"])
def test_a_wait_that_is_none_is_refused(wait: str) -> None:
    """400, before anything is stored."""
    for environ in (
        {"HTTP_RESTO_WAIT": wait},
        {"QUERY_STRING": f"wait={wait or 'long'}"},
        {"QUERY_STRING": "&a=b" * 9},
    ):
        with pytest.raises(Refused) as caught:
            patience(environ, 0)
        assert caught.value.status == "400 Bad Request"


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"HTTP_HOST": "media-01:8080"}, "http://media-01:8080"),
        ({"HTTP_HOST": "[::1]:8080", "wsgi.url_scheme": "https"}, "https://[::1]:8080"),
        ({"HTTP_HOST": "x;reboot", "SERVER_NAME": "media-01"}, "http://media-01"),
        ({"HTTP_HOST": "x" * 300}, "http://localhost"),
        ({"HTTP_RESTO_CALLED": "https://media/files/a", "HTTP_HOST": "10.0.0.1"}, "https://media/files/a"),
        ({"HTTP_RESTO_CALLED": "https://media/$(reboot)", "HTTP_HOST": "10.0.0.1"}, "http://10.0.0.1"),
        ({"HTTP_RESTO_CALLED": "ftp://media", "HTTP_HOST": "10.0.0.1"}, "http://10.0.0.1"),
    ],
)
def test_the_url_is_the_one_that_the_client_has_called(environ: Any, url: str) -> None:
    """Behind a proxy it is what that one says; nothing that a shell would run is repeated."""
    assert own_url(environ) == url
