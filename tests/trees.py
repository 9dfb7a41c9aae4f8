"""What the tests of trees of nodes share: requests, what each node holds, and what is owed."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator, Sequence
from email.message import Message
from pathlib import Path
from typing import Any

from servers import LOOPBACK, Node, Tree, free_port

from resto_wsgi.media_server.tree.catch_up import CatchUp, Progress


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


def put(node: Node, name: str, body: bytes, **headers: str) -> None:
    """Put a file that is taken."""
    assert ask(node, "PUT", f"/{name}", body, **headers)[0] in (200, 201, 202)


def catch_up(app: Any, url: str, **options: Any) -> Progress:
    """Bring the node of an application up to date from the one at ``url``, without a pause between tries."""
    return CatchUp(app.role, url, timeout=2, sleep=lambda seconds: None, **options).run()


def held(node: Any) -> dict[str, bytes]:
    """Every file that is not hidden of what has a ``root``: a node, or a store."""
    found = (path for path in Path(node.root).rglob("*") if path.is_file() and ".resto" not in path.parts)
    return {str(path.relative_to(node.root)): path.read_bytes() for path in found}


def owed(*nodes: Node) -> int:
    return sum(each.owed for node in nodes for each in node.app.role.status().values())


def settled(tree: Tree) -> bool:
    return not owed(*tree.nodes)


@contextlib.contextmanager
def linked(folder: Path, children: Sequence[Sequence[int]], **options: Any) -> Iterator[list[Node]]:
    """Start nodes of which ``children`` says, for each, the numbers of its children; stop all of them at the end."""
    ports: list[int] = []
    while len(ports) < len(children):
        ports += {free_port()}.difference(ports)
    urls = [f"http://{LOOPBACK}:{port}" for port in ports]
    nodes = [
        Node(folder / str(number), port, children=[urls[each] for each in children[number]], **options)
        for number, port in enumerate(ports)
    ]
    try:
        for node in nodes:
            node.start()
        yield nodes
    finally:
        for node in nodes:
            node.stop()


def passed_on(nodes: Sequence[Node]) -> list[tuple[int, str]]:
    """Return a list that gets the number and the method of each request that a node sends to one of these."""
    found: list[tuple[int, str]] = []

    def noting(number: int, app: Any) -> Any:
        def note(environ: Any, start_response: Any) -> Any:
            if "HTTP_RESTO_PASSED_ON" in environ:
                found.append((number, environ["REQUEST_METHOD"]))
            return app(environ, start_response)

        return note

    for number, node in enumerate(nodes):
        node._server.wsgi_app = noting(number, node.app)
    return found
