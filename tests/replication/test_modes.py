"""What is deleted on hosts and what is not: a name that is not on the master, with evidence of a delete or without."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import Node, eventually, files, held
from trees import ask, owed

from resto_wsgi import ReplicationError
from resto_wsgi.errors import MediaRootError, OutboxError
from resto_wsgi.replication.modes import MISSING
from resto_wsgi.replicator import Replicator

NAME = "photos/a.jpg"
OLD, NEW = b"first", b"second"


@pytest.fixture
def make(tmp_path: Path) -> Any:
    """``make(servers)`` returns a replicator without a worker of its own, over ``tmp_path / "media"``."""
    made: list[Replicator] = []

    def make(*servers: Any, **options: Any) -> Replicator:
        usual = {"media_root": tmp_path / "media", "media_hosts": [each.url for each in servers], "background": False}
        replicator = Replicator(**{**usual, "fatal_exceptions": False, "timeout": 2, **options})
        made.append(replicator)
        return replicator

    yield make
    for replicator in made:
        replicator.close()


# How a name comes to be missing, and back


def _empty(folder: Path, aside: Path) -> None:
    shutil.copytree(folder, aside)
    for path in folder.iterdir():
        path.unlink()


def _unmount(folder: Path, aside: Path) -> None:
    folder.rename(aside)
    folder.mkdir()


def _restore_half(folder: Path, aside: Path) -> None:
    folder.rename(aside)
    folder.mkdir()
    shutil.copy2(aside / "other", folder / "other")


def _remove(folder: Path, aside: Path) -> None:
    shutil.copytree(folder, aside)
    (folder / "a.jpg").unlink()


def _move(folder: Path, aside: Path) -> None:
    folder.rename(aside)


LOSSES = {
    "folder emptied": _empty,
    "mount gone": _unmount,
    "backup half restored": _restore_half,
    "file removed": _remove,
    "folder gone": _move,
}


@pytest.fixture(params=LOSSES)
def lose(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Callable[[], None]]:
    """Make the name vanish from the master without a delete; what is returned puts it back."""
    folder, aside = tmp_path / "media/photos", tmp_path / "aside"

    def lose() -> Callable[[], None]:
        LOSSES[request.param](folder, aside)

        def put_back() -> None:
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)

        return put_back

    return lose


def fill(replicator: Replicator, server: Any) -> None:
    """Have the host hold the old version, and be owed the new one."""
    replicator.save("photos/other", b"other")
    replicator.save(NAME, OLD)
    assert replicator.drain(20)
    server.kill()
    replicator.save(NAME, NEW, overwrite=True)
    assert replicator.status(NAME).owing


def is_parked_as_missing(replicator: Replicator) -> bool:
    owing = replicator.status(NAME).owing.values()
    return bool(owing) and all(each.parked and each.reason == MISSING for each in owing)


@pytest.mark.parametrize("mode", ["hybrid", "async"])
def test_what_is_missing_without_a_delete_is_parked_and_delivered_when_it_is_back(
    make: Any, nginx: Any, lose: Any, mode: str
) -> None:
    """The host keeps what it has, whatever made the name vanish; the next drain sees that the file is back."""
    replicator = make(nginx, mode=mode)
    fill(replicator, nginx)
    put_back = lose()
    nginx.start()
    assert not replicator.drain(20)
    assert held(nginx)[NAME] == OLD
    assert is_parked_as_missing(replicator)
    assert not replicator.status(NAME).present and replicator.status().parked == 1
    put_back()
    assert replicator.drain(20)
    assert held(nginx)[NAME] == NEW


def test_a_sync_deletes_nothing_that_is_only_missing(make: Any, nginx: Any, lose: Any) -> None:
    """Neither before the walk nor after it: the names that it owed are asked for, the others are not touched."""
    replicator = make(nginx)
    for name in (NAME, "photos/other"):
        replicator.save(name, OLD)
    url = nginx.url
    nginx.kill()
    assert replicator.sync(url) == 2
    put_back = lose()
    nginx.start()
    replicator.drain(20)
    assert replicator.sync(url) < 3
    replicator.drain(20)
    assert held(nginx)[NAME] == OLD
    put_back()
    replicator.sync(url)
    assert replicator.drain(20)
    assert held(nginx) == {NAME: OLD, "photos/other": OLD}


def test_a_person_deletes_what_is_missing(make: Any, nginx: Any, lose: Any) -> None:
    """That is the other way out, which the reason names."""
    replicator = make(nginx)
    fill(replicator, nginx)
    lose()
    nginx.start()
    assert not replicator.drain(20)
    replicator.delete(NAME)
    assert replicator.drain(20) and replicator.status(NAME).owing == {}
    assert NAME not in held(nginx)


def test_a_host_that_has_it_not_either_settles_it(make: Any, nginx: Any, lose: Any) -> None:
    """Then there is nothing to decide."""
    replicator = make(nginx)
    fill(replicator, nginx)
    lose()
    os.unlink(os.path.join(nginx.root, NAME))
    nginx.start()
    assert replicator.drain(20)
    assert replicator.status().owed == 0


def test_a_file_that_vanishes_in_the_request_that_saves_it_stays_on_the_hosts(
    make: Any, nginx: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second look finds nothing, which is no evidence; the caller is told, and the name is owed."""
    replicator = make(nginx)
    put = replicator._transport.put_job

    def put_and_lose(*arguments: Any) -> Any:
        job = put(*arguments)
        (tmp_path / "media" / NAME).unlink()
        return job

    monkeypatch.setattr(replicator._transport, "put_job", put_and_lose)
    stored = replicator.save(NAME, NEW)
    assert [error and error.reason for error in stored.outcome.values()] == [MISSING]
    assert held(nginx) == {NAME: NEW}
    assert is_parked_as_missing(replicator)


