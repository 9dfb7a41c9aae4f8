"""The contract of the disk engine, for each of its users and wherever the files lie.

Whatever an application and our own media server want of it beside this is tested with the module that does it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from disk_users import USERS, User
from disks import command, descriptors, other_disk, own_mounts, run

from resto_wsgi.errors import MediaRootError, NameRejected

PLAIN_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
BIG = os.urandom(3 * 1024 * 1024 + 1)
WAIT = 20.0  # seconds that anything may take here


@pytest.fixture(params=USERS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which user it is."""
    found: str = request.param
    return found


PLACES = ["", "declared/", "other disk/", "linked root/"]
FEW = pytest.mark.parametrize("place", ["", "other disk/"], ids=["root", "other disk"], indirect=True)  # takes seconds


@pytest.fixture(params=PLACES, ids=lambda place: place.rstrip("/") or "root")
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where the names are: in the root, in a linked folder that is declared, on this disk or another one."""
    found: str = request.param
    (tmp_path / "media").mkdir()
    (tmp_path / "near").mkdir()
    os.symlink("../near", tmp_path / "media/declared")
    if found == "linked root/":
        os.rename(tmp_path / "media", tmp_path / "real")
        os.symlink("real", tmp_path / "media")
    if found != "other disk/":
        yield found if found == "declared/" else ""
        return
    far = other_disk(tmp_path)
    os.symlink(far, tmp_path / "media/other disk")
    yield found
    shutil.rmtree(far)


@pytest.fixture
def user(kind: str, place: str, tmp_path: Path) -> Iterator[User]:
    """One who keeps files there, and leaves nothing aside and nothing open."""
    user = USERS[kind](str(tmp_path / "media"), ["declared", "other disk"])
    user.save(f"{place}warm", b"")  # opens the room
    user.delete(f"{place}warm")
    before = descriptors()
    yield user
    assert descriptors() <= before
    assert aside(user) == []
    user.close()


def aside(user: User) -> list[str]:
    """What lies in the rooms."""
    root = Path(user.media_root.root)
    rooms = [path for each in (root, *root.iterdir()) for path in each.glob(".resto/staging/*/*")]
    return [str(path) for path in rooms]


def refusal(act: Callable[[], object]) -> Exception | None:
    """Return the error with which the engine refuses, None if it does not."""
    try:
        act()
    except (MediaRootError, NameRejected) as error:
        return error.with_traceback(None)
    return None


# Files


NAMES = {
    "plain": "cat",
    "deep": "a/b/c/d/e/f/g/h",
    "unicode": "na\u00efve/\u65e5\u672c.jpg",
    "a long part": "x" * 240,
    "long": "/".join(["y" * 100] * 10),
    "with space": "with space/a.b.c",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_what_is_saved_is_there(user: User, place: str, name: str) -> None:
    """Whole, listed, and gone when it was deleted; then it can be saved anew."""
    name = place + name
    for content in (b"", b"a cat", BIG):
        assert user.read(name) is None and list(user.media_root.names()) == []
        user.save(name, content)
        assert user.read(name) == content
        assert list(user.media_root.names()) == [name]
        assert (user.media_root.exists(name), user.media_root.size(name)) == (True, len(content))
        assert user.delete(name) is True
        assert user.delete(name) is False
    assert user.media_root.state(name) is None


def test_an_overwrite_is_another_file(user: User, place: str) -> None:
    """Who has the old version open reads it to its end; who opens the name has the new one."""
    user.save(f"{place}a/cat", b"old")
    before = user.media_root.state(f"{place}a/cat")
    with user.media_root.open(f"{place}a/cat").file as old:
        user.save(f"{place}a/cat", b"newer")
        assert (old.read(), user.read(f"{place}a/cat")) == (b"old", b"newer")
    assert user.media_root.state(f"{place}a/cat") not in (None, before)


@FEW
def test_of_writers_at_once_each_reader_sees_one(user: User, place: str, kind: str) -> None:
    """Threads and processes that save, delete and read one name: never a part, never two mixed, never an error."""
    name, over = f"{place}a/b/cat", threading.Event()
    script = """
        import json, sys
        from disk_users import USERS
        user = USERS[sys.argv[1]](sys.argv[2], ["declared", "other disk"])
        for number in range(40):
            user.save(sys.argv[3], bytes([number]) * 50_000)
            if number % 10 == 9:
                user.delete(sys.argv[3])
        user.close()
        print(json.dumps("done"))
    """

    def reader() -> int:
        reads = 0
        while not over.is_set():
            content = user.read(name)
            assert content is None or content == content[:1] * 50_000
            reads += 1
        return reads

    def writer(mark: int) -> None:
        for _ in range(40):
            user.save(name, bytes([mark]) * 50_000)

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(reader) for _ in range(2)]
        try:
            writers = [pool.submit(writer, mark) for mark in (200, 201)]
            others = [pool.submit(run, script, kind, user.media_root.root, name) for _ in range(2)]
            assert [each.result() for each in (*writers, *others)] == [None, None, "done", "done"]
        finally:
            over.set()
        assert min(each.result() for each in readers) > 0


# Crashes


KILLED = """
    import json, os, signal, sys
    from disk_users import USERS

    ACTS = {
        "save": lambda user, name: user.save(name, b"n" * 30_000),
        "overwrite": lambda user, name: user.save(name, b"n" * 30_000),
        "delete": lambda user, name: user.delete(name),
    }
    CALLS = ("open", "write", "fsync", "link", "replace", "unlink", "mkdir", "rmdir", "utime", "setxattr", "ftruncate")

    def die_before(step):
        left = [step]
        def counted(real):
            def call(*args, **keywords):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **keywords)
            return call
        for function in CALLS:
            setattr(os, function, counted(getattr(os, function)))

    kind, root, name, action, linked = *sys.argv[1:5], ["declared", "other disk"]
    found, step, status = [], 0, 1
    staging = [os.path.join(root, each, ".resto/staging") for each in ("", *linked)]

    def aside():
        return {each for path in staging if os.path.isdir(path) for each in os.listdir(path)}

    living = aside()
    while status:
        step += 1
        before = USERS[kind](root, linked)
        before.delete(name)
        if action != "save":
            before.save(name, b"o" * 30_000)
        before.close()
        child = os.fork()
        if not child:
            user = USERS[kind](root, linked)
            die_before(step)
            ACTS[action](user, name)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert status in (0, signal.SIGKILL), status
        after = USERS[kind](root, linked)
        content = after.read(name)
        after.media_root.sweep()
        whole = content and [content[:1].decode(), content == content[:1] * 30_000]
        found.append([whole, sorted(aside() - living)])
        after.close()
    print(json.dumps(found))
