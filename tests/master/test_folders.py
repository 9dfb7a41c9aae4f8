"""Folders are opened from the root, segment by segment, and no symbolic link is followed but those declared."""

from __future__ import annotations

import errno
import gc
import json
import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resto_wsgi.master.folders import Folders, Place, native, text

PLAIN_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with folders and whatever can be in the way."""
    root = tmp_path / "media"
    (root / "a/b").mkdir(parents=True)
    (root / "file").touch()
    os.mkfifo(root / "pipe")
    (tmp_path / "outside/deep").mkdir(parents=True)
    for name, target in {"link": "a", "out": "../outside", "nowhere": "nothing", "loop": "loop", "a/up": ".."}.items():
        os.symlink(target, root / name)
    return root


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def refusal(folders: Folders, name: str, **options: Any) -> tuple[int | None, str]:
    with pytest.raises(OSError) as caught:
        folders.place(name, **options)
    error = caught.value
    return error.errno, error.strerror or ""


def inode(place: Place) -> int:
    with place:
        return os.fstat(place.fd).st_ino


def test_a_place_is_the_folder_of_a_name_and_its_last_part(root: Path) -> None:
    """At any depth; a folder is told from a file, a link and nothing without following anything."""
    folders = Folders(str(root), fsync=False)
    for name in ("file", "a/b", "a/b/missing"):
        with folders.place(name) as place:
            assert place.last == os.path.basename(name).encode()
            assert os.fstat(place.fd).st_ino == os.stat((root / name).parent).st_ino
    kinds = {"a": stat.S_IFDIR, "file": stat.S_IFREG, "pipe": stat.S_IFIFO, "link": stat.S_IFLNK, "missing": 0}
    for name, kind in kinds.items():
        with folders.place(name) as place:
            assert place.kind() == kind
    assert inode(folders.folder("")) == root.stat().st_ino
    assert inode(folders.folder("a/b")) == (root / "a/b").stat().st_ino


@pytest.mark.parametrize("make", [False, True], ids=["to read", "to write"])
def test_what_is_in_the_way_is_told(root: Path, make: bool) -> None:
    """A file and the like are no folder; a link is named as such, wherever it leads, and is not followed."""
    folders = Folders(str(root), fsync=False)
    for name in ("file/x", "pipe/x/y"):
        assert refusal(folders, name, make=make)[0] == errno.ENOTDIR
    for name in ("link/x", "link/b/x", "out/x", "out/deep/x", "nowhere/x", "loop/x", "a/up/x"):
        link = "up" if name == "a/up/x" else name.partition("/")[0]
        problem = f"its folder '{link}' is a symbolic link, which is not followed"
        assert refusal(folders, name, make=make) == (errno.ELOOP, problem)
    assert sorted(each.name for each in root.parent.rglob("*") if each.name in ("x", "nothing")) == []


def test_missing_folders_are_made_only_to_write(root: Path) -> None:
    """For everybody to enter; a folder that is there stays as it is."""
    folders = Folders(str(root), fsync=True)
    assert refusal(folders, "a/new/deep/x")[0] == errno.ENOENT
    assert not (root / "a/new").exists()
    assert inode(folders.place("a/new/deep/x", make=True)) == (root / "a/new/deep").stat().st_ino
    assert stat.S_IMODE((root / "a/new").stat().st_mode) & 0o555 == 0o555
    assert inode(folders.folder("a/b", make=True)) == (root / "a/b").stat().st_ino


def test_a_missing_root_is_never_made(root: Path) -> None:
    """It may be that its disk is away."""
    folders = Folders(str(root / "away"), fsync=False)
    for make in (False, True):
        assert refusal(folders, "x", make=make)[0] == errno.ENOENT
    assert not (root / "away").exists()


@pytest.mark.parametrize("fsync", [True, False])
def test_a_folder_is_durable_in_the_one_that_it_was_made_in(
    root: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool
) -> None:
    """Each of them, from the top; without ``fsync`` none, and none that is there already."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    folders = Folders(str(root), fsync=fsync)
    folders.place("a/new/deep/x", make=True).close()
    folders.place("a/b/x", make=True).close()
    assert synced == ([str(root / "a"), str(root / "a/new")] if fsync else [])
    folders.sync("a/b/x")
    folders.sync_removal("a/b/x")
    os.rmdir(root / "a/b")
    folders.sync_removal("a/b/x")
    assert synced[2:] == ([str(root / "a/b"), str(root / "a/b"), str(root / "a")] if fsync else [])


