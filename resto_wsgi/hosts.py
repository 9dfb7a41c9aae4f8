"""Hosts: which media servers there are, and the URL that a name has on each.

``media-01:8080`` is a server that the public reaches under MEDIA_URL, so its path comes from there; a full URL is
taken as it is. What is accepted is normal: lower-case scheme and host, no default port, percent-encoded path, no
trailing slash; so two spellings of one server are equal, and no HTTP client rewrites the URL on its way. No error
shows what could be a password. Strings only: no name is resolved here. The configuration calls this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote as percent_encode
from urllib.parse import unquote

from .errors import ConfigError, shown
from .names import quote

__all__ = ["Host", "parse_hosts", "public_url"]

DEFAULT_PORTS = {"http": 80, "https": 443}  # and with it the schemes that there are
MAX_HOSTNAME = 253  # characters: RFC 1035, section 2.3.4, as text
PATH_SAFE = "/%!$&'()*+,;=:@"  # RFC 3986, section 3.3, and the escapes that are there already

_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?")
_HOSTNAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")  # "_" is no DNS host name, but common in containers
_PORT = re.compile(r"[0-9]{1,5}")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_NO_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class Host:
    """A media server: ``label`` as it was configured, for people; ``url`` below which names hang, no trailing slash.

    It is known by its URL alone, which is what is stored: two of one URL are equal, whatever they are called.
    """

    label: str
    url: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Host) and self.url == other.url

    def __hash__(
        self,
    ) -> int:  # asked for some hundred times in a save to 12 hosts: that of a dataclass takes twice as long
        return hash(self.url)

    @classmethod
    def of(cls, url: str) -> Host:
        """Return the host that is stored as ``url``; nobody has called it anything else."""
        return cls(url, url)

    def url_of(self, name: str) -> str:
        """Return the URL of a checked name on this host."""
        return f"{self.url}/{quote(name)}"


def parse_hosts(specs: Iterable[str], media_url: str) -> tuple[Host, ...]:
    """Return a Host for each of ``specs``, in their order; ``media_url`` gives its path to those that are no URL.

    Raises ConfigError if one is not a server that can be reached over HTTP, or is there twice.
    """
    folder = _split(public_url(media_url))[2]
    hosts: dict[str, Host] = {}
    for number, spec in enumerate(specs, 1):
        try:
            host = _host(spec, folder)
        except ValueError as error:
            raise ConfigError("media_hosts", f"{_safely(spec, number)} {error}") from None
        twin = hosts.setdefault(host.url, host)
        if twin is not host:
            raise ConfigError("media_hosts", f"{shown(host.label)} is the same server as {shown(twin.label)}")
    return tuple(hosts.values())


def public_url(media_url: str) -> str:
    """Return MEDIA_URL percent-encoded and with a trailing slash: a path, or an absolute or scheme-relative URL.

    Raises ConfigError if it is something else.
    """
    try:
        return _public(_plain(media_url))
    except ValueError as error:
        raise ConfigError("media_url", f"{_safely(media_url)} {error}") from None


def _public(text: str) -> str:
    scheme, authority, path = _split(text)
    if authority is None and not text.startswith("/"):
        raise ValueError("is neither a path that begins with / nor an http:// or https:// URL")
    return f"{_origin(scheme, authority)}{_path(path)}/"


def _host(spec: str, folder: str) -> Host:
    text = _plain(spec)
    scheme, authority, path = _split(text)
    if scheme is None:
        authority, scheme, path = text.rstrip("/"), "http", folder
        if "/" in authority:
            raise ValueError("has a path but no scheme; write it as a full URL, with http:// or https://")
    return Host(text.rstrip("/"), _origin(scheme, authority) + _path(path))


def _plain(text: str) -> str:
    """Return ``text`` stripped; raise ValueError if it could not be part of a URL that names a folder."""
    if not isinstance(text, str):
        raise ValueError(f"is not a string but {type(text).__name__}")  # noqa: TRY004 - becomes a ConfigError
    text = text.strip()
    if not text:
        raise ValueError("is empty")
    if not text.isprintable() or " " in text:
        raise ValueError("holds white space or a control character")
    if "?" in text or "#" in text:
        raise ValueError("has a query or a fragment, below which no file can be")
    if "\\" in text:
        raise ValueError("holds a backslash")
    return text


def _split(url: str) -> tuple[str | None, str | None, str]:
    """Return scheme, authority and path of a URL that is plain; the first two are None if it has none.

    Not urlsplit: it strips characters in silence, and its errors quote the authority with a password in it.
    """
    before, mark, after = url.partition("//")
    if not mark or not (before == "" or before.endswith(":")):
        return None, None, url
    authority, slash, path = after.partition("/")
    return before[:-1] if before else None, authority, slash + path


def _origin(scheme: str | None, authority: str | None) -> str:
    """Return scheme and authority in their normal form; "" if there is none."""
    if authority is None:
        return ""
    if "@" in authority:
        raise ValueError("holds a user or a password; those belong into the file of RESTO_CREDENTIALS_FILE")
    scheme = scheme and scheme.lower()
    if scheme is not None and scheme not in DEFAULT_PORTS:
        raise ValueError("has a scheme other than http and https")
    match = _AUTHORITY.fullmatch(authority)
    if match is None or (authority.count(":") > 1 and not authority.startswith("[")):
        raise ValueError("is not HOST or HOST:PORT; an IPv6 address goes into brackets, as in [::1]:8080")
    host, port = _hostname(match[1]), _port(match[2])
    suffix = "" if port is None or port == DEFAULT_PORTS.get(scheme or "") else f":{port}"
    return f"{scheme}://{host}{suffix}" if scheme else f"//{host}{suffix}"


def _hostname(host: str) -> str:
    if not host:
        raise ValueError("names no host")
    try:
        if host.startswith("["):
            if "%" in host:
                raise ValueError("has an IPv6 address with a zone, which means something on one machine only")
            return f"[{IPv6Address(host[1:-1])}]"
        if host.rstrip(".").rpartition(".")[2].isdecimal():
            return str(IPv4Address(host))
    except AddressValueError:
        raise ValueError("has an IP address that is not valid") from None
    if len(host) > MAX_HOSTNAME or not _HOSTNAME.fullmatch(host):
        raise ValueError("has a host name that is not valid; one that is not ASCII is written in its xn-- form")
    return host.lower()


def _port(port: str | None) -> int | None:
    if port is None:
        return None
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise ValueError("has a port that is not a number from 1 to 65535")
    return int(port)


def _path(path: str) -> str:
    """Return a path percent-encoded, without its trailing slash. Escapes that are there stay, in upper case."""
    if _NO_ESCAPE.search(path):
        raise ValueError("has a % that begins no escape; write it as %25")
    if not {".", ".."}.isdisjoint(unquote(path).split("/")):
        raise ValueError("has . or .. in its path")
    encoded = percent_encode(path.rstrip("/"), safe=PATH_SAFE)
    return _ESCAPE.sub(lambda escape: escape[0].upper(), encoded)


def _safely(text: object, number: int | None = None) -> str:
    """Show a setting's text, but for what could be a password, or a key in a query."""
    if "@" not in str(text):
        return shown(re.split(r"[?#]", str(text))[0])
    return "it" if number is None else f"number {number}"
