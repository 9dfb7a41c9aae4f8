"""A site: what a media server has to serve, to whom, and where; checked once, in no server's language.

Every part that does not need quoting in any of them (networks, addresses, ports, names of users, the path of the
URL) is brought into a form here that cannot break out of any; paths of the disk are made absolute and plain, and
quoted where they are written. ``resto config`` makes one, the modules of the servers read it.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .. import names
from ..errors import ConfigError, shown
from ..trust.networks import LOOPBACK, parse_address, parse_network
from .quoting import printable

__all__ = ["TYPES", "Site", "checked_user"]

MAX_BODY = 1 << 30  # bytes, as the middleware's max_file_size
YEAR = 31536000  # seconds

_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")

# What a browser shows or plays, and never runs. HTML, XML and JavaScript are not here: the site of the application
# would run what its visitors upload. SVG is, for pages that show it; it is sent as an attachment, so nobody opens it.
TYPES = {
    "image/avif": ("avif",),
    "image/gif": ("gif",),
    "image/heic": ("heic",),
    "image/jpeg": ("jpg", "jpeg"),
    "image/png": ("png",),
    "image/svg+xml": ("svg",),
    "image/webp": ("webp",),
    "audio/flac": ("flac",),
    "audio/mp4": ("m4a",),
    "audio/mpeg": ("mp3",),
    "audio/ogg": ("ogg", "opus"),
    "audio/wav": ("wav",),
    "video/mp4": ("mp4", "m4v"),
    "video/quicktime": ("mov",),
    "video/webm": ("webm",),
    "font/woff": ("woff",),
    "font/woff2": ("woff2",),
    "application/json": ("json",),
    "application/pdf": ("pdf",),
    "application/zip": ("zip",),
    "text/css": ("css",),
    "text/csv": ("csv",),
    "text/plain": ("txt",),
}
OTHER_TYPE = "application/octet-stream"
ATTACHED = r"(?i)\.svg$"
SANDBOX = "sandbox; default-src 'none'"  # the Content-Security-Policy of all that is served, but for what is VIEWED
VIEWED = r"(?i)\.pdf$"  # browsers do not open their viewer in a sandbox

_TOKEN = f"[{names.TOKEN_ALPHABET}]"
_EXTENSION = r"(\.[^./]+)?$"
# What ``naming`` of the middleware makes: names that no other content gets, ever.
IMMUTABLE = {
    "original": rf"-{_TOKEN}{{10}}{_EXTENSION}",
    "random": rf"/{_TOKEN}{{20}}{_EXTENSION}",
    "content": rf"/[0-9a-f]{{64}}{_EXTENSION}",
}


@dataclass(frozen=True, kw_only=True)
class Site:
    """What one media server is to do. Raises ConfigError at once if one part is not right.

    ``root`` is served below ``path`` of the URL ("" for all of it) on ``address`` ("" for all of them) and ``port``.
    ``writers`` and ``listers`` (by default the writers) are networks. ``max_body`` is in bytes. ``naming`` is that of
    the middleware, None if names may get new content. ``temp`` holds what is being received. ``certificate``,
    ``key`` and ``client_ca`` are PEM files; with the last, writers need a certificate too. ``run`` is a folder for the
    server's own files, None for where Debian has them; ``user`` is whom a server that starts as root becomes, "" for
    nobody else.
    """

    root: str
    path: str = "/media"
    address: str = ""
    port: int = 8080
    writers: tuple[str, ...] = LOOPBACK
    listers: tuple[str, ...] = ()
    max_body: int = MAX_BODY
    naming: str | None = None
    temp: str = ""
    certificate: str | None = None
    key: str | None = None
    client_ca: str | None = None
    run: str | None = None
    user: str = "www-data"

    def __post_init__(self) -> None:
        self._set("root", _folder("root", self.root))
        # In the root it is on the same file system whatever is mounted; what begins with a dot is not served.
        self._set("temp", _folder("temp", self.temp or f"{self.root}/.temp"))
        for each in ("certificate", "key", "client_ca", "run"):
            if (value := getattr(self, each)) is not None:
                self._set(each, _folder(each, value))
        self._set("path", _url_path(self.path))
        self._set("address", _address(self.address))
        self._set("writers", _networks("allow", self.writers))
        self._set("listers", _networks("list", self.listers or self.writers))
        checked_user(self.user)
        self._check_numbers()
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("certificate", "goes with a key: give both, or none")
        if self.client_ca is not None and self.certificate is None:
            raise ConfigError("client_ca", "needs TLS: give a certificate and its key too")

    @property
    def immutable(self) -> str | None:
        """A regular expression of the URLs whose content never changes; None if there are none."""
        return None if self.naming is None else IMMUTABLE[self.naming]

    @property
    def shown_address(self) -> str:
        """The address as it stands before a port."""
        return f"[{self.address}]" if ":" in self.address else self.address

    def prepare(self, *folders: str) -> str:
        """Return the command that makes the folders, for a comment: one line, with nothing of them at its end bare."""
        owner = f"-o {self.user} -g {self.user} " if self.user else ""
        return f"install -d {owner}{' '.join(shlex.quote(each) for each in folders)}"

    def _check_numbers(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ConfigError("listen", f"takes a port from 1 to 65535, not {self.port}")
        if self.max_body < 1:
            raise ConfigError("max_body", f"takes a number of bytes from 1 on, not {self.max_body}")
        if self.naming is not None and self.naming not in IMMUTABLE:
            raise ConfigError("naming", f"takes {', '.join(IMMUTABLE)}, not {shown(self.naming)}")

    def _set(self, keyword: str, value: Any) -> None:
        object.__setattr__(self, keyword, value)


def checked_user(user: str) -> str:
    """Return the name of a user as it is; raise ConfigError if it is none."""
    if user and not _USER.fullmatch(user):
        raise ConfigError("user", f"takes the name of a user such as www-data, not {shown(user)}")
    return user


def _networks(setting: str, found: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(parse_network(setting, each)) for each in found))


def _folder(setting: str, path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ConfigError(
            setting, f"takes an absolute path, such as /srv/media, not {shown(path)}: the server starts elsewhere"
        )
    path = os.path.normpath(printable(setting, path)).replace("//", "/")  # POSIX lets a path begin with two
    if path == "/":
        raise ConfigError(setting, "takes a folder of its own, not /")
    return path


def _url_path(path: str) -> str:
    path = path.rstrip("/")
    if not _PATH.fullmatch(path):
        raise ConfigError(
            "path", f"{shown(path)} of the URL: use letters, digits and -._~ between its slashes, and no dot after one"
        )
    return path


def _address(address: str) -> str:
    parsed = parse_address(address)
    if address and parsed is None:
        raise ConfigError("listen", f"takes [ADDRESS:]PORT with an IP address, not {shown(address)}")
    return str(parsed) if address else ""
