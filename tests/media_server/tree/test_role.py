"""What a node does that is alone or has children: both take a write in the same steps, and tell the pages the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_requests import files
from servers import Node

from resto_wsgi.media_server.answers import Refused
from resto_wsgi.media_server.files.store import Store
from resto_wsgi.media_server.name_and_version import Version
from resto_wsgi.media_server.tree.alone import Alone
from resto_wsgi.media_server.tree.relay import Relay
from resto_wsgi.media_server.tree.role import Role

CAT = b"a cat" * 100
UNKNOWN = Version(None, None, False, {})


@pytest.fixture(params=["alone", "with a child"])
def role(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Role]:
    """Each of the two kinds."""
    store = Store(tmp_path / "root")
    if request.param == "alone":
        yield Alone(store)
        return
    with Node(tmp_path / "child") as child:
        relay = Relay(store, [child.url])
        yield relay
        relay.close()


def write(role: Role, name: str, body: bytes, **headers: str) -> Any:
    """Take a PUT through its steps; return the answer."""
    environ = {"HTTP_HOST": "root:1", **headers}
    passing = role.passing(environ, len(body))
    with (
        role.store.stage() as staged,
        role.arriving(name, UNKNOWN, len(body), staged, passing) as arrival,
    ):
        Path(staged.path).write_bytes(body)
        arrival.took(len(body))
        staged.seal(arrival.mtime_ns)
        with role.changing(name, passing) as change:
            lines = role.publish(name, change, staged, passing)
    return role.answer(environ, name, lines, created=not change.taken)


def remove(role: Role, name: str) -> Any:
    environ = {"HTTP_HOST": "root:1"}
    passing = role.passing(environ)
    with role.changing(name, passing) as change:
        lines = role.delete(name, change, None, passing)
    return role.answer(environ, name, lines, created=False)


def test_a_write_goes_through_in_the_same_steps(role: Role, tmp_path: Path) -> None:
    """Stored, replaced and deleted; with a child there is a report."""
    role.start()
    for body, status in [(CAT, "201 Created"), (CAT[::-1], "20")]:
        assert write(role, "a/cat", body).status.startswith(status)
        for folder in [tmp_path / "root", *([tmp_path / "child"] if role.children else [])]:
            assert files(folder)["a/cat"] == body
    assert remove(role, "a/cat").status in ("204 No Content", "200 OK")
    assert not (tmp_path / "root/a/cat").exists() and not (tmp_path / "child/a/cat").exists()


def test_a_delete_of_what_is_nowhere_is_404(role: Role) -> None:
    """An answer or a refusal, as there is a report or not."""
    try:
        status = remove(role, "none").status
    except Refused as refused:
        status = refused.status
    assert status == "404 Not Found"


def test_what_is_not_here_and_was_deleted_is_not_looked_for(role: Role, tmp_path: Path) -> None:
    """By its tombstone, whose generation is told."""
    if role.children:
        (tmp_path / "child/cat").write_bytes(CAT)
    with role.changing("cat", role.passing({})) as change:
        assert change.delete(7) is False
    with pytest.raises(Refused) as caught:
        role.absent({"REQUEST_METHOD": "GET"}, "cat")
    assert (caught.value.status, caught.value.headers) == ("404 Not Found", (("Resto-Generation", "7"),))


def test_the_mtime_that_was_told_is_kept(role: Role) -> None:
    """None of it is made up before the file is sealed, unless children were told one."""
    version = Version(None, 5, True, {})
    for told, expected in ((version, 5), (UNKNOWN, None)):
        passing = role.passing({})
        with role.store.stage() as staged, role.arriving("cat", told, 3, staged, passing) as arrival:
            assert arrival.mtime_ns == expected


def test_the_pages_learn_of_each_child(role: Role) -> None:
    """State, what is owed, and nothing that was deleted at first."""
    assert role.status().keys() == {each.url for each in role.children}
    assert [role.owing(each, "", 10) for each in role.children] == [[] for _ in role.children]
    assert bool(role.node_id) == bool(role.children)
    assert role.figures({}) == [{"url": each.url, "owed": 0} for each in role.children]
    remove_quietly(role, "gone")
    assert [*role.tombstones("")] == (["gone"] if role.children else [])


def remove_quietly(role: Role, name: str) -> None:
    passing = role.passing({})
    with role.changing(name, passing) as change:
        role.delete(name, change, None, passing)
