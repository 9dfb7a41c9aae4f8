"""Nodes to which several ways lead: each other's children, and children of two parents. Each is asked once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Node, eventually
from trees import ask, ask_json, held, owed, report
from webs import Web, web

from resto_wsgi.fields.digests import format_digest
from resto_wsgi.media_server.tree import asked, repeats
from resto_wsgi.media_server.tree.hops import Hops

CAT = b"a cat" * 1000
LARGE = os.urandom(6 << 20)
COUNT = 6
EDGES = COUNT * (COUNT - 1)


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


def test_what_is_not_on_this_very_node_is_kept_by_no_cache(mesh: Web) -> None:
    """The library asks for that; a stranger who says that he is the library hides no file from others."""
    Path(mesh.nodes[1].root, "cat").write_bytes(CAT)
    status, told, _ = ask(mesh.nodes[0], "GET", "/cat", User_Agent="resto_wsgi")
    assert (status, told["Cache-Control"]) == (404, "no-store")
    assert ask(mesh.nodes[0], "GET", "/cat")[2] == CAT


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


# Writing


def test_a_change_costs_a_request_for_each_way_and_is_done(mesh: Web) -> None:
    """Each node has it, passed it on once, has one line, and owes nothing; a large one may be begun in vain."""
    for name, content in {"cat": CAT, "empty": b"", "large": LARGE}.items():
        (status, lines), cost = mesh.cost(lambda name=name, content=content: report(
            mesh.nodes[1], "PUT", f"/{name}", content
        ))  # fmt: skip
        assert (status, [each["state"] for each in lines]) == (201, ["stored"] * COUNT)
        assert COUNT - 1 <= cost <= EDGES * (4 if name == "large" else 1)
        assert all(held(node)[name] == content for node in mesh.nodes) and not owed(*mesh.nodes)
    for name in ("cat", "empty", "large"):
        (status, lines), cost = mesh.cost(lambda name=name: report(mesh.nodes[2], "DELETE", f"/{name}"))
        assert (status, [each["state"] for each in lines]) == (200, ["deleted"] * COUNT) and cost <= EDGES
    assert [held(node) for node in mesh.nodes] == [{}] * COUNT and not owed(*mesh.nodes)


def test_what_is_delivered_later_ends(mesh: Web) -> None:
    """Nobody waits for it, and nothing goes round: a request for each way, and nothing is owed."""
    before = len(mesh.requests)
    assert ask(mesh.nodes[0], "PUT", "/cat?wait=local", CAT)[0] == 202
    eventually(lambda: all(held(node) == {"cat": CAT} for node in mesh.nodes) and not owed(*mesh.nodes), 30)
    assert len(mesh.requests) - before <= 2 * EDGES


def test_a_node_that_was_away_gets_what_it_missed_and_nothing_stays_owed(mesh: Web) -> None:
    """All the others owe it the same; it takes it once, and they are told that it has it."""
    ask(mesh.nodes[0], "PUT", "/old", CAT)
    mesh.nodes[3].stop()
    assert ask(mesh.nodes[0], "PUT", "/cat", CAT)[0] == 202
    assert ask(mesh.nodes[0], "DELETE", "/old")[0] == 202
    before = len(mesh.requests)
    mesh.start(3)
    eventually(lambda: not owed(*mesh.nodes), 60)
    assert [held(node) for node in mesh.nodes] == [{"cat": CAT}] * COUNT
    assert len(mesh.requests) - before <= 4 * EDGES


@pytest.mark.parametrize("content", [CAT, LARGE])
def test_a_child_of_two_parents_gets_a_file_once_or_twice(tmp_path: Path, content: bytes) -> None:
    """One line for each node, and nothing owed; a new version, and a delete, come the same way."""
    with web(tmp_path, [[1, 2], [3], [3], []]) as diamond:
        for version in (content, content[::-1]):
            status, lines = report(diamond.nodes[0], "PUT", "/cat", version)
            assert status in (200, 201) and [each["state"] for each in lines] == ["stored"] * 4
            assert [held(node) for node in diamond.nodes] == [{"cat": version}] * 4
        assert diamond.requests.count((3, "PUT")) <= 6
        assert ask(diamond.nodes[0], "DELETE", "/cat")[0] == 200
        assert [held(node) for node in diamond.nodes] == [{}] * 4 and not owed(*diamond.nodes)


def test_what_one_of_two_took_while_the_other_was_away_reaches_it(tmp_path: Path) -> None:
    """What came from the other says nothing of a name that a client put here."""
    with web(tmp_path, mutual(2)) as pair:
        assert ask(pair.nodes[0], "PUT", "/dog", b"dog")[0] == 201
        pair.nodes[0].stop()
        assert ask(pair.nodes[1], "PUT", "/cat", CAT)[0] == 202
        pair.start(0)
        eventually(lambda: not owed(*pair.nodes), 30)
        assert [held(node) for node in pair.nodes] == [{"dog": b"dog", "cat": CAT}] * 2


def as_a_node(node: Node, method: str, path: str, body: bytes | None, through: str, **headers: str) -> int:
    said = {"User_Agent": "resto_wsgi", "Resto_Wait": "1.000", "Resto_Passed_On": f"{through};+"}
    return ask(node, method, path, body, **said, **headers)[0]


def test_an_old_version_does_not_come_back_to_where_it_came_from(tmp_path: Path) -> None:
    """508, and what is here stays, whether it is a file or none; the very version that is here is taken for done."""
    with web(tmp_path, mutual(2)) as pair:
        node = pair.nodes[0]
        ask(node, "PUT", "/cat", b"new")
        mtime = os.stat(Path(node.root, "cat")).st_mtime_ns
        for body, moment, status in [(b"old", mtime - 1, 508), (b"odd", mtime, 508), (b"new", mtime, 200)]:
            assert as_a_node(node, "PUT", "/cat", body, pair.id_of(0), Resto_Mtime=str(moment)) == status
        assert as_a_node(node, "DELETE", "/cat", None, pair.id_of(0)) == 508
        assert [held(each) for each in pair.nodes] == [{"cat": b"new"}] * 2
        ask(node, "DELETE", "/cat")
        assert as_a_node(node, "PUT", "/cat", b"new", pair.id_of(0), Resto_Mtime=str(mtime)) == 508
        assert as_a_node(node, "DELETE", "/cat", None, pair.id_of(0)) == 404
        assert [held(each) for each in pair.nodes] == [{}] * 2 and not owed(*pair.nodes)


def test_what_was_refused_where_something_newer_was_is_passed_on_again(tmp_path: Path) -> None:
    """The same change comes once more when that has gone, and nothing stays owed until a parked delivery is due."""
    with web(tmp_path, mutual(2)) as pair:
        above, below = pair.nodes
        mtime = {"Resto_Mtime": "1700000000000000000"}
        for name in ("cat", "dog"):
            ask(above, "PUT", f"/{name}", b"new")
        assert as_a_node(below, "PUT", "/cat", b"old", pair.id_of(0), **mtime) == 200
        assert as_a_node(below, "DELETE", "/dog", None, pair.id_of(0)) == 200
        eventually(lambda: owed(below) == 2)
        assert ask(above, "PUT", "/cat", b"old", **mtime)[0] == 200
        assert ask(above, "DELETE", "/dog")[0] == 200
        eventually(lambda: not owed(*pair.nodes))
        assert [held(node) for node in pair.nodes] == [{"cat": b"old"}] * 2


def test_a_version_is_the_same_only_with_its_bytes_and_generation(tmp_path: Path) -> None:
    """Else it is taken, and passed on."""
    with web(tmp_path, [[1], []]) as pair:
        mtime = {"Resto_Mtime": "1700000000000000000"}
        for body, generation in [(b"one", "1"), (b"two", "1"), (b"two", "2")]:
            headers = {**mtime, "Resto_Generation": generation}
            assert as_a_node(pair.nodes[0], "PUT", "/cat", body, "0" * 12, **headers) in (200, 201)
            for node in pair.nodes:
                told = ask(node, "GET", "/cat", User_Agent="resto_wsgi")
                assert (told[1]["Resto-Generation"], told[2]) == (generation, body)
        for generation in ("3", "4"):
            as_a_node(pair.nodes[0], "DELETE", "/cat", None, "0" * 12, Resto_Generation=generation)
            for node in pair.nodes:
                assert ask(node, "GET", "/cat")[1]["Resto-Generation"] == generation


def test_a_file_can_be_put_again_far_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it was lost, though every node in between has that very version, since a while ago: as a sync sends it."""
    with web(tmp_path, [[1], [2], []]) as chain:
        digest = format_digest(hashlib.sha256(CAT).digest())
        version = {"Date": "Tue, 14 Nov 2023 22:13:20 GMT", "Repr_Digest": digest}
        ask(chain.nodes[0], "PUT", "/cat", CAT, **version)
        Path(chain.nodes[2].root, "cat").unlink()
        ask(chain.nodes[0], "PUT", "/cat", CAT, **version)
        assert held(chain.nodes[2]) == {}, "the node in between has passed it on just now"
        monkeypatch.setattr(repeats, "FRESH", -1.0)
        ask(chain.nodes[0], "PUT", "/cat", CAT, **version)
        assert held(chain.nodes[2]) == {"cat": CAT}


