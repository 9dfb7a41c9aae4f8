"""Which name a request means, and which version of it: what its head says. No body is read, no disk touched.

Names are judged by ``names.check`` alone. A read of what can be no name finds nothing (404); a write of it is wrong
(400), and one of our own page's name is forbidden (403). ``node`` calls this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import names
from ..errors import NameRejected
from ..fields.versions import DIGITS, VERSION, parse_version
from .answers import Refused
from .conditions import http_seconds
from .files.own_names import is_own
from .files.store import PATH_BYTES_MAX

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["Version", "header_of", "path_of", "printable", "readable", "writable"]

VALUE_MAX = 512  # characters of a header's value that is passed on to another node: a digest has some 50
PASSED_ON = ("Repr-Digest", VERSION, "Date")


@dataclass(frozen=True)
class Version:
    """What a sender says of a version; all of it is optional. ``mtime_ns`` is in nanoseconds since 1970.

    ``exact``: another node tells the versions apart by this mtime. ``fields`` are the headers, as other nodes get them.
    """

    generation: int | None
    mtime_ns: int | None
    exact: bool
    fields: Mapping[str, str]

    @classmethod
    def of(cls, environ: WSGIEnvironment) -> Version:
        """Return what a request says. Refuses a Resto-Generation that is none."""
        fields = {each: value for each in PASSED_ON if (value := header_of(environ, each))}
        exact = environ.get("HTTP_RESTO_MTIME")
        return cls(_generation(environ), _mtime_ns(environ), exact is not None, fields)


def path_of(environ: WSGIEnvironment, fault: str) -> str:
    """Return the path without its first slash; refuse with the status ``fault`` one that is not UTF-8."""
    try:
        # PEP 3333: the URL's octets, as characters
        return str(environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8")).removeprefix("/")
    except UnicodeError:
        raise Refused(fault, "the name is not UTF-8") from None


def readable(path: str) -> str:
    """Return the name of a path that is to be read. Refuses with 404 what no file can be called."""
    name = _name(path, "404 Not Found")
    if is_own(name):
        raise Refused("404 Not Found", "no such file")
    return name


def writable(path: str) -> str:
    """Return the name of a path that is to be written. Refuses with 400 what is no name, with 403 that of a page."""
    name = _name(path, "400 Bad Request")
    if is_own(name):
        raise Refused("403 Forbidden", "the name is that of one of this server's own pages")
    return name


def header_of(environ: WSGIEnvironment, name: str) -> str:
    """Return a request's header, "" if there is none, or none that can be passed on to another node."""
    return printable(environ.get(f"HTTP_{name.upper().replace('-', '_')}"))


def printable(value: object) -> str:
    """Return a header's value, "" if it is none that can be passed on: it is too long, or has other characters."""
    text = str(value or "")
    return text if text.isascii() and text.isprintable() and len(text) <= VALUE_MAX else ""


def _name(path: str, fault: str) -> str:
    try:
        return names.check(path, PATH_BYTES_MAX)
    except NameRejected as error:
        raise Refused(fault, f"the name {error.reason}") from None


def _generation(environ: WSGIEnvironment) -> int | None:
    text = environ.get("HTTP_RESTO_GENERATION")
    if text is None:
        return None
    if (generation := parse_version(text)) is None:
        raise Refused("400 Bad Request", f"{VERSION} is a number of at most {DIGITS} digits")
    return generation


def _mtime_ns(environ: WSGIEnvironment) -> int | None:
    """Return the Date of the request, as nginx does, so that validators agree on every replica.

    A node above says it to the nanosecond, so that they do also if a file came without a Date.
    """
    # Who can write can say any Date too, so Resto-Mtime is believed of everybody who was admitted.
    exact = environ.get("HTTP_RESTO_MTIME", "")
    if exact.isascii() and exact.isdigit() and len(exact) <= DIGITS:
        return int(exact)
    seconds = http_seconds(environ.get("HTTP_DATE", ""))
    return None if seconds is None else seconds * 1_000_000_000
