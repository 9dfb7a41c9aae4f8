"""What is stored can be read by a web server of another user, whatever the umask of the process is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from resto_wsgi import Replicator
from resto_wsgi.master.media_root import MediaRoot


@pytest.fixture(params=[0o077, 0o022, 0o000], ids="{:03o}".format, autouse=True)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("size", [10, 200_000])
def test_files_and_folders_have_the_modes_of_a_web_server(tmp_path: Path, size: int) -> None:
    """By default: the root that is made, folders in it, small files and large ones; what is hidden is hidden."""
    root = tmp_path / "media"
    with Replicator(media_root=root, background=False) as replicator:
        replicator.save("a/b/c.txt", b"x" * size)
        replicator.save("a/b/c.txt", b"y" * size, overwrite=True)
        assert [mode(root / path) for path in ("", "a", "a/b", "a/b/c.txt")] == [0o755, 0o755, 0o755, 0o644]
        assert mode(root / ".resto") == 0o700


def test_a_site_chooses_its_modes(tmp_path: Path) -> None:
    """For a group, for instance; what is there already is left as it is."""
    (tmp_path / "media/old").mkdir(parents=True)
    (tmp_path / "media/old").chmod(0o711)
    with Replicator(media_root=tmp_path / "media", background=False, file_mode=0o640, folder_mode=0o750) as replicator:
        replicator.save("old/new/c.txt", b"x")
    assert [mode(tmp_path / "media" / path) for path in ("old", "old/new", "old/new/c.txt")] == [0o711, 0o750, 0o640]


def test_a_setgid_folder_hands_its_bit_on(tmp_path: Path) -> None:
    """So that a group keeps what it was given."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o2775)
    with Replicator(media_root=tmp_path, background=False) as replicator:
        replicator.save("shared/a/b/c.txt", b"x")
    assert [mode(tmp_path / path) for path in ("shared", "shared/a", "shared/a/b")] == [0o2775, 0o2755, 0o2755]


def test_a_single_folder_has_its_mode_too(tmp_path: Path) -> None:
    """As a node makes one that it is asked for."""
    root = MediaRoot(str(tmp_path), fsync=False)
    root.make_folder("a")
    assert mode(tmp_path / "a") == 0o755
    root.close()