"""


@FEW
@pytest.mark.parametrize(
    ("action", "before", "after"), [("save", None, "n"), ("overwrite", "o", "n"), ("delete", "o", None)]
)
def test_kill_9_before_any_call_leaves_the_old_version_or_the_new_one(
    user: User, kind: str, place: str, action: str, before: str | None, after: str | None
) -> None:
    """Whole, and the next who starts sweeps what was left aside."""
    name = f"{place}a/cat"
    found = run(KILLED, kind, user.media_root.root, name, action)
    states = [None if content is None else content[0] for content, _ in found]
    assert all(content is None or content[1] for content, _ in found)
    turn = states.index(after)
    assert turn > 0, "it was never killed before the turn"
    assert states == [before] * turn + [after] * (len(states) - turn)
    assert len(states) >= (6 if action == "delete" else 12)
    assert [left for _, left in found if left] == []
    user.delete(name)


@FEW
def test_what_a_killed_process_left_is_swept_and_what_a_living_one_has_is_not(
    user: User, kind: str, place: str
) -> None:
    """By whoever starts next, or is asked to; the lock of a room is free when its process is dead."""
    script = """
        import sys
        from disk_users import USERS
        user = USERS[sys.argv[1]](sys.argv[2], ["declared", "other disk"])
        staged = user.media_root.stage(near=sys.argv[3])
        staged.write(b"x")
        print("ready", flush=True)
        sys.stdin.read()
    """
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environ = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}
    arguments = command(script, kind, user.media_root.root, f"{place}cat")
    dead, living = (subprocess.Popen(arguments, env=environ, **pipes) for _ in range(2))
    for each in (dead, living):
        assert each.stdout and each.stdout.readline() == "ready\n"
    assert len(aside(user)) == 2
    dead.kill()
    assert dead.wait(WAIT) == -signal.SIGKILL
    user.media_root.sweep()
    (left,) = aside(user)
    assert os.path.basename(os.path.dirname(left)).startswith(f"{living.pid}-")
    living.kill()
    living.wait(WAIT)
    for each in (dead, living):
        each.communicate()
    USERS[kind](user.media_root.root, ["declared", "other disk"]).media_root.sweep()
    assert aside(user) == []


# What is in the way


def make_obstacle(what: str, path: str, outside: Path) -> None:
    """Put something that is no file of ours at ``path``."""
    if what == "folder":
        os.makedirs(f"{path}/in it")
        Path(path, "in it/.hidden").touch()  # an empty one would give way
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            folder = os.open(os.path.dirname(path), os.O_PATH)
            listener.bind(f"/proc/self/fd/{folder}/{os.path.basename(path)}")  # a long path is no address
            os.close(folder)
    elif what == "device":
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root makes devices")
    else:
        target = {"link to a file": "file", "link to a folder": ".", "link to nothing": "x", "loop": path}[what]
        os.symlink(outside / target, path)


OBSTACLES = ["folder", "pipe", "socket", "device", "link to a file", "link to a folder", "link to nothing", "loop"]
REFUSED = {"folder", "link to a folder"}  # for everybody; an application has a link left where somebody put it


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """What must never be read nor changed by way of a link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"secret")
    yield outside
    assert {each.name: each.read_bytes() for each in outside.iterdir()} == {"file": b"secret"}


