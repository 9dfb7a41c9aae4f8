"""All names of a media root, on a real disk, in deep, wide, linked and vanishing trees."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from permissions import plain_user

from resto_wsgi.errors import MediaRootError
from resto_wsgi.master.media_root import MediaRoot
from resto_wsgi.master.walk import LINKS, SPECIAL, UNLISTED, Skipped, Tally


@pytest.fixture
def media_root(tmp_path: Path) -> Iterator[MediaRoot]:
    """An empty media root, beside which there is room."""
    media_root = MediaRoot(str(tmp_path / "media"), fsync=False)
    yield media_root
    media_root.close()


def touch(media_root: MediaRoot, *names: str) -> None:
    for name in names:
        path = Path(media_root.path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def listed(media_root: MediaRoot, folder: str = "") -> set[str]:
    """What listdir shows from folder to folder."""
    folders, files = media_root.listdir(folder)
    here = f"{folder}/" if folder else ""
    return {here + file for file in files}.union(*(listed(media_root, here + each) for each in folders))


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def test_every_name_is_yielded_once(media_root: MediaRoot) -> None:
    """At any depth, and what listdir shows; an empty root has none."""
    assert list(media_root.names()) == []
    names = ["a", "b/a", "b/b/a", "b/b/b", "c/d/e/f/g/h", "ü/日本", "with space/é.jpg"]
    touch(media_root, *names)
    os.mkdir(media_root.path("empty"))
    assert sorted(media_root.names()) == sorted(names)
    assert set(names) == listed(media_root)


def test_what_is_hidden_or_no_name_is_left_out(media_root: MediaRoot) -> None:
    """Nothing that names.check refuses, nor below it, nor what cannot be opened by its name; no FIFO either."""
    touch(media_root, "good", ".hidden", ".folder/a", "a~", "b~/c", "back\\slash", "line\nend", "x" * 241)
    touch(media_root, "e\u0301", "nfd-e\u0301/a", os.fsdecode(b"\xff"), os.fsdecode(b"\xfe/a"), "a\u200bb")
    media_root.stage()
    os.mkfifo(media_root.path("pipe"))
    tally = Tally()
    assert list(media_root.names(tally.add)) == ["good"]
    each = "names of which each "
    assert tally.counts == {
        SPECIAL: 1,
        f"{each}has a part that begins with a dot": 2,
        f"{each}has a part that ends with ~": 2,
        f"{each}holds a backslash": 1,
        f"{each}holds a control character": 1,
        f"{each}holds an invisible format character": 1,
        f"{each}has a part of more than 240 bytes": 1,
        f"{each}is in decomposed Unicode (NFD), as some systems write accents": 2,
        f"{each}is not UTF-8": 2,
    }


def test_links_are_passed_over_and_named(media_root: MediaRoot, tmp_path: Path) -> None:
    """To files and folders, inside and outside, to nothing and to themselves; one that is hidden is nobody's matter."""
    touch(media_root, "real/deep/file", ".hidden/secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").touch()
    targets = {
        "file": "real/deep/file",
        "passwd": "/etc/passwd",
        "folder": "real",
        "real/up": "..",
        "out": "../outside",
    }
    targets |= {"nowhere": "nothing", "loop": "loop", "own": ".resto/staging", "hidden": ".hidden", ".link": "real"}
    for name, target in targets.items():
        os.symlink(target, media_root.path(name))
    found: list[Skipped] = []
    assert list(media_root.names(found.append)) == ["real/deep/file"]
    links = {each.name for each in found if each.kind == LINKS}
    assert links == targets.keys() - {".link"}
    assert {each.name for each in found} - links == {".link", ".hidden"}
    assert listed(media_root) == {"real/deep/file"}


def test_folders_that_are_declared_are_walked_though_they_are_links(tmp_path: Path) -> None:
    """And so is a root that is a link itself; a link in them is not followed, and nothing is walked for ever."""
    (tmp_path / "disk/below").mkdir(parents=True)
    for path in ("disk/a", "disk/below/b"):
        (tmp_path / path).touch()
    os.symlink("/etc", tmp_path / "disk/etc")
    (tmp_path / "real/folder").mkdir(parents=True)
    os.symlink("real", tmp_path / "media")
    os.symlink("../disk", tmp_path / "real/uploads")
    os.symlink("../../disk/below", tmp_path / "real/folder/inner")
    os.symlink(".", tmp_path / "real/self")
    root = MediaRoot(str(tmp_path / "media"), linked=["uploads", "folder/inner", "self", "missing"])
    found: list[Skipped] = []
    names = sorted(root.names(found.append))
    assert [each for each in names if not each.startswith("self/")] == [
        "folder/inner/b",
        "uploads/a",
        "uploads/below/b",
    ]
    assert {each.name for each in found} >= {"uploads/etc", "self/uploads", "self/self", "self/folder/inner"}
    assert set(names) == listed(root)
    root.close()


def test_a_declared_folder_whose_disk_is_away_is_passed_over_and_told(tmp_path: Path) -> None:
    """It is no empty folder, and no reason to give up the others."""
    (tmp_path / "media").mkdir()
    (tmp_path / "media/other").touch()
    os.symlink("../disk", tmp_path / "media/uploads")
    root = MediaRoot(str(tmp_path / "media"), linked=["uploads"])
    found: list[Skipped] = []
    assert list(root.names(found.append)) == ["other"]
    assert found == [Skipped("uploads", UNLISTED)]
    with pytest.raises(MediaRootError, match=r"cannot list 'uploads' in MEDIA_ROOT: .* no folder; see that its"):
        list(root.names(folder="uploads"))
    root.close()


