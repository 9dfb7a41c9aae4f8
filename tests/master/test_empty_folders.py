"""Empty folders that are in the way of a file: they go, and nothing else does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from disk_users import USERS

from resto_wsgi.errors import NameRejected
from resto_wsgi.master.empty_folders import give_way
from resto_wsgi.master.folders import Place


def in_place(path: Path, name: str) -> bool:
    with Place(str(path), name.encode()) as place:
        return give_way(place)


def test_folders_that_hold_no_file_go(tmp_path: Path) -> None:
    """At any depth, and however many there are."""
    for each in ("x/a/b/c", "x/d", "x/a/e", "y"):
        (tmp_path / each).mkdir(parents=True)
    assert in_place(tmp_path, "x")
    assert os.listdir(tmp_path) == ["y"]


@pytest.mark.parametrize("what", ["file", "hidden", "link"])
def test_a_folder_that_holds_anything_stays(tmp_path: Path, what: str) -> None:
    """A file, a hidden one, a symbolic link to an empty folder; what the link leads to stays, too."""
    (tmp_path / "x/a/b").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    held = tmp_path / "x/a/b" / {"file": "f", "hidden": ".f", "link": "f"}[what]
    held.symlink_to(tmp_path / "empty") if what == "link" else held.touch()
    assert not in_place(tmp_path, "x")
    assert os.path.lexists(held) and (tmp_path / "empty").is_dir()


def test_what_is_no_folder_stays(tmp_path: Path) -> None:
    """A file, a link to a folder, and what is not there at all; nothing is raised."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("folder")
    for name in ("file", "link", "nothing"):
        assert not in_place(tmp_path, name)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "link"]


@pytest.mark.parametrize("kind", USERS)
def test_a_folder_becomes_a_file_and_the_reverse(kind: str, tmp_path: Path) -> None:
    """For an application and for our own media server; but never if a file is left in it."""
    user = USERS[kind](str(tmp_path / "root"))
    for name in ("x/y/z", "x", "x/y"):
        user.save(name, name.encode())
        assert user.read(name) == name.encode()
        assert user.delete(name)
    user.save("x/y", b"1")
    with pytest.raises(NameRejected, match="is a folder"):
        user.save("x", b"2")
    assert user.read("x/y") == b"1"
    user.close()