@pytest.mark.parametrize("what", OBSTACLES)
def test_what_is_in_the_place_of_a_file(user: User, kind: str, place: str, outside: Path, what: str) -> None:
    """It is never read, waited for or followed, and no name of the walk; a save replaces it or is refused in words."""
    name = f"{place}name"
    path = user.media_root.path(name)
    make_obstacle(what, path, outside)
    assert user.read(name) is None
    assert (user.media_root.state(name), user.media_root.exists(name)) == (None, False)
    assert list(user.media_root.names()) == []
    error = refusal(lambda: user.save(name, b"new"))
    if what in REFUSED:
        assert isinstance(error, NameRejected) and "is a folder" in str(error)
        assert isinstance(refusal(lambda: user.delete(name)), NameRejected)
    elif kind == "application" and ("link" in what or what == "loop"):
        assert isinstance(error, MediaRootError) and "it is a symbolic link, which is not followed" in str(error)
        assert user.delete(name) is True
    else:
        assert error is None and user.read(name) == b"new"
        assert user.delete(name) is True
    assert os.path.lexists(path) == (what in REFUSED)


@pytest.mark.parametrize("what", [each for each in OBSTACLES if each != "folder"])
def test_what_is_in_the_place_of_a_folder(user: User, place: str, outside: Path, what: str) -> None:
    """Nothing is read, saved or deleted below it, and it stays; the error says whether it is a link."""
    path = user.media_root.path(f"{place}name")
    make_obstacle(what, path, outside)
    before = os.lstat(path)
    for name in (f"{place}name/file", f"{place}name/sub/file"):
        assert user.read(name) is None
        error = refusal(lambda name=name: user.save(name, b"new"))
        if "link" in what or what == "loop":
            assert isinstance(error, MediaRootError) and "is a symbolic link, which is not followed" in str(error)
        else:
            assert isinstance(error, NameRejected) and "a folder of it is a file" in str(error)
        deleted = False
        with contextlib.suppress(MediaRootError, NameRejected):
            deleted = user.delete(name)
        assert deleted is False
    assert os.path.samestat(os.lstat(path), before)
    assert list(user.media_root.names()) == []
    os.unlink(path)


@pytest.mark.parametrize("name", ["x" * 256, "a/" + "x" * 300, "x" * 256 + "/a", "a/b/" + "\u65e5" * 86])
def test_a_name_that_the_disk_does_not_take_is_refused(user: User, place: str, name: str) -> None:
    """In words, and nothing of it is left but perhaps an empty folder."""
    error = refusal(lambda: user.save(place + name, b"x"))
    assert isinstance(error, MediaRootError) and error.errno == errno.ENAMETOOLONG
    assert user.read(place + name) is None
    assert list(user.media_root.names()) == []


def test_a_name_has_the_same_bytes_in_every_locale(user: User, kind: str, place: str) -> None:
    """In one that knows ASCII alone as well: saved in one, read, listed and deleted in the other."""
    script = """
        import json, sys
        from disk_users import USERS
        user = USERS[sys.argv[1]](sys.argv[2], ["declared", "other disk"])
        place, seen = sys.argv[3], "na\\u00efve/\\u65e5.txt"
        names = sorted(user.media_root.names())
        content = user.read(place + seen)
        deleted = user.delete(place + seen)
        user.save(place + "\\u00fc/x", b"plain")
        user.save(place + "\\u00fc/x", b"plain again")
        user.close()
        print(json.dumps([sys.getfilesystemencoding(), names, content and content.decode(), deleted]))
    """
    name = f"{place}na\u00efve/\u65e5.txt"
    user.save(name, b"wide")
    encoding, names, content, deleted = run(script, kind, user.media_root.root, place, **PLAIN_LOCALE)
    assert (names, content, deleted) == ([name], "wide", True)
    assert encoding != "utf-8"
    assert user.read(f"{place}\u00fc/x") == b"plain again"
    assert list(user.media_root.names()) == [f"{place}\u00fc/x"]
    user.delete(f"{place}\u00fc/x")


