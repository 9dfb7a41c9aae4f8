"""What tells one version of a name from another."""

from __future__ import annotations

import os
from pathlib import Path

from resto_wsgi.master.state import AHEAD, SECOND, State


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


def test_a_version_that_http_could_not_tell_from_its_predecessor_gets_a_later_second() -> None:
    """Of the same size and second, or of one before a time that was moved on; a time far ahead was set by a person."""
    old = State(1, 1, 3, 1000 * SECOND + 5)
    for own, expected in {
        old._replace(inode=2, mtime_ns=1000 * SECOND + 700): 1001 * SECOND,
        old._replace(inode=2, mtime_ns=999 * SECOND): 1001 * SECOND,
        old._replace(inode=2, mtime_ns=1001 * SECOND + 7): 1001 * SECOND + 7,
        old._replace(inode=2, size=4): old.mtime_ns,
    }.items():
        assert old.mtime_of_next(own) == expected
    ahead = old._replace(mtime_ns=(1000 + AHEAD + 1) * SECOND)
    assert ahead.mtime_of_next(old) == old.mtime_ns
