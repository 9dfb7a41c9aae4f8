"""All names of a media root, on a real disk, in deep, wide, looping and vanishing trees."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from resto_wsgi.errors import MediaRootError
from resto_wsgi.master.media_root import MediaRoot


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
    assert list(media_root.names()) == ["good"]


def test_links_to_files_and_to_folders_inside_are_followed_as_listdir_does(
    media_root: MediaRoot, tmp_path: Path
) -> None:
    """As listdir does: a name that can be opened by way of a link is a name."""
    touch(media_root, "real/deep/file")
    (tmp_path / "outside").touch()
    os.symlink("real", media_root.path("link"))
    os.symlink("../real/deep", media_root.path("real/near"))
    os.symlink(tmp_path / "outside", media_root.path("file"))
    names = list(media_root.names())
    assert sorted(names) == ["file", "link/deep/file", "link/near/file", "real/deep/file", "real/near/file"]
    assert set(names) == listed(media_root)


def test_links_out_of_the_root_and_into_what_is_hidden_are_not_followed(media_root: MediaRoot, tmp_path: Path) -> None:
    """Neither to a folder beside it, nor above it, nor to the uploads that are not published yet."""
    touch(media_root, "file", ".hidden/secret")
    (tmp_path / "media-of-another").mkdir()
    (tmp_path / "media-of-another/secret").touch()
    media_root.stage()
    for number, target in enumerate(("../media-of-another", "..", "/", ".resto/staging", ".hidden", "nowhere")):
        os.symlink(target, media_root.path(f"link-{number}"))
    assert list(media_root.names()) == ["file"]


def test_a_root_that_is_a_link_itself_is_walked(media_root: MediaRoot, tmp_path: Path) -> None:
    """What counts is where it leads."""
    touch(media_root, "real/file")
    os.symlink("real", media_root.path("link"))
    os.symlink("media", tmp_path / "alias")
    assert sorted(MediaRoot(str(tmp_path / "alias")).names()) == ["link/file", "real/file"]


def test_loops_end(media_root: MediaRoot) -> None:
    """To itself, to the root, to a folder above, and two folders to one another."""
    touch(media_root, "a/file", "b/file")
    os.symlink("loop", media_root.path("loop"))
    os.symlink("..", media_root.path("a/root"))
    os.symlink(".", media_root.path("a/same"))
    os.symlink("../b", media_root.path("a/other"))
    os.symlink("../a", media_root.path("b/other"))
    assert sorted(media_root.names()) == ["a/file", "a/other/file", "b/file", "b/other/file"]


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


def test_what_cannot_be_read_is_an_error_and_not_an_empty_folder(
    media_root: MediaRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who concludes from the names that one is gone must not be told half of them; nor where the root is gone."""
    touch(media_root, "a/file")
    real = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("/a"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    before = descriptors()
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(MediaRootError, match="cannot list 'a' in MEDIA_ROOT: Permission denied"):
        list(media_root.names())
    monkeypatch.undo()
    shutil.rmtree(media_root.root)
    with pytest.raises(MediaRootError, match=r"cannot list '\.' in MEDIA_ROOT: No such file"):
        list(media_root.names())
    assert descriptors() <= before


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


def test_a_deep_tree_takes_one_descriptor_a_level_and_gives_them_back(media_root: MediaRoot) -> None:
    """Also where nobody wants the rest of the names."""
    deep = "/".join("x" * 200)
    touch(media_root, f"{deep}/file", "/".join("y" * 510), "z")
    before = descriptors()
    names = media_root.names()
    for name in names:
        if name == f"{deep}/file":
            assert before < len(os.listdir("/proc/self/fd")) <= before + 202
            break
    else:
        raise AssertionError("not found")
    names.close()  # type: ignore[attr-defined]
    assert descriptors() <= before