def test_a_name_can_be_deleted_again_far_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a backup brought it back, though every node in between has deleted it already, a while ago."""
    with web(tmp_path, [[1], [2], []]) as chain:
        ask(chain.nodes[0], "PUT", "/cat", CAT)
        ask(chain.nodes[0], "DELETE", "/cat")
        Path(chain.nodes[2].root, "cat").write_bytes(CAT)
        monkeypatch.setattr(repeats, "FRESH", -1.0)
        ask(chain.nodes[0], "DELETE", "/cat")
        assert held(chain.nodes[2]) == {}


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("agent", ["curl", "resto_wsgi"])
def test_nodes_that_a_writer_names_get_the_file_all_the_same(tmp_path: Path, level: int, agent: str) -> None:
    """Hops are for nodes to say: neither this change nor one that is delivered later passes them over."""
    with web(tmp_path, [[1], [2], []]) as chain:
        named = chain.id_of(1) if level == 1 else "0" * 12
        said = {"Resto_Passed_On": f"{named};{'+' * 3}", "User_Agent": agent}
        assert ask(chain.nodes[0], "PUT", "/cat", CAT, **said)[0] == 201
        assert ask(chain.nodes[0], "PUT", "/dog?wait=local", CAT, **said)[0] in (201, 202)
        eventually(lambda: not owed(*chain.nodes[:2]))
        assert [held(node) for node in chain.nodes] == [{"cat": CAT, "dog": CAT}] * 3
        assert ask(chain.nodes[0], "DELETE", "/cat", **said)[0] == 200
        assert [held(node) for node in chain.nodes] == [{"dog": CAT}] * 3


def test_an_old_version_does_not_come_back_after_a_restart(tmp_path: Path) -> None:
    """What a node owed when it was stopped came from where it leads: there a client has changed it since."""
    with web(tmp_path, mutual(2)) as pair:
        above, below = pair.nodes
        own = pair.id_of(0)
        for name in ("old", "dog"):
            ask(above, "PUT", f"/{name}", b"old")
        above.stop()
        for name in ("cat", "old"):
            assert as_a_node(below, "PUT", f"/{name}", b"of old", own) in (200, 201)
        assert as_a_node(below, "DELETE", "/dog", None, own) == 200
        below.stop()
        pair.start(0)
        for name in ("cat", "dog"):
            assert ask(above, "PUT", f"/{name}", b"new")[0] == 202
        assert ask(above, "DELETE", "/old")[0] == 202
        pair.start(1)
        eventually(lambda: not owed(*pair.nodes), 60)
        assert [held(node) for node in pair.nodes] == [{"cat": b"new", "dog": b"new"}] * 2


def test_a_way_has_the_nodes_alone() -> None:
    """What came from a client came from nobody, through however many proxies."""
    hops = Hops(("0" * 12, "1" * 12), 7)
    assert Hops.of_way(hops.way) == Hops(hops.ids, 2)
    assert Hops.of_way(Hops((), 3).way) == Hops()


# The pages


def test_the_figures_of_a_mesh_have_each_node_once(mesh: Web) -> None:
    """Also when nobody knows anybody, and when one is away: what is owed is counted once."""
    urls = {node.url for node in mesh.nodes}
    for most in (EDGES, COUNT - 1):
        page, cost = mesh.cost(lambda: ask_json(mesh.nodes[0], "/__missing__"))
        assert {each["url"] for each in page["nodes"]} == urls - {mesh.nodes[0].url} and len(page["nodes"]) == COUNT - 1
        assert page["complete"] and cost <= most
    mesh.nodes[3].stop()
    ask(mesh.nodes[0], "PUT", "/cat", CAT)
    page, cost = mesh.cost(lambda: ask_json(mesh.nodes[0], "/__missing__"))
    assert len(page["nodes"]) == COUNT - 1 and cost <= EDGES
    assert (page["subtree"], page["complete"]) == (COUNT - 1, False)


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


def test_the_index_of_a_node_in_a_mesh_is_its_own(mesh: Web) -> None:
    """Each name once, and nobody else is asked."""
    ask(mesh.nodes[0], "PUT", "/cat", CAT)
    page, cost = mesh.cost(lambda: ask_json(mesh.nodes[1], "/__index__"))
    assert ([each["name"] for each in page["names"]], cost) == (["cat"], 0)
