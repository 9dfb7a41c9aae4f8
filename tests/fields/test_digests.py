"""Digests in HTTP: what is read, and what is written (RFC 9530)."""

from __future__ import annotations

import hashlib

import pytest

from resto_wsgi.fields.digests import format_digest, parse_digest, wants_digest

# RFC 9530, appendix B.1: the content {"hello": "world"} and a line feed.
RFC = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
OCTETS = hashlib.sha256(b'{"hello": "world"}\n').digest()


def test_the_example_of_the_rfc_is_read_and_written() -> None:
    """Both ways, to the octet."""
    assert format_digest(OCTETS) == RFC
    assert parse_digest(RFC) == OCTETS


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (f"sha-512=:AAAA:, {RFC}", OCTETS),
        (f"{RFC};q=1,md5=:AA==:", OCTETS),
        (f"sha-256=:{'A' * 43}=:, {RFC}", OCTETS),
        ("sha-512=:AAAA:", None),
        ("unixsum=30637", None),
        ("", None),
    ],
)
def test_other_algorithms_are_left_alone(value: str, found: bytes | None) -> None:
    """The last sha-256 counts; where there is none there is nothing to compare."""
    assert parse_digest(value) == found


@pytest.mark.parametrize("value", ["sha-256", "sha-256=", "sha-256=:AAAA:", "sha-256=RK/0", f"sha-256=:{'A' * 44}:"])
def test_a_digest_that_is_none_is_an_error(value: str) -> None:
    """Not 32 octets in base64 between colons."""
    with pytest.raises(ValueError, match="sha-256"):
        parse_digest(value)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("sha-256=1", True),
        ("sha-512=3, sha-256=10, unixsum=0", True),
        ("sha-256=0", False),
        ("sha-512=3", False),
        ("xsha-256=1", False),
        ("", False),
    ],
)
def test_a_digest_is_wanted_or_not(value: str, wanted: bool) -> None:
    """A preference of 0 says no (RFC 9530, section 4)."""
    assert wants_digest(value) == wanted
