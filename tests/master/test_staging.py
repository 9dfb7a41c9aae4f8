"""The rooms in which files are staged: whose they are, and who sweeps them."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from disks import command, descriptors, run, stage, staged_files

from resto_wsgi.errors import MediaRootError
from resto_wsgi.master.media_root import MediaRoot
from resto_wsgi.master.staged import Staged


@pytest.fixture
def media_root(tmp_path: Path) -> Iterator[MediaRoot]:
    """An empty media root."""
    media_root = MediaRoot(str(tmp_path / "media"), fsync=False)
    yield media_root
    media_root.close()


SLEEPER = """
    import sys
    from resto_wsgi.master.media_root import MediaRoot
    media_root = MediaRoot(sys.argv[1])
    staged = media_root.stage()
    staged.write(b"half an upload")
    print(staged.path, flush=True)
    sys.stdin.readline()
"""


def test_a_sweep_removes_the_rooms_of_the_killed_and_leaves_those_of_the_living(media_root: MediaRoot) -> None:
    """A room is abandoned when the kernel released its lock, and not a moment sooner."""
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    killed, living = (subprocess.Popen(command(SLEEPER, media_root.root), **pipes) for _ in range(2))
    assert killed.stdout and living.stdout
    abandoned, used = killed.stdout.readline().strip(), living.stdout.readline().strip()
    killed.kill()
    assert killed.wait(10) == -signal.SIGKILL
    assert os.path.exists(abandoned)
    own = media_root.stage()
    assert staged_files(media_root.root) == sorted([used, own.path])
    assert not os.path.exists(os.path.dirname(abandoned) + ".lock")
    living.communicate("\n", timeout=10)
    killed.communicate()


def test_what_is_no_room_is_not_swept(media_root: MediaRoot) -> None:
    """A sweep touches nothing but folders that have a lock file beside them."""
    stray = Path(media_root.root, ".resto/staging/stray")
    stray.touch()
    media_root.stage()
    assert stray.exists()


def test_a_room_that_a_sweep_took_while_it_was_made_is_made_again(
    media_root: MediaRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the making of a lock file and the lock there is a moment in which it looks abandoned."""
    real, taken = os.open, []

    def swept(path: str, flags: int, mode: int = 0o777, **where: Any) -> int:
        fd = real(path, flags, mode, **where)
        if str(path).endswith(".lock") and not taken:
            taken.append(path)
            os.unlink(path)
        return fd

    monkeypatch.setattr(os, "open", swept)
    before = descriptors()
    staged = media_root.stage()
    staged.seal()
    assert taken and staged.path.startswith(media_root.root) and taken[0].removesuffix(".lock") not in staged.path
    assert descriptors() <= before + 1  # the lock of the room


def test_threads_that_open_the_first_room_at_once_share_it(media_root: MediaRoot) -> None:
    """The rooms that came too late are given up."""
    barrier = threading.Barrier(8)

    def begin(_: int) -> str:
        barrier.wait(10)
        return media_root.stage().path

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(begin, range(8)))
    assert len({os.path.dirname(path) for path in paths}) == 1
    assert len(os.listdir(os.path.join(media_root.root, ".resto/staging"))) == 2


def test_a_forked_process_gets_its_own_room(tmp_path: Path) -> None:
    """Neither process removes what the other stages."""
    script = """
        import json, os, sys
        from resto_wsgi.master.media_root import MediaRoot
        media_root = MediaRoot(sys.argv[1])
        mine = media_root.stage()
        out, into = os.pipe()
        if not os.fork():
            staged = media_root.stage()
            os.write(into, staged.path.encode())
            media_root.close()
            os._exit(0)
        os.wait()
        theirs = os.read(out, 4096).decode()
        there = os.path.exists(mine.path), os.path.exists(theirs)
        print(json.dumps([os.path.dirname(mine.path), os.path.dirname(theirs), there]))
    """
    mine, theirs, there = run(script, tmp_path)
    assert mine != theirs
    assert there == [True, False]


def test_a_room_ends_with_its_process_though_a_child_of_it_lives_on(media_root: MediaRoot) -> None:
    """The parent is killed with -9 and its room swept; the child has a room of its own, which stays."""
    script = """
        import os, sys
        from resto_wsgi.master.media_root import MediaRoot
        media_root = MediaRoot(sys.argv[1])
        staged = media_root.stage()
        if not os.fork():
            staged = media_root.stage()
        os.write(1, f"{staged.path}\\n".encode())  # at once, as print does not
        sys.stdin.read()
    """
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    parent = subprocess.Popen(command(script, media_root.root), **pipes)
    assert parent.stdout and parent.stdin
    paths = {parent.stdout.readline().strip() for _ in range(2)}
    staged = media_root.stage()
    own = staged.path
    media_root.sweep()
    assert set(staged_files(media_root.root)) == paths | {own}
    parent.kill()
    assert parent.wait(10) == -signal.SIGKILL
    media_root.sweep()
    (theirs,) = (path for path in paths if not Path(path).parent.name.startswith(f"{parent.pid}-"))
    assert set(staged_files(media_root.root)) == {theirs, own}
    parent.stdin.close()
    assert parent.stdout.read() == ""  # the child ends
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while staged_files(media_root.root) != [own]:  # it closes its descriptors one after the other
        assert time.monotonic() < deadline
        media_root.sweep()


