"""One errand at one host: whom it is about, and what becomes of each end of it that is no success.

A status, or an exception of the connection, becomes a ``DeliveryError`` with a reason and a remedy in a few words. No
socket here; ``http`` says what is asked for, ``http_job`` asks.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Mapping
from http.client import HTTPException, IncompleteRead
from typing import Any, NamedTuple

import urllib3

from ..errors import DeliveryError, shown
from ..hosts import Host
from . import http_headers
from .http_connection import Exchange, TooLong
from .http_flight import NoAnswer, Shrunk
from .http_reply import Fields

__all__ = ["FAULTS", "READ_REMEDIES", "Answer", "Errand"]

FAULTS = (urllib3.exceptions.HTTPError, HTTPException, Shrunk, OSError, ValueError, OverflowError)
"""What a connection can raise; the last two where http.client cannot make sense of a reply."""

log = logging.getLogger("resto_wsgi")

TEMPORARY = frozenset({408, 409, 423, 425, 429})  # the 4xx that a later try may get past
UNCLEAR = frozenset({408})  # the 4xx that refuses nothing: the host, or a proxy before it, waited in vain for more
REMEDIES = {
    401: "it wants credentials",
    403: "allow PUT and DELETE from here in its configuration",
    405: "enable PUT and DELETE (WebDAV) in its configuration",
    409: "a folder of the name is missing and could not be made, or is a file there",
    413: "raise its limit of the body size",
    500: "its error log says why; on nginx look at create_full_put_path and the permissions",
    507: "its disk is full",
}
READ_REMEDIES = {
    401: "it wants credentials",
    403: "allow GET from here in its configuration, and look at the permissions",
    405: "enable GET and HEAD in its configuration",
}


class Answer(NamedTuple):
    """The final answer to a request; the header names are looked up in any case. ``early``: before it had all of it."""

    status: int
    headers: Fields
    early: bool = False


class Errand:
    """``name`` at ``host``, within ``timeout`` seconds for each step."""

    def __init__(self, host: Host, name: str, timeout: float, remedies: Mapping[int, str] = REMEDIES) -> None:
        self.host = host
        self.name = name
        self.exchange = Exchange(timeout)
        self._remedies = remedies

    def failed(self, reason: str, **facts: Any) -> DeliveryError:
        return DeliveryError(self.host.label, self.name, reason, **facts)

    def broken(self, error: Exception) -> DeliveryError:
        """Say what an exception means that ended a request without an answer."""
        untouched = not (self.exchange.sent or self.exchange.lost)
        if isinstance(error, TooLong):
            failure = self.failed(str(error), status=error.status)
        elif isinstance(error, FAULTS):
            failure = self.failed(_reason(error, self.exchange.step), untouched=untouched)
        else:
            log.error("defect while delivering to %s", self.host.label, exc_info=error)
            failure = self.failed(f"not delivered: {type(error).__name__}", untouched=untouched, ours=True)
        failure.__cause__ = error
        return failure

    def refused(self, answer: Answer) -> DeliveryError:
        """Say what a status means that is not the one that was wanted."""
        status = answer.status
        if status < 300:
            remedy = "which does not say that it was done"
        elif status < 400:
            remedy = "redirects are never followed; give its final URL in media_hosts"
        else:
            remedy = self._remedies.get(status, "its error log says why")
        return self.failed(
            f"answered {status}: {remedy}",
            status=status,
            permanent=status < 500 and status not in TEMPORARY,
            untouched=400 <= status < 500 and status not in UNCLEAR and not self.exchange.lost,
            retry_after=http_headers.retry_after(answer.headers, time.time()),
        )

    def useless(self, answer: Answer, problem: str) -> DeliveryError:
        """Say why a reply does not do although its status is the one that was wanted."""
        return self.failed(f"its reply {problem}", status=answer.status, permanent=True)


def _reason(error: Exception, step: float) -> str:
    """Say in a few words what happened; what the host sent is shown quoted."""
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "its name does not resolve"
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "refuses connections, or is unreachable"
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError):
        return f"no connection within {step:g} s"
    if isinstance(error, (NoAnswer, Shrunk)):
        return str(error)
    inner = error.args[-1] if error.args else error
    if isinstance(error, IncompleteRead):
        return "the connection broke: its reply was cut short"
    if isinstance(error, (urllib3.exceptions.SSLError, ssl.SSLError)):
        return f"TLS failed: {shown(inner, 160)}"
    if isinstance(error, TimeoutError):
        return f"too slow: {error}"
    if isinstance(error, (ValueError, OverflowError)):
        return f"the connection broke: the reply is malformed: {shown(error, 160)}"
    return f"the connection broke: {shown(inner, 160)}"
