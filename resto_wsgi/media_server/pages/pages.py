"""What this server's own pages share: how they are written. They are for those who may write.

A page is HTML for people and crawlers, or JSON for a program, which says so with Accept. Everything that came from a
client, a child or the disk is escaped. The pages' names are in ``own_names``; ``index``, ``missing`` and ``readme`` are
called by ``node``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from ..answers import JSON, UNKEPT, Answer, Header, whole_answer
from ..paging import next_page

__all__ = ["html_page", "json_page", "table"]


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
    return whole_answer("200 OK", kind, body, [*headers, *next_page(following)])