def test_a_child_that_closes_leaves_the_room_of_its_parent(tmp_path: Path) -> None:
    """It has none of its own unless it stages, also where nobody told Python of the fork."""
    script = """
        import ctypes, json, os, sys
        from resto_wsgi.master.media_root import MediaRoot
        found = []
        for fork in (os.fork, ctypes.PyDLL(None).fork):
            media_root = MediaRoot(sys.argv[1])
            staged = media_root.stage()
            child = fork()
            if not child:
                media_root.close()
                os._exit(0)
            os.waitpid(child, 0)
            MediaRoot(sys.argv[1]).sweep()
            found.append(os.path.exists(staged.path))
            media_root.close()
        print(json.dumps([found, os.listdir(sys.argv[1] + "/.resto/staging")]))
    """
    assert run(script, tmp_path) == [[True, True], []]


def test_a_room_that_cannot_be_swept_is_swept_later(media_root: MediaRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock file stays as long as the room does, for without one nobody would look at it again."""
    staging = Path(media_root.root, ".resto/staging")
    (staging / "1-dead").mkdir()
    (staging / "1-dead.lock").touch()
    (staging / "2-dead.lock").touch()
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
    media_root.sweep()
    assert sorted(os.listdir(staging)) == ["1-dead", "1-dead.lock"]
    monkeypatch.undo()
    media_root.sweep()
    assert os.listdir(staging) == []


def test_a_sweep_without_staging_or_of_what_is_no_folder(media_root: MediaRoot) -> None:
    """Nothing to do is no error; what cannot be looked at is one."""
    staging = os.path.join(media_root.root, ".resto/staging")
    os.rmdir(staging)
    media_root.sweep()
    Path(staging).touch()
    with pytest.raises(MediaRootError, match="cannot sweep"):
        media_root.sweep()


def test_threads_that_find_staging_removed_share_the_new_room(media_root: MediaRoot) -> None:
    """None of them gives up the room that another has just made, and no descriptor is left of the old one."""

    def begin(_: int) -> Staged:
        barrier.wait(10)
        staged = media_root.stage()
        staged.seal()
        return staged

    media_root.stage().seal()
    barrier, before = threading.Barrier(8), descriptors()
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            shutil.rmtree(os.path.join(media_root.root, ".resto/staging"))
            begun = list(pool.map(begin, range(8)))
            paths = [staged.path for staged in begun]
            assert len({os.path.dirname(path) for path in paths}) == 1
            assert staged_files(media_root.root) == sorted(paths)
    assert descriptors() <= before


def test_close_gives_up_the_room_and_may_be_repeated(media_root: MediaRoot) -> None:
    """Nothing is left in staging, no descriptor is open, and a later stage opens a new room."""
    before = descriptors()
    staged = stage(media_root, b"x")
    media_root.close()
    media_root.close()
    assert os.listdir(os.path.join(media_root.root, ".resto/staging")) == []
    assert descriptors() <= before
    staged = media_root.stage()
    assert os.path.exists(staged.path)


def test_staging_that_somebody_removed_is_made_again(media_root: MediaRoot) -> None:
    """A clean-up that was too thorough does not stop uploads until a restart."""
    own = os.path.join(media_root.root, ".resto")
    stage(media_root, b"x")
    shutil.rmtree(f"{own}/staging")
    stage(media_root, b"y")
    assert stat.S_IMODE(os.stat(f"{own}/staging").st_mode) == 0o700


def test_a_root_without_its_own_folder_is_not_staged_in_nor_locked(media_root: MediaRoot) -> None:
    """Its disk may have been unmounted: the error says so, and nothing is left where it was."""
    stage(media_root, b"x")
    shutil.rmtree(os.path.join(media_root.root, ".resto"))
    for ask in (media_root.stage, lambda: media_root.lock("name").__enter__()):
        with pytest.raises(MediaRootError, match="it is gone; see that the right disk is mounted") as caught:
            ask()
        assert caught.value.away
    assert os.listdir(media_root.root) == []


def test_a_room_that_cannot_be_made_leaves_nothing(media_root: MediaRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a lock file nor a descriptor for each upload that is refused meanwhile."""

    def full(*arguments: object, **keywords: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = descriptors()
    monkeypatch.setattr("resto_wsgi.master.staging.os.mkdir", full)
    for _ in range(3):
        with pytest.raises(MediaRootError) as caught:
            media_root.stage()
        assert caught.value.full
    monkeypatch.undo()
    assert os.listdir(os.path.join(media_root.root, ".resto/staging")) == []
    assert descriptors() <= before
