"""Networks and addresses as people write them: who may write to a media server.

``Access`` of our own media server judges requests by them, `resto config` prints them for others. No I/O.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network

from ..errors import ConfigError, shown

__all__ = ["LOOPBACK", "Network", "host_of", "is_everybody", "is_own_name", "parse_address", "parse_network"]

Network = IPv4Network | IPv6Network

LOOPBACK = ("127.0.0.0/8", "::1/128")

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:/?#@\s]+))(?::[0-9]*)?")  # RFC 9110, section 7.2; in lower case


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


def host_of(authority: str) -> str:
    """Return the host of a HOST:PORT in lower case, without brackets; "" if it is none."""
    match = _HOST.fullmatch(authority.strip().lower())
    return (match[1] or match[2]).removesuffix(".") if match else ""


def is_own_name(host: str, names: Collection[str] = ()) -> bool:
    """Say whether no stranger can have this host lead to this machine: an address, a name of the machine's own.

    ``names`` are those that were told, in lower case. Else a page of a stranger, whose name leads here once the browser
    has the page (DNS rebinding), would be one of this server's for the browser.
    """
    own = host in names or host in ("localhost", socket.gethostname().lower())
    return own or host.endswith(".localhost") or parse_address(host) is not None


def _no_zone(text: str) -> str:
    if "%" in text:  # what follows is a zone, for which ipaddress takes any text
        raise ValueError(text)
    return text.strip()
