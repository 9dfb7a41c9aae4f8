"""Who calls, and what he wants of the answer: the library, a node above, a program, or a person with a browser.

All of it is what the head of the request says, and anybody can say it, so nothing is admitted by it. The roles of
``tree`` and the pages call this.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from ..transports.http.connection import AGENT
from .answers import JSON, Refused

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["WAIT", "is_library", "is_node", "own_url", "patience", "wants_json"]

WAIT = "Resto-Wait"  # the header with the seconds for which a node above waits for the subtree
PERSON = 10.0  # seconds that a person waits for a subtree, beside what the bytes take
PACE = 8 * 1024 * 1024  # bytes per second that a person's file is given on its way through the subtree
LIBRARY = 1.0  # seconds that the library waits: half of its own timeout, after which it would send everything again
WAIT_MAX = 86400.0  # seconds: a day is more than anybody waits

_WAIT_KEY = "HTTP_RESTO_WAIT"
_SECONDS = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?")
_AUTHORITY = r"[A-Za-z0-9._:\[\]-]{1,260}"
_URL = re.compile(rf"https?://{_AUTHORITY}(?:/[A-Za-z0-9._~-]{{1,260}}){{0,20}}")


def is_library(environ: WSGIEnvironment) -> bool:
    """Say whether the library asks, or a node above as it writes: it means this very server."""
    return bool(environ.get("HTTP_USER_AGENT") == AGENT)


def is_node(environ: WSGIEnvironment) -> bool:
    """Say whether a node above writes: it says how long it waits, which the library does not."""
    return is_library(environ) and _WAIT_KEY in environ


def wants_json(environ: WSGIEnvironment) -> bool:
    """Say whether a program asks."""
    return JSON in environ.get("HTTP_ACCEPT", "")


def patience(environ: WSGIEnvironment, size: int) -> float:
    """Return for how many seconds an answer may wait for the subtree; 0.0 if it is to wait for nobody.

    ``size`` is that of the file in bytes. Refuses a wait that is none.
    """
    wanted = environ.get(_WAIT_KEY)
    if wanted is not None:
        if not _SECONDS.fullmatch(wanted):
            raise Refused("400 Bad Request", f"{WAIT} is a number of seconds")
        return min(float(wanted), WAIT_MAX)
    try:
        query = parse_qs(environ.get("QUERY_STRING", ""), max_num_fields=8)
    except ValueError:
        query = {"wait": [""]}
    wait = query.get("wait", ["all"])[-1]
    if wait not in ("all", "local"):
        raise Refused("400 Bad Request", "wanted ?wait=all or ?wait=local")
    if wait == "local":
        return 0.0
    return LIBRARY if is_library(environ) else PERSON + size / PACE


def own_url(environ: WSGIEnvironment) -> str:
    """Return the URL of the root as the client calls this server, without a slash at its end.

    A proxy before us, which has taken the path away, says it in Resto-Called. Nothing but a scheme, a host, a port and
    a plain path is ever repeated, for people paste it into a shell.
    """
    called = str(environ.get("HTTP_RESTO_CALLED", ""))
    if _URL.fullmatch(called):
        return called
    host = str(environ.get("HTTP_HOST", ""))
    authority = host if re.fullmatch(_AUTHORITY, host) else f"{environ.get('SERVER_NAME', 'localhost')}"
    return f"{'https' if environ.get('wsgi.url_scheme') == 'https' else 'http'}://{authority}"
