"""Pages of what is too long for one answer: ``?after=NAME&limit=NUMBER``, and a link to the next one (RFC 8288).

A page begins after a name, not at a number, so that none is left out or twice if others come and go meanwhile. The
listing of a folder and the node's own pages use this.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, quote, urlencode

from .answers import Header, Refused

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["Page", "next_page", "page_of", "query_of", "query_text"]

ENTRIES_MAX = 10_000  # of a page: about 1 MB of JSON
ENTRIES_DEFAULT = 1000  # of a page, if nobody asks for a number
FIELDS_MAX = 8  # of a query: ours have three

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


class Page(NamedTuple):
    """The entries after a name, "" for the first ones, and how many."""

    after: str
    limit: int


def query_of(environ: WSGIEnvironment, errors: str = "strict") -> dict[str, str]:
    """Return the query, of several values of one key the last. Refuses what is none.

    ``errors`` says what becomes of octets that are not UTF-8, as for ``bytes.decode``.
    """
    try:
        found = parse_qs(environ.get("QUERY_STRING", ""), max_num_fields=FIELDS_MAX, errors=errors)
    except ValueError:
        raise Refused("400 Bad Request", "the query cannot be read") from None
    return {key: values[-1] for key, values in found.items()}


def page_of(query: dict[str, str]) -> Page:
    """Return the page that a query asks for; both of its values are optional. Refuses a number that is none."""
    limit = query.get("limit", str(ENTRIES_DEFAULT))
    if not _NUMBER.fullmatch(limit):
        raise Refused("400 Bad Request", f"wanted ?after=NAME&limit=NUMBER, with 1 to {ENTRIES_MAX}")
    return Page(query.get("after", ""), min(int(limit), ENTRIES_MAX))


def query_text(**values: object) -> str:
    """Return a query with these values; a name that is not UTF-8 keeps its octets."""
    return urlencode(values, quote_via=quote, errors="surrogateescape")


def next_page(query: str | None) -> list[Header]:
    """Return the header that says which query has the next page, none if there is no such page."""
    return [] if query is None else [("Link", f'<?{query}>; rel="next"')]
