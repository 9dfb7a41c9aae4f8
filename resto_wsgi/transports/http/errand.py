"""One errand at one host: what it is about, and which error each end becomes that is no success.

A status, or an exception of the connection, becomes a ``DeliveryError`` with a reason and a remedy in a few words. No
socket is touched here. ``transport`` says what is asked for, and ``job`` asks.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Mapping
from http.client import HTTPException, IncompleteRead
from typing import Any, Literal, NamedTuple

import urllib3

from ...errors import DeliveryError, shown
from ...fields.versions import VERSION, parse_version
from ...hosts import Host
from . import headers as http_headers
from .connecting import USER_TIMEOUT, NotConnected
from .connection import TooLong
from .outgoing import Shrunk, Unreadable
from .progress import Exchange, NoAnswer
from .reply import Fields
from .resolving import Unresolved
from .security import Security

__all__ = ["FAULTS", "FINAL", "READ_REMEDIES", "REFUSED", "REMEDIES", "Errand", "Fault", "HostAnswer", "fault"]

Fault = Literal["tls", "protocol", ""]

FAULTS = (urllib3.exceptions.HTTPError, HTTPException, Shrunk, OSError, ValueError, OverflowError)
"""What a connection can raise: the first if its pool was closed, the last two if a reply makes no sense."""

log = logging.getLogger("resto_wsgi")

TEMPORARY = frozenset({408, 409, 423, 425, 429})  # the 4xx that a later try may get past
UNCLEAR = frozenset({408})  # the 4xx that refuses nothing: the host, or a proxy before it, waited in vain for more
FINAL = frozenset({508})  # the 5xx that nothing changes but a person
REMEDIES = {
    403: "allow PUT and DELETE from here in its configuration",
    405: "enable PUT and DELETE (WebDAV) in its configuration",
    409: "a folder of the name is missing and could not be made, or is a file there, or the name is a folder there",
    412: "it has a later version of the name, by its number; if that is wrong, delete the name there",
    413: "raise its limit of the body size",
    500: "its error log says why; on nginx look at create_full_put_path and the permissions",
    507: "its disk is full",
    508: "it is above the node that has it in --child, or too far below; take it out",  # RFC 5842, section 7.2
}
READ_REMEDIES = {
    403: "allow GET from here in its configuration, and look at the permissions",
    405: "enable GET and HEAD in its configuration",
}
REFUSED = {  # what a 401 means, by what the host was shown
    "": "it wants credentials; give them in the file of RESTO_CREDENTIALS_FILE",
    "basic": "it does not take our user and password; correct them in the file of RESTO_CREDENTIALS_FILE",
    "bearer": "it does not take our bearer token; correct it in the file of RESTO_CREDENTIALS_FILE",
    "secret": "it does not take our signature; compare the clocks, the key in the file of RESTO_CREDENTIALS_FILE with "
    "its own, and its address in media_hosts with its name",
}
BY_CERTIFICATE = {  # what else these can mean over TLS, by whether the host was shown a certificate of ours
    (400, True): "it may not take our certificate (RESTO_CLIENT_CERT); its error log says why",
    (400, False): "it may want a certificate (RESTO_CLIENT_CERT); its error log says why",
    (403, False): "; or it wants a certificate (RESTO_CLIENT_CERT)",
}
HUNG_UP = "; if it wants a certificate, look at RESTO_CLIENT_CERT"  # it may, before its alert has come
UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})  # X509_V_ERR_...: nobody whom we know has signed it
OTHER_NAME = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
NOT_STRICT = frozenset(range(80, 95))  # X509_V_ERR_PATHLEN_INVALID_FOR_NON_CA to X509_V_ERR_EC_KEY_EXPLICIT_PARAMS


class HostAnswer(NamedTuple):
    """The final answer to a request; the header names are looked up in any case. ``early``: before it had all of it.

    ``body`` is bounded. It is empty if the file that was asked for comes, or if only a page could use it.
    """

    status: int
    headers: Fields
    early: bool = False
    body: bytes = b""


class Errand:
    """``name`` at ``host``, within ``timeout`` seconds for each step; ``security`` knows what the host is shown.

    ``version`` is that of the change that is asked for, 0 for none.
    """

    def __init__(
        self,
        host: Host,
        name: str,
        timeout: float,
        security: Security,
        remedies: Mapping[int, str] = REMEDIES,
        version: int = 0,
    ) -> None:
        self.host = host
        self.name = name
        self.version = version
        self.exchange = Exchange(timeout)
        self._security = security
        self._remedies = remedies

    def failed(self, reason: str, **facts: Any) -> DeliveryError:
        return DeliveryError(self.host.label, self.name, reason, **facts)

    def broken(self, error: Exception) -> DeliveryError:
        """Say what an exception means that ended a request without an answer."""
        untouched = not (self.exchange.sent or self.exchange.lost)
        if isinstance(error, TooLong):
            failure = self.failed(str(error), status=error.status)
        elif isinstance(error, Shrunk):  # nothing that the host could help
            failure = self.failed(str(error), untouched=untouched, ours=True, permanent=isinstance(error, Unreadable))
        elif isinstance(error, FAULTS):
            reason = _reason(error)
            if isinstance(error, BrokenPipeError) and self.host.url.startswith("https:"):
                reason += HUNG_UP  # from Python 3.13 on; before, it is an SSLEOFError
            failure = self.failed(reason, untouched=untouched)
        else:
            log.error("defect while delivering to %s", self.host.label, exc_info=error)
            failure = self.failed(f"not delivered: {type(error).__name__}", untouched=untouched, ours=True)
        failure.__cause__ = error
        return failure

    def refused(self, answer: HostAnswer) -> DeliveryError:
        """Say what a status means that is not the one that was wanted."""
        status = answer.status
        if status < 300:
            remedy = "which does not say that it was done"
        elif status < 400:
            remedy = "redirects are never followed; give its final URL in media_hosts"
        else:
            remedy = self._remedy(status)
        # A signature that is refused now may be taken when somebody has set a clock, so that is no final word.
        signed = status == 401 and self.host.url in self._security.signed
        return self.failed(
            f"answered {status}: {remedy}",
            status=status,
            permanent=(status < 500 and status not in TEMPORARY and not signed) or status in FINAL,
            untouched=400 <= status < 500 and status not in UNCLEAR and not self.exchange.lost,
            retry_after=http_headers.retry_after(answer.headers, time.time()),
            outdone_by=self._outdone_by(answer),
        )

    def in_the_way(self, answer: HostAnswer) -> DeliveryError:
        """Say that a folder has the name, which this host removes only with all that is in it."""
        remedy = f"a folder of that name is in the way; if no file is in it, remove it in the root of {self.host.label}"
        return self.refused(answer).with_facts(reason=f"answered {answer.status}: {remedy}", permanent=False)

    def _outdone_by(self, answer: HostAnswer) -> int | None:
        """Return the version that the host has, if it refuses ours since it is older; see ``media_server.node``."""
        known = parse_version(answer.headers.get(VERSION)) if answer.status == 412 and self.version else None
        return known if known is not None and known > self.version else None

    def _remedy(self, status: int) -> str:
        if status == 401:
            return REFUSED[self._security.kind(self.host.url)]
        remedy = self._remedies.get(status, "")
        if self.host.url.startswith("https:"):
            remedy += BY_CERTIFICATE.get((status, self._security.has_certificate), "")
        return remedy or "its error log says why"

    def useless(self, answer: HostAnswer, problem: str) -> DeliveryError:
        """Say why a reply does not do although its status is the one that was wanted."""
        return self.failed(f"its reply {problem}", status=answer.status, permanent=True)


def fault(failure: DeliveryError) -> Fault:
    """Return what failed: TLS, or what came was no HTTP; "" if neither, or if nobody can tell."""
    error = failure.__cause__
    if isinstance(error, ssl.SSLError) or failure.reason.endswith(HUNG_UP):
        return "tls"
    return "protocol" if isinstance(error, (HTTPException, TooLong, ValueError, OverflowError)) else ""


def _reason(error: Exception) -> str:
    """Say in a few words what happened; what the host sent is shown quoted."""
    if isinstance(error, (NoAnswer, NotConnected, Unresolved)):
        return str(error)
    inner = error.args[-1] if error.args else error
    if isinstance(error, IncompleteRead):
        return "the connection broke: its reply was cut short"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {shown(inner, 160)}{_tls_remedy(error)}"
    if isinstance(error, TimeoutError):  # with a number it is the kernel's
        return f"too slow: {f'it acknowledged nothing for {USER_TIMEOUT:g} s' if error.errno else error}"
    if isinstance(error, (ValueError, OverflowError)):
        return f"the connection broke: the reply is malformed: {shown(error, 160)}"
    return f"the connection broke: {shown(inner, 160)}"


def _tls_remedy(error: object) -> str:
    """Say what to do about it, if the cause is clear: a certificate of the host, or ours."""
    code = getattr(error, "verify_code", 0)
    if code in UNKNOWN_AUTHORITY:
        return "; give the authority of its certificate in RESTO_CA_BUNDLE"
    if code in OTHER_NAME:
        return "; name it in media_hosts as its certificate does"
    if code in NOT_STRICT:
        return (
            "; its certificate or that of its authority lacks what Python 3.13 and later insist on; make them anew, "
            "with the extensions of RFC 5280"
        )
    if "ALERT" in (getattr(error, "reason", None) or ""):
        return "; look at our certificate in RESTO_CLIENT_CERT"
    return HUNG_UP if isinstance(error, ssl.SSLEOFError) else ""
