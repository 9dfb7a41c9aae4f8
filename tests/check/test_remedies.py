"""The line to change for each finding, on each kind of server."""

from __future__ import annotations

import pytest

from resto_wsgi.check import remedies
from resto_wsgi.check.remedies import KINDS, remedy
from resto_wsgi.check.run import STEPS
from resto_wsgi.server_config import Site, apache, lighttpd, nginx

ADDRESS, LARGEST = "192.0.2.10", 5_000_001  # bytes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", remedies._REMEDIES)
def test_every_remedy_can_be_said_of_every_kind_of_server(kind: str, key: str) -> None:
    """Nothing in it is left to be filled in."""
    text = remedy(kind, *(key.split(":", 1) if ":" in key else (key, "")), ADDRESS, LARGEST)
    assert text and text.isprintable()
    assert not {"{address}", "{largest}", "{largest_kib}", "{{", "}}"} & set(text.replace(";", " ").split())


@pytest.mark.parametrize("key", [step.key for step in STEPS])
def test_every_probe_has_a_remedy(key: str) -> None:
    """Whatever it finds, somebody is told what to do about it."""
    assert remedy("unknown", key, "", ADDRESS, LARGEST)


@pytest.mark.parametrize(
    ("kind", "key", "cause", "text"),
    [
        ("nginx", "size", "", f"client_max_body_size {LARGEST};  (resto config nginx --max-body {LARGEST})"),
        ("lighttpd", "size", "", f"server.max-request-size = 4883  (resto config lighttpd --max-body {LARGEST})"),
        ("apache", "credentials", "", "Require ip 192.0.2.10/32  (resto config "
         "apache --allow 192.0.2.10)"),
        ("node", "write", "403", "start it with --allow 192.0.2.10"),
        ("unknown", "size", "", "raise its limit of the body size to the largest file that is accepted, or lower "
         "max_file_size"),
    ],
)  # fmt: skip
def test_the_line_of_that_server_is_named_and_the_option_that_prints_it(
    kind: str, key: str, cause: str, text: str
) -> None:
    """With our address and our limit in it; a kind without a line of its own has the one for all."""
    assert remedy(kind, key, cause, ADDRESS, LARGEST) == text


def test_a_cause_that_nobody_foresaw_has_the_remedy_of_its_finding() -> None:
    """As a status that a server makes up."""
    assert remedy("nginx", "write", "599", ADDRESS, LARGEST) == remedy("nginx", "write", "", ADDRESS, LARGEST) != ""


def test_an_address_that_is_not_known_is_to_be_filled_in() -> None:
    """Where no connection was ever made."""
    assert remedy("node", "write", "403", "", LARGEST) == "start it with --allow ADDRESS"


CONFIGURED = {"nginx": nginx.configure, "lighttpd": lighttpd.configure, "apache": apache.configure}


@pytest.mark.parametrize("kind", CONFIGURED)
@pytest.mark.parametrize(("key", "cause"), [("credentials", ""), ("size", ""), ("write", "413"), ("write", "403")])
def test_the_line_that_is_named_is_one_that_the_option_prints(kind: str, key: str, cause: str) -> None:
    """Whoever compares the two finds it: one server has one way to say who may write."""
    line, _, option = remedy(kind, key, cause, ADDRESS, LARGEST).partition("  (resto config ")
    assert option.startswith(f"{kind} --{'max-body' if '413' in cause or key == 'size' else 'allow'} ")
    site = Site(root="/srv/media", writers=(ADDRESS,), max_body=LARGEST)
    printed = " ".join(CONFIGURED[kind](site).split())
    assert line.partition(", and let its user")[0] in printed


def test_what_needs_no_remedy_has_none() -> None:
    """A key that is only ever a matter of course."""
    assert remedy("nginx", "nothing", "", ADDRESS, LARGEST) == ""
