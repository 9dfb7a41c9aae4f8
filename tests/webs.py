"""Nodes to which several ways lead, for the tests of trees."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from servers import LOOPBACK, Node, free_port

from resto_wsgi.media_server.tree.hops import Hops


class Web:
    """Nodes of which ``children`` says, for each, the numbers of its children; counts what they ask one another."""

    def __init__(self, folder: Path, children: Iterable[Iterable[int]], **options: Any) -> None:
        wanted = [list(each) for each in children]
        ports: list[int] = []
        while len(ports) < len(wanted):
            ports += {free_port()}.difference(ports)
        urls = [f"http://{LOOPBACK}:{port}" for port in ports]
        self.nodes = [
            Node(folder / str(number), port, children=[urls[each] for each in wanted[number]], **options)
            for number, port in enumerate(ports)
        ]
        self.requests: list[tuple[int, str]] = []

    def start(self, number: int) -> Node:
        node = self.nodes[number]
        node.start()
        app = node.app

        def counting(environ: Any, start_response: Any) -> Any:
            if "HTTP_RESTO_PASSED_ON" in environ:
                self.requests.append((number, environ["REQUEST_METHOD"]))
            return app(environ, start_response)

        node._server.wsgi_app = counting
        return node

    def cost(self, work: Callable[[], Any]) -> tuple[Any, int]:
        """Return what ``work`` returns, and how many requests went from node to node for it."""
        before = len(self.requests)
        return work(), len(self.requests) - before

    def id_of(self, number: int) -> str:
        return str(Hops.own(self.nodes[number].app.relay.identity))


@contextlib.contextmanager
def web(folder: Path, children: Iterable[Iterable[int]], **options: Any) -> Iterator[Web]:
    started = Web(folder, children, **options)
    try:
        for number in range(len(started.nodes)):
            started.start(number)
        yield started
    finally:
        for node in started.nodes:
            node.stop()
