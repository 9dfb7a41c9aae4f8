"""What the nodes below owe: the figures that each child tells of itself and of its own subtree, as JSON.

A child that does not answer, leads back, or says what cannot be understood has an error in the place of its figures,
so that nobody takes it for one that owes nothing. What a child says is bounded. ``relay`` calls this for the page
``missing``, whose JSON this reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

from ...errors import DeliveryError, shown
from ...hosts import Host
from ..answers import JSON
from ..files.own_names import MISSING
from .hops import FIELD
from .node_transport import NODE, NodeTransport

__all__ = ["figures_below"]

AT_ONCE = 16  # children asked at the same time
ANSWER_BYTES_MAX = 4 * 1024 * 1024  # of a child's JSON: NODES_MAX with room to spare
NODES_MAX = 5000  # nodes of a child's subtree that are taken
URL_CHARACTERS_MAX = 300
ERROR_CHARACTERS_MAX = 200


def figures_below(
    transport: NodeTransport, children: Sequence[Host], paused: Mapping[Host, str], hops: str
) -> list[dict[str, Any]]:
    """Return ``url`` and ``owed``, or ``error``, of each node below; if several ways lead to one, the error.

    ``paused`` are the children that are not to be asked, and why; ``hops`` is the header of what is passed on.
    """

    def ask(child: Host) -> list[dict[str, Any]]:
        told = [{"error": paused[child]}] if child in paused else _ask(transport, child, hops)
        return [{"url": child.url, **each} for each in told]

    rows: dict[str, dict[str, Any]] = {}
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for row in chain.from_iterable(threads.map(ask, children)):
            if row["url"] not in rows or "error" in row:
                rows[row["url"]] = row
    return [*rows.values()]


def _ask(transport: NodeTransport, child: Host, hops: str) -> list[dict[str, Any]]:
    """Return the figures of a child, first its own, and of the nodes below it; an error stands for all of them."""
    fields = {"User-Agent": NODE, "Accept": JSON, "Accept-Encoding": "identity", FIELD: hops}
    try:
        with transport.read(child, "GET", f"/{MISSING}?limit=1", fields) as reading:
            if reading.status == 404:
                return [{"owed": 0}]  # a stock server, which has no children
            if reading.status != 200:
                raise reading.refused()
            return _figures(json.loads(reading.text(ANSWER_BYTES_MAX)))
    except DeliveryError as error:
        return [{"error": error.reason}]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return [{"error": "its answer cannot be understood"}]


def _figures(told: dict[str, Any]) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = [{"owed": _count(told["owed"])}]
    for each in told["nodes"][:NODES_MAX]:
        node = {"url": shown(each["url"], URL_CHARACTERS_MAX)[1:-1]}
        if "error" in each:
            figures.append({**node, "error": shown(each["error"], ERROR_CHARACTERS_MAX)[1:-1]})
        else:
            figures.append({**node, "owed": _count(each["owed"])})
    return figures


def _count(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 53:
        raise ValueError("no number")
    return value
