"""Networks and addresses as people write them: who may write to a media server.

``Access`` of our own media server judges requests by them, `resto config` prints them for others. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network

from ..errors import ConfigError, shown

__all__ = ["LOOPBACK", "Network", "is_everybody", "parse_address", "parse_network"]

Network = IPv4Network | IPv6Network

LOOPBACK = ("127.0.0.0/8", "::1/128")


def parse_network(setting: str, text: str) -> Network:
    """Return the network, or the single address, that ``text`` writes; raise ConfigError for ``setting`` otherwise."""
    try:
        return ip_network(_no_zone(text))
    except ValueError:
        raise ConfigError(setting, f"takes a network such as 10.0.0.0/8, not {shown(text)}") from None


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address that ``text`` writes, None if it writes none."""
    try:
        return ip_address(_no_zone(text))
    except ValueError:
        return None


def is_everybody(networks: Iterable[Network]) -> bool:
    """True if all addresses there are, of IPv4 or of IPv6, are in ``networks`` together."""
    given = list(networks)
    v4 = collapse_addresses(each for each in given if isinstance(each, IPv4Network))
    v6 = collapse_addresses(each for each in given if isinstance(each, IPv6Network))
    # The internet's IPv6 addresses are those of 2000::/3 (RFC 4291, section 2.4).
    return any(each.prefixlen == 0 for each in v4) or any(each.prefixlen <= 3 for each in v6)


def _no_zone(text: str) -> str:
    if "%" in text:  # what follows is a zone, for which ipaddress takes any text
        raise ValueError(text)
    return text.strip()
