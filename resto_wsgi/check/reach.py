"""Is it there, what is it, and does it answer as a web server of files does? Nothing is written here."""

from __future__ import annotations

import contextlib
import time

from ..errors import shown
from ..fields.dates import parse_date
from ..transports.http.raw import RawReply
from .finding import Finding, Trouble
from .remedies import KINDS
from .scheme import other_scheme
from .subject import Subject

__all__ = ["absent", "clock", "hidden", "reachable", "tls"]

PRODUCTS = {
    "nginx": "nginx",
    "openresty": "nginx",
    "freenginx": "nginx",
    "angie": "nginx",
    "tengine": "nginx",
    "lighttpd": "lighttpd",
    "apache": "apache",
}
PAGES = {  # how the error pages begin, for servers that do not say their name
    "nginx": b"<center>nginx",
    "lighttpd": b'<?xml version="1.0" encoding="iso-8859-1"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0',
    "apache": b'<!DOCTYPE HTML PUBLIC "-//',
}
NODE_METHODS = {"GET", "HEAD", "PUT", "DELETE", "MKCOL", "OPTIONS"}
BETWEEN = ("Via", "X-Cache", "CF-Ray", "X-Varnish", "X-Served-By")  # what proxies and caches add
SKEW = 5.0  # seconds that clocks may differ: mail and logs can still be compared
EXPIRY = 21 * 86400.0  # seconds before a certificate's end that are a warning: most are renewed 30 days before
OLD_TLS = ("SSLv3", "TLSv1", "TLSv1.1")


def reachable(subject: Subject) -> list[Finding]:
    """It answers HTTP at once, is not moved elsewhere, and says what it is."""
    try:
        answer = subject.raw("GET", _nowhere(subject))
    except Trouble as trouble:
        if found := _other_scheme(subject):
            return found
        if trouble.cause == "tls":
            return [subject.found("tls", "unsafe", str(trouble))]
        return [subject.found("reachable", "unsafe", str(trouble), trouble.cause)]
    # A server with TLS may answer plain HTTP with 400, in place of hanging up.
    if answer.status == 400 and (found := _other_scheme(subject)):
        return found
    if 300 <= answer.status < 400:
        where = shown(answer.headers.get("Location", ""))
        seen = f"a name that is not there was answered with {answer.status}, to {where}"
        return [subject.found("reachable", "unsafe", seen, "redirect")]
    if not subject.answers():
        return [subject.found("reachable", "unsafe", "it answered once, and then no more", "lost")]
    subject.kind, subject.server = _identify(subject, answer)
    between = [name for name in BETWEEN if name in answer.headers]
    proxy = f", behind something that adds {', '.join(between)}" if between else ""
    said = f", which calls itself {subject.server}" if subject.server else ""
    return [Finding("reachable", "ok", f"{KINDS[subject.kind]}{said}{proxy}")]


def tls(subject: Subject) -> list[Finding]:
    """The certificate is for this host and does not end soon, and the protocol is not an old one."""
    if not subject.host.url.startswith("https:"):
        return [Finding("tls", "ok", "none: files travel in the clear, as is usual on a network of one's own")]
    found = subject.tls()
    if found.version in OLD_TLS:
        return [subject.found("tls", "warning", f"{found.version}, which is not safe any more", "version")]
    if found.expires is None:
        return [subject.found("tls", "unknown", f"{found.version}; the certificate does not say when it ends")]
    left = found.expires - time.time()
    seen = f"{found.version}; the certificate ends {time.strftime('%Y-%m-%d', time.gmtime(found.expires))}"
    return [subject.found("tls", "warning" if left < EXPIRY else "ok", f"{seen}, in {left / 86400:.0f} days")]


def clock(subject: Subject) -> list[Finding]:
    """Its clock is ours, as far as a Date header tells."""
    begun = time.time()
    answer = subject.raw("GET", _nowhere(subject))
    ended = time.time()
    stamp = parse_date(answer.headers.get("Date", ""))
    if stamp is None:
        return [subject.found("clock", "unknown", "it sends no Date")]
    # The header is cut to seconds, so that it is on the average half a second old.
    ahead = stamp + 0.5 - (begun + ended) / 2
    subject.facts["clock"] = ahead
    if abs(ahead) <= SKEW:
        return [Finding("clock", "ok", "as here, within a second or two" if abs(ahead) < 2 else f"{ahead:+.0f} s off")]
    side = "ahead" if ahead > 0 else "behind"
    return [subject.found("clock", "warning", f"{abs(ahead):,.0f} s {side} of this machine's")]


def absent(subject: Subject) -> list[Finding]:
    """A name that nobody stored is not there, for HEAD and for GET."""
    name = subject.name("absent")
    try:
        size = subject.head(name)
        there = size is not None or subject.get(name) is not None
    except Trouble as trouble:
        return [subject.found("absent", "unsafe", f"asked for a name that is not there, it {_did(trouble)}")]
    if there:
        subject.facts["answers anything"] = True
        return [subject.found("absent", "unsafe", "it answers 200 for a name that nobody stored")]
    return [Finding("absent", "ok", "404 for a name that is not there")]


def hidden(subject: Subject) -> list[Finding]:
    """Nobody reads ``.resto``, in which a master keeps what is not published."""
    if "answers anything" in subject.facts:
        return [subject.found("hidden", "unknown", "cannot be told: it answers 200 to everything")]
    for path in (".resto/", ".resto/outbox.sqlite3"):
        if subject.raw("GET", path, {"Range": "bytes=0-15"}, limit=1024).status in (200, 206):
            return [subject.found("hidden", "unsafe", f"{path} is served to everybody who asks")]
    return [Finding("hidden", "ok", ".resto is not served")]


def _other_scheme(subject: Subject) -> list[Finding]:
    scheme = other_scheme(subject.host, subject.timeout)
    if not scheme:
        return []
    seen = "it speaks TLS there, and its URL says http" if scheme == "https" else "it speaks HTTP there, without TLS"
    return [subject.found("reachable", "unsafe", seen, scheme)]


def _nowhere(subject: Subject) -> str:
    return f"{subject.folder}/nowhere"


def _did(trouble: Trouble) -> str:
    return str(trouble) if trouble.status is not None else f"did not answer: {trouble}"


def _identify(subject: Subject, answer: RawReply) -> tuple[str, str]:
    """Return the kind of server, and what it says of itself, quoted if it says anything."""
    server = answer.headers.get("Server", "")
    product = server.partition("/")[0].partition(" ")[0].strip().lower()
    label = shown(server, 40) if server else ""
    if product in PRODUCTS:
        return PRODUCTS[product], label
    for kind, mark in PAGES.items():
        if answer.status >= 400 and mark in answer.body[:1024]:
            return kind, label
    with contextlib.suppress(Trouble):  # lighttpd does not end its answer here
        allowed = subject.raw("OPTIONS", _nowhere(subject))
        methods = {each.strip() for each in allowed.headers.get("Allow", "").split(",")}
        if allowed.status == 204 and methods == NODE_METHODS:
            return "node", label
    return "unknown", label
