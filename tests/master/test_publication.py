"""How a file gets its name, and what is there when it is taken back: real links, threads and processes."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from disks import command, publish, read, replace, stage, staged_files

from resto_wsgi.errors import MediaRootError, NameRejected
from resto_wsgi.master.media_root import MediaRoot
from resto_wsgi.replicator import Replicator


@pytest.fixture
def media_root(tmp_path: Path) -> Iterator[MediaRoot]:
    """An empty media root."""
    media_root = MediaRoot(str(tmp_path / "media"), fsync=False)
    yield media_root
    media_root.close()


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

    def late(path: str | bytes, mode: int = 0o777, **where: Any) -> None:
        if path == b"day":
            mkdir(path, mode, **where)
        mkdir(path, mode, **where)

    staged = stage(media_root, b"x")
    monkeypatch.setattr(os, "mkdir", late)
    media_root.publish(staged, "day/cat")
    assert read(media_root, "day/cat") == b"x"


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

    def refuse(source: str, target: str, **where: Any) -> None:
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


def test_a_version_of_another_user_can_be_replaced_and_put_back(
    media_root: MediaRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux does not let a user link what another owns (protected_hardlinks), so it is copied."""
    publish(media_root, "name", b"old")
    whole = os.link

    def link(source: str | bytes, target: str | bytes, **where: Any) -> None:
        if str(target).endswith(".previous"):
            raise PermissionError(errno.EPERM, "Operation not permitted")
        whole(source, target, **where)

    monkeypatch.setattr(os, "link", link)
    publication = media_root.replace(stage(media_root, b"new"), "name")
    assert read(media_root, "name") == b"new"
    assert media_root.take_back(publication)
    assert read(media_root, "name") == b"old"


@pytest.mark.parametrize("fsync", [True, False])
def test_versions_of_one_second_and_size_have_seconds_of_their_own(tmp_path: Path, fsync: bool) -> None:
    """Each overwrite is later than the one before, so that no cache takes it for that; another size keeps its time."""
    media_root = MediaRoot(str(tmp_path / "media"), fsync=fsync)
    path = media_root.path("cat")
    publish(media_root, "cat", b"first")
    os.utime(path, (os.stat(path).st_mtime + 1, os.stat(path).st_mtime + 1))  # no second begins under our hands
    seconds = [int(os.stat(path).st_mtime)]
    for content in (b"other", b"third"):
        replace(media_root, "cat", content)
        seconds.append(int(os.stat(path).st_mtime))
    assert [each - seconds[0] for each in seconds] == [0, 1, 2]
    replace(media_root, "cat", b"another size")
    assert int(os.stat(path).st_mtime) <= seconds[0]
    media_root.close()


def test_an_overwrite_within_a_second_has_another_etag_on_nginx(nginx: Any, tmp_path: Path) -> None:
    """ETag and Last-Modified are made of size and second there, and a cache asks with nothing else."""
    told = []
    with Replicator(media_root=tmp_path / "media", media_hosts=[nginx.url], background=False) as replicator:
        for content in (b"first", b"other", b"third"):
            replicator.save("cat", content, overwrite=True)
            with urllib.request.urlopen(f"{nginx.url}/cat", timeout=10) as reply:
                assert reply.read() == content
                told.append((reply.headers["ETag"], reply.headers["Last-Modified"]))
    assert len({etag for etag, _ in told}) == len({modified for _, modified in told}) == 3
