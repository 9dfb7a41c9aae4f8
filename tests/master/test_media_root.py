"""The media root on a real disk: real links, real locks, real processes, and real kill -9."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from resto_wsgi.errors import MediaRootError, NameRejected
from resto_wsgi.master.media_root import MediaRoot, Publication, Staged


@pytest.fixture
def media_root(tmp_path: Path) -> Iterator[MediaRoot]:
    """An empty media root."""
    media_root = MediaRoot(str(tmp_path / "media"), fsync=False)
    yield media_root
    media_root.close()


def stage(media_root: MediaRoot, content: bytes) -> Staged:
    staged = media_root.stage()
    staged.write(content)
    staged.seal()
    return staged


def publish(media_root: MediaRoot, name: str, content: bytes) -> Publication:
    return media_root.publish(stage(media_root, content), name)


def replace(media_root: MediaRoot, name: str, content: bytes) -> Publication:
    return media_root.replace(stage(media_root, content), name)


def read(media_root: MediaRoot, name: str) -> bytes:
    with media_root.open(name).file as file:
        return file.read()


def staged_files(root: str | Path) -> list[str]:
    """The paths of all files in the rooms under a media root."""
    return sorted(str(path) for path in Path(root, ".resto/staging").glob("*/*"))


def descriptors() -> int:
    gc.collect()  # what other tests have left to it is not ours to count
    return len(os.listdir("/proc/self/fd"))


def command(script: str, *arguments: object) -> list[str]:
    """Return the command that runs a script in an interpreter of its own."""
    return [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), *map(str, arguments)]


def run(script: str, *arguments: object) -> Any:
    """Run a script to its end and return the JSON that it printed."""
    done = subprocess.run(command(script, *arguments), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


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


# Publishing


@pytest.mark.parametrize("fsync", [True, False])
def test_a_published_name_is_whole_and_outlives_its_staged_file(tmp_path: Path, fsync: bool) -> None:
    """The folders above the name are made, and the public may read the file."""
    media_root = MediaRoot(str(tmp_path / "deep" / "media"), fsync=fsync)
    publication = publish(media_root, "a/b/c.txt", b"content")
    media_root.make_durable(publication)
    publication.staged.discard()
    assert read(media_root, "a/b/c.txt") == b"content"
    assert media_root.path("a/b/c.txt") == str(tmp_path / "deep/media/a/b/c.txt")
    assert stat.S_IMODE(os.stat(media_root.path("a/b/c.txt")).st_mode) & 0o444 == 0o444
    assert (media_root.size("a/b/c.txt"), media_root.exists("a/b/c.txt")) == (7, True)
    media_root.close()


def test_publish_never_overwrites(media_root: MediaRoot) -> None:
    """A name that is taken, by a file or a folder, stays as it is."""
    publish(media_root, "a/cat", b"first")
    for name in ("a/cat", "a"):
        with pytest.raises(FileExistsError):
            publish(media_root, name, b"second")
    assert read(media_root, "a/cat") == b"first"


def test_twenty_threads_that_want_one_name_get_one_winner_each(media_root: MediaRoot) -> None:
    """Every content is under exactly one name and no bytes are mixed."""

    def save(number: int) -> str:
        staged = stage(media_root, bytes([number]) * 100_000)
        barrier.wait(10)
        for attempt in range(50):
            try:
                media_root.publish(staged, f"new/folder/cat-{attempt}")
            except FileExistsError:
                continue
            return f"new/folder/cat-{attempt}"
        raise AssertionError("no name was free")

    barrier = threading.Barrier(20)
    with ThreadPoolExecutor(20) as pool:
        names = list(pool.map(save, range(20)))
    assert sorted(names) == sorted(f"new/folder/cat-{number}" for number in range(20))
    for number, name in enumerate(names):
        assert read(media_root, name) == bytes([number]) * 100_000


def test_several_processes_that_want_one_name_get_one_winner_each(media_root: MediaRoot) -> None:
    """The link decides, so processes exclude each other as threads do."""
    script = """
        import json, sys
        from resto_wsgi.master.media_root import MediaRoot
        media_root, mark, names = MediaRoot(sys.argv[1], fsync=False), sys.argv[2].encode(), []
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(40):
            staged, attempt = media_root.stage(), 0
            staged.write(mark * 50_000)
            while True:
                try:
                    media_root.publish(staged, f"cat-{attempt}")
                    break
                except FileExistsError:
                    attempt += 1
            names.append(f"cat-{attempt}")
            staged.discard()
        print(json.dumps(names))
    """
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    savers = {mark: subprocess.Popen(command(script, media_root.root, mark), **pipes) for mark in "abc"}
    for saver in savers.values():
        assert saver.stdout.readline() == "ready\n"
    for saver in savers.values():
        saver.stdin.write("go\n")
        saver.stdin.flush()
    names = {mark: json.loads(saver.communicate(timeout=60)[0]) for mark, saver in savers.items()}
    assert sorted(name for each in names.values() for name in each) == sorted(f"cat-{number}" for number in range(120))
    for mark in "abc":
        assert all(read(media_root, name) == mark.encode() * 50_000 for name in names[mark])


def test_a_folder_of_the_name_that_is_a_file_is_a_rejected_name(media_root: MediaRoot) -> None:
    """Below a file there can be nothing, at any depth."""
    publish(media_root, "file", b"x")
    for name in ("file/a", "file/a/b/c"):
        with pytest.raises(NameRejected, match="is a file in MEDIA_ROOT"):
            publish(media_root, name, b"y")
        with pytest.raises(NameRejected, match="is a file in MEDIA_ROOT"):
            replace(media_root, name, b"y")
        with pytest.raises(FileNotFoundError):
            media_root.open(name)
        assert media_root.remove(name) is False
        assert not media_root.exists(name)


def test_a_folder_that_another_makes_meanwhile_is_used(media_root: MediaRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two uploads of a new day make the day's folder at once, and neither fails."""
    mkdir = os.mkdir

    def late(path: str, mode: int = 0o777) -> None:
        if path.endswith("day"):
            mkdir(path, mode)
        mkdir(path, mode)

    staged = stage(media_root, b"x")
    monkeypatch.setattr(os, "mkdir", late)
    media_root.publish(staged, "day/cat")
    assert read(media_root, "day/cat") == b"x"