def test_a_tally_counts_all_and_names_a_few() -> None:
    """A line of the log holds no more, and is ASCII whatever a name is."""
    tally = Tally()
    assert not str(tally)
    tally.add(Skipped("a/na\u00efve", LINKS))
    assert str(tally) == r"1 symbolic links ('a/na\xefve')"
    for number in range(100):
        tally.add(Skipped(f"{number}", LINKS))
    tally.add(Skipped("other", "sockets"))
    assert str(tally) == (
        r"101 symbolic links ('a/na\xefve', '0', '1', '2', '3', '4', '5', '6', '7', '8', ...); 1 sockets ('other')"
    )


def test_what_vanishes_meanwhile_is_tolerated(media_root: MediaRoot) -> None:
    """A folder that was seen and is gone when its turn comes, or is a file by then, or is gone while it is read."""
    touch(media_root, *(f"{folder}/{number}" for folder in "abcdefgh" for number in range(3)))
    walk = media_root.names()
    first = next(walk)
    for folder in "abcdefgh":
        if folder != first[0]:
            shutil.rmtree(media_root.path(folder))
    touch(media_root, *(folder for folder in "abcd" if folder != first[0]))
    assert all(name[0] == first[0] for name in [*walk] if "/" in name)
    walk = media_root.names()
    next(walk)
    shutil.rmtree(media_root.path(first[0]))
    list(walk)


def test_a_folder_that_cannot_be_listed_is_passed_over_and_told(media_root: MediaRoot) -> None:
    """At any depth, whether it may not be opened or not be entered; nothing stays open."""
    touch(media_root, "a/file", "b/deep/file", "c/file", "lost+found/#12")
    for folder in ("lost+found", "b/deep"):
        os.chmod(media_root.path(folder), 0)
    before = descriptors()
    found: list[Skipped] = []
    with plain_user():
        assert sorted(media_root.names(found.append)) == ["a/file", "c/file"]
        with pytest.raises(MediaRootError, match=r"cannot list 'b/deep' in MEDIA_ROOT: Permission denied"):
            list(media_root.names(folder="b/deep"))
    assert sorted(found, key=str) == [Skipped("b/deep", UNLISTED), Skipped("lost+found", UNLISTED)]
    assert list(media_root.names(folder="b/deep")) == ["b/deep/file"]
    assert descriptors() <= before


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ENOTCONN, errno.ESTALE])
def test_a_folder_that_fails_while_it_is_read_is_passed_over_and_told(
    media_root: MediaRoot, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Whatever the disk or the network file system says."""
    touch(media_root, "a/file", "b")
    refuse_below(monkeypatch, "/a", code)
    found: list[Skipped] = []
    assert list(media_root.names(found.append)) == ["b"]
    assert found == [Skipped("a", UNLISTED)]


def test_what_this_process_lacks_or_a_root_that_is_gone_is_an_error(
    media_root: MediaRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every folder would be passed over."""
    touch(media_root, "a/file")
    before = descriptors()
    refuse_below(monkeypatch, "/a", errno.EMFILE)
    with pytest.raises(MediaRootError, match="cannot list 'a' in MEDIA_ROOT"):
        list(media_root.names())
    monkeypatch.undo()
    shutil.rmtree(media_root.root)
    with pytest.raises(MediaRootError, match=r"cannot list '\.' in MEDIA_ROOT: No such file"):
        list(media_root.names())
    assert descriptors() <= before


def refuse_below(monkeypatch: pytest.MonkeyPatch, end: str, code: int) -> None:
    """Have folders whose path ends so refuse to be listed."""
    real = os.scandir

    def refuse(fd: int) -> object:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(end):
            raise OSError(code, os.strerror(code))
        return real(fd)

    monkeypatch.setattr(os, "scandir", refuse)


def test_a_wide_tree_takes_no_more_memory_than_a_narrow_one(media_root: MediaRoot) -> None:
    """Five thousand names and two thousand folders, of which no list is made."""
    for folder in ("many", "folders"):
        os.mkdir(media_root.path(folder))
    for number in range(5_000):
        os.close(os.open(media_root.path(f"many/{number}"), os.O_CREAT))
    for number in range(2_000):
        os.mkdir(media_root.path(f"folders/{number}"))
    next(media_root.names())
    tracemalloc.start()
    try:
        assert sum(1 for _ in media_root.names()) == 5_000
        assert tracemalloc.get_traced_memory()[1] < 60_000
    finally:
        tracemalloc.stop()


def test_a_deep_tree_takes_two_descriptors_a_level_and_gives_them_back(media_root: MediaRoot) -> None:
    """Also where nobody wants the rest of the names."""
    deep = "/".join("x" * 200)
    touch(media_root, f"{deep}/file", "/".join("y" * 510), "z")
    before = descriptors()
    names = media_root.names()
    for name in names:
        if name == f"{deep}/file":
            assert before < len(os.listdir("/proc/self/fd")) <= before + 402
            break
    else:
        raise AssertionError("not found")
    names.close()  # type: ignore[attr-defined]
    assert descriptors() <= before
