"""``/__missing__``: what each node of the subtree owes to its children, PUTs and DELETEs, for people and for programs.

As HTML the deliveries of this node, in pages, with a link to the same page of each child, so that a crawler comes
through the tree by itself. As JSON the same, and beside it the figures of every node below, which this node asks for:
``owed`` counts this node's, ``subtree`` those of all, a node that has one URL on several ways once. A child that does
not answer, or leads back, is named as such, and is never counted as owing nothing: then ``complete`` is false. Who
was a child and is still owed something is named beside the children. Nothing is changed here. ``node`` calls this.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from ...hosts import Host
from ...outbox.rows import Delivery
from ...outbox.status import HostStatus
from ..answers import Answer, Refused
from ..caller import wants_json
from ..files.own_names import MISSING
from ..files.store import Store
from ..paging import Page, page_of, query_of, query_text
from ..tree.role import Role
from .pages import html_page, json_page, table

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["missing_page"]

FORGET = "it is no child any more: `resto forget` with its URL, and MEDIA_ROOT set to the root of this node"


class _Owed(NamedTuple):
    """Deliveries of this node, each with the child that it is owed to; ``following`` is the query of the next page."""

    rows: list[tuple[Host, Delivery]]
    following: str | None


def missing_page(environ: WSGIEnvironment, role: Role) -> Answer:
    """Return the page that the query asks for: ``?child=URL&after=NAME&limit=NUMBER``, all optional."""
    query = query_of(environ)
    page = page_of(query)
    # Only children that there are: what is in the query is not asked for anything.
    children = [each for each in role.children if each.url == query.get("child", each.url)]
    if "child" in query and not children:
        raise Refused("404 Not Found", "no such child")
    owed = _owed(role, children, page)
    return _json(environ, role, owed) if wants_json(environ) else _html(role, owed)


def _owed(role: Role, children: list[Host], page: Page) -> _Owed:
    """Read one child after the other: a page is of one of them, or of the beginnings of several."""
    found: list[tuple[Host, Delivery]] = []
    following: str | None = None
    for child in children:
        room = page.limit - len(found)
        # One page costs as many rows as it shows, whatever the children are owed.
        rows = role.owing(child, page.after, room) if room else []
        found += [(child, row) for row in rows]
        if room and len(rows) == room:
            following = query_text(child=child.url, after=rows[-1].name, limit=page.limit)
    return _Owed(found, following if len(children) == 1 else None)


def _html(role: Role, owed: _Owed) -> Answer:
    if not role.children:
        return html_page("Missing", ["<p>This node has no children.</p>"])
    status = role.status()
    rows = []
    for child in role.children:
        own = status[child.url]
        there = f"{child.url}/{MISSING}"
        here = f'<a href="?{escape(query_text(child=child.url))}">{own.owed}</a>'
        link = f'<a href="{escape(there)}">{escape(there)}</a>'
        rows.append((escape(child.label), own.state, here, str(own.parked), escape(own.error), link))
    rows += [
        (escape(left.url), left.state, str(left.owed), str(left.parked), escape(FORGET), "")
        for left in _strays(role, status)
    ]
    deliveries = [
        (
            escape(child.label),
            _method(role.store, each.name),
            escape(each.name),
            escape(_time(each.since)),
            escape(each.reason),
        )
        for child, each in owed.rows
    ]
    children = table(["child", "state", "owed", "parked", "last error", "what it owes itself"], rows)
    owing = table(["child", "method", "name", "since", "why"], deliveries)
    return html_page("Missing", [children, owing], owed.following)


def _json(environ: WSGIEnvironment, role: Role, owed: _Owed) -> Answer:
    nodes = role.figures(environ)
    status = role.status()
    children = []
    for child in role.children:
        own = status[child.url]
        facts = {"url": child.url, "state": own.state, "owed": own.owed, "parked": own.parked, "error": own.error}
        children.append(facts)
    for left in _strays(role, status):
        facts = {"url": left.url, "state": left.state, "owed": left.owed, "parked": left.parked, "error": FORGET}
        children.append(facts)
    count = sum(each.owed for each in status.values())
    deliveries = [
        {"child": child.url, "name": each.name, "method": _method(role.store, each.name), "since": each.since}
        | ({"why": each.reason} if each.reason else {})
        for child, each in owed.rows
    ]
    told: dict[str, Any] = {
        "owed": count,
        "subtree": count + sum(each.get("owed", 0) for each in nodes),
        # Who does not answer may owe anything.
        "complete": not any("error" in each for each in nodes),
        "children": children,
        "nodes": nodes,
        "deliveries": deliveries,
        "next": owed.following,
    }
    return json_page(told, owed.following)


def _strays(role: Role, status: Mapping[str, HostStatus]) -> list[HostStatus]:
    """Return those that were children, and are still owed something: it counts, and so they are named."""
    children = {child.url for child in role.children}
    return [each for url, each in status.items() if url not in children]


def _method(store: Store, name: str) -> str:
    """Say what would be sent now: what is owed is that the child matches, and never one request or another."""
    return "DELETE" if store.state(name) is None else "PUT"


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
