"""What the tests of trees of nodes share: requests, what each node holds, and what is owed."""

from __future__ import annotations

import contextlib
import http.client
import json
from email.message import Message
from pathlib import Path
from typing import Any

from servers import LOOPBACK, Node, Tree


def ask(node: Any, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Message, bytes]:
    """Send a request; an underscore in the name of a header is a hyphen."""
    connection = http.client.HTTPConnection(LOOPBACK, node.port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()


def ask_json(node: Any, path: str) -> Any:
    status, _, body = ask(node, "GET", path, Accept="application/json")
    assert status == 200, body
    return json.loads(body)


def report(node: Any, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, list[Any]]:
    status, _, answer = ask(node, method, path, body, Accept="application/json", **headers)
    return status, json.loads(answer)["nodes"]


def held(node: Node) -> dict[str, bytes]:
    """Every file of a node that is not hidden."""
    found = (path for path in Path(node.root).rglob("*") if path.is_file() and ".resto" not in path.parts)
    return {str(path.relative_to(node.root)): path.read_bytes() for path in found}


def owed(*nodes: Node) -> int:
    return sum(node.app.relay.replicator.status().owed for node in nodes if node.app.relay)


def settled(tree: Tree) -> bool:
    return not owed(*tree.nodes)