# Disks that refuse, in a mount namespace of their own


def in_own_mounts(script: str, kind: str, tmp_path: Path) -> Any:
    """Run a script that may mount below ``sys.argv[2]``, unseen by others."""
    return run(script, kind, tmp_path, before=own_mounts())


def test_a_full_disk_refuses_and_keeps_what_it_has(kind: str, tmp_path: Path) -> None:
    """What does not fit is told as full; the old version stays, and what fits is saved afterwards."""
    script = """
        import json, os, subprocess, sys
        from disk_users import USERS
        from resto_wsgi.errors import MediaRootError
        root = sys.argv[2]
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", root], check=True)
        user = USERS[sys.argv[1]](root)
        user.save("cat", b"old")
        told = []
        for name in ("cat", "a/dog"):
            try:
                user.save(name, os.urandom(1_000_000))
            except MediaRootError as error:
                told.append(error.full)
        aside = [files for _, _, files in os.walk(f"{root}/.resto/staging") if any("." not in each for each in files)]
        kept = user.read("cat").decode()
        user.save("cat", b"new")
        print(json.dumps([told, aside, kept, user.read("cat").decode(), sorted(user.media_root.names())]))
    """
    assert in_own_mounts(script, kind, tmp_path) == [[True, True], [], "old", "new", ["cat"]]


def test_a_read_only_disk_refuses_and_can_be_read(kind: str, tmp_path: Path) -> None:
    """Nothing of a save or a delete is done; all goes on when it can be written again."""
    script = """
        import errno, json, subprocess, sys
        from disk_users import USERS
        from resto_wsgi.errors import MediaRootError
        root = sys.argv[2]
        mount = ["mount", "-t", "tmpfs", "none", root]
        subprocess.run(mount, check=True)
        user = USERS[sys.argv[1]](root)
        user.save("a/cat", b"old")
        user.close()
        subprocess.run(["mount", "-o", "remount,ro", root], check=True)
        told = []
        for act in (lambda: user.save("a/cat", b"new"), lambda: user.save("b/c", b"new"), lambda: user.delete("a/cat")):
            try:
                act()
            except MediaRootError as error:
                told.append(error.errno == errno.EROFS)
        kept = [user.read("a/cat").decode(), list(user.media_root.names())]
        subprocess.run(["mount", "-o", "remount,rw", root], check=True)
        user.save("a/cat", b"new")
        print(json.dumps([told, kept, user.read("a/cat").decode()]))
    """
    assert in_own_mounts(script, kind, tmp_path) == [[True] * 3, ["old", ["a/cat"]], "new"]


def test_a_disk_that_is_unmounted_under_way_is_not_taken_for_an_empty_one(kind: str, tmp_path: Path) -> None:
    """Nothing is written, made or deleted in what is seen in its place; all goes on when it is back."""
    script = """
        import json, os, subprocess, sys
        from disk_users import USERS
        from resto_wsgi.errors import MediaRootError
        base, root = sys.argv[2] + "/base", sys.argv[2] + "/media"
        for folder in (base, root):
            os.mkdir(folder)
        subprocess.run(["mount", "-t", "tmpfs", "none", base], check=True)
        bind = ["mount", "--bind", base, root]
        subprocess.run(bind, check=True)
        user = USERS[sys.argv[1]](root)
        user.save("a/cat", b"old")
        staged = user.media_root.stage()  # somebody is in the middle of an upload
        staged.write(b"x")
        subprocess.run(["umount", "--lazy", root], check=True)
        told = []
        for act in (lambda: user.save("a/cat", b"new"), lambda: user.save("b", b"new"), lambda: user.delete("a/cat")):
            try:
                act()
            except MediaRootError as error:
                told.append(error.away)
        seen = [user.read("a/cat"), user.media_root.state("a/cat"), os.listdir(root)]
        try:
            user.media_root.check_here()
        except MediaRootError as error:
            told.append(error.away)
        subprocess.run(bind, check=True)
        user.media_root.check_here()
        back = user.read("a/cat").decode()
        user.save("a/cat", b"new")
        print(json.dumps([told, seen, back, user.read("a/cat").decode()]))
    """
    assert in_own_mounts(script, kind, tmp_path) == [[True] * 4, [None, None, []], "old", "new"]
