"""Who may write to the media server. Reads are public and are not asked about.

It judges a request by its environ alone, before its body is read. ``node`` calls it.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .refusal import Refused

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["LOOPBACK", "Access"]

LOOPBACK = ("127.0.0.0/8", "::1/128")


class Access:
    """Admits writers whose address is in one of ``networks``.

    The address is the server's REMOTE_ADDR: behind a proxy that is the proxy's, unless the proxy keeps writers out
    itself. Raises ConfigError where a network is none.
    """

    def __init__(self, networks: Iterable[str] = LOOPBACK) -> None:
        self._networks = [_network(each) for each in networks]

    def admit(self, environ: WSGIEnvironment) -> None:
        """Return where the request may write; raise Refused else."""
        try:
            address = ip_address(environ.get("REMOTE_ADDR", ""))
        except ValueError:
            raise Refused("403 Forbidden", "writing needs an IP address") from None
        address = getattr(address, "ipv4_mapped", None) or address
        if not any(address in network for network in self._networks):
            raise Refused("403 Forbidden", "this address may only read")


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ConfigError("writers", f"wanted networks such as 10.0.0.0/8, found: {error}") from error
