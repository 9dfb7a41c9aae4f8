"""What is passed on: a child that leads back is refused, and a child of two parents gets what both send."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from servers import Node, eventually
from trees import ask, ask_json, held, linked, owed, passed_on, report

from resto_wsgi.media_server.answers import Refused
from resto_wsgi.media_server.tree.hops import MAX_HOPS, Hops

CAT = b"a cat" * 1000
LARGE = os.urandom(6 << 20)
LONG = 600.0  # seconds: what is due later than that is no loop
DIAMOND = [[1, 2], [3], [3], []]


def ring(count: int) -> list[list[int]]:
    return [[(number + 1) % count] for number in range(count)]


def id_of(node: Node) -> str:
    return str(node.app.role.node_id)


def as_a_node(node: Node, method: str, path: str, body: bytes | None, through: str, **headers: str) -> int:
    said = {"User_Agent": "resto_wsgi", "Resto_Wait": "1.000", "Resto_Passed_On": f"{through};+"}
    return ask(node, method, path, body, **said, **headers)[0]


def is_at_rest(*nodes: Node) -> bool:
    """Say whether nobody sends anything soon: whatever is owed is parked."""
    due = [node.app.role.outbox.next_due(child) for node in nodes for child in node.app.role.children]
    return all(each is None or each > time.time() + LONG for each in due)


# A child that leads back


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_child_that_leads_back_is_refused_and_the_answer_names_it(tmp_path: Path, count: int) -> None:
    """Each node has the change, the last one cannot send it to the first, and that ends at once."""
    with linked(tmp_path, ring(count)) as nodes:
        requests = passed_on(nodes)
        began = time.monotonic()
        for method, body, state in [("PUT", CAT, "stored"), ("DELETE", None, "deleted")]:
            status, lines = report(nodes[0], method, "/cat", body)
            assert (status, [each["state"] for each in lines]) == (202, [state] * count + ["refused"])
            assert lines[-1]["node"] in nodes[0].url and "508" in lines[-1]["reason"]
            assert [held(node) for node in nodes] == [{"cat": CAT} if body else {}] * count
        assert ask(nodes[0], "GET", "/dog")[0] == 404
        assert time.monotonic() - began < 5
        assert len(requests) == 3 * count and is_at_rest(*nodes)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_is_delivered_later_does_not_go_round(tmp_path: Path, count: int) -> None:
    """Nobody waits for it: the way that it came is known to the worker of each node."""
    with linked(tmp_path, ring(count)) as nodes:
        requests = passed_on(nodes)
        for number in range(5):
            assert ask(nodes[0], "PUT", f"/{number}?wait=local", CAT)[0] == 202
        eventually(lambda: all(len(held(node)) == 5 for node in nodes) and is_at_rest(*nodes), 30)
        assert owed(*nodes) == owed(nodes[-1]) == 5
        writes = [method for _, method in requests if method == "PUT"]
        assert len(writes) <= 2 * 5 * count, "once to each, and once more where one was busy"


@pytest.mark.parametrize("count", [2, 3])
def test_what_leads_back_is_named_where_it_is_owed_and_above(tmp_path: Path, count: int) -> None:
    """Its reason is in the status of the node that has it as a child, and on the page of each node."""
    with linked(tmp_path, ring(count)) as nodes:
        ask(nodes[0], "PUT", "/cat", CAT)
        last = nodes[-1].app.role
        (host,) = last.replicator.status().hosts
        assert (host.owed, host.parked) == (1, 1) and "--child" in host.error
        (delivery,) = ask_json(nodes[-1], "/__missing__")["deliveries"]
        assert (delivery["child"], delivery["name"]) == (nodes[0].url, "cat") and "--child" in delivery["why"]
        page = ask_json(nodes[0], "/__missing__")
        assert (page["owed"], page["subtree"], page["complete"]) == (0, 1, False)
        assert [each["url"] for each in page["nodes"] if "--child" in each.get("error", "")] == [nodes[0].url]


def test_what_came_through_a_node_changes_nothing_there(tmp_path: Path) -> None:
    """508 for a file and for a delete, before the lock of the name is taken; nothing is staged, nothing owed."""
    with linked(tmp_path, ring(2)) as (above, below):
        ask(above, "PUT", "/cat", b"new")
        eventually(lambda: is_at_rest(above, below))
        with above.app.store.change("cat"):
            for method, body in [("PUT", b"old"), ("DELETE", None)]:
                assert as_a_node(above, method, "/cat", body, id_of(above)) == 508
                assert as_a_node(above, method, "/dog", body, f"{'0' * 12},{id_of(above)}") == 508
        assert [held(node) for node in (above, below)] == [{"cat": b"new"}] * 2
        assert not list(Path(above.root, ".resto/staging").glob("*/*")) and not owed(above)


def test_an_old_version_does_not_come_back_after_a_restart(tmp_path: Path) -> None:
    """What a node owed when it was stopped came from where it leads: there a client has changed it since."""
    with linked(tmp_path, ring(2)) as (above, below):
        own = id_of(above)
        for name in ("old", "dog"):
            ask(above, "PUT", f"/{name}", b"old")
        above.stop()
        for name in ("cat", "old"):
            assert as_a_node(below, "PUT", f"/{name}", b"of old", own) in (200, 201)
        assert as_a_node(below, "DELETE", "/dog", None, own) == 200
        below.stop()
        above.start()
        for name in ("cat", "dog"):
            assert ask(above, "PUT", f"/{name}", b"new")[0] == 202
        assert ask(above, "DELETE", "/old")[0] == 202
        below.start()
        eventually(lambda: not owed(above) and is_at_rest(below), 60)
        assert [held(node) for node in (above, below)] == [{"cat": b"new", "dog": b"new"}] * 2


def test_a_child_that_leads_back_no_more_can_be_synced(tmp_path: Path) -> None:
    """The first node has another child now: what was parked for it is sent when a person says so, or changes it."""
    with linked(tmp_path, [[1], [0], []]) as (first, second, other):
        for name in ("cat", "dog"):
            ask(first, "PUT", f"/{name}", CAT)
        first.stop()
        Path(first.root, "dog").unlink()
        with Node(first.root, first.port, children=[other.url]) as mended:
            assert ask(second, "PUT", "/cat", b"new")[0] == 200
            assert held(mended) == {"cat": b"new"} and owed(second) == 1
            second.app.role.replicator.sync(first.url)
            eventually(lambda: held(mended) == held(second) == {"cat": b"new", "dog": CAT} and not owed(second))


def test_a_chain_of_as_many_nodes_as_a_tree_has_levels_is_no_ring(tmp_path: Path) -> None:
    """One more is refused, as it would be in a ring of nodes that do not say who they are."""
    with linked(tmp_path, [[1], []]) as (node, leaf):
        others = ",".join(f"{number:012x}" for number in range(MAX_HOPS))
        assert as_a_node(node, "PUT", "/cat", CAT, others) == 508
        assert as_a_node(node, "PUT", "/cat", CAT, others[13:]) == 201
        assert held(leaf) == {"cat": CAT}, "a leaf has nobody to pass it on to"


# Who says what


@pytest.mark.parametrize("value", ["x", "+" * 17, ",", "0" * 12 + ";" + "x", "a" * 2000, "0" * 12 + "," * 3])
def test_a_header_that_is_none_or_too_long_is_refused(tmp_path: Path, value: str) -> None:
    """400 or 508, and nothing is stored."""
    with linked(tmp_path, [[1], []]) as (node, child):
        for method, body in [("PUT", b"x"), ("DELETE", None), ("GET", None)]:
            assert ask(node, method, "/cat", body, Resto_Passed_On=value)[0] in (400, 508)
        assert held(node) == held(child) == {}


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("agent", ["curl", "resto_wsgi"])
def test_nodes_that_a_writer_names_get_the_file_all_the_same(tmp_path: Path, level: int, agent: str) -> None:
    """Hops are for nodes to say: neither this change nor one that is delivered later passes them over."""
    with linked(tmp_path, [[1], [2], []]) as chain:
        named = id_of(chain[1]) if level == 1 else "0" * 12
        said = {"Resto_Passed_On": f"{named};{'+' * 3}", "User_Agent": agent}
        assert ask(chain[0], "PUT", "/cat", CAT, **said)[0] == 201
        assert ask(chain[0], "PUT", "/dog?wait=local", CAT, **said)[0] in (201, 202)
        eventually(lambda: not owed(*chain[:2]))
        assert [held(node) for node in chain] == [{"cat": CAT, "dog": CAT}] * 3
        assert ask(chain[0], "DELETE", "/cat", **said)[0] == 200
        assert [held(node) for node in chain] == [{"dog": CAT}] * 3


def test_what_a_stranger_names_is_not_asked_for_his_own_answer_alone(tmp_path: Path) -> None:
    """No cache may keep it, and the next one gets the file."""
    with linked(tmp_path, [[1], [2], []]) as chain:
        Path(chain[2].root, "cat").write_bytes(CAT)
        for value, expected in [(f"{id_of(chain[1])};", 404), (id_of(chain[0]), 508), ("+" * 15, 404)]:
            status, told, _ = ask(chain[0], "GET", "/cat", Resto_Passed_On=value)
            assert (status, told["Cache-Control"]) == (expected, "no-store")
            assert ask(chain[0], "GET", "/cat")[2] == CAT


def test_what_is_noted_of_a_way_is_its_nodes_alone() -> None:
    """What came from a client came from nobody, through however many proxies."""
    hops = Hops(("0" * 12, "1" * 12), 7)
    assert Hops.of(hops.way) == Hops(hops.ids, 2)
    assert Hops.of(Hops((), 3).way) == Hops()


def test_each_node_adds_itself_and_a_hop() -> None:
    """What it sends is refused where it has been, and nowhere else."""
    own = Hops.own("1" * 40)
    hops = Hops.of(Hops(("0" * 12,), 3).through(own))
    assert hops == Hops(("0" * 12, own), 4)
    hops.judge(Hops.own("2" * 40))
    for node_id in ("0" * 12, own):
        with pytest.raises(Refused) as caught:
            hops.judge(node_id)
        assert caught.value.status.startswith("508")


# A child of two parents


@pytest.mark.parametrize("content", [CAT, LARGE])
def test_a_child_of_two_parents_gets_a_file_from_both(tmp_path: Path, content: bytes) -> None:
    """One line for each node, and nothing owed; a new version, and a delete, come the same way."""
    with linked(tmp_path, DIAMOND, timeout=10.0) as nodes:
        for version in (content, content[::-1]):
            status, lines = report(nodes[0], "PUT", "/cat", version)
            assert status in (200, 201) and [each["state"] for each in lines] == ["stored"] * 4
            assert [held(node) for node in nodes] == [{"cat": version}] * 4
        assert len({ask(node, "GET", "/cat", User_Agent="resto_wsgi")[1]["ETag"] for node in nodes}) == 1
        status, lines = report(nodes[0], "DELETE", "/cat")
        assert (status, [each["state"] for each in lines]) == (200, ["deleted"] * 4)
        assert [held(node) for node in nodes] == [{}] * 4 and not owed(*nodes)


def test_below_two_parents_each_way_costs_a_request(tmp_path: Path) -> None:
    """Three levels of two nodes each, all of them children of both above: 2, 4 and 8 ways, and then an end."""
    with linked(tmp_path, [[1, 2], [3, 4], [3, 4], [5, 6], [5, 6], [], []], timeout=10.0) as nodes:
        requests = passed_on(nodes)
        status, lines = report(nodes[0], "PUT", "/cat", CAT)
        assert (status, [each["state"] for each in lines]) == (201, ["stored"] * 7)
        assert len(requests) == 2 + 4 + 8 and not owed(*nodes)
        requests.clear()
        assert ask(nodes[0], "GET", "/none")[0] == 404 and len(requests) == 2 + 4 + 8
        page = ask_json(nodes[0], "/__missing__")
        assert sorted(each["url"] for each in page["nodes"]) == sorted(node.url for node in nodes[1:])
        assert page["complete"]
        Path(nodes[6].root, "dog").write_bytes(CAT)
        assert ask(nodes[0], "GET", "/dog")[2] == CAT


@pytest.mark.parametrize("away", [1, 3])
def test_what_was_missed_comes_to_a_child_of_two_parents_in_its_last_version(tmp_path: Path, away: int) -> None:
    """A parent was away and is behind, or the child itself: what comes on one way undoes nothing of the other."""
    with linked(tmp_path, DIAMOND) as nodes:
        for name in ("cat", "dog"):
            ask(nodes[0], "PUT", f"/{name}", b"old")
        nodes[away].stop()
        assert ask(nodes[0], "PUT", "/cat", b"new")[0] == 202
        assert ask(nodes[0], "DELETE", "/dog")[0] == 202
        nodes[away].start()
        eventually(lambda: not owed(*nodes), 60)
        assert [held(node) for node in nodes] == [{"cat": b"new"}] * 4


def test_a_child_that_refuses_for_the_length_of_the_way_is_not_complete(tmp_path: Path) -> None:
    """Nobody counts it as owing nothing."""
    with linked(tmp_path, [[1], [2], []]) as chain:
        path = "/__missing__"
        reply = ask(chain[0], "GET", path, Accept="application/json", Resto_Passed_On="+" * (MAX_HOPS - 1))
        assert reply[0] == 200 and b'"complete": false' in reply[2] and b"508" in reply[2]