# Replacing and taking back


def test_replace_gives_the_new_version_and_keeps_the_old(media_root: MediaRoot) -> None:
    """The old version waits in the room until it is forgotten, which may be repeated."""
    publish(media_root, "cat", b"old").staged.discard()
    publication = replace(media_root, "cat", b"new")
    assert read(media_root, "cat") == b"new"
    assert publication.previous is not None
    assert Path(publication.previous).read_bytes() == b"old"
    media_root.forget(publication)
    media_root.forget(publication)
    publication.staged.discard()
    assert staged_files(media_root.root) == []


def test_take_back_restores_what_was_replaced(media_root: MediaRoot) -> None:
    """The old version has its name again, and nothing is left in the room."""
    publish(media_root, "cat", b"old").staged.discard()
    publication = replace(media_root, "cat", b"new")
    assert media_root.take_back(publication) is True
    assert read(media_root, "cat") == b"old"
    publication.staged.discard()
    assert staged_files(media_root.root) == []


@pytest.mark.parametrize("give", [publish, replace])
def test_take_back_of_a_new_name_removes_it(media_root: MediaRoot, give: Any) -> None:
    """A name that did not exist does not exist again; a second time there is nothing to take back."""
    publication = give(media_root, "a/cat", b"new")
    assert publication.previous is None
    media_root.forget(publication)
    assert media_root.take_back(publication) is True
    assert not media_root.exists("a/cat")
    assert media_root.take_back(publication) is False