def test_the_root_and_declared_folders_may_be_links(root: Path) -> None:
    """At any depth, and then they are folders; what lies in them may not, nor what is named alike elsewhere."""
    os.symlink("media", root.parent / "alias")
    os.symlink("../../outside", root / "a/big")
    os.symlink("../media/a", root.parent / "outside/inner")
    folders = Folders(str(root.parent / "alias"), ["out", "a/big", "missing"], fsync=False)
    for name in ("out/x", "a/big/x"):
        assert inode(folders.place(name)) == (root.parent / "outside").stat().st_ino
    assert inode(folders.place("out/deep/new/x", make=True)) == (root.parent / "outside/deep/new").stat().st_ino
    assert inode(folders.place("missing/x", make=True)) == (root / "missing").stat().st_ino
    for name in ("out/inner/x", "link/x", "a/big/inner/x"):
        assert refusal(folders, name)[0] == errno.ELOOP
    assert [folders.is_linked(each) for each in ("out", "a/big", "big", "out/deep", "")] == [True, True] + [False] * 3


@pytest.mark.parametrize("make", [False, True], ids=["to read", "to write"])
@pytest.mark.parametrize("target", ["../away", "file"])
def test_a_declared_folder_that_leads_nowhere_is_not_missing(root: Path, target: str, make: bool) -> None:
    """Its disk may be away: its names are not to be taken for deleted ones, and nothing is made in its place."""
    os.symlink(target, root / "big")
    folders = Folders(str(root), ["big"], fsync=False)
    problem = "its folder 'big' is a symbolic link that leads to no folder"
    assert refusal(folders, "big/x", make=make) == (errno.ENODEV, problem)
    assert not (root.parent / "away").exists()


def test_a_link_in_the_place_of_a_file_is_not_opened(root: Path) -> None:
    """The error says so in words."""
    os.symlink("file", root / "alias")
    folders = Folders(str(root), fsync=False)
    with folders.place("alias") as place, pytest.raises(OSError, match="it is a symbolic link, which is not") as caught:
        place.open("", os.O_RDONLY)
    assert caught.value.errno == errno.ELOOP


def test_a_place_that_is_forgotten_closes_itself(root: Path) -> None:
    """An interruption may come before the block that closes it; the fixture counts."""
    Folders(str(root), fsync=False).place("a/b/x")
    place = Folders(str(root), fsync=False).folder("a")
    place.close()
    place.close()
    del place


def test_texts_are_those_of_the_bytes_on_the_disk_whatever_the_locale(tmp_path: Path) -> None:
    """Names are UTF-8; a path that was read from an environment, or is text of a program, leads to the same place."""
    script = """
        import json, os, sys
        from resto_wsgi.master.folders import Folders, native, text
        root = sys.argv[1]
        folders = Folders(native("/".join([root, "na\\u00efve"])), fsync=False)
        os.makedirs(folders.root, exist_ok=True)
        folders.place("\\u65e5/x", make=True).close()
        (found,) = os.listdir(folders.root)
        told = [text(found), native(folders.root) == folders.root, sys.getfilesystemencoding()]
        print(json.dumps([each if isinstance(each, bool) else ascii(each) for each in told]))
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), str(tmp_path)]
    encodings = set()
    for locale in ({}, PLAIN_LOCALE):
        done = subprocess.run(command, env={**os.environ, **locale}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found, same, encoding = json.loads(done.stdout)
        assert (found, same) == (r"'\u65e5'", True)
        encodings.add(encoding)
    assert len(encodings) == 2
    assert os.listdir(os.fsencode(tmp_path)) == ["na\u00efve".encode()]
    assert os.listdir(os.fsencode(tmp_path / "na\u00efve")) == ["\u65e5".encode()]


def test_bytes_that_are_no_text_keep_their_way_back() -> None:
    """They are no names, but have to be told apart and shown."""
    assert text(b"\xff") == "\udcff" == text(os.fsdecode(b"\xff"))
    assert text("\u65e5") == text("\u65e5".encode()) == "\u65e5"
    assert native("/srv/\udcff") == "/srv/\udcff"
