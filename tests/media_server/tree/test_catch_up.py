"""A node that is empty or was away gets what is missing from the node above it, while others write."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import LOCAL, Node, eventually, free_port
from trees import ask, catch_up, held, linked, owed, put

from resto_wsgi.fields.digests import format_digest
from resto_wsgi.media_server import MediaServer
from resto_wsgi.media_server.tree.catch_up import DELETES_MAX, CatchUpError, Progress

CAT = b"a cat" * 1000
LARGE = os.urandom(3_000_000)


def test_names_below_a_path_of_the_public_url_are_caught_up_with(app: MediaServer, above: Node) -> None:
    """A node takes names that are longer than the library's, by the path in which those are."""
    name = "/".join(["a" * 200] * 6)
    put(above, name, CAT)
    assert catch_up(app, above.url).fetched == 1
    assert held(app.store) == {name: CAT}


def test_an_empty_node_becomes_as_the_one_above(app: MediaServer, above: Node) -> None:
    """Files, mtimes to the nanosecond, generations and digests; a second run fetches nothing."""
    digest = format_digest(hashlib.sha256(CAT).digest())
    put(above, "a/cat", CAT, Repr_Digest=digest, Resto_Generation="3")
    put(above, "large", LARGE)
    put(above, "empty", b"")
    done = catch_up(app, above.url)
    assert (done.seen, done.fetched, done.size, done.failed) == (3, 3, len(CAT) + len(LARGE), 0)
    assert held(app.store) == held(above)
    with Node(app.store.root) as node:
        seen = [ask(each, "GET", "/a/cat", User_Agent="resto_wsgi")[1] for each in (above, node)]
    assert seen[0]["ETag"] == seen[1]["ETag"]
    assert (seen[1]["Resto-Generation"], seen[1]["Repr-Digest"]) == ("3", digest)
    assert catch_up(app, above.url) == Progress(seen=3)
    assert not Path(app.store.root, ".resto/catch-up").exists()


def test_an_outdated_node_gets_what_changed_and_loses_what_was_deleted(app: MediaServer, above: Node) -> None:
    """What is only here is kept, and so is what is newer here; both are no secret."""
    for name in ("same", "changed", "deleted", "back"):
        put(above, name, CAT)
    catch_up(app, above.url)
    put(above, "changed", b"new")
    for name in ("deleted", "back"):
        ask(above, "DELETE", f"/{name}")
    put(above, "back", b"again")
    Path(app.store.root, "own").write_bytes(b"only here")
    Path(app.store.root, "same").write_bytes(b"newer here")
    warned: list[str] = []
    done = catch_up(app, above.url, warn=warned.append)
    assert (done.fetched, done.deleted, done.newer, done.failed) == (2, 1, 1, 0)
    assert held(app.store) == {"same": b"newer here", "changed": b"new", "back": b"again", "own": b"only here"}
    assert warned == ["same: is newer here, and left as it is"]


def test_a_higher_generation_is_newer_whatever_the_time(app: MediaServer, above: Node) -> None:
    """Here it stays, and from above it comes; a tombstone here keeps out what is older."""
    put(above, "cat", b"five", Resto_Generation="5")
    put(above, "dog", b"five", Resto_Generation="5")
    put(above, "cow", b"five", Resto_Generation="5")
    with Node(app.store.root) as node:
        old, new = "Tue, 03 Nov 2020 10:20:30 GMT", "Tue, 03 Nov 2037 10:20:30 GMT"
        put(node, "cat", b"six", Resto_Generation="6", Date=old)
        put(node, "dog", b"four", Resto_Generation="4", Date=new)
        put(node, "cow", b"six", Resto_Generation="5")
        ask(node, "DELETE", "/cow", Resto_Generation="6")
    catch_up(app, above.url)
    assert held(app.store) == {"cat": b"six", "dog": b"five"}


def test_a_run_that_was_killed_is_gone_on_with(app: MediaServer, above: Node) -> None:
    """The second run takes only what the first has not."""
    put(above, "large", LARGE)

    def report(progress: Progress) -> None:
        if progress.size > 1_000_000:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        catch_up(app, above.url, report=report)
    done = catch_up(app, above.url)
    assert (done.fetched, held(app.store)) == (1, {"large": LARGE})
    assert done.size < len(LARGE) - 1_000_000


def once(work: Callable[[], None]) -> Callable[[Progress], None]:
    """Return a reporter that does this when the first bytes of a file have come."""
    done: list[bool] = []

    def report(progress: Progress) -> None:
        if progress.size and not done:
            done.append(True)
            work()

    return report


def test_what_is_put_here_meanwhile_stays(app: MediaServer, above: Node) -> None:
    """It is newer than what is being fetched, whether the name was there before or not."""
    put(above, "cat", LARGE)
    with Node(app.store.root) as node:
        catch_up(app, above.url, report=once(lambda: put(node, "cat", b"new")))
    assert held(app.store) == {"cat": b"new"}


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_what_changes_above_meanwhile_is_not_published_in_its_old_version(
    app: MediaServer, above: Node, method: str
) -> None:
    """Whoever changes it there sends it here; an old version that came late would stay."""
    put(above, "cat", LARGE)
    catch_up(app, above.url, report=once(lambda: ask(above, method, "/cat", b"new" if method == "PUT" else None)))
    assert held(app.store) == {}


