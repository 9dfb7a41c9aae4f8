"""The media root on a real disk: real links, real locks, real processes, and real kill -9."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from disks import command, descriptors, other_disk, publish, read, replace, run, stage, staged_files

from resto_wsgi.errors import MediaRootError, NameRejected
from resto_wsgi.master.media_root import MediaRoot
from resto_wsgi.master.staged import Staged


@pytest.fixture
def media_root(tmp_path: Path) -> Iterator[MediaRoot]:
    """An empty media root."""
    media_root = MediaRoot(str(tmp_path / "media"), fsync=False)
    yield media_root
    media_root.close()


# Staging


def test_what_is_staged_is_invisible(media_root: MediaRoot) -> None:
    """Nobody but the owner may look into .resto, and listdir does not show it."""
    staged = stage(media_root, b"secret")
    assert stat.S_IMODE(os.stat(os.path.join(media_root.root, ".resto")).st_mode) == 0o700
    assert staged.path.startswith(os.path.join(media_root.root, ".resto", "staging"))
    assert media_root.listdir("") == ([], [])


def test_a_staged_file_knows_its_size_and_digest_and_reads_back(media_root: MediaRoot) -> None:
    """Bytes, bytearray and memoryview are all taken, in the order of the writes."""
    staged = media_root.stage()
    for block in (b"ab", bytearray(b"cd"), memoryview(b"ef")):
        staged.write(block)
    staged.seal()
    staged.seal()
    assert staged.size == 6
    assert staged.sha256 == "bef57ec7f53a6d40beb640a780a639c83bc29ac8a9816f1fc6c5c6dcd93c4721"
    with staged.open() as file:
        assert file.read() == b"abcdef"


def test_discard_removes_the_staged_file_and_may_be_repeated(media_root: MediaRoot) -> None:
    """Sealed or not, neither the file nor its descriptor is left."""
    media_root.stage().discard()
    before = descriptors()
    staged = media_root.stage()
    staged.write(b"x")
    staged.discard()
    staged.discard()
    stage(media_root, b"y").discard()
    assert staged_files(media_root.root) == []
    assert descriptors() <= before


# Removing, and folders


@pytest.mark.parametrize("fsync", [True, False])
def test_remove_says_whether_there_was_a_file_and_refuses_a_folder(tmp_path: Path, fsync: bool) -> None:
    """Only files are deleted, so a replica never loses a tree."""
    media_root = MediaRoot(str(tmp_path), fsync=fsync)
    publish(media_root, "a/cat", b"x")
    with pytest.raises(NameRejected, match="only files are deleted"):
        media_root.remove("a")
    assert media_root.remove("a/cat") is True
    assert media_root.remove("a/cat") is False
    assert media_root.listdir("a") == ([], [])
    media_root.close()


@pytest.mark.parametrize("fsync", [True, False])
def test_drop_removes_a_name_and_the_folders_that_it_leaves_empty(tmp_path: Path, fsync: bool) -> None:
    """Up to the first that holds something, a hidden file too, and never the root."""
    media_root = MediaRoot(str(tmp_path / "media"), fsync=fsync)
    for name in ("a/b/c/1", "a/b/c/2", "a/d", "e/f/1", "top"):
        publish(media_root, name, b"x")
    Path(media_root.path("e/.keep")).touch()
    folders = {"a/b/c/1": "a/b/c", "a/b/c/2": "a", "e/f/1": "e", "a/d": "", "top": ""}
    for name, left in folders.items():
        media_root.drop(name)
        assert not os.path.lexists(media_root.path(name))
        folder = os.path.dirname(name)
        while not os.path.isdir(media_root.path(folder)):
            folder = os.path.dirname(folder)
        assert folder == left
    assert media_root.listdir("") == (["e"], [])
    media_root.check_here()
    media_root.close()


def test_drop_of_what_is_not_there_still_prunes(media_root: MediaRoot) -> None:
    """Another process was killed between the two; a folder of that name is no copy of it and stays."""
    os.makedirs(media_root.path("a/b"))
    media_root.drop("a/b/c/name")
    assert not os.path.exists(media_root.path("a"))
    publish(media_root, "folder/name", b"x")
    media_root.drop("folder")
    media_root.drop("folder/name/below")
    assert read(media_root, "folder/name") == b"x"
    assert media_root.listdir("") == (["folder"], [])


def test_a_removal_is_made_durable_though_its_folder_was_pruned_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The removal of the folder counts then, in the next one that is there; the root being gone is an error."""
    real, gone, synced = os.unlink, ["a/b"], []
    media_root = MediaRoot(str(tmp_path / "media"))

    def pruned(path: str | bytes, **where: Any) -> None:
        real(path, **where)
        if path == b"name":
            for folder in gone:
                os.rmdir(media_root.path(folder))

    publication = publish(media_root, "a/b/name", b"x")
    publication.staged.discard()
    publish(media_root, "a/other", b"x").staged.discard()
    monkeypatch.setattr(os, "unlink", pruned)
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    assert media_root.take_back(publication) is True
    assert synced == [media_root.path("a")]
    monkeypatch.undo()
    publish(media_root, "name", b"x").staged.discard()
    monkeypatch.setattr(os, "unlink", lambda path, **_: os.rename(media_root.root, tmp_path / "aside"))
    with pytest.raises(MediaRootError, match="cannot delete 'name'"):
        media_root.remove("name")


