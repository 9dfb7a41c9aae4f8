"""Whose requests the demo's page takes: those of its own pages, and of programs on this machine.

Each page that the person at this machine opens can send a form here, and its author can have his name lead here (DNS
rebinding). So the name that the page is called by has to be one that no stranger can have, and what is no reading must
not come from another page. Judged by the head alone, before the middleware reads a body. ``run`` calls this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..trust.networks import host_of, is_own_name

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["refusal"]

READING = frozenset({"GET", "HEAD"})
OWN_SITES = frozenset({"same-origin", "none"})  # Fetch Metadata: a page of this very server, or the person himself


def refusal(environ: WSGIEnvironment) -> str | None:
    """Return why the request is not taken, as a sentence; None if it is."""
    authority = environ.get("HTTP_HOST", "")
    if authority and not is_own_name(host_of(authority)):
        return "The demo does not know the name in the Host header; open it by the address that it has printed."
    if environ["REQUEST_METHOD"] in READING:
        return None
    origin, site = environ.get("HTTP_ORIGIN"), environ.get("HTTP_SEC_FETCH_SITE", "none")
    own = f"{environ.get('wsgi.url_scheme', 'http')}://{authority}"
    if site not in OWN_SITES or (origin is not None and origin.lower() != own.lower()):
        return "The demo takes no files from pages of other sites."
    return None