def test_what_is_put_again_while_its_delete_is_read_is_not_deleted(app: MediaServer, above: Node) -> None:
    """The index said that it was gone; the node above is asked once more."""
    put(above, "cat", CAT)
    catch_up(app, above.url)
    ask(above, "DELETE", "/cat")

    def report(progress: Progress) -> None:
        if progress.seen == 1:
            put(above, "cat", CAT)

    assert catch_up(app, above.url, report=report).deleted == 0
    assert held(app.store) == {"cat": CAT}


def test_what_changed_where_it_came_from_is_not_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that leads back caught up with the node above it, where a client has written since: 508, and parked."""
    with linked(tmp_path, [[1], [0]]) as (above, below):
        put(above, "dog", b"one")
        below.stop()
        put(above, "cat", b"one")
        ask(above, "DELETE", "/dog")
        app = MediaServer(below.root, children=[above.url], access=LOCAL)
        assert app.role
        monkeypatch.setattr(app.role.replicator.worker, "start", lambda: None)
        done = catch_up(app, above.url)
        assert (done.fetched, done.deleted) == (1, 1)
        app.close()
        for name in ("cat", "dog"):
            put(above, name, b"two")
        below.start()
        eventually(lambda: not owed(above), 60)
        relay = below.app.role
        eventually(lambda: {each.status for each in relay.outbox.owing(*relay.children, "", 9)} == {508})
        assert [held(node) for node in (above, below)] == [{"cat": b"two", "dog": b"two"}] * 2


def test_a_node_with_children_passes_on_what_it_catches_up_with(tmp_path: Path, above: Node) -> None:
    """Files and deletes, both by its own outbox."""
    put(above, "cat", CAT)
    put(above, "gone", CAT)
    with Node(tmp_path / "leaf") as leaf, Node(tmp_path / "middle", children=[leaf.url]) as middle:
        catch_up(middle.app, above.url)
        eventually(lambda: not owed(middle))
        assert held(leaf) == {"cat": CAT, "gone": CAT}
        ask(above, "DELETE", "/gone")
        catch_up(middle.app, above.url)
        eventually(lambda: not owed(middle))
        assert held(leaf) == {"cat": CAT}


def test_writers_do_not_disturb_a_run_nor_it_them(tmp_path: Path) -> None:
    """While a child catches up, its parent changes names as fast as it can: in the end both are the same."""
    with Node(tmp_path / "child", free_port()) as child, Node(tmp_path / "above", children=[child.url]) as above:
        for number in range(60):
            put(above, f"{number % 7}/{number}", b"%d" % number * 500)
        for _ in range(3):
            shutil.rmtree(Path(child.root, "3"))
            stop = threading.Event()

            def write(stop: threading.Event = stop) -> None:
                number = 0
                while not stop.is_set():
                    number += 1
                    name = f"/{number % 7}/{number * 31 % 60}"
                    ask(above, *(("PUT", name, os.urandom(2000)) if number % 3 else ("DELETE", name)))

            thread = threading.Thread(target=write)
            thread.start()
            try:
                catch_up(child.app, above.url)
            finally:
                stop.set()
                thread.join()
            eventually(lambda: not owed(above))
            catch_up(child.app, above.url)
            assert held(child) == held(above)


# Hostile nodes above


def test_a_node_that_has_nothing_does_not_empty_this_one(app: MediaServer, above: Node) -> None:
    """It may be the wrong one, or have lost its files. A few deletes are carried out all the same."""
    names = [f"{number:03}" for number in range(DELETES_MAX + 1)]
    for name in names:
        put(above, name, CAT)
        Path(app.store.root, name).write_bytes(CAT)
        ask(above, "DELETE", f"/{name}")
    with pytest.raises(CatchUpError, match="has no files, and says that more than 100 of those here were deleted"):
        catch_up(app, above.url)
    assert sorted(held(app.store)) == names
    Path(app.store.root, names.pop()).unlink()
    assert catch_up(app, above.url).deleted == DELETES_MAX
    assert held(app.store) == {}


def test_a_node_that_has_something_has_all_its_deletes_carried_out(app: MediaServer, above: Node) -> None:
    """However many there are."""
    for number in range(DELETES_MAX + 1):
        put(above, f"{number}", CAT)
        Path(app.store.root, f"{number}").write_bytes(CAT)
        ask(above, "DELETE", f"/{number}")
    put(above, "cat", CAT)
    assert catch_up(app, above.url).deleted == DELETES_MAX + 1
    assert held(app.store) == {"cat": CAT}


def test_a_folder_in_the_place_of_a_file_is_told(app: MediaServer, above: Node) -> None:
    """If there is anything in it: an empty one gives way. The others come all the same."""
    put(above, "a", CAT)
    put(above, "b", CAT)
    Path(app.store.root, "a").mkdir()
    Path(app.store.root, "a/.hidden").touch()
    done = catch_up(app, above.url)
    assert (done.fetched, done.failed) == (1, 1)


def test_one_run_at_a_time(app: MediaServer, above: Node) -> None:
    """The second is refused, and the first goes on."""
    put(above, "cat", CAT)
    seen: list[Exception] = []

    def second() -> None:
        try:
            catch_up(app, above.url)
        except CatchUpError as error:
            seen.append(error)

    assert catch_up(app, above.url, report=once(second)).fetched == 1
    assert len(seen) == 1
