"""What a folder shows, page by page and as two lists."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from resto_wsgi.master.folders import Folders
from resto_wsgi.master.listing import FILE, FOLDER, LINK, OTHER, Entry, kind_of, listdir, page


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """A root with something of each kind; ``big`` is declared."""
    root = tmp_path / "media"
    for folder in (root / "d/e", root / ".hidden", tmp_path / "disk"):
        folder.mkdir(parents=True)
    for path, content in ((root / "f", b"123"), (root / "d/g", b"4"), (root / ".h", b""), (tmp_path / "disk/i", b"56")):
        path.write_bytes(content)
        os.utime(path, (1_000_000_000.5, 1_000_000_000.5))
    for name, target in (("link", "f"), ("folder", "d"), ("big", "../disk"), ("nowhere", "x")):
        os.symlink(target, root / name)
    os.mkfifo(root / "pipe")
    return Folders(str(root), ["big"], fsync=False)


def test_each_entry_has_a_kind(folders: Folders) -> None:
    """Links have their own, wherever they lead, unless they are declared."""
    with os.scandir(folders.root) as entries:
        kinds = {each.name: kind_of(each, folders, each.name) for each in entries}
    assert kinds == {
        "f": FILE,
        ".h": FILE,
        "d": FOLDER,
        ".hidden": FOLDER,
        "big": FOLDER,
        "link": LINK,
        "folder": LINK,
        "nowhere": LINK,
        "pipe": OTHER,
    }


def test_files_and_folders_are_listed_and_nothing_else(folders: Folders) -> None:
    """Sorted, hidden ones left out; a declared link is a folder and shows what is in it."""
    assert listdir(folders, "") == (["big", "d"], ["f"])
    assert listdir(folders, "d") == (["e"], ["g"])
    assert listdir(folders, "big") == ([], ["i"])
    for name, error in (("f", NotADirectoryError), ("missing", FileNotFoundError), ("folder", OSError)):
        with pytest.raises(error):
            listdir(folders, name)


# On a disk that others write to, too: editors, people with a shell, servers with another locale, Mac OS.
REFUSED = ("draft~", "e\u0301", "tab\tname", "back\\slash", "x" * 241)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_opened_is_not_shown(folders: Folders, name: str) -> None:
    """As a file and as a folder, which would lead to names that can no more be opened; it takes no place in a page."""
    Path(folders.root, "d", name).touch()
    Path(folders.root, name).mkdir()
    assert listdir(folders, "d") == (["e"], ["g"])
    assert listdir(folders, "") == (["big", "d"], ["f"])
    assert [each.name for each in page(folders, "d", "", 2, ())] == ["e", "g"]


def test_bytes_that_are_no_utf_8_are_not_shown(folders: Folders) -> None:
    """An old archive was unpacked there."""
    with open(os.fsencode(f"{folders.root}/d/") + b"na\xefve.txt", "wb"):
        pass
    assert listdir(folders, "d") == (["e"], ["g"])


def test_a_name_is_as_long_as_its_owner_takes(folders: Folders) -> None:
    """Folders and all: those of a media server are longer, by the path below which they are."""
    folder = "d/" + "/".join(["x" * 200] * 3)
    os.makedirs(f"{folders.root}/{folder}")
    Path(folders.root, folder, "y" * 200).touch()
    assert listdir(folders, folder) == ([], ["y" * 200])
    assert listdir(folders, folder, 600) == ([], [])
    assert [each.name for each in page(folders, folder, "", 9, (), 600)] == []


def test_a_page_has_size_and_time_of_each_entry(folders: Folders) -> None:
    """In seconds, as HTTP tells them; a folder has no size."""
    found = page(folders, "", "", 10, frozenset())
    assert [(each.name, each.folder, each.size) for each in found] == [
        ("big", True, None),
        ("d", True, None),
        ("f", False, 3),
    ]
    assert found[2] == Entry("f", False, 3, 1_000_000_000)


def test_pages_follow_each_other(folders: Folders) -> None:
    """Each begins after the last name of the one before; what is to be left out takes no place in them."""
    for number in range(10):
        Path(folders.root, f"d/{number}").touch()
    names: list[str] = []
    while found := page(folders, "d", names[-1] if names else "", 4, {"3", "e"}):
        names += [each.name for each in found]
    assert names == [*"012456789", "g"]


def test_a_folder_whose_disk_is_away_is_in_no_page(folders: Folders, tmp_path: Path) -> None:
    """Nor what vanished since its entry was read."""
    (tmp_path / "disk/i").unlink()
    (tmp_path / "disk").rmdir()
    assert [each.name for each in page(folders, "", "", 10, frozenset())] == ["d", "f"]


def test_a_socket_is_not_shown(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a name, and no bytes."""
    monkeypatch.chdir(folders.root)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        assert "socket" not in listdir(folders, "")[1]
