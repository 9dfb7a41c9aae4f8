"""Files of secrets: whom they may belong to, and what happens when they change while a program runs."""

from __future__ import annotations

import os
import resource
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from resto_wsgi.errors import ConfigError
from resto_wsgi.trust.secret_files import LOOK, Reread, judge, read


class Clock:
    """Seconds that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return secret(tmp_path / "secret", "one")


def secret(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("mode", "group", "refused"),
    [
        (0o600, True, False),
        (0o640, True, False),
        (0o660, True, False),
        (0o604, True, True),
        (0o602, True, True),
        (0o644, True, True),
        (0o666, True, True),
        (0o600, False, False),
        (0o640, False, True),
        (0o644, False, True),
    ],
)
def test_what_others_may_read_or_change_is_refused(path: Path, mode: int, group: bool, refused: bool) -> None:
    """In a line that says what to do; whether a group counts among the others is for the caller to say."""
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, 1234, 1234)
    if not refused:
        assert read("secret-file", str(path), group=group) == "one"
        return
    with pytest.raises(ConfigError) as caught:
        read("secret-file", str(path), group=group)
    assert str(caught.value) == f"secret-file: others may read or change '{path}'; chmod 600 it"


def test_a_group_may_read_what_is_roots(path: Path) -> None:
    """As in Debian, where www-data reads root's files by its group; but not change them."""

    def of_root(mode: int) -> os.stat_result:
        path.chmod(mode)
        status = list(path.stat())
        status[stat.ST_UID] = 0
        return os.stat_result(status)

    judge("x", str(path), of_root(0o640))
    with pytest.raises(ConfigError):
        judge("x", str(path), of_root(0o660))


def test_a_change_is_seen_at_the_next_look(path: Path) -> None:
    """Written anew, or replaced; the file is looked at once a second at most, and read when it has changed."""
    clock, count = Clock(), 0

    def load() -> str:
        nonlocal count
        count += 1
        return read("x", str(path))

    found = Reread(str(path), load, clock)
    assert (found(), count) == ("one", 1)
    secret(path, "two!")
    assert found() == "one"
    clock.now += LOOK
    assert found() == "two!"
    other = secret(path.with_name("other"), "four")
    os.replace(other, path)
    assert found() == "two!"
    clock.now += LOOK
    assert (found(), found(), count) == ("four", "four", 3)
    for _ in range(5):
        clock.now += LOOK
        assert (found(), count) == ("four", 3)


@pytest.mark.parametrize("fault", ["missing", "open to others", "no text", "a folder"])
def test_a_broken_file_changes_nothing_and_is_told_once(path: Path, caplog: Any, fault: str) -> None:
    """What was read before stays in force until the file is mended."""
    clock = Clock()
    found = Reread(str(path), lambda: read("secret-file", str(path)), clock)
    if fault == "open to others":
        path.chmod(0o644)
    elif fault == "no text":
        path.write_bytes(b"\xff\xfe")
    else:
        path.unlink()
        if fault == "a folder":
            path.mkdir()
    for _ in range(5):
        clock.now += LOOK
        assert found() == "one"
    (line,) = [record.message for record in caplog.records]
    assert line.startswith("secret-file: ") and line.endswith(f"what was read of '{path}' before stays in force")
    if fault == "a folder":
        path.rmdir()
    secret(path, "two")
    clock.now += LOOK
    assert found() == "two"


def test_a_change_that_could_not_be_read_is_read_at_the_next_look(path: Path, caplog: Any) -> None:
    """The program had too many open files when it looked; told once, and the file need not change once more."""
    clock = Clock()
    found = Reread(str(path), lambda: read("secret-file", str(path)), clock)
    secret(path, "another")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        for _ in range(2):
            clock.now += LOOK
            assert found() == "one"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(caplog.records) == 1 and "Too many open files" in caplog.text
    clock.now += LOOK
    assert found() == "another"


def test_a_file_that_is_broken_at_first_is_an_error(path: Path) -> None:
    """There is nothing that could stay in force."""
    path.chmod(0o644)
    with pytest.raises(ConfigError):
        Reread(str(path), lambda: read("x", str(path)))


def test_nobody_waits_for_the_thread_that_looks(path: Path) -> None:
    """Not even where the disk hangs: the others go on with what there is."""
    clock, reading, go_on = Clock(), threading.Event(), threading.Event()
    first = True

    def load() -> str:
        if not first:
            reading.set()
            go_on.wait(10)
        return read("x", str(path))

    found = Reread(str(path), load, clock)
    first = False
    secret(path, "two!")
    clock.now += LOOK
    thread = threading.Thread(target=found)
    thread.start()
    try:
        assert reading.wait(10)
        assert found() == "one"
    finally:
        go_on.set()
        thread.join()
    assert found() == "two!"
