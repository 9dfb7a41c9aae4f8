"""Credentials: what media servers want to see of us, as an operator writes it into a file, a line for each.

    # HOST                   KIND     VALUE
    *                        secret   app-1:Rx4...
    media-01:8443            basic    user:password
    https://media-02/files   bearer   TOKEN

Of the lines that fit a host the most specific counts, and of two such the last. Basic and Bearer can be read by
whoever is on the way, so for an http:// host that is not this machine they have to be called basic-over-http and
bearer-over-http. Strings only, no file is read here. No error shows any word of a line: a secret may be in the wrong
place. No repr shows a secret. The transport calls this.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from urllib.parse import urlsplit

from ..errors import ConfigError
from ..hosts import DEFAULT_PORTS, parse_hosts
from .signatures import Key, parse_keys

__all__ = ["Credential", "Credentials", "parse_credentials"]

SETTING = "credentials_file"
OVER_HTTP = "-over-http"
ANY = "*"

_LINE = re.compile(r"([^ \t]+)[ \t]+([^ \t]+)[ \t]+(.+)")
_USER_PASSWORD = re.compile(r"[^:\x00-\x1f\x7f-\x9f]+:[^\x00-\x1f\x7f-\x9f]*")  # RFC 7617, section 2
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1


@dataclass(frozen=True)
class Credential:
    """``kind`` is basic, bearer or secret; the first two have the value of an ``authorization``, the last a ``key``.

    ``line`` is where it stands in its file; ``over_http`` says that whoever is on the way may read it.
    """

    kind: str
    line: int
    authorization: str = field(default="", repr=False)
    key: Key | None = field(default=None, repr=False)
    over_http: bool = False


@dataclass(frozen=True)
class _Place:
    """What HOST means: "" is any ``scheme``, and any ``hostname``; ``path`` is the one below which it counts."""

    scheme: str = ""
    hostname: str = ""
    port: int | None = None  # that of the scheme
    path: str = ""

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """The more specific a place is, the greater."""
        return bool(self.hostname), bool(self.scheme), len(self.path)

    def holds(self, url: str) -> bool:
        """Say whether a Host.url is here."""
        parts = urlsplit(url)
        default = DEFAULT_PORTS[parts.scheme]
        if not self.hostname:
            return True
        if (self.hostname, self.port or default) != (parts.hostname, parts.port or default):
            return False
        return not self.scheme or (self.scheme == parts.scheme and f"{parts.path}/".startswith(f"{self.path}/"))


class Credentials:
    """The lines of one file, which ``source`` names in errors."""

    def __init__(self, lines: Iterable[tuple[_Place, Credential]] = (), source: str = "") -> None:
        self._lines = tuple(lines)
        self._source = source

    def of(self, url: str) -> Credential | None:
        """Return what is for a Host.url, None if nothing is.

        Raises ConfigError if that could be read on the way and its line does not say that this is meant.
        """
        fitting = [(place.rank, credential.line, credential) for place, credential in self._lines if place.holds(url)]
        if not fitting:
            return None
        credential = max(fitting, key=lambda each: each[:2])[2]
        if credential.key is None and not credential.over_http and _is_in_the_clear(url):
            meant = f"{credential.kind}{OVER_HTTP}"
            problem = f"would show it to everybody on the way to {url}; use https://, or secret, or say {meant}"
            raise ConfigError(SETTING, f"line {credential.line} of {self._source} {problem}")
        return credential


def parse_credentials(text: str, source: str) -> Credentials:
    """Return the credentials of ``text``: lines HOST KIND VALUE, ``#`` begins a comment line.

    HOST is ``*`` or written as in media_hosts; without a scheme it fits http and https. Raises ConfigError, which
    names ``source`` and the line, and shows nothing of it.
    """
    lines = []
    for number, line in enumerate(re.split(r"\r?\n", text), 1):
        stripped = line.strip(" \t")
        if not stripped or stripped.startswith("#"):
            continue
        try:
            lines.append(_parse(stripped, number))
        except ValueError as error:
            raise ConfigError(SETTING, f"line {number} of {source} {error}") from None
    if not lines:
        raise ConfigError(SETTING, f"{source} holds no line HOST KIND VALUE")
    return Credentials(lines, source)


def _parse(line: str, number: int) -> tuple[_Place, Credential]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("is not HOST KIND VALUE, such as: media-01:8443 basic user:password")
    place, kind = _place(match[1]), match[2].removesuffix(OVER_HTTP)
    if kind not in _KINDS or match[2] == f"secret{OVER_HTTP}":
        choices = ", ".join([*_KINDS, *(f"{each}{OVER_HTTP}" for each in _KINDS if each != "secret")])
        raise ValueError(f"has a KIND that is none of {choices}")
    return place, replace(_KINDS[kind](match[3], number), over_http=kind != match[2])


def _place(text: str) -> _Place:
    if text == ANY:
        return _Place()
    try:
        (host,) = parse_hosts([text], "/")
    except ConfigError:
        raise ValueError("has a HOST that is neither * nor written as in media_hosts") from None
    parts = urlsplit(host.url)
    if "//" in text:
        return _Place(parts.scheme, parts.hostname or "", parts.port, parts.path)
    # Of the text, for http's own port is not in the URL, and here it is meant.
    return _Place("", parts.hostname or "", urlsplit(f"//{text}").port)


def _basic(value: str, number: int) -> Credential:
    if not _USER_PASSWORD.fullmatch(value):
        raise ValueError("has a VALUE that is not user:password")
    return Credential("basic", number, f"Basic {b64encode(value.encode()).decode()}")


def _bearer(value: str, number: int) -> Credential:
    if not _TOKEN.fullmatch(value):
        raise ValueError("has a VALUE that is no bearer token: letters, digits and -._~+/, with = at its end")
    return Credential("bearer", number, f"Bearer {value}")


def _secret(value: str, number: int) -> Credential:
    try:
        keys = parse_keys(value, "")
    except ConfigError as error:
        raise ValueError(f"has a VALUE that is not ID:SECRET: {error.problem}") from None
    if len(keys) > 1:
        raise ValueError("has more than one ID:SECRET; a sender signs with one")
    return Credential("secret", number, key=keys[0])


_KINDS: dict[str, Callable[[str, int], Credential]] = {"basic": _basic, "bearer": _bearer, "secret": _secret}


def _is_in_the_clear(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return False
    try:
        return not ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return True