def test_take_back_leaves_a_name_that_somebody_replaced_since(media_root: MediaRoot) -> None:
    """The later writer wins, even one that wrote the same bytes."""
    first = publish(media_root, "cat", b"same")
    replace(media_root, "cat", b"same")
    assert media_root.take_back(first) is False
    assert read(media_root, "cat") == b"same"


def test_take_back_leaves_a_name_whose_folder_became_a_file(media_root: MediaRoot) -> None:
    """Whoever put a file there replaced the name as well."""
    publication = publish(media_root, "a/cat", b"x")
    media_root.remove("a/cat")
    os.rmdir(media_root.path("a"))
    publish(media_root, "a", b"y")
    assert media_root.take_back(publication) is False
    assert read(media_root, "a") == b"y"


def test_replace_refuses_a_folder(media_root: MediaRoot) -> None:
    """What is below the folder stays, and nothing is left in the room."""
    publish(media_root, "a/cat", b"x").staged.discard()
    staged = stage(media_root, b"y")
    with pytest.raises(NameRejected, match="is a folder"):
        media_root.replace(staged, "a")
    assert read(media_root, "a/cat") == b"x"
    assert staged_files(media_root.root) == [staged.path]


def test_a_replace_that_the_disk_refuses_changes_nothing(
    media_root: MediaRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old version keeps its name, and of the attempt only the staged file is left."""

    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    publish(media_root, "cat", b"old").staged.discard()
    staged = stage(media_root, b"new")
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(MediaRootError, match=r"cannot save 'cat' in MEDIA_ROOT: Read-only file system") as caught:
        media_root.replace(staged, "cat")
    assert (caught.value.errno, caught.value.full) == (errno.EROFS, False)
    assert read(media_root, "cat") == b"old"
    assert staged_files(media_root.root) == [staged.path]


def test_no_reader_sees_a_torn_file_during_200_replacements(media_root: MediaRoot) -> None:
    """Each read gives one whole version, and never no file."""
    publish(media_root, "cat", bytes(200_000)).staged.discard()
    over = threading.Event()
    seen: set[int] = set()

    def reader() -> int:
        reads = 0
        while not over.is_set():
            content = read(media_root, "cat")
            assert len(content) == 200_000 and content == content[:1] * 200_000
            seen.add(content[0])
            reads += 1
        return reads

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(reader) for _ in range(3)]
        try:
            for number in range(200):
                publication = replace(media_root, "cat", bytes([number]) * 200_000)
                media_root.forget(publication)
                publication.staged.discard()
        finally:
            over.set()
        assert sum(each.result() for each in readers) >= 10
    assert len(seen) >= 3
    assert read(media_root, "cat") == bytes([199]) * 200_000
    assert staged_files(media_root.root) == []


# Reading and removing


def test_open_tells_size_and_mtime_of_the_very_file(media_root: MediaRoot) -> None:
    """They are those of the open descriptor, whatever has the name by now."""
    publish(media_root, "cat", b"old")
    os.utime(media_root.path("cat"), (1_000_000_000, 1_000_000_000))
    master = media_root.open("cat")
    replace(media_root, "cat", b"newer")
    with master.file:
        assert (master.size, master.mtime, master.file.read()) == (3, 1_000_000_000, b"old")


def test_what_is_no_file_is_not_found(media_root: MediaRoot) -> None:
    """A missing name, a folder and a device look the same to a reader, and leave no descriptor."""
    os.mkdir(media_root.path("folder"))
    os.symlink("/dev/null", media_root.path("device"))
    before = descriptors()
    for name in ("missing", "folder", "device"):
        with pytest.raises(FileNotFoundError):
            media_root.open(name)
        with pytest.raises(FileNotFoundError):
            media_root.size(name)
        assert not media_root.exists(name)
    assert descriptors() <= before


def test_a_file_that_cannot_be_opened_is_an_error_of_the_media_root(media_root: MediaRoot) -> None:
    """What the disk cannot even look up is neither found nor missing."""
    with pytest.raises(MediaRootError, match="cannot read 'xxx") as caught:
        media_root.open("x" * 300)
    assert caught.value.errno == errno.ENAMETOOLONG


def test_what_is_no_file_is_absent_and_not_waited_for(media_root: MediaRoot) -> None:
    """A FIFO would block, a link to itself leads nowhere; neither is listed, and the folder around them is."""
    os.mkfifo(media_root.path("pipe"))
    os.symlink("loop", media_root.path("loop"))
    publish(media_root, "file", b"x")
    for name in ("pipe", "loop"):
        with pytest.raises(FileNotFoundError):
            media_root.open(name)
    assert media_root.listdir("") == ([], ["file"])


def test_of_versions_that_are_all_taken_back_none_stays(media_root: MediaRoot) -> None:
    """In whatever order: who replaced a version that is refused must not put it back."""
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]):
        versions = []
        for _ in range(3):
            staged = stage(media_root, b"same")
            versions.append(media_root.replace(staged, f"name-{order}"))
        for each in order:
            media_root.take_back(versions[each])
        assert not media_root.exists(f"name-{order}")


def test_a_version_that_stands_comes_back_when_those_after_it_are_taken_back(media_root: MediaRoot) -> None:
    """The first was acknowledged; the second and the third fail in the order in which they came."""
    kept, second, third = (media_root.replace(stage(media_root, content), "name") for content in (b"1", b"2", b"3"))
    media_root.forget(kept)
    assert not media_root.take_back(second)
    assert media_root.take_back(third)
    assert read(media_root, "name") == b"1"


def test_staging_that_somebody_removed_is_made_again(media_root: MediaRoot) -> None:
    """A clean-up that was too thorough does not stop uploads until a restart."""
    own = os.path.join(media_root.root, ".resto")
    stage(media_root, b"x")
    shutil.rmtree(own)
    stage(media_root, b"y")
    assert stat.S_IMODE(os.stat(own).st_mode) == 0o700
    shutil.rmtree(own)
    with media_root.lock("name"):
        assert stat.S_IMODE(os.stat(own).st_mode) == 0o700


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


def test_listdir_is_sorted_and_shows_nothing_hidden(media_root: MediaRoot) -> None:
    """Folders and files are told apart; a file or nothing is no folder."""
    for name in ("b", "a", "d/x", "c/x"):
        publish(media_root, name, b"")
    Path(media_root.path(".hidden")).touch()
    assert media_root.listdir("") == (["c", "d"], ["a", "b"])
    assert media_root.listdir("c") == ([], ["x"])
    with pytest.raises(FileNotFoundError):
        media_root.listdir("missing")
    with pytest.raises(NotADirectoryError):
        media_root.listdir("a")


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


def test_the_state_tells_one_version_from_another(media_root: MediaRoot) -> None:
    """That of the open file, and that which the name has now, with or without a change of size or time."""
    publish(media_root, "cat", b"old")
    os.utime(media_root.path("cat"), ns=(1, 1))
    master = media_root.open("cat")
    master.file.close()
    assert media_root.state("cat") == master.state
    assert master.state[2:] == (3, 1)
    replace(media_root, "cat", b"new")
    os.utime(media_root.path("cat"), ns=(1, 1))
    assert media_root.state("cat") not in (None, master.state)
    seen = media_root.state("cat")
    os.utime(media_root.path("cat"), ns=(1, 2))
    assert media_root.state("cat") not in (None, seen)


def test_what_is_no_file_has_no_state(media_root: MediaRoot) -> None:
    """Whatever open does not find; what cannot be looked up is an error."""
    publish(media_root, "folder/file", b"x")
    os.mkfifo(media_root.path("pipe"))
    os.symlink("loop", media_root.path("loop"))
    for name in ("missing", "folder", "pipe", "loop", "folder/file/below"):
        assert media_root.state(name) is None
    with pytest.raises(MediaRootError, match="cannot read 'xxx"):
        media_root.state("x" * 300)


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
    """Another process was killed between the two; a folder of that name is no copy of it and stays, as do links."""
    os.makedirs(media_root.path("a/b"))
    media_root.drop("a/b/c/name")
    assert not os.path.exists(media_root.path("a"))
    publish(media_root, "folder/name", b"x")
    media_root.drop("folder")
    media_root.drop("folder/name/below")
    assert read(media_root, "folder/name") == b"x"
    os.makedirs(media_root.path("real/deep"))
    os.symlink("real", media_root.path("link"))
    media_root.drop("link/deep/name")
    assert media_root.listdir("") == (["folder", "link", "real"], [])


def test_a_removal_is_made_durable_though_its_folder_was_pruned_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The removal of the folder counts then, in the next one that is there; the root being gone is an error."""
    real, gone, synced = os.unlink, ["a/b"], []
    media_root = MediaRoot(str(tmp_path / "media"))

    def pruned(path: str) -> None:
        real(path)
        if path.endswith("/name"):
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
    monkeypatch.setattr(os, "unlink", lambda path: os.rename(media_root.root, tmp_path / "aside"))
    with pytest.raises(MediaRootError, match="cannot delete 'name'"):
        media_root.remove("name")


@pytest.mark.parametrize("give", [publish, replace])
@pytest.mark.parametrize("at", ["mkdir", "link"])
def test_a_folder_that_is_pruned_before_it_is_used_is_made_again(
    media_root: MediaRoot, monkeypatch: pytest.MonkeyPatch, give: Any, at: str
) -> None:
    """Three times here, and for ever only if the disk is at fault; a file in its place is a rejected name."""

    def prune(real: Any) -> Any:
        def call(*arguments: Any) -> None:
            target = str(arguments[-1] if at == "link" else arguments[0])
            if "/a/b" in target and "/.resto/" not in target and left:
                left.pop()
                shutil.rmtree(media_root.path("a"), ignore_errors=True)  # the first time it is not there
                if len(left) == 99:
                    Path(media_root.path("a")).touch()
            real(*arguments)

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

    def brief(path: str, mode: int = 0o777) -> None:
        if path.endswith("day") and not seen:
            seen.append(path)
            raise FileExistsError(errno.EEXIST, "File exists")
        real(path, mode)

    staged = stage(media_root, b"x")
    monkeypatch.setattr(os, "mkdir", brief)
    media_root.publish(staged, "day/cat")
    assert seen and read(media_root, "day/cat") == b"x"
    os.symlink("nowhere", media_root.path("night"))
    with pytest.raises(NameRejected, match="is a file in MEDIA_ROOT"):
        publish(media_root, "night/cat", b"x")


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


# Rooms


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

    def swept(path: str, flags: int, mode: int = 0o777) -> int:
        fd = real(path, flags, mode)
        if path.endswith(".lock") and not taken:
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
            os.link = lambda source, target: refuse() if target.endswith(".previous") else real(source, target)
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


def test_a_version_of_another_user_can_be_replaced_and_put_back(
    media_root: MediaRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux does not let a user link what another owns (protected_hardlinks), so it is copied."""
    publish(media_root, "name", b"old")
    whole = os.link

    def link(source: str, target: str) -> None:
        if target.endswith(".previous"):
            raise PermissionError(errno.EPERM, "Operation not permitted")
        whole(source, target)

    monkeypatch.setattr("resto_wsgi.master.media_root.os.link", link)
    publication = media_root.replace(stage(media_root, b"new"), "name")
    assert read(media_root, "name") == b"new"
    assert media_root.take_back(publication)
    assert read(media_root, "name") == b"old"