@pytest.mark.parametrize("give", [publish, replace])
@pytest.mark.parametrize("at", ["mkdir", "link"])
def test_a_folder_that_is_pruned_before_it_is_used_is_made_again(
    media_root: MediaRoot, monkeypatch: pytest.MonkeyPatch, give: Any, at: str
) -> None:
    """Three times here, and for ever only if the disk is at fault; a file in its place is a rejected name."""

    def prune(real: Any) -> Any:
        def call(*arguments: Any, **where: Any) -> None:
            if arguments[-1 if at == "link" else 0] in (b"b", b"name") and left:
                left.pop()
                shutil.rmtree(media_root.path("a"))
                if len(left) == 99:
                    Path(media_root.path("a")).touch()
            real(*arguments, **where)

        return call

    function = "mkdir" if at == "mkdir" else "link" if give is publish else "replace"
    monkeypatch.setattr(os, function, prune(getattr(os, function)))
    left = [0] * 3
    give(media_root, "a/b/name", b"x")
    assert (read(media_root, "a/b/name"), left) == (b"x", [])
    shutil.rmtree(media_root.path("a"))
    left = [0] * 100
    with pytest.raises(NameRejected, match="is a file in MEDIA_ROOT"):
        give(media_root, "a/b/name", b"x")
    os.unlink(media_root.path("a"))
    left = [0] * 1000
    with pytest.raises(MediaRootError, match="cannot save 'a/b/name' in MEDIA_ROOT: No such file"):
        give(media_root, "a/b/name", b"x")
    assert 900 < len(left) < 999


