"""A node's own pages: what the subtree owes, what there is, and commands that work when they are pasted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from node_requests import ask as ask_app

from resto_wsgi.media_server import Access, MediaServer
from resto_wsgi.media_server.pages.pages import html_page, json_page, table

OWN = ["/__missing__", "/__index__", "/__readme.txt"]


@pytest.mark.parametrize("path", OWN)
def test_the_pages_are_for_those_who_may_write(tmp_path: Path, path: str) -> None:
    """Else the names of all files would be everybody's; no file can have these names, nor lie below one."""
    app = MediaServer(tmp_path / "root", access=Access(["192.0.2.1"]))
    assert ask_app(app, "GET", path).status_code == 403
    assert ask_app(app, "GET", path, REMOTE_ADDR="192.0.2.1").status_code == 200
    for method in ("PUT", "DELETE", "MKCOL"):
        for below in ("", "/x"):
            body = b"" if method == "PUT" else None
            assert ask_app(app, method, path + below, body, REMOTE_ADDR="192.0.2.1").status_code in (400, 403)


def test_a_page_for_people_runs_nothing_and_is_kept_by_no_cache() -> None:
    """Its heads are text, its cells are HTML; a query of the next page is escaped."""
    answer = html_page("<Title>", [table(["<head>"], [("<b>cell</b>",)])], "after=a&b=c")
    headers = dict(answer.headers)
    assert headers["Content-Security-Policy"] == "default-src 'none'" and headers["Cache-Control"] == "no-store"
    text = b"".join(answer.body).decode()
    assert "<h1>&lt;Title&gt;</h1>" in text and "<th>&lt;head&gt;</th>" in text and "<td><b>cell</b></td>" in text
    assert '<a rel="next" href="?after=a&amp;b=c">' in text and headers["Link"] == '<?after=a&b=c>; rel="next"'


def test_a_page_for_a_program_is_json_with_a_link_to_the_next_one() -> None:
    """A name that is not UTF-8 has the octets that it has on the disk."""
    answer = json_page({"name": os.fsdecode(b"\xff")}, "after=x")
    assert b"".join(answer.body) == b'{"name": "\xff"}'
    headers = dict(answer.headers)
    assert (headers["Content-Type"], headers["Link"]) == ("application/json", '<?after=x>; rel="next"')
    assert "Link" not in dict(json_page({}).headers)