# What is evidence


@pytest.mark.parametrize("mode", ["hybrid", "async"])
@pytest.mark.parametrize("is_up", [True, False])
def test_a_tombstone_that_is_older_than_the_file_is_no_evidence(
    make: Any, nginx: Any, tmp_path: Path, mode: str, is_up: bool
) -> None:
    """The save voids it, whether a host takes the file or not."""
    replicator = make(nginx, mode=mode)
    replicator.save(NAME, OLD)
    replicator.delete(NAME)
    replicator.drain(20)
    replicator.save(NAME, OLD)
    replicator.drain(20)
    nginx.kill()
    replicator.delete(NAME)
    if is_up:
        nginx.start()
    replicator.save(NAME, NEW)
    replicator.drain(20 if is_up else 0)
    (tmp_path / "media" / NAME).unlink()
    if not is_up:
        nginx.start()
    replicator.sync(nginx.url)
    replicator.drain(20)
    assert held(nginx) == {NAME: NEW if is_up else OLD}


def test_a_save_by_another_outbox_voids_the_tombstone_of_this_one(make: Any, nginx: Any, tmp_path: Path) -> None:
    """On a root that several servers share, each looks at its own tombstones now and then."""
    one, other = make(nginx), make(nginx, outbox=str(tmp_path / "other.sqlite3"))
    one.save(NAME, OLD)
    one.delete(NAME)
    other.save(NAME, NEW)
    one.sweep()
    (tmp_path / "media" / NAME).unlink()
    one.sync(nginx.url)
    assert one.drain(20)
    assert held(nginx) == {NAME: NEW}


def test_a_delete_by_another_outbox_is_waited_for(make: Any, nginx: Any, tmp_path: Path) -> None:
    """It is not known here, so the name stays parked until the host has it no more."""
    one, other = make(nginx), make(nginx, outbox=str(tmp_path / "other.sqlite3"))
    fill(one, nginx)
    other.delete(NAME)
    nginx.start()
    assert not one.drain(20) and is_parked_as_missing(one)
    other.sync(nginx.url)
    assert other.drain(20) and NAME not in held(nginx)
    assert one.drain(20) and one.status().owed == 0


def test_a_withdrawal_is_recorded_before_it_is_carried_out(
    make: Any, nginx: Any, faulty: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in between, the next process finds either the file or the tombstone; the hosts lose it in the end."""
    replicator = make(nginx, faulty("refuse"), fatal_exceptions=True)
    seen: list[bool | None] = []
    take_back = replicator._media_root.take_back

    def look(publication: Any) -> bool:
        seen.append(replicator._outbox.is_gone(NAME))
        return take_back(publication)

    monkeypatch.setattr(replicator._media_root, "take_back", look)
    with pytest.raises(ReplicationError):
        replicator.save(NAME, NEW)
    assert seen == [True]
    assert held(nginx) == {} and not replicator.exists(NAME)


def test_a_withdrawal_that_cannot_be_recorded_is_remembered_and_recorded_later(
    make: Any, nginx: Any, faulty: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hosts lose the file all the same, and the tombstone is written when it can be."""
    replicator = make(nginx, faulty("refuse"), fatal_exceptions=True)

    def refuse(name: str) -> None:
        raise OutboxError("the outbox", "no space left", "make some", full=True)

    with monkeypatch.context() as broken:
        broken.setattr(replicator._outbox, "entomb", refuse)
        with pytest.raises(ReplicationError):
            replicator.save(NAME, NEW)
    assert held(nginx) == {} and not replicator.exists(NAME)
    assert replicator._outbox.is_gone(NAME) is None
    replicator.sweep()
    assert replicator._outbox.is_gone(NAME)


def test_a_delete_that_fails_on_the_master_leaves_no_tombstone(
    make: Any, nginx: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else it would be evidence when the file's disk is away."""
    replicator = make(nginx)
    replicator.save(NAME, NEW)

    def refuse(name: str) -> bool:
        raise MediaRootError("delete", name, OSError(5, "Input/output error"))

    with monkeypatch.context() as broken:
        broken.setattr(replicator._media_root, "remove", refuse)
        with pytest.raises(MediaRootError):
            replicator.delete(NAME)
    assert not replicator._outbox.is_gone(NAME)
    (tmp_path / "media" / NAME).unlink()
    replicator.sync(nginx.url)
    replicator.drain(20)
    assert held(nginx) == {NAME: NEW}


# A node with children


def test_a_node_deletes_nothing_below_that_is_only_missing_in_its_root(nginx: Any, tmp_path: Path) -> None:
    """Its child is owed the new version while the folder is away; a DELETE through the node is evidence."""
    with Node(tmp_path / "root", children=[nginx.url]) as node:
        assert ask(node, "PUT", f"/{NAME}", OLD)[0] == 201
        nginx.kill()
        assert ask(node, "PUT", f"/{NAME}", NEW)[0] == 202
        Path(node.root, "photos").rename(tmp_path / "aside")
        Path(node.root, "photos").mkdir()
        nginx.start()
        replicator = node.app.role.replicator
        assert eventually(lambda: replicator.drain(1) or is_parked_as_missing(replicator))
        assert held(nginx) == {NAME: OLD}
        Path(node.root, "photos").rmdir()
        (tmp_path / "aside").rename(Path(node.root, "photos"))
        assert replicator.drain(20)
        assert held(nginx) == {NAME: NEW} == files(node.root)
        assert ask(node, "DELETE", f"/{NAME}")[0] == 200
        eventually(lambda: not owed(node))
        assert held(nginx) == {}
