"""What tells one version of a name from another."""

from __future__ import annotations

import os
from pathlib import Path

from resto_wsgi.master.state import State


def state(path: Path) -> State:
    return State.of(os.stat(path))


def test_a_file_that_is_left_alone_keeps_its_state(tmp_path: Path) -> None:
    """By its name and by its descriptor, also where it is read or gets another name."""
    path = tmp_path / "cat"
    path.write_bytes(b"cat")
    before = state(path)
    with path.open("rb") as file:
        file.read()
        assert State.of(os.fstat(file.fileno())) == before
    path.rename(tmp_path / "dog")
    assert state(tmp_path / "dog") == before
    assert (before.size, before.inode) == (3, os.stat(tmp_path / "dog").st_ino)


def test_each_other_version_has_another_state(tmp_path: Path) -> None:
    """A replaced file of the same size and time, one of another time, and one of another size."""
    path = tmp_path / "cat"
    seen = set()
    for content, mtime_ns in ((b"one", 1), (b"two", 1), (b"two", 2), (b"three", 2)):
        aside = tmp_path / "aside"
        aside.write_bytes(content)
        os.utime(aside, ns=(mtime_ns, mtime_ns))
        os.replace(aside, path)
        seen.add(state(path))
        os.link(path, tmp_path / f"{len(seen)}")  # so that its inode is not given to the next one
    assert len(seen) == 4
    assert {each.mtime_ns for each in seen} == {1, 2}