def test_a_folder_that_another_makes_and_prunes_meanwhile_is_made_again(
    media_root: MediaRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It existed when it was to be made, and is neither a folder nor a file a moment later."""
    real, seen = os.mkdir, []

    def brief(path: str | bytes, mode: int = 0o777, **where: Any) -> None:
        if path == b"day" and not seen:
            seen.append(path)
            raise FileExistsError(errno.EEXIST, "File exists")
        real(path, mode, **where)

    staged = stage(media_root, b"x")
    monkeypatch.setattr(os, "mkdir", brief)
    media_root.publish(staged, "day/cat")
    assert seen and read(media_root, "day/cat") == b"x"


def test_processes_that_publish_and_drop_in_one_folder_do_not_fail_each_other(media_root: MediaRoot) -> None:
    """Each finds its own file, whole, whatever the others prune; afterwards no folder is left."""
    script = """
        import json, sys
        from resto_wsgi.master.media_root import MediaRoot
        media_root, mark, bad = MediaRoot(sys.argv[1], fsync=False), sys.argv[2], 0
        for number in range(500):
            staged, name = media_root.stage(), f"d/e/f/{mark}"
            staged.write(mark.encode())
            with media_root.lock(name):
                give = media_root.replace if number % 2 else media_root.publish
                media_root.make_durable(give(staged, name))
                with media_root.open(name).file as file:
                    bad += file.read() != mark.encode()
                media_root.drop(name)
            staged.discard()
        print(json.dumps(bad))
    """
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda mark: run(script, media_root.root, mark), "abcd")) == [0] * 4
    assert media_root.listdir("") == ([], [])


def test_a_media_root_that_cannot_be_made_is_an_error_at_start(tmp_path: Path) -> None:
    """The error names the cause."""
    (tmp_path / "file").touch()
    with pytest.raises(MediaRootError, match="Not a directory"):
        MediaRoot(str(tmp_path / "file" / "media"))


# Links


@pytest.mark.parametrize("give", [publish, replace], ids=["publish", "replace"])
@pytest.mark.parametrize("name", ["link/new", "link/sub/new", "out/new", "nowhere/new", "loop/new", "a/up/new"])
def test_nothing_is_saved_through_a_linked_folder(media_root: MediaRoot, tmp_path: Path, give: Any, name: str) -> None:
    """The error names the link and says what to do; nothing is written, and nothing left in the room."""
    (tmp_path / "outside").mkdir()
    os.makedirs(media_root.path("a/real"))
    targets = {"link": "a/real", "out": "../outside", "nowhere": "x", "loop": "loop", "a/up": ".."}
    for link, target in targets.items():
        os.symlink(target, media_root.path(link))
    before = sorted(tmp_path.rglob("*"))
    link = "up" if name == "a/up/new" else name.partition("/")[0]
    with pytest.raises(MediaRootError) as caught:
        give(media_root, name, b"x")
    assert str(caught.value) == (
        f"cannot save '{name}' in MEDIA_ROOT: its folder '{link}' is a symbolic link, which is not followed; "
        "put a file or a folder in its place, or name a linked folder in RESTO_LINKED_FOLDERS"
    )
    del caught
    assert [each for each in sorted(tmp_path.rglob("*")) if "staging" not in each.parts] == [
        each for each in before if "staging" not in each.parts
    ]
    for refused in (media_root.remove, media_root.check_no_folder, media_root.drop):
        with pytest.raises(MediaRootError, match="is a symbolic link, which is not followed"):
            refused(name)


@pytest.mark.parametrize("target", ["file", "../outside", "/etc/passwd", "nowhere", "link"])
def test_a_link_is_no_version_of_a_file(media_root: MediaRoot, tmp_path: Path, target: str) -> None:
    """Its name is taken; an overwrite is refused if the old version is to be kept, and else replaces the link."""
    (tmp_path / "outside").write_bytes(b"outside")
    publish(media_root, "file", b"file").staged.discard()
    os.symlink(target, media_root.path("link"))
    with pytest.raises(FileExistsError):
        publish(media_root, "link", b"new")
    with pytest.raises(MediaRootError, match="cannot save 'link' in MEDIA_ROOT: it is a symbolic link, which is not"):
        replace(media_root, "link", b"new")
    assert os.readlink(media_root.path("link")) == target
    staged = stage(media_root, b"new")
    media_root.make_durable(media_root.replace(staged, "link", keep=False))
    assert (read(media_root, "link"), read(media_root, "file")) == (b"new", b"file")
    assert not os.path.islink(media_root.path("link"))
    assert (tmp_path / "outside").read_bytes() == b"outside"


def test_a_link_is_removed_and_not_what_it_leads_to(media_root: MediaRoot, tmp_path: Path) -> None:
    """Unless it leads to a folder: on a host that name may be a whole tree."""
    publish(media_root, "folder/file", b"x").staged.discard()
    for link, target in (("alias", "folder/file"), ("nowhere", "x"), ("linked", "folder")):
        os.symlink(target, media_root.path(link))
    assert media_root.remove("alias") is media_root.remove("nowhere") is True
    for refused in (media_root.remove, media_root.check_no_folder):
        with pytest.raises(NameRejected, match="only files are deleted"):
            refused("linked")
    staged = stage(media_root, b"new")
    for keep in (True, False):
        with pytest.raises(NameRejected, match="is a folder"):
            media_root.replace(staged, "linked", keep=keep)
    assert sorted(os.listdir(media_root.root)) == [".resto", "folder", "linked"]
    assert read(media_root, "folder/file") == b"x"


def test_a_root_whose_own_folder_is_a_link_is_refused(tmp_path: Path) -> None:
    """Nobody knows who else writes there."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "media").mkdir()
    os.symlink("../elsewhere", tmp_path / "media/.resto")
    with pytest.raises(MediaRootError, match=r"its folder '\.resto' is a symbolic link"):
        MediaRoot(str(tmp_path / "media"))


# Folders on other disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    folder = other_disk(tmp_path)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def large(tmp_path: Path, disk: Path) -> Iterator[MediaRoot]:
    """A media root with ``uploads`` on that file system, and with a plain ``other/uploads`` that is declared too."""
    (tmp_path / "media").mkdir()
    os.symlink(disk, tmp_path / "media/uploads")
    large = MediaRoot(str(tmp_path / "media"), linked=["uploads", "other/uploads"])
    yield large
    large.close()


def aside(folder: str | Path) -> list[str]:
    return [str(path) for path in Path(folder, ".resto/staging").glob("*/*")]


@pytest.mark.parametrize("near", ["", "uploads", "uploads/a/cat", "other/uploads", "uploadsx"])
@pytest.mark.parametrize("name", ["uploads/a/cat", "uploads/cat", "other/uploads/cat", "cat", "uploadsx/cat"])
def test_a_declared_folder_on_another_disk_is_a_folder_in_every_respect(
    large: MediaRoot, disk: Path, name: str, near: str
) -> None:
    """Wherever a file was staged: it is published, replaced, put back, read, listed, removed, and leaves nothing."""
    room = {"": "", "uploadsx": "", "uploads/a/cat": "uploads/"}.get(near, f"{near}/") + ".resto/staging/"

    def staged(content: bytes) -> Staged:
        found = large.stage(near=near)
        found.write(content)
        found.seal()
        assert os.path.relpath(found.path, large.root).startswith(room)
        return found

    with large.lock(name):
        first = large.publish(staged(b"1"), name)
        large.make_durable(first)
        assert large.is_staged(name) and large.is_published(first)
        second = large.replace(staged(b"22"), name)
        large.make_durable(second)
        assert read(large, name) == b"22"
        assert large.keeps_previous(second) and large.take_back(second)
        assert read(large, name) == b"1" and large.state(name)
        third = large.replace(staged(b"333"), name)
        large.forget(third)
        for each in (first, second, third):
            each.staged.discard()
    fourth = staged(b"4444")
    large.make_durable(large.replace(fourth, name, keep=False))
    fourth.discard()
    assert (read(large, name), large.size(name), list(large.names())) == (b"4444", 4, [name])
    assert [aside(each) for each in (large.root, disk, large.path("other/uploads"))] == [[], [], []]
    with pytest.raises(FileExistsError):
        large.publish(staged(b"5"), name)
    large.drop(name)
    assert list(large.names()) == []
    assert large.listdir("")[0] in (["uploads"], ["other", "uploads"]) and os.path.islink(large.path("uploads"))


def test_of_versions_on_another_disk_that_are_all_taken_back_none_stays(large: MediaRoot) -> None:
    """Who replaced a version that is refused must not put it back, wherever it is kept."""
    versions = [replace(large, "uploads/cat", content) for content in (b"1", b"2", b"3")]
    assert [large.take_back(each) for each in versions] == [False, False, True]
    assert not large.exists("uploads/cat")


def test_a_folder_that_is_declared_is_not_replaced_nor_removed(large: MediaRoot) -> None:
    """Whatever it is on the disk."""
    publish(large, "uploads/cat", b"x")
    large.drop("uploads/cat")
    for keep in (True, False):
        with pytest.raises(NameRejected, match="is a folder"):
            large.replace(stage(large, b"x"), "uploads", keep=keep)
    with pytest.raises(NameRejected, match="only files are deleted"):
        large.remove("uploads")
    with pytest.raises(MediaRootError):
        large.remove_folder("uploads")
    assert os.path.islink(large.path("uploads"))


def test_rooms_on_another_disk_are_swept_too(large: MediaRoot, disk: Path) -> None:
    """What a process that was killed had staged there; what the living have stays."""
    script = """
        import os, signal, sys
        from resto_wsgi.master.media_root import MediaRoot
        root = MediaRoot(sys.argv[1], linked=["uploads"])
        staged = root.stage(near="uploads/x")
        staged.write(b"x")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run(command(script, large.root), timeout=30)
    assert killed.returncode == -signal.SIGKILL and len(aside(disk)) == 1
    own = large.stage(near="uploads")
    large.sweep()
    assert [os.path.basename(os.path.dirname(each)) for each in aside(disk)] == [
        os.path.basename(os.path.dirname(own.path))
    ]
    large.close()
    assert aside(disk) == [] and os.listdir(disk / ".resto/staging") == []


def test_a_declared_folder_whose_disk_is_away_is_an_error_and_nothing_is_written(large: MediaRoot, disk: Path) -> None:
    """Neither there nor in the root; the rest of the site goes on, and so does this when it is back."""
    publish(large, "uploads/cat", b"x").staged.discard()
    large.close()
    aside_ = disk.rename(f"{disk}-away")
    problem = "its folder 'uploads' is a symbolic link that leads to no folder; see that its disk is mounted"
    for ask in (large.open, large.state, large.remove, lambda name: publish(large, name, b"y"), large.check_no_folder):
        with pytest.raises(MediaRootError, match=problem):
            ask("uploads/cat")
    with pytest.raises(MediaRootError, match=problem):
        large.stage(near="uploads/cat")
    publish(large, "cat", b"z")
    large.sweep()
    assert not disk.exists() and not large.exists("uploads/cat")
    aside_.rename(disk)
    assert read(large, "uploads/cat") == b"x"


def test_another_disk_that_is_not_declared_is_told_what_to_do(large: MediaRoot, tmp_path: Path, disk: Path) -> None:
    """A save into it is refused, with the setting that makes it work."""
    (disk / "deep").mkdir()
    bare = MediaRoot(str(disk))
    os.symlink(tmp_path / "media", disk / "deep/media")
    root = MediaRoot(str(disk), linked=["deep/media"])
    root._elsewhere.clear()  # as if it were a mount that nobody has named
    with pytest.raises(MediaRootError, match="another file system; name that folder in RESTO_LINKED_FOLDERS"):
        publish(root, "deep/media/cat", b"x")
    bare.close()
    root.close()


def test_folders_are_made_and_removed_one_by_one(media_root: MediaRoot) -> None:
    """Only empty ones are removed, and no file; each answer has its own error."""
    media_root.make_folder("a")
    media_root.make_folder("a/b")
    publish(media_root, "a/file", b"")
    for name, error in (("a", FileExistsError), ("a/file", FileExistsError), ("x/y", FileNotFoundError)):
        with pytest.raises(error):
            media_root.make_folder(name)
    with pytest.raises(NotADirectoryError):
        media_root.make_folder("a/file/x")
    for name, number in (("a", errno.ENOTEMPTY), ("a/file", errno.ENOTDIR)):
        with pytest.raises(MediaRootError) as caught:
            media_root.remove_folder(name)
        assert caught.value.errno == number
    with pytest.raises(FileNotFoundError):
        media_root.remove_folder("missing")
    media_root.remove_folder("a/b")
    assert media_root.listdir("a") == ([], ["file"])


# Locks


def test_a_lock_excludes_threads(media_root: MediaRoot) -> None:
    """A second thread enters when the first has left, and not before."""
    entered = threading.Event()

    def enter() -> None:
        with media_root.lock("cat"):
            entered.set()

    thread = threading.Thread(target=enter)
    with media_root.lock("cat"):
        thread.start()
        assert not entered.wait(0.2)
    assert entered.wait(10)
    thread.join()


def test_locks_exclude_threads_and_processes(media_root: MediaRoot, tmp_path: Path) -> None:
    """Four writers add to one number in a file, and no addition is lost."""
    script = """
        import json, sys, threading, time
        from resto_wsgi.master.media_root import MediaRoot
        media_root, path = MediaRoot(sys.argv[1]), sys.argv[2]
        def add():
            for _ in range(100):
                with media_root.lock("cat"):
                    with open(path) as file:
                        number = int(file.read())
                    time.sleep(0)
                    with open(path, "w") as file:
                        file.write(str(number + 1))
        threads = [threading.Thread(target=add) for _ in range(2)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(json.dumps("done"))
    """
    path = tmp_path / "number"
    path.write_text("0")
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: run(script, media_root.root, path), range(2))) == ["done", "done"]
    assert path.read_text() == "400"


def test_who_does_not_wait_is_told_at_once_that_a_name_is_held(media_root: MediaRoot) -> None:
    """By another thread, by himself, by another process; the holder keeps it, and of the attempt nothing is left."""
    script = """
        import json, sys
        from resto_wsgi.master.media_root import MediaRoot
        with MediaRoot(sys.argv[1]).lock("cat", wait=False) as held:
            print(json.dumps(held))
    """
    before = descriptors()
    with media_root.lock("cat") as held, ThreadPoolExecutor(1) as pool:
        assert held is True
        for _ in range(2):
            with media_root.lock("cat", wait=False) as mine:
                assert mine is False
            assert pool.submit(lambda: media_root.lock("cat", wait=False).__enter__()).result(10) is False
            assert run(script, media_root.root) is False
        with media_root.lock("dog", wait=False) as other:
            assert other is True
    with media_root.lock("cat", wait=False) as free:
        assert free is True
        assert run(script, media_root.root) is False
    assert run(script, media_root.root) is True
    assert descriptors() <= before


def test_a_lock_ends_with_its_process_though_a_child_of_it_lives_on(media_root: MediaRoot) -> None:
    """A parent that is killed with -9 in the midst of a save does not keep the name from others."""
    script = """
        import os, sys
        from resto_wsgi.master.media_root import MediaRoot
        media_root = MediaRoot(sys.argv[1])
        with media_root.lock("cat"):
            if os.fork():
                sys.stdin.read()
        with media_root.lock("dog"):  # the child left the block, and goes on
            print("ready", flush=True)
            sys.stdin.read()
    """
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    parent = subprocess.Popen(command(script, media_root.root), **pipes)
    assert parent.stdout and parent.stdin
    assert parent.stdout.readline() == "ready\n"
    with media_root.lock("cat", wait=False) as held:
        assert held is False
    parent.kill()
    assert parent.wait(10) == -signal.SIGKILL
    with media_root.lock("cat", wait=False) as held, media_root.lock("dog", wait=False) as of_the_child:
        assert (held, of_the_child) == (True, False)
    parent.communicate()


def test_a_lock_is_released_by_an_exception_and_leaves_no_descriptor(media_root: MediaRoot) -> None:
    """Whoever comes next is not held up."""
    before = descriptors()
    with pytest.raises(RuntimeError), media_root.lock("cat"):
        raise RuntimeError
    with media_root.lock("cat"):
        pass
    assert descriptors() <= before


def test_a_lock_is_released_though_a_process_was_forked_under_it(tmp_path: Path) -> None:
    """The child inherits the descriptor; it must not hold the name for as long as it lives."""
    script = """
        import json, os, signal, sys
        from resto_wsgi.master.media_root import MediaRoot
        media_root = MediaRoot(sys.argv[1])
        out, into = os.pipe()
        with media_root.lock("cat"):
            child = os.fork()
            if not child:
                os.close(into)
                os.read(out, 1)  # until the parent ends
                os._exit(0)
        signal.alarm(5)
        with media_root.lock("cat"):
            signal.alarm(0)
        os.close(into)
        os.waitpid(child, 0)
        print(json.dumps("released"))
    """
    assert run(script, tmp_path) == "released"


def test_a_lock_that_cannot_be_had_is_an_error_of_the_media_root(media_root: MediaRoot) -> None:
    """Somebody made a folder in the place of the file of the locks."""
    os.mkdir(os.path.join(media_root.root, ".resto/names.lock"))
    with pytest.raises(MediaRootError, match="cannot lock 'cat'"), media_root.lock("cat"):
        pass


# A full disk


FILL = """
    import json, os, resource, signal, sys
    from resto_wsgi.errors import MediaRootError
    from resto_wsgi.master.media_root import MediaRoot
    if sys.argv[2] == "limit":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, 256 * 1024))
    media_root = MediaRoot(sys.argv[1])
    before = len(os.listdir("/proc/self/fd"))
    staged = media_root.stage()
    try:
        for _ in range(1000):
            staged.write(bytes(10_000))
        found = None
    except MediaRootError as error:
        found = [error.errno, error.full, str(error)]
    finally:
        staged.discard()
    left = [path for path, _, files in os.walk(media_root.root) for file in files
            if file != "id" and not file.endswith(".lock")]
    small = media_root.stage()
    small.write(b"small")
    small.seal()
    media_root.publish(small, "small")
    media_root.close()
    print(json.dumps([found, left, len(os.listdir("/proc/self/fd")) - before, open(media_root.path("small")).read()]))
