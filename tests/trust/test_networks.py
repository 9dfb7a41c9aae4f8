"""Networks as people write them, and which of them are everybody's."""

from __future__ import annotations

import pytest

from resto_wsgi.errors import ConfigError
from resto_wsgi.trust.networks import is_everybody, parse_address, parse_network


@pytest.mark.parametrize(
    ("text", "network"), [("10.0.0.0/8", "10.0.0.0/8"), (" 10.1.2.3 ", "10.1.2.3/32"), ("FD00::/8", "fd00::/8")]
)
def test_a_network_is_read(text: str, network: str) -> None:
    """In its normal form; an address is a network of one."""
    assert str(parse_network("allow", text)) == network


@pytest.mark.parametrize("text", ["", "media-01", "10.0.0.1/8", "10.0.0.0/33", "fe80::%x/10", "10.0.0.0/8;}"])
def test_what_is_none_is_refused(text: str) -> None:
    """With the setting, and an example; a zone could be any text."""
    with pytest.raises(ConfigError, match=r"^allow: takes a network such as 10.0.0.0/8, not '"):
        parse_network("allow", text)
    assert parse_address(text) is None


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        (["0.0.0.0/0"], True),
        (["0.0.0.0/1", "128.0.0.0/1"], True),
        (["2000::/3"], True),
        (["127.0.0.0/8", "::1"], False),
        ([], False),
    ],
)
def test_everybody_is_known_also_in_parts(networks: list[str], expected: bool) -> None:
    """Of IPv6 the addresses that the internet has."""
    assert is_everybody(parse_network("allow", each) for each in networks) is expected
