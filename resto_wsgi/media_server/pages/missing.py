"""``/__missing__``: what each node of the subtree owes to its children, PUTs and DELETEs, for people and for programs.

As HTML the deliveries of this node, in pages, with a link to the same page of each child, so that a crawler comes
through the tree by itself. As JSON the same, and beside it the figures of every node below, which this node asks for:
``owed`` counts this node's, ``subtree`` those of all, a node that has one URL on several ways once. A child that does
not answer, or leads back, is named as such, and is never counted as owing nothing: then ``complete`` is false. Nothing
is changed here, and what a child says is bounded.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import quote as percent_encode
from urllib.parse import urlencode

from ...errors import DeliveryError, shown
from ...hosts import Host
from ...outbox.rows import Delivery
from ...outbox.status import HostStatus
from ...replication import breaker
from ..answers import Answer, Refused
from ..files.own_names import MISSING
from ..files.store import Store
from ..tree.below import NODE
from ..tree.hops import FIELD, Hops
from ..tree.relay import Relay, wants_json
from ..tree.report import JSON
from .pages import html_page, json_page, query_of, table, wanted_page

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["missing_page"]

AT_ONCE = 16  # children asked at the same time
MAX_ANSWER = 4 * 1024 * 1024  # bytes of a child's JSON
MAX_NODES = 5000  # nodes of a child's subtree that are taken


def missing_page(environ: WSGIEnvironment, store: Store, relay: Relay | None) -> Answer:
    """Return the page that the query asks for: ``?child=URL&after=NAME&limit=NUMBER``, all optional."""
    query = query_of(environ)
    after, limit = wanted_page(query)
    if relay is None:
        empty: dict[str, Any] = {"owed": 0, "subtree": 0, "complete": True, "children": [], "nodes": []}
        page = html_page("Missing", ["<p>This node has no children.</p>"])
        return json_page({**empty, "deliveries": [], "next": None}) if wants_json(environ) else page
    hops = Hops.of_request(environ)
    hops.judge(relay.identity)
    hosts = [each for each in relay.children if each.url == query.get("child", each.url)]
    if not hosts:
        raise Refused("404 Not Found", "no such child")
    found: list[tuple[Host, Delivery]] = []
    following: str | None = None
    for host in hosts:  # one child after the other: a page is of one of them, or of the beginnings of several
        room = limit - len(found)
        rows = relay.outbox.owing(host, after, room) if room else []
        found += [(host, row) for row in rows]
        if room and len(rows) == room:
            following = _query(child=host.url, after=rows[-1].name, limit=limit)
    own = {each.url: each for each in relay.replicator.status().hosts}
    if wants_json(environ):
        return _json(relay, store, hops, own, found, following if len(hosts) == 1 else None)
    return _html(relay, store, own, found, following if len(hosts) == 1 else None)


def _html(
    relay: Relay,
    store: Store,
    own: dict[str, HostStatus],
    found: Sequence[tuple[Host, Delivery]],
    following: str | None,
) -> Answer:
    rows = []
    for child in relay.children:
        state = own[child.url]
        page = f"{child.url}/{MISSING}"
        here = f'<a href="?{escape(_query(child=child.url))}">{state.owed}</a>'
        link = f'<a href="{escape(page)}">{escape(page)}</a>'
        rows.append((escape(child.label), state.state, here, str(state.parked), escape(state.error), link))
    owed = [
        (
            escape(host.label),
            _method(store, each.name),
            escape(each.name),
            escape(_time(each.since)),
            escape(each.reason),
        )
        for host, each in found
    ]
    children = table(["child", "state", "owed", "parked", "last error", "what it owes itself"], rows)
    return html_page("Missing", [children, table(["child", "method", "name", "since", "why"], owed)], following)


def _json(
    relay: Relay,
    store: Store,
    hops: Hops,
    own: dict[str, HostStatus],
    found: Sequence[tuple[Host, Delivery]],
    following: str | None,
) -> Answer:
    nodes = _below(relay, hops)
    children = []
    for child in relay.children:
        state = own[child.url]
        own_facts = {"url": child.url, "state": state.state, "owed": state.owed, "parked": state.parked}
        children.append({**own_facts, "error": state.error})
    owed = sum(each.owed for each in own.values())
    deliveries = [
        {"child": host.url, "name": each.name, "method": _method(store, each.name), "since": each.since}
        | ({"why": each.reason} if each.reason else {})
        for host, each in found
    ]
    facts: dict[str, Any] = {"owed": owed, "subtree": owed + sum(each.get("owed", 0) for each in nodes)}
    facts |= {"complete": not any("error" in each for each in nodes), "children": children, "nodes": nodes}
    return json_page({**facts, "deliveries": deliveries, "next": following}, following)


def _below(relay: Relay, hops: Hops) -> list[dict[str, Any]]:
    """Return the figures of all nodes below, one of each; of an answer and an error of one node, the error."""
    now, states = relay.clock(), relay.outbox.host_states()

    def ask(child: Host) -> list[dict[str, Any]]:
        state = states.get(child)
        if state is not None and breaker.is_paused(state, now):  # the nodes above do not wait for long
            return [{"url": child.url, "error": state.reason}]
        return [{"url": child.url, **each} for each in _ask(relay, child, hops)]

    rows: dict[str, dict[str, Any]] = {}
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for row in chain.from_iterable(threads.map(ask, relay.children)):
            if row["url"] not in rows or "error" in row:
                rows[row["url"]] = row
    return [*rows.values()]


def _ask(relay: Relay, child: Host, hops: Hops) -> list[dict[str, Any]]:
    """Return the figures of a child, first its own, and of the nodes below it; an error stands for all of them."""
    fields = {"User-Agent": NODE, "Accept": JSON, "Accept-Encoding": "identity", FIELD: hops.through(relay.identity)}
    try:
        with relay.transport.read(child, "GET", f"/{MISSING}?limit=1", fields) as reading:
            if reading.status == 404:
                return [{"owed": 0}]  # a stock server, which has no children
            if reading.status != 200:
                raise reading.refused()
            return _figures(json.loads(reading.text(MAX_ANSWER)))
    except DeliveryError as error:
        return [{"error": error.reason}]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return [{"error": "its answer cannot be understood"}]


def _figures(told: dict[str, Any]) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = [{"owed": _count(told["owed"])}]
    for each in told["nodes"][:MAX_NODES]:
        node = {"url": shown(each["url"], 300)[1:-1]}
        says = {"error": shown(each["error"], 200)[1:-1]} if "error" in each else {"owed": _count(each["owed"])}
        figures.append(node | says)
    return figures


def _count(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 53:
        raise ValueError("no number")
    return value


def _method(store: Store, name: str) -> str:
    """Say what would be sent now: what is owed is that the child matches, and never one request or another."""
    return "DELETE" if store.status(name) is None else "PUT"


def _query(**values: object) -> str:
    return urlencode(values, quote_via=percent_encode)


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
