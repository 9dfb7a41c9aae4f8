"""Pages of what is too long for one answer: which part is asked for, and where the next one is."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from node_requests import ask

from resto_wsgi.media_server import MediaServer
from resto_wsgi.media_server.answers import Refused
from resto_wsgi.media_server.paging import ENTRIES_DEFAULT, ENTRIES_MAX, next_page, page_of, query_of, query_text


def test_a_listing_comes_in_pages(app: MediaServer, root: Path) -> None:
    """Sorted by name; each page has a link to the next, until there is none (RFC 8288)."""
    expected = sorted(["a b&c.txt", "\u00e9.txt", *(f"n{each:03}" for each in range(10))])
    for name in expected:
        (root / name).touch()
    found, query = [], "limit=5"
    for _ in range(4):
        reply = ask(app, "GET", "/", QUERY_STRING=query)
        page = [each["name"] for each in json.loads(reply.body)]
        assert len(page) <= 5
        found += page
        link = re.fullmatch(r'<\?(.*)>; rel="next"', reply.headers.get("Link", ""))
        if link is None:
            break
        query = link[1]
    assert found == expected


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=-1", "limit=" + "9" * 5000, "&".join(["a=b"] * 99)])
def test_a_page_that_is_none_is_refused(app: MediaServer, query: str) -> None:
    """400, whatever the query is."""
    assert ask(app, "GET", "/", QUERY_STRING=query).status_code == 400


def test_a_query_has_a_page_in_it() -> None:
    """Both values are optional, of several the last counts, and there is a most."""
    for query, page in [
        ("", ("", ENTRIES_DEFAULT)),
        ("after=a%2Fb&limit=3", ("a/b", 3)),
        ("limit=2&limit=5", ("", 5)),
        ("limit=999999999", ("", ENTRIES_MAX)),
    ]:
        assert page_of(query_of({"QUERY_STRING": query})) == page


@pytest.mark.parametrize("query", ["limit=0", "limit=+1", "limit=1e9", "limit=9999999999", "after=%ff"])
def test_what_is_no_page_of_names_is_refused(query: str) -> None:
    """Octets that are not UTF-8 too, for no name has them."""
    with pytest.raises(Refused) as caught:
        page_of(query_of({"QUERY_STRING": query}))
    assert caught.value.status == "400 Bad Request"


def test_the_link_to_the_next_page_keeps_a_name_that_is_not_utf_8() -> None:
    """A folder on the disk may have such names, and a listing goes on after them."""
    query = query_text(after=os.fsdecode(b"a\xff&"), limit=3)
    assert next_page(query) == [("Link", '<?after=a%FF%26&limit=3>; rel="next"')] and next_page(None) == []
    assert page_of(query_of({"QUERY_STRING": query}, "surrogateescape")) == (os.fsdecode(b"a\xff&"), 3)
