"""This server's own pages, for those who may write: what they share. Their names are in ``own_names``.

A page is HTML for people and crawlers, or JSON for a program, which says so with Accept. Everything that came from a
client, a child or the disk is escaped. ``node`` hands a GET over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from ..answers import JSON, UNKEPT, Answer, Header, Refused, whole_answer

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["html_page", "json_page", "query_of", "table", "wanted_page"]

MAX_LIMIT = 10_000  # entries of a page
LIMIT = 1000  # where nobody asks for a number

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


def query_of(environ: WSGIEnvironment) -> dict[str, str]:
    """Return the query, of several values of one key the last. Refuses what is none."""
    try:
        found = parse_qs(environ.get("QUERY_STRING", ""), max_num_fields=8, errors="strict")
    except ValueError:
        raise Refused("400 Bad Request", "the query cannot be read") from None
    return {key: values[-1] for key, values in found.items()}


def wanted_page(query: dict[str, str]) -> tuple[str, int]:
    """Return after which name a page begins, and how many entries it has: ``?after=NAME&limit=NUMBER``."""
    limit = query.get("limit", str(LIMIT))
    if not _NUMBER.fullmatch(limit):
        raise Refused("400 Bad Request", f"wanted ?after=NAME&limit=NUMBER, with 1 to {MAX_LIMIT}")
    return query.get("after", ""), min(int(limit), MAX_LIMIT)


def json_page(value: Any, following: str | None = None) -> Answer:
    """Return a page for a program; ``following`` is the query of the next one."""
    return _page(json.dumps(value, ensure_ascii=False), JSON, following)


def html_page(title: str, parts: Iterable[str], following: str | None = None) -> Answer:
    """Return a page for people, of ``parts`` that are HTML."""
    more = [] if following is None else [f'<p><a rel="next" href="?{escape(following)}">more</a></p>']
    body = "\n".join([*parts, *more])
    text = f"<!DOCTYPE html>\n<html><head><title>{escape(title)}</title></head>\n<body>\n<h1>{escape(title)}</h1>\n"
    return _page(f"{text}{body}\n</body></html>\n", "text/html; charset=utf-8", following)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; ``heads`` are text, the cells of ``rows`` HTML."""
    lines = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>\n<tr>{''.join(f'<th>{escape(each)}</th>' for each in heads)}</tr>\n{lines}\n</table>"


def _page(text: str, kind: str, following: str | None) -> Answer:
    body = text.encode(errors="surrogateescape")
    headers: list[Header] = [UNKEPT, ("X-Content-Type-Options", "nosniff")]
    headers.append(("Content-Security-Policy", "default-src 'none'"))
    if following is not None:
        headers.append(("Link", f'<?{following}>; rel="next"'))
    return whole_answer("200 OK", kind, body, headers)