"""


def test_a_full_disk_is_told_and_what_was_written_is_gone(tmp_path: Path) -> None:
    """On a file system of 256 KiB, mounted where no other process sees it; afterwards a small file has room."""
    mount = 'mount -t tmpfs -o size=256k none "$0" && exec "$@"'
    for namespace in (["unshare", "-m"], ["unshare", "-rm"]):
        prefix = [*namespace, "sh", "-c", mount, str(tmp_path)]
        if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
            break
    else:
        pytest.skip("this system lets nobody mount here; the file size limit stands for it below")
    done = subprocess.run([*prefix, *command(FILL, tmp_path, "disk")], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    found, left, leaked, small = json.loads(done.stdout)
    assert found[:2] == [errno.ENOSPC, True] and found[2].endswith("free some space there")
    assert (left, leaked, small) == ([], 0, "small")


def test_a_file_over_the_size_limit_is_told_and_what_was_written_is_gone(tmp_path: Path) -> None:
    """EFBIG is a kind of full: the same file cannot be had by trying again."""
    found, left, leaked, small = run(FILL, tmp_path, "limit")
    assert found[:2] == [errno.EFBIG, True]
    assert (left, leaked, small) == ([], 0, "small")


# kill -9


KILLED = """
    import errno, json, os, signal, sys
    from resto_wsgi.master.media_root import MediaRoot

    def die_before(step):
        left = [step]
        def counted(real):
            def call(*args, **keywords):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **keywords)
            return call
        for function in ("open", "write", "fsync", "link", "replace", "unlink", "mkdir", "rmdir", "sendfile", "utime"):
            setattr(os, function, counted(getattr(os, function)))

    def refuse():
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def stage(media_root, mark):
        staged = media_root.stage()
        for _ in range(3):
            staged.write(mark * 10_000)
        staged.seal()
        return staged

    def act(root, action, step):
        media_root = MediaRoot(root)
        if action == "take back":
            publication = media_root.replace(stage(media_root, b"n"), "a/cat")
        if "copy" in action:  # a version of another user, which cannot be linked
            real = os.link
            os.link = lambda source, target, **where: (
                refuse() if str(target).endswith(".previous") else real(source, target, **where)
            )
        die_before(step)
        with media_root.lock("a/cat"):
            if action == "take back":
                media_root.take_back(publication)
                publication.staged.discard()
            elif action in ("remove", "drop"):
                getattr(media_root, action)("a/cat")
            else:
                staged = stage(media_root, b"n")
                publication = (media_root.publish if action == "publish" else media_root.replace)(staged, "a/cat")
                media_root.make_durable(publication)
                media_root.forget(publication)
                staged.discard()
        os._exit(0)

    action, found, step, status = sys.argv[2], [], 0, 1
    while status:
        step += 1
        root = f"{sys.argv[1]}/{step}"
        if action != "publish":
            before = MediaRoot(root)
            staged = stage(before, b"o")
            before.publish(staged, "a/cat")
            os.utime(f"{root}/a/cat", (1, 1))  # else its second decides whether the new one is moved on
            before.close()
        media_root = MediaRoot(root)
        living = media_root.stage()
        own = os.path.dirname(living.path)
        child = os.fork()
        if not child:
            act(root, action, step)
        status = os.waitpid(child, 0)[1]
        assert status in (0, signal.SIGKILL), status
        try:
            content = media_root.open("a/cat").file.read()
            content = content[:1].decode() if content == content[:1] * 30_000 else "torn"
        except FileNotFoundError:
            content = None
        media_root.sweep()
        left = set(os.listdir(f"{root}/.resto/staging")) - {os.path.basename(own), os.path.basename(own) + ".lock"}
        visible = [os.path.join(path, file) for path, _, files in os.walk(root) for file in files
                   if "/.resto" not in path]
        if action == "drop":
            media_root.drop("a/cat")
            left |= set(os.listdir(root)) - {".resto"}
        elsewhere = set(os.listdir(f"{root}/.resto")) - {"id", "names.lock", "staging"}
        found.append([content, sorted(left | elsewhere), len(os.listdir(own)), len(visible)])
        media_root.close()
    print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        ("publish", None, "n"),
        ("replace", "o", "n"),
        ("replace a copy", "o", "n"),
        ("take back", "n", "o"),
        ("remove", "o", None),
        ("drop", "o", None),
    ],
)
def test_kill_9_before_any_call_to_the_disk_leaves_a_whole_file_or_none(
    tmp_path: Path, action: str, before: str | None, after: str | None
) -> None:
    """The name is what it was until it is what it shall be, and a process that lives sweeps what is left beside it."""
    found = run(KILLED, tmp_path, action)
    states = [content for content, *_ in found]
    turn = states.index(after)
    assert turn > 0, "it was never killed before the turn"
    assert states == [before] * turn + [after] * (len(states) - turn)
    assert len(states) >= (12 if action in ("publish", "replace", "replace a copy") else 3)
    for content, left, in_own_room, visible in found:
        assert left == []
        assert in_own_room == 1
        assert visible == (content is not None)
