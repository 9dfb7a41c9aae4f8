"""Nodes to which several ways lead: each other's children, and children of two parents. Each is asked once."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import LOOPBACK, Node, free_port
from test_relay import ask, ask_json

from resto_wsgi.media_server import asked
from resto_wsgi.media_server.hops import Hops

CAT = b"a cat" * 1000
COUNT = 6
EDGES = COUNT * (COUNT - 1)


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


def mutual(count: int) -> list[list[int]]:
    return [[each for each in range(count) if each != number] for number in range(count)]


def ladder(levels: int) -> list[list[int]]:
    """A root, and below it level after level of two nodes, both of which are children of both above: 2**levels ways."""
    pairs = [[2 * level + 1, 2 * level + 2] for level in range(levels)]
    return [pairs[0], *(below for below in [*pairs[1:], []] for _ in range(2))]


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Web]:
    """Six nodes, all of them each other's children."""
    with web(tmp_path, mutual(COUNT), timeout=10.0) as started:
        yield started


# Reading


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_name_that_is_nowhere_is_asked_for_once_from_each(mesh: Web, method: str) -> None:
    """At first once on each way from one to another, by which they get to know each other; then once from each."""
    status, cost = mesh.cost(lambda: ask(mesh.nodes[0], method, "/none")[0])
    assert status == 404 and cost <= EDGES
    for number in range(COUNT):
        found, cost = mesh.cost(lambda number=number: ask(mesh.nodes[number], method, "/none"))
        assert (found[0], cost) == (404, COUNT - 1)
        assert found[1][asked.FIELD] is None, "a client gets to know nothing of the nodes"


def test_a_file_that_one_node_has_is_found_from_every_other(mesh: Web) -> None:
    """Whoever is asked, and whoever was asked before; a range as well."""
    for holder, node in enumerate(mesh.nodes):
        Path(node.root, f"cat{holder}").write_bytes(CAT)
    for node in mesh.nodes:
        for holder in range(COUNT):
            (status, _, body), cost = mesh.cost(lambda node=node, holder=holder: ask(node, "GET", f"/cat{holder}"))
            assert (status, body) == (200, CAT) and cost <= EDGES
            assert ask(node, "GET", f"/cat{holder}", Range="bytes=5-9")[2] == CAT[5:10]


def test_nodes_that_are_away_make_a_search_no_longer(mesh: Web) -> None:
    """504, for one of them may have it; and what another has is found."""
    for number in (2, 4):
        mesh.nodes[number].stop()
    Path(mesh.nodes[5].root, "cat").write_bytes(CAT)
    for number in (0, 1, 3):
        (status, _, _), cost = mesh.cost(lambda number=number: ask(mesh.nodes[number], "GET", "/none"))
        assert status == 504 and cost <= EDGES
        assert ask(mesh.nodes[number], "GET", "/cat")[2] == CAT


def test_levels_of_two_parents_each_are_searched_once(tmp_path: Path) -> None:
    """64 ways lead to each of the last two of six levels; those two, the leaves, are asked by each parent."""
    children = ladder(6)
    with web(tmp_path, children) as found:
        for most in (sum(map(len, children)), len(children) + 1):
            status, cost = found.cost(lambda: ask(found.nodes[0], "GET", "/none")[0])
            assert status == 404 and cost <= most
        Path(found.nodes[-1].root, "cat").write_bytes(CAT)
        assert ask(found.nodes[0], "GET", "/cat")[2] == CAT


def test_what_a_stranger_names_is_not_asked_for_his_own_answer_alone(mesh: Web) -> None:
    """It costs no more than without, is kept by no cache, and the next one gets the file."""
    Path(mesh.nodes[1].root, "cat").write_bytes(CAT)
    ask(mesh.nodes[0], "GET", "/none")
    everybody = ",".join(mesh.id_of(number) for number in range(1, COUNT))
    others = ",".join(f"{number:012x}" for number in range(asked.MOST))
    for headers, expected in [
        ({"Resto_Asked": everybody}, 404),
        ({"Resto_Passed_On": f"{everybody};"}, 404),
        ({"Resto_Asked": others}, 504),
        ({"Resto_Asked": mesh.id_of(0)}, 508),
    ]:
        (status, told, _), cost = mesh.cost(lambda headers=headers: ask(mesh.nodes[0], "GET", "/cat", **headers))
        assert (status, told["Cache-Control"]) == (expected, "no-store") and cost < COUNT, headers
        assert ask(mesh.nodes[0], "GET", "/cat")[2] == CAT
    status, told, _ = ask(mesh.nodes[0], "GET", "/none", Resto_Passed_On="+" * 15)
    assert (status, told["Cache-Control"]) == (404, "no-store")
    for value in ("x", f"{others},{'f' * 12}", everybody.upper() + ",", "0" * 13):
        assert ask(mesh.nodes[0], "GET", "/cat", Resto_Asked=value)[0] == 400


@pytest.mark.parametrize("value", ["x", ",".join(["0" * 12] * 300), "0" * 60_000])
def test_what_a_child_names_counts_for_nothing_where_it_cannot_be_read(tmp_path: Path, faulty: Any, value: str) -> None:
    """The others are asked."""
    child = faulty(("status", 404, {asked.FIELD: value, "Content-Length": "0"}, b"")).url
    with Node(tmp_path / "child") as other, Node(tmp_path / "root", children=[child, other.url]) as node:
        ask(other, "PUT", "/cat", CAT)
        for _ in range(2):
            assert ask(node, "GET", "/cat")[2] == CAT


def test_a_search_ends_with_as_many_nodes_as_it_can_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows then whether the file is there; it does not go on without names, on all ways there are."""
    monkeypatch.setattr(asked, "MOST", 3)
    with web(tmp_path, mutual(COUNT)) as found:
        for _ in range(2):
            (status, _, _), cost = found.cost(lambda: ask(found.nodes[0], "GET", "/none"))
            assert status == 504 and cost <= EDGES


# The pages


def test_the_figures_of_a_mesh_have_each_node_once(mesh: Web) -> None:
    """Also when nobody knows anybody."""
    urls = {node.url for node in mesh.nodes}
    for most in (EDGES, COUNT - 1):
        page, cost = mesh.cost(lambda: ask_json(mesh.nodes[0], "/__missing__"))
        assert {each["url"] for each in page["nodes"]} == urls - {mesh.nodes[0].url} and len(page["nodes"]) == COUNT - 1
        assert page["complete"] and cost <= most


def test_the_figures_of_levels_of_two_parents_have_each_node_once(tmp_path: Path) -> None:
    """Inner nodes and leaves."""
    children = ladder(5)
    with web(tmp_path, children) as found:
        for _ in range(2):
            page, cost = found.cost(lambda: ask_json(found.nodes[0], "/__missing__"))
            assert sorted(each["url"] for each in page["nodes"]) == sorted(node.url for node in found.nodes[1:])
            assert page["complete"] and cost <= sum(map(len, children))


def test_a_child_that_refuses_for_the_length_of_the_way_is_not_complete(tmp_path: Path) -> None:
    """It has not been counted elsewhere."""
    with web(tmp_path, [[1], [2], []]) as chain:
        _, _, body = ask(chain.nodes[0], "GET", "/__missing__", Accept="application/json", Resto_Passed_On="+" * 15)
        page = json.loads(body)
        assert not page["complete"] and "error" in page["nodes"][0]
